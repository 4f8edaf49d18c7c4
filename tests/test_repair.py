"""A damaged database: what the doctor finds, what is mended of it, and that the talk goes on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from recollect import Agent, EchoModel, Message, RunStatus, SessionCache, SqliteDb
from recollect.doctor import database
from recollect.repair import Change, repair

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}

MENDED: dict[str, tuple[str, str, str]] = {
    "runs counted wrong": ("update recollect_sessions set run_count = 7", "counts", "counts"),
    "messages counted wrong": ("update recollect_sessions set message_count = 0", "counts", "counts"),
    "a place given twice": ("update recollect_sessions set next_seq = 1", "counts", "counts"),
    "older than its runs": ("update recollect_runs set version = 99", "versions", "counts"),
    "summarised beyond its end": ("update recollect_sessions set summarised_through = 99", "versions", "counts"),
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
}

NOT_MENDED: dict[str, tuple[str, str]] = {
    "a result is gone": ("delete from recollect_messages where role = 'tool'", "order"),
    "no JSON": ("update recollect_messages set body = '{' where role = 'tool'", "messages"),
    "a value is no JSON": ("update recollect_values set value = '{'", "values"),
    "no parent": ("update recollect_runs set parent_run_id = 'nobody' where run_id = 'r2'", "members"),
}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDb]:
    """A session with a run that called a tool, and another run."""
    with SqliteDb(tmp_path / "s.db", durability="normal") as made:
        run = made.begin_run("s", [Message("user", "Look")], run_id="r1", prompt=Message("system", "Be brief."))
        made.append_messages(run, [Message("assistant", None, tool_calls=[CALL])])
        made.append_messages(run, [Message("tool", "seen", tool_call_id="c1")])
        made.finish_run(run, [Message("assistant", "I saw.")])
        other = made.begin_run("s", [Message("user", "Thanks")], run_id="r2", state={"k": 1})
        made.finish_run(other, [Message("assistant", "Welcome.")])
        yield made


def damage(db: SqliteDb, sql: str) -> None:
    assert db.db_file is not None
    with closing(sqlite3.connect(db.db_file)) as connection, connection:
        connection.execute(sql)


def problems(db: SqliteDb) -> list[str]:
    return [finding.check for finding in database(db) if finding.status == "problem"]


def said(db: SqliteDb) -> list[str]:
    session = db.get_session("s")
    assert session is not None
    return [message.text for message in session.get_messages(skip_statuses=())]


def content(db: SqliteDb) -> bytes:
    assert db.db_file is not None
    with closing(sqlite3.connect(db.db_file)) as connection:
        return "\n".join(connection.iterdump()).encode()


@pytest.mark.parametrize("fault", MENDED)
def test_what_can_be_mended_is_found_mended_and_told(db: SqliteDb, fault: str) -> None:
    sql, check, told = MENDED[fault]
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


@pytest.mark.parametrize("fault", NOT_MENDED)
def test_what_cannot_be_mended_stays_a_problem_and_stays_as_it_is(db: SqliteDb, fault: str) -> None:
    sql, check = NOT_MENDED[fault]
    damage(db, sql)
    assert check in problems(db)
    list(repair(db))
    assert check in problems(db)


def test_a_database_in_order_is_left_alone(db: SqliteDb) -> None:
    assert problems(db) == []
    before = content(db)
    assert list(repair(db)) == []
    assert content(db) == before


def test_a_run_under_way_is_left_to_its_process(db: SqliteDb) -> None:
    held = db.begin_run("s", [Message("user", "Think")])
    damage(db, "update recollect_sessions set run_count = 99")
    assert [change.what for change in repair(db)] == ["counts"]
    db.finish_run(held, [Message("assistant", "Thought.")])
    assert said(db)[-1] == "Thought."
    assert problems(db) == []


KILLED = """
import os, signal, sys
from recollect import Message, SqliteDb
SqliteDb(sys.argv[1]).begin_run("s", [Message("user", "Think")], run_id="killed")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_was_killed_is_recorded_as_interrupted(db: SqliteDb) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(db.db_file)], check=False)
    assert problems(db) == [], "it reads as interrupted: that is no fault"
    changes = list(repair(db))
    assert Change("s", "run 3", "running", "interrupted") in changes
    run = db.get_run("killed", "s")
    assert run is not None
    assert (run.status, run.finished_at is not None) == (RunStatus.interrupted, True)
    assert list(repair(db)) == []


def test_the_header_that_is_made_has_the_owner_of_its_runs(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "s.db") as db:
        Agent(EchoModel(), db=db, id="helper").run("Hi", session_id="s", user_id="alice")
        damage(db, "delete from recollect_sessions")
        list(repair(db))
        header = db.get_header("s", "alice")
        assert header is not None
        assert (header.user_id, header.agent_id, header.kind) == ("alice", "helper", "agent")
        assert db.get_header("s", "bob") is None
