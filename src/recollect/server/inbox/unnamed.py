"""Sessions without a name: how many there are, what naming them would take, and the naming as it goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

import msgspec

from recollect.batch import BatchReport, Estimate, Progress
from recollect.errors import RecollectError
from recollect.runner import Runner

log = logging.getLogger("recollect.server")

FRESH: Final = 30.0
"""Seconds for which an estimate is shown again."""


class Work(msgspec.Struct):
    """A batch under way, or done."""

    progress: Progress
    task: asyncio.Task[None] | None = None
    report: BatchReport | None = None
    error: str = ""

    @property
    def is_over(self) -> bool:
        return self.report is not None or bool(self.error)


Whose = tuple[str, str | None]
"""A database, and the user in whose sessions it is worked; None: in everybody's."""


class Unnamed:
    """Estimates and batches by whose sessions they are about, in the memory of this process."""

    def __init__(self) -> None:
        self._estimates: dict[Whose, tuple[float, Estimate]] = {}
        self._works: dict[Whose, Work] = {}

    async def estimate(self, whose: Whose, runner: Runner) -> Estimate:
        """How many sessions have no name, and about how many tokens naming them takes."""
        at, known = self._estimates.get(whose, (0.0, None))
        if known is not None and time.monotonic() - at < FRESH:
            return known
        made = await runner.aestimate_names(user_id=whose[1])
        now = time.monotonic()
        self._estimates = {one: known for one, known in self._estimates.items() if now - known[0] < FRESH}
        self._estimates[whose] = (now, made)
        return made

    def work(self, whose: Whose) -> Work | None:
        """The batch that is under way, or was just done."""
        return self._works.get(whose)

    def begin(self, whose: Whose, runner: Runner) -> Work:
        """Have all of these sessions named, unless that is under way."""
        work = self._works.get(whose)
        if work is None or work.is_over:
            work = self._works[whose] = Work(Progress(0))
            work.task = asyncio.ensure_future(self._name(whose, runner, work))
        return work

    def forget(self, whose: Whose) -> None:
        """Let go of a batch that is over, once that was told."""
        work = self._works.get(whose)
        if work is not None and work.is_over:
            del self._works[whose]

    async def close(self) -> None:
        """Begin no more; what is under way is finished."""
        works = [*self._works.values()]
        for work in works:
            work.progress.stop("the server ends")
        await asyncio.gather(*(work.task for work in works if work.task is not None), return_exceptions=True)

    async def _name(self, whose: Whose, runner: Runner, work: Work) -> None:
        def told(progress: Progress) -> None:
            work.progress = progress

        try:
            work.report = await runner.aname_sessions(user_id=whose[1], on_progress=told)
        except RecollectError as error:
            log.warning("naming sessions ended: %s", error)
            work.error = str(error)
        finally:
            self._estimates.pop(whose, None)
