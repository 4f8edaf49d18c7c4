"""Watching on Postgres: the server calls, and what it does not say is found by looking."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pooler
import postgres_server
import psycopg
import pytest
from postgres_kit import postgres_url
from watch_kit import SOON, elsewhere, until, watchers

from recollect import Message, SessionWatch
from recollect.db.postgres import PostgresDb, signals
from recollect.db.postgres.ears import Ears

LISTENING = "query ilike '%pg_advisory_lock_shared%' and datname = current_database() and pid <> pg_backend_pid()"


@pytest.fixture
def url() -> Iterator[str]:
    with postgres_url() as url:
        yield url


def _asked(url: str, sql: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(sql).fetchone()
        return row and row[0]


def _is_told(watch: SessionWatch, version: int) -> float:
    began = time.monotonic()
    while (change := watch.get(timeout=SOON)) is not None:
        if change.version == version:
            return time.monotonic() - began
    raise AssertionError


def test_the_server_calls_so_that_nobody_has_to_look(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals.PostgresSignals, "interval", 60.0)
    with PostgresDb(url) as db, PostgresDb(url) as other:
        db.create_session("s", user_id="ada")
        with db.watch_sessions("ada") as watch:
            until(lambda: _asked(url, f"select count(*) from pg_stat_activity where {LISTENING}") == 1)
            for version in range(2, 6):
                other.set_session_name("s", f"Name {version}")
                _is_told(watch, version)
            run = other.begin_run("s", [Message("user", "Hi")], user_id="ada")
            _is_told(watch, run.version)
            _is_told(watch, other.finish_run(run, [Message("assistant", "Hello")]).version)
            other.delete_session("s")
            change = watch.get(timeout=SOON)
            assert change is not None
            assert change.kind == "deleted"


def test_another_process_that_ends_at_once_is_heard(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals.PostgresSignals, "interval", 60.0)
    with PostgresDb(url) as db:
        db.create_session("s")
        with db.watch_sessions(session_id="s") as watch:
            until(lambda: _asked(url, f"select count(*) from pg_stat_activity where {LISTENING}") == 1)
            elsewhere(
                """
                import sys
                from recollect import PostgresDb
                db = PostgresDb(sys.argv[1])
                db.set_session_name("s", "Named and gone")
                """,
                url,
            )
            _is_told(watch, 2)


def test_where_nobody_listens_there_is_no_thread_and_no_notification(url: str) -> None:
    with PostgresDb(url) as db:
        before = threading.active_count()
        for number in range(5):
            db.create_session(f"s{number}")
        assert threading.active_count() == before
        assert not db._notifier.ears.are_there


def test_a_listener_that_was_cut_off_comes_back_and_misses_nothing(url: str) -> None:
    with PostgresDb(url) as db, PostgresDb(url) as other:
        db.create_session("s")
        with db.watch_sessions(session_id="s") as watch:
            for version in (2, 3):
                until(lambda: _asked(url, f"select count(*) from pg_stat_activity where {LISTENING}") == 1)
                _asked(url, f"select pg_terminate_backend(pid) from pg_stat_activity where {LISTENING}")
                other.pin_session("s")
                _is_told(watch, version)


def test_all_connections_may_be_cut_off(url: str) -> None:
    with PostgresDb(url) as db, PostgresDb(url) as other:
        db.create_session("s")
        with db.watch_sessions() as watch:
            until(lambda: _asked(url, f"select count(*) from pg_stat_activity where {LISTENING}") == 1)
            _asked(
                url,
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid() "
                "and datname = current_database()",
            )
            other.archive_session("s")
            _is_told(watch, 2)
            until(lambda: _asked(url, f"select count(*) from pg_stat_activity where {LISTENING}") == 1)


def test_many_watchers_listen_on_one_connection_and_leave_none(url: str) -> None:
    with PostgresDb(url) as db, PostgresDb(url) as other:
        db.create_session("s", user_id="ada")
        watches = [db.watch_sessions("ada" if number % 2 else None) for number in range(50)]
        for watch in watches:
            watch.__enter__()
        until(lambda: _asked(url, f"select count(*) from pg_stat_activity where {LISTENING}") == 1)
        assert len(watchers()) == 1
        other.set_session_name("s", "For all")
        for watch in watches:
            _is_told(watch, 2)
            watch.close()
        until(lambda: not watchers())
        until(lambda: _asked(url, f"select count(*) from pg_stat_activity where {LISTENING}") == 0)


def test_behind_a_pooler_it_is_found_by_looking(url: str) -> None:
    pooler.needed()
    with (
        pooler.pooler(postgres_server.server(), size=3) as through,
        PostgresDb(through(url), pooler=True) as db,
        PostgresDb(url) as other,
    ):
        db.create_session("s", user_id="ada")
        with db.watch_sessions("ada") as watch, db.watch_sessions("bob") as his:
            other.set_session_name("s", "Quiet")
            _is_told(watch, 2)
            other.delete_session("s")
            change = watch.get(timeout=SOON)
            assert change is not None
            assert change.kind == "deleted"
            assert his.get(timeout=0.1) is None


def test_a_notification_names_no_more_than_the_server_takes() -> None:
    ids = {f"{number:03}" + "\u20ac" * 252: None for number in range(40)}
    payloads = list(signals._payloads(ids))
    assert all(len(payload.encode()) < 8000 for payload in payloads)
    assert [one for payload in payloads for one in payload.split(signals.SEPARATOR)] == list(ids)


def test_who_listens_is_asked_now_and_then() -> None:
    ears = Ears()
    assert ears.is_due or time.monotonic() < 1
    ears.learn([(1,)])
    assert ears.are_there
    assert not ears.is_due
