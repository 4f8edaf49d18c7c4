"""The same addresses for programs: a list or a session as data (``.json``) or as text (``.md``)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.responses import Response

from recollect import checks
from recollect.run import RunStatus
from recollect.server.inbox.page import plain
from recollect.server.inbox.shown import Turn, turns_of
from recollect.server.inbox.wanted import path_of
from recollect.server.reach import Reach
from recollect.session import SessionHeader, SessionPage
from recollect.store.export import export_session
from recollect.store.rows import no_session

JSON: Final = "application/json"
MARKDOWN: Final = "text/markdown; charset=utf-8"


def list_json(found: SessionPage) -> Response:
    """A page of a list as data."""
    told = {"sessions": [msgspec.to_builtins(header) for header in found], "next_cursor": found.next_cursor}
    return plain(checks.encode(told), JSON)


def list_md(found: SessionPage) -> Response:
    """A page of a list as text."""
    return plain("\n".join(["# Sessions", "", *map(_entry, found), ""]), MARKDOWN)


async def session_json(reach: Reach, session_id: str) -> Response:
    """A session with everything that is in it.

    Raises:
        SessionNotFound: there is no such session for this caller, or its time is over.
    """
    await reach.header(session_id)
    told: Any = await reach.db.atransact(export_session, session_id, reach.user_id)
    if told is None:
        raise no_session(session_id)
    return plain(checks.encode(told), JSON)


async def session_md(reach: Reach, session_id: str) -> Response:
    """What was said in a session.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    session = await reach.session(session_id)
    told = [f"# {one_line(session.header.title)}", "", f"`{session_id}`", ""]
    for turn in turns_of([run for run in session.runs if run.status is not RunStatus.regenerated]):
        told += _turn(turn)
    return plain("\n".join(told), MARKDOWN)


TWINS: Final = {".json": session_json, ".md": session_md}
"""What answers an address of a session with such an ending."""


def _turn(turn: Turn) -> Iterator[str]:
    yield from (f'<a id="r{turn.run.run_seq}"></a>', "")
    for bubble in turn.bubbles:
        if bubble.text:
            who = turn.who if bubble.role == "assistant" else bubble.role
            yield from (f"**{one_line(who)}**", "", bubble.text, "")
        for call in bubble.calls:
            yield from (f"*{one_line(call.name)}*", "", fenced(call.arguments), "")
            yield from (fenced(call.result or ""), "")
    if turn.why:
        yield from (f"> {one_line(turn.why)}", "")


def _entry(header: SessionHeader) -> str:
    return f"- [{one_line(header.title)}]({path_of(header.session_id, '.md')}) {_iso(header.updated_at)}"


def fenced(text: str) -> str:
    """A text as a block of code, whatever is in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


def one_line(text: str) -> str:
    """A text that is part of a line: a name ends no link, and begins no line."""
    return " ".join(text.replace("[", "\\[").replace("]", "\\]").split())


def _iso(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).isoformat(timespec="seconds")
