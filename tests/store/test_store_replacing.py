"""A run in the place of another: the old one is kept, and until the new one is completed nothing has changed."""

from __future__ import annotations

from typing import Any

import pytest
from store_kit import TWO, Face, answer, dump, header_of, run_sql, turn, user

from recollect.errors import InvalidArgument, RunConflict, RunInProgress, RunLost, RunNotFound, SessionNotFound
from recollect.history import HistoryLimits
from recollect.message import Message
from recollect.run import RunOutput, RunStatus
from recollect.selection import Filter
from recollect.session import AgentSession, SessionSummary
from recollect.store import OpenRun, continued, outcome, summaries
from recollect.store.begin import refresh_run

pytestmark = pytest.mark.anyio

ALL = HistoryLimits()


async def three(db: Face, **begin: Any) -> None:
    for number in ("1", "2", "3"):
        await turn(db, text=f"q{number}", run_id=number, **begin)


async def again(db: Face, old: str, text: str = "anew", **begin: Any) -> OpenRun:
    return await db.begin_run("s", [user(text)], replaces=old, history=ALL, **begin)  # type: ignore[no-any-return]


def asked(messages: Any) -> list[str]:
    return [message.text for message in messages if message.role == "user"]


async def shown(db: Face, **wanted: Any) -> list[str]:
    """What was asked in the conversation, read whole and read as a part."""
    whole = asked(await db.get_messages("s", Filter.checked(**wanted)))
    assert asked(await db.get_messages("s", Filter.checked(limit=99, **wanted))) == whole
    assert asked((await db.get_session("s")).get_messages(**wanted)) == whole
    return whole


async def runs_of(db: Face) -> list[RunOutput]:
    return list((await db.get_session("s")).runs)


async def next_past(db: Face) -> list[str]:
    """What the next run is shown of the past."""
    run = await db.begin_run("s", [user("next")], history=ALL)
    await db.finish_run(run, status=RunStatus.error)
    await db.delete_run(run.run_id, "s")
    return asked(run.history.messages)


async def test_a_new_run_takes_the_place_of_an_old_one_which_is_kept(db: Face) -> None:
    await three(db)
    before = await header_of(db)
    run = await again(db, "2", run_id="n")
    assert (asked(run.history.messages), run.replaces, run.before, run.run_seq) == (["q1"], "2", 2, 4)
    await db.finish_run(run, [answer("better")])
    assert await shown(db) == ["q1", "anew", "q3"]
    assert await shown(db, skip_statuses=()) == ["q1", "anew", "q3", "q2"]
    assert await next_past(db) == ["q1", "anew", "q3"]
    runs = await runs_of(db)
    assert [(run.run_id, run.run_seq, run.status, run.replaces) for run in runs] == [
        ("1", 1, "completed", None),
        ("n", 2, "completed", "2"),
        ("3", 3, "completed", None),
        ("2", 4, "regenerated", None),
    ]
    assert [message.id for message in runs[1].messages] == ["n.0", "n.1"]
    after = await header_of(db)
    assert (after.run_count, after.completed_count, after.message_count) == (4, 3, 8)
    assert after.epoch != before.epoch


@pytest.mark.parametrize("status", [RunStatus.error, RunStatus.cancelled, RunStatus.interrupted, RunStatus.paused])
async def test_a_new_run_that_does_not_succeed_leaves_the_conversation_as_it_was(db: Face, status: RunStatus) -> None:
    await three(db)
    run = await again(db, "2", run_id="n")
    assert await shown(db) == ["q1", "q2", "q3"]
    await db.finish_run(run, [answer("worse")], status=status)
    assert await shown(db, skip_statuses=()) == ["q1", "q2", "q3"]
    assert await next_past(db) == ["q1", "q2", "q3"]
    assert (await db.get_last_run("s")).run_id == "3"
    assert (await header_of(db)).completed_count == 3
    kept = await db.get_run("n", "s")
    assert (kept.status, kept.replaces, kept.run_seq) == (status, "2", 4)


async def test_replacing_the_replacement_names_the_same_first_run(db: Face) -> None:
    await three(db)
    for number, run_id in (("a", "2"), ("b", "a"), ("c", "b")):
        run = await again(db, run_id, f"q{number}", run_id=number)
        assert (run.replaces, run.before) == ("2", 2)
        await db.finish_run(run, [answer()])
    assert await shown(db) == ["q1", "qc", "q3"]
    assert (await header_of(db)).completed_count == 3
    kept = [(run.run_id, run.replaces, run.status) for run in await runs_of(db)]
    assert kept[3:] == [("2", None, "regenerated"), ("a", "2", "regenerated"), ("b", "2", "regenerated")]
    with pytest.raises(RunConflict, match="by 'c'"):
        await again(db, "a")


