"""One store serves threads, event loops, forked children and other processes at the same time, through both faces."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from store_kit import BACKENDS, MovingClock, answer, change_rows, dump, user

from recollect.db.postgres import PostgresDb
from recollect.db.sqlite import SqliteDb
from recollect.errors import DatabaseBusy, InvalidArgument, RunConflict, RunLost, SessionConflict, UserRequired
from recollect.store import Store


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteDb]:
    with BACKENDS[request.param](tmp_path, MovingClock()) as db:
        yield db


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[SqliteDb]:
    with SqliteDb(tmp_path / "sessions.db") as db:
        yield db


@pytest.fixture
def lasting_store(place: str) -> Iterator[Store]:
    """One that others can open too."""
    with opened(place) as db:
        yield db


def opened(place: str, **options: Any) -> Any:
    return PostgresDb(place, pool=4, **options) if place.startswith("postgresql") else SqliteDb(place, **options)


def turn(db: Store, session_id: str = "s", text: str = "Hi") -> None:
    run = db.begin_run(session_id, [user(text)])
    db.append_messages(run, [answer("step")])
    db.finish_run(run, [answer("done")])


async def aturn(db: Store, session_id: str = "s", text: str = "Hi") -> None:
    run = await db.abegin_run(session_id, [user(text)])
    await db.aappend_messages(run, [answer("step")])
    await db.afinish_run(run, [answer("done")])


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _whole(db: Store, turns: int, session_id: str = "s") -> bool:
    """Whether a session holds so many turns, each complete, in one order without gaps."""
    session = db.get_session(session_id)
    assert session is not None
    said = [[message.text for message in run.messages][1:] for run in session.runs]
    assert session.header.run_count == session.header.completed_count == len(session.runs)
    assert session.header.version == 3 * len(session.runs)
    assert [run.run_seq for run in session.runs] == list(range(1, len(session.runs) + 1))
    return said == [["step", "done"]] * turns


def test_both_faces_of_one_store_see_one_truth(store: SqliteDb) -> None:
    turn(store)
    asyncio.run(aturn(store))
    turn(store)
    assert asyncio.run(store.aget_session("s")).to_dict() == store.get_session("s").to_dict()  # type: ignore[union-attr]
    assert _whole(store, 3)


def test_several_loops_in_turn_use_one_store(store: SqliteDb) -> None:
    async def several() -> None:
        await asyncio.gather(*(aturn(store) for _ in range(5)))

    for _ in range(4):
        asyncio.run(several())
    assert _whole(store, 20)


def test_two_threads_with_a_loop_each_use_one_store(store: SqliteDb) -> None:
    async def several() -> None:
        await asyncio.gather(*(aturn(store) for _ in range(20)))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(asyncio.run, several()) for _ in range(2)]:
            done.result()
    assert _whole(store, 40)


def test_plain_calls_work_inside_a_running_loop_beside_awaited_ones(store: SqliteDb) -> None:
    async def mixed() -> None:
        waiting = [asyncio.create_task(aturn(store)) for _ in range(10)]
        for _ in range(5):
            turn(store)
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    asyncio.run(mixed())
    assert _whole(store, 15)


def test_eight_threads_of_fifty_turns_lose_none(store: SqliteDb) -> None:
    def fifty() -> None:
        for _ in range(50):
            turn(store)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(fifty) for _ in range(8)]:
            done.result()
    assert _whole(store, 400)


FORTY = """
import sys, time
from recollect import PostgresDb, SqliteDb
from recollect.message import Message
place, how = sys.argv[1:3]
with PostgresDb(place) if how == "postgres" else SqliteDb(place, durability=how) as db:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(40):
        run = db.begin_run("s", [Message("user", f"{sys.argv[3]}.{number}")], state={sys.argv[3]: number})
        db.append_messages(run, [Message("assistant", "step")])
        db.finish_run(run, [Message("assistant", "done")])
"""


@pytest.mark.parametrize(
    ("place", "how"), [("sqlite", "full"), ("sqlite", "normal"), ("postgres",) * 2], indirect=["place"]
)
def test_four_processes_of_forty_turns_on_one_session_lose_none_and_are_refused_none(place: str, how: str) -> None:
    with opened(place) as db:
        db.get_sessions()  # who makes the file, and how others wait for that, is another law
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", FORTY, place, how, str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    assert [writer.stdout.readline() for writer in writers if writer.stdout] == ["ready\n"] * 4
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [(writer.communicate(timeout=60)[1], writer.returncode) for writer in writers] == [("", 0)] * 4
    with opened(place) as db:
        assert _whole(db, 160)
        asked = [run.messages[0].text for run in db.get_session("s").runs]  # type: ignore[union-attr]
        assert len(set(asked)) == 160
        for number in range(4):
            own = [text for text in asked if text.startswith(f"{number}.")]
            assert own == [f"{number}.{place}" for place in range(40)]
        assert db.get_values("s", "state") == {str(number): 39 for number in range(4)}


def _forked(work: Callable[[], None], meanwhile: Callable[[], None] = lambda: None) -> int:
    """What a child made by fork ends with; the parent does something ``meanwhile``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks: this is the point
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    meanwhile()
    deadline = time.monotonic() + 20
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)  # it hangs; its end tells
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(ended[1])


