"""Whether this environment and a database are in order: each check is one question, one finding.

Nothing is changed: a file is opened read-only, and not brought to a newer schema to be looked at. A finding is a
``problem`` when something was lost or cannot work, a ``note`` when it is good to know.
"""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from recollect.db import migrate, owner
from recollect.db.sqlite import SqliteDb, SqliteTx, SystemClock
from recollect.invariants import QUESTIONS, TOTALS, Question
from recollect.port import Operation, Row, Tx, drive, reads
from recollect.store import Store

OLDEST_PYTHON: Final = (3, 11)
OLDEST_SQLITE: Final = (3, 38, 0)
EXTRAS: Final = {"openai": "openai", "postgres": "psycopg", "server": "fastapi", "cli": "typer"}
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
    if not isinstance(store, SqliteDb) or store.db_file is None:
        yield from _content(store.transact)
        return
    yield Finding("database", "ok" if store.db_file.is_file() else "problem", _said_of(store.db_file))
    if not store.db_file.is_file():
        return
    try:
        with closing(_opened(store.db_file)) as connection:
            yield from _file(connection, store.durability)
    except sqlite3.Error as error:
        yield Finding("readable", "problem", f"SQLite says: {error}")


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
        return _schema(connection)[0]


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


def _schema(connection: sqlite3.Connection) -> tuple[int, int]:
    if not connection.execute("select 1 from sqlite_master where name = 'recollect_schema'").fetchone():
        return 0, 0
    found: tuple[int, int] = connection.execute(
        "select coalesce(max(schema), 0), coalesce(max(min_reader), 0) from recollect_schema"
    ).fetchone()
    return found


def _file(connection: sqlite3.Connection, durability: str) -> Iterator[Finding]:
    schema = _check_schema(*_schema(connection))
    yield schema
    damage = [said for (said,) in connection.execute("pragma quick_check(10)") if said != "ok"]
    yield Finding("integrity", "problem" if damage else "ok", "; ".join(damage) or "quick_check finds nothing")
    mode = connection.execute("pragma journal_mode").fetchone()[0]
    yield _check_journal(mode, durability)
    if schema.status == "ok":
        yield _check_parts(connection)
        yield from _content(_transact_on(connection))


def _transact_on(connection: sqlite3.Connection) -> Callable[[Operation[..., Any]], Any]:
    clock = SystemClock()
    return lambda operation: drive(operation(SqliteTx(connection, clock)))


def _check_schema(schema: int, min_reader: int) -> Finding:
    newest = migrate.steps("sqlite")[-1].number
    if schema == 0:
        return Finding("schema", "problem", "it holds no sessions of this library")
    if min_reader > newest:
        return Finding("schema", "problem", f"{schema}; this program knows {newest}: upgrade recollect")
    if schema < newest:
        return Finding(
            "schema", "note", f"{schema} of {newest}; it is brought there on first use, or by: recollect migrate"
        )
    return Finding("schema", "ok", f"{schema}, the newest" if schema == newest else f"{schema}, from a newer program")


def _check_parts(connection: sqlite3.Connection) -> Finding:
    """Whether every table and index is there that the schema makes."""
    there = {name for (name,) in connection.execute("select name from sqlite_master")}
    gone = tuple(name for name in migrate.parts("sqlite") if name not in there)
    return Finding("tables and indexes", "problem" if gone else "ok", "missing" if gone else "", gone)


def _check_journal(mode: str, durability: str) -> Finding:
    if mode != "wal":
        return Finding("durability", "note", f"journal mode is {mode}; the first use sets it to wal")
    kept = "each commit survives power loss" if durability == "full" else "power loss may take the last commits"
    return Finding("durability", "ok", f"journal mode wal; {kept}")


def _content(transact: Callable[[Operation[..., Any]], Any]) -> Iterator[Finding]:
    """What the tables hold, one query a question."""
    [totals] = transact(_asked(TOTALS))
    sessions, runs, messages = totals
    yield Finding("content", "ok", f"sessions: {sessions:,}, runs: {runs:,}, messages: {messages:,}")
    for question in QUESTIONS:
        yield _answered(question, transact(_asked(question.sql)))


def _asked(sql: str) -> Operation[[], list[Row]]:
    @reads
    async def ask(tx: Tx) -> list[Row]:
        [found] = await tx.execute((sql, {}))
        return found

    return ask


def _answered(question: Question, found: Sequence[Row]) -> Finding:
    if not found:
        return Finding(question.check, "ok")
    places = tuple(" ".join(map(str, row[1:])) for row in found)
    return Finding(question.check, question.status, f"{found[0][0]:,} {question.fault}", places)
