"""Ids in addresses, whatever characters they hold: a slash in one does not end it.

Servers hand on an address in which everything is decoded, and with it where one part ends. So it is decoded here, all
but the slashes and percent signs that were written ``%2F`` and ``%25``; whoever is given an id reads these.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_KEPT: Final = re.compile("%(2F|25)", re.IGNORECASE)


class Addresses:
    """Has routes see an address in which the parts can be told apart."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"%" in (raw := scope.get("raw_path") or b""):
            scope = {**scope, "path": decoded(raw)}
        await self._app(scope, receive, send)


def decoded(raw: bytes) -> str:
    """An address as it was sent, decoded but for what would not be told apart then."""
    return unquote(_KEPT.sub(lambda found: f"%25{found[1].upper()}", raw.decode("latin-1")))


def part(text: str) -> str:
    """A part of such an address as it was meant."""
    return text.replace("%2F", "/").replace("%25", "%")


def shown(path: str) -> str:
    """Such an address for the log, on one line."""
    return quote(path, safe="/%")
