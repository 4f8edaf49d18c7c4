"""A damaged database: what the doctor finds, what is mended of it, and that the talk goes on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from postgres_kit import postgres_db, postgres_url

from recollect import Agent, EchoModel, Message, PostgresDb, RunStatus, SchemaMismatch, SessionCache, SqliteDb, survey
from recollect.db import migrate, open_db
from recollect.doctor import database
from recollect.port import Tx, reads, writes
from recollect.repair import Change, repair
from recollect.run import RunMetrics
from recollect.store import Store

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}

MENDED: dict[str, tuple[str, str, str]] = {
    "runs counted wrong": ("update recollect_sessions set run_count = 7", "counts", "counts"),
    "messages counted wrong": ("update recollect_sessions set message_count = 0", "counts", "counts"),
    "a place given twice": ("update recollect_sessions set next_seq = 1", "counts", "counts"),
    "older than its runs": ("update recollect_runs set version = 99", "versions", "counts"),
    "summarised beyond its end": ("update recollect_sessions set summarised_through = 99", "versions", "counts"),
    "fewer tokens than none": ("update recollect_sessions set input_tokens = -999", "tokens", "counts"),
    "fewer tokens than its runs": ("update recollect_sessions set output_tokens = 0", "tokens", "counts"),
    "another size": ("update recollect_runs set chars = 1000000 where run_id = 'r2'", "sizes", "size of run 2"),
    "a size below nothing": ("update recollect_runs set chars = -5 where run_id = 'r2'", "sizes", "size of run 2"),
    "found by another name": (
        "update recollect_sessions set name_key = 'other'",
        "headers",
        "what the name is found by",
    ),
    "claimed for ever": (
        "update recollect_sessions set claim_owner = 'o', claim_token = 1, claim_until = 9000000000000000",
        "claims",
        "claim",
    ),
    "an unknown status": ("update recollect_runs set status = 'lost' where run_id = 'r2'", "statuses", "run 2"),
    "no end": ("update recollect_runs set finished_at = null where run_id = 'r2'", "statuses", "end of run 2"),
    "held for nothing": ("insert into recollect_leases values ('s', 2, 'o', 1, 1)", "leases", "lease of run 2"),
    "held for no run": ("insert into recollect_leases values ('s', 9, 'o', 1, 1)", "leases", "lease of run 9"),
    "not held": ("update recollect_runs set status = 'running' where run_id = 'r2'", "runs without lease", "run 2"),
    "no system message": ("delete from recollect_prompts", "system messages", "system message of run 1"),
    "another role": (
        "update recollect_messages set role = 'user' where role = 'tool'",
        "messages",
        "role of message 1.2",
    ),
    "no run": ("delete from recollect_runs where run_id = 'r2'", "messages without run", "run for the messages at 2"),
    "no header": ("delete from recollect_sessions", "rows without session", "header"),
    "left over": (
        "insert into recollect_values values ('gone', 'state', 'k', '1')",
        "rows without session",
        "rows left over from a session that was deleted",
    ),
    "no index": ("drop index recollect_runs_id", "tables and indexes", "index recollect_runs_id"),
    "an index that is not unique": (
        "drop index recollect_runs_id; create index recollect_runs_id on recollect_runs (session_id, run_id)",
        "tables and indexes",
        "index recollect_runs_id",
    ),
    "an index of other columns": (
        "drop index recollect_runs_version; create index recollect_runs_version on recollect_runs (session_id, chars)",
        "tables and indexes",
        "index recollect_runs_version",
    ),
    "an index of other rows": (
        """
        drop index recollect_runs_completed;
        create index recollect_runs_completed on recollect_runs (session_id, run_seq, chars) where status = 'completed'
        """,
        "tables and indexes",
        "index recollect_runs_completed",
    ),
}

# SQLite takes anything in any column.
MENDED_IN_SQLITE: dict[str, tuple[str, str, str]] = {
    "a place that is no number": ("update recollect_sessions set next_seq = 'abc'", "columns", "counts"),
    "a version that is no number": ("update recollect_sessions set version = 'abc'", "columns", "counts"),
    "an epoch that is no number": ("update recollect_sessions set epoch = 'abc'", "columns", "counts"),
}

NOT_MENDED: dict[str, tuple[str, str]] = {
    "a result is gone": ("delete from recollect_messages where role = 'tool'", "order"),
    "no JSON": ("update recollect_messages set body = '{' where role = 'tool'", "messages"),
    "a value is no JSON": ("update recollect_values set value = '{'", "values"),
    "a value of no kind": ("update recollect_values set kind = 'other'", "values"),
    "a call's message is empty": (
        """update recollect_messages set body = '{"role":"assistant","content":"x"}' where run_seq = 1 and idx = 1""",
        "tool results",
    ),
    "tool calls that are no list": (
        """update recollect_messages set body = '{"role":"assistant","tool_calls": 5}' where run_seq = 1 and idx = 1""",
        "tool call lists",
    ),
    "tool calls that are no objects": (
        """update recollect_messages set body = '{"role":"assistant","tool_calls":["x"]}' where idx = 1""",
        "tool call lists",
    ),
    "a role that nobody has": (
        """update recollect_messages set role = 'robot', body = '{"role":"robot"}' where run_seq = 2 and idx = 0""",
        "messages",
    ),
    "metadata of a run that is no JSON": ("update recollect_runs set metadata = '{' where run_id = 'r2'", "runs"),
    "metadata of a run that is no object": ("update recollect_runs set metadata = '[]' where run_id = 'r2'", "runs"),
    "metrics that are no JSON": ("update recollect_runs set metrics = '{' where run_id = 'r2'", "runs"),
    "metrics that are no list": ("update recollect_runs set metrics = '{}' where run_id = 'r2'", "runs"),
    "metrics of other types": ("""update recollect_runs set metrics = '["x"]' where run_id = 'r2'""", "runs"),
    "no attempt": ("update recollect_runs set attempt = 0 where run_id = 'r2'", "runs"),
    "an input beyond its end": ("update recollect_runs set input = 50 where run_id = 'r2'", "runs"),
    "a system message that is no JSON": ("update recollect_prompts set body = '{'", "system messages"),
    "another system message": (
        """update recollect_prompts set body = '{"role":"system","content":"Be rude."}'""",
        "system messages",
    ),
    "a time of no calendar": (
        "update recollect_runs set created_at = 9223372036854775807 where run_id = 'r2'",
        "times",
    ),
    "an unknown kind": ("update recollect_sessions set kind = 'other'", "headers"),
    "an unknown source of the name": ("update recollect_sessions set name_source = 'other'", "headers"),
    "its own parent": ("update recollect_runs set parent_run_id = run_id where run_id = 'r2'", "members"),
    "a run to replace itself": ("update recollect_runs set replaces = run_id where run_id = 'r2'", "replacements"),
    "expired before it was used": ("update recollect_sessions set expire_after = 0", "headers"),
    "no parent": ("update recollect_runs set parent_run_id = 'nobody' where run_id = 'r2'", "members"),
}


NOT_MENDED_IN_SQLITE: dict[str, tuple[str, str]] = {
    "a time that is no number": ("update recollect_sessions set created_at = 'yesterday'", "columns"),
    "a text that is no text": ("update recollect_messages set body = x'00ff' where role = 'tool'", "columns"),
    "a text of no encoding": (
        "update recollect_messages set body = cast(x'ff' as text) where role = 'tool'",
        "messages",
    ),
}

OPENED: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {
    "sqlite": lambda folder: SqliteDb(folder / "s.db", durability="normal"),
    "postgres": lambda folder: postgres_db(),
}


@pytest.fixture(params=OPENED)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A session with a run that called a tool, and another run."""
    with OPENED[request.param](tmp_path) as made:
        run = made.begin_run("s", [Message("user", "Look")], run_id="r1", prompt=Message("system", "Be brief."))
        made.append_messages(run, [Message("assistant", None, tool_calls=[CALL])])
        made.append_messages(run, [Message("tool", "seen", tool_call_id="c1")])
        made.finish_run(run, [Message("assistant", "I saw.")], metrics=RunMetrics(input_tokens=7, output_tokens=5))
        other = made.begin_run("s", [Message("user", "Thanks")], run_id="r2", state={"k": 1})
        made.finish_run(other, [Message("assistant", "Welcome.")])
        yield made


