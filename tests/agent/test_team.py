"""A team: who is asked what, what is kept of it and where, and what members are shown."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from agent_kit import Bound, ScriptedModel, calls

from recollect import (
    Agent,
    AgentSession,
    EchoModel,
    Image,
    InvalidArgument,
    Message,
    ModelError,
    RunEvent,
    RunLost,
    RunStatus,
    SessionNotFound,
    SqliteDb,
    Team,
    TeamRunOutput,
    TeamSession,
    open_db,
)
from recollect.doctor import database
from recollect.models.openai import OpenAIResponses
from recollect.port import Delta, Tx, writes
from recollect.runner import Runner
from recollect.setup import RunnerOptions
from recollect.testing import Answer, ResponsesServer

pytestmark = pytest.mark.anyio


def to(member_id: str, task: str = "Look") -> tuple[str, str]:
    """A leader's wish to have a member do a task."""
    return "delegate_task_to_member", json.dumps({"member_id": member_id, "task": task})


def to_all(task: str = "Look") -> tuple[str, str]:
    return "delegate_task_to_members", json.dumps({"task": task})


def member(id: str, *answers: Any, **options: Any) -> Agent:
    return Agent(ScriptedModel(*(answers or (f"I am {id}.",))), id=id, **options)


async def everything(team: Any, session_id: str = "s") -> list[tuple[Any, ...]]:
    """Whose each run of the session is, whether it is part of another, its status and its texts."""
    session = await team.get_session(session_id)
    return [
        (run.agent_id or run.team_id, run.parent_run_id, run.status, [message.text for message in run.said])
        for run in session.runs
    ]


def is_sound(bound: Bound) -> bool:
    with open_db(bound.place) as db:
        return not [found for found in database(db) if found.status == "problem"]


async def test_the_leader_gives_tasks_and_answers_from_what_came_back(bound: Bound) -> None:
    leader = ScriptedModel(calls(to("a", "Find A"), to("b", "Find B")), "A and B.")
    team = bound.team([member("a"), member("b", role="Knows B")], leader, id="crew", instructions="Be brief.")
    run = await team.run("Find both", session_id="s", user_id="ada", run_id="r")
    assert (run.content, run.team_id, run.agent_id, run.parent_run_id) == ("A and B.", "crew", None, None)
    assert isinstance(run, TeamRunOutput)
    assert [(tool.tool_name, tool.result) for tool in run.tools] == [
        ("delegate_task_to_member", "I am a."),
        ("delegate_task_to_member", "I am b."),
    ]
    assert [text for role, text in leader.seen() if role == "tool"] == ["I am a.", "I am b."]
    first, *members = await everything(team)
    assert first[:3] == ("crew", None, RunStatus.completed)
    assert sorted(members) == [
        ("a", "r", RunStatus.completed, ["Find A", "I am a."]),
        ("b", "r", RunStatus.completed, ["Find B", "I am b."]),
    ]
    [(role, prompt)] = leader.seen(0)[:1]
    assert role == "system"
    assert prompt.startswith("Be brief.")
    assert "- b: Knows B" in prompt
    session = await team.get_session("s")
    assert isinstance(session, TeamSession)
    assert (session.team_id, session.agent_id, session.user_id) == ("crew", None, "ada")
    assert (session.header.run_count, session.header.message_count) == (1, 3)
    assert {one.user_id for one in session.runs} == {"ada"}
    assert is_sound(bound)


