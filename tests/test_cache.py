"""Law 6: what a cache gives is what the database holds at that moment, whoever wrote it; its memory is bounded."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from postgres_kit import postgres_url

from recollect import Agent, AgentSession, EchoModel, Message, RunStatus, SessionCache, SqliteDb
from recollect.cache import SHARED
from recollect.db import open_db
from recollect.db.postgres import PostgresDb
from recollect.errors import InvalidArgument, SessionNotFound
from recollect.history import HistoryLimits
from recollect.port import Tx, writes
from recollect.selection import Filter
from recollect.store import OpenRun, Store
from recollect.store.begin import refresh_run


class Times:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return time.time_ns() // 1000 + self.ahead


@pytest.fixture
def clock() -> Times:
    return Times()


WAYS = ("sqlite", "sqlite-async", "postgres", "postgres-async")

Again = Callable[[], AbstractContextManager[Store]]
HOW: weakref.WeakKeyDictionary[Store, tuple[str, Again, asyncio.AbstractEventLoop, str]] = weakref.WeakKeyDictionary()
"""In which way a database is used, how it is opened once more, the loop of the async face, and where it is."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.fixture
def db(way: str, tmp_path: Path, clock: Times, loop: asyncio.AbstractEventLoop) -> Iterator[Store]:
    with ExitStack() as stack:
        if way.startswith("sqlite"):
            where = str(tmp_path / "s.db")
            made: Store = stack.enter_context(SqliteDb(where, durability="normal", clock=clock))
        else:
            where = stack.enter_context(postgres_url())
            made = stack.enter_context(PostgresDb(where, clock=clock))
        HOW[made] = way, lambda: open_db(where), loop, where
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteDb]:
    """For what does not depend on the database."""
    with SqliteDb(tmp_path / "s.db", durability="normal") as made:
        yield made


