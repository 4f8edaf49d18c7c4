"""Sessions come in from databases that the real Agno has written."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agno_kit
import psycopg
import pytest
from agno_kit import SOURCES, Source
from cli_kit import Command, rows

from recollect.message import Message
from recollect.run import RunOutput, TeamRunOutput
from recollect.session import AgentSession, TeamSession

FIRST = "2.0-sqlite"


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    """A database of each release on each kind of database."""
    with agno_kit.source(request.param, tmp_path) as found:
        yield found


@pytest.fixture(params=["2-sqlite", "3-sqlite"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    """A file of each release."""
    with agno_kit.source(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def third(tmp_path: Path) -> Iterator[Source]:
    """A file of release 3."""
    with agno_kit.source("3-sqlite", tmp_path) as found:
        yield found


@pytest.fixture
def here(tmp_path: Path) -> Command:
    """A target in a file; what a source is like does not depend on where it goes."""
    return Command(tmp_path / "here.db")


def bring(command: Command, source: Source, *options: str, code: int = 0) -> dict[str, Any]:
    """Import, and give the report."""
    done = command("sessions", "import", "--from", "agno", source.address, "--json", *options, code=code)
    report: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return report


def change(source: Source, *statements: str) -> None:
    """Do something to Agno's tables."""
    if "://" in source.address:
        with psycopg.connect(source.address) as server:
            server.execute("set search_path to ai")
            for statement in statements:
                server.execute(statement.encode())
        return
    with sqlite3.connect(source.address) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def multiply(file: Source, times: int, *, text: str = "") -> None:
    """Make many sessions of the one called media."""
    numbers = f"with recursive n(i) as (values (1) union all select i + 1 from n where i < {times})"
    with sqlite3.connect(file.address) as connection:
        columns = [name for _, name, *_ in connection.execute("pragma table_info(agno_sessions)")]
        others = ", ".join(name for name in columns if name != "session_id")
        connection.execute(
            f"insert into agno_sessions (session_id, {others}) {numbers} "
            f"select 'media-' || i, {others} from agno_sessions, n where session_id = 'media'"
        )
        if file.release == "3":
            connection.execute(
                f"""
                insert into agno_runs (run_id, session_id, run_type, agent_id, status, run_index, run_data, created_at)
                {numbers} select run_id || i, 'media-' || i, run_type, agent_id, status, run_index,
                json_set(run_data, '$.messages[0].content', '{text}' || i), created_at
                from agno_runs, n where session_id = 'media'
                """
            )
    connection.close()


def said(message: Message) -> dict[str, Any]:
    """A message in the words of the writer."""
    return {
        "role": message.role,
        "text": message.text,
        "calls": [[call.id, call.name, call.arguments] for call in message.tool_calls],
        "answers": message.tool_call_id,
        "failed": message.tool_call_error,
        "reasoning": message.reasoning_content,
        "images": len(message.images),
        "files": len(message.files),
    }


def of_run(run: RunOutput) -> dict[str, Any]:
    assert run.created_at is not None
    return {
        "run_id": run.run_id,
        "status": str(run.status),
        "parent_run_id": run.parent_run_id,
        "agent_id": run.agent_id,
        "team_id": run.team_id,
        "name": run.agent_name,
        "content": run.error or run.metadata.get("agno", {}).get("content") or run.content,
        "model": run.model,
        "input_tokens": run.metrics.input_tokens,
        "created_at": int(run.created_at.timestamp()),
        "messages": [said(message) for message in run.messages],
    }


def of_session(session: AgentSession, *, filters: bool) -> dict[str, Any]:
    assert session.created_at is not None
    assert session.updated_at is not None
    summary = session.summary
    return {
        "name": session.name,
        "state": session.session_state,
        "user_id": session.user_id,
        "metadata": {key: value for key, value in session.metadata.items() if key != "agno"},
        "created_at": int(session.created_at.timestamp()),
        "updated_at": int(session.updated_at.timestamp()),
        "summary": None if summary is None else {"summary": summary.summary, "topics": list(summary.topics)},
        "messages": [said(message) for message in session.get_messages()] if filters else None,
        "chat": [said(message) for message in session.get_chat_history()] if filters else None,
        "runs": [of_run(run) for run in session.runs],
    }