@pytest.mark.parametrize("face", ["sync", "async"])
def test_after_a_fork_parent_and_child_both_go_on_with_the_same_object(lasting_store: Store, face: str) -> None:
    def one_turn() -> None:
        turn(lasting_store) if face == "sync" else asyncio.run(aturn(lasting_store))

    def child() -> None:
        for _ in range(5):
            one_turn()
        assert lasting_store.get_header("s").run_count >= 6  # type: ignore[union-attr]
        lasting_store.close()

    one_turn()
    lasting_store.get_session("s")
    asyncio.run(aturn(lasting_store))
    assert _forked(child) == 0
    one_turn()
    assert _forked(child) == 0
    one_turn()
    assert _whole(lasting_store, 14)
    if isinstance(lasting_store, SqliteDb):
        other = sqlite3.connect(lasting_store.address)
        assert other.execute("pragma integrity_check").fetchone() == ("ok",)
        other.close()


@pytest.mark.parametrize("at", ["write", "read"])
def test_a_fork_while_another_thread_is_at_work_leaves_both_whole(lasting_store: Store, at: str) -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            turn(lasting_store) if at == "write" else lasting_store.get_session("s")

    turn(lasting_store)
    other = threading.Thread(target=work)
    other.start()
    try:
        ends = [_forked(lambda: turn(lasting_store, "child")) for _ in range(10)]
    finally:
        stop.set()
        other.join()
    assert ends == [0] * 10
    assert _whole(lasting_store, 10, "child")
    assert _whole(lasting_store, lasting_store.get_header("s").run_count)  # type: ignore[union-attr]


FORKING = """
import os, sys, threading, time
from recollect import open_db
from recollect.port import writes

db, begun = open_db(sys.argv[1]), threading.Event()
db.create_session("s")

@writes
async def linger(tx):
    begun.set()
    time.sleep(0.1)

def fork():
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)

threads = [threading.Thread(target=work) for work in (lambda: db.transact(linger), fork, fork)]
threads[0].start()
assert begun.wait(10)
for thread in threads[1:]:
    thread.start()
for thread in threads:
    thread.join()
db.create_session("t")
"""


def test_threads_that_fork_at_the_same_time_let_go_of_what_is_their_own(place: str) -> None:
    """In a program of its own: here a lock of concurrent.futures keeps one from forking beside another."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, place], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("used", ["idle", "reading", "writing"])
def test_what_a_forked_child_wrote_survives_its_parent_closing(lasting_store: Store, used: str) -> None:
    """An inherited connection makes SQLite believe that this process holds locks that are the parent's alone."""
    turn(lasting_store)
    if used != "idle":
        lasting_store.get_session("s")
    to_child, from_parent = os.pipe()
    to_parent, from_child = os.pipe()

    def child() -> None:
        if used == "writing":
            turn(lasting_store, "child")
        else:
            assert lasting_store.get_header("s") is not None
        os.write(from_child, b"!")
        os.read(to_child, 1)
        for _ in range(3):
            turn(lasting_store, "child")

    def meanwhile() -> None:
        os.read(to_parent, 1)
        lasting_store.close()
        os.write(from_parent, b"!")

    assert _forked(child, meanwhile) == 0
    assert _whole(lasting_store, 4 if used == "writing" else 3, "child")
    for end in (to_child, from_parent, to_parent, from_child):
        os.close(end)


def test_after_a_fork_a_store_in_memory_is_the_childs_own(tmp_path: Path) -> None:
    with SqliteDb() as db:
        turn(db)

        def child() -> None:
            turn(db)
            asyncio.run(aturn(db))
            assert _whole(db, 3)

        assert _forked(child) == 0
        turn(db)
        assert _whole(db, 2)


def test_the_run_of_a_forked_child_that_died_is_interrupted_for_its_parent(file_store: SqliteDb) -> None:
    file_store.create_session("s")
    assert _forked(lambda: file_store.begin_run("s", [user()]) and None) == 0
    last = file_store.get_last_run("s")
    assert last is not None
    assert last.status == "interrupted"


@contextmanager
def _held(db: Store) -> Iterator[Callable[[], None]]:
    """What is written locked by another connection until released, so that writers gather."""
    if isinstance(db, PostgresDb):
        other: Any = psycopg.connect(db._pools.address.conninfo, autocommit=True, options="")
        other.execute("begin")
        other.execute("lock table recollect_sessions in exclusive mode")
    else:
        other = sqlite3.connect(db.address, isolation_level=None)  # type: ignore[attr-defined]
        other.execute("begin immediate")
    held = [other]

    def release() -> None:
        while held:
            held.pop().rollback()

    try:
        yield release
    finally:
        release()
        other.close()


