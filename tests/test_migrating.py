"""Law 9: a database that an earlier program wrote is brought to the newest schema, and nothing of it is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_kit import empty_url

from recollect import Message, SchemaMismatch, SqliteDb, doctor
from recollect.db import migrate
from recollect.db.postgres import PostgresDb
from recollect.history import HistoryLimits
from recollect.store import Store

WRITTEN = (Path(__file__).parent / "schema_1.sql").read_text(encoding="utf-8")
FIRST = "insert into recollect_schema values (1, 1, 0)"


@contextmanager
def _sqlite(folder: Path) -> Iterator[Store]:
    with closing(sqlite3.connect(folder / "s.db")) as old, old:
        old.executescript(f"{migrate.RECORD}; {migrate.steps('sqlite')[0].sql} {FIRST}; {WRITTEN}")
    with SqliteDb(folder / "s.db") as db:
        yield db


@contextmanager
def _postgres(_: Path) -> Iterator[Store]:
    with empty_url() as url:
        with psycopg.connect(url, autocommit=True) as old:
            for sql in (migrate.RECORD, migrate.steps("postgres")[0].sql, FIRST, WRITTEN):
                old.execute(sql.encode())
        with PostgresDb(url) as db:
            with pytest.raises(SchemaMismatch, match="needs 3; run: recollect migrate"):
                db.get_sessions()
            assert [step.number for step in db.migrate()] == [2, 3]
            yield db


@pytest.fixture(params=[_sqlite, _postgres], ids=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """What the first program wrote, opened by this one."""
    made: Callable[[Path], AbstractContextManager[Store]] = request.param
    with made(tmp_path) as store:
        yield store


def session(db: Store, session_id: str) -> Any:
    return db.get_session(session_id)


def test_nothing_is_lost(db: Store) -> None:
    looked = session(db, "s")
    assert (looked.name, looked.user_id, looked.tags, looked.metadata) == (
        "Looking",
        "ada",
        ("red",),
        {"ticket": "T-42"},
    )
    assert (looked.session_state, looked.summary.summary) == ({"k": 1}, "They looked.")
    assert [message.role for message in looked.get_messages()] == ["system", "user", "assistant", "tool", "assistant"]
    assert looked.get_messages()[1].text == 'Look at it\'s é "quoted"'
    assert [(run.status, run.replaces, run.error) for run in looked.runs] == [
        ("completed", None, None),
        ("error", None, "no"),
    ]
    assert (looked.header.archived, looked.header.expires_at, looked.header.expire_after) == (False, None, None)
    assert [(run.run_id, run.parent_run_id) for run in session(db, "t").runs] == [("t1", None), ("t1m", "t1")]
    assert [run.status for run in session(db, "u").runs] == ["interrupted"]


def test_it_is_in_order_and_listed(db: Store) -> None:
    assert [found.check for found in doctor.database(db) if found.status == "problem"] == []
    assert [header.session_id for header in db.get_sessions()] == ["u", "t", "s"]
    assert [header.session_id for header in db.get_sessions("ada", tags=["red"], archived=False)] == ["s"]


def test_it_goes_on(db: Store) -> None:
    run = db.begin_run("s", [Message("user", "And now?")], user_id="ada", replaces="r1", history=HistoryLimits())
    assert run.history.messages == ()
    db.finish_run(run, [Message("assistant", "Better.")])
    assert [message.text for message in session(db, "s").get_chat_history()] == ["And now?", "Better.", "Again"]
    db.archive_session("t")
    assert [header.session_id for header in db.get_sessions(archived=True)] == ["t"]
    db.delete_run("t1", "t")
    assert len(session(db, "t").runs) == 0


def test_it_is_searched(db: Store) -> None:
    for _ in range(2):
        found = db.search("look*", user_id="ada", session_id="s")
        assert {hit.where for hit in found} == {"name", "summary", "message"}
        db.index_sessions()
    db.delete_session("s")
    assert len(db.search("look*", user_id="ada")) == 0
