"""The raw floor: what a turn costs in SQLite when nobody checks, owns, cancels, filters or types anything.

It stores the rows that Recollect stores: the session's header, the run, its lease while it runs, its messages, column
for column and with values of the same size, in the same number of transactions (one begins the turn, one finishes it),
on one connection in WAL mode with the same ``synchronous`` and the same page cache. It is written by hand for this one
case: positional parameters, no upsert, no condition that a real store needs (whose session is it, who holds the run,
which runs were answered), ids that are counted, no object but the rows.

Its schema has what any store needs, the primary keys, and none of the indexes that Recollect adds for unique run ids,
reading what changed, walking back over answered runs, and listing. Only the list of sessions gets indexes here too,
one for each order and filter that is asked for: without them the floor would sort ten thousand rows.

The past that a turn needs is read as a range of the messages' primary key, the newest fifty runs, and given as rows;
``decode`` makes JSON values of them with msgspec, which is what Recollect decodes with. Either both sides decode or
neither does; each line of the table says which.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.talk import METRICS, Said

Rows = list[tuple[Any, ...]]

WINDOW: Final = 50
"""Runs that the model is shown, as in an Agent's default."""

BUSY: Final = 30.0
"""Seconds for which SQLite itself waits for another process."""

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode

HEADER: Final = """
    session_id, kind, agent_id, team_id, user_id, name, name_source, preview, archived, pinned, expires_at, run_count,
    completed_count, message_count, input_tokens, output_tokens, aux_tokens, version, epoch, created_at, updated_at
"""

_SCHEMA: Final = (
    """create table sessions (
        session_id text not null primary key, kind text, agent_id text, team_id text, user_id text, name text,
        name_source text, preview text, archived integer, pinned integer, expires_at integer, next_seq integer,
        run_count integer, completed_count integer, message_count integer, input_tokens integer, output_tokens integer,
        aux_tokens integer, summarised_through integer, claim_owner text, claim_token integer,
        claim_until integer, version integer,
        epoch integer, created_at integer, updated_at integer
    ) without rowid""",
    """create table runs (
        session_id text not null, run_seq integer not null, run_id text, parent_run_id text, agent_id text,
        agent_name text, team_id text, user_id text, status text, attempt integer, prompt text, model text,
        input integer, metadata text, metrics text, error text, chars integer, cancel_requested integer,
        version integer, created_at integer, finished_at integer, primary key (session_id, run_seq)
    ) without rowid""",
    """create table messages (
        session_id text not null, run_seq integer not null, idx integer not null, message_id text, role text,
        body text, primary key (session_id, run_seq, idx)
    )""",
    """create table leases (
        session_id text not null, run_seq integer not null, owner text, token integer, until integer,
        primary key (session_id, run_seq)
    ) without rowid""",
)

_INSERT_SESSION: Final = f"insert into sessions values ({','.join('?' * 26)})"
_INSERT_RUN: Final = f"insert into runs values ({','.join('?' * 21)})"
_INSERT_MESSAGE: Final = "insert into messages values (?, ?, ?, ?, ?, ?)"
_INSERT_LEASE: Final = "insert into leases values (?, ?, ?, ?, ?)"
_BEGIN: Final = """
    update sessions set next_seq = next_seq + 1, run_count = run_count + 1, message_count = message_count + 1,
    version = version + 1, updated_at = ? where session_id = ? returning next_seq - 1, version
"""
_STEP: Final = """
    update sessions set version = version + 1, message_count = message_count + 1, updated_at = ?
    where session_id = ? returning version
"""
_STEP_LEASE: Final = "update leases set until = ? where session_id = ? and run_seq = ?"
_STEP_RUN: Final = "update runs set chars = chars + ?, version = ? where session_id = ? and run_seq = ?"
_FINISH: Final = """
    update sessions set version = version + 1, message_count = message_count + 1,
    completed_count = completed_count + 1, input_tokens = input_tokens + ?, output_tokens = output_tokens + ?,
    updated_at = ? where session_id = ? returning version
"""
_FINISH_RUN: Final = """
    update runs set chars = chars + ?, status = 'completed', metrics = ?, finished_at = ?, version = ?
    where session_id = ? and run_seq = ?
"""
_END_LEASE: Final = "delete from leases where session_id = ? and run_seq = ?"
_PAST: Final = """
    select run_seq, role, body from messages where session_id = ? and run_seq >= ? and run_seq < ?
    order by run_seq, idx
"""
_LAST: Final = """
    select run_seq, idx, message_id, role, body from messages
    where session_id = ? and run_seq >= ? order by run_seq, idx
"""
_NEXT: Final = "select next_seq from sessions where session_id = ?"
_SAID: Final = "select run_seq, idx, message_id, role, body from messages where session_id = ? order by run_seq, idx"
_RUNS: Final = """
    select run_seq, run_id, parent_run_id, agent_id, agent_name, team_id, user_id, status, attempt, prompt, model,
    input, metadata, metrics, error, created_at, finished_at from runs where session_id = ? order by run_seq
"""
_OWNER: Final = "0" * 58
"""As long as the name of a process in a lease."""


