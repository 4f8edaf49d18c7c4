"""Where connections come from: kept ones for threads and each event loop, somebody's own pool, or a new one each time.

They open when they are first used, in the call that needs them, so that why one cannot be had is said at once. They
close with the database, with their loop, and before the process forks: a child that talked on its parent's connections
would spoil them. Nothing works in the background.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout

from recollect.db.postgres.failures import typed
from recollect.db.postgres.wire import Wire, is_quiet
from recollect.errors import DatabaseBusy, DatabaseError, DatabaseUnreachable, InvalidArgument
from recollect.faces import LOOPS, THREADS
from recollect.port import World, drive

AnyPool = ConnectionPool[Any] | AsyncConnectionPool[Any]
Loop = asyncio.AbstractEventLoop

IDLE: Final = 600.0
"""Seconds after which a connection that nobody needed is closed, when another one is given back."""

CLOSING: Final = 5.0
"""Seconds that closing waits for an event loop in another thread."""

PROBE: Final = 2
"""Seconds after which a server that does not answer is said to be away."""

_KEPT_ALIVE: Final = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60000,
}
"""A peer that vanished without a word is noticed within a minute."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is spoken to."""

    timeout: float
    """Seconds to wait for a connection, and for locks."""
    statement_timeout: float
    """Seconds that a statement may run."""
    pooler: bool
    """Whether connections may be another one's with each transaction, so that no setting of theirs lasts."""
    prepare: bool
    """Whether statements are prepared."""


class Address:
    """One database server as it is reached: where, as whom, and with what settings."""

    def __init__(self, url: str, settings: Settings) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error as error:
            raise InvalidArgument("db_url", f"is no address of a Postgres database: {error}") from None
        self.name = _shown(given)
        self.pooler = settings.pooler
        self.timeouts = {
            "lock_timeout": round(settings.timeout * 1000),
            "statement_timeout": round(settings.statement_timeout * 1000),
            "idle_in_transaction_session_timeout": round(settings.timeout * 1000),
        }
        usual: dict[str, Any] = {
            "application_name": "recollect",
            "connect_timeout": max(PROBE, round(settings.timeout)),
            **_KEPT_ALIVE,
        }
        if not settings.pooler:
            said = " ".join(
                f"-c {name}={value}"
                for name, value in [*self.timeouts.items(), ("plan_cache_mode", "force_generic_plan")]
            )
            given["options"] = f"{said} {given.get('options') or ''}".strip()
        self.conninfo = make_conninfo("", **{**usual, **given})
        self.options: dict[str, Any] = {
            "autocommit": True,
            "prepare_threshold": 2 if settings.prepare else None,
        }


def _shown(given: dict[str, Any]) -> str:
    """The address without its password."""
    user = f"{given['user']}@" if given.get("user") else ""
    port = f":{given['port']}" if given.get("port") else ""
    return f"postgresql://{user}{given.get('host') or ''}{port}/{given.get('dbname') or ''}"


class Source(Protocol):
    """Where connections come from, in one face."""

    async def take(self, world: World) -> Any:
        """A connection, until it is given back.

        Raises:
            DatabaseUnreachable: the server does not answer.
            DatabaseBusy: all connections stayed in use.
        """
        ...

    async def give(self, world: World, connection: Any) -> None:
        """Give a connection back; one that is closed counts as given, too."""
        ...


class Fresh:
    """A new connection each time, and none kept."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def take(self, world: World) -> Any:
        return await connect(self._address, world)

    async def give(self, world: World, connection: Any) -> None:
        await world.result(connection.close())


class Turn:
    """Somebody's wait for a place: woken from any thread, or given up in time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    @staticmethod
    def of(world: World) -> Turn:
        return LoopTurn() if world.waits else Turn()

    def wake(self) -> None:
        with suppress(RuntimeError):  # woken twice
            self._lock.release()

    async def wait(self, seconds: float) -> bool:
        """Whether somebody woke this one in time."""
        return self._lock.acquire(timeout=max(0.0, seconds))


