"""A run that ended early is taken up where it stopped; one under way is ended by whoever asks for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import msgspec
import pytest
from agent_kit import Bound, ScriptedModel, calls, ended

from recollect import (
    Agent,
    EchoModel,
    Message,
    ModelError,
    RunEvent,
    RunInProgress,
    RunNotFound,
    RunOutput,
    RunStatus,
    SessionBusy,
    SessionNotFound,
    SqliteDb,
    StepLimit,
    UserRequired,
    open_db,
    turn,
)
from recollect.history import UNKNOWN_OUTCOME
from recollect.port import Access, Delta
from recollect.store.outcome import certain
from recollect.store.turns import append_messages
from recollect.tools import Tool

pytestmark = pytest.mark.anyio


def leave_open(db: SqliteDb, *results: str, run_id: str = "r", session_id: str = "s") -> None:
    """A run that asked for three tools, got some of the results, and was interrupted."""
    run = db.begin_run(session_id, [Message("user", "Look")], run_id=run_id, agent_id="first", agent_name="First")
    db.append_messages(run, [calls(("look", '{"at": 0}'), ("look", '{"at": 1}'), ("look", '{"at": 2}'))], at=1)
    for number in results:
        db.append_messages(run, [Message("tool", f"saw {number}", tool_call_id=f"call_{number}")], at=2 + int(number))
    db.finish_run(run, status=RunStatus.error, error="the process went away")


class Eye:
    """A tool that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def look(self, at: int) -> str:
        """Look."""
        self.asked.append(at)
        return f"saw {at}"


@pytest.mark.parametrize("results", [(), ("0",), ("1",), ("2", "0"), ("0", "1", "2")])
async def test_only_what_has_no_result_is_called_again(bound: Any, results: tuple[str, ...]) -> None:
    eye = Eye()
    model = ScriptedModel("Three things.")
    agent = bound(model, tools=[eye.look])
    leave_open(agent.agent.db, *results)
    run = await agent.continue_run("r", session_id="s")
    assert sorted(eye.asked) == [at for at in range(3) if str(at) not in results]
    assert (run.status, run.content, run.attempt, run.agent_id) == (RunStatus.completed, "Three things.", 1, "first")
    assert model.seen() == [("user", "Look"), ("assistant", ""), *(("tool", f"saw {at}") for at in range(3))]
    session = await agent.get_session("s")
    assert [stored.run_id for stored in session.runs] == ["r"]
    assert session.runs[0].messages == run.messages
    assert (session.header.run_count, session.header.completed_count, session.header.message_count) == (1, 1, 3)


@pytest.mark.parametrize("breaks", [0, 1])
async def test_a_call_whose_id_an_earlier_step_used_too_gets_its_own_result(bound: Any, breaks: int) -> None:
    """As of a provider that counts anew in each step; and in one step two calls may have one id."""
    model = ScriptedModel("Done.")
    eye = Eye()
    agent = bound(model, tools=[eye.look])
    db = agent.agent.db
    run = db.begin_run("s", [Message("user", "Look")], run_id="r")
    twice = [{"id": "call_0", "type": "function", "function": {"name": "look", "arguments": '{"at": 7}'}}] * 2
    db.append_messages(run, [calls(("look", '{"at": 0}'))], at=1)
    db.append_messages(run, [Message("tool", "saw 0", tool_call_id="call_0")], at=2)
    db.append_messages(run, [Message("assistant", None, tool_calls=twice)], at=3)
    if breaks:
        db.append_messages(run, [Message("tool", "saw 7", tool_call_id="call_0")], at=5)
    db.finish_run(run, status=RunStatus.error, error="the process went away")
    continued = await agent.continue_run("r", session_id="s")
    assert eye.asked == [7] * (2 - breaks)
    assert [text for role, text in model.seen() if role == "tool"] == ["saw 0", "saw 7", "saw 7"]
    assert continued.messages == (await agent.get_run_output("r", "s")).messages


async def test_results_that_another_runtime_stored_in_its_own_order_leave_room_for_the_rest(bound: Any) -> None:
    eye = Eye()
    agent = bound(ScriptedModel("Done."), tools=[eye.look])
    db = agent.agent.db
    run = db.begin_run("s", [Message("user", "Look")], run_id="r")
    db.append_messages(run, [calls(("look", '{"at": 0}'), ("look", '{"at": 1}'))])
    db.append_messages(run, [Message("tool", "saw 1", tool_call_id="call_1")])
    db.finish_run(run, status=RunStatus.error, error="the process went away")
    await agent.continue_run("r", session_id="s")
    said = [message.text for message in db.get_run("r", "s").messages]
    assert (eye.asked, said) == ([0], ["Look", "", "saw 1", "saw 0", "Done."])


