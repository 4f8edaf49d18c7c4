"""The tables: made where there are none, brought to the newest schema under a lock, and looked at before use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from recollect.db import migrate
from recollect.db.migrate import Step
from recollect.db.postgres.dialect import BEGIN, COMMIT, ROLLBACK, Command, command, quoted
from recollect.db.postgres.wire import Wire
from recollect.errors import SchemaMismatch

KIND: Final = "postgres"

NEEDED: Final = 3
"""The oldest schema this program works with; a database that has less must be migrated first."""

# Any number will do, as long as every version of this program takes the same one.
_LOCK: Final = command("select pg_advisory_xact_lock(7259413708241139)")


def look(qualified: str) -> Command:
    """A statement that fails where this program cannot work with the tables, so that what follows it is not done.

    It divides by zero where the record says so, and finds no record where there are no tables.
    """
    newest = migrate.steps(KIND)[-1].number
    is_fit = f"max(schema) >= {NEEDED} and max(min_reader) <= {newest}"
    return command(f"select 1 / (case when {is_fit} then 1 else 0 end) from {qualified}")


class Facts(msgspec.Struct, frozen=True):
    """What a server says of itself and of one of its databases."""

    version: str
    encoding: str
    is_replica: bool


async def facts(wire: Wire) -> Facts:
    """What the server at the other end says of itself."""
    [[(is_replica,)]] = await wire.send([command("select pg_is_in_recovery()")])
    said = wire.connection.info.parameter_status
    return Facts(said("server_version"), said("server_encoding"), is_replica)


class Schema:
    """The tables of one database, on one connection."""

    def __init__(self, wire: Wire, name: str | None) -> None:
        self._wire = wire
        self._name = name
        self._record = "recollect_schema" if name is None else f"{quoted(name)}.recollect_schema"

    async def read(self) -> tuple[int, int]:
        """The number of the schema, and the oldest that a program must know; zeros where there are no tables."""
        [[(there,)]] = await self._wire.send([command("select to_regclass($1)::text", self._record)])
        if there is None:
            return 0, 0
        [[found]] = await self._wire.send(
            [command(f"select coalesce(max(schema), 0), coalesce(max(min_reader), 0) from {self._record}")]
        )
        return found[0], found[1]

    async def prepare(self) -> None:
        """Make the tables where there are none.

        Raises:
            SchemaMismatch: this program cannot work with those that are there; it says what to do.
        """
        schema, min_reader = await self.read()
        migrate.missing(KIND, schema, min_reader)
        if schema == 0:
            await self.upgrade()
        elif schema < NEEDED:
            msg = f"the database has schema {schema}, and this program needs {NEEDED}; run: recollect migrate --db URL"
            raise SchemaMismatch(msg)

    async def upgrade(self) -> tuple[Step, ...]:
        """Bring the tables to the newest schema; give the steps that were taken. Others may do the same just now.

        Raises:
            SchemaMismatch: the database was written by a newer program that this one cannot work beside.
        """
        taken = await self._take(migrate.steps(KIND))
        migrate.missing(KIND, *await self.read())
        return taken

    async def _take(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """Those steps that were not taken yet, in one transaction with their records: nobody meets half of them."""
        await self._wire.send([BEGIN, _LOCK, *self._home()])
        try:
            schema, _ = await self.read()
            wanted = tuple(step for step in steps if step.number > schema)
            if wanted:
                await self._wire.send([*(one for step in wanted for one in self._commands(step)), COMMIT])
        finally:
            if not self._wire.connection.closed and self._wire.connection.info.transaction_status:
                await self._wire.send([ROLLBACK])
        return wanted

    def _commands(self, step: Step) -> Iterator[Command]:
        yield from map(command, _statements(step.sql))
        yield self._recorded(step)

    def _home(self) -> Iterator[Command]:
        """Where the tables are made, for as long as the transaction lasts."""
        if self._name is not None:
            yield command(f"create schema if not exists {quoted(self._name)}")
            yield command(f"set local search_path to {quoted(self._name)}")
        yield command(migrate.RECORD)

    def _recorded(self, step: Step) -> Command:
        now = "cast(extract(epoch from now()) * 1000000 as bigint)"
        return command(f"insert into recollect_schema values ({step.number}, {step.min_reader}, {now})")


def _statements(script: str) -> Iterator[str]:
    lines = (line for line in script.splitlines() if not line.startswith("--"))
    return (statement for statement in "\n".join(lines).split(";") if statement.strip())
