"""`PostgresDb`: each store operation in one transaction, in the caller's thread or on its event loop."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from recollect import checks
from recollect.background import BACKGROUND
from recollect.db import owner, tables
from recollect.db.migrate import Step
from recollect.db.postgres.address import Address, Settings
from recollect.db.postgres.dialect import Command, Dialect, command
from recollect.db.postgres.failures import PASSING, UNPREPARED, has_gone, typed
from recollect.db.postgres.pools import Pools
from recollect.db.postgres.schema import KIND, Facts, Schema, facts, look
from recollect.db.postgres.signals import AT_EXIT, Notifier, PostgresSignals, get_pulse, notify
from recollect.db.postgres.sources import AnyPool, Place
from recollect.db.postgres.transaction import PostgresTx
from recollect.db.postgres.wire import Wire
from recollect.errors import DatabaseError, InvalidArgument
from recollect.faces import LOOPS, THREADS, finished
from recollect.forking import let_go_at_fork
from recollect.heartbeat import HEARTBEAT
from recollect.port import Clock, Mode, Operation, P, Params, World, drive, is_at_once, is_laggard, mode_of
from recollect.store import Store
from recollect.watching import WATCHERS, Signals

T = TypeVar("T")

log = logging.getLogger("recollect")

POOL: Final = 10
"""Connections at most, for the threads of a process and for each of its event loops."""

CLOSING: Final = 30.0
"""Seconds that closing waits for names and summaries under way."""

TRIES: Final = 8
"""How often a transaction is tried that was undone for the sake of another one."""

REST: Final = 10.0
"""Seconds for which a replica that failed is not asked again."""

LONGEST_NAME: Final = 63
"""Bytes of a name that Postgres keeps. https://www.postgresql.org/docs/current/sql-syntax-lexical.html"""

LEAST: Final = 0.001
MOST: Final = 2_000_000.0
"""Seconds that a limit of time may have."""

