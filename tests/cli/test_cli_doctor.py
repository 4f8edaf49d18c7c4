"""What the doctor finds, and what it leaves alone; and the schema."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from cli_kit import Command, spoil, tool_turn, turn

from recollect import doctor
from recollect.db.sqlite import SqliteDb
from recollect.message import Message
from recollect.run import RunStatus

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


class Yesterday:
    """A clock by which every lease has run out."""

    def now(self) -> int:
        return time.time_ns() // 1000 - 86_400_000_000


@pytest.fixture
def filled(recollect: Command, tmp_path: Path) -> Command:
    with recollect.store() as db:
        tool_turn(db, "s")
        turn(db, "s")
        turn(db, "t", user_id="alice")
    return recollect


def findings(recollect: Command, code: int = 0) -> dict[str, dict[str, object]]:
    found = json.loads(recollect("doctor", "--json", code=code).stdout)
    return {finding["check"]: finding for finding in found}


def problems(recollect: Command, code: int = 1) -> list[str]:
    return [check for check, finding in findings(recollect, code).items() if finding["status"] == "problem"]


def test_a_database_in_order_is_healthy(filled: Command) -> None:
    lines = filled("doctor").stdout.splitlines()
    table = {line[:20].strip(): line[20:].strip().split(maxsplit=1) for line in lines}
    assert table["content"] == ["ok", "sessions: 2, runs: 3, messages: 8"]
    assert problems(filled, code=0) == []


def test_versions_and_extras_are_told(filled: Command) -> None:
    found = findings(filled)
    assert found["Python"]["status"] == found["SQLite library"]["status"] == "ok"
    assert str(found["extra cli"]["detail"]).startswith("typer ")


@pytest.mark.parametrize(
    ("sql", "check"),
    [
        ("update recollect_sessions set run_count = 7", "counts"),
        ("update recollect_sessions set completed_count = 0", "counts"),
        ("update recollect_sessions set message_count = message_count + 1 where session_id = 't'", "counts"),
        ("update recollect_sessions set next_seq = 1", "counts"),
        ("update recollect_messages set idx = idx + 5 where idx > 0", "order"),
        ("delete from recollect_messages where role = 'tool'", "order"),
        ("update recollect_messages set body = replace(body, 'c1', 'c2') where role = 'tool'", "tool calls"),
        ("update recollect_messages set body = replace(body, 'c1', 'c2') where role = 'tool'", "tool results"),
        ("delete from recollect_prompts", "system messages"),
        ("delete from recollect_runs where session_id = 't'", "messages without run"),
        ("delete from recollect_sessions where session_id = 't'", "rows without session"),
    ],
)
def test_what_was_lost_is_found(filled: Command, sql: str, check: str) -> None:
    spoil(filled, sql)
    assert check in problems(filled)
    assert findings(filled, code=1)[check]["examples"]


def test_places_are_named_and_the_rest_are_counted(filled: Command) -> None:
    with filled.store() as db:
        for number in range(10):
            turn(db, f"x{number}")
    spoil(filled, "update recollect_sessions set run_count = 7")
    found = findings(filled, code=1)["counts"]
    assert found["detail"] == "12 sessions whose header counts otherwise than their rows"
    assert found["examples"] == ["s", "t", "x0"]
    assert "at x0" in filled("doctor", code=1).stdout


def test_a_place_kept_for_a_result_that_never_came_is_in_order(filled: Command) -> None:
    with filled.store() as db:
        run = db.begin_run("s", [Message("user", "Look")])
        other = CALL | {"id": "c2"}
        db.append_messages(run, [Message("assistant", None, tool_calls=[CALL, other])])
        db.append_messages(run, [Message("tool", "seen", tool_call_id="c2")], at=3)
        db.finish_run(run, [Message("assistant", "I saw")], at=4, status=RunStatus.cancelled)
    assert problems(filled, code=0) == []


@pytest.mark.of_a_file
def test_a_run_whose_process_is_gone_is_noted(filled: Command) -> None:
    with SqliteDb(filled.db_file, clock=Yesterday()) as db:
        db.begin_run("s", [Message("user", "Hello?")])
    with filled.store() as db:
        db.begin_run("t", [Message("user", "Wait")], user_id="alice")
        found = findings(filled)
    assert found["broken off"]["status"] == found["under way"]["status"] == "note"
    assert found["broken off"]["examples"] == ["s 3"]
    assert found["under way"]["examples"] == ["t 2"]


def test_calls_that_were_imported_without_a_result_are_noted(recollect: Command) -> None:
    messages = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "user", "content": "Well?"},
        {"role": "tool", "tool_call_id": "other", "content": "?"},
    ]
    line = json.dumps({"conversation_id": "c", "messages": messages})
    recollect("sessions", "import", "-", said=line)
    found = findings(recollect)
    assert found["imported calls"]["status"] == found["imported results"]["status"] == "note"


def test_a_call_may_be_answered_in_the_next_run(recollect: Command) -> None:
    with recollect.store() as db:
        run = db.begin_run("s", [Message("user", "Look")])
        db.finish_run(run, [Message("assistant", None, tool_calls=[CALL])])
        run = db.begin_run("s", [Message("tool", "seen", tool_call_id="c1")])
        db.finish_run(run, [Message("assistant", "I saw")])
    assert problems(recollect, code=0) == []


@pytest.mark.of_a_file
def test_a_file_that_is_no_database_is_a_problem(recollect: Command) -> None:
    recollect.db_file.write_text("hello" * 1000)
    assert problems(recollect) == ["readable"]
    assert recollect.db_file.read_text() == "hello" * 1000


@pytest.mark.of_a_file
def test_damage_is_found(filled: Command) -> None:
    with closing(sqlite3.connect(filled.db_file)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
        connection.execute("pragma journal_mode = delete")
    content = bytearray(filled.db_file.read_bytes())
    content[-4096 * 3 :] = b"\xff" * 4096 * 3
    filled.db_file.write_bytes(content)
    assert set(problems(filled)) & {"integrity", "readable"}


@pytest.mark.of_a_file
def test_a_file_that_is_not_there_is_a_problem_and_is_not_made(recollect: Command) -> None:
    assert problems(recollect) == ["database"]
    assert not recollect.db_file.exists()


@pytest.mark.of_a_file
def test_a_file_of_others_is_a_problem_and_stays_as_it_is(recollect: Command) -> None:
    with closing(sqlite3.connect(recollect.db_file)) as connection:
        connection.execute("create table theirs (x)")
    before = recollect.db_file.read_bytes()
    assert problems(recollect) == ["schema"]
    assert recollect.db_file.read_bytes() == before


@pytest.mark.of_a_file
def test_nothing_is_changed_by_looking(filled: Command) -> None:
    with closing(sqlite3.connect(filled.db_file)) as connection:
        connection.execute("pragma journal_mode = delete")
    before = filled.db_file.read_bytes()
    assert findings(filled)["durability"]["status"] == "note"
    assert filled.db_file.read_bytes() == before


def test_a_database_of_a_newer_program_is_a_problem(filled: Command) -> None:
    spoil(filled, "insert into recollect_schema values (99, 99, 0)")
    assert problems(filled) == ["schema"]
    assert "upgrade recollect" in str(findings(filled, code=1)["schema"]["detail"])
    assert "99" in filled("sessions", "list", code=1).stderr


def test_a_database_in_memory_is_examined_too() -> None:
    with SqliteDb() as db:
        turn(db, "s")
        found = list(doctor.database(db))
    assert found[0].detail == "sessions: 1, runs: 1, messages: 2"
    assert doctor.healthy(found)


@pytest.mark.of_a_file
def test_migrate_makes_a_database_and_then_has_nothing_to_do(recollect: Command) -> None:
    assert "would go to schema 4" in recollect("migrate", "--dry-run").stdout
    assert not recollect.db_file.exists()
    said = recollect("migrate").stdout
    assert (
        said == f"{recollect.db_file} went to schema 4:\n"
        "  0001 sessions\n  0002 teams_and_retention\n  0003 search\n  0004 names\n"
    )
    assert "there is nothing to do" in recollect("migrate").stdout
    assert problems(recollect, code=0) == []


@pytest.mark.of_a_file
def test_migrate_refuses_what_is_no_database(recollect: Command) -> None:
    recollect.db_file.write_text("hello" * 1000)
    assert "cannot be read as a database" in recollect("migrate", code=1).stderr


def test_repair_prints_each_change_and_checks_again(filled: Command) -> None:
    spoil(filled, "update recollect_sessions set run_count = 7 where session_id = 't'")
    planned = filled("doctor", "--repair", "--dry-run", code=1).stdout
    assert "would mend session t: counts: 7 runs, 1 completed, 2 messages" in planned
    assert "counts" in problems(filled)
    done = filled("doctor", "--repair").stdout
    assert "mended session t: counts: 7 runs" in done
    assert "-> 1 runs, 1 completed, 2 messages" in done
    assert problems(filled, code=0) == []
    assert "nothing was mended" in filled("doctor", "--repair").stdout


def test_repair_tells_scripts_what_it_changed_and_what_is_left(filled: Command) -> None:
    spoil(filled, "update recollect_sessions set run_count = 7 where session_id = 't'")
    spoil(filled, "delete from recollect_messages where role = 'tool'")
    told = json.loads(filled("doctor", "--repair", "--json", code=1).stdout)
    assert [change["what"] for change in told["changes"]] == ["size of run 1", "counts"]
    assert "order" in [finding["check"] for finding in told["findings"] if finding["status"] == "problem"]


def test_a_dry_run_without_repair_is_refused(filled: Command) -> None:
    assert "--repair" in filled("doctor", "--dry-run", code=2).stderr


@pytest.mark.of_a_file
def test_repair_makes_no_database_where_there_is_none(recollect: Command) -> None:
    recollect("doctor", "--repair", code=3)
    assert not recollect.db_file.exists()
