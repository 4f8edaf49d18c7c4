"""What SQLite says when it cannot, as the errors of this library."""

from __future__ import annotations

import sqlite3
from typing import Final, NoReturn

from recollect.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseUnreachable,
    NotADatabase,
    OutcomeUnknown,
)

_CODES: Final[dict[int, type[DatabaseError]]] = {
    sqlite3.SQLITE_BUSY: DatabaseBusy,
    sqlite3.SQLITE_LOCKED: DatabaseBusy,
    sqlite3.SQLITE_FULL: DatabaseFull,
    sqlite3.SQLITE_READONLY: DatabaseReadOnly,
    sqlite3.SQLITE_CANTOPEN: DatabaseUnreachable,
    sqlite3.SQLITE_NOTADB: NotADatabase,
    sqlite3.SQLITE_CORRUPT: NotADatabase,
}

SOUND: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL)
"""Errors after which the connection is as good as before; a commit that ends so has stored nothing."""

_ADVICE: Final[dict[type[DatabaseError], str]] = {
    DatabaseBusy: "stayed locked by another connection for {timeout:g} s. Let the other end, or raise timeout=",
    DatabaseFull: "is full, or its disk is; nothing of this change was stored. Make room and try again",
    DatabaseReadOnly: "cannot be written; check the permissions of the file and its folder",
    DatabaseUnreachable: "cannot be opened; check that its folder exists and may be written",
    NotADatabase: "is not an SQLite database, or is damaged; it was left as it is. Name another file",
    OutcomeUnknown: "did not say whether the change was stored; look before you repeat it",
    DatabaseError: "could not do it",
}


def primary(error: BaseException) -> int:
    """The primary code of an error of SQLite's."""
    return getattr(error, "sqlite_errorcode", 1) & 0xFF


def refuse(error: sqlite3.Error, address: str, timeout: float, kind: type[DatabaseError] | None = None) -> NoReturn:
    """Raise what an error of SQLite's means for whoever uses the database at this address."""
    kind = kind or _CODES.get(primary(error), DatabaseError)
    advice = _ADVICE[kind].format(timeout=timeout)
    msg = f"{address} {advice} ({error})"
    raise kind(msg) from error
