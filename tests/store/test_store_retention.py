"""How long sessions are kept: one whose time is over is gone for everybody, and purged with all that is in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from store_kit import NOTHING, TWO, Face, answer, dump, header_of, system, turn, user

from recollect.checks import from_micros
from recollect.errors import InvalidArgument, RunLost, SessionConflict, SessionNotFound
from recollect.history import HistoryLimits
from recollect.run import RunStatus
from recollect.session import AgentSession
from recollect.store import claims, continued, names, summaries
from recollect.store.deletion import delete_if_due

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


async def ids(db: Face, **filters: Any) -> list[str]:
    return [header.session_id for header in await db.get_sessions(**filters)]


async def purgeable(db: Face, **which: Any) -> list[str]:
    return [header.session_id async for header in db.each("iter_purgeable", **which)]


def later(db: Face, by: timedelta = HOUR) -> None:
    db.clock.forward(by.total_seconds())


def at(db: Face, ahead: timedelta) -> datetime:
    return from_micros(db.clock.now()) + ahead


async def test_a_session_is_kept_so_long_after_the_begin_of_its_last_run(db: Face) -> None:
    db.clock.stop()
    await db.create_session("s", expire_after=HOUR)
    assert ((await header_of(db)).expire_after, (await header_of(db)).expires_at) == (HOUR, at(db, HOUR))
    later(db, HOUR / 2)
    run = await turn(db)
    assert (await header_of(db)).expires_at == at(db, HOUR)
    later(db, HOUR / 2)
    await db.set_session_name("s", "No activity")
    await db.finish_run(await db.begin_run("s", [user()]), status=RunStatus.error)
    later(db, HOUR - timedelta(microseconds=1))
    assert await db.get_run(run.run_id, "s") is not None
    later(db, timedelta(microseconds=1))
    assert await db.get_run(run.run_id, "s") is None


async def test_a_begin_may_say_how_long_and_one_that_does_not_leaves_it(db: Face) -> None:
    db.clock.stop()
    await turn(db, expire_after=HOUR)
    assert (await header_of(db)).expire_after == HOUR
    await turn(db, expire_after=2 * HOUR)
    await turn(db)
    header = await header_of(db)
    assert (header.expire_after, header.expires_at) == (2 * HOUR, at(db, 2 * HOUR))


@pytest.mark.parametrize("span", [2 * HOUR, None])
async def test_what_a_session_was_told_of_its_own_stands_over_what_begins_say(db: Face, span: timedelta | None) -> None:
    db.clock.stop()
    await turn(db, expire_after=HOUR)
    await db.set_session_expiry("s", span)
    fork = await db.fork_session("s", new_session_id="f")
    for session_id in ("s", fork.session_id):
        await turn(db, session_id, expire_after=HOUR)
        assert (await header_of(db, session_id)).expire_after == span
    await db.create_session("made", expire_after=2 * HOUR)
    await turn(db, "made", expire_after=HOUR)
    assert (await header_of(db, "made")).expire_after == 2 * HOUR


async def test_how_long_a_session_is_kept_is_set_and_taken_back(db: Face) -> None:
    db.clock.stop()
    await turn(db)
    before = await header_of(db)
    later(db)
    header = await db.set_session_expiry("s", HOUR)
    assert (header.expires_at, header.version, header.updated_at) == (
        at(db, HOUR),
        before.version + 1,
        before.updated_at,
    )
    header = await db.set_session_expiry("s", None)
    assert (header.expires_at, header.expire_after) == (None, None)
    later(db, 10 * HOUR)
    assert await ids(db) == ["s"]


@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
@pytest.mark.parametrize("span", [timedelta(0), timedelta(-1), 0, 90, -1, 1.5, "1h", True, timedelta(days=999_999)])
async def test_what_is_no_span_of_time_is_refused(db: Face, span: Any) -> None:
    await turn(db)
    before = dump(db)
    for call in (
        lambda: db.set_session_expiry("s", span),
        lambda: db.create_session("t", expire_after=span),
        lambda: db.begin_run("s", [user()], expire_after=span),
    ):
        with pytest.raises(InvalidArgument, match="expire_after"):
            await call()
    assert dump(db) == before


GONE: dict[str, Callable[[Face], Awaitable[Any]]] = {
    "get_session": lambda db: db.get_session("s"),
    "get_header": lambda db: db.get_header("s"),
    "get_run": lambda db: db.get_run("r", "s"),
    "get_messages": lambda db: db.get_messages("s"),
    "get_last_run": lambda db: db.get_last_run("s"),
    "get_values": lambda db: db.get_values("s", "state"),
    "get_metrics": lambda db: db.get_metrics("s"),
    "get_sessions": ids,
    "count": lambda db: db.count_sessions(),
    "find by prefix": lambda db: db.find_sessions_by_prefix("s"),
    "set_session_name": lambda db: db.set_session_name("s", "Name"),
    "update_values": lambda db: db.update_values("s", "state", {"k": 2}),
    "tag_session": lambda db: db.tag_session("s", ["red"]),
    "archive_session": lambda db: db.archive_session("s"),
    "pin_session": lambda db: db.pin_session("s"),
    "set_session_expiry": lambda db: db.set_session_expiry("s", None),
    "claim_session": lambda db: db.claim_session("s", "u"),
    "fork_session": lambda db: db.fork_session("s"),
    "delete_run": lambda db: db.delete_run("r", "s"),
    "replace": lambda db: db.begin_run("s", [user()], replaces="r"),
    "continue": lambda db: db.transact(continued.continue_run, "r", "s"),
    "cancel": lambda db: db.transact(continued.request_cancel, "r", "s"),
    "name": lambda db: db.transact(names.begin_naming, "s", 1),
    "opening": lambda db: db.transact(names.get_opening, "s"),
    "summary": lambda db: db.transact(summaries.get_summary, "s"),
    "unsummarised": lambda db: db.transact(summaries.get_unsummarised, "s"),
    "due": lambda db: db.transact(claims.list_due, claims.Wanted(due="unnamed"), 9),
    "purge": lambda db: db.purge_sessions(limit=0),
}


@pytest.mark.parametrize("method", GONE)
async def test_one_whose_time_is_over_is_gone_for_everybody_though_its_rows_are_there(db: Face, method: str) -> None:
    await turn(db, run_id="r", state={"k": 1}, expire_after=HOUR)
    session = await db.get_session("s")
    later(db)
    before = dump(db)
    try:
        found = await GONE[method](db)
    except SessionNotFound:
        found = None
    assert not found
    session.name = "Saved"
    with pytest.raises(SessionNotFound):
        await db.save_session(session)
    assert dump(db) == before


MADE: dict[str, Callable[[Face], Awaitable[Any]]] = {
    "begin_run": lambda db: turn(db, text="new", user_id="other", history=HistoryLimits()),
    "create_session": lambda db: db.create_session("s"),
    "upsert_session": lambda db: db.upsert_session(AgentSession("s")),
    "fork_session": lambda db: db.fork_session("t", new_session_id="s"),
}


@pytest.mark.parametrize("method", MADE)
async def test_under_its_id_a_session_is_made_anew_as_after_a_delete(db: Face, method: str) -> None:
    await db.create_session("t")
    await db.get_session("s")
    old = await db.begin_run("s", [user("old")], run_id="r", state={"k": 1}, expire_after=HOUR, user_id="u")
    await db.finish_run(old, [answer("old")])
    await db.get_session("s")
    later(db)
    await MADE[method](db)
    assert "old" not in str(dump(db))
    session = await db.get_session("s")
    assert session.header.epoch != old.epoch
    assert (session.header.expire_after, session.session_state) == (None, {})
    assert len(session.runs) == (method == "begin_run")


async def test_what_is_not_over_is_in_the_way_of_a_new_one(db: Face) -> None:
    await db.create_session("s", expire_after=HOUR)
    with pytest.raises(SessionConflict):
        await db.create_session("s")


async def test_a_purge_takes_what_has_expired_and_nothing_else(db: Face) -> None:
    for session_id, span in (("s", HOUR), ("t", 2 * HOUR), ("u", None)):
        await turn(db, session_id, expire_after=span, prompt=system(), state={"k": 1})
    assert await db.purge_sessions() == 0
    later(db, HOUR)
    kept = {table: [row for row in rows if row[0] != "s"] for table, rows in dump(db).items()}
    assert await purgeable(db) == ["s"]
    assert await db.purge_sessions(dry_run=True) == 1
    assert await db.purge_sessions() == 1
    assert dump(db) == kept
    later(db, HOUR)
    assert await db.purge_sessions() == 1
    assert await ids(db) == ["u"]


async def test_a_purge_of_so_many_takes_those_first_that_are_over_for_longest(db: Face) -> None:
    for number in range(5):
        await db.create_session(f"s{number}", expire_after=HOUR - timedelta(minutes=number))
    later(db)
    assert await db.purge_sessions(limit=2) == 2
    assert await purgeable(db) == ["s2", "s1", "s0"]
    assert await db.purge_sessions(limit=0) == 0
    assert await db.purge_sessions(limit=9) == 3


async def test_a_session_in_which_somebody_is_at_work_is_not_purged(db: Face) -> None:
    run = await db.begin_run("s", [user()], expire_after=timedelta(seconds=5))
    later(db, timedelta(seconds=10))
    assert await purgeable(db) == []
    assert await db.purge_sessions() == await db.purge_sessions(older_than=timedelta(0)) == 0
    await db.append_messages(run, [answer("still here")])
    later(db)
    assert await db.purge_sessions() == 1
    assert dump(db) == NOTHING
    with pytest.raises((SessionNotFound, RunLost)):
        await db.append_messages(run, [answer()])


async def test_what_was_not_used_for_long_is_deleted(db: Face) -> None:
    for number in range(4):
        await turn(db, f"s{number}", user_id="ada" if number % 2 else None)
        later(db)
    await db.archive_session("s0")
    await db.set_session_name("s1", "No activity", "ada")
    assert await purgeable(db, older_than=1.5 * HOUR) == ["s0", "s1", "s2"]
    assert await purgeable(db, older_than=1.5 * HOUR, user_id="ada") == ["s1"]
    assert await db.delete_sessions(older_than=1.5 * HOUR, user_id="ada") == 1
    assert await db.delete_sessions(["s0", "s3", "nowhere"], older_than=1.5 * HOUR) == 1
    moment = (await header_of(db, "s3")).updated_at
    assert await db.purge_sessions(older_than=moment) == 1
    assert await ids(db) == ["s3"]
    assert await db.delete_sessions(older_than=timedelta(0)) == 1
    assert dump(db) == NOTHING


async def test_one_that_became_active_meanwhile_stays(db: Face) -> None:
    for session_id in ("s", "t"):
        await turn(db, session_id, expire_after=2 * HOUR)
    later(db)
    before = db.clock.now() - 1
    await turn(db, "t")
    assert [await db.transact(delete_if_due, own, None, before) for own in ("s", "t")] == [True, False]
    later(db, HOUR)
    assert await db.transact(delete_if_due, "t") is False
    assert await ids(db) == ["t"]


async def test_more_than_one_page_is_purged(db: Face) -> None:
    for number in range(120):
        await db.create_session(f"s{number:03}", expire_after=HOUR)
    await db.create_session("kept")
    later(db)
    assert len(await purgeable(db)) == 120
    assert await db.purge_sessions() == 120
    assert await ids(db) == ["kept"]


@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
async def test_what_says_no_age_is_refused(db: Face) -> None:
    with pytest.raises(InvalidArgument, match="session_ids"):
        await db.delete_sessions()
    with pytest.raises(InvalidArgument, match="session_ids"):
        await db.delete_sessions("s")
    for age in (timedelta(-1), "90d", datetime(2026, 1, 1), 1.5, 90):  # noqa: DTZ001 - that is what is wrong
        with pytest.raises(InvalidArgument, match="older_than"):
            await db.delete_sessions(older_than=age)
        with pytest.raises(InvalidArgument, match="older_than"):
            await db.purge_sessions(older_than=age)
    assert await db.purge_sessions(older_than=datetime(2000, 1, 1, tzinfo=UTC)) == 0
