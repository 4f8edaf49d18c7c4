"""What AgentOS's routes lack: lists by cursor, versions, generated names, export, and what changes as it changes."""

from __future__ import annotations

from typing import Any, Final

from recollect.server.route import CallerOf, Route
from recollect.server.stream import LINES
from recollect.server.v1 import events, exports, lists, sessions
from recollect.server.v1.shapes import Hits, Me, Page, Said, Session, SessionEvent


async def me(caller: CallerOf) -> Any:
    """Who the caller is taken for, and what it may do."""
    return {"user_id": caller.user_id, "scopes": sorted(caller.scopes)}


_ONE: Final = "/v1/sessions/{session_id}"

_WITH_ETAG: Final = {
    "description": "The session",
    "headers": {"ETag": {"description": "Names this version of it.", "schema": {"type": "string"}, "required": True}},
}
_SAME: Final = {"description": "It is still what the caller knows", "content": {}}

ROUTES: Final = (
    Route("GET", "/v1/me", me, shape=Me, tag="v1"),
    Route("GET", "/v1/sessions", lists.list_sessions, shape=Page, tag="v1"),
    Route("GET", "/v1/search", lists.search, shape=Hits, tag="v1"),
    Route("GET", "/v1/events", events.watch_sessions, tells=SessionEvent, tag="v1"),
    Route("GET", "/v1/export", exports.export_sessions, media_type=LINES, tag="v1"),
    Route("GET", _ONE, sessions.get_session, shape=Session, tag="v1", responses={200: _WITH_ETAG, 304: _SAME}),
    Route("PATCH", _ONE, sessions.change_session, "write", shape=Session, tag="v1", responses={200: _WITH_ETAG}),
    Route("DELETE", _ONE, sessions.delete_session, "write", 204, tag="v1"),
    Route("POST", f"{_ONE}/name", sessions.name_session, "write", shape=Session, tag="v1", responses={200: _WITH_ETAG}),
    Route("GET", f"{_ONE}/messages", sessions.get_messages, shape=Said, tag="v1"),
    Route("GET", f"{_ONE}/events", events.watch_session, tells=SessionEvent, tag="v1"),
    Route("GET", f"{_ONE}/export", exports.export_session, shape=dict[str, Any], tag="v1"),
)
