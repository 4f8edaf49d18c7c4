"""Databases: one file each, opened by class or by address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from recollect.errors import InvalidArgument

if TYPE_CHECKING:
    from recollect.db.guest import Guest
    from recollect.store import Store


def open_db(url: str) -> Store:
    """The database that an address names: a file, ``sqlite:///file``, ``sqlite://`` (in memory), or ``postgresql://...``.

    An address of Postgres may say ``?schema=name`` and ``?pooler=true`` among its options.

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

        address, options = _apart(url)
        return PostgresDb(address, **options)
    raise InvalidArgument(
        "db", f"{scheme!r} is not a kind of database this version knows; use a file, sqlite:///file or postgresql://..."
    )


def open_guest(url: str) -> Guest:
    """A database of somebody else's, to be read: addresses are those of `open_db`.

    Raises:
        InvalidArgument: the address names a kind of database that is not known.
        NotFound: there is no such file.
        ExtraMissing: psycopg is not installed.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme == "sqlite":
        from recollect.db.guest import SqliteGuest

        return SqliteGuest(rest.removeprefix("/") if found else url)
    if scheme.split("+")[0] in ("postgres", "postgresql"):
        from recollect.db.postgres.guest import PostgresGuest

        address, options = _apart(url)
        return PostgresGuest(address, **options)
    raise InvalidArgument("db", f"{scheme!r} is not a kind of database that this version reads")


def _apart(url: str) -> tuple[str, dict[str, Any]]:
    """The address as libpq takes it, and the options that are those of `PostgresDb`."""
    base, _, query = url.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    options: dict[str, Any] = {name: value for name, value in given if name == "schema"}
    for name, value in given:
        if name == "pooler":
            if value not in ("true", "false"):
                raise InvalidArgument("db", f"pooler={value} in its address is neither true nor false")
            options["pooler"] = value == "true"
    rest = urlencode([(name, value) for name, value in given if name not in options], quote_via=quote)
    return (f"{base}?{rest}" if rest else base), options
