"""Runs of a team's members: whose they are, what they are shown of the past, and what they cannot bring back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_kit import Face, answer, calls, dump, header_of, result, run_sql, turn, user

from recollect.errors import RunConflict, RunNotFound, SessionNotFound, UserRequired
from recollect.history import HISTORY_STATUSES, HistoryLimits, repair
from recollect.message import Message
from recollect.run import RunOutput, RunStatus
from recollect.session import TeamSession
from recollect.store.begin import refresh_run
from recollect.store.continued import continue_run
from recollect.store.outcome import find_begun

pytestmark = pytest.mark.anyio

LIMITS = HistoryLimits()


async def part(db: Face, parent: str, text: str = "Look", session_id: str = "s", **begin: Any) -> Any:
    """A whole run of a member."""
    run = await db.begin_run(session_id, [user(text)], parent_run_id=parent, **({"agent_id": "a"} | begin))
    await db.finish_run(run, [answer(f"Saw {text}")])
    return run


def shown(run: Any) -> list[str]:
    return [message.text for message in run.history.messages]


async def test_a_member_is_shown_its_own_completed_and_broken_off_runs(db: Face) -> None:
    await turn(db, text="Top", run_id="top")
    for status in RunStatus:
        if status not in ("running", "pending"):
            run = await db.begin_run("s", [user(status)], parent_run_id="top", agent_id="a")
            await db.finish_run(run, status=status)
    await part(db, "top", "of another", agent_id="b")
    await part(db, "top", "of a team of that name", agent_id=None, team_id="a")
    await turn(db, text="Later")
    run = await db.begin_run("s", [user("Now")], parent_run_id="top", agent_id="a", history=LIMITS)
    assert shown(run) == [status for status in RunStatus if status in HISTORY_STATUSES]
    assert (run.history.runs, run.history.cut) == (3, False)
    team = await db.begin_run("s", [user("Now")], parent_run_id="top", team_id="a", history=LIMITS)
    assert shown(team) == ["of a team of that name", "Saw of a team of that name"]
    leader = await db.begin_run("s", [user("Now")], history=LIMITS)
    assert shown(leader) == ["Top", "You said: Top", "Later", "You said: Later"]


async def test_a_member_whose_process_is_gone_has_broken_off(db: Face) -> None:
    await turn(db, run_id="top")
    held = await db.begin_run("s", [user("Held")], parent_run_id="top", agent_id="a")
    run = await db.begin_run("s", [user("Now")], parent_run_id="top", agent_id="a", history=LIMITS)
    assert shown(run) == []
    db.clock.forward(60)
    run = await db.begin_run("s", [user("Now")], parent_run_id="top", agent_id="a", history=LIMITS)
    assert shown(run) == ["Held", "Now"]
    del held


async def test_what_stands_between_two_places_is_no_past_of_a_member_that_is_told_so(db: Face) -> None:
    await turn(db, run_id="top")
    await part(db, "top", "first")
    left = [await part(db, "top", str(number)) for number in range(3)]
    await part(db, "top", "last")
    how: dict[str, Any] = {"history": LIMITS, "beside": (left[0].run_seq, left[-1].run_seq)}
    expected = ["first", "Saw first", "last", "Saw last"]
    run = await db.begin_run("s", [user("Now")], run_id="r", parent_run_id="top", agent_id="a", token=7, **how)
    assert (shown(run), run.history.cut) == (expected, False)
    found = await db.transact(find_begun, "s", run_id="r", token=7, parent_run_id="top", agent_id="a", **how)
    assert shown(found) == expected
    await db.finish_run(run, status=RunStatus.error)
    taken_up = await db.transact(continue_run, "r", "s", **how)
    assert (shown(taken_up.open), taken_up.open.history.cut) == (expected, False)


parts = st.lists(
    st.tuples(
        st.sampled_from([None, "a", "a", "b"]),
        st.sampled_from([str(status) for status in RunStatus if status not in ("running", "pending")]),
        st.sampled_from([5, 40, 300]),
        st.booleans(),
    ),
    max_size=8,
)
limits = st.builds(
    HistoryLimits,
    runs=st.integers(0, 5),
    tokens=st.none() | st.integers(0, 160),
    messages=st.none() | st.integers(0, 6),
)


def runs_of(chosen: Any) -> list[RunOutput]:
    runs = []
    for place, (agent_id, status, size, with_tool) in enumerate(chosen):
        tool = [calls("c"), result("c")] if with_tool else []
        runs.append(
            RunOutput(
                run_id=str(place),
                session_id="",
                status=RunStatus(status),
                agent_id=agent_id or "leader",
                parent_run_id=None if agent_id is None else "top",
                messages=(user("q" * size), *tool, answer(f"a{place}")),
            )
        )
    return runs


def expected(runs: list[RunOutput], wanted: HistoryLimits) -> tuple[list[Message], bool]:
    """What may be shown of a member's runs, by the definition of the limits."""
    whole = [run.said for run in runs if run.agent_id == "a" and run.status in HISTORY_STATUSES]
    kept: list[tuple[Message, ...]] = []
    room = wanted.chars
    for said in whole[::-1][: wanted.runs]:
        room -= sum(message.chars for message in said)
        if room < 0:
            break
        kept.insert(0, said)
    messages = [message for _, message in repair((at, message) for at, said in enumerate(kept) for message in said)]
    cut = len(kept) < len(whole)
    if wanted.messages is not None and len(messages) > wanted.messages:
        messages = messages[len(messages) - wanted.messages :]
        while messages and messages[0].role == "tool":
            messages = messages[1:]
        cut = True
    return messages, cut


