"""Connections that are cut, refused, used up, or somebody else's: what callers see, and what is stored."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import postgres_server
import psycopg
import pytest
from postgres_kit import postgres_url, prepared
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from wire import Proxy

from recollect import Agent, EchoModel, Message, RunStatus
from recollect.db import open_db
from recollect.db.postgres import PostgresDb
from recollect.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseReadOnly,
    DatabaseUnreachable,
    InvalidArgument,
    OutcomeUnknown,
    RunLost,
    SchemaMismatch,
    SessionNotFound,
)
from recollect.port import Tx, reads, writes

pytestmark = pytest.mark.anyio

HI = (Message("user", "Hi"),)
HELLO = (Message("assistant", "Hello"),)


@pytest.fixture
def url() -> Iterator[str]:
    with postgres_url() as url:
        yield url


def turn(db: PostgresDb, session_id: str = "s") -> None:
    db.finish_run(db.begin_run(session_id, HI), HELLO)


async def aturn(db: PostgresDb, session_id: str = "s") -> None:
    await db.afinish_run(await db.abegin_run(session_id, HI), HELLO)


def runs(db: PostgresDb, session_id: str = "s") -> int:
    session = db.get_session(session_id)
    return 0 if session is None else len(session.runs)


@reads
async def slow(tx: Tx, seconds: float = 0.3) -> None:
    await tx.execute(("select pg_sleep(:seconds)", {"seconds": seconds}))


def test_a_server_that_restarts_in_the_midst_of_a_run_takes_its_next_step() -> None:
    postgres_server.own_needed()
    own = postgres_server.PostgresServer()
    try:
        with PostgresDb(own.dsn()) as db:
            run = db.begin_run("s", HI)
            own.restart()
            db.append_messages(run, [Message("assistant", "step")])
            own.restart(crash=True)
            db.finish_run(run, HELLO)
            assert [message.text for message in db.get_session("s").runs[0].messages] == ["Hi", "step", "Hello"]  # type: ignore[union-attr]

        async def again(db: PostgresDb) -> None:
            run = await db.abegin_run("s", HI)
            own.restart()
            await db.aappend_messages(run, [Message("assistant", "step")])
            own.restart()
            await db.afinish_run(run, HELLO)
            assert len((await db.aget_session("s")).runs) == 2  # type: ignore[union-attr]
            await db.aclose()

        asyncio.run(again(PostgresDb(own.dsn())))
    finally:
        own.close()


def test_a_connection_lost_before_anything_arrived_is_not_seen_by_the_caller(url: str) -> None:
    with Proxy(url) as proxy, PostgresDb(proxy.dsn) as db:
        turn(db)
        proxy.cut()
        turn(db)
        proxy.cut()
        assert runs(db) == 2


async def test_commits_that_were_not_heard_of_are_looked_up_by_the_run(url: str) -> None:
    with Proxy(url) as proxy, PostgresDb(proxy.dsn) as db:
        agent = Agent(EchoModel(), db=db)
        for number, statement in enumerate(("insert into recollect_runs", "metrics =")):
            proxy.cut_after(statement)
            assert agent.run("Hi", session_id="s").status is RunStatus.completed
            proxy.cut_after(statement)
            assert (await agent.arun("Hi", session_id="s")).status is RunStatus.completed
            assert runs(db) == 2 * (number + 1)
        session = db.get_session("s")
        assert session is not None
        assert session.header.completed_count == session.header.run_count == 4


async def test_what_cannot_be_looked_up_is_said_to_be_unknown(url: str) -> None:
    with Proxy(url) as proxy, PostgresDb(proxy.dsn) as db:
        turn(db)
        proxy.cut_after("name_key =")
        with pytest.raises(OutcomeUnknown, match="look before you repeat"):
            db.set_session_name("s", "Plan")
        assert db.get_header("s").name == "Plan"  # type: ignore[union-attr]
        proxy.cut_before("name_key =")
        with pytest.raises(OutcomeUnknown):
            await db.aset_session_name("s", "Other")
        assert db.get_header("s").name == "Plan"  # type: ignore[union-attr]


def test_reads_that_were_cut_off_are_asked_again(url: str) -> None:
    with Proxy(url) as proxy, PostgresDb(proxy.dsn) as db:
        turn(db)
        proxy.cut_after("recollect_messages")
        assert runs(db) == 1


@pytest.mark.parametrize("pool", [4, None])
async def test_a_server_that_is_away_is_said_to_be_at_once(pool: int | None) -> None:
    db = PostgresDb(f"postgresql://nobody:secret@127.0.0.1:{postgres_server.free_port()}/none", pool=pool)
    began = time.monotonic()
    with pytest.raises(DatabaseUnreachable, match="cannot be reached") as refused:
        turn(db)
    with pytest.raises(DatabaseUnreachable):
        await aturn(db)
    assert time.monotonic() - began < 5
    assert "secret" not in f"{refused.value} {db!r} {db.address}"


def test_a_server_that_comes_back_is_used_again(url: str) -> None:
    with Proxy(url) as proxy, PostgresDb(proxy.dsn) as db:
        turn(db)
        proxy.refuse()
        with pytest.raises(DatabaseUnreachable):
            turn(db)
        proxy.accept()
        turn(db)
        assert runs(db) == 2


def test_a_pool_that_is_used_up_says_so_after_the_timeout(url: str) -> None:
    with PostgresDb(url, pool=2, timeout=0.2) as db, ThreadPoolExecutor(2) as threads:
        turn(db)
        held = [threads.submit(db.transact, slow, 0.8) for _ in range(2)]
        time.sleep(0.2)
        with pytest.raises(DatabaseBusy, match=r"all 2 connections .* stayed in use for 0.2 s; allow more with pool="):
            turn(db)
        for one in held:
            one.result()
        turn(db)


async def test_in_the_async_face_too_and_those_who_wait_get_one_in_time(url: str) -> None:
    async with PostgresDb(url, pool=2, timeout=0.5) as db:
        await aturn(db)
        held = [asyncio.ensure_future(db.atransact(slow, 1.0)) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(DatabaseBusy, match="all 2 connections"):
            await aturn(db)
        await asyncio.gather(*held)
    async with PostgresDb(url, pool=2) as db:
        await asyncio.gather(*(aturn(db, f"s{number}") for number in range(50)))
        assert len((await db.aget_sessions(limit=100)).sessions) == 51


def test_a_statement_that_runs_too_long_is_stopped(url: str) -> None:
    with PostgresDb(url, statement_timeout=0.2) as db:
        with pytest.raises(DatabaseBusy, match="statement_timeout="):
            db.transact(slow, 5.0)
        turn(db)


def test_a_lock_that_is_held_too_long_is_busy_and_nothing_is_stored(url: str) -> None:
    with PostgresDb(url, timeout=0.3) as db, psycopg.connect(url) as other:
        turn(db)
        other.execute("select 1 from recollect_sessions where session_id = 's' for update")
        with pytest.raises(DatabaseBusy, match="locked for too long"):
            db.begin_run("s", HI)
        other.rollback()
        assert runs(db) == 1


def test_a_transaction_left_open_by_a_process_that_stopped_is_ended_by_the_server(url: str) -> None:
    stopped = threading.Event()

    @writes
    async def stops(tx: Tx) -> None:
        await tx.execute(("update recollect_sessions set version = version + 1 where session_id = 's'", {}))
        if not stopped.is_set():
            stopped.set()
            time.sleep(1.0)  # noqa: ASYNC251 - the process is stopped: nothing else happens in it

    with PostgresDb(url, timeout=0.5) as one, PostgresDb(url, timeout=5) as other, ThreadPoolExecutor(1) as threads:
        turn(one)
        held = threads.submit(one.transact, stops)
        stopped.wait()
        turn(other)
        held.result()  # nothing of it was stored, so it was run again
        assert other.get_header("s").run_count == 2  # type: ignore[union-attr]


def test_a_role_that_may_only_read_is_told_so(url: str) -> None:
    with PostgresDb(url) as db:
        turn(db)
    separator = "&" if "?" in url else "?"
    with PostgresDb(f"{url}{separator}options=-c%20default_transaction_read_only%3Don") as db:
        assert runs(db) == 1
        with pytest.raises(DatabaseReadOnly, match="read-only"):
            turn(db)


def test_tables_in_a_schema_of_their_own_leave_others_alone(url: str) -> None:
    with PostgresDb(url, schema='my "odd" schema') as db, PostgresDb(url) as plain:
        turn(db)
        turn(plain, "t")
        db.set_session_name("s", "Plan")
        assert [header.session_id for header in db.get_sessions()] == ["s"]
        assert [header.session_id for header in plain.get_sessions()] == ["t"]
        assert db.get_session("t") is None
        db.delete_session("s")
        assert runs(plain, "t") == 1


def test_the_tables_are_made_when_first_needed_by_many_at_once() -> None:
    postgres_server.needed()
    server = postgres_server.server()
    name = server.create()
    stores = [PostgresDb(server.dsn(name), pool=None if number % 2 else 2) for number in range(8)]
    try:
        with ThreadPoolExecutor(8) as threads:
            for done in [threads.submit(turn, db, f"s{number}") for number, db in enumerate(stores)]:
                done.result()
        assert len(stores[0].get_sessions()) == 8
        assert stores[0].schema_version() == (3, 3)
    finally:
        for db in stores:
            db.close()
        server.drop(name)


@pytest.mark.parametrize("pool", [2, None])
def test_a_database_of_a_newer_version_is_refused_before_anything_is_written(url: str, pool: int | None) -> None:
    with psycopg.connect(url) as other:
        other.execute("insert into recollect_schema values (99, 99, 0)")
    with PostgresDb(url, pool=pool) as db:
        with pytest.raises(SchemaMismatch, match="Upgrade recollect"):
            turn(db)
        with psycopg.connect(url) as other:
            assert other.execute("select count(*) from recollect_sessions").fetchone() == (0,)
            other.execute("update recollect_schema set min_reader = 1")
        turn(db)


def test_a_database_that_cannot_hold_every_text_is_refused() -> None:
    postgres_server.needed()
    server = postgres_server.server()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create database latin encoding 'LATIN1' locale 'C' template template0")
    try:
        with PostgresDb(server.dsn("latin")) as db, pytest.raises(Exception, match="UTF8"):
            turn(db)
    finally:
        server.drop("latin")


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_pool_of_ones_own_is_used_and_given_back_as_it_was(url: str, autocommit: bool) -> None:  # noqa: FBT001
    kwargs = {"autocommit": autocommit, "row_factory": dict_row}
    with ConnectionPool(url, kwargs=kwargs, min_size=1, max_size=2, open=True) as pool:
        with PostgresDb(pool=pool) as db:
            turn(db)
            asyncio.run(aturn(db))  # in connections of its own, for the pool is one of threads
            assert runs(db) == 2
        with pool.connection() as connection:
            assert connection.autocommit is autocommit
            assert connection.execute("select 1 as one").fetchone() == {"one": 1}


def test_an_async_pool_of_ones_own_is_used_in_its_loop(url: str) -> None:
    async def main() -> None:
        pool = AsyncConnectionPool(url, min_size=1, max_size=2, open=False)
        async with pool, PostgresDb(pool=pool) as db:
            await asyncio.gather(*(aturn(db) for _ in range(10)))
            assert len((await db.aget_session("s")).runs) == 10  # type: ignore[union-attr]
            await asyncio.to_thread(turn, db)
            assert pool.get_stats()["requests_num"] >= 20

    asyncio.run(main())


async def test_a_pool_of_ones_own_that_is_used_up_or_closed_says_so(url: str) -> None:
    with ConnectionPool(url, min_size=1, max_size=1, open=True) as pool, PostgresDb(pool=pool, timeout=0.2) as db:
        turn(db)
        with pool.connection(), pytest.raises(DatabaseBusy, match="stayed in use"):
            turn(db)
        turn(db)
    with pytest.raises(Exception, match="is closed"):
        turn(db)


def test_a_place_is_had_by_those_who_wait_in_the_order_in_which_they_came(url: str) -> None:
    calls = Counter[int]()

    def work(number: int, until: float) -> None:
        while time.monotonic() < until:
            db.get_header("s")
            calls[number] += 1

    with PostgresDb(url, pool=2, timeout=2.0) as db, ThreadPoolExecutor(30) as threads:
        turn(db)
        until = time.monotonic() + 1.5
        for done in [threads.submit(work, number, until) for number in range(30)]:
            done.result()
    assert len(calls) == 30
    assert max(calls.values()) < 3 * min(calls.values()), calls


async def test_a_place_that_could_not_be_used_is_the_next_ones(url: str) -> None:
    with Proxy(url) as proxy:
        async with PostgresDb(proxy.dsn, pool=1, timeout=20) as db:
            await aturn(db)
            proxy.refuse()
            began = time.monotonic()
            failed = await asyncio.gather(*(db.aget_header("s") for _ in range(5)), return_exceptions=True)
            assert all(isinstance(error, DatabaseUnreachable) for error in failed), failed
            assert time.monotonic() - began < 5
            proxy.accept()
            assert await db.aget_header("s") is not None


async def test_whoever_waits_for_a_place_or_reads_can_be_cancelled_at_once(url: str) -> None:
    async with PostgresDb(url, pool=1, timeout=30) as db:
        await aturn(db)
        reading = asyncio.ensure_future(db.atransact(slow, 20.0))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        for call in (db.aget_header("s"), db.aset_session_name("s", "Plan")):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call, 0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert time.monotonic() - began < 5
        assert (await db.aget_header("s")).name == ""


def test_event_loops_that_ended_are_forgotten_with_their_connections(url: str) -> None:
    with PostgresDb(url) as db:
        for _ in range(5):
            asyncio.run(aturn(db))
        loop = asyncio.new_event_loop()
        loop.run_until_complete(aturn(db))
        loop.close()  # and nothing that was begun in it is ended
        asyncio.run(aturn(db))
        assert len(db._pools._of_loops) == 1, "the last one, until there is another"
        with psycopg.connect(url) as other:
            ours = "application_name = 'recollect' and datname = current_database()"
            assert other.execute(f"select count(*) from pg_stat_activity where {ours}").fetchone() == (0,)


@pytest.mark.parametrize("pool", [2, None])
@pytest.mark.parametrize("pooler", [False, True])
def test_a_run_that_is_gone_is_said_to_be_whatever_the_options(url: str, pool: int | None, pooler: bool) -> None:  # noqa: FBT001
    with PostgresDb(url, pool=pool, pooler=pooler) as db:
        run = db.begin_run("s", HI)
        with psycopg.connect(url) as other:
            other.execute("update recollect_leases set token = 1")
        with pytest.raises(RunLost):
            db.append_messages(run, HELLO)
        db.delete_session("s")
        with pytest.raises(SessionNotFound):
            db.finish_run(run, HELLO)


def test_text_is_text_whatever_encoding_the_environment_asks_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with PostgresDb(url) as db:
        turn(db, "sé")
        db.set_session_name("sé", "Grüße 😀")
    monkeypatch.delenv("PGCLIENTENCODING")
    with psycopg.connect(url) as other:
        found = other.execute("select session_id, name from recollect_sessions").fetchall()
        assert found == [("sé", "Grüße 😀")]
    with (
        ConnectionPool(url, kwargs={"client_encoding": "LATIN1"}, min_size=1, max_size=1, open=True) as pool,
        PostgresDb(url, pool=pool) as db,
        pytest.raises(DatabaseError, match="speak LATIN1"),
    ):
        turn(db)


def test_a_pool_that_knows_its_address_by_words_of_its_own_is_used_for_everything() -> None:
    postgres_server.needed()
    server = postgres_server.server()
    name = server.create()
    words = psycopg.conninfo.conninfo_to_dict(server.dsn(name))
    kwargs = {**words, "row_factory": dict_row}
    with ConnectionPool("", kwargs=kwargs, min_size=1, max_size=2, open=True) as pool, PostgresDb(pool=pool) as db:
        turn(db)  # makes the tables where the pool goes
        asyncio.run(aturn(db))
        assert runs(db) == 2
    server.drop(name)


def test_options_of_the_environment_hold(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    with PostgresDb(url) as db, pytest.raises(DatabaseReadOnly):
        turn(db)


def test_why_a_server_takes_no_connection_is_said_with_what_to_do(url: str) -> None:
    elsewhere = url.replace("/recollect", "/nothing_of_the_kind")
    with PostgresDb(elsewhere) as db, pytest.raises(DatabaseUnreachable, match="create the database"):
        turn(db)


def test_an_address_may_name_schema_and_pooler(url: str) -> None:
    separator = "&" if "?" in url else "?"
    with open_db(f"{url}{separator}schema=own&pooler=true&connect_timeout=5") as db:
        assert isinstance(db, PostgresDb)
        assert db.schema == "own"
        turn(db)
    with pytest.raises(InvalidArgument, match="pooler=perhaps"):
        open_db(f"{url}{separator}pooler=perhaps")


def test_options_for_tls_are_passed_on() -> None:
    postgres_server.needed()
    url = postgres_server.server().dsn(tcp=True)  # on a socket of the system there is no TLS
    separator = "&" if "?" in url else "?"
    given = f"{url}{separator}sslmode=verify-full&sslrootcert=/no/such/file"
    with PostgresDb(given) as db, pytest.raises(DatabaseUnreachable, match=r"SSL|root certificate|/no/such/file"):
        turn(db)


def test_an_event_loop_that_cannot_be_used_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Proactor(asyncio.SelectorEventLoop):
        pass

    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(asyncio, "ProactorEventLoop", Proactor, raising=False)
    loop = Proactor()
    try:
        with pytest.raises(DatabaseUnreachable, match=r"loop_factory=asyncio\.SelectorEventLoop"):
            loop.run_until_complete(aturn(PostgresDb("postgresql://localhost/none")))
    finally:
        monkeypatch.undo()
        loop.close()


def test_addresses_of_other_libraries_are_understood(url: str) -> None:
    rest = url.partition("://")[2]
    for scheme in ("postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"):
        with open_db(f"{scheme}://{rest}") as db:
            db.finish_run(db.begin_run(scheme, HI), HELLO)
    assert isinstance(db, PostgresDb)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("db_url", {}),
        ("db_url", {"db_url": 5}),
        ("db_url", {"db_url": "postgresql://host/db?no_such_option=1"}),
        ("pool", {"db_url": "postgresql://host/db", "pool": 0}),
        ("pool", {"db_url": "postgresql://host/db", "pool": True}),
        ("pool", {"db_url": "postgresql://host/db", "pool": "many"}),
        ("schema", {"db_url": "postgresql://host/db", "schema": ""}),
        ("schema", {"db_url": "postgresql://host/db", "schema": "x" * 64}),
        ("schema", {"db_url": "postgresql://host/db", "schema": "pg_own"}),
        ("timeout", {"db_url": "postgresql://host/db", "timeout": -1}),
        ("timeout", {"db_url": "postgresql://host/db", "timeout": 0.0001}),
        ("timeout", {"db_url": "postgresql://host/db", "timeout": 3_000_000}),
        ("read_url", {"db_url": "postgresql://host/db", "read_url": "postgresql://host/db?no_such_option=1"}),
        ("statement_timeout", {"db_url": "postgresql://host/db", "statement_timeout": "long"}),
    ],
)
def test_options_that_cannot_be_meant_are_refused_by_name(argument: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        PostgresDb(**options)
    assert refused.value.argument == argument


def test_sixteen_workers_on_one_session_lose_nothing(url: str) -> None:
    def work(db: PostgresDb) -> None:
        for _ in range(10):
            turn(db)

    stores = [PostgresDb(url, pool=1) for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(work, db) for db in stores]:
            done.result()
    session = stores[0].get_session("s")
    assert session is not None
    assert [run.run_seq for run in session.runs] == list(range(1, 161))
    assert session.header.completed_count == session.header.run_count == 160
    assert session.header.version == 320
    for db in stores:
        db.close()


def test_templates_of_tests_are_what_a_first_use_makes() -> None:
    """The databases of all other tests are copies of one that `migrate` made; a first use must make the same."""
    postgres_server.needed()
    server = postgres_server.server()
    name = server.create()
    with PostgresDb(server.dsn(name)) as db:
        turn(db)
    asked = "select tablename, indexname, indexdef from pg_indexes where schemaname = 'public' order by 1, 2"
    assert server.query(asked, name) == server.query(asked, prepared())
    server.drop(name)
