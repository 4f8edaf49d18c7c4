"""What people mark a session with: archived, pinned, kept for how long. None of it is activity."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from recollect import checks
from recollect.port import Tx, at_once, writes
from recollect.session import SessionHeader
from recollect.store import rows
from recollect.store.rows import HEADER, MINE
from recollect.store.sessions import of_session


@at_once
@writes
async def archive_session(
    tx: Tx,
    session_id: str,
    archived: bool = True,  # noqa: FBT001, FBT002 - as people say it: archive_session(id, False)
    user_id: str | None = None,
) -> SessionHeader:
    """Put a session away, or back; give it as it then is. It may be used all the same.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    return await _mark(tx, _ARCHIVE, session_id, user_id, int(checks.flag("archived", archived)))


@at_once
@writes
async def pin_session(
    tx: Tx,
    session_id: str,
    pinned: bool = True,  # noqa: FBT001, FBT002 - as archive_session
    user_id: str | None = None,
) -> SessionHeader:
    """Pin a session, or let go of it; give it as it then is.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    return await _mark(tx, _PIN, session_id, user_id, int(checks.flag("pinned", pinned)))


@at_once
@writes
async def set_session_expiry(
    tx: Tx, session_id: str, expire_after: timedelta | None, user_id: str | None = None
) -> SessionHeader:
    """Say how long from now, and from the begin of each later run, a session is kept; None keeps it for good.

    Whatever the ``expire_after`` of the agents that run in it says.

    Raises:
        InvalidArgument: it is no span of time; nothing was written.
        SessionNotFound: there is no such session for this caller.
    """
    return await _mark(tx, _EXPIRE, session_id, user_id, checks.optional_span("expire_after", expire_after))


async def _mark(tx: Tx, sql: str, session_id: str, user_id: str | None, mark: int | None) -> SessionHeader:
    [found] = await tx.execute((sql, of_session(session_id, user_id) | {"mark": mark}))
    return rows.header(rows.visible(found, session_id))


def _marking(change: str) -> str:
    return f"""
    update recollect_sessions as s set {change}, version = s.version + 1
    where s.session_id = :session_id and {MINE} returning {HEADER.replace("s.", "")}
    """


_ARCHIVE: Final = _marking("archived = :mark")

_PIN: Final = _marking("pinned = :mark")

_EXPIRE: Final = _marking(
    "own_expiry = 1, expire_after = cast(:mark as bigint), expires_at = :now + cast(:mark as bigint)"
)
