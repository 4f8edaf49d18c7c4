"""Schema changes: numbered files, forward only, each applied in one transaction with its record.

``recollect_schema`` holds one row for each applied step: its number, and the oldest schema number that a program may
know and still work with the database (``min_reader``). So older programs keep running through additive steps.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import msgspec

from recollect.errors import SchemaMismatch

RECORD = """
create table if not exists recollect_schema (
    schema integer not null primary key, min_reader integer not null, applied_at bigint not null
)
"""

NO_RECORD = "the tables are there, but no record of their schema; take recollect_schema from a backup"

_CREATE = re.compile(r"create (?:unique )?(?:table|index) (\w+)")
_DROP = re.compile(r"drop index (\w+)")
_ADD = re.compile(r"alter table (\w+) add column (.+)")
_END_OF_COLUMNS = re.compile(r"(?=,\n    primary key \(|\n\))")
_COMMENT = re.compile(r"^--.*$", re.MULTILINE)
_MIN_READER = re.compile(r"^-- min_reader: (\d+)$", re.MULTILINE)


class Step(msgspec.Struct, frozen=True):
    """One change of the schema."""

    number: int
    name: str
    min_reader: int
    sql: str


@cache
def steps(dialect: str) -> tuple[Step, ...]:
    """All steps for a kind of database, in order."""
    files = sorted((Path(__file__).parent / "schema" / dialect).glob("*.sql"))
    return tuple(_step(file.name, file.read_text(encoding="utf-8")) for file in files)


@cache
def parts(dialect: str) -> dict[str, str]:
    """The tables and indexes that the steps make, by name, each with the statement that makes it."""
    made: dict[str, str] = {}
    for statement in (one.strip() for step in steps(dialect) for one in _COMMENT.sub("", step.sql).split(";")):
        if created := _CREATE.match(statement):
            made[created[1]] = statement
        elif dropped := _DROP.match(statement):
            del made[dropped[1]]
        elif added := _ADD.match(statement):
            columns, end = _END_OF_COLUMNS.split(made[added[1]], maxsplit=1)
            made[added[1]] = f"{columns},\n    {added[2]}{end}"
    return made


def _step(file_name: str, sql: str) -> Step:
    number, _, name = file_name.removesuffix(".sql").partition("_")
    found = _MIN_READER.search(sql)
    return Step(int(number), name, int(found[1]) if found else int(number), sql)


def missing(dialect: str, schema: int, min_reader: int) -> tuple[Step, ...]:
    """The steps that a database at this schema still lacks.

    Raises:
        SchemaMismatch: the database asks for a newer program than this one.
    """
    known = steps(dialect)
    newest = known[-1].number
    if min_reader > newest:
        msg = (
            f"the database has schema {schema} and needs a program that knows schema {min_reader} or later; "
            f"this one knows {newest}. Upgrade recollect."
        )
        raise SchemaMismatch(msg)
    return tuple(step for step in known if step.number > schema)
