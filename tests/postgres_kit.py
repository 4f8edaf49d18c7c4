"""Databases on the tests' own Postgres server: each test has one to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import postgres_server

from recollect.db.postgres import PostgresDb


def prepared() -> str:
    """The template that all databases of tests are copies of: the tables are there, and empty."""
    return postgres_server.template(_make_tables)


def _make_tables(dsn: str) -> None:
    with PostgresDb(dsn) as db:
        db.migrate()


@contextmanager
def postgres_db(**options: Any) -> Iterator[PostgresDb]:
    """An empty database, gone afterwards; the test is skipped where there is no Postgres."""
    with postgres_url() as url, PostgresDb(url, **options) as db:
        yield db


@contextmanager
def postgres_url(*, tcp: bool = False) -> Iterator[str]:
    """The address of an empty database, gone afterwards."""
    postgres_server.needed()
    with postgres_server.fresh(prepared(), tcp=tcp) as url:
        yield url


@contextmanager
def empty_url() -> Iterator[str]:
    """The address of a database without tables, gone afterwards."""
    postgres_server.needed()
    found = postgres_server.server()
    name = found.create()
    try:
        yield found.dsn(name)
    finally:
        found.discard(name)
