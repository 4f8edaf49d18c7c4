"""The local model server: what it says through the real SDK, and what it refuses, in the words of the real API."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from recollect.errors import InvalidArgument
from recollect.testing import Answer, Failure, FrozenClock, ResponsesServer

ENCRYPTED = ["reasoning.encrypted_content"]
USER = {"role": "user", "content": "x"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "ok"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here speaks TLS, and reading the machine's certificates takes each client a tenth of a second."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(Path(__file__).parent))


@pytest.fixture
def server() -> Iterator[ResponsesServer]:
    with ResponsesServer() as running:
        yield running


@pytest.fixture
def client(server: ResponsesServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0) as one:
        yield one


def post(client: openai.OpenAI, path: str, body: Any) -> Any:
    """Send a body as it is, past the SDK's own types."""
    return client.post(path, body=body, cast_to=object)


def message_of(error: openai.APIStatusError) -> str:
    assert isinstance(error.body, dict)
    return str(error.body["message"])


# What it says


def test_without_a_script_it_repeats_the_last_text_of_the_user(client: openai.OpenAI) -> None:
    turns: Any = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "1"}]
    turns.append({"role": "user", "content": [{"type": "input_text", "text": "Two"}]})
    assert client.responses.create(model="gpt-5.2", input=turns).output_text == "Two"
    assert client.responses.create(model="gpt-5.2", input="Three").output_text == "Three"
    completion = client.chat.completions.create(model="gpt-5.2", messages=[{"role": "user", "content": "Four"}])
    assert completion.choices[0].message.content == "Four"


def test_prepared_answers_are_used_up_in_order_and_then_the_script_answers(
    client: openai.OpenAI, server: ResponsesServer
) -> None:
    server.script(lambda body: f"{body['input']}?")
    server.reply("first")
    server.reply("second")
    texts = [client.responses.create(model="gpt-5.2", input="x").output_text for _ in range(3)]
    assert texts == ["first", "second", "x?"]
    assert [body["input"] for body in server.requests] == ["x", "x", "x"]


def test_a_script_may_answer_with_calls_or_a_failure(client: openai.OpenAI, server: ResponsesServer) -> None:
    answers: Iterator[Answer | Failure] = iter(
        [Answer(tool_calls=[("f", {"a": 1})]), Failure(status=503, message="busy")]
    )
    server.script(lambda body: next(answers))
    call = client.responses.create(model="gpt-5.2", input="x").output[0]
    assert (call.type, getattr(call, "arguments", None)) == ("function_call", '{"a": 1}')
    with pytest.raises(openai.InternalServerError, match="busy"):
        client.responses.create(model="gpt-5.2", input="x")


def test_a_script_that_breaks_is_raised_when_the_server_is_left() -> None:
    def script(body: dict[str, Any]) -> str:
        return str(body["nothing"])

    with pytest.raises(KeyError, match="nothing"), ResponsesServer() as server:  # noqa: PT012 - it is raised on leaving
        server.script(script)
        with (
            openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0) as client,
            pytest.raises(openai.InternalServerError, match="the script failed"),
        ):
            client.responses.create(model="gpt-5.2", input="x")


def test_the_events_of_a_stream_are_those_of_the_api(client: openai.OpenAI, server: ResponsesServer) -> None:
    server.reply("Hi there", tool_calls=[("f", {"city": "Paris"})], reasoning="Hm.")
    with client.responses.stream(model="gpt-5.2", input="x", tools=[]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert list(dict.fromkeys(kinds)) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.completed",
    ]
    assert final.output_text == "Hi there"
    assert final.usage is not None


def test_the_async_sdk_streams_both_apis(server: ResponsesServer) -> None:
    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.api_key) as client:
            events = await client.responses.create(model="gpt-5.2", input="Hi there", stream=True)
            texts = [event.delta async for event in events if event.type == "response.output_text.delta"]
            chunks = await client.chat.completions.create(
                model="gpt-5.2", messages=[{"role": "user", "content": "Hi there"}], stream=True
            )
            return texts + [chunk.choices[0].delta.content or "" async for chunk in chunks]

    assert asyncio.run(main()) == ["Hi ", "there", "", "Hi ", "there", ""]