def stored(command: Command, *, filters: bool = True) -> dict[str, Any]:
    """What is here, in the words of the writer."""
    with command.store() as db:
        sessions = [db.get_session(header.session_id) for header in db.iter_sessions()]
        return {session.session_id: of_session(session, filters=filters) for session in sessions if session}


def test_every_session_is_as_agno_says_it_is(recollect: Command, source: Source) -> None:
    report = bring(recollect, source)
    assert report["is_whole"]
    assert report["new"] == len(source.said) == 5
    assert report["workflows"] == 1
    assert stored(recollect, filters=source.release != "2.0") == source.said
    recollect("doctor")


def test_the_kinds_of_sessions_and_runs_are_agnos(here: Command, source: Source) -> None:
    bring(here, source)
    with here.store() as db:
        sessions = {header.session_id: db.get_session(header.session_id) for header in db.iter_sessions()}
    assert {name for name, session in sessions.items() if isinstance(session, TeamSession)} == {"team"}
    team, talk = sessions["team"], sessions["talk"]
    assert team is not None
    assert talk is not None
    leaders = [run for run in team.runs if isinstance(run, TeamRunOutput)]
    assert [run.run_id for run in leaders] == [run.run_id for run in team.runs if run.parent_run_id is None]
    if source.release != "2.0":  # there, members' runs are not stored
        assert {run.agent_id for run in team.runs} == {None, "finder", "writer"}
    assert (talk.name, talk.name_source) == ("Weather in Porto", "manual")


def test_history_that_agno_repeats_is_stored_once(here: Command, source: Source) -> None:
    bring(here, source)
    with here.store() as db:
        talk = db.get_session("talk")
    assert talk is not None
    asked = [message.text for run in talk.runs for message in run.messages if message.role == "user"]
    assert asked == ["Hello", "note: Porto", "fail: luck", "Thank you, \U0001f600"]


def test_pictures_and_files_are_those_that_were_sent(here: Command, source: Source) -> None:
    bring(here, source)
    with here.store() as db:
        [looked, read] = [run.messages[0] for run in getattr(db.get_session("media"), "runs", ())]
    by_address, by_content = looked.images
    assert by_address.url == "https://example.org/cat.png"
    assert by_content.url is not None
    assert by_content.url.startswith("data:image/png;base64,iVBORw0KGgoAAQID")
    if source.release != "2.0":  # there, files are not stored
        assert read.files[0].filename == "a.pdf"
        assert read.files[0].url == "data:application/pdf;base64,JVBERi0xLjQgaGVsbG8="


def test_what_has_no_place_is_kept_beside_it(here: Command, third: Source) -> None:
    bring(here, third)
    with here.store() as db:
        talk, early = db.get_session("talk"), db.get_session("early")
    assert talk is not None
    assert early is not None
    assert talk.metadata["agno"]["agent_data"]["name"] == "Chat"
    assert talk.metadata["agno"]["session_metrics"]["details"]["session_summary_model"]
    asked, answered = talk.runs[1], early.runs[2]
    assert asked.metadata["ticket"] == "T-42"
    beside = asked.metadata["agno"]
    assert beside["model_provider"] == "OpenAI"
    assert beside["tools"][0]["metrics"]["duration"] > 0
    assert beside["messages"]["4"]["provider_data"]["id"].startswith("chatcmpl-")
    assert {"content", "input", "events", "content_type"}.isdisjoint(beside)
    assert answered.metadata["agno"]["cancellation_stage"] == "EXECUTING"


def test_importing_again_changes_no_row(recollect: Command, source: Source) -> None:
    bring(recollect, source)
    before = rows(recollect)
    report = bring(recollect, source)
    assert (report["new"], report["grown"], report["same"], report["runs"]) == (0, 0, 5, 0)
    assert report["is_whole"]
    assert rows(recollect) == before


