"""Lists by cursor, of sessions and of what is found in them: any page costs the same."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Depends, Query

from recollect.query import LONGEST
from recollect.server.fields import Cursor, Id, IdOrNone, Limit, Moment
from recollect.server.route import ReadsOf, ServiceOf
from recollect.server.service import Kind
from recollect.server.v1.shapes import Entry, Hit, Hits, Page
from recollect.store import Store
from recollect.store.hits import MOST


class Part(NamedTuple):
    """The part of a list that is wanted, and of whose sessions."""

    db: Store
    named: dict[str, Any]
    """What lists and searches take alike."""


async def part_of(
    reach: ReadsOf,
    *,
    kind: Annotated[Kind | None, Query(description="Whether agents' or teams' are meant.")] = None,
    agent_id: Annotated[IdOrNone | None, Query(description="The agent whose sessions are meant.")] = None,
    since: Annotated[
        Moment | None,
        Query(description="The earliest time that is wanted, with its offset.", examples=["2026-01-01T00:00:00Z"]),
    ] = None,
    until: Annotated[
        Moment | None,
        Query(description="The time before which is wanted.", examples=["2026-02-01T00:00:00+01:00"]),
    ] = None,
    cursor: Cursor = None,
) -> Part:
    """What a request wants of a list; an empty id or cursor means none."""
    named = {"kind": kind, "agent_id": agent_id or None, "since": since, "until": until, "cursor": cursor or None}
    return Part(reach.db, {"user_id": reach.user_id, **named})


PartOf = Annotated[Part, Depends(part_of)]


async def list_sessions(
    service: ServiceOf,
    part: PartOf,
    *,
    team_id: Annotated[IdOrNone | None, Query(description="The team whose sessions are meant.")] = None,
    name: Annotated[
        str | None, Query(description="A part of the name, whatever the case and accents.", examples=["porto"])
    ] = None,
    tag: Annotated[
        list[Id] | None, Query(description="A tag that it must have; several are all wanted.", examples=[["travel"]])
    ] = None,
    archived: Annotated[bool | None, Query(description="Whether archived ones are meant, or the others.")] = None,
    pinned: Annotated[bool | None, Query(description="Whether pinned ones are meant, or the others.")] = None,
    sort: Annotated[Literal["updated_at", "created_at"], Query(description="By what, newest first.")] = "updated_at",
    limit: Limit = None,
) -> Any:
    """A page of sessions, newest first. Any page costs the same, however long the list is."""
    page = await part.db.aget_sessions(
        **part.named,
        team_id=team_id or None,
        name=name or None,
        tags=tag,
        archived=archived,
        pinned=pinned,
        sort=sort,
        limit=service.limits.page_size(limit),
    )
    return Page(sessions=[Entry.model_validate(header) for header in page], next_cursor=page.next_cursor)


async def search(
    service: ServiceOf,
    part: PartOf,
    q: Annotated[
        str,
        Query(
            description='Words, "phrases" and beginnings (foo*); all of them are wanted.',
            examples=["porto hot*"],
            max_length=LONGEST,
        ),
    ],
    session_id: Annotated[IdOrNone | None, Query(description="The one session that is searched.")] = None,
    limit: Annotated[int | None, Query(ge=1, le=MOST, description="How many at most; 20 hits.", examples=[20])] = None,
) -> Any:
    """What was said, and the names and summaries of sessions, in which all of ``q`` is found."""
    page = await part.db.asearch(q, **part.named, session_id=session_id or None, limit=service.limits.page_size(limit))
    return Hits(hits=[Hit.model_validate(hit) for hit in page], next_cursor=page.next_cursor)
