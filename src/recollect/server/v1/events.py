"""What changes in sessions, told as it changes, by whatever process: the library's own watching as events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

from fastapi import Header

from recollect.change import SessionChange, reset
from recollect.errors import InvalidArgument
from recollect.server.fields import SessionId
from recollect.server.reach import Reach
from recollect.server.route import ReadsOf, ServiceOf
from recollect.server.service import Service
from recollect.server.stream import EventStream, framed, marked
from recollect.store.watches import AsyncSessionWatch

LastEventId = Annotated[
    str | None,
    Header(
        description="The ``id`` of the last event that is known: what was missed is told first.",
        examples=["WzEsMCwwXQ"],
    ),
]


async def watch_sessions(service: ServiceOf, reach: ReadsOf, last_event_id: LastEventId = None) -> Any:
    """What changes in the caller's sessions, as server-sent events, from whatever process it comes.

    ``changed`` names a session that was made or is not as it was, ``deleted`` one that is gone, and ``reset`` says that
    more was missed than can be told: read anew what you show. Several changes of one session may be told as one. The
    stream begins with an ``id`` alone, from which it can be taken up before anything has changed.
    """
    return await _stream(service, reach, None, last_event_id)


async def watch_session(
    service: ServiceOf, reach: ReadsOf, session_id: SessionId, last_event_id: LastEventId = None
) -> Any:
    """What changes in one session, as server-sent events, like those of all sessions."""
    return await _stream(service, reach, session_id, last_event_id)


async def _stream(service: Service, reach: Reach, session_id: str | None, last_id: str | None) -> EventStream:
    service.under_way.admit()
    watch, is_lost = _watch(reach, session_id, last_id)
    service.watches.add(watch)
    # What refuses the watch is answered with its status; only then a stream begins.
    first = await watch.get(timeout=0)
    known = [reset(watch.cursor or "")] if is_lost else []
    known += [first] if first else []
    return EventStream(watch, _told(watch, known), service.limits, service.under_way)


def _watch(reach: Reach, session_id: str | None, last_id: str | None) -> tuple[AsyncSessionWatch, bool]:
    """A watch from where the client stopped; else from now, and that where it stopped is not known."""
    if last_id:
        try:
            return reach.db.awatch_sessions(reach.user_id, session_id, since=last_id), False
        except InvalidArgument as error:
            if error.argument != "since":
                raise
    return reach.db.awatch_sessions(reach.user_id, session_id), bool(last_id)


async def _told(watch: AsyncSessionWatch, known: Sequence[SessionChange]) -> AsyncGenerator[bytes, None]:
    if not known and watch.cursor:
        yield marked(watch.cursor)
    for change in known:
        yield _framed(change)
    async for change in watch:
        yield _framed(change)


def _framed(change: SessionChange) -> bytes:
    facts = ("session_id", "user_id", "agent_id", "team_id", "version")
    return framed(change.kind, {name: getattr(change, name) for name in facts}, change.cursor)
