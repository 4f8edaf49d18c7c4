"""Tables and indexes: as the schema's files make them, as a database has them, and what it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

import msgspec

from recollect.db import migrate
from recollect.port import Tx


class Column(msgspec.Struct, frozen=True):
    """A column of a table."""

    type: str
    is_required: bool


class Table(msgspec.Struct, frozen=True):
    """A table as it is defined."""

    columns: Mapping[str, Column]
    key: tuple[str, ...]
    """The columns of its primary key; empty where it has none."""


class Index(msgspec.Struct, frozen=True):
    """An index as it is defined, in words that are the same however it was written down."""

    table: str
    columns: tuple[str, ...]
    included: tuple[str, ...]
    is_unique: bool
    condition: tuple[str, ...]


class Lack(msgspec.Struct, frozen=True):
    """What a database has not, or otherwise than the schema makes it."""

    kind: str
    """``table``, ``column``, ``primary key`` or ``index``."""
    name: str
    fault: str
    """``missing`` or ``defined otherwise``."""


class Parts(msgspec.Struct, frozen=True):
    """The tables and indexes of a database, by name."""

    tables: Mapping[str, Table]
    indexes: Mapping[str, Index]


@cache
def expected(dialect: str) -> Parts:
    """What the steps of the schema make."""
    made = migrate.parts(dialect)
    tables = {name: _table(sql) for name, sql in made.items() if sql.startswith("create table")}
    indexes = {name: _index(sql) for name, sql in made.items() if name not in tables}
    return Parts(tables, indexes)


async def found(tx: Tx, dialect: str) -> Parts:
    """What a database has of the same names."""
    return await (_in_postgres(tx) if dialect == "postgres" else _in_sqlite(tx))


def lacks(dialect: str, there: Parts) -> Iterator[Lack]:
    """What is missing, or defined otherwise. What is there besides is nobody's harm."""
    wanted = expected(dialect)
    for name, table in wanted.tables.items():
        yield from _table_lacks(name, table, there.tables.get(name))
    for name, index in wanted.indexes.items():
        if index.table in there.tables and there.indexes.get(name) != index:
            yield Lack("index", name, "defined otherwise" if name in there.indexes else "missing")


async def drop_index(tx: Tx, dialect: str, name: str) -> None:
    """Drop one of our indexes, in whatever schema its table is."""
    if dialect == "postgres":
        table = expected(dialect).indexes[name].table
        [[(name,)]] = await tx.execute((_IN_ITS_SCHEMA.format(table=table), {"name": name}))
    await tx.execute((f"drop index {name}", {}))


def _table_lacks(name: str, wanted: Table, there: Table | None) -> Iterator[Lack]:
    if there is None:
        yield Lack("table", name, "missing")
        return
    for column, definition in wanted.columns.items():
        if there.columns.get(column) != definition:
            fault = "defined otherwise" if column in there.columns else "missing"
            yield Lack("column", f"{name}.{column}", fault)
    if there.key != wanted.key:
        yield Lack("primary key", name, "defined otherwise" if there.key else "missing")


_COLUMN: Final = re.compile(r"^\s+(\w+) (text|integer|bigint|tsvector)\b(.*)$", re.MULTILINE)
_KEY: Final = re.compile(r"primary key \(([^)]*)\)")
_INDEX: Final = re.compile(
    r"create (?P<unique>unique )?index (?:if not exists )?(?:\w+\.)?\w+ on (?:\w+\.)?(?P<table>\w+) (?:using \w+ )?"
    r"\((?P<columns>[^)]*)\)(?: include ?\((?P<included>[^)]*)\))?(?: where (?P<condition>.*))?"
)
_WORD: Final = re.compile(r"'[^']*'|[a-z_]+|\d+|<=|>=|<>|<|>")
_ONE_WAY_TO_SAY_IT: Final = frozenset({"any", "array", "in", "text"})
"""``kind in ('a', 'b')`` is kept by Postgres as ``kind = any (array['a'::text, 'b'::text])``."""


