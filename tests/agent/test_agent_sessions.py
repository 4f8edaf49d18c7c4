"""What an agent reads and changes of sessions, as documented, in both faces."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from agent_kit import Bound, ScriptedModel, calls

from recollect import (
    Agent,
    AgentSession,
    EchoModel,
    InvalidArgument,
    SessionConflict,
    SessionNotFound,
    SqliteDb,
    Team,
    open_db,
)

pytestmark = pytest.mark.anyio


async def test_messages_hold_every_role_and_the_chat_only_what_was_said(bound: Any) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    agent = bound(ScriptedModel(calls(("look", "{}")), "I looked."), tools=[look], instructions="Be brief.")
    await agent.run("Look", session_id="s")
    session = await agent.get_session("s")
    roles = [message.role for message in session.get_messages()]
    assert roles == ["system", "user", "assistant", "tool", "assistant"]
    assert [message.role for message in await agent.get_chat_history("s")] == ["user", "assistant", "assistant"]
    assert await agent.get_session_messages("s") == session.get_messages()
    assert await agent.get_session_messages("s", limit=2) == session.get_messages(limit=2)
    assert session.get_tool_calls() == [
        {"id": "call_0", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ]


async def test_the_last_runs_are_read_without_the_others(bound: Any) -> None:
    agent = bound(EchoModel(reply="ok"))
    for number in range(5):
        await agent.run(f"question {number}", session_id="s")
    last = await agent.get_chat_history("s", last_n_runs=2)
    assert [message.text for message in last] == ["question 3", "ok", "question 4", "ok"]
    assert (await agent.get_last_run_output("s")).input == "question 4"


async def test_a_session_is_named_by_hand_and_the_name_is_cleaned(bound: Any) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s", user_id="ada")
    assert await agent.get_session_name("s") == ""
    session = await agent.set_session_name("s", session_name="  Product\n\tLaunch \x07 Planning ")
    assert isinstance(session, AgentSession)
    assert (session.name, session.name_source) == ("Product Launch Planning", "manual")
    assert await agent.get_session_name("s", user_id="ada") == "Product Launch Planning"
    assert session.session_data["session_name"] == "Product Launch Planning"


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"session_name": ""}, "session_name"),
        ({"session_name": " \n "}, "session_name"),
        ({"session_name": "x" * 201}, "session_name"),
        ({"session_name": 7}, "session_name"),
        ({"session_name": "\ud800"}, "session_name"),
        ({}, "session_name"),
        ({"autogenerate": True, "session_name": "x"}, "session_name"),
        ({"autogenerate": True, "fallback": 7}, "fallback"),
    ],
)
async def test_a_name_out_of_the_rules_is_refused(bound: Any, given: dict[str, Any], argument: str) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s")
    before = await agent.get_session("s")
    with pytest.raises(InvalidArgument, match=argument):
        await agent.set_session_name("s", **given)
    assert (await agent.get_session("s")).version == before.version


async def test_a_name_set_while_a_run_is_under_way_survives_it(bound: Any) -> None:
    class Naming(ScriptedModel):
        async def ask(self, request: Any, world: Any) -> Any:
            agent.agent.set_session_name("s", session_name="Set meanwhile")
            agent.agent.update_session_state({"key": "set meanwhile"}, "s")
            async for item in super().ask(request, world):
                yield item

    agent = bound(Naming("ok"), session_state={"other": 1})
    agent.agent.db.create_session("s", session_state={"key": "as it was when the run began", "third": 3})
    await agent.run("Hi", session_id="s")
    assert await agent.get_session_name("s") == "Set meanwhile"
    assert await agent.get_session_state("s") == {"key": "set meanwhile", "third": 3, "other": 1}


async def test_a_default_of_the_state_never_stands_over_what_was_set_meanwhile(bound: Any) -> None:
    class Setting(EchoModel):
        async def ask(self, request: Any, world: Any) -> Any:
            agent.agent.update_session_state({"count": 7}, "s")
            async for item in super().ask(request, world):
                yield item

    agent = bound(Setting(), session_state={"count": 0, "names": []})
    await agent.run("Hi", session_id="s")
    assert await agent.get_session_state("s") == {"count": 7, "names": []}
    await agent.run("Hi", session_id="s", session_state={"names": ["Ada"]})
    assert await agent.get_session_state("s") == {"count": 7, "names": ["Ada"]}


async def test_a_session_read_and_changed_is_saved_unless_it_changed_meanwhile(bound: Any) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s")
    session, stale = await agent.get_session("s"), await agent.get_session("s")
    session.metadata["ticket"] = "T-42"
    session.session_state["mood"] = None
    session.name = "Saved"
    assert await agent.save_session(session) is None
    again = await agent.get_session("s")
    assert (again.name, again.metadata, again.session_state) == ("Saved", {"ticket": "T-42"}, {"mood": None})
    stale.metadata["ticket"] = "T-43"
    with pytest.raises(SessionConflict):
        await agent.save_session(stale)
    assert (await agent.get_session("s")).metadata == {"ticket": "T-42"}
    assert [header.session_id for header in await agent.get_sessions(metadata={"ticket": "T-42"})] == ["s"]


async def test_changing_what_one_got_changes_nothing_for_others(bound: Any) -> None:
    agent = bound(EchoModel(), session_state={"list": [1]}, metadata={"deep": {"er": 1}})
    run = await agent.run("Hi", session_id="s")
    run.metadata["deep"]["er"] = 2
    run.session_state["list"].append(2)
    session = await agent.get_session("s")
    session.session_state["list"].append(3)
    session.get_messages().clear()
    for frozen, name in ((run, "status"), (session.runs[0].messages[0], "role"), (session.header, "name")):
        with pytest.raises(AttributeError):
            setattr(frozen, name, "changed")
    assert run.metadata == {"deep": {"er": 1}}
    assert run.session_state == {"list": [1]}
    assert (await agent.get_session("s")).session_state == {"list": [1]}


async def test_metrics_add_up_over_the_runs(bound: Any) -> None:
    agent = bound(ScriptedModel("one", "two"))
    await agent.run("Hi", session_id="s")
    await agent.run("Hi", session_id="s")
    metrics = await agent.get_session_metrics("s")
    assert (metrics.input_tokens, metrics.output_tokens, metrics.total_tokens) == (20, 10, 30)
    assert (metrics.run_count, metrics.completed_count, metrics.message_count) == (2, 2, 4)


async def test_an_unowned_session_is_claimed_once(bound: Any) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s")
    assert (await agent.claim_session("s", "ada")).user_id == "ada"
    assert (await agent.claim_session("s", "ada")).user_id == "ada"
    with pytest.raises(SessionNotFound):
        await agent.claim_session("s", "eve")


async def test_a_deleted_session_is_gone(bound: Any) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s")
    await agent.delete_session("s")
    assert await agent.get_session("s") is None
    with pytest.raises(SessionNotFound):
        await agent.delete_session("s")
    run = await agent.run("Hi again", session_id="s")
    assert run.metrics.history_runs == 0


async def _sessions(report: Any) -> list[None]:
    """As many as a report or an estimate counts."""
    found = await report
    return [None] * (getattr(found, "named", 0) + getattr(found, "summarised", 0) + getattr(found, "sessions", 0))


async def _counted(count: Any) -> list[None]:
    """As many as were counted."""
    return [None] * await count


async def _watched(agent: Any, session_id: str, user: str) -> list[str]:
    """The faces in which a session can be watched."""
    found = []
    with suppress(SessionNotFound):
        async with agent.agent.awatch_sessions(user, session_id):
            found.append("async")
    with suppress(SessionNotFound), agent.agent.watch_sessions(user, session_id):
        found.append("sync")
    return found


ISOLATED: dict[str, Any] = {
    "cancel_run": lambda agent, s, user: agent.cancel_run("r", s, user_id=user),
    "claim_session": lambda agent, s, _: agent.claim_session(s, "alice"),
    "continue_run": lambda agent, s, user: agent.continue_run("r", session_id=s, user_id=user),
    "create_session_summaries": lambda agent, _, user: _sessions(agent.create_session_summaries(user_id=user)),
    "create_session_summary": lambda agent, s, user: agent.create_session_summary(s, user_id=user),
    "archive_session": lambda agent, s, user: agent.archive_session(s, user_id=user),
    "delete_sessions": lambda agent, s, user: _counted(agent.delete_sessions([s], user)),
    "delete_user": lambda agent, _, user: _counted(agent.delete_user(user)),
    "fork_session": lambda agent, s, user: agent.fork_session(s, user_id=user),
    "get_session_metadata": lambda agent, s, user: agent.get_session_metadata(s, user_id=user),
    "pin_session": lambda agent, s, user: agent.pin_session(s, user_id=user),
    "set_session_expiry": lambda agent, s, user: agent.set_session_expiry(s, timedelta(days=1), user_id=user),
    "tag_session": lambda agent, s, user: agent.tag_session(s, ["red"], user_id=user),
    "update_session_metadata": lambda agent, s, user: agent.update_session_metadata({"a": 1}, s, user_id=user),
    "delete_run": lambda agent, s, user: agent.delete_run("r", s, user_id=user),
    "delete_session": lambda agent, s, user: agent.delete_session(s, user_id=user),
    "edit_message": lambda agent, s, user: agent.edit_message("r", "Hi!", session_id=s, user_id=user),
    "estimate_names": lambda agent, _, user: _sessions(agent.estimate_names(user_id=user)),
    "generate_session_name": lambda agent, s, user: agent.generate_session_name(s, user_id=user),
    "get_chat_history": lambda agent, s, user: agent.get_chat_history(s, user_id=user),
    "get_last_run_output": lambda agent, s, user: agent.get_last_run_output(s, user_id=user),
    "get_run_output": lambda agent, s, user: agent.get_run_output("r", s, user_id=user),
    "get_session": lambda agent, s, user: agent.get_session(s, user_id=user),
    "get_session_messages": lambda agent, s, user: agent.get_session_messages(s, user_id=user),
    "get_session_metrics": lambda agent, s, user: agent.get_session_metrics(s, user_id=user),
    "get_session_name": lambda agent, s, user: agent.get_session_name(s, user_id=user),
    "get_session_state": lambda agent, s, user: agent.get_session_state(s, user_id=user),
    "get_session_summary": lambda agent, s, user: agent.get_session_summary(s, user_id=user),
    "get_sessions": lambda agent, _, user: agent.get_sessions(user_id=user),
    "name_sessions": lambda agent, _, user: _sessions(agent.name_sessions(user_id=user)),
    "print_response": lambda agent, s, user: agent.print_response("Hi", session_id=s, user_id=user),
    "regenerate": lambda agent, s, user: agent.regenerate("r", session_id=s, user_id=user),
    "run": lambda agent, s, user: agent.run("Hi", session_id=s, user_id=user),
    "search": lambda agent, s, user: agent.search("hi", user_id=user, session_id=s),
    "set_session_name": lambda agent, s, user: agent.set_session_name(s, session_name="Hers", user_id=user),
    "update_session_state": lambda agent, s, user: agent.update_session_state({"a": 1}, s, user_id=user),
    "watch_sessions": _watched,
}
WITHOUT_A_USER = {
    "aclose": "closes the database",
    "close": "closes the database",
    "conversation": "binds ids; its methods are those of the agent",
    "export_user": "names its user; tested with the store",
    "flush": "waits",
    "iter_sessions": "pages of get_sessions; tested below",
    "replace": "makes another agent",
    "save_session": "takes a session that was read; tested below",
}


@pytest.mark.parametrize("kind", ["agent", "team"])
@pytest.mark.parametrize("method", ISOLATED)
@pytest.mark.parametrize("owner", ["bob", None])
async def test_alice_does_not_touch_what_is_not_hers(bound: Any, method: str, owner: str | None, kind: str) -> None:
    if method == "claim_session" and owner is None:
        pytest.skip("claiming is how a session without an owner gets one")
    agent = bound(EchoModel()) if kind == "agent" else bound.team([Agent(EchoModel(), id="a")], EchoModel())
    await agent.run("Hi", session_id="s", user_id=owner, run_id="r")
    before = await agent.get_session("s")
    try:
        found = await ISOLATED[method](agent, "s", "alice")
    except SessionNotFound:
        found = None
    assert found is None or len(found) == 0
    after = await agent.get_session("s")
    assert (after.version, after.to_dict()) == (before.version, before.to_dict())


@pytest.mark.parametrize("owner", ["bob", None])
async def test_alice_has_no_name_generated_for_what_is_not_hers(bound: Any, owner: str | None) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s", user_id=owner)
    with pytest.raises(SessionNotFound):
        await agent.set_session_name("s", autogenerate=True, user_id="alice")
    assert await agent.get_session_name("s") == ""


@pytest.mark.parametrize("kind", [Agent, Team])
def test_every_public_method_is_in_the_isolation_table(kind: type[Any]) -> None:
    public = {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}
    twins = {name for name in public if name.startswith("a") and name[1:] in public}
    assert public - twins - WITHOUT_A_USER.keys() == ISOLATED.keys()


async def test_listing_and_saving_are_scoped_to_the_agents_own_user(bound: Any) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="bobs", user_id="bob")
    await agent.run("Hi", session_id="nobodys")
    await agent.run("Hi", session_id="hers", user_id="alice")
    bobs = await agent.get_session("bobs")
    alice = agent.agent.replace(user_id="alice")
    assert [header.session_id for header in alice.iter_sessions()] == ["hers"]
    assert [header.session_id async for header in alice.aiter_sessions(limit=1)] == ["hers"]
    assert len(list(agent.agent.iter_sessions())) == 3
    bobs.name = "Hers"
    with pytest.raises(SessionNotFound):
        alice.save_session(bobs)


def test_a_conversation_binds_its_session_and_user() -> None:
    agent = Agent(EchoModel())
    chat = agent.conversation(user_id="ada")
    assert (chat.get_messages(), chat.get_chat_history(), chat.name, chat.get_session()) == ([], [], "", None)
    run = chat.run("Hi")
    assert (run.session_id, run.user_id) == (chat.session_id, "ada")
    chat.name = "First talk"
    assert agent.get_session_name(chat.session_id) == chat.name == "First talk"
    assert [message.text for message in chat.get_chat_history(last_n_runs=1)] == ["Hi", "You said: Hi"]
    assert chat.get_messages(skip_roles=["assistant"]) == chat.get_messages()[:1]


async def test_a_conversation_works_with_await() -> None:
    chat = Agent(EchoModel()).conversation("mine")
    assert await chat.aget_messages() == await chat.aget_chat_history() == []
    assert await chat.aget_name() == ""
    await chat.arun("Hi")
    await chat.aset_name("First talk")
    assert await chat.aget_name() == chat.name == "First talk"
    assert len(await chat.aget_messages()) == len(await chat.aget_chat_history()) == 2
    assert (await chat.aget_session()).session_id == "mine"  # type: ignore[union-attr]


ISOLATED_CHAT: dict[str, Any] = {
    "get_chat_history": lambda chat, *_: chat.get_chat_history(),
    "get_messages": lambda chat, *_: chat.get_messages(),
    "get_name": lambda chat, *_: chat.get_name(),
    "get_session": lambda chat, *_: chat.get_session(),
    "print_response": lambda chat, *_: chat.print_response("Hi"),
    "run": lambda chat, *_: chat.run("Hi"),
    "search": lambda chat, *_: chat.search("hi"),
    "set_name": lambda chat, *_: chat.set_name("Hers"),
}
"""What a conversation can do; where there is no plain method, its property does it."""


@pytest.mark.parametrize("method", ISOLATED_CHAT)
@pytest.mark.parametrize("owner", ["bob", None])
async def test_a_conversation_of_alices_does_not_touch_what_is_not_hers(
    bound: Any, method: str, owner: str | None
) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s", user_id=owner)
    before = await agent.get_session("s")
    chat = type(agent)(agent.agent.conversation("s", "alice"))
    try:
        found = await (ISOLATED_CHAT[method](chat) if chat.waits or "name" not in method else _named(chat, method))
    except SessionNotFound:
        found = None
    assert found is None or len(found) == 0
    after = await agent.get_session("s")
    assert (after.version, after.to_dict()) == (before.version, before.to_dict())


async def _named(chat: Any, method: str) -> str:
    if method == "set_name":
        chat.agent.name = "Hers"
    name: str = chat.agent.name
    return name


def test_every_public_method_of_a_conversation_is_in_its_isolation_table() -> None:
    chat = Agent(EchoModel()).conversation()
    public = {name for name in dir(chat) if not name.startswith("_") and callable(getattr(chat, name))}
    assert {name for name in public if f"a{name}" not in public} == {f"a{name}" for name in ISOLATED_CHAT}


@pytest.mark.parametrize("user_id", ["ada", None])
async def test_a_conversation_is_searched_and_no_other(bound: Any, user_id: str | None) -> None:
    agent = bound(EchoModel())
    chat = type(agent)(agent.agent.conversation("now", user_id))
    assert len(await chat.search("fish")) == 0
    await chat.run("Fish of today")
    await agent.run("Fish of yesterday", session_id="then", user_id=user_id)
    await agent.run("Fish of others", session_id="theirs", user_id="bob")
    for _ in range(2):  # looked through, then found fast
        page = await chat.search("fish")
        assert [(hit.session_id, hit.role) for hit in page] == [("now", "assistant"), ("now", "user")]
        assert [hit.role for hit in await chat.search("fish", limit=1)] == ["assistant"]
        cursor = (await chat.search("fish", limit=1)).next_cursor
        assert [hit.role for hit in await chat.search("fish", cursor=cursor)] == ["user"]
        assert len(await chat.search("fish", since=page[0].time)) == 2
        assert len(await chat.search("fish", until=page[0].time)) == 0
        assert len(await chat.search("yesterday")) == 0
        agent.agent.db.index_sessions()
    await agent.delete_session("now")
    assert len(await chat.search("fish")) == 0


async def test_a_response_is_printed_as_it_comes(bound: Any) -> None:
    def get_weather(city: str) -> str:
        """Tell the weather."""
        return f"sunny in {city}"

    for stream in (True, False):
        out = io.StringIO()
        agent = bound(EchoModel(), tools=[get_weather])
        await agent.print_response("get_weather Rome", session_id="s", file=out, stream=stream)
        assert out.getvalue() == (
            '> get_weather Rome\n[get_weather({"city":"Rome"}) -> sunny in Rome]\nget_weather: sunny in Rome\n'
        )


def test_sessions_and_runs_show_themselves_on_one_line_and_escaped_in_notebooks() -> None:
    agent = Agent(EchoModel())
    run = agent.run("<script>alert(1)</script>", session_id="s")
    session = agent.get_session("s")
    assert session is not None
    for shown in (session, run):
        assert "\n" not in repr(shown)
        html = shown._repr_html_()
        assert "<script>" not in html
        assert "&lt;script&gt;" in html


async def test_a_session_becomes_json_and_a_session_again(bound: Any) -> None:
    agent = bound(EchoModel(), instructions="Be brief.")
    await agent.run("Hi", session_id="s", user_id="ada", metadata={"a": 1})
    await agent.set_session_name("s", session_name="A talk")
    session = await agent.get_session("s")
    copy = AgentSession.from_dict(json.loads(json.dumps(session.to_dict())))
    assert copy.to_dict() == session.to_dict()
    assert copy.runs == list(session.runs)
    with SqliteDb() as other:
        other.upsert_session(copy)
        stored = other.get_session("s")
        assert stored is not None
        assert stored.get_messages() == session.get_messages()
        assert (stored.name, stored.user_id, stored.created_at) == ("A talk", "ada", session.created_at)
        assert "runs" not in stored.to_dict(include_runs=False)


async def test_cache_session_reads_what_is_there(bound: Bound) -> None:
    agent = bound(EchoModel(), session_id="s", cache_session=True)
    await agent.run("First message")
    with open_db(bound.place) as other:
        other.set_session_name("s", "From elsewhere")
    await agent.run("Subsequent message")
    assert await agent.get_session_name() == "From elsewhere"


@pytest.mark.parametrize(
    "wanted",
    [
        {"agent_id": 7},
        {"team_id": ""},
        {"member_ids": "ab"},
        {"member_ids": [7]},
        {"skip_roles": "user"},
        {"skip_roles": 7},
        {"skip_statuses": "error"},
        {"skip_statuses": ["lost"]},
        {"skip_member_messages": "no"},
        {"last_n_runs": -1},
        {"limit": 1.5},
    ],
    ids=str,
)
async def test_which_messages_are_wanted_is_said_in_the_right_types(bound: Any, wanted: dict[str, Any]) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s")
    [argument] = wanted
    for ask in (agent.agent.get_session("s").get_messages, partial(agent.agent.get_session_messages, "s")):
        with pytest.raises(InvalidArgument) as refused:
            ask(**wanted)
        assert refused.value.argument == argument
