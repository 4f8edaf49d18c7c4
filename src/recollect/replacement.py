"""The run that another one is to replace: where it is, what it was asked, and a session of what came before it."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.errors import InvalidArgument, RunNotFound, UserRequired
from recollect.message import Message
from recollect.port import Access
from recollect.run import RunOutput, input_messages
from recollect.session import SessionHeader
from recollect.store import fork, rows, sessions
from recollect.store.turns import input_count


async def run_of(access: Access, run_id: str, session_id: str, user_id: str | None) -> RunOutput:
    """The run, for one who may run in its session.

    Raises:
        InvalidArgument: it is part of another run.
        UserRequired: the session belongs to a user and none was named.
        SessionNotFound: there is no such session for this caller.
        RunNotFound: it has no such run.
    """
    header: SessionHeader | None = await access.do(sessions.get_header, session_id, user_id)
    if header is None:
        raise rows.no_session(session_id)
    if header.user_id != user_id:
        raise UserRequired(session_id)
    run: RunOutput | None = await access.do(sessions.get_run, run_id, session_id, user_id)
    if run is None:
        raise RunNotFound(f"there is no run {run_id!r} in session {session_id!r}")
    if run.parent_run_id is not None:
        raise InvalidArgument("run_id", f"{run_id!r} is part of run {run.parent_run_id!r}; name that one")
    return run


def input_of(run: RunOutput) -> list[Message]:
    """What the run was asked, to be asked again; ids that it gave to messages itself are left to it."""
    asked = input_messages(run.said, run.input_count)
    return [
        Message.stored(message.to_json(), None, message.role) if message.id == f"{run.run_id}.{place}" else message
        for place, message in enumerate(asked)
    ]


async def fork_before(access: Access, run: RunOutput, asked: Sequence[Message], user_id: str | None) -> str:
    """Make a session of what came before the run, for another input; give its id.

    Raises:
        InvalidArgument: the input is none that a run can begin with; nothing was written.
        RunConflict: the run was replaced by another.
    """
    input_count(asked)
    made: SessionHeader = await access.do(fork.fork_session, run.session_id, before_run=run.run_id, user_id=user_id)
    return made.session_id
