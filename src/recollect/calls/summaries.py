"""The summary of a session; and waiting for what is made in the background."""

from __future__ import annotations

from recollect import checks, scribe
from recollect.background import BACKGROUND
from recollect.calls.call import Call
from recollect.session import (
    SessionSummary,
)
from recollect.store import (
    summaries,
)


async def get_session_summary(
    at: Call, session_id: str | None = None, *, user_id: str | None = None
) -> SessionSummary | None:
    """The session's summary as it was last made; None while it has none.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    session_id = at.session_id(session_id, "get_session_summary")
    summary: SessionSummary | None = await at.do(summaries.get_summary, session_id, at.user_id(user_id))
    return summary


async def create_session_summary(
    at: Call, session_id: str | None = None, *, user_id: str | None = None
) -> SessionSummary | None:
    """Bring the session's summary up to what was last said; give it, or None where nothing was said yet.

    The model is shown the last summary and what was said since; where nothing was, it is not asked.

    Raises:
        SessionNotFound: there is no such session for this caller.
        ModelError: the model failed, or said nothing that could be a summary; the last one stays.
    """
    session_id = at.session_id(session_id, "create_session_summary")
    return (await scribe.summarise(at.access, at.scribe, session_id, at.user_id(user_id))).summary


async def flush(at: Call, timeout: float | None = None) -> bool:
    """Wait until the names and summaries that this process makes in the background are stored.

    At most ``timeout`` seconds; False when that was not enough.

    Raises:
        InvalidArgument: ``timeout`` is no span of time.
    """
    if timeout is not None:
        timeout = checks.seconds("timeout", timeout, none=True)
    done: bool = await at.access.world.call(BACKGROUND.flush, at.access.db.home, timeout)
    return done
