"""Rows that SQLite joins, column by column, come apart again as they were, however parameters are bound."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect import Message
from recollect.db.sqlite import SqliteDb, dialect, transaction
from recollect.db.sqlite.dialect import translate
from recollect.port import Row

NUMBER = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1e\x1f")).filter(lambda t: "\0" not in t)
ROWS = st.lists(st.tuples(NUMBER, st.none() | NUMBER, TEXT, st.none() | TEXT), unique_by=lambda row: row[0])
ASKED = """
{gather iItTt}with few as materialized (select * from t where n <> 0 or n is null or (1 = 1))
select f.n, f.maybe, f.said, f.aside, case when exists (select 1 from t o where o.n < f.n) then 'later' else 'first' end
from few f where f.n <> :not order by f.n
"""


def asked(rows: list[Row], sql: str = ASKED) -> tuple[list[Row], list[Row], list[str]]:
    """What a statement finds as it is fetched, and as it is written; and what was executed."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table t (n integer, maybe integer, said text, aside text)")
        connection.executemany("insert into t values (?, ?, ?, ?)", rows)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
        run: list[str] = []

        def execute(statement: str, params: Any) -> sqlite3.Cursor:
            run.append(statement)
            return connection.execute(statement, params)

        made = translate(sql)
        assert made.gathering is not None
        params = made.bound({"not": 7})
        found = made.gathering.rows(execute, params)
        return found, connection.execute(made.sql, params).fetchall(), run


@given(ROWS)
def test_rows_are_the_same_as_without_joining(rows: list[Row]) -> None:
    found, plain, run = asked(rows)
    assert found == plain
    assert [[type(value) for value in row] for row in found] == [[type(value) for value in row] for row in plain]
    assert len(run) == 1, "one row was fetched"


@pytest.mark.parametrize(
    "rows",
    [
        [(1, None, "a\x1eb", None), (2, None, "c", None)],
        [(1, None, "a", "\x1e"), (2, None, "c", "d\x1e\x1e")],
        [(number, None, "x" * 200, None) for number in range(1, 1000)],
        [(1, "one", "a", None), (2, 2, "b", None)],
        [(1, 1.5, "a", None), (2, "3,4", "b", None)],
    ],
)
def test_what_cannot_be_joined_is_fetched_row_by_row(rows: list[Row]) -> None:
    found, plain, run = asked(rows)
    assert found == plain
    assert len(run) == 2


def test_a_session_with_any_text_is_read_as_it_was_stored(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "s.db") as db:
        for number in range(40):
            run = db.begin_run("s", [Message("user", f"{number}\x1e\x1f\n")], agent_id=None if number % 3 else "a")
            db.finish_run(run, [Message("assistant", None, tool_calls=[]), Message("assistant", "ünd")], error="\x1e")
        session = db.get_session("s")
    assert session is not None
    assert [message.text for message in session.get_messages()[::3]] == [f"{number}\x1e\x1f\n" for number in range(40)]
    assert [run.agent_id for run in session.runs[:4]] == ["a", None, None, "a"]
    assert {run.error for run in session.runs} == {"\x1e"}


def test_parameters_are_bound_by_name_where_python_warns_of_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect, "_BY_NAME", True)
    known: dict[str, dialect.Translated] = {}
    for module in (dialect, transaction):
        monkeypatch.setattr(module, "DIALECT", known)
    with SqliteDb(tmp_path / "s.db") as db:
        db.finish_run(db.begin_run("s", [Message("user", "?")]), [Message("assistant", "!")])
        session = db.get_session("s")
    assert session is not None
    assert [message.text for message in session.get_messages()] == ["?", "!"]
    assert any(":session_id" in made.sql for made in known.values())
