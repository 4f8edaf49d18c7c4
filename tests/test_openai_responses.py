"""`OpenAIResponses` through the real SDK against a local server that is as strict as the real one."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from recollect.errors import ExtraMissing, InvalidArgument, ModelError
from recollect.faces import LOOPS, THREADS
from recollect.message import File, Image, Message
from recollect.models.openai import OpenAIResponses
from recollect.port import Delta, ModelRequest, Reply, ToolSpec, drive
from recollect.testing import ResponsesServer

WEATHER = ToolSpec(
    "get_weather",
    "The weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
HELLO = (Message("system", "Be brief."), Message("user", "Hello"))

Pieces = list[Delta | Reply]
Ask = Callable[[OpenAIResponses, ModelRequest], Pieces]


async def pieces_of(model: OpenAIResponses, request: ModelRequest, world: Any) -> Pieces:
    return [piece async for piece in model.ask(request, world)]


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here speaks TLS, and reading the machine's certificates takes each client a tenth of a second."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(Path(__file__).parent))


@pytest.fixture(params=["threads", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Both faces, each in its world."""
    if request.param == "threads":
        return lambda model, asked: drive(pieces_of(model, asked, THREADS))
    return lambda model, asked: asyncio.run(pieces_of(model, asked, LOOPS))


@pytest.fixture
def server() -> Iterator[ResponsesServer]:
    with ResponsesServer() as running:
        yield running


@pytest.fixture
def make(server: ResponsesServer) -> Iterator[Callable[..., OpenAIResponses]]:
    made: list[OpenAIResponses] = []

    def one(id: str = "gpt-5.2", **options: Any) -> OpenAIResponses:
        given: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key, "max_retries": 0}
        made.append(OpenAIResponses(id, **(given | options)))
        return made[-1]

    yield one
    for model in made:
        model.close()


@pytest.fixture
def model(make: Callable[..., OpenAIResponses]) -> OpenAIResponses:
    return make()


def asked(*messages: Message, **fields: Any) -> ModelRequest:
    return ModelRequest(messages=messages or HELLO, **fields)


def last(pieces: Pieces) -> Reply:
    assert isinstance(pieces[-1], Reply)
    assert not any(isinstance(piece, Reply) for piece in pieces[:-1])
    return pieces[-1]


def content(pieces: Pieces) -> str:
    return "".join(piece.content or "" for piece in pieces if isinstance(piece, Delta))


def thinking(pieces: Pieces) -> str:
    return "".join(piece.reasoning or "" for piece in pieces if isinstance(piece, Delta))


# Answers


