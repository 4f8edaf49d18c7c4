"""What is stored of a run where not all of it is wanted: without its tools, without pictures and documents."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from agent_kit import ScriptedModel, calls, ended

from recollect import File, Image, InvalidArgument, Message, ModelError, RunStatus, doctor
from recollect.media import without_media
from recollect.models.openai import OpenAIResponses
from recollect.port import Delta
from recollect.testing import ResponsesServer
from recollect.tools import Tool

pytestmark = pytest.mark.anyio


class Counter:
    """A tool that counts, in the state too."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, session_state: dict[str, Any]) -> str:
        """Count."""
        self.count += 1
        session_state["count"] = self.count
        return f"at {self.count}"


def one_more(call_id: str) -> Message:
    call = {"id": call_id, "type": "function", "function": {"name": "add", "arguments": "{}"}}
    return Message("assistant", None, tool_calls=[call])


def all_is_well(agent: Any) -> bool:
    return all(finding.status == "ok" for finding in doctor.database(agent.agent.db) if finding.check != "database")


def stored(agent: Any) -> list[tuple[int, str, str]]:
    """Place, role and text of each message, as the tables have them."""
    from recollect.port import Tx, reads

    @reads
    async def messages(tx: Tx) -> list[Any]:
        [rows] = await tx.execute(("select idx, role, body from recollect_messages order by run_seq, idx", {}))
        return rows

    found = agent.agent.db.transact(messages)
    return [(idx, role, Message.from_json(body).text) for idx, role, body in found]


async def test_without_tool_messages_the_question_and_the_answer_are_stored(bound: Any) -> None:
    counter = Counter()
    model = ScriptedModel(calls(("add", "{}"), ("add", "{}")), one_more("call_9"), "Three.", "Nothing.")
    agent = bound(model, tools=[counter.add], store_tool_messages=False)
    run = await agent.run("Count", session_id="s", run_id="r")
    assert [role for role, _ in model.seen()] == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert sorted(tool.result for tool in run.tools) == ["at 1", "at 2", "at 3"]
    assert stored(agent) == [(0, "user", "Count"), (1, "assistant", "Three.")]
    read = await agent.get_run_output("r", "s")
    assert (read.messages, read.tools) == ((run.messages[0], run.messages[-1]), ())
    assert [message.id for message in run.messages] == ["r.0", None, None, None, None, None, "r.1"]
    assert (run.metrics, run.session_state) == (read.metrics, {"count": 3})
    assert await agent.get_session_state("s") == {"count": 3}
    await agent.run("And?", session_id="s")
    assert model.seen() == [("user", "Count"), ("assistant", "Three."), ("user", "And?")]
    assert (await agent.get_session("s")).header.message_count == 4
    assert all_is_well(agent)


async def test_each_change_of_the_state_is_committed_though_its_step_is_not(bound: Any) -> None:
    counter = Counter()
    model = ScriptedModel(calls(("add", "{}")), ModelError("down"), calls(("add", "{}")), "Two.")
    agent = bound(model, tools=[counter.add], store_tool_messages=False)
    with pytest.raises(ModelError) as failed:
        await agent.run("Count", session_id="s", run_id="r")
    assert failed.value.run is not None
    assert [tool.result for tool in failed.value.run.tools] == ["at 1"]
    assert await agent.get_session_state("s") == {"count": 1}
    run = await agent.continue_run("r", session_id="s")
    assert model.seen(2) == [("user", "Count")], "a run that is continued asks anew"
    assert (run.content, [tool.result for tool in run.tools]) == ("Two.", ["at 2"])
    assert stored(agent) == [(0, "user", "Count"), (1, "assistant", "Two.")]
    assert all_is_well(agent)


async def test_calls_that_somebody_else_stored_get_their_results_stored(bound: Any) -> None:
    counter = Counter()
    agent = bound(ScriptedModel(calls(("add", "{}")), "Two."), tools=[counter.add], store_tool_messages=False)
    db = agent.agent.db
    run = db.begin_run("s", [Message("user", "Count")], run_id="r")
    db.append_messages(run, [calls(("add", "{}"))], at=1)
    db.finish_run(run, status=RunStatus.error, error="the process went away")
    await agent.continue_run("r", session_id="s")
    texts = ["Count", "", "at 1", "Two."]
    assert [(place, text) for place, _, text in stored(agent)] == list(enumerate(texts))
    assert all_is_well(agent)


async def test_what_was_said_before_a_stop_is_stored_behind_the_question(bound: Any) -> None:
    counter = Counter()
    model = ScriptedModel(calls(("add", "{}")), [Delta("Half of it"), Delta(" and more"), "Half of it and more"])
    agent = bound(model, tools=[counter.add], store_tool_messages=False)
    async for event in agent.events("Count", session_id="s", stream=True):
        assert event.content == "Half of it"
        break
    gc.collect()
    await ended(agent.agent.db)
    assert stored(agent) == [(0, "user", "Count"), (1, "assistant", "Half of it")]
    assert all_is_well(agent)


