"""What is done in the inbox: each a form that works without scripts, and answers a script in fewer words.

A script is told by events in the header ``HX-Trigger`` (https://htmx.org/headers/hx-trigger/); anybody else is sent on
to a page that says what was done, with a button to undo it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlencode

from fastapi import Depends, File, Form, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from recollect.copying import copy_sessions
from recollect.db.sqlite import SqliteDb
from recollect.errors import Conflict, NotFound, RunFailed, SessionConflict
from recollect.naming import title_from_first_message
from recollect.runner import Runner
from recollect.server import runs
from recollect.server.caller import Caller
from recollect.server.inbox.desk import desk_of
from recollect.server.inbox.door import onward, root_of
from recollect.server.inbox.page import page
from recollect.server.inbox.views import DONE, answering, runner_of, runners_of, usual
from recollect.server.inbox.wanted import View, path_of
from recollect.server.reach import Reach
from recollect.server.route import CallerOf, Route, ServiceOf
from recollect.server.service import Service
from recollect.server.underway import Serving
from recollect.session import SessionHeader
from recollect.store import Store
from recollect.store.names import restore_session_name

SessionField = Annotated[str, Form(max_length=255)]
RunField = Annotated[str, Form()]
DbField = Annotated[str | None, Form()]
On = Annotated[bool, Form()]
RunnerField = Annotated[str, Form(description="Who answers: agent:ID or team:ID.")]
Uploads = Annotated[list[UploadFile], File()]


class Target(NamedTuple):
    """The session that a form is about, for a caller who may change it."""

    store: Store
    header: SessionHeader
    db: str
    """What addresses call its database; "" for the first."""

    @property
    def id(self) -> str:
        return self.header.session_id

    @property
    def user(self) -> str | None:
        """The user in whose name it is changed: its owner."""
        return self.header.user_id

    @property
    def address(self) -> str:
        return address_of(self.id, self.db)


async def target_of(service: ServiceOf, caller: CallerOf, session_id: SessionField, db: DbField = None) -> Target:
    """What a form is about.

    Raises:
        NotFound: there is no such database, or no such session for this caller.
        Refused: this caller may not write.
    """
    store = service.database(db)
    return Target(store, await Reach(store, caller.writes_as(None)).header(session_id), db or "")


TargetOf = Annotated[Target, Depends(target_of)]


def address_of(session_id: str, db: str) -> str:
    """The page of a session in a database."""
    return path_of(session_id) + View(db=db).query()


async def rename(
    request: Request, service: ServiceOf, caller: CallerOf, target: TargetOf, name: Annotated[str, Form()]
) -> Response:
    """Name a session by hand."""
    approved = service.approved(target.store, name, target.header)
    named = await target.store.aset_session_name(target.id, approved, target.user)
    return _done(request, "renamed", target, _undo_name(request, caller, target, named.name))


async def generate(request: Request, service: ServiceOf, caller: CallerOf, target: TargetOf) -> Response:
    """Have a model name a session."""
    keeper = service.keeper(target.store, target.header)
    if keeper is None:
        raise NotFound("no agent or team is served over this database, so there is no model to make a name")
    await keeper.aset_session_name(target.id, autogenerate=True, fallback=title_from_first_message, user_id=target.user)
    named = await Reach(target.store, target.user).header(target.id)
    return _done(request, "named", target, _undo_name(request, caller, target, named.name))


def _undo_name(request: Request, caller: Caller, target: Target, given: str) -> str:
    """Offer to take back the name that a session was given."""
    return desk_of(request).undos.offer(caller, partial(_name_back, target, given))


async def _name_back(target: Target, given: str) -> str:
    before = target.header
    is_back = await target.store.atransact(
        restore_session_name, target.id, given, before.name, before.name_source, target.user
    )
    if not is_back:
        raise Conflict("the session was given another name meanwhile, which stays")
    return target.id


async def archive(request: Request, caller: CallerOf, target: TargetOf, *, on: On = True) -> Response:
    """Put a session away, or back."""
    await target.store.aarchive_session(target.id, on, target.user)
    undo = desk_of(request).undos.offer(caller, partial(_archive_back, target))
    return _done(request, "done" if on else "open", target, undo)


async def _archive_back(target: Target) -> str:
    await target.store.aarchive_session(target.id, target.header.archived, target.user)
    return target.id


async def pin(request: Request, target: TargetOf, *, on: On = True) -> Response:
    """Pin a session, or let go of it."""
    await target.store.apin_session(target.id, on, target.user)
    return _done(request, "pinned" if on else "unpinned", target)


async def tag(
    request: Request,
    target: TargetOf,
    tags: Annotated[str, Form(description="All tags, with commas between them.")] = "",
) -> Response:
    """Say which tags a session has."""
    wanted = list(dict.fromkeys(one.strip() for one in tags.split(",") if one.strip()))
    had = await target.store.aget_values(target.id, "tag", target.user)
    gone = sorted(had.keys() - set(wanted))
    await target.store.atag_session(target.id, wanted, remove=gone, user_id=target.user)
    return _done(request, "tagged", target)


async def delete(request: Request, caller: CallerOf, target: TargetOf) -> Response:
    """Delete a session with everything in it; a copy is kept in memory for as long as that can be undone."""
    kept = SqliteDb()
    try:
        await asyncio.to_thread(_copy, target.store, kept, target.id, "kept")
        await target.store.adelete_session(target.id, target.user)
    except BaseException:  # also of a cancelled request: nobody else lets go of the copy
        kept.close()
        raise
    undo = desk_of(request).undos.offer(caller, partial(_bring_back, kept, target), kept.close)
    return _done(request, "deleted", target, undo, gone=True)


async def _bring_back(kept: SqliteDb, target: Target) -> str:
    if await target.store.aget_header(target.id) is not None:
        msg = f"there is another session {target.id!r} by now, so the deleted one cannot come back"
        raise SessionConflict(msg)
    await asyncio.to_thread(_copy, kept, target.store, target.id, "brought back")
    return target.id


def _copy(source: Store, to: Store, session_id: str, what: str) -> None:
    """Copy a session, whole or not at all.

    Raises:
        Conflict: it could not be copied.
    """
    report = copy_sessions(source, to, session_ids=[session_id])
    if not report.copied:
        why = "; ".join(outcome.reason for outcome in (*report.differing, *report.failed)) or "it is gone"
        msg = f"session {session_id!r} could not be {what}: {why}"
        raise Conflict(msg)


async def fork(request: Request, target: TargetOf, run_id: Annotated[str | None, Form()] = None) -> Response:
    """Make a session of this one, up to a run."""
    made = await target.store.afork_session(target.id, at_run=run_id, user_id=target.user)
    return _done(request, "forked", target._replace(header=made), go=True)


async def undo(request: Request, caller: CallerOf, deed: Annotated[str, Form()]) -> Response:
    """Undo what was done a moment ago."""
    session_id = await desk_of(request).undos.undo(caller, deed)
    if _is_script(request):
        return _told("late" if session_id is None else "undone", session=session_id or "")
    return _said(request, "/", "late" if session_id is None else "undone")


async def unnamed(request: Request, service: ServiceOf, caller: CallerOf) -> Response:
    """How many sessions of the caller have no name, or how far the naming is."""
    view, desk = View.of(request.query_params), desk_of(request).unnamed
    store, user = service.database(view.db or None), caller.writes_as(None)
    near, whose = runners_of(service, store), (service.db_id(store), user)
    work = desk.work(whose)
    estimate = await desk.estimate(whose, near[0]) if near and work is None else None
    answer = await page(request, "unnamed.html", **usual(request, service, caller, view), work=work, estimate=estimate)
    desk.forget(whose)
    return answer


async def name_all(request: Request, service: ServiceOf, caller: CallerOf, db: DbField = None) -> Response:
    """Name all sessions of the caller that have no name."""
    store, user = service.database(db), caller.writes_as(None)
    near, view = runners_of(service, store), View(db=db or "")
    if not near:
        raise NotFound("no agent or team is served over this database, so there is no model to make names")
    work = desk_of(request).unnamed.begin((service.db_id(store), user), near[0])
    if not _is_script(request):
        return onward(f"{root_of(request.scope)}/{view.query()}")
    return await page(request, "unnamed.html", **usual(request, service, caller, view), work=work, estimate=None)


async def say(
    request: Request,
    service: ServiceOf,
    caller: CallerOf,
    message: Annotated[str, Form(min_length=1)],
    runner: RunnerField,
    session_id: Annotated[str, Form(max_length=255)] = "",
    files: Uploads = [],  # noqa: B006 - FastAPI copies it
    db: DbField = None,
) -> Response:
    """Say something in a session, or in a new one, and have it answered."""
    store, chosen = service.database(db), runner_of(service, runner)
    if chosen not in runners_of(service, store):
        msg = f"{chosen.KIND} {chosen.id!r} keeps its sessions in another database"
        raise NotFound(msg)
    user = (await target_of(service, caller, session_id, db)).user if session_id else caller.speaks_as(None)
    given = await runs.given([file for file in files if file.filename])
    events = chosen.arun(message, stream_events=True, session_id=session_id or None, user_id=user, **given)
    return await _run(request, service, Serving(chosen, user), events, db or "")


async def continue_run(request: Request, service: ServiceOf, target: TargetOf, run_id: RunField) -> Response:
    """Take up a run that ended early, where it stopped."""
    chosen = _answering(service, target)
    events: Any = chosen.acontinue_run(run_id, session_id=target.id, user_id=target.user, stream_events=True)
    return await _run(request, service, Serving(chosen, target.user), events, target.db)


async def retry(request: Request, service: ServiceOf, target: TargetOf, run_id: RunField) -> Response:
    """Answer what was asked in a run anew, in its place."""
    chosen = _answering(service, target)
    events: Any = chosen.aregenerate(run_id, session_id=target.id, user_id=target.user, stream_events=True)
    return await _run(request, service, Serving(chosen, target.user), events, target.db)


async def stop(request: Request, service: ServiceOf, target: TargetOf, run_id: RunField) -> Response:
    """Ask for a run to be ended, in whatever process it is."""
    await _answering(service, target).acancel_run(run_id, target.id, user_id=target.user)
    if _is_script(request):
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return onward(root_of(request.scope) + target.address)


def _answering(service: Service, target: Target) -> Runner:
    """Who takes up a run of a session.

    Raises:
        NotFound: nobody is there.
    """
    chosen = answering(service, target.store, target.header)
    if chosen is None:
        raise NotFound("no agent or team is served over this database, so nobody can answer")
    return chosen


async def _run(request: Request, service: Service, serving: Serving, events: Any, db: str) -> Response:
    """A run, told as it happens to a script; for anybody else, when it is over, the session with it.

    It goes on when the reader turns to something else; ``stop`` is there to end it.
    """
    streams = "text/event-stream" in request.headers.get("accept", "")
    try:
        answer = await runs.answered(
            service, serving, events, runs.Asked(streams, None, None, members=False, stays=True)
        )
    except RunFailed as failed:
        if streams or failed.run is None:
            raise
        answer = failed.run
    return answer if streams else onward(root_of(request.scope) + address_of(answer.session_id, db))


def _done(
    request: Request, what: str, target: Target, deed: str | None = None, *, gone: bool = False, go: bool = False
) -> Response:
    """Say what was done to a session; ``gone``: it is deleted, ``go``: it is the next to be shown."""
    if _is_script(request):
        then = {"go": root_of(request.scope) + target.address} if go else {}
        return _told(what, session=target.id, undo=deed, gone=gone, **then)
    return _said(request, "/" + View(db=target.db).query() if gone else target.address, what, deed)


def _told(what: str, **more: Any) -> Response:
    """Say what was done to a script."""
    told = {"done": {"text": DONE[what], "undo": None, "gone": False, **more}}
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"HX-Trigger": json.dumps(told)})


def _said(request: Request, address: str, what: str, deed: str | None = None) -> Response:
    """Say what was done on the next page."""
    said = urlencode({"did": what} | ({"undo": deed} if deed else {}))
    return onward(f"{root_of(request.scope)}{address}{'&' if '?' in address else '?'}{said}")


def _is_script(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"


_FORMS: Final[Mapping[str, Callable[..., Awaitable[Response]]]] = {
    "rename": rename,
    "generate": generate,
    "archive": archive,
    "pin": pin,
    "tag": tag,
    "delete": delete,
    "fork": fork,
    "undo": undo,
    "name-all": name_all,
    "say": say,
    "continue": continue_run,
    "retry": retry,
    "stop": stop,
}

ROUTES: Final = (
    Route("GET", "/inbox/unnamed", unnamed, "write", is_page=True),
    *(Route("POST", f"/inbox/{name}", form, "write", is_page=True) for name, form in _FORMS.items()),
)
