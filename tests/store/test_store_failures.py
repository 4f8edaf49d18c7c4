"""Law 3: a file that cannot be used is said with a typed error, and is left as it was."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_kit import Face, answer, dump, header_of, run_sql, texts, turn, user

from recollect.db.sqlite import SqliteDb
from recollect.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseFull,
    DatabaseUnreachable,
    InvalidArgument,
    NotADatabase,
    SchemaMismatch,
)

pytestmark = pytest.mark.anyio

Make = Callable[[SqliteDb], Any]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def _refused(db: Any, kind: type[DatabaseError], says: str) -> None:
    """Every first use says the same, and the next one too."""
    for use in (
        db.get_sessions,
        lambda: db.get_session("s"),
        lambda: db.begin_run("s", [user()]),
        lambda: db.get_header("s"),
    ):
        with pytest.raises(kind, match=says) as caught:
            await use()
        assert type(caught.value) is kind


async def test_a_file_that_is_no_database_is_left_as_it_is(face: Make, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content := b"Dear diary, this is not a database. " * 100)
    with SqliteDb(file) as store:
        await _refused(face(store), NotADatabase, "notes.txt")
    assert file.read_bytes() == content
    assert _names(tmp_path) == {"notes.txt"}


async def test_a_damaged_database_is_said_to_be_one(face: Make, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    with SqliteDb(file) as store:
        for number in range(50):
            store.create_session(f"s{number}", metadata={"k": "x" * 2000})
    size = file.stat().st_size
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xff" * (size - 4096))
    with SqliteDb(file) as store:
        await _refused(face(store), NotADatabase, "s.db")


async def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(face: Make, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    with SqliteDb(file) as store:
        store.create_session("s")
    with sqlite3.connect(file) as other:
        other.execute("insert into recollect_schema values (999, 999, 0)")
    other.close()
    content = file.read_bytes()
    with SqliteDb(file) as store:
        await _refused(face(store), SchemaMismatch, r"schema 999.*Upgrade recollect")
    assert file.read_bytes() == content


async def test_a_newer_file_that_this_version_can_still_read_works(face: Make, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    SqliteDb(file).create_session("s")
    with sqlite3.connect(file) as other:
        other.execute("insert into recollect_schema values (999, 1, 0)")
        other.execute("alter table recollect_sessions add column later text")
    other.close()
    with SqliteDb(file) as store:
        db = face(store)
        await turn(db)
        assert await texts(db) == ["Hi", "You said: Hi"]
    with sqlite3.connect(file) as other:
        assert other.execute("select max(schema) from recollect_schema").fetchone() == (999,)
    other.close()


@pytest.mark.parametrize("where", ["file/s.db", "file/deeper/s.db", ".", "/proc/nowhere/s.db"])
async def test_a_place_where_no_file_can_be_is_unreachable(face: Make, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with SqliteDb(tmp_path / where) as store:
        await _refused(face(store), DatabaseUnreachable, "opened")
    assert _names(tmp_path) == {"file"}


async def test_folders_are_made_when_they_are_missing(face: Make, tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "a" / "b" / "s.db") as store:
        assert not (tmp_path / "a").exists(), "nothing is made before it is needed"
        await turn(face(store))
    assert (tmp_path / "a" / "b" / "s.db").is_file()


async def test_a_place_that_becomes_usable_is_used(face: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with SqliteDb(tmp_path / "file" / "s.db") as store:
        db = face(store)
        with pytest.raises(DatabaseUnreachable):
            await turn(db)
        (tmp_path / "file").unlink()
        await turn(db)
        assert (await header_of(db)).run_count == 1


async def test_a_disk_that_is_full_refuses_a_write_whole_and_takes_it_when_there_is_room(file_db: Face) -> None:
    run = await file_db.begin_run("s", [user()])
    [(pages,)] = run_sql(file_db, "pragma page_count")
    run_sql(file_db, f"pragma max_page_count = {pages}")
    before = dump(file_db)
    big = answer("x" * 100_000)
    for write in (
        lambda: file_db.append_messages(run, [big], state={"k": "1"}),
        lambda: file_db.finish_run(run, [big]),
        lambda: file_db.begin_run("s", [user("x" * 100_000)]),
        lambda: file_db.create_session("new", metadata={"k": "x" * 100_000}),
        lambda: file_db.update_values("s", "state", {"k": "x" * 100_000}),
    ):
        with pytest.raises(DatabaseFull, match="full"):
            await write()
        assert dump(file_db) == before
    assert (await file_db.get_last_run("s")).status == "running", "a run that is not stored is not completed"
    run_sql(file_db, "pragma max_page_count = 1000000")
    await file_db.finish_run(run, [big])
    assert (await file_db.get_last_run("s")).status == "completed"


READ_ONLY = """
import asyncio, concurrent.futures.thread, os, sys
from recollect.db.sqlite import SqliteDb
from recollect.errors import RecollectError
from recollect.message import Message

with SqliteDb() as db:  # whatever is imported late is imported with the rights to do so
    asyncio.run(db.aget_session("s"))
os.setgroups([]); os.setgid(65534); os.setuid(65534)

async def main(db):
    for call in (
        lambda: db.get_session("s"),
        lambda: db.aget_session("s"),
        lambda: db.begin_run("s", [Message("user", "2")]),
        lambda: db.abegin_run("s", [Message("user", "2")]),
        lambda: db.set_session_name("s", "N"),
    ):
        try:
            found = call()
            found = await found if hasattr(found, "__await__") else found
            print(type(found).__name__, getattr(found, "runs", ["?"])[0].content)
        except RecollectError as error:
            print(type(error).__name__)

