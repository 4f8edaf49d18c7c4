"""What was said in a session."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.calls.call import Call
from recollect.message import Message
from recollect.run import RunStatus
from recollect.selection import Filter
from recollect.session import (
    CHAT_SKIP_ROLES,
    CHAT_SKIP_STATUSES,
)
from recollect.store import (
    sessions,
)


async def get_session_messages(
    at: Call,
    session_id: str | None = None,
    last_n_runs: int | None = None,
    limit: int | None = None,
    skip_roles: Sequence[str] | None = None,
    skip_statuses: Sequence[RunStatus] | None = None,
    skip_history_messages: bool = True,  # noqa: FBT001, FBT002 - Agno's signature
    *,
    agent_id: str | None = None,
    team_id: str | None = None,
    member_ids: Sequence[str] | None = None,
    skip_member_messages: bool = True,
    user_id: str | None = None,
) -> list[Message]:
    """The messages that `AgentSession.get_messages` would give, reading only the runs they are in.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    del skip_history_messages
    wanted = Filter.checked(
        agent_id=agent_id,
        team_id=team_id,
        member_ids=member_ids,
        last_n_runs=last_n_runs,
        limit=limit,
        skip_roles=skip_roles,
        skip_statuses=skip_statuses,
        skip_member_messages=skip_member_messages,
    )
    return await _messages(at, session_id, wanted, user_id, "get_session_messages")


async def get_team_session_messages(
    at: Call,
    session_id: str | None = None,
    member_ids: Sequence[str] | None = None,
    last_n_runs: int | None = None,
    limit: int | None = None,
    skip_roles: Sequence[str] | None = None,
    skip_statuses: Sequence[RunStatus] | None = None,
    skip_history_messages: bool = True,  # noqa: FBT001, FBT002 - Agno's signature
    skip_member_messages: bool = True,  # noqa: FBT001, FBT002 - Agno's signature
    *,
    agent_id: str | None = None,
    team_id: str | None = None,
    user_id: str | None = None,
) -> list[Message]:
    """As `get_session_messages`, in the order of arguments that Agno's teams have.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    return await get_session_messages(
        at,
        session_id,
        last_n_runs,
        limit,
        skip_roles,
        skip_statuses,
        skip_history_messages,
        agent_id=agent_id,
        team_id=team_id,
        member_ids=member_ids,
        skip_member_messages=skip_member_messages,
        user_id=user_id,
    )


async def get_chat_history(
    at: Call, session_id: str | None = None, last_n_runs: int | None = None, *, user_id: str | None = None
) -> list[Message]:
    """What user and assistant said, oldest first, in every run that was not regenerated.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    wanted = Filter.checked(last_n_runs=last_n_runs, skip_roles=CHAT_SKIP_ROLES, skip_statuses=CHAT_SKIP_STATUSES)
    return await _messages(at, session_id, wanted, user_id, "get_chat_history")


async def _messages(
    at: Call, session_id: str | None, wanted: Filter, user_id: str | None, caller: str
) -> list[Message]:
    found: list[Message] = await at.do(
        sessions.get_messages, at.session_id(session_id, caller), wanted, at.user_id(user_id)
    )
    return found
