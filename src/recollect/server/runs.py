"""Runs: asked, followed as they happen, continued and cancelled.

A run that is streamed is cancelled when its client is gone, or reads nothing for too long: what was said until then is
stored, and the run may be continued. One that is not streamed, or that is to stay, goes on without its client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Depends, Form, Header, Query, UploadFile
from fastapi import File as FileField
from msgspec import structs
from pydantic import ConfigDict, Field

from recollect import checks
from recollect.errors import RecollectError, RunNotFound
from recollect.message import File, Image
from recollect.run import RunEvent, RunOutput, RunOutputEvent
from recollect.runner import Runner
from recollect.server import wire
from recollect.server.caller import Caller
from recollect.server.fields import AgentId, Id, IdOrNone, RunId, TeamId
from recollect.server.route import CallerOf, Route, ServiceOf
from recollect.server.service import Service
from recollect.server.stream import EventStream
from recollect.server.told import Teller, content_of
from recollect.server.underway import Serving, UnderWay
from recollect.stream import AsyncRunStream

log = logging.getLogger("recollect.server")

Text = Annotated[
    str, Form(description="What is said.", examples=["Plan two days in Porto"], json_schema_extra={"minLength": 1})
]
Streamed = Annotated[bool, Form(description="Whether what happens is told as it happens.")]
SessionField = Annotated[
    IdOrNone | None, Form(description="The session it is said in; a new one begins where none is named.")
]
UserField = Annotated[
    IdOrNone | None, Form(description="Who speaks; the caller unless given, by those who may name others.")
]
Members = Annotated[bool, Form(description="Whether what happens in the runs of a team's members is told, too.")]
Files = Annotated[list[UploadFile], FileField(description="Pictures and documents that go along.")]
Key = Annotated[
    Id | None,
    Header(
        alias="Idempotency-Key",
        description="The run's id: the same key again gives the same run, and never a second one.",
        examples=["payment-17"],
        min_length=1,
        max_length=checks.MAX_ID,
    ),
]
SessionQuery = Annotated[
    IdOrNone | None, Query(description="The session of the run; may be left out where this process works on it.")
]


class RunAnswer(wire.RunShape):
    """A run as whoever waited for it is told."""

    session_id: str
    agent_name: str | None
    content_type: str
    model: str | None


class RunTold(wire.Shape):
    """What each event of a run says; some say more."""

    model_config = ConfigDict(extra="allow")

    event: str = Field(examples=["RunContent"])
    session_id: str
    run_id: str
    created_at: int = Field(description="Seconds since 1970.")
    content: str | dict[str, Any] | None = Field(
        default=None, description="New text; the whole answer of ``RunCompleted``; of ``RunError`` what went wrong."
    )


class Said(NamedTuple):
    """What is said in a run."""

    message: str
    files: Sequence[UploadFile]
    run_id: str | None


class Asked(NamedTuple):
    """How a run is to be told, and in whose session."""

    stream: bool
    session_id: str | None
    user_id: str | None
    members: bool
    stays: bool = False
    """Whether it goes on when whoever is told of it is gone."""


async def said_of(message: Text, files: Files = [], key: Key = None) -> Said:  # noqa: B006 - FastAPI copies it
    """What a request says."""
    return Said(message, files, key)


async def asked_of(
    *,
    stream: Streamed = True,
    session_id: SessionField = None,
    user_id: UserField = None,
    stream_member_events: Members = False,
) -> Asked:
    """What a request asks for; an empty id means none."""
    return Asked(stream, session_id or None, user_id or None, stream_member_events)


SaidOf = Annotated[Said, Depends(said_of)]
AskedOf = Annotated[Asked, Depends(asked_of)]


async def run_agent(service: ServiceOf, caller: CallerOf, agent_id: AgentId, said: SaidOf, asked: AskedOf) -> Any:
    """Have an agent answer.

    Streamed, it is told in events whose data are JSON: ``RunStarted``, ``RunContent`` with each new piece of text,
    ``ToolCallStarted`` and ``ToolCallCompleted``, and last ``RunCompleted`` with the whole answer, or ``RunError``.
    """
    return await _run(service, caller, service.runner("agent", agent_id), said, asked)


async def run_team(service: ServiceOf, caller: CallerOf, team_id: TeamId, said: SaidOf, asked: AskedOf) -> Any:
    """Have a team answer. Streamed, as for an agent; the names of its own events begin with ``Team``."""
    return await _run(service, caller, service.runner("team", team_id), said, asked)


async def continue_agent_run(
    service: ServiceOf, caller: CallerOf, agent_id: AgentId, run_id: RunId, asked: AskedOf
) -> Any:
    """Take up a run that failed, was cancelled or was interrupted, where it stopped."""
    return await _continue(service, caller, service.runner("agent", agent_id), run_id, asked)


async def continue_team_run(
    service: ServiceOf, caller: CallerOf, team_id: TeamId, run_id: RunId, asked: AskedOf
) -> Any:
    """Take up a team's run that failed, was cancelled or was interrupted, where it stopped."""
    return await _continue(service, caller, service.runner("team", team_id), run_id, asked)


class Cancelled(wire.Shape):
    """What came of the wish to end a run."""

    run_id: str
    session_id: str
    cancelled: bool
    """Whether it was under way, and was asked to end."""


async def cancel_agent_run(
    service: ServiceOf, caller: CallerOf, agent_id: AgentId, run_id: RunId, session_id: SessionQuery = None
) -> Any:
    """Ask for a run to be ended, in whatever process it is. What was said until then is stored."""
    return await _cancel(service, caller, service.runner("agent", agent_id), run_id, session_id)


