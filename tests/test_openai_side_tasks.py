"""Names and summaries through OpenAI's own SDK: short answers, little thought, nothing that belongs to answers."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from recollect import EchoModel, InvalidArgument, Message, ModelError
from recollect.ask import whole_answer
from recollect.faces import LOOPS, THREADS
from recollect.models.openai import OpenAIChat, OpenAIResponses
from recollect.port import ModelRequest, Reply, drive
from recollect.testing import ResponsesServer

pytestmark = pytest.mark.anyio

WORLDS = {"threads": THREADS, "asyncio": LOOPS}
APIS: dict[str, Any] = {"responses": OpenAIResponses, "chat": OpenAIChat}


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here speaks TLS, and reading the machine's certificates takes each client a tenth of a second."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(Path(__file__).parent))


@pytest.fixture
def server() -> Iterator[ResponsesServer]:
    with ResponsesServer(models={"qwen3", "gpt-5-pro"}) as server:
        yield server


class Asker:
    """A side task asked of one API in one world."""

    def __init__(self, server: ResponsesServer, api: str, world: str) -> None:
        self.server, self.api, self.world = server, api, WORLDS[world]

    async def ask(self, id: str = "gpt-5.2", request: dict[str, Any] | None = None, **options: Any) -> Reply:
        wanted: dict[str, Any] = {"purpose": "name", "max_output_tokens": 64} | (request or {})
        async with self.model(id, **options) as model:
            return await whole_answer(model, ModelRequest(messages=[Message("user", "Name it")], **wanted), self.world)

    @asynccontextmanager
    async def model(self, id: str, **options: Any) -> AsyncIterator[Any]:
        model = APIS[self.api](id, **({"base_url": self.server.base_url, "api_key": self.server.api_key} | options))
        try:
            yield model
        finally:
            await model.aclose()

    def limit(self) -> int | None:
        body = self.server.requests[-1]
        sent = [body[name] for name in ("max_output_tokens", "max_completion_tokens", "max_tokens") if name in body]
        assert len(sent) <= 1, "one limit has one name"
        return sent[0] if sent else None

    def effort(self) -> Any:
        body = self.server.requests[-1]
        return body.get("reasoning_effort") if self.api == "chat" else (body.get("reasoning") or {}).get("effort")


def parameters(body: dict[str, Any]) -> dict[str, Any]:
    """What a body holds beside the conversation."""
    return {name: value for name, value in body.items() if name not in {"model", "input", "messages", "store"}}


@pytest.fixture(params=[f"{api}-{world}" for api in APIS for world in WORLDS])
def asker(request: pytest.FixtureRequest, server: ResponsesServer) -> Asker:
    api, world = request.param.split("-")
    return Asker(server, api, world)


@pytest.mark.parametrize(
    ("model", "limit", "effort"),
    [
        ("gpt-4.1-mini", 64, None),
        ("gpt-4o", 64, None),
        ("gpt-5-chat-latest", 64, None),
        ("gpt-5.2-chat-latest", 1088, None),
        ("gpt-5.2", 1088, "low"),
        ("gpt-5-nano", 1088, "low"),
        ("o3", 1088, "low"),
        ("gpt-5-pro", 1088, None),
        ("o1-mini", 1088, None),
        ("qwen3", 1088, None),
    ],
)
async def test_a_model_that_may_think_is_given_room_and_told_to_think_little_where_it_takes_that(
    asker: Asker, model: str, limit: int, effort: str | None
) -> None:
    await asker.ask(model)
    assert (asker.limit(), asker.effort()) == (limit, effort)


@pytest.mark.parametrize(
    ("configured", "wanted", "effort"),
    [("high", None, "low"), ("minimal", None, "minimal"), (None, "medium", "medium"), ("low", "high", "high")],
)
async def test_the_effort_of_answers_is_not_that_of_names_unless_it_is_less(
    asker: Asker, configured: str | None, wanted: str | None, effort: str
) -> None:
    options = {} if wanted is None else {"reasoning_effort": wanted}
    await asker.ask("gpt-5-mini", {"options": options}, reasoning_effort=configured)
    assert asker.effort() == effort


async def test_a_limit_of_answers_is_not_that_of_names(asker: Asker) -> None:
    configured = {"max_tokens": 9000} if asker.api == "chat" else {"max_output_tokens": 9000}
    await asker.ask("gpt-4.1-mini", **configured)
    assert asker.limit() == 64
    options = {"max_completion_tokens": 80} if asker.api == "chat" else {"max_output_tokens": 80}
    await asker.ask("gpt-4.1-mini", {"options": options})
    assert asker.limit() == 80


async def test_nothing_is_offered_or_forced_that_belongs_to_answers(asker: Asker) -> None:
    own = {
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "user": "u",
        "request_params": {"tools": [{"type": "function", "name": "look", "parameters": {}}]},
    }
    await asker.ask("gpt-4.1-mini", **own)
    body = asker.server.requests[-1]
    assert not {"tools", "tool_choice", "parallel_tool_calls", "include", "reasoning"} & body.keys()
    assert (body["temperature"], body["user"]) == (0.5, "u")


async def test_a_summary_has_its_own_form_whatever_the_answers_have(asker: Asker) -> None:
    schema = {"title": "Mine", "type": "object", "properties": {"summary": {"type": "string"}}}
    form = {"type": "json_object"}
    own = {"response_format": form} if asker.api == "chat" else {"text": {"format": form, "verbosity": "low"}}
    await asker.ask("gpt-5.2", {"purpose": "summary", "output_schema": schema}, **own)
    body = asker.server.requests[-1]
    sent = body["response_format"]["json_schema"] if asker.api == "chat" else body["text"]["format"]
    assert sent["name"] == "Mine"
    await asker.ask("gpt-5.2", **own)
    body = asker.server.requests[-1]
    assert "response_format" not in body
    assert "format" not in body.get("text", {})


async def test_options_of_a_request_stand_over_those_of_the_model(asker: Asker) -> None:
    await asker.ask("gpt-4.1-mini", {"options": {"top_p": 0.2, "temperature": None}}, top_p=0.9, temperature=1.0)
    body = asker.server.requests[-1]
    assert body["top_p"] == 0.2
    assert "temperature" not in body


@pytest.mark.parametrize(
    ("configured", "options", "sent"),
    [
        ({"request_params": {"temperature": 0.9}}, {"temperature": 0.1}, {"temperature": 0.1}),
        ({"request_params": {"service_tier": "flex"}}, {"service_tier": None}, {}),
        ({"metadata": {"a": "1"}}, {"metadata": {"b": "2"}}, {"metadata": {"b": "2"}}),
        ({"top_p": 0.5}, {"tools": None}, {"top_p": 0.5}),
    ],
)
async def test_what_an_option_names_is_as_it_says(
    asker: Asker, configured: dict[str, Any], options: dict[str, Any], sent: dict[str, Any]
) -> None:
    await asker.ask("gpt-4.1-mini", {"options": options, "max_output_tokens": None}, **configured)
    assert parameters(asker.server.requests[-1]) == sent


@pytest.mark.parametrize(
    ("configured", "options", "sent"),
    [
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "high"}}, {"reasoning": {"effort": "high"}}),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        ({"reasoning_effort": "high"}, {"reasoning": None}, {}),
        ({}, {"reasoning_effort": None}, {}),
        ({}, {"reasoning_summary": "auto"}, {"reasoning": {"effort": "low", "summary": "auto"}}),
        ({"reasoning_summary": "auto", "include": ["file_search_call.results"]}, {}, {"reasoning": {"effort": "low"}}),
        ({"request_params": {"reasoning": {"summary": "auto"}}}, {}, {"reasoning": {"effort": "low"}}),
        (
            {"verbosity": "high"},
            {"text": {"verbosity": "low"}},
            {"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}},
        ),
    ],
)
async def test_an_option_and_its_short_form_are_one(
    server: ResponsesServer, configured: dict[str, Any], options: dict[str, Any], sent: dict[str, Any]
) -> None:
    asker = Asker(server, "responses", "asyncio")
    await asker.ask("gpt-5-mini", {"options": options, "max_output_tokens": None}, **configured)
    assert parameters(server.requests[-1]) == sent


async def test_of_two_names_of_one_limit_the_option_is_sent(server: ResponsesServer) -> None:
    asker = Asker(server, "chat", "asyncio")
    await asker.ask("gpt-4.1-mini", {"options": {"max_completion_tokens": 80}}, max_tokens=9000)
    assert asker.limit() == 80
    await asker.ask("gpt-4.1-mini", {"options": {"max_tokens": None}}, max_completion_tokens=9000)
    assert asker.limit() is None


async def test_an_option_stands_over_the_form_that_was_asked_for(asker: Asker) -> None:
    form = {"type": "json_object"}
    options = {"response_format": form} if asker.api == "chat" else {"text": {"format": form}}
    await asker.ask("gpt-4.1", {"output_schema": {"type": "object", "properties": {}}, "options": options})
    body = asker.server.requests[-1]
    assert (body["response_format"] if asker.api == "chat" else body["text"]["format"]) == form


@pytest.mark.parametrize("own", [{"temperature": 0.5}, {"extra_body": {"reasoning": {"effort": "medium"}}}])
async def test_how_much_to_think_is_not_said_where_that_cannot_be_taken(asker: Asker, own: dict[str, Any]) -> None:
    with suppress(ModelError):  # this server is stricter than those that such a model is asked at
        await asker.ask("gpt-5.2", **own)
    assert asker.effort() in {None, "medium"}


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        *(("o1", "low"), ("o3-mini", "low"), ("o4-mini", "low"), ("gpt-5-codex", "low"), ("gpt-5.1-codex-max", "low")),
        *(("codex-mini-latest", "low"), ("ft:o4-mini-2025-04-16:us", "low"), ("gpt-5.6-sol", "low")),
        *(("o1-preview", None), ("o1-pro", None), ("gpt-5.2-pro", None), ("o4-mini-deep-research", None)),
    ],
)
async def test_no_model_is_told_to_think_as_it_cannot(asker: Asker, model: str, effort: str | None) -> None:
    """The server refuses what the provider does."""
    assert (await asker.ask(model)).message.text == "Name it"
    assert asker.effort() == effort


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["gpt-5.2", "qwen3"])
async def test_a_name_has_room_beside_the_thinking(asker: Asker, model: str, *, stream: bool) -> None:
    asker.server.think(1000)
    assert (await asker.ask(model, {"stream": stream})).message.text == "Name it"
    asker.server.think(2000)
    reply = await asker.ask(model, {"stream": stream})
    assert (reply.message.text, reply.message.finish_reason) == ("", "length")
    assert reply.usage.reasoning_tokens == 2000


async def test_how_often_it_is_tried_is_said_by_the_request(asker: Asker) -> None:
    asker.server.fail(429, retry_after=0.01, times=2)
    assert (await asker.ask("gpt-4.1-mini", {"max_retries": 2}, max_retries=0)).message.text == "Name it"
    assert len(asker.server.requests) == 3


@pytest.mark.parametrize(
    ("code", "status", "transient"),
    [
        ("server_error", 500, True),
        ("rate_limit_exceeded", 429, True),
        ("insufficient_quota", 429, False),
        ("invalid_prompt", None, False),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_says_that_it_failed_says_whether_that_passes(
    asker: Asker, code: str, status: int | None, *, transient: bool, stream: bool
) -> None:
    asker.server.fail_midway("Sorry.", code=code)
    with pytest.raises(ModelError, match=rf"failed: Sorry\. \({code}\)") as raised:
        await asker.ask("gpt-4.1-mini", {"stream": stream, "max_retries": 0})
    assert (raised.value.status, raised.value.transient) == (status, transient)


@pytest.mark.parametrize(
    ("address", "transient"), [("http://127.0.0.1:9/v1", True), ("ftp://127.0.0.1/v1", False), ("127.0.0.1/v1", False)]
)
async def test_a_wrong_address_does_not_pass_and_a_lost_connection_may(
    asker: Asker, address: str, *, transient: bool
) -> None:
    with pytest.raises(ModelError, match="could not be asked") as raised:
        await asker.ask("gpt-4.1-mini", {"max_retries": 0}, base_url=address)
    assert raised.value.transient == transient


@pytest.mark.parametrize("name", ["temprature", "api_key", "base_url", "model", "stream", "timeout"])
async def test_an_option_that_is_none_is_refused_before_anything_is_sent(asker: Asker, name: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"model_options\['{name}'\]"):
        await asker.ask("gpt-4.1-mini", {"options": {name: "x"}})
    assert not asker.server.requests


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_is_waited_for_no_longer_than_asked(asker: Asker, *, stream: bool) -> None:
    asker.server.hold(30)
    began = time.perf_counter()
    with pytest.raises(ModelError, match="timed out") as raised:
        await asker.ask("gpt-4.1-mini", {"timeout": 0.2, "max_retries": 0, "stream": stream}, timeout=60)
    assert time.perf_counter() - began < 5
    assert raised.value.transient


@pytest.mark.parametrize(
    ("status", "code", "transient"),
    [
        (429, None, True),
        (429, "insufficient_quota", False),
        (500, None, True),
        (503, None, True),
        (408, None, True),
        (400, None, False),
        (403, None, False),
    ],
)
async def test_an_error_says_whether_asking_again_may_help(
    asker: Asker, status: int, code: str | None, *, transient: bool
) -> None:
    asker.server.fail(status, code=code, retry_after=7)
    with pytest.raises(ModelError) as raised:
        await asker.ask("gpt-4.1-mini", {"max_retries": 0})
    assert (raised.value.status, raised.value.retry_after, raised.value.transient) == (status, 7, transient)
    assert len(asker.server.requests) == 1


async def test_an_answer_that_breaks_off_may_be_asked_for_again(asker: Asker) -> None:
    asker.server.hang_up()
    with pytest.raises(ModelError) as raised:
        await asker.ask("gpt-4.1-mini", {"max_retries": 0, "stream": True})
    assert raised.value.transient


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_was_all_thought_has_no_text_and_says_why(asker: Asker, *, stream: bool) -> None:
    asker.server.reply("", incomplete="max_output_tokens")
    reply = await asker.ask("gpt-5.2", {"stream": stream})
    assert (reply.message.text, reply.message.finish_reason) == ("", "length")


@pytest.mark.parametrize("world", WORLDS)
async def test_the_echo_names_nothing_and_sums_up_what_it_is_told(world: str) -> None:
    async def ask(model: EchoModel, purpose: Any) -> str:
        request = ModelRequest(messages=[Message("user", "They spoke of lamps.")], purpose=purpose)
        return (await whole_answer(model, request, WORLDS[world])).message.text

    assert await ask(EchoModel(), "name") == ""
    assert json.loads(await ask(EchoModel(), "summary")) == {"summary": "They spoke of lamps.", "topics": []}
    assert await ask(EchoModel(reply="A Name"), "name") == "A Name"


async def test_many_requests_at_once_leave_nothing_open(server: ResponsesServer) -> None:
    asker = Asker(server, "responses", "threads")
    async with asker.model("gpt-4.1-mini") as model:
        request = ModelRequest(messages=[Message("user", "Name it")], purpose="name", max_retries=0, timeout=20)

        def ask() -> None:
            for _ in range(5):
                drive(whole_answer(model, request, THREADS))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 40


async def test_many_requests_of_one_loop_share_its_connections(server: ResponsesServer) -> None:
    asker = Asker(server, "chat", "asyncio")
    server.hold(0.05)
    async with asker.model("gpt-4.1-mini") as model:
        request = ModelRequest(messages=[Message("user", "Name it")], purpose="name", max_retries=0, timeout=20)
        await asyncio.gather(*[whole_answer(model, request, LOOPS) for _ in range(40)])
    assert server.most_in_flight > 8
    gc.collect()  # anything left open would warn, and warnings are errors
