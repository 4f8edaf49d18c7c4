"""Names and summaries of sessions: each is one question to a model, stored with what it took.

What is asked, and how the answer is read, is decided in `recollect.naming` and `recollect.summary`; here it is done, at
once, in the background, or for `recollect.batch`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from recollect import checks
from recollect.ask import whole_answer
from recollect.errors import InvalidArgument, ModelError, NamingFailed, NotFound, RecollectError
from recollect.message import Usage
from recollect.naming import SessionNamer, title, title_from_first_message
from recollect.port import Access, Model, ModelRequest, World
from recollect.session import AgentSession, SessionHeader, SessionSummary, TeamSession
from recollect.store.names import Opening, begin_naming, finish_naming, get_opening
from recollect.store.rows import no_session
from recollect.store.sessions import get_session
from recollect.store.summaries import Unsummarised, finish_summary, get_unsummarised
from recollect.store.turns import Commit, new_token
from recollect.summary import SCHEMA, SessionSummaryManager

log = logging.getLogger("recollect")

Fallback = str | Callable[[AgentSession | TeamSession], str] | None

FIRST_NAME: Final = 2
"""Completed runs after which a session is named by itself: one is too little to go by."""

NO_TEXT: Final = "nothing was said in it yet"


class Scribe(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes names and summaries for an agent, and when."""

    namer: SessionNamer
    naming_model: Model
    manager: SessionSummaryManager
    summary_model: Model
    names: bool = False
    """Whether sessions are named by themselves."""
    summaries: bool = False
    """Whether each run is followed by a summary."""
    background: bool = True
    """Whether that is done after the reply, or before it is returned."""

    @property
    def key(self) -> tuple[int | bool, ...]:
        """The same for agents that would do the same: one of them is enough."""
        return (id(self.naming_model), id(self.summary_model), self.names, self.summaries)

    def names_now(self, commit: Commit) -> bool:
        """Whether a session is to be named after this commit.

        A name that had to be made without the model is tried again, ever more rarely: after 4, 8, 16, ... runs.
        """
        count = commit.completed_count
        if not self.names or count < FIRST_NAME:
            return False
        return commit.name_source is None or (commit.name_source == "fallback" and count & (count - 1) == 0)


class Generated(msgspec.Struct, frozen=True):
    """What a model made of the question for a name."""

    name: str = ""
    usage: Usage = Usage()
    problem: str = ""
    """Why there is no name."""


async def generate(scribe: Scribe, opening: Opening, world: World, *, max_retries: int | None = None) -> Generated:
    """Ask for a name, once. What nobody has said anything in is not asked about.

    Raises:
        ModelError: the model failed to answer.
        InvalidArgument: the namer's ``model_options`` are not the provider's.
    """
    namer = scribe.namer
    asked = namer.messages(opening.messages)
    if not asked:
        return Generated(problem=NO_TEXT)
    request = ModelRequest(
        messages=asked,
        purpose="name",
        max_output_tokens=max(64, 12 * namer.max_words),
        timeout=namer.timeout,
        max_retries=max_retries,
        options=namer.model_options,
    )
    reply = await whole_answer(scribe.naming_model, request, world)
    name = namer.read(reply.message)
    if not name:
        model = scribe.naming_model.id
        return Generated(usage=reply.usage, problem=f"model {model!r} said nothing that could be a name")
    try:
        return Generated(namer.approved(name, opening.header), reply.usage)
    except InvalidArgument as refused:
        return Generated(usage=reply.usage, problem=str(refused))


async def generate_name(
    access: Access, scribe: Scribe, session_id: str, user_id: str | None, fallback: Fallback
) -> str:
    """A name for a session, which is not given it.

    Raises:
        SessionNotFound: there is no such session for this caller.
        NamingFailed: the model made none, and neither did the fallback.
    """
    opening = await access.do(get_opening, session_id, user_id, runs=scribe.namer.context_messages)
    if opening is None:
        raise no_session(session_id)
    made = await _generated(access, scribe, opening)
    if made.usage.total_tokens:
        await access.do(finish_naming, session_id, 0, opening.header.epoch, None, None, made.usage.total_tokens)
    return made.name or await fall_back(access, scribe, opening, fallback, made.problem)


async def name_session(
    access: Access, scribe: Scribe, session_id: str, user_id: str | None, fallback: Fallback
) -> SessionHeader:
    """Name a session; give it as it then is. A name that is set by hand meanwhile stays.

    Raises:
        SessionNotFound: there is no such session for this caller, or not any more.
        NamingFailed: the model made none, and neither did the fallback; the name is as it was.
    """
    token = new_token()
    opening = await access.do(begin_naming, session_id, token, user_id, runs=scribe.namer.context_messages)
    assert opening is not None
    header = await _name(access, scribe, opening, token, fallback)
    if header is None:
        raise no_session(session_id)
    return header


async def _name(
    access: Access, scribe: Scribe, opening: Opening, token: int, fallback: Fallback
) -> SessionHeader | None:
    """Name a session whose claim is held; whatever happens, the claim is let go of and what it took is counted."""
    made = Generated()
    name, source = None, None
    raised: tuple[type[BaseException], ...] = (Exception, *access.world.interrupts)
    try:
        made = await _generated(access, scribe, opening)
        name, source = made.name, "auto"
        if not name:
            name, source = await fall_back(access, scribe, opening, fallback, made.problem), "fallback"
    except raised:
        await _finish(access, opening, token, None, None, made.usage)
        raise
    return await _finish(access, opening, token, name, source, made.usage)


