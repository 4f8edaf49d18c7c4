"""``recollect migrate``: the database's schema."""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.database import Db, file_of, opened
from recollect.cli.screen import aside, say
from recollect.db.migrate import Step, missing, steps
from recollect.db.sqlite import SqliteDb
from recollect.doctor import schema_of
from recollect.errors import InvalidArgument, NotADatabase
from recollect.port import Tx, writes

if TYPE_CHECKING:
    from recollect.db.postgres import PostgresDb


class Extension(StrEnum):
    """What spreads tables over many servers."""

    citus = "citus"


def migrate(
    context: typer.Context,
    *,
    db: Db = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    distribute: Annotated[
        Extension | None,
        typer.Option("--distribute", help="Postgres: spread the tables over many servers, each session on one."),
    ] = None,
) -> None:
    """Bring the database to the newest schema; one that is not there is made.

    A database file is also brought there by itself when it is first used, and so is a Postgres database without tables.
    Any number of processes may do this at the same time.

    Exits with 1 when the tables are to be spread, and the extension for that is not there; nothing is done then.
    """
    store = opened(context, db)
    if store.dialect == "postgres":
        _migrate_server(store, dry_run=dry_run, distribute=distribute is not None)
    elif distribute is not None:
        raise InvalidArgument("--distribute", "is for Postgres; name it with --db postgresql://...")
    elif isinstance(store, SqliteDb) and (file := file_of(store)) is not None:
        _migrate_file(store, file, dry_run=dry_run)
    else:
        say("a database in memory has the newest schema, always")


def _migrate_file(store: SqliteDb, file: Path, *, dry_run: bool) -> None:
    before, newest = _schema(file), steps("sqlite")[-1].number
    lacking = tuple(step for step in steps("sqlite") if step.number > before)
    if not dry_run:
        store.transact(_use)
    _tell(str(file), before, newest, lacking, dry_run=dry_run)


def _migrate_server(store: Any, *, dry_run: bool, distribute: bool) -> None:
    db: PostgresDb = store
    before, min_reader = db.schema_version()
    lacking = missing("postgres", before, min_reader)
    if distribute:
        _check_extension(db)
    taken = lacking if dry_run else db.migrate()
    # Somebody else may have taken some of the steps just now.
    reached = max([before, *(step.number for step in taken)]) if dry_run else db.schema_version()[0]
    began = min([reached, *(step.number - 1 for step in taken)])
    _tell(db.address, began, reached, taken, dry_run=dry_run)
    if distribute:
        _distribute(db, dry_run=dry_run, is_new=before == 0)


def _check_extension(db: PostgresDb) -> None:
    from recollect.db.postgres import distribute

    why = db.ask(distribute.missing)
    if why is not None:
        aside(f"error: {db.address}: {why}. Nothing was done.", "red")
        raise typer.Exit(1)


def _distribute(db: PostgresDb, *, dry_run: bool, is_new: bool) -> None:
    from recollect.db.postgres import distribute

    if dry_run:
        made = distribute.calls(() if is_new else db.ask(distribute.distributed))
    else:
        made = db.transact(distribute.distribute)
    if not made:
        say("every table is distributed already")
        return
    say("would distribute the tables:" if dry_run else "distributed the tables:")
    for call in made:
        say(f"  {call}")


@writes
async def _use(tx: Tx) -> None:
    """Nothing at all; a database is brought to the newest schema when it is first used."""
    del tx


def _schema(file: Path) -> int:
    try:
        return schema_of(file)
    except sqlite3.Error as error:
        msg = f"{file} cannot be read as a database: {error}"
        raise NotADatabase(msg) from error


def _tell(where: str, before: int, after: int, taken: tuple[Step, ...], *, dry_run: bool) -> None:
    say(_said(where, before, after, dry_run=dry_run))
    for step in taken:
        say(f"  {step.number:04} {step.name}")


def _said(where: str, before: int, after: int, *, dry_run: bool) -> str:
    if before >= after:
        return f"{where} has schema {before}; there is nothing to do"
    would = "would go" if dry_run else "went"
    return f"{where} {would} from schema {before} to {after}:" if before else f"{where} {would} to schema {after}:"
