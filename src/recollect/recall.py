"""Tools with which a model looks up what was said: in its session, and in the same user's others.

What they find is told as JSON, cut to what fits a model: the newest stays. A model reads what its run's user may read,
and nothing where the run has no user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from recollect import checks
from recollect.errors import RecollectError, SessionNotFound
from recollect.hit import SearchHit
from recollect.message import Message
from recollect.query import Query, Term
from recollect.run import RunOutputEvent, RunStatus
from recollect.selection import Filter
from recollect.session import CHAT_SKIP_ROLES, CHAT_SKIP_STATUSES, SessionHeader
from recollect.store import lists, sessions
from recollect.store.hits import MOST, search
from recollect.tools import Tool, ToolResult, Work, result_of

MOST_RUNS: Final = 100
"""Runs that are read at once where the model asks for all."""

TOTAL_CHARS: Final = 16_000
"""Characters of what was said that one call tells."""

TERMS: Final = 8
"""Words that are looked for, of those that a model names."""

STEM: Final = 3
"""Letters from which on a word is looked for as the beginning of one."""

PAGES: Final = 3
"""Pages of hits that are looked at for each word; the session itself may fill some."""

SNIPPETS: Final = 3
"""Places that are shown of a session in which the words are."""

MESSAGE_CHARS: Final = 2000
PREVIEW_CHARS: Final = 200

Look = Callable[..., Awaitable[Any]]
Some = Annotated[int, msgspec.Meta(ge=1)] | None


class Recall(Tool):
    """A tool that looks something up in the database of its run."""

    def __init__(self, told: Callable[..., str], look: Look) -> None:
        super().__init__(told)
        self._look = look

    async def work(self, work: Work) -> AsyncGenerator[RunOutputEvent | ToolResult, None]:
        """Look it up."""
        read = self.read(work.call.arguments)
        if isinstance(read, ToolResult):
            yield read
            return
        try:
            yield result_of(await self._look(work, **read))
        except RecollectError as error:
            yield result_of(f"{type(error).__name__}: {error}", error=True)


def chat_history_tool() -> Tool:
    """The tool ``get_chat_history``."""
    return Recall(get_chat_history, _chat_history)


def past_session_tools(most_sessions: int, runs: int) -> list[Tool]:
    """The tools ``search_past_sessions``, which looks at so many sessions and runs, and ``read_past_session``."""

    async def search(work: Work, query: str | None) -> dict[str, Any]:
        return await _search(work, query, most_sessions, runs)

    return [Recall(search_past_sessions, search), Recall(read_past_session, _read)]


def get_chat_history(num_chats: Some = None) -> str:
    """Get what the user and you said earlier in this conversation, oldest first.

    Args:
        num_chats: how many of the newest questions with their answers; all that fit unless given
    """
    raise NotImplementedError


def search_past_sessions(query: str | None = None) -> str:
    """List earlier conversations with this user, the newest first, with short previews.

    Read one with read_past_session.

    Args:
        query: words to look for in their names and in all that was said in them; the newest ones unless given
    """
    raise NotImplementedError


def read_past_session(session_id: str, num_runs: Some = None) -> str:
    """Read an earlier conversation with this user.

    Args:
        session_id: its id, from search_past_sessions
        num_runs: how many of its newest questions with their answers; all that fit unless given
    """
    raise NotImplementedError


async def _chat_history(work: Work, num_chats: int | None) -> dict[str, Any]:
    context = work.context
    return _told(await _said(work, context.session_id, context.user_id, num_chats or MOST_RUNS))


async def _search(work: Work, query: str | None, most: int, runs: int) -> dict[str, Any]:
    if work.context.user_id is None:
        return {"sessions": [], "note": "There is nothing to search: nobody is named whose conversations these are."}
    terms = Query.of(query or "").terms[:TERMS]
    found = await _found(work, terms) if terms else await _newest(work, most)
    told: list[dict[str, Any]] = []
    for session_id, snippets in found.items():
        if (one := await _preview(work, session_id, runs)) is not None:
            told.append(one | ({"found": snippets} if snippets else {}))
        if len(told) == most:
            break
    return {"sessions": told}


async def _newest(work: Work, most: int) -> dict[str, list[str]]:
    page = await work.access.do(lists.get_sessions, user_id=work.context.user_id, limit=most + 1)
    return {header.session_id: [] for header in page if header.session_id != work.context.session_id}


async def _found(work: Work, terms: Sequence[Term]) -> dict[str, list[str]]:
    """The user's other sessions in which these words are, those with most of them first, each with where they are.

    Also looked for is what has all of them, which each alone may be in too many sessions to tell.
    """
    words = [_spelled(term) for term in terms]
    hits: dict[str, SearchHit] = {}
    holding: Counter[str] = Counter()
    snippets: dict[str, list[str]] = {}
    for query, weight in [*([(" ".join(words), len(words))] if len(words) > 1 else ()), *((word, 1) for word in words)]:
        for hit in await _hits(work, query):
            holding[hit.session_id] += weight
            hits.setdefault(hit.session_id, hit)
            shown = snippets.setdefault(hit.session_id, [])
            if hit.snippet not in shown and len(shown) < SNIPPETS:
                shown.append(hit.snippet)
    newest = sorted(holding, key=lambda session_id: hits[session_id].time, reverse=True)
    return {session_id: snippets[session_id] for session_id in sorted(newest, key=lambda one: -holding[one])}


def _spelled(term: Term) -> str:
    """A term as a query; words that are not very short may go on, for a model seldom knows which form was used."""
    goes_on = term.is_prefix or len(term.words[-1]) >= STEM
    return f'"{" ".join(term.words)}"{"*" if goes_on else ""}'


async def _hits(work: Work, query: str) -> list[SearchHit]:
    """The newest hit in each of the user's other sessions, of so many hits as are looked at."""
    newest: dict[str, SearchHit] = {}
    cursor = None
    for _ in range(PAGES):
        page = await search(work.access, query, user_id=work.context.user_id, limit=MOST, cursor=cursor)
        for hit in page:
            newest.setdefault(hit.session_id, hit)
        if (cursor := page.next_cursor) is None:
            break
    newest.pop(work.context.session_id, None)
    return list(newest.values())