@given(chosen=parts, wanted=st.lists(limits, min_size=3, max_size=3))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_members_past_is_cut_as_a_sessions_is(db: Face, chosen: Any, wanted: list[HistoryLimits]) -> None:
    session_id = (await db.create_session(kind="team")).session_id
    top = RunOutput(run_id="top", session_id="", agent_id="leader", messages=(user(), answer()))
    runs = [top, *runs_of(chosen)]
    await db.upsert_session(TeamSession(session_id, runs=runs))
    for one in wanted:
        run = await db.begin_run(session_id, [user("Now")], parent_run_id="top", agent_id="a", history=one)
        assert (list(run.history.messages), run.history.cut) == expected(runs, one), one
        again = db.db.transact(refresh_run, run, history=one)
        assert again.history == run.history
        await db.finish_run(run, status=RunStatus.error)
        continued = db.db.transact(continue_run, run.run_id, session_id, history=one)
        assert continued.open.history == run.history
        await db.finish_run(continued.open, status=RunStatus.error)


async def test_a_members_run_needs_the_run_it_is_part_of(db: Face) -> None:
    await turn(db, run_id="top", user_id="ada")
    before = dump(db)
    for wrong, error in (
        ({"parent_run_id": "nothing", "user_id": "ada"}, RunNotFound),
        ({"parent_run_id": "top", "user_id": "bob"}, SessionNotFound),
        ({"parent_run_id": "top"}, UserRequired),
    ):
        with pytest.raises(error):
            await db.begin_run("s", [user()], agent_id="a", **wrong)
    with pytest.raises(SessionNotFound):
        await db.begin_run("elsewhere", [user()], agent_id="a", parent_run_id="top")
    assert dump(db) == before
    await db.delete_session("s")
    with pytest.raises(SessionNotFound):
        await db.begin_run("s", [user()], agent_id="a", parent_run_id="top", user_id="ada")
    assert await db.get_header("s") is None, "it is not brought back"


async def test_what_members_do_is_not_counted_as_what_was_said(db: Face) -> None:
    await turn(db, run_id="top")
    await part(db, "top")
    header = await header_of(db)
    assert (header.run_count, header.completed_count, header.message_count) == (1, 1, 2)


async def test_whoever_holds_the_run_takes_that_of_a_member_from_its_holder(db: Face) -> None:
    await turn(db, run_id="top")
    held = await db.begin_run("s", [user("Held")], parent_run_id="top", agent_id="a", run_id="m")
    with pytest.raises(RunConflict):
        db.db.transact(continue_run, "m", "s")
    taken = db.db.transact(continue_run, "m", "s", seize=True)
    assert taken.open.token != held.token
    assert run_sql(db, "select count(*) from recollect_leases")[0][0] == 1
    await db.finish_run(taken.open, [answer()])
    with pytest.raises(RunConflict):
        db.db.transact(continue_run, "m", "s", seize=True)


async def test_a_member_of_a_team_whose_session_has_expired_is_refused_and_the_team_goes_on(db: Face) -> None:
    leader = await db.begin_run("s", [user()], run_id="top", expire_after=timedelta(seconds=5))
    db.clock.forward(10)
    before = dump(db)
    with pytest.raises(SessionNotFound):
        await db.begin_run("s", [user()], parent_run_id="top", agent_id="a")
    assert dump(db) == before
    await db.finish_run(leader, [answer()])