def _commits(db: SqliteDb) -> list[str]:
    """The commits of the writing connection, as they happen."""
    seen: list[str] = []
    assert db._writer is not None
    db._writer.set_trace_callback(lambda sql: seen.append(sql) if sql.lower() == "commit" else None)
    return seen


def test_writers_that_wait_at_the_same_time_share_commits(file_store: SqliteDb) -> None:
    async def many() -> int:
        await file_store.acreate_session("s")
        commits = _commits(file_store)
        with _held(file_store) as release:
            writers = [asyncio.create_task(file_store.abegin_run("s", [user(str(n))])) for n in range(64)]
            await asyncio.sleep(0.05)
            release()
            runs = await asyncio.gather(*writers)
        assert sorted(run.run_seq for run in runs) == list(range(1, 65))
        assert sorted(run.version for run in runs) == list(range(2, 66))
        return len(commits)

    assert asyncio.run(many()) <= 3
    assert file_store.get_header("s").run_count == 64  # type: ignore[union-attr]


def test_an_operation_that_fails_in_a_group_undoes_nothing_but_itself(store: SqliteDb) -> None:
    async def several() -> list[Any]:
        await store.acreate_session("owned", user_id="u")
        lost = await store.abegin_run("s", [user()], run_id="r")
        await store.afinish_run(lost)
        calls = [
            store.acreate_session("a"),
            store.acreate_session("owned"),
            store.abegin_run("s", [user()], run_id="r", state={"k": 1}),
            store.abegin_run("owned", [user()]),
            store.acreate_session("b", metadata={"k": float("nan")}),
            store.aappend_messages(lost, [answer()]),
            store.acreate_session("c"),
            store.abegin_run("s", [user()], run_id="r2"),
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    for _ in range(3):  # whether or not the first one had its commit to itself
        found = [type(value) for value in asyncio.run(several())]
        failed = [SessionConflict, RunConflict, UserRequired, InvalidArgument, RunLost]
        assert found[1:6] == failed
        assert not issubclass(found[0], BaseException)
        assert {header.session_id for header in store.get_sessions()} == {"a", "c", "s", "owned"}
        assert [run.run_id for run in store.get_session("s").runs] == ["r", "r2"]  # type: ignore[union-attr]
        assert store.get_values("s", "state") == {}
        store.delete_sessions(["a", "c", "s", "owned"])


def test_when_the_groups_transaction_dies_each_is_run_again_alone(file_store: SqliteDb) -> None:
    async def several() -> list[Any]:
        await file_store.acreate_session("s")
        [(pages,)] = file_store.transact(change_rows, "pragma page_count")
        file_store.transact(change_rows, f"pragma max_page_count = {pages + 2}")
        with _held(file_store) as release:
            sizes = [1, 200_000, 1, 200_000, 1]
            writers = [
                asyncio.create_task(file_store.aupdate_values("s", "state", {str(place): "x" * size}))
                for place, size in enumerate(sizes)
            ]
            await asyncio.sleep(0.05)
            release()
            return await asyncio.gather(*writers, return_exceptions=True)

    found = asyncio.run(several())
    assert [type(value).__name__ for value in found] == ["dict", "DatabaseFull", "dict", "DatabaseFull", "dict"]
    assert set(file_store.get_values("s", "state")) == {"0", "2", "4"}


def test_a_file_that_stays_locked_is_busy_for_all_who_wait_after_one_timeout(tmp_path: Path) -> None:
    async def several(db: SqliteDb) -> list[Any]:
        await db.acreate_session("s")
        with _held(db):
            return await asyncio.gather(*(aturn(db) for _ in range(12)), return_exceptions=True)

    with SqliteDb(tmp_path / "s.db", timeout=0.25) as db:
        started = time.monotonic()
        found = asyncio.run(several(db))
        took = time.monotonic() - started
        assert [type(error) for error in found] == [DatabaseBusy] * 12
        assert db.get_header("s").run_count == 0  # type: ignore[union-attr]
    assert took < 8 * 0.25, f"twelve waited {took:.1f} s for a timeout of 0.25 s"


def test_a_write_cancelled_while_it_waits_is_finished_and_then_the_cancellation_goes_on(lasting_store: Store) -> None:
    async def cancelled() -> None:
        await lasting_store.acreate_session("s")
        with _held(lasting_store) as release:
            writer = asyncio.create_task(lasting_store.abegin_run("s", [user("kept")]))
            await asyncio.sleep(0.03)
            writer.cancel()
            await asyncio.sleep(0.03)
            assert not writer.done(), "its outcome is not known yet"
            release()
            with pytest.raises(asyncio.CancelledError):
                await writer
            assert writer.cancelled()
        assert len(dump(lasting_store)["runs"]) == 1, "it was begun, and is finished when the cancellation is raised"

    asyncio.run(cancelled())
    turn(lasting_store)


def test_a_cancelled_write_that_fails_wrote_nothing(place: str) -> None:
    async def cancelled(db: Store) -> None:
        await db.acreate_session("s")
        before = dump(db)
        with _held(db):
            writer = asyncio.create_task(db.abegin_run("s", [user()]))
            await asyncio.sleep(0.03)
            writer.cancel()
            with pytest.raises((asyncio.CancelledError, DatabaseBusy)):
                await writer
        assert dump(db) == before

    with opened(place, timeout=0.15) as db:
        asyncio.run(cancelled(db))


def test_a_timeout_around_a_write_is_raised_once_the_write_is_done(lasting_store: Store) -> None:
    async def limited() -> None:
        await lasting_store.acreate_session("s")
        with _held(lasting_store) as release:
            asyncio.get_running_loop().call_later(0.15, release)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.03):
                    await lasting_store.abegin_run("s", [user()])
        assert len(dump(lasting_store)["runs"]) == 1
        await aturn(lasting_store)  # the task itself goes on

    asyncio.run(limited())


