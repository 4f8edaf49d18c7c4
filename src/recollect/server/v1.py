"""What AgentOS's routes lack: lists by cursor, versions, generated names, export, and what changes as it changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Header, Query
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from recollect.errors import NotFound, SessionConflict, SessionNotFound
from recollect.naming import title_from_first_message
from recollect.port import Tx, reads
from recollect.run import RunStatus
from recollect.selection import Filter
from recollect.server import sessions, wire
from recollect.server.problem import Refused
from recollect.server.route import CallerOf, DbId, Limit, Route, ServiceOf, UserId
from recollect.server.service import Kind, Service, header_of
from recollect.server.stream import EventStream
from recollect.session import SessionHeader
from recollect.store import Store
from recollect.store.lists import MOST
from recollect.store.sessions import KINDS, get_header, get_values
from recollect.transfer import write_line

IfMatch = Annotated[
    str | None, Header(description="The ETag that the session must still have; else 412 and nothing is changed.")
]
IfNoneMatch = Annotated[str | None, Header(description="The ETag that is known: 304 where it still holds.")]
Json = dict[str, Any]


class Me(wire.Shape):
    """Who the caller is taken for."""

    user_id: str | None
    scopes: list[str]


class Entry(wire.Shape):
    """A session without its content."""

    session_id: str
    kind: str = Field(examples=["agent"])
    agent_id: str | None
    team_id: str | None
    user_id: str | None
    name: str = Field(description="Empty while it has none.")
    name_source: str | None = Field(description="``manual``, ``auto`` or ``fallback``.")
    title: str = Field(description="The name, else the start of what was first asked, else the id.")
    preview: str
    archived: bool
    pinned: bool
    expires_at: datetime | None
    run_count: int
    completed_count: int
    message_count: int
    input_tokens: int
    output_tokens: int
    aux_tokens: int = Field(description="Tokens spent on names and summaries.")
    version: int = Field(description="Rises with each change.")
    created_at: datetime
    updated_at: datetime


class Page(wire.Shape):
    """Some sessions of a longer list."""

    sessions: list[Entry]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class Hit(wire.Shape):
    """One text that holds what was searched for."""

    session_id: str
    session_name: str = Field(description="Empty while it has none.")
    user_id: str | None
    where: Literal["message", "name", "summary"]
    run_id: str | None = Field(description="Null of a name and a summary, as the three below.")
    run_seq: int | None = Field(description="The place of the run in its session.")
    idx: int | None = Field(description="The place of the message in its run.")
    role: str | None
    snippet: str = Field(description="A piece of the text, as it was said: escape it before it is part of a page.")
    marks: list[tuple[int, int]] = Field(
        description="Where the terms are in the snippet: begin and end of each, in characters of Unicode."
    )
    time: datetime
    rank: float = Field(description="How well the text fits, from 0 to 1.")


class Hits(wire.Shape):
    """Some of what a search finds, newest first."""

    hits: list[Hit]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class Session(Entry):
    """A session with its values, without its runs."""

    session_state: Json
    metadata: Json
    tags: list[str]
    summary: Json | None


class Change(wire.Shape):
    """What is to be changed; what is not named stays.

    Keys of ``session_state`` and ``metadata`` are set each as a whole; the others stay.
    """

    name: str | None = Field(default=None, examples=["Two days in Porto"])
    session_state: Json | None = None
    metadata: Json | None = None
    tags: list[str] | None = Field(default=None, description="All tags that the session is to have.", max_length=100)
    archived: bool | None = None
    pinned: bool | None = None


class Naming(wire.Shape):
    """How a name is to be made."""

    fallback: str | None = Field(
        default=None, description="The name where the model makes none; unless given, one made of the first message."
    )


class Said(wire.Shape):
    """Messages, oldest first."""

    messages: list[Json] = Field(description="Each in the Chat Completions form, as it was stored.")


async def me(caller: CallerOf) -> Any:
    """Who the caller is taken for, and what it may do."""
    return {"user_id": caller.user_id, "scopes": sorted(caller.scopes)}


async def list_sessions(
    service: ServiceOf,
    caller: CallerOf,
    *,
    db_id: DbId = None,
    user_id: UserId = None,
    kind: Kind | None = None,
    agent_id: str | None = None,
    team_id: str | None = None,
    name: Annotated[str | None, Query(description="A part of the name, whatever the case and accents.")] = None,
    tag: Annotated[list[str] | None, Query(description="A tag that it must have; several are all wanted.")] = None,
    archived: bool | None = None,
    pinned: bool | None = None,
    since: Annotated[datetime | None, Query(description="The earliest time that is wanted, with its offset.")] = None,
    until: Annotated[datetime | None, Query(description="The time before which is wanted.")] = None,
    sort: Literal["updated_at", "created_at"] = "updated_at",
    limit: Limit = None,
    cursor: Annotated[str | None, Query(description="The ``next_cursor`` of the page before.")] = None,
) -> Any:
    """A page of sessions, newest first. Any page costs the same, however long the list is."""
    page = await service.database(db_id).aget_sessions(
        user_id=caller.reads_as(user_id or None),
        kind=kind,
        agent_id=agent_id,
        team_id=team_id,
        name=name,
        tags=tag,
        archived=archived,
        pinned=pinned,
        since=since,
        until=until,
        sort=sort,
        limit=service.limits.page_size(limit),
        cursor=cursor,
    )
    return Page(sessions=[Entry.model_validate(header) for header in page], next_cursor=page.next_cursor)


async def search(
    service: ServiceOf,
    caller: CallerOf,
    *,
    q: Annotated[str, Query(description='Words, "phrases" and beginnings (foo*); all of them are wanted.')],
    db_id: DbId = None,
    user_id: UserId = None,
    kind: Kind | None = None,
    agent_id: str | None = None,
    since: Annotated[datetime | None, Query(description="The earliest time that is wanted, with its offset.")] = None,
    until: Annotated[datetime | None, Query(description="The time before which is wanted.")] = None,
    limit: Limit = None,
    cursor: Annotated[str | None, Query(description="The ``next_cursor`` of the page before.")] = None,
) -> Any:
    """What was said, and the names and summaries of sessions, in which all of ``q`` is found."""
    page = await service.database(db_id).asearch(
        q,
        user_id=caller.reads_as(user_id or None),
        kind=kind,
        agent_id=agent_id,
        since=since,
        until=until,
        limit=service.limits.page_size(limit),
        cursor=cursor,
    )
    return Hits(hits=[Hit.model_validate(hit) for hit in page], next_cursor=page.next_cursor)


async def get_session(
    service: ServiceOf,
    caller: CallerOf,
    response: Response,
    session_id: str,
    db_id: DbId = None,
    user_id: UserId = None,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """A session with its state, metadata, tags and summary; its version is the ``ETag``."""
    db, user = service.database(db_id), caller.reads_as(user_id or None)
    if if_none_match is not None:
        known = etag(await header_of(db, session_id, user))
        if known in _tags(if_none_match):
            return Response(status_code=304, headers={"ETag": known})
    return _tagged(response, *await _whole(db, session_id, user))


async def change_session(
    service: ServiceOf,
    caller: CallerOf,
    response: Response,
    session_id: str,
    change: Change,
    db_id: DbId = None,
    user_id: UserId = None,
    if_match: IfMatch = None,
) -> Any:
    """Change a session. With ``If-Match``, name, state and metadata change together or not at all."""
    db, user = service.database(db_id), caller.writes_as(user_id or None)
    header = await header_of(db, session_id, user)
    if if_match is None:
        await _change(service, db, header, change, user)
    else:
        await _change_if(service, db, session_id, change, user, if_match)
    return _tagged(response, *await _whole(db, session_id, user))


async def _change(service: Service, db: Store, header: SessionHeader, change: Change, user: str | None) -> None:
    session_id = header.session_id
    if change.name is not None:
        await sessions.set_name(service, db, header, change.name, user)
    if change.session_state:
        await db.aupdate_values(session_id, "state", change.session_state, user)
    if change.metadata:
        await db.aupdate_values(session_id, "metadata", change.metadata, user)
    if change.tags is not None:
        had = await db.aget_values(session_id, "tag", user)
        gone = sorted(had.keys() - set(change.tags))
        await db.atag_session(session_id, change.tags, remove=gone, user_id=user)
    if change.archived is not None:
        await db.aarchive_session(session_id, change.archived, user)
    if change.pinned is not None:
        await db.apin_session(session_id, change.pinned, user)


async def _change_if(
    service: Service, db: Store, session_id: str, change: Change, user: str | None, if_match: str
) -> None:
    """Change name, state and metadata in one transaction, where the session is still what the caller knows.

    Raises:
        Refused: it is not, or something else was to be changed along.
    """
    if change.tags is not None or change.archived is not None or change.pinned is not None:
        raise Refused(422, "invalid_argument", "If-Match: goes with name, session_state and metadata, and nothing else")
    session = await sessions.session_of(db, session_id, user)
    check_match(session.header, if_match)
    if change.name is not None:
        session.name = change.name
    session.session_state |= change.session_state or {}
    session.metadata |= change.metadata or {}
    try:
        await sessions.save(service, db, session)
    except SessionConflict as error:
        raise Refused(412, "precondition_failed", str(error)) from error


async def delete_session(
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    db_id: DbId = None,
    user_id: UserId = None,
    if_match: IfMatch = None,
) -> None:
    """Delete a session with everything in it. ``If-Match`` is looked at before; what happens just then is deleted."""
    db, user = service.database(db_id), caller.writes_as(user_id or None)
    if if_match is not None:
        check_match(await header_of(db, session_id, user), if_match)
    await db.adelete_session(session_id, user)


async def name_session(
    service: ServiceOf,
    caller: CallerOf,
    response: Response,
    session_id: str,
    naming: Annotated[Naming | None, Body()] = None,
    db_id: DbId = None,
    user_id: UserId = None,
) -> Any:
    """Have a model name a session after what was said in it. A name that is set by hand meanwhile stays."""
    db, user = service.database(db_id), caller.writes_as(user_id or None)
    keeper = service.keeper(db, await header_of(db, session_id, user))
    if keeper is None:
        raise NotFound("no agent or team is served over this database, so there is no model to make a name")
    fallback = None if naming is None else naming.fallback
    await keeper.aset_session_name(
        session_id, autogenerate=True, fallback=fallback or title_from_first_message, user_id=user
    )
    return _tagged(response, *await _whole(db, session_id, user))


async def get_messages(
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    *,
    db_id: DbId = None,
    user_id: UserId = None,
    last_n_runs: Annotated[int | None, Query(ge=1, le=MOST, description="Only of so many runs, the newest.")] = None,
    limit: Limit = None,
    every_status: Annotated[bool, Query(description="Runs without an answer, too.")] = False,
    members: Annotated[bool, Query(description="Runs of a team's members, too.")] = False,
) -> Any:
    """What was said in a session, oldest first, reading only the runs it is in."""
    wanted = Filter.checked(
        last_n_runs=last_n_runs,
        limit=service.limits.page_size(limit, 100),
        skip_statuses=(RunStatus.regenerated,) if every_status else None,
        skip_member_messages=not members,
    )
    found = await service.database(db_id).aget_messages(session_id, wanted, caller.reads_as(user_id or None))
    return {"messages": [message.to_dict() for message in found]}


async def export_session(
    service: ServiceOf, caller: CallerOf, session_id: str, db_id: DbId = None, user_id: UserId = None
) -> Any:
    """All of a session, as ``recollect sessions import`` takes it."""
    db = service.database(db_id)
    session = await sessions.session_of(db, session_id, caller.reads_as(user_id or None))
    return Response(write_line(session), media_type="application/json")


async def export_sessions(service: ServiceOf, caller: CallerOf, db_id: DbId = None, user_id: UserId = None) -> Any:
    """All sessions that the caller may read, one a line, as ``recollect sessions import`` takes them."""
    db, user = service.database(db_id), caller.reads_as(user_id or None)
    return StreamingResponse(_lines(db, user), media_type="application/x-ndjson")


async def _lines(db: Store, user_id: str | None) -> AsyncIterator[str]:
    async for header in db.aiter_sessions(user_id=user_id, sort="created_at"):
        session = await db.aget_session(header.session_id, user_id)
        if session is not None:  # deleted meanwhile
            yield write_line(session).rstrip("\n") + "\n"


async def watch_sessions(
    service: ServiceOf,
    caller: CallerOf,
    user_id: UserId = None,
    last_event_id: Annotated[str | None, Header(description="The last change that is known.")] = None,
) -> Any:
    """What changes in the caller's sessions, as server-sent events, from whatever process it comes.

    ``session`` says which session changed, and its new version, or null where it was deleted; ``reset`` that changes
    were missed: read the list anew.
    """
    return _stream(service, caller.reads_as(user_id or None), None, last_event_id)


async def watch_session(
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    user_id: UserId = None,
    last_event_id: Annotated[str | None, Header(description="The last change that is known.")] = None,
) -> Any:
    """What changes in one session, as server-sent events."""
    user = caller.reads_as(user_id or None)
    await header_of(service.db, session_id, user)
    return _stream(service, user, session_id, last_event_id)


def _stream(service: Service, user_id: str | None, session_id: str | None, last_id: str | None) -> EventStream:
    assert service.hub is not None  # without a feed these routes are not there
    if service.under_way.is_ending:
        raise Refused(503, "ending", "the server is about to end; ask again", {"Retry-After": "1"})
    events = service.hub.events(user_id=user_id, session_id=session_id, last_id=last_id)
    return EventStream(events, service.limits, service.under_way)


async def _whole(db: Store, session_id: str, user_id: str | None) -> tuple[SessionHeader, Session]:
    """The session with its values, at one moment.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    header, values = await db.atransact(_read, session_id, user_id)
    if header is None:
        msg = f"there is no session {session_id!r}"
        raise SessionNotFound(msg)
    return header, Session(
        **{name: getattr(header, name) for name in Entry.model_fields},
        session_state=values["state"],
        metadata=values["metadata"],
        tags=sorted(values["tag"]),
        summary=values["summary"].get("summary"),
    )


