"""The input items of the Responses API: what each may hold, and how they belong together."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from recollect.testing.answer import Refused
from recollect.testing.seal import Seal
from recollect.testing.shape import (
    Rule,
    anything,
    array,
    each,
    fields,
    matching,
    one_of,
    path,
    short,
    text,
    wrong_type,
    wrong_value,
)

_STATUS: Final = one_of("in_progress", "completed", "incomplete")
_CALL_ID: Final = short(1, 64)


class Memory:
    """What a server knows of the items it gave out."""

    def __init__(self) -> None:
        self.stored: set[str] = set()
        """Items of responses that were stored."""
        self.led_by: dict[str, str] = {}
        """The reasoning item that stood before an item."""


def check_input(value: Any, seal: Seal, memory: Memory) -> None:
    """Refuse an input that the API would refuse."""
    if isinstance(value, str):
        short(1, 10 << 20)(value, "input")
        return
    if not isinstance(value, list):
        raise wrong_type("input", "one of a string or array of input items", value)
    each(_item, least=1)(value, "input")
    _check_calls(value)
    _check_reasoning(value, seal, memory)
    for item in value:
        _check_leader(item, value, memory)


def kind_of(item: Mapping[str, Any]) -> str:
    """The type of an item, which messages need not name."""
    return str(item.get("type", "message"))


def _item(item: Any, where: str) -> None:
    if not isinstance(item, dict):
        raise wrong_type(where, "an object", item)
    kind = kind_of(item)
    rule = _ITEMS.get(kind)
    if rule is None:
        raise wrong_value(path(where, "type"), kind, *_ITEMS)
    rule(item, where)


def _message(item: dict[str, Any], where: str) -> None:
    role = item.get("role")
    assistant = role == "assistant"
    further = {"id": _id("msg"), "phase": one_of("commentary", "final_answer")} if assistant else {"id": _id("msg")}
    parts = _SPOKEN if assistant else _HEARD
    fields(
        {"role": one_of("assistant", "system", "developer", "user"), "content": _content(parts)},
        {"type": one_of("message"), "status": _STATUS, **further},
    )(item, where)


def _content(parts: Mapping[str, Rule]) -> Rule:
    def rule(value: Any, where: str) -> None:
        if isinstance(value, str):
            return
        if not isinstance(value, list):
            raise wrong_type(where, "one of an array of objects or string", value)
        for place, part in enumerate(value):
            spot = path(where, place)
            if not isinstance(part, dict):
                raise wrong_type(spot, "an object", part)
            if part.get("type") not in parts:
                raise wrong_value(path(spot, "type"), part.get("type"), *parts)
            parts[part["type"]](part, spot)

    return rule


def _image(part: dict[str, Any], where: str) -> None:
    _IMAGE(part, where)
    url = part.get("image_url")
    if (url is None) == (part.get("file_id") is None):
        problem = "Missing required parameter: one of 'image_url' or 'file_id'."
        raise Refused(problem, where, "missing_required_parameter")
    if url is not None and not re.match(r"https?://[^/\s]|data:image/[\w.+-]+;base64,[A-Za-z0-9+/]", url):
        spot = path(where, "image_url")
        problem = f"Invalid '{spot}'. Expected a valid URL, but got a value with an invalid format."
        raise Refused(problem, spot, "invalid_value")


def _file(part: dict[str, Any], where: str) -> None:
    _FILE(part, where)
    given = [key for key in ("file_id", "file_url", "file_data") if part.get(key) is not None]
    if len(given) != 1:
        problem = "Exactly one of 'file_id', 'file_url' and 'file_data' must be given."
        raise Refused(problem, where, "invalid_request")
    if (given == ["file_data"]) != ("filename" in part):
        problem = f"'{path(where, 'filename')}' goes with 'file_data', and only with it."
        raise Refused(problem, path(where, "filename"), "invalid_request")
    if given == ["file_data"]:
        _data_url(part["file_data"], path(where, "file_data"))


def _data_url(value: str, where: str) -> None:
    found = re.fullmatch(r"data:[\w.+-]+/[\w.+-]+;base64,(.+)", value, re.DOTALL)
    try:
        base64.b64decode(found[1] if found else "?", validate=True)
    except binascii.Error:
        problem = f"Invalid '{where}'. Expected a base64-encoded data URL with a MIME type."
        raise Refused(problem, where, "invalid_value") from None


def _id(prefix: str) -> Rule:
    def rule(value: Any, where: str) -> None:
        text(value, where)
        if not value.startswith(prefix):
            problem = f"Invalid '{where}': '{value}'. Expected an ID that begins with '{prefix}'."
            raise Refused(problem, where, "invalid_value")

    return rule


_TEXT: Final = fields({"type": anything, "text": text}, {"prompt_cache_breakpoint": anything})
_IMAGE: Final = fields(
    {"type": anything},
    {"image_url": text, "file_id": text, "detail": one_of("low", "high", "auto", "original")},
)
_FILE: Final = fields(
    {"type": anything},
    {"file_id": text, "file_url": text, "file_data": text, "filename": text, "detail": one_of("auto", "low", "high")},
)
_HEARD: Final[dict[str, Rule]] = {"input_text": _TEXT, "input_image": _image, "input_file": _file}
_SPOKEN: Final[dict[str, Rule]] = {
    "output_text": fields({"type": anything, "text": text}, {"annotations": array, "logprobs": array}),
    "refusal": fields({"type": anything, "refusal": text}),
}
_SUMMARY: Final = fields({"type": one_of("summary_text"), "text": text})
_ITEMS: Final[dict[str, Rule]] = {
    "message": _message,
    "function_call": fields(
        {"type": anything, "call_id": _CALL_ID, "name": matching("[a-zA-Z0-9_-]+", 128), "arguments": text},
        {"id": _id("fc"), "status": _STATUS},
    ),
    "function_call_output": fields(
        {"type": anything, "call_id": _CALL_ID, "output": _content(_HEARD)}, {"id": _id("fc"), "status": _STATUS}
    ),
    "reasoning": fields(
        {"type": anything, "summary": each(_SUMMARY)},
        {"id": _id("rs"), "encrypted_content": text, "content": array, "status": _STATUS},
    ),
    "item_reference": fields({"type": anything, "id": text}),
}


def _check_calls(items: Sequence[Mapping[str, Any]]) -> None:
    """Each call has one output after it, and each output a call before it."""
    called: set[str] = set()
    answered: set[str] = set()
    for item in items:
        kind, call_id = kind_of(item), str(item.get("call_id"))
        if kind == "function_call":
            if call_id in called:
                raise Refused(f"Duplicate function call with call_id {call_id}.", "input")
            called.add(call_id)
        elif kind == "function_call_output":
            if call_id not in called:
                raise Refused(f"No tool call found for function call output with call_id {call_id}.", "input")
            if call_id in answered:
                raise Refused(f"Duplicate output for function call with call_id {call_id}.", "input")
            answered.add(call_id)
    for item in items:
        if kind_of(item) == "function_call" and item["call_id"] not in answered:
            raise Refused(f"No tool output found for function call {item['call_id']}.", "input")


def _check_reasoning(items: Sequence[Mapping[str, Any]], seal: Seal, memory: Memory) -> None:
    """Reasoning is the server's own, and directly before what it led to; thoughts may follow one another."""
    for place, item in enumerate(items):
        if kind_of(item) == "item_reference" and item["id"] not in memory.stored:
            raise _not_found(item["id"])
        if kind_of(item) != "reasoning":
            continue
        sealed, name = item.get("encrypted_content"), item.get("id")
        if sealed is None:
            if name not in memory.stored:
                raise _not_found(name)
            continue
        content = seal.open(sealed)
        if name is not None and content["id"] != name:
            problem = "Encrypted content item_id did not match the target item id."
            raise Refused(problem, None, "invalid_encrypted_content")
        follower = next((other for other in items[place + 1 :] if kind_of(other) != "reasoning"), None)
        if not _is(follower, content["follower"]):
            problem = f"Item '{content['id']}' of type 'reasoning' was provided without its required following item."
            raise Refused(problem, "input")


def _is(item: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None) -> bool:
    if item is None or wanted is None or kind_of(item) != wanted["type"]:
        return False
    return bool(item.get("role", "assistant") == "assistant" and item.get("call_id") == wanted["call_id"])


def _check_leader(item: Mapping[str, Any], items: Sequence[Mapping[str, Any]], memory: Memory) -> None:
    """An item sent under its id brings the reasoning that led to it."""
    leader = memory.led_by.get(str(item.get("id")))
    if leader is not None and not any(other.get("id") == leader for other in items):
        what = f"Item '{item['id']}' of type '{kind_of(item)}'"
        raise Refused(f"{what} was provided without its required 'reasoning' item: '{leader}'.", "input")


def _not_found(name: object) -> Refused:
    problem = f"Item with id '{name}' not found. Items are not persisted when `store` is set to false."
    return Refused(f"{problem} Try again with `store` set to true, or remove this item from your input.", "input")