async def test_of_two_at_the_same_time_the_last_to_end_stands_there_and_both_are_kept(db: Face) -> None:
    await three(db)
    first, last = await again(db, "2", "first"), await again(db, "2", "last")
    await db.finish_run(first, [answer()])
    assert await shown(db) == ["q1", "first", "q3"]
    await db.finish_run(last, [answer()])
    assert await shown(db) == ["q1", "last", "q3"]
    assert len(await runs_of(db)) == 5
    assert (await header_of(db)).completed_count == 3


async def test_a_run_that_failed_is_replaced_by_one_that_is_answered(db: Face) -> None:
    await turn(db, run_id="1", text="q1")
    failed = await db.begin_run("s", [user("q2")], run_id="2")
    await db.finish_run(failed, status=RunStatus.error, error="no")
    bad = await again(db, "2", "bad", run_id="bad")
    await db.finish_run(bad, status=RunStatus.error)
    good = await again(db, "bad", "good")
    assert (good.replaces, good.before) == ("2", 2)
    await db.finish_run(good, [answer()])
    assert await shown(db) == ["q1", "good"]
    assert (await header_of(db)).completed_count == 2


async def test_an_interrupted_replacement_goes_on_as_one(db: Face) -> None:
    await three(db)
    run = await again(db, "2", run_id="n")
    await db.append_messages(run, [answer("so far")])
    await db.finish_run(run, status=RunStatus.cancelled)
    taken = await _continue(db, "n")
    assert (taken.replaces, taken.before, asked(taken.history.messages)) == ("2", 2, ["q1"])
    await db.finish_run(taken, [answer("done")])
    assert await shown(db) == ["q1", "anew", "q3"]
    assert [message.text for message in (await runs_of(db))[1].messages] == ["anew", "so far", "done"]


async def _continue(db: Face, run_id: str) -> OpenRun:
    found = await db.transact(continued.continue_run, run_id, "s", history=ALL)
    return found.open  # type: ignore[no-any-return]


async def test_members_runs_go_with_the_run_they_are_part_of(db: Face) -> None:
    await three(db)
    member = await db.begin_run("s", [user("m")], parent_run_id="2", agent_id="m", run_id="m")
    await db.finish_run(member, [answer()])
    nested = await db.begin_run("s", [user("n")], parent_run_id="m", agent_id="n", run_id="n")
    run = await again(db, "2")
    await db.finish_run(run, [answer()])
    statuses = {run.run_id: run.status for run in await runs_of(db)}
    assert statuses["2"] == statuses["m"] == statuses["n"] == "regenerated"
    with pytest.raises(RunLost):
        await db.append_messages(nested, [answer()])
    assert dump(db)["leases"] == []


async def test_a_summary_that_tells_of_what_is_no_more_goes(db: Face) -> None:
    await three(db)
    since = await db.transact(summaries.get_unsummarised, "s")
    assert await db.transact(summaries.finish_summary, "s", since, 2, SessionSummary(summary="Of two."), 1)
    run = await again(db, "3")
    await db.finish_run(run, [answer()])
    assert (await db.get_session("s")).summary.summary == "Of two."
    run = await again(db, "2")
    await db.finish_run(run, [answer()])
    assert (await db.get_session("s")).summary is None
    assert (await db.transact(summaries.get_unsummarised, "s")).through == 0


async def test_the_last_run_is_the_new_one_and_not_the_one_it_replaced(db: Face) -> None:
    await three(db)
    run = await again(db, "3", run_id="n")
    await db.finish_run(run, [answer()])
    assert (await db.get_last_run("s")).run_id == "n"
    await db.get_session("s")
    assert (await db.get_last_run("s")).run_id == "n"


async def test_a_session_shows_how_it_begins_now(db: Face) -> None:
    await three(db)
    run = await again(db, "1", "Good morning")
    await db.finish_run(run, [answer()])
    assert (await header_of(db)).preview == "Good morning"


async def test_what_cannot_be_replaced_is_refused_and_nothing_is_written(db: Face) -> None:
    await three(db, user_id="u")
    open_run = await db.begin_run("s", [user("now")], user_id="u", run_id="open")
    member = await db.begin_run("s", [user("m")], parent_run_id="3", user_id="u", run_id="m")
    await db.finish_run(member, [answer()])
    replaced = await again(db, "2", user_id="u", run_id="n")
    before = dump(db)
    for run_id, error in (
        ("open", RunInProgress),
        ("n", RunInProgress),
        ("m", InvalidArgument),
        ("nowhere", RunNotFound),
        ("", InvalidArgument),
    ):
        with pytest.raises(error):
            await again(db, run_id, user_id="u")
    for session_id, owner in (("s", "other"), ("elsewhere", "u")):
        with pytest.raises(SessionNotFound):
            await db.begin_run(session_id, [user()], replaces="1", user_id=owner)
    assert dump(db) == before
    await db.finish_run(replaced, [answer()])
    await db.finish_run(open_run, [answer()])
    before = dump(db)
    with pytest.raises(RunConflict, match="was replaced already, by 'n'"):
        await again(db, "2", user_id="u")
    assert dump(db) == before