@writes
async def _change(tx: Tx, sql: str) -> None:
    for statement in sql.split(";"):
        await tx.execute((statement, {}))


def test_what_can_be_found_in_vain_is_made_anew(db: Store) -> None:
    wanted = len(db.search("look"))
    for session_id in ("s", "gone"):
        columns = "session_id, run_seq, idx, part, at, words, {one}keys{/one}{many}terms{/many}"
        sql = f"insert into recollect_documents ({columns})"
        db.transact(_change, f"{sql} values ('{session_id}', 9, 0, 0, 0, ' look ', 'look')")
    assert problems(db) == ["rows without session", "search index"]
    told = {(change.session_id, change.what) for change in repair(db)}
    assert told == {("s", "search index"), ("gone", "rows left over from a session that was deleted")}
    assert problems(db) == []
    assert len(db.search("look")) == wanted


def damage(db: Store, sql: str) -> None:
    """Do what the library would not; to a file from outside, as somebody with the SQLite shell."""
    if not isinstance(db, SqliteDb):
        db.transact(_change, sql)
        return
    assert db.db_file is not None
    with closing(sqlite3.connect(db.db_file)) as connection, connection:
        connection.executescript(sql)


def problems(db: Store) -> list[str]:
    return [finding.check for finding in database(db) if finding.status == "problem"]