class Meeting(ScriptedModel):
    """Answers when everybody is there: so its askers must have been asked at the same time."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__(None)
        self._barrier = barrier

    async def ask(self, request: Any, world: Any) -> Any:
        await world.call(self._barrier.wait, 10)
        self.answers = ["met"]
        async for item in super().ask(request, world):
            yield item


@pytest.mark.parametrize("mode", ["coordinate", "broadcast"])
async def test_members_work_at_the_same_time(bound: Bound, mode: str) -> None:
    barrier = threading.Barrier(3)
    members = [Agent(Meeting(barrier), id=own) for own in "abc"]
    asked = [to_all()] if mode == "broadcast" else [to(own) for own in "abc"]
    team = bound.team(members, ScriptedModel(calls(*asked), "done"), mode=mode)
    run = await team.run("Go", session_id="s")
    assert run.content == "done"
    if mode == "broadcast":
        assert json.loads(run.tools[0].result) == {"a": "met", "b": "met", "c": "met"}
    assert [one[2] for one in await everything(team)] == [RunStatus.completed] * 4


async def test_in_route_mode_the_members_answer_is_the_answer(bound: Bound) -> None:
    leader = ScriptedModel(calls(to("b", "The question")))
    team = bound.team([member("a"), member("b", [Delta("I am "), Delta("b."), "I am b."])], leader, mode="route")
    told = [event async for event in team.events("Ask", session_id="s", stream=True)]
    assert [event.content for event in told] == ["I am ", "b."]
    assert {event.parent_run_id for event in told} == {None}
    last = await team.get_last_run_output("s")
    assert (last.content, last.messages[-1].role, last.metrics.steps) == ("I am b.", "assistant", 1)
    assert [message.text for message in await team.get_chat_history("s")] == ["Ask", "", "I am b."]
    assert is_sound(bound)


async def test_in_route_mode_what_the_caller_tells_of_a_member_is_no_answer(bound: Bound) -> None:
    team = bound.team([member("a")], ScriptedModel("It said so before."), mode="route")
    told = [Message("user", "Ask"), calls(to("a")), Message("tool", "I am a.", tool_call_id="call_0")]
    assert (await team.run(told, session_id="s")).content == "It said so before."


async def test_in_route_mode_the_answer_is_told_as_it_comes_where_members_events_are_not(bound: Bound) -> None:
    leader = ScriptedModel(calls(to("a")))
    a = member("a", [Delta("I am "), Delta("a."), "I am a."])
    team = bound.team([a], leader, mode="route", stream_member_events=False)
    told = [event async for event in team.events("Ask", session_id="s", stream_events=True)]
    assert [event.content for event in told if event.content] == ["I am ", "a."]
    assert {event.parent_run_id for event in told} == {None}


async def test_in_route_mode_a_step_is_enough_and_a_failure_goes_back_to_the_leader(bound: Bound) -> None:
    team = bound.team([member("a")], ScriptedModel(calls(to("a"))), mode="route", max_steps=1)
    assert (await team.run("Ask", session_id="s")).content == "I am a."
    failing = member("a", ModelError("no power"))
    team = bound.team([failing, member("b")], ScriptedModel(calls(to("a")), calls(to("b"))), mode="route")
    run = await team.run("Ask", session_id="s")
    assert (run.content, run.metrics.steps) == ("I am b.", 2)


async def test_a_member_that_fails_is_told_to_the_leader_and_the_run_goes_on(bound: Bound) -> None:
    failing = member("a", ModelError("no power"))
    leader = ScriptedModel(calls(to("a"), to("b"), ("delegate_task_to_member", '{"member_id": "x", "task": ""}')), "ok")
    team = bound.team([failing, member("b")], leader)
    run = await team.run("Go", session_id="s")
    assert (run.status, run.content) == (RunStatus.completed, "ok")
    results = [(tool.tool_call_error, tool.result) for tool in run.tools]
    assert results[0] == (True, "a did not answer: no power")
    assert results[1] == (False, "I am b.")
    assert results[2][0]
    assert "invalid arguments" in results[2][1]
    assert sorted(one[2] for one in await everything(team)) == ["completed", "completed", "error"]


class Trip(msgspec.Struct):
    city: str


async def test_what_a_member_answers_in_a_form_of_its_own_is_told_as_it_was_said(bound: Bound) -> None:
    team = bound.team([member("a", '{"city": "Rome"}', output_schema=Trip)], ScriptedModel(calls(to("a")), "done"))
    run = await team.run("Where to?", session_id="s")
    assert run.tools[0].result == '{"city": "Rome"}'


async def test_a_member_whose_instructions_cannot_be_made_has_failed(bound: Bound) -> None:
    def instructions() -> str:
        msg = "no file"
        raise OSError(msg)

    team = bound.team([member("a", instructions=instructions)], ScriptedModel(calls(to("a")), "done"))
    run = await team.run("Go", session_id="s")
    assert (run.content, run.tools[0].tool_call_error) == ("done", True)
    assert "OSError: no file" in run.tools[0].result


async def test_a_broadcast_that_some_did_not_answer_says_who(bound: Bound) -> None:
    members = [member("a", ModelError("no power")), member("b")]
    team = bound.team(members, ScriptedModel(calls(to_all()), "ok"), mode="broadcast")
    run = await team.run("Go", session_id="s")
    assert json.loads(run.tools[0].result) == {"a": {"error": "a did not answer: no power"}, "b": "I am b."}
    assert not run.tools[0].tool_call_error


async def test_a_member_is_shown_what_it_said_itself_in_this_session_and_no_more(bound: Bound) -> None:
    one = ScriptedModel("one", "two", "three")
    leader = ScriptedModel(calls(to("a", "1")), "x", calls(to("b", "other")), "y", calls(to("a", "2")), "z")
    team = bound.team([Agent(one, id="a", instructions="I am A."), member("b")], leader)
    for question in ("First", "Second", "Third"):
        run = await team.run(question, session_id="s")
    assert one.seen() == [("system", "I am A."), ("user", "1"), ("assistant", "one"), ("user", "2")]
    assert run.metrics.history_runs == 2
    assert ("user", "First") in leader.seen()
    await bound.team([Agent(one, id="a")], ScriptedModel(calls(to("a", "3")), "z")).run("Hi", session_id="elsewhere")
    assert one.seen() == [("user", "3")]
    runs = [run for run in (await team.get_session("s")).runs if run.agent_id == "a"]
    assert [run.metrics.history_runs for run in runs] == [0, 1]


async def test_a_member_of_a_run_that_replaces_another_is_shown_what_came_before_that_place(bound: Bound) -> None:
    a = ScriptedModel("zero", "one", "two", "anew", "and more")
    inner = Team([Agent(a, id="a")], model=ScriptedModel(*[calls(to("a", "Look"))] * 5), mode="route", id="inner")
    leader = ScriptedModel(calls(to("inner")), calls(to("inner")), calls(to("inner")))
    team = bound.team([inner], leader, mode="route")
    for number in range(3):
        await team.run("Go", session_id="s", run_id=f"r{number}")
    leader.answers = [calls(to("inner", "Again")), calls(to("inner", "And again")), "done"]
    await bound.team([inner], leader).regenerate("r1", session_id="s")
    past = [("user", "Look"), ("assistant", "zero")]
    assert a.seen(3) == [*past, ("user", "Look")]
    assert a.seen(4) == [*past, ("user", "Look"), ("assistant", "anew"), ("user", "Look")]
    asked = [text for role, text in inner.model.seen(4) if role == "user"]  # type: ignore[attr-defined]
    assert asked == ["Look", "Again", "And again"]


async def test_members_are_told_of_one_another_and_of_the_past_where_that_is_asked_for(bound: Bound) -> None:
    a, b = ScriptedModel("one"), ScriptedModel("two")
    leader = ScriptedModel("Hello.", calls(to("a", "Do A")), calls(to("b", "Do B")), "done")
    team = bound.team(
        [Agent(a, id="a"), Agent(b, id="b", instructions="I am B.")],
        leader,
        share_member_interactions=True,
        add_team_history_to_members=True,
        num_team_history_runs=1,
    )
    await team.run("Hi", session_id="s")
    await team.run("Go", session_id="s")
    [(role, told), *rest] = b.seen()
    assert role == "system"
    assert told.startswith("I am B.\n\n")
    assert "<team_history>\nuser: Hi\nassistant: Hello.\n</team_history>" in told
    assert "Do A" in told
    assert "was answered: one" in told
    assert rest == [("user", "Do B")]
    assert "member_interactions" not in a.seen()[0][1]
    stored = (await team.get_session("s")).runs[-1]
    assert [message.text for message in stored.messages] == ["I am B.", "Do B", "two"], "what was told is not stored"


async def test_members_get_the_users_own_message_where_that_is_asked_for_and_pictures_always(bound: Bound) -> None:
    picture = Image(url="https://example.org/a.png")
    a = ScriptedModel("one", "two")
    for itself in (True, False):
        leader = ScriptedModel(calls(to("a", "Describe it")), "done")
        team = bound.team([Agent(a, id="a")], leader, determine_input_for_members=itself)
        await team.run("What is this?", session_id=f"s{itself}", images=[picture])
        asked = a.requests[-1].messages[-1]
        assert asked.text == ("Describe it" if itself else "What is this?")
        assert [image.url for image in asked.images] == [picture.url]


async def test_a_team_may_be_a_member(bound: Bound) -> None:
    inner = Team(
        [member("a", "one", "two"), member("b")],
        model=ScriptedModel(calls(to("a", "deep")), "inner says one", calls(to("a", "again")), "inner says two"),
        id="inner",
    )
    leader = ScriptedModel(calls(to("inner", "Go in")), "outer", calls(to("inner", "Go in again")), "outer")
    team = bound.team([inner, member("c")], leader, id="outer")
    await team.run("Start", session_id="s", run_id="r")
    runs = await everything(team)
    inner_run = (await team.get_session("s")).runs[1]
    assert isinstance(inner_run, TeamRunOutput)
    assert [one[:3] for one in runs] == [
        ("outer", None, "completed"),
        ("inner", "r", "completed"),
        ("a", inner_run.run_id, "completed"),
    ]
    await team.run("Once more", session_id="s")
    assert inner.model.seen(2)[1:] == [  # type: ignore[attr-defined]
        ("user", "Go in"),
        ("assistant", ""),
        ("tool", "one"),
        ("assistant", "inner says one"),
        ("user", "Go in again"),
    ]
    session = await team.get_session("s")
    assert session.get_team_history("inner") == [("Go in", "inner says one"), ("Go in again", "inner says two")]
    assert session.get_team_history(num_runs=1) == [("Once more", "outer")]
    assert [run.agent_id for run in session.get_member_runs(inner_run.run_id)] == ["a"]
    assert is_sound(bound)


async def test_messages_of_members_are_there_for_those_who_ask(bound: Bound) -> None:
    leader = ScriptedModel(calls(to("a", "Do A"), to("b", "Do B")), "done")
    team = bound.team([member("a"), member("b")], leader, id="crew")
    await team.run("Go", session_id="s")
    session = await team.get_session("s")

    async def both(**wanted: Any) -> list[str]:
        found = [message.text for message in session.get_messages(skip_roles=["system", "tool"], **wanted)]
        pushed = await team.get_session_messages("s", skip_roles=["system", "tool"], last_n_runs=9, **wanted)
        assert found == [message.text for message in pushed], wanted
        return found

    assert await both() == ["Go", "", "done"]
    assert await both(member_ids=["a"]) == ["Do A", "I am a."]
    assert await both(team_id="crew") == ["Go", "", "done"]
    assert sorted(await both(member_ids=["a", "crew"])) == ["", "Do A", "Go", "I am a.", "done"]
    assert sorted(await both(skip_member_messages=False)) == ["", "Do A", "Do B", "Go", "I am a.", "I am b.", "done"]
    assert [message.text for message in await team.get_chat_history("s")] == ["Go", "", "done"]
    assert session.get_messages(None, ["b"])[-1].text == "I am b.", "the order of arguments is Agno's"


async def test_events_say_whose_they_are(bound: Bound) -> None:
    def look(at: int) -> str:
        """Look."""
        return f"saw {at}"

    scout = Agent(ScriptedModel(calls(("look", '{"at": 1}')), "found"), id="scout", name="Scout", tools=[look])
    team = bound.team([scout], ScriptedModel(calls(to("scout")), "done"), id="crew", name="Crew")
    events = [event async for event in team.events("Go", session_id="s", run_id="r", stream_events=True)]
    who = [(event.event, event.agent_id or event.team_id, event.agent_name, event.parent_run_id) for event in events]
    crew, its = ("crew", "Crew", None), ("scout", "Scout", "r")
    assert who == [
        (RunEvent.run_started, *crew),
        (RunEvent.tool_call_started, *crew),
        (RunEvent.run_started, *its),
        (RunEvent.tool_call_started, *its),
        (RunEvent.tool_call_completed, *its),
        (RunEvent.run_content, *its),
        (RunEvent.run_completed, *its),
        (RunEvent.tool_call_completed, *crew),
        (RunEvent.run_content, *crew),
        (RunEvent.run_completed, *crew),
    ]
    assert events[-1].run is not None
    assert events[-1].run.content == "done"


async def test_a_response_is_printed_with_what_members_did(bound: Bound) -> None:
    def look(at: int) -> str:
        """Look."""
        return f"saw {at}"

    scout = Agent(ScriptedModel(calls(("look", '{"at": 1}')), "found"), id="scout", tools=[look])
    team = bound.team([scout], ScriptedModel(calls(to("scout")), "done"))
    out = io.StringIO()
    await team.print_response("Go", session_id="s", file=out)
    assert out.getvalue() == (
        '> Go\n[scout: look({"at": 1}) -> saw 1]\n'
        '[delegate_task_to_member({"member_id": "scout", "task": "Look"}) -> found]\ndone\n'
    )


async def test_ctrl_c_ends_the_members_runs_too() -> None:
    """In the face of threads it comes in the main one, while the members' threads wait for their models."""
    slow = [Slow(), Slow()]
    members = [Agent(model, id=own) for own, model in zip("ab", slow, strict=True)]
    team = Team(members, model=ScriptedModel(calls(to("a"), to("b")), "done"))

    ended = threading.Event()

    def interrupt() -> None:
        for model in slow:
            assert model.asked.wait(10)
        time.sleep(0.3)  # the main thread has nothing left to do then, and is waked by the signal
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        # Python loses an interrupt that falls into a finalizer; whoever sees the run go on presses again.
        if not ended.wait(4):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        team.run("Go", session_id="s", stream=False)
    ended.set()
    session = team.get_session("s")
    assert session is not None
    assert [run.status for run in session.runs] == [RunStatus.cancelled] * 3
    for model in slow:
        model.may.set()


