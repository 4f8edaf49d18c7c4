"""Portable statements as Postgres takes them."""

from __future__ import annotations

import re
from typing import Final

_TABLES: Final = re.compile(r"\brecollect_(?:sessions|values|runs|messages|prompts|leases|schema)\b")
_NAMED: Final = re.compile(r"(?<![:\w]):(\w+)")
_ALONG: Final = re.compile(r"{along \w+}")
_NOT_HERE: Final = re.compile(r"{one}.*?{/one}|{/?many}", re.DOTALL)

_NAMES: Final = {
    # Whether a process on another machine lives, nobody can tell; until when it said it would, everybody can.
    "{alive}": "(l.until > :now)",
    "{claimed}": "(s.claim_until > :now)",
}

# The moment the transaction began: the same in all its statements.
_SERVER_TIME: Final = "cast(extract(epoch from now()) * 1000000 as bigint)"

BEGIN: Final = "begin"
BEGIN_READING: Final = "begin isolation level repeatable read read only"
COMMIT: Final = "commit"
ROLLBACK: Final = "rollback"


class Dialect:
    """What turns portable statements into those of one database: its schema, and whose clock it goes by."""

    def __init__(self, schema: str | None, *, server_time: bool) -> None:
        self._schema = schema
        self._time = _SERVER_TIME if server_time else "cast(:now as bigint)"
        self._known: dict[str, str] = {}

    def __call__(self, sql: str) -> str:
        """The statement, with parameters as psycopg names them; nothing where it is not for this database."""
        made = self._known.get(sql)
        return self._known.setdefault(sql, self._made(sql)) if made is None else made

    def qualified(self, sql: str) -> str:
        """The statement with its tables in their schema. No session setting does that behind a pooler."""
        if self._schema is None:
            return sql
        return _TABLES.sub(lambda table: f"{quoted(self._schema or '')}.{table[0]}", sql)

    def _made(self, sql: str) -> str:
        made = _NOT_HERE.sub("", sql)
        for name, condition in _NAMES.items():
            made = made.replace(name, condition)
        made = made.replace("{cut}", "(").replace("{at}", "").replace("{/cut}", ")")
        made = _ALONG.sub("", made).replace(":now", self._time).replace("%", "%%")
        return self.qualified(_NAMED.sub(r"%(\1)s", made)).strip()


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it is."""
    return '"' + name.replace('"', '""') + '"'
