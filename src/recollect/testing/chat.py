"""Chat Completions, as far as a conversation needs them.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from recollect.testing.answer import TOKEN, Answer, HangUp, Refused, last_text, pieces
from recollect.testing.catalog import Catalog, check_effort, check_parameters
from recollect.testing.shape import (
    Rule,
    anything,
    array,
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

SAMPLING: Final = (
    *("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"),
    "max_tokens",
)


class ChatApi:
    """Checks requests, and says answers in this API's form."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def check(self, body: Mapping[str, Any]) -> None:
        """Refuse a request that the API would refuse."""
        self._catalog.check(body.get("model"))
        check_object(body, "", {"model": text, "messages": each(_message, least=1)}, _PARAMETERS)
        effort = body.get("reasoning_effort")
        check_parameters(body, effort, SAMPLING, set() if effort == "none" else {"reasoning_effort"})
        check_effort(body["model"], effort, "reasoning_effort")
        _check_limits(body)
        _check_tools(body)
        _check_calls(body["messages"])

    def said(self, body: Mapping[str, Any]) -> str:
        """The last text of the user."""
        return last_text(body["messages"])

    def limit(self, body: Mapping[str, Any]) -> int | None:
        """How many tokens may be thought and said."""
        limit: int | None = body.get("max_completion_tokens") or body.get("max_tokens")
        return limit

    def whole(self, body: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """The answer as one completion; one that fails after it began has no choices but an error."""
        completion = _completion(body, "chat.completion")
        if answer.failure is not None:
            return completion | {"choices": [], "error": _error(answer)}
        message = _whole(answer) if answer.output is None else answer.output[0]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
        return completion | {"choices": [choice], "usage": _usage(body, answer)}

    def events(self, body: Mapping[str, Any], answer: Answer) -> Iterator[bytes]:
        """The answer as server-sent events.

        Raises:
            HangUp: here the connection is to be cut.
        """
        completion = _completion(body, "chat.completion.chunk")
        for delta in _deltas(answer) if answer.output is None else answer.output:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
            yield _event(completion | {"choices": [choice]})
        if answer.failure is not None:
            yield _event({"error": _error(answer)})
            return
        if answer.broken_after is not None:
            raise HangUp
        yield _event(completion | {"choices": [{"index": 0, "delta": {}, "finish_reason": _finish(answer)}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            yield _event(completion | {"choices": [], "usage": _usage(body, answer)})
        yield b"data: [DONE]\n\n"


def _whole(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": answer.refusal}
    if answer.reasoning is not None:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = list(_calls(answer))
    return message


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "", "refusal": None}
    for piece in pieces(answer.reasoning or ""):
        yield {"reasoning_content": piece}
    for piece in pieces(answer.text, answer.broken_after):
        yield {"content": piece}
    for piece in pieces(answer.refusal or ""):
        yield {"refusal": piece}
    for index, call in enumerate(_calls(answer)):
        arguments = call["function"]["arguments"]
        first = {**call, "function": {**call["function"], "arguments": ""}}
        yield {"tool_calls": [{"index": index, **first}]}
        for start in range(0, len(arguments), 8):
            yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + 8]}}]}


