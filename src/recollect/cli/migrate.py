"""``recollect migrate``: the database's schema."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.database import Db, file_of, opened
from recollect.cli.screen import say
from recollect.db.migrate import steps
from recollect.db.sqlite import SqliteDb
from recollect.doctor import schema_of
from recollect.errors import NotADatabase
from recollect.port import Tx, writes


def migrate(
    context: typer.Context,
    *,
    db: Db = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Bring the database to the newest schema; one that is not there is made.

    A database file is also brought there by itself when it is first used.
    """
    store = opened(context, db)
    file = file_of(store)
    if not isinstance(store, SqliteDb) or file is None:
        say("a database in memory has the newest schema, always")
        return
    before, newest = _schema(file), steps("sqlite")[-1].number
    missing = [step for step in steps("sqlite") if step.number > before]
    if not dry_run:
        store.transact(_use)
    say(_said(file, before, newest, dry_run=dry_run))
    for step in missing:
        say(f"  {step.number:04} {step.name}")


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


def _said(file: Path, before: int, newest: int, *, dry_run: bool) -> str:
    if before >= newest:
        return f"{file} has schema {before}; there is nothing to do"
    would = "would go" if dry_run else "went"
    return f"{file} {would} from schema {before} to {newest}:" if before else f"{file} {would} to schema {newest}:"
