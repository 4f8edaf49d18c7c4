"""What was ever said is found: complete at every moment, by those only who may see it, and gone when it is deleted."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_kit import postgres_db, postgres_url
from store_kit import TWO, Face, MovingClock, answer, calls, result, run_sql, system, turn, user

from recollect import Agent, EchoModel, SearchHit, SearchUnavailable, open_db
from recollect.copying import copy_sessions
from recollect.db import fulltext
from recollect.db.sqlite import SqliteDb
from recollect.errors import InvalidArgument
from recollect.port import Tx, reads
from recollect.query import Query, spelled, words_of
from recollect.run import RunStatus
from recollect.selection import is_own
from recollect.session import AgentSession, SessionSummary
from recollect.store import Store, documents, hits, indexed, summaries

ROOT = Path(__file__).parent.parent.parent
WORKER = Path(__file__).parent / "search_worker.py"
DOCUMENTS = "select count(*) from recollect_documents"

anyio = pytest.mark.anyio


def where(found: Any) -> list[tuple[Any, ...]]:
    """Where hits are, in the order in which they were given."""
    return [(hit.session_id, hit.where, hit.run_seq, hit.idx) for hit in found]


async def summarise(db: Face, session_id: str, text: str) -> None:
    since = await db.transact(summaries.get_unsummarised, session_id)
    await db.transact(summaries.finish_summary, session_id, since, since.settled, SessionSummary(summary=text), 1)


@anyio
async def test_names_summaries_and_messages_are_found_newest_first(db: Face) -> None:
    await turn(db, "a", "Where is the Crème brûlée?", user_id="ada", run_id="r1")
    await turn(db, "b", "None of it here", user_id="bob")
    await db.set_session_name("b", "CREME wanted")
    await summarise(db, "a", "They looked for creme.")
    run = await db.begin_run("a", [user("Look again")], user_id="ada", run_id="r2", prompt=system("Creme is secret"))
    await db.append_messages(run, [calls("c")])
    await db.append_messages(run, [result("c", "crème: in the fridge")])
    for _ in range(2):  # looked through, then found fast
        page = await db.search("crème")
        found = {(hit.session_id, hit.where, hit.run_id, hit.role): hit for hit in page}
        assert set(found) == {
            ("a", "message", "r1", "user"),
            ("a", "message", "r1", "assistant"),
            ("a", "message", "r2", "tool"),
            ("a", "summary", None, None),
            ("b", "name", None, None),
        }
        assert [hit.time for hit in page] == sorted((hit.time for hit in page), reverse=True)
        hit = found["a", "message", "r1", "user"]
        assert (hit.run_seq, hit.idx, hit.user_id, hit.session_name) == (1, 0, "ada", "")
        assert hit.marked("[", "]") == "Where is the [Crème] brûlée?"
        assert 0 < hit.rank < 1
        assert page.next_cursor is None
        await db.index_sessions()
    assert where(await db.search('"look again"')) == [("a", "message", 2, 0)]
    assert where(await db.search("frid* CREME")) == [("a", "message", 2, 2)]
    assert len(await db.search('"brulee creme"')) == 0
    assert len(await db.search(" !? ")) == 0


@anyio
async def test_words_of_scripts_without_blanks_are_found_within(db: Face) -> None:
    for session_id, text in {"ja": "東京都に行きたい", "zh": "我想去北京和東莞", "ko": "한국어를 배워요"}.items():
        await turn(db, session_id, text)
    for _ in range(2):
        for query, wanted in {
            "東京": {"ja"},
            "京": {"ja", "zh"},
            "北京": {"zh"},
            "한국": {"ko"},
            "東莞 北": {"zh"},
        }.items():
            assert {hit.session_id for hit in await db.search(query)} == wanted
        assert len(await db.search("東北")) == 0
        await db.index_sessions()


@anyio
async def test_a_page_goes_on_where_the_last_one_ended(db: Face) -> None:
    for number in range(12):
        await turn(db, f"s{number % 4}", f"fish {number}")
        if not number % 3:
            db.clock.forward(1)
    await db.set_session_name("s2", "fish of s2")
    whole = where(await db.search("fish", limit=100))
    assert len(whole) == 25
    walked: list[Any] = []
    cursor = None
    while True:
        page = await db.search("fish", limit=4, cursor=cursor)
        walked += where(page)
        cursor = page.next_cursor
        if cursor is None:
            break
        run_sql(db, "update recollect_indexed set epoch = 0, due = 1 where session_id <> ''")  # made anew meanwhile
    assert walked == whole
    assert [len(await db.search("fish", limit=25)), (await db.search("fish", limit=25)).next_cursor] == [25, None]


@anyio
async def test_only_what_was_asked_for_is_found(db: Face) -> None:
    await turn(db, "a", "fish", user_id="ada", agent_id="cook")
    db.clock.forward(60)
    await turn(db, "t", "fish", user_id="ada", kind="team", team_id="kitchen")
    await turn(db, "n", "fish")
    second = (await db.search("fish", user_id="ada", kind="team"))[0].time
    for _ in range(2):
        assert {hit.session_id for hit in await db.search("fish")} == {"a", "t", "n"}
        assert {hit.session_id for hit in await db.search("fish", user_id="ada")} == {"a", "t"}
        assert {hit.session_id for hit in await db.search("fish", user_id="bob")} == set()
        assert {hit.session_id for hit in await db.search("fish", kind="team")} == {"t"}
        assert {hit.session_id for hit in await db.search("fish", agent_id="cook")} == {"a"}
        assert {hit.session_id for hit in await db.search("fish", user_id="ada", since=second)} == {"t"}
        assert {hit.session_id for hit in await db.search("fish", user_id="ada", until=second)} == {"a"}
        assert {hit.session_id for hit in await db.search("fish", session_id="t")} == {"t"}
        assert len(await db.search("fish", session_id="t", user_id="bob")) == 0
        assert len(await db.search("fish", session_id="none")) == 0
        await db.index_sessions()
    await db.claim_session("n", "bob")
    assert {hit.session_id for hit in await db.search("fish", user_id="bob")} == {"n"}
    await db.index_sessions()
    assert {hit.session_id for hit in await db.search("fish", user_id="bob")} == {"n"}


@anyio
async def test_what_is_no_part_of_the_conversation_is_not_found(db: Face) -> None:
    await turn(db, "s", "old fish", run_id="old")
    await db.search("fish")
    candidate = await db.begin_run("s", [user("new fish")], run_id="new", replaces="old")
    assert {hit.run_id for hit in await db.search("fish")} == {"old"}
    await db.finish_run(candidate, [answer("fish it is")])
    assert {hit.run_id for hit in await db.search("fish")} == {"new"}
    member = await db.begin_run("s", [user("fish for a member")], parent_run_id="new")
    await db.finish_run(member, [answer("fish")])
    failed = await db.begin_run("s", [user("fish that failed")], run_id="failed")
    await db.finish_run(failed, status=RunStatus.error, error="fish")
    assert {hit.run_id for hit in await db.search("fish")} == {"new", "failed"}
    await db.set_session_expiry("s", timedelta(seconds=5))
    assert len(await db.search("fish")) == 3
    db.clock.forward(6)
    assert len(await db.search("fish")) == 0
    await turn(db, "s", "bird")
    assert len(await db.search("fish")) == 0
    assert len(await db.search("bird")) == 2


@anyio
async def test_what_is_deleted_takes_what_it_is_found_by_along(db: Face) -> None:
    for session_id in ("s", "t"):
        await turn(db, session_id, "fish", run_id="one")
        await turn(db, session_id, "fish", run_id="two")
    await db.index_sessions()
    assert run_sql(db, DOCUMENTS) == [(8,)]
    await db.delete_run("one", "s")
    assert run_sql(db, DOCUMENTS) == [(6,)]
    await db.delete_session("t")
    assert run_sql(db, DOCUMENTS) == [(2,)]
    assert {(hit.session_id, hit.run_id) for hit in await db.search("fish")} == {("s", "two")}
    again = await db.begin_run("s", [user("fish")], run_id="cut")
    await db.finish_run(again, status=RunStatus.cancelled)
    await db.index_sessions()
    await db.begin_run("s", [user("bird")], run_id="cut", again=True)
    assert {hit.run_id for hit in await db.search("fish")} == {"two"}
    assert {hit.run_id for hit in await db.search("bird")} == {"cut"}
    await db.delete_sessions(["s"])
    assert run_sql(db, DOCUMENTS) == [(0,)]
    assert run_sql(db, "select count(*) from recollect_indexed where session_id <> ''") == [(0,)]


@anyio
@pytest.mark.parametrize("db", [*TWO, ("postgres", "sync")], indirect=True, ids="-".join)
async def test_whoever_does_not_search_does_not_pay(db: Face) -> None:
    for number in range(3):
        await turn(db, "s", f"fish {number}")
    await db.set_session_name("s", "fish")
    await summarise(db, "s", "fish")
    for table in ("documents", "indexed"):
        assert run_sql(db, f"select count(*) from recollect_{table}") == [(0,)]


@anyio
@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
async def test_what_cannot_be_asked_is_refused(db: Face) -> None:
    for wrong in ({"limit": 0}, {"limit": 101}, {"cursor": "none"}, {"cursor": "W10"}, {"kind": "x"}, {"user_id": ""}):
        with pytest.raises(InvalidArgument, match=next(iter(wrong))):
            await db.search("fish", **wrong)
    with pytest.raises(InvalidArgument, match="since"):
        await db.search("fish", since=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


async def _index_none(*_: Any) -> None:
    """Have everything looked through."""


@anyio
@pytest.mark.parametrize("db", [*TWO, ("postgres", "async")], indirect=True, ids="-".join)
@pytest.mark.parametrize("limit", [(1, 3), (200, 60)])
async def test_a_long_session_is_made_findable_in_steps(
    db: Face, limit: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "RUNS", limit[0])
    monkeypatch.setattr(documents, "ROOM", limit[1])
    monkeypatch.setattr(hits, "_index_some", _index_none)
    monkeypatch.setattr(hits, "keep_up", lambda _: None)
    for number in range(5):
        await turn(db, "s", f"fish {number}", run_id=f"r{number}")
    fork = await db.fork_session("s")
    steps = 0
    while not (step := await db.transact(documents.read_step, fork.session_id)).is_last:
        assert await db.transact(documents.write_step, step)
        steps += 1
        assert len(await db.search("fish", limit=100)) == 20
    assert await db.transact(documents.write_step, step)
    assert not await db.transact(documents.write_step, step)  # somebody did
    assert steps >= 1
    assert await db.index_sessions() == 1
    assert len(await db.search("fish", limit=100)) == 20
    assert await db.index_sessions() == 0


@anyio
@pytest.mark.parametrize("db", [*TWO, ("postgres", "sync")], indirect=True, ids="-".join)
async def test_a_change_beside_the_making_is_not_lost(db: Face) -> None:
    await turn(db, "s", "fish")
    await db.index_sessions()
    db.clock.forward(1000)
    await db.transact(indexed.move_mark)
    await db.set_session_name("s", "first")
    step = await db.transact(documents.read_step, "s")
    await db.set_session_name("s", "second")
    assert await db.transact(documents.write_step, step)
    assert [len(await db.search("first")), len(await db.search("second"))] == [0, 1]
    step = await db.transact(documents.read_step, "s")
    await db.delete_session("s")
    assert not await db.transact(documents.write_step, step)
    assert run_sql(db, DOCUMENTS) == [(0,)]


@anyio
@pytest.mark.parametrize("db", [*TWO, ("postgres", "sync")], indirect=True, ids="-".join)
async def test_sessions_beyond_the_first_are_looked_through(db: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hits, "AT_ONCE", 2)
    monkeypatch.setattr(hits, "keep_up", lambda _: None)
    for number in range(7):
        await turn(db, f"s{number}", "fish")
    for left in (5, 3, 1, 0):
        assert len(await db.search("fish", limit=100)) == 14
        p = {"changed": -indexed.EVER}
        assert len(await db.transact(indexed.list_unindexed, p, 100)) == left


@anyio
@pytest.mark.parametrize("db", [*TWO, ("postgres", "sync")], indirect=True, ids="-".join)
async def test_old_sessions_are_not_looked_at_again_and_changes_of_them_are_seen(db: Face) -> None:
    await turn(db, "s", "fish", run_id="one")
    await turn(db, "s", "fish", run_id="two")
    await db.search("fish")
    db.clock.forward(1000)
    await db.search("fish")
    assert (await db.transact(indexed.get_mark))[0] > run_sql(db, "select updated_at from recollect_sessions")[0][0]
    await db.set_session_name("s", "bird")
    assert where(await db.search("bird")) == [("s", "name", None, None)]
    await summarise(db, "s", "cat")
    assert where(await db.search("cat")) == [("s", "summary", None, None)]
    await db.delete_run("one", "s")
    assert {hit.run_id for hit in await db.search("fish")} == {"two"}
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    given = AgentSession("old", session_data={"session_name": "dog"}, created_at=long_ago, updated_at=long_ago)
    await db.upsert_session(given)
    assert where(await db.search("dog")) == [("old", "name", None, None)]
    db.clock.forward(-5000)  # the clock was wrong, and was put right
    await turn(db, "s", "horse")
    assert len(await db.search("horse")) == 2


@anyio
@pytest.mark.parametrize("db", [*TWO, ("postgres", "sync")], indirect=True, ids="-".join)
async def test_what_was_said_after_a_clock_was_put_back_is_found_long_after(db: Face) -> None:
    await turn(db, "s", "fish")
    db.clock.forward(5000)
    await db.search("fish")
    db.clock.forward(-5000)
    await turn(db, "t", "horse")
    db.clock.forward(1000)
    assert len(await db.search("horse")) == 2
    assert (await db.transact(indexed.get_mark))[0] < db.clock.now()
    assert (await db.transact(indexed.list_unindexed, {"changed": -indexed.EVER}, 9)) == []


@anyio
@pytest.mark.parametrize("db", [*TWO, ("postgres", "async")], indirect=True, ids="-".join)
@pytest.mark.parametrize("most", [(200, 10), (2, 10), (200, 1)], ids=str)
async def test_beginnings_of_any_length_are_found(
    db: Face, most: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits, "FORMS", most[0])
    monkeypatch.setattr(hits, "BEGINNINGS", most[1])
    said = ("international", "internet", "interns", "integer", "into", "it", "Интернет", "\U0001d48anternal 東京")
    for number, word in enumerate(said):
        run = await db.begin_run("s", [user(word)])
        await db.finish_run(run, status=RunStatus.cancelled)
        if number % 2:
            await db.index_sessions()
    await db.index_sessions()
    for query, wanted in {
        "i*": {1, 2, 3, 4, 5, 6, 8},
        "in*": {1, 2, 3, 4, 5, 8},
        "int*": {1, 2, 3, 4, 5, 8},
        "inte*": {1, 2, 3, 4, 8},
        "intern*": {1, 2, 3, 8},
        "interna*": {1, 8},
        "internationalx*": set(),
        "intez*": set(),
        "интер*": {7},
        "inter* intern*": {1, 2, 3, 8},
        "internat* interne*": set(),
        "interna* 東京": {8},
        '"internal 東"*': {8},
    }.items():
        assert {hit.run_seq for hit in await db.search(query)} == wanted, query
        assert {hit.run_seq for hit in await db.search(query, session_id="s")} == wanted, query


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where several processes meet."""
    if request.param == "sqlite":
        yield str(tmp_path / "s.db")
    else:
        with postgres_url() as url:
            yield url


