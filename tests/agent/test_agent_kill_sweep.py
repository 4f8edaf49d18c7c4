"""Law 1 at every moment of a run with three tools at once, and of a team with three members at once.

It is killed there, looked at, and goes on.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_kit import CrewModel, crew

from recollect import Agent, PostgresDb, RunStatus, SqliteDb, TeamSession
from recollect.doctor import database
from recollect.history import UNKNOWN_OUTCOME
from recollect.models.openai import OpenAIResponses
from recollect.testing import Answer, ResponsesServer

WORKER = Path(__file__).parent / "kill_worker.py"


def look(at: int) -> str:
    """Look."""
    return f"saw {at}"


def answer(body: dict[str, Any]) -> Any:
    """Three tools at once, then one more, then the answer; and an answer to what comes after."""
    items = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    asked = max(place for place, item in enumerate(items) if item.get("role") == "user")
    if "And now?" in json.dumps(items[asked]):
        return "Now it is well."
    results = sum(item.get("type") == "function_call_output" for item in items[asked:])
    calls = {0: [("look", {"at": at}) for at in range(3)], 3: [("look", {"at": 3})]}.get(results)
    return Answer(tool_calls=calls) if calls else "I looked."


class Later:
    """A clock that is a minute ahead: by it, whoever gave no sign of life just now has none."""

    def now(self) -> int:
        return time.time_ns() // 1000 + 60_000_000


class Sweep:
    """The worker, and the database that it works on."""

    def __init__(self, place: str, server: ResponsesServer, face: str, order: list[int], *, crew: bool = False) -> None:
        self.server, self.face = server, face
        self.plan = {
            "place": place,
            "crew": crew,
            "face": face,
            "order": order,
            "base_url": server.base_url,
            "api_key": server.api_key,
        }
        self.db: SqliteDb | PostgresDb
        if place.startswith("postgresql"):
            self.db, self.moments = PostgresDb(place, clock=Later()), 25
        else:
            self.db, self.moments = SqliteDb(place, durability="normal"), 60
        model = OpenAIResponses(id="gpt-5.2", base_url=server.base_url, api_key=server.api_key)
        self.agent = Agent(model, db=self.db, tools=[look], instructions="Look around.")
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), server.base_url, server.api_key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, moment: int) -> tuple[int, list[str]]:
        """A run that is killed at a moment: its status, and what it told before."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(self.plan | {"moment": moment, "session": f"s{moment}"}) + "\n")
        self.process.stdin.flush()
        came = json.loads(self.process.stdout.readline())
        return came["status"], came["told"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.agent.model.close()  # type: ignore[attr-defined]
        self.db.close()


@pytest.fixture(params=[("sync", [2, 0, 1]), ("async", [0, 1, 2])], ids=str)
def sweep(request: pytest.FixtureRequest, place: str) -> Iterator[Sweep]:
    face, order = request.param
    with ResponsesServer() as server:
        server.script(answer)
        made = Sweep(place, server, face, order)
        yield made
        made.close()


def test_killed_at_any_moment_everything_told_is_there_and_the_talk_goes_on(sweep: Sweep) -> None:
    _sweep(sweep, _check)


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_team_that_is_killed_at_any_moment_goes_on_where_it_was(place: str, face: str) -> None:
    with ResponsesServer() as server:
        made = Sweep(place, server, face, [1, 2, 0], crew=True)
        _sweep(made, _check_crew)
        made.close()


def _sweep(sweep: Sweep, check: Callable[[Sweep, str, list[str]], None]) -> None:
    status, told = sweep.run(1 << 30)
    assert status == 0, told
    moments = json.loads(told[-1])["moments"]
    assert len(moments) > sweep.moments
    wrong = []
    for moment, what in enumerate(moments):
        status, told = sweep.run(moment)
        if status == 0 and sweep.plan["crew"] and moment > len(moments) * 0.7:
            continue  # members that write at the same time share commits, some more in one run than in another
        assert status == signal.SIGKILL, f"moment {moment} ({what}) did not come"
        try:
            check(sweep, f"s{moment}", told)
        except Exception as error:  # noqa: BLE001 - all moments are tried; what is wrong is told together
            wrong.append(f"moment {moment} ({what}), told {told}: {error!r}")
    assert not wrong, "\n".join(wrong)
    assert not [found for found in database(sweep.db) if found.status == "problem"]


def _check_crew(sweep: Sweep, session_id: str, told: list[str]) -> None:
    """The run is continued by another process: what was told is kept, nobody who looked looks again, all is whole."""
    looked: list[int] = []

    def look(at: int) -> str:
        """Look once more."""
        looked.append(at)
        return f"saw {at}"

    team = crew(CrewModel(), look, sweep.db)
    before = [result for event, _, result in (line.partition(":") for line in told) if event == "ToolCallCompleted"]
    if sweep.db.get_run("r", session_id) is None:
        assert not told, "what was told is not there"
        team.run("Look", session_id=session_id, run_id="r")
    run = team.continue_run("r", session_id=session_id)
    says = [f"They say: saw {at}" for at in range(3)]
    assert (run.status, run.content) == (RunStatus.completed, f"They say: {'; '.join(says)}")
    assert not {f"saw {at}" for at in looked} & set(before), f"{looked} were looked at again"
    assert len(looked) == len(set(looked))
    session = sweep.db.get_session(session_id)
    assert isinstance(session, TeamSession)
    assert sorted((one.agent_id or "", one.status, one.content) for one in session.get_member_runs("r")) == [
        (own, RunStatus.completed, said) for own, said in zip("abc", says, strict=True)
    ]
    assert len(session.runs) == 4
    assert team.run("And now?", session_id=session_id).content == "Now it is well."


def _check(sweep: Sweep, session_id: str, told: list[str]) -> None:
    """What is there after the kill, what the next turn sends, and a second attempt under the same id."""
    events = [line.partition(":") for line in told]
    results = [result for event, _, result in events if event == "ToolCallCompleted"]
    run = sweep.db.get_run("r", session_id)
    if run is None:
        assert not events, "what was told is not there"
    else:
        assert run.status in (RunStatus.interrupted, RunStatus.completed)
        assert run.status is RunStatus.completed or "RunCompleted" not in told[-1:]
        assert run.input == "Look"
        kept = [tool.result for tool in run.tools if tool.result is not None]
        assert set(results) <= set(kept), f"{results} were told, there are {kept}"
        places = [message.tool_call_id for message in run.messages if message.role == "tool"]
        wanted = [call.id for message in run.messages for call in message.tool_calls]
        assert places == [call for call in wanted if call in places], "results are in the order of their calls"
    _goes_on(sweep, session_id, run)
    again = sweep.agent.run("Look", session_id=session_id, run_id="r")
    assert (again.status, again.content) == (RunStatus.completed, "I looked.")
    known = 0 if run is None else run.attempt
    assert again.attempt == (1 if run is not None and run.status is RunStatus.completed else known + 1)
    session = sweep.db.get_session(session_id)
    assert session is not None
    assert sorted(one.status for one in session.runs) == [RunStatus.completed] * 2
    assert (session.header.run_count, session.header.completed_count) == (2, 2)


def _goes_on(sweep: Sweep, session_id: str, run: Any) -> None:
    """The next turn works at once, and shows the model what there is."""
    sweep.server.requests.clear()
    after = sweep.agent.run("And now?", session_id=session_id)
    assert after.content == "Now it is well."
    [body] = sweep.server.requests
    outputs = [item["output"] for item in body["input"] if item.get("type") == "function_call_output"]
    expected = [] if run is None else [tool.result or UNKNOWN_OUTCOME for tool in run.tools]
    assert sorted(outputs) == sorted(expected)
    assert body["input"][-1]["role"] == "user"
