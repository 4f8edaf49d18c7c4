"""Statements on one connection, all that is sent together in one round trip.

They go out in libpq's pipeline mode: up to the sync they are one transaction, committed with it, unless one of them
says otherwise. https://www.postgresql.org/docs/current/libpq-pipeline-mode.html

psycopg's cursors do the same at several times the work, for they wait, convert and decode a statement at a time; here
there are only numbers and texts. So its connections are used through `psycopg.pq`, and waited for with their own
``wait``, which is what both faces have in common.
"""

from __future__ import annotations

import select
import weakref
from collections.abc import Generator, Sequence
from itertools import count
from typing import Any, Final

import psycopg
from psycopg import errors, pq
from psycopg.adapt import AdaptersMap, Transformer
from psycopg.waiting import Ready, Wait

from recollect.db.postgres.dialect import Command
from recollect.port import Row, World

PREPARED: Final = 512
"""Statements that a connection keeps prepared; of lists with many filters there could be more."""

_ADAPTERS: Final = AdaptersMap(types=psycopg.postgres.types)
"""How results are read, whatever a program has taught psycopg for its own."""
psycopg.postgres.register_default_adapters(_ADAPTERS)

_FAILED: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)

Waiting = Generator[Wait, Ready, list[pq.abc.PGresult]]


class Prepared:
    """The statements that a connection knows by name, with the types of their parameters."""

    def __init__(self) -> None:
        self._names: dict[tuple[bytes, tuple[int, ...]], bytes | None] = {}
        self._numbers = count()
        self._new: list[tuple[bytes, tuple[int, ...]]] = []
        """Those that are being prepared: where something before them fails, they are not."""

    def send(self, connection: pq.abc.PGconn, command: Command) -> int:
        """Send a statement; prepare it when it is sent for the second time. Gives how many results it will have."""
        key = (command.text, command.types)
        if key not in self._names:
            if len(self._names) < PREPARED:
                self._names[key] = None
            connection.send_query_params(command.text, command.values, command.types)
            return 1
        name, results = self._names[key], 1
        if name is None:
            name = self._names[key] = b"recollect_%d" % next(self._numbers)
            connection.send_prepare(name, command.text, command.types)
            self._new.append(key)
            results = 2
        connection.send_query_prepared(name, command.values)
        return results

    def settle(self, error: errors.Error | None) -> None:
        """What was sent is answered: all of it was done, or it ended with an error."""
        if isinstance(error, errors.InvalidSqlStatementName):
            self._names.clear()  # somebody has discarded what was prepared
        elif error is not None:
            self._names.update(dict.fromkeys(self._new))
        self._new.clear()


_PREPARED: weakref.WeakKeyDictionary[Any, Prepared] = weakref.WeakKeyDictionary()


class Wire:
    """One connection, in the face of whoever took it."""

    __slots__ = ("_prepared", "connection", "world")

    def __init__(self, connection: Any, world: World, *, prepares: bool) -> None:
        self.connection = connection
        self.world = world
        self._prepared: Prepared | None = None
        if prepares and connection.prepare_threshold is not None:
            self._prepared = _PREPARED.get(connection) or _PREPARED.setdefault(connection, Prepared())

    async def send(self, commands: Sequence[Command]) -> list[list[Row]]:
        """Run statements in one round trip; give the rows of each.

        Raises:
            psycopg.Error: of the first that failed; of the others nothing was done, or all is undone.
        """
        results = await self.world.result(self.connection.wait(self._sent(commands)))
        failed = next((result for result in results if result.status in _FAILED), None)
        error = None if failed is None else errors.error_from_result(failed)
        if self._prepared is not None:
            self._prepared.settle(error)
        if error is not None:
            raise error
        made = Transformer(_ADAPTERS)
        return [_rows(made, result) for result in results]

    @property
    def is_quiet(self) -> bool:
        """Whether the server has said nothing since it was last asked: if it has, that was most likely goodbye."""
        return is_quiet(self.connection)

    async def close(self) -> None:
        await self.world.result(self.connection.close())

    def _sent(self, commands: Sequence[Command]) -> Waiting:
        """Send everything, then receive a result for each."""
        connection: pq.abc.PGconn = self.connection.pgconn
        connection.enter_pipeline_mode()
        counts = [self._send(connection, command) for command in commands]
        connection.pipeline_sync()
        while connection.flush():
            ready = yield Wait.RW
            if ready & Ready.R:
                connection.consume_input()
        results = yield from _received(connection)
        connection.exit_pipeline_mode()
        return _of_statements(results, counts)

    def _send(self, connection: pq.abc.PGconn, command: Command) -> int:
        if self._prepared is not None:
            return self._prepared.send(connection, command)
        connection.send_query_params(command.text, command.values, command.types)
        return 1


def is_quiet(connection: Any) -> bool:
    """Whether a connection that is not in use is as it was left."""
    if connection.closed:
        return False
    socket: int = connection.pgconn.socket
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        return not poll.poll(0)
    return not select.select([socket], [], [], 0)[0]


def _received(connection: pq.abc.PGconn) -> Waiting:
    """Results up to the sync."""
    results: list[pq.abc.PGresult] = []
    while True:
        while connection.is_busy():
            if (yield Wait.R):
                connection.consume_input()
        result = connection.get_result()
        if result is None:
            if connection.status != pq.ConnStatus.OK:
                raise errors.OperationalError("the connection is lost")
            continue
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        results.append(result)


def _of_statements(results: Sequence[pq.abc.PGresult], counts: Sequence[int]) -> list[pq.abc.PGresult]:
    """The last result of each statement, or the first that failed and none after it."""
    found, place = [], 0
    for expected in counts:
        own = results[place : place + expected]
        failed = next((result for result in own if result.status in _FAILED), None)
        found.append(failed or own[-1])
        if failed is not None:
            break
        place += expected
    return found


def _rows(made: Any, result: pq.abc.PGresult) -> list[Row]:
    if result.status != pq.ExecStatus.TUPLES_OK:
        return []
    made.set_pgresult(result)
    rows: list[Row] = made.load_rows(0, result.ntuples, tuple)
    return rows