async def test_a_stream_of_the_answer_is_the_teams_own(bound: Bound) -> None:
    team = bound.team([member("a")], ScriptedModel(calls(to("a")), "done"))
    assert [event.content async for event in team.events("Go", session_id="s", stream=True)] == ["done"]
    quiet = bound.team([member("a")], ScriptedModel(calls(to("a")), "done"), stream_member_events=False)
    events = [event async for event in quiet.events("Go", session_id="s", stream_events=True)]
    assert {event.parent_run_id for event in events} == {None}


async def test_what_members_set_in_the_state_is_there_for_the_leader_and_nobody_overwrites_another(
    bound: Bound,
) -> None:
    seen: list[dict[str, Any]] = []

    def note(key: str, session_state: dict[str, Any]) -> str:
        """Set a key."""
        time.sleep(0.02)
        session_state[key] = f"by {key}"
        return "noted"

    def check(session_state: dict[str, Any]) -> str:
        """Look at the state."""
        seen.append(dict(session_state))
        session_state["leader"] = 1
        return "checked"

    members = [
        Agent(ScriptedModel(calls(("note", json.dumps({"key": own}))), "ok"), id=own, tools=[note]) for own in "ab"
    ]
    leader = ScriptedModel(calls(to("a"), to("b")), calls(("check", "{}")), "done")
    team = bound.team(members, leader, tools=[check], session_state={"start": True})
    run = await team.run("Go", session_id="s")
    expected = {"start": True, "a": "by a", "b": "by b"}
    assert seen == [expected]
    assert run.session_state == expected | {"leader": 1}
    assert await team.get_session_state("s") == expected | {"leader": 1}


