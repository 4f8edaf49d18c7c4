"""Whether this environment and a database are in order: each check is one question, one finding.

Nothing is changed: a file is opened read-only, and no database is brought to a newer schema to be looked at. A finding
is a ``problem`` when something was lost or cannot work, a ``note`` when it is good to know.
"""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from recollect.db import migrate, owner, tables
from recollect.db.sqlite import SqliteDb
from recollect.db.sqlite.schema import stored_schema
from recollect.db.sqlite.transaction import SqliteTx, SystemClock
from recollect.errors import DatabaseError, DatabaseUnreachable
from recollect.invariants import CHECKS, EXAMPLES, Check, Fault
from recollect.port import Operation, Tx, drive, reads
from recollect.store import Store
from recollect.survey import survey

OLDEST_PYTHON: Final = (3, 11)
OLDEST_SQLITE: Final = (3, 38, 0)
EXTRAS: Final = {"openai": "openai", "postgres": "psycopg", "server": "fastapi", "cli": "typer", "tokens": "tiktoken"}
"""Extras by the package that tells whether one is installed."""


class Finding(msgspec.Struct, frozen=True):
    """The answer to one question."""

    check: str
    status: Literal["ok", "note", "problem"]
    detail: str = ""
    examples: tuple[str, ...] = ()
    """Sessions it was found in, with the run and the message where these are meant."""


def environment() -> Iterator[Finding]:
    """What is installed here."""
    python, sqlite = sys.version_info[:3], sqlite3.sqlite_version_info
    yield Finding("Python", _since(python, OLDEST_PYTHON), platform.python_version())
    yield Finding("SQLite library", _since(sqlite, OLDEST_SQLITE), sqlite3.sqlite_version)
    for extra, package in EXTRAS.items():
        yield _extra(extra, package)


def database(store: Store) -> Iterator[Finding]:
    """What is stored; the first finding that makes the rest pointless is the last."""
    if store.dialect == "postgres":
        yield from _server(store)
    elif isinstance(store, SqliteDb) and store.db_file is not None:
        yield from _sqlite(store, store.db_file)
    else:
        yield from _content(store.transact)


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether there is no problem among them."""
    return all(finding.status != "problem" for finding in findings)


def schema_of(db_file: Path) -> int:
    """The schema number a file has; 0 when it has none or is not there yet.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    if not db_file.exists():
        return 0
    with closing(_opened(db_file)) as connection:
        return stored_schema(connection)[0]


def _since(version: tuple[int, ...], oldest: tuple[int, ...]) -> Literal["ok", "problem"]:
    return "ok" if version >= oldest else "problem"


def _extra(extra: str, package: str) -> Finding:
    try:
        return Finding(f"extra {extra}", "ok", f"{package} {metadata.version(package)}")
    except metadata.PackageNotFoundError:
        return Finding(f"extra {extra}", "note", f"not installed; to have it: pip install 'recollect[{extra}]'")


def _said_of(file: Path) -> str:
    if file.is_file():
        return f"{file}, {file.stat().st_size:,} bytes"
    return f"{file} is a folder" if file.exists() else f"there is no file {file}"


def _opened(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, isolation_level=None)
    connection.create_function("recollect_alive", 3, owner.alive)
    return connection


def _file(connection: sqlite3.Connection, durability: str) -> Iterator[Finding]:
    has_tables = connection.execute("select 1 from sqlite_master where name = 'recollect_sessions'").fetchone()
    schema = _unrecorded(_check_schema("sqlite", *stored_schema(connection)), has_tables=bool(has_tables))
    yield schema
    damage = [said for (said,) in connection.execute("pragma quick_check(10)") if said != "ok"]
    yield Finding("integrity", "problem" if damage else "ok", "; ".join(damage) or "quick_check finds nothing")
    mode = connection.execute("pragma journal_mode").fetchone()[0]
    yield _check_journal(mode, durability)
    if _can_be_read(schema):
        yield from _parts_and_content("sqlite", _transact_on(connection))


def _transact_on(connection: sqlite3.Connection) -> Callable[..., Any]:
    """What runs operations that read on a connection, each in a snapshot."""
    clock = SystemClock()

    def transact(operation: Operation[..., Any], *args: Any) -> Any:
        connection.execute("begin")
        try:
            return drive(operation(SqliteTx(connection, clock), *args))
        finally:
            connection.execute("rollback")

    return transact


def _sqlite(store: SqliteDb, file: Path) -> Iterator[Finding]:
    yield Finding("database", "ok" if file.is_file() else "problem", _said_of(file))
    if not file.is_file():
        return
    try:
        with closing(_opened(file)) as connection:
            yield from _file(connection, store.durability)
    except sqlite3.Error as error:
        yield Finding("readable", "problem", f"SQLite says: {error}")


