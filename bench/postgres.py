"""Postgres: what a turn and a read cost beside the same round trips by hand; many tasks at once; claims; long lists.

The server is the tests' own, or the one that ``RECOLLECT_TEST_POSTGRES`` names. The tests' own does not wait for the
disk: what is measured is work, and the ratio is the less flattering one.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import count, cycle
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from psycopg import AsyncConnection

from bench import postgres_floor
from bench.fork import forks
from bench.pace import Pair, Spread, interleave, together
from bench.page import FILTERS, PAGE, SIZE, SORTS, Place, _last
from bench.postgres_floor import PostgresFloor, asend
from bench.table import Budget, Line, line
from bench.talk import RUN_METRICS, session, turns
from recollect.agent import Agent
from recollect.cache import SessionCache
from recollect.copying import copy_sessions
from recollect.db.postgres import PostgresDb
from recollect.db.sqlite import SqliteDb
from recollect.history import HistoryLimits
from recollect.message import Message
from recollect.models.echo import EchoModel
from recollect.selection import Filter
from recollect.store.claims import Wanted, claim_next
from recollect.store.turns import new_token

TURN: Final = "Postgres: the same round trips by hand"
FORKS: Final = "Postgres: a fork of 1,000 turns; the floor copies the rows by hand, without what finds them"
COPIES: Final = "Postgres: recollect copy of sessions of ten turns, read back and compared"
TASKS: Final = "Postgres: a turn of one of many tasks, a session each, on eight connections"
CLAIMS: Final = "Postgres: claims of four sessions; the floor is eight workers that never meet"
WANTED: Final = Wanted(due="unnamed")
RATIO: Final = 1.5
FLAT: Final = Budget(1.25, "median")
PLACES: Final = (10, 100, 1_000, 10_000)
CONNECTIONS: Final = 8


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    with _server().postgres_url() as url:
        rounds = 60 if quick else 400
        sides = Sides(url)
        yield from sides.turns(rounds)
        yield from sides.reads(rounds)
        sides.close()
        yield from _tasks(url, 4 if quick else 20)
    with _server().postgres_url() as url:
        yield from _forks(url, quick=quick)
    with _server().postgres_url() as url:
        yield from _claims(url, quick=quick)
    with _server().postgres_url() as url:
        yield from _copies(folder, url, quick=quick)


class Sides:
    """The same sessions in Recollect and in the floor."""

    def __init__(self, url: str) -> None:
        self.db = PostgresDb(url)
        self.floor = PostgresFloor(url)
        self.floor.create()
        for place in PLACES:
            for session_id in _ids(place):
                said = turns(place - 1)
                self.db.upsert_session(session(session_id, said))
                self.floor.fill(session_id, said)
        self.floor.connection.execute("vacuum analyze")

    def turns(self, rounds: int) -> Iterator[Line]:
        pairs = together([self._store(place) for place in PLACES], rounds)
        for place, pair in zip(PLACES, pairs, strict=True):
            yield line(TURN, f"begin_run + finish_run, turn {place:,}; neither decodes", pair, RATIO)
        flat = Spread.of([pairs[-1].ours.median / pairs[1].ours.median])
        yield Line(
            group=TURN, what="begin_run + finish_run, turn 10,000 over turn 100", ours=flat, unit="x", budget=FLAT
        )
        yield line(TURN, "append_messages of one message", self._step(rounds), RATIO)
        yield line(TURN, "Agent.run(), turn 1,000; neither decodes", interleave(*self._whole(), rounds))
        yield line(
            TURN, "Agent.run(), turn 1,000, cached; the floor reads the past", interleave(*self._cached(), rounds)
        )

    def reads(self, rounds: int) -> Iterator[Line]:
        db, floor, wanted = self.db, self.floor, Filter(last_n_runs=3)
        things: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "get_header": (lambda: db.get_header("1000-0"), lambda: floor.header("1000-0")),
            "last 3 runs of 1,000": (lambda: db.get_messages("1000-0", wanted), lambda: floor.last("1000-0", 3)),
            "get_session of 1,000 turns": (lambda: db.get_session("1000-0"), lambda: floor.rows("1000-0")),
        }
        for what, (ours, hand) in things.items():  # each apart: what comes after a whole session is slower for it
            yield line(TURN, f"{what}; neither decodes", interleave(ours, hand, rounds), RATIO)

    def _store(self, place: int) -> tuple[Callable[[], object], Callable[[], object]]:
        one, other, limits = cycle(_ids(place)), cycle(_ids(place)), HistoryLimits()
        said, same = cycle(turns(500, seed=1)), cycle(turns(500, seed=1))

        def ours() -> None:
            question, answer = next(said)
            asked = (Message("user", question),)
            run = self.db.begin_run(next(one), asked, agent_id="agent", model="echo", history=limits)
            self.db.finish_run(run, (Message("assistant", answer),), metrics=RUN_METRICS)

        return ours, lambda: self.floor.turn(next(other), next(same))

    def _step(self, rounds: int) -> Pair:
        run = self.db.begin_run("1000-0", [Message("user", "?")], agent_id="agent", model="echo")
        seq, _ = self.floor.begin("1000-0", "?")
        one, other, said = count(1), count(1), turns(1)[0].answer

        def floor() -> None:
            self.floor.send(postgres_floor.step("1000-0", seq, next(other), said))

        return interleave(
            lambda: self.db.append_messages(run, (Message("assistant", said),), at=next(one)), floor, rounds
        )

    def _whole(self, **options: Any) -> tuple[Callable[[], object], Callable[[], object]]:
        model = EchoModel("")
        agent = Agent(model=model, db=self.db, **options)
        said, same = cycle(turns(500, seed=2)), cycle(turns(500, seed=2))

        def ours() -> None:
            question, model.reply = next(said)
            agent.run(question, session_id="1000-0")

        return ours, lambda: self.floor.turn("1000-0", next(same))

    def _cached(self) -> tuple[Callable[[], object], Callable[[], object]]:
        return self._whole(cache_session=SessionCache())

    def close(self) -> None:
        self.db.close()
        self.floor.close()


def _server() -> Any:
    """The tests' own server, by the module that makes databases on it."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    try:
        return import_module("postgres_kit")
    finally:
        sys.path.pop()


