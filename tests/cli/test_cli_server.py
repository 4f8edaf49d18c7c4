"""The command on a Postgres server: what the doctor says of it, and the schema, whoever brings it up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres_server
import psycopg
import pytest
from cli_kit import Command, spoil, turn
from postgres_kit import empty_url, postgres_url

from recollect import PostgresDb, SchemaMismatch
from recollect.db import migrate
from recollect.db.migrate import Step
from recollect.db.postgres import distribute, schema
from recollect.db.tables import expected


@pytest.fixture
def server() -> Iterator[Command]:
    """The command on a database with empty tables."""
    with postgres_url() as url:
        yield Command(url)


@pytest.fixture
def empty() -> Iterator[Command]:
    """The command on a database without tables."""
    with empty_url() as url:
        yield Command(url)


def findings(command: Command, code: int = 0) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in json.loads(command("doctor", "--json", code=code).stdout)}


def problems(command: Command, code: int = 1) -> list[str]:
    return [check for check, finding in findings(command, code).items() if finding["status"] == "problem"]


def query(command: Command, sql: str) -> list[Any]:
    with psycopg.connect(command.db, autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def tables(command: Command) -> set[str]:
    return {name for (name,) in query(command, "select tablename from pg_tables where schemaname = 'public'")}


def test_the_doctor_tells_of_the_server_and_the_schema(server: Command) -> None:
    with server.store() as db:
        turn(db, "s")
    found = findings(server)
    [[version]] = query(server, "show server_version")
    assert found["database"]["detail"].endswith(f"Postgres {version}")
    assert found["encoding"] == {"check": "encoding", "status": "ok", "detail": "UTF8", "examples": []}
    assert found["schema"]["detail"] == "3, the newest"
    assert found["content"]["detail"] == "sessions: 1, runs: 1, messages: 2"
    assert "replica" not in found


def test_the_doctor_makes_no_tables_where_there_are_none(empty: Command) -> None:
    assert problems(empty) == ["schema"]
    assert tables(empty) == set()


def test_a_server_that_is_away_is_a_finding_and_not_a_traceback(tmp_path: Path) -> None:
    away = Command("postgresql://nobody@127.0.0.1:1/nowhere")
    [found] = [finding for finding in findings(away, code=1).values() if finding["status"] == "problem"]
    assert found["check"] == "reachable"
    assert "cannot be reached" in found["detail"]


@pytest.mark.parametrize(
    "args",
    [("sessions", "list"), ("sessions", "show", "x"), ("doctor", "--repair"), ("migrate",), ("chat", "Hello")],
)
def test_a_command_on_a_server_that_is_away_says_so_in_a_line(args: tuple[str, ...]) -> None:
    away = Command("postgresql://nobody:secret@127.0.0.1:1/nowhere")
    told = away(*args, code=1).stderr.strip()
    assert "postgresql://nobody@127.0.0.1:1/nowhere cannot be reached" in told
    assert "secret" not in told
    assert len(told.splitlines()) <= 2


@pytest.mark.parametrize("args", [("sessions", "list"), ("sessions", "export"), ("doctor", "--repair")])
def test_reading_makes_no_tables_where_there_are_none(empty: Command, args: tuple[str, ...]) -> None:
    assert "there are no sessions in postgresql://" in empty(*args, code=3).stderr
    assert tables(empty) == set()


def test_a_database_of_another_encoding_is_a_problem(server: Command) -> None:
    found = postgres_server.server()
    name = found.new_name()
    query(server, f"create database {name} template template0 encoding 'LATIN1' locale 'C'")
    try:
        assert problems(Command(found.dsn(name))) == ["encoding"]
    finally:
        found.discard(name)


def test_a_replica_is_noted_and_its_content_checked(server: Command) -> None:
    primary = postgres_server.server()
    if not isinstance(primary, postgres_server.PostgresServer):
        pytest.skip("the server is somebody else's")
    with server.store() as db:
        turn(db, "s")
    [[name]] = query(server, "select current_database()")
    with primary.replica() as replica:
        replica.catch_up()
        found = findings(Command(replica.dsn(name)))
        assert found["replica"]["status"] == "note"
        assert found["content"]["detail"] == "sessions: 1, runs: 1, messages: 2"


def test_migrate_makes_the_tables_and_then_has_nothing_to_do(empty: Command) -> None:
    with empty.store() as db:
        where = db.address
    steps = "  0001 sessions\n  0002 teams_and_retention\n  0003 search\n"
    assert empty("migrate", "--dry-run").stdout == f"{where} would go to schema 3:\n{steps}"
    assert tables(empty) == set()
    assert empty("migrate").stdout == f"{where} went to schema 3:\n{steps}"
    assert empty("migrate").stdout == f"{where} has schema 3; there is nothing to do\n"
    assert problems(empty, code=0) == []


USE = "import sys; from recollect import Agent, EchoModel, PostgresDb; "
USE += "Agent(EchoModel(), db=PostgresDb(sys.argv[1])).run('Hi', session_id=sys.argv[2])"


def test_any_number_may_migrate_and_work_at_the_same_moment(empty: Command) -> None:
    migrating = [empty.process("migrate") for _ in range(8)]
    working = [
        subprocess.Popen([sys.executable, "-c", USE, empty.db, f"s{number}"], env=empty.environment())
        for number in range(8)
    ]
    told = [process.communicate(timeout=120) for process in migrating]
    assert [process.returncode for process in migrating] == [0] * 8, told
    assert [process.wait(120) for process in working] == [0] * 8
    for step in ("0001", "0002", "0003"):
        took = sum(step in said for said, _ in told)
        assert took <= 1, "each step is taken once, and told by the one who took it"
    assert query(empty, "select schema from recollect_schema order by schema") == [(1,), (2,), (3,)]
    assert findings(empty)["content"]["detail"] == "sessions: 8, runs: 8, messages: 16"


def test_a_database_of_a_newer_program_says_what_to_do(server: Command) -> None:
    query(server, "insert into recollect_schema values (99, 99, 0)")
    for args in (("sessions", "list"), ("migrate",), ("chat", "Hi")):
        assert "needs a program that knows schema 99" in server(*args, code=1).stderr
        assert "Upgrade recollect" in server(*args, code=1).stderr
    assert problems(server) == ["schema"]


def test_a_newer_schema_that_this_program_may_work_with_is_no_fault(server: Command) -> None:
    query(server, "insert into recollect_schema values (99, 1, 0)")
    server("chat", "Hi")
    assert findings(server)["schema"]["detail"] == "99, from a newer program"
    assert "has schema 99; there is nothing to do" in server("migrate").stdout


def _with_one_more_step(dialect: str) -> tuple[Step, ...]:
    return (*_STEPS, Step(4, "notes", 3, "alter table recollect_sessions add column note text"))


_STEPS = migrate.steps("postgres")


def test_a_new_release_works_on_the_previous_schema_until_it_is_migrated(
    server: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "steps", _with_one_more_step)
    server("chat", "Hi")
    assert findings(server)["schema"]["detail"] == "3 of 4; it works, and is brought there by: recollect migrate"
    assert "would go from schema 3 to 4:\n  0004 notes" in server("migrate", "--dry-run").stdout
    assert query(server, "select max(schema) from recollect_schema") == [(3,)]
    assert "went from schema 3 to 4:\n  0004 notes" in server("migrate").stdout
    server("chat", "Hi again")
    monkeypatch.undo()
    server("chat", "And the release before goes on")
    assert query(server, "select count(*) from recollect_runs") == [(3,)]


def test_a_new_release_that_needs_its_schema_says_how_to_get_it(
    server: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "steps", _with_one_more_step)
    monkeypatch.setattr(schema, "NEEDED", 4)
    with PostgresDb(server.db) as db, pytest.raises(SchemaMismatch, match="run: recollect migrate --db URL"):
        db.get_header("s")
    server("migrate")
    server("chat", "Hi")


def test_the_calls_that_distribute_are_for_every_table_with_the_id_and_that_of_sessions_is_first() -> None:
    calls = distribute.calls()
    assert calls[0] == "select create_distributed_table('recollect_sessions', 'session_id', colocate_with => 'none')"
    assert list(calls[1:]) == [
        f"select create_distributed_table('recollect_{table}', 'session_id', colocate_with => 'recollect_sessions')"
        for table in ("documents", "indexed", "leases", "messages", "prompts", "runs", "values")
    ]
    assert {call.split("'")[1] for call in calls} == set(expected("postgres").tables)
    assert distribute.calls({"recollect_sessions", "recollect_runs", "recollect_values"}) == calls[1:6]


def test_what_is_missing_to_distribute_is_said_and_nothing_is_done(empty: Command) -> None:
    for args in (("migrate", "--distribute", "citus"), ("migrate", "--distribute", "citus", "--dry-run")):
        result = empty(*args, code=1)
        assert "the extension citus is not installed on this server" in result.stderr
        assert result.stdout == ""
    assert tables(empty) == set()


STAND_IN = """
set allow_system_table_mods = on;
insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
values (987654, 'citus', 10, 11, false, '13.0');
create table pg_dist_partition (logicalrelid regclass, partmethod "char", beside text);
create function create_distributed_table(t regclass, c text, colocate_with text) returns void language sql
as $$ insert into public.pg_dist_partition select t, 'h', colocate_with $$;
"""
"""As much of the extension as the calls need: it writes down what it was asked."""


def test_tables_are_distributed_once_and_only_what_was_done_is_told(server: Command) -> None:
    query(server, STAND_IN)
    calls = [f"  {call}" for call in distribute.calls()]
    planned = server("migrate", "--distribute", "citus", "--dry-run").stdout.splitlines()
    assert planned[1:] == ["would distribute the tables:", *calls]
    assert query(server, "select count(*) from pg_dist_partition") == [(0,)]
    done = server("migrate", "--distribute", "citus").stdout.splitlines()
    assert done[1:] == ["distributed the tables:", *calls]
    found = query(server, "select logicalrelid::text, beside from pg_dist_partition order by 2, 1")
    assert found[0] == ("recollect_sessions", "none")
    assert len(found) == len(calls)
    assert "every table is distributed already" in server("migrate", "--distribute", "citus").stdout


def test_tables_are_all_distributed_or_none(server: Command) -> None:
    query(server, STAND_IN)
    spoil(server, "alter table pg_dist_partition add check (logicalrelid <> 'recollect_runs'::regclass)")
    result = server("migrate", "--distribute", "citus", code=1)
    assert "distributed the tables" not in result.stdout
    assert query(server, "select count(*) from pg_dist_partition") == [(0,)]


@pytest.mark.of_a_file
def test_a_file_cannot_be_distributed(recollect: Command) -> None:
    assert "--db postgresql://" in recollect("migrate", "--distribute", "citus", code=2).stderr
