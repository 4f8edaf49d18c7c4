"""What every request passes before a route sees it: origins, failures, who it comes from, how often they ask.

From the outside in, after `Addresses`: `Cors`, `Guard`, `Gate`. Whoever is refused is refused before the body is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recollect.server.address import shown
from recollect.server.auth import Authority
from recollect.server.caller import Caller
from recollect.server.limits import Buckets, Limits
from recollect.server.problem import Problem, Refused, problem_of
from recollect.server.route import CALLER

log = logging.getLogger("recollect.server")

METHODS: Final = ("GET", "POST", "PATCH", "DELETE")
HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID")
SHOWN: Final = ("ETag", "Retry-After", "WWW-Authenticate")

ATTEMPTS: Final = 100
"""Requests without a valid token that one address may make at once."""


class Cors(CORSMiddleware):
    """Says which websites' pages may use the server. A refusal is told in the form that all others have."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(app, allow_origins=origins, allow_methods=METHODS, allow_headers=HEADERS, expose_headers=SHOWN)

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return Problem(400, "bad_request", bytes(answer.body).decode(), kept).response()


class Guard:
    """Tells what went wrong, whatever it was, and writes down what was asked: never a header, a query or a body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:  # whatever it is: nobody else would tell it in the form that all errors have
            problem = problem_of(error)
            if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                log.exception("%s %s failed", scope["method"], shown(scope["path"]))
            if status:
                raise
            await problem.response()(scope, receive, sending)
        finally:
            took = (time.perf_counter() - began) * 1000
            log.info("%s %s -> %d in %.1f ms", scope["method"], shown(scope["path"]), status, took)


class Gate:
    """Finds out who makes a request, and how often they did so lately."""

    def __init__(self, app: ASGIApp, authority: Authority, limits: Limits, unguarded: Collection[str]) -> None:
        self._app = app
        self._authority = authority
        self._unguarded = frozenset(unguarded)
        self._asked = Buckets(limits.rate, limits.burst)
        self._guessed = Buckets(limits.guesses, ATTEMPTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if scope["method"] != "OPTIONS" and path not in self._unguarded:
                scope[CALLER] = await self._caller(Request(scope))
        await self._app(scope, receive, send)

    async def _caller(self, request: Request) -> Caller:
        address = request.client.host if request.client is not None else ""
        try:
            caller = await self._authority(request)
        except Refused as refused:
            if refused.status_code == HTTPStatus.UNAUTHORIZED:
                self._guessed.take(address)
            raise
        self._asked.take((caller.user_id, caller.scopes) if caller.user_id is not None else address)
        return caller