def test_failures_have_the_status_and_headers_that_were_prepared(
    client: openai.OpenAI, server: ResponsesServer
) -> None:
    server.fail(429, retry_after=0.5)
    with pytest.raises(openai.RateLimitError, match="Rate limit") as busy:
        client.responses.create(model="gpt-5.2", input="x")
    assert busy.value.response.headers["retry-after"] == "0.5"
    server.fail(500, message="Ouch.", code="ouch")
    with pytest.raises(openai.InternalServerError, match="Ouch") as broken:
        client.chat.completions.create(model="gpt-5.2", messages=[{"role": "user", "content": "x"}])
    assert broken.value.code == "ouch"


def test_a_delay_lies_before_each_piece(client: openai.OpenAI, server: ResponsesServer) -> None:
    server.delay(0.01)
    started = datetime.now(UTC)
    events = list(client.responses.create(model="gpt-5.2", input="one two three", stream=True))
    assert datetime.now(UTC) - started >= timedelta(seconds=0.01 * len(events))


@pytest.mark.parametrize("path", ["/responses", "/chat/completions"])
def test_a_limit_below_what_the_thinking_takes_leaves_nothing_to_say(
    client: openai.OpenAI, server: ResponsesServer, path: str
) -> None:
    server.think(200)
    name = "max_output_tokens" if path == "/responses" else "max_completion_tokens"
    asked = {"model": "gpt-5.2", "input" if path == "/responses" else "messages": [USER | {"content": "Hi there"}]}
    assert ended(post(client, path, asked | {name: 200})) == ("", True, 200)
    assert ended(post(client, path, asked | {name: 201})) == ("Hi t", True, 200)
    assert ended(post(client, path, asked | {name: 202})) == ("Hi there", False, 200)
    assert ended(post(client, path, asked)) == ("Hi there", False, 200)
    assert ended(post(client, path, asked | {"model": "gpt-4.1", name: 16})) == ("Hi there", False, 0)
    server.reply("Hi there", thinking=20)
    assert ended(post(client, path, asked | {name: 30})) == ("Hi there", False, 20)


def test_an_answer_that_was_all_thought_is_streamed_as_incomplete(
    client: openai.OpenAI, server: ResponsesServer
) -> None:
    server.think(200)
    events = list(client.responses.create(model="gpt-5.2", input="x", max_output_tokens=100, stream=True))
    assert "response.output_text.delta" not in {event.type for event in events}
    assert events[-1].type == "response.incomplete"
    assert [item.type for item in events[-1].response.output] == ["reasoning"]


def test_a_model_that_a_test_adds_may_think_too() -> None:
    with (
        ResponsesServer(models=["qwen3"]) as server,
        openai.OpenAI(base_url=server.base_url, api_key=server.api_key) as client,
    ):
        server.think(200)
        body = {"model": "qwen3", "messages": [USER], "max_tokens": 100}
        assert ended(post(client, "/chat/completions", body)) == ("", True, 200)


def test_one_failure_may_stand_for_many_requests(client: openai.OpenAI, server: ResponsesServer) -> None:
    server.fail(429, retry_after=3, times=2)
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as busy:
            client.responses.create(model="gpt-5.2", input="x")
        assert busy.value.response.headers["retry-after"] == "3"
    assert client.responses.create(model="gpt-5.2", input="x").output_text == "x"


def test_answers_come_late_when_told_to_and_requests_at_work_are_counted(
    client: openai.OpenAI, server: ResponsesServer
) -> None:
    server.hold(0.2)

    def ask(text: str) -> str:
        return client.responses.create(model="gpt-5.2", input=text).output_text

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, "abcdefgh")) == list("abcdefgh")
    assert 0.2 <= time.monotonic() - began < 8 * 0.2
    assert server.most_in_flight == 8
    server.reply("now", delay=0)
    began = time.monotonic()
    assert ask("x") == "now"
    assert time.monotonic() - began < 0.2


# What it refuses