def _worker(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, WORKER, *arguments], stdout=subprocess.PIPE, text=True)


def test_what_another_process_has_stored_is_found_at_once(address: str) -> None:
    with open_db(address) as db, _worker(address, "write", "fish", "40") as one, _worker(address, "index") as other:
        assert one.stdout is not None
        for line in one.stdout:
            number = int(line)
            assert len(db.search(f"number{number}")) == 2
            if number == 20:
                other.kill()
        assert len(db.search("fish", limit=100)) == 40
        db.index_sessions()
        assert len(db.search("fish", limit=100)) == 40


def test_a_process_that_was_killed_while_making_leaves_all_to_be_found(address: str) -> None:
    with open_db(address) as db:
        for number in range(60):
            run = db.begin_run(f"s{number}", [user(f"fish {number} " + "word " * 200)])
            db.finish_run(run, [answer("fish")])
        with _worker(address, "index") as worker:
            assert worker.stdout is not None
            worker.stdout.readline()
            for _ in range(3):
                assert len(db.search("fish", limit=100)) == 100
            worker.kill()
        db.index_sessions()
        changed = {"changed": -indexed.EVER}
        assert db.transact(indexed.list_unindexed, changed, 9) == []
        page = db.search("fish", limit=100)
        rest = db.search("fish", limit=100, cursor=page.next_cursor)
        assert len({*where(page), *where(rest)}) == 120


