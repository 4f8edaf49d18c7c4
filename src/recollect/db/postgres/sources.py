"""Where connections come from in one face: kept ones, somebody's own pool, or a new one each time."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import Any, Final, Protocol

from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout

from recollect.db.postgres.address import PROBE, Address, connect
from recollect.db.postgres.wire import is_quiet
from recollect.errors import DatabaseBusy, DatabaseError
from recollect.port import World

AnyPool = ConnectionPool[Any] | AsyncConnectionPool[Any]

NAP: Final = 0.25
"""Seconds after which whoever waits looks by itself: the one who held what it waits for may have been interrupted."""

IDLE: Final = 600.0
"""Seconds after which a connection that nobody needed is closed, when another one is given back."""


class Place:
    """Somebody's right to one connection, for as long as ``held`` is held.

    That is a lock of C's, let go of by the end of a ``with`` however it comes: an interrupt (Ctrl-C) may come after any
    call, and no place is lost by it::

        place = Place.of(world)
        with place.held:
            connection = await source.take(world, place)
    """

    def __init__(self) -> None:
        self.held = threading.Lock()
        self.slot: Slot | None = None
        self._call = threading.Lock()
        self._call.acquire()

    @staticmethod
    def of(world: World) -> Place:
        return LoopPlace() if world.waits else Place()

    def call(self) -> None:
        """Wake the one who waits."""
        with suppress(RuntimeError):  # called twice
            self._call.release()

    async def wait(self, seconds: float) -> None:
        """Wait to be called, so many seconds at most."""
        self._call.acquire(timeout=max(0.0, min(seconds, NAP)))


class LoopPlace(Place):
    """The same in an event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._called = asyncio.Event()

    def call(self) -> None:
        self._called.set()

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(seconds, NAP))):
                await self._called.wait()
        self._called.clear()


class Slot:
    """Where one connection is kept while nobody uses it."""

    __slots__ = ("connection", "holder", "since")

    def __init__(self) -> None:
        self.connection: Any = None
        self.holder: Place | None = None
        self.since = 0.0
        """When it was last used."""

    @property
    def is_free(self) -> bool:
        return self.holder is None or not self.holder.held.locked()


class Source(Protocol):
    """Where connections come from, in one face."""

    async def take(self, world: World, place: Place) -> Any:
        """A connection, until it is given back.

        Raises:
            DatabaseUnreachable: the server does not answer.
            DatabaseBusy: all connections stayed in use.
        """
        ...

    async def give(self, world: World, place: Place, connection: Any) -> None:
        """Give a connection back; one that is closed counts as given, too."""
        ...