async def test_an_agent_continues_a_teams_session_and_a_team_an_agents(bound: Bound) -> None:
    team = bound.team([member("a", "one", "two")], ScriptedModel(calls(to("a")), "T1", calls(to("a")), "T2"), id="t")
    agent = bound(ScriptedModel("A1", "A2"), id="solo")
    await team.run("To the team", session_id="s")
    await agent.run("To the agent", session_id="s")
    await agent.run("First to the agent", session_id="other")
    await team.run("Then to the team", session_id="other")
    assert agent.agent.model.seen(0)[-2:] == [("assistant", "T1"), ("user", "To the agent")]
    assert ("assistant", "A2") in team.agent.model.seen(3)
    for session_id, kind in (("s", TeamSession), ("other", AgentSession)):
        for one in (team, agent):
            session = await one.get_session(session_id)
            assert type(session) is kind
            assert [run.parent_run_id is None for run in session.runs].count(True) == 2
            assert len(session.runs) == 3
    chat = [message.text for message in await agent.get_chat_history("s") if message.text]
    assert chat == ["To the team", "T1", "To the agent", "A1"]
    assert is_sound(bound)


async def test_a_team_has_every_method_of_an_agent_and_they_are_the_same(bound: Bound) -> None:
    public = {name for name in dir(Agent) if not name.startswith("_")}
    assert public <= set(dir(Team))
    own = {name for name in public if getattr(Agent, name) is not getattr(Team, name)}
    assert own == {"KIND", "get_session_messages", "aget_session_messages"}
    team = bound.team([member("a")], EchoModel(), session_id="s", user_id="ada")
    await team.run("Plan the fair")
    assert (await team.set_session_name(session_name="Fair")).name == "Fair"
    assert await team.get_session_name() == "Fair"
    assert (await team.get_session_metrics()).run_count == 1
    assert [header.session_id for header in await team.get_sessions(team_id="team")] == ["s"]
    chat = team.agent.conversation()
    assert (chat.session_id, chat.user_id) == ("s", "ada")


