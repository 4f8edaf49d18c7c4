"""Postgres: one server, or many behind one address, for both faces."""

from recollect.errors import ExtraMissing

try:
    from recollect.db.postgres.database import PostgresDb
except ModuleNotFoundError as error:
    raise ExtraMissing("postgres", "PostgresDb") from error

__all__ = ["PostgresDb"]
