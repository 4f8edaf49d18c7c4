"""A Postgres database of somebody else's, read as it is."""

from __future__ import annotations

from recollect.db.postgres.database import PostgresDb


class PostgresGuest(PostgresDb):
    """A database in which no table of ours is looked for, or made. Operations that only read can be run in it."""

    def __init__(self, db_url: str, *, schema: str | None = None, pooler: bool = False) -> None:
        super().__init__(db_url, schema=schema, pool=1, pooler=pooler)
        self._is_ready = True  # there is nothing to prepare
