"""SQLite: one file, or memory, for both faces.

One connection writes, behind one fair lock; others read, each in a snapshot of its own. In the async face a whole
operation is one hop to the writer's thread, and the writes that wait there together share one commit.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from recollect import checks
from recollect.background import BACKGROUND
from recollect.db import fulltext
from recollect.db.sqlite.contention import insist
from recollect.db.sqlite.failures import SOUND, primary
from recollect.db.sqlite.file import File
from recollect.db.sqlite.log import Log
from recollect.db.sqlite.schema import bring_up, roll_back
from recollect.db.sqlite.transaction import Alive, SqliteTx, SystemClock
from recollect.errors import (
    DatabaseBusy,
    DatabaseError,
    InvalidArgument,
    OutcomeUnknown,
)
from recollect.faces import Job, Worker, finished
from recollect.forking import let_go_at_fork
from recollect.heartbeat import HEARTBEAT
from recollect.locks import FairLock, Gate, Mutex, Place
from recollect.port import Clock, Mode, Operation, P, drive, mode_of
from recollect.store import LOOKS, Store
from recollect.watching import WATCHERS, Signals, Ticks

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

log = logging.getLogger("recollect")

READERS: Final = 4
"""Idle reading connections kept, and threads that read for event loops."""

_AS_IT_IS: Final = nullcontext()

CLOSING: Final = 30.0
"""Seconds that closing waits for names and summaries under way."""


class SqliteDb(Store):
    """Sessions in an SQLite file; without ``db_file``, in memory, and gone with the object.

    ``durability="full"`` survives power loss at each commit. ``"normal"`` is faster, and after a power loss (not after
    a crash of the program) the last commits may be gone; the file stays whole. ``timeout`` is how many seconds a write
    waits for other writers. ``secure_delete=True`` overwrites what is deleted with zeros; what the log next to the file
    and the index of `search` still hold of it goes with `vacuum`. The file, its folder and its tables are made when
    first needed; tables of others in the same file are left alone.

    Raises:
        InvalidArgument: an option is unknown.
        DatabaseError: on first use, when the file cannot be used.
    """

    dialect = "sqlite"

    def __init__(
        self,
        db_file: str | os.PathLike[str] | None = None,
        *,
        durability: Literal["full", "normal"] = "full",
        timeout: float = 5.0,
        secure_delete: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if durability not in ("full", "normal"):
            raise InvalidArgument("durability", f"{durability!r} is neither 'full' nor 'normal'")
        self.db_file = None if db_file is None else Path(db_file)
        self.durability = durability
        self.timeout = timeout
        self.secure_delete = checks.flag("secure_delete", secure_delete)
        self._file = File(self.db_file, durability, timeout, self.secure_delete)
        self._log = Log(self.db_file or Path())
        self._clock: Clock = clock or SystemClock()
        self._alive = Alive()
        self._watcher: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._begin_process()
        let_go_at_fork(self)

    @property
    def address(self) -> str:
        """Where the sessions are: the file, or ``:memory:``."""
        return self._file.address

    def __repr__(self) -> str:
        return f"SqliteDb({self.address!r})"

    def transact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one store operation in a transaction of its own, in this thread."""
        work = _bound(operation, args, kwargs)
        mode = mode_of(operation)
        value: T = self._write(work, mode) if mode is Mode.write or self.db_file is None else self._read(work, mode)
        return value

    async def atransact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one store operation in a transaction of its own, in one hop to another thread."""
        work = _bound(operation, args, kwargs)
        mode = mode_of(operation)
        if mode is Mode.write or self.db_file is None:
            value: T = await finished(self._worker.submit(work))
            return value
        import asyncio

        loop = asyncio.get_running_loop()
        found: T = await loop.run_in_executor(self._read_threads(), self._read, work, mode)
        return found

    @property
    def signals(self) -> Callable[[], Signals]:
        """Makes what tells that something was changed: SQLite is asked, a few times a second, and not the tables."""
        return lambda: Ticks(self._pulse, LOOKS)

    def _pulse(self) -> tuple[object, int]:
        """What is another one after each commit; asked on a connection that does nothing else, which it counts for.

        https://www.sqlite.org/pragma.html#pragma_data_version
        """
        if self.db_file is None:
            writer = self._writer
            return (writer, writer and writer.total_changes), self._clock.now()
        visit = Mutex()
        with visit:
            self._gate.enter(visit)
            try:
                if self._watcher is None:
                    self._watcher = self._connect()
                [version] = self._watcher.execute("pragma data_version").fetchone()
            except sqlite3.Error as error:
                self._file.refuse(error)
            return (self._watcher, version), self._clock.now()

    def vacuum(self) -> None:
        """Write the file anew without what was deleted, and empty the log next to it. Nobody can write meanwhile.

        Raises:
            DatabaseBusy: other processes were at work in it all the while.
        """
        place = Place()
        with place.held, self._locked(place, self._deadline()), self._gate.shut:
            self._gate.empty(self.timeout)
            connection = self._writer or self._open_writer()
            try:
                self._vacuum(connection)
            except sqlite3.Error as error:
                self._file.refuse(error)

    async def avacuum(self) -> None:
        """As `vacuum`, without holding up the event loop."""
        import asyncio

        await asyncio.to_thread(self.vacuum)

    def _vacuum(self, connection: sqlite3.Connection) -> None:
        """Vacuum, and wait for others so that the log can be emptied."""
        connection.execute(f"pragma busy_timeout = {int(self.timeout * 1000)}")
        try:
            fulltext.forget_deleted(connection)
            connection.execute("vacuum")
            is_busy, *_ = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        finally:
            connection.execute("pragma busy_timeout = 0")
        if is_busy:
            msg = f"{self.address} was written anew, but is read by others, so the log next to it could not be emptied"
            raise DatabaseBusy(msg)

    def close(self) -> None:
        """Finish what is under way, names and summaries in the background too, and close the file.

        The next use opens it again.
        """
        WATCHERS.end(self)
        BACKGROUND.settle(self, CLOSING)
        HEARTBEAT.forget(self)
        self._worker.stop()
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
        place = Place()
        with place.held, self._locked(place, self._deadline()), self._gate.shut:
            self._gate.empty(self.timeout)
            self._let_go(memory=True)

    async def aclose(self) -> None:
        """As `close`, without holding up the event loop."""
        import asyncio

        await asyncio.to_thread(self.close)

    def before_fork(self) -> None:
        """Close the file before the process forks.

        SQLite keeps its own account of the locks a process holds. A child would inherit that account, but not the
        locks: it would write without them. https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_file_across_a_fork_
        """
        self._shut = ExitStack()
        place = Place()
        try:
            self._shut.enter_context(place.held)
            self._shut.enter_context(self._locked(place, self._deadline()))
            self._shut.enter_context(self._gate.shut)
            self._gate.empty(self.timeout)
        except DatabaseBusy as error:
            log.warning("the process forks while it works on %s: %s", self.address, error)
        else:
            self._let_go(memory=False)

    def after_fork(self, *, child: bool) -> None:
        """Go on: the parent where it was, the child with locks and threads of its own."""
        if child:
            self._begin_process()
        else:
            self._shut.close()

    def _begin_process(self) -> None:
        """What each process has of its own. A database in memory is the exception: a child has a copy."""
        self._lock = FairLock()
        self._gate = Gate()
        self._shut = ExitStack()
        self._readers: list[sqlite3.Connection] = []
        self._watcher = None
        self._worker = Worker(self._write_batch, "recollect-writer")
        self._executor = None

    def _let_go(self, *, memory: bool) -> None:
        while self._readers:
            self._readers.pop().close()
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        if self._writer is not None and (memory or self.db_file is not None):
            self._writer.close()
            self._writer = None

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout

    def _run(self, connection: sqlite3.Connection, work: Callable[..., Any], mode: Mode, deadline: float = 0.0) -> Any:
        """One operation, with its begin and its commit."""
        tx = SqliteTx(connection, self._clock)
        try:
            roll_back(connection)  # an interrupt may have come before the last transaction was undone
            if mode is Mode.look:
                return drive(work(tx))
            has_waited = self._begin(connection, mode, deadline)
            value = drive(work(tx))
            self._commit(connection, mode, has_waited=has_waited)
        except sqlite3.Error as error:
            self._undo(connection, error)
            interrupt = self._alive.interrupt(error)
            if interrupt is not None:
                raise interrupt from None
            self._file.refuse(error)
        except BaseException as error:  # whatever ends it, Ctrl-C too: no transaction is left open
            self._undo(connection, error)
            raise
        return value

    def _begin(self, connection: sqlite3.Connection, mode: Mode, deadline: float) -> bool:
        """Begin, and give whether other processes had to be waited for."""
        if mode is not Mode.write or self.db_file is None:
            connection.execute("begin")
            return False
        return insist(lambda: connection.execute("begin immediate"), deadline)

    def _commit(self, connection: sqlite3.Connection, mode: Mode, *, has_waited: bool) -> None:
        """Commit; and where others write at the same time, see to it that the log stays short.

        A transaction that is still open was not committed. One that SQLite has ended may be on the disk or not, unless
        there was no room for it: https://www.sqlite.org/lang_transaction.html

        Raises:
            OutcomeUnknown: a change may have been stored or not.
            sqlite3.Error: nothing was stored.
        """
        with self._log.kept_short(connection) if has_waited else _AS_IT_IS:
            try:
                connection.execute("commit")
            except sqlite3.Error as error:
                if mode is not Mode.write or connection.in_transaction or primary(error) in SOUND:
                    raise
                self._file.refuse(error, OutcomeUnknown)

    def _undo(self, connection: sqlite3.Connection, error: BaseException) -> None:
        """Roll back; or close a connection that perhaps cannot even do that any more, and the next use opens another.

        One to memory is kept: its data would go with it.
        """
        failed = isinstance(error, (sqlite3.Error, OutcomeUnknown)) and primary(error) not in SOUND
        try:
            roll_back(connection)
        except sqlite3.Error:
            failed = True
        if not failed or self.db_file is None:
            return
        if connection is self._writer:
            self._writer = None
        connection.close()

    def _write_batch(self, batch: Sequence[Job]) -> None:
        """Run the jobs of event loops: together in one transaction, or each alone when that one is undone."""
        deadline, place = self._deadline(), Place()
        try:
            with place.held, self._locked(place, deadline):
                if len(batch) == 1 or not self._write_together(batch, deadline):
                    for job in batch:
                        self._write_alone(job, deadline)
        except BaseException as error:  # noqa: BLE001 - carried over to those who wait, and raised there
            for job in batch:
                job.error = job.error or error

    def _write_alone(self, job: Job, deadline: float) -> None:
        try:
            job.value = self._run(self._writer or self._open_writer(), job.work, Mode.write, deadline)
        except BaseException as error:  # noqa: BLE001 - carried over to the one who waits, and raised there
            job.error = error

    def _write_together(self, batch: Sequence[Job], deadline: float) -> bool:
        """Whether the jobs were settled; if not, nothing of them is stored."""
        connection = self._writer or self._open_writer()
        try:
            has_waited = self._begin(connection, Mode.write, deadline)
            for job in batch:
                connection.execute("savepoint one")
                self._write_within(connection, job)
            self._commit(connection, Mode.write, has_waited=has_waited)
        except sqlite3.Error as error:
            self._undo(connection, error)
            for job in batch:
                job.value = job.error = None
            return False
        except OutcomeUnknown as error:  # run again, a job that was stored would be stored twice
            self._undo(connection, error)
            for job in batch:
                job.error = job.error or error
        return True

    def _write_within(self, connection: sqlite3.Connection, job: Job) -> None:
        try:
            job.value = drive(job.work(SqliteTx(connection, self._clock)))
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - carried over to the one who waits, and raised there
            job.error = error
            connection.execute("rollback to one")
        connection.execute("release one")

    def _write(self, work: Callable[..., Any], mode: Mode) -> Any:
        deadline, place = self._deadline(), Place()
        with place.held:
            self._take_lock(place, deadline)
            try:
                return self._run(self._writer or self._open_writer(), work, mode, deadline)
            finally:
                self._lock.leave()

    def _read(self, work: Callable[..., Any], mode: Mode) -> Any:
        if self._writer is None:
            self._prepare()
        visit = Mutex()
        with visit:
            self._gate.enter(visit)
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = self._connect()
            works = True
            try:
                return self._run(connection, work, mode)
            except BaseException as error:  # an interrupt may leave it in any state
                works = isinstance(error, Exception) and not isinstance(error, DatabaseError)
                raise
            finally:
                if works and len(self._readers) < READERS:
                    self._readers.append(connection)
                else:
                    connection.close()

    def _read_threads(self) -> ThreadPoolExecutor:
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(READERS, "recollect-reader")
        return self._executor

    def _prepare(self) -> None:
        """See to it that the schema is there."""
        place = Place()
        with place.held, self._locked(place, self._deadline()):
            if self._writer is None:
                self._open_writer()

    def _take_lock(self, place: Place, deadline: float) -> None:
        if self._lock.held_here():
            msg = f"{self.address} is in use by this very thread; an operation was begun inside another one"
            raise DatabaseBusy(msg)
        if not self._lock.take(place, deadline - time.monotonic()):
            msg = f"{self.address} stayed in use by other threads for {self.timeout:g} s"
            raise DatabaseBusy(msg)

    @contextmanager
    def _locked(self, place: Place, deadline: float) -> Iterator[None]:
        self._take_lock(place, deadline)
        try:
            yield
        finally:
            self._lock.leave()

    def _open_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            bring_up(connection, self._clock)
            fulltext.set_up(connection)
            connection.execute("pragma busy_timeout = 0")  # from here on `_begin` waits, more fairly
        except sqlite3.Error as error:
            connection.close()
            self._file.refuse(error)
        except BaseException:  # an interrupt, too, must not leave it open
            connection.close()
            raise
        self._writer = connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        return self._file.connect(self._alive)


def _bound(operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[SqliteTx], Any]:
    return lambda tx: operation(tx, *args, **kwargs)
