"""How sessions, runs, agents and teams look over HTTP: the shapes that clients of Agno's AgentOS read.

Times are ISO 8601 in UTC, except where those clients count seconds: in tool calls and in the events of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from recollect import checks
from recollect.message import Message
from recollect.run import RunOutput, RunStatus, ToolExecution, input_messages
from recollect.runner import Runner
from recollect.server.service import Service
from recollect.session import AgentSession, SessionHeader
from recollect.team import Team

REASON_CHARS: Final = 300

_REASONS: Final = {
    RunStatus.completed: "(The answer has no text.)",
    RunStatus.pending: "(This run has not begun.)",
    RunStatus.running: "(This run is under way.)",
    RunStatus.paused: "(This run is paused.)",
    RunStatus.cancelled: "(This run was cancelled before anything was said.)",
    RunStatus.interrupted: "(This run was interrupted; it can be continued.)",
}


class Shape(BaseModel):
    """A JSON object; what is not said here is not in it."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Health(Shape):
    status: str = Field(examples=["ok"])
    instantiated_at: datetime = Field(description="When the server was made.")


class ModelShape(Shape):
    name: str = Field(description="What the model is called.", examples=["gpt-5.2"])
    model: str = Field(description="The model's id.", examples=["gpt-5.2"])
    provider: str = Field(examples=["openai"])


class RunnerShape(Shape):
    id: str = Field(examples=["travel-desk"])
    name: str = Field(description="Its name, else its id.", examples=["Travel desk"])
    description: str | None = None
    role: str | None = None
    db_id: str = Field(description="The database its sessions are in.", examples=["sqlite-3f0c9a1b5d7e"])
    model: ModelShape


class TeamShape(RunnerShape):
    mode: str = Field(examples=["coordinate"])
    members: list[RunnerShape] = Field(default=[], description="Agents and teams that answer for it.")


class Config(Shape):
    os_id: str = Field(examples=["recollect"])
    name: str = Field(examples=["Recollect"])
    description: str | None = None
    available_models: list[str] = Field(description="Ids of the models that are served.")
    databases: list[str] = Field(description="Ids of the databases, the first one first.")
    agents: list[RunnerShape]
    teams: list[TeamShape]
    workflows: list[str] = Field(description="Always empty: there are none.")
    interfaces: list[str] = Field(description="Always empty: there are none.")


class SessionBrief(Shape):
    """What lists and details say of a session alike."""

    session_id: str = Field(examples=["0199f0a8-7c1e-7d2a-9d55-5a1c0f3c2b11"])
    session_name: str = Field(
        description="The name, else the start of what was first asked, else the id; never empty.",
        examples=["Two days in Porto"],
    )
    user_id: str | None = Field(examples=["ada"])
    agent_id: str | None = None
    team_id: str | None = None
    total_tokens: int = 0
    created_at: datetime
    updated_at: datetime = Field(description="When a run last began or took a step.")


class SessionEntry(SessionBrief):
    session_type: str = Field(examples=["agent"])


class PageMeta(Shape):
    page: int
    limit: int
    total_pages: int
    total_count: int = Field(description="At most 10,000 are counted.")


class SessionList(Shape):
    data: list[SessionEntry]
    meta: PageMeta


class SessionDetail(SessionBrief):
    agent_session_id: str | None = Field(default=None, description="The session's id once more, for an agent's.")
    session_summary: dict[str, Any] | None
    session_state: dict[str, Any]
    metrics: dict[str, int]
    metadata: dict[str, Any]
    chat_history: list[dict[str, Any]] = Field(description="What user and assistant said, oldest first.")


class ToolShape(Shape):
    role: str = "tool"
    content: str | None = Field(description="The result once more.")
    tool_call_id: str
    tool_name: str
    tool_args: dict[str, Any]
    tool_call_error: bool
    result: str | None = Field(description="None while it is not known.")
    metrics: dict[str, float] | None = Field(description="``time``: seconds it took, where these were measured.")
    created_at: int = Field(description="Seconds since 1970: when the call was made, or its run began.")


class RunShape(Shape):
    run_id: str
    parent_run_id: str | None = Field(description="The team's run that this one is part of.")
    agent_id: str | None
    team_id: str | None
    user_id: str | None
    status: str = Field(examples=["COMPLETED"])
    run_input: str = Field(description="What was asked, as text.")
    content: str | dict[str, Any] = Field(description="The answer; where there is none, one line that says why.")
    reasoning_content: str | None
    metrics: dict[str, Any]
    tools: list[ToolShape] | None
    extra_data: dict[str, Any] | None
    images: list[dict[str, Any]] | None
    videos: list[dict[str, Any]] | None
    audio: list[dict[str, Any]] | None
    response_audio: dict[str, Any] | None
    input_media: dict[str, Any] | None = Field(description="Pictures and files that came with the question.")
    created_at: datetime


