"""Sessions as lines that ``recollect sessions import`` takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response

from recollect.server.fields import SessionId
from recollect.server.reach import Reach
from recollect.server.route import ReadsOf, ServiceOf
from recollect.server.stream import LINES, Streamed
from recollect.transfer import write_line


async def export_session(reach: ReadsOf, session_id: SessionId) -> Any:
    """All of a session, as ``recollect sessions import`` takes it."""
    return Response(write_line(await reach.session(session_id)), media_type="application/json")


async def export_sessions(service: ServiceOf, reach: ReadsOf) -> Any:
    """All sessions that the caller may read, one a line, as ``recollect sessions import`` takes them."""
    service.under_way.admit()
    lines = _lines(reach)
    return Streamed(lines, lines, LINES, service.limits, service.under_way)


async def _lines(reach: Reach) -> AsyncGenerator[bytes, None]:
    async for header in reach.db.aiter_sessions(user_id=reach.user_id, sort="created_at"):
        session = await reach.db.aget_session(header.session_id, reach.user_id)
        if session is not None:  # deleted meanwhile
            yield write_line(session).rstrip("\n").encode() + b"\n"
