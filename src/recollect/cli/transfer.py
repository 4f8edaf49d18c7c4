"""``recollect sessions import`` and ``export``: conversations from and to files of JSON lines."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Literal

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

from recollect.agno import AgnoDatabase
from recollect.cli import agno
from recollect.cli.database import Db, existing, opened
from recollect.cli.intake import Item, Tally, check, refuse_bad, store_all
from recollect.cli.screen import aside, err, plural
from recollect.cli.which import find
from recollect.errors import InvalidArgument
from recollect.store import Store
from recollect.transfer import read_lines, write_line


def import_sessions(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="The file, or - for the standard input; of agno also a URL.", show_default=False
        ),
    ],
    *,
    form: Annotated[
        Literal["jsonl", "agno"], typer.Option("--from", help="JSON lines, or a database of Agno's.")
    ] = "jsonl",
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="The owner of conversations that name no user_id.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Pass over what is bad, and list it.")] = False,
    table: Annotated[str | None, typer.Option("--table", help="Of agno: the table of sessions.")] = None,
    runs_table: Annotated[str | None, typer.Option("--runs-table", help="Of agno: the table of runs.")] = None,
    schema: Annotated[str | None, typer.Option("--schema", help="Of agno: the Postgres schema.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    db: Db = None,
) -> None:
    """Store conversations from a file of JSON lines, or from a database that Agno has written.

    A line is {"conversation_id": "...", "messages": [...]} with messages in the Chat Completions form; user_id, name,
    metadata and any other keys may stand beside them and are kept.

    With --from agno, FILE is an SQLite file or a postgresql:// address of Agno 2 or 3. It is only read, and what was
    stored is counted again at the end.

    All of it is checked before anything is written. Each conversation is stored whole; each user message begins a
    run. What is stored already is left as it is, so an import that was stopped goes on when it is started again.

    Exits with 1 when a line is bad or a count differs, and with 4 when a conversation does not continue what is stored
    of it; for what is bad, not so with --skip-bad.
    """
    if form == "agno":
        with AgnoDatabase(file, schema=schema, table=table, runs_table=runs_table) as database:
            agno.import_from(database, opened(context, db), user=user, skip_bad=skip_bad, json=json)
        return
    _refuse_options(table=table, runs_table=runs_table, schema=schema)
    with _source(file) as source:
        tally, bad = Tally(), check(_lines(source, user, "checking"))
        refuse_bad(bad, tally, skip_bad=skip_bad)
        source.seek(0)
        store_all(opened(context, db), _lines(source, user, "storing"), tally, bad, skip_bad=skip_bad, json=json)


def _refuse_options(**given: str | None) -> None:
    """Refuse options that only a database has."""
    for name, value in given.items():
        if value is not None:
            raise InvalidArgument(f"--{name.replace('_', '-')}", "goes together with --from agno only")


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


def _lines(source: IO[bytes], user: str | None, doing: str) -> Iterator[Item]:
    """The conversations of a file, with a bar that shows how far it was read."""
    size = os.fstat(source.fileno()).st_size
    with _progress(TaskProgressColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(doing, total=size)
        for line in read_lines(source, user):
            if line.session is not None or line.problem:
                yield Item(line.number, f"line {line.number}", line.session, (line.problem,) if line.problem else ())
            progress.advance(task, line.size)


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
        except BaseException:  # whatever ends it, no half of a file is left
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
