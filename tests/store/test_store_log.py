"""The log next to a file stays short, however many processes write at a time, and whoever reads meanwhile."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from recollect.db.sqlite import SqliteDb
from recollect.db.sqlite.log import LONG, Log

WRITERS = 4
EACH = 150
WRITES = f"""
import sys
from recollect import Message, SqliteDb

with SqliteDb(sys.argv[1], durability="normal") as db:
    db.get_header("s")
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range({EACH}):
        run = db.begin_run("s", [Message("user", "x" * 30_000)])
        db.finish_run(run, [Message("assistant", "y" * 10_000)])
"""


def test_the_log_stays_short_while_many_processes_write_without_a_pause(tmp_path: Path) -> None:
    file, log = tmp_path / "s.db", tmp_path / "s.db-wal"
    with SqliteDb(file, durability="normal") as db:
        db.create_session("s")
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITES, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(WRITERS)
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write("\n")
                writer.stdin.flush()
            sizes = [0]
            while any(writer.poll() is None for writer in writers):
                if (size := log.stat().st_size) != sizes[-1]:
                    sizes.append(size)
        finally:
            for writer in writers:
                writer.kill()
                writer.communicate()
        assert [writer.returncode for writer in writers] == [0] * WRITERS
        header = db.get_header("s")
        assert header is not None
        assert header.run_count == WRITERS * EACH
    emptied = [before for before, after in itertools.pairwise(sizes) if after < before]
    assert len(emptied) > 2, "SQLite of its own never does while somebody writes"
    assert max(sizes) < 12 * LONG


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
def writer(file: Path) -> Iterator[sqlite3.Connection]:
    """One who leaves everything in the log."""
    with closing(sqlite3.connect(file, isolation_level=None)) as made:
        made.execute("pragma journal_mode = wal")
        made.execute("pragma synchronous = off")
        made.execute("pragma wal_autocheckpoint = 0")
        made.execute("create table t (x blob)")
        yield made


def grow(writer: sqlite3.Connection, size: int, log: Log | None = None) -> None:
    writer.execute("begin immediate")
    writer.execute("insert into t values (zeroblob(?))", (size,))
    with log.kept_short(writer) if log else nullcontext():
        writer.execute("commit")


def size_of(file: Path) -> int:
    return Path(f"{file}-wal").stat().st_size


def setting(writer: sqlite3.Connection, name: str) -> int:
    found: int = writer.execute(f"pragma {name}").fetchone()[0]
    return found


def test_a_log_that_is_not_long_is_left_alone(file: Path, writer: sqlite3.Connection) -> None:
    log = Log(file)
    grow(writer, LONG // 2)
    grow(writer, 10, log)
    assert size_of(file) > LONG // 2


def test_a_long_log_is_emptied_and_nothing_is_lost(file: Path, writer: sqlite3.Connection) -> None:
    log = Log(file)
    grow(writer, LONG)
    grow(writer, 10, log)
    assert size_of(file) == 0
    assert writer.execute("select length(x) from t").fetchall() == [(LONG,), (10,)]
    assert (setting(writer, "busy_timeout"), setting(writer, "wal_autocheckpoint")) == (0, 1000)


def test_a_log_that_is_read_is_left_until_it_has_grown_as_much_again(file: Path, writer: sqlite3.Connection) -> None:
    log = Log(file)
    asked: list[str] = []
    grow(writer, LONG)
    writer.set_trace_callback(lambda sql: asked.append(sql) if "checkpoint(" in sql else None)
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("begin")
        assert reader.execute("select count(*) from t").fetchone() == (1,)
        grow(writer, 10, log)
        assert len(asked) == 1
        assert size_of(file) > LONG, "it is still read"
        writer.execute("pragma wal_autocheckpoint = 0")
        grow(writer, 10, log)
        assert len(asked) == 1, "those who write are not held up each time"
        grow(writer, LONG)
        grow(writer, 10, log)
        assert len(asked) == 2
        assert reader.execute("select count(*) from t").fetchone() == (1,)
    writer.execute("pragma wal_autocheckpoint = 0")
    grow(writer, LONG)
    grow(writer, 10, log)
    assert size_of(file) == 0
    assert writer.execute("select count(*) from t").fetchone() == (7,)


def test_a_log_that_cannot_be_emptied_just_now_is_nobodys_error(file: Path, writer: sqlite3.Connection) -> None:
    log = Log(file)
    grow(writer, LONG)
    writer.execute("begin immediate")
    with log.kept_short(writer):
        pass  # nothing is committed: who has a transaction open cannot empty it
    assert size_of(file) > LONG
    writer.execute("rollback")
    grow(writer, 10, log)
    assert size_of(file) == 0
    assert (setting(writer, "busy_timeout"), setting(writer, "wal_autocheckpoint")) == (0, 1000)


def test_where_there_is_no_log_the_commit_is_all(tmp_path: Path, writer: sqlite3.Connection) -> None:
    grow(writer, 10, Log(tmp_path / "another.db"))
    assert writer.execute("select count(*) from t").fetchone() == (1,)