@reads
async def _read(tx: Tx, session_id: str, user_id: str | None) -> tuple[SessionHeader | None, dict[str, Json]]:
    header = await get_header(tx, session_id, user_id)
    if header is None:
        return None, {}
    return header, {kind: await get_values(tx, session_id, kind, user_id) for kind in KINDS}


def _tagged(response: Response, header: SessionHeader, session: Session) -> Session:
    response.headers["ETag"] = etag(header)
    return session


def etag(header: SessionHeader) -> str:
    """What names this state of a session."""
    return f'"{header.epoch:x}-{header.version}"'


def check_match(header: SessionHeader, if_match: str) -> None:
    """See to it that a session is still what the caller knows.

    Raises:
        Refused: it is not.
    """
    if "*" not in _tags(if_match) and etag(header) not in _tags(if_match):
        detail = f"session {header.session_id!r} was changed since; its ETag is now {etag(header)}"
        raise Refused(412, "precondition_failed", detail, {"ETag": etag(header)})


def _tags(given: str) -> list[str]:
    return [tag.strip() for tag in given.split(",")]


_ONE: Final = "/v1/sessions/{session_id}"
_SSE: Final = "text/event-stream"

_WITH_ETAG: Final = {
    "description": "The session",
    "headers": {"ETag": {"description": "Names this version of it.", "schema": {"type": "string"}, "required": True}},
}
_SAME: Final = {"description": "It is still what the caller knows", "content": {}}

