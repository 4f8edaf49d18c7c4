"""What one turn leaves: the run with its messages, and the events that tell of it while it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from html import escape
from typing import Any, Self

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.message import PROMPT_ROLES, Message, Usage


class RunStatus(StrEnum):
    """Where a run stands."""

    pending = "pending"
    running = "running"
    completed = "completed"
    paused = "paused"
    cancelled = "cancelled"
    error = "error"
    regenerated = "regenerated"
    """Replaced by a later run; kept, but no longer part of the conversation."""
    interrupted = "interrupted"
    """Its process is gone; what was committed until then is there."""


UNFINISHED = frozenset({str(RunStatus.cancelled), str(RunStatus.error)})
"""Finish reasons of an answer that was broken off; what was said until then is all there is of it."""

FINISHED = frozenset({RunStatus.completed, RunStatus.cancelled, RunStatus.error, RunStatus.regenerated})
HISTORY_SKIP_STATUSES = (
    RunStatus.paused,
    RunStatus.cancelled,
    RunStatus.error,
    RunStatus.regenerated,
    RunStatus.interrupted,
)


class RunMetrics(Usage, frozen=True, omit_defaults=True):
    """What a run took: tokens, seconds, model calls, and how much of the past the model was shown."""

    duration: float = 0.0
    """Seconds from the first to the last commit."""
    time_to_first_token: float | None = None
    """Seconds until the model said something; None where it said nothing."""
    steps: int = 0
    """Model calls."""
    history_runs: int = 0
    """Earlier runs that the model was shown."""
    history_cut: bool = False
    """Whether earlier runs were left out for lack of room."""
    history_tokens: int = 0
    """Tokens of the past that the model was shown."""
    history_counted: bool = False
    """Whether these were counted by tiktoken; else they are an estimate."""


class ToolExecution(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a tool and what came of it."""

    tool_call_id: str
    tool_name: str
    arguments: str = "{}"
    """JSON text, as the model wrote it."""
    result: str | None = None
    """None while the answer is not known."""
    tool_call_error: bool = False

    @property
    def tool_args(self) -> dict[str, Any]:
        """The arguments, made afresh for each reader; empty where the model's text is not a JSON object."""
        try:
            arguments = checks.decode(self.arguments)
        except (msgspec.MsgspecError, RecursionError):
            return {}
        return arguments if isinstance(arguments, dict) else {}


class RunOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation: what was asked, what was done, what was answered.

    A frozen value. ``messages`` holds the system message (if the run had one), the input, then what followed; messages
    of earlier runs are not repeated.
    """

    run_id: str
    session_id: str
    status: RunStatus = RunStatus.completed
    user_id: str | None = None
    agent_id: str | None = None
    agent_name: str | None = None
    team_id: str | None = None
    parent_run_id: str | None = None
    replaces: str | None = None
    """The run that stood first in the place that this one has, or was to have when it is completed."""
    model: str | None = None
    messages: tuple[Message, ...] = ()
    metrics: RunMetrics = RunMetrics()
    error: str | None = None
    """Why the run has no answer, for status ``error``."""
    attempt: int = 1
    run_seq: int | None = None
    """The run's place in its session, counted from 1; None for a run that is not stored."""
    created_at: datetime | None = None
    finished_at: datetime | None = None
    input_count: int | None = None
    """How many messages after the system message were the input; None: those before the first answer."""
    metadata_json: str | None = None
    state_json: str | None = None
    parsed: Any = None
    """The answer as an object of the agent's ``output_schema``; not stored, the text is."""

    def __post_init__(self) -> None:
        given: Sequence[Message] = self.messages
        if not isinstance(given, tuple):
            msgspec.structs.force_setattr(self, "messages", tuple(given))

    @property
    def content(self) -> Any:
        """The answer: text, or an object of the agent's ``output_schema``; None while there is none."""
        if self.parsed is not None:
            return self.parsed
        answer = next((message for message in reversed(self.messages) if message.role == "assistant"), None)
        return answer.text if answer is not None and (answer.text or not answer.tool_calls) else None

    @property
    def reasoning_content(self) -> str | None:
        """What the model thought before it answered, where the provider tells."""
        thoughts = [message.reasoning_content for message in self.messages if message.role == "assistant"]
        return next((thought for thought in reversed(thoughts) if thought), None)

    @property
    def prompt(self) -> Message | None:
        """The system message."""
        first = self.messages[0] if self.messages else None
        return first if first is not None and first.role in PROMPT_ROLES else None

    @property
    def said(self) -> tuple[Message, ...]:
        """The messages after the system message."""
        return self.messages if self.prompt is None else self.messages[1:]

    @property
    def input(self) -> str | tuple[Message, ...]:
        """What was asked: text, or the messages where they were more than one text."""
        asked = input_messages(self.said, self.input_count)
        if len(asked) == 1 and asked[0].role == "user" and isinstance(content := asked[0].content, str):
            return content
        return asked

    @property
    def tools(self) -> tuple[ToolExecution, ...]:
        """Every tool call of the run with its result, in the order the model asked."""
        results = {message.tool_call_id: message for message in self.messages if message.role == "tool"}
        return tuple(
            execution(call.id, call.name, call.arguments, results.get(call.id))
            for message in self.messages
            for call in message.tool_calls
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """What the caller attached to the run; made afresh for each reader."""
        return checks.decode(self.metadata_json) if self.metadata_json else {}

    @property
    def session_state(self) -> dict[str, Any] | None:
        """The session's state as the run left it, made afresh for each reader; None where the run did not use it."""
        return checks.decode(self.state_json) if self.state_json else None

    def to_dict(self) -> dict[str, Any]:
        """The run as JSON values; `from_dict` reads it back."""
        fields = {name: getattr(self, name) for name in _PLAIN if getattr(self, name) is not None}
        return fields | {
            "status": str(self.status),
            "content": self.content if isinstance(self.content, str) else None,
            "messages": [message.to_dict() for message in self.messages],
            "metrics": msgspec.to_builtins(self.metrics),
            "metadata": self.metadata,
            "session_state": self.session_state,
            "created_at": self.created_at.isoformat() if self.created_at else None,
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The run that `to_dict` described.

        Raises:
            InvalidArgument: a field has the wrong type.
        """
        given = {name: data[name] for name in _PLAIN if data.get(name) is not None}
        messages = [Message.from_dict(message) for message in data.get("messages") or ()]
        made = {
            "messages": messages,
            "metadata_json": checks.json_text("metadata", data["metadata"]) if data.get("metadata") else None,
            "state_json": checks.json_text("session_state", data["session_state"])
            if data.get("session_state") is not None
            else None,
        }
        times = {name: data[name] for name in ("created_at", "finished_at") if data.get(name) is not None}
        rest = {"status": data.get("status", "completed"), "metrics": data.get("metrics") or {}}
        try:
            run: Self = msgspec.convert(given | rest | times, cls)
        except msgspec.ValidationError as error:
            raise InvalidArgument("run", str(error).replace("`", "")) from error
        return msgspec.structs.replace(run, **made)

    def __repr__(self) -> str:
        answer = self.content
        shown = checks.preview(answer, 60) if isinstance(answer, str) else answer
        return f"{type(self).__name__}({self.run_id}: {self.status}, {len(self.messages)} messages, {shown!r})"

    def _repr_html_(self) -> str:
        return transcript_html(self.messages)


_PLAIN = (
    "run_id",
    "session_id",
    "user_id",
    "agent_id",
    "agent_name",
    "team_id",
    "parent_run_id",
    "replaces",
    "model",
    "error",
    "attempt",
    "run_seq",
    "input_count",
)


class TeamRunOutput(RunOutput, frozen=True, kw_only=True):
    """One turn of a team: its leader's run; the runs of its members name it as their parent."""

    @property
    def team_name(self) -> str | None:
        return self.agent_name


class RunEvent(StrEnum):
    """What happened."""

    run_started = "RunStarted"
    run_content = "RunContent"
    reasoning_content = "ReasoningContentDelta"
    step_completed = "ModelRequestCompleted"
    tool_call_started = "ToolCallStarted"
    tool_call_completed = "ToolCallCompleted"
    run_completed = "RunCompleted"
    run_cancelled = "RunCancelled"
    run_error = "RunError"


class RunOutputEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened in a run, told as it happens."""

    event: RunEvent
    run_id: str
    session_id: str
    agent_id: str | None = None
    agent_name: str | None = None
    """Whose run it is, a team's included."""
    team_id: str | None = None
    parent_run_id: str | None = None
    """The run of the team that this one is part of; None on the top level."""
    content: str | None = None
    """The new piece of the answer's text, for ``RunContent``."""
    reasoning_content: str | None = None
    """The new piece of the model's thinking, for ``ReasoningContentDelta``."""
    tool: ToolExecution | None = None
    """The call, for ``ToolCallStarted`` and ``ToolCallCompleted``."""
    run: RunOutput | None = None
    """The stored run, for ``RunCompleted``, ``RunCancelled`` and ``RunError``."""
    error: str | None = None


def input_messages(said: Sequence[Message], count: int | None) -> tuple[Message, ...]:
    """The messages of a run that were its input."""
    if count is None:
        answers = (place for place, message in enumerate(said) if message.role in ("assistant", "tool"))
        count = next(answers, len(said))
    return tuple(said[:count])


def execution(call_id: str, name: str, arguments: str, answer: Message | None) -> ToolExecution:
    """A tool call beside the message that answered it."""
    return ToolExecution(
        tool_call_id=call_id,
        tool_name=name,
        arguments=arguments,
        result=None if answer is None else answer.text,
        tool_call_error=answer is not None and answer.tool_call_error,
    )


def transcript_html(messages: Sequence[Message]) -> str:
    """Messages as an escaped HTML list, for notebooks."""
    rows = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{escape(message.role)}</th>"
        f"<td style='text-align:left;white-space:pre-wrap'>{escape(_shown(message))}</td></tr>"
        for message in messages
    )
    return f"<table>{rows}</table>"


def _shown(message: Message) -> str:
    calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
    return "\n".join(part for part in (message.text, *calls) if part)
