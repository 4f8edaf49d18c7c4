"""Sessions read from the cache: nothing new, one new turn, and what a copy takes in memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.floor import Floor
from bench.pace import Pair, Spread, clock, interleave, together
from bench.table import Budget, Line, line
from bench.talk import session, turns
from recollect.agent import Agent
from recollect.cache import SessionCache
from recollect.db.sqlite import SqliteDb
from recollect.message import Message
from recollect.models.echo import EchoModel
from recollect.store import Store

GROUP: Final = "A session of 1,000 turns with cache_session; the floor is said in each line"
TURNS: Final = 1_000
UNCHANGED: Final = Budget(10.0, "median")
REPEATS: Final = 200
"""Reads in one sample: one alone is too short for the clock."""

Call = Callable[[], object]


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    rounds = 15 if quick else 60
    db, floor = SqliteDb(folder / "cache-ours.db", durability="normal"), Floor(folder / "cache-floor.db")
    said = turns(TURNS)
    for session_id in ("cached", "talk", "plain"):
        db.upsert_session(session(session_id, said))
    floor.create()
    floor.fill("cached", said)
    cached = SessionCache().over(db)
    agent = Agent(EchoModel(), db=db, session_id="cached", cache_session=cached.cache)
    agent.get_session()

    reads: tuple[tuple[str, Call], ...] = (
        ("get_session of the store", lambda: cached.get_session("cached")),
        ("agent.get_session", agent.get_session),
    )
    for what, read in reads:
        pair = interleave(_often(read), _often(lambda: floor.version("cached")), rounds)
        each = Pair(_each(pair.ours), _each(pair.floor))
        yield line(GROUP, f"{what}, unchanged; the floor selects epoch and version by primary key", each, UNCHANGED)
    after = "get_session after one foreign turn; the floor is get_session without a cache"
    yield line(GROUP, after, _after(db, cached, rounds))
    yield line(GROUP, "run(); the floor is run() without a cache", _turn(db, rounds))
    yield from _memory(db)
    floor.close()
    db.close()


def _often(call: Call) -> Call:
    def repeated() -> None:
        for _ in range(REPEATS):
            call()

    return repeated


def _each(spread: Spread) -> Spread:
    return Spread(spread.median / REPEATS, spread.low / REPEATS, spread.high / REPEATS, spread.count)


def _after(db: SqliteDb, cached: Store, rounds: int) -> Pair:
    """One more turn by somebody else before each read; the copy is caught up with that one run."""
    ours, floor = [], []
    for number in range(rounds):
        run = db.begin_run("cached", [Message("user", f"Foreign {number}")])
        db.finish_run(run, [Message("assistant", "Yes")])
        ours.append(clock(lambda: cached.get_session("cached")))
        floor.append(clock(lambda: db.get_session("cached")))
    return Pair(Spread.of(ours), Spread.of(floor))


def _turn(db: SqliteDb, rounds: int) -> Pair:
    one = Agent(EchoModel(reply="Yes"), db=db, session_id="talk", cache_session=SessionCache())
    other = Agent(EchoModel(reply="Yes"), db=db, session_id="plain")
    [pair] = together([(lambda: one.run("Hi"), lambda: other.run("Hi"))], 4 * rounds)
    return pair


def _memory(db: SqliteDb) -> Iterator[Line]:
    """What a copy holds, all of it looked at; the floor is the JSON of its messages."""
    cache = SessionCache()
    cached = cache.over(db)
    json = sum(len(message.to_json()) for message in db.get_messages("talk"))
    gc.collect()
    tracemalloc.start()
    read = cached.get_session("talk")
    assert read is not None
    runs = [run.content for run in read.runs]
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    per = 1000 / len(runs)
    what = "memory held for 1,000 turns, all looked at; the floor is their JSON"
    yield Line(group=GROUP, what=what, ours=Spread.of([held * per]), floor=Spread.of([json * per]), unit="bytes")
    told = cache.stats().bytes * per
    yield Line(group=GROUP, what="... as cache.stats() tells it", ours=Spread.of([told]), unit="bytes")
