"""What a model said, on its way to an assistant message."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from recollect import checks
from recollect.message import Message, ToolCall

BREAK: Final = "\n\n"
"""What stands between two messages of one answer, and between two paragraphs of thinking."""


class Repair:
    """Makes text of whatever a model sent, and remembers whether something had to be replaced."""

    __slots__ = ("needed",)

    def __init__(self) -> None:
        self.needed = False

    def __call__(self, value: object) -> str:
        if value is None:
            return ""
        text, changed = checks.clean_text(value if isinstance(value, str) else json.dumps(value, default=str))
        self.needed |= changed
        return text


class Answer:
    """What a model said, collected on its way to an assistant message."""

    def __init__(self) -> None:
        self.clean = Repair()
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[ToolCall] = []
        self.finish_reason: str | None = None

    def call(self, id: object, name: object, arguments: object) -> ToolCall:
        """Add a tool call; its id is made up where the server sent none, or the same one twice."""
        wanted = self.clean(id)
        if not wanted or any(call.id == wanted for call in self.calls):
            wanted = f"call_{uuid.uuid4().hex[:24]}"
        call = ToolCall(wanted, self.clean(name), self.clean(arguments) or "{}")
        self.calls.append(call)
        return call

    def message(self, **fields: Any) -> Message:
        text = BREAK.join(filter(None, self.texts))
        fields = {
            "tool_calls": self.calls or None,
            "reasoning_content": BREAK.join(filter(None, self.thoughts)) or None,
            "finish_reason": self.finish_reason,
            "repaired": self.clean.needed or None,
        } | fields
        content = text if text or not self.calls else None
        return Message("assistant", content, **{name: value for name, value in fields.items() if value is not None})


def mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def number(value: Any, *path: str) -> int:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) else 0