async def test_a_tool_that_must_not_be_repeated_is_not(bound: Any) -> None:
    eye = Eye()
    model = ScriptedModel("I do not know.")
    agent = bound(model, tools=[Tool(eye.look, repeatable=False)])
    leave_open(agent.agent.db, "1")
    run = await agent.continue_run("r", session_id="s")
    assert eye.asked == []
    assert [text for role, text in model.seen() if role == "tool"] == [UNKNOWN_OUTCOME, "saw 1", UNKNOWN_OUTCOME]
    assert [tool.tool_call_error for tool in run.tools] == [True, False, True]


async def test_a_tool_that_must_not_be_repeated_is_called_when_the_model_asks_for_it_anew(bound: Any) -> None:
    eye = Eye()
    again = calls(("look", '{"at": 7}'))
    agent = bound(ScriptedModel(again, "Done."), tools=[Tool(eye.look, repeatable=False)])
    leave_open(agent.agent.db, "0", "1", "2")
    await agent.continue_run("r", session_id="s")
    assert eye.asked == [7]


async def test_a_run_whose_model_failed_is_continued_with_what_it_took(bound: Any) -> None:
    eye = Eye()
    model = ScriptedModel(calls(("look", '{"at": 1}')), ModelError("overloaded"), "Seen.")
    agent = bound(model, tools=[eye.look])
    with pytest.raises(ModelError):
        await agent.run("Look", session_id="s", run_id="r", metadata={"k": [1]})
    run = await agent.continue_run("r", session_id="s")
    assert eye.asked == [1]
    assert (run.content, run.error, run.metadata, run.metrics.steps) == ("Seen.", None, {"k": [1]}, 3)
    assert (run.metrics.input_tokens, run.metrics.output_tokens) == (20, 10)
    metrics = await agent.get_session_metrics("s")
    assert (metrics.input_tokens, metrics.output_tokens) == (20, 10), "nothing is counted twice"


async def test_an_answer_that_was_broken_off_is_given_anew(bound: Any) -> None:
    model = ScriptedModel("Before.", [Delta("I was "), 30.0], "I was there.")
    agent = bound(model)
    await agent.run("One", session_id="s")
    async for _ in agent.events("Two", session_id="s", run_id="r", stream=True):
        break
    assert (await ended(agent.agent.db, "r")).content == "I was "
    await agent.agent.acontinue_run("r", session_id="s")
    assert model.seen() == [("user", "One"), ("assistant", "Before."), ("user", "Two")]
    session = await agent.get_session("s")
    assert [message.text for message in session.get_messages()] == ["One", "Before.", "Two", "I was there."]
    assert session.header.message_count == 4


async def test_the_past_of_a_continued_run_is_what_came_before_it(bound: Any) -> None:
    model = ScriptedModel("First.", ModelError("down"), "Third.", "Second.", "Fourth.")
    agent = bound(model)
    await agent.run("1", session_id="s")
    with pytest.raises(ModelError):
        await agent.run("2", session_id="s", run_id="r")
    await agent.run("3", session_id="s")
    run = await agent.continue_run("r", session_id="s")
    assert model.seen() == [("user", "1"), ("assistant", "First."), ("user", "2")]
    assert (run.metrics.history_runs, run.metrics.history_cut) == (1, False)
    await agent.run("4", session_id="s")
    assert [text for _, text in model.seen()] == ["1", "First.", "2", "Second.", "3", "Third.", "4"]


async def test_a_run_out_of_steps_goes_on(bound: Any) -> None:
    eye = Eye()
    more = [calls(("look", "{}".replace("}", f'"at": {number}}}'))) for number in range(3)]
    agent = bound(ScriptedModel(*more, "Enough."), tools=[eye.look], max_steps=2)
    with pytest.raises(StepLimit) as caught:
        await agent.run("Look around", session_id="s")
    run = await agent.continue_run(caught.value.run.run_id, session_id="s")
    assert (run.content, eye.asked) == ("Enough.", [0, 1, 2])


async def test_a_completed_run_is_given_as_it_is_stored(bound: Any) -> None:
    model = ScriptedModel("Once.")
    agent = bound(model)
    run = await agent.run("Hi", session_id="s", run_id="r")
    again = await agent.continue_run("r", session_id="s")
    assert again.messages == run.messages
    assert len(model.requests) == 1


