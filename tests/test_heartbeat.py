"""A run keeps its lease as long as its process works on it; one that was stopped finds out that it lost it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from recollect import EchoModel, Message, NotFound, RunLost, SqliteDb, Store, heartbeat, open_db
from recollect.agent import Agent
from recollect.heartbeat import HEARTBEAT, Heartbeat
from recollect.store.continued import request_cancel
from recollect.store.turns import OpenRun

# Times are a thirtieth of the real ones, so that a test need not wait for half a minute.
PROGRAM = """
import sys, time
from pathlib import Path
from recollect import Agent, Message, RunLost, heartbeat, open_db
from recollect.port import Reply
from recollect.store import turns

heartbeat.BEAT, turns.LEASE = 0.3, 1_000_000
folder = Path(sys.argv[1])

class Thinking:
    id, provider = "thinking", "test"

    def __init__(self):
        self.calls = 0

    async def ask(self, request, world):
        self.calls += 1
        if self.calls == 1:
            (folder / "thinking").touch()
            time.sleep(float(sys.argv[2]))
            call = {"id": "c", "type": "function", "function": {"name": "act", "arguments": "{}"}}
            yield Reply(Message("assistant", None, tool_calls=[call]))
        else:
            yield Reply(Message("assistant", "done"))

def act() -> str:
    "Act."
    (folder / "acted").touch()
    return "acted"

with open_db(sys.argv[3]) as db:
    agent = Agent(Thinking(), db=db, tools=[act])
    try:
        print(agent.run("Act", session_id="s", run_id="r").content)
    except RunLost:
        print("lost")
"""


def start(folder: Path, seconds: float, place: str) -> subprocess.Popen[str]:
    program = textwrap.dedent(PROGRAM)
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder), str(seconds), place], stdout=subprocess.PIPE, text=True
    )


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def status(db: Store) -> str:
    run = db.get_run("r", "s")
    return "none" if run is None else str(run.status)


def test_a_model_may_think_longer_than_a_lease_lasts(tmp_path: Path, place: str) -> None:
    process = start(tmp_path, 3.0, place)
    until((tmp_path / "thinking").exists)
    with open_db(place) as db:
        seen = set()
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            seen.add(status(db))
            time.sleep(0.05)
        assert seen == {"running"}
        other = db.begin_run("s", [Message("user", "meanwhile")])
        db.finish_run(other, [Message("assistant", "yes")])
        assert process.communicate(timeout=30)[0] == "done\n"
        assert status(db) == "completed"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no processes")
def test_a_process_that_was_stopped_and_taken_over_from_writes_nothing_and_starts_no_tool(
    tmp_path: Path, place: str
) -> None:
    process = start(tmp_path, 1.0, place)
    until((tmp_path / "thinking").exists)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with open_db(place) as db:
            until(lambda: status(db) == "interrupted")
            Agent(EchoModel(reply="here"), db=db).run("Anybody?", session_id="s")
            before = [message.text for message in db.get_messages("s")]
            os.kill(process.pid, signal.SIGCONT)
            assert process.communicate(timeout=30)[0] == "lost\n"
            assert status(db) == "interrupted"
            assert [message.text for message in db.get_messages("s")] == before
    finally:
        process.kill()
    assert not (tmp_path / "acted").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no processes")
def test_a_process_that_was_stopped_and_not_taken_over_from_goes_on(tmp_path: Path, place: str) -> None:
    process = start(tmp_path, 1.0, place)
    until((tmp_path / "thinking").exists)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with open_db(place) as db:
            until(lambda: status(db) == "interrupted")
            os.kill(process.pid, signal.SIGCONT)
            assert process.communicate(timeout=30)[0] == "done\n"
            assert status(db) == "completed"
    finally:
        process.kill()


def test_only_runs_that_somebody_holds_give_signs_of_life() -> None:
    with SqliteDb() as db:
        held = db.begin_run("s", [Message("user", "held")])
        db.begin_run("s", [Message("user", "dropped")])
        gc.collect()
        watched = [run.token for _, (_, runs) in HEARTBEAT._known() for run in runs]
        assert held.token in watched
        assert len([known for known, _ in HEARTBEAT._known() if known is db]) == 1
        runs = next(runs for known, (_, runs) in HEARTBEAT._known() if known is db)
        assert [run.token for run in runs] == [held.token]
    assert db not in [known for known, _ in HEARTBEAT._known()]


# Asks for three tools at once; the first of them, or whoever listens just before them, stops the process.
TOOLS = """
import asyncio, os, signal, sys, time
from pathlib import Path
from recollect import Agent, Message, RunLost, SqliteDb, heartbeat
from recollect.port import Reply
from recollect.store import turns

heartbeat.BEAT, turns.LEASE = 0.3, 1_000_000
folder, face, moment, who = Path(sys.argv[1]), *sys.argv[2:]

def note(what):
    with (folder / "log").open("a") as log:
        log.write(what + "\\n")

def stop():
    if who == "first":
        os.kill(os.getpid(), signal.SIGSTOP)