@pytest.mark.parametrize("moment", [0, 0.0002, 0.001])
def test_cancelling_many_writers_at_any_moment_leaves_each_whole_or_absent(store: SqliteDb, moment: float) -> None:
    async def many() -> None:
        writers = [asyncio.create_task(store.abegin_run(f"s{n}", [user()], state={"k": n})) for n in range(40)]
        await asyncio.sleep(moment)
        for writer in writers:
            writer.cancel()
        ended = await asyncio.gather(*writers, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) or end.token for end in ended)  # type: ignore[union-attr]
        for number, end in enumerate(ended):
            session = await store.aget_session(f"s{number}")
            if not isinstance(end, BaseException):
                assert session is not None
            if session is not None:
                assert (len(session.runs), session.session_state) == (1, {"k": number})

    asyncio.run(many())
    turn(store)


def test_a_loop_that_ends_with_writes_under_way_does_no_harm(lasting_store: Store) -> None:
    async def leave() -> None:
        for number in range(20):
            asyncio.ensure_future(aturn(lasting_store, f"left {number}"))  # noqa: RUF006 - left behind on purpose
        await asyncio.sleep(0.001)

    asyncio.run(leave())
    turn(lasting_store)
    asyncio.run(aturn(lasting_store))
    assert _whole(lasting_store, 2)


def test_a_closed_store_opens_again_where_it_was(store: SqliteDb) -> None:
    for _ in range(2):
        turn(store)
        asyncio.run(aturn(store))
        store.close()
        store.close()
        in_memory = "memory" in repr(store)
        if in_memory:
            assert store.get_header("s") is None, "memory is gone with it"
        asyncio.run(store.aclose())
    turn(store)
    assert _whole(store, 1 if in_memory else 5)


def test_a_store_is_a_context_manager_in_both_faces(tmp_path: Path) -> None:
    async def used() -> None:
        async with SqliteDb(tmp_path / "s.db") as db:
            await aturn(db)
        assert _names(tmp_path) == {"s.db"}, "closing folds the log into the file"

    asyncio.run(used())
    with SqliteDb(tmp_path / "s.db") as db:
        turn(db)
        assert _whole(db, 2)


def test_a_store_left_open_is_let_go_without_warning_or_thread(place: str) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for where in (None, place):
            db = SqliteDb() if where is None else opened(where)
            turn(db)
            asyncio.run(aturn(db))
            asyncio.run(db.aget_session("s"))
            del db
        gc.collect()
    assert [str(warning.message) for warning in said] == []
    deadline = time.monotonic() + 2
    while {thread.name for thread in threading.enumerate()} - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {thread.name for thread in threading.enumerate()} <= before


def test_a_program_that_ends_without_closing_ends_quietly(place: str) -> None:
    program = (
        "import asyncio, sys\nfrom recollect import open_db\n"
        "for place in ('sqlite://', sys.argv[1]):\n    db = open_db(place)\n    db.create_session('s')\n"
        "    asyncio.run(db.aget_session('s'))\n    asyncio.run(db.acreate_session('t'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, place],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_an_operation_inside_another_is_refused_instead_of_waiting_forever(file_store: SqliteDb) -> None:
    from recollect.port import writes

    @writes
    async def nested(_: Any) -> None:
        file_store.create_session("inner")

    with pytest.raises(DatabaseBusy, match="inside another"):
        file_store.transact(nested)
    assert len(file_store.get_sessions()) == 0
    turn(file_store)
