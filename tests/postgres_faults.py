"""A database on the tests' Postgres server that fails where a test wants it.

It is the server itself that fails, by a statement that makes it do so, or the connection to it that ends.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from faults import Call, Fault, Faults, Kind, Rows, is_sign_of_life
from psycopg.pq import TransactionStatus

from recollect.db.postgres import PostgresDb
from recollect.db.postgres.dialect import ROLLBACK, Command, command
from recollect.db.postgres.ears import Ears
from recollect.db.postgres.transaction import PostgresTx
from recollect.db.postgres.wire import Wire
from recollect.errors import DatabaseBusy, DatabaseError, DatabaseFull, OutcomeUnknown
from recollect.port import Mode, Operation, Row, mode_of

TABLES = tuple(
    f"recollect_{name}"
    for name in ("sessions", "values", "runs", "messages", "prompts", "leases", "documents", "indexed")
)

KINDS = {
    "busy": Kind("55P03", "canceling statement due to lock timeout", DatabaseBusy),
    "slow": Kind("57014", "canceling statement due to statement timeout", DatabaseBusy),
    "full": Kind("53100", "could not extend file: No space left on device", DatabaseFull),
    "failing": Kind("58030", "could not read block: Input/output error", DatabaseError),
    "deadlock": Kind("40P01", "deadlock detected", None),
    "serialization": Kind("40001", "could not serialize access", None),
    "ended": Kind(None, "terminating connection due to administrator command", None, ends=True),
    "lost": Kind(None, "server closed the connection unexpectedly", None, ends=True),
}

REFUSED = ("busy", "full", "failing", "slow")
REPEATED = ("deadlock", "serialization")

COMMIT = "(commit)"
"""The commit of statements that are sent together without a begin."""

END = "select pg_terminate_backend(pg_backend_pid()), pg_sleep(10)"


class FaultyWire(Wire):
    """A connection to Postgres, and the faults on its way there and back."""

    def __init__(self, wire: Wire, faults: Faults, mode: Mode) -> None:
        super().__init__(wire.connection, wire.world, prepares=True)
        self._faults = faults
        self._writes = mode is Mode.write
        self._follows = False

    async def send(self, batch: Sequence[Command]) -> list[list[Row]]:
        if batch[0] == ROLLBACK or is_sign_of_life():
            return await super().send(batch)
        calls = self._calls(batch)
        due = [at for at, call in enumerate(calls) if self._faults.due(call, {})]
        if due:
            assert self._faults.fault is not None
            return await self._fail(list(batch), calls, due[0], self._faults.fault)
        answers = await super().send(batch)
        if calls[-1].commits:
            self._follows = self._writes
            if self._faults.committed is not None:
                self._faults.committed()
        return answers

    def _calls(self, batch: Sequence[Command]) -> list[Call]:
        sent = [each.text.decode() for each in batch]
        in_midst = self.connection.info.transaction_status != TransactionStatus.IDLE
        if not in_midst and not sent[0].startswith("begin"):
            sent.append(COMMIT)
        ends = self._writes and sent[-1] in ("commit", COMMIT)
        begin = None if in_midst else 0
        return [
            Call(sql, self._writes, at == begin, sql in ("commit", COMMIT), ends, self._follows)
            for at, sql in enumerate(sent)
        ]

    async def _fail(self, batch: list[Command], calls: list[Call], at: int, fault: Fault) -> list[list[Row]]:
        kind, after = fault.kind, fault.after and not self._faults.fired
        self._faults.fired = True
        if kind is KINDS["lost"] or (after and calls[at].commits):
            return await self._lose(batch, sent=after)
        failing = (
            END if kind.ends else f"do $$ begin raise exception '{kind.text}' using errcode = '{kind.code}'; end $$"
        )
        batch[at + after : at + 1] = [command(failing)]
        try:
            return await super().send(batch)
        except psycopg.errors.UniqueViolation:  # a statement before it was refused, so it was not reached
            self._faults.arm(fault)
            raise

    async def _lose(self, batch: list[Command], *, sent: bool) -> list[list[Row]]:
        """Lose the connection before the batch arrives, or its answer on the way back."""
        if sent:
            await super().send(batch)
        with socket.socket(fileno=os.dup(self.connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        return await super().send(batch)


class FaultyPostgresDb(PostgresDb):
    """A database on the tests' server, which fails as its `faults` say."""

    kinds = KINDS
    in_doubt = KINDS["ended"]

    def __init__(self, db_url: str, **options: Any) -> None:
        super().__init__(db_url, **options)
        self.faults = Faults()
        self._notifier.ears = Ears(often=-1)  # asked each time, so that a fault meets the same statement again
        self._other = psycopg.connect(db_url, autocommit=True)
        self._seen: Rows = {}
        """All rows, where nothing was done since."""
        self._saved: Rows = {}

    def _transaction(self, wire: Wire, operation: Operation[..., Any]) -> PostgresTx:
        if self._saved:
            random.seed(1)  # what is repeated draws the same numbers again
        self._seen = {}
        return super()._transaction(FaultyWire(wire, self.faults, mode_of(operation)), operation)

    def close(self) -> None:
        super().close()
        self._other.close()

    def connections(self) -> int:
        """How many are open, on the server's word."""
        ours = "datname = current_database() and application_name = 'recollect'"
        [(count,)] = self._other.execute(f"select count(*) from pg_stat_activity where {ours}".encode()).fetchall()
        return int(count)

    def rows(self) -> Rows:
        """Every stored row by table, as another program sees it."""
        every = (f"select '{table}', cast(t as text) from {table} t" for table in TABLES)
        seen: Rows = {table: [] for table in TABLES}
        for table, row in sorted(self._other.execute(" union all ".join(every).encode()).fetchall()):
            seen[table].append((row,))
        self._seen = seen  # at once: a sign of life may have this asked in a thread of its own
        return seen

    def save(self) -> None:
        """Remember all rows."""
        for table in TABLES:
            self._other.execute(f"create unlogged table saved_{table} as select * from {table}".encode())
        self._saved = self.rows()

    def restore(self) -> None:
        """Bring back the rows that were remembered."""
        if self._seen != self._saved:
            gone = [f"delete from {table}" for table in reversed(TABLES)]
            back = [f"insert into {table} select * from saved_{table}" for table in TABLES]
            self._other.execute("; ".join(["begin", *gone, *back, "commit"]).encode())

    @staticmethod
    def faults_at(number: int) -> Iterator[Fault]:
        """Of kinds that differ in their code alone, one at each place, in turn."""
        for kinds in (REFUSED, REPEATED):
            yield Fault(KINDS[kinds[number % len(kinds)]], at=number)
        for name, after in (("ended", False), ("ended", True), ("lost", False)):
            yield Fault(KINDS[name], at=number, after=after)

    @staticmethod
    def told(fault: Fault, call: Call) -> type[DatabaseError] | None:
        """What the caller is told: of doubt where the connection is lost with a commit, or a part is stored."""
        return OutcomeUnknown if call.follows or (call.ends and fault.kind.ends) else fault.kind.error
