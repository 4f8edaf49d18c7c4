"""Messages as LangChain and LangGraph share them, made of those of chat completions."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage


def message_of(message: dict[str, Any]) -> Any:
    """A message with its tool calls."""
    content = message.get("content") or ""
    if message["role"] == "user":
        return HumanMessage(content)
    if message["role"] == "tool":
        return ToolMessage(content, tool_call_id=message["tool_call_id"], name=message.get("name"))
    return AIMessage(content, tool_calls=[_call(call) for call in message.get("tool_calls") or ()])


def _call(call: dict[str, Any]) -> Any:
    arguments = call["function"]["arguments"]
    args = json.loads(arguments) if isinstance(arguments, str) else arguments
    return {"id": call["id"], "name": call["function"]["name"], "args": args}
