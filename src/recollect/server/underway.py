"""The runs that this process serves, and their end when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec

from recollect.errors import RecollectError
from recollect.run import RunOutputEvent
from recollect.runner import Runner
from recollect.server.problem import Refused

T = TypeVar("T")

log = logging.getLogger("recollect.server")

LAST: Final = 5.0
"""Seconds that runs have to store what was said, once they were asked to end."""


class Serving(msgspec.Struct, frozen=True, eq=False):
    """Who answers in a run, and whom."""

    runner: Runner
    user_id: str | None
    is_streamed: bool = False
    """Whether a client is told of it as it happens."""


class UnderWay:
    """Runs and streams under way, and the task that works on each."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], tuple[Serving, RunOutputEvent] | None] = {}
        self.is_ending = False

    def __len__(self) -> int:
        return len(self._tasks)

    def admit(self) -> None:
        """Let somebody begin what takes its time.

        Raises:
            Refused: the server is about to end.
        """
        if self.is_ending:
            raise Refused(503, "ending", "the server is about to end; ask again", {"Retry-After": "1"})

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Work that is known of until it has ended."""
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def serves(self, serving: Serving, first: RunOutputEvent) -> None:
        """Say which run the task that calls this works on, by the first event of it."""
        task = asyncio.current_task()
        if task in self._tasks:
            self._tasks[task] = (serving, first)

    def session_of(self, run_id: str, user_id: str | None) -> str | None:
        """The session of a run that is told of here, for a caller who may reach it."""
        for serving, run in filter(None, self._tasks.values()):
            if run.run_id == run_id and user_id in (None, serving.user_id):
                return run.session_id
        return None

    def streamed(self) -> frozenset[str]:
        """The runs that clients are told of as they happen."""
        return frozenset(run.run_id for serving, run in filter(None, self._tasks.values()) if serving.is_streamed)

    async def end(self, grace: float) -> None:
        """Let runs end by themselves for so long; then ask them to, and last, cut them off.

        One that is asked to end stores what was said until then, with status ``cancelled``.
        """
        self.is_ending = True
        if await self._wait(grace):
            return
        await asyncio.gather(*(_ask(*run) for run in self._tasks.values() if run is not None))
        if await self._wait(LAST):
            return
        tasks = list(self._tasks)
        log.warning("%d requests are cut off", len(tasks))
        for task in tasks:
            task.cancel()
        await self._wait(LAST)

    async def _wait(self, seconds: float) -> bool:
        """Whether all has ended within so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        return not self._tasks

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # looked at: whoever waits for it may be gone


async def _ask(serving: Serving, run: RunOutputEvent) -> None:
    try:
        await serving.runner.acancel_run(run.run_id, run.session_id, user_id=serving.user_id)
    except RecollectError as error:
        log.warning("run %s could not be asked to end: %s", run.run_id, error)


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended, whatever came of it."""
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):  # whoever waits for what came of it has it
        await task
