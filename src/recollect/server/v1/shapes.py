"""How sessions, messages and hits look under ``/v1``, and what may be said to change them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from recollect.server.fields import Id, Json, Name
from recollect.server.wire import Shape


class Me(Shape):
    """Who the caller is taken for."""

    user_id: str | None
    scopes: list[str]


class Entry(Shape):
    """A session without its content."""

    session_id: str
    kind: str = Field(examples=["agent"])
    agent_id: str | None
    team_id: str | None
    user_id: str | None
    name: str = Field(description="Empty while it has none.")
    name_source: str | None = Field(description="``manual``, ``auto`` or ``fallback``.")
    title: str = Field(description="The name, else the start of what was first asked, else the id.")
    preview: str
    archived: bool
    pinned: bool
    expires_at: datetime | None
    run_count: int
    completed_count: int
    message_count: int
    input_tokens: int
    output_tokens: int
    aux_tokens: int = Field(description="Tokens spent on names and summaries.")
    version: int = Field(description="Rises with each change.")
    created_at: datetime
    updated_at: datetime


class Page(Shape):
    """Some sessions of a longer list."""

    sessions: list[Entry]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class Hit(Shape):
    """One text that holds what was searched for."""

    session_id: str
    session_name: str = Field(description="Empty while it has none.")
    user_id: str | None
    where: Literal["message", "name", "summary"]
    run_id: str | None = Field(description="Null of a name and a summary, as the three below.")
    run_seq: int | None = Field(description="The place of the run in its session.")
    idx: int | None = Field(description="The place of the message in its run.")
    role: str | None
    snippet: str = Field(description="A piece of the text, as it was said: escape it before it is part of a page.")
    marks: list[tuple[int, int]] = Field(
        description="Where the terms are in the snippet: begin and end of each, in characters of Unicode."
    )
    time: datetime
    rank: float = Field(description="How well the text fits, from 0 to 1.")


class Hits(Shape):
    """Some of what a search finds, newest first."""

    hits: list[Hit]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class Session(Entry):
    """A session with its values, without its runs."""

    session_state: Json
    metadata: Json
    tags: list[str]
    summary: Json | None


class Change(Shape):
    """What is to be changed; what is not named stays.

    Keys of ``session_state`` and ``metadata`` are set each as a whole; the others stay.
    """

    name: Name | None = None
    session_state: Json | None = None
    metadata: Json | None = None
    tags: list[Id] | None = Field(default=None, description="All tags that the session is to have.", max_length=100)
    archived: bool | None = None
    pinned: bool | None = None


class Naming(Shape):
    """How a name is to be made."""

    fallback: Name | None = Field(
        default=None, description="The name where the model makes none; unless given, one made of the first message."
    )


class Said(Shape):
    """Messages, oldest first."""

    messages: list[dict[str, Any]] = Field(description="Each in the Chat Completions form, as it was stored.")


class SessionEvent(Shape):
    """What an event says of a session: facts of its row, never what was said in it. All are null of a ``reset``."""

    session_id: str | None
    user_id: str | None
    agent_id: str | None
    team_id: str | None
    version: int | None = Field(description="The session's version, at least that; null when it is gone.")
