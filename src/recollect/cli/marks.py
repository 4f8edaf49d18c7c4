"""``recollect sessions tag``, ``archive``, ``pin`` and ``purge``: how sessions are kept, and for how long."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Final

import typer

from recollect.checks import encode
from recollect.cli.database import Db, existing
from recollect.cli.screen import aside, clock, cut, line, plural, print_headers, say
from recollect.cli.which import Several, Which, find
from recollect.errors import InvalidArgument
from recollect.session import SessionHeader
from recollect.store import Store

SHOWN: Final = 20
"""Sessions that are named before a purge; the rest are counted."""

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN: Final = re.compile(r"(\d{1,6})([mhdw])")


def span(text: str) -> timedelta:
    """A span of time as it is typed: ``90d``, ``12h``, ``2w``, ``30m``.

    Raises:
        InvalidArgument: it is none.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        raise InvalidArgument("--older-than", f"{text!r} is no span of time such as 90d, 12h, 2w or 30m")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def ago(text: str) -> datetime:
    """The moment that lies a span of time back.

    Raises:
        InvalidArgument: it is no span of time, or longer than there has been a calendar.
    """
    try:
        return datetime.now(UTC) - span(text)
    except OverflowError:
        raise InvalidArgument("--older-than", f"{text!r} is no span of time that anything is old") from None


def tag(
    context: typer.Context,
    session: Which,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help="Tags to add.")] = None,
    *,
    remove: Annotated[list[str] | None, typer.Option("--remove", "-r", help="A tag to take away.")] = None,
    db: Db = None,
) -> None:
    """Add tags to a session, take some away, and print those that it then has."""
    store = existing(context, db)
    for one in store.tag_session(find(store, session).session_id, tags or (), remove=remove or ()):
        say(line(one))


def archive(
    context: typer.Context,
    sessions: Several,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Take them out of the archive.")] = False,
    db: Db = None,
) -> None:
    """Put sessions away. They may be used all the same."""
    store = existing(context, db)
    for header in [find(store, which) for which in sessions]:
        store.archive_session(header.session_id, not undo)
        say(f"{header.session_id} is {'not ' if undo else ''}archived")


def pin(
    context: typer.Context,
    sessions: Several,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Let go of them.")] = False,
    db: Db = None,
) -> None:
    """Pin sessions."""
    store = existing(context, db)
    for header in [find(store, which) for which in sessions]:
        store.pin_session(header.session_id, not undo)
        say(f"{header.session_id} is {'not ' if undo else ''}pinned")


def purge(
    context: typer.Context,
    *,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="SPAN", help="Those without activity for so long: 90d, 12h, 2w, 30m."),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list and count them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print how many, and with --dry-run which, as JSON.")] = False,
    db: Db = None,
) -> None:
    """Delete sessions whose time is over, or that nobody used for long. There is no way back.

    A session in which somebody is at work stays, and so does one that becomes active meanwhile.
    """
    store = existing(context, db)
    # One moment for all that follows: what is asked about is what is deleted.
    before = None if older_than is None else ago(older_than)
    if dry_run:
        due = store.iter_purgeable(older_than=before, user_id=user)
        print_headers(due) if json else _list(due)
        return
    if not yes and not _confirmed(store, before, user):
        aside("no sessions to delete")
        return
    count = store.purge_sessions(older_than=before, user_id=user)
    typer.echo(encode({"deleted": count})) if json else say(f"{plural(count, 'session')} deleted")


def _list(headers: Iterable[SessionHeader]) -> None:
    """What would go, as it is found, and how many that are."""
    count = 0
    for header in headers:
        say(_told(header))
        count += 1
    say(f"{plural(count, 'session')} would be deleted")


def _confirmed(store: Store, before: datetime | None, user: str | None) -> bool:
    """Ask; False where there is nothing to ask about."""
    if not sys.stdin.isatty():
        raise InvalidArgument("--yes", "purging asks first, and there is no terminal to ask on; say --yes")
    count = store.purge_sessions(older_than=before, user_id=user, dry_run=True)
    for header in islice(store.iter_purgeable(older_than=before, user_id=user), SHOWN):
        say(_told(header))
    if count > SHOWN:
        aside(f"  ... and {count - SHOWN:,} more")
    if count:
        typer.confirm(f"Delete {plural(count, 'session')}?", abort=True)
    return count > 0


def _told(header: SessionHeader) -> str:
    return f"  {header.session_id}  {cut(line(header.title), 50)}  ({clock(header.updated_at)})"
