"""A turn is begun, appended to and finished; what it leaves is in one order, counted, and belongs to its writer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_kit import (
    NOTHING,
    Face,
    answer,
    calls,
    dump,
    header_of,
    result,
    run_sql,
    system,
    texts,
    turn,
    user,
)

from recollect.errors import RunConflict, RunLost, SessionBusy, SessionNotFound
from recollect.history import HISTORY_STATUSES, UNKNOWN_OUTCOME, History, HistoryLimits, repair
from recollect.message import Message
from recollect.run import RunMetrics, RunOutput, RunStatus
from recollect.session import AgentSession
from recollect.store.continued import continue_run, request_cancel
from recollect.store.outcome import find_finished
from recollect.store.turns import renew_lease, renew_leases

pytestmark = pytest.mark.anyio


async def test_a_turn_comes_back_as_it_was_said(db: Face) -> None:
    said = [user("Where?"), calls("c1", "c2"), result("c1"), result("c2"), answer("There.")]
    run = await db.begin_run("s", said[:1], prompt=system(), agent_id="a", agent_name="A", model="m", metadata={"k": 1})
    await db.append_messages(run, said[1:2])
    await db.append_messages(run, said[2:4])
    await db.finish_run(run, said[4:], metrics=RunMetrics(input_tokens=3, output_tokens=4, steps=2))

    stored = (await db.get_session("s")).runs[0]
    assert stored.messages == (system(), *said)
    assert [message.id for message in stored.messages] == [
        f"{run.run_id}.{place}" for place in ("prompt", 0, 1, 2, 3, 4)
    ]
    assert (stored.run_id, stored.run_seq, stored.status) == (run.run_id, 1, RunStatus.completed)
    assert (stored.agent_id, stored.agent_name, stored.model, stored.metadata) == ("a", "A", "m", {"k": 1})
    assert stored.metrics == RunMetrics(input_tokens=3, output_tokens=4, steps=2)
    assert stored.created_at == run.created_at
    assert stored.finished_at >= stored.created_at
    assert (stored.input, stored.content) == ("Where?", "There.")


async def test_what_was_said_before_a_step_is_there_before_the_next(db: Face) -> None:
    run = await db.begin_run("s", [user("1")])
    assert await texts(db) == ["1"]
    await db.append_messages(run, [answer("2")])
    assert await texts(db) == ["1", "2"]
    assert (await db.get_run(run.run_id, "s")).status == "running"


async def test_results_that_arrive_out_of_turn_stand_at_the_places_reserved_for_them(db: Face) -> None:
    run = await db.begin_run("s", [user("0")])
    await db.append_messages(run, [calls("a", "b", "c")], at=1)
    for place in (4, 2, 3):
        await db.append_messages(run, [result("abc"[place - 2], str(place))], at=place)
    await db.finish_run(run, [answer("5")])
    assert await texts(db) == ["0", "", "2", "3", "4", "5"]


async def test_runs_that_overlap_are_all_kept_in_the_order_they_began(db: Face) -> None:
    first = await db.begin_run("s", [user("a1")])
    second = await db.begin_run("s", [user("b1")])
    await db.append_messages(second, [answer("b2")])
    await db.append_messages(first, [answer("a2")])
    third = await db.begin_run("s", [user("c1")])
    for run, text in ((third, "c2"), (second, "b3"), (first, "a3")):
        await db.finish_run(run, [answer(text)])
    assert await texts(db) == ["a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2"]
    assert [run.run_seq for run in (first, second, third)] == [1, 2, 3]


async def test_the_header_counts_top_level_runs_and_what_was_said_in_them(db: Face) -> None:
    leader = await db.begin_run("s", [user("  Plan\nit "), user("now")], kind="team", team_id="t", prompt=system())
    member = await db.begin_run("s", [user("do")], parent_run_id=leader.run_id, agent_id="m")
    await db.append_messages(leader, [calls("c"), result("c")])
    await db.finish_run(member, [answer()], metrics=RunMetrics(input_tokens=10, output_tokens=1))
    await db.finish_run(leader, [answer()], metrics=RunMetrics(input_tokens=100, output_tokens=5))
    failed = await db.begin_run("s", [user("again")])
    await db.finish_run(failed, status=RunStatus.error, error="no")

    header = await header_of(db)
    assert (header.run_count, header.completed_count, header.message_count) == (2, 1, 5)
    assert (header.input_tokens, header.output_tokens, header.aux_tokens) == (110, 6, 0)
    assert (header.kind, header.team_id, header.preview) == ("team", "t", "Plan it")
    metrics = await db.get_metrics("s")
    assert (metrics.run_count, metrics.completed_count, metrics.message_count) == (2, 1, 5)
    assert (metrics.input_tokens, metrics.output_tokens, metrics.total_tokens) == (110, 6, 116)


async def test_the_version_rises_once_with_each_committed_change_and_with_nothing_else(db: Face) -> None:
    versions = [(await turn(db)).version]

    async def changed() -> None:
        versions.append((await header_of(db)).version)

    await changed()
    run = await db.begin_run("s", [user(), user()], prompt=system(), state={"a": 1, "b": 2})
    assert run.version == versions[-1] + 1
    await changed()
    step = await db.append_messages(run, [calls("c"), result("c")], state={"a": "3"})
    assert step.version == versions[-1] + 1
    await changed()
    assert (await db.finish_run(run, [answer()])).version == versions[-1] + 1
    await changed()
    for change in (
        lambda: db.update_values("s", "metadata", {"x": 1, "y": 2}),
        lambda: db.set_session_name("s", "Name"),
        lambda: db.claim_session("s", "alice"),
    ):
        await change()
        await changed()
    assert [after - before for before, after in pairwise(versions)] == [1] * (len(versions) - 1)
    await db.get_session("s")
    await db.get_messages("s")
    with pytest.raises(RunLost):
        await db.append_messages(run, [answer()])
    with pytest.raises(SessionNotFound):
        await db.set_session_name("s", "Mine", "bob")
    assert (await header_of(db)).version == versions[-1]


async def test_a_run_carries_the_version_of_its_last_change(db: Face) -> None:
    first = await db.begin_run("s", [user()])
    second = await db.begin_run("s", [user()])
    last_of_first = (await db.append_messages(first, [answer()])).version
    last_of_second = (await db.finish_run(second, [answer()])).version
    await db.set_session_name("s", "Name")
    assert run_sql(db, "select version from recollect_runs order by run_seq") == [(last_of_first,), (last_of_second,)]


@pytest.mark.parametrize("status", RunStatus)
async def test_the_past_holds_what_was_answered_cancelled_or_interrupted_and_nothing_else(
    db: Face, status: RunStatus
) -> None:
    await turn(db, text="1")
    run = await db.begin_run("s", [user("2")])
    if status is RunStatus.interrupted:
        db.clock.forward(31)
    elif status is not RunStatus.running:
        await db.finish_run(run, [answer("two")], status=status)
    member = await db.begin_run("s", [user("to a member")], parent_run_id=run.run_id, agent_id="m")
    await db.finish_run(member, [answer("from a member")])
    past = (await db.begin_run("s", [user("3")], history=HistoryLimits())).history
    said = [message.text for message in past.messages]
    told = {"interrupted": ["2"]}.get(status, ["2", "two"])
    assert said == ["1", "You said: 1", *(told if status in HISTORY_STATUSES else [])]
    assert (past.runs, past.cut) == (1 + (status in HISTORY_STATUSES), False)


async def test_calls_left_open_are_answered_in_the_past_and_only_there(db: Face) -> None:
    run = await db.begin_run("s", [user()])
    await db.append_messages(run, [calls("a", "b")])
    await db.append_messages(run, [result("b", "done")], at=3)
    await db.finish_run(run, status=RunStatus.cancelled)
    past = (await db.begin_run("s", [user()], history=HistoryLimits())).history
    assert [(message.role, message.tool_call_id, message.text) for message in past.messages[2:]] == [
        ("tool", "b", "done"),
        ("tool", "a", UNKNOWN_OUTCOME),
    ]
    assert len((await db.get_run(run.run_id, "s")).messages) == 3


async def test_a_system_message_is_kept_once_and_shown_with_each_run_that_had_it(db: Face) -> None:
    for text, prompt in (("1", "A"), ("2", "A"), ("3", "B"), ("4", "A")):
        await turn(db, text=text, prompt=system(prompt))
    await turn(db, text="5")
    assert sorted(body for *_, body in dump(db)["prompts"]) == [system("A").to_json(), system("B").to_json()]
    runs = (await db.get_session("s")).runs
    assert [run.prompt and run.prompt.text for run in runs] == ["A", "A", "B", "A", None]
    past = (await db.begin_run("s", [user()], prompt=system("A"), history=HistoryLimits())).history
    assert {message.role for message in past.messages} == {"user", "assistant"}


async def test_a_prompt_keeps_its_role(db: Face) -> None:
    run = await turn(db, prompt=Message("developer", "Be brief."))
    first = (await db.get_run(run.run_id, "s")).messages[0]
    assert (first.role, first.to_dict()["role"]) == ("developer", "developer")


sizes = st.integers(0, 30).map(lambda size: "x" * size)
statuses = st.sampled_from(["completed", "cancelled", "interrupted", "error", "regenerated", "paused"])


@st.composite
def past_runs(draw: st.DrawFn) -> list[RunOutput]:
    runs = []
    for place in range(draw(st.integers(0, 7))):
        asked = [user(draw(sizes))]
        told = draw(st.sampled_from([[], [answer("ok")], [calls("a", "b"), result("b")], [answer(), user(), answer()]]))
        run = RunOutput(
            run_id=str(place),
            session_id="",
            status=RunStatus(draw(statuses)),
            messages=(*draw(st.sampled_from([(), (system(),)])), *asked, *told),
            parent_run_id="0" if place and draw(st.booleans()) else None,
        )
        runs.append(run)
    return runs


def _chosen(whole: list[tuple[Message, ...]], limits: HistoryLimits) -> History:
    """What may be shown of all runs that count, by the definition of the limits."""
    kept: list[tuple[Message, ...]] = []
    room = limits.chars
    for run in whole[::-1][: limits.runs]:
        room -= sum(len(message.to_json()) for message in run)
        if room < 0:
            break
        kept.insert(0, run)
    said = repair((number, message) for number, run in enumerate(kept) for message in run)
    cut = len(kept) < len(whole)
    if limits.messages is not None and len(said) > limits.messages:
        said = said[len(said) - limits.messages :]
        while said and said[0][1].role == "tool":
            said = said[1:]
        cut = True
    return History(tuple(message for _, message in said), len({number for number, _ in said}), cut)


@given(
    runs=past_runs(),
    limits=st.lists(
        st.builds(
            HistoryLimits,
            runs=st.integers(0, 6),
            tokens=st.none() | st.integers(0, 160),
            messages=st.none() | st.integers(0, 9),
        ),
        min_size=3,
        max_size=3,
    ),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_past_read_by_limits_is_the_one_chosen_from_all_of_it(
    db: Face, runs: list[RunOutput], limits: list[HistoryLimits]
) -> None:
    session_id = (await db.create_session()).session_id
    await db.upsert_session(AgentSession(session_id, runs=runs))
    whole = [run.said for run in runs if run.parent_run_id is None and run.status in HISTORY_STATUSES]
    for wanted in limits:
        run = await db.begin_run(session_id, [user()], history=wanted)
        await db.finish_run(run, status=RunStatus.error)
        expected = _chosen(whole, wanted)
        assert (run.history.messages, run.history.runs) == (expected.messages, expected.runs), wanted
        assert run.history.cut == expected.cut or not expected.runs, wanted


@pytest.mark.parametrize("status", HISTORY_STATUSES)
async def test_that_all_of_the_past_was_too_long_is_told(db: Face, status: str) -> None:
    run = RunOutput(run_id="r", session_id="s", status=RunStatus(status), messages=(user("x" * 100),))
    await db.upsert_session(AgentSession("s", runs=[run]))
    past = (await db.begin_run("s", [user()], history=HistoryLimits(tokens=3))).history
    assert (past.messages, past.runs, past.cut) == ((), 0, True)


async def test_the_newest_of_a_long_past_are_shown_and_the_cut_is_told(db: Face) -> None:
    for number in range(60):
        await turn(db, text=str(number))
    past = (await db.begin_run("s", [user()], history=HistoryLimits())).history
    assert (past.runs, past.cut, past.messages[0].text) == (50, True, "10")
    past = (await db.begin_run("s", [user()], history=HistoryLimits(runs=60))).history
    assert (past.runs, past.cut, past.messages[0].text) == (60, False, "0")


async def test_whoever_lacks_the_lease_can_write_nothing(db: Face) -> None:
    run = await db.begin_run("s", [user()])
    forged = msgspec.structs.replace(run, token=run.token ^ 1)
    before = dump(db)
    for write in (
        lambda: db.append_messages(forged, [answer()], state={"k": "1"}),
        lambda: db.append_messages(forged, [answer()], at=0),
        lambda: db.finish_run(forged, [answer()], state={"k": None}),
    ):
        with pytest.raises(RunLost):
            await write()
    assert dump(db) == before
    await db.finish_run(run, [answer()])
    before = dump(db)
    with pytest.raises(RunLost):
        await db.append_messages(run, [answer()])
    with pytest.raises(RunLost):
        await db.finish_run(run, status=RunStatus.cancelled)
    assert dump(db) == before


async def test_a_run_that_was_recorded_as_interrupted_is_lost_to_its_writer(db: Face) -> None:
    run = await db.begin_run("s", [user("1")])
    run_sql(db, "update recollect_leases set owner = 'on another machine'")
    db.clock.forward(31)
    other = await db.begin_run("s", [user("2")])
    assert [row[8] for row in dump(db)["runs"]] == ["interrupted", "running"]
    with pytest.raises(RunLost):
        await db.append_messages(run, [answer("late")])
    with pytest.raises(RunLost):
        await db.finish_run(run, [answer("late")])
    await db.finish_run(other, [answer("3")])
    assert await texts(db) == ["1", "2", "3"]


async def test_a_sign_of_life_prolongs_leases_of_this_process_alone(db: Face) -> None:
    mine, forgotten = await db.begin_run("s", [user("1")]), await db.begin_run("s", [user("2")])
    theirs = await db.begin_run("s", [user("3")])
    run_sql(db, "update recollect_leases set owner = 'on another machine' where run_seq = 3")
    before = await header_of(db)
    for _ in range(3):
        db.clock.forward(20)
        assert db.db.transact(renew_leases, [mine.token, theirs.token]) == {mine.token: False}
    statuses = [(await db.get_run(run.run_id, "s")).status for run in (mine, forgotten, theirs)]
    assert statuses == ["running", "interrupted", "interrupted"]
    assert await header_of(db) == before, "nobody who reads the session sees it"
    other = await db.begin_run("s", [user("4")])
    await db.finish_run(mine, [answer("late")])
    await db.finish_run(other, [answer("5")])
    assert [row[8] for row in dump(db)["runs"]] == ["completed", "interrupted", "interrupted", "completed"]


async def test_a_process_asks_whether_a_run_is_still_its_own_and_keeps_it_so(db: Face) -> None:
    run = await db.begin_run("s", [user("1")], run_id="r")
    db.clock.forward(31)
    before = await header_of(db)
    assert db.db.transact(renew_lease, run) is False
    assert (await db.get_run("r", "s")).status == "running"
    db.db.transact(request_cancel, "r", "s")
    assert db.db.transact(renew_lease, run) is True
    assert await header_of(db) == before, "nobody who reads the session sees it"
    db.clock.forward(31)
    db.db.transact(continue_run, "r", "s")
    with pytest.raises(RunLost):
        db.db.transact(renew_lease, run)
    await db.delete_session("s")
    with pytest.raises(SessionNotFound):
        db.db.transact(renew_lease, run)


@pytest.mark.parametrize("said", [(), (answer("2"),)], ids=["nothing", "something"])
async def test_an_end_is_known_by_what_it_took_and_said(db: Face, said: tuple[Message, ...]) -> None:
    run = await db.begin_run("s", [user("1")], run_id="r")
    end: dict[str, Any] = {"at": 1, "status": RunStatus.cancelled, "metrics": RunMetrics(duration=0.125)}
    assert db.db.transact(find_finished, run, said, **end) is None
    commit = await db.finish_run(run, said, **end)
    assert db.db.transact(find_finished, run, said, **end) == commit
    others = ({"status": RunStatus.completed}, {"metrics": RunMetrics(duration=0.126)}, {"metrics": RunMetrics()})
    assert [db.db.transact(find_finished, run, said, **end | other) for other in others] == [None] * 3
    assert db.db.transact(find_finished, run, [answer("something else")], **end) is None


async def test_a_late_writer_nobody_took_over_from_goes_on(db: Face) -> None:
    run = await db.begin_run("s", [user("1")])
    db.clock.forward(31)
    assert (await db.get_run(run.run_id, "s")).status == "interrupted"
    await db.append_messages(run, [answer("2")])
    assert (await db.get_run(run.run_id, "s")).status == "running"
    await db.finish_run(run)
    assert (await db.get_run(run.run_id, "s")).status == "completed"


async def test_each_step_prolongs_the_lease(db: Face) -> None:
    run = await db.begin_run("s", [user()])
    for _ in range(3):
        db.clock.forward(20)
        await db.append_messages(run, [answer()])
        assert (await db.get_last_run("s")).status == "running"
    db.clock.forward(31)
    assert (await db.get_last_run("s")).status == "interrupted"
    assert (await header_of(db)).version == 4


async def test_a_run_on_a_session_deleted_meanwhile_never_brings_it_back(db: Face) -> None:
    run = await db.begin_run("s", [user()], state={"k": 1})
    await db.delete_session("s")
    for write in (
        lambda: db.append_messages(run, [answer()], state={"k": "2"}),
        lambda: db.finish_run(run, [answer()]),
    ):
        with pytest.raises(SessionNotFound):
            await write()
    assert dump(db) == NOTHING


async def test_a_run_on_a_session_made_anew_writes_nothing_into_it(db: Face) -> None:
    run = await db.begin_run("s", [user("old")])
    await db.delete_session("s")
    await db.begin_run("s", [user("new")])
    with pytest.raises(RunLost):
        await db.finish_run(run, [answer("old")])
    assert await texts(db) == ["new"]
    assert (await header_of(db)).epoch != run.epoch


async def test_a_run_id_used_twice_leaves_nothing_behind(db: Face) -> None:
    await turn(db, run_id="r", state={"k": 1})
    before = dump(db)
    with pytest.raises(RunConflict):
        await db.begin_run("s", [user("again")], run_id="r", state={"k": 2}, prompt=system())
    assert dump(db) == before
    await turn(db, "other", run_id="r")
    assert (await header_of(db, "other")).run_count == 1


async def test_an_attempt_that_was_interrupted_makes_room_for_the_next_one(db: Face) -> None:
    first = await db.begin_run("s", [user("q1"), user("q2")], run_id="r", prompt=system())
    await db.append_messages(first, [answer("half")])
    await turn(db, text="between")
    with pytest.raises(RunConflict, match="under way"):
        await db.begin_run("s", [user("q")], run_id="r", again=True)
    db.clock.forward(31)
    run_sql(db, "update recollect_leases set owner = 'elsewhere:1:1'")
    epoch = (await header_of(db)).epoch
    second = await db.begin_run("s", [user("q")], run_id="r", again=True, history=HistoryLimits())
    assert (second.attempt, second.run_seq) == (2, 3)
    assert dump(db)["prompts"] == [], "nobody is told by it any more"
    assert [message.text for message in second.history.messages] == ["between", "You said: between"]
    with pytest.raises(RunLost):
        await db.finish_run(first, [answer("too late")])
    await db.finish_run(second, [answer("a")])
    assert await texts(db) == ["between", "You said: between", "q", "a"]
    header = await header_of(db)
    assert (header.run_count, header.message_count, header.completed_count) == (2, 4, 2)
    assert header.epoch != epoch, "rows are gone: who holds a copy reads all of it again"
    with pytest.raises(RunConflict, match="completed"):
        await db.begin_run("s", [user("q")], run_id="r", again=True)
    fresh = await db.begin_run("s", [user("q")], run_id="new", again=True)
    assert fresh.attempt == 1


async def test_a_session_shows_what_was_asked_when_it_was_tried_anew(db: Face) -> None:
    await db.finish_run(await db.begin_run("s", [user("Gud mornign")], run_id="r"), status=RunStatus.error)
    await db.finish_run(await db.begin_run("s", [user("Good morning")], run_id="r", again=True), status=RunStatus.error)
    assert (await header_of(db)).preview == "Good morning"
    await turn(db, text="Hello")
    await db.finish_run(await db.begin_run("s", [user("Good evening")], run_id="r", again=True), [answer("a")])
    assert (await header_of(db)).preview == "Hello"


async def test_what_is_set_during_a_run_survives_it(db: Face) -> None:
    run = await db.begin_run("s", [user()], state={"theirs": 1, "mine": 1, "gone": 1}, with_state=True)
    assert run.state == {"theirs": "1", "mine": "1", "gone": "1"}
    await db.set_session_name("s", "A name")
    await db.update_values("s", "metadata", {"project": "x"})
    await db.update_values("s", "state", {"theirs": 2, "new": [1]})
    await db.append_messages(run, [calls("c")], state={"mine": '{"a":1}'})
    await db.update_values("s", "tag", {"red": None})
    await db.finish_run(run, [answer()], state={"gone": None})

    session = await db.get_session("s")
    assert (session.name, session.name_source, session.metadata, session.tags) == (
        "A name",
        "manual",
        {"project": "x"},
        ("red",),
    )
    assert session.session_state == {"theirs": 2, "new": [1], "mine": {"a": 1}}


@pytest.mark.parametrize("value", [None, 0, "", False, [], {}, "null", {"a": None}])
async def test_nothing_is_a_value_like_any_other(db: Face, value: Any) -> None:
    await db.create_session("s", session_state={"given": value}, metadata={"k": value})
    assert await db.update_values("s", "state", {"set": value}) == {"given": value, "set": value}
    run = await db.begin_run("s", [user()], state={"begun": value}, with_state=True)
    await db.finish_run(run, [answer()])
    assert set(run.state) == {"given", "set", "begun"}
    assert await db.get_values("s", "state") == {"given": value, "set": value, "begun": value}
    assert (await db.get_session("s")).metadata == {"k": value}


async def test_text_of_a_failure_is_repaired_never_refused(db: Face) -> None:
    run = await db.begin_run("s", [user()])
    await db.finish_run(run, status=RunStatus.error, error="broken \ud800 and \x00 zero")
    assert (await db.get_run(run.run_id, "s")).error == "broken \ufffd and \ufffd zero"


async def test_a_store_gives_ids_that_sort_by_the_time_of_their_making(db: Face) -> None:
    sessions = [(await db.create_session()).session_id for _ in range(3)]
    runs = [(await turn(db, sessions[0])).run_id for _ in range(3)]
    assert sessions == sorted(sessions)
    assert runs == sorted(runs)


async def test_a_run_that_is_refused_beside_another_leaves_nothing_although_a_lost_one_is_there(db: Face) -> None:
    await db.begin_run("s", [user("Lost")])
    held = await db.begin_run("s", [user("Under way")])
    db.clock.forward(20)
    await db.append_messages(held, [answer()])
    db.clock.forward(15)
    before = dump(db)
    with pytest.raises(SessionBusy):
        await db.begin_run("s", [user("Alone")], alone=True)
    assert dump(db) == before
    await db.finish_run(held, [answer()])
    alone = await db.begin_run("s", [user("Alone")], alone=True)
    await db.finish_run(alone, [answer()])
    session = await db.get_session("s")
    assert [run.status for run in session.runs] == ["interrupted", "completed", "completed"]


async def test_however_often_a_run_is_refused_the_next_one_is_not(db: Face) -> None:
    """Postgres prepares what comes again and again; what was refused with its transaction is not prepared."""
    whole = {"history": HistoryLimits(), "with_state": True, "with_summary": True}
    for before in range(4):
        for number in range(before):
            await turn(db, f"s{before}", run_id=f"r{number}", **whole)
        for _ in range(2):
            await turn(db, f"s{before}", run_id="r", **whole)
            for _ in range(before):
                with pytest.raises(RunConflict):
                    await db.begin_run(f"s{before}", [user()], run_id="r", **whole)
            await db.delete_session(f"s{before}")