class Floor:
    """A file, and the hand-written SQL for it."""

    def __init__(self, file: Path, durability: str = "normal") -> None:
        self.connection = sqlite3.connect(file, timeout=BUSY, isolation_level=None)
        self.execute: Callable[..., sqlite3.Cursor] = self.connection.execute
        self.execute("pragma journal_mode = wal")
        self.execute(f"pragma synchronous = {durability}")
        self.execute("pragma cache_size = -8192")

    def create(self) -> None:
        """Make the tables."""
        for statement in _SCHEMA:
            self.execute(statement)

    def fill(self, session_id: str, turns: Sequence[Said]) -> None:
        """Store a session with turns that were completed."""
        self.execute("begin immediate")
        self.execute(_INSERT_SESSION, _session(session_id, len(turns)))
        self.connection.executemany(_INSERT_RUN, (_done(session_id, seq) for seq in range(1, len(turns) + 1)))
        messages = (message for seq, said in enumerate(turns, 1) for message in _messages(session_id, seq, said))
        self.connection.executemany(_INSERT_MESSAGE, messages)
        self.execute("commit")

    def turn(self, session_id: str, said: Said) -> Rows:
        """Store a turn in two transactions; give the rows of the past that the model would be shown."""
        seq, past = self.begin(session_id, said.question)
        self.finish(session_id, seq, said.answer)
        return past

    def begin(self, session_id: str, question: str) -> tuple[int, Rows]:
        """Store the question, read the past."""
        execute, now = self.execute, time.time_ns() // 1000
        body = encode({"role": "user", "content": question}).decode()
        execute("begin immediate")
        [(seq, version)] = execute(_BEGIN, (now, session_id)).fetchall()
        execute(_INSERT_RUN, _begun(session_id, seq, len(body), version, now))
        execute(_INSERT_LEASE, (session_id, seq, _OWNER, 1 << 62, now + 30_000_000))
        execute(_INSERT_MESSAGE, (session_id, seq, 0, None, "user", body))
        past = execute(_PAST, (session_id, seq - WINDOW, seq)).fetchall()
        execute("commit")
        return seq, past

    def append(self, session_id: str, seq: int, place: int, text: str) -> None:
        """Store a step."""
        self.execute("begin immediate")
        self.step(session_id, seq, place, text)
        self.execute("commit")

    def step(self, session_id: str, seq: int, place: int, text: str) -> None:
        """Store a step in a transaction that is open."""
        execute, now = self.execute, time.time_ns() // 1000
        body = encode({"role": "assistant", "content": text}).decode()
        [(version,)] = execute(_STEP, (now, session_id)).fetchall()
        execute(_STEP_LEASE, (now + 30_000_000, session_id, seq))
        execute(_STEP_RUN, (len(body), version, session_id, seq))
        execute(_INSERT_MESSAGE, (session_id, seq, place, None, "assistant", body))

    def finish(self, session_id: str, seq: int, answer: str) -> None:
        """Store the answer and the end of the run."""
        execute, now = self.execute, time.time_ns() // 1000
        body = encode({"role": "assistant", "content": answer}).decode()
        execute("begin immediate")
        [(version,)] = execute(_FINISH, (5900, 84, now, session_id)).fetchall()
        execute(_FINISH_RUN, (len(body), METRICS, now, version, session_id, seq))
        execute(_INSERT_MESSAGE, (session_id, seq, 1, None, "assistant", body))
        execute(_END_LEASE, (session_id, seq))
        execute("commit")

    def last(self, session_id: str, runs: int) -> Rows:
        """The messages of the newest runs."""
        [(following,)] = self.execute(_NEXT, (session_id,)).fetchall()
        return self.execute(_LAST, (session_id, following - runs)).fetchall()

    def version(self, session_id: str) -> Rows:
        """Where the session is: one row by its primary key."""
        return self.execute("select epoch, version from sessions where session_id = ?", (session_id,)).fetchall()

    def rows(self, session_id: str) -> tuple[Rows, Rows]:
        """All runs and all messages of a session, as rows."""
        return self.execute(_RUNS, (session_id,)).fetchall(), self.execute(_SAID, (session_id,)).fetchall()

    def load(self, session_id: str) -> tuple[list[Any], list[Any]]:
        """All runs and all messages of a session, their JSON decoded."""
        runs, said = self.rows(session_id)
        return [decode(run[13]) for run in runs], [decode(message[4]) for message in said]

    def fork(self, session_id: str, new: str) -> None:
        """Copy a session's rows."""
        self.execute("begin immediate")
        for table in ("sessions", "runs", "messages"):
            columns = ", ".join(row[1] for row in self.execute(f"pragma table_info({table})") if row[1] != "session_id")
            self.execute(
                f"insert into {table} (session_id, {columns}) select ?, {columns} from {table} where session_id = ?",
                (new, session_id),
            )
        self.execute("commit")

    def list_sessions(self, rows: Iterable[tuple[Any, ...]], indexes: Iterable[str]) -> None:
        """Fill the table of sessions with rows of `HEADER`, and index it for what will be asked."""
        self.execute("begin immediate")
        self.connection.executemany(f"insert into sessions ({HEADER}) values ({','.join('?' * 21)})", rows)
        for number, columns in enumerate(indexes):
            self.execute(f"create index listed_{number} on sessions ({columns})")
        self.execute("commit")

    def close(self) -> None:
        self.connection.close()


