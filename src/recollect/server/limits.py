"""How much one caller may ask for: bytes of a body, sessions on a page, requests a second.

What was asked is counted in the memory of this process; several processes count for themselves.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from recollect import checks
from recollect.server.problem import Refused

KNOWN: Final = 10_000
"""Callers whose requests are counted; whoever was away for longest is forgotten first."""

MOST: Final = 1000
"""What a page can hold at all."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one caller may ask for.

    Raises:
        InvalidArgument: one of them is no such number.
    """

    body: int = 16 * 1024 * 1024
    """Bytes of a request's body, files included."""
    page: int = 200
    """Entries of one page, at most 1,000."""
    rate: float = 100.0
    """Requests a second that a caller may go on with."""
    burst: int = 200
    """Requests that a caller may make at once, after a pause."""
    guesses: float = 20.0
    """Requests a second from one address that are answered as not authorized; a hundred at once."""
    keep_alive: float = 15.0
    """Seconds of silence after which a stream says that it is still there."""
    patience: float = 30.0
    """Seconds that a stream waits for a client that reads nothing, before it is ended."""

    def __post_init__(self) -> None:
        for name in ("body", "burst"):
            checks.count(name, getattr(self, name), least=1)
        checks.count("page", self.page, least=1, most=MOST)
        for name in ("rate", "guesses", "keep_alive", "patience"):
            checks.seconds(name, getattr(self, name))

    def page_size(self, asked: int | None, usual: int = 20) -> int:
        """How many entries a page has.

        Raises:
            Refused: more than may be asked for.
        """
        if asked is None:
            return min(usual, self.page)
        if asked > self.page:
            raise Refused(422, "invalid_argument", f"limit: at most {self.page} may be asked for, not {asked}")
        return asked


class Buckets:
    """A bucket of tokens for each caller, filled steadily; a request takes one."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, caller: Hashable) -> None:
        """Count a request.

        Raises:
            Refused: the caller has asked too often, and is told when to come again.
        """
        now = self._clock()
        left, at = self._left.pop(caller, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._rate)
        self._left[caller] = (max(0.0, left - 1), now) if left >= 1 else (left, now)
        if len(self._left) > KNOWN:
            self._left.popitem(last=False)
        if left < 1:
            wait = math.ceil((1 - left) / self._rate) if self._rate else 60
            raise Refused(
                429, "rate_limited", f"too many requests; come again in {wait} s", {"Retry-After": str(max(1, wait))}
            )


class BodyLimit:
    """Refuses a body that is too long, by what it says of its length and by what comes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > self._most:
            raise self._refusal()
        came = 0

        async def limited() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most:
                raise self._refusal()
            return message

        await self._app(scope, limited, send)

    def _refusal(self) -> Refused:
        return Refused(413, "body_too_large", f"the body has more than {self._most} bytes", {"Connection": "close"})