async def test_one_whose_place_is_gone_stays_where_it_began(db: Face) -> None:
    await three(db)
    run = await again(db, "2", run_id="n")
    await db.delete_run("2", "s")
    await db.finish_run(run, [answer()])
    assert await shown(db) == ["q1", "q3", "anew"]
    header = await header_of(db)
    assert (header.run_count, header.completed_count, header.message_count) == (3, 3, 6)
    again_ = await again(db, "n", "anew again")
    assert (again_.replaces, again_.before) == ("n", 4)
    await db.finish_run(again_, [answer()])
    assert await shown(db) == ["q1", "q3", "anew again"]


async def test_where_the_first_run_of_a_place_is_deleted_the_others_still_know_their_place(db: Face) -> None:
    await three(db)
    for number, old in (("a", "2"), ("b", "a")):
        await db.finish_run(await again(db, old, f"q{number}", run_id=number), [answer()])
    late = await again(db, "b", "late", run_id="late")
    await db.delete_run("2", "s")
    named = {run.run_id: run.replaces for run in await runs_of(db)}
    assert (named["a"], named["b"], named["late"]) == ("b", None, "b")
    await db.finish_run(late, [answer()])
    assert await shown(db) == ["q1", "late", "q3"]
    with pytest.raises(RunConflict, match="by 'late'"):
        await again(db, "a")
    assert (await header_of(db)).completed_count == 3


@pytest.mark.parametrize("candidate", [RunStatus.completed, RunStatus.running])
async def test_an_id_that_is_given_again_has_no_part_in_what_became_of_the_first(
    db: Face, candidate: RunStatus
) -> None:
    await three(db)
    run = await again(db, "2", run_id="n")
    await db.delete_run("2", "s")
    await turn(db, text="other", run_id="2")
    await db.finish_run(run, [answer()])
    if candidate == RunStatus.completed:
        await db.finish_run(await again(db, "n", "once more"), [answer()])
    assert await shown(db) == ["q1", "q3", "anew" if candidate == RunStatus.running else "once more", "other"]
    await db.finish_run(await again(db, "2", "another"), [answer()])
    assert "another" in await shown(db)
    assert "other" not in await shown(db)
    assert (await header_of(db)).completed_count == 4


async def test_a_run_is_tried_anew_while_another_is_to_take_its_place(db: Face) -> None:
    await turn(db, run_id="1", text="q1")
    await db.finish_run(await db.begin_run("s", [user("q2")], run_id="2"), status=RunStatus.error, error="no")
    candidate = await again(db, "2", run_id="n")
    retried = await db.begin_run("s", [user("q2 anew")], run_id="2", again=True)
    await db.finish_run(candidate, [answer()])
    await db.finish_run(retried, [answer()])
    assert sorted(await shown(db)) == ["anew", "q1", "q2 anew"]
    assert (await header_of(db)).completed_count == 3


async def test_whose_run_was_taken_over_puts_it_in_no_place(db: Face) -> None:
    await three(db)
    run = await again(db, "2", run_id="n")
    run_sql(db, "delete from recollect_leases")
    before = dump(db)
    with pytest.raises(RunLost):
        await db.finish_run(run, [answer()])
    assert dump(db) == before


async def test_an_end_whose_commit_said_nothing_is_found_in_its_new_place(db: Face) -> None:
    await three(db)
    run = await again(db, "2", run_id="n")
    begun = await db.transact(outcome.find_begun, "s", run_id="n", token=run.token, history=ALL)
    assert (begun.replaces, begun.before, asked(begun.history.messages)) == ("2", 2, ["q1"])
    commit = await db.finish_run(run, [answer("x")], at=1)
    assert await db.transact(outcome.find_finished, run, [answer("x")], at=1) == commit
    assert await db.transact(outcome.find_finished, run, [answer("y")], at=1) is None


async def test_a_retry_replaces_again(db: Face) -> None:
    await three(db)
    run = await again(db, "2", run_id="n")
    await db.finish_run(run, status=RunStatus.error)
    run = await again(db, "2", "better", run_id="n", again=True)
    assert (run.attempt, run.before) == (2, 2)
    await db.finish_run(run, [answer()])
    assert await shown(db) == ["q1", "better", "q3"]


async def test_a_run_that_waits_sees_what_came_before_its_place(db: Face) -> None:
    await three(db)
    run = await again(db, "3")
    refreshed = await db.transact(refresh_run, run, history=ALL)
    assert asked(refreshed.history.messages) == ["q1", "q2"]


@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
async def test_an_imported_run_keeps_what_it_replaced(db: Face) -> None:
    runs = [
        RunOutput(run_id="n", session_id="s", replaces="o", messages=(user("new"), answer())),
        RunOutput(run_id="o", session_id="s", status=RunStatus.regenerated, messages=(user("old"), answer())),
    ]
    await db.upsert_session(AgentSession("s", runs=runs))
    read = await runs_of(db)
    assert [run.replaces for run in read] == ["o", None]
    assert RunOutput.from_dict(read[0].to_dict()).replaces == "o"
    assert Message.from_dict(read[0].messages[0].to_dict()) == read[0].messages[0]
