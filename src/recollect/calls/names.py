"""The name of a session, set by hand or made by a model."""

from __future__ import annotations

from recollect import scribe
from recollect.calls.call import Call
from recollect.errors import InvalidArgument
from recollect.naming import title_from_first_message
from recollect.scribe import Fallback
from recollect.session import (
    AgentSession,
    SessionHeader,
    TeamSession,
)
from recollect.store import (
    changes,
    sessions,
)
from recollect.store.rows import no_session


async def get_session_name(at: Call, session_id: str | None = None, *, user_id: str | None = None) -> str:
    """The session's name; "" while it has none.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    session_id = at.session_id(session_id, "get_session_name")
    header: SessionHeader | None = await at.do(sessions.get_header, session_id, at.user_id(user_id))
    if header is None:
        raise no_session(session_id)
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
        raise no_session(session_id)
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


async def _approved(at: Call, session_id: str, name: str, user_id: str | None) -> str:
    """A name set by hand, as the namer's policy has it."""
    namer = at.scribe.namer
    if namer.policy is None:
        return name
    header: SessionHeader | None = await at.do(sessions.get_header, session_id, user_id)
    if header is None:
        raise no_session(session_id)
    return namer.approved(name, header)