with SqliteDb(sys.argv[1]) as db:
    asyncio.run(main(db))
"""


def _unprivileged(file: Path) -> list[str]:
    for folder in file.parents:  # pytest's own folders are closed to others
        if folder.exists() and folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ_ONLY, str(file)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout.splitlines()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="drops its rights, so it must have some")


def _stored(file: Path) -> None:
    with SqliteDb(file) as store:
        run = store.begin_run("s", [user("1")])
        store.finish_run(run, [answer("one")])


@needs_root
def test_a_read_only_file_in_a_writable_folder_can_be_read_and_not_written(tmp_path: Path) -> None:
    _stored(file := tmp_path / "s.db")
    tmp_path.chmod(0o777)
    file.chmod(0o444)
    content = file.read_bytes()
    read = ["AgentSession one"] * 2
    assert _unprivileged(file) == [*read, *["DatabaseReadOnly"] * 3]
    assert file.read_bytes() == content


@needs_root
def test_a_read_only_file_in_a_read_only_folder_says_so(tmp_path: Path) -> None:
    _stored(file := tmp_path / "s.db")
    file.chmod(0o444)
    tmp_path.chmod(0o555)
    content = file.read_bytes()
    told = _unprivileged(file)
    assert set(told[2:]) <= {"DatabaseReadOnly", "DatabaseUnreachable"}
    assert set(told[:2]) <= {"AgentSession one", "DatabaseReadOnly", "DatabaseUnreachable"}
    assert file.read_bytes() == content


@needs_root
def test_a_folder_that_must_not_be_written_gets_no_file(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert _unprivileged(tmp_path / "s.db") == ["DatabaseUnreachable"] * 5
    assert _unprivileged(tmp_path / "a" / "s.db") == ["DatabaseUnreachable"] * 5
    assert list(tmp_path.iterdir()) == []


async def test_a_file_locked_longer_than_the_timeout_is_busy_and_then_goes_on(face: Make, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    with SqliteDb(file, timeout=0.2) as store:
        db = face(store)
        run = await db.begin_run("s", [user("1")])
        before = dump(db)
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("begin immediate")
        for write in (
            lambda: db.finish_run(run, [answer()]),
            lambda: db.begin_run("s", [user("2")]),
            lambda: db.delete_session("s"),
        ):
            started = time.monotonic()
            with pytest.raises(DatabaseBusy, match=r"s\.db .*locked.* 0\.2 s"):
                await write()
            assert 0.19 < time.monotonic() - started < 2
        assert dump(db) == before
        assert await texts(db) == ["1"], "readers do not wait for writers"
        other.rollback()
        other.close()
        await db.finish_run(run, [answer("one")])
        assert await texts(db) == ["1", "one"]


async def test_a_lock_shorter_than_the_timeout_is_waited_for(face: Make, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    with SqliteDb(file, timeout=5) as store:
        db = face(store)
        await db.create_session("s")
        other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        other.execute("begin immediate")
        threading.Timer(0.2, lambda: (other.rollback(), other.close())).start()
        await turn(db)
        assert (await header_of(db)).run_count == 1


async def test_a_file_locked_when_it_is_first_opened_is_busy(face: Make, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("create table theirs (x)")
    other.execute("begin exclusive")
    with SqliteDb(file, timeout=0.1) as store:
        db = face(store)
        with pytest.raises(DatabaseBusy):
            await db.create_session("s")
        other.rollback()
        other.close()
        await db.create_session("s")


async def test_a_new_file_that_is_locked_for_a_moment_is_waited_for(face: Make, tmp_path: Path) -> None:
    """As when several processes make it at the same time."""
    file = tmp_path / "s.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("create table theirs (x)")
    other.execute("begin immediate")
    threading.Timer(0.2, lambda: (other.rollback(), other.close())).start()
    with SqliteDb(file, timeout=5) as store:
        await face(store).create_session("s")


async def test_tables_of_others_in_the_file_are_left_alone(face: Make, tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    with sqlite3.connect(file) as other:
        other.executescript(
            "create table sessions (id, x); create table messages (y); create index mine on sessions (x);"
            "insert into sessions values (1, 'theirs'); pragma user_version = 7; pragma application_id = 9;"
        )
    other.close()
    with SqliteDb(file) as store:
        db = face(store)
        await turn(db)
        await db.delete_session("s")
    with sqlite3.connect(file) as other:
        assert other.execute("select * from sessions").fetchall() == [(1, "theirs")]
        assert other.execute("pragma user_version").fetchone() == (7,)
        assert other.execute("pragma application_id").fetchone() == (9,)
        ours = other.execute("select name from sqlite_master where name not like 'sqlite%'").fetchall()
        assert {name for (name,) in ours if not name.startswith("recollect_")} == {"sessions", "messages", "mine"}
    other.close()


async def test_two_who_open_a_new_file_at_once_both_work(face: Make, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def use(number: int) -> None:
        with SqliteDb(tmp_path / "s.db") as store:
            store.create_session(f"s{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    with SqliteDb(tmp_path / "s.db") as store:
        assert len(await face(store).get_sessions()) == 8


@pytest.mark.parametrize(("option", "bad"), [("durability", "none"), ("durability", None), ("durability", 1)])
def test_options_that_are_not_known_are_refused(option: str, bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=option):
        SqliteDb(**{option: bad})


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
async def test_durability_is_what_was_asked_for(face: Make, tmp_path: Path, durability: Any, level: int) -> None:
    with SqliteDb(tmp_path / "s.db", durability=durability) as store:
        db = face(store)
        await db.create_session("s")
        assert run_sql(db, "pragma synchronous") == [(level,)]
        assert run_sql(db, "pragma journal_mode") == [("wal",)]