def decoded(rows: Rows) -> list[Any]:
    """The bodies of rows that end with one, as JSON values."""
    return [decode(row[-1]) for row in rows]


def _session(session_id: str, turns: int) -> tuple[Any, ...]:
    now = time.time_ns() // 1000
    names = (session_id, "agent", "agent", None, None, "", None, "p" * 100, 0, 0, None)
    counts = (turns + 1, turns, turns, 2 * turns, 5900 * turns, 84 * turns, 0, 0, None, None, None)
    return (*names, *counts, 2 * turns + 1, 1 << 62, now, now)


def _begun(session_id: str, seq: int, chars: int, version: int, now: int) -> tuple[Any, ...]:
    who = (session_id, seq, f"{seq:036}", None, "agent", None, None, None)
    return (*who, "running", 1, None, "echo", None, None, None, None, chars, 0, version, now, None)


def _done(session_id: str, seq: int) -> tuple[Any, ...]:
    now = time.time_ns() // 1000
    who = (session_id, seq, f"{seq:036}", None, "agent", None, None, None)
    return (*who, "completed", 1, None, "echo", None, None, METRICS, None, 470, 0, 2 * seq + 1, now, now)


def _messages(session_id: str, seq: int, said: Said) -> Rows:
    return [
        (session_id, seq, 0, None, "user", encode({"role": "user", "content": said.question}).decode()),
        (session_id, seq, 1, None, "assistant", encode({"role": "assistant", "content": said.answer}).decode()),
    ]
