"""Which session is meant: an id, the beginning of one, or ``@last``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from recollect.cli.screen import cut, line
from recollect.errors import InvalidArgument, SessionNotFound
from recollect.session import SessionHeader
from recollect.store import Store

LAST = "@last"
MOST = 10
"""Candidates that are named when a beginning fits several."""

Which = Annotated[str, typer.Argument(metavar="ID", help="Its id, the beginning of it, or @last.", show_default=False)]
Several = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Ids, their beginnings, or @last.", show_default=False)
]


def find(store: Store, which: str, user_id: str | None = None) -> SessionHeader:
    """The session that is meant.

    Raises:
        SessionNotFound: there is none.
        InvalidArgument: there are several.
    """
    if which == LAST:
        newest = store.get_sessions(user_id=user_id, limit=1).sessions
        return _only(newest, "there are no sessions yet")
    header = store.get_header(which, user_id)
    if header is not None:
        return header
    found = store.find_sessions_by_prefix(which, user_id, limit=MOST + 1)
    if len(found) > 1:
        raise InvalidArgument("ID", _ambiguous(which, found))
    return _only(found, f"there is no session {which!r}; see: recollect sessions list")


def _only(found: Sequence[SessionHeader], otherwise: str) -> SessionHeader:
    if not found:
        raise SessionNotFound(otherwise)
    return found[0]


def _ambiguous(which: str, found: Sequence[SessionHeader]) -> str:
    candidates = [f"  {header.session_id}  {cut(line(header.title), 50)}" for header in found[:MOST]]
    more = ["  ..."] if len(found) > MOST else []
    return "\n".join([f"several sessions begin with {which!r}; type more of the one you mean:", *candidates, *more])