def _ids(place: int) -> Sequence[str]:
    """Turn 10 needs many sessions; in the others one hardly moves."""
    return [f"{place}-{number}" for number in range(50 if place == 10 else 1)]


def _tasks(url: str, rounds: int) -> Iterator[Line]:
    for tasks in (1, 8, 64):
        yield line(TASKS, f"{tasks} tasks", asyncio.run(_together(url, tasks, rounds)), None)


async def _together(url: str, tasks: int, rounds: int) -> Pair:
    """Microseconds a turn, each side with eight connections, in turns."""
    ids = [f"tasks-{number}" for number in range(tasks)]
    ours, floor = [], []
    hand = PostgresFloor(url)
    for session_id in ids:
        if not hand.header(session_id):
            hand.fill(session_id, [])
    hand.close()
    free: asyncio.Queue[AsyncConnection[Any]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await AsyncConnection.connect(url, autocommit=True, prepare_threshold=2))
    async with PostgresDb(url, pool=CONNECTIONS) as db:
        for number in range(rounds + 1):
            began = perf_counter()
            await asyncio.gather(*(_our_turn(db, session_id) for session_id in ids))
            between = perf_counter()
            await asyncio.gather(*(_floor_turn(free, session_id) for session_id in ids))
            if number:
                ours.append((between - began) * 1e6 / tasks)
                floor.append((perf_counter() - between) * 1e6 / tasks)
    while not free.empty():
        await free.get_nowait().close()
    return Pair(Spread.of(ours), Spread.of(floor))


async def _our_turn(db: PostgresDb, session_id: str) -> None:
    asked = (Message("user", "x" * 100),)
    run = await db.abegin_run(session_id, asked, agent_id="agent", model="echo", history=HistoryLimits())
    await db.afinish_run(run, (Message("assistant", "y" * 300),), metrics=RUN_METRICS)


async def _floor_turn(free: asyncio.Queue[AsyncConnection[Any]], session_id: str) -> None:
    [[(seq,)], *_] = await _sent(free, postgres_floor.begin(session_id, "x" * 100))
    await _sent(free, postgres_floor.finish(session_id, seq, "y" * 300))


async def _sent(free: asyncio.Queue[AsyncConnection[Any]], batch: postgres_floor.Batch) -> list[Any]:
    connection = await free.get()
    try:
        return await asend(connection, batch)
    finally:
        free.put_nowait(connection)


def _claims(url: str, *, quick: bool) -> Iterator[Line]:
    """Eight workers on the same sessions, and eight that never meet, each among a thousand of its own."""
    claims = 20 if quick else 60
    letters = "abcdefgh"
    with PostgresDb(url, pool=CONNECTIONS) as db, ThreadPoolExecutor(CONNECTIONS) as threads:
        asyncio.run(_fill_unnamed(url, [f"{letter}{number:05}" for letter in letters for number in range(1_100)]))

        def eight(starts: Sequence[str]) -> Spread:
            work = [threads.submit(_claimed, db, new_token(), start, claims) for start in starts]
            return Spread.of([took for one in work for took in one.result()])

        apart = eight(letters)
        same = eight([""] * CONNECTIONS)
    yield Line(group=CLAIMS, what="eight workers on the same sessions, a claim", ours=same, floor=apart)


async def _fill_unnamed(url: str, session_ids: Sequence[str]) -> None:
    async with PostgresDb(url, pool=CONNECTIONS) as db:
        for start in range(0, len(session_ids), 100):
            await asyncio.gather(*(_our_turn(db, session_id) for session_id in session_ids[start : start + 100]))