def _server(store: Store) -> Iterator[Finding]:
    """A Postgres server, which may be away, and a database on it, which may be somebody else's."""
    from recollect.db.postgres import PostgresDb

    assert isinstance(store, PostgresDb)
    try:
        facts = store.facts()
        yield Finding("database", "ok", f"{store.address}, Postgres {facts.version}")
        fit = facts.encoding == "UTF8"
        yield Finding("encoding", "ok" if fit else "problem", facts.encoding + ("" if fit else _OTHER_ENCODING))
        if facts.is_replica:
            yield Finding("replica", "note", "this server is a replica: it can be read, and takes no changes")
        if not fit:
            return
        schema = _check_schema(store.dialect, *store.schema_version())
        schema = _unrecorded(schema, has_tables=bool(store.ask(_find_tables)))
        yield schema
        if _can_be_read(schema):
            yield from _parts_and_content(store.dialect, store.transact)
    except DatabaseUnreachable as error:
        yield Finding("reachable", "problem", str(error))
    except DatabaseError as error:
        yield Finding("readable", "problem", str(error))


_OTHER_ENCODING: Final = " cannot hold every text; create the database with UTF8"


def _check_schema(dialect: str, schema: int, min_reader: int) -> Finding:
    newest = migrate.steps(dialect)[-1].number
    if schema == 0:
        return Finding(
            "schema", "problem", "it holds no sessions of this library; to make its tables: recollect migrate"
        )
    if min_reader > newest:
        return Finding("schema", "problem", f"{schema}; this program knows {newest}: upgrade recollect")
    if min_reader > schema:
        return Finding("schema", "problem", f"{schema}, said to need a program that knows {min_reader}: a false record")
    if schema < newest:
        how = "; it is brought there on first use, or by: recollect migrate" if dialect == "sqlite" else _BY_HAND
        return Finding("schema", "note", f"{schema} of {newest}{how}")
    return Finding("schema", "ok", f"{schema}, the newest" if schema == newest else f"{schema}, from a newer program")


def _unrecorded(schema: Finding, *, has_tables: bool) -> Finding:
    """Tables without the record of their schema are not nothing: they are not to be made, nor used."""
    if not has_tables or not schema.detail.startswith(_NOTHING):
        return schema
    return Finding("schema", "problem", migrate.NO_RECORD)


_NOTHING: Final = "it holds no sessions of this library"

_BY_HAND: Final = "; it works, and is brought there by: recollect migrate"


def _can_be_read(schema: Finding) -> bool:
    """Whether the tables are those that this program knows, or more."""
    return schema.status == "ok"


@reads
async def _find_tables(tx: Tx) -> list[str]:
    return list((await tables.found(tx, "postgres")).tables)


@reads
async def _find_parts(tx: Tx, dialect: str) -> tables.Parts:
    return await tables.found(tx, dialect)


def _parts_and_content(dialect: str, transact: Callable[..., Any]) -> Iterator[Finding]:
    """Whether every table, column and index is there as the schema makes it; and if so, what is in them."""
    lacking = [*tables.lacks(dialect, transact(_find_parts, dialect))]
    told = tuple(f"{lack.kind} {lack.name}: {lack.fault}" for lack in lacking)
    yield Finding(
        "tables and indexes", "problem" if told else "ok", "not as the schema makes them" if told else "", told
    )
    if all(lack.kind in ("index", "primary key") for lack in lacking):
        yield from _content(transact)


def _check_journal(mode: str, durability: str) -> Finding:
    if mode != "wal":
        return Finding("durability", "note", f"journal mode is {mode}; the first use sets it to wal")
    kept = "each commit survives power loss" if durability == "full" else "power loss may take the last commits"
    return Finding("durability", "ok", f"journal mode wal; {kept}")


def _content(transact: Callable[..., Any]) -> Iterator[Finding]:
    """What the tables hold."""
    counts: Counter[str] = Counter()
    places: defaultdict[str, list[Fault]] = defaultdict(list)
    for sight in survey(transact):
        counts.update(sessions=sight.sessions, runs=sight.runs, messages=sight.messages)
        for fault in sight.faults:
            counts[f"! {fault.check}"] += 1
            if len(places[fault.check]) < EXAMPLES:
                places[fault.check].append(fault)
    told = (f"{name}: {counts[name]:,}" for name in ("sessions", "runs", "messages"))
    yield Finding("content", "ok", ", ".join(told))
    for check in CHECKS:
        yield _answered(check, counts[f"! {check.name}"], places[check.name])


def _answered(check: Check, count: int, found: Sequence[Fault]) -> Finding:
    if not found:
        return Finding(check.name, "ok")
    places = tuple(" ".join(map(str, (fault.session_id, *fault.place))) for fault in found)
    return Finding(check.name, check.status, f"{count:,} {check.fault}", places)
