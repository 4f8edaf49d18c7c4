"""Google ADK: `SqliteSessionService` and `DatabaseSessionService`, alone and under its `Runner`.

The services are asynchronous; each call here is one run of an event loop that stays open, which costs some 20 us.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig
from google.adk.events import Event
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types
from pydantic import PrivateAttr

from bench.peers.work import PAGE, WINDOW, Said, Store, pragmas, turns_of

APP: Final = "bench"
USER: Final = "user"


class Stub(BaseLlm):
    """A model of ADK's that asks its store what to say."""

    _store: Any = PrivateAttr()

    def __init__(self, store: Store) -> None:
        super().__init__(model="stub")
        self._store = store

    async def generate_content_async(self, *args: Any, **options: Any) -> AsyncGenerator[LlmResponse, None]:
        del args, options
        usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=5900, candidates_token_count=84)
        yield LlmResponse(content=_content("model", self._store.answer()), usage_metadata=usage)


class Sqlite(Store):
    """`SqliteSessionService(file)`."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.loop = asyncio.new_event_loop()
        self.service = self.opened()
        recent = GetSessionConfig(num_recent_events=2 * WINDOW)
        self.recent = recent
        self.config = RunConfig(get_session_config=recent)
        agent = LlmAgent(name="agent", model=Stub(self))
        self.runner = Runner(app_name=APP, agent=agent, session_service=self.service, auto_create_session=True)
        self._seeded: dict[str, Any] = {}

    def opened(self) -> Any:
        return SqliteSessionService(self.address)

    def seed(self, session_id: str, said: Said) -> None:
        self.loop.run_until_complete(self._seed(session_id, said))

    async def _seed(self, session_id: str, said: Said) -> None:
        session = self._seeded.get(session_id)
        if session is None:
            session = self._seeded[session_id] = await self._session(session_id, None)
        for question, answer in said:
            await self._append(session, question, answer)
        session.events.clear()  # the service needs the session's last change alone

    async def _session(self, session_id: str, config: GetSessionConfig | None) -> Any:
        found = await self.service.get_session(app_name=APP, user_id=USER, session_id=session_id, config=config)
        if found is None:
            found = await self.service.create_session(app_name=APP, user_id=USER, session_id=session_id)
        return found

    async def _append(self, session: Any, question: str, answer: str) -> None:
        for author, role, text in (("user", "user", question), ("agent", "model", answer)):
            event = Event(author=author, invocation_id="invocation", content=_content(role, text))
            await self.service.append_event(session, event)

    def turn(self, session_id: str, question: str, answer: str) -> int:
        return self.loop.run_until_complete(self._turn(session_id, question, answer))

    async def _turn(self, session_id: str, question: str, answer: str) -> int:
        session = await self._session(session_id, self.recent)
        loaded = len(session.events)
        await self._append(session, question, answer)
        return loaded

    def run(self, session_id: str, question: str, answer: str) -> object:
        self.reply = answer
        return self.loop.run_until_complete(self._run(session_id, question))

    async def _run(self, session_id: str, question: str) -> int:
        events = self.runner.run_async(
            user_id=USER, session_id=session_id, new_message=_content("user", question), run_config=self.config
        )
        return len([event async for event in events])

    def _all(self, session_id: str, config: GetSessionConfig | None = None) -> list[Any]:
        asked = self.service.get_session(app_name=APP, user_id=USER, session_id=session_id, config=config)
        found = self.loop.run_until_complete(asked)
        return [] if found is None else list(found.events)

    def last(self, session_id: str, runs: int) -> int:
        return len(self._all(session_id, GetSessionConfig(num_recent_events=2 * runs)))

    def texts(self, session_id: str) -> list[str]:
        return ["".join(part.text or "" for part in event.content.parts) for event in self._all(session_id)]

    def sessions(self, named: Sequence[tuple[str, str, int]]) -> None:
        self.loop.run_until_complete(self._sessions(named))

    async def _sessions(self, named: Sequence[tuple[str, str, int]]) -> None:
        """One by one, and active now: the service sets the times itself. The name is a key of the state."""
        for session_id, name, _ in named:
            await self.service.create_session(app_name=APP, user_id=USER, session_id=session_id, state={"name": name})

    def page(self, skipped: int) -> list[str]:
        """All sessions, oldest first; the page is cut out of them."""
        listed = self.loop.run_until_complete(self.service.list_sessions(app_name=APP, user_id=USER))
        newest = listed.sessions[::-1]
        return [session.id for session in newest[skipped : skipped + PAGE]]

    def keep(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Without the prompt: ADK's sessions hold none, for it is the agent's."""
        _, turns = turns_of(messages)
        self.loop.run_until_complete(self._keep(session_id, [message for turn in turns for message in turn]))

    async def _keep(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        session = await self._session(session_id, None)
        for message in messages:
            author = "user" if message["role"] == "user" else "agent"
            await self.service.append_event(session, Event(author=author, content=_parts(message)))

    def status(self, session_id: str) -> str:
        del session_id
        return "none is kept"

    def settings(self) -> dict[str, str]:
        return self.loop.run_until_complete(self._settings())

    async def _settings(self) -> dict[str, str]:
        # There is no public way to the connection; this is the one that its calls use.
        async with self.service._get_db_connection() as connection:  # noqa: SLF001
            said = {sql: (await (await connection.execute(sql)).fetchone())[0] for sql in _ASKED}
        return pragmas(lambda sql: said[sql])

    def close(self) -> None:
        self.loop.run_until_complete(self.service.close())
        self.loop.close()


class Database(Sqlite):
    """`DatabaseSessionService("sqlite+aiosqlite:///...")`."""

    NEEDS = ("google.adk.sessions.database_session_service", "aiosqlite", "sqlalchemy.dialects.sqlite.aiosqlite")
    DRIVER = "sqlite+aiosqlite:///"

    def opened(self) -> Any:
        from google.adk.sessions import DatabaseSessionService

        return DatabaseSessionService(db_url=self.DRIVER + self.address.removeprefix("postgresql://"))

    async def _settings(self) -> dict[str, str]:
        async with self.service.db_engine.connect() as connection:
            said = {sql: (await connection.exec_driver_sql(sql)).scalar() for sql in _ASKED}
        return pragmas(lambda sql: said[sql])


class Postgres(Database):
    """The same over ``postgresql+asyncpg://``."""

    NEEDS = ("google.adk.sessions.database_session_service", "asyncpg", "sqlalchemy.dialects.postgresql.asyncpg")
    DRIVER = "postgresql+asyncpg://"


_ASKED: Final = ("pragma synchronous", "pragma journal_mode")


def _content(role: str, text: str) -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=text)])


def _parts(message: dict[str, Any]) -> types.Content:
    """A message as the content of an event."""
    if message["role"] == "tool":
        name = message.get("name") or "tool"
        response = types.FunctionResponse(
            id=message["tool_call_id"], name=name, response={"result": message["content"]}
        )
        return types.Content(role="user", parts=[types.Part(function_response=response)])
    parts = [types.Part(text=message["content"])] if message.get("content") else []
    for call in message.get("tool_calls") or ():
        arguments = call["function"]["arguments"]
        args = json.loads(arguments) if isinstance(arguments, str) else arguments
        parts.append(
            types.Part(function_call=types.FunctionCall(id=call["id"], name=call["function"]["name"], args=args))
        )
    return types.Content(role="user" if message["role"] == "user" else "model", parts=parts)


STORES: Final = {"sqlite": Sqlite, "database": Database, "postgres": Postgres}
