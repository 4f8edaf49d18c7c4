"""`OpenAIChat` through the real SDK against a local server that is as strict as the real one."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from recollect.errors import InvalidArgument, ModelError
from recollect.faces import LOOPS, THREADS
from recollect.message import File, Image, Message
from recollect.models.openai import OpenAIChat, OpenAIResponses
from recollect.port import Delta, ModelRequest, Reply, ToolSpec, drive
from recollect.testing import ResponsesServer

WEATHER = ToolSpec(
    "get_weather",
    "The weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
HELLO = (Message("system", "Be brief."), Message("user", "Hello"))

Pieces = list[Delta | Reply]
Ask = Callable[[OpenAIChat | OpenAIResponses, ModelRequest], Pieces]


async def pieces_of(model: OpenAIChat | OpenAIResponses, request: ModelRequest, world: Any) -> Pieces:
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
    with ResponsesServer(models=["llama-4"]) as running:
        yield running


@pytest.fixture
def make(server: ResponsesServer) -> Iterator[Callable[..., OpenAIChat]]:
    made: list[OpenAIChat] = []

    def one(id: str = "gpt-5.2", **options: Any) -> OpenAIChat:
        given: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key, "max_retries": 0}
        made.append(OpenAIChat(id, **(given | options)))
        return made[-1]

    yield one
    for model in made:
        model.close()


@pytest.fixture
def model(make: Callable[..., OpenAIChat]) -> OpenAIChat:
    return make()


def asked(*messages: Message, **fields: Any) -> ModelRequest:
    return ModelRequest(messages=messages or HELLO, **fields)


def last(pieces: Pieces) -> Reply:
    assert isinstance(pieces[-1], Reply)
    return pieces[-1]


def content(pieces: Pieces) -> str:
    return "".join(piece.content or "" for piece in pieces if isinstance(piece, Delta))


@pytest.mark.parametrize("stream", [False, True])
def test_text_comes_back_as_an_assistant_message(
    ask: Ask, model: OpenAIChat, server: ResponsesServer, *, stream: bool
) -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    server.reply("Good morning to you!", usage={"prompt_tokens": 9, "completion_tokens": 5, **usage})
    pieces = ask(model, asked(stream=stream))
    assert last(pieces).message.to_dict() == {"role": "assistant", "content": "Good morning to you!"}
    assert content(pieces) == ("Good morning to you!" if stream else "")
    found = last(pieces).usage
    assert (found.input_tokens, found.output_tokens, found.cache_read_tokens, found.reasoning_tokens) == (9, 5, 4, 2)
    assert server.requests[0]["messages"] == [message.to_dict() for message in HELLO]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_round_trip(ask: Ask, model: OpenAIChat, server: ResponsesServer, *, stream: bool) -> None:
    server.reply("Looking.", tool_calls=[("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})])
    first = last(ask(model, asked(tools=[WEATHER], stream=stream))).message
    assert [call.arguments for call in first.tool_calls] == ['{"city": "Paris"}', '{"city": "Rome"}']
    results = [Message("tool", "18", tool_call_id=call.id, name=call.name) for call in first.tool_calls]
    server.reply("18 degrees in both.")
    second = last(ask(model, asked(*HELLO, first, *results, tools=[WEATHER], stream=stream))).message
    assert second.text == "18 degrees in both."


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_of_compatible_servers_is_kept_and_not_sent_back(
    ask: Ask, make: Callable[..., OpenAIChat], server: ResponsesServer, *, stream: bool
) -> None:
    model = make("llama-4")
    server.reply("Hi.", reasoning="They greet me.")
    pieces = ask(model, asked(stream=stream))
    first = last(pieces).message
    assert first.reasoning_content == "They greet me."
    shown = "".join(piece.reasoning or "" for piece in pieces if isinstance(piece, Delta))
    assert shown == ("They greet me." if stream else "")
    last(ask(model, asked(*HELLO, first, Message("user", "And?"))))
    assert server.requests[-1]["messages"][2] == {"role": "assistant", "content": "Hi."}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("why", "reason"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_says_why_and_drops_half_a_call(
    ask: Ask, model: OpenAIChat, server: ResponsesServer, why: str, reason: str, *, stream: bool
) -> None:
    server.reply("Once", tool_calls=[("f", '{"a": 1}'), ("f", '{"a": ')], incomplete=why)
    message = last(ask(model, asked(stream=stream))).message
    assert (message.text, message.finish_reason) == ("Once", reason)
    assert [call.arguments for call in message.tool_calls] == ['{"a": 1}']


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_text_and_says_so(ask: Ask, model: OpenAIChat, server: ResponsesServer, *, stream: bool) -> None:
    server.reply(refusal="I cannot do that.")
    message = last(ask(model, asked(stream=stream))).message
    assert (message.text, message.finish_reason) == ("I cannot do that.", "refusal")


@pytest.mark.parametrize("stream", [False, True])
def test_lone_surrogates_are_replaced_and_the_message_says_so(
    ask: Ask, model: OpenAIChat, server: ResponsesServer, *, stream: bool
) -> None:
    server.reply("bad \ud83d text")
    message = last(ask(model, asked(stream=stream))).message
    assert message.to_dict() == {"role": "assistant", "content": "bad \ufffd text", "repaired": True}


def piece(arguments: Any, **fields: Any) -> dict[str, Any]:
    name = fields.pop("name", None)
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {"tool_calls": [{**fields, "function": function}]}


@pytest.mark.parametrize(
    "deltas",
    [
        [piece('{"a":1}', name="f", index=0, id="x"), piece('{"a":2}', name="f", index=1, id="y")],
        [piece('{"a"', name="f", index=0), piece(":1}", index=0), piece('{"a":2}', name="f", index=1)],
        [piece('{"a":1}', name="f", index=0, id="x"), piece('{"a":2}', name="f", index=0, id="y")],
        [piece('{"a"', name="f", id="x"), piece(":1}", id="x"), piece('{"a":2}', name="f", id="y")],
        [piece('{"a"', name="f"), piece(":1}"), piece('{"a":2}', name="f")],
        [piece('{"a":', name="f", index=0, id="x"), piece("1}", name="f", index=0, id="x"), piece('{"a":2}', index=1)],
        [piece('{"a":1}', name="f", index=0, id="x"), piece('{"a":2}', name="f", index=1, id="x")],
        [piece({"a": 1}, name="f", index=0, id=""), piece({"a": 2}, name="f", index=1, id="")],
    ],
    ids=["usual", "no ids", "one index", "no index", "neither", "repeated name", "one id", "objects"],
)
def test_calls_of_tolerable_servers_are_put_together(
    ask: Ask, model: OpenAIChat, server: ResponsesServer, deltas: list[dict[str, Any]]
) -> None:
    server.reply(output=deltas)
    calls = last(ask(model, asked(stream=True))).message.tool_calls
    assert [call.arguments.replace(" ", "") for call in calls] == ['{"a":1}', '{"a":2}']
    assert len({call.id for call in calls}) == 2
    assert all(call.id for call in calls)


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": "Hi"}, 3], "tool_calls": None},
        {"content": "Hi", "tool_calls": [None, "x"], "reasoning": None, "refusal": None},
        {"content": "Hi", "annotations": [{"url": 1}], "audio": None, "new": {"deep": [1]}},
    ],
)
def test_odd_answers_are_no_reason_to_fail(
    ask: Ask, model: OpenAIChat, server: ResponsesServer, message: dict[str, Any]
) -> None:
    server.reply(output=[message], usage={"prompt_tokens_details": None, "completion_tokens_details": "x"})
    assert last(ask(model, asked())).message.to_dict() == {"role": "assistant", "content": "Hi"}


def test_our_own_fields_and_empty_ones_are_not_sent(ask: Ask, model: OpenAIChat, server: ResponsesServer) -> None:
    ours = {"reasoning_content": "x", "finish_reason": "length", "repaired": True, "provider_data": {"a": 1}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = (
        Message.from_dict({"role": "assistant", "content": None, "id": "m1", "tool_calls": [call], **ours}),
        Message("tool", "boom", tool_call_id="c1", tool_call_error=True),
        Message("assistant", "Well.", name=None, tool_calls=[], function_call=None),
        Message("assistant", None),
    )
    last(ask(model, asked(*HELLO, *turns)))
    assert server.requests[0]["messages"][2:] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "boom", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Well."},
        {"role": "assistant", "content": ""},
    ]


def test_a_conversation_moves_from_one_api_to_the_other(
    ask: Ask, make: Callable[..., OpenAIChat], server: ResponsesServer
) -> None:
    responses = OpenAIResponses(base_url=server.base_url, api_key=server.api_key)
    server.reply(tool_calls=[("get_weather", {"city": "Paris"})], reasoning="Paris.")
    first = last(ask(responses, asked(tools=[WEATHER]))).message
    turns = [*HELLO, first, Message("tool", "18", tool_call_id=first.tool_calls[0].id)]
    turns.append(last(ask(make("gpt-4.1"), asked(*turns))).message)
    turns.append(Message("user", "Thanks"))
    assert last(ask(responses, asked(*turns))).message.text == "Thanks"
    responses.close()


def test_images_and_files_are_sent_as_they_are(ask: Ask, model: OpenAIChat, server: ResponsesServer) -> None:
    parts = [Image(content=b"\x89PNG").to_part(), File(content=b"%PDF", filename="a.pdf").to_part()]
    last(ask(model, asked(Message("user", [{"type": "text", "text": "What?"}, *parts]))))
    assert server.requests[0]["messages"][0]["content"][1:] == parts


def test_an_output_schema_is_asked_for(ask: Ask, model: OpenAIChat, server: ResponsesServer) -> None:
    schema = {"title": "Answer", "type": "object", "properties": {"a": {"type": "integer"}}}
    ask(model, asked(output_schema=schema))
    form = server.requests[0]["response_format"]
    assert form["json_schema"]["name"] == "Answer"
    assert form["json_schema"]["strict"] is True


def test_parameters_are_passed_through(ask: Ask, make: Callable[..., OpenAIChat], server: ResponsesServer) -> None:
    options = {"temperature": 0.5, "seed": 7, "stop": ["x"], "presence_penalty": 1, "user": "u"}
    ask(make("gpt-4.1", **options, request_params={"logit_bias": {"1": 2}}), asked())
    assert server.requests[0].items() >= (options | {"logit_bias": {"1": 2}}).items()
    assert "stream_options" not in server.requests[0]


def test_stream_options_can_be_left_out(ask: Ask, make: Callable[..., OpenAIChat], server: ResponsesServer) -> None:
    reply = last(ask(make(request_params={"stream_options": None}), asked(stream=True)))
    assert "stream_options" not in server.requests[0]
    assert reply.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("model_id", "name"),
    [("gpt-5.2", "max_completion_tokens"), ("o3", "max_completion_tokens"), ("llama-4", "max_tokens")],
)
def test_the_limit_of_an_answer_has_the_name_that_the_model_knows(
    ask: Ask, make: Callable[..., OpenAIChat], server: ResponsesServer, model_id: str, name: str
) -> None:
    ask(make(model_id), asked(max_output_tokens=50))
    assert server.requests[0][name] == 50


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="temprature"):
        OpenAIChat(temprature=1)  # type: ignore[call-arg]
    with pytest.raises(InvalidArgument, match="sets this itself"):
        OpenAIChat(request_params={"n": 2})


@pytest.mark.parametrize("stream", [False, True])
def test_failures_are_model_errors(ask: Ask, model: OpenAIChat, server: ResponsesServer, *, stream: bool) -> None:
    server.fail(429, retry_after=3)
    with pytest.raises(ModelError, match="status 429") as busy:
        ask(model, asked(stream=stream))
    assert (busy.value.status, busy.value.retry_after) == (429, 3)
    server.fail_midway("Sorry about that.")
    with pytest.raises(ModelError, match="Sorry about that"):
        ask(model, asked(stream=stream))
    server.hang_up(after_chars=3)
    with pytest.raises(ModelError, match="could not be asked"):
        ask(model, asked(stream=stream))
    server.reply(tool_calls=[("f", {})])
    call = last(ask(model, asked(stream=stream))).message
    with pytest.raises(ModelError, match="must be followed by tool messages") as refused:
        ask(model, asked(*HELLO, call, stream=stream))
    assert refused.value.status == 400


def test_a_stream_that_is_left_early_ends_the_request(model: OpenAIChat, server: ResponsesServer) -> None:
    server.delay(0.01)
    server.reply("word " * 2000)

    async def leave() -> None:
        async with aclosing(model.ask(asked(stream=True), LOOPS)) as pieces:
            await anext(pieces)
        for _ in range(500):
            if server.abandoned:
                return
            await asyncio.sleep(0.01)

    asyncio.run(leave())
    assert server.abandoned == 1


class Odd(BaseHTTPRequestHandler):
    """A server that is none of this kind: it says what it was made with."""

    said: tuple[str, bytes] = ("", b"")

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", self.said[0])
        self.end_headers()
        self.wfile.write(self.said[1])

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def odd_address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Odd) as running:
        thread = Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        ("text/html", b"<html>Welcome</html>", r"check base_url\. It begins: '<html>Welcome"),
        ("application/json", b"{nonsense", "broken JSON"),
        ("application/json", b'{"choices": []}', "no choices"),
        ("application/json", b'{"choices": null}', "no choices"),
        ("application/json", b'{"error": {"message": "overloaded", "code": 502}}', r"overloaded \(502\)"),
    ],
)
def test_an_address_that_is_no_model_server_is_an_error(
    ask: Ask, make: Callable[..., OpenAIChat], odd_address: str, kind: str, body: bytes, problem: str
) -> None:
    Odd.said = (kind, body)
    with pytest.raises(ModelError, match=problem):
        ask(make(base_url=odd_address), asked())


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'data: {"choices": [{"index": 0, "delta": {"content": "Hel"}}]}\n\n', "in the middle of the answer"),
        (b"data: {nonsense\n\n", "broken JSON"),
        (b"", "in the middle of the answer"),
    ],
)
def test_a_stream_that_ends_without_an_end_is_an_error(
    ask: Ask, make: Callable[..., OpenAIChat], odd_address: str, body: bytes, problem: str
) -> None:
    Odd.said = ("text/event-stream", body)
    with pytest.raises(ModelError, match=problem):
        ask(make(base_url=odd_address), asked(stream=True))
