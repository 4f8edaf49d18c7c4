"""Tools: what the model is told of them, how they are called, what comes of it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Literal

import pytest
from agent_kit import ScriptedModel, calls

from recollect import Agent, InvalidArgument, RunContext, RunEvent, RunStatus, Tool
from recollect.tools import parse_docstring

pytestmark = pytest.mark.anyio


def book(city: str, days: int = 1, style: Literal["plain", "fancy"] | None = None) -> dict[str, Any]:
    """Book a trip.

    Even at night.

    Args:
        city: where to go
        days (int): how long,
            at most ten
        style: how to travel

    Returns:
        what was booked
    """
    return {"city": city, "days": days, "style": style}


def test_the_model_is_told_what_signature_and_docstring_say() -> None:
    spec = Tool(book).spec
    assert (spec.name, spec.description) == ("book", "Book a trip.\n\nEven at night.")
    assert spec.parameters["required"] == ["city"]
    properties = spec.parameters["properties"]
    assert properties["city"] == {"description": "where to go", "type": "string"}
    assert properties["days"] == {"description": "how long, at most ten", "type": "integer"}
    assert properties["style"]["description"] == "how to travel"


def test_sphinx_docstrings_are_read_too() -> None:
    assert parse_docstring("Do it.\n\n:param x: the thing\n:param int y: the other\n:returns: nothing") == (
        "Do it.",
        {"x": "the thing", "y": "the other"},
    )
    assert parse_docstring("") == ("", {})


async def test_a_tool_is_called_and_its_result_given_to_the_model(bound: Any) -> None:
    model = ScriptedModel(calls(("book", '{"city": "Rome", "days": "2"}')), "Booked.")
    run = await bound(model, tools=[book]).run("Go", session_id="s")
    assert model.seen() == [("user", "Go"), ("assistant", ""), ("tool", '{"city":"Rome","days":2,"style":null}')]
    [tool] = run.tools
    assert (tool.tool_name, tool.tool_args, tool.tool_call_error) == ("book", {"city": "Rome", "days": "2"}, False)
    assert run.content == "Booked."


async def test_what_a_tool_does_wrong_is_told_to_the_model_and_the_run_goes_on(bound: Any) -> None:
    def fail() -> str:
        """Fail."""
        message = "no seats \ud800 left"
        raise RuntimeError(message)

    wanted = calls(("fail", "{}"), ("missing", "{}"), ("book", "{"), ("book", '{"days": 1}'))
    run = await bound(ScriptedModel(wanted, "Sorry."), tools=[fail, book]).run("Go", session_id="s")
    assert run.status is RunStatus.completed
    assert [tool.tool_call_error for tool in run.tools] == [True] * 4
    results = [tool.result for tool in run.tools]
    assert results[0] == "RuntimeError: no seats \ufffd left"
    assert "there is no tool 'missing'" in results[1]
    assert "invalid arguments for book" in results[2]
    assert "city" in results[3]
    assert run.messages[2].to_dict()["repaired"] is True


async def test_tools_of_one_step_run_at_the_same_time_and_keep_their_places(bound: Any) -> None:
    meeting = threading.Barrier(3, timeout=10)

    def meet(seconds: float) -> str:
        """Wait for the others."""
        meeting.wait()
        time.sleep(seconds)
        return f"after {seconds}"

    wanted = calls(*(("meet", f'{{"seconds": {seconds}}}') for seconds in (0.2, 0.1, 0.0)))
    agent = bound(ScriptedModel(wanted, "Done."), tools=[meet])
    events = [event async for event in agent.events("Go", session_id="s", stream_events=True)]
    done = [event.tool.result for event in events if event.event is RunEvent.tool_call_completed]
    assert done == ["after 0.0", "after 0.1", "after 0.2"]
    stored = await agent.get_last_run_output("s")
    assert [message.text for message in stored.messages if message.role == "tool"] == list(reversed(done))


async def test_each_result_is_stored_as_it_arrives(bound: Any) -> None:
    seen: list[int] = []

    def quick() -> str:
        """Be quick."""
        return "quick"

    def slow() -> str:
        """Be slow, and look at what is stored."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not seen:
            stored = agent.agent.get_last_run_output("s")
            if any(message.role == "tool" for message in stored.messages):
                seen.append(1)
        return "slow"

    agent = bound(ScriptedModel(calls(("slow", "{}"), ("quick", "{}")), "Done."), tools=[quick, slow])
    await agent.run("Go", session_id="s")
    assert seen == [1]


