"""What agents and teams do with sessions: each operation written once, over a `Call`.

`recollect.runtime` offers them in two faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, Unpack

from recollect import checks, scribe
from recollect.background import BACKGROUND
from recollect.errors import InvalidArgument, SessionIdMissing, SessionNotFound
from recollect.heartbeat import HEARTBEAT
from recollect.hit import SearchPage
from recollect.message import Message
from recollect.naming import title_from_first_message
from recollect.port import Access
from recollect.run import RunOutput, RunStatus
from recollect.scribe import Fallback, Scribe
from recollect.selection import Filter
from recollect.session import (
    CHAT_SKIP_ROLES,
    CHAT_SKIP_STATUSES,
    AgentSession,
    SessionHeader,
    SessionMetrics,
    SessionPage,
    SessionSummary,
    TeamSession,
)
from recollect.store import (
    changes,
    continued,
    deletion,
    fork,
    hits,
    lists,
    marks,
    removed,
    sessions,
    summaries,
)
from recollect.store.lists import SessionFilters


class Holder(Protocol):
    """What has a session and a user of its own, for calls that name none, and somebody who makes names."""

    @property
    def scribe(self) -> Scribe: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def user_id(self) -> str | None: ...


class Call:
    """A runtime, and the face in which one of its methods was called."""

    __slots__ = ("_holder", "access", "do")

    def __init__(self, holder: Holder, access: Access) -> None:
        self._holder = holder
        self.access = access
        self.do = access.do

    @property
    def scribe(self) -> Scribe:
        """Who makes the names and summaries of this runtime."""
        return self._holder.scribe

    def session_id(self, given: str | None, caller: str) -> str:
        """The session that is meant.

        Raises:
            SessionIdMissing: none was named, and the runtime has none of its own.
        """
        session_id = given if given is not None else self._holder.session_id
        if session_id is None:
            raise SessionIdMissing(caller)
        return checks.identifier("session_id", session_id)

    def user_id(self, given: str | None) -> str | None:
        """The user on whose behalf the call is made; None for trusted code."""
        return checks.optional_identifier("user_id", given if given is not None else self._holder.user_id)


async def get_session(
    at: Call, session_id: str | None = None, user_id: str | None = None
) -> AgentSession | TeamSession | None:
    """The session with its whole history; None when there is none for this caller."""
    found: AgentSession | TeamSession | None = await at.do(
        sessions.get_session, at.session_id(session_id, "get_session"), at.user_id(user_id)
    )
    return found


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


async def get_sessions(at: Call, **filters: Unpack[SessionFilters]) -> SessionPage:
    """A page of the database's sessions without their content, newest first; all agents' unless one is named.

    The filters are those of `SessionFilters`.

    Raises:
        InvalidArgument: a filter, the limit (1-1000) or the cursor cannot be accepted.
    """
    page: SessionPage = await at.do(lists.get_sessions, **(filters | {"user_id": at.user_id(filters.get("user_id"))}))
    return page


async def search(
    at: Call,
    query: str,
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    kind: Literal["agent", "team"] | None = None,
    agent_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> SearchPage:
    """A page of what was said in the database's sessions that holds all of ``query``, newest first.

    Messages are found, and names and summaries of sessions. ``query`` is made of words, ``"phrases"`` and beginnings
    (``foo*``), whatever their case and accents; everything else is taken for a blank, so nothing is a mistake. All
    sessions of the user are searched, unless ``session_id`` names one; ``kind`` and ``agent_id`` are those of the
    session. ``since`` is included, ``until`` is not; both mean the `SearchHit.time`.
    Runs of members, and runs that were replaced, are not searched.

    Raises:
        InvalidArgument: the query has more than 1,000 characters; or a filter, the limit (1-100) or the cursor cannot
            be accepted.
        SearchUnavailable: SQLite was built without what searching needs.
    """
    return await hits.search(
        at.access,
        query,
        user_id=at.user_id(user_id),
        session_id=session_id,
        kind=kind,
        agent_id=agent_id,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )


async def get_run_output(
    at: Call, run_id: str, session_id: str | None = None, user_id: str | None = None
) -> RunOutput | None:
    """One run with its messages; None when there is none for this caller."""
    run: RunOutput | None = await at.do(
        sessions.get_run, run_id, at.session_id(session_id, "get_run_output"), at.user_id(user_id)
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
        raise _missing(header.session_id)
    return session


async def get_session_metrics(at: Call, session_id: str | None = None, *, user_id: str | None = None) -> SessionMetrics:
    """What the session took in all.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    metrics: SessionMetrics = await at.do(
        sessions.get_metrics, at.session_id(session_id, "get_session_metrics"), at.user_id(user_id)
    )
    return metrics