async def test_a_member_does_not_bring_back_a_session_that_was_deleted(bound: Bound) -> None:
    def drop() -> str:
        """Delete the session."""
        with open_db(bound.place) as db:
            db.delete_session("s")
        return "deleted"

    leader = ScriptedModel(calls(("drop", "{}"), to("a")), "done")
    team = bound.team([member("a")], leader, tools=[drop])
    with pytest.raises(SessionNotFound):
        await team.run("Go", session_id="s")
    assert await team.get_session("s") is None


class Slow(ScriptedModel):
    """Says when it was asked, and answers when it may."""

    def __init__(self) -> None:
        super().__init__("late")
        self.asked, self.may = threading.Event(), threading.Event()

    async def ask(self, request: Any, world: Any) -> Any:
        self.asked.set()
        yield Delta("Half an ")
        if world.waits:
            while not self.may.is_set():
                await world.sleep(0.005)
        else:
            self.may.wait(10)
        async for item in super().ask(request, world):
            yield item


async def test_cancelling_the_teams_run_ends_the_members_runs(bound: Bound) -> None:
    slow = [Slow(), Slow()]
    members = [Agent(model, id=own) for own, model in zip("ab", slow, strict=True)]
    team = bound.team(members, ScriptedModel(calls(to("a"), to("b")), "done"))

    def cancel() -> None:
        for model in slow:
            assert model.asked.wait(10)
        assert team.agent.cancel_run("r", "s")
        if not team.waits:
            wait_until(lambda: len([run for run in runs() if run.status is RunStatus.cancelled]) == 3)
        for model in slow:
            model.may.set()

    def runs() -> Any:
        return team.agent.get_session("s").runs

    thread = threading.Thread(target=cancel)
    thread.start()
    run = await team.run("Go", session_id="s", run_id="r", stream=False)
    thread.join(10)
    assert run.status is RunStatus.cancelled
    assert [one[2] for one in await everything(team)] == [RunStatus.cancelled] * 3
    assert is_sound(bound)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


