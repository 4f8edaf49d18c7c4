"""Statements as SQLite takes them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from recollect.db.numbered import names_of, numbered
from recollect.db.sqlite.gathering import Gathering
from recollect.port import Params

_FUNCTIONS: Final = {
    "{alive}": "recollect_alive(l.owner, l.until, :now)",
    "{claimed}": "recollect_alive(s.claim_owner, s.claim_until, :now)",
}

# A text that is no UTF-8 could not be fetched as text; one that is stored as something else is given as it is not: 0.
_RAW: Final = r"case typeof(\1) when 'text' then cast(\1 as blob) when 'blob' then 0 else \1 end"

# To look a parameter's name up takes longer than to bind it. Some versions of Python warn of numbers, for which names
# are meant: https://github.com/python/cpython/issues/117995
_BY_NAME: Final = (3, 12) <= sys.version_info < (3, 12, 4)

_GATHERED: Final = re.compile(r"{gather (\w+)}")


class Translated(NamedTuple):
    """A statement as SQLite takes it."""

    sql: str
    asks_when: bool
    asks_who: bool
    bound: Callable[[Params], Any]
    """Its parameters as they are bound."""
    gathering: Gathering | None
    """How it is fetched where it finds many rows."""


DIALECT: dict[str, Translated] = {}
"""Statements as SQLite takes them, by their portable text."""


def translate(sql: str) -> Translated:
    """A portable statement as SQLite takes it, kept in `DIALECT`."""
    made = sql
    for name, function in _FUNCTIONS.items():
        made = made.replace(name, function)
    made = re.sub(r"{many}.*?{/many}|{/?one}|{cut}|{at}.*?{/cut}", "", made, flags=re.DOTALL).strip()
    # Without statistics the planner takes the primary key, and walks past whatever the index leaves out.
    made = re.sub(r"{along (\w+)}", r"indexed by \1", made)
    made = re.sub(r"{raw ([\w.]+)}", _RAW, made)
    kinds = _GATHERED.search(made)
    made = _GATHERED.sub("", made)
    names = names_of(made)
    made = made if _BY_NAME else numbered(made, "?")
    gathering = None if kinds is None else Gathering(made, kinds[1])
    DIALECT[sql] = Translated(made, "now" in names, "owner" in names, _bound(names), gathering)
    return DIALECT[sql]


def _bound(names: Sequence[str]) -> Callable[[Params], Any]:
    if _BY_NAME:
        return lambda params: params
    return itemgetter(*names) if len(names) > 1 else lambda params: tuple([params[name] for name in names])