def said(db: Store) -> list[str]:
    session = db.get_session("s")
    assert session is not None
    return [message.text for message in session.get_messages(skip_statuses=())]


@reads
async def _rows(tx: Tx) -> list[Any]:
    tables = ("sessions", "values", "runs", "messages", "prompts", "leases")
    return await tx.execute(*((f"select * from recollect_{table} order by 1, 2, 3", {}) for table in tables))


def content(db: Store) -> Any:
    """All that is stored, as it is; of a file that may hold what is no text, every byte."""
    if not isinstance(db, SqliteDb):
        return db.transact(_rows)
    assert db.db_file is not None
    with closing(sqlite3.connect(db.db_file)) as connection:
        return "\n".join(connection.iterdump()).encode()


def cases(everywhere: dict[str, Any], in_sqlite: dict[str, Any]) -> list[tuple[str, str]]:
    """Each fault with each database; some of them only SQLite lets happen."""
    return [*((db, fault) for db in OPENED for fault in everywhere), *(("sqlite", fault) for fault in in_sqlite)]


@pytest.mark.parametrize(("db", "fault"), cases(MENDED, MENDED_IN_SQLITE), indirect=["db"])
def test_what_can_be_mended_is_found_mended_and_told(db: Store, fault: str) -> None:
    sql, check, told = (MENDED | MENDED_IN_SQLITE)[fault]
    everything = said(db)
    cached = SessionCache().over(db)
    cached.get_session("s")
    damage(db, sql)
    assert check in problems(db)
    damaged = content(db)
    planned = list(repair(db, dry_run=True))
    assert content(db) == damaged, "a dry run changes nothing"
    changes = list(repair(db))
    assert changes == planned
    assert told in [change.what for change in changes]
    assert problems(db) == []
    assert list(repair(db)) == []
    kept = everything[1:] if fault == "no system message" else everything
    assert said(db) == kept, "nothing that was said is lost"
    again, plain = cached.get_session("s"), db.get_session("s")
    assert again is not None
    assert plain is not None
    assert again.to_dict() == plain.to_dict()
    run = Agent(EchoModel(), db=db).run("And now?", session_id="s")
    assert run.status is RunStatus.completed
    assert problems(db) == []


