"""Server-sent events as a response: told as they come, with a sign of life in between.

The client is listened to meanwhile. When it is gone, or reads nothing for too long, what the events come from is
closed at that moment: a run stores what was said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from recollect import checks
from recollect.server.limits import Limits
from recollect.server.underway import UnderWay, ended

log = logging.getLogger("recollect.server")

KEEP_ALIVE: Final = b": still here\n\n"


def framed(event: str, data: Any, id: str | None = None) -> bytes:
    """An event as it goes over the wire. JSON text holds no line break, so it is one line."""
    head = f"event: {event}\n" if id is None else f"id: {id}\nevent: {event}\n"
    return b"%sdata: %s\n\n" % (head.encode(), checks.encode(data))


class EventStream(Response):
    """Events until there are no more, or nobody reads them."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], limits: Limits, under_way: UnderWay) -> None:
        self._events = events
        self._limits = limits
        self._under_way = under_way
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
        async with aclosing(self._events):
            await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for event in self._events:
                await self._send(send, {"type": "http.response.body", "body": event, "more_body": True})
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, message: Any) -> None:
        async with asyncio.timeout(self._limits.patience):
            await send(message)

    async def _listen(self, receive: Receive, send: Send) -> None:
        """Until the client is gone; a silent one is told that the server is not."""
        while True:
            try:
                async with asyncio.timeout(self._limits.keep_alive):
                    message = await receive()
            except TimeoutError:
                await self._send(send, {"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
            else:
                if message["type"] == "http.disconnect":
                    return
