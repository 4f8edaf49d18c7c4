"""Parameters by number: what the store calls by name is sent to databases by its place."""

from __future__ import annotations

import re
from typing import Final

_NAMED: Final = re.compile(r"(?<![:\w]):(\w+)")


def names_of(sql: str) -> tuple[str, ...]:
    """The names of a statement's parameters, each once, as they first come."""
    return tuple(dict.fromkeys(_NAMED.findall(sql)))


def numbered(sql: str, sign: str) -> str:
    """The statement with a sign and a number, counted from 1 along `names_of`, in the place of each name."""
    number = {name: f"{sign}{place}" for place, name in enumerate(names_of(sql), 1)}
    return _NAMED.sub(lambda found: number[found[1]], sql)
