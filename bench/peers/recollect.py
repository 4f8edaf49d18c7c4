"""Recollect itself: an `Agent`'s whole ``run()``, and its store alone, ``begin_run`` and ``finish_run``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import uuid4

from bench.peers.work import PAGE, Said, Store, pragmas, turns_of
from recollect import Agent, AgentSession, EchoModel, Message, RunMetrics, RunOutput, SqliteDb
from recollect.history import HistoryLimits
from recollect.port import Delta, ModelRequest, Reply, World

TOGETHER: Final = 100
"""Sessions that are made at once."""

METRICS: Final = RunMetrics(input_tokens=5900, output_tokens=84, duration=0.0005, steps=1, history_runs=50)


class Stub(EchoModel):
    """An `EchoModel` that asks its store what to say, and decodes what it is shown, as a provider's adapter has to."""

    def __init__(self, store: Store) -> None:
        super().__init__("")
        self.store = store

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        self.seen = [message.to_dict() for message in request.messages]
        self.reply = self.store.answer()
        async for item in super().ask(request, world):
            yield item


class Sqlite(Store):
    """`SqliteDb(db_file=...)`, nothing else set: what it acknowledges survives a loss of power."""

    BULK = True
    DURABILITY: Literal["full", "normal"] = "full"
    CACHED = False

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.db = self.opened()
        self.agent = Agent(model=Stub(self), db=self.db, cache_session=self.CACHED)
        self.limits = HistoryLimits()
        self._cursors: dict[int, str | None] = {0: None}

    def opened(self) -> Any:
        return SqliteDb(self.address, durability=self.DURABILITY)

    def seed(self, session_id: str, said: Said) -> None:
        said_in_runs = [[{"role": "user", "content": one[0]}, {"role": "assistant", "content": one[1]}] for one in said]
        self.db.upsert_session(_session(session_id, said_in_runs))

    def turn(self, session_id: str, question: str, answer: str) -> int:
        asked = (Message("user", question),)
        run = self.db.begin_run(session_id, asked, agent_id="agent", model="echo", history=self.limits)
        seen = [message.to_dict() for message in run.history.messages]
        self.db.finish_run(run, (Message("assistant", answer),), metrics=METRICS)
        return len(seen)

    def run(self, session_id: str, question: str, answer: str) -> object:
        self.reply = answer
        return self.agent.run(question, session_id=session_id).content

    def texts(self, session_id: str) -> list[str]:
        session = self.agent.get_session(session_id=session_id)
        return [] if session is None else [message.text for message in session.get_chat_history()]

    def last(self, session_id: str, runs: int) -> int:
        return len([message.text for message in self.agent.get_session_messages(session_id, last_n_runs=runs)])

    def sessions(self, named: Sequence[tuple[str, str, int]]) -> None:
        asyncio.run(self._sessions(named))

    async def _sessions(self, named: Sequence[tuple[str, str, int]]) -> None:
        for start in range(0, len(named), TOGETHER):
            made = (_empty(*one) for one in named[start : start + TOGETHER])
            await asyncio.gather(*(self.db.aupsert_session(session) for session in made))

    def page(self, skipped: int) -> list[str]:
        if skipped not in self._cursors:
            self._cursors[skipped] = self._cursor(skipped)
        return [header.session_id for header in self.agent.get_sessions(limit=PAGE, cursor=self._cursors[skipped])]

    def _cursor(self, skipped: int) -> str | None:
        """Where a page deep in the list begins, as who reads on from page to page has it."""
        cursor = None
        while skipped:
            page = self.agent.get_sessions(limit=min(skipped, 1_000), cursor=cursor)
            skipped, cursor = skipped - len(page), page.next_cursor
        return cursor

    def find(self, name: str) -> list[str]:
        return [header.session_id for header in self.agent.get_sessions(name=name, limit=PAGE)]

    def keep(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        said, turns = turns_of(messages)
        prompt = Message.from_dict(said[0]) if said else None
        for asked, *rest in turns:
            run = self.db.begin_run(
                session_id, (Message.from_dict(asked),), prompt=prompt, agent_id="agent", model="echo"
            )
            self.db.finish_run(run, tuple(Message.from_dict(one) for one in rest), metrics=METRICS)

    def status(self, session_id: str) -> str:
        session = self.agent.get_session(session_id=session_id)
        return "no session" if session is None else session.runs[-1].status.value if session.runs else "no run"

    def settings(self) -> dict[str, str]:
        # There is no public way to the connection; this is the one that its writes use.
        self.db.get_header("nobody")
        connection = self.db._open_writer()  # noqa: SLF001
        return pragmas(lambda sql: connection.execute(sql).fetchone()[0])

    def close(self) -> None:
        self.db.close()


class Normal(Sqlite):
    """`SqliteDb(db_file=..., durability="normal")`."""

    DURABILITY = "normal"


class Cached(Sqlite):
    """An `Agent` with ``cache_session=True``; what another process writes is seen all the same."""

    CACHED = True


class WithOpenAI(Sqlite):
    """What a program also imports that asks OpenAI: `OpenAIResponses` stands on OpenAI's own SDK."""

    NEEDS = ("recollect.models.openai", "openai.resources.responses", "openai.types.responses")


class Postgres(Sqlite):
    """`PostgresDb(url)`."""

    NEEDS = ("recollect.db.postgres", "psycopg")

    def opened(self) -> Any:
        from recollect import PostgresDb

        return PostgresDb(self.address)


def _session(session_id: str, said: Sequence[Sequence[dict[str, Any]]]) -> AgentSession:
    runs = [
        RunOutput(
            run_id=str(uuid4()),
            session_id=session_id,
            agent_id="agent",
            model="echo",
            messages=tuple(Message.from_dict(message) for message in one),
            metrics=METRICS,
        )
        for one in said
    ]
    return AgentSession(session_id, agent_id="agent", runs=runs)


def _empty(session_id: str, name: str, active: int) -> AgentSession:
    when = datetime.fromtimestamp(active, UTC)
    named = {"session_name": name}
    return AgentSession(session_id, agent_id="agent", session_data=named, created_at=when, updated_at=when)


STORES: Final = {
    "sqlite": Sqlite,
    "normal": Normal,
    "cached": Cached,
    "openai": WithOpenAI,
    "postgres": Postgres,
}
