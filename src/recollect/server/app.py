"""The application: agents and teams over HTTP, put together from the routes and what every request passes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

import recollect
from recollect import checks
from recollect.agent import Agent
from recollect.errors import RecollectError
from recollect.server import agents as agent_routes
from recollect.server import inbox, runs, sessions, v1
from recollect.server.address import Addresses
from recollect.server.auth import Auth, authority
from recollect.server.document import documented, options
from recollect.server.gate import Cors, Gate, Guard
from recollect.server.limits import BodyLimit, Limits
from recollect.server.problem import problem_of
from recollect.server.route import Route, may_write
from recollect.server.service import Service
from recollect.store import Store
from recollect.team import Team

log = logging.getLogger("recollect.server")

ORIGINS: Final = ("http://localhost:3000", "http://127.0.0.1:3000")
"""Where the chat client of Agno runs on one's own machine."""

ROUTES: Final[tuple[Route, ...]] = (
    *agent_routes.ROUTES,
    *runs.ROUTES,
    *sessions.ROUTES,
    *v1.ROUTES,
    *inbox.ROUTES,
)

DOCUMENT: Final = "/openapi.json"

GRACE: Final = 10.0
"""Seconds that runs under way have to end by themselves when the application ends."""


def create_app(
    agents: Sequence[Agent] = (),
    teams: Sequence[Team] = (),
    db: Store | None = None,
    *,
    auth: Auth,
    cors_origins: Sequence[str] = (),
    limits: Limits | None = None,
) -> FastAPI:
    """An application that serves agents and teams, to be run by itself or mounted in another.

    Where it is mounted, enter its lifespan in that of the other: ``app.router.lifespan_context(app)``.

    Args:
        agents: those that are served, told apart by their ids. A ``session_id`` or ``user_id`` of their own does not
            count here.
        teams: likewise.
        db: the database that is meant where a request names none, and where agents keep sessions that have no
            database of their own; the first one's unless given.
        auth: who may come in: a dictionary of tokens and whose each is (a `Caller`, or a user's id), a `JwtVerifier`,
            or a function, sync or async, that is given the request and gives a `Caller`, a pair of user id and scopes,
            or None. ``auth=None`` trusts everybody: only for an application that somebody else guards.
        cors_origins: further websites whose pages may use it, beside those of `ORIGINS`.
        limits: how much one caller may ask for.

    Raises:
        InvalidArgument: one of them cannot be accepted.
    """
    limits = checks.instance("limits", limits or Limits(), Limits)
    service = Service(agents, teams, db, limits)
    origins = [*ORIGINS, *checks.texts("cors_origins", cors_origins)]
    known = authority(auth, origins)
    unguarded = {DOCUMENT, *(route.path for route in ROUTES if route.access == "open")}
    app = FastAPI(
        title="Recollect",
        version=recollect.__version__,
        openapi_url=DOCUMENT,
        docs_url=None,  # these pages would load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_ending(service),
        exception_handlers=dict.fromkeys((RecollectError, RequestValidationError, HTTPException), _told),
        middleware=[
            Middleware(Addresses),
            Middleware(Cors, origins=origins),
            Middleware(Guard),
            Middleware(inbox.Reception),
            Middleware(inbox.Door),
            Middleware(Gate, authority=known, limits=limits, unguarded=unguarded),
            Middleware(BodyLimit, most=limits.body),
        ],
    )
    app.state.recollect = service
    app.state.inbox = inbox.Desk(known, limits)
    _add(app)
    app.openapi = documented(app, limits, unguarded)  # type: ignore[method-assign]
    return app


def _add(app: FastAPI) -> None:
    """Have the application answer the routes, and the question which methods each address knows."""
    for route in ROUTES:
        needs = [Depends(may_write)] if route.access == "write" else []
        app.add_api_route(route.path, route.endpoint, dependencies=needs, **options(route))
    for path in dict.fromkeys(route.path for route in ROUTES):
        methods = ", ".join([*(route.method for route in ROUTES if route.path == path), "OPTIONS"])
        app.add_api_route(path, _allowing(methods), methods=["OPTIONS"], include_in_schema=False)


async def _told(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s failed: %s: %s", request.method, type(error).__name__, error)
    if inbox.is_of_inbox(request.scope) and inbox.wants_page(request):
        return await inbox.trouble(request, problem)
    return problem.response()


def _allowing(methods: str) -> Callable[[], Response]:
    """What answers a question about an address: which methods it knows."""

    def allowed() -> Response:
        return Response(status_code=204, headers={"Allow": methods})

    return allowed


def _ending(service: Service) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await app.state.inbox.close()
        await service.end(GRACE)

    return lifespan
