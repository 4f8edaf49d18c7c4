"""Sessions as AgentOS's clients list, read, make, change and delete them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Query
from pydantic import Field

from recollect.errors import InvalidArgument, RunNotFound, SessionNotFound
from recollect.run import RunOutput, RunStatus
from recollect.selection import is_own
from recollect.server import wire
from recollect.server.problem import Refused
from recollect.server.route import CallerOf, DbId, Limit, Route, ServiceOf, UserId
from recollect.server.service import Kind, Service, component, header_of
from recollect.session import AgentSession, SessionHeader, SessionSummary
from recollect.store import Store
from recollect.store.lists import MOST, Sort

COUNTED: Final = 10_000
"""Sessions that are counted, and that can be turned to page by page; ``/v1/sessions`` goes on for ever."""

KindQuery = Annotated[Kind | None, Query(alias="type", description="Whether agents' or teams' are meant.")]
Json = dict[str, Any]


class NewSession(wire.Shape):
    """A session that is to be made."""

    session_id: str | None = Field(default=None, description="A new id unless given. It must not be guessable.")
    session_name: str | None = Field(default=None, examples=["Two days in Porto"])
    session_state: Json | None = None
    metadata: Json | None = None
    user_id: str | None = Field(default=None, description="Whose it is; the caller's unless given.")
    agent_id: str | None = None
    team_id: str | None = None


class SessionChange(wire.Shape):
    """What is to be changed; what is not named stays. Each is replaced as a whole."""

    session_name: str | None = None
    session_state: Json | None = None
    metadata: Json | None = None
    summary: Json | None = Field(default=None, examples=[{"summary": "They planned a trip.", "topics": ["travel"]}])


class Doomed(wire.Shape):
    """Sessions that are to be deleted."""

    session_ids: list[str] = Field(min_length=1, max_length=1000)
    session_types: list[Kind] | None = Field(default=None, description="One for each id, or none.")


async def list_sessions(
    service: ServiceOf,
    caller: CallerOf,
    *,
    type: KindQuery = None,
    component_id: Annotated[str | None, Query(description="The agent or team whose sessions are meant.")] = None,
    db_id: DbId = None,
    user_id: UserId = None,
    session_name: Annotated[str | None, Query(description="A part of the name.")] = None,
    limit: Limit = None,
    page: Annotated[int, Query(ge=0, le=COUNTED, description="Counted from 1; 0 is the first, too.")] = 1,
    sort_by: Annotated[Literal["created_at", "updated_at"], Query()] = "created_at",
    sort_order: Annotated[Literal["asc", "desc"], Query()] = "desc",
) -> Any:
    """A page of sessions, with the number of all pages. 10,000 sessions are counted at most, the newest."""
    db, size = service.database(db_id), service.limits.page_size(limit)
    filters: dict[str, Any] = {
        **component(service, type, component_id or None),
        "user_id": caller.reads_as(user_id or None),
        "name": session_name or None,
    }
    total = await db.acount_sessions(**filters, most=COUNTED)
    first = max(page - 1, 0) * size
    if sort_order == "desc":
        found = await _slice(db, filters, sort_by, first, min(first + size, total))
    else:
        found = (await _slice(db, filters, sort_by, total - first - size, total - first))[::-1]
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
    db = service.database(db_id)
    kind = type or ("team" if new.team_id is not None and new.agent_id is None else "agent")
    header = await db.acreate_session(
        new.session_id or None,
        user_id=caller.speaks_as(new.user_id or None),
        kind=kind,
        agent_id=new.agent_id or None,
        team_id=new.team_id or None,
        name=await _approved(service, db, new),
        metadata=new.metadata,
        session_state=new.session_state,
    )
    return wire.session_detail(await session_of(db, header.session_id, header.user_id))


async def _approved(service: Service, db: Store, new: NewSession) -> str | None:
    """The name as the namer of the agent or team has it that the session is made for."""
    if new.session_name is None:
        return None
    header = SessionHeader(session_id=new.session_id or "new", agent_id=new.agent_id, team_id=new.team_id)
    keeper = service.keeper(db, header)
    return new.session_name if keeper is None else keeper.scribe.namer.approved(new.session_name, header)


async def get_session(
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    type: KindQuery = None,
    user_id: UserId = None,
    db_id: DbId = None,
) -> Any:
    """A session with what was said in it."""
    db = service.database(db_id)
    return wire.session_detail(await session_of(db, session_id, caller.reads_as(user_id or None), type))


async def get_runs(
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    *,
    type: KindQuery = None,
    user_id: UserId = None,
    db_id: DbId = None,
    include_members: Annotated[bool, Query(description="Whether runs of a team's members are wanted, too.")] = False,
) -> Any:
    """The runs of a session, oldest first; those that were replaced by others are left out.

    A session has none yet, which is answered with 404, while all there is of it is being told to a client.
    """
    # AgentOS's chat client reads a new session as soon as its first run is told to have begun, and puts what it gets in
    # the place of what it was told; not so with an error. Looked at first: a run that ends meanwhile is read as ended.
    told = service.under_way.streamed()
    db = service.database(db_id)
    session = await session_of(db, session_id, caller.reads_as(user_id or None), type)
    own = [run for run in session.runs if is_own(run)]
    if own and all(_is_told(run, told) for run in own):
        msg = f"session {session_id!r} has no runs yet: its first one is being told to whoever asked for it"
        raise RunNotFound(msg)
    wanted = [run for run in session.runs if is_own(run) or (include_members and run.parent_run_id is not None)]
    return [wire.run_shape(run) for run in wanted]


def _is_told(run: RunOutput, told: frozenset[str]) -> bool:
    return run.status is RunStatus.running and run.run_id in told


async def get_run(
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    run_id: str,
    user_id: UserId = None,
    db_id: DbId = None,
) -> Any:
    """One run of a session, whatever became of it."""
    db, user = service.database(db_id), caller.reads_as(user_id or None)
    run = await db.aget_run(run_id, session_id, user)
    if run is None:
        await header_of(db, session_id, user)
        msg = f"there is no run {run_id!r} in session {session_id!r}"
        raise RunNotFound(msg)
    return wire.run_shape(run)


async def rename_session(
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    session_name: Annotated[str, Body(embed=True, examples=["Two days in Porto"])],
    type: KindQuery = None,
    user_id: UserId = None,
    db_id: DbId = None,
) -> Any:
    """Name a session."""
    db, user = service.database(db_id), caller.writes_as(user_id or None)
    header = await header_of(db, session_id, user)
    _check_kind(header, type)
    await set_name(service, db, header, session_name, user)
    return wire.session_detail(await session_of(db, session_id, user))


async def set_name(service: Service, db: Store, header: SessionHeader, name: str, user_id: str | None) -> None:
    """Name a session, as the namer of its agent or team has it."""
    keeper = service.keeper(db, header)
    if keeper is None:
        await db.aset_session_name(header.session_id, name, user_id)
        return
    await db.aset_session_name(header.session_id, keeper.scribe.namer.approved(name, header), user_id)


async def change_session(
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    change: SessionChange,
    type: KindQuery = None,
    user_id: UserId = None,
    db_id: DbId = None,
) -> Any:
    """Change a session's name, state, metadata or summary; refused where somebody else changes it just now."""
    db, user = service.database(db_id), caller.writes_as(user_id or None)
    session = await session_of(db, session_id, user, type)
    if change.session_name is not None:
        session.name = change.session_name
    if change.session_state is not None:
        session.session_state = change.session_state
    if change.metadata is not None:
        session.metadata = change.metadata
    if change.summary is not None:
        session.summary = _summary(change.summary)
    await save(service, db, session)
    return wire.session_detail(await session_of(db, session_id, user))


