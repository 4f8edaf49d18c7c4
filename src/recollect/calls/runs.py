"""Runs of a session: read, cancelled, deleted."""

from __future__ import annotations

from recollect.calls.call import Call
from recollect.heartbeat import HEARTBEAT
from recollect.run import RunOutput
from recollect.store import (
    continued,
    removed,
    sessions,
)


async def get_run_output(
    at: Call, run_id: str, session_id: str | None = None, user_id: str | None = None
) -> RunOutput | None:
    """One run with its messages; None when there is none for this caller."""
    run: RunOutput | None = await at.do(
        sessions.get_run, run_id, at.session_id(session_id, "get_run_output"), at.user_id(user_id)
    )
    return run


async def get_last_run_output(
    at: Call, session_id: str | None = None, *, user_id: str | None = None
) -> RunOutput | None:
    """The newest run of the session itself, not of its members; None when there is none.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    run: RunOutput | None = await at.do(
        sessions.get_last_run, at.session_id(session_id, "get_last_run_output"), at.user_id(user_id)
    )
    return run


async def cancel_run(at: Call, run_id: str, session_id: str | None = None, *, user_id: str | None = None) -> bool:
    """Ask for a run to be ended, in whatever process it is; False where it is not under way.

    What was said until then is stored with status ``cancelled``, no further tool is called, and whoever waits for the
    run gets it as it was stored, after ``RunCancelled``. In this process that happens at once, in another one within
    ten seconds, with its next sign of life. An answer that is just being stored is kept: True says that the run was
    asked to end. A plain call that waits for a model is not woken: the run ends in the database, and the call returns
    when the model has answered.

    Raises:
        SessionNotFound: there is no such session for this caller.
        RunNotFound: it has no such run.
    """
    session_id = at.session_id(session_id, "cancel_run")
    token = await at.do(continued.request_cancel, run_id, session_id, at.user_id(user_id))
    if token is None:
        return False
    await at.access.world.call(HEARTBEAT.stop, at.access.db.home, token)
    return True


async def delete_run(at: Call, run_id: str, session_id: str | None = None, *, user_id: str | None = None) -> None:
    """Delete a run with all that was said in it and in the runs of its members.

    A summary that tells of it goes too. What it took stays counted. A run that took its place stays there; one that was
    still to take it stays where it began.

    Raises:
        SessionNotFound: there is no such session for this caller.
        RunNotFound: it has no such run.
        RunInProgress: it is under way, or a run of its members is.
    """
    await at.do(removed.delete_run, run_id, at.session_id(session_id, "delete_run"), at.user_id(user_id))