async def test_leaving_a_teams_stream_ends_the_members_runs(bound: Bound) -> None:
    slow = [Slow(), Slow()]
    members = [Agent(model, id=own) for own, model in zip("ab", slow, strict=True)]
    team = bound.team(members, ScriptedModel(calls(to("a"), to("b")), "done"))
    seen = 0
    events = team.events("Go", session_id="s", run_id="r", stream_events=True)
    async for event in events:
        seen += event.event is RunEvent.run_content
        if seen == 2:
            break
    await events.aclose()
    wait_until(lambda: {run.status for run in team.agent.get_session("s").runs} == {RunStatus.cancelled})
    for model in slow:
        model.may.set()
    session = await team.get_session("s")
    assert [run.content for run in session.runs if run.agent_id] == ["Half an ", "Half an "]


async def test_cancelling_a_teams_task_again_and_again_ends_the_members_runs_all_the_same(bound: Bound) -> None:
    """As anyio's cancel scopes do, until the task has ended."""
    slow = [Slow() for _ in range(12)]
    members = [Agent(model, id=str(own)) for own, model in enumerate(slow)]
    team = bound.team(members, ScriptedModel(calls(*(to(one.id) for one in members)), "done"))
    if not team.waits:
        return
    run = asyncio.ensure_future(team.run("Go", session_id="s", stream=False))
    assert await asyncio.to_thread(lambda: all(model.asked.wait(10) for model in slow))
    while not run.done():
        run.cancel()
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.5)  # the members' tasks store their ends by themselves
    assert [one[2] for one in await everything(team)] == [RunStatus.cancelled] * 13


