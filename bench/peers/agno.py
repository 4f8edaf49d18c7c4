"""Agno: an `Agent` with `SqliteDb` or `PostgresDb`. Its whole ``run()`` is what stores; it is no bare store."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, NoReturn
from uuid import uuid4

from agno.agent import Agent
from agno.db.base import SessionType
from agno.db.sqlite import SqliteDb
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.session import AgentSession

from bench.peers.work import PAGE, WINDOW, Said, Store, pragmas, turns_of


class Stub(Model):
    """A model of Agno's that asks its store what to say."""

    def __init__(self, store: Store) -> None:
        super().__init__(id="stub", name="Stub", provider="none")
        self.store = store

    def invoke(self, *args: Any, **options: Any) -> ModelResponse:
        del args, options
        return ModelResponse(role="assistant", content=self.store.answer())

    async def ainvoke(self, *args: Any, **options: Any) -> ModelResponse:
        return self.invoke(*args, **options)

    def invoke_stream(self, *args: Any, **options: Any) -> Iterator[ModelResponse]:
        yield self.invoke(*args, **options)

    async def ainvoke_stream(self, *args: Any, **options: Any) -> AsyncIterator[ModelResponse]:
        yield self.invoke(*args, **options)

    def _parse_provider_response(self, *args: Any, **options: Any) -> NoReturn:
        raise NotImplementedError

    def _parse_provider_response_delta(self, *args: Any, **options: Any) -> NoReturn:
        raise NotImplementedError


class Sqlite(Store):
    """`SqliteDb(db_file=...)`, nothing else set. Telemetry is off: it would wait for a server."""

    NEEDS: tuple[str, ...] = ("sqlalchemy.dialects.sqlite.pysqlite",)
    CACHED = False

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.db = self.opened()
        self.agent = self._agent(num_history_runs=WINDOW)
        self.default = self._agent()
        self._pattern: str | None = None
        self._seeded: dict[str, int] = {}

    def opened(self) -> Any:
        return SqliteDb(db_file=self.address)

    def _agent(self, **options: Any) -> Agent:
        cached = {"cache_session": True} if self.CACHED else {}
        stub = Stub(self)
        return Agent(
            id="agent", model=stub, db=self.db, add_history_to_context=True, telemetry=False, **cached, **options
        )

    def seed(self, session_id: str, said: Said) -> None:
        if session_id not in self._seeded:
            made = AgentSession(
                session_id=session_id, agent_id=self.agent.id, session_data={}, created_at=int(time.time())
            )
            self.db.upsert_session(made)
            self._seeded[session_id] = 0
        for question, answer in said:
            place = self._seeded[session_id]
            self.db.upsert_run(self._run(session_id, question, answer), session_id, run_index=place)
            self._seeded[session_id] += 1

    def _run(self, session_id: str, question: str, answer: str) -> dict[str, Any]:
        """A run as Agno itself stores it, with other texts and ids."""
        if self._pattern is None:
            self.reply = "answer"
            self._pattern = json.dumps(self.agent.run("question", session_id="pattern").to_dict())
            self.db.delete_session("pattern")
        run: dict[str, Any] = json.loads(self._pattern)
        run |= {
            "run_id": str(uuid4()),
            "session_id": session_id,
            "content": answer,
            "input": {"input_content": question},
        }
        for message in run["messages"]:
            message["id"] = str(uuid4())
            message["content"] = question if message["role"] == "user" else answer
        return run

    def run(self, session_id: str, question: str, answer: str) -> object:
        return self._ran(self.agent, session_id, question, answer)

    def short(self, session_id: str, question: str, answer: str) -> object:
        return self._ran(self.default, session_id, question, answer)

    def _ran(self, agent: Agent, session_id: str, question: str, answer: str) -> object:
        self.reply = answer
        ran = agent.run(question, session_id=session_id)
        if str(ran.status.value).upper() != "COMPLETED":
            raise RuntimeError(ran.content)
        return str(ran.status.value)

    def texts(self, session_id: str) -> list[str]:
        session = self.agent.get_session(session_id=session_id)
        return [] if session is None else [str(message.content) for message in session.get_chat_history()]

    def last(self, session_id: str, runs: int) -> int:
        return len(self.agent.get_session_messages(session_id=session_id, last_n_runs=runs))

    def sessions(self, named: Sequence[tuple[str, str, int]]) -> None:
        self.db.upsert_sessions(
            [
                AgentSession(
                    session_id=session_id,
                    agent_id=self.agent.id,
                    session_data={"session_name": name},
                    created_at=active,
                    updated_at=active,
                )
                for session_id, name, active in named
            ],
            preserve_updated_at=True,
        )

    def page(self, skipped: int) -> list[str]:
        return self._listed(page=skipped // PAGE + 1)

    def find(self, name: str) -> list[str]:
        return self._listed(session_name=name)

    def _listed(self, **wanted: Any) -> list[str]:
        found = self.db.get_sessions(
            session_type=SessionType.AGENT,
            limit=PAGE,
            sort_by="updated_at",
            sort_order="desc",
            include_runs=False,
            **wanted,
        )
        return [session.session_id for session in found]

    def keep(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        self.seed(session_id, [])
        prompt, turns = turns_of(messages)
        for place, turn in enumerate(turns):
            run = self._run(session_id, "", "")
            run["messages"] = [Message(**_message(one)).to_dict() for one in (*prompt, *turn)]
            run |= {"content": turn[-1].get("content"), "input": {"input_content": turn[0].get("content")}}
            self.db.upsert_run(run, session_id, run_index=place)

    def status(self, session_id: str) -> str:
        session = self.agent.get_session(session_id=session_id)
        return "no session" if session is None else str(session.runs[-1].status.value) if session.runs else "no run"

    def settings(self) -> dict[str, str]:
        with self.db.db_engine.connect() as connection:
            return pragmas(lambda sql: connection.exec_driver_sql(sql).scalar())

    def close(self) -> None:
        self.db.close()


class Cached(Sqlite):
    """An `Agent` with ``cache_session=True``, which keeps the session it used last; others' writes it does not see."""

    CACHED = True


class Postgres(Sqlite):
    """`PostgresDb(db_url="postgresql+psycopg://...")`."""

    NEEDS = ("agno.db.postgres", "psycopg", "sqlalchemy.dialects.postgresql.psycopg")

    def opened(self) -> Any:
        from agno.db.postgres import PostgresDb

        return PostgresDb(db_url=self.address.replace("postgresql://", "postgresql+psycopg://"))


def _message(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    text = content if content is None or isinstance(content, str) else json.dumps(content)
    return {
        "role": message["role"],
        "content": text,
        "tool_calls": message.get("tool_calls"),
        "tool_call_id": message.get("tool_call_id"),
        "tool_name": message.get("name"),
    }


STORES: Final = {"sqlite": Sqlite, "cached": Cached, "postgres": Postgres}
