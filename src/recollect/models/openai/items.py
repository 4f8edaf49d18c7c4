"""A conversation as the input of the Responses API. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from recollect.message import Message, ToolCall
from recollect.models.openai.answer import BREAK, mappings, number

MAX_CALL_ID: Final = 64


def input_items(messages: Iterable[Message], tag: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """A conversation as input of the Responses API.

    ``tag`` names provider and model whose reasoning may be sent back; None sends none.
    """
    items: list[dict[str, Any]] = []
    ids = CallIds()
    for message in messages:
        if message.role == "assistant":
            items += _assistant_items(message, ids, tag)
        elif message.role == "tool":
            call_id = ids.answer(message.tool_call_id or "")
            items.append({"type": "function_call_output", "call_id": call_id, "output": _content(message.content)})
        elif message.role == "function":  # the form before tool calls, which has no call to belong to
            items.append({"role": "user", "content": f"{message.name}: {message.text}"})
        else:
            items.append({"role": message.role, "content": _content(message.content)})
    return items


class CallIds:
    """Call ids as the Responses API takes them: 1 to 64 characters, each once in a conversation.

    A conversation that began with another provider may have longer ones, or the same ones in each turn.
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._open: dict[str, list[str]] = {}

    def call(self, id: str) -> str:
        sent = id
        if not 1 <= len(id) <= MAX_CALL_ID or id in self._used:
            sent = "call_" + hashlib.sha256(f"{len(self._used)} {id}".encode()).hexdigest()[:24]
        self._used.add(sent)
        self._open.setdefault(id, []).append(sent)
        return sent

    def answer(self, id: str) -> str:
        sent = self._open.get(id)
        return sent.pop(0) if sent else id


def _assistant_items(message: Message, ids: CallIds, tag: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """What an assistant message was made of, in its order: thoughts directly before what they led to.

    Thoughts whose consequence is not there any more are left out: the API refuses them.
    """
    marks = _marks(message, tag)
    texts, calls = _texts(message, marks), list(message.tool_calls)
    items: list[dict[str, Any]] = []
    thoughts: list[dict[str, Any]] = []
    for mark in marks:
        if mark.get("type") == "reasoning":
            thoughts.append(dict(mark))
            continue
        if mark.get("type") == "message" and texts:
            items += [*thoughts, _spoken(texts.pop(0), mark.get("phase"))]
        elif call := next((call for call in calls if call.id == mark.get("call_id")), None):
            calls.remove(call)
            items += [*thoughts, _called(call, ids)]
        thoughts = []
    items += [_spoken(text) for text in texts]
    return items + [_called(call, ids) for call in calls]


def _marks(message: Message, tag: Mapping[str, str] | None) -> list[Mapping[str, Any]]:
    """The items that the message was made of, where it came from this model."""
    data = message.provider_data
    if tag is None or not isinstance(data, Mapping) or any(data.get(key) != tag[key] for key in tag):
        return []
    return mappings(data.get("items"))


def _texts(message: Message, marks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts of the message items; all as one when the message does not have their lengths any more."""
    text = message.text or str(message.to_dict().get("refusal") or "")
    lengths = [number(mark, "chars") for mark in marks if mark.get("type") == "message"]
    if not lengths or sum(lengths) + len(BREAK) * (len(lengths) - 1) != len(text):
        return [text] if text else []
    texts = []
    for length in lengths:
        texts.append(text[:length])
        text = text[length + len(BREAK) :]
    return texts


def _spoken(text: str, phase: object = None) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return item if phase is None else item | {"phase": phase}


def _called(call: ToolCall, ids: CallIds) -> dict[str, Any]:
    """The call; a name that the API would refuse, which a model may have made up, is spelled in its letters."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", call.name)[:64] or "unknown"
    return {"type": "function_call", "call_id": ids.call(call.id), "name": name, "arguments": call.arguments}


def _content(content: Any) -> str | list[Any]:
    if isinstance(content, list):
        return [_part(part) for part in content]
    return content or ""


def _part(part: Any) -> Any:
    """A content part of the Chat Completions form in the form of the Responses API; others as they are."""
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return {"type": "input_text", "text": part.get("text") or ""}
    if kind == "image_url":
        image = part.get("image_url")
        image = image if isinstance(image, Mapping) else {"url": image}
        return {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail") or "auto"}
    if kind == "file":
        file = dict(part.get("file") or {})
        if "file_data" not in file:
            file.pop("filename", None)  # only content has a name; an address or an id brings its own
        return {"type": "input_file", **file}
    return part
