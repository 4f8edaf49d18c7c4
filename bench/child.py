"""A process that takes turns in a session, with Recollect or with the floor, and tells how long each took.

``python -m bench.child ours|floor FILE SESSION DURABILITY TURNS cold|warm``. It prints a line when it is ready, waits
for one, takes the turns, and prints microseconds a turn as one line of JSON; a turn that was refused is null. With
``cold`` the clock of the first turn starts before the file is opened.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec

from bench.floor import Floor, decoded
from bench.talk import Reader, Said, turns
from recollect.agent import Agent
from recollect.db.sqlite import SqliteDb
from recollect.errors import DatabaseError

Turn = Callable[[Said], object]


def ours(file: Path, session_id: str, durability: str) -> Turn:
    model = Reader("")
    agent = Agent(model=model, db=SqliteDb(file, durability="full" if durability == "full" else "normal"))

    def turn(said: Said) -> None:
        model.reply = said.answer
        agent.run(said.question, session_id=session_id)

    return turn


def floor(file: Path, session_id: str, durability: str) -> Turn:
    opened = Floor(file, durability)
    return lambda said: decoded(opened.turn(session_id, said))


def take(turn: Turn, said: Said, began: float) -> float | None:
    """Microseconds since the beginning; None when the database refused."""
    try:
        turn(said)
    except (DatabaseError, sqlite3.OperationalError):
        return None
    return (perf_counter() - began) * 1e6


def main(side: str, file: str, session_id: str, durability: str, count: str, start: str) -> None:
    opening = ours if side == "ours" else floor
    said = turns(int(count) + 1, seed=2)
    turn = opening(Path(file), session_id, durability) if start == "warm" else None
    if turn is not None:
        turn(said.pop())
    print("ready", flush=True)
    sys.stdin.readline()
    took = []
    for one in said[: int(count)]:
        began = perf_counter()
        turn = turn or opening(Path(file), session_id, durability)
        took.append(take(turn, one, began))
    print(msgspec.json.encode(took).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
