"""A model that needs no network: it answers from the conversation, for demos and tests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from recollect import checks
from recollect.history import estimate_tokens
from recollect.message import Message, Usage
from recollect.port import Delta, ModelRequest, Reply, ToolSpec, World


class EchoModel:
    """Answers what was said, and what was said before; with ``reply``, always that.

    A user who writes the name of a tool has it called: what follows the name is its arguments, as JSON or as the text
    of the first parameter (``get_weather Paris``).
    """

    provider = "echo"

    def __init__(self, reply: str | None = None, *, id: str = "echo") -> None:
        self.id = id
        self.reply = reply

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        del world
        message = self._answer(request) if request.purpose == "answer" else self._side_task(request)
        if request.stream and not message.tool_calls:
            for piece in re.findall(r"\S+\s*|\s+", message.text):
                yield Delta(piece)
        asked, said = estimate_tokens(request.messages), estimate_tokens([message])
        yield Reply(message, Usage(asked, said) if message.text or message.tool_calls else Usage())

    def _side_task(self, request: ModelRequest) -> Message:
        """It cannot name anything, so that the fallback is the name; its summary is the start of what it was told."""
        if self.reply is not None or request.purpose == "name":
            return Message("assistant", self.reply or "")
        start = checks.preview(request.messages[-1].text, 200)
        return Message("assistant", checks.encode({"summary": start, "topics": []}).decode())

    def _answer(self, request: ModelRequest) -> Message:
        last = request.messages[-1]
        if self.reply is not None:
            return Message("assistant", self.reply)
        if last.role == "tool":
            return Message("assistant", _report(request.messages))
        call = _wish(last.text, request.tools, len(request.messages))
        if call is not None:
            return Message("assistant", None, tool_calls=[call])
        return Message("assistant", _echo(request.messages))


def _echo(messages: Any) -> str:
    last, *earlier = [message.text for message in reversed(messages) if message.role == "user"] or [""]
    return f"You said: {last}" + (f" (Before that: {checks.preview(earlier[0], 80)})" if earlier else "")


def _report(messages: Any) -> str:
    results = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results.append(f"{message.name}: {message.text}" if message.name else message.text)
    return "; ".join(reversed(results))


def _wish(text: str, tools: Any, number: int) -> dict[str, Any] | None:
    for tool in tools:
        before, found, rest = text.partition(tool.name)
        if found and not before[-1:].isalnum():
            arguments = _fill_in(tool, rest.strip(" :,.?!()\n"))
            return {
                "id": f"call_{number}",
                "type": "function",
                "function": {"name": tool.name, "arguments": arguments},
            }
    return None


def _fill_in(tool: ToolSpec, rest: str) -> str:
    if rest.startswith("{"):
        return rest
    first = next(iter(tool.parameters.get("properties", {})), None)
    return checks.encode({} if first is None or not rest else {first: rest}).decode()
