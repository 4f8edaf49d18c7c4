"""The first turn of a fresh process: opening the file and one run in a session that has a past."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.children import answers, started
from bench.floor import Floor
from bench.pace import Pair, Spread
from bench.table import Line, line
from bench.talk import session, turns
from recollect.db.sqlite import SqliteDb

GROUP: Final = "A turn, in a fresh process: opening the file and the first run(), imports apart"
RUN: Final = 4.0


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    rounds = 5 if quick else 15
    ours, floor = folder / "cold-ours.db", folder / "cold-floor.db"
    places = (10, 1_000, 10_000)
    db, raw = SqliteDb(ours, durability="normal"), Floor(floor)
    raw.create()
    for turn in places:
        said = turns(turn - 1)
        db.upsert_session(session(f"cold-{turn}", said))
        raw.fill(f"cold-{turn}", said)
    db.close()
    raw.close()
    _first("ours", ours, "cold-10")  # compiles what was not compiled yet
    for turn in places:
        samples: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            samples[0].append(_first("ours", ours, f"cold-{turn}"))
            samples[1].append(_first("floor", floor, f"cold-{turn}"))
        pair = Pair(Spread.of(samples[0]), Spread.of(samples[1]))
        yield line(GROUP, f"run(), normal, turn {turn:,}; both decode the past", pair, RUN)


def _first(side: str, file: Path, session_id: str) -> float:
    with started(file.parent, 1, side, str(file), session_id, "normal", "1", "cold") as children:
        [[took]] = answers(children)
    return float(took)