async def cancel_team_run(
    service: ServiceOf, caller: CallerOf, team_id: TeamId, run_id: RunId, session_id: SessionQuery = None
) -> Any:
    """Ask for a team's run to be ended, with those of its members. What was said until then is stored."""
    return await _cancel(service, caller, service.runner("team", team_id), run_id, session_id)


async def _cancel(service: Service, caller: Caller, runner: Runner, run_id: str, session_id: str | None) -> Any:
    user = caller.writes_as(None)
    session = session_id or service.under_way.session_of(run_id, user)
    if session is None:
        msg = f"run {run_id!r} is not under way in this process; name its session_id, and it is ended wherever it is"
        raise RunNotFound(msg)
    asked = await runner.acancel_run(run_id, session, user_id=user)
    return {"run_id": run_id, "session_id": session, "cancelled": asked}


async def _run(service: Service, caller: Caller, runner: Runner, said: Said, asked: Asked) -> Any:
    user = caller.speaks_as(asked.user_id)
    events = runner.arun(
        said.message,
        stream_events=True,
        session_id=asked.session_id,
        user_id=user,
        run_id=said.run_id,
        **await given(said.files),
    )
    return await answered(service, Serving(runner, user, asked.stream), events, asked)


async def _continue(service: Service, caller: Caller, runner: Runner, run_id: str, asked: Asked) -> Any:
    user = caller.speaks_as(asked.user_id)
    events: Any = runner.acontinue_run(run_id, session_id=asked.session_id, user_id=user, stream_events=True)
    return await answered(service, Serving(runner, user, asked.stream), events, asked)


async def answered(service: Service, serving: Serving, events: AsyncRunStream, asked: Asked) -> Any:
    """Answer with a run as it happens, or when it is over.

    Raises:
        Refused: the server is about to end.
    """
    service.under_way.admit()
    if not asked.stream:
        task = service.under_way.start(_drained(service.under_way, serving, events))
        return _answer(await asyncio.shield(task))
    # What refuses the run is answered with its status; only then a stream begins.
    first = await anext(events)
    told = _told(service.under_way, serving, first, events, Teller(members=asked.members))
    if asked.stays:
        heard = _heard(service.under_way, events, told)
        return EventStream(heard, heard, service.limits, service.under_way)
    return EventStream(events, told, service.limits, service.under_way)


def _heard(
    under_way: UnderWay, events: AsyncRunStream, told: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """What is told of a run by a task of its own, which goes on when nobody hears it any more.

    What is not heard yet is queued, which is no more than the run itself says.
    """
    said: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def tell() -> None:
        try:
            async with aclosing(events), aclosing(told):
                async for piece in told:
                    said.put_nowait(piece)
        finally:
            said.put_nowait(None)

    async def hear() -> AsyncGenerator[bytes, None]:
        while (piece := await said.get()) is not None:
            yield piece

    under_way.start(tell())
    return hear()


async def _told(
    under_way: UnderWay, serving: Serving, first: RunOutputEvent, events: AsyncRunStream, teller: Teller
) -> AsyncGenerator[bytes, None]:
    under_way.serves(serving, first)
    for said in teller.tell(first):
        yield said
    try:
        async for event in events:
            for said in teller.tell(event):
                yield said
    except RecollectError as error:  # it was told as RunError
        log.warning("run %s of session %s failed: %s", first.run_id, first.session_id, error.code)
    except Exception:  # the answer has begun, so that its status cannot say any more that something failed
        log.exception("run %s of session %s failed", first.run_id, first.session_id)
        lost = structs.replace(first, event=RunEvent.run_error, error="the server failed; its log says why")
        for said in teller.tell(lost):
            yield said


async def _drained(under_way: UnderWay, serving: Serving, events: AsyncRunStream) -> RunOutput:
    async with events:
        first = await anext(events)
        under_way.serves(serving, first)
        async for _ in events:
            pass
    assert events.run is not None  # the last event carries it
    return events.run


def _answer(run: RunOutput) -> RunAnswer:
    content, kind = content_of(run)
    told = wire.run_shape(run).model_dump() | {"content": content, "content_type": kind}
    return RunAnswer(**told, session_id=run.session_id, agent_name=run.agent_name, model=run.model)


async def given(files: Sequence[UploadFile]) -> dict[str, Any]:
    """Uploaded files as a run takes them: pictures apart from the rest."""
    images: list[Image] = []
    documents: list[File] = []
    for file in files:
        content, kind = await file.read(), file.content_type
        if kind is not None and kind.startswith("image/"):
            images.append(Image(content=content, mime_type=kind))
        else:
            documents.append(File(content=content, filename=file.filename or "file", mime_type=kind))
    return {"images": images, "files": documents}


ROUTES: Final = (
    Route("POST", "/agents/{agent_id}/runs", run_agent, "write", shape=RunAnswer, tells=RunTold, tag="Runs"),
    Route("POST", "/teams/{team_id}/runs", run_team, "write", shape=RunAnswer, tells=RunTold, tag="Runs"),
    Route(
        "POST",
        "/agents/{agent_id}/runs/{run_id}/continue",
        continue_agent_run,
        "write",
        shape=RunAnswer,
        tells=RunTold,
        tag="Runs",
    ),
    Route(
        "POST",
        "/teams/{team_id}/runs/{run_id}/continue",
        continue_team_run,
        "write",
        shape=RunAnswer,
        tells=RunTold,
        tag="Runs",
    ),
    Route("POST", "/agents/{agent_id}/runs/{run_id}/cancel", cancel_agent_run, "write", shape=Cancelled, tag="Runs"),
    Route("POST", "/teams/{team_id}/runs/{run_id}/cancel", cancel_team_run, "write", shape=Cancelled, tag="Runs"),
)
