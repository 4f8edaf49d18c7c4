"""Who a request comes from: static tokens, a verifier of JWTs, or whatever a function says.

A token stands in the header ``Authorization: Bearer ...`` and nowhere else: what stands in an address is logged by
everybody on the way. Where a browser shows a cookie, the inbox's door has put it there.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from recollect.errors import InvalidArgument
from recollect.server.caller import TRUSTED, Caller
from recollect.server.problem import Refused
from recollect.server.verifier import JwtVerifier

Told = Caller | tuple[str | None, Any] | None

Auth = Mapping[str, Caller | str] | JwtVerifier | Callable[[Request], Told | Awaitable[Told]] | None
"""Tokens and whose they are, a verifier, a function of the request, or None: everybody is trusted."""

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""What the address of a server is called that only this machine reaches."""


class Authority(Protocol):
    """Says who a request comes from."""

    async def __call__(self, request: Request) -> Caller:
        """Who it is.

        Raises:
            Refused: that could not be told.
        """


def authority(auth: Auth, origins: Collection[str]) -> Authority:
    """What says who a request comes from.

    Raises:
        InvalidArgument: it can say so of nobody.
    """
    if auth is None:
        return Everybody(origins)
    if isinstance(auth, Everybody):
        return auth
    if isinstance(auth, JwtVerifier):
        return partial(_verified, auth)
    if isinstance(auth, Mapping):
        return Tokens(auth)
    if callable(auth):
        return partial(_asked, auth, frozenset(origins))
    raise InvalidArgument("auth", f"must be tokens with their callers, a JwtVerifier, a function or None, not {auth!r}")


class Everybody:
    """Whoever reaches the server, but no page of a website that the user of a browser just happens to look at.

    With ``hosts``, a request must have been sent to one of these names: a website may give its own name the address of
    this machine.
    """

    def __init__(self, origins: Collection[str], hosts: Collection[str] = ()) -> None:
        self._origins = frozenset(origins)
        self._hosts = frozenset(hosts)

    async def __call__(self, request: Request) -> Caller:
        origin, asked = request.headers.get("origin"), request.url
        if self._hosts and asked.hostname not in self._hosts:
            raise Refused(403, "forbidden", f"this server is not called {asked.hostname!r}")
        if origin is not None and "*" not in self._origins and not self._is_known(origin, asked.netloc):
            raise _foreign(origin)
        return TRUSTED

    def _is_known(self, origin: str, own: str) -> bool:
        return origin in self._origins or origin.partition("://")[2] == own


class Tokens:
    """Tokens that were handed out, kept as digests; every one is compared, so that time tells nothing."""

    def __init__(self, given: Mapping[str, Caller | str]) -> None:
        if not given:
            raise InvalidArgument("auth", "holds no token, so nobody could ever come in")
        self._known = tuple((_digest(_token(token)), _caller(caller)) for token, caller in given.items())

    async def __call__(self, request: Request) -> Caller:
        presented, found = _digest(bearer(request)), None
        for digest, caller in self._known:
            if hmac.compare_digest(digest, presented):
                found = caller
        if found is None:
            raise unauthorized("the token is not known", "invalid_token")
        return found

    def __repr__(self) -> str:
        return f"Tokens({len(self._known)})"


def bearer(request: Request) -> str:
    """The token of a request.

    Raises:
        Refused: there is none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorized("a token is needed: Authorization: Bearer ...")
    return token.strip()


def unauthorized(detail: str, error: str | None = None) -> Refused:
    challenge = 'Bearer realm="recollect"' + (f', error="{error}"' if error else "")
    return Refused(401, "unauthorized", detail, {"WWW-Authenticate": challenge})


async def _verified(verifier: JwtVerifier, request: Request) -> Caller:
    return await run_in_threadpool(verifier.caller, bearer(request))


async def _asked(
    function: Callable[[Request], Told | Awaitable[Told]], origins: Collection[str], request: Request
) -> Caller:
    _refuse_foreign_page(request, origins)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        told = function(request)
    else:
        told = await run_in_threadpool(function, request)
    said: Any = await told if inspect.isawaitable(told) else told
    if said is None:
        raise unauthorized("nobody is known by what this request says of itself")
    try:
        return said if isinstance(said, Caller) else Caller(*said)
    except InvalidArgument as error:  # a mistake of the function's, not of who asks
        msg = f"the function given as auth= named nobody who could be a caller: {error}"
        raise TypeError(msg) from error


def _refuse_foreign_page(request: Request, origins: Collection[str]) -> None:
    """The function may go by cookies, which a browser sends along whatever website's page it is that asks.

    Raises:
        Refused: a page of a website asks that is none of the origins, and shows no token.
    """
    headers = request.headers
    if "authorization" in headers or headers.get("sec-fetch-site") != "cross-site" or "*" in origins:
        return
    origin = headers.get("origin")
    if origin not in origins and not _is_followed_link(request):
        raise _foreign(origin or "another website")


def _is_followed_link(request: Request) -> bool:
    """Whether somebody goes from a page to one of this server: then they see it, and no script of that page does."""
    sent = request.headers
    return (request.method, sent.get("sec-fetch-mode"), sent.get("sec-fetch-dest")) == ("GET", "navigate", "document")


def _foreign(origin: str) -> Refused:
    return Refused(403, "forbidden", f"pages of {origin!r} may not use this server; see --cors-origin")


def _token(given: Any) -> str:
    if not isinstance(given, str) or not given.isascii() or not given or any(map(str.isspace, given)):
        raise InvalidArgument("auth", "a token must be ASCII text without white space")
    return given


def _caller(given: Any) -> Caller:
    if isinstance(given, Caller | str):
        return Caller(given) if isinstance(given, str) else given
    raise InvalidArgument("auth", f"a token belongs to a Caller or a user id, not to {type(given).__name__}")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
