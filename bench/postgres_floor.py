"""The raw floor on Postgres: the same rows as `bench.floor`, by hand-written SQL in the same round trips.

One psycopg connection in autocommit; what goes together is one pipeline. The run's place is taken from the header in
the database, for a value brought back first would be a trip of its own. As in SQLite, the tables have primary keys and
no other index, no condition asks whose session it is or who holds the run, and the past is a range of the messages.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, Connection

from bench.floor import WINDOW, Rows, encode
from bench.talk import METRICS, Said

_SCHEMA: Final = """
create table floor_sessions (
    session_id text collate "C" primary key, kind text, agent_id text, team_id text, user_id text, name text,
    name_key text, name_source text, preview text, archived integer, pinned integer, expires_at bigint, next_seq bigint,
    run_count bigint, completed_count bigint, message_count bigint, input_tokens bigint, output_tokens bigint,
    aux_tokens bigint, summarised_through bigint, claim_owner text, claim_token bigint, claim_until bigint,
    version bigint, epoch bigint, created_at bigint, updated_at bigint
) with (fillfactor = 70);
create table floor_runs (
    session_id text collate "C", run_seq bigint, run_id text, parent_run_id text, agent_id text, agent_name text,
    team_id text, user_id text, status text, attempt bigint, prompt text, model text, input bigint, metadata text,
    metrics text, error text, chars bigint, cancel_requested integer, version bigint, created_at bigint,
    finished_at bigint, primary key (session_id, run_seq)
);
create table floor_messages (
    session_id text collate "C", run_seq bigint, idx bigint, message_id text, role text, body text,
    primary key (session_id, run_seq, idx)
);
create table floor_leases (
    session_id text collate "C", run_seq bigint, owner text, token bigint, until bigint,
    primary key (session_id, run_seq)
) with (fillfactor = 50)
"""

_SESSION: Final = f"insert into floor_sessions values ({', '.join(['%s'] * 27)})"
_RUN: Final = f"insert into floor_runs values ({', '.join(['%s'] * 21)})"
_MESSAGE: Final = "insert into floor_messages values (%s, %s, %s, %s, %s, %s)"

_BEGIN: Final = """
update floor_sessions set next_seq = next_seq + 1, run_count = run_count + 1, message_count = message_count + 1,
version = version + 1, updated_at = %s where session_id = %s returning next_seq - 1
"""
_BEGIN_RUN: Final = """
insert into floor_runs select session_id, next_seq - 1, %s, null, 'agent', null, null, null, 'running', 1, null, 'echo',
null, null, null, null, %s, 0, version, %s, null from floor_sessions where session_id = %s
"""
_BEGIN_LEASE: Final = """
insert into floor_leases select session_id, next_seq - 1, %s, %s, %s from floor_sessions where session_id = %s
"""
_BEGIN_MESSAGE: Final = """
insert into floor_messages select session_id, next_seq - 1, 0, null, 'user', %s
from floor_sessions where session_id = %s
"""
_PAST: Final = f"""
select run_seq, role, body from floor_messages where session_id = %s
and run_seq >= (select next_seq - 1 - {WINDOW} from floor_sessions where session_id = %s)
and run_seq < (select next_seq - 1 from floor_sessions where session_id = %s) order by run_seq, idx
"""
_STEP: Final = """
update floor_sessions set version = version + 1, message_count = message_count + 1 where session_id = %s
returning version
"""
_STEP_LEASE: Final = "update floor_leases set until = %s where session_id = %s and run_seq = %s"
_STEP_RUN: Final = """
update floor_runs set chars = chars + %s, version = (select version from floor_sessions where session_id = %s)
where session_id = %s and run_seq = %s
"""
_FINISH: Final = """
update floor_sessions set version = version + 1, message_count = message_count + 1,
completed_count = completed_count + 1, input_tokens = input_tokens + %s, output_tokens = output_tokens + %s
where session_id = %s returning version
"""
_FINISH_RUN: Final = """
update floor_runs set chars = chars + %s, status = 'completed', metrics = %s, finished_at = %s,
version = (select version from floor_sessions where session_id = %s) where session_id = %s and run_seq = %s
"""
_END_LEASE: Final = "delete from floor_leases where session_id = %s and run_seq = %s"

_LAST: Final = """
select run_seq, idx, message_id, role, body from floor_messages where session_id = %s
and run_seq >= (select next_seq from floor_sessions where session_id = %s) - %s order by run_seq, idx
"""
_SAID: Final = "select run_seq, idx, message_id, role, body from floor_messages where session_id = %s order by 1, 2"
_RUNS: Final = "select * from floor_runs where session_id = %s order by run_seq"
_HEADER: Final = "select * from floor_sessions where session_id = %s"
_OWNER: Final = "0" * 58
_TOKEN: Final = 1 << 62

Batch = list[tuple[str, Sequence[Any]]]


class PostgresFloor:
    """A connection, and the hand-written SQL for it."""

    def __init__(self, url: str) -> None:
        self.connection: Connection[Any] = psycopg.connect(url, autocommit=True, prepare_threshold=2)

    def create(self) -> None:
        """Make the tables."""
        self.connection.execute(_SCHEMA)

    def fill(self, session_id: str, turns: Sequence[Said]) -> None:
        """Store a session with turns that were completed."""
        now = time.time_ns() // 1000
        count = len(turns)
        head = (session_id, "agent", "agent", None, None, "", "", None, "p" * 100, 0, 0, None, count + 1, count, count)
        tail = (2 * count, 0, 0, 0, 0, None, None, None, 2 * count + 1, _TOKEN, now, now)
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.execute(_SESSION, (*head, *tail))
            cursor.executemany(_RUN, [_done(session_id, seq, now) for seq in range(1, count + 1)])
            said = [(session_id, seq, *row) for seq, one in enumerate(turns, 1) for row in _messages(one)]
            cursor.executemany(_MESSAGE, said)

    def turn(self, session_id: str, said: Said) -> Rows:
        """Store a turn in two round trips; give the rows of the past that the model would be shown."""
        seq, past = self.begin(session_id, said.question)
        self.send(finish(session_id, seq, said.answer))
        return past

    def begin(self, session_id: str, question: str) -> tuple[int, Rows]:
        """Store the question, read the past."""
        gate, *_, past = self.send(begin(session_id, question))
        return gate[0][0], past

    def send(self, batch: Batch) -> list[Rows]:
        """Run statements in one round trip."""
        with self.connection.pipeline():
            cursors = [self.connection.execute(sql, params) for sql, params in batch]
        return [cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else [] for cursor in cursors]

    def one(self, sql: str, *params: Any) -> Rows:
        """The rows of one statement."""
        return self.connection.execute(sql, params).fetchall()

    def last(self, session_id: str, runs: int) -> Rows:
        """The messages of the newest runs."""
        return self.one(_LAST, session_id, session_id, runs)

    def header(self, session_id: str) -> Rows:
        return self.one(_HEADER, session_id)

    def rows(self, session_id: str) -> list[Rows]:
        """All of a session, as rows, in one snapshot and one round trip."""
        reading = ("begin isolation level repeatable read read only", ())
        asked: Batch = [(sql, (session_id,)) for sql in (_HEADER, _RUNS, _SAID)]
        return self.send([reading, *asked, ("commit", ())])[1:-1]

    def fork(self, session_id: str, new: str) -> None:
        """Copy a session's rows in one transaction."""
        with self.connection.transaction():
            for table in ("floor_sessions", "floor_runs", "floor_messages"):
                columns = ", ".join(self.columns(table)[1:])
                copied = f"insert into {table} select %s, {columns} from {table} where session_id = %s"
                self.connection.execute(copied, (new, session_id))

    @cache  # noqa: B019 - there is one floor
    def columns(self, table: str) -> list[str]:
        return [column.name for column in self.connection.execute(f"select * from {table} limit 0").description or ()]

    def close(self) -> None:
        self.connection.close()


