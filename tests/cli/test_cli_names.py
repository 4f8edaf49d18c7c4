"""``recollect sessions name``."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cli_kit import Command, rows, turn

from recollect.testing import ResponsesServer
from recollect.testing.answer import Failure

LAUNCH = "Please plan the launch of the lamp"


@pytest.fixture
def server() -> Iterator[ResponsesServer]:
    with ResponsesServer() as server:
        yield server


@pytest.fixture
def filled(recollect: Command) -> Command:
    fill(recollect, 3)
    return recollect


def fill(recollect: Command, count: int) -> None:
    with recollect.store() as db:
        for number in range(count):
            turn(db, f"s{number}", f"{LAUNCH} number {number}", user_id="ada" if number == 0 else None)


def names(recollect: Command) -> dict[str, str]:
    with recollect.store() as db:
        return {header.session_id: header.name for header in db.iter_sessions()}


def test_one_session_is_named_by_the_model(filled: Command, server: ResponsesServer) -> None:
    server.reply('"Lamp Launch Planning"')
    told = filled("sessions", "name", "s1", **server.environment())
    assert told.stdout == "s1 is now named 'Lamp Launch Planning'\n"
    assert names(filled) == {"s0": "", "s1": "Lamp Launch Planning", "s2": ""}
    assert len(server.requests) == 1


def test_without_a_key_a_session_is_named_after_its_first_message(filled: Command) -> None:
    told = filled("sessions", "name", "@last")
    assert told.stdout.startswith("s2 is now named 'Plan the launch of the lamp")
    assert "after its first message" in told.stdout
    assert "no OPENAI_API_KEY is set, so names are made of the first messages" in told.stderr


def test_all_that_have_no_name_are_named(filled: Command, server: ResponsesServer) -> None:
    with filled.store() as db:
        db.set_session_name("s0", "By hand")
    server.script(lambda _: "A Fine Name")
    told = filled("sessions", "name", "--unnamed", **server.environment())
    assert told.stdout.startswith("2 named, ")
    assert told.stdout.endswith(" tokens\n")
    assert told.stderr == "", "no bar where there is no terminal"
    assert names(filled) == {"s0": "By hand", "s1": "A Fine Name", "s2": "A Fine Name"}
    assert filled("sessions", "name", "--unnamed", **server.environment()).stdout == "nothing to name\n"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--user", "ada"], ["s0"]),
        (["--limit", "1"], ["s0"]),
        (["--since", "1h"], ["s0", "s1", "s2"]),
        (["--since", "2099-01-01"], []),
        (["--min-messages", "3"], []),
    ],
)
def test_only_what_is_asked_for_is_named(filled: Command, options: list[str], named: list[str]) -> None:
    filled("sessions", "name", "--unnamed", *options)
    assert sorted(session_id for session_id, name in names(filled).items() if name) == named


def test_a_dry_run_asks_nobody_and_changes_nothing(filled: Command, server: ResponsesServer) -> None:
    before = rows(filled)
    told = filled("sessions", "name", "--unnamed", "--dry-run", **server.environment()).stdout
    assert told.startswith("3 sessions, about ")
    assert told.endswith(" tokens; nothing was changed\n")
    read = json.loads(filled("sessions", "name", "--unnamed", "--dry-run", "--json").stdout)
    assert read["sessions"] == 3
    assert "nothing was changed" in filled("sessions", "name", "s1", "--dry-run", **server.environment()).stdout
    assert (rows(filled), server.requests) == (before, [])


def test_a_report_is_json_when_so_asked(filled: Command, server: ResponsesServer) -> None:
    server.script(lambda _: "A Name")
    report = json.loads(filled("sessions", "name", "--unnamed", "--json", **server.environment()).stdout)
    assert (report["named"], report["failed"], report["left"], report["stopped"]) == (3, [], 0, None)


def test_one_name_is_json_when_so_asked(filled: Command, server: ResponsesServer) -> None:
    planned = json.loads(filled("sessions", "name", "s1", "--json", "--dry-run", **server.environment()).stdout)
    assert planned == {"session_id": "s1", "name": "", "name_source": None}
    server.reply("A Name")
    made = json.loads(filled("sessions", "name", "s1", "--json", **server.environment()).stdout)
    assert made == {"session_id": "s1", "name": "A Name", "name_source": "auto"}


def test_failures_are_listed_and_the_exit_code_says_so(filled: Command, server: ResponsesServer) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return Failure(status=400, message="bad \x1b[2Jluck") if "number 1" in str(body["input"]) else "A Name"

    server.script(answer)
    told = filled("sessions", "name", "--unnamed", code=1, **server.environment())
    assert "2 named, 1 failed" in told.stdout
    assert "s1: " in told.stderr
    assert "luck" in told.stderr
    assert "\x1b" not in told.stderr


def test_a_refused_key_ends_it_with_the_reason(filled: Command, server: ResponsesServer) -> None:
    told = filled("sessions", "name", "--unnamed", code=1, **(server.environment() | {"OPENAI_API_KEY": "sk-wrong"}))
    assert "ended early" in told.stderr
    assert "401" in told.stderr


def test_a_name_does_not_steer_the_terminal(filled: Command, server: ResponsesServer) -> None:
    server.reply("\x1b[31mRed\x07 Name")
    assert "\x1b" not in filled("sessions", "name", "s1", **server.environment()).stdout


@pytest.mark.parametrize("given", [[], ["s1", "--unnamed"]])
def test_which_sessions_are_meant_must_be_said_and_once(filled: Command, given: list[str]) -> None:
    assert "--unnamed" in filled("sessions", "name", *given, code=2).stderr


@pytest.mark.parametrize("since", ["soon", "7 days", "2026-13-01"])
def test_a_time_that_is_none_is_refused(filled: Command, since: str) -> None:
    assert "--since" in filled("sessions", "name", "--unnamed", "--since", since, code=2).stderr


def slow(_: object) -> str:
    time.sleep(0.05)
    return "A Fine Name"


def test_ctrl_c_finishes_what_is_under_way_and_says_what_is_left(recollect: Command, server: ResponsesServer) -> None:
    fill(recollect, 60)
    server.script(slow)
    command = recollect.process("sessions", "name", "--unnamed", "--concurrency", "2", env=server.environment())
    until(lambda: len(server.requests) > 6)
    command.send_signal(signal.SIGINT)
    out, said = command.communicate(timeout=30)
    assert command.returncode == 130, said
    named = sum(bool(name) for name in names(recollect).values())
    assert f"stopped: {named} named, {60 - named} left; run the command again to go on" in said
    assert f"{named} named" in out
    assert named == len(server.requests), "what was asked was stored"
    told = recollect("sessions", "name", "--unnamed", **server.environment())
    assert told.stdout.startswith(f"{60 - named} named")
    assert len(server.requests) == 60


def test_a_second_ctrl_c_ends_it_at_once(recollect: Command, server: ResponsesServer) -> None:
    fill(recollect, 6)
    server.hold(120)
    with on_terminal(recollect, server, "--concurrency", "2") as (command, screen):
        until(lambda: server.in_flight == 2)
        screen.press_ctrl_c()
        until(lambda: "Ctrl-C again ends at once" in screen.shown)
        screen.press_ctrl_c()
        command.wait(timeout=10)
    assert command.returncode == 130, screen.shown
    assert "Traceback" not in screen.shown
    assert set(names(recollect).values()) == {""}


def test_a_terminal_shows_how_far_it_is(recollect: Command, server: ResponsesServer) -> None:
    fill(recollect, 12)
    server.script(slow)
    with on_terminal(recollect, server, "--concurrency", "2") as (command, screen):
        out, _ = command.communicate(timeout=30)
    assert command.returncode == 0
    assert out.startswith("12 named")
    assert "/12" in screen.shown
    assert "tokens" in screen.shown
    assert "A Fine Name" in screen.shown


def test_a_name_that_looks_like_markup_is_shown_as_it_is(recollect: Command, server: ResponsesServer) -> None:
    fill(recollect, 3)
    server.script(lambda _: "Mend [/red] [bold]Links")
    with on_terminal(recollect, server, "--concurrency", "1") as (command, screen):
        out, _ = command.communicate(timeout=30)
    assert command.returncode == 0, screen.shown
    assert out.startswith("3 named")
    assert "Mend [/red] [bold]Links" in screen.shown


class Screen:
    """What a terminal shows, read as it comes."""

    def __init__(self, control: int) -> None:
        self._control = control
        self._shown = b""
        self.reading = threading.Thread(target=self._read)
        self.reading.start()

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace")

    def press_ctrl_c(self) -> None:
        os.write(self._control, b"\x03")

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(self._control, 4096):
                self._shown += piece


@contextlib.contextmanager
def on_terminal(
    recollect: Command, server: ResponsesServer, *args: str
) -> Iterator[tuple[subprocess.Popen[str], Screen]]:
    """Name all sessions with standard error on a terminal that Ctrl-C is pressed on."""
    control, terminal = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-c", CONTROLLED, os.ttyname(terminal), "sessions", "name", "--unnamed", *args],
        env=recollect.environment(**server.environment(), TERM="xterm", COLUMNS="120"),
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        start_new_session=True,
    )
    os.close(terminal)
    screen = Screen(control)
    try:
        yield command, screen
    finally:
        command.kill()
        command.communicate()
        screen.reading.join(timeout=10)
        os.close(control)


# The first terminal that the leader of a process group without one opens is its own: there Ctrl-C is a signal to it.
CONTROLLED = """
import os, sys
os.close(os.open(sys.argv.pop(1), os.O_RDWR))
from recollect.cli import main
main()
"""


def until(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