class Fresh:
    """A new connection each time, and none kept."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def take(self, world: World, place: Place) -> Any:
        del place
        return await connect(self._address, world)

    async def give(self, world: World, place: Place, connection: Any) -> None:
        del place
        await world.result(connection.close())


class Kept:
    """Up to ``size`` connections that are kept while they are of use; the one used last is used first.

    Those who find none free are served in the order in which they came.
    """

    def __init__(self, address: Address, size: int, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._slots = [Slot() for _ in range(size)]
        self._queue: deque[Place] = deque()
        self._mutex = threading.Lock()
        self._is_closed = False
        weakref.finalize(self, _end, self._slots, os.getpid())

    async def take(self, world: World, place: Place) -> Any:
        slot = self._seated(place) or await self._wait(place)
        connection = slot.connection
        try:
            if connection is not None and not (is_quiet(connection) and _is_reusable(connection)):
                await world.result(connection.close())
                connection = slot.connection = None
            if connection is None:
                connection = slot.connection = await connect(self._address, world)
        except BaseException:  # Ctrl-C too: the place goes to the next who waits
            slot.holder = place.slot = None
            self._call_next()
            raise
        return connection

    async def give(self, world: World, place: Place, connection: Any) -> None:
        slot = place.slot
        if slot is not None:
            if self._is_closed or not _is_reusable(connection):
                slot.connection = None
                await world.result(connection.close())
            slot.since = time.monotonic()
            slot.holder = place.slot = None
        self._call_next()
        await self._close_idle(world)

    async def close(self, world: World) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._is_closed = True
        for slot in self._slots:
            await self._empty(slot, world)

    def abandon(self) -> None:
        """Close what is there, where nobody can wait for it any more."""
        self._is_closed = True
        _end(self._slots, os.getpid())

    def _seated(self, place: Place) -> Slot | None:
        """A free slot for a place, if it is its turn."""
        with self._mutex:
            while self._queue and not self._queue[0].held.locked():
                self._queue.popleft()  # whoever stood there was interrupted
            if self._queue and self._queue[0] is not place:
                return None
            free = [slot for slot in self._slots if slot.is_free]
            if not free:
                return None
            slot = max(free, key=lambda one: (one.connection is not None, one.since))
            slot.holder, place.slot = place, slot
            if self._queue:
                self._queue.popleft()
            return slot

    async def _wait(self, place: Place) -> Slot:
        with self._mutex:
            self._queue.append(place)
        deadline = time.monotonic() + self._timeout
        try:
            while (slot := self._seated(place)) is None:
                if time.monotonic() > deadline:
                    raise DatabaseBusy(
                        f"all {len(self._slots)} connections to {self._address.name} stayed in use for "
                        f"{self._timeout:g} s; allow more with pool=, or wait longer with timeout="
                    )
                await place.wait(deadline - time.monotonic())
        finally:
            if place.slot is None:
                with self._mutex, suppress(ValueError):
                    self._queue.remove(place)
            self._call_next()
        return slot

    def _call_next(self) -> None:
        """Wake the first of those who wait; where there is nothing for it yet, it goes on waiting."""
        with suppress(IndexError):
            self._queue[0].call()

    async def _close_idle(self, world: World) -> None:
        """Let go of a connection that nobody needed for long."""
        late = time.monotonic() - IDLE
        idle = next((slot for slot in self._slots if slot.connection is not None and slot.since < late), None)
        if idle is not None:
            await self._empty(idle, world)

    async def _empty(self, slot: Slot, world: World) -> None:
        """Close the connection of a slot, unless somebody uses it."""
        place = Place()
        with place.held:
            with self._mutex:
                if not slot.is_free:
                    return
                slot.holder = place
            connection, slot.connection = slot.connection, None
            if connection is not None:
                await world.result(connection.close())


def _end(slots: list[Slot], process: int) -> None:
    """Close connections that nobody can use any more, of the process that opened them."""
    if os.getpid() != process:
        return
    for slot in slots:
        if slot.connection is not None:
            finish(slot.connection)


def finish(connection: Any) -> None:
    """Close a connection of either face, without a word more."""
    connection.pgconn.finish()


class Given:
    """A pool of somebody's own. Its connections' settings do not matter here, and stay as they are."""

    def __init__(self, address: Address, pool: AnyPool, timeout: float) -> None:
        self._address = address
        self._pool = pool
        self._timeout = timeout

    async def take(self, world: World, place: Place) -> Any:
        del place
        until = time.monotonic() + self._timeout
        while True:
            try:
                connection: Any = await world.result(self._pool.getconn(max(0.001, until - time.monotonic())))
            except PoolTimeout as error:
                raise await self._why_none(world) from error
            except PoolClosed as error:
                raise DatabaseError(f"the pool of connections to {self._address.name} is closed") from error
            if is_quiet(connection):
                break
            await world.result(connection.close())
            await world.result(self._pool.putconn(connection))
        encoding = connection.info.parameter_status("client_encoding")
        if encoding != "UTF8":
            await world.result(self._pool.putconn(connection))
            raise DatabaseError(
                f"the connections of the pool {self._pool.name!r} speak {encoding}, which cannot say every text; "
                "give it kwargs={'client_encoding': 'UTF8'}"
            )
        return connection

    async def give(self, world: World, place: Place, connection: Any) -> None:
        del place
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
    return (
        not connection.closed
        and connection.info.transaction_status == TransactionStatus.IDLE
        and connection.pgconn.pipeline_status == PipelineStatus.OFF
    )
