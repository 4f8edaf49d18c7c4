"""The way in for a browser: a token becomes a cookie, and the cookie is shown to the gate in the token's place.

The address that is printed at the start carries the token. Whoever follows it is sent on at once to the same address
without it, with a cookie that no script can read; so the token stands in no history, bookmark or referrer. A request
that changes something must come from a page of this server, by the ``Origin`` or ``Sec-Fetch-Site`` that browsers send
along and pages cannot choose: https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recollect.server.problem import Refused

SIGN_IN: Final = "/sign-in"
SIGN_OUT: Final = "/sign-out"

DAYS: Final = 30
"""How long a browser keeps the cookie."""

HARMLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Door:
    """Lets browsers in by their cookie; what sends them to the page for the token is the reception's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = _admitted(Request(scope))
        await self._app(scope, receive, send)


def _admitted(request: Request) -> Scope:
    """A request as the gate is to see it.

    Raises:
        Refused: it comes with the cookie from a page of somebody else.
    """
    token = request.cookies.get(cookie_of(request))
    if token is None or "authorization" in request.headers:
        return request.scope
    if request.method not in HARMLESS:
        refuse_foreign_page(request)
    return with_token(request.scope, token)


def refuse_foreign_page(request: Request) -> None:
    """Refuse what was not sent by a page of this server, as the browser has it; what says nothing of that, too.

    Raises:
        Refused: it was not.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:  # browsers send it only to servers with TLS, and to those of their own machine
        is_own = origin is not None and urlsplit(origin).netloc == request.url.netloc
    if not is_own:
        raise Refused(403, "forbidden", "this comes from a page of another website; nothing was changed")


def own_path(scope: Scope) -> str:
    """The path of a request, without where the application is mounted."""
    path: str = scope["path"]
    return path.removeprefix(root_of(scope))


def root_of(scope: Scope) -> str:
    """Where the application is mounted; "" at the top."""
    root: str = scope.get("root_path", "")
    return root


def own_address(given: str) -> str:
    """An address to go on with, where it is one of this server; else "". Browsers take a backslash for a slash."""
    if not given.startswith("/") or given.startswith(("//", "/\\")) or not given.isprintable():
        return ""
    return given


def cookie_of(request: Request) -> str:
    """What the cookie is called. Cookies know no ports, so that two servers on one machine need two names."""
    return f"recollect-{request.url.port or request.url.scheme}"


def admitted(request: Request, address: str, token: str) -> Response:
    """Send somebody on, with a cookie."""
    answer = onward(address)
    answer.set_cookie(
        cookie_of(request),
        token,
        max_age=DAYS * 86400,
        path=root_of(request.scope) or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


def dismissed(request: Request, address: str) -> Response:
    """Send somebody out."""
    answer = onward(address)
    answer.delete_cookie(cookie_of(request), path=root_of(request.scope) or "/", httponly=True, samesite="lax")
    return answer


def onward(address: str) -> Response:
    """Send a browser to a page, to be read with GET."""
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})


def with_token(scope: Scope, token: str) -> Scope:
    """The request with the token in its header."""
    header = (b"authorization", b"Bearer " + token.encode("latin-1", "replace"))
    return {**scope, "headers": [*scope["headers"], header]}
