"""The schema of a file: brought to the newest when it is opened, or refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from recollect.db import migrate
from recollect.errors import SchemaMismatch
from recollect.port import Clock


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the transaction, where there is one."""
    if connection.in_transaction:
        connection.execute("rollback")


def bring_up(connection: sqlite3.Connection, clock: Clock) -> None:
    """Bring the file to the newest schema, or refuse it; other processes may do the same at the same time."""
    if not migrate.missing("sqlite", *stored_schema(connection)):
        return
    connection.execute(migrate.RECORD)
    for step in migrate.steps("sqlite"):
        connection.execute("begin immediate")
        try:
            if step.number > (schema := stored_schema(connection)[0]):
                _check_record(connection, schema)
                for statement in _statements(step.sql):
                    connection.execute(statement)
                connection.execute(
                    "insert into recollect_schema values (?, ?, ?)",
                    (step.number, step.min_reader, clock.now()),
                )
            connection.execute("commit")
        except BaseException:  # an interrupt, too
            roll_back(connection)
            raise


def _check_record(connection: sqlite3.Connection, schema: int) -> None:
    """Refuse tables of which nobody knows how new they are."""
    if not schema and connection.execute("select 1 from sqlite_master where name = 'recollect_sessions'").fetchone():
        raise SchemaMismatch(migrate.NO_RECORD)


def stored_schema(connection: sqlite3.Connection) -> tuple[int, int]:
    """Which schema a file has, and the oldest whose programs can read it; 0 for both where it has none."""
    if not connection.execute("select 1 from sqlite_master where name = 'recollect_schema'").fetchone():
        return 0, 0
    found: tuple[int, int] = connection.execute(
        "select coalesce(max(schema), 0), coalesce(max(min_reader), 0) from recollect_schema"
    ).fetchone()
    return found


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