async def test_tools_that_must_not_be_repeated_are_called_anew_for_nobody_knows_of_them(bound: Any) -> None:
    counter = Counter()
    model = ScriptedModel(calls(("add", "{}")), ModelError("down"), calls(("add", "{}")), "Two.")
    agent = bound(model, tools=[Tool(counter.add, repeatable=False)], store_tool_messages=False)
    with pytest.raises(ModelError):
        await agent.run("Count", session_id="s", run_id="r")
    await agent.continue_run("r", session_id="s")
    assert counter.count == 2


PICTURE = Image(content=b"\x89PNG")
REPORT = File(content=b"%PDF", filename="report.pdf")


async def test_without_media_notes_are_stored_and_the_model_sees_the_real_thing(bound: Any) -> None:
    model = ScriptedModel("A dot.", "It was a dot.")
    agent = bound(model, store_media=False)
    run = await agent.run("What is this?", images=[PICTURE], files=[REPORT], session_id="s", run_id="r")
    shown = model.requests[0].messages[-1]
    assert [image.url for image in shown.images] == ["data:image/png;base64,iVBORw=="]
    assert [file.filename for file in shown.files] == ["report.pdf"]
    assert run == await agent.get_run_output("r", "s")
    assert stored(agent)[0] == (0, "user", "What is this?\n[image]\n[file report.pdf]")
    assert (run.messages[0].images, run.messages[0].files) == ((), ())
    await agent.run("Again?", session_id="s")
    assert model.requests[1].messages[0].to_dict() == run.messages[0].to_dict(), "as a cache keeps it, too"
    assert all_is_well(agent)


async def test_media_in_later_messages_are_not_stored_either(bound: Any) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    answer = Message("assistant", [{"type": "text", "text": "Here:"}, picture])
    agent = bound(ScriptedModel(answer), store_media=False)
    run = await agent.run("Draw", session_id="s")
    assert run.content == "Here:\n[image]"
    assert (await agent.get_session_messages("s"))[-1].text == "Here:\n[image]"


@pytest.mark.parametrize(
    ("part", "note"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "[image]"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "[audio]"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "[file]"),
        ({"type": "file", "file": {"filename": "a\nb.pdf", "file_data": "data:"}}, "[file a b.pdf]"),
        ({"type": "file", "file": "odd"}, "[file]"),
        ({"type": "input_file", "filename": "x" * 300}, f"[file {'x' * 100}]"),
        ({"type": "hologram", "data": "AAAA"}, "[hologram]"),
        (7, "[media]"),
    ],
)
def test_a_note_says_what_was_there(part: Any, note: str) -> None:
    kept = without_media(Message("user", [{"type": "text", "text": "See", "extra": None}, part], id="mine", key=None))
    assert kept.to_dict() == {
        "role": "user",
        "content": [{"type": "text", "text": "See", "extra": None}, {"type": "text", "text": note}],
        "key": None,
    }
    assert kept.id == "mine"


@pytest.mark.parametrize("content", ["text", None, [], [{"type": "text", "text": "x"}, "y"]])
def test_what_holds_no_media_stays_itself(content: Any) -> None:
    message = Message("user", content)
    assert without_media(message) is message


async def test_the_real_sdk_sends_what_is_not_stored(
    bound: Any, real: OpenAIResponses, server: ResponsesServer
) -> None:
    counter = Counter()
    agent = bound(real, tools=[counter.add], store_media=False, store_tool_messages=False)
    server.reply(tool_calls=[("add", {}), ("add", {})], reasoning="I count.")
    server.reply("Two.", reasoning="Done.")
    await agent.run("Count the dots", images=[PICTURE], session_id="s")
    sent = [item.get("type", "message") for item in server.requests[1]["input"]]
    assert sent == ["message", "reasoning", *["function_call"] * 2, *["function_call_output"] * 2]
    assert server.requests[1]["input"][0]["content"][1]["type"] == "input_image"
    server.reply("Two, I said.")
    await agent.run("How many?", session_id="s")
    sent = [item.get("type", "message") for item in server.requests[2]["input"]]
    assert sent == ["message", "reasoning", "message", "message"]
    assert all_is_well(agent)


@pytest.mark.parametrize("option", ["store_media", "store_tool_messages"])
def test_what_is_no_yes_or_no_is_refused(bound: Any, option: str) -> None:
    with pytest.raises(InvalidArgument, match=option):
        bound(ScriptedModel(), **{option: 1})
