"""Where Agno's tables are: found by their columns, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from recollect.errors import InvalidArgument, NotFound
from recollect.port import Row, Tx, reads

_OF_SESSIONS: Final = {"session_id", "session_type", "session_data", "created_at"}
_OF_RUNS: Final = {"run_id", "session_id", "run_data"}
"""The columns by which the tables are known."""

_OURS: Final = frozenset(":{}")
"""Characters that mean something in our own statements."""


class Table(msgspec.Struct, frozen=True):
    """A table of the database."""

    schema: str | None
    name: str
    columns: frozenset[str]
    refers_to: frozenset[str] = frozenset()
    """The tables that its foreign keys name."""

    @property
    def sql(self) -> str:
        """Its name, as statements have it."""
        return ".".join(_quoted(part) for part in (self.schema, self.name) if part is not None)

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


def _quoted(name: str) -> str:
    if not set(name).isdisjoint(_OURS):
        raise InvalidArgument("table", f"{name!r} is a name that cannot be asked for")
    return '"' + name.replace('"', '""') + '"'


class Tables(msgspec.Struct, frozen=True):
    """The tables of sessions and, since release 3, of runs."""

    sessions: Table
    runs: Table | None


def choose(
    tables: Sequence[Table], *, address: str, schema: str | None, table: str | None, runs_table: str | None
) -> Tables:
    """Agno's tables among all that there are.

    Raises:
        NotFound: there are none, or none of the name that was given.
        InvalidArgument: there are several, and it was not said which.
    """
    near = [one for one in tables if schema is None or one.schema == schema]
    sessions = _only("--table", [one for one in near if one.columns >= _OF_SESSIONS], table)
    if sessions is None:
        which = f" {table!r}" if table else ""
        where = f" in schema {schema!r}" if schema else ""
        msg = f"there is no table{which} of Agno's sessions in {address}{where}; name it with --table and --schema"
        raise NotFound(msg)
    beside = [one for one in tables if one.schema == sessions.schema and one.columns >= _OF_RUNS]
    own = [one for one in beside if sessions.name in one.refers_to or not one.refers_to]
    runs = _only("--runs-table", beside if runs_table else own, runs_table)
    if runs is None and runs_table:
        msg = f"there is no table {runs_table!r} of Agno's runs beside {sessions}"
        raise NotFound(msg)
    return Tables(sessions, runs)


def _only(argument: str, found: Sequence[Table], name: str | None) -> Table | None:
    named = [one for one in found if name in (None, one.name)]
    if len(named) > 1:
        raise InvalidArgument(argument, f"there are several: {', '.join(map(str, named))}; say which, or --schema")
    return named[0] if named else None


@reads
async def find(tx: Tx, dialect: str) -> list[Table]:
    """All tables with their columns."""
    columns, keys = await tx.execute((_COLUMNS[dialect], {}), (_KEYS[dialect], {}))
    return list(_tables(columns, keys))


def _tables(columns: Iterable[Row], keys: Sequence[Row]) -> Iterable[Table]:
    found: dict[tuple[str | None, str], set[str]] = {}
    for schema, name, column in columns:
        found.setdefault((schema, name), set()).add(column)
    for (schema, name), names in found.items():
        refers_to = frozenset(to for where, which, to in keys if (where, which) == (schema, name))
        yield Table(schema, name, frozenset(names), refers_to)


_COLUMNS: Final = {
    "sqlite": """
        select null, m.name, c.name from sqlite_master m, pragma_table_info(m.name) c
        where m.type in ('table', 'view') order by m.name
    """,
    "postgres": """
        select cast(table_schema as text), cast(table_name as text), cast(column_name as text)
        from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema')
        order by table_schema, table_name
    """,
}

_KEYS: Final = {
    "sqlite": """
        select null, m.name, f."table" from sqlite_master m, pragma_foreign_key_list(m.name) f where m.type = 'table'
    """,
    "postgres": """
        select cast(n.nspname as text), cast(c.relname as text), cast(t.relname as text)
        from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
        join pg_class t on t.oid = k.confrelid where k.contype = 'f'
    """,
}