async def _preview(work: Work, session_id: str, runs: int) -> dict[str, Any] | None:
    """What is told of a session; None where it was deleted since it was found, or its time is over."""
    header = await work.access.do(sessions.get_header, session_id, work.context.user_id)
    try:
        chats = _chats(await _said(work, session_id, work.context.user_id, runs))
    except SessionNotFound:
        return None
    if header is None:
        return None
    previews = [{role: checks.preview(text, PREVIEW_CHARS) for role, text in chat.items()} for chat in chats]
    return _about(header) | {"runs": previews}


async def _read(work: Work, session_id: str, num_runs: int | None) -> dict[str, Any] | str:
    context = work.context
    if session_id == context.session_id:
        return "This is the conversation that you are in."
    header = None
    if context.user_id is not None:
        header = await work.access.do(sessions.get_header, session_id, context.user_id)
    if header is None:
        return f"There is no session {session_id!r}."
    said = await _said(work, session_id, context.user_id, num_runs or MOST_RUNS)
    return _about(header) | _told(said)


async def _said(work: Work, session_id: str, user_id: str | None, runs: int) -> list[Message]:
    """What user and assistant said in the newest runs, but those under way: that is what the model has before it."""
    wanted = Filter.checked(
        last_n_runs=min(runs, MOST_RUNS),
        skip_roles=CHAT_SKIP_ROLES,
        skip_statuses=(*CHAT_SKIP_STATUSES, RunStatus.running, RunStatus.pending),
    )
    found: list[Message] = await work.access.do(sessions.get_messages, session_id, wanted, user_id)
    return [message for message in found if message.text]


def _about(header: SessionHeader) -> dict[str, Any]:
    return {
        "session_id": header.session_id,
        "name": header.name,
        "created_at": _time(header.created_at),
        "updated_at": _time(header.updated_at),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")


def _told(said: Sequence[Message]) -> dict[str, Any]:
    """As much of what was said as fits, the newest."""
    told: list[dict[str, str]] = []
    room = TOTAL_CHARS
    for message in reversed(said):
        text = _cut(message.text)
        room -= len(text)
        if room < 0:
            return {"messages": told[::-1], "note": "What was said before that is left out."}
        told.append({"role": message.role, "content": text})
    return {"messages": told[::-1]}


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARS else f"{text[:MESSAGE_CHARS]} [...]"


def _chats(said: Iterable[Message]) -> list[dict[str, str]]:
    """What was asked, each with what was answered last."""
    chats: list[dict[str, str]] = []
    for message in said:
        if message.role == "user":
            chats.append({"user": message.text})
        elif chats:
            chats[-1]["assistant"] = message.text
    return chats
