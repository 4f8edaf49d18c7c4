"""`PostgresDb`: each store operation in one transaction, in the caller's thread or on its event loop."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, Final, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from recollect import checks
from recollect.background import BACKGROUND
from recollect.db import owner
from recollect.db.migrate import Step
from recollect.db.postgres.address import Address, Settings
from recollect.db.postgres.dialect import Dialect, command
from recollect.db.postgres.failures import PASSING, UNPREPARED, has_gone, typed
from recollect.db.postgres.pools import Pools
from recollect.db.postgres.schema import KIND, Facts, Schema, facts, look
from recollect.db.postgres.sources import AnyPool
from recollect.db.postgres.transaction import PostgresTx
from recollect.db.postgres.wire import Wire
from recollect.errors import DatabaseError, DatabaseUnreachable, InvalidArgument
from recollect.faces import LOOPS, THREADS, finished, let_go_at_fork
from recollect.heartbeat import HEARTBEAT
from recollect.port import Clock, Operation, P, Params, World, drive, is_at_once, is_laggard, mode_of
from recollect.store import Store

T = TypeVar("T")

log = logging.getLogger("recollect")

POOL: Final = 10
"""Connections at most, for the threads of a process and for each of its event loops."""

CLOSING: Final = 30.0
"""Seconds that closing waits for names and summaries under way."""

TRIES: Final = 8
"""How often a transaction is tried that was undone for the sake of another one."""

TRIES_ELSEWHERE: Final = 3
"""How often one is tried whose connection was lost before anything could be stored."""


class PostgresDb(Store):
    """Sessions in a Postgres database.

    ``db_url`` is an address as libpq takes it, ``postgresql://user:password@host/name``, with its options for TLS and
    others behind a question mark. ``schema`` is the Postgres schema that holds the tables; without it, the first of the
    role's search path. ``pool`` is how many connections are kept at most, for threads and for each event loop; None
    opens one for each operation and keeps none; an existing `psycopg_pool` pool of either kind is used in its face.

    ``timeout`` is how many seconds a call waits for a connection, and for locks; ``statement_timeout`` how long a
    statement may run. ``pooler=True`` is for a pooler in transaction mode: no setting of a session is relied on, and no
    statement prepared, unless ``prepare=True``. ``read_url`` names a replica that may answer lists of sessions; what is
    read of one session is always read where it is written.

    The tables are made when first needed; an older schema is brought to the newest by ``recollect migrate``.

    Raises:
        InvalidArgument: an option is unknown.
        DatabaseError: on first use, when the database cannot be used.
    """

    dialect = KIND

    def __init__(
        self,
        db_url: str | None = None,
        *,
        schema: str | None = None,
        pool: int | AnyPool | None = POOL,
        read_url: str | None = None,
        timeout: float = 10.0,
        statement_timeout: float = 60.0,
        pooler: bool = False,
        prepare: bool | None = None,
        clock: Clock | None = None,
    ) -> None:
        size, own = _size_or_own(pool)
        self.schema = None if schema is None else checks.identifier("schema", schema)
        self.timeout = checks.seconds("timeout", timeout)
        settings = Settings(
            timeout=self.timeout,
            statement_timeout=checks.seconds("statement_timeout", statement_timeout),
            pooler=pooler,
            prepare=not pooler and size is not None if prepare is None else prepare,
        )
        self._clock = clock
        self._dialect = Dialect(schema, server_time=clock is None)
        self._pools = Pools(Address(_url(db_url, own), settings), size, self.timeout, own)
        self._reading = self._pools
        if read_url is not None:
            self._reading = Pools(Address(_libpq("read_url", read_url), settings), size, self.timeout)
        self._look = look(self._dialect.qualified("recollect_schema"))
        self._is_ready = False
        let_go_at_fork(self)

    @property
    def address(self) -> str:
        """Where the sessions are; without the password."""
        return self._pools.address.name

    def __repr__(self) -> str:
        return f"PostgresDb({self.address!r})"

    def transact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one store operation in a transaction of its own, on a connection of this thread."""
        return drive(self._run(THREADS, operation, args, kwargs))

    async def atransact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one store operation in a transaction of its own, on a connection of this event loop."""
        running: asyncio.Future[T] = asyncio.ensure_future(self._run(LOOPS, operation, args, kwargs))
        return await finished(running)

    def migrate(self) -> tuple[Step, ...]:
        """Bring the tables to the newest schema; give the steps that were taken."""
        taken: tuple[Step, ...] = drive(self._with_schema(THREADS, Schema.upgrade))
        return taken

    def schema_version(self) -> tuple[int, int]:
        """The number of the schema, and the oldest that a program must know; zeros where there are no tables."""
        found: tuple[int, int] = drive(self._with_schema(THREADS, Schema.read))
        return found

    def facts(self) -> Facts:
        """What the server says of itself; no table is needed for that, and none is made.

        Raises:
            DatabaseUnreachable: it does not answer, or does not let this role in.
        """
        found: Facts = drive(self._apart(THREADS, facts))
        return found

    def ask(self, operation: Operation[[], T]) -> T:
        """Run an operation that reads, whether the tables are there or not; none are made.

        Raises:
            DatabaseError: the server does not answer, or refuses.
        """
        return drive(self._ask(THREADS, operation))

    def close(self) -> None:
        """Finish what is under way, names and summaries in the background too, and close the connections.

        The next use opens others. An existing pool that was given is left open.
        """
        BACKGROUND.settle(self, CLOSING)
        HEARTBEAT.forget(self)
        for pools in {self._pools, self._reading}:
            pools.close()

    async def aclose(self) -> None:
        """As `close`, without holding up the event loop."""
        await asyncio.to_thread(self.close)

    def before_fork(self) -> None:
        """Close the connections of threads: parent and child each open their own again."""
        for pools in {self._pools, self._reading}:
            pools.let_go()

    def after_fork(self, *, child: bool) -> None:
        """Go on; the child knows nothing of its parent's event loops."""
        if child:
            for pools in {self._pools, self._reading}:
                pools.begin_process()

    async def _run(self, world: World, operation: Operation[..., T], args: Any, kwargs: Any) -> T:
        if self._reading is not self._pools and is_laggard(operation):
            try:
                return await self._run_on(self._reading, world, operation, args, kwargs)
            except DatabaseUnreachable as error:
                log.warning("the replica does not answer, the primary does its work: %s", error)
        return await self._run_on(self._pools, world, operation, args, kwargs)

    async def _run_on(self, pools: Pools, world: World, operation: Operation[..., T], args: Any, kwargs: Any) -> T:
        """Run an operation in a transaction; again where nothing of it was stored, through no fault of its own."""
        source = await pools.source(world)
        for tries in count(1):
            if not self._is_ready and pools.keeps:
                await self._prepare(world)
            wire = Wire(await source.take(world), world)
            try:
                tx = self._transaction(wire, operation)
                try:
                    value: T = await operation(tx, *args, **kwargs)
                    await tx.commit()
                except BaseException as error:
                    gone = await _undone(wire, tx, error)
                    if not isinstance(error, psycopg.Error):
                        raise
                    failed = error
                else:
                    self._is_ready = True
                    return value
            finally:
                await source.give(world, wire.connection)
            await self._recover(failed, tx, tries, world, gone=gone)
        raise AssertionError

    async def _recover(self, error: psycopg.Error, tx: PostgresTx, tries: int, world: World, *, gone: bool) -> None:
        """Do what lets the operation be tried once more.

        Raises:
            DatabaseError: nothing does.
        """
        if not self._is_ready and isinstance(error, UNPREPARED):
            await self._prepare(world)
        elif not _may_repeat(error, tx, tries, gone=gone):
            unknown = tx.has_stored or (gone and tx.is_committing)
            raise typed(error, self.address, gone=gone, unknown=unknown) from error
        elif not gone:
            await world.sleep(random.uniform(0.001, 0.01) * tries)  # noqa: S311 - no secret

    def _transaction(self, wire: Wire, operation: Operation[..., Any]) -> PostgresTx:
        first = [] if self._is_ready else [self._look]
        address = self._pools.address
        if address.pooler:
            settings = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in address.timeouts.items())
            first.append(command(f"select {settings}"))
        return PostgresTx(
            wire, self._dialect, mode_of(operation), at_once=is_at_once(operation), given=self._given(), first=first
        )

    def _given(self) -> Params:
        """What every statement may ask for."""
        given: Params = {"owner": owner.this_process()}
        return given if self._clock is None else {**given, "now": self._clock.now()}

    async def _prepare(self, world: World) -> None:
        await self._with_schema(world, Schema.prepare)
        self._is_ready = True

    async def _ask(self, world: World, operation: Operation[[], T]) -> T:
        async def ask(wire: Wire) -> T:
            tx = PostgresTx(wire, self._dialect, mode_of(operation), at_once=False, given=self._given())
            value = await operation(tx)
            await tx.commit()
            return value

        return await self._apart(world, ask)

    async def _with_schema(self, world: World, do: Callable[[Schema], Any]) -> Any:
        def on(wire: Wire) -> Any:
            _check_encoding(wire, self.address)
            return do(Schema(wire, self.schema))

        return await self._apart(world, on)

    async def _apart(self, world: World, do: Callable[[Wire], Coroutine[Any, Any, T]]) -> T:
        """Do something on a connection of its own."""
        async with self._pools.apart(world) as wire:
            try:
                return await do(wire)
            except psycopg.Error as error:
                raise typed(error, self.address, gone=wire.connection.closed, unknown=False) from error