@pytest.mark.parametrize(("db", "fault"), cases(NOT_MENDED, NOT_MENDED_IN_SQLITE), indirect=["db"])
def test_what_cannot_be_mended_stays_a_problem_and_stays_as_it_is(db: Store, fault: str) -> None:
    sql, check = (NOT_MENDED | NOT_MENDED_IN_SQLITE)[fault]
    damage(db, sql)
    assert check in problems(db)
    list(repair(db))
    assert check in problems(db)


def test_a_database_in_order_is_left_alone(db: Store) -> None:
    assert problems(db) == []
    before = content(db)
    assert list(repair(db)) == []
    assert content(db) == before


def test_a_run_under_way_is_left_to_its_process(db: Store) -> None:
    held = db.begin_run("s", [Message("user", "Think")])
    damage(db, "update recollect_sessions set run_count = 99")
    assert [change.what for change in repair(db)] == ["counts"]
    db.finish_run(held, [Message("assistant", "Thought.")])
    assert said(db)[-1] == "Thought."
    assert problems(db) == []


DUPLICATES = {
    "a message twice": (
        "recollect_messages_place",
        "insert into recollect_messages select * from recollect_messages where run_seq = 1 and idx = 0",
    ),
    "a run twice": ("recollect_runs_id", "update recollect_runs set run_id = 'r1'"),
}


@pytest.mark.parametrize("what", DUPLICATES)
def test_what_is_there_twice_is_told_and_left_and_its_index_made_when_it_is_gone(db: Store, what: str) -> None:
    index, sql = DUPLICATES[what]
    damage(db, f"drop index {index}; {sql}")
    assert {"duplicates", "tables and indexes"} <= set(problems(db))
    said_before = said(db)
    changes = [change.what for change in repair(db)]
    assert f"index {index}" not in changes
    assert {"duplicates", "tables and indexes"} <= set(problems(db))
    assert said(db) == said_before
    damage(
        db,
        "delete from recollect_messages where run_seq = 1 and idx = 0; update recollect_runs set run_id = 'r2' "
        "where run_seq = 2",
    )
    assert f"index {index}" in [change.what for change in repair(db)]
    assert not {"duplicates", "tables and indexes"} & set(problems(db))


def test_a_call_without_a_result_is_found_though_its_id_is_used_again(db: Store) -> None:
    run = db.begin_run("s", [Message("user", "Again")])
    db.append_messages(run, [Message("assistant", None, tool_calls=[CALL])])
    db.append_messages(run, [Message("tool", "seen", tool_call_id="c1")])
    db.finish_run(run, [Message("assistant", "I saw.")])
    assert problems(db) == []
    damage(db, "delete from recollect_messages where run_seq = 1 and role = 'tool'")
    damage(db, "update recollect_messages set idx = 2 where run_seq = 1 and idx = 3")
    assert "tool calls" in problems(db)


@pytest.mark.parametrize("gone", ["table recollect_leases", "column recollect_sessions.aux_tokens"])
def test_a_table_or_a_column_that_is_gone_is_told_and_not_made_up(db: Store, gone: str) -> None:
    kind, name = gone.split(" ")
    table, _, column = name.partition(".")
    damage(db, f"drop table {name}" if kind == "table" else f"alter table {table} drop column {column}")
    assert problems(db) == ["tables and indexes"]
    with pytest.raises(SchemaMismatch, match=f"{gone} is missing"):
        list(repair(db))