def ended(answer: Any) -> tuple[str, bool, int]:
    """The text of an answer in either API's form, whether its limit cut it, and how many tokens were thought."""
    if answer["object"] == "response":
        texts = [part["text"] for item in answer["output"] for part in item.get("content", ())]
        thought = answer["usage"]["output_tokens_details"]["reasoning_tokens"]
        return "".join(texts), answer["status"] == "incomplete", thought
    choice, details = answer["choices"][0], answer["usage"]["completion_tokens_details"]
    return choice["message"]["content"] or "", choice["finish_reason"] == "length", details["reasoning_tokens"]


def nested(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}


def reasoned(client: openai.OpenAI, **fields: Any) -> list[dict[str, Any]]:
    """Items of an answer with reasoning: thought, text, and a call."""
    response = post(client, "/responses", {"model": "gpt-5.2", "input": "x", "include": ENCRYPTED, **fields})
    return list(response["output"])


def test_reasoning_comes_back_encrypted_and_is_recognised(client: openai.OpenAI, server: ResponsesServer) -> None:
    server.reply("Well,", tool_calls=[("f", {})], reasoning="Hm.")
    thought, text, call = reasoned(client, store=False)
    output = OUTPUT | {"call_id": call["call_id"]}
    assert thought["encrypted_content"].startswith("gAAAA")
    assert post(client, "/responses", {"model": "gpt-5.2", "input": [thought, text, call, output]})
    bare = [{key: value for key, value in item.items() if key != "id"} for item in (thought, text, call)]
    assert post(client, "/responses", {"model": "gpt-5.2", "input": [*bare, output]})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda thought, text, call: [thought, call], "without its required following item"),
        (lambda thought, text, call: [text, call, thought], "without its required following item"),
        (
            lambda thought, text, call: [thought, {"role": "user", "content": "x"}, text, call],
            "required following item",
        ),
        (lambda thought, text, call: [text, call], "without its required 'reasoning' item"),
        (lambda thought, text, call: [thought | {"encrypted_content": None}, text, call], "Items are not persisted"),
        (lambda thought, text, call: [thought | {"encrypted_content": "gAAAAx"}, text, call], "could not be verified"),
        (lambda thought, text, call: [thought | {"id": "rs_other"}, text, call], "did not match"),
        (lambda thought, text, call: [{"type": "item_reference", "id": text["id"]}, call], "Items are not persisted"),
        (lambda thought, text, call: [{**thought, "id": "other"}, text, call], "Expected an ID that begins with 'rs'"),
    ],
)
def test_reasoning_that_is_not_where_it_was_is_refused(
    client: openai.OpenAI, server: ResponsesServer, change: Any, problem: str
) -> None:
    server.reply("Well,", tool_calls=[("f", {})], reasoning="Hm.")
    thought, text, call = reasoned(client, store=False)
    items = [*change(thought, text, call), OUTPUT | {"call_id": call["call_id"]}]
    with pytest.raises(openai.BadRequestError, match=problem):
        post(client, "/responses", {"model": "gpt-5.2", "input": items, "store": False})


def test_items_of_a_stored_response_may_be_named(client: openai.OpenAI, server: ResponsesServer) -> None:
    server.reply("Well.", reasoning="Hm.")
    thought, text = reasoned(client, store=True)
    names = [{"type": "item_reference", "id": item["id"]} for item in (thought, text)]
    assert post(client, "/responses", {"model": "gpt-5.2", "input": [*names, {"role": "user", "content": "x"}]})


