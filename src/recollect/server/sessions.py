"""Sessions as AgentOS's clients list, read, make, change and delete them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Body, Query
from pydantic import ConfigDict, Field

from recollect.errors import RunNotFound
from recollect.run import RunOutput, RunStatus
from recollect.selection import is_own
from recollect.server import wire
from recollect.server.fields import DbId, Id, IdOrNone, Json, Limit, Name, RunId, SessionId
from recollect.server.reach import Reach
from recollect.server.route import CallerOf, ReadsOf, Route, ServiceOf, WritesOf
from recollect.server.service import Kind, component
from recollect.session import SessionHeader, SessionSummary
from recollect.store import Store
from recollect.store.lists import MOST, Sort

COUNTED: Final = 10_000
"""Sessions that are counted, and that can be turned to page by page; ``/v1/sessions`` goes on for ever."""

KindQuery = Annotated[Kind | None, Query(alias="type", description="Whether agents' or teams' are meant.")]


class NewSession(wire.Shape):
    """A session that is to be made."""

    session_id: IdOrNone | None = Field(default=None, description="A new id unless given. It must not be guessable.")
    session_name: Name | None = None
    session_state: Json | None = None
    metadata: Json | None = None
    user_id: IdOrNone | None = Field(default=None, description="Whose it is; the caller's unless given.")
    agent_id: IdOrNone | None = None
    team_id: IdOrNone | None = None
    workflow_id: None = Field(default=None, description="For clients that send it: there are no workflows.")


class Summary(wire.Shape):
    """What was said, in short."""

    model_config = ConfigDict(extra="ignore")

    summary: str
    topics: list[str] | None = None


class SessionChange(wire.Shape):
    """What is to be changed; what is not named stays. Each is replaced as a whole."""

    session_name: Name | None = None
    session_state: Json | None = None
    metadata: Json | None = None
    summary: Summary | None = None


class Doomed(wire.Shape):
    """Sessions that are to be deleted."""

    session_ids: list[Id] = Field(min_length=1, max_length=1000)
    session_types: list[Kind] | None = Field(
        default=None, description="For clients that send it: an id is of one session alone."
    )


async def list_sessions(
    service: ServiceOf,
    reach: ReadsOf,
    *,
    type: KindQuery = None,
    component_id: Annotated[
        IdOrNone | None, Query(description="The agent or team whose sessions are meant.", examples=["travel-desk"])
    ] = None,
    session_name: Annotated[str | None, Query(description="A part of the name.", examples=["porto"])] = None,
    limit: Limit = None,
    page: Annotated[int, Query(ge=0, le=COUNTED, description="Counted from 1; 0 is the first, too.")] = 1,
    sort_by: Annotated[Literal["created_at", "updated_at"], Query(description="Which time counts.")] = "created_at",
    sort_order: Annotated[Literal["asc", "desc"], Query(description="``desc``: the newest first.")] = "desc",
) -> Any:
    """A page of sessions, with the number of all pages. 10,000 sessions are counted at most, the newest."""
    size = service.limits.page_size(limit)
    filters: dict[str, Any] = {
        **component(service, type, component_id or None),
        "user_id": reach.user_id,
        "name": session_name or None,
    }
    total = await reach.db.acount_sessions(**filters, most=COUNTED)
    first = max(page - 1, 0) * size
    if sort_order == "desc":
        found = await _slice(reach.db, filters, sort_by, first, min(first + size, total))
    else:
        found = (await _slice(reach.db, filters, sort_by, total - first - size, total - first))[::-1]
    meta = {"page": page, "limit": size, "total_pages": -(-total // size), "total_count": total}
    return {"data": [wire.session_entry(header) for header in found], "meta": meta}


async def _slice(db: Store, filters: dict[str, Any], sort: Sort, first: int, last: int) -> list[SessionHeader]:
    """Some sessions by their places in the list, the newest being the first; the list is walked along to there."""
    found: list[SessionHeader] = []
    place, cursor = 0, None
    while place < last:
        page = await db.aget_sessions(**filters, sort=sort, limit=min(MOST, last - place), cursor=cursor)
        found += [header for at, header in enumerate(page.sessions, place) if at >= first]
        place, cursor = place + len(page), page.next_cursor
        if cursor is None:
            break
    return found


async def create_session(
    service: ServiceOf,
    caller: CallerOf,
    new: Annotated[NewSession | None, Body()] = None,
    type: KindQuery = None,
    db_id: DbId = None,
) -> Any:
    """Make an empty session."""
    new = new or NewSession()
    reach = Reach(service.database(db_id), caller.speaks_as(new.user_id or None))
    ids: dict[str, Any] = {"agent_id": new.agent_id or None, "team_id": new.team_id or None}
    kind = type or ("team" if ids["team_id"] and not ids["agent_id"] else "agent")
    name = new.session_name
    if name is not None:
        name = service.approved(reach.db, name, SessionHeader(session_id=new.session_id or "new", kind=kind, **ids))
    header = await reach.db.acreate_session(
        new.session_id or None,
        user_id=reach.user_id,
        kind=kind,
        **ids,
        name=name,
        metadata=new.metadata,
        session_state=new.session_state,
    )
    return wire.session_detail(await reach.session(header.session_id))


async def get_session(reach: ReadsOf, session_id: SessionId, type: KindQuery = None) -> Any:
    """A session with what was said in it."""
    return wire.session_detail(await reach.session(session_id, type))


async def get_runs(
    service: ServiceOf,
    reach: ReadsOf,
    session_id: SessionId,
    *,
    type: KindQuery = None,
    include_members: Annotated[bool, Query(description="Whether runs of a team's members are wanted, too.")] = False,
) -> Any:
    """The runs of a session, oldest first; those that were replaced by others are left out.

    A session has none yet, which is answered with 404, while all there is of it is being told to a client.
    """
    # AgentOS's chat client reads a new session as soon as its first run is told to have begun, and puts what it gets in
    # the place of what it was told; not so with an error. Looked at first: a run that ends meanwhile is read as ended.
    told = service.under_way.streamed()
    session = await reach.session(session_id, type)
    own = [run for run in session.runs if is_own(run)]
    if own and all(_is_told(run, told) for run in own):
        msg = f"session {session_id!r} has no runs yet: its first one is being told to whoever asked for it"
        raise RunNotFound(msg)
    wanted = [run for run in session.runs if is_own(run) or (include_members and run.parent_run_id is not None)]
    return [wire.run_shape(run) for run in wanted]


def _is_told(run: RunOutput, told: frozenset[str]) -> bool:
    return run.status is RunStatus.running and run.run_id in told


async def get_run(reach: ReadsOf, session_id: SessionId, run_id: RunId) -> Any:
    """One run of a session, whatever became of it."""
    run = await reach.db.aget_run(run_id, session_id, reach.user_id)
    if run is None:
        await reach.header(session_id)
        msg = f"there is no run {run_id!r} in session {session_id!r}"
        raise RunNotFound(msg)
    return wire.run_shape(run)


async def rename_session(
    service: ServiceOf,
    reach: WritesOf,
    session_id: SessionId,
    session_name: Annotated[Name, Body(embed=True)],
    type: KindQuery = None,
) -> Any:
    """Name a session."""
    header = await reach.header(session_id, type)
    name = service.approved(reach.db, session_name, header)
    await reach.db.aset_session_name(session_id, name, reach.user_id)
    return wire.session_detail(await reach.session(session_id))


async def change_session(
    service: ServiceOf, reach: WritesOf, session_id: SessionId, change: SessionChange, type: KindQuery = None
) -> Any:
    """Change a session's name, state, metadata or summary; refused where somebody else changes it just now."""
    session = await reach.session(session_id, type)
    if change.session_name is not None:
        session.name = service.approved(reach.db, change.session_name, session.header)
    if change.session_state is not None:
        session.session_state = change.session_state
    if change.metadata is not None:
        session.metadata = change.metadata
    if change.summary is not None:
        session.summary = SessionSummary(summary=change.summary.summary, topics=tuple(change.summary.topics or ()))
    await reach.db.asave_session(session)
    return wire.session_detail(await reach.session(session_id))


