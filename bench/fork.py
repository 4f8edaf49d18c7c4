"""A session of a thousand turns, forked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from bench.floor import Floor
from bench.pace import interleave
from bench.table import Line, line
from bench.talk import session, turns
from recollect.db.sqlite import SqliteDb
from recollect.store import Store

GROUP: Final = "A fork of 1,000 turns; the floor copies the rows by hand, without what finds them"
FORK: Final = 3.0
TURNS: Final = 1_000


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    db, floor = SqliteDb(folder / "fork-ours.db", durability="normal"), Floor(folder / "fork-floor.db")
    floor.create()
    said = turns(TURNS)
    db.upsert_session(session("s", said))
    floor.fill("s", said)
    yield from forks(db, floor.fork, GROUP, rounds=10 if quick else 40)
    floor.close()
    db.close()


def forks(db: Store, floor: Callable[[str, str], None], group: str, *, rounds: int) -> Iterator[Line]:
    """A fork of all of the session ``s``, and of half of it."""
    numbers = count()
    half = list(session("s", turns(TURNS)).runs)[TURNS // 2 - 1].run_id
    whole = interleave(lambda: db.fork_session("s"), lambda: floor("s", f"floor-{next(numbers)}"), rounds)
    yield line(group, "fork_session", whole, FORK)
    part = interleave(lambda: db.fork_session("s", at_run=half), lambda: floor("s", f"floor-{next(numbers)}"), rounds)
    yield line(group, "fork_session(at_run=) of the half; the floor copies all", part, FORK)