async def test_tools_know_their_run(bound: Any) -> None:
    def who(run_context: RunContext) -> str:
        """Tell."""
        return f"{run_context.user_id} in {run_context.session_id} with {run_context.agent_id}"

    agent = bound(ScriptedModel(calls(("who", "{}")), "ok"), tools=[who])
    assert "run_context" not in Tool(who).spec.parameters["properties"]
    run = await agent.run("Go", session_id="s", user_id="ada")
    assert run.tools[0].result == "ada in s with agent"


async def test_a_run_context_is_given_under_whatever_name_it_has(bound: Any) -> None:
    def who(ctx: RunContext, greeting: str, other: RunContext | None = None) -> str:
        """Say who is asking."""
        return f"{greeting} {ctx.user_id}, {other is ctx}"

    assert list(Tool(who).spec.parameters["properties"]) == ["greeting"]
    agent = bound(ScriptedModel(calls(("who", '{"greeting": "Hello"}')), "ok"), tools=[who])
    run = await agent.run("Who?", session_id="s", user_id="ada")
    assert run.tools[0].result == "Hello ada, True"


async def test_async_tools_work_in_async_runs_and_are_refused_in_others(bound: Any) -> None:
    async def wait(seconds: float) -> str:
        """Wait."""
        await asyncio.sleep(seconds)
        return "waited"

    agent = bound(ScriptedModel(calls(("wait", '{"seconds": 0}')), "ok"), tools=[wait])
    if agent.waits:
        assert (await agent.run("Go", session_id="s")).tools[0].result == "waited"
    else:
        with pytest.raises(InvalidArgument, match="arun"):
            await agent.run("Go", session_id="s")
        assert await agent.get_session("s") is None


@pytest.mark.parametrize(
    "tool",
    [
        lambda *args: args,
        lambda **kwargs: kwargs,
        lambda x: x,
        7,
        "text",
    ],
)
def test_what_cannot_be_told_to_a_model_is_refused(bound: Any, tool: Any) -> None:
    with pytest.raises(InvalidArgument, match="tools"):
        bound(ScriptedModel(), tools=[tool])


def test_two_tools_of_one_name_are_refused(bound: Any) -> None:
    with pytest.raises(InvalidArgument, match="two tools are named 'book'"):
        bound(ScriptedModel(), tools=[book, book])
    assert bound(ScriptedModel(), tools=[book, Tool(book, name="book_again")])


async def test_what_a_tool_does_to_the_metadata_changes_nothing_for_others(bound: Any) -> None:
    def look(run_context: RunContext) -> str:
        """Look."""
        run_context.metadata["seen"].append("b")
        return "seen"

    mine = {"seen": ["a"]}
    agent = bound(ScriptedModel(calls(("look", "{}")), "Done."), tools=[look])
    run = await agent.run("Go", session_id="s", metadata=mine)
    stored = await agent.get_run_output(run.run_id, "s")
    assert mine == run.metadata == stored.metadata == {"seen": ["a"]}


async def test_a_tool_that_waits_for_what_was_cancelled_has_failed(bound: Any) -> None:
    async def look() -> str:
        """Look."""
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
        return "seen"

    agent = bound(ScriptedModel(calls(("look", "{}"), ("look", "{}")), "Blind."), tools=[look])
    if not agent.waits:
        return
    async with asyncio.timeout(10):
        run = await agent.run("Go", session_id="s")
    assert run.content == "Blind."
    assert [tool.tool_call_error for tool in run.tools] == [True, True]
    assert "was cancelled" in run.tools[0].result


async def test_a_model_that_ends_as_if_it_were_cancelled_ends_the_run(bound: Any) -> None:
    agent = bound(ScriptedModel(asyncio.CancelledError()))
    if not agent.waits:
        return
    with pytest.raises(asyncio.CancelledError):
        await agent.run("Go", session_id="s")
    team = bound.team([Agent(ScriptedModel(asyncio.CancelledError()))], ScriptedModel(calls(_TO_AGENT)))
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await team.run("Go", session_id="s")
    assert {run.status for run in (await agent.get_session("s")).runs} == {RunStatus.cancelled}


_TO_AGENT = ("delegate_task_to_member", '{"member_id": "agent", "task": "Look"}')