@reads
async def _count(tx: Tx) -> int:
    [[(count,)]] = await tx.execute((DOCUMENTS, {}))
    return int(count)


def test_what_an_agent_said_is_made_findable_in_the_background() -> None:
    with Agent(EchoModel(), db=SqliteDb(), user_id="ada") as agent:
        for number in range(hits.AT_ONCE + 5):
            agent.run(f"fish {number}", session_id=f"s{number}")
        assert agent.db.transact(_count) == 0
        assert len(agent.search("fish", limit=100)) == 2 * hits.AT_ONCE + 10
        assert agent.flush(10)
        assert agent.db.transact(_count) == 2 * hits.AT_ONCE + 10
        assert len(agent.search("fish", user_id="bob")) == 0


def test_a_search_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "s.db", timeout=0.05) as db:
        db.finish_run(db.begin_run("s", [user("fish")]), [answer()])
        with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
            other.execute("begin immediate")
            assert where(db.search("fish")) == [("s", "message", 1, 0)]


def test_without_fts5_all_but_searching_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteDb(tmp_path / "s.db") as db:
        for session_id in ("s", "t"):
            db.finish_run(db.begin_run(session_id, [user("fish")]), [answer("fish")])
        assert len(db.search("fish")) == 4
    with monkeypatch.context() as patched:
        patched.setattr(fulltext, "has_fts5", lambda: False)
        with SqliteDb(tmp_path / "s.db") as db:
            with pytest.raises(SearchUnavailable, match="built without FTS5"):
                db.search("fish")
            db.finish_run(db.begin_run("u", [user("fish")]), [answer("fish")])
            db.delete_session("s")
            db.index_sessions()
            db.vacuum()
            assert len(db.get_sessions()) == 2
        with SqliteDb() as db, pytest.raises(SearchUnavailable):
            db.search("fish")
    with SqliteDb(tmp_path / "s.db") as db:
        assert {hit.session_id for hit in db.search("fish")} == {"t", "u"}
        db.vacuum()
        assert {hit.session_id for hit in db.search("fish")} == {"t", "u"}