class LoopTurn(Turn):
    """The same in an event loop."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Kept:
    """Up to ``size`` connections that are kept while they are of use; the one used last is used first.

    A place is free or taken; a free one may hold a connection, with the time since when nobody needed it. Those who
    find none free wait in a queue.
    """

    def __init__(self, address: Address, size: int, timeout: float) -> None:
        self._address = address
        self._size = size
        self._timeout = timeout
        self._free: deque[tuple[float, Any]] = deque([(0.0, None)] * size)
        self._queue: deque[Callable[[], object]] = deque()
        self._is_closed = False
        weakref.finalize(self, _end, self._free, os.getpid())

    async def take(self, world: World) -> Any:
        connection = await self._take_place(world)
        try:
            if connection is not None:
                if is_quiet(connection):
                    return connection
                await world.result(connection.close())
            return await connect(self._address, world)
        except BaseException:
            self._leave(None)
            raise

    async def give(self, world: World, connection: Any) -> None:
        if self._is_closed or not _is_reusable(connection):
            await world.result(connection.close())
            connection = None
        self._leave(connection)
        await self._close_oldest(world)

    async def close(self, world: World) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._is_closed = True
        for _ in range(len(self._free)):
            _, connection = self._free.popleft()
            if connection is not None:
                await world.result(connection.close())
            self._free.append((0.0, None))

    async def _take_place(self, world: World) -> Any:
        with suppress(IndexError):
            return self._free.pop()[1]
        turn = Turn.of(world)
        self._queue.append(turn.wake)
        deadline = time.monotonic() + self._timeout
        try:
            while True:
                with suppress(IndexError):  # whoever left before this one stood in the queue has woken nobody
                    return self._free.pop()[1]
                if not await turn.wait(deadline - time.monotonic()):
                    raise DatabaseBusy(
                        f"all {self._size} connections to {self._address.name} stayed in use for {self._timeout:g} s; "
                        "allow more with pool=, or wait longer with timeout="
                    )
                self._queue.append(turn.wake)
        finally:
            with suppress(ValueError):
                self._queue.remove(turn.wake)
            if self._free and self._queue:
                self._wake_one()

    def _leave(self, connection: Any) -> None:
        if connection is None:
            self._free.appendleft((0.0, None))
        else:
            self._free.append((time.monotonic(), connection))
        if self._queue:
            self._wake_one()

    def _wake_one(self) -> None:
        with suppress(IndexError):
            self._queue.popleft()()

    async def _close_oldest(self, world: World) -> None:
        """Let go of a connection that nobody needed for long."""
        since, connection = self._free[0] if self._free else (0.0, None)
        if connection is None or since > time.monotonic() - IDLE:
            return
        with suppress(ValueError):
            self._free.remove((since, connection))
            await world.result(connection.close())
            self._leave(None)


def _end(free: deque[tuple[float, Any]], process: int) -> None:
    """Close what nobody closed, when the database is dropped or the program ends; not in a child, whose they are not.

    This is what closing does for either kind of connection, without a loop, which may be gone.
    """
    if os.getpid() == process:
        for _, connection in free:
            if connection is not None:
                connection.pgconn.finish()


class Given:
    """A pool of somebody's own. Its connections' settings do not matter here, and stay as they are."""

    def __init__(self, address: Address, pool: AnyPool, timeout: float) -> None:
        self._address = address
        self._pool = pool
        self._timeout = timeout

    async def take(self, world: World) -> Any:
        until = time.monotonic() + self._timeout
        while True:
            try:
                connection: Any = await world.result(self._pool.getconn(max(0.001, until - time.monotonic())))
            except PoolTimeout as error:
                raise await self._why_none(world) from error
            except PoolClosed as error:
                raise DatabaseError(f"the pool of connections to {self._address.name} is closed") from error
            if is_quiet(connection):
                return connection
            await world.result(connection.close())
            await world.result(self._pool.putconn(connection))

    async def give(self, world: World, connection: Any) -> None:
        await world.result(self._pool.putconn(connection))

    async def _why_none(self, world: World) -> DatabaseError:
        """Why the pool had no connection to give: the server is away, or all are in use."""
        try:
            connection = await connect(self._address, world, connect_timeout=PROBE)
        except DatabaseError as error:
            return error
        await world.result(connection.close())
        return DatabaseBusy(
            f"all connections of the pool {self._pool.name!r} stayed in use for {self._timeout:g} s; "
            "make it larger, or wait longer with timeout="
        )


class Pools:
    """The connections of this process to one address."""

    def __init__(self, address: Address, size: int | None, timeout: float, own: AnyPool | None = None) -> None:
        self.address = address
        self._size = size
        self._timeout = timeout
        self._own = own
        self.keeps = own is not None or size is not None
        """Whether a connection may serve more than one operation."""
        self.begin_process()

    def begin_process(self) -> None:
        """What each process has of its own."""
        self._starting = threading.Lock()
        self._of_threads: Kept | None = None
        self._of_loops: weakref.WeakKeyDictionary[Loop, tuple[Kept, AsyncGenerator[None, None]]] = (
            weakref.WeakKeyDictionary()
        )

    @asynccontextmanager
    async def apart(self, world: World) -> AsyncIterator[Wire]:
        """A connection that is closed afterwards.

        Raises:
            DatabaseUnreachable: the server does not answer.
        """
        wire = Wire(await connect(self.address, world), world)
        try:
            yield wire
        finally:
            await wire.close()

    async def source(self, world: World) -> Source:
        """Where connections come from in this face."""
        if self._own is not None and isinstance(self._own, AsyncConnectionPool) == world.waits:
            return Given(self.address, self._own, self._timeout)
        if self._size is None:
            return Fresh(self.address)
        return await self._for_loop(self._size) if world.waits else self._for_threads(self._size)

    def _for_threads(self, size: int) -> Kept:
        kept = self._of_threads
        if kept is None:
            with self._starting:
                kept = self._of_threads = self._of_threads or Kept(self.address, size, self._timeout)
        return kept

    async def _for_loop(self, size: int) -> Kept:
        loop = asyncio.get_running_loop()
        known = self._of_loops.get(loop)
        if known is None:
            _check_loop(loop)
            kept = Kept(self.address, size, self._timeout)
            known = self._of_loops[loop] = (kept, self._with_loop(kept))
            await anext(known[1])
        return known[0]

    async def _with_loop(self, kept: Kept) -> AsyncGenerator[None, None]:
        """Close connections with their loop: whoever ends a loop ends the async generators that were begun in it."""
        try:
            yield
        finally:
            await kept.close(LOOPS)

    def close(self) -> None:
        """Close all connections but those of somebody's own pool; the next use opens others."""
        self.let_go()
        while self._of_loops:
            loop, (kept, closing) = self._of_loops.popitem()
            _close_in(loop, kept, closing)

    def let_go(self) -> None:
        """Close the connections of threads, so that a child that is forked has none of them."""
        with self._starting:
            kept, self._of_threads = self._of_threads, None
        if kept is not None:
            drive(kept.close(THREADS))