@pytest.mark.parametrize("stream", [False, True])
def test_text_comes_back_as_an_assistant_message(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    server.reply("Good morning to you!")
    pieces = ask(model, asked(stream=stream))
    assert last(pieces).message.to_dict() == {"role": "assistant", "content": "Good morning to you!"}
    assert content(pieces) == ("Good morning to you!" if stream else "")


def test_the_request_stores_nothing_and_keeps_the_system_prompt_first(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer
) -> None:
    ask(model, asked())
    (body,) = server.requests
    assert body["store"] is False
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["input"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


def test_a_model_that_does_not_reason_is_not_asked_for_its_reasoning(
    ask: Ask, make: Callable[..., OpenAIResponses], server: ResponsesServer
) -> None:
    assert last(ask(make("gpt-4.1"), asked())).message.text == "Hello"
    assert "include" not in server.requests[0]


@pytest.mark.parametrize("stream", [False, True])
def test_usage_counts_cached_and_reasoning_tokens(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    details = {"input_tokens_details": {"cached_tokens": 60}, "output_tokens_details": {"reasoning_tokens": 30}}
    server.reply("x", usage={"input_tokens": 100, "output_tokens": 40, **details})
    usage = last(ask(model, asked(stream=stream))).usage
    assert (usage.input_tokens, usage.output_tokens) == (100, 40)
    assert (usage.cache_read_tokens, usage.reasoning_tokens) == (60, 30)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_text_and_says_so(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    server.reply(refusal="I cannot help with that.")
    pieces = ask(model, asked(stream=stream))
    assert last(pieces).message.text == "I cannot help with that."
    assert last(pieces).message.finish_reason == "refusal"
    assert content(pieces) == ("I cannot help with that." if stream else "")


@pytest.mark.parametrize(("why", "reason"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_was_cut_says_why(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, why: str, reason: str, *, stream: bool
) -> None:
    server.reply("Once upon a", reasoning="A tale.", incomplete=why)
    message = last(ask(model, asked(stream=stream))).message
    assert (message.text, message.finish_reason, message.provider_data) == ("Once upon a", reason, None)


def test_half_a_call_is_never_called(ask: Ask, model: OpenAIResponses, server: ResponsesServer) -> None:
    server.reply(tool_calls=[("get_weather", '{"city": "Par')], incomplete="max_output_tokens")
    message = last(ask(model, asked(tools=[WEATHER]))).message
    assert (message.tool_calls, message.finish_reason) == ((), "length")


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_items_are_no_reason_to_fail(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    search = {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}}
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Found it."}]}
    thought = {"type": "reasoning", "summary": []}
    server.reply(output=[thought, search, thought, {"type": "from_the_future", "x": [1]}, thought, text])
    first = last(ask(model, asked(stream=stream))).message
    assert first.text == "Found it."
    last(ask(model, asked(*HELLO, first, Message("user", "Where?"))))
    kinds = [item.get("type") for item in server.requests[-1]["input"]]
    assert kinds == [None, None, "reasoning", "message", None]


@pytest.mark.parametrize("stream", [False, True])
def test_lone_surrogates_are_replaced_and_the_message_says_so(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    server.reply("bad \ud83d text", tool_calls=[("f", '{"a": "\udc00"}')])
    pieces = ask(model, asked(stream=stream))
    message = last(pieces).message
    assert message.text == "bad \ufffd text"
    assert message.tool_calls[0].arguments == '{"a": "\ufffd"}'
    assert message.to_dict()["repaired"] is True
    assert "\ud83d" not in content(pieces)


def test_arguments_that_are_not_json_stay_as_the_provider_wrote_them(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer
) -> None:
    server.reply(tool_calls=[("f", '{"a": tru'), ("g", "")])
    calls = last(ask(model, asked())).message.tool_calls
    assert [call.arguments for call in calls] == ['{"a": tru', "{}"]


# Tools and reasoning


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_round_trip_sends_reasoning_back_before_the_call_it_led_to(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    server.reply("Let me look.", tool_calls=[("get_weather", {"city": "Paris"})], reasoning="Paris, then.")
    pieces = ask(model, asked(tools=[WEATHER], stream=stream))
    first = last(pieces).message
    assert first.reasoning_content == "Paris, then."
    assert thinking(pieces) == ("Paris, then." if stream else "")
    (call,) = first.tool_calls
    assert first.to_dict()["tool_calls"] == [call.to_dict()]
    result = Message("tool", "18 degrees", tool_call_id=call.id)
    server.reply("18 degrees in Paris.")
    second = last(ask(model, asked(*HELLO, first, result, tools=[WEATHER], stream=stream))).message
    assert second.text == "18 degrees in Paris."
    sent = server.requests[-1]["input"][2:]
    assert [item["type"] for item in sent] == ["reasoning", "message", "function_call", "function_call_output"]
    assert sent[0].keys() == {"type", "id", "summary", "encrypted_content"}
    assert "id" not in sent[1]
    assert "id" not in sent[2]
    assert sent[3] == {"type": "function_call_output", "call_id": call.id, "output": "18 degrees"}


@pytest.mark.parametrize("stream", [False, True])
def test_an_unusual_order_of_items_is_sent_back_as_it_was(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    server.reply(
        output=[
            *(thought, said("One moment.", "commentary"), thought, thought, called("call_1"), called("call_2")),
            *(thought, said("Done.", "final_answer")),
        ]
    )
    pieces = ask(model, asked(stream=stream))
    first = last(pieces).message
    assert first.text == "One moment.\n\nDone."
    assert content(pieces) == (first.text if stream else "")
    assert first.reasoning_content == "Hm.\n\nHm.\n\nHm.\n\nHm."
    assert thinking(pieces) == (first.reasoning_content if stream else "")
    results = [Message("tool", "ok", tool_call_id=call.id) for call in first.tool_calls]
    last(ask(model, asked(*HELLO, first, *results)))
    sent = server.requests[-1]["input"][2:-2]
    assert [item["type"] for item in sent] == [
        *("reasoning", "message", "reasoning", "reasoning", "function_call", "function_call", "reasoning", "message")
    ]
    assert [item["phase"] for item in sent if "phase" in item] == ["commentary", "final_answer"]
    assert [item["content"][0]["text"] for item in sent if "content" in item] == ["One moment.", "Done."]


def test_reasoning_is_left_out_when_what_it_led_to_is_gone(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer
) -> None:
    server.reply(tool_calls=[("get_weather", {"city": "Paris"})], reasoning="Paris, then.")
    first = last(ask(model, asked(tools=[WEATHER]))).message.to_dict()
    del first["tool_calls"]
    last(ask(model, asked(*HELLO, Message.from_dict(first | {"content": "cut"}), Message("user", "And?"))))
    assert [item.get("type") for item in server.requests[-1]["input"]] == [None, None, "message", None]


def test_another_model_or_provider_gets_the_words_but_not_the_reasoning(
    ask: Ask, make: Callable[..., OpenAIResponses], server: ResponsesServer
) -> None:
    server.reply("Hi.", reasoning="Hm.")
    first = last(ask(make(), asked())).message
    for other in (make("gpt-5"), make("gpt-4.1"), make(provider="somebody")):
        last(ask(other, asked(*HELLO, first, Message("user", "And?"))))
        assert [item.get("type") for item in server.requests[-1]["input"]] == [None, None, "message", None]


def test_reasoning_that_the_provider_cannot_read_any_more_does_not_end_the_conversation(
    ask: Ask, make: Callable[..., OpenAIResponses], server: ResponsesServer
) -> None:
    with ResponsesServer(api_key="sk-other-organization") as elsewhere:
        elsewhere.reply("Hi.", reasoning="Hm.")
        theirs = make(base_url=elsewhere.base_url, api_key=elsewhere.api_key)
        first = last(ask(theirs, asked())).message
    assert first.provider_data is not None
    server.reply("Still here.")
    assert last(ask(make(), asked(*HELLO, first, Message("user", "And?")))).message.text == "Still here."
    assert len(server.requests) == 2


def test_provider_data_of_any_shape_is_no_reason_to_fail(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer
) -> None:
    tag = {"provider": "openai", "model": "gpt-5.2"}
    items = [{}, "x", {"type": "message", "chars": "9"}, {"type": ["y"]}, {"type": "function_call", "call_id": []}]
    odd = [Message("assistant", "a", provider_data=data) for data in ([1], "x", tag, tag | {"items": items})]
    last(ask(model, asked(*HELLO, *odd)))
    assert [item["content"][0]["text"] for item in server.requests[-1]["input"][2:]] == ["a"] * 4


def test_call_ids_that_the_api_would_refuse_are_replaced_in_call_and_answer(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer
) -> None:
    turns: list[Message] = []
    for name in ("call_0", "call_0", "x" * 80, ""):
        call = {"id": name, "type": "function", "function": {"name": "functions.look", "arguments": "{}"}}
        turns += [Message("assistant", None, tool_calls=[call]), Message("tool", "ok", tool_call_id=name)]
    last(ask(model, asked(*HELLO, *turns)))
    sent = server.requests[-1]["input"][2:]
    assert sent[0]["call_id"] == "call_0"
    assert [item["call_id"] for item in sent[::2]] == [item["call_id"] for item in sent[1::2]]
    assert {item["name"] for item in sent[::2]} == {"functions_look"}


# Content


def test_images_and_files_are_sent_in_the_form_of_this_api(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer
) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        Image(url="https://example.com/cat.png", detail="low").to_part(),
        Image(content=b"\x89PNG", mime_type="image/png").to_part(),
        File(file_id="file-1").to_part(),
        File(url="https://example.com/a.pdf").to_part(),
        File(content=b"%PDF", filename="b.pdf").to_part(),
    ]
    last(ask(model, asked(Message("user", parts))))
    assert server.requests[0]["input"][0]["content"] == [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "https://example.com/cat.png", "detail": "low"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw==", "detail": "auto"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_file", "filename": "b.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
    ]


def test_a_tool_may_answer_with_an_image(ask: Ask, model: OpenAIResponses, server: ResponsesServer) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    parts = [{"type": "text", "text": "Here:"}, Image(url="https://example.com/cat.png").to_part()]
    turn = (Message("assistant", None, tool_calls=[call]), Message("tool", parts, tool_call_id="c"))
    last(ask(model, asked(*HELLO, *turn)))
    assert [part["type"] for part in server.requests[0]["input"][-1]["output"]] == ["input_text", "input_image"]


def test_old_and_foreign_forms_of_messages_are_understood(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer
) -> None:
    turns = (
        Message("developer", [{"type": "text", "text": "Be kind."}]),
        Message("assistant", None, refusal="No."),
        Message("assistant", [{"type": "text", "text": "Well."}], name="bot"),
        Message("assistant", None),
        Message("function", "42", name="answer"),
        Message("user", None),
    )
    last(ask(model, asked(*turns)))
    assert server.requests[0]["input"] == [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be kind."}]},
        said("No."),
        said("Well."),
        {"role": "user", "content": "answer: 42"},
        {"role": "user", "content": ""},
    ]


# Forms of answers


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, True),
        ({"type": "object", "properties": {"a": {"type": "integer", "default": 3}}}, True),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/A"}}}}}, True),
        ({"type": "object", "properties": {"a": {"type": "array", "items": {"anyOf": [{"type": "null"}]}}}}, True),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, False),
        ({"type": "object", "properties": {"a": {"oneOf": [{"type": "null"}]}}}, False),
        ({"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}}, False),
        ({"type": "object", "properties": {"a": True}}, False),
    ],
)
def test_an_output_schema_is_strict_where_it_can_be(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, schema: dict[str, Any], *, strict: bool
) -> None:
    server.reply('{"a": 1}')
    ask(model, asked(output_schema=schema | {"title": "My Answer"}))
    form = server.requests[0]["text"]["format"]
    assert (form["type"], form["name"], form["strict"]) == ("json_schema", "My_Answer", strict)
    assert "title" in schema or form["schema"] != schema


# Parameters


def test_parameters_are_passed_through(ask: Ask, make: Callable[..., OpenAIResponses], server: ResponsesServer) -> None:
    model = make(
        "gpt-5.2",
        reasoning={"summary": "auto"},
        reasoning_effort="high",
        verbosity="low",
        max_output_tokens=200,
        parallel_tool_calls=False,
        tool_choice="auto",
        metadata={"team": "a"},
        user="u1",
        service_tier="flex",
        truncation="auto",
        temperature=None,
        include=["message.output_text.logprobs"],
        request_params={"max_tool_calls": 3, "tools": [{"type": "web_search"}]},
        extra_body={"safety_identifier": "s1"},
        extra_headers={"x-test": "1"},
        default_headers={"x-all": "1"},
        organization="org-1",
        project="proj-1",
        timeout=20.0,
    )
    ask(model, asked(tools=[WEATHER], max_output_tokens=100))
    (body,) = server.requests
    assert body["reasoning"] == {"summary": "auto", "effort": "high"}
    assert body["text"] == {"verbosity": "low"}
    assert (body["max_output_tokens"], body["max_tool_calls"], body["safety_identifier"]) == (100, 3, "s1")
    assert [tool["type"] for tool in body["tools"]] == ["function", "web_search"]
    assert body["tools"][0]["strict"] is False
    assert body["include"] == ["message.output_text.logprobs", "reasoning.encrypted_content"]
    assert "temperature" not in body


def test_a_parameter_that_the_model_does_not_take_is_an_error_with_its_name(
    ask: Ask, make: Callable[..., OpenAIResponses]
) -> None:
    with pytest.raises(ModelError, match=r"status 400.*'temperature' is not supported") as refused:
        ask(make(temperature=0.5), asked())
    assert refused.value.status == 400
    assert ask(make("gpt-4.1", temperature=0.5), asked())
    assert ask(make(temperature=0.5, reasoning_effort="none"), asked())


def test_an_unknown_parameter_is_refused_when_the_model_is_made() -> None:
    with pytest.raises(InvalidArgument, match="did you mean 'temperature'") as refused:
        OpenAIResponses(temprature=0.5)  # type: ignore[call-arg]
    assert refused.value.argument == "temprature"


def test_what_the_library_sets_itself_cannot_be_set() -> None:
    with pytest.raises(InvalidArgument, match="sets this itself"):
        OpenAIResponses(request_params={"previous_response_id": "resp_1"})


def test_request_params_are_checked_against_the_sdk_before_the_first_request(
    ask: Ask, make: Callable[..., OpenAIResponses], server: ResponsesServer
) -> None:
    with pytest.raises(InvalidArgument, match="max_tool_calls"):
        ask(make(request_params={"max_tool_call": 3}), asked())
    assert server.requests == []


def test_a_model_is_frozen_and_does_not_show_its_key() -> None:
    model = OpenAIResponses(api_key="sk-secret")
    with pytest.raises(AttributeError, match="frozen"):
        model.id = "gpt-5"
    assert repr(model) == "OpenAIResponses(id='gpt-5.2')"


def test_key_and_address_come_from_the_environment(
    ask: Ask, server: ResponsesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    model = OpenAIResponses(id="gpt-5.2")
    assert last(ask(model, asked())).message.text == "Hello"
    model.close()


# Failures


def test_a_busy_provider_is_asked_again_after_the_time_it_names(
    ask: Ask, make: Callable[..., OpenAIResponses], server: ResponsesServer
) -> None:
    server.fail(429, retry_after=0.01)
    server.fail(500, retry_after=0.01)
    server.reply("At last.")
    assert last(ask(make(max_retries=2), asked())).message.text == "At last."
    assert len(server.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_busy_provider_is_an_error_that_says_when_to_come_back(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    server.fail(429, retry_after=7)
    with pytest.raises(ModelError, match=r"'gpt-5.2' answered with status 429: Rate limit") as failed:
        ask(model, asked(stream=stream))
    assert (failed.value.status, failed.value.retry_after, failed.value.code) == (429, 7, "model_error")


def test_a_failing_provider_is_an_error_with_its_words(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer
) -> None:
    server.fail(500, message="Out of order.")
    with pytest.raises(ModelError, match=r"status 500: Out of order\.") as failed:
        ask(model, asked())
    assert (failed.value.status, failed.value.retry_after) == (500, None)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_fails_after_it_began_is_an_error(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    server.fail_midway("Sorry about that.")
    with pytest.raises(ModelError, match=r"Sorry about that. \(server_error\)") as failed:
        ask(model, asked(stream=stream))
    assert failed.value.status == 500


@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_that_is_cut_in_the_middle_is_an_error(
    ask: Ask, model: OpenAIResponses, server: ResponsesServer, *, stream: bool
) -> None:
    server.hang_up(after_chars=6)
    with pytest.raises(ModelError, match=r"could not be asked: .*Check base_url, timeout and the network"):
        ask(model, asked(stream=stream))


def test_what_came_before_the_connection_was_cut_was_shown(model: OpenAIResponses, server: ResponsesServer) -> None:
    server.hang_up(after_chars=6, text="Hello there")
    shown: Pieces = []

    async def listen() -> None:
        async for piece in model.ask(asked(stream=True), THREADS):
            shown.append(piece)

    with pytest.raises(ModelError):
        drive(listen())
    assert content(shown) == "Hello "


def test_a_wrong_key_is_named_as_such_and_not_shown(ask: Ask, make: Callable[..., OpenAIResponses]) -> None:
    with pytest.raises(ModelError, match=r"status 401.*OPENAI_API_KEY") as failed:
        ask(make(api_key="sk-very-secret-key"), asked())
    assert "sk-very-secret-key" not in str(failed.value)


def test_a_key_that_the_server_repeats_is_not_shown(
    ask: Ask, make: Callable[..., OpenAIResponses], server: ResponsesServer
) -> None:
    server.fail(500, message=f"bad key {server.api_key}")
    with pytest.raises(ModelError, match=r"bad key \*\*\*") as failed:
        ask(make(), asked())
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


def test_a_missing_key_says_how_to_give_one(ask: Ask, server: ResponsesServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    with pytest.raises(ModelError, match=r"no API key: pass api_key=\.\.\. or set OPENAI_API_KEY"):
        ask(OpenAIResponses(base_url=server.base_url), asked())


def test_an_unknown_model_is_named(ask: Ask, make: Callable[..., OpenAIResponses]) -> None:
    with pytest.raises(ModelError, match=r"'nonsense-1'.*404.*Check the model's id") as failed:
        ask(make("nonsense-1"), asked())
    assert failed.value.status == 404


def test_an_address_where_nobody_listens_is_named(ask: Ask, make: Callable[..., OpenAIResponses]) -> None:
    with pytest.raises(ModelError, match=r"at http://127\.0\.0\.1:9/v1 could not be asked") as failed:
        ask(make(base_url="http://user:password@127.0.0.1:9/v1"), asked())
    assert failed.value.status is None
    assert "password" not in str(failed.value)


def test_a_provider_that_is_too_slow_is_an_error(
    ask: Ask, make: Callable[..., OpenAIResponses], server: ResponsesServer
) -> None:
    server.delay(5)
    with pytest.raises(ModelError, match=r"timed out|Timeout"):
        ask(make(timeout=0.1), asked(stream=True))


# Streams left early, loops, threads, processes


def test_a_stream_that_is_left_early_ends_the_request(model: OpenAIResponses, server: ResponsesServer) -> None:
    server.delay(0.01)
    long = "word " * 2000

    async def leave(world: Any) -> None:
        async with aclosing(model.ask(asked(stream=True), world)) as pieces:
            async for piece in pieces:
                assert isinstance(piece, Delta)
                return

    server.reply(long)
    drive(leave(THREADS))
    server.reply(long)
    asyncio.run(leave(LOOPS))
    deadline = time.monotonic() + 5
    while server.abandoned < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.abandoned == 2


def test_a_cancelled_task_ends_the_request(model: OpenAIResponses, server: ResponsesServer) -> None:
    server.delay(0.01)
    server.reply("word " * 2000)

    async def main() -> None:
        started = asyncio.Event()

        async def listen() -> None:
            async for _ in model.ask(asked(stream=True), LOOPS):
                started.set()

        task = asyncio.create_task(listen())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(500):
            if server.abandoned:
                return
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert server.abandoned == 1


def test_one_model_works_in_several_event_loops_in_turn(model: OpenAIResponses) -> None:
    for _ in range(3):
        assert last(asyncio.run(pieces_of(model, asked(), LOOPS))).message.text == "Hello"
        assert last(drive(pieces_of(model, asked(), THREADS))).message.text == "Hello"
    gc.collect()  # anything left open would warn, and warnings are errors


def test_one_model_works_in_two_threads_with_a_loop_each(model: OpenAIResponses) -> None:
    texts: list[str] = []

    async def many() -> None:
        both = await asyncio.gather(*[pieces_of(model, asked(stream=True), LOOPS) for _ in range(4)])
        texts.extend(last(pieces).message.text for pieces in both)

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["Hello"] * 8
    gc.collect()


def test_a_loop_keeps_its_connection_and_a_closed_model_opens_another(
    model: OpenAIResponses, server: ResponsesServer
) -> None:
    async def main() -> None:
        first = await model._clients.of(LOOPS)
        assert await model._clients.of(LOOPS) is first
        await model.aclose()
        assert first.is_closed()
        assert last(await pieces_of(model, asked(), LOOPS)).message.text == "Hello"
        assert await model._clients.of(LOOPS) is not first

    asyncio.run(main())
    assert len(server.requests) == 1


def test_a_model_that_is_forgotten_closes_its_connection_in_a_loop_that_goes_on(server: ResponsesServer) -> None:
    async def main() -> None:
        model = OpenAIResponses(base_url=server.base_url, api_key=server.api_key)
        await pieces_of(model, asked(), LOOPS)
        client = await model._clients.of(LOOPS)
        del model
        gc.collect()
        for _ in range(100):
            if client.is_closed():
                return
            await asyncio.sleep(0.01)
        pytest.fail("the client stayed open")

    asyncio.run(main())


def test_sync_calls_work_inside_a_running_loop(model: OpenAIResponses) -> None:
    async def main() -> Pieces:
        return drive(pieces_of(model, asked(), THREADS))

    assert last(asyncio.run(main())).message.text == "Hello"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_process_makes_its_own_connections(server: ResponsesServer) -> None:
    script = f"""
import asyncio, os
from recollect.faces import LOOPS, THREADS
from recollect.message import Message
from recollect.models.openai import OpenAIResponses
from recollect.port import ModelRequest, drive

model = OpenAIResponses(base_url={server.base_url!r}, api_key={server.api_key!r}, max_retries=0)
asked = ModelRequest(messages=[Message("user", str(os.getpid()))])

async def text(world):
    return [piece async for piece in model.ask(asked, world)][-1].message.text

drive(text(THREADS))
ours = drive(model._clients.of(THREADS))
child = os.fork()
assert drive(text(THREADS)) == asyncio.run(text(LOOPS))
assert (drive(model._clients.of(THREADS)) is ours) == (child != 0)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)


def test_a_custom_http_client_is_used_and_not_closed(make: Callable[..., OpenAIResponses]) -> None:
    openai = pytest.importorskip("openai")
    with openai.DefaultHttpxClient(headers={"x-mine": "1"}) as http_client:
        model = make(http_client=http_client)
        assert last(drive(pieces_of(model, asked(), THREADS))).message.text == "Hello"
        model.close()
        assert not http_client.is_closed


# Without the extra


def test_the_adapter_is_imported_without_the_openai_package() -> None:
    script = "import sys, recollect.models.openai; assert 'openai' not in sys.modules and 'httpx' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ExtraMissing, match=r"OpenAIResponses needs an extra.*recollect\[openai\]"):
        OpenAIResponses()


def said(text: str, phase: str | None = None) -> dict[str, Any]:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return item if phase is None else item | {"phase": phase}


def called(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "look", "arguments": "{}", "status": "completed"}
