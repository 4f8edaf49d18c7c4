"""What psycopg raises, as the errors of this library."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors

from recollect.db.migrate import NO_RECORD
from recollect.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseUnreachable,
    OutcomeUnknown,
    SchemaMismatch,
)

_KINDS: Final[tuple[tuple[type[psycopg.Error], type[DatabaseError], str], ...]] = (
    (errors.LockNotAvailable, DatabaseBusy, "kept what was asked for locked for too long; raise timeout="),
    (errors.QueryCanceled, DatabaseBusy, "took too long and was stopped; nothing was stored. Raise statement_timeout="),
    (errors.SerializationFailure, DatabaseBusy, "was too busy; the change was undone again and again. Try again"),
    (errors.DeadlockDetected, DatabaseBusy, "was too busy; the change was undone again and again. Try again"),
    (errors.DiskFull, DatabaseFull, "has no room left; nothing of this change was stored. Make room and try again"),
    (errors.OutOfMemory, DatabaseFull, "has no memory left; nothing of this change was stored"),
    (errors.ReadOnlySqlTransaction, DatabaseReadOnly, "takes no changes: it is read-only, or a replica"),
    (errors.InsufficientPrivilege, DatabaseReadOnly, "does not allow that to this role; grant it, or use another"),
    (errors.UndefinedTable, SchemaMismatch, "lacks a table; run: recollect migrate --db URL"),
    (errors.DuplicateTable, SchemaMismatch, f"cannot be brought to a newer schema: {NO_RECORD}"),
    (errors.UndefinedColumn, SchemaMismatch, "lacks a column; run: recollect migrate --db URL"),
)

_AWAY: Final = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.DatabaseDropped,
    errors.IdleInTransactionSessionTimeout,
    errors.IdleSessionTimeout,
)
"""What the server says before it closes a connection."""

PASSING: Final = (errors.SerializationFailure, errors.DeadlockDetected, errors.InvalidSqlStatementName)
"""The transaction was undone for the sake of another one, or what was prepared was discarded by somebody; the same may
well work the next time."""

UNPREPARED: Final = (errors.UndefinedTable, errors.InvalidSchemaName, errors.DivisionByZero)
"""What a statement meets where the tables are not there, or the look at the schema's record refuses."""


_CONNECTING: Final[tuple[tuple[str, type[DatabaseError], str], ...]] = (
    ("too many clients", DatabaseBusy, "takes no more connections; use smaller pools, or a pooler before it"),
    ("connection slots", DatabaseBusy, "takes no more connections; use smaller pools, or a pooler before it"),
    (
        "startup parameter",
        DatabaseUnreachable,
        "is behind a pooler in transaction mode; say pooler=True, or in the address of a command ?pooler=true",
    ),
    ("does not exist", DatabaseUnreachable, "is not there; create the database or the role first"),
    ("authentication failed", DatabaseUnreachable, "does not let this role in; look at its password"),
)
"""What is told of servers that refuse a connection; psycopg gives no code for these, only their words."""


def refused(error: psycopg.Error, address: str) -> DatabaseError:
    """The error that a caller gets where no connection could be opened."""
    said = " ".join(str(error).split())
    for words, kind, advice in _CONNECTING:
        if words in said:
            return kind(f"{address} {advice} ({said})")
    return DatabaseUnreachable(f"{address} cannot be reached ({said})")


def has_gone(connection: psycopg.Connection | psycopg.AsyncConnection, error: BaseException) -> bool:
    """Whether the connection is lost, or is being closed by the server."""
    return connection.closed or isinstance(error, _AWAY)


def typed(error: psycopg.Error, address: str, *, gone: bool, unknown: bool) -> DatabaseError:
    """The error that a caller gets; ``unknown`` when a change may have been stored or not."""
    said = " ".join(str(error).split())
    if unknown:
        return OutcomeUnknown(
            f"{address} did not say whether the change was stored; look before you repeat it ({said})"
        )
    for raised, kind, advice in _KINDS:
        if isinstance(error, raised):
            return kind(f"{address} {advice} ({said})")
    if gone or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None):
        return DatabaseUnreachable(f"{address} cannot be reached ({said})")
    return DatabaseError(f"{address} could not do it ({said})")