def _table(sql: str) -> Table:
    columns = {name: Column(kind, "not null" in rest) for name, kind, rest in _COLUMN.findall(sql)}
    key = _KEY.search(sql)
    inline = tuple(name for name, _, rest in _COLUMN.findall(sql) if "primary key" in rest)
    return Table(columns, _names(key[1]) if key else inline)


def _index(sql: str) -> Index:
    plain = re.sub(r"\s+", " ", re.sub(r'["`\[\]]', "", sql)).lower()
    made = _INDEX.match(plain)
    if made is None:
        return Index("", (), (), is_unique=False, condition=())
    return Index(
        made["table"],
        _names(made["columns"]),
        _names(made["included"] or ""),
        is_unique=made["unique"] is not None,
        condition=_condition(made["condition"] or ""),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _condition(text: str) -> tuple[str, ...]:
    return tuple(word for word in _WORD.findall(text.lower()) if word not in _ONE_WAY_TO_SAY_IT)


async def _in_sqlite(tx: Tx) -> Parts:
    columns, indexes = await tx.execute((_SQLITE_COLUMNS, {}), (_SQLITE_INDEXES, {}))
    tables: dict[str, Table] = {}
    for table, name, kind, required, place in columns:
        known = tables.get(table, Table({}, ()))
        # The key's columns come in the order of the table, which is that of the key.
        tables[table] = Table(
            {**known.columns, name: Column(kind.lower(), bool(required))}, (*known.key, *([name] if place else []))
        )
    return Parts(tables, {name: _index(sql) for name, sql in indexes})


async def _in_postgres(tx: Tx) -> Parts:
    columns, indexes = await tx.execute((_POSTGRES_COLUMNS, {}), (_POSTGRES_INDEXES, {}))
    tables: dict[str, Table] = {}
    for table, name, kind, required in columns:
        known = tables.get(table, Table({}, ()))
        tables[table] = Table({**known.columns, name: Column(kind, required)}, ())
    found: dict[str, Index] = {}
    for name, table, unique, primary, valid, names, own, condition in indexes:
        keyed = tuple(names.split(" "))
        if primary and valid:
            tables[table] = Table(tables[table].columns, keyed)
        elif not primary:
            # An index whose making was broken off is there and is not used.
            usable = keyed[:own] if valid else ()
            found[name] = Index(table, usable, keyed[own:], is_unique=unique, condition=_condition(condition or ""))
    return Parts(tables, found)


_SQLITE_COLUMNS: Final = """
select m.name, c.name, c.type, c."notnull", c.pk from sqlite_master m, pragma_table_info(m.name) c
where m.type = 'table' and substr(m.name, 1, 10) = 'recollect_' and m.sql not like 'create virtual%'
order by m.name, c.cid
"""

_SQLITE_INDEXES: Final = """
select name, sql from sqlite_master where type = 'index' and sql is not null and substr(name, 1, 10) = 'recollect_'
"""

_OIDS: Final = ", ".join(
    f"to_regclass('recollect_{table}')"
    for table in ("sessions", "values", "runs", "messages", "prompts", "leases", "documents", "indexed")
)

_IN_ITS_SCHEMA: Final = """
select cast(cast(i.oid as regclass) as text) from pg_index x join pg_class i on i.oid = x.indexrelid
where x.indrelid = to_regclass('{table}') and i.relname = :name
"""

_POSTGRES_COLUMNS: Final = f"""
select c.relname, a.attname, format_type(a.atttypid, null), a.attnotnull
from pg_attribute a join pg_class c on c.oid = a.attrelid
where a.attrelid in ({_OIDS}) and a.attnum > 0 and not a.attisdropped order by c.relname, a.attnum
"""

_POSTGRES_INDEXES: Final = f"""
select i.relname, c.relname, x.indisunique, x.indisprimary, x.indisvalid,
    array_to_string(array(
        select a.attname from unnest(x.indkey) with ordinality k (number, place)
        join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.number order by k.place
    ), ' '),
    x.indnkeyatts, pg_get_expr(x.indpred, x.indrelid)
from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class c on c.oid = x.indrelid
where x.indrelid in ({_OIDS})
"""
