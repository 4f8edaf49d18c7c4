"""A run in a terminal or notebook, as plain text."""

from __future__ import annotations

from typing import TextIO

from recollect.input import Input
from recollect.run import RunEvent, RunOutputEvent


class Screen:
    """A run as plain text, shown as it happens or all at once."""

    def __init__(self, out: TextIO, input: Input, *, stream: bool) -> None:
        self._out = out
        self._stream = stream
        self._held: list[str] = []
        self._run_id: str | None = None
        if isinstance(input, str):
            self._write(f"> {input}\n")

    def show(self, event: RunOutputEvent) -> None:
        """Write what an event tells; of a team's members their tool calls, for what they say is told to the leader."""
        self._run_id = self._run_id or event.run_id
        is_own = event.run_id == self._run_id
        if event.event is RunEvent.run_content and event.content is not None and is_own:
            self._write(event.content)
        elif event.event is RunEvent.tool_call_completed and event.tool is not None:
            who = "" if is_own else f"{event.agent_name or event.agent_id or event.team_id}: "
            self._write(f"[{who}{event.tool.tool_name}({event.tool.arguments}) -> {event.tool.result}]\n")

    def end(self) -> None:
        self._stream = True
        self._write("\n")

    def _write(self, text: str) -> None:
        self._held.append(text)
        if self._stream:
            self._out.write("".join(self._held))
            self._out.flush()
            self._held.clear()
