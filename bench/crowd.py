"""Several processes that take turns in one session at once: what is lost, what is refused, who waits longest."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from bench.children import answers, started
from bench.floor import Floor
from bench.pace import Spread
from bench.table import Budget, Line
from bench.talk import session, turns
from recollect.db.sqlite import SqliteDb
from recollect.run import RunStatus

GROUP: Final = "Processes on one session, 160 turns in all; the floor waits with SQLite's own busy timeout"
PROCESSES: Final = (4, 8, 16)
TURNS: Final = 160
"""Of all processes together."""
BEFORE: Final = 10
"""Turns that the session has when they begin."""
NONE: Final = Budget(0, "median")


class Crowd(msgspec.Struct, frozen=True):
    """What came of one round."""

    waits: list[float]
    """Microseconds of each turn that was acknowledged."""
    refused: int
    lost: int
    """Turns that were acknowledged and are not there."""
    rate: float
    """Turns a second."""


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    durabilities: tuple[Literal["normal", "full"], ...] = ("normal", "full")
    for durability in durabilities:
        db = SqliteDb(folder / f"crowd-{durability}-ours.db", durability=durability)
        file = folder / f"crowd-{durability}-floor.db"
        raw = Floor(file, durability)
        raw.create()
        for processes in PROCESSES:
            ours, floor = [], []
            for number in range(1 if quick else 5 if processes == PROCESSES[0] else 2):
                ours.append(_ours(db, f"crowd-{processes}-{number}", durability, processes))
                floor.append(_floor(raw, file, f"crowd-{processes}-{number}", durability, processes))
            yield from _told(f"{durability}, {processes} processes", ours, floor)
        db.close()
        raw.close()


def _told(who: str, ours: list[Crowd], floor: list[Crowd]) -> Iterator[Line]:
    def told(what: str, asked: Callable[[Crowd], list[float]], unit: str, budget: Budget | None = None) -> Line:
        one, other = ([value for crowd in crowds for value in asked(crowd)] for crowds in (ours, floor))
        if budget is NONE:
            one, other = [sum(one)], [sum(other)]
        title = f"{who}: {what}"
        return Line(group=GROUP, what=title, ours=Spread.of(one), floor=Spread.of(other), unit=unit, budget=budget)

    yield told("turns lost, in all rounds", lambda crowd: [crowd.lost], "", NONE)
    yield told("turns refused, in all rounds", lambda crowd: [crowd.refused], "", NONE)
    yield told("turns a second", lambda crowd: [crowd.rate], "")
    yield told("a turn", lambda crowd: crowd.waits, "us")
    yield told("p99 of a round", lambda crowd: [statistics.quantiles(crowd.waits, n=100)[98]], "us")
    yield told("longest of a round", lambda crowd: [max(crowd.waits)], "us")


def _ours(db: SqliteDb, session_id: str, durability: str, processes: int) -> Crowd:
    db.upsert_session(session(session_id, turns(BEFORE)))
    assert db.db_file is not None
    took = _round("ours", db.db_file, session_id, durability, processes)
    kept = db.get_session(session_id)
    assert kept is not None
    whole = [run for run in kept.runs if run.status is RunStatus.completed and len(run.messages) == 2]
    assert [run.run_seq for run in kept.runs] == list(range(1, len(kept.runs) + 1))
    return _crowd(took, len(whole))


def _floor(raw: Floor, file: Path, session_id: str, durability: str, processes: int) -> Crowd:
    raw.fill(session_id, turns(BEFORE))
    took = _round("floor", file, session_id, durability, processes)
    runs, messages = raw.rows(session_id)
    assert len(messages) == 2 * len(runs)
    return _crowd(took, len(runs))


def _round(side: str, file: Path, session_id: str, durability: str, processes: int) -> list[list[float | None]]:
    each = str(TURNS // processes)
    with started(file.parent, processes, side, str(file), session_id, durability, each, "warm") as children:
        return answers(children)


def _crowd(took: list[list[float | None]], stored: int) -> Crowd:
    waits = [wait for one in took for wait in one if wait is not None]
    longest = max(sum(wait for wait in one if wait is not None) for one in took)
    return Crowd(
        waits=waits,
        refused=TURNS - len(waits),
        lost=BEFORE + len(took) + len(waits) - stored,  # each process takes a turn before it is ready
        rate=len(waits) / longest * 1e6,
    )
