"""``recollect sessions import`` and ``export``: conversations from and to files of JSON lines."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from recollect.cli.database import Db, existing, opened
from recollect.cli.screen import aside, err, plural, say
from recollect.cli.which import find
from recollect.errors import Conflict, InvalidArgument, RunConflict, SessionNotFound
from recollect.session import AgentSession
from recollect.store import Store
from recollect.transfer import fit, read_lines, write_line

LISTED = 20
"""Bad lines that are named; the rest are counted."""


def import_sessions(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The file, or - for the standard input.", show_default=False)
    ],
    *,
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="The owner of conversations that name no user_id.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Pass over bad lines, and list them.")] = False,
    db: Db = None,
) -> None:
    """Store conversations from a file of JSON lines.

    A line is {"conversation_id": "...", "messages": [...]} with messages in the Chat Completions form; user_id, name,
    metadata and any other keys may stand beside them and are kept.

    The whole file is checked before anything is written. Each conversation is stored whole; each user message begins a
    run. What is stored already is left as it is, so an import that was stopped goes on when it is started again.

    Exits with 1 when a line is bad, and with 4 when a conversation does not continue what is stored of it; not so with
    --skip-bad.
    """
    with _source(file) as source:
        bad = _check(source, user)
        if bad and not skip_bad:
            _list_bad(bad)
            aside("nothing was stored; mend the file, or pass over these lines with --skip-bad", "red")
            raise typer.Exit(1)
        source.seek(0)
        _store(opened(context, db), source, user, bad, skip_bad=skip_bad)


def export_sessions(
    context: typer.Context,
    sessions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Ids, their beginnings, or @last; all when none is named."),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there, and only when all went well.")
    ] = None,
    db: Db = None,
) -> None:
    """Write sessions as JSON lines that import reads, the oldest first.

    Messages are written as they came. Runs of a team's members and regenerated runs are left out.
    """
    store = existing(context, db)
    ids = [find(store, which, user).session_id for which in sessions or ()] or _every_id(store, user)
    with _target(output) as target:
        count = sum(_exported(store, target, session_id) for session_id in _counted(ids, "exporting", quiet=not output))
    if output is not None:
        aside(f"{plural(count, 'session')} written to {output}")


class _Tally:
    """What became of the conversations of a file."""

    def __init__(self) -> None:
        self.new = self.grown = self.same = self.runs = 0

    def __str__(self) -> str:
        told = [f"{plural(self.new, 'session')} new"]
        told += [f"{self.grown:,} grown"] if self.grown else []
        told += [f"{self.same:,} stored already"] if self.same else []
        return ", ".join(told) + f" ({plural(self.runs, 'run')} added)"

    def add(self, store: Store, session: AgentSession) -> None:
        before = store.get_header(session.session_id)
        after = store.upsert_session(fit(session, before))
        if before is None:
            self.new += 1
        elif after.version == before.version:
            self.same += 1
        else:
            self.grown += 1
        self.runs += after.run_count - (0 if before is None else before.run_count)


@contextmanager
def _source(file: str) -> Iterator[IO[bytes]]:
    """The file to be read, twice: what comes through a pipe is put into a temporary one."""
    if file == "-":
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.seek(0)
            yield copy
        return
    with Path(file).open("rb") as source:
        if source.seekable():
            yield source
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(source, copy)
            copy.seek(0)
            yield copy


def _check(source: IO[bytes], user: str | None) -> list[tuple[int, str]]:
    """The bad lines, by number."""
    size = os.fstat(source.fileno()).st_size
    bad = []
    with _progress(TaskProgressColumn()) as progress:
        task = progress.add_task("checking", total=size)
        for line in read_lines(source, user):
            if line.problem:
                bad.append((line.number, line.problem))
            progress.advance(task, line.size)
    return bad


def _store(store: Store, source: IO[bytes], user: str | None, bad: list[tuple[int, str]], *, skip_bad: bool) -> None:
    """Store what the lines say; whatever happens, say how far it came."""
    tally, passed_over = _Tally(), {number for number, _ in bad}
    try:
        for number, session in _sessions(source, user, passed_over):
            try:
                tally.add(store, session)
            except (Conflict, SessionNotFound, InvalidArgument) as error:
                bad.append((number, _unfit(session, error)))
                if not skip_bad:
                    break
    except KeyboardInterrupt:
        aside(f"stopped: {tally}; the same command goes on from here", "yellow")
        raise typer.Exit(130) from None
    except BaseException:
        aside(f"broken off: {tally}", "yellow")
        raise
    _list_bad(sorted(bad))
    say(str(tally))
    if bad and not skip_bad:
        aside("stopped there; --skip-bad passes over such lines", "red")
        raise typer.Exit(4)


def _sessions(source: IO[bytes], user: str | None, passed_over: set[int]) -> Iterator[tuple[int, AgentSession]]:
    size = os.fstat(source.fileno()).st_size
    with _progress(TaskProgressColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("storing", total=size)
        for line in read_lines(source, user):
            if line.session is not None and line.number not in passed_over:
                yield line.number, line.session
            progress.advance(task, line.size)


def _unfit(session: AgentSession, error: Exception) -> str:
    if not isinstance(error, RunConflict):
        return str(error)
    return (
        f"conversation {session.session_id!r} does not continue what is stored of it, which is never replaced: in the "
        "file, a stored run has other messages, or more of them. Delete the session and import it anew, or rename one"
    )


def _list_bad(bad: Sequence[tuple[int, str]]) -> None:
    for number, problem in bad[:LISTED]:
        aside(f"line {number}: {problem}", "red")
    if len(bad) > LISTED:
        aside(f"... and {plural(len(bad) - LISTED, 'more bad line')}", "red")


def _every_id(store: Store, user: str | None) -> list[str]:
    """All ids, the oldest session first; only ids are held in memory."""
    ids = [header.session_id for header in store.iter_sessions(user_id=user, sort="created_at")]
    ids.reverse()
    return ids


def _exported(store: Store, target: IO[bytes], session_id: str) -> bool:
    session = store.get_session(session_id)
    if session is None:
        return False  # deleted meanwhile
    target.write(write_line(session).encode() + b"\n")
    return True


@contextmanager
def _target(output: Path | None) -> Iterator[IO[bytes]]:
    """Where to write; a file takes its name when it is whole, and one of that name is replaced only then."""
    if output is None:
        yield typer.get_binary_stream("stdout")
        return
    if output.exists() and not output.is_file():
        with output.open("wb") as target:
            yield target
        return
    if not output.parent.is_dir():
        raise InvalidArgument("--output", f"there is no folder {output.parent}")
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False) as made:
        try:
            yield made.file
            made.close()
            Path(made.name).replace(output)
        except BaseException:
            Path(made.name).unlink(missing_ok=True)
            raise


def _counted(ids: Sequence[str], what: str, *, quiet: bool) -> Iterable[str]:
    if quiet:
        yield from ids
        return
    with _progress(MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        yield from progress.track(ids, description=what)


def _progress(*columns: ProgressColumn) -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    console = err()
    shown = (TextColumn("{task.description}"), BarColumn(), *columns)
    return Progress(*shown, console=console, transient=True, disable=not console.is_terminal)
