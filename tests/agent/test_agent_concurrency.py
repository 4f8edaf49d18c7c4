"""Several runs in one session at the same time: allowed, one after the other, or refused."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from agent_kit import ScriptedModel

from recollect import Agent, EchoModel, InvalidArgument, Message, SessionBusy, SqliteDb

pytestmark = pytest.mark.anyio


def begun(agent: Any, text: str = "first", session_id: str = "s") -> Any:
    """A run that somebody else has under way."""
    return agent.agent.db.begin_run(session_id, [Message("user", text)])


async def test_runs_beside_each_other_are_allowed_unless_said_otherwise(bound: Any) -> None:
    agent = bound(EchoModel(reply="second"))
    other = begun(agent)
    assert (await agent.run("and?", session_id="s")).content == "second"
    agent.agent.db.finish_run(other, [Message("assistant", "done")])
    texts = [message.text for message in await agent.get_chat_history("s")]
    assert texts == ["first", "done", "and?", "second"]


async def test_a_run_beside_another_is_refused_before_anything_is_written(bound: Any) -> None:
    agent = bound(EchoModel(), concurrent_runs="refuse")
    other = begun(agent)
    before = await agent.get_session("s")
    with pytest.raises(SessionBusy, match="under way in session 's'"):
        await agent.run("and?", session_id="s", session_state={"a": 1})
    assert (await agent.get_session("s")).to_dict() == before.to_dict()
    assert await agent.run("elsewhere", session_id="t")
    agent.agent.db.finish_run(other, [Message("assistant", "done")])
    assert (await agent.run("now?", session_id="s")).metrics.history_runs == 1


async def test_a_queued_run_waits_and_sees_what_the_ones_before_it_left(bound: Any) -> None:
    model = ScriptedModel("third")
    agent = bound(model, concurrent_runs="queue", session_state={"a": 0})
    other = begun(agent)

    def finish() -> None:
        time.sleep(0.15)
        assert not model.requests
        agent.agent.db.finish_run(other, [Message("assistant", "second")], state={"a": "7"})

    finishing = threading.Thread(target=finish)
    finishing.start()
    run = await agent.run("and?", session_id="s")
    finishing.join()
    assert model.seen() == [("user", "first"), ("assistant", "second"), ("user", "and?")]
    assert (run.content, run.session_state) == ("third", {"a": 7})


async def test_what_is_queued_is_stored_before_it_waits_and_waits_no_longer_than_allowed(bound: Any) -> None:
    agent = bound(EchoModel(), concurrent_runs="queue", queue_timeout=0.1)
    begun(agent)
    with pytest.raises(SessionBusy, match=r"did not end in 0\.1 s"):
        await agent.run("and?", session_id="s", run_id="r")
    run = await agent.get_run_output("r", "s")
    assert (run.status, run.input) == ("error", "and?")


async def test_many_queued_runs_go_one_after_the_other_in_their_order() -> None:
    with SqliteDb() as db:
        agent = Agent(EchoModel(reply="ok"), db=db, concurrent_runs="queue")
        await asyncio.gather(*(agent.arun(str(number), session_id="s") for number in range(12)))
        session = agent.get_session("s")
        assert session is not None
        assert [run.metrics.history_runs for run in session.runs] == list(range(12))


async def test_what_is_not_known_is_refused(bound: Any) -> None:
    for options in ({"concurrent_runs": "serial"}, {"queue_timeout": 0}):
        with pytest.raises(InvalidArgument, match=next(iter(options))):
            bound(EchoModel(), **options)