async def save(service: Service, db: Store, session: AgentSession) -> None:
    """Store what was changed in a session, unless somebody else changed it since it was read.

    Raises:
        SessionConflict: somebody did.
    """
    keeper = service.keeper(db, session.header)
    if keeper is not None and session.name != session.header.name:
        session.name = keeper.scribe.namer.approved(session.name, session.header)
    await db.asave_session(session)


async def delete_session(
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    user_id: UserId = None,
    db_id: DbId = None,
) -> None:
    """Delete a session with everything in it."""
    await service.database(db_id).adelete_session(session_id, caller.writes_as(user_id or None))


async def delete_sessions(
    service: ServiceOf,
    caller: CallerOf,
    doomed: Doomed,
    user_id: UserId = None,
    db_id: DbId = None,
) -> None:
    """Delete several sessions. Those that are not there, or are not the caller's, are passed over."""
    if doomed.session_types is not None and len(doomed.session_types) != len(doomed.session_ids):
        raise Refused(422, "invalid_argument", "session_types: must be as many as session_ids, or be left out")
    await service.database(db_id).adelete_sessions(doomed.session_ids, caller.writes_as(user_id or None))


async def session_of(db: Store, session_id: str, user_id: str | None, kind: Kind | None = None) -> AgentSession:
    """The session with all its runs.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    session = await db.aget_session(session_id, user_id)
    if session is None:
        raise _missing(session_id)
    _check_kind(session.header, kind)
    return session


def _check_kind(header: SessionHeader, kind: Kind | None) -> None:
    if kind not in (None, header.kind):
        raise _missing(header.session_id)


def _missing(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"there is no session {session_id!r}")


def _summary(given: Json) -> SessionSummary:
    text, topics = given.get("summary"), given.get("topics") or []
    if not isinstance(text, str) or not isinstance(topics, Sequence) or not all(isinstance(one, str) for one in topics):
        raise InvalidArgument("summary", "must hold a text 'summary' and may hold a list of texts 'topics'")
    return SessionSummary(summary=text, topics=tuple(topics))


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
