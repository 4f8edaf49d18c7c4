"""A session a page at a time, how each of several ended, and a name that is taken back."""

from __future__ import annotations

from typing import Any

import pytest
from store_kit import Face, answer, calls, dump, header_of, result, run_sql, system, turn, user

from recollect.errors import InvalidArgument, SessionNotFound
from recollect.run import RunStatus
from recollect.store.names import begin_naming, finish_naming, restore_session_name
from recollect.store.pages import MOST, RunPage, get_ends, get_run_page

pytestmark = pytest.mark.anyio


async def page(db: Face, session_id: str = "s", **wanted: Any) -> RunPage:
    found: RunPage = await db.transact(get_run_page, session_id, **wanted)
    return found


def places(found: RunPage) -> list[int | None]:
    return [run.run_seq for run in found.runs]


async def _ten(db: Face) -> None:
    for number in range(1, 11):
        await turn(db, text=f"number {number}", run_id=f"r{number}")


async def test_the_newest_runs_come_first_and_the_older_before_a_place(db: Face) -> None:
    await _ten(db)
    newest = await page(db, limit=4)
    assert places(newest) == [7, 8, 9, 10]
    assert (newest.older, newest.newer) == (True, False)
    older = await page(db, before=7, limit=4)
    assert places(older) == [3, 4, 5, 6]
    assert (older.older, older.newer) == (True, True)
    oldest = await page(db, before=3, limit=4)
    assert places(oldest) == [1, 2]
    assert (oldest.older, oldest.newer) == (False, True)


async def test_a_page_goes_on_after_a_place(db: Face) -> None:
    await _ten(db)
    found = await page(db, after=3, limit=4)
    assert places(found) == [4, 5, 6, 7]
    assert (found.older, found.newer) == (True, True)
    assert places(await page(db, after=8, limit=4)) == [9, 10]
    assert not (await page(db, after=8, limit=4)).newer
    first = await page(db, after=0, limit=4)
    assert places(first) == [1, 2, 3, 4]
    assert not first.older
    assert places(await page(db, after=99)) == []


async def test_a_page_that_is_full_to_the_last_run_says_that_there_is_no_more(db: Face) -> None:
    await _ten(db)
    assert not (await page(db, limit=10)).older
    assert (await page(db, limit=9)).older
    assert not (await page(db, after=0, limit=10)).newer


async def test_a_page_holds_what_was_said_whole(db: Face) -> None:
    run = await db.begin_run("s", [user("Look")], run_id="r", prompt=system("Be brief."))
    await db.append_messages(run, [calls("c"), result("c")])
    await db.finish_run(run, [answer("I saw.")])
    [paged] = (await page(db)).runs
    session = await db.get_session("s")
    assert paged.to_dict() == session.runs[0].to_dict()
    assert [message.role for message in paged.messages] == ["system", "user", "assistant", "tool", "assistant"]


async def test_every_run_is_on_a_page_but_those_in_whose_place_another_one_is(db: Face) -> None:
    await turn(db, run_id="old")
    for status in (RunStatus.error, RunStatus.cancelled, RunStatus.paused):
        await db.finish_run(await db.begin_run("s", [user()], run_id=str(status)), status=status)
    await turn(db, run_id="its member", parent_run_id="old", agent_id="m")
    abandoned = await db.begin_run("s", [user()], run_id="abandoned", replaces="old")
    await db.finish_run(abandoned, status=RunStatus.cancelled)
    await turn(db, run_id="new", replaces="old")
    await turn(db, run_id="member", parent_run_id="new", agent_id="m")
    await db.begin_run("s", [user()], run_id="open")
    found = await page(db)
    assert [run.run_id for run in found.runs] == ["new", "error", "cancelled", "paused", "member", "open"]
    assert found.runs[-1].status is RunStatus.running


async def test_a_run_whose_process_is_gone_is_interrupted_on_a_page_and_as_an_end(db: Face) -> None:
    await turn(db, run_id="r")
    await db.begin_run("s", [user()], run_id="left")
    run_sql(db, "delete from recollect_leases")
    assert (await page(db)).runs[-1].status is RunStatus.interrupted
    assert await db.transact(get_ends, ["s"]) == {"s": "interrupted"}


