"""One session, bound: for scripts and notebooks that do not want to name it in every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from recollect.errors import SessionNotFound
from recollect.hit import SearchPage
from recollect.message import Message
from recollect.run import transcript_html
from recollect.session import AgentSession, TeamSession
from recollect.store.hits import PartFilters

if TYPE_CHECKING:
    from recollect.runner import Runner


class Conversation:
    """An agent's session with a user. It begins with the first run; until then it is empty and has no name.

    ``run``, ``arun``, ``print_response`` and ``aprint_response`` are those of the agent, in this session.
    """

    def __init__(self, agent: Runner, session_id: str, user_id: str | None) -> None:
        bound = agent.replace(session_id=session_id, user_id=user_id)
        self.agent = bound
        self.session_id = session_id
        self.user_id = user_id
        self.run = bound.run
        self.arun = bound.arun
        self.print_response = bound.print_response
        self.aprint_response = bound.aprint_response

    @property
    def name(self) -> str:
        """The session's name; "" while it has none. Set it to name the session."""
        try:
            return self.agent.get_session_name()
        except SessionNotFound:
            return ""

    @name.setter
    def name(self, session_name: str) -> None:
        self.agent.set_session_name(session_name=session_name)

    async def aget_name(self) -> str:
        """The session's name; "" while it has none."""
        try:
            return await self.agent.aget_session_name()
        except SessionNotFound:
            return ""

    async def aset_name(self, session_name: str) -> None:
        """Name the session."""
        await self.agent.aset_session_name(session_name=session_name)

    def get_session(self) -> AgentSession | TeamSession | None:
        """The session with its whole history; None before the first run."""
        return self.agent.get_session()

    async def aget_session(self) -> AgentSession | TeamSession | None:
        """As `get_session`."""
        return await self.agent.aget_session()

    def get_messages(self, **filters: Any) -> list[Message]:
        """The messages of the session, as `AgentSession.get_messages` gives them."""
        try:
            return self.agent.get_session_messages(**filters)
        except SessionNotFound:
            return []

    async def aget_messages(self, **filters: Any) -> list[Message]:
        """As `get_messages`."""
        try:
            return await self.agent.aget_session_messages(**filters)
        except SessionNotFound:
            return []

    def get_chat_history(self, last_n_runs: int | None = None) -> list[Message]:
        """What user and assistant said."""
        try:
            return self.agent.get_chat_history(last_n_runs=last_n_runs)
        except SessionNotFound:
            return []

    async def aget_chat_history(self, last_n_runs: int | None = None) -> list[Message]:
        """As `get_chat_history`."""
        try:
            return await self.agent.aget_chat_history(last_n_runs=last_n_runs)
        except SessionNotFound:
            return []

    def search(self, query: str, **part: Unpack[PartFilters]) -> SearchPage:
        """What was said in this session that holds all of ``query``, newest first, as the agent's ``search`` finds it.

        To search all sessions of the user, ask the agent: ``chat.agent.search(query)``.
        """
        return self.agent.search(query, session_id=self.session_id, **part)

    async def asearch(self, query: str, **part: Unpack[PartFilters]) -> SearchPage:
        """As `search`."""
        return await self.agent.asearch(query, session_id=self.session_id, **part)

    def __repr__(self) -> str:
        return f"Conversation({self.session_id} with {self.agent.id})"

    def _repr_html_(self) -> str:
        return transcript_html(self.get_messages())
