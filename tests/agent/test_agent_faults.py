"""A commit of unknown outcome is looked up: the run goes on, and nothing is said, asked or stored twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_kit import Bound, ScriptedModel, calls
from faults import Call, Fault, FaultyDb
from postgres_faults import FaultyPostgresDb

from recollect import (
    Agent,
    DatabaseError,
    EchoModel,
    Message,
    ModelError,
    OutcomeUnknown,
    RunContext,
    RunEvent,
    RunInProgress,
    RunLost,
    RunStatus,
    open_db,
)
from recollect.heartbeat import HEARTBEAT
from recollect.store.outcome import find_finished

pytestmark = pytest.mark.anyio


OUTCOMES = pytest.mark.parametrize("outcome", ["stored", "not stored"])


Faulty = FaultyDb | FaultyPostgresDb


def doubt(store: Faulty, commit: int, outcome: str) -> Fault:
    """A commit that took effect or did not, and nobody said which."""
    return Fault(store.in_doubt, commit=commit, after=outcome == "stored")


@pytest.fixture(autouse=True)
def no_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are commits, too, come when they like, and would be counted among those of a run."""
    monkeypatch.setattr(HEARTBEAT, "watch", lambda *_: None)


@pytest.fixture
def store(bound: Bound, tmp_path: Path) -> Iterator[Faulty]:
    """A session with something to remember."""
    on_postgres = bound.backend == "postgres"
    with FaultyPostgresDb(bound.place) if on_postgres else FaultyDb(tmp_path / "faults.db", timeout=5) as db:
        opened = db.begin_run("s", [Message("user", "Before")], state={"seen": 0})
        db.finish_run(opened, [Message("assistant", "Indeed")])
        db.faults.watch()
        yield db


def look(run_context: RunContext, place: str) -> str:
    """Look at a place."""
    run_context.session_state["seen"] += 1
    return f"saw {place}"


STEPS = 6
"""Commits of a run that looks twice: begin, a wish, its result, a wish, its result, the end."""


def looking() -> ScriptedModel:
    return ScriptedModel(calls(("look", '{"place": "here"}')), calls(("look", '{"place": "there"}')), "Nothing.")


def talking(bound: Bound, model: ScriptedModel, store: Faulty, **options: Any) -> Any:
    return bound(model, db=store, tools=[look], session_state={"own": 1}, **options)


def said(run: Any) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in run.messages]


WHOLE = [
    ("user", "Look"),
    ("assistant", ""),
    ("tool", "saw here"),
    ("assistant", ""),
    ("tool", "saw there"),
    ("assistant", "Nothing."),
]


def is_whole(store: Faulty, run: Any, model: ScriptedModel) -> None:
    """The run is stored once and in full, is what the caller got, and took no more than it had to."""
    assert (run.status, run.content, said(run)) == (RunStatus.completed, "Nothing.", WHOLE)
    session = store.get_session("s")
    assert session is not None
    assert [said(each) for each in session.runs][1:] == [WHOLE]
    stored = session.runs[1]
    assert (stored.status, stored.metrics, stored.finished_at) == (run.status, run.metrics, run.finished_at)
    assert session.session_state == {"seen": 2, "own": 1} == run.session_state
    header = session.header
    assert (header.run_count, header.completed_count, header.message_count) == (2, 2, 6)
    assert len(model.requests) == 3
    assert [text for _, text in model.seen(0)] == ["Before", "Indeed", "Look"]


async def test_a_run_that_looks_twice_commits_as_often_as_is_assumed_here(bound: Bound, store: Faulty) -> None:
    model = looking()
    is_whole(store, await talking(bound, model, store).run("Look", session_id="s"), model)
    assert store.faults.commits == STEPS


@pytest.mark.parametrize("step", range(2, STEPS + 1))
@OUTCOMES
@pytest.mark.parametrize("how", ["run", "stream"])
async def test_a_step_of_unknown_outcome_is_resolved_and_the_run_goes_on(
    bound: Bound, store: Faulty, step: int, outcome: str, how: str
) -> None:
    model = looking()
    agent = talking(bound, model, store)
    store.faults.arm(doubt(store, step, outcome))
    if how == "stream":
        events = [event async for event in agent.events("Look", session_id="s", stream=True, stream_events=True)]
        assert [event.event for event in events].count(RunEvent.tool_call_completed) == 2
        run = events[-1].run
    else:
        run = await agent.run("Look", session_id="s")
    assert store.faults.fired
    is_whole(store, run, model)


async def test_a_begin_that_was_stored_after_all_is_gone_on_with(bound: Bound, store: Faulty) -> None:
    model = looking()
    store.faults.arm(doubt(store, 1, "stored"))
    is_whole(store, await talking(bound, model, store).run("Look", session_id="s"), model)


