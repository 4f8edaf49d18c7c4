"""OpenAI Agents SDK: `SQLiteSession` and `SQLAlchemySession`, alone and under its `Runner`.

The sessions are asynchronous; each call here is one run of an event loop that stays open, which costs some 20 us.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from agents import Agent, Runner, SQLiteSession, set_tracing_disabled
from agents.items import ModelResponse
from agents.memory import SessionSettings
from agents.models.interface import Model
from agents.run import RunConfig
from agents.usage import Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from bench.peers.work import WINDOW, Said, Store, pragmas, turns_of


class Stub(Model):
    """A model of the SDK's that asks its store what to say."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        del args, options
        text = ResponseOutputText(type="output_text", text=self.store.answer(), annotations=[])
        said = ResponseOutputMessage(id="msg_1", type="message", role="assistant", status="completed", content=[text])
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


class Sqlite(Store):
    """`SQLiteSession(session_id, file)`, one object a session, kept between its turns."""

    BULK = True

    def __init__(self, address: str) -> None:
        super().__init__(address)
        set_tracing_disabled(disabled=True)  # traces go to OpenAI's servers
        self.loop = asyncio.new_event_loop()
        self.agent = Agent(name="agent", model=Stub(self))
        self.config = RunConfig(session_settings=SessionSettings(limit=2 * WINDOW))
        self._open: dict[str, Any] = {}

    def opened(self, session_id: str) -> Any:
        return SQLiteSession(session_id, self.address)

    def session(self, session_id: str) -> Any:
        found = self._open.get(session_id)
        if found is None:
            found = self._open[session_id] = self.opened(session_id)
        return found

    def ready(self, session_id: str) -> None:
        self.loop.run_until_complete(self.session(session_id).get_items(limit=1))

    def seed(self, session_id: str, said: Said) -> None:
        items = [item for one in said for item in _items(*one)]
        if items:
            self.loop.run_until_complete(self.session(session_id).add_items(items))

    def turn(self, session_id: str, question: str, answer: str) -> int:
        return self.loop.run_until_complete(self._turn(self.session(session_id), question, answer))

    async def _turn(self, session: Any, question: str, answer: str) -> int:
        past = await session.get_items(limit=2 * WINDOW)
        await session.add_items(_items(question, answer))
        return len(past)

    def run(self, session_id: str, question: str, answer: str) -> object:
        self.reply = answer
        ran = Runner.run(self.agent, question, session=self.session(session_id), run_config=self.config)
        return str(self.loop.run_until_complete(ran).final_output)

    def last(self, session_id: str, runs: int) -> int:
        return len(self.loop.run_until_complete(self.session(session_id).get_items(limit=2 * runs)))

    def texts(self, session_id: str) -> list[str]:
        return [_text(item) for item in self._all(session_id)]

    def _all(self, session_id: str) -> list[Any]:
        items: list[Any] = self.loop.run_until_complete(self.session(session_id).get_items())
        return items

    def keep(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Without the prompt: the SDK's sessions hold none, for it is the agent's."""
        _, turns = turns_of(messages)
        for turn in turns:
            items = [item for message in turn for item in _responses(message)]
            self.loop.run_until_complete(self.session(session_id).add_items(items))

    def status(self, session_id: str) -> str:
        del session_id
        return "none is kept"

    def settings(self) -> dict[str, str]:
        # There is no public way to the connection; this is the one that its calls use.
        with self.session("settings")._locked_connection() as connection:  # noqa: SLF001
            return pragmas(lambda sql: connection.execute(sql).fetchone()[0])

    def close(self) -> None:
        for session in self._open.values():
            session.close()
        self.loop.close()


class SqlAlchemy(Sqlite):
    """`SQLAlchemySession` over one `create_async_engine("sqlite+aiosqlite:///...")`, ``create_tables=True``."""

    NEEDS = ("agents.extensions.memory.sqlalchemy_session", "aiosqlite", "sqlalchemy.dialects.sqlite.aiosqlite")
    DRIVER = "sqlite+aiosqlite:///"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        from sqlalchemy.ext.asyncio import create_async_engine

        self.engine = create_async_engine(self.DRIVER + address.removeprefix("postgresql://"))

    def opened(self, session_id: str) -> Any:
        from agents.extensions.memory import SQLAlchemySession

        return SQLAlchemySession(session_id, engine=self.engine, create_tables=True)

    def seed(self, session_id: str, said: Said) -> None:
        """The newest are added turn by turn: what is added together has one time, by which items are sorted."""
        first = max(0, len(said) - WINDOW)
        super().seed(session_id, said[:first])
        for one in said[first:]:
            super().seed(session_id, [one])

    def settings(self) -> dict[str, str]:
        return self.loop.run_until_complete(self._settings())

    async def _settings(self) -> dict[str, str]:
        self.opened("settings")  # which sets the engine up
        async with self.engine.connect() as connection:
            said = {sql: (await connection.exec_driver_sql(sql)).scalar() for sql in _ASKED}
        return pragmas(lambda sql: said[sql])

    def close(self) -> None:
        self.loop.run_until_complete(self.engine.dispose())
        self.loop.close()


class Postgres(SqlAlchemy):
    """The same over ``postgresql+asyncpg://``."""

    NEEDS = ("agents.extensions.memory.sqlalchemy_session", "asyncpg", "sqlalchemy.dialects.postgresql.asyncpg")
    DRIVER = "postgresql+asyncpg://"


_ASKED: Final = ("pragma synchronous", "pragma journal_mode")


def _items(question: str, answer: str) -> list[Any]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _text(item: dict[str, Any]) -> str:
    content = item.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _responses(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message as items of the Responses API."""
    if message["role"] == "tool":
        output = {"call_id": message["tool_call_id"], "output": message["content"]}
        return [{"type": "function_call_output", **output}]
    calls = [
        {"type": "function_call", "call_id": call["id"], **_function(call["function"])}
        for call in message.get("tool_calls") or ()
    ]
    content = message.get("content")
    return [*([{"role": message["role"], "content": content}] if content else []), *calls]


def _function(function: dict[str, Any]) -> dict[str, str]:
    arguments = function["arguments"]
    return {
        "name": function["name"],
        "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
    }


STORES: Final = {"sqlite": Sqlite, "sqlalchemy": SqlAlchemy, "postgres": Postgres}
