"""Pages of the inbox: templates filled in, with what a browser may do with them."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any, Final
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from recollect.hit import SearchHit
from recollect.server.inbox import shown
from recollect.server.inbox.door import root_of
from recollect.server.inbox.prose import prose
from recollect.server.inbox.wanted import path_of

HERE: Final = Path(__file__).parent

FILES: Final = {
    "htmx-2.0.11.min.js": "text/javascript; charset=utf-8",
    "inbox.js": "text/javascript; charset=utf-8",
    "inbox.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""What the pages load, by name with its kind."""

SAFE: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Nothing runs but our own two scripts, nothing is loaded from elsewhere, and no other page may frame this one.

Other websites are told no referrer; without one at all, browsers would not say that a form comes from here.
"""

WORTH_IT: Final = 1024
"""Bytes from which on an answer is compressed."""

ZONE: Final = "recollect-zone"
"""The cookie in which the reader's browser says what time it is there."""


async def page(request: Request, template: str, status: int = 200, /, **context: Any) -> Response:
    """A template filled in, as HTML: in a thread, for a long text may take its time."""
    return await run_in_threadpool(_filled, request, template, status, context)


def _filled(request: Request, template: str, status: int, context: Mapping[str, Any]) -> Response:
    filled = _templates().get_template(template).render(root=root_of(request.scope), **context)
    headers = {**SAFE, "Cache-Control": "no-store", "Vary": "Accept-Encoding, Cookie"}
    body = filled.encode()
    if len(body) > WORTH_IT and _takes_gzip(request):
        body = gzip.compress(body, 5, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return HTMLResponse(body, status, headers)


def plain(body: bytes | str, media_type: str) -> Response:
    """What is no page, but is read at the address of one."""
    return Response(body, 200, {**SAFE, "Cache-Control": "no-store", "Vary": "Cookie"}, media_type)


def file(request: Request, name: str) -> Response:
    """One of the files that pages load. Its address names its content, so a browser may keep it for good."""
    content, zipped = _files()[name]
    headers = {**SAFE, "Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if _takes_gzip(request):
        return Response(zipped, 200, {**headers, "Content-Encoding": "gzip"}, FILES[name])
    return Response(content, 200, headers, FILES[name])


def zone_of(request: Request) -> tzinfo:
    """The time zone of the reader; UTC until the browser has said."""
    name = request.cookies.get(ZONE, "")
    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, OSError, KeyError):  # no such zone, or this machine knows none
        return UTC


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


@cache
def _files() -> Mapping[str, tuple[bytes, bytes]]:
    read = {name: (HERE / "static" / name).read_bytes() for name in FILES}
    return {name: (content, gzip.compress(content, 9, mtime=0)) for name, content in read.items()}


def address_of(name: str) -> str:
    """Where a file is, with a digest of what is in it."""
    return f"/inbox/static/{name}?{hashlib.blake2b(_files()[name][0], digest_size=4).hexdigest()}"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "prose": _prose,
        "marked": _marked,
        "clock": _clock,
        "moment": _moment,
        "iso": _iso,
        "shell": quote,
        "flat": _flat,
    }
    environment.globals |= {
        "path_of": path_of,
        "file": address_of,
        "pause_label": shown.pause_label,
        "tickets": shown.tickets,
    }
    return environment


def _flat(text: str) -> str:
    """Markdown on one line, without the marks."""
    return " ".join(_MARKS.sub("", text).split())


_MARKS: Final = re.compile(r"(\*\*|__|`|^#{1,6} |^> )", re.MULTILINE)


def _prose(text: str) -> Markup:
    return Markup(prose(text))  # noqa: S704 - it was cleaned


def _marked(hit: SearchHit) -> Markup:
    return Markup(hit.marked("<mark>", "</mark>", _unmarked))  # noqa: S704 - escaped


def _unmarked(text: str) -> str:
    return str(Markup.escape(_MARKS.sub("", text)))


def _clock(at: datetime, zone: tzinfo, now: datetime) -> str:
    """A time as short as a list has room for: of today the hour, else the day."""
    here, today = at.astimezone(zone), now.astimezone(zone)
    if here.date() == today.date():
        return f"{here:%H:%M}"
    if (today.date() - here.date()).days < 7:  # noqa: PLR2004 - a week
        return f"{here:%a %H:%M}"
    return f"{here.day} {here:%b}" if here.year == today.year else f"{here.day} {here:%b %Y}"


def _moment(at: datetime, zone: tzinfo) -> str:
    here = at.astimezone(zone)
    return f"{here:%A}, {here.day} {here:%B %Y, %H:%M}"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
