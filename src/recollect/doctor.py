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
from recollect.port import Operation, Row, Tx, drive, reads
from recollect.store import Store
from recollect.store.newest import STATUS

OLDEST_PYTHON: Final = (3, 11)
OLDEST_SQLITE: Final = (3, 38, 0)
EXAMPLES: Final = 3
"""Places of a fault that are named; the rest are counted."""

EXTRAS: Final = {"openai": "openai", "postgres": "psycopg", "server": "fastapi", "cli": "typer"}
"""Extras by the package that tells whether one is installed."""


class Finding(msgspec.Struct, frozen=True):
    """The answer to one question."""

    check: str
    status: Literal["ok", "note", "problem"]
    detail: str = ""
    examples: tuple[str, ...] = ()
    """Sessions it was found in, with the run and the message where these are meant."""


class _Question(msgspec.Struct, frozen=True):
    """A query that gives a row for each fault: its count of all faults, then where it is (session, run, message)."""

    check: str
    fault: str
    """What is said of the places that are found."""
    sql: str
    status: Literal["note", "problem"] = "problem"


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
        yield from _content(_transact_on(connection))


def _transact_on(connection: sqlite3.Connection) -> Callable[[Operation[..., Any]], Any]:
    clock = SystemClock()
    return lambda operation: drive(operation(SqliteTx(connection, clock.now())))


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


def _check_journal(mode: str, durability: str) -> Finding:
    if mode != "wal":
        return Finding("durability", "note", f"journal mode is {mode}; the first use sets it to wal")
    kept = "each commit survives power loss" if durability == "full" else "power loss may take the last commits"
    return Finding("durability", "ok", f"journal mode wal; {kept}")


def _content(transact: Callable[[Operation[..., Any]], Any]) -> Iterator[Finding]:
    """What the tables hold, one query a question."""
    [totals] = transact(_asked(_TOTALS))
    sessions, runs, messages = totals
    yield Finding("content", "ok", f"sessions: {sessions:,}, runs: {runs:,}, messages: {messages:,}")
    for question in _QUESTIONS:
        yield _answered(question, transact(_asked(question.sql)))


def _asked(sql: str) -> Operation[[], list[Row]]:
    @reads
    async def ask(tx: Tx) -> list[Row]:
        [found] = await tx.execute((sql, {}))
        return found

    return ask


def _answered(question: _Question, found: Sequence[Row]) -> Finding:
    if not found:
        return Finding(question.check, "ok")
    places = tuple(" ".join(map(str, row[1:])) for row in found)
    return Finding(question.check, question.status, f"{found[0][0]:,} {question.fault}", places)


def _places(faults: str, columns: str = "session_id, run_seq") -> str:
    """The question in SQL: how many faults, and where the first of them are."""
    return f"""
    with faults as ({faults})
    select (select count(*) from faults), {columns} from faults order by {columns} limit {EXAMPLES}
    """


_TOTALS: Final = """
select (select count(*) from recollect_sessions), (select count(*) from recollect_runs),
    (select count(*) from recollect_messages)
"""

_COUNTS: Final = """
    select s.session_id from recollect_sessions s
    left join (
        select session_id, max(run_seq) as last_seq,
            sum(case when parent_run_id is null then 1 else 0 end) as runs,
            sum(case when parent_run_id is null and status = 'completed' then 1 else 0 end) as completed
        from recollect_runs group by session_id
    ) r on r.session_id = s.session_id
    left join (
        select m.session_id, count(*) as spoken
        from recollect_messages m
        join recollect_runs r on r.session_id = m.session_id and r.run_seq = m.run_seq
        where r.parent_run_id is null and m.role in ('user', 'assistant')
        group by m.session_id
    ) m on m.session_id = s.session_id
    where s.run_count <> coalesce(r.runs, 0) or s.completed_count <> coalesce(r.completed, 0)
        or s.message_count <> coalesce(m.spoken, 0) or s.next_seq <= coalesce(r.last_seq, 0)
"""

