"""Whoever comes with a browser, and is not let in or fails: told on a page what to do, not in JSON."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recollect.server.inbox.desk import desk_of
from recollect.server.inbox.door import SIGN_IN, SIGN_OUT, admitted, onward, own_path, root_of
from recollect.server.inbox.page import page
from recollect.server.inbox.wanted import SECRET
from recollect.server.problem import Problem, Refused, problem_of

UNKNOWN: Final = "This token is not known here."

_TITLES: Final = {403: "Not allowed", 404: "Not here", 409: "Not any more", 429: "Too fast", 503: "Not now"}


class Reception:
    """Takes the token out of an address, and shows those who have none where to give it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_of_inbox(scope):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            if request.method == "GET" and SECRET in request.query_params:
                await (await _with_secret(request))(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        except Refused as refused:
            if not wants_page(request):
                raise
            is_unknown = refused.status_code == HTTPStatus.UNAUTHORIZED
            answer = _to_sign_in(request) if is_unknown else await trouble(request, problem_of(refused))
            await answer(scope, receive, send)


async def _with_secret(request: Request) -> Response:
    """Answer an address that carries a token: with a cookie, and the same address without it.

    Raises:
        Refused: too many were tried, or there is something else in the way.
    """
    token = desk_of(request).exchanged(request.query_params[SECRET].strip())
    rest = [(name, value) for name, value in parse_qsl(request.url.query) if name != SECRET]
    here = request.url.path + (f"?{urlencode(rest)}" if rest else "")
    if await desk_of(request).accepts(request, token):
        return admitted(request, here, token)
    return await sign_in_page(request, HTTPStatus.UNAUTHORIZED, next=here, trouble=UNKNOWN)


def _to_sign_in(request: Request) -> Response:
    """Send somebody to where the token is given, who comes back then; what a form held is not kept."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    root = root_of(request.scope)
    asked = urlencode({"next": here if request.method == "GET" else f"{root}/"})
    return onward(f"{root}{SIGN_IN}?{asked}")


async def sign_in_page(request: Request, status: int, *, next: str, trouble: str = "") -> Response:
    """Where a browser that has no token gives it; then it goes on to where it wanted to."""
    return await page(request, "sign-in.html", status, next=next, trouble=trouble)


def is_of_inbox(scope: Scope) -> bool:
    """Whether an address is one of the inbox's pages and forms, not of the API."""
    path = own_path(scope)
    return path in ("/", "/new", SIGN_IN, SIGN_OUT) or path.startswith(("/s/", "/inbox/"))


def wants_page(request: Request) -> bool:
    """Whether somebody looks at the answer, and no script reads it."""
    is_script = request.headers.get("hx-request") == "true"
    return not is_script and "text/html" in request.headers.get("accept", "")


async def trouble(request: Request, problem: Problem) -> Response:
    """What went wrong, on a page."""
    title = _TITLES.get(problem.status, "That did not work")
    answer = await page(request, "trouble.html", problem.status, title=title, detail=problem.body["detail"])
    answer.headers.update(problem.headers)
    return answer
