"""Runs that are left, cancelled or killed: what is there afterwards, and that the conversation goes on."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
from agent_kit import ScriptedModel, calls, ended

from recollect import Agent, EchoModel, Message, PostgresDb, RunStatus, Store, open_db
from recollect.history import UNKNOWN_OUTCOME
from recollect.port import Delta

pytestmark = pytest.mark.anyio

SLOW = [Delta("I was "), Delta("about to say"), 30.0, "never"]


def last(db: Store, session_id: str = "s") -> Any:
    return db.get_last_run(session_id)


async def test_a_stream_that_is_left_stores_what_was_said(bound: Any) -> None:
    agent = bound(ScriptedModel([Delta("I was "), Delta("about to say"), "I was about to say"]))
    async for event in agent.events("Go on", session_id="s", stream=True):
        assert event.content == "I was "
        break
    gc.collect()
    run = await ended(agent.agent.db)
    assert (run.status, run.content) == (RunStatus.cancelled, "I was ")
    assert run.messages[-1].finish_reason == "cancelled"


async def test_the_next_turn_shows_the_model_what_was_said_before_it_was_left(bound: Any) -> None:
    model = ScriptedModel([Delta("Half"), Delta(" whole"), "Half whole"], "Whole.")
    agent = bound(model)
    stream = agent.agent.arun("One", session_id="s", stream=True) if agent.waits else None
    if stream is None:
        with agent.agent.run("One", session_id="s", stream=True) as events:
            next(events)
    else:
        async with stream as aevents:
            await aevents.__anext__()
    await agent.run("Two", session_id="s")
    assert model.seen() == [("user", "One"), ("assistant", "Half"), ("user", "Two")]


async def test_a_cancelled_task_stores_what_was_said(place: str) -> None:
    with open_db(place) as db:
        agent = Agent(ScriptedModel(SLOW), db=db)
        said = asyncio.Event()

        async def listen() -> None:
            async for _ in agent.arun("Go on", session_id="s", stream=True):
                said.set()

        task = asyncio.create_task(listen())
        await said.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (last(db).status, last(db).content) == (RunStatus.cancelled, "I was about to say")


async def test_a_run_that_times_out_is_stored_as_cancelled(place: str) -> None:
    class Waiting(ScriptedModel):
        async def ask(self, request: Any, world: Any) -> Any:
            await asyncio.sleep(30)
            yield

    with open_db(place) as db:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await Agent(Waiting(), db=db).arun("Go on", session_id="s")
        assert last(db).status is RunStatus.cancelled


async def test_a_run_cancelled_at_any_moment_is_settled_or_was_never_begun(place: str) -> None:
    with open_db(place) as db:
        agent = Agent(EchoModel(), db=db)
        for number in range(60):
            task = asyncio.create_task(agent.arun("Hi", session_id=f"s{number}"))
            await asyncio.sleep(number / 20000)
            task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            session = db.get_session(f"s{number}")
            if session is not None:
                wanted = {RunStatus.cancelled, RunStatus.completed}
                assert {run.status for run in session.runs} <= wanted
                if not isinstance(outcome, BaseException):
                    assert session.runs[0].status is RunStatus.completed
        assert not await _leases(db)


async def _leases(db: Store) -> list[Any]:
    from recollect.port import Tx, reads

    @reads
    async def leases(tx: Tx) -> list[Any]:
        [rows] = await tx.execute(("select * from recollect_leases", {}))
        return rows

    return await db.atransact(leases)


PROGRAM = """
import json, os, signal, sys, time
from recollect import Agent, Message, heartbeat, open_db
from recollect.port import Delta, Reply
from recollect.store import turns

heartbeat.BEAT, turns.LEASE = 0.3, 1_000_000  # where a process died, only its lease tells on Postgres

class Slow:
    id, provider = "slow", "test"
    async def ask(self, request, world):
        if request.messages[-1].role == "tool" or not request.tools:
            yield Delta("I was ")
            yield Delta("about to say")
            print("said", flush=True)
            time.sleep(60)
        wanted = [
            {"id": f"c{n}", "type": "function", "function": {"name": "work", "arguments": json.dumps({"seconds": s})}}
            for n, s in enumerate(SECONDS)
        ]
        yield Reply(Message("assistant", None, tool_calls=wanted))

def work(seconds: float) -> str:
    if seconds:
        print("working", flush=True)
        time.sleep(seconds)
    return "worked"

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts behind ignore Ctrl-C
SECONDS = json.loads(sys.argv[2])
agent = Agent(Slow(), db=open_db(sys.argv[1]), tools=[work] if SECONDS else [])
try:
    agent.run("Go on", session_id="s", stream=False, user_id="ada") if len(sys.argv) < 4 else list(
        agent.run("Go on", session_id="s", stream=True, user_id="ada"))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


