"""Statements as SQLite takes them."""

from __future__ import annotations

import re
from typing import Final

_FUNCTIONS: Final = {
    "{alive}": "recollect_alive(l.owner, l.until, :now)",
    "{claimed}": "recollect_alive(s.claim_owner, s.claim_until, :now)",
}

# A text that is no UTF-8 could not be fetched as text; one that is stored as something else is given as it is not: 0.
_RAW: Final = r"case typeof(\1) when 'text' then cast(\1 as blob) when 'blob' then 0 else \1 end"

DIALECT: dict[str, tuple[str, bool, bool]] = {}
"""Statements as SQLite takes them, by their portable text; and whether they ask when they are run, and by whom."""


def translate(sql: str) -> tuple[str, bool, bool]:
    """A portable statement as SQLite takes it, kept in `DIALECT`."""
    made = sql
    for name, function in _FUNCTIONS.items():
        made = made.replace(name, function)
    made = re.sub(r"{many}.*?{/many}|{/?one}|{cut}|{at}.*?{/cut}", "", made, flags=re.DOTALL).strip()
    # Without statistics the planner takes the primary key, and walks past whatever the index leaves out.
    made = re.sub(r"{along (\w+)}", r"indexed by \1", made)
    made = re.sub(r"{raw ([\w.]+)}", _RAW, made)
    DIALECT[sql] = made, ":now" in made, ":owner" in made
    return DIALECT[sql]
