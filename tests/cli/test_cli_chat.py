"""Talking with a model on the command line."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from cli_kit import Command, turn

from recollect.agent import Agent
from recollect.cli.chat import _converse
from recollect.cli.model import Choice, choose
from recollect.errors import InvalidArgument
from recollect.message import Message
from recollect.port import Delta, ModelRequest, Reply, World
from recollect.run import RunStatus
from recollect.testing import ResponsesServer

COUNTING = "one two three four five six seven eight nine ten " * 20


@pytest.fixture
def server() -> Iterator[ResponsesServer]:
    with ResponsesServer(models=["llama3:8b"]) as server:
        yield server


def only_run(recollect: Command) -> tuple[RunStatus, list[str]]:
    """The one run of the one session: how it ended, and what was said."""
    with recollect.store() as db:
        [header] = db.get_sessions()
        session = db.get_session(header.session_id)
        assert session is not None
        [run] = session.runs
        return run.status, [message.text for message in run.messages]


def test_one_message_is_answered_once_in_a_new_session(recollect: Command) -> None:
    result = recollect("chat", "Hello there")
    assert result.stdout == "You said: Hello there\n"
    with recollect.store() as db:
        [header] = db.get_sessions()
    notice, onward = result.stderr.splitlines()
    assert notice.startswith("no OPENAI_API_KEY is set, so the echo model answers")
    assert onward == f"to go on: recollect chat --session {header.session_id}"


def test_a_session_is_continued(recollect: Command) -> None:
    recollect("chat", "First", "--model", "echo")
    result = recollect("chat", "Second", "--session", "@last", RECOLLECT_MODEL="echo")
    assert result.stdout == "You said: Second (Before that: First)\n"
    assert "no OPENAI_API_KEY" not in result.stderr


def test_a_message_is_read_from_standard_input(recollect: Command) -> None:
    assert recollect("chat", "-", said="From a pipe").stdout == "You said: From a pipe\n"


@pytest.mark.of_a_file
def test_without_a_message_or_a_terminal_it_is_asked_for(recollect: Command) -> None:
    assert "MESSAGE: is missing" in recollect("chat", code=2).stderr
    assert "MESSAGE: is empty" in recollect("chat", "  ", code=2).stderr
    assert not recollect.db_file.exists()


def test_a_session_that_is_not_there_is_not_begun_by_its_id(recollect: Command) -> None:
    recollect("chat", "hi")
    recollect("chat", "hi", "--session", "mine", code=3)


def test_who_speaks_must_be_said_in_an_owned_session(recollect: Command) -> None:
    recollect("chat", "hi", "--user", "alice")
    assert "say who speaks with --user" in recollect("chat", "hi", "--session", "@last", code=2).stderr
    recollect("chat", "hi", "--session", "@last", "--user", "bob", code=3)
    recollect("chat", "hi", "--session", "@last", "--user", "alice")


def test_instructions_are_the_system_message(recollect: Command) -> None:
    recollect("chat", "hi", "--instructions", "Be brief.")
    assert only_run(recollect)[1] == ["Be brief.", "hi", "You said: hi"]


def test_openai_answers_where_there_is_a_key(recollect: Command, server: ResponsesServer) -> None:
    server.reply("Bonjour, tout le monde")
    result = recollect("chat", "hi", **server.environment())
    assert result.stdout == "Bonjour, tout le monde\n"
    assert server.requests[0]["model"] == "gpt-5.2"
    assert "input" in server.requests[0]


def test_any_compatible_server_is_asked_with_chat_completions(recollect: Command, server: ResponsesServer) -> None:
    server.reply("Moo")
    given = ("--base-url", server.base_url, "--model", "llama3:8b")
    assert recollect("chat", "hi", *given, OPENAI_API_KEY=server.api_key).stdout == "Moo\n"
    assert server.requests[0]["model"] == "llama3:8b"
    assert "messages" in server.requests[0]


def test_a_model_that_fails_ends_with_one_line_and_the_run_is_kept(recollect: Command, server: ResponsesServer) -> None:
    server.fail(400, message="No such thing")
    result = recollect("chat", "hi", code=1, **server.environment())
    assert "No such thing" in result.stderr.splitlines()[-1]
    assert only_run(recollect)[0] is RunStatus.error
    assert "  failed: " in recollect("sessions", "show", "@last").stdout


@pytest.mark.parametrize(
    ("model", "base_url", "environment", "choice"),
    [
        ("echo", None, {"OPENAI_API_KEY": "k", "RECOLLECT_MODEL": "openai:x"}, Choice("echo")),
        (None, None, {"OPENAI_API_KEY": "k", "RECOLLECT_MODEL": "openai-chat:x:y"}, Choice("openai-chat", "x:y")),
        (None, None, {"OPENAI_API_KEY": "k"}, Choice("openai", "gpt-5.2")),
        ("x", "u", {}, Choice("openai-chat", "x", "u", "none")),
        ("x:8b", "u", {"OPENAI_API_KEY": "k"}, Choice("openai-chat", "x:8b", "u")),
        ("openai:x", "u", {"OPENAI_API_KEY": "k"}, Choice("openai", "x", "u")),
        (None, "u", {"OPENAI_API_KEY": "k", "RECOLLECT_MODEL": "openai-chat:x"}, Choice("openai-chat", "x", "u")),
    ],
)
def test_the_model_is_chosen_by_option_then_environment(
    model: str | None, base_url: str | None, environment: dict[str, str], choice: Choice
) -> None:
    assert choose(model, base_url, environment) == choice


def test_a_server_without_a_model_is_wrong_usage() -> None:
    with pytest.raises(InvalidArgument, match="which model of u is meant"):
        choose(None, "u", {"OPENAI_API_KEY": "k"})


@pytest.mark.of_a_file
def test_an_unknown_model_is_wrong_usage_and_nothing_is_stored(recollect: Command) -> None:
    assert "'gpt' is not 'echo'" in recollect("chat", "hi", "--model", "gpt", code=2).stderr
    assert not recollect.db_file.exists()


def on_terminal(
    recollect: Command, args: Sequence[str], script: Sequence[tuple[str, str]], **env: str
) -> tuple[str, int]:
    """Run the command on a terminal; type each second text when the first is seen."""
    pid, terminal = pty.fork()  # type: ignore[attr-defined,unused-ignore]
    if pid == 0:
        environment = recollect.environment(TERM="xterm-256color", **env)
        os.execve(  # noqa: S606 - the child of a fork
            sys.executable, [sys.executable, "-m", "recollect", *args], environment
        )
    seen, typed, steps, deadline = "", 0, list(script), time.monotonic() + 20
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            seen += os.read(terminal, 65536).decode(errors="replace")
        except OSError:
            break  # the other end is closed
        if steps and steps[0][0] in seen[typed:]:
            typed = len(seen)
            os.write(terminal, steps.pop(0)[1].encode())
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    return seen, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(recollect: Command, server: ResponsesServer) -> None:
    server.delay(0.05)
    server.reply(COUNTING)
    server.reply("At last")
    steps = [("> ", "Count\n"), ("three", "\x03"), ("> ", "Again\n"), ("last", ""), ("> ", "\x04")]
    seen, code = on_terminal(recollect, ["chat"], steps, **server.environment())
    assert code == 0
    assert "stopped; what was said until now is kept" in seen
    with recollect.store() as db:
        [header] = db.get_sessions()
        session = db.get_session(header.session_id)
    assert session is not None
    stopped, answered = session.runs
    assert stopped.status is RunStatus.cancelled
    assert "one two three" in stopped.messages[-1].text
    assert len(stopped.messages[-1].text) < len(COUNTING)
    assert answered.content == "At last"
    assert f"recollect chat --session {header.session_id}" in seen


class Interrupted:
    """Is pressed Ctrl-C upon where Python loses that: in a finalizer."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class InterruptedModel:
    """Goes on for long, and is pressed Ctrl-C upon at its second word."""

    id = "interrupted"
    provider = "test"

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        for place in range(100):
            if place == 1:
                Interrupted()
            yield Delta("word ")
        yield Reply(Message("assistant", "word " * 100))


