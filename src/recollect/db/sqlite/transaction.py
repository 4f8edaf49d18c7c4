"""One transaction on one connection, and what its statements ask Python: the time, and who is alive."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from recollect.db import owner
from recollect.db.sqlite.dialect import DIALECT, translate
from recollect.locks import is_main_thread
from recollect.port import Clock, Duplicate, Row, Statement

_TAKEN: Final = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)


class SystemClock:
    """The clock of this machine."""

    def now(self) -> int:
        return time.time_ns() // 1000


class Alive:
    """`owner.alive` as a function of SQLite's. SQLite loses what is raised in it, so an interrupt is kept here."""

    __slots__ = ("_interrupt",)

    def __init__(self) -> None:
        self._interrupt: BaseException | None = None

    def __call__(self, holder: str, until: int, now: int) -> bool:
        try:
            return owner.alive(holder, until, now)
        except BaseException as error:  # kept: SQLite tells only that the function failed
            self._interrupt = None if isinstance(error, Exception) else error
            raise

    def interrupt(self, error: sqlite3.Error) -> BaseException | None:
        """What came in the main thread while the function ran, of which SQLite says that it failed."""
        if not is_main_thread() or "user-defined function" not in str(error):
            return None
        interrupt, self._interrupt = self._interrupt, None
        return interrupt or KeyboardInterrupt()  # one that came before the function's first line


class SqliteTx:
    """One transaction on one connection; it answers at once."""

    __slots__ = ("_clock", "_connection", "_now")

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._now = 0

    async def execute(self, *statements: Statement, more: bool = False) -> list[list[Row]]:
        del more
        execute, found = self._connection.execute, []
        try:
            for sql, params in statements:
                made, asks_when, asks_who, bound, gathering = DIALECT.get(sql) or translate(sql)
                if asks_when:
                    params["now"] = self._now or self._tell_time()
                if asks_who:
                    params["owner"] = owner.this_process()
                if gathering is not None:
                    found.append(gathering.rows(execute, bound(params)))
                else:
                    found.append(execute(made, bound(params)).fetchall() if made else [])
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode not in _TAKEN:
                raise
            raise Duplicate(str(error)) from error
        return found

    def _tell_time(self) -> int:
        """The moment of all statements of the transaction."""
        self._now = self._clock.now()
        return self._now