@pytest.mark.parametrize(
    ("body", "problem", "param"),
    [
        ({"input": [OUTPUT]}, "No tool call found for function call output with call_id c1.", "input"),
        ({"input": [CALL]}, "No tool output found for function call c1.", "input"),
        ({"input": [OUTPUT, CALL]}, "No tool call found", "input"),
        ({"input": [CALL, OUTPUT, CALL]}, "Duplicate function call", "input"),
        ({"input": [CALL, OUTPUT, OUTPUT]}, "Duplicate output", "input"),
        ({"input": [CALL | {"call_id": "x" * 65}]}, "string too long", "input[0].call_id"),
        ({"input": [CALL | {"call_id": ""}]}, "empty string", "input[0].call_id"),
        ({"input": [CALL | {"name": "a.b"}]}, "does not match pattern", "input[0].name"),
        ({"input": [CALL | {"id": "call_1"}, OUTPUT]}, "begins with 'fc'", "input[0].id"),
        ({"input": []}, "empty array", "input"),
        ({"input": ""}, "empty string", "input"),
        ({"input": 5}, "Invalid type for 'input'", "input"),
        ({"input": [5]}, "expected an object, but got a number", "input[0]"),
        ({}, "Missing required parameter: 'input'", "input"),
        ({"input": "x", "messages": []}, "Unknown parameter: 'messages'", "messages"),
        ({"input": [{"role": "tool", "content": "x"}]}, "Invalid value: 'tool'", "input[0].role"),
        ({"input": [{"role": "user"}]}, "Missing required parameter: 'input[0].content'", "input[0].content"),
        ({"input": [{"role": "user", "content": "x", "name": "y"}]}, "Unknown parameter", "input[0].name"),
        ({"input": [{"type": "thing"}]}, "Invalid value: 'thing'", "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "text"}]}]}, "'input_text'", "input[0].content[0].type"),
        ({"input": [{"role": "assistant", "content": [{"type": "input_text"}]}]}, "'output_text'", None),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "one of 'image_url'", None),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "cat.png"}]}]},
            "valid URL",
            None,
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "Exactly one of", None),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f", "filename": "x"}]}]},
            "goes with 'file_data'",
            None,
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "x", "filename": "x"}]}]},
            "base64-encoded data URL",
            None,
        ),
        ({"input": "x", "temperature": 0.5}, "'temperature' is not supported with this model", "temperature"),
        ({"input": "x", "model": "o3", "top_p": 0.5}, "'top_p' is not supported with this model", "top_p"),
        ({"input": "x", "model": "gpt-4.1", "temperature": 3}, "<= 2, but got 3", "temperature"),
        ({"input": "x", "model": "gpt-4.1", "temperature": "1"}, "expected a decimal, but got a string", "temperature"),
        ({"input": "x", "model": "gpt-4.1", "reasoning": {"effort": "low"}}, "not supported", "reasoning"),
        ({"input": "x", "model": "gpt-4.1", "include": ENCRYPTED}, "Encrypted content is not supported", "include"),
        ({"input": "x", "model": "gpt-4.1", "text": {"verbosity": "low"}}, "not supported", "text.verbosity"),
        ({"input": "x", "include": ["everything"]}, "Invalid value: 'everything'", "include[0]"),
        ({"input": "x", "reasoning": {"effort": "huge"}}, "Invalid value: 'huge'", "reasoning.effort"),
        ({"input": "x", "max_output_tokens": 1}, ">= 16, but got 1", "max_output_tokens"),
        ({"input": "x", "max_output_tokens": 20.5}, "expected an integer", "max_output_tokens"),
        ({"input": "x", "stream": "yes"}, "expected a boolean", "stream"),
        ({"input": "x", "metadata": {"a": 1}}, "expected a string", "metadata.a"),
        ({"input": "x", "metadata": {str(n): "" for n in range(17)}}, "too many properties", "metadata"),
        ({"input": "x", "metadata": {"a": "x" * 513}}, "string too long", "metadata.a"),
        ({"input": "x", "previous_response_id": "resp_1"}, "'resp_1' not found", "previous_response_id"),
        ({"input": "x", "tool_choice": "required"}, "must be specified with 'tools'", "tool_choice"),
        (
            {"input": "x", "tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}},
            "not found in",
            "tool_choice",
        ),
        ({"input": "x", "tools": [{"type": "hammer"}]}, "Invalid value: 'hammer'", "tools[0].type"),
        ({"input": "x", "tools": [TOOL | {"name": "a b"}]}, "does not match pattern", "tools[0].name"),
        (
            {"input": "x", "tools": [TOOL | {"strict": True}]},
            "'additionalProperties' is required",
            "tools[0].parameters",
        ),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "'text.format.name'", "text.format.name"),
        (
            {"input": "x", "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "array"}}}},
            "must be a JSON Schema of 'type: \"object\"'",
            "text.format.schema",
        ),
    ],
)
def test_the_responses_api_refuses_bad_requests(
    client: openai.OpenAI, server: ResponsesServer, body: dict[str, Any], problem: str, param: str | None
) -> None:
    server.reply("not yet")
    with pytest.raises(openai.BadRequestError) as refused:
        post(client, "/responses", {"model": "gpt-5.2"} | body)
    assert problem in message_of(refused.value)
    assert param is None or refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert client.responses.create(model="gpt-5.2", input="x").output_text == "not yet"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": [], "additionalProperties": False}, "Missing 'a'"),
        ({"anyOf": []}, "got 'type: None'"),
        (nested({"type": "object", "properties": {}}), "'additionalProperties' is required"),
        (nested({"type": "string", "default": "x"}), "'default' is not permitted"),
        (nested({"$ref": "#", "description": "x"}), "$ref cannot have keywords"),
    ],
)
def test_a_strict_schema_must_be_closed(client: openai.OpenAI, schema: dict[str, Any], problem: str) -> None:
    form = {"type": "json_schema", "name": "a", "schema": schema, "strict": True}
    with pytest.raises(openai.BadRequestError) as refused:
        post(client, "/responses", {"model": "gpt-5.2", "input": "x", "text": {"format": form}})
    assert problem in message_of(refused.value)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"messages": []}, "empty array"),
        ({"messages": "x"}, "Invalid type for 'messages'"),
        ({}, "Missing required parameter: 'messages'"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c1"}]}, "must be a response to a preceeding"),
        ({"messages": [{"role": "assistant", "tool_calls": [CHAT_CALL]}]}, "did not have response messages: c1"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [CHAT_CALL]}, {"role": "user", "content": "x"}]},
            "did not have response messages: c1",
        ),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": []}]}, "empty array"),
        ({"messages": [{"role": "assistant", "content": None}]}, "expected a string, got null"),
        (
            {"messages": [{"role": "user", "content": "x", "repaired": True}]},
            "Unknown parameter: 'messages[0].repaired'",
        ),
        ({"messages": [{"role": "bot", "content": "x"}]}, "Invalid value: 'bot'"),
        ({"messages": [{"role": "user", "content": [{"type": "input_text"}]}]}, "Invalid value: 'input_text'"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 5}, "'max_tokens' is not supported"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": 0}, "'temperature' is not supported"),
        ({"messages": [{"role": "user", "content": "x"}], "input": 0}, "Unknown parameter: 'input'"),
        ({"messages": [{"role": "user", "content": "x"}], "tools": []}, "empty array"),
        ({"messages": [{"role": "user", "content": "x"}], "stop": [1]}, "expected a string"),
        (
            {"messages": [{"role": "user", "content": "x"}], "model": "gpt-4.1", "reasoning_effort": "low"},
            "'reasoning_effort' is not supported",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "model": "gpt-4.1"}
            | {"max_completion_tokens": 5},
            "at the same time",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}], "tool_choice": "auto"},
            "'tool_choice' is only allowed when 'tools'",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}], "parallel_tool_calls": False},
            "'parallel_tool_calls' is only allowed when 'tools'",
        ),
    ],
)
def test_chat_completions_refuse_bad_requests(client: openai.OpenAI, body: dict[str, Any], problem: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        post(client, "/chat/completions", {"model": "gpt-5.2"} | body)
    assert problem in message_of(refused.value)


@pytest.mark.parametrize(
    ("model", "effort", "problem"),
    [
        ("gpt-5-pro", "low", "'low' is not supported with the 'gpt-5-pro' model. Supported values are: 'high'."),
        ("gpt-5.2-pro", "low", "Supported values are: 'medium', 'high', and 'xhigh'."),
        ("o4-mini-deep-research", "low", "Supported values are: 'medium'."),
        ("o1-mini", "low", "is not supported with this model."),
        ("gpt-5-mini", "none", "Supported values are: 'minimal', 'low', 'medium', and 'high'."),
        ("gpt-5.1", "minimal", "Supported values are: 'none', 'low', 'medium', and 'high'."),
        ("gpt-5.1-codex-max", "minimal", "Supported values are: 'low', 'medium', 'high', and 'xhigh'."),
        ("gpt-5-codex", "minimal", "Supported values are: 'low', 'medium', and 'high'."),
        ("o3", "xhigh", "Supported values are: 'low', 'medium', and 'high'."),
        ("gpt-5-pro", "high", None),
        ("gpt-5-codex", "low", None),
        ("gpt-5.2", "none", None),
        ("gpt-7", "max", None),
    ],
)
def test_a_model_thinks_only_as_much_as_it_can_be_told_to(
    client: openai.OpenAI, model: str, effort: str, problem: str | None
) -> None:
    bodies: dict[str, Any] = {
        "/responses": {"input": "x", "reasoning": {"effort": effort}},
        "/chat/completions": {"messages": [USER], "reasoning_effort": effort},
    }
    for path, body in bodies.items():
        if problem is None:
            assert post(client, path, {"model": model} | body)
            continue
        with pytest.raises(openai.BadRequestError) as refused:
            post(client, path, {"model": model} | body)
        assert problem in message_of(refused.value)
        assert refused.value.param == ("reasoning.effort" if path == "/responses" else "reasoning_effort")


def test_sampling_parameters_are_taken_where_reasoning_is_off(client: openai.OpenAI) -> None:
    off: dict[str, Any] = {"reasoning": {"effort": "none"}, "temperature": 0.5, "input": "x"}
    assert post(client, "/responses", {"model": "gpt-5.2"} | off)
    with pytest.raises(openai.BadRequestError, match="'temperature' is not supported"):
        post(client, "/responses", {"model": "gpt-5-mini"} | off)


@pytest.mark.parametrize("path", ["/responses", "/chat/completions"])
def test_a_model_that_does_not_exist_is_not_found(client: openai.OpenAI, path: str) -> None:
    with pytest.raises(openai.NotFoundError, match="'nonsense-1' does not exist") as missing:
        post(client, path, {"model": "nonsense-1"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="'model'"):
        post(client, path, {})


def test_a_wrong_key_or_path_or_body_is_refused(server: ResponsesServer, client: openai.OpenAI) -> None:
    with (
        openai.OpenAI(base_url=server.base_url, api_key="sk-another-key-here") as stranger,
        pytest.raises(openai.AuthenticationError, match=r"Incorrect API key provided: sk-\*\*\*here") as wrong,
    ):
        post(stranger, "/responses", {"model": "gpt-5.2", "input": "x"})
    assert wrong.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError, match="didn't provide an API key"):
        client.post("/responses", body={}, cast_to=object, options={"headers": {"Authorization": openai.Omit()}})
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        post(client, "/nothing", {})
    with pytest.raises(openai.BadRequestError, match="could not parse the JSON body"):
        post(client, "/responses", [1])
    assert server.requests == []


# How it begins and ends


def test_it_leaves_no_thread_and_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    server = ResponsesServer()
    with server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.delay(30)
        with openai.OpenAI() as client:
            client.responses.create(model="gpt-5.2", input="x")
            stream = client.responses.create(model="gpt-5.2", input="x", stream=True)
            server.close()
            stream.close()
    assert set(threading.enumerate()) == before
    gc.collect()  # an open socket would warn, and warnings are errors
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url


def test_it_can_be_started_again() -> None:
    server = ResponsesServer()
    for _ in range(2):
        with server, openai.OpenAI(base_url=server.base_url, api_key=server.api_key) as client:
            assert client.responses.create(model="gpt-5.2", input="x").output_text == "x"
    assert len(server.requests) == 2


def test_it_prints_nothing(client: openai.OpenAI, capfd: pytest.CaptureFixture[str]) -> None:
    client.responses.create(model="gpt-5.2", input="x")
    with pytest.raises(openai.NotFoundError):
        post(client, "/nothing", {})
    assert capfd.readouterr() == ("", "")


# The clock


def test_a_frozen_clock_moves_only_when_told() -> None:
    clock = FrozenClock(datetime(2026, 1, 1, tzinfo=UTC))
    assert clock.now() == clock.now() == 1_767_225_600_000_000
    assert clock.tick(1.5) == clock.now() == 1_767_225_601_500_000
    assert FrozenClock(5).now() == 5
    with pytest.raises(InvalidArgument, match="time zone"):
        FrozenClock(datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused
