"""The Responses API of OpenAI, without its storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Final, Unpack

from recollect.message import Message, Usage
from recollect.models.openai.adapter import Adapter, filled, function_of, reasons
from recollect.models.openai.answer import BREAK, Answer, Repair, mappings, number
from recollect.models.openai.failure import document
from recollect.models.openai.items import input_items
from recollect.models.openai.options import ResponsesOptions
from recollect.models.openai.schema import answer_format
from recollect.models.openai.side import answer_limit, side_effort
from recollect.port import Delta, ModelRequest, Reply, World

ENCRYPTED: Final = "reasoning.encrypted_content"


class OpenAIResponses(Adapter):
    """A model of OpenAI, or of a server that speaks its Responses API. The options are those of `ResponsesOptions`.

    Raises:
        InvalidArgument: a parameter is unknown.
        ExtraMissing: the openai package is not installed.
    """

    __slots__ = ()

    TAKES = frozenset(ResponsesOptions.__annotations__)
    OURS = frozenset({"model", "input", "instructions", "stream", "background", "conversation", "previous_response_id"})

    ANSWERS_ONLY = frozenset(
        {"tools", "tool_choice", "parallel_tool_calls", "max_tool_calls", "include", "top_logprobs", "prompt", "store"}
    )
    LIMITS = frozenset({"max_output_tokens"})
    SHORT: ClassVar[Mapping[str, tuple[str, str]]] = {
        "reasoning_effort": ("reasoning", "effort"),
        "reasoning_summary": ("reasoning", "summary"),
        "verbosity": ("text", "verbosity"),
    }

    def __init__(self, id: str = "gpt-5.2", **options: Unpack[ResponsesOptions]) -> None:
        self._configure(id, options)

    async def _answer(self, client: Any, request: ModelRequest, world: World) -> AsyncGenerator[Delta | Reply, None]:
        self._check(client.responses.create, request.options)
        answer = await self._open(client, request, world)
        if not request.stream:
            yield self._reply(document(answer, client))
            return
        stream = EventStream()
        async with aclosing(world.each(answer)) as events:
            async for event in events:
                if (delta := stream.take(event)) is not None:
                    yield delta
        yield self._reply(self._whole(stream))

    async def _open(self, client: Any, request: ModelRequest, world: World) -> Any:
        """Send the request; once more without the reasoning when the provider cannot read it any longer.

        It cannot after a change of the key's organization, and with that the whole conversation would be lost.
        """
        import openai

        items = input_items(request.messages, self._tag())
        try:
            return await world.result(client.responses.create(**self._body(request, items)))
        except openai.BadRequestError as error:
            if error.code != "invalid_encrypted_content":
                raise
        items = input_items(request.messages, None)
        return await world.result(client.responses.create(**self._body(request, items)))

    def _tag(self) -> dict[str, str]:
        return {"provider": self.provider, "model": self.id}

    def _body(self, request: ModelRequest, items: list[dict[str, Any]]) -> dict[str, Any]:
        configured = self._configured(request)
        given = self._given(request, configured, self._asked(request, configured))
        kept = [ENCRYPTED] if reasons(self.id) and request.purpose == "answer" else []
        tools = [{"type": "function", **function_of(tool)} for tool in request.tools]
        body = {
            "model": self.id,
            "input": items,
            "store": False,
            "stream": True if request.stream else None,
            **given,
            "reasoning": filled(given.get("reasoning")),
            "text": filled(given.get("text")),
            "include": list(dict.fromkeys([*(given.get("include") or ()), *kept])) or None,
            "tools": [*tools, *(given.get("tools") or ())] or None,
        }
        return filled(body) or {}

    def _configured(self, request: ModelRequest) -> dict[str, Any]:
        given = super()._configured(request)
        if request.purpose != "answer":
            for name, key in (("reasoning", "effort"), ("text", "verbosity")):
                given[name] = {key: (given.get(name) or {}).get(key)}
        return given

    def _asked(self, request: ModelRequest, configured: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that the request itself calls for."""
        asked: dict[str, Any] = {}
        if request.output_schema is not None:
            asked["text"] = {"format": {"type": "json_schema", **answer_format(request.output_schema)}}
        if (limit := answer_limit(self.id, request)) is not None:
            asked["max_output_tokens"] = limit
        if request.purpose != "answer":
            effort = configured["reasoning"]["effort"]
            asked["reasoning"] = {"effort": side_effort(self.id, effort, {**configured, **request.options})}
        return asked

    def _whole(self, stream: EventStream) -> dict[str, Any]:
        if stream.error is not None:
            raise self._failed(stream.error.get("message"), stream.error.get("code"))
        if stream.response is None:
            raise self._broken_off()
        return stream.response

    def _reply(self, response: Mapping[str, Any]) -> Reply:
        status, error = response.get("status"), response.get("error")
        if isinstance(error, Mapping):
            raise self._failed(error.get("message"), error.get("code"))
        if status not in {"completed", "incomplete", None}:
            raise self._failed(f"the response is {status!r}")
        return Reply(_message(response, self._tag()), _usage(response.get("usage")))


class EventStream:
    """What the events of a streamed response come to: deltas, and the response at the end."""

    def __init__(self) -> None:
        self.response: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self._done: dict[int, Any] = {}
        self._place: dict[str, object] = {}

    def take(self, event: Any) -> Delta | None:
        said = event.to_dict(warnings=False) if hasattr(event, "to_dict") else {}
        kind, index = said.get("type"), said.get("output_index")
        if kind in {"response.output_text.delta", "response.refusal.delta"}:
            return Delta(content=self._next("content", index, said.get("delta")))
        if kind in {"response.reasoning_summary_text.delta", "response.reasoning_text.delta"}:
            place = (index, said.get("summary_index"), said.get("content_index"))
            return Delta(reasoning=self._next("reasoning", place, said.get("delta")))
        if kind == "response.output_item.done" and isinstance(index, int):
            self._done[index] = said.get("item")
        elif kind in {"response.completed", "response.incomplete", "response.failed"}:
            self._end(said.get("response") or {})
        elif kind == "error":
            self.error = said
        return None

    def _next(self, what: str, place: object, delta: object) -> str:
        """The delta, led by what separates it from another item's text."""
        text = Repair()(delta)
        if text:
            if self._place.get(what, place) != place:
                text = BREAK + text
            self._place[what] = place
        return text

    def _end(self, response: dict[str, Any]) -> None:
        if not response.get("output"):  # some servers tell of each item and leave them out of the end
            response["output"] = [self._done[index] for index in sorted(self._done)]
        self.response = response


def _message(response: Mapping[str, Any], tag: Mapping[str, str]) -> Message:
    answer = Answer()
    marks: list[dict[str, Any]] = []
    for item in mappings(response.get("output")):
        mark = _READERS.get(str(item.get("type")), _read_other)(item, answer)
        if mark is not None:
            marks.append(mark)
    if response.get("status") == "incomplete":
        answer.finish_reason = _why_cut(response.get("incomplete_details"))
        # What an unfinished thought led to is not there, or not whole.
        marks = [mark for mark in marks if mark["type"] != "reasoning"]
    return answer.message(provider_data={**tag, "items": marks} if _worth_keeping(marks) else None)


def _why_cut(details: Any) -> str:
    why = details.get("reason") if isinstance(details, Mapping) else None
    return why if isinstance(why, str) and why.isprintable() and why != "max_output_tokens" else "length"


def _read_reasoning(item: Mapping[str, Any], answer: Answer) -> dict[str, Any] | None:
    summary = [answer.clean(part.get("text")) for part in mappings(item.get("summary"))]
    answer.thoughts += summary or [answer.clean(part.get("text")) for part in mappings(item.get("content"))]
    if not item.get("encrypted_content"):
        return None
    return {
        "type": "reasoning",
        "id": answer.clean(item.get("id")),
        "summary": [{"type": "summary_text", "text": text} for text in summary],
        "encrypted_content": answer.clean(item["encrypted_content"]),
    }


def _read_message(item: Mapping[str, Any], answer: Answer) -> dict[str, Any] | None:
    parts = mappings(item.get("content"))
    refused = [part for part in parts if part.get("type") == "refusal"]
    text = "".join(answer.clean(part.get("text") or part.get("refusal")) for part in parts)
    if refused:
        answer.finish_reason = "refusal"
    if not text:
        return None
    answer.texts.append(text)
    mark: dict[str, Any] = {"type": "message", "chars": len(text)}
    return mark | {"phase": answer.clean(item["phase"])} if item.get("phase") else mark


def _read_call(item: Mapping[str, Any], answer: Answer) -> dict[str, Any] | None:
    if item.get("status") == "incomplete":
        return None  # half of its arguments: never to be called
    call = answer.call(item.get("call_id"), item.get("name"), item.get("arguments"))
    return {"type": "function_call", "call_id": call.id}


def _read_other(item: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """An item that is not kept, such as a web search; the reasoning that led to it is not sent back either."""
    return {"type": answer.clean(item.get("type")) or "unknown"}


_READERS: Final = {"reasoning": _read_reasoning, "message": _read_message, "function_call": _read_call}


def _worth_keeping(marks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the items say more than the message: reasoning, phases, several texts, or calls before text."""
    kinds = [mark["type"] for mark in marks if mark["type"] in _READERS]
    return (
        "reasoning" in kinds
        or any("phase" in mark for mark in marks)
        or kinds.count("message") > 1
        or "message" in kinds[1:]
    )


def _usage(usage: Any) -> Usage:
    return Usage(
        number(usage, "input_tokens"),
        number(usage, "output_tokens"),
        number(usage, "input_tokens_details", "cached_tokens"),
        number(usage, "output_tokens_details", "reasoning_tokens"),
    )