# A place is reserved for the result of each tool call; in a run that was broken off it may have stayed empty.
_GAPS: Final = """
    select p.session_id, p.run_seq, p.idx
    from (
        select session_id, run_seq, idx, lag(idx, 1, -1) over (partition by session_id, run_seq order by idx) as before
        from recollect_messages
    ) p
    join recollect_runs r on r.session_id = p.session_id and r.run_seq = p.run_seq
    where p.idx > p.before + 1 and (r.status = 'completed' or p.idx > 1 + coalesce((
        select m.idx + json_array_length(m.body, '$.tool_calls') from recollect_messages m
        where m.session_id = p.session_id and m.run_seq = p.run_seq and m.idx < p.idx and m.role = 'assistant'
        order by m.idx desc limit 1
    ), -1))
"""

_EXCHANGES: Final = """
    calls as (
        select m.session_id, m.run_seq, m.idx, c.value ->> 'id' as call_id
        from recollect_messages m, json_each(m.body, '$.tool_calls') c
        where m.role = 'assistant' and instr(m.body, '"tool_calls"') > 0 and c.type = 'object'
    ),
    results as (
        select session_id, run_seq, idx, json_extract(body, '$.tool_call_id') as call_id
        from recollect_messages where role = 'tool'
    )
"""

# The id of an imported run is a UUID of version 5. What was never answered where it comes from is no fault here.
_IS_IMPORTED: Final = "length(r.run_id) = 36 and substr(r.run_id, 15, 1) = '5'"


def _open_calls(origin: str) -> str:
    return _places(
        f"""
        with {_EXCHANGES}
        select c.session_id, c.run_seq, c.idx from calls c
        join recollect_runs r on r.session_id = c.session_id and r.run_seq = c.run_seq
        left join results a on a.session_id = c.session_id and a.call_id = c.call_id
            and (a.run_seq, a.idx) > (c.run_seq, c.idx)
        where a.session_id is null and r.status = 'completed' and {origin}
        """,
        "session_id, run_seq, idx",
    )


def _lone_results(origin: str) -> str:
    return _places(
        f"""
        with {_EXCHANGES}
        select a.session_id, a.run_seq, a.idx from results a
        join recollect_runs r on r.session_id = a.session_id and r.run_seq = a.run_seq
        left join calls c on c.session_id = a.session_id and c.call_id = a.call_id
            and (c.run_seq, c.idx) < (a.run_seq, a.idx)
        where c.session_id is null and {origin}
        """,
        "session_id, run_seq, idx",
    )


_LOST_PROMPTS: Final = """
    select r.session_id, r.run_seq from recollect_runs r
    left join recollect_prompts p on p.session_id = r.session_id and p.digest = r.prompt
    where r.prompt is not null and p.digest is null
"""

_RUNLESS: Final = """
    select m.session_id, m.run_seq from recollect_messages m
    left join recollect_runs r on r.session_id = m.session_id and r.run_seq = m.run_seq
    where r.session_id is null
"""

_HEADLESS: Final = "union all".join(
    f"""
    select distinct t.session_id from recollect_{table} t
    left join recollect_sessions s on s.session_id = t.session_id where s.session_id is null
    """
    for table in ("runs", "messages", "values", "prompts", "leases")
)

_BROKEN_OFF: Final = (
    f"select * from (select r.session_id, r.run_seq, r.status as stored, {STATUS} as seen from recollect_runs r)"
)

_QUESTIONS: Final = (
    _Question("counts", "sessions whose header counts otherwise than their rows", _places(_COUNTS, "session_id")),
    _Question("order", "places in a run are empty that should not be", _places(_GAPS, "session_id, run_seq, idx")),
    _Question("tool calls", "calls in completed runs have no result", _open_calls(f"not ({_IS_IMPORTED})")),
    _Question("tool results", "results have no call", _lone_results(f"not ({_IS_IMPORTED})")),
    _Question("imported calls", "calls came without a result", _open_calls(_IS_IMPORTED), "note"),
    _Question("imported results", "results came without a call", _lone_results(_IS_IMPORTED), "note"),
    _Question("system messages", "runs name one that is not there", _places(_LOST_PROMPTS)),
    _Question("messages without run", "messages belong to no run", _places(_RUNLESS)),
    _Question(
        "rows without session",
        "sessions have no header",
        _places(f"select distinct * from ({_HEADLESS})", "session_id"),
    ),
    _Question(
        "broken off",
        "runs ended without a word; they are read as interrupted, and the next run in their session records it",
        _places(f"{_BROKEN_OFF} where stored = 'running' and seen = 'interrupted'"),
        "note",
    ),
    _Question("under way", "runs are under way", _places(f"{_BROKEN_OFF} where seen = 'running'"), "note"),
)
