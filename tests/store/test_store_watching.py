"""Every change of a session is told to those who watch it, on every database and through both faces."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from store_kit import Face, answer, turn, user
from watch_kit import heard, opened, settled, until, watchers

from recollect import change as changes
from recollect import watching
from recollect.change import Cursor, SessionChange
from recollect.errors import InvalidArgument, SessionNotFound
from recollect.store import lookout

pytestmark = pytest.mark.anyio

SOME = pytest.mark.parametrize(
    "db", [("memory", "sync"), ("normal", "async"), ("postgres", "async")], indirect=True, ids="-".join
)
"""What does not depend on how a database tells that something was changed."""


async def _begin(db: Face) -> None:
    await db.begin_run("s", [user()], user_id="ada")


async def _append(db: Face) -> None:
    await db.append_messages(OPEN["run"], [answer("One step")])


async def _finish(db: Face) -> None:
    await db.finish_run(OPEN["run"], [answer()])


OPEN: dict[str, Any] = {}

CHANGES: dict[str, Callable[[Face], Awaitable[Any]]] = {
    "begin_run": _begin,
    "append_messages": _append,
    "finish_run": _finish,
    "set_session_name": lambda db: db.set_session_name("s", "Launch", "ada"),
    "update_values": lambda db: db.update_values("s", "state", {"k": 1}, "ada"),
    "tag_session": lambda db: db.tag_session("s", ["red"], user_id="ada"),
    "archive_session": lambda db: db.archive_session("s", user_id="ada"),
    "pin_session": lambda db: db.pin_session("s", user_id="ada"),
    "set_session_expiry": lambda db: db.set_session_expiry("s", timedelta(days=1), "ada"),
    "delete_run": lambda db: db.delete_run("first", "s", "ada"),
}


async def test_each_kind_of_change_is_told_with_the_facts_of_the_row(db: Face) -> None:
    await turn(db, user_id="ada", run_id="first", agent_id="guide")
    OPEN["run"] = await db.begin_run("s", [user()], user_id="ada", agent_id="guide")
    async with opened(db) as all_, opened(db, "watch_sessions", "ada") as hers, opened(db, session_id="s") as one:
        for name, make in CHANGES.items():
            await make(db)
            version = (await db.get_header("s")).version
            for watch in (all_, hers, one):
                told = await settled(watch, wants=lambda told, v=version: any(one.version == v for one in told))
                last = told[-1]
                assert (last.kind, last.session_id, last.user_id) == ("changed", "s", "ada"), name
                assert (last.agent_id, last.team_id) == ("guide", None), name


async def test_sessions_that_come_and_go_are_told(db: Face) -> None:
    await turn(db, "old", user_id="ada")
    await db.create_session("nobodys")
    async with opened(db) as all_, opened(db, "watch_sessions", "ada") as hers, opened(db, session_id="old") as one:
        await db.fork_session("old", new_session_id="fork", user_id="ada")
        await db.claim_session("nobodys", "ada")
        await db.delete_session("old")
        for watch in (all_, hers):
            told = await settled(watch, wants=lambda told: {c.session_id for c in told} == {"fork", "nobodys", "old"})
            assert {(c.kind, c.session_id) for c in told} == {
                ("changed", "fork"),
                ("changed", "nobodys"),
                ("deleted", "old"),
            }
        gone = await heard(one)
        assert gone is not None
        assert (gone.kind, gone.session_id, gone.version) == ("deleted", "old", None)
        await db.create_session("old", user_id="ada")
        again = await heard(one)
        assert again is not None
        assert (again.kind, again.version) == ("changed", 1)


async def test_a_deleted_user_s_sessions_are_told_to_who_watched_them_and_to_nobody_else(db: Face) -> None:
    for number in range(3):
        await db.create_session(f"b{number}", user_id="bob")
    await db.create_session("a", user_id="alice")
    async with opened(db, "watch_sessions", "alice") as hers, opened(db, "watch_sessions", "bob") as his:
        await db.set_session_name("b0", "Secret")
        await db.delete_user("bob")
        told = await settled(his, wants=lambda told: sum(c.kind == "deleted" for c in told) == 3)
        assert {c.user_id for c in told} == {"bob"}
        await db.set_session_name("a", "Mine")
        first = await heard(hers)
        assert first is not None
        assert first.session_id == "a"
        assert await heard(hers, 0.2) is None


@SOME
async def test_the_end_of_a_session_s_time_is_told_though_nobody_writes(db: Face) -> None:
    await db.create_session("brief", user_id="ada", expire_after=timedelta(seconds=60))
    await db.create_session("long", user_id="ada", expire_after=timedelta(days=60))
    async with opened(db, "watch_sessions", "ada") as hers:
        assert await heard(hers, 0.3) is None
        db.clock.forward(61)
        gone = await heard(hers)
        assert gone is not None
        assert (gone.kind, gone.session_id) == ("deleted", "brief")
        await db.purge_sessions()
        assert await heard(hers, 0.3) is None


@SOME
async def test_a_session_that_is_not_there_cannot_be_watched(db: Face) -> None:
    await db.create_session("bobs", user_id="bob")
    for args in ({"session_id": "none"}, {"session_id": "bobs", "user_id": "alice"}):
        with pytest.raises(SessionNotFound, match="there is no session"):
            async with opened(db, "watch_sessions", **args):
                raise AssertionError
    for since in ("", "x", "WzFd"):
        with pytest.raises(InvalidArgument, match="no cursor"):
            async with opened(db, since=since):
                raise AssertionError
    until(lambda: not watchers())


@SOME
async def test_who_comes_back_is_told_what_was_missed_and_then_what_comes(db: Face) -> None:
    await db.create_session("a", user_id="ada")
    await db.create_session("b", user_id="ada")
    async with opened(db, "watch_sessions", "ada") as stays:
        async with opened(db, "watch_sessions", "ada") as leaves:
            place = leaves.cursor
        await db.set_session_name("b", "One")
        await db.set_session_name("b", "Two")
        await db.delete_session("a")
        await settled(stays, wants=lambda told: {"changed", "deleted"} <= {c.kind for c in told})
        async with opened(db, "watch_sessions", "ada", since=place) as back:
            missed = [await heard(back), await heard(back)]
            assert {(c.kind, c.session_id, c.version) for c in missed if c} == {
                ("changed", "b", 3),
                ("deleted", "a", None),
            }
            place = back.cursor
            assert await heard(back, 0.2) is None
    until(lambda: not watchers())
    async with opened(db, "watch_sessions", "ada", since=place) as back:
        assert await heard(back, 0.2) is None, "nothing has happened since"
        place = back.cursor
    until(lambda: not watchers())
    await db.pin_session("b")
    async with opened(db, "watch_sessions", "ada", since=place) as back:
        told = await heard(back)
        assert told is not None
        assert told.kind == "reset"


@SOME
async def test_who_comes_back_to_one_session_is_told_how_it_is(db: Face) -> None:
    await db.create_session("s")
    async with opened(db, session_id="s") as watch:
        place = watch.cursor
    await db.set_session_name("s", "Launch")
    async with opened(db, session_id="s", since=place) as back:
        told = await heard(back)
        assert told is not None
        assert (told.kind, told.version) == ("changed", 2)
    await db.delete_session("s")
    async with opened(db, session_id="s", since=place) as back:
        told = await heard(back)
        assert told is not None
        assert told.kind == "deleted"


@SOME
async def test_a_slow_watcher_is_told_the_last_of_each_session_or_to_read_anew(
    db: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST", 5)
    await db.create_session("s", user_id="ada")
    async with opened(db, "watch_sessions", "ada") as slow, opened(db, "watch_sessions", "ada") as quick:
        for number in range(4):
            await db.set_session_name("s", f"Name {number}")
            await settled(quick, wants=lambda told, v=number + 2: any(c.version == v for c in told))
        assert await heard(quick, 0.1) is None, "now both have been told"
        only = await heard(slow)
        assert only is not None
        assert only.version == 5
        for number in range(9):
            await db.create_session(f"new{number}", user_id="ada")
        await settled(quick, wants=lambda told: any(c.session_id == "new8" or c.kind == "reset" for c in told))
        first = await heard(slow)
        assert first is not None
        assert first.kind == "reset"
        for _ in range(9):
            if await heard(slow, 0.05) is None:
                break
        else:
            raise AssertionError("no more than five wait")


@SOME
async def test_what_leaves_no_trace_is_found_a_part_at_a_time(db: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "BUDGET", 4)
    monkeypatch.setattr(lookout, "PAGE", 3)
    monkeypatch.setattr(lookout, "LATELY", 0)
    for number in range(12):
        await db.create_session(f"s{number:02}", user_id="ada" if number % 2 else None)
    async with opened(db) as all_, opened(db, "watch_sessions", "ada") as hers:
        await db.set_session_name("s05", "Quiet")
        await db.delete_session("s11")
        for watch in (all_, hers):
            told = await settled(watch, wants=lambda told: {c.session_id for c in told} == {"s05", "s11"})
            assert {(c.kind, c.session_id) for c in told} == {("changed", "s05"), ("deleted", "s11")}


@SOME
async def test_the_log_of_a_ledger_is_cut_and_says_so(db: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "KEPT", 2)
    for number in range(4):
        await db.create_session(f"s{number}")
    async with opened(db) as stays:
        place = stays.cursor
        for number in range(4):
            await db.pin_session(f"s{number}")
        await settled(stays, wants=lambda told: len({c.session_id for c in told}) == 4)
        async with opened(db, since=place) as back:
            told = await heard(back)
            assert told is not None
            assert told.kind == "reset"


async def test_watching_ends_with_the_database_and_leaves_no_thread(db: Face) -> None:
    await db.create_session("s")
    async with opened(db) as watch, opened(db, session_id="s") as one:
        assert len(watchers()) == 1
        await db.close()
        began = time.monotonic()
        assert await heard(watch) is None
        assert await heard(one) is None
        assert time.monotonic() - began < 5
    until(lambda: not watchers())


def test_a_cursor_is_text_that_says_nothing_of_sessions() -> None:
    cursor = Cursor(1, 2, (1 << 64) - 1)
    assert Cursor.of(str(cursor)) == cursor
    assert SessionChange(kind="reset", session_id=None, cursor=str(cursor)).user_id is None
