"""The command as a whole: where it looks, how it fails, what it needs."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_kit import SOURCE, Command, get_command, turn

import recollect as library
from recollect import errors
from recollect.cli.app import code, message
from recollect.cli.screen import ago, short_ids, visible
from recollect.db.sqlite import SqliteDb


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False
    )


def test_the_version_is_that_of_the_library(recollect: Command) -> None:
    assert recollect("--version").stdout == f"recollect {library.__version__}\n"


def test_help_tells_the_exit_codes(recollect: Command) -> None:
    assert "3 not found" in recollect("--help").stdout


def test_what_belongs_to_later_releases_is_not_offered() -> None:
    commands = get_command().commands
    assert sorted(commands) == ["chat", "copy", "doctor", "migrate", "serve", "sessions"]
    of_sessions = "archive delete export import list name pin purge rename search show tag"
    assert sorted(commands["sessions"].commands) == of_sessions.split()


def test_without_its_extra_the_command_says_what_to_install() -> None:
    for package in ("typer", "rich"):
        done = python(f"import sys; sys.modules[{package!r}] = None; from recollect.cli import main; main()")
        assert done.returncode == 1
        assert done.stderr == (
            "the command recollect needs an extra that is not installed. Run: pip install 'recollect[cli]'\n"
        )


def test_the_library_and_the_parts_below_the_command_need_no_extra() -> None:
    extras = "{'typer', 'rich', 'openai', 'pydantic'}"
    loaded = "import recollect, recollect.transfer, recollect.copying, recollect.doctor, sys; "
    assert python(f"{loaded}print({extras} & sys.modules.keys())").stdout == "set()\n"


@pytest.mark.of_a_file
@pytest.mark.parametrize("args", [("sessions", "list"), ("sessions", "show", "x"), ("sessions", "export")])
def test_a_database_that_is_not_there_is_not_made_by_reading(recollect: Command, args: tuple[str, ...]) -> None:
    result = recollect(*args, code=3)
    assert result.stderr.startswith(f"error: there is no database {recollect.db_file}")
    assert not recollect.db_file.exists()


def test_the_database_named_nearest_to_the_command_is_taken(recollect: Command, tmp_path: Path) -> None:
    names = ("root.db", "group.db", "own.db")
    for name in names:
        with SqliteDb(tmp_path / name) as db:
            turn(db, name)
    root, group, own = (("--db", str(tmp_path / name)) for name in names)
    assert '"root.db"' in recollect(*root, "sessions", "list", "--json").stdout
    assert '"group.db"' in recollect(*root, "sessions", *group, "list", "--json").stdout
    assert '"own.db"' in recollect(*root, "sessions", *group, "list", "--json", *own).stdout
    assert '"own.db"' in recollect("sessions", "list", "--json", "--db", f"sqlite:///{own[1]}").stdout


def test_an_unknown_kind_of_database_is_wrong_usage(recollect: Command) -> None:
    assert "'mysql' is not a kind of database" in recollect("--db", "mysql://x", "sessions", "list", code=2).stderr


@pytest.mark.of_a_file
def test_a_file_that_is_no_database_is_one_line_and_no_traceback(recollect: Command) -> None:
    recollect.db_file.write_text("hello")
    with recollect.process("sessions", "list") as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out == ""
    assert err.count("\n") == 1
    assert "is not an SQLite database" in err


def test_output_that_nobody_reads_any_more_ends_the_command_quietly(recollect: Command) -> None:
    with recollect.store() as db:
        for number in range(30):
            turn(db, f"s{number}", "long " * 2000)
    with recollect.process("sessions", "export") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.InvalidArgument("name", "is empty"), 2),
        (errors.UserRequired("s"), 2),
        (errors.SessionNotFound(), 3),
        (errors.RunConflict(), 4),
        (errors.DatabaseBusy(), 4),
        (errors.DatabaseFull(), 1),
        (errors.ModelError(), 1),
        (errors.ExtraMissing("openai", "OpenAI"), 1),
    ],
)
def test_errors_become_exit_codes(error: errors.RecollectError, number: int) -> None:
    assert code(error) == number


def test_errors_speak_of_options_not_of_arguments() -> None:
    assert message(errors.UserRequired("s")) == "session 's' belongs to a user; say who speaks with --user"


def test_text_cannot_steer_the_terminal() -> None:
    assert visible("a\x1b[31mb\r\nc\td\x07") == "a\ufffd[31mb\nc\td\ufffd"


def test_short_ids_tell_the_shown_sessions_apart() -> None:
    one, other = "01a2060c-c28d-7245-a90c-4e584898b5b7", "01a2060c-c28d-7299-a90c-4e584898b5b7"
    assert short_ids([one, "airline-1"]) == ["01a2060c-c28d", "airline-1"]
    assert short_ids([one, other]) == ["01a2060c-c28d-724", "01a2060c-c28d-729"]
    assert short_ids([]) == []


def test_times_are_told_as_people_do() -> None:
    now = datetime(2026, 5, 10, 12, tzinfo=UTC)
    told = [ago(now - timedelta(seconds=seconds), now) for seconds in (5, 120, 7200, 90000, 200000)]
    assert told == ["just now", "2 min ago", "2 h ago", "1 day ago", "2 days ago"]
    assert ago(now - timedelta(days=30), now) == "2026-04-10"
    assert ago(None, now) == ""
