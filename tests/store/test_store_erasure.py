"""A user who is deleted is deleted to the last byte: from the tables, from the cache, and from the file."""

from __future__ import annotations

import gc
import json
import sqlite3
import types
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres_kit import postgres_db
from store_kit import FACES, TABLES, Face, MovingClock, answer, calls, change_rows, result, system, turn, user

from recollect.cache import SessionCache
from recollect.db.sqlite import SqliteDb
from recollect.errors import DatabaseBusy, InvalidArgument
from recollect.history import HistoryLimits
from recollect.run import RunStatus
from recollect.session import SessionSummary
from recollect.store import Store, names, summaries

CACHE = SessionCache()


@contextmanager
def _file(folder: Path) -> Iterator[Store]:
    with SqliteDb(folder / "s.db", secure_delete=True) as db:
        yield db


@contextmanager
def _postgres(_: Path) -> Iterator[Store]:
    with postgres_db(pool=2) as db:
        yield db


@pytest.fixture(params=[(kind, face) for kind in ("file", "postgres") for face in FACES], ids="-".join)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Face]:
    """A store behind a cache."""
    kind, face = request.param
    with {"file": _file, "postgres": _postgres}[kind](tmp_path) as store:
        yield FACES[face](CACHE.over(store), MovingClock())


async def _live(db: Face, mark: str) -> None:
    """Everything that may be stored of a user, each with a mark in it that nothing else has."""
    s, owner = f"{mark}-session", f"{mark}-user"
    await db.create_session(
        s, user_id=owner, name=f"{mark} name", metadata={f"{mark}-key": f"{mark} é"}, session_state={"k": [mark]}
    )
    await db.tag_session(s, [f"{mark}-tag"], user_id=owner)
    run = await db.begin_run(
        s,
        [user(f"{mark} asks " + "x" * 5000)],
        user_id=owner,
        run_id=f"{mark}-run",
        agent_id=f"{mark}-agent",
        agent_name=f"{mark} agent",
        prompt=system(f"{mark} prompt"),
        metadata={"of": mark},
        state={f"{mark}-state": 1},
        model=f"{mark}-model",
        history=HistoryLimits(),
    )
    await db.append_messages(run, [calls(f"{mark}-call")])
    await db.append_messages(run, [result(f"{mark}-call", f"{mark} result")])
    await db.finish_run(run, [answer(f"{mark} answers", reasoning_content=f"{mark} thinks")])
    member = await db.begin_run(s, [user(mark)], user_id=owner, parent_run_id=f"{mark}-run", agent_id=f"{mark}-member")
    await db.finish_run(member, [answer(mark)])
    failed = await db.begin_run(s, [user(mark)], user_id=owner, run_id=f"{mark}-failed")
    await db.finish_run(failed, status=RunStatus.error, error=f"{mark} failed")
    anew = await db.begin_run(s, [user(mark)], user_id=owner, replaces=f"{mark}-run")
    await db.finish_run(anew, [answer(mark)])
    await db.begin_run(s, [user(f"{mark} is cut off")], user_id=owner)
    since = await db.transact(summaries.get_unsummarised, s)
    summary = SessionSummary(summary=f"{mark} summary", topics=(f"{mark} topic",))
    await db.transact(summaries.finish_summary, s, since, 1, summary, 1)
    await db.transact(names.begin_naming, s, 1)
    await db.fork_session(s, user_id=owner, new_session_id=f"{mark}-fork")
    await db.archive_session(f"{mark}-fork")
    await turn(db, f"{mark}-over", mark, user_id=owner)
    await db.set_session_expiry(f"{mark}-over", timedelta(microseconds=1), owner)
    for session_id in (s, f"{mark}-fork"):
        session = await db.get_session(session_id, owner)
        assert session.get_messages()
        assert [run.metadata for run in session.runs]


def _rows(db: Face) -> str:
    store = db.db.home
    return "".join(
        str(store.transact(change_rows, f"select * from recollect_{table}"))
        for table in (*TABLES, "documents", "indexed")
    )