ROUTES: Final = (
    Route("GET", "/v1/me", me, shape=Me, tag="v1"),
    Route("GET", "/v1/sessions", list_sessions, shape=Page, tag="v1"),
    Route("GET", "/v1/search", search, shape=Hits, tag="v1"),
    Route("GET", _ONE, get_session, shape=Session, tag="v1", responses={200: _WITH_ETAG, 304: _SAME}),
    Route("PATCH", _ONE, change_session, "write", shape=Session, tag="v1", responses={200: _WITH_ETAG}),
    Route("DELETE", _ONE, delete_session, "write", 204, tag="v1"),
    Route("POST", f"{_ONE}/name", name_session, "write", shape=Session, tag="v1", responses={200: _WITH_ETAG}),
    Route("GET", f"{_ONE}/messages", get_messages, shape=Said, tag="v1"),
    Route("GET", f"{_ONE}/export", export_session, tag="v1"),
    Route("GET", "/v1/export", export_sessions, media_type="application/x-ndjson", tag="v1"),
)

FEED_ROUTES: Final = (
    Route("GET", "/v1/events", watch_sessions, media_type=_SSE, tag="v1"),
    Route("GET", f"{_ONE}/events", watch_session, media_type=_SSE, tag="v1"),
)
"""Where there is a feed of what changes."""
