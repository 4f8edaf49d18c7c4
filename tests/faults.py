"""A real SQLite connection that fails at one chosen statement: before it is run, or after it took effect."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from recollect.db import sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS: dict[str, int] = {
    "busy": sqlite3.SQLITE_BUSY,
    "full": sqlite3.SQLITE_FULL,
    "read only": sqlite3.SQLITE_READONLY,
    "I/O error": sqlite3.SQLITE_IOERR,
    "connection lost": sqlite3.SQLITE_CANTOPEN,
}
"""What may go wrong, by the code that SQLite gives it."""

QUIET = ("pragma", "select 1 from sqlite_master", "select coalesce(max(schema)")


class Faults:
    """Counts the statements of an operation, and has one of them fail."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.at: int | None = None
        self.after = False
        self.undone = False
        self.code = sqlite3.SQLITE_IOERR

    def plan(self, at: int | None, kind: str = "I/O error", *, after: bool = False, undone: bool = False) -> None:
        """Have statement number ``at`` fail once; None for none. ``undone``: SQLite has rolled back by itself."""
        self.seen, self.at, self.code, self.after, self.undone = [], at, KINDS[kind], after, undone

    def due(self, sql: str, *, after: bool) -> bool:
        """Whether this statement fails now."""
        if sql.strip().startswith(QUIET) or self.at is None:
            return False
        if not after:
            self.seen.append(sql)
        return len(self.seen) == self.at + 1 and after == self.after

    def error(self) -> sqlite3.OperationalError:
        error = sqlite3.OperationalError("made to fail")
        error.sqlite_errorcode = self.code
        return error


class FaultyConnection(sqlite3.Connection):
    """A connection to a real file."""

    faults: ClassVar[Faults]

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if self.faults.due(sql, after=False):
            if self.faults.undone:
                super().execute("rollback")
            raise self.faults.error()
        cursor = super().execute(sql, *args)
        if self.faults.due(sql, after=True):
            cursor.fetchall()
            raise self.faults.error()
        return cursor


@contextmanager
def faulty() -> Iterator[Faults]:
    """Every connection that is opened here can be made to fail."""
    faults = Faults()
    connect = sqlite3.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaultyConnection, "faults", faults, raising=False)
        patch.setattr(
            sqlite.sqlite3, "connect", lambda *args, **options: connect(*args, **options, factory=FaultyConnection)
        )
        yield faults


COUNT = 1 << 30
"""A number of a statement that is never reached: all are counted."""