async def test_a_run_tried_again_under_its_id_begins_its_members_anew(bound: Bound) -> None:
    a = ScriptedModel("one", "two")
    leader = ScriptedModel(calls(to("a")), ModelError("no power"), calls(to("a")), "done")
    team = bound.team([Agent(a, id="a")], leader)
    with pytest.raises(ModelError):
        await team.run("Go", session_id="s", run_id="r")
    run = await team.run("Go", session_id="s", run_id="r")
    assert (run.attempt, run.content) == (2, "done")
    assert [one[2:] for one in await everything(team)][1:] == [("completed", ["Look", "two"])]


async def test_continuing_a_run_asks_no_member_twice_that_has_answered(bound: Bound) -> None:
    a, b = ScriptedModel("one"), ScriptedModel("two")
    leader = ScriptedModel(calls(to("a"), to("b")), ModelError("no power"), "done")
    team = bound.team([Agent(a, id="a"), Agent(b, id="b")], leader)
    with pytest.raises(ModelError):
        await team.run("Go", session_id="s", run_id="r")
    run = await team.continue_run("r", session_id="s")
    assert (run.content, len(a.requests), len(b.requests)) == ("done", 1, 1)
    assert len(await everything(team)) == 3


async def test_whoever_continues_the_teams_run_takes_the_members_runs_with_it(bound: Bound) -> None:
    """Their leases may be younger than that of the run they are part of."""
    slow = Slow()
    team = bound.team([Agent(slow, id="a")], ScriptedModel(calls(to("a")), "never"))
    thread = threading.Thread(target=lambda: run_and_lose(team))
    thread.start()
    assert slow.asked.wait(10)
    with open_db(bound.place) as db:
        db.transact(expire, "r")
        other = Team([member("a", "taken over")], model=ScriptedModel("done"), db=db)
        run = other.continue_run("r", session_id="s")
        assert (run.content, run.tools[0].result) == ("done", "taken over")
        slow.may.set()
        thread.join(10)
        assert [one.status for one in db.get_session("s").runs] == [RunStatus.completed] * 2  # type: ignore[union-attr]


async def test_a_member_whose_run_somebody_else_took_over_is_told_to_the_leader(bound: Bound) -> None:
    slow = Slow()
    team = bound.team([Agent(slow, id="a"), member("b")], ScriptedModel(calls(to("a"), to("b")), "done"))

    def take_over() -> None:
        assert slow.asked.wait(10)
        with open_db(bound.place) as db:
            [own] = [run.run_id for run in db.get_session("s").runs if run.agent_id == "a"]  # type: ignore[union-attr]
            db.transact(expire, own)
            Agent(EchoModel(), id="a", db=db).continue_run(own, session_id="s")
        slow.may.set()

    thread = threading.Thread(target=take_over)
    thread.start()
    run = await team.run("Go", session_id="s")
    thread.join(10)
    assert run.content == "done"
    assert [tool.tool_call_error for tool in run.tools] == [True, False]
    assert "taken over" in run.tools[0].result
    assert [one[2] for one in await everything(team)] == [RunStatus.completed] * 3


async def test_whoever_continues_a_run_that_stores_no_calls_takes_the_members_runs_with_it(bound: Bound) -> None:
    slow = Slow()
    quiet = {"store_tool_messages": False}
    team = bound.team([Agent(slow, id="a")], ScriptedModel(calls(to("a")), "never"), **quiet)
    thread = threading.Thread(target=lambda: run_and_lose(team))
    thread.start()
    assert slow.asked.wait(10)
    with open_db(bound.place) as db:
        db.transact(expire, "r")
        leader = ScriptedModel(calls(to("a"), to("b")), "done")
        other = Team([member("a", "taken over"), member("b")], model=leader, db=db, **quiet)  # type: ignore[arg-type]
        run = other.continue_run("r", session_id="s")
        slow.may.set()
        thread.join(10)
        assert [tool.result for tool in run.tools] == ["taken over", "I am b."]
        assert [one.status for one in db.get_session("s").runs] == [RunStatus.completed] * 3  # type: ignore[union-attr]


