"""What a turn and a read cost in round trips, counted on the wire between the library and a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from postgres_kit import postgres_url
from wire import Proxy

from recollect import Agent, EchoModel, Message, SessionCache
from recollect.db.postgres import PostgresDb
from recollect.history import HistoryLimits
from recollect.selection import Filter
from recollect.store import OpenRun

pytestmark = pytest.mark.anyio

SYSTEM = Message("system", "Be brief.")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with postgres_url() as url, Proxy(url) as proxy:
        yield proxy


@pytest.fixture
def db(proxy: Proxy) -> Iterator[PostgresDb]:
    """A database that was used before, so that its schema has been looked at, with a session of three turns."""
    with PostgresDb(proxy.dsn) as db:
        for text in ("one", "two", "three"):
            run = db.begin_run("s", [Message("user", text)], user_id="ada", prompt=SYSTEM, state={"k": 1})
            db.finish_run(run, [Message("assistant", f"You said {text}")])
        db.begin_run("s", [Message("user", "left open")], user_id="ada", run_id="open")
        yield db


def begin(db: PostgresDb) -> OpenRun:
    return db.begin_run(
        "s",
        [Message("user", "Hi")],
        user_id="ada",
        prompt=SYSTEM,
        state={"k": 2},
        history=HistoryLimits(),
        with_state=True,
        with_summary=True,
    )


ONE: dict[str, Callable[[PostgresDb, OpenRun], Any]] = {
    "begin_run": lambda db, _: begin(db),
    "begin_run of a new session": lambda db, _: db.begin_run("new", [Message("user", "Hi")], history=HistoryLimits()),
    "append_messages": lambda db, run: db.append_messages(run, [Message("assistant", "step")], state={"k": "3"}),
    "finish_run": lambda db, run: db.finish_run(run, [Message("assistant", "done")], state={"k": "4"}),
    "get_session": lambda db, _: db.get_session("s"),
    "get_header": lambda db, _: db.get_header("s"),
    "get_messages": lambda db, _: db.get_messages("s"),
    "get_messages of the last runs": lambda db, _: db.get_messages("s", Filter(last_n_runs=2)),
    "get_messages up to a limit": lambda db, _: db.get_messages("s", Filter(limit=2)),
    "get_run": lambda db, run: db.get_run(run.run_id, "s"),
    "get_last_run": lambda db, _: db.get_last_run("s"),
    "get_values": lambda db, _: db.get_values("s", "state"),
    "get_metrics": lambda db, _: db.get_metrics("s"),
    "get_sessions": lambda db, _: db.get_sessions("ada"),
    "count_sessions": lambda db, _: db.count_sessions("u"),
    "find_sessions_by_prefix": lambda db, _: db.find_sessions_by_prefix("s"),
    "set_session_name": lambda db, _: db.set_session_name("s", "Plan"),
    "update_values": lambda db, _: db.update_values("s", "state", {"k": 5}),
    "tag_session": lambda db, _: db.tag_session("s", ["red"], remove=["blue"]),
    "archive_session": lambda db, _: db.archive_session("s"),
    "pin_session": lambda db, _: db.pin_session("s"),
    "set_session_expiry": lambda db, _: db.set_session_expiry("s", timedelta(days=1)),
    "get_sessions by a tag": lambda db, _: db.get_sessions("ada", tags=["red"]),
    "purge_sessions where there is nothing": lambda db, _: db.purge_sessions(limit=10),
    "begin_run that says how long": lambda db, _: db.begin_run(
        "s", [Message("user", "Hi")], user_id="ada", expire_after=timedelta(days=1)
    ),
    "claim_session": lambda db, _: db.claim_session("s", "ada"),
    "delete_session": lambda db, _: db.delete_session("s"),
}


@pytest.mark.parametrize("what", ONE)
def test_one_round_trip(proxy: Proxy, db: PostgresDb, what: str) -> None:
    run = begin(db)
    proxy.reset()
    ONE[what](db, run)
    assert proxy.round_trips == 1, proxy.statements


async def test_the_async_face_makes_no_more_of_them(proxy: Proxy, db: PostgresDb) -> None:
    await db.aget_header("s")  # opens a connection
    proxy.reset()
    run = await db.abegin_run("s", [Message("user", "Hi")], user_id="ada", history=HistoryLimits())
    await db.aappend_messages(run, [Message("assistant", "step")])
    await db.afinish_run(run, [Message("assistant", "done")])
    await db.aget_session("s")
    assert proxy.round_trips == 4, proxy.statements


def test_a_turn_of_an_agent_takes_two_and_one_for_each_step_between(proxy: Proxy, db: PostgresDb) -> None:
    agent = Agent(EchoModel(), db=db, instructions="Be brief.")
    proxy.reset()
    agent.run("Hi", session_id="s", user_id="ada")
    assert proxy.round_trips == 2, proxy.statements


def test_a_cached_turn_takes_two_and_does_not_read_the_past(proxy: Proxy, db: PostgresDb) -> None:
    agent = Agent(EchoModel(), db=db, cache_session=SessionCache())
    for _ in range(2):
        agent.run("Hi", session_id="fresh", user_id="ada")
    proxy.reset()
    agent.run("Hi", session_id="fresh", user_id="ada")
    assert proxy.round_trips == 2, proxy.statements


def test_a_cached_read_takes_one_that_looks_at_one_row(proxy: Proxy, db: PostgresDb) -> None:
    db.finish_run(db.begin_run("t", [Message("user", "Hi")]), [Message("assistant", "Hello")])
    cached = SessionCache().over(db)
    cached.get_session("t")
    proxy.reset()
    cached.get_session("t")
    assert proxy.round_trips == 1
    assert len(proxy.statements) == 1, proxy.statements


@pytest.mark.parametrize("first", ["begin_run", "get_session"])
def test_a_process_without_a_pool_opens_one_connection_for_its_first_call_and_wastes_no_trip(
    proxy: Proxy, db: PostgresDb, first: str
) -> None:
    assert db.get_header("s") is not None
    with PostgresDb(proxy.dsn, pool=None) as cold:
        proxy.reset()
        if first == "begin_run":
            begin(cold)
        else:
            cold.get_session("s")
        assert (proxy.connections, proxy.round_trips) == (1, 1), proxy.statements
        proxy.reset()
        cold.get_header("s")
        assert (proxy.connections, proxy.round_trips) == (1, 1), proxy.statements


def test_a_process_with_a_pool_looks_at_the_schema_once(proxy: Proxy, db: PostgresDb) -> None:
    assert db.get_header("s") is not None
    with PostgresDb(proxy.dsn) as cold:
        proxy.reset()
        cold.get_header("s")
        cold.get_header("s")
        assert sum("recollect_schema" in sql for sql in proxy.statements) <= 2, proxy.statements
        proxy.reset()
        cold.get_header("s")
        assert (proxy.connections, proxy.round_trips, len(proxy.statements)) == (0, 1, 1)