def runner_shape(service: Service, runner: Runner) -> dict[str, Any]:
    """An agent or team as it is listed."""
    db_id = service.db_id(runner.db)
    told = member_shape(db_id, runner)
    if isinstance(runner, Team):
        return told | {"mode": runner.mode, "members": [member_shape(db_id, member) for member in runner.members]}
    return told


def member_shape(db_id: str, runner: Runner) -> dict[str, Any]:
    """Who answers, and in which database its sessions are; a member's are in its team's."""
    return {
        "id": runner.id,
        "name": runner.name or runner.id,
        "description": runner.description,
        "role": runner.role,
        "db_id": db_id,
        "model": {"name": runner.model.id, "model": runner.model.id, "provider": runner.model.provider},
    }


def session_entry(header: SessionHeader) -> SessionEntry:
    """A session as it is listed."""
    return SessionEntry(**_brief(header), session_type=header.kind)


def session_detail(session: AgentSession) -> SessionDetail:
    """A session with what was said in it."""
    header, summary = session.header, session.summary
    told = _brief(header)
    return SessionDetail(
        **told,
        agent_session_id=header.session_id if header.kind == "agent" else None,
        session_summary=None if summary is None else checks.decode(checks.encode(summary)),
        session_state=session.session_state,
        metrics={
            "input_tokens": header.input_tokens,
            "output_tokens": header.output_tokens,
            "total_tokens": told["total_tokens"],
        },
        metadata=session.metadata,
        chat_history=[message.to_dict() for message in session.get_chat_history()],
    )


def _brief(header: SessionHeader) -> dict[str, Any]:
    return {
        "session_id": header.session_id,
        "session_name": header.title,
        "user_id": header.user_id,
        "agent_id": header.agent_id,
        "team_id": header.team_id,
        "total_tokens": header.input_tokens + header.output_tokens,
        "created_at": header.created_at,
        "updated_at": header.updated_at or header.created_at,
    }


def run_shape(run: RunOutput) -> RunShape:
    """A stored run with what was asked and answered, and the tools it called."""
    asked = input_messages(run.said, run.input_count)
    assert run.created_at is not None
    return RunShape(
        run_id=run.run_id,
        parent_run_id=run.parent_run_id,
        agent_id=run.agent_id,
        team_id=run.team_id,
        user_id=run.user_id,
        status=str(run.status).upper(),
        run_input="\n".join(message.text for message in asked if message.role == "user" and message.text),
        content=answer_of(run),
        reasoning_content=run.reasoning_content,
        metrics=checks.decode(checks.encode(run.metrics)),
        tools=[tool_shape(tool, seconds(run.created_at)) for tool in run.tools] or None,
        extra_data=extra_of(run),
        images=images_of(run),
        videos=None,
        audio=None,
        response_audio=None,
        input_media=_media(asked) or None,
        created_at=run.created_at,
    )


def answer_of(run: RunOutput) -> str:
    """The answer as text; where there is none, a line that says why."""
    said = next((message.text for message in reversed(run.said) if message.role == "assistant" and message.text), "")
    if said and run.status is not RunStatus.error:
        return said
    if run.status is RunStatus.error:
        return f"(This run failed: {checks.preview(run.error or 'no reason is known', REASON_CHARS)})"
    return _REASONS.get(run.status, "")


def extra_of(run: RunOutput) -> dict[str, Any] | None:
    """What the model thought, as the one step of reasoning that is known of."""
    thought = run.reasoning_content
    return None if thought is None else {"reasoning_steps": [{"title": "Thinking", "reasoning": thought}]}


def images_of(run: RunOutput) -> list[dict[str, Any]] | None:
    """Pictures in the answer."""
    images = [image for message in run.said if message.role == "assistant" for image in message.images]
    return [{"url": image.url, "revised_prompt": ""} for image in images if image.url] or None


def tool_shape(tool: ToolExecution, at: int, took: float | None = None) -> ToolShape:
    """A call of a tool, made at a second since 1970."""
    return ToolShape(
        content=tool.result,
        tool_call_id=tool.tool_call_id,
        tool_name=tool.tool_name,
        tool_args=tool.tool_args,
        tool_call_error=tool.tool_call_error,
        result=tool.result,
        metrics=None if took is None else {"time": took},
        created_at=at,
    )


def seconds(moment: datetime | None) -> int:
    """A moment in whole seconds since 1970; 0 where it is not known."""
    return 0 if moment is None else int(moment.timestamp())


def _media(messages: Sequence[Message]) -> dict[str, Any]:
    images = [{"url": image.url} for message in messages for image in message.images]
    files = [{"filename": file.filename, "url": file.url} for message in messages for file in message.files]
    return {name: found for name, found in (("images", images), ("files", files)) if found}