async def test_a_completed_run_comes_with_the_answer_as_an_object_and_the_state(bound: Any) -> None:
    class Trip(msgspec.Struct):
        city: str

    agent = bound(ScriptedModel('{"city": "Rome"}'), output_schema=Trip, session_state={"n": 1})
    first = await agent.run("Where?", session_id="s", run_id="r")
    assert (first.content, first.session_state) == (Trip("Rome"), {"n": 1})
    for again in (agent.run("Where?", session_id="s", run_id="r"), agent.continue_run("r", session_id="s")):
        known = await again
        assert (known, known.content, known.session_state) == (first, Trip("Rome"), {"n": 1})


async def test_what_is_not_there_or_under_way_is_not_continued(bound: Any) -> None:
    agent = bound(EchoModel())
    db = agent.agent.db
    with pytest.raises(SessionNotFound):
        await agent.continue_run("r", session_id="nowhere")
    held = db.begin_run("s", [Message("user", "Hi")], run_id="r")
    with pytest.raises(RunNotFound):
        await agent.continue_run("other", session_id="s")
    with pytest.raises(RunInProgress):
        await agent.continue_run("r", session_id="s")
    db.finish_run(held, status=RunStatus.error)
    db.claim_session("s", "bob")
    before = db.get_session("s").to_dict()
    with pytest.raises(UserRequired):
        await agent.continue_run("r", session_id="s")
    with pytest.raises(SessionNotFound):
        await agent.continue_run("r", session_id="s", user_id="alice")
    assert db.get_session("s").to_dict() == before
    assert (await agent.continue_run("r", session_id="s", user_id="bob")).status is RunStatus.completed


