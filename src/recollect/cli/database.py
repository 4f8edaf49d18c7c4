"""The database a command works on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recollect.db import open_db
from recollect.errors import NotFound
from recollect.store import Store

DEFAULT = "recollect.db"

Db = Annotated[
    str | None,
    typer.Option("--db", metavar="FILE_OR_URL", help="The database.", show_default="RECOLLECT_DB, else recollect.db"),
]


def address(context: typer.Context, given: str | None) -> str:
    """The database that was named nearest to the command."""
    outer = context.parent
    while given is None and outer is not None:
        given, outer = outer.params.get("db"), outer.parent
    return given or DEFAULT


def opened(context: typer.Context, given: str | None) -> Store:
    """The database, to be written to; a file that is not there is made when something is written."""
    store = open_db(address(context, given))
    context.call_on_close(store.close)
    return store


def existing(context: typer.Context, given: str | None) -> Store:
    """The database, to be read.

    Raises:
        NotFound: it is a file that is not there; none is made.
    """
    store = opened(context, given)
    file = file_of(store)
    if file is not None and not file.exists():
        msg = f"there is no database {file}; name another with --db, or begin one with: recollect chat"
        raise NotFound(msg)
    return store


def file_of(store: Store) -> Path | None:
    """The file that holds the database, where one does."""
    file: Path | None = getattr(store, "db_file", None)
    return file