_NOT_OF_THE_ADDRESS: Final = {"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"}
"""What a pool gives its connections besides their address."""

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
        self.schema = None if schema is None else _schema(schema)
        self.timeout = _seconds("timeout", timeout)
        settings = Settings(
            timeout=self.timeout,
            statement_timeout=_seconds("statement_timeout", statement_timeout),
            pooler=pooler,
            prepare=not pooler and size is not None if prepare is None else prepare,
        )
        self._clock = clock
        self._dialect = Dialect(schema, server_time=clock is None)
        self._pools = Pools(Address(_url(db_url, own), settings), size, self.timeout, own)
        self._reading = self._pools
        if read_url is not None:
            self._reading = Pools(Address(_libpq("read_url", read_url), settings, "read_url"), size, self.timeout)
        self._replica_rests = 0.0
        """Until when the replica is not asked, because it failed."""
        self._look = look(self._dialect.qualified("recollect_schema"))
        self._settings = _local_settings(self._pools.address)
        self._is_ready = False
        self._notifier = Notifier(self._notify)
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
        return await self._run(LOOPS, operation, args, kwargs)

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

    @property
    def signals(self) -> Callable[[], Signals]:
        """Makes what tells that something was changed: notifications, and a look every second at what was committed."""
        return lambda: PostgresSignals(lambda: self.transact(get_pulse), self._pools.address)

    def _notify(self, payload: str) -> None:
        self.transact(notify, payload)

    def vacuum(self) -> None:
        """Let go of the room that deleted rows still take in our tables. Others may work on meanwhile."""
        drive(self._apart(THREADS, self._vacuum))

    async def avacuum(self) -> None:
        """As `vacuum`."""
        await self._apart(LOOPS, self._vacuum)

    async def _vacuum(self, wire: Wire) -> None:
        """Vacuum each table, for as long as it takes."""
        limited = not self._pools.address.pooler
        if limited:
            await wire.send([command("set statement_timeout = 0")])
        try:
            for table in tables.expected(KIND).tables:
                await wire.send([command(self._dialect.qualified(f"vacuum {table}"))])
        finally:
            if limited and not wire.connection.closed:
                await wire.send([command("reset statement_timeout")])

    def close(self) -> None:
        """Finish what is under way, names and summaries in the background too, and close the connections.

        The next use opens others. An existing pool that was given is left open.
        """
        WATCHERS.end(self)
        BACKGROUND.settle(self, CLOSING)
        HEARTBEAT.forget(self)
        self._notifier.flush(AT_EXIT)
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
            self._notifier.begin_process()
            for pools in {self._pools, self._reading}:
                pools.begin_process()

    async def _run(self, world: World, operation: Operation[..., T], args: Any, kwargs: Any) -> T:
        if self._reading is not self._pools and is_laggard(operation) and time.monotonic() > self._replica_rests:
            try:
                return await self._run_on(self._reading, world, operation, args, kwargs)
            except DatabaseError as error:
                self._replica_rests = time.monotonic() + REST
                log.warning("the replica does not answer, the primary does its work for a while: %s", error)
        return await self._run_on(self._pools, world, operation, args, kwargs)

    async def _run_on(self, pools: Pools, world: World, operation: Operation[..., T], args: Any, kwargs: Any) -> T:
        """Run an operation in a transaction; again where nothing of it was stored, through no fault of its own."""
        source = await pools.source(world)
        for tries in count(1):
            if not self._is_ready and pools.keeps:
                await self._prepare(world)
            place = Place.of(world)
            with place.held:
                wire = pools.wire(await source.take(world, place), world)
                try:
                    tx = self._transaction(wire, operation)
                    doing = _done(wire, tx, operation(tx, *args, **kwargs))
                    answer = await (_shielded(world, doing) if mode_of(operation) is Mode.write else doing)
                finally:
                    await source.give(world, place, wire.connection)
            if not isinstance(answer, Failed):
                self._is_ready = True
                if mode_of(operation) is Mode.write:
                    self._notifier.tell(operation, args, kwargs, answer)
                return answer
            await self._recover(answer, tx, tries, world)
        raise AssertionError

    async def _recover(self, failed: Failed, tx: PostgresTx, tries: int, world: World) -> None:
        """Do what lets the operation be tried once more.

        Raises:
            DatabaseError: nothing does.
        """
        if not self._is_ready and isinstance(failed.error, UNPREPARED):
            await self._prepare(world)
        elif not _may_repeat(failed, tx, tries):
            unknown = tx.has_stored or (failed.gone and tx.is_committing)
            raise typed(failed.error, self.address, gone=failed.gone, unknown=unknown) from failed.error
        elif not failed.gone:
            await world.sleep(random.uniform(0.001, 0.01) * tries)  # noqa: S311 - no secret

    def _transaction(self, wire: Wire, operation: Operation[..., Any]) -> PostgresTx:
        mode, ears = mode_of(operation), self._notifier.ears
        return PostgresTx(
            wire,
            self._dialect,
            mode,
            at_once=is_at_once(operation),
            given=self._given(),
            look=None if self._is_ready else self._look,
            settings=self._settings,
            ears=ears if mode is Mode.write and ears.is_due else None,
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


class Failed(NamedTuple):
    """What the database failed with; of the operation nothing is left open."""

    error: psycopg.Error
    gone: bool
    """Whether the connection is lost."""


async def _done(wire: Wire, tx: PostgresTx, operation: Coroutine[Any, Any, T]) -> T | Failed:
    """Run an operation and commit; give its value, or how the database failed."""
    try:
        value = await operation
        await tx.commit()
    except BaseException as error:  # whatever ends it, Ctrl-C too: no transaction is left open
        gone = await _undone(wire, tx, error)
        if not isinstance(error, psycopg.Error):
            raise
        return Failed(error, gone)
    return value


async def _shielded(world: World, doing: Coroutine[Any, Any, T]) -> T:
    """Finish what was begun, and know its outcome, before a cancellation goes on."""
    return await finished(asyncio.ensure_future(doing)) if world.waits else await doing


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


def _may_repeat(failed: Failed, tx: PostgresTx, tries: int) -> bool:
    """Whether nothing of it is stored, and the same may well work the next time."""
    if tx.has_stored:
        return False
    if isinstance(failed.error, PASSING):
        return tries < TRIES
    return failed.gone and not tx.is_committing and tries < TRIES_ELSEWHERE


def _check_encoding(wire: Wire, address: str) -> None:
    encoding = wire.connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        msg = f"{address} has the encoding {encoding}, which cannot hold every text; create the database with UTF8"
        raise DatabaseError(msg)


def _local_settings(address: Address) -> Command | None:
    """What sets the limits of time for one transaction, where none may be set for the connection."""
    if not address.pooler:
        return None
    settings = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in address.timeouts.items())
    return command(f"select {settings}")


def _schema(name: str) -> str:
    """Accept the name of a schema that Postgres takes as it is.

    Raises:
        InvalidArgument: it would be cut short, or belongs to the server.
    """
    if len(checks.identifier("schema", name).encode()) > LONGEST_NAME:
        raise InvalidArgument("schema", f"has more than {LONGEST_NAME} bytes, of which Postgres would cut the rest")
    if name.startswith(("pg_", "$")):
        raise InvalidArgument("schema", f"{name!r} is a name of the server's own")
    return name


def _seconds(argument: str, value: float) -> float:
    """Accept a time that Postgres can count, in milliseconds; it takes none of them for no limit."""
    if not LEAST <= checks.seconds(argument, value) <= MOST:
        raise InvalidArgument(argument, f"must be from {LEAST:g} to {MOST:,.0f} seconds, not {value:g}")
    return value


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
    if not isinstance(own.conninfo, str) or callable(own.kwargs):
        raise InvalidArgument("db_url", "is missing: the pool that was given makes its address anew each time")
    said = {name: value for name, value in (own.kwargs or {}).items() if name not in _NOT_OF_THE_ADDRESS}
    return make_conninfo(own.conninfo, **said)


def _libpq(argument: str, url: Any) -> str:
    """The address as libpq takes it: other libraries name a driver in it."""
    if not isinstance(url, str):
        raise InvalidArgument(argument, f"must be text, not {type(url).__name__}")
    scheme, found, rest = url.partition("://")
    return f"postgresql://{rest}" if found and scheme.split("+")[0] in ("postgres", "postgresql") else url