async def get_session_name(at: Call, session_id: str | None = None, *, user_id: str | None = None) -> str:
    """The session's name; "" while it has none.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    session_id = at.session_id(session_id, "get_session_name")
    header: SessionHeader | None = await at.do(sessions.get_header, session_id, at.user_id(user_id))
    if header is None:
        raise _missing(session_id)
    return header.name


async def set_session_name(
    at: Call,
    session_id: str | None = None,
    autogenerate: bool = False,  # noqa: FBT001, FBT002 - Agno's signature
    session_name: str | None = None,
    *,
    fallback: Fallback = title_from_first_message,
    user_id: str | None = None,
) -> AgentSession | TeamSession:
    """Name the session; give it as it then is, with ``name`` and ``name_source``.

    ``autogenerate=True`` asks a model, once, for a name made of the first messages: the namer's model, else the summary
    manager's, else the agent's. Where it fails or says nothing usable, ``fallback`` is the name: a text such as a
    ticket's id, a function of the session, or None for none. A name that is set by hand meanwhile stays.

    Raises:
        InvalidArgument: the name has no visible character, or more than 200, or the namer's policy refuses it; or both
            a name and ``autogenerate`` were given, or neither.
        SessionNotFound: there is no such session for this caller.
        NamingFailed: no name could be generated, and there is no fallback; the name is as it was.
    """
    session_id = at.session_id(session_id, "set_session_name")
    user_id = at.user_id(user_id)
    if autogenerate:
        if session_name is not None:
            raise InvalidArgument("session_name", "is given and to be generated; pass one of it and autogenerate=True")
        await scribe.name_session(at.access, at.scribe, session_id, user_id, scribe.check_fallback(fallback))
    elif session_name is None:
        raise InvalidArgument("session_name", "no name was given; pass session_name=... or autogenerate=True")
    else:
        name = await _approved(at, session_id, session_name, user_id)
        await at.do(changes.set_session_name, session_id, name, user_id)
    session: AgentSession | TeamSession | None = await at.do(sessions.get_session, session_id, user_id)
    if session is None:
        raise _missing(session_id)
    return session


async def generate_session_name(
    at: Call,
    session_id: str | None = None,
    *,
    fallback: Fallback = title_from_first_message,
    user_id: str | None = None,
) -> str:
    """The name that ``set_session_name(autogenerate=True)`` would give; the session keeps the one it has.

    Raises:
        SessionNotFound: there is no such session for this caller.
        NamingFailed: no name could be generated, and there is no fallback.
    """
    session_id = at.session_id(session_id, "generate_session_name")
    wanted = scribe.check_fallback(fallback)
    return await scribe.generate_name(at.access, at.scribe, session_id, at.user_id(user_id), wanted)


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


async def save_session(at: Call, session: AgentSession | TeamSession) -> None:
    """Store what was changed in a session since it was read: name, metadata, state, added runs.

    Raises:
        SessionConflict: somebody else changed it since; nothing was written.
        SessionNotFound: it was deleted since, or is not this agent's user's.
    """
    user_id = at.user_id(None)
    if user_id is not None and session.user_id != user_id:
        raise _missing(session.session_id)
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
        raise _missing(session_id)
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


async def _approved(at: Call, session_id: str, name: str, user_id: str | None) -> str:
    """A name set by hand, as the namer's policy has it."""
    namer = at.scribe.namer
    if namer.policy is None:
        return name
    header: SessionHeader | None = await at.do(sessions.get_header, session_id, user_id)
    if header is None:
        raise _missing(session_id)
    return namer.approved(name, header)


def _missing(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"there is no session {session_id!r}")
