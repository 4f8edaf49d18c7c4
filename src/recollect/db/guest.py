"""Databases of others, read as they are: nothing is made in them, and nothing of ours is looked for there."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, TypeVar

from recollect.db.sqlite.transaction import SqliteTx, SystemClock
from recollect.errors import DatabaseBusy, DatabaseError, DatabaseUnreachable, NotADatabase, NotFound
from recollect.port import Operation, P, drive

T = TypeVar("T")

WAIT: Final = 10.0
"""Seconds to wait for somebody who has locked the file."""

_KINDS: Final[dict[int, type[DatabaseError]]] = {
    sqlite3.SQLITE_BUSY: DatabaseBusy,
    sqlite3.SQLITE_CANTOPEN: DatabaseUnreachable,
    sqlite3.SQLITE_NOTADB: NotADatabase,
    sqlite3.SQLITE_CORRUPT: NotADatabase,
}


class Guest(Protocol):
    """A database in which one reads only."""

    @property
    def dialect(self) -> str:
        """The kind of database: ``sqlite`` or ``postgres``."""
        ...

    @property
    def address(self) -> str:
        """Where it is; without a password."""
        ...

    @property
    def schema(self) -> str | None:
        """The schema that its address names."""
        ...

    def transact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that reads, in a snapshot of its own."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class SqliteGuest:
    """An SQLite file, perhaps in use. Text that is no UTF-8 is given with lone surrogates, for others to refuse."""

    dialect: ClassVar[str] = "sqlite"
    schema: ClassVar[None] = None

    def __init__(self, file: str) -> None:
        if not Path(file).is_file():
            msg = f"there is no database {file}"
            raise NotFound(msg)
        self.address = file
        self._connection: sqlite3.Connection | None = None

    def transact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that reads, in a snapshot of its own."""
        try:
            connection = self._connection or self._open()
            connection.execute("begin")
            try:
                return drive(operation(SqliteTx(connection, SystemClock()), *args, **kwargs))
            finally:
                connection.rollback()
        except sqlite3.Error as error:
            kind = _KINDS.get(getattr(error, "sqlite_errorcode", 1) & 0xFF, DatabaseError)
            msg = f"{self.address} cannot be read ({error})"
            raise kind(msg) from error

    def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        address = Path(self.address).resolve().as_uri()
        made = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=WAIT, isolation_level=None)
        made.text_factory = _text
        self._connection = made
        return made


def _text(raw: bytes) -> Any:
    return raw.decode(errors="surrogateescape")