def test_the_account_is_told(here: Command, third: Source) -> None:
    done = here("sessions", "import", "--from", "agno", third.address)
    told = "verified: 5 sessions, 17 runs, members' too, and 54 messages, the same on both sides"
    assert done.stdout.splitlines() == ["5 sessions new (15 runs added)", told]
    assert done.stderr == "1 workflow session passed over: there is nothing like them here\n"


def test_a_source_that_grew_gives_what_is_new(here: Command, file: Source) -> None:
    bring(here, file)
    here("sessions", "rename", "talk", "By hand")
    [said] = agno_kit.agno(file.release, "more", file.address)
    report = bring(here, file)
    assert (report["new"], report["grown"], report["same"], report["runs"]) == (1, 1, 4, 2)
    assert report["is_whole"]
    after = stored(here)
    assert after["talk"]["name"] == "By hand"
    assert after["later"] == said["later"]
    assert after["talk"]["runs"] == said["talk"]["runs"]
    here("doctor")


def test_a_database_that_agno_brought_to_release_3_has_each_run_once(here: Command, tmp_path: Path) -> None:
    with agno_kit.source("2-sqlite", tmp_path) as old:
        bring(here, old)
        [said] = agno_kit.agno("3", "migrate", old.address)
        with sqlite3.connect(old.address) as connection:
            [(both,)] = connection.execute("select count(*) from agno_sessions where runs is not null")
        connection.close()
        assert both
        report = bring(here, old)
        assert (report["new"], report["grown"], report["same"], report["is_whole"]) == (1, 1, 4, True)
        assert stored(here)["talk"]["runs"] == said["talk"]["runs"]
        anew = Command(tmp_path / "anew.db")
        bring(anew, old)
    assert stored(anew) == said


def test_an_import_that_was_killed_goes_on(here: Command, third: Source, tmp_path: Path) -> None:
    multiply(third, 300)
    with here.process("sessions", "import", "--from", "agno", third.address) as process:
        while _count(here) < 30:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    before = _count(here)
    assert before < 305
    report = bring(here, third)
    assert (report["new"], report["same"]) == (305 - before, before)
    assert report["is_whole"]
    whole = Command(tmp_path / "whole.db")
    bring(whole, third)
    assert stored(here) == stored(whole)


def _count(command: Command) -> int:
    if not command.db_file.exists():
        return 0
    with sqlite3.connect(command.db_file) as connection:
        try:
            [(count,)] = connection.execute("select count(*) from recollect_sessions")
        except sqlite3.OperationalError:  # not made yet, or being made
            count = 0
    connection.close()
    return int(count)


def test_five_thousand_runs_of_one_session_keep_their_order(here: Command, third: Source) -> None:
    change(
        third,
        """
        insert into agno_runs (run_id, session_id, run_type, agent_id, status, run_index, run_data, created_at)
        with recursive n(i) as (values (1) union all select i + 1 from n where i < 5000)
        select 'r' || (7919 * i % 5001), session_id, run_type, agent_id, status, 100 + i,
        json_set(run_data, '$.messages[0].content', 'Question ' || i), created_at
        from agno_runs, n where session_id = 'thoughts' and run_index = 1
        """,
    )
    report = bring(here, third)
    assert report["is_whole"]
    assert report["runs"] == 5_015
    with here.store() as db:
        asked = [run.messages[0].text for run in getattr(db.get_session("thoughts"), "runs", ())]
    assert asked[2:] == [f"Question {number}" for number in range(1, 5_001)]


def test_memory_holds_one_session_not_all(tmp_path: Path) -> None:
    sizes = []
    for number in (1, 20):
        folder = tmp_path / str(number)
        folder.mkdir()
        with agno_kit.source("3-sqlite", folder) as third:
            multiply(third, number, text="x" * 1_000_000)
            sizes.append(_most_memory(Command(folder / "here.db"), third))
    assert sizes[1] - sizes[0] < 20_000_000


