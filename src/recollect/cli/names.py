"""``recollect sessions name``: have a model name one session, or all that have no name."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from recollect.agent import Agent
from recollect.batch import BatchReport, Progress
from recollect.checks import encode
from recollect.cli.database import Db, existing
from recollect.cli.model import BaseUrl, ModelName, choose, open_choice
from recollect.cli.screen import aside, cut, line, plural, progress_bar, say
from recollect.cli.which import find
from recollect.errors import InvalidArgument
from recollect.session import SessionHeader

LISTED: Final = 10
"""Failures that are told; the rest are counted."""

STOPPED: Final = 130
"""The exit code of what Ctrl-C ended, as shells have it."""

_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def name(
    context: typer.Context,
    session: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Its id, the beginning of it, or @last.", show_default=False)
    ] = None,
    *,
    unnamed: Annotated[bool, typer.Option("--unnamed", help="All that have no name, or only a fallback.")] = False,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Only those active since: a date, or an age such as 12h or 7d."),
    ] = None,
    min_messages: Annotated[int, typer.Option("--min-messages", min=0, help="Only those with so many messages.")] = 2,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="How many at most.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=256, help="Questions at once.")] = 8,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many there are, and about what for.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    model_name: ModelName = None,
    base_url: BaseUrl = None,
    db: Db = None,
) -> None:
    """Have a model name one session, or all that have no name.

    The model is asked once for each session, with its first messages. What it makes no name for is named after its
    first message; a name given by hand is never touched. Other processes may do the same at the same time. Ctrl-C
    finishes what is under way, and another run goes on where this one was.

    Exits with 1 when a session could not be named, and with 130 after Ctrl-C.
    """
    if (session is None) != unnamed:
        raise InvalidArgument("ID", "name one session by its id, or all that have no name with --unnamed")
    choice = choose(model_name, base_url, os.environ)
    store = existing(context, db)
    agent = Agent(open_choice(choice, context), db=store)
    wanted = {"user_id": user, "since": _moment(since), "min_messages": min_messages, "limit": limit}
    if dry_run and session is None:
        _estimate(agent, wanted, json=json)
        return
    if choice.provider == "echo" and choice.notice:
        aside("no OPENAI_API_KEY is set, so names are made of the first messages; see --model and --base-url")
    if session is not None:
        _name_one(agent, find(store, session, user), dry_run=dry_run, json=json)
    else:
        _name_all(agent, wanted | {"concurrency": concurrency}, json=json)


def _name_one(agent: Agent, header: SessionHeader, *, dry_run: bool, json: bool) -> None:
    named = header if dry_run else agent.set_session_name(header.session_id, autogenerate=True)
    if json:
        told = {"session_id": named.session_id, "name": named.name, "name_source": named.name_source}
        typer.echo(encode(told))
        return
    if dry_run:
        say(f"{named.session_id} would be named; nothing was changed")
        return
    made = ", after its first message" if named.name_source == "fallback" else ""
    say(f"{named.session_id} is now named {line(named.name)!r}{made}")


def _estimate(agent: Agent, wanted: dict[str, Any], *, json: bool) -> None:
    estimate = agent.estimate_names(**wanted)
    if json:
        typer.echo(encode(estimate))
    else:
        say(f"{plural(estimate.sessions, 'session')}, about {estimate.tokens:,} tokens; nothing was changed")


def _name_all(agent: Agent, wanted: dict[str, Any], *, json: bool) -> None:
    with _told() as on_progress:
        report = agent.name_sessions(**wanted, on_progress=on_progress)
    if json:
        typer.echo(encode(report))
    else:
        _tell(report)
    if report.stopped == _BY_HAND:
        onward = "; run the command again to go on" if report.left else ""
        aside(f"stopped: {report.named:,} named, {report.left:,} left{onward}", "yellow")
        raise typer.Exit(STOPPED)
    if report.stopped is not None:
        aside(f"ended early: {line(report.stopped)}", "red")
    if report.failed or report.stopped is not None:
        raise typer.Exit(1)


_BY_HAND: Final = "Ctrl-C"


def _tell(report: BatchReport) -> None:
    if not (report.named or report.skipped or report.failed or report.stopped):
        say("nothing to name")
        return
    fallbacks = f" ({report.fallbacks:,} after their first message)" if report.fallbacks else ""
    told = [f"{report.named:,} named{fallbacks}"]
    told += [f"{report.skipped:,} skipped"] if report.skipped else []
    told += [f"{len(report.failed):,} failed"] if report.failed else []
    say(", ".join([*told, f"{report.total_tokens:,} tokens"]))
    for failure in report.failed[:LISTED]:
        aside(f"  {failure.session_id}: {cut(line(failure.reason), 160)}", "red")
    if len(report.failed) > LISTED:
        aside(f"  ... and {len(report.failed) - LISTED:,} more", "red")


@contextmanager
def _told() -> Iterator[Callable[[Progress], None]]:
    """What shows on a terminal how far the batch is. Ctrl-C stops it, a second one at once."""
    bar = progress_bar("naming")
    task = bar.add_task("naming", total=None, told="")
    current: list[Progress] = []

    def show(progress: Progress) -> None:
        current[:] = [progress]
        failed = f", {progress.failed:,} failed" if progress.failed else ""
        told = f"{progress.total_tokens:,} tokens{failed}  {cut(line(progress.name), 40)}"
        bar.update(task, total=progress.total, completed=progress.done, told=told)

    def stop(*_: object) -> None:
        if not current or current[0].stopped is not None:
            raise KeyboardInterrupt
        current[0].stop(_BY_HAND)
        aside("stopping: what is under way is finished; Ctrl-C again ends at once", "yellow")

    before = signal.signal(signal.SIGINT, stop)
    try:
        with bar:
            yield show
    finally:
        signal.signal(signal.SIGINT, before)


def _moment(text: str | None) -> datetime | None:
    """A date or time, of this place where it names none, or an age such as 7d.

    Raises:
        InvalidArgument: it is neither.
    """
    if text is None:
        return None
    age = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if age:
        return datetime.now(UTC) - timedelta(seconds=int(age[1]) * _UNITS[age[2]])
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        problem = f"{text!r} is neither a date such as 2026-01-31 nor an age such as 12h or 7d"
        raise InvalidArgument("--since", problem) from error
