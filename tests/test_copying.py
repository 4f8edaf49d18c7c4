"""A copy of sessions in another database: what is in it, and what is left alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres_kit import postgres_db, postgres_url

from recollect import (
    Agent,
    DatabaseError,
    DatabaseUnreachable,
    EchoModel,
    InvalidArgument,
    Message,
    PostgresDb,
    RunStatus,
    SessionCache,
    SqliteDb,
    copying,
    survey,
)
from recollect.content import COLUMNS
from recollect.copying import CopyReport, copy_sessions
from recollect.doctor import database
from recollect.port import Tx, reads, writes
from recollect.run import RunMetrics
from recollect.store import Store

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":  1}'}}

OPENED: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {
    "sqlite": lambda file: SqliteDb(file, durability="normal"),
    "postgres": lambda _: postgres_db(),
}


@pytest.fixture(params=["sqlite-postgres", "postgres-sqlite", "sqlite-sqlite"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """A database to copy from and an empty one to copy to."""
    one, other = request.param.split("-")
    with OPENED[one](tmp_path / "source.db") as source, OPENED[other](tmp_path / "target.db") as target:
        yield source, target


def turn(db: Store, session_id: str = "s", text: str = "Hi", **begin: Any) -> None:
    run = db.begin_run(session_id, [Message("user", text)], **begin)
    db.finish_run(run, [Message("assistant", f"You said: {text}")])


@writes
async def _change(tx: Tx, sql: str) -> None:
    await tx.execute((sql, {}))


def fill(db: Store) -> None:
    """Sessions with everything that a session may hold."""
    prompt = Message("system", "Sé breve. \U0001f600")
    run = db.begin_run(
        "s",
        [Message("user", "Look", id="mine")],
        run_id="r1",
        prompt=prompt,
        agent_name="Äda",
        model="m",
        metadata={"a": [1.50, None]},
        state={"n": 1, "none": None},
    )
    db.append_messages(run, [Message("assistant", None, tool_calls=[CALL], provider_data={"x": "y" * 50})])
    db.append_messages(run, [Message("tool", "seen\x00", tool_call_id="c1")])
    db.finish_run(run, [Message("assistant", "I saw.")], metrics=RunMetrics(input_tokens=7, output_tokens=5, steps=2))
    for status in ("cancelled", "error", "paused", "regenerated", "interrupted", "pending"):
        run = db.begin_run("s", [Message("user", status)], prompt=prompt, run_id=f"r-{status}")
        db.finish_run(run, status=RunStatus(status), error="why" if status == "error" else None)
    run = db.begin_run("s", [Message("user", "Once more")], run_id="r-error", again=True)
    db.finish_run(run, [Message("assistant", "Now")])
    turn(db, "s", "of a member", parent_run_id="r1", run_id="member", agent_id="helper")
    db.begin_run("s", [Message("user", "Still there?")], run_id="open")
    turn(db, "ünï/code 😀", user_id="alice", kind="team", team_id="t")
    old = db.get_last_run("ünï/code 😀")
    assert old is not None
    db.set_session_name("ünï/code 😀", "Ein Nâme", user_id="alice")
    db.update_values("ünï/code 😀", "metadata", {"k": {"deep": [1]}})
    db.create_session("empty", user_id="bob", metadata={"m": 1})
    db.update_values("empty", "tag", {"x": None})
    db.archive_session("ünï/code 😀")
    db.pin_session("ünï/code 😀")
    db.set_session_expiry("ünï/code 😀", timedelta(days=9))
    run = db.begin_run("ünï/code 😀", [Message("user", "Anew")], user_id="alice", replaces=old.run_id)
    db.finish_run(run, [Message("assistant", "Better.")])


@reads
async def _rows(tx: Tx) -> list[Any]:
    own = {"claim_owner", "claim_token", "claim_until", "epoch", "version", "cancel_requested"}
    columns = {table: ", ".join(name for name in names if name not in own) for table, names in COLUMNS.items()}
    return await tx.execute(
        *((f"select {names} from recollect_{table} order by 1, 2, 3", {}) for table, names in columns.items())
    )


def content(db: Store) -> list[Any]:
    return db.transact(_rows)  # type: ignore[no-any-return]


def problems(db: Store) -> list[str]:
    return [finding.check for finding in database(db) if finding.status == "problem"]


def counted(report: CopyReport) -> dict[str, int]:
    return {
        "copied": report.copied,
        "continued": report.continued,
        "same": report.same,
        "verified": report.verified,
        "differing": len(report.differing),
        "failed": len(report.failed),
    }


NONE = dict.fromkeys(("copied", "continued", "same", "verified", "differing", "failed"), 0)


def test_a_copy_is_row_by_row_what_is_copied(ends: tuple[Store, Store]) -> None:
    source, target = ends
    fill(source)
    report = copy_sessions(source, target)
    assert counted(report) == NONE | {"copied": 3, "verified": 3}
    assert problems(target) == []
    there = content(source)
    runs = COLUMNS["runs"]
    kept = [name for name in runs if name not in ("version", "cancel_requested")]
    open_run = next(row for row in content(target)[TABLE["runs"]] if row[kept.index("run_id")] == "open")
    assert open_run[kept.index("status")] == "interrupted"
    assert open_run[kept.index("finished_at")] == open_run[kept.index("created_at")]
    wanted = [
        [_settled(row, kept) if number == TABLE["runs"] else row for row in rows] for number, rows in enumerate(there)
    ]
    assert content(target) == wanted
    assert content(source) == there, "a copy changes nothing where it reads"


TABLE = {table: number for number, table in enumerate(COLUMNS)}


def _settled(row: tuple[Any, ...], names: list[str]) -> tuple[Any, ...]:
    run = dict(zip(names, row, strict=True))
    if run["status"] == "running":
        run |= {"status": "interrupted", "finished_at": run["created_at"]}
    return tuple(run.values())


def test_there_and_back_it_is_what_it_was(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "a.db") as db, postgres_db() as server, SqliteDb(tmp_path / "b.db") as back:
        fill(db)
        copy_sessions(db, server)
        copy_sessions(server, back)
        assert content(back) == content(server)
        for session_id in ("s", "ünï/code 😀", "empty"):
            one, other = db.get_session(session_id), back.get_session(session_id)
            assert one is not None
            assert other is not None
            assert [run.messages for run in one.runs] == [run.messages for run in other.runs]


def test_copying_again_finds_it_all_there_and_changes_nothing(ends: tuple[Store, Store]) -> None:
    source, target = ends
    fill(source)
    copy_sessions(source, target)
    before = content(target)
    assert counted(copy_sessions(source, target)) == NONE | {"same": 3, "verified": 3}
    assert content(target) == before


def test_a_session_that_went_on_is_continued(ends: tuple[Store, Store]) -> None:
    source, target = ends
    fill(source)
    held = source.begin_run("empty", [Message("user", "Wait for it")], user_id="bob")
    copy_sessions(source, target)
    cached = SessionCache().over(target)
    cached.get_session("empty")
    source.finish_run(held, [Message("assistant", "It came")])
    turn(source, "empty", "And on", user_id="bob")
    source.set_session_name("empty", "Named since", user_id="bob")
    turn(source, "new")
    assert counted(copy_sessions(source, target)) == NONE | {"copied": 1, "continued": 1, "same": 2, "verified": 4}
    session = cached.get_session("empty")
    assert session is not None
    assert [message.text for message in session.get_messages()] == [
        "Wait for it", "It came", "And on", "You said: And on"
    ]  # fmt: skip
    assert session.name == "Named since"
    assert problems(target) == []
    assert Agent(EchoModel(), db=target).run("Go on", session_id="empty", user_id="bob").status == "completed"


CHANGES: dict[str, Callable[[Store], Any]] = {
    "another run": lambda db: turn(db, "s", "Only here"),
    "another name": lambda db: db.set_session_name("s", "Only here"),
    "another value": lambda db: db.update_values("s", "state", {"n": 2}),
    "one more value": lambda db: db.update_values("s", "state", {"here": 2}),
    "another message": lambda db: db.transact(
        _change,
        """update recollect_messages set body = '{"role": "user", "content": "No"}' where message_id = 'mine'""",
    ),
    "one message less": lambda db: db.transact(
        _change, "delete from recollect_messages where run_seq = 1 and role = 'tool'"
    ),
    "another owner": lambda db: db.claim_session("s", "mallory"),
    "another run in the place of one": lambda db: db.transact(
        _change, "update recollect_runs set run_id = 'here' where run_id = 'open'"
    ),
    "another question of a run that was under way": lambda db: db.transact(
        _change,
        """
        update recollect_messages set body = '{"role": "user", "content": "No"}'
        where run_seq = (select run_seq from recollect_runs where run_id = 'open')
        """,
    ),
    "another status": lambda db: db.transact(
        _change, "update recollect_runs set status = 'error' where run_id = 'r1' and session_id = 's'"
    ),
}


@pytest.mark.parametrize("goes_on", [False, True], ids=["as it was", "gone on"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_session_that_differs_is_told_and_left_alone(
    ends: tuple[Store, Store],
    change: str,
    goes_on: bool,  # noqa: FBT001
) -> None:
    source, target = ends
    fill(source)
    copy_sessions(source, target)
    CHANGES[change](target)
    if goes_on:
        turn(source, "s", "Meanwhile")
    before = content(target)
    report = copy_sessions(source, target)
    assert counted(report) == NONE | {"same": 2, "verified": 2, "differing": 1}
    assert report.differing[0].session_id == "s"
    assert not report.is_whole
    assert content(target) == before


def test_a_run_that_was_under_way_is_continued_only_where_it_began_the_same(ends: tuple[Store, Store]) -> None:
    source, target = ends
    held = source.begin_run("s", [Message("user", "Wait for it")])
    copy_sessions(source, target)
    other = """update recollect_messages set body = '{"role": "user", "content": "Never mind"}'"""
    target.transact(_change, other)
    source.finish_run(held, [Message("assistant", "It came")])
    before = content(target)
    report = copy_sessions(source, target)
    assert counted(report) == NONE | {"differing": 1}
    assert report.differing[0].reason == f"the one that is there has another run {held.run_id}"
    assert content(target) == before


def test_one_that_is_kept_for_so_long_may_go_on_between_two_copies(ends: tuple[Store, Store]) -> None:
    source, target = ends
    source.create_session("s", expire_after=timedelta(days=1))
    copy_sessions(source, target)
    turn(source, "s", "And on")
    assert counted(copy_sessions(source, target)) == NONE | {"continued": 1, "verified": 1}
    assert content(source) == content(target)


def test_what_has_expired_is_copied_with_its_end_and_purged_there_too(ends: tuple[Store, Store]) -> None:
    source, target = ends
    source.create_session("s", expire_after=timedelta(days=1))
    source.transact(_change, "update recollect_sessions set expires_at = 99")
    assert counted(copy_sessions(source, target)) == NONE | {"copied": 1, "verified": 1}
    assert target.get_session("s") is None
    assert target.purge_sessions() == 1


def test_who_works_on_a_session_is_not_copied(ends: tuple[Store, Store]) -> None:
    source, target = ends
    fill(source)
    source.transact(_change, "update recollect_runs set cancel_requested = 1")
    claim = "update recollect_sessions set claim_owner = 'o', claim_token = 1, claim_until = 2"
    source.transact(_change, claim)
    copy_sessions(source, target)
    names = "claim_owner, claim_token, claim_until"
    assert set(target.transact(_select, f"select {names} from recollect_sessions")) == {(None, None, None)}
    assert set(target.transact(_select, "select cancel_requested from recollect_runs")) == {(0,)}
    assert target.transact(_select, "select * from recollect_leases") == []


@reads
async def _select(tx: Tx, sql: str) -> list[tuple[Any, ...]]:
    [found] = await tx.execute((sql, {}))
    return found


def test_a_cache_before_the_target_sees_what_was_copied(ends: tuple[Store, Store]) -> None:
    source, target = ends
    turn(source)
    copy_sessions(source, target)
    cached = SessionCache().over(target)
    turn(target, "s", "Only here")
    assert cached.get_session("s") is not None
    target.delete_session("s")
    turn(source, "s", "Only there")
    copy_sessions(source, target)
    session = cached.get_session("s")
    assert session is not None
    assert [message.text for message in session.get_messages()][2] == "Only there"


def test_a_session_that_is_continued_is_newer_than_it_was(ends: tuple[Store, Store]) -> None:
    source, target = ends
    turn(source)
    copy_sessions(source, target)
    target.transact(_change, "update recollect_sessions set version = version + 50")
    before = target.get_header("s")
    turn(source)
    assert counted(copy_sessions(source, target)) == NONE | {"continued": 1, "verified": 1}
    after = target.get_header("s")
    assert before is not None
    assert after is not None
    assert after.version > before.version
    assert problems(target) == []


def test_a_session_that_is_changed_while_it_is_compared_is_left_alone(
    ends: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = ends
    turn(source)
    copy_sessions(source, target)
    turn(source)
    compared = copying.Content.beyond

    def beyond(self: copying.Content, other: copying.Content) -> str:
        turn(target, "s", "Just now")
        return compared(self, other)

    monkeypatch.setattr(copying.Content, "beyond", beyond)
    report = copy_sessions(source, target)
    assert counted(report) == NONE | {"differing": 1}
    assert report.differing[0].reason == "it was changed meanwhile"
    session = target.get_session("s")
    assert session is not None
    assert [message.text for message in session.get_messages()][2] == "Just now"


def test_only_the_sessions_of_a_user_are_copied_when_one_is_named(ends: tuple[Store, Store]) -> None:
    source, target = ends
    fill(source)
    assert counted(copy_sessions(source, target, user_id="alice")) == NONE | {"copied": 1, "verified": 1}
    assert [header.session_id for header in target.iter_sessions()] == ["ünï/code 😀"]
    assert counted(copy_sessions(source, target, user_id="nobody")) == NONE


def test_only_sessions_that_are_named_are_copied_and_only_those_of_the_user(ends: tuple[Store, Store]) -> None:
    source, target = ends
    fill(source)
    alices = "ünï/code 😀"
    assert counted(copy_sessions(source, target, session_ids=["nowhere"])) == NONE
    assert counted(copy_sessions(source, target, session_ids=["s", alices], user_id="bob")) == NONE
    assert counted(copy_sessions(source, target, session_ids=[alices], user_id="alice")) == NONE | {
        "copied": 1,
        "verified": 1,
    }
    assert [header.session_id for header in target.iter_sessions()] == [alices]
    assert counted(copy_sessions(source, target, session_ids=["s", alices])) == NONE | {
        "copied": 1,
        "same": 1,
        "verified": 2,
    }
    assert {header.session_id for header in target.iter_sessions()} == {"s", alices}
    for wrong in ("s", [7], ["a\x00b"]):
        with pytest.raises(InvalidArgument):
            copy_sessions(source, target, session_ids=wrong)  # type: ignore[arg-type]


def test_what_is_held_at_once_does_not_grow_with_a_session(
    ends: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = ends
    for number in range(7):
        for place in range(9):
            turn(source, f"s{number}", f"{place} " * 50, state={f"k{place}": place})
    monkeypatch.setattr(copying, "ROOM", 2000)
    monkeypatch.setattr(copying, "PAGE", 4)
    monkeypatch.setattr(copying, "SESSIONS", 3)
    held: list[int] = []
    written = copying._inserts
    monkeypatch.setattr(
        copying, "_inserts", lambda table, rows, *more: held.append(len(rows)) or written(table, rows, *more)
    )
    assert counted(copy_sessions(source, target)) == NONE | {"copied": 7, "verified": 7}
    assert max(held) <= 4
    assert content(target) == content(source)
    assert counted(copy_sessions(source, target)) == NONE | {"same": 7, "verified": 7}


@pytest.mark.parametrize("page", [copying._select, survey._page])
@pytest.mark.parametrize("table", ["runs", "messages", "values"])
def test_a_page_is_read_from_where_the_one_before_it_ended(
    tmp_path: Path, page: Callable[..., str], table: str
) -> None:
    with SqliteDb(tmp_path / "a.db") as db:
        db.create_session("s")
        keys = {f"k{number}": 1 for number in range(3)} | {
            f"k_{name}": 1 for name in ("session_id", "run_seq", "idx", "kind", "key")
        }
        p = keys | {"last": "s", "limit": 1}
        [plan] = db.transact(_plan, page(table, onward=True), p)
        assert "((session_id," in plan


@reads
async def _plan(tx: Tx, sql: str, p: dict[str, Any]) -> list[str]:
    [found] = await tx.execute((f"explain query plan {sql}", p))
    return [detail for *_, detail in found if detail.startswith("SEARCH r ")]


def test_one_that_cannot_be_written_is_told_and_the_others_are_copied(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "a.db") as source, postgres_db() as target:
        for number in range(4):
            turn(source, f"s{number}")
        source.transact(_change, "update recollect_sessions set created_at = 'yesterday' where session_id = 's2'")
        report = copy_sessions(source, target)
        assert counted(report) == NONE | {"copied": 3, "verified": 3, "failed": 1}
        assert report.failed[0].session_id == "s2"
        assert "yesterday" in report.failed[0].reason
        assert target.get_header("s2") is None


def test_a_session_is_copied_as_it_was_at_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteDb(tmp_path / "a.db") as source, postgres_db() as target:
        turn(source)
        monkeypatch.setattr(copying, "PAGE", 1)
        written = copying._inserts

        def writing(table: str, *rest: Any) -> Any:
            with SqliteDb(tmp_path / "a.db") as other:
                turn(other, "s", f"while {table} are written")
            return written(table, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(copying, "_inserts", writing)
            assert counted(copy_sessions(source, target)) == NONE | {"copied": 1, "verified": 1}
        assert problems(target) == []
        header = target.get_header("s")
        assert header is not None
        assert header.run_count == 1
        assert counted(copy_sessions(source, target)) == NONE | {"continued": 1, "verified": 1}
        assert content(target) == content(source)


def test_what_was_written_wrong_is_found_by_reading_it_back(
    ends: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = ends
    turn(source)
    written = copying._inserts

    def spoiling(table: str, rows: list[tuple[Any, ...]], *more: Any) -> Any:
        if table == "messages":
            rows = [(*row[:-1], row[-1].replace("said", "sang")) for row in rows]
        return written(table, rows, *more)

    monkeypatch.setattr(copying, "_inserts", spoiling)
    report = copy_sessions(source, target)
    assert counted(report) == NONE | {"differing": 1}
    assert "what was written differs" in report.differing[0].reason
    assert counted(copy_sessions(source, target))["differing"] == 1


COPY = """
import sys
from recollect import copying
from recollect.db import open_db
copying.SESSIONS = 5
copying.copy_sessions(open_db(sys.argv[1]), open_db(sys.argv[2]), on_progress=lambda _: print("more", flush=True))
"""


def test_a_copy_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "a.db", durability="normal") as source, postgres_url() as url, PostgresDb(url) as target:
        for number in range(60):
            turn(source, f"s{number:02}")
        command = [sys.executable, "-c", COPY, str(tmp_path / "a.db"), url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.005)
            process.kill()
        there = len(list(target.iter_sessions()))
        assert 5 <= there < 60
        assert problems(target) == []
        report = copy_sessions(source, target)
        assert (report.copied, report.same, report.verified) == (60 - report.same, report.same, 60)
        assert report.same >= there
        assert content(target) == content(source)


def test_a_database_is_not_copied_into_itself(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "a.db") as db, SqliteDb(tmp_path / "a.db") as same:
        for target in (db, same):
            with pytest.raises(InvalidArgument, match="source itself"):
                copy_sessions(db, target)


def test_a_target_that_cannot_be_used_is_an_error_and_not_a_list_of_failures(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "a.db") as source, PostgresDb("postgresql://nobody@127.0.0.1:1/none") as target:
        turn(source)
        with pytest.raises(DatabaseUnreachable):
            copy_sessions(source, target)
    (tmp_path / "b.db").write_text("hello" * 1000)
    with SqliteDb(tmp_path / "a.db") as source, SqliteDb(tmp_path / "b.db") as other, pytest.raises(DatabaseError):
        copy_sessions(source, other)