@contextmanager
def _both() -> Iterator[list[Store]]:
    with SqliteDb() as one, postgres_db() as other:
        yield [one, other]


def _paragraphs() -> Iterator[str]:
    for file in (ROOT / "README.md", ROOT / "docs" / "tutorial.md", ROOT / "docs" / "guarantees.md"):
        yield from (text for text in re.split(r"\n\n+", file.read_text(encoding="utf-8")) if text.strip())


ASKED = (
    "session", "the session of a user", '"a session"', "data*", "sess* run*", "postgres", "sqlite OR postgres",
    "get_sessions", '"session_id="', "user_id", "e-mail", "kill -9", '"every run"', "10,000", "nothing-of-the-kind",
    "東京", "'; drop table", "NEAR(a b)", "a", "co*", "^the", "{x} : y",
)  # fmt: skip


def test_the_same_query_gives_the_same_hits_on_each_database() -> None:
    texts = list(_paragraphs())
    began = datetime(2026, 1, 1, tzinfo=UTC)
    with _both() as stores:
        for number, text in enumerate(texts):
            given = AgentSession(f"s{number:04}", created_at=began + timedelta(seconds=number // 3))
            for db in stores:
                db.upsert_session(given)
                db.set_session_name(given.session_id, text[:150])
        for db in stores:
            assert db.index_sessions() == len(texts)
        for query in ASKED:
            wanted = Query.of(query)
            naive = {
                f"s{number:04}" for number, text in enumerate(texts) if wanted.matches(spelled(words_of(text[:150])))
            }
            one, other = (list(_all(db, query)) for db in stores)
            assert one == other
            assert {hit.session_id for hit in one} == (naive if wanted.terms else set())


@pytest.mark.parametrize("steps", [(4, 1, (8,)), (4, 9, (8,)), (3, 1, (5, 40)), (1000, 3, (1,))])
def test_whichever_way_postgres_takes_it_finds_the_same(
    steps: tuple[int, int, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(("NEWEST", "OFTEN", "MORE"), steps, strict=True):
        monkeypatch.setattr(hits, name, value)
    clock = MovingClock()
    with postgres_db(clock=clock) as db:
        for number in range(20):
            said = "fish and chips" if number % 3 else "fish" if number else "rare fish"
            db.finish_run(db.begin_run(f"s{number % 4}", [user(said)]), [answer("Well")])
            clock.forward(1)
        db.index_sessions()
        for query, count in {
            "fish": 20,
            '"fish and"': 13,
            "rare": 1,
            "well fi*": 0,
            "none": 0,
            "chips fish": 13,
        }.items():
            found = list(_all(db, query))
            assert len(found) == count
            assert [hit.time for hit in found] == sorted((hit.time for hit in found), reverse=True)


def _all(db: Store, query: str, **filters: Any) -> Iterator[SearchHit]:
    cursor = None
    while True:
        page = db.search(query, limit=7, cursor=cursor, **filters)
        yield from page
        if (cursor := page.next_cursor) is None:
            return


def test_a_copy_is_searched_as_its_source_is() -> None:
    with _both() as (one, other):
        for number in range(3):
            one.finish_run(one.begin_run(f"s{number}", [user("fish")]), [answer("fish")])
        other.search("fish")
        assert copy_sessions(one, other).is_whole
        assert list(_all(one, "fish")) == list(_all(other, "fish"))
        one.finish_run(one.begin_run("s1", [user("fish again")]), [answer("bird")])
        other.index_sessions()
        assert copy_sessions(one, other).is_whole
        assert list(_all(one, "fish")) == list(_all(other, "fish"))


WORDS = ("fish", "fishes", "Crème", "creme", "東京", "京都", "a-b", "b")
EDITS = st.tuples(
    st.sampled_from(
        ("turn", "turn", "name", "again", "delete_run", "delete", "fork", "expire", "summary", "index", "old", "wait",
         "claim", "search")
    ),
    st.integers(0, 2),
    st.integers(0, 5),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
)  # fmt: skip
QUERIES = ("fish", "fish*", "creme", '"creme fish"', "京", "東京", '"a b"', "b fish", "京都 東")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def edited(request: pytest.FixtureRequest) -> Iterator[tuple[Store, MovingClock]]:
    clock = MovingClock()
    opened = SqliteDb(clock=clock) if request.param == "sqlite" else postgres_db(clock=clock)
    with opened as db:
        yield db, clock


@settings(max_examples=40, deadline=None)
@given(edits=st.lists(EDITS, min_size=3, max_size=14))
def test_what_is_found_is_what_looking_through_all_would_find(
    edited: tuple[Store, MovingClock], edits: list[tuple[str, int, int, str]]
) -> None:
    db, clock = edited
    for header in list(db.iter_sessions()):
        db.delete_session(header.session_id)
    db.purge_sessions()
    clock.forward(1000)
    for what, session, number, text in edits:
        _edit(db, clock, what, f"s{session}", number, text)
    for query in QUERIES:
        assert {(*where([hit])[0], hit.role) for hit in _all(db, query)} == _naive(db, Query.of(query))
        mine = {(*where([hit])[0], hit.role) for hit in _all(db, query, user_id="ada")}
        assert mine == _naive(db, Query.of(query), "ada")
    db.index_sessions()
    for query in QUERIES:
        assert {(*where([hit])[0], hit.role) for hit in _all(db, query)} == _naive(db, Query.of(query))


def _edit(db: Store, clock: MovingClock, what: str, s: str, number: int, text: str) -> None:  # noqa: C901, PLR0912
    found = db.get_session(s)
    owner = None if found is None else found.user_id
    own = [] if found is None else [run for run in found.runs if is_own(run)]
    if what == "turn":
        db.finish_run(db.begin_run(s, [user(text)], user_id=owner), [answer(text.upper())])
    elif what == "wait":
        clock.forward((1, 200, -500)[number % 3])
    elif what == "index":
        db.index_sessions(limit=number)
    elif what == "search":
        db.search(text)
    elif what == "old":
        long_ago = datetime(2019, 1, 1 + number, tzinfo=UTC)
        given = AgentSession(f"old{s}", user_id="ada", session_data={"session_name": text}, created_at=long_ago)
        db.upsert_session(given)
    elif found is None:
        return
    elif what == "name":
        db.set_session_name(s, text)
    elif what == "again" and own:
        run = db.begin_run(s, [user(text)], user_id=owner, replaces=own[number % len(own)].run_id)
        db.finish_run(run, [answer(text)], status=RunStatus.completed if number % 2 else RunStatus.error)
    elif what == "delete_run" and found.runs:
        db.delete_run(found.runs[number % len(found.runs)].run_id, s)
    elif what == "delete":
        db.delete_session(s)
    elif what == "fork":
        db.fork_session(s, name=text if number % 2 else None)
    elif what == "expire":
        db.set_session_expiry(s, timedelta(seconds=150))
    elif what == "claim" and owner is None:
        db.claim_session(s, "ada")
    elif what == "summary":
        since = db.transact(summaries.get_unsummarised, s)
        db.transact(summaries.finish_summary, s, since, since.settled, SessionSummary(summary=text), 1)


def _naive(db: Store, query: Query, user_id: str | None = None) -> set[tuple[Any, ...]]:
    found: set[tuple[Any, ...]] = set()
    for header in db.iter_sessions(user_id=user_id):
        session = db.get_session(header.session_id)
        assert session is not None
        said = [("name", None, None, None, session.name)]
        said += [("summary", None, None, None, session.summary.summary)] if session.summary else []
        for run in session.runs:
            if is_own(run):
                said += [("message", run.run_seq, idx, m.role, m.text) for idx, m in enumerate(run.said)]
        found |= {(header.session_id, *place) for *place, text in said if query.matches(spelled(words_of(text)))}
    return found


@given(query=st.text(max_size=40) | st.text("ab\"*'() -:^{}\\", max_size=20))
@settings(max_examples=60, deadline=None)
def test_nothing_that_is_typed_is_a_mistake_to_a_database(edited: tuple[Store, MovingClock], query: str) -> None:
    edited[0].search(query)