async def test_a_begin_that_was_not_stored_is_said_and_may_be_tried_again(bound: Bound, store: Faulty) -> None:
    model = looking()
    agent = talking(bound, model, store)
    store.faults.arm(doubt(store, 1, "not stored"))
    with pytest.raises(DatabaseError, match="not begun") as caught:
        await agent.run("Look", session_id="s", run_id="r")
    assert type(caught.value) is DatabaseError
    assert not model.requests
    assert len(store.get_session("s").runs) == 1  # type: ignore[union-attr]
    is_whole(store, await agent.run("Look", session_id="s", run_id="r"), model)


@OUTCOMES
async def test_a_next_attempt_of_unknown_outcome_is_the_next_attempt_only_where_it_is_stored(
    bound: Bound, store: Faulty, outcome: str
) -> None:
    model = ScriptedModel(ModelError("no"), "Yes.")
    agent = bound(model, db=store)
    with pytest.raises(ModelError):
        await agent.run("Look", session_id="s", run_id="r")
    store.faults.arm(doubt(store, 1, outcome))
    if outcome == "not stored":
        with pytest.raises(DatabaseError, match="not begun"):
            await agent.run("Look", session_id="s", run_id="r")
        assert store.get_run("r", "s").status is RunStatus.error  # type: ignore[union-attr]
    run = await agent.run("Look", session_id="s", run_id="r")
    assert (run.content, run.attempt, len(model.requests)) == ("Yes.", 2, 2)
    assert store.get_run("r", "s").attempt == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("commit", [2, 3, 4])
@OUTCOMES
async def test_results_of_tools_that_are_in_doubt_together_are_each_resolved(
    bound: Bound, store: Faulty, commit: int, outcome: str
) -> None:
    both = calls(("look", '{"place": "here"}'), ("look", '{"place": "there"}'))
    model = ScriptedModel(both, "Nothing.")
    store.faults.arm(doubt(store, commit, outcome))
    run = await talking(bound, model, store).run("Look", session_id="s")
    assert store.faults.fired
    assert said(run) == [WHOLE[0], WHOLE[1], WHOLE[2], WHOLE[4], WHOLE[5]]
    assert said(store.get_session("s").runs[1]) == said(run)  # type: ignore[union-attr]
    assert len(model.requests) == 2


@OUTCOMES
async def test_how_a_run_failed_is_stored_once_whatever_the_commit_said(
    bound: Bound, store: Faulty, outcome: str
) -> None:
    store.faults.arm(doubt(store, 2, outcome))
    with pytest.raises(ModelError) as caught:
        await bound(ScriptedModel(ModelError("too busy")), db=store).run("Look", session_id="s", run_id="r")
    assert caught.value.run is not None
    stored = store.get_run("r", "s")
    assert stored is not None
    assert (stored.status, stored.error) == (RunStatus.error, "too busy") == (caught.value.run.status, "too busy")


