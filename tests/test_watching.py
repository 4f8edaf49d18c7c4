"""Watchers: many at once, across processes and forks, and when they are stopped."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
from watch_kit import SOON, elsewhere, heard, until, watchers

from recollect import Agent, DatabaseError, EchoModel, SqliteDb
from recollect.change import SessionChange

WRITER = """
    import sys
    from recollect import Agent, EchoModel, open_db
    with open_db(sys.argv[1]) as db:
        Agent(EchoModel(), db=db).run("Hello", session_id="theirs", user_id="ada")
        db.set_session_name("mine", "Named elsewhere")
        db.delete_session("gone")
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_what_another_process_does_is_told(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "a.db") as db:
        for session_id in ("mine", "gone"):
            db.create_session(session_id, user_id="ada")
        with db.watch_sessions("ada") as hers, db.watch_sessions("bob") as his:
            elsewhere(WRITER, str(tmp_path / "a.db"))
            told: dict[str | None, str] = {}
            while len(told) < 3:
                change = hers.get(timeout=SOON)
                assert change is not None
                told[change.session_id] = change.kind
            assert told == {"theirs": "changed", "mine": "changed", "gone": "deleted"}
            assert his.get(timeout=0.2) is None


def test_a_change_is_told_within_the_bound_of_sqlite(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "a.db") as db, SqliteDb(tmp_path / "a.db") as other:
        db.create_session("s")
        with db.watch_sessions(session_id="s") as watch:
            took = []
            for number in range(8):
                began = time.monotonic()
                other.set_session_name("s", f"Name {number}")
                assert watch.get(timeout=SOON) is not None
                took.append(time.monotonic() - began)
        assert sorted(took)[4] < 0.25


@pytest.mark.anyio
async def test_a_thousand_watchers_share_one_thread_and_end_with_their_tasks(tmp_path: Path) -> None:
    async with SqliteDb(tmp_path / "a.db", durability="normal") as db:
        for number in range(1000):
            await db.acreate_session(f"s{number}", user_id=f"u{number}")
        threads, tasks = threading.active_count(), len(asyncio.all_tasks())
        async with AsyncExitStack() as stack:
            watches = [
                await stack.enter_async_context(db.awatch_sessions(f"u{number}", f"s{number}" if number % 2 else None))
                for number in range(1000)
            ]
            assert len(watchers()) == 1
            assert len(asyncio.all_tasks()) == tasks
            assert threading.active_count() <= threads + 1 + 4, "the one that looks, and those that read"
            waiting = [asyncio.create_task(watch.get()) for watch in watches]
            await db.aset_session_name("s7", "Seven")
            await db.aset_session_name("s8", "Eight")
            told = [await asyncio.wait_for(waiting[number], SOON) for number in (7, 8)]
            assert [change and change.session_id for change in told] == ["s7", "s8"]
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await db.aset_session_name("s9", "Nine")
            change = await heard(watches[9])
            assert change is not None, "a wait that was cancelled loses nothing"
        until(lambda: not watchers())
        assert len(asyncio.all_tasks()) == tasks


def test_idle_watchers_read_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteDb(tmp_path / "a.db") as db, ExitStack() as stack:
        db.create_session("s", user_id="ada")
        for _ in range(20):
            stack.enter_context(db.watch_sessions("ada"))
        time.sleep(0.5)
        asked: list[object] = []
        transact = db.transact
        monkeypatch.setattr(db, "transact", lambda *args, **kwargs: asked.append(args) or transact(*args, **kwargs))
        time.sleep(0.5)
        assert asked == []


def test_a_watcher_that_is_dropped_or_left_early_is_gone() -> None:
    with SqliteDb() as db:
        db.create_session("s")
        for watch in (db.watch_sessions(), db.watch_sessions()):
            assert watch.get(timeout=0.01) is None
        del watch
        gc.collect()
        until(lambda: not watchers())
        watch = db.watch_sessions()
        watch.close()
        assert list(watch) == [], "what was closed before it began does not begin"
        assert not watchers()


def test_an_agent_watches_for_its_own_user() -> None:
    with SqliteDb() as db, Agent(EchoModel(), db=db, user_id="ada") as agent, agent.watch_sessions() as hers:
        db.create_session("bobs", user_id="bob")
        agent.run("Hi", session_id="hers")
        change = hers.get(timeout=SOON)
        assert isinstance(change, SessionChange)
        assert change.session_id == "hers"


def test_what_fails_when_it_begins_is_raised_there(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("This is no database, but a text that is long enough to be looked at." * 9)
    with SqliteDb(tmp_path / "a.db") as db:
        for _ in range(2):
            with pytest.raises(DatabaseError), db.watch_sessions():
                raise AssertionError
    until(lambda: not watchers())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_ends_in_the_child_and_goes_on_in_the_parent(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "a.db") as db, db.watch_sessions() as watch:
        child = os.fork()
        if child == 0:
            try:
                is_over = list(watch) == []
                with db.watch_sessions() as own:
                    db.create_session("by-the-child")
                    change = own.get(timeout=SOON)
                    is_over = is_over and change is not None and change.session_id == "by-the-child"
                db.close()
                os._exit(0 if is_over else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        change = watch.get(timeout=SOON)
        assert change is not None
        assert change.session_id == "by-the-child"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_ends_it_at_once() -> None:
    program = """
import threading
from recollect import SqliteDb
db = SqliteDb()
try:
    with db.watch_sessions() as watch:
        print("watching", flush=True)
        for change in watch:
            pass
except KeyboardInterrupt:
    db.close()
    print([thread.name for thread in threading.enumerate()], flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "['MainThread']\n"
        assert process.wait(SOON) == 0
        assert time.monotonic() - began < 5
