"""``recollect sessions``: find, read, name, delete and move them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from recollect.cli import marks, names, search, show, transfer
from recollect.cli.database import Db, existing
from recollect.cli.screen import ago, aside, cut, line, out, plural, print_headers, say, short_ids
from recollect.cli.which import Several, Which, find
from recollect.errors import InvalidArgument
from recollect.session import SessionHeader
from recollect.store.lists import SessionFilters

PAGE = 200

app = typer.Typer(help="Find, read, name, delete and move sessions.", no_args_is_help=True, rich_markup_mode=None)
User = Annotated[str | None, typer.Option("--user", "-u", help="Only this user's.")]


@app.callback()
def group(db: Db = None) -> None:
    """Find, read, name, delete and move sessions."""


@app.command("list")
def list_sessions(
    context: typer.Context,
    *,
    user: User = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Only those of the agent with this id.")] = None,
    kind: Annotated[Literal["agent", "team"] | None, typer.Option("--kind", help="Only those begun by this.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only those whose name contains this.")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="Only those with this tag; may be repeated.")] = None,
    archived: Annotated[bool | None, typer.Option(help="Only those that are archived, or are not.")] = None,
    pinned: Annotated[bool | None, typer.Option(help="Only those that are pinned, or are not.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    every: Annotated[bool, typer.Option("--all", help="All of them, however many.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print them as JSON, each on a line of its own.")] = False,
    db: Db = None,
) -> None:
    """List sessions, the last active ones first.

    The id may be cut to its beginning, which other commands take as it is. What is in italics is no name but what the
    user said first.
    """
    store = existing(context, db)
    page = PAGE if every else min(limit + 1, PAGE)
    wanted: SessionFilters = {"user_id": user, "agent_id": agent, "kind": kind, "name": name, "limit": page}
    wanted |= {"tags": tags, "archived": archived, "pinned": pinned}
    found = store.iter_sessions(**wanted)
    if json:
        print_headers(found if every else islice(found, limit))
        return
    headers = list(found if every else islice(found, limit + 1))
    shown = headers if every else headers[:limit]
    if not shown:
        aside("no sessions")
        return
    out().print(_table(shown, datetime.now(UTC)))
    if len(headers) > len(shown):
        aside(f"\nthe last {limit}; there are more: --limit, --all, --user, --name")


app.command("show")(show.show)
app.command("search")(search.search)


@app.command("rename")
def rename(
    context: typer.Context,
    session: Which,
    name: Annotated[str, typer.Argument(help="Its new name, of at most 200 characters.", show_default=False)],
    db: Db = None,
) -> None:
    """Give a session a name."""
    store = existing(context, db)
    named = store.set_session_name(find(store, session).session_id, name)
    say(f"{named.session_id} is now named {line(named.name)!r}")


app.command("name")(names.name)


@app.command("delete")
def delete(
    context: typer.Context,
    sessions: Several,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    db: Db = None,
) -> None:
    """Delete sessions with everything in them. There is no way back."""
    store = existing(context, db)
    headers = {header.session_id: header for header in [find(store, which) for which in sessions]}
    if not yes:
        _confirm(list(headers.values()))
    count = store.delete_sessions(list(headers))
    say(f"{plural(count, 'session')} deleted")


app.command("tag")(marks.tag)
app.command("archive")(marks.archive)
app.command("pin")(marks.pin)
app.command("purge")(marks.purge)
app.command("export")(transfer.export_sessions)
app.command("import")(transfer.import_sessions)


def _table(headers: Sequence[SessionHeader], now: datetime) -> Table:
    """Where there is not room for all of it, the names give way."""
    columns = {
        "ID": [Text(line(text), "cyan") for text in short_ids([header.session_id for header in headers])],
        "NAME": [_title(header) for header in headers],
        "USER": [Text(cut(line(header.user_id or ""), 24)) for header in headers],
        "RUNS": [Text(f"{header.run_count:,}", justify="right") for header in headers],
        "MESSAGES": [Text(f"{header.message_count:,}", justify="right") for header in headers],
        "LAST ACTIVITY": [Text(ago(header.updated_at, now)) for header in headers],
    }
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title, cells in columns.items():
        gives_way = title == "NAME"
        width = None if gives_way else max(len(title), *(cell.cell_len for cell in cells))
        most = 60 if gives_way else None
        table.add_column(title, no_wrap=not gives_way, overflow="ellipsis", min_width=width, max_width=most)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _title(header: SessionHeader) -> Text:
    if not header.name and not header.preview:
        return Text("(empty)", "dim")
    return Text(line(header.title), "" if header.name else "italic", no_wrap=True, overflow="ellipsis")


def _confirm(headers: Sequence[SessionHeader]) -> None:
    if not sys.stdin.isatty():
        raise InvalidArgument("--yes", "deleting asks first, and there is no terminal to ask on; say --yes")
    for header in headers:
        say(f"  {header.session_id}  {cut(line(header.title), 50)}  ({plural(header.run_count, 'run')})")
    typer.confirm(f"Delete {plural(len(headers), 'session')}?", abort=True)