def start(place: str, seconds: list[float], *, stream: bool = False) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", textwrap.dedent(PROGRAM), place, json.dumps(seconds)]
    return subprocess.Popen([*words, *(["stream"] if stream else [])], stdout=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def end(process: subprocess.Popen[str], how: signal.Signals) -> int:
    process.send_signal(how)
    code = process.wait(timeout=20)
    assert process.stdout is not None
    process.stdout.close()
    return code


@pytest.mark.parametrize("events", range(1, 10))
def test_a_stream_held_when_its_event_loop_ends_is_settled_without_a_complaint(
    place: str, caplog: pytest.LogCaptureFixture, events: int
) -> None:
    async def wait(seconds: float) -> str:
        """Wait."""
        await asyncio.sleep(seconds)
        return "waited"

    async def listen(agent: Agent) -> Any:
        stream = agent.arun("Go on", session_id="s", run_id="r", stream_events=True)
        for _ in range(events):
            await anext(stream)
        return stream

    model = ScriptedModel(
        [Delta("I"), calls(("wait", '{"seconds": 0}'), ("wait", '{"seconds": 0.02}'), ("wait", '{"seconds": 0.04}'))],
        [Delta("I "), "I was"],
    )
    with open_db(place) as db:
        held = asyncio.run(listen(Agent(model, db=db, tools=[wait])))
        run = db.get_run("r", "s")
        assert run is not None
        assert run.status is RunStatus.cancelled
        assert held.run is None
    assert caplog.messages == []


def test_a_model_that_fails_when_it_is_left_does_not_keep_the_run_open(place: str) -> None:
    class Clinging(ScriptedModel):
        async def ask(self, request: Any, world: Any) -> Any:
            try:
                yield Delta("I was ")
                yield Delta("about to say")
            finally:
                raise OSError

    with open_db(place) as db:
        with Agent(Clinging(), db=db).run("Go on", session_id="s", stream=True) as stream:
            next(stream)
        assert (last(db).status, last(db).content) == (RunStatus.cancelled, "I was ")


def test_ctrl_c_stores_what_was_said(place: str) -> None:
    process = start(place, [], stream=True)
    wait_for(process, "said")
    assert end(process, signal.SIGINT) == 130
    with open_db(place) as db:
        assert (last(db).status, last(db).content) == (RunStatus.cancelled, "I was about to say")


def test_ctrl_c_does_not_wait_for_running_tools(place: str) -> None:
    process = start(place, [50.0, 0])
    wait_for(process, "working")
    began = time.monotonic()
    assert end(process, signal.SIGINT) == 130
    assert time.monotonic() - began < 15
    with open_db(place) as db:
        assert last(db).status is RunStatus.cancelled


def test_after_a_kill_everything_committed_is_there_and_the_session_goes_on(place: str) -> None:
    process = start(place, [0, 50.0])
    wait_for(process, "working")
    with open_db(place) as db:
        deadline = time.monotonic() + 10
        while len(last(db).messages) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert last(db).status is RunStatus.running
        end(process, signal.SIGKILL)
        while isinstance(db, PostgresDb) and last(db).status is RunStatus.running and time.monotonic() < deadline:
            time.sleep(0.01)
        run = last(db)
        assert run.status is RunStatus.interrupted
        assert [(message.role, message.text) for message in run.messages] == [
            ("user", "Go on"),
            ("assistant", ""),
            ("tool", "worked"),
        ]
        model = ScriptedModel("Welcome back.")
        Agent(model, db=db).run("Again", session_id="s", user_id="ada")
        assert model.seen() == [
            ("user", "Go on"),
            ("assistant", ""),
            ("tool", "worked"),
            ("tool", UNKNOWN_OUTCOME),
            ("user", "Again"),
        ]
        assert [run.status for run in db.get_session("s").runs] == [RunStatus.interrupted, RunStatus.completed]  # type: ignore[union-attr]


def test_one_agent_works_in_several_event_loops_in_turn(place: str) -> None:
    with open_db(place) as db:
        agent = Agent(EchoModel(), db=db)
        for number in range(3):
            asyncio.run(agent.arun(f"turn {number}", session_id="s"))
        agent.run("and without one", session_id="s")
        assert db.get_header("s").completed_count == 4  # type: ignore[union-attr]


def test_one_agent_works_in_two_threads_with_a_loop_each(place: str) -> None:
    with open_db(place) as db:
        agent = Agent(EchoModel(), db=db)

        async def talk(name: str) -> None:
            await asyncio.gather(*(agent.arun(f"{name} {number}", session_id="s") for number in range(20)))

        threads = [threading.Thread(target=asyncio.run, args=(talk(name),)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        header = db.get_header("s")
        assert header is not None
        assert (header.run_count, header.completed_count, header.message_count) == (40, 40, 80)


async def test_sync_runs_work_inside_a_running_loop(place: str) -> None:
    with open_db(place) as db:
        agent = Agent(EchoModel(), db=db)
        assert agent.run("Hi", session_id="s").content == "You said: Hi"
        assert (await agent.arun("Hi", session_id="s")).metrics.history_runs == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_one_agent_works_on_both_sides_of_a_fork(place: str) -> None:
    with open_db(place) as db:
        agent = Agent(EchoModel(), db=db)
        agent.run("before", session_id="s")
        child = os.fork()
        if child == 0:
            try:
                agent.run("in the child", session_id="s")
                os._exit(0)
            finally:
                os._exit(1)
        agent.run("in the parent", session_id="s")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        texts = {message.text for message in agent.get_chat_history("s") if message.role == "user"}
        assert texts == {"before", "in the child", "in the parent"}


async def test_a_message_said_twice_at_once_is_kept_twice_in_one_order(place: str) -> None:
    with open_db(place) as db:
        agent = Agent(ScriptedModel(*([[0.01, "ok"]] * 10)), db=db)
        await asyncio.gather(*(agent.arun(f"turn {number}", session_id="s") for number in range(10)))
        session = db.get_session("s")
        assert session is not None
        assert [run.run_seq for run in session.runs] == list(range(1, 11))
        assert all(run.status is RunStatus.completed for run in session.runs)


async def test_open_calls_of_a_run_under_way_are_not_shown_to_others(place: str) -> None:
    with open_db(place) as db:
        opened = db.begin_run("s", [Message("user", "Work")])
        db.append_messages(opened, [calls(("work", "{}"))])
        model = ScriptedModel("Hello")
        await Agent(model, db=db).arun("Hi", session_id="s")
        assert model.seen() == [("user", "Hi")]
