"""A message of Agno's as one of ours, and what of it has no place there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.agno.media import parts
from recollect.agno.rest import NOTHING, something
from recollect.errors import InvalidArgument
from recollect.message import Message

_ROLES: Final = {"model": "assistant"}
"""What some of Agno's adapters call the assistant."""

_PLACED: Final = {
    "id",
    "role",
    "content",
    "name",
    "tool_name",
    "tool_call_id",
    "tool_calls",
    "tool_call_error",
    "reasoning_content",
    "from_history",
}


def message_of(data: Any, calls: dict[str, Any]) -> tuple[Message, dict[str, Any]]:
    """The message, and the rest of it.

    ``calls`` holds the arguments of the calls so far, by their ids; results repeat them.

    Raises:
        InvalidArgument: it is none, or cannot be stored.
    """
    if not isinstance(data, dict):
        raise InvalidArgument("message", f"must be an object, not {type(data).__name__}")
    role = data.get("role") or ""
    rest = {key: value for key, value in something(data).items() if key not in _PLACED}
    if not isinstance(role, str):
        raise InvalidArgument("message.role", f"must be text, not {type(role).__name__}")
    if role in _ROLES:
        rest["role"] = role
    body: dict[str, Any] = {"role": _ROLES.get(role, role)} | _content(data, role, rest) | _keys(data, role, rest)
    for call in body.get("tool_calls", ()):
        calls[call["id"]] = _decoded(call["function"]["arguments"])
    if "tool_args" in rest and rest["tool_args"] == calls.get(str(data.get("tool_call_id"))):
        del rest["tool_args"]
    return _identified(Message.from_dict(body), data.get("id"), rest), rest


def _content(data: Mapping[str, Any], role: Any, rest: dict[str, Any]) -> dict[str, Any]:
    """Text, or parts where there are media; only a user's message has those."""
    content = data.get("content")
    if content is not None and not isinstance(content, str) and not _are_parts(content):
        content = checks.encode(content).decode()
    if role != "user":
        return {"content": content}
    media, none = parts(data)
    for key in ("images", "audio", "files"):
        rest.pop(key, None)
    rest |= none
    if not media:
        return {"content": content}
    said = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
    return {"content": [*said, *media]}


def _are_parts(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("type"), str) for part in content
    )


def _keys(data: Mapping[str, Any], role: Any, rest: dict[str, Any]) -> dict[str, Any]:
    """The keys beside role and content."""
    name = data.get("name") or (data.get("tool_name") if role == "tool" else None)
    told = {
        "name": name if isinstance(name, str) else None,
        "tool_call_id": data.get("tool_call_id"),
        "tool_calls": _calls(data.get("tool_calls"), rest),
        "tool_call_error": data.get("tool_call_error") is True,
        "reasoning_content": data.get("reasoning_content"),
    }
    return something(told)


def _calls(value: Any, rest: dict[str, Any]) -> list[dict[str, Any]]:
    """Calls in the Chat Completions form; what is none, or more than that, is part of the rest."""
    if not isinstance(value, list):
        return []
    made: list[dict[str, Any]] = []
    for call in value:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            rest.setdefault("tool_calls", []).append(call)
            continue
        made.append(_call(call, function))
        more = {key: value for key, value in call.items() if key not in ("id", "type", "function")}
        if more := something(more):
            rest.setdefault("calls", {})[made[-1]["id"]] = more
    return made


def _call(call: Mapping[str, Any], function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = "{}" if arguments is None else checks.encode(arguments).decode()
    known = {"name": function["name"], "arguments": arguments}
    return {"id": str(call.get("id") or call.get("call_id") or ""), "type": "function", "function": known}


def _decoded(arguments: str) -> Any:
    try:
        return checks.decode(arguments or "{}")
    except (msgspec.MsgspecError, RecursionError):
        return arguments


def _identified(message: Message, id: Any, rest: dict[str, Any]) -> Message:
    """The message under its own id; the first releases stored none."""
    try:
        return message if id in NOTHING else message.with_id(checks.identifier("id", id))
    except InvalidArgument:
        rest["id"] = id
        return message
