"""``recollect sessions show``: a session as it was, and as it goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from recollect.checks import encode
from recollect.cli.database import Db, existing
from recollect.cli.screen import err, out, plural
from recollect.cli.transcript import Part, heading, parts, rendered, shown_runs
from recollect.cli.which import Which, find
from recollect.errors import InvalidArgument, SessionNotFound
from recollect.message import Message
from recollect.run import RunOutput
from recollect.session import AgentSession, SessionHeader
from recollect.store import Store

PAUSE = 0.3
"""Seconds between two looks at a session that is followed."""


def show(
    context: typer.Context,
    session: Which,
    *,
    last: Annotated[int | None, typer.Option("--last", "-n", metavar="N", min=0, help="Only the last N runs.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Unfold tool calls, system messages and thinking.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
    pager: Annotated[bool, typer.Option("--pager/--no-pager", help="Page through it on a terminal.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the session as JSON.")] = False,
    db: Db = None,
) -> None:
    """Read a session: what was said, which tools were called, how each run ended."""
    if json and follow:
        raise InvalidArgument("--json", "does not go together with --follow")
    store = existing(context, db)
    header = find(store, session)
    if json:
        typer.echo(_json(_read(store, header.session_id), last))
    elif follow:
        _follow(store, header, last, full=full)
    else:
        _page(out(), _read(store, header.session_id), last, full=full, pager=pager)


def _read(store: Store, session_id: str) -> AgentSession:
    session = store.get_session(session_id)
    if session is None:
        msg = f"session {session_id!r} was deleted"
        raise SessionNotFound(msg)
    return session


def _json(session: AgentSession, last: int | None) -> bytes:
    told = session.to_dict()
    if last is not None:
        told["runs"] = told["runs"][len(told["runs"]) - min(last, len(told["runs"])) :]
    return msgspec.json.format(encode(told), indent=2)


def _page(console: Console, session: AgentSession, last: int | None, *, full: bool, pager: bool) -> None:
    if not (pager and console.is_terminal):
        _print(console, session, last, full=full)
        return
    os.environ.setdefault("LESS", "-FRX")  # colours, and no waiting for what fits on the screen
    with console.pager(styles=console.color_system is not None):
        _print(console, session, last, full=full)


def _print(console: Console, session: AgentSession, last: int | None, *, full: bool) -> None:
    console.print(heading(session.header))
    runs = shown_runs(session.runs, full=full)
    left_out = 0 if last is None else max(len(runs) - last, 0)
    if left_out:
        console.print(f"\n{plural(left_out, 'earlier run')} not shown", style="dim")
    _put(console, _parts(runs[left_out:], full=full), full=full)


def _put(console: Console, shown: Sequence[Part] | Iterator[Part], *, full: bool) -> None:
    """Print parts, with an empty line between them; folded tool calls stand close together."""
    above: Part | None = None
    terminal = console.is_terminal
    for part in shown:
        if full or above is None or above.call is None or part.call is None:
            console.print()
        console.print(rendered(part, full=full, terminal=terminal), soft_wrap=not terminal)
        above = part


def _parts(runs: Sequence[RunOutput], *, full: bool) -> Iterator[Part]:
    for _, made in _parts_by_run(runs, full=full):
        yield from made


def _parts_by_run(runs: Sequence[RunOutput], *, full: bool) -> Iterator[tuple[str, list[Part]]]:
    """The parts of each run, by its id; a system message only where it changes."""
    prompt: Message | None = None
    for run in runs:
        made = parts(run, prompt)
        yield run.run_id, [part for part in made if full or part.kind != "thinking"]
        prompt = run.prompt or prompt


def _follow(store: Store, header: SessionHeader, last: int | None, *, full: bool) -> None:
    console = out()
    console.print(heading(header))
    session = _read(store, header.session_id)
    runs = shown_runs(session.runs, full=full)
    told = dict.fromkeys((run.run_id for run in runs[: 0 if last is None else max(len(runs) - last, 0)]), 1 << 30)
    try:
        while True:
            _put(console, _news(session, told, full=full), full=full)
            session = _next(store, session)
    except KeyboardInterrupt:
        err().print()


def _news(session: AgentSession, told: dict[str, int], *, full: bool) -> Iterator[Part]:
    """What was not told yet, up to what may still change; ``told`` counts the parts of each run that were."""
    for run_id, made in _parts_by_run(shown_runs(session.runs, full=full), full=full):
        while told.setdefault(run_id, 0) < len(made) and made[told[run_id]].settled:
            yield made[told[run_id]]
            told[run_id] += 1


def _next(store: Store, session: AgentSession) -> AgentSession:
    """The session as it is after its next change."""
    while True:
        time.sleep(PAUSE)
        header = store.get_header(session.session_id)
        if header is None or (header.epoch, header.version) != (session.header.epoch, session.version):
            return _read(store, session.session_id)
