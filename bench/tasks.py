"""Many tasks of one event loop that append at the same time, and share commits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Final, Literal

from bench.floor import Floor
from bench.pace import Pair, Spread
from bench.table import Line, line
from bench.talk import turns
from recollect.db.sqlite import SqliteDb
from recollect.message import Message
from recollect.store import OpenRun

GROUP: Final = "aappend_messages of tasks at once, a session each; the floor commits all of a round together"
TASKS: Final = (1, 4, 16, 64)
DURABILITIES: Final[tuple[Literal["normal", "full"], ...]] = ("normal", "full")
EACH: Final = 4
"""Appends of a task in one sample."""


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    rounds = 6 if quick else 30
    for durability in DURABILITIES:
        sides = Sides(folder, durability)
        pairs = asyncio.run(sides.measure(rounds))
        for tasks, pair in zip(TASKS, pairs, strict=True):
            yield line(GROUP, f"{durability}, {tasks} tasks, an append", pair)
        yield line(GROUP, f"{durability}, {TASKS[-1]} tasks over one", Pair(pairs[-1].ours, pairs[0].ours))
        sides.close()


class Sides:
    """Runs under way, in a session each, in Recollect and in the floor."""

    def __init__(self, folder: Path, durability: Literal["normal", "full"]) -> None:
        self.db = SqliteDb(folder / f"tasks-{durability}-ours.db", durability=durability)
        self.floor = Floor(folder / f"tasks-{durability}-floor.db", durability)
        self.floor.create()
        self.answer = turns(1)[0].answer
        self.place = count(1)
        self.runs = []
        for number in range(TASKS[-1]):
            session_id = f"tasks-{number}"
            self.floor.fill(session_id, [])
            self.floor.begin(session_id, "?")
            self.runs.append(self.db.begin_run(session_id, [Message("user", "?")], agent_id="agent", model="echo"))

    async def measure(self, rounds: int) -> list[Pair]:
        """Each number of tasks in turns with its floor."""
        took: list[tuple[list[float], list[float]]] = [([], []) for _ in TASKS]
        for _ in range(rounds):
            for tasks, (ours, floor) in zip(TASKS, took, strict=True):
                ours.append(await self._ours(tasks))
                floor.append(self._floor(tasks))
        return [Pair(Spread.of(ours), Spread.of(floor)) for ours, floor in took]

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