def run_and_lose(team: Any) -> None:
    """A team's run that somebody else takes over meanwhile."""
    with pytest.raises(RunLost):
        team.agent.run("Go", session_id="s", run_id="r", stream=False)


@writes
async def expire(tx: Tx, run_id: str) -> None:
    """Have the lease of a run run out, as if its process had not been heard of."""
    sql = """
    update recollect_leases set until = 0, owner = 'gone'
    where run_seq in (select r.run_seq from recollect_runs r where r.run_id = :run_id)
    """
    await tx.execute((sql, {"run_id": run_id}))


def test_a_team_speaks_the_real_api(tmp_path: Any) -> None:
    def answer(body: dict[str, Any]) -> Any:
        results = [item["output"] for item in body["input"] if item.get("type") == "function_call_output"]
        if results:
            return "; ".join(results)
        tools = {tool["name"]: tool for tool in body.get("tools", ())}
        if "delegate_task_to_member" not in tools:
            return f"done: {body['input'][-1]['content']}"
        ids = tools["delegate_task_to_member"]["parameters"]["properties"]["member_id"]["enum"]
        return Answer(
            tool_calls=[("delegate_task_to_member", {"member_id": own, "task": f"part {own}"}) for own in ids]
        )

    with ResponsesServer() as server, SqliteDb(tmp_path / "s.db") as db:
        server.script(answer)
        model = OpenAIResponses(id="gpt-5.2", base_url=server.base_url, api_key=server.api_key)
        team = Team([Agent(model, id=own) for own in "ab"], model=model, db=db)
        for question in ("Go", "Again"):
            assert team.run(question, session_id="s").content == "done: part a; done: part b"
        model.close()


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"members": []}, "members"),
        ({"members": "ab"}, "members"),
        ({"members": [EchoModel()]}, "members"),
        ({"members": [Agent(EchoModel(), id="a"), Agent(EchoModel(), id="a")]}, "members"),
        ({"members": [Team([Agent(EchoModel())])]}, "members"),
        ({"members": [Team([Team([Agent(EchoModel())], id="t")], id="u")], "name": "T"}, "members"),
        ({"mode": "tasks"}, "mode"),
        ({"num_team_history_runs": -1}, "num_team_history_runs"),
        ({"share_member_interactions": "yes"}, "share_member_interactions"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_a_team_that_cannot_be_is_refused(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Team(**({"members": [Agent(EchoModel())]} | options))
    assert refused.value.argument == argument


def test_a_tool_of_the_leaders_cannot_be_named_as_delegation_is() -> None:
    def delegate_task_to_member(task: str) -> str:
        """Not this one."""
        return task

    with pytest.raises(InvalidArgument, match="give the tool another name"):
        Team([Agent(EchoModel())], tools=[delegate_task_to_member])


def test_a_members_tool_that_must_be_awaited_is_told_before_anything_is_stored() -> None:
    async def look() -> str:
        """Look."""
        return "seen"

    team = Team([Agent(EchoModel(), id="a", tools=[look])])
    with pytest.raises(InvalidArgument, match=r"a\.look must be awaited"):
        team.run("Go", session_id="s")
    assert team.get_session("s") is None


def test_a_team_is_set_up_like_an_agent() -> None:
    ours = [name for name in inspect.signature(Runner.__init__).parameters if name not in {"self", "model"}]
    assert sorted(RunnerOptions.__annotations__) == sorted(ours)
    team = Team([Agent(EchoModel(reply="x"), id="a")], name="My Crew", mode="broadcast")
    assert (team.id, team.name, team.model.id) == ("my-crew", "My Crew", "echo")
    other = team.replace(mode="route", members=[Agent(EchoModel(), id="b")], name=None)
    assert (other.mode, other.members[0].id, other.id) == ("route", "b", "team")
    assert team.mode == "broadcast"
    assert repr(team).startswith("Team(my-crew: echo:echo")
    with pytest.raises(AttributeError, match=r"team\.replace\(mode"):
        team.mode = "route"  # type: ignore[misc]
