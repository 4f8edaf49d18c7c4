"""Answers that go on: told as they come, to a client who is listened to meanwhile.

When the client is gone, or reads nothing for too long, what is told comes from is closed at that moment: a run stores
what was said. Nothing is told ahead of the client, so nothing is queued here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from recollect import checks
from recollect.server.limits import Limits
from recollect.server.underway import UnderWay, ended

log = logging.getLogger("recollect.server")

EVENTS: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"

KEEP_ALIVE: Final = b": still here\n\n"


class Source(Protocol):
    """What is told comes from it."""

    async def aclose(self) -> None: ...


def framed(event: str, data: Any, id: str | None = None) -> bytes:
    """An event as it goes over the wire. JSON text holds no line break, so it is one line."""
    head = f"event: {event}\n" if id is None else f"id: {id}\nevent: {event}\n"
    return b"%sdata: %s\n\n" % (head.encode(), checks.encode(data))


def marked(id: str) -> bytes:
    """An event that tells nothing, and where to go on from: a browser keeps it as the last one's id."""
    return b"id: %s\n\n" % id.encode()


class Streamed(Response):
    """What is told, until there is no more, or nobody reads it."""

    sign_of_life: bytes = b""
    """What is sent after some silence; nothing where it would be part of what is told."""

    def __init__(
        self,
        source: Source,
        told: AsyncGenerator[bytes, None],
        media_type: str,
        limits: Limits,
        under_way: UnderWay,
    ) -> None:
        self._source = source
        self._told = told
        self._limits = limits
        self._under_way = under_way
        self.media_type = media_type
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        telling = self._under_way.start(self._tell(send))
        listening = asyncio.ensure_future(self._listen(receive, send))
        try:
            await asyncio.wait((telling, listening), return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        except TimeoutError:  # the connection is closed, for the answer is not complete
            log.info("a stream was ended: its client read nothing for %g s", self._limits.patience)
        finally:
            await ended(listening)
            if not telling.done():
                await ended(telling)

    async def _tell(self, send: Send) -> None:
        async with aclosing(self._source), aclosing(self._told):
            await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in self._told:
                await self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, message: Any) -> None:
        async with asyncio.timeout(self._limits.patience):
            await send(message)

    async def _listen(self, receive: Receive, send: Send) -> None:
        """Until the client is gone; a silent one is told that the server is not."""
        while True:
            try:
                async with asyncio.timeout(self._limits.keep_alive if self.sign_of_life else None):
                    message = await receive()
            except TimeoutError:
                await self._send(send, {"type": "http.response.body", "body": self.sign_of_life, "more_body": True})
            else:
                if message["type"] == "http.disconnect":
                    return


class EventStream(Streamed):
    """Server-sent events."""

    sign_of_life = KEEP_ALIVE

    def __init__(self, source: Source, told: AsyncGenerator[bytes, None], limits: Limits, under_way: UnderWay) -> None:
        super().__init__(source, told, EVENTS, limits, under_way)
