"""Databases: one file each, opened by class or by address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recollect.errors import InvalidArgument

if TYPE_CHECKING:
    from recollect.store import Store


def open_db(url: str) -> Store:
    """The database that an address names: a file, ``sqlite:///file``, ``sqlite://`` (in memory), or ``postgresql://...``.

    Raises:
        InvalidArgument: the address names a kind of database that is not known.
        ExtraMissing: psycopg is not installed.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme == "sqlite":
        from recollect.db.sqlite import SqliteDb

        return SqliteDb(db_file=(rest.removeprefix("/") or None) if found else url)
    if scheme.split("+")[0] in ("postgres", "postgresql"):
        from recollect.db.postgres import PostgresDb

        return PostgresDb(url)
    raise InvalidArgument(
        "db", f"{scheme!r} is not a kind of database this version knows; use a file, sqlite:///file or postgresql://..."
    )
