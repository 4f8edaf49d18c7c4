"""Where the sessions are, and how a connection to it is opened."""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from recollect.db.sqlite.contention import insist
from recollect.db.sqlite.failures import primary, refuse
from recollect.db.sqlite.transaction import Alive
from recollect.errors import DatabaseError, DatabaseUnreachable


class File(msgspec.Struct, frozen=True):
    """A file, or memory where there is no path, and how it is used."""

    path: Path | None
    durability: Literal["full", "normal"]
    timeout: float
    """Seconds that are waited for others."""
    secure_delete: bool

    @property
    def address(self) -> str:
        """The path, or ``:memory:``."""
        return ":memory:" if self.path is None else str(self.path)

    def connect(self, alive: Alive) -> sqlite3.Connection:
        """Open it; the file and its folder are made where they are missing.

        Raises:
            DatabaseError: it cannot be used.
        """
        try:
            if self.path is not None and not self.path.parent.is_dir():
                self.path.parent.mkdir(parents=True)
            connection = sqlite3.connect(
                self.address,
                timeout=self.timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        except OSError as error:
            msg = f"{self.address} cannot be opened: its folder cannot be made ({error.strerror})"
            raise DatabaseUnreachable(msg) from error
        except sqlite3.Error as error:
            self.refuse(error)
        try:
            self._set_up(connection, alive)
        except sqlite3.Error as error:
            connection.close()
            self.refuse(error)
        return connection

    def _set_up(self, connection: sqlite3.Connection, alive: Alive) -> None:
        connection.create_function("recollect_alive", 3, alive)
        if self.path is not None:
            self._use_wal(connection)
        connection.execute(f"pragma synchronous = {self.durability}")
        connection.execute("pragma cache_size = -8192")
        if self.secure_delete:
            connection.execute("pragma secure_delete = 1")
        if sys.platform == "darwin" and self.durability == "full":
            connection.execute("pragma fullfsync = 1")

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Have readers and the writer not wait for one another. SQLite's own timeout does not hold for this."""
        if connection.execute("pragma journal_mode").fetchone()[0] == "wal":
            return
        try:
            insist(lambda: connection.execute("pragma journal_mode = wal"), time.monotonic() + self.timeout)
        except sqlite3.OperationalError as error:
            if primary(error) != sqlite3.SQLITE_READONLY:  # it can be read all the same
                raise

    def refuse(self, error: sqlite3.Error, kind: type[DatabaseError] | None = None) -> NoReturn:
        """Raise what an error of SQLite's means here."""
        refuse(error, self.address, self.timeout, kind)