def test_a_ctrl_c_that_python_loses_stops_an_answer_all_the_same(
    recollect: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    typed = iter(["Count"])
    monkeypatch.setattr("builtins.input", lambda _: next(typed, None))
    before = signal.getsignal(signal.SIGINT)
    with recollect.store() as db:
        _converse(Agent(InterruptedModel(), db=db).conversation("s"), "a new session")
    assert [one.exc_type for one in lost] == [KeyboardInterrupt]
    assert "stopped; what was said until now is kept" in capsys.readouterr().err
    status, said = only_run(recollect)
    assert (status, said) == (RunStatus.cancelled, ["Count", "word word "])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_ctrl_c_that_is_ignored_stays_ignored(recollect: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["Count"])
    monkeypatch.setattr("builtins.input", lambda _: next(typed, None))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with recollect.store() as db:
            _converse(Agent(InterruptedModel(), db=db).conversation("s"), "a new session")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert only_run(recollect)[0] is RunStatus.completed


def test_ctrl_c_at_the_prompt_asks_again(
    recollect: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter([KeyboardInterrupt, "  ", "Hello", EOFError])

    def answers(prompt: str) -> str:
        text = next(typed)
        if isinstance(text, str):
            return text
        raise text

    monkeypatch.setattr("builtins.input", answers)
    with recollect.store() as db:
        talk = Agent("echo", db=db).conversation("s")
        _converse(talk, "a new session")
    out, err = capsys.readouterr()
    assert out == "\nYou said: Hello\n\n\n"
    assert err.splitlines() == ["a new session", "Ctrl-D ends", "to go on: recollect chat --session s"]


def test_ctrl_c_stops_the_only_answer(recollect: Command, server: ResponsesServer) -> None:
    server.delay(0.05)
    server.reply(COUNTING)
    seen, code = on_terminal(recollect, ["chat", "Count"], [("three", "\x03")], **server.environment())
    assert code == 130, seen
    # Python says so where an interrupt falls into a finalizer.
    assert "Traceback" not in re.sub(r"Exception ignored in:.*?\nKeyboardInterrupt", "", seen, flags=re.DOTALL), seen
    assert only_run(recollect)[0] is RunStatus.cancelled


def test_a_terminal_gets_colours_unless_no_color_is_set(recollect: Command) -> None:
    with recollect.store() as db:
        turn(db, "s", "hi")
    plain, _ = on_terminal(recollect, ["sessions", "list"], [], NO_COLOR="1")
    assert "\x1b[36m" not in plain
    coloured, _ = on_terminal(recollect, ["sessions", "list"], [], NO_COLOR="")
    assert "\x1b[36ms" in coloured


def test_deleting_asks_on_a_terminal(recollect: Command) -> None:
    with recollect.store() as db:
        turn(db, "s", "hi")
    _, code = on_terminal(recollect, ["sessions", "delete", "s"], [("Delete 1 session?", "n\n")])
    assert code == 1
    seen, code = on_terminal(recollect, ["sessions", "delete", "s"], [("Delete 1 session?", "y\n")])
    assert code == 0
    assert "1 session deleted" in seen
