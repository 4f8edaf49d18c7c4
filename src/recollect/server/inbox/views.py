"""What the inbox shows: the list, a session, and the pieces of both that are loaded later."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import Query
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from recollect.errors import NotFound, SearchUnavailable
from recollect.hit import SearchHit
from recollect.runner import Runner
from recollect.server.caller import Caller
from recollect.server.fields import SessionId
from recollect.server.inbox import shown, twins
from recollect.server.inbox.door import cookie_of
from recollect.server.inbox.page import ZONE, page, zone_of
from recollect.server.inbox.shown import Day, Entry, days_of, turns_of
from recollect.server.inbox.wanted import View
from recollect.server.reach import Reach
from recollect.server.route import CallerOf, Route, ServiceOf
from recollect.server.service import Service
from recollect.session import SessionHeader, SessionPage
from recollect.store import Store
from recollect.store.pages import RunPage, get_ends, get_run_page
from recollect.store.rows import no_session

ROWS: Final = 40
"""Sessions that are listed at once."""

NAMED: Final = 8
"""Sessions that a search lists for their name."""

HITS: Final = 20

TURNS: Final = 20
"""Runs of a session that are shown at once."""

NEAR: Final = 5
"""Runs that are shown before the one that was asked for."""

Place = Annotated[int | None, Query(ge=0, lt=1 << 31)]


DONE: Final = {
    "renamed": "Renamed",
    "named": "Named",
    "done": "Moved to Done",
    "open": "Moved back to Open",
    "pinned": "Pinned",
    "unpinned": "No longer pinned",
    "tagged": "Tags saved",
    "deleted": "Deleted",
    "forked": "This is the fork",
    "undone": "Undone",
    "late": "It is too late to undo that",
}
"""What is said of something that was done, by its key in an address."""


class Listing(msgspec.Struct, frozen=True):
    """What the left side holds."""

    days: list[Day]
    more: str | None
    """The cursor of the next page; None on the last one."""
    hits: Sequence[SearchHit] = ()
    trouble: str = ""
    """Why the text could not be searched."""

    @property
    def is_empty(self) -> bool:
        return not self.days and not self.hits


async def index(request: Request, service: ServiceOf, caller: CallerOf, cursor: str | None = None) -> Response:
    """The list, and nothing opened."""
    view = View.of(request.query_params)
    listing = await list_of(service, caller, view, request, cursor)
    return await page(request, "index.html", **usual(request, service, caller, view), listing=listing, opened=None)


async def index_json(request: Request, service: ServiceOf, caller: CallerOf, cursor: str | None = None) -> Response:
    """The list as data."""
    return twins.list_json(await _page(service, caller, View.of(request.query_params), cursor))


async def index_md(request: Request, service: ServiceOf, caller: CallerOf, cursor: str | None = None) -> Response:
    """The list as text."""
    return twins.list_md(await _page(service, caller, View.of(request.query_params), cursor))


async def rows(
    request: Request, service: ServiceOf, caller: CallerOf, cursor: str | None = None, day: str = "", open: str = ""
) -> Response:
    """A piece of the list: its begin, what is searched for, or what comes after a cursor."""
    view = View.of(request.query_params)
    listing = await list_of(service, caller, view, request, cursor)
    context = usual(request, service, caller, view)
    return await page(request, "rows.html", **context, listing=listing, last_day=day, opened_id=open)


async def session(
    request: Request, service: ServiceOf, caller: CallerOf, session_id: SessionId, at: Place = None
) -> Response:
    """A session beside the list; as data or text where its address ends with ``.json`` or ``.md``."""
    view = View.of(request.query_params)
    reach = Reach(service.database(view.db or None), caller.reads_as(None))
    header = await reach.db.aget_header(session_id, reach.user_id)
    if header is None:
        for ending, twin in twins.TWINS.items():
            if len(session_id) > len(ending) and session_id.endswith(ending):
                return await twin(reach, session_id.removesuffix(ending))
        raise no_session(session_id)
    context = usual(request, service, caller, view)
    opened = await opened_of(service, caller, reach.db, header, at)
    if request.headers.get("hx-request") == "true":
        return await page(request, "session.html", **context, opened=opened)
    listing = await list_of(service, caller, view, request)
    return await page(request, "index.html", **context, listing=listing, opened=opened)


async def new(request: Request, service: ServiceOf, caller: CallerOf) -> Response:
    """A conversation that has not begun."""
    view = View.of(request.query_params)
    context = usual(request, service, caller, view)
    if request.headers.get("hx-request") == "true":
        return await page(request, "new.html", **context)
    listing = await list_of(service, caller, view, request)
    return await page(request, "index.html", **context, listing=listing, opened="new")


async def turns(
    request: Request,
    service: ServiceOf,
    caller: CallerOf,
    session_id: str,
    before: Place = None,
    after: Place = None,
) -> Response:
    """Runs of a session before or after those that are shown."""
    view = View.of(request.query_params)
    db, user = service.database(view.db or None), caller.reads_as(None)
    header = await Reach(db, user).header(session_id)
    found = await db.atransact(get_run_page, session_id, before=before, after=after, limit=TURNS, user_id=user)
    opened = Opened(header, {}, (), found, (), None, may_write=may_write(caller, header), at=None)
    context = usual(request, service, caller, view)
    return await page(request, "turns.html", **context, opened=opened, onward=after is not None)


class Opened(msgspec.Struct, frozen=True):
    """What the right side holds."""

    header: SessionHeader
    metadata: dict[str, Any]
    tags: Sequence[str]
    runs: RunPage
    runners: Sequence[Runner]
    """Who may answer here."""
    own: Runner | None
    """Who answers unless another one is chosen."""
    may_write: bool
    at: int | None
    """The run that was asked for."""

    @property
    def turns(self) -> list[shown.Turn]:
        return turns_of(self.runs.runs)

    @property
    def first(self) -> int:
        return min((run.run_seq or 0 for run in self.runs.runs), default=0)

    @property
    def last(self) -> int:
        return max((run.run_seq or 0 for run in self.runs.runs), default=0)

    @property
    def tickets(self) -> list[tuple[str, str]]:
        return shown.tickets(self.metadata)


async def opened_of(
    service: Service, caller: Caller, db: Store, header: SessionHeader, at: int | None = None
) -> Opened:
    """A session as it is shown: its newest runs, or those around one."""
    session_id, user = header.session_id, caller.reads_as(None)
    after = None if at is None else max(0, at - NEAR)
    found = await db.atransact(get_run_page, session_id, after=after, limit=TURNS, user_id=user)
    return Opened(
        header,
        await db.aget_values(session_id, "metadata", user),
        sorted(await db.aget_values(session_id, "tag", user)),
        found,
        runners_of(service, db),
        answering(service, db, header),
        may_write=may_write(caller, header),
        at=at,
    )


def runners_of(service: Service, db: Store) -> list[Runner]:
    """The agents and teams that keep their sessions in a database."""
    return [runner for runner in service.runners if service.db_id(runner.db) == service.db_id(db)]


def answering(service: Service, db: Store, header: SessionHeader) -> Runner | None:
    """Who answers in a session unless somebody else is chosen: whoever it was begun with, where they are there."""
    near, own = runners_of(service, db), header.team_id if header.kind == "team" else header.agent_id
    return next((one for one in near if (one.KIND, one.id) == (header.kind, own)), next(iter(near), None))


def may_write(caller: Caller, header: SessionHeader) -> bool:
    """Whether a caller may change a session that it may read."""
    return "admin" in caller.scopes or ("user" in caller.scopes and header.user_id == caller.user_id)


async def list_of(service: Service, caller: Caller, view: View, request: Request, cursor: str | None = None) -> Listing:
    """The sessions of a view; where something is searched for, those with such a name, and the texts that hold it."""
    db = service.database(view.db or None)
    found = await _page(service, caller, view, cursor)
    ends = await db.atransact(get_ends, [header.session_id for header in found])
    entries = [Entry(header, ends.get(header.session_id, "")) for header in found]
    days = days_of(entries, datetime.now(UTC), zone_of(request))
    if not view.q:
        return Listing(days, found.next_cursor)
    hits, trouble = await _hits(service, caller, view)
    return Listing(days, None, hits, trouble)


async def _page(service: Service, caller: Caller, view: View, cursor: str | None) -> SessionPage:
    return await service.database(view.db or None).aget_sessions(
        **view.filters(service.teams),
        user_id=caller.reads_as(view.user or None),
        name=view.q or None,
        limit=NAMED if view.q else ROWS,
        cursor=cursor,
    )


async def _hits(service: Service, caller: Caller, view: View) -> tuple[list[SearchHit], str]:
    """The texts that hold what is searched for; names are listed already."""
    filters, db = view.filters(service.teams), service.database(view.db or None)
    try:
        found = await db.asearch(
            view.q,
            user_id=caller.reads_as(view.user or None),
            kind=filters["kind"] or ("team" if filters["team_id"] else None),
            agent_id=filters["agent_id"],
            limit=HITS,
        )
    except SearchUnavailable as error:
        return [], str(error)
    return await _titled(db, [hit for hit in found if hit.where != "name"], caller.reads_as(None)), ""


async def _titled(db: Store, hits: Sequence[SearchHit], user_id: str | None) -> list[SearchHit]:
    """Hits with what their sessions are listed as, where they have no name."""
    unnamed = {hit.session_id for hit in hits if not hit.session_name}
    found = await asyncio.gather(*(db.aget_header(session_id, user_id) for session_id in unnamed))
    titles = {header.session_id: header.title for header in found if header is not None}
    return [
        hit if hit.session_name else replace(hit, session_name=titles.get(hit.session_id, hit.session_id))
        for hit in hits
    ]


def usual(request: Request, service: Service, caller: Caller, view: View) -> dict[str, Any]:
    """What every page is made with."""
    return {
        "view": view,
        "caller": caller,
        "sees_all": caller.reads_as(None) is None,
        "may_speak": bool(caller.scopes & {"user", "admin"}),
        "runners": runners_of(service, service.database(view.db or None)),
        "databases": [*service.databases],
        "zone": zone_of(request),
        "zone_cookie": ZONE,
        "now": datetime.now(UTC),
        "base": str(request.base_url).rstrip("/"),
        "did": DONE.get(request.query_params.get("did", ""), ""),
        "undo_name": request.query_params.get("undo", ""),
        "signed_in": cookie_of(request) in request.cookies,
    }


def runner_of(service: Service, named: str) -> Runner:
    """The agent or team that a form names as ``agent:desk``.

    Raises:
        NotFound: there is none.
    """
    for runner in service.runners:
        if named == f"{runner.KIND}:{runner.id}":
            return runner
    msg = f"there is no agent or team {named!r}"
    raise NotFound(msg)


ROUTES: Final = (
    Route("GET", "/", index, is_page=True),
    Route("GET", "/index.json", index_json, is_page=True),
    Route("GET", "/index.md", index_md, is_page=True),
    Route("GET", "/new", new, is_page=True),
    Route("GET", "/inbox/rows", rows, is_page=True),
    Route("GET", "/inbox/turns", turns, is_page=True),
    Route("GET", "/s/{session_id}", session, is_page=True),
)
