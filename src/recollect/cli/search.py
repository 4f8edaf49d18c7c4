"""``recollect sessions search``: what was ever said, found."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal

import typer
from rich.text import Text

from recollect.checks import encode
from recollect.cli.database import Db, existing
from recollect.cli.screen import aside, clock, cut, line, out, visible
from recollect.cli.which import find
from recollect.errors import DatabaseBusy, DatabaseFull, DatabaseReadOnly
from recollect.hit import SearchHit
from recollect.store import Store
from recollect.store.hits import MOST

FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help='Words, "phrases" and beginnings (foo*).', show_default=False)],
    *,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="Only this session: id, prefix or @last.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Only sessions of the agent with this id.")] = None,
    kind: Annotated[Literal["agent", "team"] | None, typer.Option("--kind", help="Only those begun by this.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=FORMATS, help="The earliest time, by this place's clock.")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--until", formats=FORMATS, help="The time before which.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print the hits as a JSON array.")] = False,
    db: Db = None,
) -> None:
    """Find what was said: messages, and names and summaries of sessions, the newest first.

    All words must be there, whatever their case and accents. What is in bold is what was searched for.
    """
    store = existing(context, db)
    _catch_up(store)
    session_id = None if session is None else find(store, session, user).session_id
    found: list[SearchHit] = []
    cursor = None
    while len(found) <= limit:
        page = store.search(
            query,
            user_id=user,
            session_id=session_id,
            agent_id=agent,
            kind=kind,
            since=None if since is None else since.astimezone(),
            until=None if until is None else until.astimezone(),
            limit=min(limit + 1 - len(found), MOST),
            cursor=cursor,
        )
        found += page
        if (cursor := page.next_cursor) is None:
            break
    _print(found, limit, json=json)


def _catch_up(store: Store) -> None:
    """Have everything found fast, once, rather than look through it with each command."""
    with suppress(DatabaseReadOnly, DatabaseBusy, DatabaseFull):  # then it is looked through
        store.index_sessions()


def _print(found: list[SearchHit], limit: int, *, json: bool) -> None:
    shown = found[:limit]
    if json:
        typer.echo(b"[" + b",".join(b"\n" + encode(hit) for hit in shown) + (b"\n]" if shown else b"]"))
        return
    if not shown:
        aside("nothing found")
        return
    for hit in shown:
        out().print(_told(hit), soft_wrap=True)
    if len(found) > limit:
        aside(f"\nthe newest {limit}; there are more: --limit, --until, --user")


def _told(hit: SearchHit) -> Text:
    """Where a hit is, and under it what it says."""
    place = hit.where if hit.run_id is None else f"{hit.role} {hit.run_seq}.{hit.idx}"
    named = f"  {cut(line(hit.session_name), 60)}" if hit.session_name else ""
    told = Text.assemble((line(hit.session_id), "cyan"), named, (f"  {place}  {clock(hit.time)}\n  ", "dim"))
    done = 0
    for begin, end in hit.marks:
        told.append(visible(hit.snippet[done:begin])).append(visible(hit.snippet[begin:end]), "bold")
        done = end
    return told.append(visible(hit.snippet[done:]))
