"""Many tasks of one event loop that append at the same time, and share commits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Final

from bench.floor import Floor
from bench.pace import Pair, Spread
from bench.table import Line, line
from bench.talk import turns
from recollect.db.sqlite import SqliteDb
from recollect.message import Message
from recollect.store import OpenRun

GROUP: Final = "aappend_messages, full, for each append; the floor is hand-written SQL in as many commits as it needs"
TASKS: Final = 64
EACH: Final = 4
"""Appends of a task in one sample."""


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    rounds = 6 if quick else 30
    sides = Sides(folder)
    alone, together = asyncio.run(sides.measure(rounds))
    yield line(GROUP, "one task; the floor commits each", alone)
    yield line(GROUP, f"{TASKS} tasks at once; the floor commits {TASKS} together", together)
    yield line(GROUP, f"{TASKS} tasks at once over one task", Pair(together.ours, alone.ours))
    sides.close()


class Sides:
    """Sixty-four runs under way, in a session each, in Recollect and in the floor."""

    def __init__(self, folder: Path) -> None:
        self.db = SqliteDb(folder / "tasks-ours.db")
        self.floor = Floor(folder / "tasks-floor.db", "full")
        self.floor.create()
        self.answer = turns(1)[0].answer
        self.place = count(1)
        self.runs = []
        for number in range(TASKS):
            session_id = f"tasks-{number}"
            self.floor.fill(session_id, [])
            self.floor.begin(session_id, "?")
            self.runs.append(self.db.begin_run(session_id, [Message("user", "?")], agent_id="agent", model="echo"))

    async def measure(self, rounds: int) -> tuple[Pair, Pair]:
        """One task, then all, each in turns with its floor."""
        took: tuple[list[float], ...] = ([], [], [], [])
        for _ in range(rounds):
            took[0].append(await self._ours(1))
            took[1].append(self._floor(1))
            took[2].append(await self._ours(TASKS))
            took[3].append(self._floor(TASKS))
        alone, floor_alone, together, floor_together = map(Spread.of, took)
        return Pair(alone, floor_alone), Pair(together, floor_together)

    def close(self) -> None:
        self.db.close()
        self.floor.close()

    async def _ours(self, tasks: int) -> float:
        began = perf_counter()
        await asyncio.gather(*(self._appends(run) for run in self.runs[:tasks]))
        return (perf_counter() - began) * 1e6 / (tasks * EACH)

    async def _appends(self, run: OpenRun) -> None:
        for _ in range(EACH):
            await self.db.aappend_messages(run, (Message("assistant", self.answer),))

    def _floor(self, together: int) -> float:
        began = perf_counter()
        for _ in range(EACH):
            place = next(self.place)
            self.floor.execute("begin immediate")
            for number in range(together):
                self.floor.step(f"tasks-{number}", 1, place, self.answer)
            self.floor.execute("commit")
        return (perf_counter() - began) * 1e6 / (together * EACH)