async def delete_session(reach: WritesOf, session_id: SessionId) -> None:
    """Delete a session with everything in it."""
    await reach.db.adelete_session(session_id, reach.user_id)


async def delete_sessions(reach: WritesOf, doomed: Doomed) -> None:
    """Delete several sessions. Those that are not there, or are not the caller's, are passed over."""
    await reach.db.adelete_sessions(doomed.session_ids, reach.user_id)


_OF_SESSION: Final = "/sessions/{session_id}"

ROUTES: Final = (
    Route("GET", "/sessions", list_sessions, shape=wire.SessionList),
    Route("POST", "/sessions", create_session, "write", 201, wire.SessionDetail),
    Route("DELETE", "/sessions", delete_sessions, "write", 204),
    Route("GET", _OF_SESSION, get_session, shape=wire.SessionDetail),
    Route("PATCH", _OF_SESSION, change_session, "write", shape=wire.SessionDetail),
    Route("DELETE", _OF_SESSION, delete_session, "write", 204),
    Route("POST", f"{_OF_SESSION}/rename", rename_session, "write", shape=wire.SessionDetail),
    Route("GET", f"{_OF_SESSION}/runs", get_runs, shape=list[wire.RunShape]),
    Route("GET", f"{_OF_SESSION}/runs/{{run_id}}", get_run, shape=wire.RunShape),
)
