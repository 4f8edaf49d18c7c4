"""State and metadata of a session, each key a value of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recollect.calls.call import Call
from recollect.store import (
    changes,
    sessions,
)


async def get_session_state(at: Call, session_id: str | None = None, *, user_id: str | None = None) -> dict[str, Any]:
    """The session's state, made afresh for each reader.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    state: dict[str, Any] = await at.do(
        sessions.get_values, at.session_id(session_id, "get_session_state"), "state", at.user_id(user_id)
    )
    return state


async def update_session_state(
    at: Call,
    session_state_updates: Mapping[str, Any],
    session_id: str | None = None,
    *,
    user_id: str | None = None,
) -> dict[str, Any]:
    """Set top-level keys of the session's state, each as a whole; give the state as it then is.

    Raises:
        InvalidArgument: a value cannot be stored; nothing was written.
        SessionNotFound: there is no such session for this caller.
    """
    session_id = at.session_id(session_id, "update_session_state")
    state: dict[str, Any] = await at.do(
        changes.update_values, session_id, "state", session_state_updates, at.user_id(user_id)
    )
    return state


async def get_session_metadata(
    at: Call, session_id: str | None = None, *, user_id: str | None = None
) -> dict[str, Any]:
    """The session's metadata, made afresh for each reader.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    metadata: dict[str, Any] = await at.do(
        sessions.get_values, at.session_id(session_id, "get_session_metadata"), "metadata", at.user_id(user_id)
    )
    return metadata


async def update_session_metadata(
    at: Call,
    metadata_updates: Mapping[str, Any],
    session_id: str | None = None,
    *,
    user_id: str | None = None,
) -> dict[str, Any]:
    """Set top-level keys of the session's metadata, each as a whole; give the metadata as they then are.

    Raises:
        InvalidArgument: a value cannot be stored; nothing was written.
        SessionNotFound: there is no such session for this caller.
    """
    session_id = at.session_id(session_id, "update_session_metadata")
    metadata: dict[str, Any] = await at.do(
        changes.update_values, session_id, "metadata", metadata_updates, at.user_id(user_id)
    )
    return metadata
