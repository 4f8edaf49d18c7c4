"""The tables spread over many servers by Citus, so that all of a session is on one of them.

Every key begins with ``session_id`` and every statement names it, so this changes no statement. The record of the
schema stays where it is. https://docs.citusdata.com/en/stable/develop/api_udf.html#create-distributed-table
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from recollect.db.tables import expected
from recollect.errors import DatabaseError
from recollect.port import Statement, Tx, reads, writes

FIRST: Final = "recollect_sessions"
"""The table that the others are placed beside."""

COLUMN: Final = "session_id"


def calls(distributed: Collection[str] = ()) -> tuple[str, ...]:
    """What spreads the tables that are not spread yet, in an order that is always the same: that of sessions first."""
    tables = [name for name, table in expected("postgres").tables.items() if COLUMN in table.columns]
    tables.sort(key=lambda name: (name != FIRST, name))
    return tuple(_call(name) for name in tables if name not in distributed)


def _call(table: str) -> str:
    beside = "none" if table == FIRST else FIRST
    return f"select create_distributed_table('{table}', '{COLUMN}', colocate_with => '{beside}')"


@reads
async def missing(tx: Tx) -> str | None:
    """Why tables cannot be spread here, and what to do about it; None when they can."""
    version, available = await tx.execute((_VERSION, {}), (_AVAILABLE, {}))
    if version:
        return None
    if available:
        return "the extension citus is installed on this server, but not in this database; run: create extension citus"
    return (
        "the extension citus is not installed on this server; install it on every node, set "
        "shared_preload_libraries = 'citus', restart, and run: create extension citus"
    )


@reads
async def distributed(tx: Tx) -> frozenset[str]:
    """The tables that are spread already."""
    [found] = await tx.execute((_DISTRIBUTED, {}))
    return frozenset(name for (name,) in found)


@writes
async def distribute(tx: Tx) -> tuple[str, ...]:
    """Spread the tables that are not spread yet, all or none; give the calls that were made.

    Raises:
        DatabaseError: the database refused, or does not say afterwards that all of them are spread.
    """
    await tx.execute(*_ALONE)
    [found] = await tx.execute((_DISTRIBUTED, {}))
    made = calls({name for (name,) in found})
    for call in made:
        await tx.execute((call, {}))
    [found] = await tx.execute((_DISTRIBUTED, {}))
    if left := calls({name for (name,) in found}):
        raise DatabaseError(f"citus did what it was asked, and still has not distributed: {'; '.join(left)}")
    return made


_ALONE: Final[tuple[Statement, ...]] = (
    # Moving what is stored takes as long as it takes; nobody else does the same meanwhile.
    ("set local statement_timeout = 0", {}),
    ("set local idle_in_transaction_session_timeout = 0", {}),
    ("select pg_advisory_xact_lock(7259413708241139)", {}),
)

_VERSION: Final = "select extversion from pg_extension where extname = 'citus'"

_AVAILABLE: Final = "select 1 from pg_available_extensions where name = 'citus'"

_DISTRIBUTED: Final = """
select c.relname from pg_dist_partition d join pg_class c on c.oid = d.logicalrelid where d.partmethod = 'h'
"""
