"""A session's name: what a model is asked, how its answer is read, and what is taken where there is no model.

Pure: data in, data out.
"""

from __future__ import annotations

from recollect.naming.namer import Policy, SessionNamer
from recollect.naming.title import title, title_from_first_message

__all__ = ["Policy", "SessionNamer", "title", "title_from_first_message"]
