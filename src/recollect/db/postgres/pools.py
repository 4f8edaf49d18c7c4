"""The connections of a process to one server: for its threads, and for each of its event loops.

They open when they are first used, in the call that needs them, so that why one cannot be had is said at once. They
close with the database, with their loop, and before the process forks: a child that talked on its parent's connections
would spoil them. Nothing works in the background.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from psycopg_pool import AsyncConnectionPool

from recollect.db.postgres.address import Address, check_loop
from recollect.db.postgres.sources import AnyPool, Fresh, Given, Kept, Place, Source
from recollect.db.postgres.wire import Wire
from recollect.faces import LOOPS, THREADS
from recollect.port import World, drive

Loop = asyncio.AbstractEventLoop

CLOSING: Final = 5.0
"""Seconds that closing waits for an event loop in another thread."""


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
        self._of_loops: dict[Loop, tuple[Kept, AsyncGenerator[None, None]]] = {}

    @asynccontextmanager
    async def apart(self, world: World) -> AsyncIterator[Wire]:
        """A connection beside those that are kept; where somebody's own pool knows the way, one of that.

        Raises:
            DatabaseUnreachable: the server does not answer.
        """
        source = await self.source(world) if self._is_given(world) else Fresh(self.address)
        place = Place.of(world)
        with place.held:
            wire = self.wire(await source.take(world, place), world)
            try:
                yield wire
            finally:
                await source.give(world, place, wire.connection)

    def wire(self, connection: Any, world: World) -> Wire:
        """A connection that was taken, with what is known of how to speak to it."""
        return Wire(connection, world, prepares=self.address.prepares)

    def _is_given(self, world: World) -> bool:
        return self._own is not None and isinstance(self._own, AsyncConnectionPool) == world.waits

    async def source(self, world: World) -> Source:
        """Where connections come from in this face."""
        if self._own is not None and self._is_given(world):
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
            check_loop(loop)
            self._forget_closed_loops()
            kept = Kept(self.address, size, self._timeout)
            known = self._of_loops[loop] = (kept, self._with_loop(kept))
            await anext(known[1])
        return known[0]

    async def _with_loop(self, kept: Kept) -> AsyncGenerator[None, None]:
        """Close connections with their loop: whoever ends a loop ends the async generators that were begun in it.

        Others that end with it may have something left to store: then they open a connection once more.
        """
        try:
            yield
        finally:
            await kept.close(LOOPS)

    def _forget_closed_loops(self) -> None:
        """Forget loops that were closed, with what is still open there; nobody can wait in these any more."""
        for loop in [loop for loop in self._of_loops if loop.is_closed()]:
            kept, _ = self._of_loops.pop(loop)
            kept.abandon()

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
        kept.abandon()
    elif loop is here:
        _under_way.add(task := loop.create_task(close()))
        task.add_done_callback(_under_way.discard)
    elif loop.is_running():
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(close(), loop).result(CLOSING)
    elif here is None:
        loop.run_until_complete(close())


_under_way: set[asyncio.Task[None]] = set()
