"""Sessions by their versions: read, changed, named, deleted, and what was said in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Body, Query
from starlette.responses import Response

from recollect.errors import NotFound
from recollect.naming import title_from_first_message
from recollect.port import Tx, reads, writes
from recollect.run import RunStatus
from recollect.selection import Filter
from recollect.server.fields import Json, Limit, SessionId
from recollect.server.limits import MOST
from recollect.server.reach import Reach
from recollect.server.route import ReadsOf, ServiceOf, WritesOf
from recollect.server.v1.etag import IfMatch, IfNoneMatch, check_match, etag, is_known
from recollect.server.v1.shapes import Change, Entry, Naming, Session
from recollect.session import SessionHeader
from recollect.store import changes, marks
from recollect.store.rows import no_session
from recollect.store.sessions import KINDS, get_header, get_values

Whole = tuple[SessionHeader, Mapping[str, Json]]
"""A session with its values by kind, at one moment."""


async def get_session(
    reach: ReadsOf, response: Response, session_id: SessionId, if_none_match: IfNoneMatch = None
) -> Any:
    """A session with its state, metadata, tags and summary; its version is the ``ETag``."""
    if if_none_match is not None:
        header = await reach.header(session_id)
        if is_known(header, if_none_match):
            return Response(status_code=304, headers={"ETag": etag(header)})
    return _told(response, await _whole(reach, session_id))


async def change_session(
    service: ServiceOf,
    reach: WritesOf,
    response: Response,
    session_id: SessionId,
    change: Change,
    if_match: IfMatch = None,
) -> Any:
    """Change a session: all that is named together, or nothing. ``If-Match`` is judged in the same transaction."""
    name = change.name
    if name is not None:
        name = service.approved(reach.db, name, await reach.header(session_id))
    known = change.model_copy(update={"name": name})
    return _told(response, await reach.db.atransact(_change, session_id, known, reach.user_id, if_match))


async def delete_session(reach: WritesOf, session_id: SessionId, if_match: IfMatch = None) -> None:
    """Delete a session with everything in it. ``If-Match`` is looked at before; what happens just then is deleted."""
    if if_match is not None:
        check_match(await reach.header(session_id), if_match)
    await reach.db.adelete_session(session_id, reach.user_id)


async def name_session(
    service: ServiceOf,
    reach: WritesOf,
    response: Response,
    session_id: SessionId,
    naming: Annotated[Naming | None, Body()] = None,
) -> Any:
    """Have a model name a session after what was said in it. A name that is set by hand meanwhile stays."""
    keeper = service.keeper(reach.db, await reach.header(session_id))
    if keeper is None:
        raise NotFound("no agent or team is served over this database, so there is no model to make a name")
    fallback = None if naming is None else naming.fallback
    await keeper.aset_session_name(
        session_id, autogenerate=True, fallback=fallback or title_from_first_message, user_id=reach.user_id
    )
    return _told(response, await _whole(reach, session_id))


async def get_messages(
    service: ServiceOf,
    reach: ReadsOf,
    session_id: SessionId,
    *,
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
    found = await reach.db.aget_messages(session_id, wanted, reach.user_id)
    return {"messages": [message.to_dict() for message in found]}


async def _whole(reach: Reach, session_id: str) -> Whole:
    return await reach.db.atransact(_read, session_id, reach.user_id)


@reads
async def _read(tx: Tx, session_id: str, user_id: str | None) -> Whole:
    header = await get_header(tx, session_id, user_id)
    if header is None:
        raise no_session(session_id)
    return header, {kind: await get_values(tx, session_id, kind, user_id) for kind in KINDS}


@writes
async def _change(tx: Tx, session_id: str, change: Change, user_id: str | None, if_match: str | None) -> Whole:
    header = await changes.hold_session(tx, session_id, user_id)
    if if_match is not None:
        check_match(header, if_match)
    if change.name is not None:
        await changes.set_session_name(tx, session_id, change.name, user_id)
    for kind, values in (("state", change.session_state), ("metadata", change.metadata)):
        if values:
            await changes.update_values(tx, session_id, kind, values, user_id)
    if change.tags is not None:
        gone = sorted((await get_values(tx, session_id, "tag", user_id)).keys() - set(change.tags))
        await changes.tag_session(tx, session_id, change.tags, remove=gone, user_id=user_id)
    if change.archived is not None:
        await marks.archive_session(tx, session_id, change.archived, user_id)
    if change.pinned is not None:
        await marks.pin_session(tx, session_id, change.pinned, user_id)
    return await _read(tx, session_id, user_id)


def _told(response: Response, whole: Whole) -> Session:
    header, values = whole
    response.headers["ETag"] = etag(header)
    return Session(
        **{name: getattr(header, name) for name in Entry.model_fields},
        session_state=values["state"],
        metadata=values["metadata"],
        tags=sorted(values["tag"]),
        summary=values["summary"].get("summary"),
    )