async def _undone(wire: Wire, tx: PostgresTx, error: BaseException) -> bool:
    """Roll back what is open; whether the connection is lost. One that was interrupted in the midst is closed."""
    if not isinstance(error, Exception) or has_gone(wire.connection, error):
        await wire.close()
        return True
    try:
        await tx.roll_back()
    except psycopg.Error:
        await wire.close()
        return has_gone(wire.connection, error)
    return False


def _may_repeat(error: psycopg.Error, tx: PostgresTx, tries: int, *, gone: bool) -> bool:
    """Whether nothing of it is stored, and the same may well work the next time."""
    if tx.has_stored:
        return False
    if isinstance(error, PASSING):
        return tries < TRIES
    return gone and not tx.is_committing and tries < TRIES_ELSEWHERE


def _check_encoding(wire: Wire, address: str) -> None:
    encoding = wire.connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        msg = f"{address} has the encoding {encoding}, which cannot hold every text; create the database with UTF8"
        raise DatabaseError(msg)


def _size_or_own(pool: Any) -> tuple[int | None, AnyPool | None]:
    """How many connections are kept, and somebody's own pool where one was given."""
    if isinstance(pool, ConnectionPool | AsyncConnectionPool):
        return POOL, pool
    if pool is not None and (not isinstance(pool, int) or isinstance(pool, bool) or pool < 1):
        raise InvalidArgument("pool", f"{pool!r} is no number of connections, nor a pool of psycopg_pool, nor None")
    return pool, None


def _url(db_url: Any, own: AnyPool | None) -> str:
    if db_url is not None:
        return _libpq("db_url", db_url)
    if own is None:
        raise InvalidArgument("db_url", "is missing: give an address, or an existing pool")
    if not isinstance(own.conninfo, str):
        raise InvalidArgument("db_url", "is missing: the pool that was given makes its address anew each time")
    return own.conninfo


def _libpq(argument: str, url: Any) -> str:
    """The address as libpq takes it: other libraries name a driver in it."""
    if not isinstance(url, str):
        raise InvalidArgument(argument, f"must be text, not {type(url).__name__}")
    scheme, found, rest = url.partition("://")
    return f"postgresql://{rest}" if found and scheme.split("+")[0] in ("postgres", "postgresql") else url
