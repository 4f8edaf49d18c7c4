"""Sessions as people read them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable

import pytest
from cli_kit import Command, tool_turn, turn

from recollect.message import Message
from recollect.run import RunStatus


def test_a_session_is_shown_with_roles_and_folded_tools(recollect: Command) -> None:
    with recollect.store() as db:
        tool_turn(db, "s", '{"sky": "clear",\n "wind": "none"}')
    lines = recollect("sessions", "show", "s").stdout.splitlines()
    assert lines[:2] == ["How is it in Paris?", "s"]
    assert lines[2].startswith("no owner · agent · 1 run · 3 messages · 2")
    assert lines[4] == "system  Be brief."
    assert lines[6].startswith("user  2")
    assert lines[7] == "  How is it in Paris?"
    assert lines[9] == '  get_weather(city="Paris", days=3) → {"sky": "clear", "wind": "none"}'
    assert lines[11:] == ["assistant", "  It is **sunny**."]


def test_a_long_result_is_shortened_and_full_shows_it(recollect: Command) -> None:
    with recollect.store() as db:
        tool_turn(db, "s", "blue " * 500)
    short, full = (recollect("sessions", "show", "s", *args).stdout for args in ((), ("--full",)))
    assert "blue b…\n" in short
    assert short.count("blue") < 50
    assert full.count("blue") == 500
    assert '    {\n      "city": "Paris",\n      "days": 3\n    }\n    → blue' in full


def test_a_system_message_is_shown_where_it_changes(recollect: Command) -> None:
    with recollect.store() as db:
        for prompt in ("First.", "First.", "Second. " * 20):
            turn(db, "s", prompt=Message("system", prompt))
    shown = recollect("sessions", "show", "s").stdout
    assert shown.count("system  First.") == 1
    assert shown.count("system  Second.") == 1
    assert "(160 characters; --full shows them)" in shown


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (RunStatus.error, "the model\nis away", "  failed: the model is away"),
        (RunStatus.cancelled, None, "  cancelled; what was said until then is kept"),
    ],
)
def test_a_run_without_an_answer_says_why(recollect: Command, status: RunStatus, error: str | None, told: str) -> None:
    with recollect.store() as db:
        tool_turn(db, "s", status=status, error=error)
    assert recollect("sessions", "show", "s").stdout.splitlines()[-1] == told


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a": ' * 100_000])
def test_what_is_nested_too_deeply_is_shown_as_it_is(recollect: Command, deep: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": deep}}
    with recollect.store() as db:
        run = db.begin_run("s", [Message("user", "Look")])
        db.append_messages(run, [Message("assistant", None, tool_calls=[call])])
        db.finish_run(run, [Message("tool", deep, tool_call_id="c1")])
    for args in ((), ("--full",)):
        assert deep[:20] in recollect("sessions", "show", "s", *args).stdout


def test_a_run_under_way_shows_the_call_that_has_no_result_yet(recollect: Command) -> None:
    with recollect.store() as db:
        run = db.begin_run("s", [Message("user", "Look")])
        call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "not json"}}
        db.append_messages(run, [Message("assistant", "A moment", tool_calls=[call])])
        assert recollect("sessions", "show", "s").stdout.endswith("  look(not json) → no result\n\n  under way\n")
        db.delete_session("s")


def test_only_the_last_runs_are_shown_when_asked(recollect: Command) -> None:
    with recollect.store() as db:
        for number in range(5):
            turn(db, "s", f"question {number}")
    shown = recollect("sessions", "show", "s", "--last", "2").stdout
    assert "3 earlier runs not shown" in shown
    assert "  question 2" not in shown
    assert "  question 3" in shown
    assert "question" not in recollect("sessions", "show", "s", "--last", "0").stdout.split("\n", 1)[1]


def test_what_members_of_a_team_said_is_shown_in_full_and_says_who(recollect: Command) -> None:
    with recollect.store() as db:
        turn(db, "s", run_id="top", team_id="crew", kind="team")
        turn(db, "s", "Look", parent_run_id="top", agent_id="scout")
    short, full = (recollect("sessions", "show", "s", *args).stdout for args in ((), ("--full",)))
    assert "Look" not in short
    lines = full.splitlines()
    [place] = [number for number, line in enumerate(lines) if line.endswith("the leader to scout")]
    assert lines[place + 1] == "  Look"
    assert "assistant  scout" in lines


def test_what_was_said_cannot_steer_the_terminal(recollect: Command) -> None:
    with recollect.store() as db:
        tool_turn(db, "\u202es", "\x1b]0;title\x07 and [bold]markup[/bold]")
        turn(db, "\u202es", "\x1b[2Jgone", user_id=None)
    for args in ((), ("--full",)):
        shown = recollect("sessions", "show", "@last", *args).stdout
        assert "\x1b" not in shown
        assert "[bold]markup[/bold]" in shown


def test_pictures_and_files_are_named(recollect: Command) -> None:
    parts = [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "file", "file": {"filename": "plan.pdf", "file_data": "data:,"}},
    ]
    with recollect.store() as db:
        db.begin_run("s", [Message("user", parts)])
        assert (
            "  See\n  [image https://example.org/cat.png]\n  [file plan.pdf]"
            in recollect("sessions", "show", "s").stdout
        )
        db.delete_session("s")


def test_json_holds_the_whole_session(recollect: Command) -> None:
    with recollect.store() as db:
        for text in ("one", "two"):
            turn(db, "s", text)
    told = json.loads(recollect("sessions", "show", "s", "--json").stdout)
    assert [run["messages"][0]["content"] for run in told["runs"]] == ["one", "two"]
    last = json.loads(recollect("sessions", "show", "s", "--json", "--last", "1").stdout)
    assert last["runs"] == told["runs"][1:]


def test_json_and_follow_do_not_go_together(recollect: Command) -> None:
    recollect("chat", "hi")
    assert "--follow" in recollect("sessions", "show", "@last", "--json", "--follow", code=2).stderr


def test_following_shows_what_is_added_until_ctrl_c(recollect: Command) -> None:
    with recollect.store() as db:
        turn(db, "s", "before")
        turn(db, "s", "first")
    follow = ("sessions", "show", "s", "--follow", "--last", "1")
    with recollect.store() as db, recollect.process(*follow) as process:
        assert process.stdout is not None
        until(process.stdout, "You said: first")
        run = db.begin_run("s", [Message("user", "second")])
        until(process.stdout, "second")
        db.finish_run(run, [Message("assistant", "At once")])
        until(process.stdout, "At once")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert rest.strip() == ""


def test_following_ends_when_the_session_is_deleted(recollect: Command) -> None:
    with recollect.store() as db:
        turn(db, "s")
        with recollect.process("sessions", "show", "s", "--follow") as process:
            assert process.stdout is not None
            until(process.stdout, "You said: Hi")
            db.delete_session("s")
            _, err = process.communicate(timeout=10)
    assert process.returncode == 3
    assert "was deleted" in err


def until(lines: Iterable[str], text: str) -> None:
    """Read lines until one holds the text."""
    assert any(text in line for line in lines)
