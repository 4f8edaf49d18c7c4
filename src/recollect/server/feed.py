"""What changes in sessions, told to everybody who listens: one watch over a database, many streams.

A stream that reads too slowly, or that comes back after more than is remembered, is told ``reset``: read the list
anew. So memory is bounded, and nobody misses a change without knowing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec

from recollect.server.stream import framed
from recollect.server.underway import ended

log = logging.getLogger("recollect.server")

REMEMBERED: Final = 1000
"""Changes that are told again to whoever comes back."""

AGAIN: Final = 1.0
"""Seconds after which a watch that failed is begun again."""

CHANGED: Final = "session"
RESET: Final = "reset"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a session; what it now holds is to be read."""

    id: str
    """Where this change stands among all of them: what a client sends as ``Last-Event-ID``."""
    session_id: str
    user_id: str | None = None
    """Whose session it is."""
    version: int | None = None
    """The session's version after the change; None when it was deleted."""


class Feed(Protocol):
    """Tells of every change in a database, whichever process made it."""

    def watch(self) -> AsyncIterator[Change]:
        """Changes from now on, of all users."""


class Hub:
    """Tells those who listen what one feed says."""

    def __init__(self, feed: Feed, queue: int) -> None:
        self._feed = feed
        self._size = queue
        self._ears: set[_Ear] = set()
        self._past: deque[Change] = deque(maxlen=REMEMBERED)
        self._watching: asyncio.Task[None] | None = None

    async def events(
        self, *, user_id: str | None, session_id: str | None = None, last_id: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The changes of one user's sessions, or of one session, as server-sent events; of all where neither is said.

        ``last_id`` is the last change that the client knows.
        """
        ear = _Ear(self._size, user_id, session_id)
        self._start()
        self._greet(ear, last_id)
        self._ears.add(ear)
        try:
            while (told := await ear.queue.get()) is not None:
                yield told
        finally:
            self._ears.discard(ear)
            if not self._ears and self._watching is not None:
                watching, self._watching = self._watching, None
                await ended(watching)

    def close(self) -> None:
        """End every stream."""
        for ear in list(self._ears):
            ear.close()

    def _greet(self, ear: _Ear, last_id: str | None) -> None:
        """Tell a client that was away what it missed, or that this is no longer known."""
        ids = [change.id for change in self._past]
        if last_id is None:
            return
        if last_id not in ids:
            ear.reset()
            return
        for change in list(self._past)[ids.index(last_id) + 1 :]:
            ear.hear(change)

    def _start(self) -> None:
        if self._watching is None:
            self._past.clear()  # what happened while nobody watched is not known
            self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while True:
            try:
                changes: Any = self._feed.watch()
                async with aclosing(changes):
                    async for change in changes:
                        self._past.append(change)
                        for ear in list(self._ears):
                            ear.hear(change)
            except Exception:
                log.exception("the feed of changes failed; it is begun again")
            self._past.clear()
            for ear in list(self._ears):
                ear.reset()
            await asyncio.sleep(AGAIN)


class _Ear:
    """One who listens, and what still has to be told."""

    def __init__(self, size: int, user_id: str | None, session_id: str | None) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(size + 1)  # one more for the end
        self._size = size
        self._user_id = user_id
        self._session_id = session_id

    def hear(self, change: Change) -> None:
        if self._user_id not in (None, change.user_id) or self._session_id not in (None, change.session_id):
            return
        if self.queue.qsize() >= self._size:
            self.reset()
            return
        told = {"session_id": change.session_id, "version": change.version}
        self.queue.put_nowait(framed(CHANGED, told, change.id))

    def reset(self) -> None:
        """Forget what was to be told: the client is to read anew."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(framed(RESET, {}))

    def close(self) -> None:
        self.queue.put_nowait(None)
