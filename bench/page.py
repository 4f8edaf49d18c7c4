"""A page of twenty sessions out of many, in every order and behind every filter, first and last."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from bench.floor import HEADER, Floor
from bench.pace import Calls, Spread, together
from bench.table import Budget, Line, line
from recollect.agent import Agent
from recollect.checks import micros
from recollect.db.sqlite import SqliteDb
from recollect.models.echo import EchoModel
from recollect.session import AgentSession, SessionHeader, TeamSession

GROUP: Final = "A page of 20 sessions among {count:,}; the raw query gives rows"
PAGE: Final = Budget(1_000, "median")
EQUAL: Final = Budget(1.25, "median")
"""How far apart the pages may be, each against its own floor: noise."""
SIZE: Final = 20
Sort = Literal["updated_at", "created_at"]
SORTS: Final[tuple[Sort, ...]] = ("updated_at", "created_at")
FILTERS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"user_id": "user-7"},
    {"agent_id": "agent-2"},
    {"team_id": "team-1"},
    {"kind": "agent"},
)


class Place(NamedTuple):
    """Where a page begins: after nothing, or after a session."""

    name: str
    cursor: str | None = None
    after: tuple[int, str] | None = None


def lines(folder: Path, *, quick: bool, count: int = 10_000) -> Iterator[Line]:
    agent, floor = sides(folder, count)
    pages = {
        f"by {next(iter(wanted), 'nothing')}, newest {sort.removesuffix('_at')}, {place.name}": page(
            agent, floor, wanted, sort, place
        )
        for wanted in FILTERS
        for sort in SORTS
        for place in (Place("first page"), _last(agent, wanted, sort))
    }
    pairs = together(list(pages.values()), 50 if quick else 300)
    for what, pair in zip(pages, pairs, strict=True):
        yield line(GROUP.format(count=count), what, pair, PAGE)
    ratios = [pair.ratio for what, pair in zip(pages, pairs, strict=True) if "by nothing" not in what]
    spread = Spread.of([max(ratios) / min(ratios)])
    what = "by user, agent, team or kind: the largest ratio over the smallest"
    yield Line(group=GROUP.format(count=count), what=what, ours=spread, unit="x", budget=EQUAL)
    floor.close()
    agent.close()


def sides(folder: Path, count: int) -> tuple[Agent, Floor]:
    """The same sessions in Recollect and in the floor."""
    file = folder / f"page-{count}-ours.db"
    agent = Agent(model=EchoModel(), db=SqliteDb(file, durability="normal"))
    asyncio.run(_fill(agent.db, count))
    return agent, _copied(folder / f"page-{count}-floor.db", file)


def page(agent: Agent, floor: Floor, wanted: dict[str, str], sort: Sort, place: Place) -> Calls:
    """The page, and the raw query for the same rows."""
    given: dict[str, Any] = {**wanted, "sort": sort, "cursor": place.cursor}
    conditions = [f"{column} = ?" for column in wanted] + [f"({sort}, session_id) < (?, ?)"] * bool(place.after)
    where = f"where {' and '.join(conditions)}" if conditions else ""
    query = f"select {HEADER} from sessions {where} order by {sort} desc, session_id desc limit {SIZE}"
    values = (*wanted.values(), *(place.after or ()))
    ids = [header.session_id for header in agent.get_sessions(**given)]
    assert len(ids) == SIZE
    assert ids == [row[0] for row in floor.execute(query, values)]
    return lambda: agent.get_sessions(**given), lambda: floor.execute(query, values).fetchall()


def _last(agent: Agent, wanted: dict[str, str], sort: Sort) -> Place:
    """The page of the last twenty sessions."""
    given: dict[str, Any] = {**wanted, "sort": sort}
    cursor = None
    while True:
        page = agent.get_sessions(**given, limit=1_000, cursor=cursor)
        ahead = agent.get_sessions(**given, limit=SIZE, cursor=page.next_cursor) if page.next_cursor else None
        if ahead is None or len(ahead) < SIZE:
            break
        cursor = page.next_cursor
    rest = len(page) - SIZE + (0 if ahead is None else len(ahead))
    before = agent.get_sessions(**given, limit=rest, cursor=cursor)
    header = before[rest - 1]
    return Place("last page", before.next_cursor, (_moment(header, sort), header.session_id))


def _moment(header: SessionHeader, sort: Sort) -> int:
    moment = getattr(header, sort)
    return micros(moment)


async def _fill(db: Any, count: int) -> None:
    """Sessions of 20 users, 4 agents and 2 teams, made over a year and active in another order."""
    chance, began = random.Random(3), datetime(2026, 1, 1, tzinfo=UTC)
    for start in range(0, count, 100):
        await asyncio.gather(
            *(
                db.aupsert_session(_session(f"session-{number:07}", chance, began))
                for number in range(start, min(start + 100, count))
            )
        )


def _session(session_id: str, chance: random.Random, began: datetime) -> AgentSession:
    created = began + timedelta(seconds=chance.randrange(30_000_000))
    given: dict[str, Any] = {
        "user_id": f"user-{chance.randrange(20)}",
        "session_data": {"session_name": f"Order {chance.randrange(1_000_000)} and what came of it"},
        "created_at": created,
        "updated_at": created + timedelta(seconds=chance.randrange(5_000_000)),
    }
    if chance.random() < 0.25:
        return TeamSession(session_id, team_id=f"team-{chance.randrange(2)}", **given)
    return AgentSession(session_id, agent_id=f"agent-{chance.randrange(4)}", **given)


def _copied(file: Path, source: Path) -> Floor:
    floor = Floor(file)
    floor.create()
    with sqlite3.connect(source) as other:
        rows = other.execute(f"select {HEADER} from recollect_sessions")
        columns = ("", "user_id, ", "agent_id, ", "team_id, ", "kind, ")
        floor.list_sessions(rows, (f"{column}{sort}, session_id" for column in columns for sort in SORTS))
    other.close()
    return floor
