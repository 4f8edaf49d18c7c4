"""A whole session of a thousand turns, read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.floor import Floor
from bench.pace import interleave
from bench.table import Line, line
from bench.talk import session, turns
from recollect.agent import Agent
from recollect.db.sqlite import SqliteDb
from recollect.message import Message
from recollect.models.echo import EchoModel
from recollect.session import AgentSession

GROUP: Final = "Full load of 1,000 turns"
LOAD: Final = 1.5
TURNS: Final = 1_000


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    rounds = 15 if quick else 60
    db, floor = SqliteDb(folder / "load-ours.db", durability="normal"), Floor(folder / "load-floor.db")
    agent = Agent(model=EchoModel(), db=db)
    said = turns(TURNS)
    db.upsert_session(session("load", said))
    floor.create()
    floor.fill("load", said)

    def got() -> AgentSession:
        found = agent.get_session("load")
        assert found is not None
        assert len(found.runs) == TURNS
        return found

    def messages() -> list[Message]:
        return got().get_messages()

    pairs = (
        ("get_session; the floor reads and decodes runs and messages", got, lambda: floor.load("load")),
        ("... and content of every message", lambda: [one.content for one in messages()], lambda: floor.load("load")),
        (
            "... and to_dict() of every message",
            lambda: [one.to_dict() for one in messages()],
            lambda: floor.load("load"),
        ),
        ("get_session; the floor reads the rows, neither decodes", got, lambda: floor.rows("load")),
    )
    for place, (what, ours, raw) in enumerate(pairs):
        yield line(GROUP, what, interleave(ours, raw, rounds), LOAD if place < 3 else None)
    floor.close()
    db.close()
