"""The log next to a file (WAL), which grows where many processes write at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PAGES: Final = 1000
"""Pages from which on SQLite writes back what is in the log whenever somebody commits: its own default."""

LONG: Final = (PAGES + 100) * (4096 + 24)
"""Bytes. SQLite writes back what is in the log from 1,000 pages on, but begins it anew only where nobody writes at that
moment. Where somebody always does, it grows without end, and each commit waits for the disk once more.
https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files"""

PATIENCE: Final = 50
"""Milliseconds that writers are held up, at most, by somebody who still reads what is in the log."""


class Log:
    """The log of one file, looked at by who has just written and had to wait for others."""

    __slots__ = ("_long", "_path")

    def __init__(self, file: Path) -> None:
        self._path = Path(f"{file}-wal")
        self._long = LONG

    @contextmanager
    def kept_short(self, connection: sqlite3.Connection) -> Iterator[None]:
        """While somebody commits who had to wait: empty the log where it is long, while the others wait.

        Where it is still read, that is tried again when it has grown as much again.
        """
        size = self._size()
        if size < LONG:
            self._long = LONG
        if size < self._long:
            yield
            return
        # What SQLite would do of its own here takes so long that the next one is at work before the log can be emptied.
        connection.execute("pragma wal_autocheckpoint = 0")
        try:
            yield
        finally:
            self._long = LONG if self._empty(connection) else size + LONG

    def _empty(self, connection: sqlite3.Connection) -> bool:
        """Empty the log; False where somebody reads it, who may do so for long."""
        try:
            connection.execute(f"pragma busy_timeout = {PATIENCE}")
            try:
                [is_busy, pages, _] = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
            finally:
                connection.execute("pragma busy_timeout = 0")
                connection.execute(f"pragma wal_autocheckpoint = {PAGES}")
        except sqlite3.Error:  # what was to be stored is: nobody needs to hear that the log could not be emptied
            return True
        return not is_busy or pages < 0  # without pages, another process is about to empty it

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0
