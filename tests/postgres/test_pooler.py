"""Behind a pooler in transaction mode: each transaction may have another connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pooler
import postgres_server
import pytest
from postgres_kit import postgres_url

from recollect import Agent, EchoModel, Message, SessionCache
from recollect.db.postgres import PostgresDb
from recollect.errors import DatabaseBusy
from recollect.port import Tx, reads


@pytest.fixture(scope="module")
def through() -> Iterator[Callable[[str], str]]:
    pooler.needed()
    server = postgres_server.server()
    with pooler.pooler(server, size=3) as through:
        yield through


@pytest.fixture
def url(through: Callable[[str], str]) -> Iterator[str]:
    with postgres_url() as url:
        yield through(url)


@pytest.mark.parametrize("pool", [4, None])
def test_both_faces_work_behind_it(url: str, pool: int | None) -> None:
    def work(db: PostgresDb, session_id: str) -> None:
        agent = Agent(EchoModel(), db=db, cache_session=SessionCache())
        for _ in range(5):
            agent.run("Hi", session_id=session_id)
        agent.set_session_name(session_id, session_name="Plan")

    async def many(db: PostgresDb) -> None:
        agent = Agent(EchoModel(), db=db)
        await asyncio.gather(*(agent.arun("Hi", session_id=f"s{number % 4}") for number in range(20)))
        await db.aclose()

    with PostgresDb(url, pooler=True, pool=pool) as db, ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, db, f"s{number}") for number in range(4)]:
            done.result()
        asyncio.run(many(db))
        assert [len(db.get_session(f"s{number}").runs) for number in range(4)] == [10] * 4  # type: ignore[union-attr]
        assert {header.name for header in db.get_sessions()} == {"Plan"}


def test_the_timeouts_hold_all_the_same(url: str) -> None:
    @reads
    async def slow(tx: Tx) -> None:
        await tx.execute(("select 1", {}), ("select pg_sleep(5)", {}))

    with PostgresDb(url, pooler=True, statement_timeout=0.2) as db:
        db.finish_run(db.begin_run("s", [Message("user", "Hi")]), [Message("assistant", "Hello")])
        with pytest.raises(DatabaseBusy, match="statement_timeout="):
            db.transact(slow)
        assert len(db.get_sessions()) == 1


def test_prepared_statements_are_used_where_the_pooler_knows_them() -> None:
    pooler.needed(prepares=True)
    server = postgres_server.server()
    with (
        pooler.pooler(server, size=3, max_prepared_statements=200) as through,
        postgres_url() as url,
        PostgresDb(through(url), pooler=True, prepare=True, pool=4) as db,
    ):
        agent = Agent(EchoModel(), db=db)
        for number in range(20):
            agent.run("Hi", session_id=f"s{number % 3}")
        assert sum(header.run_count for header in db.get_sessions()) == 20
