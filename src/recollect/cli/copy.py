"""``recollect copy``: all sessions from one database into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

import msgspec
import typer

from recollect.checks import encode
from recollect.cli.database import existing, opened
from recollect.cli.screen import aside, cut, line, plural, progress_bar, say
from recollect.copying import CopyReport, Outcome, copy_sessions, count_sessions

LISTED: Final = 20
"""Sessions that are named for each kind of trouble; the rest are counted."""


def copy(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file or URL to read.", show_default=False)],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A file or URL to write; made if need be.", show_default=False)
    ],
    *,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's sessions.")] = None,
    verify: Annotated[bool, typer.Option(help="Read back what was written, and compare it.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Copy all sessions from one database into another, exactly as they are.

    A session that the target has already is left alone if it is the same, brought up to the source's if all it holds
    is in that, and told, untouched, if it differs. So a copy that was broken off is simply begun again, and one of a
    database in use can be repeated until the move.

    Exits with 1 when a session differs or could not be copied.
    """
    read = existing(context, source)
    written = opened(context, target)
    with _bar(count_sessions(read, user)) as on_progress:
        report = copy_sessions(read, written, user_id=user, verify=verify, on_progress=on_progress)
    if json:
        typer.echo(encode({**msgspec.structs.asdict(report), "is_whole": report.is_whole}))
    else:
        _tell(report, verify=verify)
    raise typer.Exit(0 if report.is_whole else 1)


def _tell(report: CopyReport, *, verify: bool) -> None:
    told = [f"{report.copied:,} copied"]
    told += [f"{report.continued:,} continued"] if report.continued else []
    told += [f"{report.same:,} there already"] if report.same else []
    told += [f"{len(report.differing):,} different"] if report.differing else []
    told += [f"{len(report.failed):,} failed"] if report.failed else []
    what = f"{plural(report.runs, 'run')} and {plural(report.messages, 'message')} written"
    rate = f", {report.sessions / report.seconds:,.0f} a second" if report.seconds else ""
    say(f"{plural(report.sessions, 'session')}: {', '.join(told)}; {what} in {report.seconds:.1f} s{rate}")
    if verify:
        say(f"verified: {report.verified:,} of {report.sessions:,} have the same content on both sides")
    _list("differs", report.differing)
    _list("failed", report.failed)


def _list(what: str, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes[:LISTED]:
        aside(f"  {line(outcome.session_id)} {what}: {cut(line(outcome.reason), 160)}", "red")
    if len(outcomes) > LISTED:
        aside(f"  ... and {len(outcomes) - LISTED:,} more", "red")


@contextmanager
def _bar(total: int) -> Iterator[Callable[[CopyReport], None]]:
    """What shows on a terminal how far the copy is."""
    bar = progress_bar("copying")
    task = bar.add_task("copying", total=total, told="")

    def show(report: CopyReport) -> None:
        told = f"{report.messages:,} messages"
        bar.update(task, total=max(total, report.sessions), completed=report.sessions, told=told)

    with bar:
        yield show
