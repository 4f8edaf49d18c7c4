"""A run that is taken out of its session: with all that belongs to it, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from store_kit import Face, answer, calls, dump, header_of, result, system, turn, user

from recollect import doctor
from recollect.errors import InvalidArgument, RunInProgress, RunLost, RunNotFound, SessionNotFound
from recollect.history import HistoryLimits
from recollect.run import RunMetrics, RunOutput, RunStatus
from recollect.session import AgentSession, SessionSummary
from recollect.store import summaries

pytestmark = pytest.mark.anyio


async def member(db: Face, parent: str, run_id: str, **begin: Any) -> None:
    run = await db.begin_run("s", [user(f"for {run_id}")], parent_run_id=parent, run_id=run_id, agent_id="m", **begin)
    await db.finish_run(run, [answer()])


async def ids(db: Face) -> list[str]:
    return [run.run_id for run in (await db.get_session("s")).runs]


async def test_a_run_goes_with_all_of_its_members_runs_and_leaves_the_rest_as_it_is(db: Face) -> None:
    await turn(db, run_id="1")
    kept = dump(db)
    await turn(db, run_id="2", prompt=system("Only for this run."))
    await member(db, "2", "2a")
    await member(db, "2a", "2b")
    await db.delete_run("2", "s")
    left = dump(db)
    assert {table: left[table] for table in left if table != "sessions"} == {
        table: kept[table] for table in kept if table != "sessions"
    }
    header = await header_of(db)
    assert (header.run_count, header.completed_count, header.message_count) == (1, 1, 2)
    await turn(db, run_id="2")
    assert await ids(db) == ["1", "2"]


async def test_the_run_of_a_member_goes_alone(db: Face) -> None:
    await turn(db, run_id="1")
    await member(db, "1", "1a")
    await db.delete_run("1a", "s")
    assert await ids(db) == ["1"]
    assert (await header_of(db)).run_count == 1


async def test_what_it_took_stays_counted(db: Face) -> None:
    run = await db.begin_run("s", [user()], run_id="1")
    await db.finish_run(run, [answer()], metrics=RunMetrics(input_tokens=7, output_tokens=5))
    await db.delete_run("1", "s")
    header = await header_of(db)
    assert (header.input_tokens, header.output_tokens, header.run_count, header.preview) == (7, 5, 0, "")


async def test_a_session_shows_how_it_begins_now(db: Face) -> None:
    for text in ("one", "two", "three"):
        await turn(db, text=text, run_id=text)
    await db.delete_run("two", "s")
    assert (await header_of(db)).preview == "one"
    await db.delete_run("one", "s")
    assert (await header_of(db)).preview == "three"


async def test_a_summary_that_tells_of_it_goes_and_another_stays(db: Face) -> None:
    for run_id in ("1", "2", "3"):
        await turn(db, run_id=run_id)
    since = await db.transact(summaries.get_unsummarised, "s")
    await db.transact(summaries.finish_summary, "s", since, 2, SessionSummary(summary="Of two."), 1)
    await db.delete_run("3", "s")
    assert (await db.get_session("s")).summary.summary == "Of two."
    await db.delete_run("1", "s")
    assert (await db.get_session("s")).summary is None
    assert (await db.transact(summaries.get_unsummarised, "s")).through == 0


async def test_what_was_said_in_it_is_shown_to_no_later_run(db: Face) -> None:
    for run_id in ("1", "2", "3"):
        await turn(db, text=run_id, run_id=run_id)
        begun = await db.begin_run("s", [user("then")], history=HistoryLimits())
        await db.finish_run(begun, status=RunStatus.error)
    await db.delete_run("2", "s")
    begun = await db.begin_run("s", [user("now")], history=HistoryLimits())
    assert [said.text for said in begun.history.messages if said.role == "user"] == ["1", "3"]


async def test_a_run_under_way_is_not_deleted_nor_one_whose_member_is(db: Face) -> None:
    await turn(db, run_id="1")
    await db.begin_run("s", [user()], parent_run_id="1", run_id="1a", agent_id="m")
    open_run = await db.begin_run("s", [user()], run_id="2")
    before = dump(db)
    for run_id in ("1", "1a", "2"):
        with pytest.raises(RunInProgress):
            await db.delete_run(run_id, "s")
    assert dump(db) == before
    db.clock.forward(60)
    await db.delete_run("2", "s")
    with pytest.raises(RunLost):
        await db.finish_run(open_run, [answer()])


async def test_what_is_not_there_is_said(db: Face) -> None:
    await turn(db, run_id="1", user_id="u")
    before = dump(db)
    with pytest.raises(RunNotFound):
        await db.delete_run("2", "s")
    with pytest.raises(SessionNotFound):
        await db.delete_run("1", "s", "other")
    with pytest.raises(SessionNotFound):
        await db.delete_run("1", "nowhere")
    with pytest.raises(InvalidArgument):
        await db.delete_run("", "s")
    assert dump(db) == before


async def test_a_retry_begins_without_what_the_members_of_the_first_attempt_did(db: Face) -> None:
    run = await db.begin_run("s", [user()], run_id="1")
    await member(db, "1", "1a")
    await member(db, "1a", "1b")
    await db.finish_run(run, status=RunStatus.error)
    await db.begin_run("s", [user()], run_id="1", again=True)
    assert await ids(db) == ["1"]
    await member(db, "1", "1a")
    assert await ids(db) == ["1", "1a"]


async def test_a_result_that_answered_a_run_which_is_gone_is_no_damage(db: Face) -> None:
    asked = await db.begin_run("s", [user()], run_id="1")
    await db.finish_run(asked, [calls("c")])
    answered = await db.begin_run("s", [result("c"), user("Go on")], run_id="2")
    await db.finish_run(answered, [answer()])
    await db.delete_run("1", "s")
    assert doctor.healthy(list(doctor.database(db.db.home)))


async def test_a_summary_that_came_along_goes_with_any_run(db: Face) -> None:
    runs = [RunOutput(run_id=run_id, session_id="s", messages=(user(run_id), answer())) for run_id in ("1", "2")]
    await db.upsert_session(AgentSession("s", runs=runs, summary=SessionSummary(summary="Of both.")))
    await db.delete_run("2", "s")
    assert (await db.get_session("s")).summary is None