def _claimed(db: PostgresDb, token: int, start: str, claims: int) -> list[float]:
    """How long each claim of a worker took."""
    after: str | None = start
    skip, took, chance = 0, [], random.Random(token)
    for _ in range(claims):
        if after is None:
            break
        began = perf_counter()
        found = db.transact(claim_next, WANTED, token, after=after, limit=4, skip=skip)
        took.append((perf_counter() - began) * 1e6)
        after = found.upto
        skip = chance.randrange(found.passed) if found.passed else 0
    return took


def _forks(url: str, *, quick: bool) -> Iterator[Line]:
    floor, said = PostgresFloor(url), turns(1_000)
    floor.create()
    floor.fill("s", said)
    with PostgresDb(url) as db:
        db.upsert_session(session("s", said))
        yield from forks(db, floor.fork, FORKS, rounds=6 if quick else 20)
    floor.close()


def _copies(folder: Path, url: str, *, quick: bool) -> Iterator[Line]:
    """`copy_sessions` there and back, each session of ten turns and compared afterwards."""
    count = 200 if quick else 2_000
    with SqliteDb(folder / "copied.db", durability="normal") as file, PostgresDb(url) as server:
        for number in range(count):
            file.upsert_session(session(f"s{number:05}", turns(10, seed=number)))
        there = copy_sessions(file, server)
        with SqliteDb(folder / "back.db", durability="normal") as other:
            back = copy_sessions(server, other)
    for what, report in (("SQLite to Postgres", there), ("Postgres to SQLite", back)):
        assert report.copied == report.verified == count, report
        rate = Spread.of([count / report.seconds])
        yield Line(group=COPIES, what=f"{what}, sessions a second", ours=rate, unit="")


def pages(folder: Path, *, quick: bool, count: int = 10_000) -> Iterator[Line]:
    """A page of twenty sessions among many, in every order and behind every filter, first and last."""
    del folder
    group = f"Postgres: a page of 20 sessions among {count:,}; the raw query gives rows"
    with _server().postgres_url() as url, Agent(model=EchoModel(), db=PostgresDb(url)) as agent:
        agent.get_sessions()  # makes the tables
        floor = PostgresFloor(url)
        floor.connection.execute(_FILL, (count,))
        floor.connection.execute("vacuum analyze")
        things = {
            f"by {next(iter(wanted), 'nothing')}, newest {sort.removesuffix('_at')}, {place.name}": _page(
                agent, floor, wanted, sort, place
            )
            for wanted in FILTERS
            for sort in SORTS
            for place in (Place("first page"), _last(agent, wanted, sort))
        }
        pairs = together(list(things.values()), 50 if quick else 300)
        for what, pair in zip(things, pairs, strict=True):
            yield line(group, what, pair, PAGE)
        floor.close()


def _page(
    agent: Agent, floor: PostgresFloor, wanted: dict[str, str], sort: Any, place: Place
) -> tuple[Callable[[], object], Callable[[], object]]:
    given: dict[str, Any] = {**wanted, "sort": sort, "cursor": place.cursor}
    conditions = [f"{column} = %s" for column in wanted] + [f"({sort}, session_id) < (%s, %s)"] * bool(place.after)
    values = (*wanted.values(), *(place.after or ()))

    def one(*kind: str) -> str:
        where = " and ".join(["archived = 0", *conditions, *kind])
        return f"select * from recollect_sessions where {where} order by {sort} desc, session_id desc limit {SIZE}"

    query = one()
    if not wanted:  # no index is made for this, as each turn would have to keep it up
        both = " union all ".join(f"select * from ({one(kind)}) one" for kind in ("kind = 'agent'", "kind = 'team'"))
        query = f"select * from ({both}) s order by {sort} desc, session_id desc limit {SIZE}"
        values = values * 2
    assert len(agent.get_sessions(**given)) == SIZE
    assert [row[0] for row in floor.one(query, *values)] == [one.session_id for one in agent.get_sessions(**given)]
    return lambda: agent.get_sessions(**given), lambda: floor.one(query, *values)


_FILL: Final = """
insert into recollect_sessions (
    session_id, kind, agent_id, team_id, user_id, name, name_key, name_source, epoch, created_at, updated_at
)
select
    'session-' || lpad(n::text, 7, '0'), case when team then 'team' else 'agent' end,
    case when not team then 'agent-' || mod(n, 4) end, case when team then 'team-' || mod(n, 2) end,
    'user-' || (random() * 19)::int, name, lower(name), 'manual', n, created, created + (random() * 5e12)::bigint
from (
    select
        n, random() < 0.25 as team, 'Order ' || n || ' and what came of it' as name,
        1767225600000000 + (random() * 3e13)::bigint as created
    from generate_series(1, %s) n
) made
"""
"""Sessions of 20 users, 4 agents and 2 teams, made over a year and active in another order, as in `bench.page`."""
