"""The inbox: conversations found, read, named and continued in a browser, on pages that the server renders."""

from __future__ import annotations

from typing import Final

from recollect.server.inbox import actions, signing, views
from recollect.server.inbox.desk import Desk
from recollect.server.inbox.door import Door
from recollect.server.inbox.reception import Reception, is_of_inbox, trouble, wants_page
from recollect.server.route import Route

__all__ = ["ROUTES", "Desk", "Door", "Reception", "is_of_inbox", "trouble", "wants_page"]

ROUTES: Final[tuple[Route, ...]] = (*signing.ROUTES, *views.ROUTES, *actions.ROUTES)