def _most_memory(command: Command, source: Source) -> int:
    """Bytes that a process needs at most to import."""
    process = subprocess.Popen(
        [sys.executable, "-m", "recollect", "sessions", "import", "--from", "agno", source.address],
        env=command.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return _bytes(usage)


def _bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


BROKEN = {
    "2-sqlite": (
        "update agno_sessions set runs = '[{' where session_id = 'talk'",
        "session 'talk': runs: is not valid",
    ),
    "3-sqlite": (
        "update agno_runs set run_data = '{\"run_id\":' where run_index = 1 and session_id = 'talk'",
        "session 'talk': run '",
    ),
    "2-postgres": (
        "update agno_sessions set runs = '5' where session_id = 'talk'",
        "session 'talk': runs: must be a list, not int",
    ),
    "3-postgres": (
        """
        update agno_runs set run_data = jsonb_set(run_data, '{status}', '"ODD"')
        where run_index = 1 and session_id = 'talk'
        """,
        "status: 'ODD' is none that is known",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_stops_before_anything_is_stored_or_is_passed_over(
    here: Command, tmp_path: Path, name: str
) -> None:
    statement, problem = BROKEN[name]
    with agno_kit.source(name, tmp_path) as source:
        change(source, statement)
        refused = here("sessions", "import", "--from", "agno", source.address, code=1)
        assert problem in refused.stderr
        assert "nothing was stored; mend Agno's database, or pass over these rows with --skip-bad" in refused.stderr
        assert not here.db_file.exists()
        report = bring(here, source, "--skip-bad")
    assert report["is_whole"]
    assert len(report["bad"]) == 1
    assert problem in report["bad"][0]
    after = stored(here)
    if source.release == "2":
        assert after == {name: said for name, said in source.said.items() if name != "talk"}
    else:  # one run is broken, the others are not
        del source.said["talk"]["runs"][1]
        assert after["talk"]["runs"] == source.said["talk"]["runs"]


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("session_id", "x" * 300, "session_id: must have 1 to 255 characters"),
        ("session_id", "a\nb", "session_id: character 1"),
        ("user_id", "x" * 300, "user_id: must have"),
        ("session_type", "swarm", "session_type: 'swarm' is none that is known"),
        ("session_data", "[1]", "session_data: must be an object, not list"),
        ("session_data", '{"session_state": 5}', "session_state: must be a dictionary"),
        ("metadata", "{", "metadata: is not valid JSON"),
        ("summary", b"\xff\xfe", "summary: is not valid JSON"),
        ("created_at", "soon", "created_at: must be a number of seconds"),
        ("created_at", 1e15, "created_at: 1000000000000000"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_its_id(
    here: Command, third: Source, column: str, value: Any, problem: str
) -> None:
    with sqlite3.connect(third.address) as connection:
        change_to = "cast(? as text)" if isinstance(value, bytes) else "?"
        connection.execute(f"update agno_sessions set {column} = {change_to} where session_id = 'media'", (value,))
    connection.close()
    report = bring(here, third, "--skip-bad")
    assert (report["new"], len(report["bad"])) == (4, 1)
    assert problem in report["bad"][0]
    assert "session '" in report["bad"][0]


@pytest.mark.parametrize("odd", ["cast(x'7a7aff' as text)", "x'ff'", "null"], ids=["no UTF-8", "bytes", "nothing"])
def test_an_id_that_is_no_text_is_told_once_wherever_it_stands(here: Command, tmp_path: Path, odd: str) -> None:
    address = str(tmp_path / "odd.db")
    with sqlite3.connect(address) as connection:
        connection.execute("create table agno_sessions (session_id text, session_type, session_data, created_at)")
        connection.execute(f"insert into agno_sessions values ({odd}, 'agent', '{{}}', 1), ('s', 'agent', '{{}}', 1)")
    connection.close()
    told = here("sessions", "import", "--from", "agno", address, "--skip-bad", "--json")
    report = json.loads(told.stdout)
    assert (report["new"], len(report["bad"]), report["is_whole"]) == (1, 1, True)


def test_a_run_that_went_on_in_agno_is_not_replaced(here: Command, third: Source) -> None:
    bring(here, third)
    before = rows(here)
    change(
        third,
        "update agno_runs set run_data = json_set(run_data, '$.messages[0].content', 'Changed') "
        "where session_id = 'early' and run_index = 0",
    )
    multiply(third, 1)
    refused = here("sessions", "import", "--from", "agno", third.address, code=4)
    assert "session 'early': conversation 'early' does not continue what is stored of it" in refused.stderr
    assert "stopped there; --skip-bad passes over such rows" in refused.stderr
    assert rows(here) == before
    report = bring(here, third, "--skip-bad")
    assert (report["new"], report["same"], len(report["bad"])) == (1, 4, 1)


def test_a_count_that_differs_is_an_error(here: Command, third: Source) -> None:
    with here.store() as db:
        db.create_session("first")
    with sqlite3.connect(here.db_file) as connection:
        connection.execute(
            """
            create trigger thief after insert on recollect_messages when new.role = 'tool'
            begin delete from recollect_messages where rowid = new.rowid; end
            """
        )
    connection.close()
    done = here("sessions", "import", "--from", "agno", third.address, code=1)
    assert "NOT verified: of 5 sessions, 17 runs, members' too, and 54 messages, not all" in done.stdout
    assert "has 5 messages in Agno's database and 4 here" in done.stderr


def test_a_source_that_grows_meanwhile_is_not_said_to_be_whole(third: Source) -> None:
    both = Command(third.address)
    with both.store() as db:
        db.create_session("first")
    change(
        third,
        """
        create trigger late after insert on recollect_sessions begin
            insert or ignore into agno_sessions (session_id, session_type, created_at) values ('a', 'agent', 1);
        end
        """,
    )
    done = both("sessions", "import", "--from", "agno", third.address, code=1)
    assert "Agno's database holds 1 more than were read; import again" in done.stderr
    assert bring(both, third)["is_whole"]


def test_runs_without_a_session_are_told(here: Command, third: Source) -> None:
    change(third, "update agno_runs set session_id = 'gone' where session_id = 'media'")
    done = here("sessions", "import", "--from", "agno", third.address)
    assert "2 runs passed over that belong to no session" in done.stderr


def test_a_file_in_use_is_read_as_it_was_committed(here: Command, file: Source) -> None:
    with sqlite3.connect(file.address) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("update agno_sessions set user_id = 'new' where session_id = 'media'")
        connection.commit()
        connection.execute("update agno_sessions set user_id = 'half' where session_id = 'media'")
        report = bring(here, file)
        connection.rollback()
    connection.close()
    assert report["is_whole"]
    assert stored(here)["media"]["user_id"] == "new"


def test_nothing_is_written_to_what_is_read(here: Command, file: Source) -> None:
    before = Path(file.address).read_bytes()
    Path(file.address).chmod(0o400)
    bring(here, file)
    assert Path(file.address).read_bytes() == before


def test_the_tables_of_both_may_stand_in_one_database(source: Source) -> None:
    both = Command(source.address)
    assert bring(both, source)["is_whole"]
    assert bring(both, source)["same"] == 5
    assert stored(both, filters=source.release != "2.0") == source.said


def test_sessions_of_nobody_get_the_owner_that_is_named(here: Command, third: Source) -> None:
    bring(here, third, "--user", "carol")
    owners = {name: session["user_id"] for name, session in stored(here).items()}
    assert owners == {"talk": "ada", "team": "ada", "media": "bob", "thoughts": "carol", "early": "carol"}
    refused = here("sessions", "import", "--from", "agno", third.address, "--user", "dan", code=4)
    assert "is stored already and belongs to user 'carol', not to 'dan'" in refused.stderr


def test_tables_of_other_names_are_found(here: Command, source: Source) -> None:
    change(source, "alter table agno_sessions rename to chats")
    if source.release == "3":
        change(source, "alter table agno_runs rename to turns")
    assert bring(here, source)["is_whole"]
    assert stored(here, filters=source.release != "2.0") == source.said


def test_where_there_are_several_tables_one_must_be_named(here: Command, source: Source) -> None:
    change(source, "create table other_sessions as select * from agno_sessions where session_id = 'media'")
    refused = here("sessions", "import", "--from", "agno", source.address, code=2)
    assert "--table: there are several: " in refused.stderr
    assert "other_sessions" in refused.stderr
    assert bring(here, source, "--table", "agno_sessions")["new"] == 5
    assert stored(here, filters=source.release != "2.0") == source.said


def test_a_schema_is_named_where_there_are_several(here: Command, tmp_path: Path) -> None:
    with agno_kit.source("3-postgres", tmp_path) as source:
        change(source, "create schema other", "create table other.agno_sessions (like ai.agno_sessions)")
        refused = here("sessions", "import", "--from", "agno", source.address, code=2)
        assert "--table: there are several: ai.agno_sessions, other.agno_sessions; say which" in refused.stderr
        assert bring(here, source, "--schema", "ai")["is_whole"]
        assert bring(here, source._replace(address=f"{source.address}?schema=ai"))["same"] == 5
    assert stored(here) == source.said


def test_where_there_are_several_tables_of_runs_the_foreign_key_tells(here: Command, third: Source) -> None:
    change(
        third,
        "create table other_sessions as select * from agno_sessions where session_id = 'media'",
        "create table other_runs (run_id text, session_id text references other_sessions, run_data text)",
    )
    assert bring(here, third, "--table", "agno_sessions")["is_whole"]
    assert stored(here) == third.said
    change(third, "create table third_runs as select * from agno_runs")
    refused = here("sessions", "import", "--from", "agno", third.address, "--table", "agno_sessions", code=2)
    assert "--runs-table: there are several: agno_runs, third_runs" in refused.stderr
    named = ("--table", "agno_sessions", "--runs-table", "third_runs")
    assert bring(here, third, *named)["same"] == 5


def test_columns_that_came_later_may_be_missing(here: Command, file: Source) -> None:
    change(
        file, *(f"alter table agno_sessions drop column {name}" for name in ("workflow_data", "summary", "team_data"))
    )
    bring(here, file)
    after = stored(here)
    assert after["team"] == file.said["team"]
    assert after["talk"]["summary"] is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--table", "x"), "no table 'x' of Agno's"),
        (("--schema", "x"), "in schema 'x'"),
        (("--runs-table", "x"), "'x'"),
    ],
)
def test_a_table_that_is_not_there_is_told(
    here: Command, third: Source, options: tuple[str, ...], problem: str
) -> None:
    assert problem in here("sessions", "import", "--from", "agno", third.address, *options, code=3).stderr


def test_what_is_no_database_of_agnos_is_told(here: Command, tmp_path: Path) -> None:
    def refused(path: Path, code: int) -> str:
        return here("sessions", "import", "--from", "agno", str(path), code=code).stderr

    empty, text = tmp_path / "empty.db", tmp_path / "text.db"
    sqlite3.connect(empty).close()
    empty.touch()
    text.write_text("no database, but a text that is long enough to be looked at" * 20)
    assert "there is no database" in refused(tmp_path / "away.db", 3)
    assert "there is no table of Agno's sessions" in refused(empty, 3)
    assert "cannot be read (file is not a database)" in refused(text, 1)
    assert "is not a kind of database" in here("sessions", "import", "--from", "agno", "mysql://x/y", code=2).stderr


def test_options_of_databases_are_refused_for_files(here: Command, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.touch()
    refused = here("sessions", "import", str(lines), "--schema", "ai", code=2).stderr
    assert "--schema: goes together with --from agno only" in refused