async def _generated(access: Access, scribe: Scribe, opening: Opening) -> Generated:
    """As `generate`; a model that fails has made no name."""
    try:
        return await generate(scribe, opening, access.world)
    except ModelError as error:
        log.warning("session %s gets no generated name: %s", opening.header.session_id, error)
        return Generated(problem=str(error))


async def _finish(
    access: Access, opening: Opening, token: int, name: str | None, source: str | None, usage: Usage
) -> SessionHeader | None:
    header = opening.header
    return await access.do(finish_naming, header.session_id, token, header.epoch, name, source, usage.total_tokens)


async def fall_back(access: Access, scribe: Scribe, opening: Opening, fallback: Fallback, problem: str) -> str:
    """The name of a session that the model made none for.

    Raises:
        NamingFailed: there is no fallback, or nothing came of it.
    """
    said = f"session {opening.header.session_id!r} gets no name: {problem}"
    if fallback is None:
        raise NamingFailed(said)
    try:
        name = await _fallback_name(access, opening, fallback)
        return scribe.namer.approved(name, opening.header)
    except InvalidArgument as refused:
        raise NamingFailed(f"{said}; and its fallback cannot be one: {refused}") from refused


async def _fallback_name(access: Access, opening: Opening, fallback: str | Callable[..., str]) -> str:
    if isinstance(fallback, str):
        return fallback
    if fallback is title_from_first_message:  # needs no more of the session than is here
        return title(message.text for message in opening.messages if message.role == "user")
    session = await access.do(get_session, opening.header.session_id)
    try:
        name: str = await access.world.call(fallback, session)
    except Exception as error:  # it is the user's function
        raise InvalidArgument("fallback", f"raised {type(error).__name__}: {error}") from error
    return name


def check_fallback(fallback: object) -> Fallback:
    """Accept a fallback: a name, a function of the session, or None.

    Raises:
        InvalidArgument: it is none of these.
    """
    if fallback is None or callable(fallback):
        return fallback
    return checks.name("fallback", fallback)


async def follow_up(access: Access, scribe: Scribe, session_id: str, commit: Commit) -> None:
    """What a completed run is followed by: a name where one is due, a summary; what fails is logged."""
    if scribe.names_now(commit):
        await _logged(_name_if_due(access, scribe, session_id), session_id)
    if scribe.summaries:
        await _logged(summarise(access, scribe, session_id, once=True), session_id)


async def _name_if_due(access: Access, scribe: Scribe, session_id: str) -> None:
    token = new_token()
    runs = scribe.namer.context_messages
    opening = await access.do(begin_naming, session_id, token, due="unnamed", runs=runs)
    if opening is not None:
        await _name(access, scribe, opening, token, title_from_first_message)


class Summarised(msgspec.Struct, frozen=True):
    """A session's summary as it now is, and what it took to bring it there."""

    summary: SessionSummary | None
    usage: Usage = Usage()
    new: bool = False
    """Whether anything was said since the last one."""


async def summarise(
    access: Access,
    scribe: Scribe,
    session_id: str,
    user_id: str | None = None,
    *,
    once: bool = False,
    max_retries: int | None = None,
) -> Summarised:
    """Bring a session's summary up to what was last said: from the one before and the runs since, a part at a time.

    ``once`` asks the model at most once; what is left is for the next time.

    Raises:
        SessionNotFound: there is no such session for this caller.
        ModelError: the model failed, or said nothing that could be a summary; the last one stays.
    """
    usage, new = Usage(), False
    while True:
        since = await access.do(
            get_unsummarised, session_id, user_id, newest_runs=scribe.manager.last_n_runs, limit=_AT_ONCE
        )
        if since.settled <= since.through:
            return Summarised(since.before, usage, new)
        part = await _next_summary(access, scribe, session_id, since, max_retries)
        usage += part.usage
        new = new or part.stored
        if once and part.asked:
            return Summarised(since.before, usage, new)


_AT_ONCE: Final = 100
"""Runs that are read for one question."""


class _Part(msgspec.Struct, frozen=True):
    usage: Usage = Usage()
    asked: bool = False
    stored: bool = False


async def _next_summary(
    access: Access, scribe: Scribe, session_id: str, since: Unsummarised, max_retries: int | None
) -> _Part:
    """Ask about the next part of what was said."""
    manager = scribe.manager
    part = manager.part(since.runs)
    asked = manager.messages(since.before, part)
    whole = not part or part[-1] is since.runs[-1]
    through = since.settled if whole else part[-1].run_seq or since.settled
    if not asked:
        await access.do(finish_summary, session_id, since, through, None, 0)
        return _Part()
    request = ModelRequest(
        messages=asked,
        purpose="summary",
        output_schema=SCHEMA,
        max_output_tokens=max(512, 4 * manager.max_words),
        timeout=manager.timeout,
        max_retries=max_retries,
        options=manager.model_options,
    )
    reply = await whole_answer(scribe.summary_model, request, access.world)
    summary = manager.read(reply.message, datetime.now(UTC))
    tokens = reply.usage.total_tokens
    if summary is None:
        await access.do(finish_summary, session_id, since, since.through, None, tokens)
        raise ModelError(f"model {scribe.summary_model.id!r} said nothing that could be a summary")
    stored = await access.do(finish_summary, session_id, since, through, summary, tokens)
    return _Part(reply.usage, asked=True, stored=stored)


async def _logged(work: Awaitable[object], session_id: str) -> None:
    try:
        await work
    except NotFound:
        log.debug("session %s was deleted before it was named or summarised", session_id)
    except RecollectError as error:
        log.warning("session %s: %s", session_id, error)
    except Exception:  # the reply was given; nobody waits for this
        log.exception("session %s was not named or summarised", session_id)
