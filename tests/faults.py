"""A database that fails where a test wants it: a real file and a real `SqliteDb`, with faults between it and SQLite.

A fault raises what SQLite raises, and leaves the connection as SQLite leaves it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from recollect.db.sqlite import SqliteDb
from recollect.errors import DatabaseBusy, DatabaseError, DatabaseFull, OutcomeUnknown

Rows = dict[str, list[tuple[Any, ...]]]


class Kind(NamedTuple):
    """A way to fail."""

    code: Any
    """SQLite's, or the SQLSTATE of Postgres; None where the connection is lost."""
    text: str
    error: type[DatabaseError] | None
    """What the caller gets, where the outcome is known; None where it is repeated, and the caller gets what it asked
    for."""
    undoes: tuple[str, ...] = ()
    """What SQLite itself undoes the whole transaction at; else it stays open."""
    ends: bool = False
    """Whether nothing on this connection works any more, not even a rollback."""


KINDS = {
    "busy": Kind(sqlite3.SQLITE_BUSY, "database is locked", DatabaseBusy),
    "full": Kind(sqlite3.SQLITE_FULL, "database or disk is full", DatabaseFull, ("commit",)),
    "failing": Kind(sqlite3.SQLITE_IOERR_WRITE, "disk I/O error", DatabaseError, ("statement", "commit")),
    "lost": Kind(sqlite3.SQLITE_IOERR_ACCESS, "disk I/O error", DatabaseError, ends=True),
}


class Call(NamedTuple):
    """What was run: a statement, a begin or a commit."""

    sql: str
    writes: bool = False
    """Whether its transaction changes something."""
    begins: bool = False
    """Whether it is the begin, in words or as the first that is sent."""
    commits: bool = False
    """Whether it is the commit, in words or by the end of what was sent together."""
    ends: bool = False
    """Whether a commit was sent with it, so that without an answer nobody knows what is stored."""
    follows: bool = False
    """Whether a change of the same operation was committed before."""


class Fault(NamedTuple):
    """What fails, and when. One that is at a place happens once; a busy database stays so for those who begin."""

    kind: Kind
    at: int | None = None
    """The number of the call: begin, statements and commit in order, all transactions together."""
    begin: int | None = None
    """Or the number of the begin, those of transactions that only read left out."""
    commit: int | None = None
    """Or the number of the commit, counted likewise."""
    mark: str | None = None
    """Or a text among the parameters; whatever carries it fails, again and again."""
    after: bool = False
    """Whether it fails once it was done."""
    stays: bool = False
    """Whether everything fails from there on."""


class Faults:
    """What was run since the last `watch` or `arm`, and what is to fail."""

    def __init__(self) -> None:
        self.watch()

    def watch(self, committed: Callable[[], None] | None = None) -> None:
        """Only look on; tell of each commit."""
        self.fault: Fault | None = None
        self.fired = False
        self.failed = ""
        self.calls: list[Call] = []
        self.begins = 0
        self.commits = 0
        self.committed = committed

    def arm(self, fault: Fault) -> None:
        """Fail."""
        self.watch()
        self.fault = fault

    def due(self, call: Call, params: Any) -> bool:
        """Count a call; whether it is to fail. Signs of life come when they come, and are left alone."""
        if is_sign_of_life():
            return False
        self.calls.append(call)
        sql, begins, commits = call.sql, call.writes and call.begins, call.writes and call.commits
        self.begins += begins
        self.commits += commits
        fault = self.fault
        if fault is None:
            return False
        if fault.mark is not None:
            return any(fault.mark in str(value) for value in (params.values() if isinstance(params, dict) else params))
        if self.fired:
            return fault.stays or (fault.kind is KINDS["busy"] and sql == self.failed and sql.startswith("begin"))
        self.failed = sql
        at = fault.at == len(self.calls) - 1
        return at or (begins and fault.begin == self.begins) or (commits and fault.commit == self.commits)


def is_sign_of_life() -> bool:
    """Whether who asks is the one that renews leases."""
    return threading.current_thread().name == "recollect-heartbeat"


class FaultyConnection:
    """A connection to SQLite, and the faults before it."""

    def __init__(self, real: sqlite3.Connection, faults: Faults) -> None:
        self._real = real
        self._faults = faults
        self._writes = False
        self._ended: Kind | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, params: Any = ()) -> sqlite3.Cursor:
        if self._ended is not None:
            raise _error(self._ended)
        if sql.startswith("begin"):
            self._writes = sql == "begin immediate"
        call = Call(sql, self._writes, sql.startswith("begin"), sql == "commit", self._writes and sql == "commit")
        if sql == "rollback" or not self._faults.due(call, params):
            done = self._real.execute(sql, params)
            if sql == "commit" and self._faults.committed is not None and not is_sign_of_life():
                self._faults.committed()
            return done
        assert self._faults.fault is not None
        return self._fail(sql, params, self._faults.fault)

    def _fail(self, sql: str, params: Any, fault: Fault) -> sqlite3.Cursor:
        if fault.after and not self._faults.fired:
            self._real.execute(sql, params).fetchall()
        self._faults.fired = True
        kind = fault.kind
        if ("commit" if sql == "commit" else "statement") in kind.undoes and self._real.in_transaction:
            self._real.rollback()
        self._ended = kind if kind.ends else None
        raise _error(kind)


def _error(kind: Kind) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(kind.text)
    error.sqlite_errorcode = kind.code
    return error


class FaultyDb(SqliteDb):
    """A database in a file, whose connections fail as its `faults` say. It does not wait long for others."""

    kinds = KINDS
    in_doubt = KINDS["failing"]

    def __init__(self, db_file: Path, **options: Any) -> None:
        super().__init__(db_file, **({"durability": "normal", "timeout": 0.02} | options))
        self.faults = Faults()

    def _connect(self) -> Any:
        return FaultyConnection(super()._connect(), self.faults)

    def connections(self) -> int:
        """How many are open."""
        return len(self._readers) + (self._writer is not None)

    def rows(self) -> Rows:
        assert self.db_file is not None
        return rows_in(Path(self.db_file))

    @staticmethod
    def faults_at(number: int) -> Iterator[Fault]:
        for kind in KINDS.values():
            yield Fault(kind, at=number)
        for name in ("failing", "lost"):
            yield Fault(KINDS[name], at=number, after=True)

    @staticmethod
    def told(fault: Fault, call: Call) -> type[DatabaseError] | None:
        """What the caller is told. Only a commit leaves in doubt, and only where SQLite has ended the transaction."""
        in_doubt = fault.kind is KINDS["failing"] or (fault.kind is KINDS["lost"] and fault.after)
        return OutcomeUnknown if call.commits and call.writes and in_doubt else fault.kind.error


def rows_in(file: Path) -> Rows:
    """Every stored row by table, as another program sees it."""
    other = sqlite3.connect(file)
    try:
        names = other.execute("select name from sqlite_master where type = 'table' and name like 'recollect_%'")
        return {name: sorted(other.execute(f"select * from {name}").fetchall(), key=repr) for (name,) in names}
    finally:
        other.close()