def _held(cache: SessionCache) -> bytes:
    """Every text and bytes that a cache holds on to, whatever it is in."""
    seen: set[int] = set()
    left: list[Any] = [cache]
    texts = []
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, type | types.ModuleType | Store):
            continue
        if isinstance(one, types.FunctionType):  # what it works on, not the program that it is part of
            left += one.__closure__ or ()
            continue
        seen.add(id(one))
        if isinstance(one, str):
            texts.append(one.encode(errors="replace"))
        elif isinstance(one, bytes):
            texts.append(one)
        left += gc.get_referents(one)
    return b"\n".join(texts)


def _bytes(db: Face) -> bytes:
    """What is in the file, and in those next to it."""
    home = db.db.home
    if not isinstance(home, SqliteDb):
        return b""
    assert home.db_file is not None
    return b"".join(file.read_bytes() for file in sorted(home.db_file.parent.iterdir()))


@pytest.mark.anyio
@pytest.mark.parametrize("through", ["cache", "database"])
async def test_nothing_is_left_of_a_deleted_user_and_all_of_another(db: Face, through: str) -> None:
    CACHE.clear()
    for mark in ("ada4711", "bob0815"):
        await _live(db, mark)
    assert {hit.user_id for hit in await db.search("cut off")} == {"ada4711-user", "bob0815-user"}
    await db.index_sessions()
    home = type(db)(db.db.home, db.clock)  # type: ignore[call-arg]
    for held in (_rows(db).encode(), _held(CACHE), *([_bytes(db)] if _bytes(db) else [])):
        assert b"ada4711" in held
    bobs = _rows(db).count("bob0815"), _held(CACHE).count(b"bob0815")
    assert await (db if through == "cache" else home).delete_user("ada4711-user") == 3
    await home.vacuum()
    assert "ada4711" not in _rows(db)
    assert b"ada4711" not in _held(CACHE)
    assert b"ada4711" not in _bytes(db)
    assert (_rows(db).count("bob0815"), _held(CACHE).count(b"bob0815")) == bobs
    assert len((await db.get_session("bob0815-session")).runs) == 5


@pytest.mark.anyio
async def test_an_export_of_a_user_is_all_there_is_and_plain_json(db: Face) -> None:
    for mark in ("ada4711", "bob0815"):
        await _live(db, mark)
    told = [session async for session in db.each("export_user", "ada4711-user")]
    assert json.loads(json.dumps(told)) == told
    assert "bob0815" not in json.dumps(told)
    by_id = {session["session_id"]: session for session in told}
    assert list(by_id) == ["ada4711-fork", "ada4711-over", "ada4711-session"]
    session = by_id["ada4711-session"]
    assert (session["name"], session["name_source"], session["tags"]) == ("ada4711 name", "manual", ["ada4711-tag"])
    assert session["session_state"] == {"k": ["ada4711"], "ada4711-state": 1}
    assert session["metadata"] == {"ada4711-key": "ada4711 é"}
    assert session["run_count"] == 4
    assert [run["status"] for run in session["runs"]] == [
        "completed", "regenerated", "error", "regenerated", "running",
    ]  # fmt: skip
    assert session["runs"][3]["messages"][1]["content"].startswith("ada4711 asks")
    fork = by_id["ada4711-fork"]
    assert (fork["archived"], fork["summary"]["topics"]) == (True, ["ada4711 topic"])
    assert by_id["ada4711-over"]["expire_after"] is not None
    assert await db.get_session("ada4711-over") is None


def test_a_log_that_others_still_read_is_said_and_the_file_is_whole(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "s.db", secure_delete=True, timeout=0.2) as db:
        db.finish_run(db.begin_run("s", [user("ada4711")]), [answer()])
        with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
            other.execute("begin")
            other.execute("select count(*) from recollect_messages").fetchall()
            db.delete_session("s")
            with pytest.raises(DatabaseBusy):
                db.vacuum()
        db.begin_run("t", [user("Go on")])
        db.vacuum()
        assert [header.session_id for header in db.get_sessions()] == ["t"]
        assert not any(b"ada4711" in file.read_bytes() for file in tmp_path.iterdir())


def test_a_database_in_memory_is_vacuumed_too() -> None:
    with SqliteDb() as db:
        db.create_session("s")
        db.vacuum()
        assert db.get_header("s") is not None


def test_what_is_no_yes_or_no_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="secure_delete"):
        SqliteDb(secure_delete="yes")  # type: ignore[arg-type]
