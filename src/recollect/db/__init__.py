"""Databases: one file each, opened by class or by address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recollect.errors import InvalidArgument

if TYPE_CHECKING:
    from recollect.store import Store


def open_db(url: str) -> Store:
    """The database that an address names: a file, ``sqlite:///file`` or ``sqlite://`` (in memory).

    Raises:
        InvalidArgument: the address names a kind of database that is not known.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme == "sqlite":
        from recollect.db.sqlite import SqliteDb

        return SqliteDb(db_file=(rest.removeprefix("/") or None) if found else url)
    raise InvalidArgument(
        "db", f"{scheme!r} is not a kind of database this version knows; use a file or sqlite:///file"
    )