class TakenOver:
    """While the end of a run is in doubt, and was not stored, another process takes the run up and ends it."""

    place = ""

    def meanwhile(self, sql: str) -> None:
        raise NotImplementedError

    def transact(self, operation: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._take_over(operation, *args)
        return super().transact(operation, *args, **kwargs)  # type: ignore[misc]

    async def atransact(self, operation: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._take_over(operation, *args)
        return await super().atransact(operation, *args, **kwargs)  # type: ignore[misc]

    def _take_over(self, operation: Any, *args: Any) -> None:
        if operation is find_finished:
            self.meanwhile("update recollect_leases set until = 0")
            with open_db(self.place) as other:
                Agent(EchoModel(reply="The same"), db=other).continue_run(args[0].run_id, session_id="s")


class TakenOverDb(TakenOver, FaultyDb):
    def __init__(self, place: str) -> None:
        super().__init__(place, timeout=5)
        self.place = place

    def meanwhile(self, sql: str) -> None:
        with closing(sqlite3.connect(self.place)) as other, other:
            other.execute(sql)


class TakenOverPostgresDb(TakenOver, FaultyPostgresDb):
    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place

    def meanwhile(self, sql: str) -> None:
        self._other.execute(sql)


@pytest.mark.parametrize("reply", ["The same", "Another"])
async def test_the_end_that_somebody_else_gave_a_run_is_not_taken_for_its_own(
    bound: Bound, tmp_path: Path, reply: str
) -> None:
    on_postgres = bound.backend == "postgres"
    with TakenOverPostgresDb(bound.place) if on_postgres else TakenOverDb(str(tmp_path / "taken.db")) as db:
        db.create_session("s")
        db.faults.watch()
        db.faults.arm(doubt(db, 2, "not stored"))
        with pytest.raises(RunLost):
            await bound(ScriptedModel(reply), db=db).run("Look", session_id="s", run_id="r")
        stored = db.get_run("r", "s")
        assert stored is not None
        assert (stored.status, stored.content) == (RunStatus.completed, "The same")


@pytest.mark.parametrize("step", range(1, STEPS + 1))
@OUTCOMES
@pytest.mark.parametrize("kind", ["in doubt", "lost"])
async def test_where_the_database_stays_silent_no_run_is_said_to_be_completed(
    bound: Bound, store: Faulty, step: int, outcome: str, kind: str
) -> None:
    """And once it speaks again, the same run_id gives what was stored, and the model is not asked again."""
    model = looking()
    agent = talking(bound, model, store)
    after = outcome == "stored"
    store.faults.arm(Fault(store.kinds.get(kind, store.in_doubt), commit=step, after=after, stays=True))
    told = []

    async def listen() -> None:
        async for event in agent.events("Look", session_id="s", run_id="r", stream=True, stream_events=True):
            told.append(event.event)  # noqa: PERF401 - what was told until it fails

    with pytest.raises(DatabaseError) as caught:
        await listen()
    known = kind == "lost" and not after and bound.backend == "sqlite"  # which had not ended the transaction
    assert type(caught.value) is (DatabaseError if known else OutcomeUnknown)
    assert RunEvent.run_completed not in told
    asked = len(model.requests)
    store.faults.watch()
    stored = store.get_run("r", "s")
    if step == 1 and not after:
        assert stored is None
    elif step == STEPS and after:
        run = await agent.run("Look", session_id="s", run_id="r")
        assert (run.status, said(run)) == (RunStatus.completed, WHOLE)
        assert msgspec.structs.replace(run, state_json=None) == stored
        assert run.session_state == {"seen": 2, "own": 1}
    else:
        assert stored is not None
        assert (stored.status, said(stored)) == (RunStatus.running, WHOLE[: step - 1 + after])
        with pytest.raises(RunInProgress):  # its lease has not run out
            await agent.run("Look", session_id="s", run_id="r")
    assert len(model.requests) == asked


@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("kind", ["full", "failing", "lost"])
async def test_a_step_that_cannot_begin_ends_the_run_and_a_next_attempt_answers(
    bound: Bound, store: Faulty, step: int, kind: str
) -> None:
    agent = talking(bound, looking(), store)
    fault = Fault(store.kinds[kind], begin=step)
    if store.told(fault, Call("", ends=True)) is OutcomeUnknown:
        pytest.skip("what Postgres begins and commits in one trip is in doubt; see above")
    store.faults.arm(fault)
    with pytest.raises(DatabaseError) as caught:
        await agent.run("Look", session_id="s", run_id="r")
    assert type(caught.value) is fault.kind.error
    assert store.faults.fired
    stored = store.get_run("r", "s")
    if step == 1:
        assert stored is None
    else:
        assert stored is not None
        assert (stored.status, said(stored)) == (RunStatus.error, WHOLE[: step - 1])
    model = looking()
    run = await talking(bound, model, store).run("Look", session_id="s", run_id="r")
    assert (run.status, said(run), run.attempt) == (RunStatus.completed, WHOLE, 1 + (step > 1))
    assert [said(each) for each in store.get_session("s").runs][1:] == [WHOLE]  # type: ignore[union-attr]


MEMBER_BEGINS, TEAM_STEPS = 3, 6
"""Commits of a team's run with one member: begin, a wish, the member's begin and end, its answer, the end."""


@pytest.mark.parametrize("step", range(2, TEAM_STEPS + 1))
@OUTCOMES
async def test_a_team_goes_on_where_a_commit_is_in_doubt(bound: Bound, store: Faulty, step: int, outcome: str) -> None:
    asked = ("delegate_task_to_member", '{"member_id": "a", "task": "Look"}')
    member, leader = ScriptedModel("I looked."), ScriptedModel(calls(asked), "Nothing.")
    team = bound.team([Agent(member, id="a")], leader, db=store)
    store.faults.arm(doubt(store, step, outcome))
    if step == MEMBER_BEGINS and outcome == "not stored":
        with pytest.raises(DatabaseError, match="was not begun"):
            await team.run("Look", session_id="s", run_id="r")
        run = await team.continue_run("r", session_id="s")
    else:
        run = await team.run("Look", session_id="s", run_id="r")
    assert (run.status, run.content, len(member.requests), len(leader.requests)) == ("completed", "Nothing.", 1, 2)
    session = store.get_session("s")
    assert session is not None
    assert store.faults.fired
    assert [[(message.role, message.text) for message in one.said] for one in session.runs][1:] == [
        [("user", "Look"), ("assistant", ""), ("tool", "I looked."), ("assistant", "Nothing.")],
        [("user", "Look"), ("assistant", "I looked.")],
    ]