class Awaited(Store):
    """A store whose every operation is awaited on an event loop."""

    def __init__(self, db: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._db, self._loop = db, loop

    @property
    def home(self) -> Store:
        return self._db.home

    def transact(self, operation: Any, /, *args: Any, **kwargs: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(self._db.atransact(operation, *args, **kwargs), self._loop).result()

    async def atransact(self, operation: Any, /, *args: Any, **kwargs: Any) -> Any:
        return await self._db.atransact(operation, *args, **kwargs)

    def close(self) -> None:
        self._db.close()

    async def aclose(self) -> None:
        await self._db.aclose()


def over(cache: SessionCache, db: Store) -> Store:
    """The store behind a cache, in the face of this test."""
    way, _, loop, _ = HOW.get(db, ("", None, None, ""))
    cached = cache.over(db)
    return Awaited(cached, loop) if way.endswith("async") and loop is not None else cached


def another(db: Store) -> AbstractContextManager[Store]:
    """The same database, opened once more."""
    return HOW[db][1]()


@pytest.fixture
def cache() -> SessionCache:
    return SessionCache()


def turn(db: Store, session_id: str = "s", text: str = "Hi", **begin: Any) -> OpenRun:
    run = db.begin_run(session_id, [Message("user", text)], **begin)
    db.finish_run(run, [Message("assistant", f"You said: {text}")])
    return run


def read(db: Store, session_id: str = "s", user_id: str | None = None) -> AgentSession:
    session = db.get_session(session_id, user_id)
    assert session is not None
    return session


def same(cached: Store, db: Store, session_id: str = "s") -> bool:
    """Whether the cache says of a session what the database says."""
    one, other = cached.get_session(session_id), db.get_session(session_id)
    if one is None or other is None:
        return one is other
    return one.header == other.header and one.to_dict() == other.to_dict()


def counts(cache: SessionCache) -> tuple[int, int, int, int]:
    stats = cache.stats()
    return stats.hits, stats.misses, stats.catch_ups, stats.reloads


def statements(db: SqliteDb, read: Callable[[], object]) -> list[str]:
    """The statements that SQLite runs for a read."""
    seen: list[str] = []
    for reader in db._readers:
        reader.set_trace_callback(seen.append)
    read()
    for reader in db._readers:
        reader.set_trace_callback(None)
    return [sql for sql in seen if sql not in ("BEGIN", "COMMIT", "begin", "commit")]


def test_an_unchanged_session_is_read_with_one_look_at_one_row(db: Store, cache: SessionCache) -> None:
    turn(db)
    cached = over(cache, db)
    assert read(cached).get_messages() == read(db).get_messages()
    read(cached)
    assert counts(cache) == (1, 1, 0, 0)
    if isinstance(db, SqliteDb):
        [look] = statements(db, lambda: cached.get_session("s"))
        assert "select s.epoch, s.version" in look


def test_what_somebody_else_wrote_is_seen_at_once(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    turn(cached)
    read(cached)
    with another(db) as other:
        for write in (
            lambda: turn(other),
            lambda: other.set_session_name("s", "A name"),
            lambda: other.update_values("s", "state", {"k": [1, 2]}),
            lambda: other.update_values("s", "metadata", {"ticket": "T-42"}),
            lambda: other.claim_session("s", "alice"),
            lambda: other.delete_session("s"),
            lambda: turn(other, text="Anew"),
        ):
            write()
            assert same(cached, db)
    assert [message.text for message in read(cached).get_messages()] == ["Anew", "You said: Anew"]


def test_a_catch_up_reads_only_what_is_new(db: Store, cache: SessionCache) -> None:
    for number in range(50):
        turn(db, text=f"Number {number}", prompt=Message("system", "Be brief."))
    cached = over(cache, db)
    before = list(read(cached).runs)
    turn(db, text="News", prompt=Message("system", "Be long."))
    session = read(cached)
    assert counts(cache) == (0, 1, 1, 0)
    assert all(one is other for one, other in zip(before, session.runs, strict=False)), "what was decoded is kept"
    assert [message.text for message in session.runs[50].messages] == ["Be long.", "News", "You said: News"]
    assert same(cached, db)


def test_a_session_deleted_and_made_anew_under_its_id_is_another_one(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    turn(db, text="Old secret")
    version = read(cached).version
    with HOW[db][1]() as another_process:
        another_process.delete_session("s")
    turn(db, text="New")
    assert read(db).version == version, "the number alone would not tell"
    assert "Old secret" not in str(read(cached).to_dict())
    assert counts(cache) == (0, 1, 0, 1)


def test_an_attempt_that_was_replaced_is_gone_from_the_copy(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    failed = db.begin_run("s", [Message("user", "First try")], run_id="r")
    db.finish_run(failed, status=RunStatus.error, error="no answer")
    read(cached)
    again = db.begin_run("s", [Message("user", "Second try")], run_id="r", again=True)
    db.finish_run(again, [Message("assistant", "There")])
    assert same(cached, db)
    assert [run.attempt for run in read(cached).runs] == [2]


@pytest.mark.parametrize("gone", ["delete_session", "delete_sessions", "delete_user", "purge_sessions", "delete_run"])
def test_what_vanishes_is_let_go_of_by_every_cache_over_that_database(
    db: Store, cache: SessionCache, clock: Times, gone: str
) -> None:
    caches = [cache, SessionCache()]
    db.create_session("s", user_id="ada", expire_after=timedelta(seconds=5))
    turn(db, user_id="ada", run_id="r")
    turn(db, "other")
    for one in caches:
        read(over(one, db))
        read(over(one, db), "other")
    clock.ahead += 6_000_000 if gone == "purge_sessions" else 0
    asked: dict[str, Any] = {
        "delete_session": lambda: db.delete_session("s", "ada"),
        "delete_sessions": lambda: db.delete_sessions(["s"]),
        "delete_user": lambda: db.delete_user("ada"),
        "purge_sessions": db.purge_sessions,
        "delete_run": lambda: db.delete_run("r", session_id="s"),
    }
    with pytest.raises(SessionNotFound):
        db.delete_session("s", "eve")
    assert [one.stats().sessions for one in caches] == [2, 2]
    asked[gone]()
    assert [one.stats().sessions for one in caches] == [1, 1]


@pytest.mark.parametrize("member", [False, True])
def test_a_run_that_is_interrupted_without_a_word_is_seen_to_be(
    db: Store, cache: SessionCache, clock: Times, *, member: bool
) -> None:
    cached = over(cache, db)
    turn(db, run_id="p")
    held = db.begin_run("s", [Message("user", "Think")], parent_run_id="p" if member else None)
    assert read(cached).runs[-1].status is RunStatus.running
    version = read(cached).version
    clock.ahead += 60_000_000
    assert read(cached).runs[-1].status is RunStatus.interrupted
    assert read(cached).version == version, "nobody has written that down yet"
    assert same(cached, db)
    turn(db)
    assert same(cached, db)
    assert read(cached).runs[1].status is RunStatus.interrupted
    hits = cache.stats().hits
    read(cached)
    assert cache.stats().hits == hits + 1, "nothing is under way any more"
    del held


def test_a_part_is_taken_from_the_copy_or_read_as_a_part(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    for number in range(10):
        last = turn(db, text=f"Number {number}")
    some = Filter.checked(last_n_runs=2)
    for whole in (False, True):
        if whole:
            read(cached)
        assert cached.get_messages("s", some) == db.get_messages("s", some)
        assert cached.get_run(last.run_id, "s") == db.get_run(last.run_id, "s")
        assert cached.get_run("unknown", "s") is None
        assert cached.get_last_run("s") == db.get_last_run("s")
        assert cache.stats().sessions == int(whole), "three runs of ten thousand must not read ten thousand"
    with pytest.raises(InvalidArgument):
        cached.get_run("", "s")
    db.delete_session("s")
    for gone in (lambda: cached.get_messages("s", some), lambda: cached.get_last_run("s")):
        with pytest.raises(SessionNotFound):
            gone()


def test_another_user_sees_nothing_of_a_copy(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    turn(db, user_id="alice")
    read(cached, user_id="alice")
    for user_id in ("bob", "Alice"):
        assert cached.get_session("s", user_id) is None
        assert cached.get_run("r", "s", user_id) is None
        with pytest.raises(SessionNotFound):
            cached.get_messages("s", user_id=user_id)
    assert cache.stats().sessions == 1, "and cannot take it away"
    read(cached, user_id="alice")
    assert cache.stats().hits == 1
    turn(db, "unowned")
    read(cached, "unowned")
    assert cached.get_session("unowned", "alice") is None


def test_what_is_no_id_is_refused_as_without_a_cache(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    for wrong in ("", "a\x00b", "x" * 256, 7, None, ["s"]):
        with pytest.raises(InvalidArgument):
            cached.get_session(wrong)  # type: ignore[arg-type]
    assert cached.get_session("nowhere") is None
    assert cache.stats().sessions == 0


def test_a_deleted_session_leaves_the_cache(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    for number, user_id in enumerate(["alice", "alice", "bob", None]):
        turn(db, f"s{number}", user_id=user_id)
        read(cached, f"s{number}")
    cached.delete_user("alice")
    assert cache.stats().sessions == 2
    cached.delete_session("s2")
    assert cache.stats().sessions == 1
    with another(db) as other:
        other.delete_session("s3")
    assert cached.get_session("s3") is None
    assert (cache.stats().sessions, cache.stats().bytes) == (0, 0)


def test_memory_is_bounded_and_the_least_recently_read_goes_first(file: SqliteDb) -> None:
    for name in "abc":
        turn(file, name, text="x" * 20_000)
    size = _size_of(file, "a")
    cache = SessionCache(max_bytes=int(size * 2.5))
    cached = over(cache, file)
    for name in "abac":
        read(cached, name)
        assert cache.stats().bytes <= cache.max_bytes
    assert (cache.stats().sessions, cache.stats().evictions) == (2, 1)
    misses = cache.stats().misses
    read(cached, "a")
    assert cache.stats().misses == misses
    read(cached, "b")
    assert cache.stats().misses == misses + 1


def _size_of(db: Store, session_id: str) -> int:
    cache = SessionCache()
    read(over(cache, db), session_id)
    return cache.stats().bytes


def test_a_session_larger_than_the_cache_is_read_and_not_kept(file: SqliteDb) -> None:
    turn(file, text="x" * 100_000)
    turn(file, "small")
    cache = SessionCache(max_bytes=50_000)
    cached = over(cache, file)
    read(cached, "small")
    assert same(cached, file)
    assert (cache.stats().sessions, cache.stats().evictions) == (1, 0)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_sessions_are_counted_where_that_is_asked_for(file: SqliteDb, limit: int) -> None:
    cache = SessionCache(max_sessions=limit)
    cached = over(cache, file)
    for name in "abcde":
        turn(file, name)
        turn(cached, name, history=HistoryLimits())
        assert same(cached, file, name)
        assert cache.stats().sessions <= limit
    assert cache.stats().sessions == limit


@pytest.mark.parametrize("wrong", [{"max_bytes": -1}, {"max_bytes": 1.5}, {"max_sessions": -1}, {"max_bytes": "1"}])
def test_limits_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        SessionCache(**wrong)


def said(db: Store, asked: Message, *answers: Message, runs: int = 1, **begin: Any) -> None:
    for _ in range(runs):
        run = db.begin_run("s", [asked], history=LIMITS[0], **begin)
        db.finish_run(run, answers or [Message("assistant", "Yes")])


def failed(db: Store) -> None:
    for number in range(100):
        error = f"{number}" + "x" * 3000
        db.finish_run(db.begin_run("s", [Message("user", "Hi")]), status=RunStatus.error, error=error)


def attached(db: Store) -> None:
    for number in range(20):
        said(db, Message("user", "Hi"), metadata={"doc": f"{number}" + "y" * 20_000})


def called(db: Store) -> None:
    calls = [{**CALL, "id": f"c{number}"} for number in range(200)]
    results = [Message("tool", "seen", tool_call_id=call["id"]) for call in calls]
    said(db, Message("user", "Hi"), Message("assistant", None, tool_calls=calls), *results, runs=5)


HELD: dict[str, Callable[[Store], object]] = {
    "short texts": lambda db: said(db, Message("user", "Hi"), runs=200),
    "texts": lambda db: said(db, Message("user", "Why? " * 40), Message("assistant", "So. " * 200), runs=100),
    "accents": lambda db: said(db, Message("user", "é" * 300), Message("assistant", "é" * 300), runs=100),
    "Chinese": lambda db: said(db, Message("user", "为什么" * 50), Message("assistant", "好" * 500), runs=50),
    "one symbol": lambda db: said(db, Message("user", "Why? " * 200 + "😀"), runs=100),
    "system messages": lambda db: said(db, Message("user", "Hi"), runs=50, prompt=Message("system", "B" * 3000)),
    "metadata": attached,
    "errors": failed,
    "keys": lambda db: said(db, Message("user", "Hi"), state={f"key {n} " + "k" * 100: [n] * 9 for n in range(1500)}),
    "content parts": lambda db: said(db, Message("user", [{"type": "text", "text": f"{n}"} for n in range(1000)])),
    "nested": lambda db: said(db, Message("user", [{"type": "x", "at": [[1.5, {"a": "b c"}] for _ in range(300)]}])),
    "tool calls": called,
    "what a provider wants": lambda db: said(
        db, Message("user", "Hi"), Message("assistant", "Yes", provider_data={"e": "z" * 3000}), runs=50
    ),
}


@pytest.mark.parametrize("held", HELD)
def test_the_bytes_told_are_about_those_that_are_held(held: str) -> None:
    with SqliteDb() as db:
        HELD[held](db)
        cache = SessionCache()
        cached = over(cache, db)
        look_at_all(read(db).runs)  # whatever is made once
        gc.collect()
        tracemalloc.start()
        try:
            look_at_all(read(cached).runs)
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            cache.clear()
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            size = _size_of(db, "s")
        finally:
            tracemalloc.stop()
    assert before - after <= size <= 1.3 * (before - after)


def look_at_all(runs: Any) -> None:
    for run in runs:
        for message in run.messages:
            assert isinstance(message.content, str | list | None)
            assert isinstance(message.tool_calls, tuple)


def test_what_holds_no_run_takes_room_too(file: SqliteDb) -> None:
    cache = SessionCache(max_bytes=200_000)
    cached = over(cache, file)
    tracemalloc.start()
    try:
        for number in range(500):
            run = cached.begin_run(f"session {number}", [Message("user", "Hi")], history=HistoryLimits(runs=3))
            cached.finish_run(run, status=RunStatus.error)
        del run
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        cache.clear()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.stats().evictions > 100
    assert before - after <= 1.1 * cache.max_bytes


def test_a_session_too_large_to_be_kept_leaves_what_the_next_turn_is_shown(file: SqliteDb) -> None:
    cache = SessionCache(max_bytes=50_000)
    cached = over(cache, file)
    turn(file, text="x" * 100_000)
    for _ in range(3):
        turn(cached, history=HistoryLimits(runs=2))
    assert cache.find_window((cache.number(file), "s"), HistoryLimits(runs=2)) is not None
    assert same(cached, file)
    assert cache.find_window((cache.number(file), "s"), HistoryLimits(runs=2)) is not None
    assert cache.find((cache.number(file), "s")) is None


def test_a_cache_is_shared_by_agents_threads_and_loops(db: Store, cache: SessionCache) -> None:
    agents = [Agent(EchoModel(), db=db, id=f"a{number}", session_id="s", cache_session=cache) for number in range(3)]
    agents[0].run("Hi")
    wrong: list[object] = []

    def work(agent: Agent) -> None:
        for number in range(20):
            run = agent.run(f"{agent.id} {number}")
            session = agent.get_session()
            if session is None or session.get_run(run.run_id) != run:
                wrong.append(run)

    async def awork(agent: Agent) -> None:
        for number in range(20):
            run = await agent.arun(f"{agent.id} {number} async")
            session = await agent.aget_session()
            if session is None or session.get_run(run.run_id) != run:
                wrong.append(run)

    threads = [threading.Thread(target=work, args=[agent]) for agent in agents]
    threads += [threading.Thread(target=lambda agent=agent: asyncio.run(awork(agent))) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(read(over(cache, db)).runs) == 121
    assert same(over(cache, db), db)
    assert cache.stats().sessions == 1


def test_true_means_one_cache_for_all_agents_of_the_process(db: Store) -> None:
    before = SHARED.stats()
    one = Agent(EchoModel(), db=db, cache_session=True)
    chat = one.conversation("s")
    chat.run("Hi")
    chat.get_session()
    one.replace(name="Other").get_session("s")
    after = SHARED.stats()
    assert one.cache is SHARED
    assert one.replace(cache_session=False).cache is None
    assert (after.hits, after.misses) == (before.hits + 1, before.misses + 1)
    with pytest.raises(InvalidArgument, match="cache_session"):
        Agent(EchoModel(), db=db, cache_session="yes")  # type: ignore[arg-type]


def test_a_store_behind_a_cache_is_a_database_like_any_other(db: Store, cache: SessionCache) -> None:
    agent = Agent(EchoModel(), db=over(cache, db), session_id="s", auto_name_sessions=True, concurrent_runs="queue")
    for text in ("Plan the fair in Porto", "Who comes along?"):
        agent.run(text)
    assert agent.flush(10)
    assert agent.get_session_name() == "Plan the fair in Porto"
    agent.close()
    assert same(over(cache, db), db)


def test_two_databases_do_not_share_their_sessions(db: Store, cache: SessionCache) -> None:
    with SqliteDb() as other:
        turn(db, text="Here")
        turn(other, text="There")
        for _ in range(2):
            assert same(over(cache, db), db)
            assert same(over(cache, other), other)
        assert cache.stats().sessions == 2
    del other
    gc.collect()
    assert cache.stats().sessions == 1, "copies go with the database they are of"


def test_a_database_may_go_while_the_cache_is_at_work(tmp_path: Path) -> None:
    """The garbage collector comes upon it anywhere, also where this thread holds the cache's own lock."""
    cache, held = SessionCache(), [SqliteDb(tmp_path / "gone.db")]
    cache.over(held[0]).create_session("one")
    assert cache.over(held[0]).get_session("one") is not None
    assert cache.stats().sessions == 1
    held[0].close()

    def work() -> None:
        with cache._mutex:
            held.clear()
            gc.collect()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert cache.stats().sessions == 0


def test_what_one_reader_changes_no_other_one_sees(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": {"x": [1]}}'}}
    run = db.begin_run(
        "s",
        [Message("user", [{"type": "text", "text": "Hi"}], extra={"nested": [{"a": 1}]})],
        prompt=Message("system", "Be brief."),
        metadata={"deep": {"list": [1, {"x": 2}]}},
        state={"deep": {"list": [1]}},
    )
    db.append_messages(run, [Message("assistant", None, tool_calls=[call]), Message("tool", "seen", tool_call_id="c")])
    db.finish_run(run, [Message("assistant", "Done")])
    db.update_values("s", "metadata", {"deep": {"list": [1, {"x": 2}]}})
    wanted = read(db).to_dict()
    for _ in range(2):
        session = read(cached)
        changed = _mutate_all(session, set())
        assert changed > 20, "this test would be no test"
        session.name = "Mine"
        session.session_state["new"] = 1
        session.upsert_run(msgspec.structs.replace(session.runs[0], run_id="mine"))
        session.metadata = {}
        assert read(cached).to_dict() == wanted
        assert counts(cache)[1:] == (1, 0, 0)


def _mutate_all(value: Any, seen: set[int], depth: int = 0) -> int:
    """Change everything that can be reached from a value by public names; count what could be tried."""
    if id(value) in seen or depth > 8 or isinstance(value, type):
        return 0
    seen.add(id(value))
    found = 0
    if isinstance(value, dict):
        found += sum(_mutate_all(one, seen, depth + 1) for one in list(value.values()))
        value.clear()
        value["changed"] = True
        return found + 1
    if isinstance(value, list):
        found += sum(_mutate_all(one, seen, depth + 1) for one in list(value))
        value[:] = ["changed"]
        return found + 1
    if isinstance(value, str | bytes | int | float | None):
        return 0
    if not type(value).__module__.startswith("recollect"):
        return sum(_mutate_all(one, seen, depth + 1) for one in value) if isinstance(value, tuple) else 0
    for name in [name for name in dir(value) if not name.startswith("_")]:
        part = getattr(value, name)
        if callable(part) and name in _GIVES:
            part = part()
        found += 0 if callable(part) else _mutate_all(part, seen, depth + 1)
        if depth:
            with pytest.raises((AttributeError, TypeError)):
                setattr(value, name, "changed")
            found += 1
    for part in value if hasattr(type(value), "__iter__") else ():
        found += _mutate_all(part, seen, depth + 1)
    return found


_GIVES = ("get_messages", "get_chat_history", "get_tool_calls", "to_dict", "get_session_summary")


LIMITS = [HistoryLimits(), HistoryLimits(runs=3), HistoryLimits(tokens=150), HistoryLimits(messages=5, runs=4)]
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize("seed", range(12))
def test_the_past_that_a_turn_is_shown_is_the_same_with_a_cache(
    db: Store, cache: SessionCache, clock: Times, seed: int
) -> None:
    """Whoever writes in between, however runs end, whichever limits are asked for."""
    rng = random.Random(seed)
    cached = over(cache, db)
    leader = None
    for number in range(30):
        limits = LIMITS[0] if rng.random() < 0.6 else rng.choice(LIMITS)
        store = cached if rng.random() < 0.8 else db
        parent = leader if rng.random() < 0.1 else None
        asked = [Message("user", "x" * rng.choice((5, 5, 300)))]
        run = store.begin_run("s", asked, history=limits, parent_run_id=parent, agent_id="a")
        leader = run.run_id if parent is None else leader
        assert db.transact(refresh_run, run, history=limits).history == run.history
        if rng.random() < 0.1:
            db.set_session_name("s", f"Name {number}")
        if rng.random() < 0.3:
            store.append_messages(run, [Message("assistant", None, tool_calls=[CALL])], at=1)
            if rng.random() < 0.7:
                store.append_messages(run, [Message("tool", "seen", tool_call_id="c")], at=2)
        if rng.random() < 0.1:
            del run
            clock.ahead += 60_000_000
            continue
        statuses = [RunStatus.completed] * 6 + [RunStatus.error, RunStatus.cancelled, RunStatus.paused]
        store.finish_run(run, [Message("assistant", f"Answer {number}")], at=3, status=rng.choice(statuses))
        if rng.random() < 0.05:
            db.delete_session("s")
            leader = None
        if rng.random() < 0.2:
            assert same(cached, db)


def test_a_turn_after_a_turn_does_not_read_the_past_again(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    for number in range(5):
        run = cached.begin_run("s", [Message("user", f"Question {number}")], history=LIMITS[0])
        assert run.history.runs == number
        assert run.past is None, "it is kept, or was not read"
        cached.finish_run(run, [Message("assistant", f"Answer {number}")])
    assert [message.text for message in run.history.messages][-2:] == ["Question 3", "Answer 3"]
    read_again = db.begin_run("s", [Message("user", "Hi")], history=LIMITS[0], known=(run.epoch, run.version + 1))
    assert (read_again.past, read_again.history.runs) == (None, 0), "whoever knows the past is not told it"
    db.finish_run(read_again)
    stale = db.begin_run("s", [Message("user", "Hi")], history=LIMITS[0], known=(run.epoch, run.version + 1))
    assert stale.history.runs == 6
    assert cache.stats().bytes > 0
    cached.delete_session("s")
    assert cache.stats().sessions == 0


def test_a_step_that_stores_nothing_does_not_hide_what_others_wrote(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    turn(cached, text="1", history=LIMITS[0])
    run = cached.begin_run("s", [Message("user", "2")], history=LIMITS[0])
    turn(db, "other", text="From elsewhere")
    brought = read(db, "other").to_dict() | {"session_id": "s"}
    db.upsert_session(AgentSession.from_dict(brought))
    cached.append_messages(run)
    cached.finish_run(run, [Message("assistant", "A2")])
    run = cached.begin_run("s", [Message("user", "3")], history=LIMITS[0])
    assert run.history == db.transact(refresh_run, run, history=LIMITS[0]).history
    assert "From elsewhere" in [message.text for message in run.history.messages]


def test_a_step_that_stores_nothing_keeps_the_past_known(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    run = cached.begin_run("s", [Message("user", "1")], history=LIMITS[0])
    cached.append_messages(run)
    cached.append_messages(run, state={"k": "1"})
    cached.append_messages(run, [Message("assistant", "A")])
    cached.finish_run(run)
    window = cache.find_window((cache.number(db), "s"), LIMITS[0])
    assert window is not None
    assert window.at == (run.epoch, read(db).version)


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_database_brought_back_to_an_earlier_day_is_read_anew(
    file: SqliteDb, cache: SessionCache, tmp_path: Path, *, looked_at: bool
) -> None:
    cached = over(cache, file)
    turn(cached, text="Kept", history=LIMITS[0])
    with (
        closing(sqlite3.connect(tmp_path / "s.db")) as live,
        closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
    ):
        live.backup(backup)
        for number in range(3):
            turn(cached, text=f"Lost {number}", history=LIMITS[0])
        read(cached)
        backup.backup(live)
    if looked_at:
        assert same(cached, file)
        assert cache.stats().reloads == 1
        assert same(cached, file)
    for number in range(4):
        if number:
            turn(file, text=f"New {number}")
        run = cached.begin_run("s", [Message("user", "Hi")], history=LIMITS[0])
        assert run.history == file.transact(refresh_run, run, history=LIMITS[0]).history
        cached.finish_run(run, status=RunStatus.error)
        assert same(cached, file)


ANOTHER_PROCESS = """
import sys
from recollect import Message
from recollect.db import open_db
with open_db(sys.argv[1]) as db:
    for line in sys.stdin:
        if line.strip() == "delete":
            db.delete_session("s")
        run = db.begin_run("s", [Message("user", line.strip())])
        db.finish_run(run, [Message("assistant", "ok")])
        print(run.run_id, flush=True)
"""


def test_what_another_process_wrote_is_seen_as_soon_as_it_says_so(db: Store, cache: SessionCache) -> None:
    cached = over(cache, db)
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER_PROCESS, HOW[db][3]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for number in range(60):
            other.stdin.write("delete\n" if number % 20 == 19 else f"Number {number}\n")
            other.stdin.flush()
            run_id = other.stdout.readline().strip()
            session = read(cached)
            assert session.runs[-1].run_id == run_id
            begun = 1 + number if number < 19 else 1 + (number - 19) % 20
            assert len(session.runs) == session.header.run_count == begun
        other.stdin.close()
    stats = cache.stats()
    assert stats.catch_ups > 50
    assert stats.reloads == 3


def test_a_child_process_has_a_cache_of_its_own(db: Store, cache: SessionCache) -> None:
    cached = cache.over(db)
    turn(db)
    read(cached)
    child = os.fork()
    if child == 0:
        fine = False
        try:
            turn(db, text="From the child")
            fine = same(cached, db) and cache.stats().catch_ups == 1
        finally:
            os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert same(cached, db)
    assert cache.stats().catch_ups == 1


def test_nothing_is_lost_of_a_database_that_was_rewritten_by_hand(db: Store, cache: SessionCache) -> None:
    """Whoever replaces a body draws a new epoch; then all is read anew."""
    cached = over(cache, db)
    turn(db)
    read(cached)

    @writes
    async def rewrite(tx: Tx) -> None:
        await tx.execute(
            ("update recollect_messages set body = replace(body, 'Hi', 'Hello')", {}),
            ("update recollect_sessions set epoch = 7", {}),
        )

    db.transact(rewrite)
    assert read(cached).runs[0].input == "Hello"
    assert cache.stats().reloads == 1


def test_what_it_does_is_told(db: Store, cache: SessionCache) -> None:
    turn(db)
    cached = over(cache, db)
    read(cached)
    assert "1 sessions" in repr(cache)
    assert repr(db) in repr(cache.over(db))
    assert cached.home is db
    assert cache.over(cached).home is db
    cache.clear()
    assert (cache.stats().sessions, cache.stats().bytes) == (0, 0)
    assert same(cached, db)
