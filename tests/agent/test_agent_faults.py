"""A database that fails in the midst of a run: it is said, nothing is there twice, and trying again completes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_kit import FACES, ScriptedModel, calls
from faults import COUNT, Faults, faulty

from recollect import Agent, DatabaseError, RunStatus, SqliteDb
from recollect.doctor import database, healthy

pytestmark = pytest.mark.anyio

MODEL_CALLS = 2


def look(at: int) -> str:
    """Look."""
    return f"saw {at}"


class Bench:
    """An agent on an open file, whose run asks for two tools and then answers; each with a session of its own."""

    def __init__(self, face: str, db: SqliteDb, faults: Faults) -> None:
        self.face, self.db, self.faults = face, db, faults
        self.model = ScriptedModel()
        self.agent = FACES[face](Agent(self.model, db=db, tools=[look]))

    async def run(self, session_id: str) -> Any:
        self.model.requests.clear()
        self.model.answers = [calls(("look", '{"at": 0}'), ("look", '{"at": 1}')), "Seen."]
        return await self.agent.run("Look", session_id=session_id, run_id="r", session_state={"k": session_id})

    async def statements(self) -> list[str]:
        """What a run has the database do."""
        await self.run("first")
        self.faults.plan(COUNT)
        await self.run("counted")
        said = [sql.strip() for sql in self.faults.seen]
        self.faults.plan(None)
        return said

    async def check(self, session_id: str) -> None:
        """The run is there once, complete, and everything is in order."""
        session = await self.agent.get_session(session_id)
        assert [run.status for run in session.runs] == [RunStatus.completed]
        assert [tool.result for tool in session.runs[0].tools] == ["saw 0", "saw 1"]
        assert (session.runs[0].content, session.session_state) == ("Seen.", {"k": session_id})
        assert (session.header.run_count, session.header.completed_count, session.header.message_count) == (1, 1, 3)


@pytest.fixture(params=FACES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with faulty() as faults, SqliteDb(tmp_path / "s.db", durability="normal", timeout=0.05) as db:
        yield Bench(request.param, db, faults)
        faults.plan(None)
        assert healthy(database(db))


@pytest.mark.parametrize("stored", [True, False])
async def test_a_commit_of_unknown_outcome_is_looked_up_and_the_run_goes_on(bench: Bench, *, stored: bool) -> None:
    commits = [number for number, sql in enumerate(await bench.statements()) if sql == "commit"]
    assert len(commits) == 5, "begin, the calls, two results, the answer"
    for number in commits:
        session_id = f"{number}"
        bench.faults.plan(number, after=stored, undone=not stored)
        run = await bench.run(session_id)
        assert (run.status, run.content) == (RunStatus.completed, "Seen.")
        assert len(bench.faults.seen) > number
        bench.faults.plan(None)
        assert len(bench.model.requests) == MODEL_CALLS, "no model is asked twice"
        stored_run = await bench.agent.get_run_output("r", session_id)
        assert (stored_run.messages, stored_run.attempt) == (run.messages, 1)
        await bench.check(session_id)


@pytest.mark.parametrize("kind", ["I/O error", "full", "connection lost"])
async def test_whichever_statement_fails_it_is_said_and_trying_again_completes_the_run(bench: Bench, kind: str) -> None:
    said = await bench.statements()
    for number in range(len(said)):
        session_id = f"{number}"
        bench.faults.plan(number, kind)
        with pytest.raises(DatabaseError):
            await bench.run(session_id)
        bench.faults.plan(None)
        session = await bench.agent.get_session(session_id)
        assert session is None or session.runs[0].status is not RunStatus.completed, said[number]
        run = await bench.run(session_id)
        assert (run.status, run.content) == (RunStatus.completed, "Seen."), said[number]
        await bench.check(session_id)


async def test_a_run_that_was_stored_before_the_failure_is_not_run_twice(bench: Bench) -> None:
    """The answer is committed; what fails is said of nothing that matters any more."""
    said = await bench.statements()
    bench.faults.plan(len(said) - 1, after=True)
    first = await bench.run("s")
    bench.faults.plan(None)
    again = await bench.run("s")
    assert again.messages == first.messages
    assert bench.model.requests == []