async def connect(address: Address, world: World, **settings: Any) -> Any:
    """Open a connection.

    Raises:
        DatabaseUnreachable: the server does not answer, or does not let us in.
    """
    kind = psycopg.AsyncConnection if world.waits else psycopg.Connection
    try:
        return await world.result(kind.connect(address.conninfo, **address.options, **settings))
    except psycopg.InterfaceError as error:
        raise _unfit_loop(error) from error
    except psycopg.Error as error:
        raise typed(error, address.name, gone=True, unknown=False) from error


def _close_in(loop: Loop, kept: Kept, closing: AsyncGenerator[None, None]) -> None:
    """Close the connections of a loop, from any thread."""

    async def close() -> None:
        await kept.close(LOOPS)
        await closing.aclose()

    try:
        here: Loop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if loop.is_closed():
        return
    if loop is here:
        _under_way.add(task := loop.create_task(close()))
        task.add_done_callback(_under_way.discard)
    elif loop.is_running():
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(close(), loop).result(CLOSING)
    elif here is None:
        loop.run_until_complete(close())


_under_way: set[asyncio.Task[None]] = set()


def _is_reusable(connection: Any) -> bool:
    """Whether a connection that was used is as good as a new one."""
    return not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE


def _check_loop(loop: asyncio.AbstractEventLoop) -> None:
    if sys.platform == "win32" and isinstance(loop, getattr(asyncio, "ProactorEventLoop", ())):
        raise _unfit_loop(None)


def _unfit_loop(error: Exception | None) -> DatabaseError:
    why = "" if error is None else f" ({error})"
    return DatabaseUnreachable(
        "psycopg cannot use this event loop; run asyncio with a selector: "
        f"asyncio.run(main(), loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())){why}"
    )
