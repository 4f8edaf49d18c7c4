"""Portable statements as Postgres takes them, with their parameters in libpq's text form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from recollect.db.numbered import names_of, numbered
from recollect.port import Params

_TABLES: Final = re.compile(r"\brecollect_(?:sessions|values|runs|messages|prompts|leases|documents|indexed|schema)\b")
_HINTS: Final = re.compile(r"{(?:along|gather) \w+}")
_NOT_HERE: Final = re.compile(r"{one}.*?{/one}|{/?many}", re.DOTALL)
_RAW: Final = re.compile(r"{raw ([\w.]+)}")

_NAMES: Final = {
    # Whether a process on another machine lives, nobody can tell; until when it said it would, everybody can.
    "{alive}": "(l.until > :now)",
    "{claimed}": "(s.claim_until > :now)",
    "{cut}": "(",
    "{at}": "",
    "{/cut}": ")",
}

# The moment the transaction began: the same in all its statements.
_SERVER_TIME: Final = "cast(extract(epoch from now()) * 1000000 as bigint)"


class _Oids(dict[type, int]):
    """The type that a parameter is sent as, by its own; subclasses go by what they are subclasses of."""

    def __missing__(self, kind: type) -> int:
        self[kind] = next(self[base] for base in kind.__mro__ if base in self)
        return self[kind]


_OIDS: Final = _Oids({int: 20, float: 701, str: 0, type(None): 0})
"""Numbers have one width, so that a statement is not prepared for each width they happen to have. What text is, the
server finds out from where it stands."""


class Command(NamedTuple):
    """A statement as it is sent."""

    text: bytes
    values: Sequence[bytes | None] = ()
    types: tuple[int, ...] = ()


def command(sql: str, *values: Any) -> Command:
    """A statement in Postgres's own words, its parameters named ``$1``, ``$2`` ..."""
    return Command(sql.encode(), [_encoded(value) for value in values], tuple(_OIDS[type(value)] for value in values))


BEGIN: Final = command("begin")
BEGIN_READING: Final = command("begin isolation level repeatable read read only")
COMMIT: Final = command("commit")
ROLLBACK: Final = command("rollback")


class Dialect:
    """What turns portable statements into those of one database: its schema, and whose clock it goes by."""

    def __init__(self, schema: str | None, *, server_time: bool) -> None:
        self._schema = schema
        self._time = _SERVER_TIME if server_time else "cast(:now as bigint)"
        self._known: dict[str, tuple[bytes, tuple[str, ...]]] = {}

    def command(self, sql: str, params: Params, given: Params) -> Command | None:
        """The statement with its parameters; None where it is not for this database."""
        text, names = self._known.get(sql) or self._learn(sql)
        if not text:
            return None
        values = [given[name] if name in given else params[name] for name in names]
        return Command(text, [_encoded(value) for value in values], tuple([_OIDS[type(value)] for value in values]))

    def qualified(self, sql: str) -> str:
        """The statement with its tables in their schema. No session setting does that behind a pooler."""
        if self._schema is None:
            return sql
        return _TABLES.sub(lambda table: f"{quoted(self._schema or '')}.{table[0]}", sql)

    def _learn(self, sql: str) -> tuple[bytes, tuple[str, ...]]:
        made = _NOT_HERE.sub("", sql)
        for name, condition in _NAMES.items():
            made = made.replace(name, condition)
        made = _RAW.sub(r"\1", _HINTS.sub("", made)).replace(":now", self._time)
        text = self.qualified(numbered(made, "$")).strip()
        return self._known.setdefault(sql, (text.encode(), names_of(made)))


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it is."""
    return '"' + name.replace('"', '""') + '"'


def _encoded(value: Any) -> bytes | None:
    return None if value is None else str(value).encode()
