"""What the tests of the store share: one store seen through one face, its rows, and short words for turns."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from postgres_kit import postgres_db

from recollect.cache import SessionCache
from recollect.db.sqlite import SqliteDb
from recollect.message import Message
from recollect.port import Tx, reads, writes
from recollect.session import SessionHeader
from recollect.store import OpenRun, Store

TABLES = ("sessions", "values", "runs", "messages", "prompts", "leases")

Dump = dict[str, list[tuple[Any, ...]]]


class MovingClock:
    """The clock of this machine, which a test may put forward or stop."""

    def __init__(self) -> None:
        self.ahead = 0
        self.stopped_at: int | None = None

    def now(self) -> int:
        return (self.stopped_at or time.time_ns() // 1000) + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += int(seconds * 1_000_000)

    def stop(self) -> None:
        self.stopped_at = self.now() - self.ahead


class Face(Protocol):
    """A store whose every method is awaited, whichever face answers."""

    db: Store
    clock: MovingClock

    def __getattr__(self, method: str) -> Callable[..., Any]: ...
    def each(self, method: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]: ...


class SyncFace:
    """The plain methods, each behind an await; they run inside the loop of the test, as in a notebook."""

    def __init__(self, db: Store, clock: MovingClock) -> None:
        self.db, self.clock = db, clock

    def __getattr__(self, method: str) -> Callable[..., Any]:
        plain = getattr(self.db, method)

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return plain(*args, **kwargs)

        return awaited

    async def each(self, method: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The items of a method that gives them one after the other."""
        for item in getattr(self.db, method)(*args, **kwargs):
            yield item

    def iter_sessions(self, **filters: Any) -> AsyncIterator[SessionHeader]:
        return self.each("iter_sessions", **filters)


class AsyncFace:
    """The ``a`` twins."""

    def __init__(self, db: Store, clock: MovingClock) -> None:
        self.db, self.clock = db, clock

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return getattr(self.db, f"a{method}")

    async def each(self, method: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with aclosing(getattr(self.db, f"a{method}")(*args, **kwargs)) as items:
            async for item in items:
                yield item

    def iter_sessions(self, **filters: Any) -> AsyncIterator[SessionHeader]:
        return self.each("iter_sessions", **filters)


@contextmanager
def _cached_postgres(clock: MovingClock) -> Iterator[Store]:
    with postgres_db(clock=clock, pool=4) as db:
        yield SessionCache().over(db)


BACKENDS: dict[str, Callable[[Path, MovingClock], AbstractContextManager[Store]]] = {
    "memory": lambda _, clock: SqliteDb(clock=clock),
    "full": lambda folder, clock: SqliteDb(folder / "sessions.db", durability="full", clock=clock),
    "normal": lambda folder, clock: SqliteDb(folder / "sessions.db", durability="normal", clock=clock),
    "cached": lambda folder, clock: SessionCache().over(SqliteDb(folder / "sessions.db", clock=clock)),
    "postgres": lambda _, clock: postgres_db(clock=clock, pool=4),
    "cached-postgres": lambda _, clock: _cached_postgres(clock),
}


FACES = {"sync": SyncFace, "async": AsyncFace}

TWO = [("memory", "sync"), ("full", "async")]
"""Enough for long tables of arguments: they are judged before any database is asked."""


def user(text: Any = "Hi", **fields: Any) -> Message:
    return Message("user", text, **fields)


def answer(text: Any = "Hello", **fields: Any) -> Message:
    return Message("assistant", text, **fields)


def system(text: str = "Be brief.") -> Message:
    return Message("system", text)


def calls(*ids: str) -> Message:
    """An assistant's wish to have a tool called, once for each id."""
    wanted = [{"id": own, "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}} for own in ids]
    return Message("assistant", None, tool_calls=wanted)


def result(id: str, text: str = "seen") -> Message:
    return Message("tool", text, tool_call_id=id)


async def turn(db: Face, session_id: str = "s", text: str = "Hi", **begin: Any) -> OpenRun:
    """A whole run of one question and its answer."""
    run = await db.begin_run(session_id, [user(text)], **begin)
    await db.finish_run(run, [answer(f"You said: {text}")])
    return run  # type: ignore[no-any-return]


async def texts(db: Face, session_id: str = "s") -> list[str]:
    """Everything said in a session, in every run, in order."""
    session = await db.get_session(session_id)
    return [message.text for run in session.runs for message in run.messages]


async def header_of(db: Face, session_id: str = "s") -> SessionHeader:
    header = await db.get_header(session_id)
    assert header is not None
    return header  # type: ignore[no-any-return]


@reads
async def _dump(tx: Tx) -> Dump:
    # Until when a lease runs is left out: a sign of life may prolong it at any moment.
    columns = {"leases": "session_id, run_seq, owner, token"}
    asked = [f"select {columns.get(table, '*')} from recollect_{table} order by 1, 2, 3" for table in TABLES]
    found = await tx.execute(*((sql, {}) for sql in asked))
    return dict(zip(TABLES, found, strict=True))


def dump(db: Face | Store) -> Dump:
    """Every stored row, by table."""
    store = db if isinstance(db, Store) else db.db
    return store.transact(_dump)


@writes
async def change_rows(tx: Tx, sql: str, **params: Any) -> list[tuple[Any, ...]]:
    """Any statement, in the place of somebody with the SQLite shell."""
    [found] = await tx.execute((sql, params))
    return found


def run_sql(db: Face, sql: str, **params: Any) -> list[tuple[Any, ...]]:
    return db.db.transact(change_rows, sql, **params)


NOTHING: Dump = {table: [] for table in TABLES}
