"""Tools by which a model looks up what was said: here, and in the same user's other sessions."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from agent_kit import ScriptedModel, calls

from recollect import EchoModel, InvalidArgument, Message, RunStatus, SessionPage
from recollect.models.openai import OpenAIResponses
from recollect.port import Tx, writes
from recollect.recall import MESSAGE_CHARS, PREVIEW_CHARS, TOTAL_CHARS
from recollect.store import lists
from recollect.testing import ResponsesServer

pytestmark = pytest.mark.anyio

ALL = {"read_chat_history": True, "search_past_sessions": True}


async def asked(bound: Any, tool: str, by: str | None = "ada", **arguments: Any) -> Any:
    """What a model is told that asks a tool."""
    options = {name: arguments.pop(name) for name in list(arguments) if name.startswith("num_past")}
    model = ScriptedModel(calls((tool, json.dumps(arguments))), "ok")
    run = await bound(model, **ALL, **options).run("Look it up", session_id="now", user_id=by)
    [execution] = run.tools
    told = execution.result
    return json.loads(told) if told.startswith("{") else told


async def talk(bound: Any, session_id: str, *questions: str, user_id: str | None = "ada") -> None:
    agent = bound(EchoModel(), add_history_to_context=False)
    for question in questions:
        await agent.run(question, session_id=session_id, user_id=user_id)


async def test_the_chat_of_the_session_is_read_without_what_is_being_asked(bound: Any) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    await talk(bound, "now", "one", "two")
    agent = bound(ScriptedModel(calls(("look", "{}")), "three, seen"), tools=[look])
    await agent.run("three", session_id="now", user_id="ada")
    told = await asked(bound, "get_chat_history")
    texts = ["one", "You said: one", "two", "You said: two", "three", "three, seen"]
    assert [message["content"] for message in told["messages"]] == texts
    assert {message["role"] for message in told["messages"]} == {"user", "assistant"}
    told = await asked(bound, "get_chat_history", num_chats=2)
    assert [message["content"] for message in told["messages"]] == ["three", "three, seen", "Look it up", "ok"]


async def test_a_long_chat_is_cut_to_what_fits_a_model_and_the_newest_stays(bound: Any) -> None:
    await talk(bound, "now", *(f"{number} " + "x" * 3000 for number in range(8)))
    told = await asked(bound, "get_chat_history")
    texts = [message["content"] for message in told["messages"]]
    assert sum(map(len, texts)) <= TOTAL_CHARS
    assert max(map(len, texts)) <= MESSAGE_CHARS + len(" [...]")
    assert texts[-1].startswith("You said: 7")
    assert "left out" in told["note"]


async def test_the_users_other_sessions_are_found_the_newest_first(bound: Any) -> None:
    await talk(bound, "old", "Where is Rome?")
    await talk(bound, "new", "Who bakes bread?", "x" * 500)
    agent = bound(EchoModel())
    await agent.set_session_name("new", session_name="Bread")
    told = (await asked(bound, "search_past_sessions"))["sessions"]
    assert [(one["session_id"], one["name"]) for one in told] == [("new", "Bread"), ("old", "")]
    assert told[1]["runs"] == [{"user": "Where is Rome?", "assistant": "You said: Where is Rome?"}]
    assert [len(run["user"]) for run in told[0]["runs"]] == [16, PREVIEW_CHARS]
    assert all(datetime.fromisoformat(one["updated_at"]).tzinfo for one in told)


async def test_a_query_finds_names_and_what_was_last_said_whatever_case_and_accents(bound: Any) -> None:
    await talk(bound, "cafe", "Wo ist das CAFÉ?")
    await talk(bound, "both", "Cafe oder Bar?")
    await talk(bound, "named", "Hallo")
    await talk(bound, "other", "Hallo")
    await bound(EchoModel()).set_session_name("named", session_name="Bars of Rome")
    for query, found in (
        ("café", ["both", "cafe"]),
        ("cafe bar", ["both", "named", "cafe"]),
        ("BARS OF ROME", ["named"]),
        ("zebra", []),
        (" ", ["other", "named", "both", "cafe"]),
    ):
        told = await asked(bound, "search_past_sessions", query=query)
        assert [one["session_id"] for one in told["sessions"]] == found, query


async def test_what_was_said_long_ago_is_found_and_shown_where_it_is(bound: Any) -> None:
    await talk(bound, "long", "The kayak is in the barn", *(f"And {number}?" for number in range(12)))
    await talk(bound, "now", *("kayak " * 5 for _ in range(3)))
    for number in range(5):
        await talk(bound, f"s{number}", "Where is the canoe?")
    told = await asked(bound, "search_past_sessions", query="barn KAYAKS kayak", num_past_sessions_to_search=1)
    [one] = told["sessions"]
    assert one["session_id"] == "long"
    assert one["found"] == ["You said: The kayak is in the barn"]
    assert [run["user"] for run in one["runs"]] == ["And 9?", "And 10?", "And 11?"]


async def test_a_name_is_found_beyond_the_newest_sessions(bound: Any) -> None:
    for number in range(5):
        await talk(bound, f"s{number}", "Hallo")
    await bound(EchoModel()).set_session_name("s0", session_name="The first")
    told = await asked(bound, "search_past_sessions", query="first", num_past_sessions_to_search=2)
    assert [one["session_id"] for one in told["sessions"]] == ["s0"]
    told = await asked(bound, "search_past_sessions", num_past_sessions_to_search=2, num_past_session_runs_in_search=1)
    assert [one["session_id"] for one in told["sessions"]] == ["s4", "s3"]


_get_sessions = lists.get_sessions


@writes
async def list_and_lose(tx: Tx, **wanted: Any) -> SessionPage:
    """List sessions; then one is deleted, before anybody has read it."""
    page: SessionPage = await _get_sessions(tx, **wanted)
    await tx.execute(("delete from recollect_sessions where session_id = 'lost'", {}))
    return page


async def test_a_session_that_is_deleted_during_the_search_is_left_out(
    bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session_id in ("kept", "lost"):
        await talk(bound, session_id, "Hallo")
    monkeypatch.setattr(lists, "get_sessions", list_and_lose)
    told = await asked(bound, "search_past_sessions")
    assert [one["session_id"] for one in told["sessions"]] == ["kept"]


async def test_an_earlier_session_is_read(bound: Any) -> None:
    await talk(bound, "old", "one", "two")
    told = await asked(bound, "read_past_session", session_id="old")
    assert [message["content"] for message in told["messages"]] == ["one", "You said: one", "two", "You said: two"]
    assert (told["session_id"], told["name"]) == ("old", "")
    told = await asked(bound, "read_past_session", session_id="old", num_runs=1)
    assert [message["content"] for message in told["messages"]] == ["two", "You said: two"]


@pytest.mark.parametrize("owner", ["bob", None])
async def test_nobody_elses_sessions_are_found_or_read(bound: Any, owner: str | None) -> None:
    await talk(bound, "theirs", "a secret", user_id=owner)
    await bound(EchoModel()).set_session_name("theirs", session_name="A secret")
    assert await asked(bound, "search_past_sessions", query="secret") == {"sessions": []}
    assert await asked(bound, "search_past_sessions") == {"sessions": []}
    assert await asked(bound, "read_past_session", session_id="theirs") == "There is no session 'theirs'."


@pytest.mark.parametrize("owner", ["bob", None])
async def test_a_run_without_a_user_has_nothing_to_search(bound: Any, owner: str | None) -> None:
    await talk(bound, "theirs", "a secret", user_id=owner)
    told = await asked(bound, "search_past_sessions", by=None)
    assert (told["sessions"], "nothing to search" in told["note"]) == ([], True)
    told = await asked(bound, "read_past_session", by=None, session_id="theirs")
    assert told == "There is no session 'theirs'."
    told = await asked(bound, "get_chat_history", by=None)
    assert "secret" not in json.dumps(told)


async def test_the_session_itself_is_not_among_the_past_ones(bound: Any) -> None:
    await talk(bound, "now", "Hallo")
    assert await asked(bound, "search_past_sessions") == {"sessions": []}
    assert "you are in" in await asked(bound, "read_past_session", session_id="now")


async def test_what_was_regenerated_is_not_read_and_what_failed_is(bound: Any) -> None:
    db = bound(EchoModel()).agent.db
    for status, text in ((RunStatus.error, "failed"), (RunStatus.regenerated, "replaced")):
        run = db.begin_run("old", [Message("user", text)], user_id="ada")
        db.finish_run(run, status=status)
    told = await asked(bound, "read_past_session", session_id="old")
    assert [message["content"] for message in told["messages"]] == ["failed"]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("get_chat_history", {"num_chats": 0}),
        ("get_chat_history", {"num_chats": "many"}),
        ("read_past_session", {}),
        ("read_past_session", {"session_id": "\u0000"}),
        ("search_past_sessions", {"query": 7}),
    ],
)
async def test_what_a_model_asks_wrongly_is_told_to_it(bound: Any, tool: str, arguments: dict[str, Any]) -> None:
    model = ScriptedModel(calls((tool, json.dumps(arguments))), "Sorry.")
    run = await bound(model, **ALL).run("Look", session_id="s", user_id="ada")
    assert (run.content, run.tools[0].tool_call_error) == ("Sorry.", True)


async def test_the_real_sdk_is_offered_the_tools_and_uses_them(
    bound: Any, real: OpenAIResponses, server: ResponsesServer
) -> None:
    await talk(bound, "old", "Where is Rome?")
    server.reply(tool_calls=[("search_past_sessions", {"query": "rome"}), ("get_chat_history", {})])
    server.reply(tool_calls=[("read_past_session", {"session_id": "old", "num_runs": 1})])
    server.reply("You asked about Rome.")
    run = await bound(real, **ALL).run("What did I ask?", session_id="s", user_id="ada")
    assert run.content == "You asked about Rome."
    assert not any(tool.tool_call_error for tool in run.tools)
    offered = {tool["name"]: tool["parameters"].get("required", []) for tool in server.requests[0]["tools"]}
    assert offered == {"get_chat_history": [], "search_past_sessions": [], "read_past_session": ["session_id"]}


@pytest.mark.parametrize(
    "options",
    [
        {"read_chat_history": 1},
        {"search_past_sessions": "yes"},
        {"num_past_sessions_to_search": 0},
        {"num_past_sessions_to_search": 1000},
        {"num_past_session_runs_in_search": -1},
    ],
)
def test_bad_options_are_refused_by_name(bound: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        bound(EchoModel(), **options)
