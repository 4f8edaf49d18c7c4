"""The events of a run as they happen: iterators, and context managers that end the run when they are left.

The run begins with the first event. Leaving early (``close``, the end of a ``with`` block, a dropped iterator) stores
what was said until then, with status ``cancelled``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

from recollect.faces import driven
from recollect.run import RunEvent, RunOutput, RunOutputEvent


class Own:
    """Tells the events of the run itself, which is told of first, from those of runs that are part of it."""

    def __init__(self, *, every: bool) -> None:
        self._every = every
        self._run_id: str | None = None

    def wants(self, event: RunOutputEvent) -> bool:
        """Whether an event is told: any, or only those that carry text of the answer."""
        return self._every or (event.event is RunEvent.run_content and self._is_own(event))

    def run(self, event: RunOutputEvent) -> RunOutput | None:
        """The stored run, where the event carries it."""
        return event.run if self._is_own(event) else None

    def _is_own(self, event: RunOutputEvent) -> bool:
        self._run_id = self._run_id or event.run_id
        return event.run_id == self._run_id


class RunStream:
    """The events of a run, to be iterated over.

    Raises:
        RunFailed: the run ended without an answer; raised after ``RunError`` by the iterator.
    """

    run: RunOutput | None
    """The stored run, once the last event was given."""

    def __init__(self, events: AsyncGenerator[RunOutputEvent, None], *, every: bool) -> None:
        self._events = driven(events)
        self._own = Own(every=every)
        self.run = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RunOutputEvent:
        for event in self._events:
            self.run = self._own.run(event) or self.run
            if self._own.wants(event):
                return event
        raise StopIteration

    def close(self) -> None:
        """End the run here; what was said until now is stored."""
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRunStream:
    """The events of a run, to be iterated over with ``async for``.

    Raises:
        RunFailed: the run ended without an answer; raised after ``RunError`` by the iterator.
    """

    run: RunOutput | None
    """The stored run, once the last event was given."""

    def __init__(self, events: AsyncGenerator[RunOutputEvent, None], *, every: bool) -> None:
        self._events = events
        self._own = Own(every=every)
        self.run = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RunOutputEvent:
        async for event in self._events:
            self.run = self._own.run(event) or self.run
            if self._own.wants(event):
                return event
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the run here; what was said until now is stored."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
