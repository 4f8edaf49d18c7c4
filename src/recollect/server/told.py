"""The events of a run as AgentOS's clients read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from recollect.run import RunEvent, RunOutput, RunOutputEvent
from recollect.server.stream import framed
from recollect.server.wire import answer_of, extra_of, images_of, seconds, tool_shape

_NAMES: Final = {
    RunEvent.run_started: "RunStarted",
    RunEvent.run_content: "RunContent",
    RunEvent.reasoning_content: "ReasoningContentDelta",
    RunEvent.tool_call_started: "ToolCallStarted",
    RunEvent.tool_call_completed: "ToolCallCompleted",
    RunEvent.run_completed: "RunCompleted",
    RunEvent.run_cancelled: "RunCompleted",  # with what was said until then: clients know no other end of an answer
    RunEvent.run_error: "RunError",
}


class Teller:
    """Tells one run: the events of the run that comes first, and of members' runs where they are wanted."""

    def __init__(self, *, members: bool, clock: Callable[[], float] = time.time) -> None:
        self._members = members
        self._clock = clock
        self._own: str | None = None
        self._called: dict[tuple[str, str], float] = {}

    def tell(self, event: RunOutputEvent) -> list[bytes]:
        """What is sent for an event: nothing, itself, or before it that the run has begun."""
        began = [] if self._own is not None else [RunEvent.run_started]
        self._own = self._own or event.run_id
        if event.run_id != self._own and not self._members:
            return []
        kinds = [*began, event.event] if event.event not in began else [event.event]
        return [self._framed(kind, event) for kind in kinds if kind in _NAMES]

    def _framed(self, kind: RunEvent, event: RunOutputEvent) -> bytes:
        name = ("Team" if event.team_id is not None else "") + _NAMES[kind]
        told: dict[str, Any] = {
            "event": name,
            "session_id": event.session_id,
            "run_id": event.run_id,
            "created_at": int(self._clock()),
        }
        if event.team_id is not None:
            told |= {"team_id": event.team_id, "team_name": event.agent_name or event.team_id}
        else:
            told |= {"agent_id": event.agent_id, "agent_name": event.agent_name or event.agent_id}
        if event.parent_run_id is not None:
            told["parent_run_id"] = event.parent_run_id
        return framed(name, told | self._particular(kind, event))

    def _particular(self, kind: RunEvent, event: RunOutputEvent) -> dict[str, Any]:
        """What only an event of this kind says."""
        if kind is RunEvent.run_content:
            return {"content": event.content or "", "content_type": "str"}
        if kind is RunEvent.reasoning_content:
            return {"reasoning_content": event.reasoning_content or ""}
        if kind is RunEvent.run_error:
            return {"content": event.error or "the run failed"}
        if kind in (RunEvent.run_completed, RunEvent.run_cancelled) and event.run is not None:
            return _ended(event.run)
        return self._tool(kind, event)

    def _tool(self, kind: RunEvent, event: RunOutputEvent) -> dict[str, Any]:
        if event.tool is None:
            return {}
        now, key = self._clock(), (event.run_id, event.tool.tool_call_id)
        if kind is RunEvent.tool_call_started:
            self._called[key] = now
        began = self._called.get(key, now)
        took = None if kind is RunEvent.tool_call_started else round(now - began, 6)
        return {"tool": tool_shape(event.tool, int(began), took).model_dump()}


def content_of(run: RunOutput) -> tuple[Any, str]:
    """The answer, and of which type it is: text, or what was read from it as JSON."""
    if run.parsed is None:
        return answer_of(run), "str"
    return _plain(run.parsed), type(run.parsed).__name__


def _ended(run: RunOutput) -> dict[str, Any]:
    content, kind = content_of(run)
    tools = [tool_shape(tool, seconds(run.created_at)) for tool in run.tools]
    return {
        "content": content,
        "content_type": kind,
        "status": str(run.status).upper(),
        "reasoning_content": run.reasoning_content,
        "tools": [tool.model_dump(exclude={"metrics"}) for tool in tools],
        "extra_data": extra_of(run),
        "images": images_of(run),
        "metrics": msgspec.to_builtins(run.metrics),
    }


def _plain(parsed: Any) -> Any:
    """An answer that was read as an object, as JSON: text, or an object."""
    dump = getattr(parsed, "model_dump", None)
    value = msgspec.to_builtins(parsed) if dump is None else dump(mode="json")
    return value if isinstance(value, str | dict) else {"value": value}
