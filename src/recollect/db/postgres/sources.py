"""Where connections come from in one face: kept ones, somebody's own pool, or a new one each time."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout

from recollect.db.postgres.address import PROBE, Address, connect
from recollect.db.postgres.wire import is_quiet
from recollect.errors import DatabaseBusy, DatabaseError
from recollect.port import World

AnyPool = ConnectionPool[Any] | AsyncConnectionPool[Any]

IDLE: Final = 600.0
"""Seconds after which a connection that nobody needed is closed, when another one is given back."""


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


def _is_reusable(connection: Any) -> bool:
    """Whether a connection that was used is as good as a new one."""
    return not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE
