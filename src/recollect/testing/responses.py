"""The Responses API, as far as a conversation needs it.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final

from recollect.testing.answer import TOKEN, Answer, HangUp, Refused, last_text, pieces
from recollect.testing.catalog import Catalog, check_effort, check_parameters, reasoning, unsupported
from recollect.testing.items import Memory, check_input, kind_of
from recollect.testing.seal import Seal
from recollect.testing.shape import (
    Rule,
    anything,
    boolean,
    check_object,
    each,
    fields,
    mapping,
    matching,
    metadata,
    number,
    one_of,
    path,
    strict_schema,
    text,
    whole,
    wrong_type,
    wrong_value,
)

ENCRYPTED: Final = "reasoning.encrypted_content"
SAMPLING: Final = ("temperature", "top_p", "top_logprobs")
BUILT_IN: Final = (
    *("function", "custom", "web_search", "web_search_preview", "file_search", "code_interpreter", "mcp"),
    *("image_generation", "computer_use_preview", "local_shell"),
)

Event = dict[str, Any]


class ResponsesApi:
    """Checks requests, and says answers in this API's form."""

    def __init__(self, catalog: Catalog, key: str) -> None:
        self._catalog = catalog
        self._seal = Seal(key)
        self._memory = Memory()

    def check(self, body: Mapping[str, Any]) -> None:
        """Refuse a request that the API would refuse."""
        self._catalog.check(body.get("model"))
        check_object(body, "", {"model": text, "input": anything}, _PARAMETERS)
        _check_model(body)
        _check_tool_choice(body)
        if body.get("previous_response_id") is not None:
            problem = f"Previous response with id '{body['previous_response_id']}' not found."
            raise Refused(problem, "previous_response_id", "previous_response_not_found")
        check_input(body["input"], self._seal, self._memory)

    def said(self, body: Mapping[str, Any]) -> str:
        """The last text of the user."""
        return last_text(body["input"])

    def limit(self, body: Mapping[str, Any]) -> int | None:
        """How many tokens may be thought and said."""
        limit: int | None = body.get("max_output_tokens")
        return limit

    def whole(self, body: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """The answer as one response."""
        response = _response(body)
        response["output"] = self._output(body, answer)
        return _ended(response, body, answer)

    def events(self, body: Mapping[str, Any], answer: Answer) -> Iterator[bytes]:
        """The answer as server-sent events.

        Raises:
            HangUp: here the connection is to be cut.
        """
        for place, event in enumerate(self._events(body, answer)):
            numbered = {**event, "sequence_number": place}
            yield f"event: {event['type']}\ndata: {json.dumps(numbered)}\n\n".encode()

    def _events(self, body: Mapping[str, Any], answer: Answer) -> Iterator[Event]:
        response = _response(body)
        yield {"type": "response.created", "response": response}
        yield {"type": "response.in_progress", "response": response}
        output = [] if answer.failure else self._output(body, answer)
        for index, item in enumerate(output):
            place = {"output_index": index, "item_id": item.get("id")}
            yield {"type": "response.output_item.added", "output_index": index, "item": _begun(item)}
            for event in _PARTS.get(kind_of(item), _no_parts)(item, answer):
                yield place | event
            yield {"type": "response.output_item.done", "output_index": index, "item": item}
        if answer.broken_after is not None:
            raise HangUp
        final = _ended(response | {"output": output}, body, answer)
        yield {"type": f"response.{final['status']}", "response": final}

    def _output(self, body: Mapping[str, Any], answer: Answer) -> list[dict[str, Any]]:
        thinks = reasoning(body["model"])
        given = _items(answer, thinks=thinks) if answer.output is None else answer.output
        items = [dict(item) for item in given]
        for place, item in enumerate(items):
            item.setdefault("id", f"{_PREFIXES.get(kind_of(item), 'item')}_{uuid.uuid4().hex}")
            if kind_of(item) == "reasoning":
                follower = next((other for other in items[place + 1 :] if kind_of(other) != "reasoning"), None)
                self._seal_item(item, follower, body)
        for leader, item in itertools.pairwise(items):
            if kind_of(leader) == "reasoning":
                self._memory.led_by[item["id"]] = leader["id"]
        if body.get("store") is not False:
            self._memory.stored.update(item["id"] for item in items)
        return items

    def _seal_item(self, item: dict[str, Any], follower: Mapping[str, Any] | None, body: Mapping[str, Any]) -> None:
        if ENCRYPTED not in (body.get("include") or ()):
            return
        wanted = follower and {"type": kind_of(follower), "call_id": follower.get("call_id")}
        item["encrypted_content"] = self._seal.close({"id": item["id"], "follower": wanted})


_PREFIXES: Final = {"reasoning": "rs", "message": "msg", "function_call": "fc", "web_search_call": "ws"}


def _items(answer: Answer, *, thinks: bool) -> Iterator[dict[str, Any]]:
    """Thought, text, calls: the order in which models mostly say them."""
    status = "incomplete" if answer.incomplete else "completed"
    if thinks and (answer.reasoning is not None or answer.thinking):
        summary = [{"type": "summary_text", "text": answer.reasoning}] if answer.reasoning else []
        yield {"type": "reasoning", "summary": summary}
    if answer.refusal is not None:
        part = {"type": "refusal", "refusal": answer.refusal}
        yield {"type": "message", "role": "assistant", "status": status, "content": [part]}
    elif answer.text or not (answer.tool_calls or answer.incomplete):
        said = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        yield {"type": "message", "role": "assistant", "status": status, "content": [said]}
    for name, arguments in answer.tool_calls:
        spelled = arguments if isinstance(arguments, str) else json.dumps(arguments)
        call_id = f"call_{uuid.uuid4().hex[:24]}"
        yield {"type": "function_call", "call_id": call_id, "name": name, "arguments": spelled, "status": status}


def _begun(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item as it is announced: what is told in pieces is not there yet."""
    empty: dict[str, Any] = {
        "message": {"content": []},
        "function_call": {"arguments": ""},
        "reasoning": {"summary": []},
    }
    return {**item, "status": "in_progress", **empty.get(kind_of(item), {})}


def _no_parts(item: Mapping[str, Any], answer: Answer) -> Iterator[Event]:
    del item, answer
    yield from ()


def _message_parts(item: Mapping[str, Any], answer: Answer) -> Iterator[Event]:
    for place, part in enumerate(item.get("content", ())):
        kind = "refusal" if part.get("type") == "refusal" else "text"
        event = "response.refusal" if kind == "refusal" else "response.output_text"
        at = {"content_index": place, "logprobs": []}
        yield at | {"type": "response.content_part.added", "part": {**part, kind: ""}}
        for piece in pieces(part[kind], answer.broken_after):
            yield at | {"type": f"{event}.delta", "delta": piece}
        yield at | {"type": f"{event}.done", kind: part[kind]}
        yield at | {"type": "response.content_part.done", "part": part}


def _call_parts(item: Mapping[str, Any], answer: Answer) -> Iterator[Event]:
    del answer
    for start in range(0, len(item["arguments"]), 8):
        yield {"type": "response.function_call_arguments.delta", "delta": item["arguments"][start : start + 8]}
    yield {"type": "response.function_call_arguments.done", "arguments": item["arguments"], "name": item.get("name")}


def _thought_parts(item: Mapping[str, Any], answer: Answer) -> Iterator[Event]:
    del answer
    event = "response.reasoning_summary"
    for place, part in enumerate(item.get("summary", ())):
        at = {"summary_index": place}
        yield at | {"type": f"{event}_part.added", "part": {**part, "text": ""}}
        for piece in pieces(part["text"]):
            yield at | {"type": f"{event}_text.delta", "delta": piece}
        yield at | {"type": f"{event}_text.done", "text": part["text"]}
        yield at | {"type": f"{event}_part.done", "part": part}


_PARTS: Final = {"message": _message_parts, "function_call": _call_parts, "reasoning": _thought_parts}


def _response(body: Mapping[str, Any]) -> dict[str, Any]:
    """The response as it begins, with what was asked for."""
    echoed = ("instructions", "max_output_tokens", "temperature", "top_p", "reasoning", "text", "truncation", "user")
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "store": body.get("store", True),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "metadata": body.get("metadata") or {},
        "usage": None,
        **{name: body.get(name) for name in echoed},
    }


def _ended(response: dict[str, Any], body: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    if answer.failure is not None:
        error = {"code": answer.failure_code, "message": answer.failure}
        return response | {"status": "failed", "error": error, "output": []}
    usage = _usage(body, response["output"], answer)
    if answer.incomplete is not None:
        return response | {"status": "incomplete", "incomplete_details": {"reason": answer.incomplete}, "usage": usage}
    return response | {"status": "completed", "usage": usage}


def _usage(body: Mapping[str, Any], output: list[dict[str, Any]], answer: Answer) -> dict[str, Any]:
    """About four characters a token, unless the script says otherwise."""
    asked, said = len(json.dumps(body["input"])) // TOKEN + 1, len(json.dumps(output)) // TOKEN + 1
    thought = answer.thinking or len(answer.reasoning or "") // TOKEN
    usage: dict[str, Any] = {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": said + (answer.thinking or 0),
        "output_tokens_details": {"reasoning_tokens": thought},
    }
    usage |= answer.usage or {}
    return usage | {"total_tokens": usage["input_tokens"] + usage["output_tokens"]}


def _check_model(body: Mapping[str, Any]) -> None:
    effort = (body.get("reasoning") or {}).get("effort")
    thinking = {"reasoning"} if effort != "none" else set()
    check_parameters(body, effort, SAMPLING, thinking)
    check_effort(body["model"], effort, "reasoning.effort")
    if ENCRYPTED in (body.get("include") or ()) and not reasoning(body["model"]):
        raise Refused("Encrypted content is not supported with this model.", "include")
    if (body.get("text") or {}).get("verbosity") not in {None, "medium"} and not reasoning(body["model"]):
        raise unsupported("text.verbosity")


def _check_tool_choice(body: Mapping[str, Any]) -> None:
    choice, tools = body.get("tool_choice"), body.get("tools") or []
    if choice == "required" and not tools:
        raise Refused("Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice")
    if not isinstance(choice, dict) or choice.get("type") != "function":
        return
    if choice.get("name") not in [tool.get("name") for tool in tools]:
        raise Refused("Tool choice 'function' not found in 'tools' parameter.", "tool_choice")


def _tool(tool: Any, where: str) -> None:
    if not isinstance(tool, dict):
        raise wrong_type(where, "an object", tool)
    if tool.get("type") not in BUILT_IN:
        raise wrong_value(path(where, "type"), tool.get("type"), *BUILT_IN)
    if tool["type"] != "function":
        return
    _FUNCTION(tool, where)
    if tool.get("strict"):
        problem = f"Invalid schema for function '{tool['name']}'"
        strict_schema(tool["parameters"], problem, path(where, "parameters"), "invalid_function_parameters")


def _format(form: Any, where: str) -> None:
    mapping(form, where)
    if form.get("type") != "json_schema":
        fields({"type": one_of("text", "json_object", "json_schema")})(form, where)
        return
    _SCHEMA(form, where)
    problem = f"Invalid schema for response_format '{form['name']}'"
    if form.get("strict"):
        strict_schema(form["schema"], problem, path(where, "schema"), "invalid_json_schema")
    elif form["schema"].get("type") != "object":
        said = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {form['schema'].get('type')!r}'."
        raise Refused(f"{problem}: {said}", path(where, "schema"), "invalid_json_schema")


def _choice(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        one_of("none", "auto", "required")(value, where)


_FUNCTION: Final = fields(
    {"type": anything, "name": matching("[a-zA-Z0-9_-]+"), "parameters": mapping},
    {"description": text, "strict": boolean},
)
_SCHEMA: Final = fields(
    {"type": anything, "name": matching("[a-zA-Z0-9_-]+"), "schema": mapping},
    {"description": text, "strict": boolean},
)
_INCLUDE: Final = one_of(
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    ENCRYPTED,
)
_REASONING: Final = fields(
    {},
    {
        "effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        "summary": one_of("auto", "concise", "detailed"),
        "generate_summary": one_of("auto", "concise", "detailed"),
        "context": one_of("auto", "current_turn", "all_turns"),
        "mode": text,
    },
)
_PARAMETERS: Final[dict[str, Rule]] = {
    "background": boolean,
    "context_management": anything,
    "conversation": anything,
    "include": each(_INCLUDE),
    "instructions": text,
    "max_output_tokens": whole(16),
    "max_tool_calls": whole(1),
    "metadata": metadata,
    "moderation": anything,
    "parallel_tool_calls": boolean,
    "previous_response_id": text,
    "prompt": mapping,
    "prompt_cache_key": text,
    "prompt_cache_options": mapping,
    "prompt_cache_retention": one_of("in_memory", "24h"),
    "reasoning": _REASONING,
    "safety_identifier": text,
    "service_tier": one_of("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"),
    "store": boolean,
    "stream": boolean,
    "stream_options": mapping,
    "temperature": number(0, 2),
    "text": fields({}, {"format": _format, "verbosity": one_of("low", "medium", "high")}),
    "tool_choice": _choice,
    "tools": each(_tool),
    "top_logprobs": whole(0, 20),
    "top_p": number(0, 1),
    "truncation": one_of("auto", "disabled"),
    "user": text,
}