def test_tables_in_a_schema_of_their_own_are_mended_there() -> None:
    with postgres_url() as url, PostgresDb(url, schema="Our own") as db:
        run = db.begin_run("s", [Message("user", "Hi")])
        db.finish_run(run, [Message("assistant", "Hello")])
        damage(db, 'drop index "Our own".recollect_runs_id; create index recollect_runs_id on recollect_runs (run_id)')
        damage(db, 'drop index "Our own".recollect_runs_version')
        assert problems(db) == ["tables and indexes"]
        told = ["index recollect_runs_id", "index recollect_runs_version"]
        assert [change.what for change in repair(db)] == told
        assert problems(db) == []


@contextmanager
def _file(folder: Path) -> Iterator[str]:
    yield str(folder / "s.db")


ADDRESSES = {"sqlite": _file, "postgres": lambda _: postgres_url()}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_tables_without_the_record_of_their_schema_are_not_taken_for_nothing(tmp_path: Path, kind: str) -> None:
    with ADDRESSES[kind](tmp_path) as address:
        with open_db(address) as db:
            db.create_session("s")
            db.transact(_change, "delete from recollect_schema")
        with open_db(address) as db:
            [found] = [finding for finding in database(db) if finding.status == "problem"]
            assert (found.check, found.detail) == ("schema", migrate.NO_RECORD)
            with pytest.raises(SchemaMismatch, match=migrate.NO_RECORD):
                db.get_header("s")
            with pytest.raises(SchemaMismatch, match=migrate.NO_RECORD):
                list(repair(db))


def test_a_lease_that_would_never_run_out_is_cut_to_the_usual(db: Store) -> None:
    held = db.begin_run("s", [Message("user", "Think")])
    damage(db, "update recollect_leases set until = 9000000000000000, owner = 'elsewhere:1:1'")
    assert "leases" in problems(db)
    assert [change.what for change in repair(db)] == ["lease of run 3"]
    assert problems(db) == []
    db.finish_run(held, [Message("assistant", "Thought.")])


def test_sessions_of_any_number_and_size_are_all_looked_at(db: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SESSIONS", 2)
    monkeypatch.setattr(survey, "PAGE", 3)
    for number in range(5):
        for _ in range(3):
            run = db.begin_run(f"x{number}", [Message("user", "Hi"), Message("user", "there")])
            db.finish_run(run, [Message("assistant", "Hello")])
    assert problems(db) == []
    told = next(finding for finding in database(db) if finding.check == "content")
    assert told.detail == "sessions: 6, runs: 17, messages: 51"
    damage(db, "update recollect_runs set chars = 1 where session_id = 'x4' and run_seq = 3")
    found = next(finding for finding in database(db) if finding.check == "sizes")
    assert found.examples == ("x4 3",)


KILLED = """
import os, signal, sys
from recollect import Message, SqliteDb
SqliteDb(sys.argv[1]).begin_run("s", [Message("user", "Think")], run_id="killed")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_was_killed_is_recorded_as_interrupted(tmp_path: Path) -> None:
    db = SqliteDb(tmp_path / "s.db")
    subprocess.run([sys.executable, "-c", KILLED, str(db.db_file)], check=False)
    assert problems(db) == [], "it reads as interrupted: that is no fault"
    changes = list(repair(db))
    assert Change("s", "run 1", "running", "interrupted") in changes
    run = db.get_run("killed", "s")
    assert run is not None
    assert (run.status, run.finished_at is not None) == (RunStatus.interrupted, True)
    assert list(repair(db)) == []
    db.close()


def test_the_header_that_is_made_has_the_owner_of_its_runs(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "s.db") as db:
        Agent(EchoModel(), db=db, id="helper").run("Hi", session_id="s", user_id="alice")
        damage(db, "delete from recollect_sessions")
        list(repair(db))
        header = db.get_header("s", "alice")
        assert header is not None
        assert (header.user_id, header.agent_id, header.kind) == ("alice", "helper", "agent")
        assert db.get_header("s", "bob") is None