async def test_two_who_continue_one_run_do_not_both_do_so(bound: Any) -> None:
    refused = threading.Event()
    agent = bound(ScriptedModel([lambda: refused.wait(20), "One."], [lambda: refused.wait(20), "Other."]))
    leave_open(agent.agent.db, "0", "1", "2")

    async def go_on() -> RunOutput:
        try:
            return await agent.agent.acontinue_run("r", session_id="s")
        except RunInProgress:
            refused.set()
            raise

    found = await asyncio.gather(go_on(), go_on(), return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["RunInProgress", "RunOutput"]


@pytest.mark.parametrize("mode", ["allow", "queue", "refuse"])
async def test_a_run_is_continued_beside_others_as_the_agent_has_it(bound: Any, mode: str) -> None:
    agent = bound(EchoModel(), concurrent_runs=mode, queue_timeout=0.05)
    db = agent.agent.db
    leave_open(db, "0", "1", "2")
    held = db.begin_run("s", [Message("user", "Hi")])
    if mode == "allow":
        assert (await agent.continue_run("r", session_id="s")).status is RunStatus.completed
        return
    with pytest.raises(SessionBusy):
        await agent.continue_run("r", session_id="s")
    assert (await agent.get_run_output("r", "s")).status is RunStatus.error
    db.finish_run(held)
    assert (await agent.continue_run("r", session_id="s")).status is RunStatus.completed


async def test_it_is_told_what_happens(bound: Any) -> None:
    agent = bound(ScriptedModel([Delta("Three"), Delta(" things"), "Three things"]), tools=[Eye().look])
    leave_open(agent.agent.db, "0")
    if agent.waits:
        stream = agent.agent.acontinue_run("r", session_id="s", stream_events=True)
        told = [event async for event in stream]
    else:
        told = list(agent.agent.continue_run("r", session_id="s", stream_events=True))
    assert [event.event for event in told] == [
        RunEvent.run_started,
        *[RunEvent.tool_call_started] * 2,
        *[RunEvent.tool_call_completed] * 2,
        *[RunEvent.run_content] * 2,
        RunEvent.run_completed,
    ]
    assert told[-1].run.content == "Three things"


KILLED = """
import os, signal, sys
from recollect import Agent, Message, open_db
from recollect.port import Reply
from recollect.store import turns

turns.LEASE = 500_000

class Model:
    id, provider = "m", "test"
    async def ask(self, request, world):
        def call(at):
            look = {"name": "look", "arguments": '{"at": %d}' % at}
            return {"id": f"call_{at}", "type": "function", "function": look}
        yield Reply(Message("assistant", None, tool_calls=[call(0), call(1)]))

def look(at: int) -> str:
    "Look."
    if at == 0:
        return "saw 0"
    import time
    with open_db(sys.argv[1]) as other:
        while len(other.get_run("r", "s").messages) < 3:
            time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)

Agent(Model(), db=open_db(sys.argv[1]), tools=[look]).run("Look", session_id="s", run_id="r")
"""


def _run_killed(place: str) -> int:
    return subprocess.run([sys.executable, "-c", KILLED, place], check=False).returncode


async def test_a_run_whose_process_was_killed_is_continued_by_another(bound: Bound) -> None:
    eye = Eye()
    model = ScriptedModel("Both.")
    agent = bound(model, tools=[eye.look])
    assert _run_killed(bound.place) == -9
    if bound.backend == "postgres":  # where a process died, only its lease tells
        await asyncio.sleep(0.5)
    assert (await agent.get_run_output("r", "s")).status is RunStatus.interrupted
    run = await agent.continue_run("r", session_id="s")
    assert (run.content, eye.asked) == ("Both.", [1])
    assert model.seen() == [("user", "Look"), ("assistant", ""), ("tool", "saw 0"), ("tool", "saw 1")]


class Busy:
    """A model that says a word, then thinks until it is told to go on."""

    id, provider = "busy", "test"

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()

    async def ask(self, request: Any, world: Any) -> Any:
        from recollect.port import Reply

        yield Delta("I am ")
        self.asked.set()
        if world.waits:
            while not self.go_on.is_set():  # noqa: ASYNC110 - it is set by another thread
                await asyncio.sleep(0.005)
        else:
            self.go_on.wait(10)
        yield Reply(Message("assistant", "I am done"))


def in_background(agent: Any, **options: Any) -> tuple[threading.Thread, list[Any]]:
    """Run in a thread, in the face of the agent; what came of it."""
    came: list[Any] = []

    def work() -> None:
        try:
            run = agent.agent.run("Go", **options)
            came.append(asyncio.run(run) if asyncio.iscoroutine(run) else run)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            came.append(error)

    def awork() -> None:
        async def go() -> Any:
            return await agent.agent.arun("Go", **options)

        try:
            came.append(asyncio.run(go()))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            came.append(error)

    thread = threading.Thread(target=awork if agent.waits else work)
    thread.start()
    return thread, came


async def test_a_run_of_this_process_is_ended_at_once(bound: Any) -> None:
    model = Busy()
    agent = bound(model)
    thread, came = in_background(agent, session_id="s", run_id="r")
    assert await asyncio.to_thread(model.asked.wait, 10)
    assert await agent.cancel_run("r", "s") is True
    if agent.waits:
        await asyncio.to_thread(thread.join, 10)
    else:
        stored = await agent.get_run_output("r", "s")
        assert stored.status is RunStatus.cancelled, "in the database, though the thread still waits for the model"
    model.go_on.set()
    await asyncio.to_thread(thread.join, 10)
    [run] = came
    assert (run.status, run.content) == (RunStatus.cancelled, "I am ")
    assert (await agent.get_run_output("r", "s")).messages == run.messages
    assert await agent.cancel_run("r", "s") is False
    again = await agent.continue_run("r", session_id="s")
    assert (again.status, again.content) == (RunStatus.completed, "I am done"), "cancelled once is not cancelled again"


async def test_a_stream_says_that_it_was_cancelled_and_ends(bound: Any) -> None:
    model = ScriptedModel([Delta("One "), Delta("two "), Delta("three"), "One two three"])
    agent = bound(model)
    told = []
    async for event in agent.events("Count", session_id="s", run_id="r", stream_events=True):
        told.append(event)
        if event.content == "One ":
            assert await agent.cancel_run("r", "s")
    assert [event.event for event in told][-1] is RunEvent.run_cancelled
    assert told[-1].run.status is RunStatus.cancelled
    assert told[-1].run.content.startswith("One ")
    assert "three" not in told[-1].run.content


async def test_no_further_tool_is_called_once_a_run_is_cancelled(bound: Any) -> None:
    called = []

    def first() -> str:
        """First."""
        called.append("first")
        agent.agent.cancel_run("r", "s")
        return "done"

    def second() -> str:
        """Second."""
        called.append("second")
        return "done"

    agent = bound(ScriptedModel(calls(("first", "{}")), calls(("second", "{}")), "End"), tools=[first, second])
    run = await agent.run("Go", session_id="s", run_id="r")
    assert (run.status, called) == (RunStatus.cancelled, ["first"])
    assert await agent.cancel_run("r", "s") is False


def test_a_step_that_was_stored_while_another_thread_stored_the_end_is_told_too(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_db(place) as db:
        agent = Agent(ScriptedModel(calls(("look", '{"at": 1}'))), db=db, tools=[Eye().look])

        async def stored(access: Access, step: Any, /, *args: Any, **given: Any) -> Any:
            commit = await certain(access, step, *args, **given)
            if step is append_messages and args[1][0].role == "tool":
                canceller = threading.Thread(target=agent.cancel_run, args=("r", "s"))
                canceller.start()
                canceller.join()
            return commit

        monkeypatch.setattr(turn, "certain", stored)
        run = agent.run("Look", session_id="s", run_id="r")
        assert run.status is RunStatus.cancelled
        assert [message.text for message in run.messages] == ["Look", "", "saw 1"]
        assert db.get_run("r", "s").messages == run.messages


async def test_a_queued_run_is_cancelled_while_it_waits(bound: Any) -> None:
    agent = bound(EchoModel(), concurrent_runs="queue")
    held = agent.agent.db.begin_run("s", [Message("user", "First")])
    thread, came = in_background(agent, session_id="s", run_id="r")
    while agent.agent.db.get_session("s").header.run_count != 2:  # noqa: ASYNC110 - it is begun by another thread
        await asyncio.sleep(0.005)
    assert await agent.cancel_run("r", "s")
    await asyncio.to_thread(thread.join, 10)
    assert came[0].status is RunStatus.cancelled
    agent.agent.db.finish_run(held)


async def test_what_is_not_under_way_is_not_cancelled(bound: Any) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s", run_id="r", user_id="bob")
    assert await agent.cancel_run("r", "s", user_id="bob") is False
    assert (await agent.get_run_output("r", "s")).status is RunStatus.completed
    with pytest.raises(RunNotFound, match="other"):
        await agent.cancel_run("other", "s")
    with pytest.raises(SessionNotFound):
        await agent.cancel_run("r", "s", user_id="alice")
    with pytest.raises(SessionNotFound):
        await agent.cancel_run("r", "nowhere")


class SlowToStop(Busy):
    """A model that has something to clear up when it is stopped, and does not get to the end of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stopping = threading.Event()

    async def ask(self, request: Any, world: Any) -> Any:
        try:
            async for piece in super().ask(request, world):
                yield piece
        finally:
            self.stopping.set()
            await asyncio.sleep(60)


async def test_a_task_that_is_cancelled_by_its_owner_is_cancelled_and_not_merely_stopped() -> None:
    model = SlowToStop()
    with SqliteDb() as db:
        agent = Agent(model, db=db)
        task = asyncio.create_task(agent.arun("Go", session_id="s", run_id="r"))
        await asyncio.to_thread(model.asked.wait, 10)
        assert await agent.acancel_run("r", "s")
        assert await asyncio.to_thread(model.stopping.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert db.get_last_run("s").status is RunStatus.cancelled
        assert task.cancelled()


OTHER_PROCESS = """
import sys, time
from recollect import Agent, Message, open_db, heartbeat
from recollect.port import Delta, Reply

heartbeat.BEAT = 0.2

class Model:
    id, provider = "m", "test"
    async def ask(self, request, world):
        yield Delta("I am ")
        print("asked", flush=True)
        await world.sleep(SECONDS)
        yield Reply(Message("assistant", "I am done"))

with open_db(sys.argv[1]) as db:
    agent = Agent(Model(), db=db)
    if sys.argv[2] == "async":
        import asyncio
        run = asyncio.run(agent.arun("Go", session_id="s", run_id="r"))
    else:
        run = agent.run("Go", session_id="s", run_id="r")
    print(run.status, repr(run.content), flush=True)
"""


@pytest.mark.parametrize(("face", "seconds"), [("sync", 1.5), ("async", 60)])
def test_a_run_of_another_process_ends_within_a_sign_of_life(place: str, face: str, seconds: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS.replace("SECONDS", str(seconds)), place, face],
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "asked\n"
        with open_db(place) as db:
            agent = Agent(EchoModel(), db=db)
            assert agent.cancel_run("r", "s") is True
            assert db.get_last_run("s").status is RunStatus.running, "it is told with its next sign of life"
            while db.get_last_run("s").status is RunStatus.running:
                time.sleep(0.01)
            run = db.get_last_run("s")
            assert (run.status, run.content) == (RunStatus.cancelled, "I am ")
        assert other.communicate(timeout=30)[0] == "cancelled 'I am '\n"
