"""The newest runs of a long session, also behind thousands of runs of team members."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.floor import Floor
from bench.pace import Pair, interleave
from bench.table import Line, line
from bench.talk import session, turns
from recollect.agent import Agent
from recollect.db.sqlite import SqliteDb
from recollect.models.echo import EchoModel

GROUP: Final = "The last three runs: agent.get_session_messages(last_n_runs=3) and the raw query; neither decodes"
NEWEST: Final = "The newest twenty messages: agent.get_session_messages(limit=20) and the raw query; neither decodes"
LAST: Final = 5.0
MEMBERS: Final = 5_000


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    rounds = 200 if quick else 1_000
    db, floor = SqliteDb(folder / "last-ours.db", durability="normal"), Floor(folder / "last-floor.db")
    agent = Agent(model=EchoModel(), db=db)
    floor.create()
    places = {
        "10": (10, 0),
        "1,000": (1_000, 0),
        "10,000": (10_000, 0),
        f"1,000 behind {MEMBERS:,} member runs": (1_000, MEMBERS),
    }
    for name, (count, members) in places.items():
        said = turns(count)
        db.upsert_session(session(name, said, members=members))
        floor.fill(name, said)
    for name in places:
        yield line(GROUP, f"of {name}", _newest(agent, floor, name, rounds, {"last_n_runs": 3}, 6), LAST)
    for name in places:
        yield line(NEWEST, f"of {name}", _newest(agent, floor, name, rounds // 4, {"limit": 20}, 20))
    floor.close()
    db.close()


def _newest(agent: Agent, floor: Floor, name: str, rounds: int, asked: dict[str, Any], count: int) -> Pair:
    """The floor knows that a turn is two messages; in its file there are no runs of members."""
    assert len(agent.get_session_messages(name, **asked)) == len(floor.last(name, count // 2)) == count
    return interleave(lambda: agent.get_session_messages(name, **asked), lambda: floor.last(name, count // 2), rounds)