async def test_a_page_of_an_empty_session_is_empty(db: Face) -> None:
    await db.create_session("s")
    assert await page(db) == RunPage()


@pytest.mark.parametrize("wanted", [{"limit": 0}, {"limit": MOST + 1}, {"before": -1}, {"after": "1"}, {"limit": 1.5}])
async def test_a_page_that_is_none_is_refused(db: Face, wanted: Any) -> None:
    await turn(db)
    with pytest.raises(InvalidArgument):
        await page(db, **wanted)


async def test_the_last_run_of_each_session_says_how_it_ended(db: Face) -> None:
    await turn(db, "answered")
    await turn(db, "failed")
    await db.finish_run(await db.begin_run("failed", [user()]), status=RunStatus.error)
    await db.begin_run("open", [user()])
    await turn(db, "with a member", run_id="r")
    member = await db.begin_run("with a member", [user()], parent_run_id="r", agent_id="m")
    await db.finish_run(member, status=RunStatus.error)
    await db.create_session("empty")
    asked = ["answered", "failed", "open", "with a member", "empty", "nowhere"]
    assert await db.transact(get_ends, asked) == {
        "answered": "completed",
        "failed": "error",
        "open": "running",
        "with a member": "completed",
    }
    assert await db.transact(get_ends, []) == {}


async def test_a_name_is_taken_back_and_what_was_before_it_is_there_again(db: Face) -> None:
    await turn(db)
    for name, source in (("", None), ("A fallback", "fallback"), ("By a model", "auto"), ("By hand", "manual")):
        if name:
            await db.set_session_name("s", name, source=source)
        before = await header_of(db)
        named = await db.set_session_name("s", "Given")
        assert await db.transact(restore_session_name, "s", "Given", name, source)
        after = await header_of(db)
        assert (after.name, after.name_source) == (name, source)
        assert after.updated_at == before.updated_at, "a name is no activity"
        assert after.version > named.version, "so that caches and watchers see it"


async def test_a_name_that_is_another_one_by_now_stays(db: Face) -> None:
    await turn(db)
    await db.set_session_name("s", "Given")
    await db.set_session_name("s", "Somebody else's")
    before = dump(db)
    assert not await db.transact(restore_session_name, "s", "Given", "Old", "manual")
    assert dump(db) == before


async def test_a_name_that_is_taken_back_is_found_and_the_other_no_more(db: Face) -> None:
    await turn(db)
    await db.set_session_name("s", "Porto")
    await db.set_session_name("s", "Lisbon")
    await db.search("lisbon")
    await db.transact(restore_session_name, "s", "Lisbon", "Porto", "manual")
    assert [hit.session_id for hit in await db.search("porto")] == ["s"]
    assert not list(await db.search("lisbon"))
    assert [header.session_id for header in await db.get_sessions(name="porto")] == ["s"]


async def test_a_name_that_is_being_made_does_not_replace_one_that_was_taken_back(db: Face) -> None:
    await turn(db)
    await db.set_session_name("s", "Given")
    opening = await db.transact(begin_naming, "s", 7)
    await db.transact(restore_session_name, "s", "Given", "By hand", "manual")
    await db.transact(finish_naming, "s", 7, opening.header.epoch, "Made", "auto", 9)
    assert (await header_of(db)).name == "By hand"


async def test_what_is_none_of_ones_own_is_neither_read_nor_named(db: Face) -> None:
    await turn(db, "bobs", user_id="bob")
    await turn(db, "nobodys")
    await db.set_session_name("bobs", "Given")
    before = dump(db)
    for session_id in ("bobs", "nobodys", "nowhere"):
        with pytest.raises(SessionNotFound):
            await page(db, session_id, user_id="alice")
        with pytest.raises(SessionNotFound):
            await db.transact(restore_session_name, session_id, "Given", "", None, "alice")
    assert dump(db) == before


@pytest.mark.parametrize(("name", "source"), [("x" * 201, "manual"), ("Name", "guessed"), ("Name", None)])
async def test_a_name_that_could_not_have_been_there_is_refused(db: Face, name: str, source: Any) -> None:
    await db.create_session("s", name="Given")
    with pytest.raises(InvalidArgument):
        await db.transact(restore_session_name, "s", "Given", name, source)
    assert (await header_of(db)).name == "Given"