async def asend(connection: AsyncConnection[Any], batch: Batch) -> list[Rows]:
    """Run statements in one round trip."""
    async with connection.pipeline():
        cursors = [await connection.execute(sql, params) for sql, params in batch]
    return [await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else [] for cursor in cursors]


def begin(session_id: str, question: str) -> Batch:
    """What stores the question and reads the past; the first answer is the run's place, the last is the past."""
    now = time.time_ns() // 1000
    body = encode({"role": "user", "content": question}).decode()
    return [
        (_BEGIN, (now, session_id)),
        (_BEGIN_RUN, (f"{now:036}", len(body), now, session_id)),
        (_BEGIN_LEASE, (_OWNER, _TOKEN, now + 30_000_000, session_id)),
        (_BEGIN_MESSAGE, (body, session_id)),
        (_PAST, (session_id,) * 3),
    ]


def step(session_id: str, seq: int, place: int, text: str) -> Batch:
    """What stores a step."""
    body = encode({"role": "assistant", "content": text}).decode()
    return [
        (_STEP, (session_id,)),
        (_STEP_LEASE, (time.time_ns() // 1000 + 30_000_000, session_id, seq)),
        (_STEP_RUN, (len(body), session_id, session_id, seq)),
        (_MESSAGE, (session_id, seq, place, None, "assistant", body)),
    ]


def finish(session_id: str, seq: int, answer: str) -> Batch:
    """What stores the answer and the end of the run."""
    body = encode({"role": "assistant", "content": answer}).decode()
    return [
        (_FINISH, (5900, 84, session_id)),
        (_FINISH_RUN, (len(body), METRICS, time.time_ns() // 1000, session_id, session_id, seq)),
        (_MESSAGE, (session_id, seq, 1, None, "assistant", body)),
        (_END_LEASE, (session_id, seq)),
    ]


def _done(session_id: str, seq: int, now: int) -> tuple[Any, ...]:
    who = (session_id, seq, f"{seq:036}", None, "agent", None, None, None)
    return (*who, "completed", 1, None, "echo", None, None, METRICS, None, 470, 0, 2 * seq + 1, now, now)


def _messages(said: Said) -> Rows:
    return [
        (0, None, "user", encode({"role": "user", "content": said.question}).decode()),
        (1, None, "assistant", encode({"role": "assistant", "content": said.answer}).decode()),
    ]
