"""Chat Completions, as OpenAI and many others speak it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final, Unpack

from recollect.message import Message, Usage
from recollect.models.openai.adapter import Adapter, filled, function_of, reasons
from recollect.models.openai.answer import Answer, mappings, number
from recollect.models.openai.failure import address, document
from recollect.models.openai.options import ChatOptions
from recollect.models.openai.schema import answer_format
from recollect.models.openai.side import answer_limit, side_effort
from recollect.port import Delta, ModelRequest, Reply, World

OWN_FIELDS: Final = frozenset(
    {"id", "reasoning_content", "tool_call_error", "finish_reason", "repaired", "provider_data"}
)
"""Keys of a message that are this library's, not of the Chat Completions form."""


class OpenAIChat(Adapter):
    """A model behind Chat Completions: OpenAI's, or any compatible server's at ``base_url``.

    The options are those of `ChatOptions`.

    Raises:
        InvalidArgument: a parameter is unknown.
        ExtraMissing: the openai package is not installed.
    """

    __slots__ = ()

    TAKES = frozenset(ChatOptions.__annotations__)
    OURS = frozenset({"model", "messages", "stream", "n", "functions", "function_call"})

    ANSWERS_ONLY = frozenset(
        {
            *("tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs", "stop"),
            *("modalities", "audio", "prediction", "store", "web_search_options"),
        }
    )
    LIMITS = frozenset({"max_tokens", "max_completion_tokens"})

    def __init__(self, id: str = "gpt-5.2", **options: Unpack[ChatOptions]) -> None:
        self._configure(id, options)

    async def _answer(self, client: Any, request: ModelRequest, world: World) -> AsyncGenerator[Delta | Reply, None]:
        create = client.chat.completions.create
        self._check(create, request.options)
        answer = await world.result(create(**self._body(client, request)))
        if not request.stream:
            yield self._reply(document(answer, client))
            return
        stream = ChunkStream()
        async with aclosing(world.each(answer)) as chunks:
            async for chunk in chunks:
                if (delta := stream.take(chunk)) is not None:
                    yield delta
        if not stream.ended:
            raise self._broken_off()
        yield stream.reply()

    def _body(self, client: Any, request: ModelRequest) -> dict[str, Any]:
        configured = self._configured(request)
        given = self._given(request, configured, self._asked(client, request, configured))
        tools = [{"type": "function", "function": function_of(tool)} for tool in request.tools]
        body = {
            "model": self.id,
            "messages": [chat_message(message) for message in request.messages],
            "stream": True if request.stream else None,
            "stream_options": {"include_usage": True},
            **given,
            "tools": [*tools, *(given.get("tools") or ())] or None,
        }
        if not request.stream:
            del body["stream_options"]
        return filled(body) or {}

    def _asked(self, client: Any, request: ModelRequest, configured: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that the request itself calls for."""
        asked: dict[str, Any] = {}
        if request.output_schema is not None:
            asked["response_format"] = {"type": "json_schema", "json_schema": answer_format(request.output_schema)}
        if (limit := answer_limit(self.id, request)) is not None:
            asked[self._limit(client)] = limit
        if request.purpose != "answer":
            effort = configured.get("reasoning_effort")
            asked["reasoning_effort"] = side_effort(self.id, effort, {**configured, **request.options})
        return asked

    def _limit(self, client: Any) -> str:
        """OpenAI's newer models refuse ``max_tokens``, many compatible servers know nothing else."""
        newer = reasons(self.id) or "max_completion_tokens" in self._params or "api.openai.com" in address(client)
        return "max_completion_tokens" if newer else "max_tokens"

    def _reply(self, completion: Mapping[str, Any]) -> Reply:
        error = completion.get("error")  # some servers answer with status 200 and say here that it failed
        if isinstance(error, Mapping):
            raise self._failed(error.get("message"), error.get("code") or error.get("type"))
        choices = mappings(completion.get("choices"))
        if not choices:
            raise self._failed("the answer has no choices")
        said = ChatAnswer()
        said.take(choices[0].get("message"))
        said.finish_reason = choices[0].get("finish_reason")
        said.usage = completion.get("usage")
        return said.reply()


class ChatAnswer:
    """What a model said through Chat Completions: one message, or the deltas of a stream."""

    def __init__(self) -> None:
        self.finish_reason: Any = None
        self.usage: Any = None
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._thoughts: list[str] = []
        self._calls = CallPieces()
        self._answer = Answer()

    def take(self, said: Any) -> Delta | None:
        """Add a message or delta; give what is new in it."""
        if not isinstance(said, Mapping):
            return None
        clean = self._answer.clean
        text, refusal = clean(_plain_text(said.get("content"))), clean(said.get("refusal"))
        thought = clean(said.get("reasoning_content") or said.get("reasoning"))
        self._text.append(text)
        self._refusal.append(refusal)
        self._thoughts.append(thought)
        for piece in mappings(said.get("tool_calls")):
            self._calls.add(piece)
        return Delta(text + refusal or None, thought or None) if text or refusal or thought else None

    def reply(self) -> Reply:
        answer, cut = self._answer, self.finish_reason in {"length", "content_filter"}
        answer.texts = ["".join(self._text), "".join(self._refusal)]
        answer.thoughts = ["".join(self._thoughts)]
        for call in self._calls.whole:
            if not cut or _is_json(call.arguments):  # half of its arguments: never to be called
                answer.call(call.id, call.name, call.arguments)
        if cut or any(self._refusal):
            answer.finish_reason = self.finish_reason if cut else "refusal"
        return Reply(answer.message(), _usage(self.usage))


class PartialCall:
    """A tool call of which more may come."""

    __slots__ = ("arguments", "id", "index", "name")

    def __init__(self, index: object) -> None:
        self.index = index
        self.id: object = None
        self.name: object = None
        self.arguments = ""


class CallPieces:
    """Tool calls put together from the pieces of a stream."""

    def __init__(self) -> None:
        self.whole: list[PartialCall] = []

    def add(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function")
        function = function if isinstance(function, Mapping) else {}
        call = self._continued(piece.get("index"), piece.get("id"), function.get("name"))
        if call is None:
            call = PartialCall(piece.get("index"))
            self.whole.append(call)
        call.id = call.id or piece.get("id")
        call.name = call.name or function.get("name")
        arguments = function.get("arguments")
        if arguments is not None:  # some servers send them as an object
            call.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _continued(self, index: object, call_id: object, name: object) -> PartialCall | None:
        """The call that a piece goes on with; None when it begins one.

        The index tells. But some servers give every call the index 0 and tell them apart by id, and some send no index.
        """
        for call in reversed(self.whole):
            if index is None:
                same = call.id == call_id if call_id else not name
            else:
                same = call.index == index and (not call_id or call.id in {None, call_id})
            if same:
                return call
        return None


class ChunkStream:
    """What the chunks of a streamed completion come to."""

    def __init__(self) -> None:
        self.ended = False
        self._said = ChatAnswer()

    def take(self, chunk: Any) -> Delta | None:
        body = chunk.to_dict(warnings=False) if hasattr(chunk, "to_dict") else {}
        if body.get("usage"):
            self._said.usage = body["usage"]
        for choice in mappings(body.get("choices")):
            if choice.get("index"):
                continue  # a further answer, which was not asked for
            if choice.get("finish_reason"):
                self._said.finish_reason = choice["finish_reason"]
                self.ended = True
            return self._said.take(choice.get("delta"))
        return None

    def reply(self) -> Reply:
        return self._said.reply()


def chat_message(message: Message) -> dict[str, Any]:
    """A message as it came, without this library's own keys and without what is empty."""
    body = {key: value for key, value in message.to_dict().items() if key not in OWN_FIELDS and value not in (None, [])}
    if "content" not in body:
        body["content"] = None if "tool_calls" in body or "function_call" in body else ""
    return body


def _usage(usage: Any) -> Usage:
    return Usage(
        number(usage, "prompt_tokens"),
        number(usage, "completion_tokens"),
        number(usage, "prompt_tokens_details", "cached_tokens"),
        number(usage, "completion_tokens_details", "reasoning_tokens"),
    )


def _plain_text(content: Any) -> Any:
    """The text of an answer that comes in parts; anything else as it is."""
    if not isinstance(content, list):
        return content
    return "".join(str(part.get("text") or "") for part in mappings(content))


def _is_json(text: str) -> bool:
    try:
        json.loads(text or "{}")
    except ValueError:
        return False
    return True