class Paying:
    id, provider = "paying", "test"

    async def ask(self, request, world):
        if request.messages[-1].role == "user":
            calls = [("pay", '{"number": %d}' % number) for number in range(3)]
            yield Reply(Message("assistant", None, tool_calls=[
                {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
                for number, (name, arguments) in enumerate(calls)
            ]))
        else:
            yield Reply(Message("assistant", "paid"))

def pay(number: int) -> str:
    "Pay."
    note(f"{who} pays {number}")
    if number == 0 and moment == "in a tool":
        if face == "sync":
            time.sleep(0.2)  # threads start together; none may stand just before its call when the process stops
        stop()
    return "paid"

async def apay(number: int) -> str:
    "Pay."
    return pay(number)

apay.__name__ = "pay"

def heard(event):
    if event.event == "ToolCallStarted" and event.tool.tool_call_id == "c2" and moment == "before the tools":
        stop()

def run(agent):
    for event in agent.run("Pay", session_id="s", run_id="r", stream_events=True):
        heard(event)

async def arun(agent):
    async for event in agent.arun("Pay", session_id="s", run_id="r", stream_events=True):
        heard(event)

with SqliteDb(folder / "s.db") as db:
    agent = Agent(Paying(), db=db, tools=[pay if face == "sync" else apay])
    if who == "second":
        print(agent.continue_run("r", session_id="s").content if face == "sync" else
              asyncio.run(agent.acontinue_run("r", session_id="s")).content)
    else:
        try:
            run(agent) if face == "sync" else asyncio.run(arun(agent))
        except RunLost:
            note("lost")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no processes")
@pytest.mark.parametrize("moment", ["before the tools", "in a tool"])
@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_process_that_was_stopped_among_tools_and_taken_over_from_starts_no_other(
    tmp_path: Path, face: str, moment: str
) -> None:
    program = [sys.executable, "-c", TOOLS, str(tmp_path), face, moment]
    process = subprocess.Popen([*program, "first"])
    try:
        os.waitpid(process.pid, os.WUNTRACED)
        with SqliteDb(tmp_path / "s.db") as db:
            until(lambda: status(db) == "interrupted")
            done = subprocess.run([*program, "second"], capture_output=True, text=True, timeout=30, check=True)
            assert done.stdout == "paid\n"
            before = db.get_run("r", "s")
            meanwhile = (tmp_path / "log").read_text(encoding="utf-8")
            os.kill(process.pid, signal.SIGCONT)
            assert process.wait(timeout=30) == 0
            assert (tmp_path / "log").read_text(encoding="utf-8") == meanwhile + "lost\n"
            assert db.get_run("r", "s") == before
    finally:
        process.kill()


class Pondering:
    """Thinks until somebody ends it."""

    id, provider = "pondering", "test"

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def ask(self, request: Any, world: Any) -> AsyncIterator[Any]:
        self.began.set()
        await asyncio.sleep(30)
        yield None


@pytest.mark.anyio
@pytest.mark.parametrize("gone", ["taken over", "deleted"])
async def test_a_run_that_waits_for_its_model_is_told_that_it_was_lost(gone: str) -> None:
    model = Pondering()
    with SqliteDb() as db:
        running = asyncio.ensure_future(Agent(model, db=db).arun("Think", session_id="s", run_id="r"))
        await asyncio.wait_for(model.began.wait(), 10)
        if gone == "deleted":
            db.delete_session("s")
        else:
            connection: Any = db._writer
            connection.execute("update recollect_leases set token = 1")
        await asyncio.to_thread(HEARTBEAT._sign_all)
        with pytest.raises(NotFound if gone == "deleted" else RunLost):
            await asyncio.wait_for(running, 10)
        run = db.get_run("r", "s")
        assert run is None if gone == "deleted" else run.status == "running"  # type: ignore[union-attr]


def wanted(db: SqliteDb, *session_ids: str) -> list[OpenRun]:
    """Runs whose end somebody else asks for."""
    runs = [db.begin_run(session_id, [Message("user", "?")], run_id="r") for session_id in session_ids]
    for run in runs:
        db.transact(request_cancel, "r", run.session_id)
    return runs


def test_an_end_that_fails_holds_up_neither_the_others_nor_later_signs(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RecursionError

    with SqliteDb() as db:
        runs = wanted(db, "1", "2", "3")
        for run in runs:
            run.stop.hear = fail
        assert HEARTBEAT._sign_all()
        assert all(run.stop.requested for run in runs)
        assert caplog.text.count("could not be ended") == 3
        later = wanted(db, "4")
        HEARTBEAT._sign_all()
        assert later[0].stop.requested


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_signs_of_life_begin_again_with_the_next_run_where_they_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[int]] = []

    def renew(_: object, tokens: list[int]) -> dict[int, bool]:
        given.append(tokens)
        if len(given) == 1:
            raise SystemExit
        return dict.fromkeys(tokens, False)

    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    beats = Heartbeat()
    with SqliteDb() as db:
        run = db.begin_run("s", [Message("user", "?")])
        beats.watch(db, run, renew)
        until(lambda: not beats._beating)
        beats.watch(db, run, renew)
        until(lambda: len(given) > 1)
        beats.forget(db)
        until(lambda: not beats._beating)
