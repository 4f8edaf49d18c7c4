"""``recollect chat``: one answer, or a conversation at the prompt."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Annotated

import typer

from recollect.agent import Agent
from recollect.cli.database import Db, existing, opened
from recollect.cli.model import BaseUrl, ModelName, choose, open_choice
from recollect.cli.screen import aside, cut, line, plural, visible
from recollect.cli.which import find
from recollect.conversation import Conversation
from recollect.errors import DatabaseBusy, InvalidArgument, RunFailed
from recollect.session import SessionHeader


def chat(
    context: typer.Context,
    message: Annotated[
        str | None,
        typer.Argument(
            metavar="MESSAGE", help="What to say, or - to read it from the standard input.", show_default=False
        ),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option("--session", "-s", metavar="ID", help="Continue this one: its id, the beginning of it, or @last."),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Who speaks; the owner of a new session.")] = None,
    model_name: ModelName = None,
    base_url: BaseUrl = None,
    instructions: Annotated[
        str | None, typer.Option("--instructions", "-i", metavar="TEXT", help="The system message.")
    ] = None,
    db: Db = None,
) -> None:
    """Talk with a model in a session that is kept.

    With a MESSAGE it is answered once. Without one, on a terminal, you are asked for one after the other: Ctrl-C stops
    an answer (what was said is kept), Ctrl-D ends. A new session begins unless you name one with --session.
    """
    text = _said(message)
    choice = choose(model_name, base_url, os.environ)
    store = opened(context, db) if session is None else existing(context, db)
    header = None if session is None else find(store, session, user)
    model = open_choice(choice, context)
    agent = Agent(model, db=store, instructions=instructions)
    talk = agent.conversation(None if header is None else header.session_id, user)
    if choice.notice:
        aside(choice.notice)
    if text is None:
        _converse(talk, _greeting(header, choice.name))
    else:
        _answer_once(talk, text)


def _said(message: str | None) -> str | None:
    if message is None:
        if sys.stdin.isatty():
            return None
        raise InvalidArgument("MESSAGE", "is missing; give one, or - to read it from the standard input")
    text = sys.stdin.read() if message == "-" else message
    if not text.strip():
        raise InvalidArgument("MESSAGE", "is empty")
    return text


def _greeting(header: SessionHeader | None, model: str) -> str:
    if header is None:
        return f"a new session with {model}; Ctrl-D ends"
    runs = plural(header.run_count, "run")
    return f"{cut(line(header.title), 60)} ({runs} until now) with {model}; Ctrl-D ends"


def _answer_once(talk: Conversation, text: str) -> None:
    try:
        _answer(talk, text)
    except KeyboardInterrupt:
        aside("stopped; what was said until now is kept")
        _say_how_to_go_on(talk)
        raise typer.Exit(130) from None
    except RunFailed:
        _say_how_to_go_on(talk)
        raise
    _say_how_to_go_on(talk)


def _converse(talk: Conversation, greeting: str) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - makes input() editable, with a history
    aside(greeting)
    try:
        while (text := _ask()) is not None:
            if text.strip():
                _answer_and_stay(talk, text)
    finally:
        _say_how_to_go_on(talk)


def _ask() -> str | None:
    """The next thing that is typed; None at the end."""
    try:
        return input("> ")
    except EOFError:
        typer.echo()
        return None
    except KeyboardInterrupt:
        typer.echo()
        aside("Ctrl-D ends")
        return ""


def _answer_and_stay(talk: Conversation, text: str) -> None:
    try:
        _answer(talk, text)
    except KeyboardInterrupt:
        aside("stopped; what was said until now is kept")
    except (RunFailed, DatabaseBusy) as error:
        aside(f"error: {error}", "red")
    typer.echo()


def _answer(talk: Conversation, text: str) -> None:
    """Write the answer as it comes, and end it with a line break however it ends."""
    shown = visible if sys.stdout.isatty() else str
    last = "\n"
    try:
        with _ctrl_c() as was_pressed, talk.run(text, stream=True) as events:
            for event in events:
                last = event.content or last
                sys.stdout.write(shown(event.content or ""))
                sys.stdout.flush()
                if was_pressed():
                    raise KeyboardInterrupt
    finally:
        if not last.endswith("\n"):
            typer.echo()


@contextlib.contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, for Python loses an interrupt that falls into a finalizer, or into code of C's."""
    pressed: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # where it is ignored, it stays so
    if is_heeded:
        signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        if is_heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _say_how_to_go_on(talk: Conversation) -> None:
    if talk.agent.db.get_header(talk.session_id) is not None:
        aside(f"to go on: recollect chat --session {talk.session_id}")
