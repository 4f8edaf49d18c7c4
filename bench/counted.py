"""The calls that the guard looks at, and the process in which their instructions are counted.

``python -m bench.counted FOLDER ROUNDS``, under ``valgrind --tool=callgrind --dump-before=getppid``: before and after
the calls of each case the parent's id is asked for, which nothing else here does, and callgrind writes down what it
has counted since the last time. So a case is what stands between two marks, whatever it took to start and to fill.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench import page
from bench.floor import Floor
from bench.pace import WARM, Calls
from bench.talk import session, turns
from bench.turn import Place, Sides
from recollect.agent import Agent
from recollect.cache import SessionCache
from recollect.db.sqlite import SqliteDb
from recollect.models.echo import EchoModel

TURNS: Final = 500
"""Turns of the session that is read: what is counted takes fifty times as long as what is timed."""

SESSIONS: Final = 300


class Case(NamedTuple):
    """Something that is called often."""

    what: str
    calls: Calls
    rounds: int = 1
    """How often it is called for each round that was asked for: what is short is called more often."""


def cases(folder: Path) -> Iterator[Case]:
    """Each is ready to be called when it is given."""
    yield from _turns(folder)
    yield from _reads(folder)
    agent, floor = page.sides(folder, SESSIONS)
    pages = page.page(agent, floor, {"agent_id": "agent-2"}, "updated_at", page.Place("first page"))
    yield Case("a page of 20 sessions", pages, 4)
    floor.close()
    agent.close()


def _turns(folder: Path) -> Iterator[Case]:
    place = Place(100, ["100-0"])
    sides = Sides(folder, "normal", [place])
    yield Case("begin_run + finish_run, turn 100", sides.store(place), 4)
    yield Case("run(), turn 100; the past is decoded", sides.whole(place, decoding=True), 4)
    yield Case("append_messages of one message", sides.step("100-0"), 4)
    sides.close()


def _reads(folder: Path) -> Iterator[Case]:
    db, floor = SqliteDb(folder / "reads-ours.db", durability="normal"), Floor(folder / "reads-floor.db")
    said = turns(TURNS)
    db.upsert_session(session("read", said))
    floor.create()
    floor.fill("read", said)
    agent = Agent(EchoModel(), db=db, session_id="read")
    cached = SessionCache().over(db)
    cacher = Agent(EchoModel(), db=db, session_id="read", cache_session=cached.cache)

    def every() -> list[object]:
        found = agent.get_session()
        assert found is not None
        return [message.content for message in found.get_messages()]

    calls: dict[str, tuple[int, Callable[[], object], Callable[[], object]]] = {
        "cached get_session of the store": (20, lambda: cached.get_session("read"), lambda: floor.version("read")),
        "cached get_session of the agent": (20, cacher.get_session, lambda: floor.version("read")),
        "the last three runs": (4, lambda: agent.get_session_messages(last_n_runs=3), lambda: floor.last("read", 3)),
        "the newest twenty messages": (4, lambda: agent.get_session_messages(limit=20), lambda: floor.last("read", 10)),
        "get_session": (1, agent.get_session, lambda: floor.load("read")),
        "get_session and content of every message": (1, every, lambda: floor.load("read")),
    }
    for what, (rounds, ours, raw) in calls.items():
        yield Case(what, (ours, raw), rounds)
    floor.close()
    db.close()


def main(folder: str, rounds: str) -> None:
    for case in cases(Path(folder)):
        ours, _ = case.calls
        for _ in range(WARM):
            ours()
        times = int(rounds) * case.rounds
        gc.collect()
        gc.freeze()
        os.getppid()
        for _ in range(times):
            ours()
        os.getppid()
        gc.unfreeze()
        print(times, case.what, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
