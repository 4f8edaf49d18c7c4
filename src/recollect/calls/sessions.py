"""Sessions: read, listed, searched, forked, stored, claimed, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Unpack

from recollect.calls.call import Call
from recollect.hit import SearchPage
from recollect.session import (
    AgentSession,
    SessionHeader,
    SessionMetrics,
    SessionPage,
    TeamSession,
)
from recollect.store import (
    changes,
    deletion,
    fork,
    hits,
    lists,
    sessions,
)
from recollect.store.hits import SearchFilters
from recollect.store.lists import SessionFilters
from recollect.store.rows import no_session


async def get_session(
    at: Call, session_id: str | None = None, user_id: str | None = None
) -> AgentSession | TeamSession | None:
    """The session with its whole history; None when there is none for this caller."""
    found: AgentSession | TeamSession | None = await at.do(
        sessions.get_session, at.session_id(session_id, "get_session"), at.user_id(user_id)
    )
    return found


async def get_sessions(at: Call, **filters: Unpack[SessionFilters]) -> SessionPage:
    """A page of the database's sessions without their content, newest first; all agents' unless one is named.

    The filters are those of `SessionFilters`.

    Raises:
        InvalidArgument: a filter, the limit (1-1000) or the cursor cannot be accepted.
    """
    page: SessionPage = await at.do(lists.get_sessions, **(filters | {"user_id": at.user_id(filters.get("user_id"))}))
    return page


async def search(at: Call, query: str, **filters: Unpack[SearchFilters]) -> SearchPage:
    """A page of what was said in the database's sessions that holds all of ``query``, newest first.

    Messages are found, and names and summaries of sessions. ``query`` is made of words, ``"phrases"`` and beginnings
    (``foo*``), whatever their case and accents; everything else is taken for a blank, so nothing is a mistake. All
    sessions of the user are searched, unless ``session_id`` names one. Runs of members, and runs that were replaced,
    are not searched. The filters are those of `SearchFilters`.

    Raises:
        InvalidArgument: the query has more than 1,000 characters; or a filter, the limit (1-100) or the cursor cannot
            be accepted.
        SearchUnavailable: SQLite was built without what searching needs.
    """
    return await hits.search(at.access, query, **(filters | {"user_id": at.user_id(filters.get("user_id"))}))


async def get_session_metrics(at: Call, session_id: str | None = None, *, user_id: str | None = None) -> SessionMetrics:
    """What the session took in all.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    metrics: SessionMetrics = await at.do(
        sessions.get_metrics, at.session_id(session_id, "get_session_metrics"), at.user_id(user_id)
    )
    return metrics


async def fork_session(
    at: Call,
    session_id: str | None = None,
    at_run: str | None = None,
    name: str | None = None,
    *,
    before_run: str | None = None,
    new_session_id: str | None = None,
    user_id: str | None = None,
) -> AgentSession | TeamSession:
    """Make a session of what is in this one: all of it, or up to a run.

    ``at_run`` is the last run that comes along, ``before_run`` the first that does not. Runs of members come with the
    run that they are part of; one under way comes as interrupted. State, metadata and tags are those of now, and the
    metadata say where it comes from: ``forked_from`` is the session, ``forked_at`` the last run of the conversation
    that came along. It is neither archived nor pinned. Before a run that was to replace another and did not is before
    the place that it was meant for.

    Raises:
        InvalidArgument: both runs are named, or one that is part of another; or something cannot be stored.
        SessionNotFound: there is no such session for this caller.
        RunNotFound: it has no such run.
        RunConflict: the run was replaced by another, or ``at_run`` was to replace one and did not.
        SessionConflict: there is a session with the new id.
    """
    session_id = at.session_id(session_id, "fork_session")
    user_id = at.user_id(user_id)
    header: SessionHeader = await at.do(
        fork.fork_session,
        session_id,
        at_run=at_run,
        before_run=before_run,
        new_session_id=new_session_id,
        name=name,
        user_id=user_id,
    )
    session: AgentSession | TeamSession | None = await at.do(sessions.get_session, header.session_id, user_id)
    if session is None:
        raise no_session(header.session_id)
    return session


async def save_session(at: Call, session: AgentSession | TeamSession) -> None:
    """Store what was changed in a session since it was read: name, metadata, state, added runs.

    Raises:
        SessionConflict: somebody else changed it since; nothing was written.
        SessionNotFound: it was deleted since, or is not this agent's user's.
    """
    user_id = at.user_id(None)
    if user_id is not None and session.user_id != user_id:
        raise no_session(session.session_id)
    if session.name != session.header.name:
        session.name = at.scribe.namer.approved(session.name, session.header)
    await at.do(changes.save_session, session)


async def claim_session(at: Call, session_id: str, user_id: str) -> AgentSession | TeamSession:
    """Give a session without an owner its owner, once; give it as it then is.

    Raises:
        SessionNotFound: there is no such session, or it is another user's.
    """
    await at.do(changes.claim_session, session_id, user_id)
    session: AgentSession | TeamSession | None = await at.do(sessions.get_session, session_id, user_id)
    if session is None:
        raise no_session(session_id)
    return session


async def delete_session(at: Call, session_id: str, user_id: str | None = None) -> None:
    """Delete the session with everything in it.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    await at.do(deletion.delete_session, session_id, at.user_id(user_id))


async def delete_sessions(
    at: Call,
    session_ids: Sequence[str] | None = None,
    user_id: str | None = None,
    *,
    older_than: timedelta | datetime | None = None,
) -> int:
    """Delete sessions, each in a transaction of its own; give how many there were for this caller.

    ``older_than`` deletes those that had no activity since: of the ones that are named, or where none is, of all. A
    session in which somebody is at work is not old.

    Raises:
        InvalidArgument: neither is given.
    """
    return await deletion.delete_sessions(at.access, session_ids, at.user_id(user_id), older_than=older_than)


async def delete_user(at: Call, user_id: str) -> int:
    """Delete all sessions of a user, expired ones too; give how many there were."""
    return await deletion.delete_user(at.access, user_id)
