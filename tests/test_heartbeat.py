"""A run keeps its lease as long as its process works on it; one that was stopped finds out that it lost it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recollect import EchoModel, Message, SqliteDb
from recollect.agent import Agent
from recollect.heartbeat import HEARTBEAT

# Times are a thirtieth of the real ones, so that a test need not wait for half a minute.
PROGRAM = """
import sys, time
from pathlib import Path
from recollect import Agent, Message, RunLost, SqliteDb, heartbeat
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

with SqliteDb(folder / "s.db") as db:
    agent = Agent(Thinking(), db=db, tools=[act])
    try:
        print(agent.run("Act", session_id="s", run_id="r").content)
    except RunLost:
        print("lost")
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    program = textwrap.dedent(PROGRAM)
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def status(db: SqliteDb) -> str:
    run = db.get_run("r", "s")
    return "none" if run is None else str(run.status)


def test_a_model_may_think_longer_than_a_lease_lasts(tmp_path: Path) -> None:
    process = start(tmp_path, 3.0)
    until((tmp_path / "thinking").exists)
    with SqliteDb(tmp_path / "s.db") as db:
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
def test_a_process_that_was_stopped_and_taken_over_from_writes_nothing_and_starts_no_tool(tmp_path: Path) -> None:
    process = start(tmp_path, 1.0)
    until((tmp_path / "thinking").exists)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with SqliteDb(tmp_path / "s.db") as db:
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
def test_a_process_that_was_stopped_and_not_taken_over_from_goes_on(tmp_path: Path) -> None:
    process = start(tmp_path, 1.0)
    until((tmp_path / "thinking").exists)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with SqliteDb(tmp_path / "s.db") as db:
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
