"""The session's state in a run: who is told it, who changes it, and that nobody's change undoes another's."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from agent_kit import ScriptedModel, calls

from recollect import InvalidArgument, Message, RunContext
from recollect.models.openai import OpenAIResponses
from recollect.testing import ResponsesServer

pytestmark = pytest.mark.anyio


def setting(**updates: Any) -> Message:
    """What a model says that sets keys of the state."""
    return calls(("update_session_state", json.dumps({"session_state_updates": updates})))


def prompts(model: ScriptedModel) -> list[str]:
    """The system message of each call."""
    return [model.seen(number)[0][1] for number in range(len(model.requests))]


async def test_the_model_is_told_the_state_as_it_is_at_each_step(bound: Any) -> None:
    model = ScriptedModel(setting(mood="good"), "Noted.", "Still good.")
    agent = bound(
        model,
        instructions="Be brief.",
        session_state={"city": "Rome"},
        add_session_state_to_context=True,
        enable_agentic_state=True,
    )
    run = await agent.run("I feel good", session_id="s")
    await agent.run("And now?", session_id="s", session_state={"day": 2})
    assert prompts(model) == [
        'Be brief.\n\n<session_state>\n{"city":"Rome"}\n</session_state>',
        'Be brief.\n\n<session_state>\n{"city":"Rome","mood":"good"}\n</session_state>',
        'Be brief.\n\n<session_state>\n{"city":"Rome","day":2,"mood":"good"}\n</session_state>',
    ]
    assert run.session_state == {"city": "Rome", "mood": "good"}


async def test_what_the_model_is_told_of_the_state_is_not_stored(bound: Any) -> None:
    agent = bound(ScriptedModel("ok"), add_session_state_to_context=True, session_state={"secret": 7})
    await agent.run("Hi", session_id="s")
    session = await agent.get_session("s")
    assert [message.role for message in session.get_messages()] == ["user", "assistant"]
    other = bound(model := ScriptedModel("ok"), instructions="Be brief.", session_state={"secret": 7})
    await other.run("Hi", session_id="s")
    assert prompts(model) == ["Be brief."]


async def test_the_model_sets_keys_of_the_state_and_leaves_the_others(bound: Any) -> None:
    agent = bound(ScriptedModel(setting(list=["milk"], none=None), "ok"), enable_agentic_state=True)
    agent.agent.db.create_session("s", session_state={"list": ["eggs", "bread"], "other": {"kept": True}})
    run = await agent.run("Only milk", session_id="s")
    wanted = {"list": ["milk"], "none": None, "other": {"kept": True}}
    assert await agent.get_session_state("s") == run.session_state == wanted
    assert json.loads(run.tools[0].result.removeprefix("Updated session state: ")) == wanted


async def test_a_model_that_sets_what_cannot_be_stored_is_told_so_and_changes_nothing(bound: Any) -> None:
    wrong = [setting(**{"a\0b": 1, "fine": 1}), calls(("update_session_state", '{"session_state_updates": [1]}'))]
    agent = bound(ScriptedModel(*wrong, "Sorry."), enable_agentic_state=True, session_state={"n": 1})
    run = await agent.run("Go", session_id="s")
    assert [tool.tool_call_error for tool in run.tools] == [True, True]
    assert await agent.get_session_state("s") == {"n": 1}


async def test_a_large_state_is_not_repeated_to_the_model_with_each_change(bound: Any) -> None:
    agent = bound(ScriptedModel(setting(small=1), "ok"), enable_agentic_state=True, session_state={"large": "x" * 5000})
    run = await agent.run("Go", session_id="s")
    assert run.tools[0].result == "Updated session state: small"


async def test_tools_and_instructions_see_the_state_that_the_run_was_given(bound: Any) -> None:
    seen: list[Any] = []

    def instructions(session_state: dict[str, Any]) -> str:
        seen.append(dict(session_state))
        return "Be brief."

    def look(session_state: dict[str, Any], run_context: RunContext) -> str:
        """Look."""
        assert session_state is run_context.session_state
        seen.append(dict(session_state))
        return "seen"

    agent = bound(
        ScriptedModel(calls(("look", "{}")), "ok"),
        instructions=instructions,
        tools=[look],
        session_state={"default": 1, "given": 0},
    )
    agent.agent.db.create_session("s", session_state={"stored": 2})
    await agent.run("Go", session_id="s", session_state={"given": 3})
    assert seen == [{"default": 1, "stored": 2, "given": 3}] * 2


async def test_a_tool_may_put_another_dictionary_in_the_place_of_the_state(bound: Any) -> None:
    def renew(run_context: RunContext) -> str:
        """Renew."""
        run_context.session_state = {"new": 1}
        return "renewed"

    def spoil(run_context: RunContext) -> str:
        """Spoil."""
        run_context.session_state = None  # type: ignore[assignment]
        return "spoiled"

    model = ScriptedModel(calls(("renew", "{}")), calls(("spoil", "{}")), "ok")
    agent = bound(model, tools=[renew, spoil], session_state={"old": 1})
    run = await agent.run("Go", session_id="s")
    assert await agent.get_session_state("s") == run.session_state == {"new": 1}


async def test_runs_that_overlap_each_keep_the_keys_they_changed(bound: Any) -> None:
    """The inner run begins and ends while the outer one, which read the state before, is at work."""
    inner = bound(ScriptedModel(setting(inner=1, shared="inner"), "done"), enable_agentic_state=True)

    def nest(session_state: dict[str, Any]) -> str:
        """Run the other."""
        session_state["before"] = 1
        inner.agent.run("Go", session_id="s")
        return "nested"

    model = ScriptedModel(calls(("nest", "{}")), setting(outer=2), "done")
    agent = bound(model, tools=[nest], enable_agentic_state=True, session_state={"shared": "as it was"})
    await agent.run("Go", session_id="s")
    wanted = {"shared": "inner", "before": 1, "inner": 1, "outer": 2}
    assert await agent.get_session_state("s") == wanted


async def test_two_runs_at_the_same_time_merge_what_they_set(bound: Any) -> None:
    meeting = threading.Barrier(2, timeout=10)

    def meet() -> str:
        """Wait for the other run, which has read the state by then as well."""
        meeting.wait()
        return "met"

    def model(key: str) -> ScriptedModel:
        return ScriptedModel(calls(("meet", "{}")), setting(**{key: [key], "both": key}), calls(("meet", "{}")), "ok")

    agents = [bound(model(key), tools=[meet], enable_agentic_state=True) for key in ("one", "two")]
    agents[0].agent.db.create_session("s", session_state={"kept": 0})
    if agents[0].waits:
        await asyncio.gather(*(agent.run("Go", session_id="s") for agent in agents))
    else:
        threads = [
            threading.Thread(target=agent.agent.run, args=("Go",), kwargs={"session_id": "s"}) for agent in agents
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    state = await agents[0].get_session_state("s")
    assert state.pop("both") in {"one", "two"}
    assert state == {"kept": 0, "one": ["one"], "two": ["two"]}


async def test_the_real_sdk_is_told_the_state_and_may_change_it(
    bound: Any, real: OpenAIResponses, server: ResponsesServer
) -> None:
    agent = bound(real, add_session_state_to_context=True, enable_agentic_state=True, session_state={"n": 1})
    server.reply(tool_calls=[("update_session_state", {"session_state_updates": {"n": 2}})])
    server.reply("Set.")
    run = await agent.run("Set it", session_id="s")
    assert (run.content, run.session_state) == ("Set.", {"n": 2})
    told = [request["input"][0]["content"] for request in server.requests]
    assert told == [f'<session_state>\n{{"n":{n}}}\n</session_state>' for n in (1, 2)]


@pytest.mark.parametrize("option", ["add_session_state_to_context", "enable_agentic_state"])
def test_what_is_no_yes_or_no_is_refused(bound: Any, option: str) -> None:
    with pytest.raises(InvalidArgument, match=option):
        bound(ScriptedModel(), **{option: "yes"})


def test_a_tool_of_the_same_name_is_refused(bound: Any) -> None:
    def update_session_state() -> str:
        """Do something else."""
        return ""

    with pytest.raises(InvalidArgument, match="two tools are named 'update_session_state'"):
        bound(ScriptedModel(), tools=[update_session_state], enable_agentic_state=True)
