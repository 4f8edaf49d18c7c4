"""The database a command works on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.db import open_db
from recollect.errors import DatabaseUnreachable, NotFound
from recollect.store import Store

DEFAULT = "recollect.db"

Db = Annotated[
    str | None,
    typer.Option("--db", metavar="FILE_OR_URL", help="The database.", show_default="RECOLLECT_DB, else recollect.db"),
]


def named(context: typer.Context, given: str | None) -> str | None:
    """The database that was named nearest to the command; None where none was."""
    outer = context.parent
    while given is None and outer is not None:
        given, outer = outer.params.get("db"), outer.parent
    return given or None


def address(context: typer.Context, given: str | None) -> str:
    """The database that a command works on."""
    return named(context, given) or DEFAULT


def opened(context: typer.Context, given: str | None) -> Store:
    """The database, to be written to; a file that is not there is made when something is written."""
    store = open_db(address(context, given))
    context.call_on_close(store.close)
    return store


def existing(context: typer.Context, given: str | None) -> Store:
    """The database, to be read.

    Raises:
        NotFound: it is not there, or holds no tables; none are made.
        DatabaseUnreachable: its server does not answer, or does not let us in.
    """
    store = opened(context, given)
    file = file_of(store)
    if file is not None and not file.exists():
        msg = f"there is no database {file}; name another with --db, or begin one with: recollect chat"
        raise NotFound(msg)
    if store.dialect == "postgres":
        _check_server(store)
    return store


def _check_server(store: Any) -> None:
    try:
        schema, _ = store.schema_version()
    except DatabaseUnreachable as error:
        msg = f"there is no database to be reached: {error}; start its server, or name another with --db"
        raise DatabaseUnreachable(msg) from error
    if schema == 0:
        msg = f"there are no sessions in {store.address}; name another with --db, or begin with: recollect chat"
        raise NotFound(msg)


def file_of(store: Store) -> Path | None:
    """The file that holds the database, where one does."""
    file: Path | None = getattr(store, "db_file", None)
    return file
