"""What a session is marked with: tags, archived, pinned, and until when it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from recollect.calls.call import Call
from recollect.session import (
    SessionHeader,
)
from recollect.store import (
    changes,
    marks,
)


async def tag_session(
    at: Call,
    session_id: str | None = None,
    tags: Sequence[str] = (),
    *,
    remove: Sequence[str] = (),
    user_id: str | None = None,
) -> tuple[str, ...]:
    """Add tags to the session and take others away; give all that it then has.

    Raises:
        InvalidArgument: a tag is none, or is to be added and removed; nothing was written.
        SessionNotFound: there is no such session for this caller.
    """
    session_id = at.session_id(session_id, "tag_session")
    found: tuple[str, ...] = await at.do(
        changes.tag_session, session_id, tags, remove=remove, user_id=at.user_id(user_id)
    )
    return found


async def archive_session(
    at: Call,
    session_id: str | None = None,
    archived: bool = True,  # noqa: FBT001, FBT002 - as the store has it
    *,
    user_id: str | None = None,
) -> SessionHeader:
    """Put the session away, or back; give its header as it then is. It may be used all the same.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    session_id = at.session_id(session_id, "archive_session")
    header: SessionHeader = await at.do(marks.archive_session, session_id, archived, at.user_id(user_id))
    return header


async def pin_session(
    at: Call,
    session_id: str | None = None,
    pinned: bool = True,  # noqa: FBT001, FBT002 - as the store has it
    *,
    user_id: str | None = None,
) -> SessionHeader:
    """Pin the session, or let go of it; give its header as it then is.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    session_id = at.session_id(session_id, "pin_session")
    header: SessionHeader = await at.do(marks.pin_session, session_id, pinned, at.user_id(user_id))
    return header


async def set_session_expiry(
    at: Call, session_id: str | None = None, expire_after: timedelta | None = None, *, user_id: str | None = None
) -> SessionHeader:
    """Say how long from now, and from the begin of each later run, the session is kept; None keeps it for good.

    Raises:
        InvalidArgument: it is no span of time; nothing was written.
        SessionNotFound: there is no such session for this caller.
    """
    session_id = at.session_id(session_id, "set_session_expiry")
    header: SessionHeader = await at.do(marks.set_session_expiry, session_id, expire_after, at.user_id(user_id))
    return header
