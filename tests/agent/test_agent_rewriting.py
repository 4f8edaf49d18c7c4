"""The past changed without being destroyed: a run answered anew, asked something else, in its place or in a fork."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from agent_kit import ScriptedModel, calls

from recollect import (
    Agent,
    EchoModel,
    File,
    Image,
    InvalidArgument,
    Message,
    ModelError,
    RunConflict,
    RunEvent,
    RunInProgress,
    RunNotFound,
    RunStatus,
    SessionCache,
    SessionNotFound,
    SqliteDb,
    Team,
    UserRequired,
    doctor,
)
from recollect.faces import THREADS
from recollect.models.openai import OpenAIResponses
from recollect.port import Access, Delta, Tx, drive, reads
from recollect.purge import is_due, purge
from recollect.testing import ResponsesServer

pytestmark = pytest.mark.anyio


async def talked(bound: Any, *questions: str, **options: Any) -> Any:
    """A session ``s`` in which these were asked, by runs of these names; and the agent."""
    agent = bound(ScriptedModel(*(f"to {question}" for question in questions)), **options)
    for question in questions:
        await agent.run(question, session_id="s", run_id=question)
    return agent


async def texts(agent: Any, session_id: str = "s") -> list[str]:
    return [message.text for message in await agent.get_chat_history(session_id)]


def all_is_well(agent: Any) -> bool:
    return all(finding.status != "problem" for finding in doctor.database(agent.agent.db))


async def test_a_run_is_answered_anew_in_its_place(bound: Any) -> None:
    agent = await talked(bound, "1", "2", "3")
    model = ScriptedModel("anew", "to 4")
    other = bound(model, name="Other", instructions="Be kind.", metadata={"by": "other"})
    run = await other.regenerate("2", session_id="s")
    assert model.seen() == [("system", "Be kind."), ("user", "1"), ("assistant", "to 1"), ("user", "2")]
    assert await texts(agent) == ["1", "to 1", "2", "anew", "3", "to 3"]
    assert run == await agent.get_run_output(run.run_id, "s")
    assert (run.agent_id, run.replaces, run.run_seq, run.metadata) == ("other", "2", 2, {"by": "other"})
    old = await agent.get_run_output("2", "s")
    assert (old.status, old.content, old.input) == (RunStatus.regenerated, "to 2", "2")
    await other.run("4", session_id="s")
    assert [text for _, text in model.seen()][1:] == ["1", "to 1", "2", "anew", "3", "to 3", "4"]
    assert (await agent.get_session("s")).header.completed_count == 4
    assert all_is_well(agent)


async def test_a_failure_leaves_the_conversation_as_it_was_and_may_be_continued(bound: Any) -> None:
    agent = await talked(bound, "1", "2", "3")
    before = await texts(agent)
    failing = bound(ScriptedModel([Delta("half"), ModelError("down")], "anew"))
    with pytest.raises(ModelError) as failed:
        await failing.regenerate("2", session_id="s")
    run = failed.value.run
    assert run is not None
    assert (run.status, run.replaces) == (RunStatus.error, "2")
    assert run == await agent.get_run_output(run.run_id, "s")
    assert await texts(agent) == before
    continued = await failing.continue_run(run.run_id, session_id="s")
    assert (continued.run_id, continued.content, continued.run_seq) == (run.run_id, "anew", 2)
    assert continued.messages == (await agent.get_run_output(run.run_id, "s")).messages
    assert await texts(agent) == ["1", "to 1", "2", "anew", "3", "to 3"]
    assert all_is_well(agent)


async def test_a_run_may_be_answered_anew_again_and_again(bound: Any) -> None:
    agent = await talked(bound, "1", "2")
    model = ScriptedModel("second", "third")
    other = bound(model)
    second = await other.regenerate("1", session_id="s")
    with pytest.raises(RunConflict, match="replaced already"):
        await other.regenerate("1", session_id="s")
    third = await other.regenerate(second.run_id, session_id="s")
    assert third.replaces == "1"
    assert await texts(agent) == ["1", "third", "2", "to 2"]
    assert len((await agent.get_session("s")).runs) == 4
    assert all_is_well(agent)


async def test_what_failed_may_be_answered_anew_too(bound: Any) -> None:
    agent = bound(ScriptedModel(ModelError("down"), "fine"))
    with pytest.raises(ModelError):
        await agent.run("Hi", session_id="s", run_id="r")
    assert (await agent.regenerate("r", session_id="s")).content == "fine"
    assert await texts(agent) == ["Hi", "fine"]


async def test_it_may_be_streamed_and_left(bound: Any) -> None:
    agent = await talked(bound, "1")
    other = bound(ScriptedModel([Delta("an"), Delta("ew"), "anew"], [Delta("an"), Delta("ew"), "anew"]))
    told = []
    if agent.waits:
        async with other.agent.aregenerate("1", session_id="s", stream_events=True) as events:
            async for event in events:
                told.append(event)  # noqa: PERF401 - of either face
        async with other.agent.aregenerate(told[-1].run.run_id, session_id="s", stream=True) as left:
            assert (await left.__anext__()).content == "an"
    else:
        with other.agent.regenerate("1", session_id="s", stream_events=True) as events:
            told = list(events)
        with other.agent.regenerate(told[-1].run.run_id, session_id="s", stream=True) as left:
            assert next(left).content == "an"
    kinds = [RunEvent.run_started, RunEvent.run_content, RunEvent.run_content, RunEvent.run_completed]
    assert [event.event for event in told] == kinds
    assert await texts(agent) == ["1", "anew"]
    assert (await agent.get_session("s")).runs[-1].status is RunStatus.cancelled


async def test_what_is_asked_again_is_the_same_to_the_byte(bound: Any) -> None:
    agent = bound(ScriptedModel("A dot.", "Two dots."))
    asked = [
        {"role": "user", "content": "2+2"},
        {"role": "assistant", "content": "4"},
        Message("user", [{"type": "text", "text": "See"}], id="mine", extra=None),
    ]
    old = await agent.run(asked, images=[Image(content=b"\x89PNG")], session_id="s", metadata={"ticket": 7})
    run = await agent.regenerate(old.run_id, session_id="s")
    assert [message.to_json() for message in run.input] == [message.to_json() for message in old.input]
    assert [message.id for message in run.input] == [f"{run.run_id}.0", f"{run.run_id}.1", "mine", f"{run.run_id}.3"]
    assert run.metadata == {"ticket": 7}


async def test_another_input_takes_the_place_of_one(bound: Any) -> None:
    agent = await talked(bound, "1", "2", "3")
    model = ScriptedModel("to two")
    other = bound(model)
    run = await other.edit_message(
        "2", "two", session_id="s", files=[File(content=b"%PDF", filename="a.pdf")], metadata={"edited": True}
    )
    assert [text for _, text in model.seen()] == ["1", "to 1", "two"]
    assert (run.session_id, run.replaces, run.metadata) == ("s", "2", {"edited": True})
    assert [file.filename for file in run.messages[0].files] == ["a.pdf"]
    assert await texts(agent) == ["1", "to 1", "two", "to two", "3", "to 3"]
    assert (await agent.get_run_output("2", "s")).status is RunStatus.regenerated
    assert all_is_well(agent)


async def test_another_input_in_a_fork_leaves_the_source_untouched(bound: Any) -> None:
    agent = await talked(bound, "1", "2", "3", session_state={"n": 1})
    before = (await agent.get_session("s")).to_dict()
    model = ScriptedModel("to two")
    other = bound(model, session_state={})
    run = await other.edit_message("2", "two", session_id="s", fork=True)
    assert [text for _, text in model.seen()] == ["1", "to 1", "two"]
    assert (run.session_id != "s", run.replaces) == (True, None)
    assert run == await agent.get_run_output(run.run_id, run.session_id)
    assert await texts(agent, run.session_id) == ["1", "to 1", "two", "to two"]
    fork = await agent.get_session(run.session_id)
    assert (fork.metadata["forked_from"], fork.session_state) == ("s", {"n": 1})
    assert (await agent.get_session("s")).to_dict() == before
    await agent.delete_session("s")
    assert len(await texts(agent, run.session_id)) == 4
    assert all_is_well(agent)


async def test_a_run_that_fails_in_a_fork_is_there(bound: Any) -> None:
    agent = await talked(bound, "1")
    with pytest.raises(ModelError) as failed:
        await bound(ScriptedModel(ModelError("down"))).edit_message("1", "one", session_id="s", fork=True)
    run = failed.value.run
    assert run is not None
    assert await texts(agent, run.session_id) == ["one"]
    assert await texts(agent) == ["1", "to 1"]


async def test_tools_of_the_one_who_answers_anew_are_used(bound: Any) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    agent = await talked(bound, "1", "2")
    other = bound(ScriptedModel(calls(("look", "{}")), "I looked."), tools=[look], store_tool_messages=False)
    run = await other.regenerate("1", session_id="s")
    assert [tool.result for tool in run.tools] == ["seen"]
    assert await texts(agent) == ["1", "I looked.", "2", "to 2"]
    assert all_is_well(agent)


async def test_two_who_answer_anew_at_the_same_time_are_both_kept(bound: Any) -> None:
    agent = await talked(bound, "1", "2")

    class Slow(EchoModel):
        async def ask(self, request: Any, world: Any) -> Any:
            inner.append(agent.agent.replace(model=ScriptedModel("faster")).regenerate("1", session_id="s"))
            async for item in super().ask(request, world):
                yield item

    inner: list[Any] = []
    run = await bound(Slow(reply="slower")).regenerate("1", session_id="s")
    assert await texts(agent) == ["1", "slower", "2", "to 2"]
    assert (run.run_seq, len(inner)) == (1, 1)
    assert (await agent.get_run_output(inner[0].run_id, "s")).status is RunStatus.regenerated
    assert all_is_well(agent)


async def test_what_cannot_be_answered_anew_is_said_before_anything_is_written(bound: Any) -> None:
    agent = await talked(bound, "1")
    db = agent.agent.db
    db.begin_run("s", [Message("user", "under way")], run_id="busy")
    part = db.begin_run("s", [Message("user", "part")], run_id="part", parent_run_id="1", agent_id="m")
    db.finish_run(part)
    await agent.agent.replace(model=EchoModel()).arun("Hi", session_id="t", user_id="bob", run_id="r")
    before = {key: (await agent.get_session(key)).to_dict() for key in "st"}
    refused: list[tuple[Any, Any]] = [
        (RunNotFound, {"run_id": "none", "session_id": "s"}),
        (SessionNotFound, {"run_id": "1", "session_id": "none"}),
        (SessionNotFound, {"run_id": "r", "session_id": "t", "user_id": "alice"}),
        (SessionNotFound, {"run_id": "1", "session_id": "s", "user_id": "alice"}),
        (UserRequired, {"run_id": "r", "session_id": "t"}),
        (InvalidArgument, {"run_id": "part", "session_id": "s"}),
        (InvalidArgument, {"run_id": "", "session_id": "s"}),
    ]
    for error, where in refused:
        with pytest.raises(error):
            await agent.regenerate(**where)
        for fork in (False, True):
            with pytest.raises(error):
                await agent.edit_message(**where, new_input="x", fork=fork)
    with pytest.raises(RunInProgress):
        await agent.regenerate("busy", session_id="s")
    for options in (
        {"new_input": []},
        {"new_input": Message("system", "x")},
        {"new_input": "x", "metadata": {"a": object()}},
        {"new_input": "x", "fork": "yes"},
    ):
        with pytest.raises(InvalidArgument):
            await agent.edit_message("1", session_id="s", **({"fork": True} | options))
    assert {key: (await agent.get_session(key)).to_dict() for key in "st"} == before
    assert len(await agent.get_sessions()) == 2


async def test_no_fork_is_made_for_a_run_that_cannot_begin(bound: Any) -> None:
    async def wait() -> str:
        """Wait."""
        await asyncio.sleep(0)
        return "waited"

    agent = await talked(bound, "1")
    waiting = bound(ScriptedModel("ok"), tools=[wait])
    if agent.waits:
        assert (await waiting.edit_message("1", "one", session_id="s", fork=True)).content == "ok"
    else:
        with pytest.raises(InvalidArgument, match="arun"):
            await waiting.edit_message("1", "one", session_id="s", fork=True)
        assert len(await agent.get_sessions()) == 1


async def test_a_teams_run_is_answered_anew_with_its_members(bound: Any) -> None:
    def delegated(*answers: str) -> Any:
        return [calls(("delegate_task_to_member", '{"member_id": "cook", "task": "Cook"}')), *answers]

    agent = await talked(bound, "1")
    cook = Agent(ScriptedModel("soup", "stew"), name="Cook")
    team = Team([cook], model=ScriptedModel(*delegated("There is soup."), *delegated("There is stew.")))
    team = team.replace(db=agent.agent.db, read_chat_history=True)
    face = type(agent)(team)
    old = await face.run("Dinner?", session_id="s", run_id="dinner")
    run = await face.regenerate("dinner", session_id="s")
    assert [tool.result for tool in (*old.tools, *run.tools)] == ["soup", "stew"]
    assert await texts(agent) == ["1", "to 1", "Dinner?", "", "There is stew."]
    session = await agent.get_session("s")
    statuses = {(one.agent_id, one.content): one.status for one in session.runs if one.parent_run_id}
    assert statuses == {("cook", "soup"): RunStatus.regenerated, ("cook", "stew"): RunStatus.completed}
    with pytest.raises(InvalidArgument, match="is part of run"):
        await face.regenerate(session.runs[-1].run_id, session_id="s")
    assert all_is_well(agent)


async def test_the_real_sdk_answers_anew_in_the_midst_of_tools_and_thoughts(
    bound: Any, real: OpenAIResponses, server: ResponsesServer
) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    agent = bound(real, tools=[look])
    for number in range(3):
        server.reply(tool_calls=[("look", {})], reasoning="Where?")
        server.reply(f"answer {number}", reasoning="So.")
        await agent.run(f"question {number}", session_id="s", run_id=str(number))
    server.reply(tool_calls=[("look", {})], reasoning="Again.")
    server.reply("another answer", reasoning="So.")
    run = await agent.regenerate("1", session_id="s")
    sent = [item["content"] for item in server.requests[-2]["input"] if item.get("role") == "user"]
    assert (run.content, sent) == ("another answer", ["question 0", "question 1"])
    server.reply("In a fork.")
    fork = await agent.edit_message(run.run_id, "Another question", session_id="s", fork=True)
    server.reply("And on.")
    await agent.run("And?", session_id=fork.session_id)
    server.reply("And on here.")
    await agent.run("And?", session_id="s")
    asked = ["question 0", "question 1", "question 2", "And?"]
    assert [item["content"] for item in server.requests[-1]["input"] if item.get("role") == "user"] == asked
    assert all_is_well(agent)


def rows(agent: Any) -> int:
    """How many sessions have rows, expired or not."""

    @reads
    async def count(tx: Tx) -> int:
        [[(found,)]] = await tx.execute(("select count(distinct session_id) from recollect_runs", {}))
        return int(found)

    return int(agent.agent.db.transact(count))


@pytest.fixture
def _always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recollect.purge.PERIOD", 0.0)


@pytest.mark.usefixtures("_always_looking")
@pytest.mark.parametrize("background", [True, False])
async def test_sessions_expire_and_are_deleted_by_and_by(bound: Any, *, background: bool) -> None:
    short = bound(EchoModel(), expire_after=timedelta(milliseconds=1))
    for number in range(3):
        await short.run("Hi", session_id=f"short {number}")
    await short.flush()
    await bound(EchoModel()).run("Hi", session_id="for good")
    await asyncio.sleep(0.01)
    assert await short.get_session("short 2") is None
    keeping = bound(EchoModel(), expire_after=timedelta(days=90), background=background)
    await keeping.run("Hi", session_id="long")
    await keeping.flush()
    assert rows(keeping) == 2
    header = (await keeping.get_session("long")).header
    assert header.expire_after == timedelta(days=90)
    assert header.expires_at == header.created_at + timedelta(days=90)
    assert (await keeping.get_session("for good")).header.expires_at is None


async def test_no_more_than_one_look_a_minute_is_taken(bound: Any) -> None:
    await bound(EchoModel(), expire_after=timedelta(days=1), background=False).run("Hi", session_id="long")
    short = bound(EchoModel(), expire_after=timedelta(milliseconds=1), background=False)
    await short.run("Hi", session_id="one")
    await asyncio.sleep(0.01)
    await short.run("Hi", session_id="two")
    assert rows(short) == 3


def test_where_there_may_be_more_to_delete_the_next_look_is_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recollect.purge.FEW", 2)
    with SqliteDb() as db:
        for _ in range(5):
            db.create_session(expire_after=timedelta(microseconds=1))
        for there in (5, 3, 1):
            assert (is_due(db), db.purge_sessions(dry_run=True)) == (True, there)
            drive(purge(Access(SessionCache().over(db), THREADS)))
        assert not is_due(db)


async def test_a_session_whose_time_is_over_begins_anew(bound: Any) -> None:
    agent = bound(EchoModel(), expire_after=timedelta(milliseconds=1))
    await agent.run("Hi", session_id="s")
    await asyncio.sleep(0.01)
    assert (await agent.run("Hi", session_id="s")).metrics.history_runs == 0


async def test_another_input_that_is_none_is_refused_and_not_taken_for_the_old_one(bound: Any) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s", run_id="r")
    for fork in (False, True):
        with pytest.raises(InvalidArgument, match="input: is empty"):
            await agent.edit_message("r", None, session_id="s", fork=fork)
    assert [run.run_id for run in (await agent.get_session("s")).runs] == ["r"]
    assert len(await agent.get_sessions()) == 1


@pytest.mark.parametrize("span", [timedelta(0), timedelta(days=-1), "90d", 3600, True])
def test_what_is_no_span_of_time_is_refused(bound: Any, span: Any) -> None:
    with pytest.raises(InvalidArgument, match="expire_after"):
        bound(EchoModel(), expire_after=span)