def _calls(answer: Answer) -> Iterator[dict[str, Any]]:
    for name, arguments in answer.tool_calls:
        spelled = arguments if isinstance(arguments, str) else json.dumps(arguments)
        function = {"name": name, "arguments": spelled}
        yield {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _completion(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": body["model"]}


def _event(chunk: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _error(answer: Answer) -> dict[str, Any]:
    code = answer.failure_code
    return {"message": answer.failure, "type": code, "param": None, "code": code}


def _finish(answer: Answer) -> str:
    if answer.incomplete is not None:
        return {"max_output_tokens": "length"}.get(answer.incomplete, answer.incomplete)
    return "tool_calls" if answer.tool_calls else "stop"


def _usage(body: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """About four characters a token, unless the script says otherwise."""
    thought = answer.thinking or len(answer.reasoning or "") // TOKEN
    asked, said = len(json.dumps(body["messages"])) // TOKEN + 1, len(answer.text) // TOKEN + 1
    usage: dict[str, Any] = {
        "prompt_tokens": asked,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens": said + (answer.thinking or 0),
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    usage |= answer.usage or {}
    return usage | {"total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}


def _check_limits(body: Mapping[str, Any]) -> None:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        problem = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise Refused(problem, "max_tokens", "invalid_parameter_combination")


def _check_tools(body: Mapping[str, Any]) -> None:
    for name in ("tool_choice", "parallel_tool_calls"):
        if body.get(name) is not None and not body.get("tools"):
            raise Refused(f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.", name)


def _check_calls(messages: Sequence[Mapping[str, Any]]) -> None:
    """Each assistant message with calls is followed by their answers, and answers stand nowhere else."""
    open_calls: list[str] = []
    for place, message in enumerate(messages):
        if message["role"] != "tool":
            _refuse_open(open_calls)
            open_calls = [call["id"] for call in message.get("tool_calls") or ()]
        elif message["tool_call_id"] in open_calls:
            open_calls.remove(message["tool_call_id"])
        else:
            problem = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            raise Refused(f"Invalid parameter: {problem}", f"messages.[{place}].role")
    _refuse_open(open_calls)


def _refuse_open(open_calls: Sequence[str]) -> None:
    if open_calls:
        problem = "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
        missing = f"The following tool_call_ids did not have response messages: {', '.join(open_calls)}"
        raise Refused(f"{problem} 'tool_call_id'. {missing}", "messages")


def _message(message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise wrong_type(where, "an object", message)
    role = str(message.get("role"))
    if role not in _ROLES:
        raise wrong_value(path(where, "role"), role, *_ROLES)
    _ROLES[role](message, where)
    if role == "assistant" and message.get("content") is None and not message.get("tool_calls"):
        _content(_TEXTS)(None, path(where, "content"))


def _content(parts: Mapping[str, Rule]) -> Rule:
    def rule(value: Any, where: str) -> None:
        if isinstance(value, str):
            return
        if not isinstance(value, list):
            got = "null" if value is None else "another type"
            raise Refused(f"Invalid value for 'content': expected a string, got {got}.", where)
        for place, part in enumerate(value):
            spot = path(where, place)
            kind = str(part.get("type") if isinstance(part, dict) else part)
            if kind not in parts:
                raise wrong_value(path(spot, "type"), kind, *parts)
            parts[kind](part, spot)

    return rule


def _tool(tool: Any, where: str) -> None:
    fields({"type": one_of("function", "custom"), "function": _FUNCTION})(tool, where)
    function = tool["function"]
    if function.get("strict"):
        problem = f"Invalid schema for function '{function['name']}'"
        code = "invalid_function_parameters"
        strict_schema(function.get("parameters"), problem, f"{where}.function.parameters", code)


def _format(form: Any, where: str) -> None:
    kinds = one_of("text", "json_object", "json_schema")
    fields({"type": kinds}, {"json_schema": _SCHEMA})(form, where)
    schema = form.get("json_schema") or {}
    if schema.get("strict"):
        problem = f"Invalid schema for response_format '{schema['name']}'"
        strict_schema(schema["schema"], problem, where, "invalid_json_schema")


def _choice(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        one_of("none", "auto", "required")(value, where)


def _stop(value: Any, where: str) -> None:
    if not isinstance(value, str):
        each(text)(value, where)


_TEXT: Final = fields({"type": anything, "text": text})
_URL: Final = fields({"url": text}, {"detail": one_of("low", "high", "auto", "original")})
_FILE: Final = fields({}, {"file_id": text, "file_data": text, "filename": text})
_TEXTS: Final[dict[str, Rule]] = {"text": _TEXT}
_HEARD: Final[dict[str, Rule]] = {
    "text": _TEXT,
    "image_url": fields({"type": anything, "image_url": _URL}),
    "file": fields({"type": anything, "file": _FILE}),
    "input_audio": fields({"type": anything, "input_audio": mapping}),
}
_SPOKEN: Final[dict[str, Rule]] = {"text": _TEXT, "refusal": fields({"type": anything, "refusal": text})}
_CALLED: Final = fields({"name": text, "arguments": text})
_CALL: Final = fields({"id": text, "type": one_of("function", "custom"), "function": _CALLED})
_FUNCTION: Final = fields(
    {"name": matching("[a-zA-Z0-9_-]+")}, {"description": text, "parameters": mapping, "strict": boolean}
)
_SCHEMA: Final = fields(
    {"name": matching("[a-zA-Z0-9_-]+"), "schema": mapping}, {"description": text, "strict": boolean}
)
_PROMPT: Final = fields({"role": anything, "content": _content(_TEXTS)}, {"name": text})
_ROLES: Final[dict[str, Rule]] = {
    "system": _PROMPT,
    "developer": _PROMPT,
    "user": fields({"role": anything, "content": _content(_HEARD)}, {"name": text}),
    "assistant": fields(
        {"role": anything},
        {
            "content": _content(_SPOKEN),
            "name": text,
            "tool_calls": each(_CALL, least=1),
            "refusal": text,
            "audio": mapping,
            "function_call": mapping,
        },
    ),
    "tool": fields({"role": anything, "content": _content(_TEXTS), "tool_call_id": text}, {"name": text}),
    "function": fields({"role": anything, "content": _content(_TEXTS), "name": text}),
}
_PARAMETERS: Final[dict[str, Rule]] = {
    "audio": mapping,
    "frequency_penalty": number(-2, 2),
    "logit_bias": mapping,
    "logprobs": boolean,
    "max_completion_tokens": whole(1),
    "max_tokens": whole(1),
    "metadata": metadata,
    "modalities": array,
    "n": whole(1, 128),
    "parallel_tool_calls": boolean,
    "prediction": mapping,
    "presence_penalty": number(-2, 2),
    "prompt_cache_key": text,
    "prompt_cache_retention": one_of("in_memory", "24h"),
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "response_format": _format,
    "safety_identifier": text,
    "seed": whole(-(1 << 63), 1 << 63),
    "service_tier": one_of("auto", "default", "flex", "scale", "priority", "fast"),
    "stop": _stop,
    "store": boolean,
    "stream": boolean,
    "stream_options": mapping,
    "temperature": number(0, 2),
    "tool_choice": _choice,
    "tools": each(_tool, least=1),
    "top_logprobs": whole(0, 20),
    "top_p": number(0, 1),
    "user": text,
    "verbosity": one_of("low", "medium", "high"),
    "web_search_options": mapping,
}
