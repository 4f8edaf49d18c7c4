"""Law 3: whichever statement of an operation fails, the caller is told, and the state is as before or as after."""

from __future__ import annotations

import asyncio
import contextlib
import pkgutil
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from inspect import isasyncgenfunction
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from faults import KINDS, Call, Fault, FaultyDb, Rows
from postgres_faults import KINDS as POSTGRES_KINDS
from postgres_faults import FaultyPostgresDb
from postgres_kit import postgres_url
from store_kit import Face, MovingClock, answer, calls, change_rows, result, system, user

import recollect.store
from recollect.db.sqlite import SqliteDb
from recollect.errors import DatabaseBusy, DatabaseError, DatabaseUnreachable, OutcomeUnknown
from recollect.history import HistoryLimits
from recollect.port import Tx, writes
from recollect.query import Query
from recollect.run import RunOutput, RunStatus
from recollect.selection import Filter
from recollect.session import AgentSession, SessionSummary
from recollect.store import (
    OpenRun,
    Store,
    begin,
    changes,
    claims,
    continued,
    copies,
    deletion,
    documents,
    export,
    fork,
    hits,
    indexed,
    lists,
    marks,
    names,
    outcome,
    pages,
    removed,
    sessions,
    stamps,
    summaries,
    turns,
)
from recollect.store.claims import Wanted
from recollect.store.summaries import Unsummarised

pytestmark = pytest.mark.anyio

Make = Callable[[SqliteDb], Face]

WANTED = hits.Wanted(
    query=Query.of("hi"),
    params={"user_id": None, "session_id": None, "kind": None, "agent_id": None, "since": 0},
    before=(1 << 62, "", 0, 0, 0),
    limit=20,
)

TOKEN = 77
"""Of the claim on session ``s``."""


class Held(NamedTuple):
    """What the callers of the database that every case begins with hold of it."""

    run: OpenRun
    session: AgentSession
    since: Unsummarised
    candidate: OpenRun
    """Begun in session ``p`` to replace its first run."""


class World:
    """A database that every case begins with."""

    def __init__(self, clock: MovingClock, held: Held) -> None:
        self.clock = clock
        self.run, self.session, self.since, self.candidate = held

    @contextlib.contextmanager
    def copied(self, folder: Path) -> Iterator[FaultyDb | FaultyPostgresDb]:
        """An equal one, open for reading and writing."""
        raise NotImplementedError


class SqliteWorld(World):
    def __init__(self, file: Path) -> None:
        self.file = file
        clock = MovingClock()
        clock.stop()
        with SqliteDb(file, clock=clock) as store:
            super().__init__(clock, fill(store))

    @contextlib.contextmanager
    def copied(self, folder: Path) -> Iterator[FaultyDb]:
        for old in folder.glob("copy.db*"):
            old.unlink()
        shutil.copy(self.file, folder / "copy.db")
        with FaultyDb(folder / "copy.db", clock=self.clock) as store:
            store.get_header("s")
            store.faults.watch()
            yield store


class PostgresWorld(World):
    def __init__(self, store: FaultyPostgresDb, clock: MovingClock) -> None:
        self.store = store
        super().__init__(clock, fill(store))
        store.save()

    @contextlib.contextmanager
    def copied(self, folder: Path) -> Iterator[FaultyPostgresDb]:
        """Its rows as they were. It stays open: what makes a connection ready is done once."""
        self.store.restore()
        self.store.faults.watch()
        yield self.store


def fill(store: Store) -> Held:
    for number in (1, 2):
        run = store.begin_run("s", [user()], run_id=f"r{number}", prompt=system(), state={"k": number})
        store.append_messages(run, [calls("c"), result("c")])
        store.finish_run(run, [answer()])
    store.finish_run(store.begin_run("s", [user()], run_id="failed"), status=RunStatus.error, error="no")
    store.begin_run("s", [user()], run_id="gone")
    store.transact(change_rows, "update recollect_leases set until = 0")
    for own in ("u1", "u2"):
        store.create_session(own, user_id="u", metadata={"k": own}, session_state={"k": 1})
    store.transact(names.begin_naming, "s", TOKEN)
    run = store.transact(begin.begin_run, "s", [user()], run_id="open", token=1)
    store.begin_run("d", [user()], run_id="dead")
    store.transact(change_rows, "update recollect_leases set until = 0 where session_id = 'd'")
    store.transact(change_rows, "insert into recollect_values values ('s', 'tag', 'old', 'null')")
    store.begin_run("e", [user()], state={"k": 1}, prompt=system(), expire_after=timedelta(days=1))
    store.transact(change_rows, "update recollect_sessions set expires_at = 0 where session_id = 'e'")
    store.transact(change_rows, "delete from recollect_leases where session_id = 'e'")
    for run_id in ("p1", "p2"):
        store.finish_run(store.begin_run("p", [user(run_id)], run_id=run_id, prompt=system()), [answer()])
    store.finish_run(store.begin_run("p", [user()], run_id="m", parent_run_id="p1", agent_id="m"), [answer()])
    candidate = store.transact(begin.begin_run, "p", [user("p3")], run_id="p3", replaces="p1", token=2)
    session = store.get_session("s")
    assert session is not None
    session.name = "Saved"
    session.session_state["saved"] = True
    session.upsert_run(said_elsewhere("added"))
    return Held(run, session, store.transact(summaries.get_unsummarised, "s"), candidate)


@pytest.fixture(scope="module")
def sqlite_world(tmp_path_factory: pytest.TempPathFactory) -> SqliteWorld:
    return SqliteWorld(tmp_path_factory.mktemp("faults") / "whole.db")


@pytest.fixture(scope="module")
def postgres_world() -> Iterator[World]:
    clock = MovingClock()
    clock.stop()
    with postgres_url() as url, FaultyPostgresDb(url, clock=clock, pool=2) as store:
        yield PostgresWorld(store, clock)


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    made: World = request.getfixturevalue(f"{request.param}_world")
    return made


def said_elsewhere(run_id: str) -> RunOutput:
    return RunOutput(run_id=run_id, session_id="s", messages=(system("Other."), user(), answer()))


def imported(session_id: str) -> AgentSession:
    session = AgentSession(session_id, session_data={"session_name": "Kept", "session_state": {"new": 1}})
    session.upsert_run(said_elsewhere("brought"))
    return session


def given(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


class Case(NamedTuple):
    """An operation, and what it is called with."""

    operation: Any
    arguments: Callable[[World], tuple[tuple[Any, ...], dict[str, Any]]]

    async def done(self, db: Face, world: World) -> Any:
        """Do it, as a method where it is one; random numbers are the same each time."""
        random.seed(1)
        args, kwargs = self.arguments(world)
        name = self.operation.__name__
        if isasyncgenfunction(self.operation):
            return [item async for item in db.each(name, *args, **kwargs)]
        if getattr(getattr(Store, name, None), "__wrapped__", None) is self.operation:
            return await getattr(db, name)(*args, **kwargs)
        return await db.transact(self.operation, *args, **kwargs)


ALL = {"history": HistoryLimits(), "with_state": True, "with_summary": True}
DUE = Wanted(due="unnamed")

CASES = {
    "create": Case(changes.create_session, lambda _: given("new", name="N", metadata={"k": 1}, session_state={"k": 1})),
    "get": Case(sessions.get_session, lambda _: given("s")),
    "get header": Case(sessions.get_header, lambda _: given("s")),
    "get snapshot": Case(sessions.get_snapshot, lambda _: given("s")),
    "get all messages": Case(sessions.get_messages, lambda _: given("s")),
    "get some messages": Case(sessions.get_messages, lambda _: given("s", Filter(limit=3))),
    "get messages of runs": Case(sessions.get_messages, lambda _: given("s", Filter(last_n_runs=2))),
    "get run": Case(sessions.get_run, lambda _: given("r1", "s")),
    "get last run": Case(sessions.get_last_run, lambda _: given("s")),
    "get values": Case(sessions.get_values, lambda _: given("s", "state")),
    "update values": Case(changes.update_values, lambda _: given("s", "state", {"k": 2, "l": 3})),
    "get metrics": Case(sessions.get_metrics, lambda _: given("s")),
    "list": Case(lists.get_sessions, lambda _: given()),
    "count": Case(lists.count_sessions, lambda _: given("u")),
    "find by prefix": Case(lists.find_sessions_by_prefix, lambda _: given("u")),
    "ids of a user": Case(deletion.list_ids, lambda _: given("u")),
    "iterate": Case(lists.iter_sessions, lambda _: given(limit=1)),
    "set name": Case(changes.set_session_name, lambda _: given("s", "Named")),
    "save": Case(changes.save_session, lambda world: given(world.session)),
    "save a new one": Case(changes.save_session, lambda _: given(imported("new"))),
    "upsert": Case(changes.upsert_session, lambda _: given(imported("s"))),
    "upsert a new one": Case(changes.upsert_session, lambda _: given(imported("new"))),
    "claim": Case(changes.claim_session, lambda _: given("s", "u")),
    "delete": Case(deletion.delete_session, lambda _: given("s")),
    "delete if there": Case(deletion.delete_if_there, lambda _: given("s")),
    "delete several": Case(deletion.delete_sessions, lambda _: given(["s", "nowhere", "u1"])),
    "delete user": Case(deletion.delete_user, lambda _: given("u")),
    "begin": Case(begin.begin_run, lambda _: given("s", [user(), user()], run_id="r", state={"k": 3}, **ALL)),
    "begin in a new session": Case(begin.begin_run, lambda _: given("new", [user()], run_id="r", prompt=system())),
    "begin again": Case(begin.begin_run, lambda _: given("s", [user()], run_id="failed", again=True, **ALL)),
    "begin in the place of another": Case(
        begin.begin_run, lambda _: given("p", [user()], run_id="r", replaces="p2", **ALL)
    ),
    "begin beside a dead one": Case(begin.begin_run, lambda _: given("d", [user()], run_id="r", **ALL)),
    "begin alone": Case(begin.begin_run, lambda _: given("u1", [user()], run_id="r", user_id="u", alone=True)),
    "count ahead": Case(begin.count_ahead, lambda world: given(world.run)),
    "refresh run": Case(begin.refresh_run, lambda world: given(world.run, **ALL)),
    "append": Case(
        turns.append_messages,
        lambda world: given(world.run, [calls("c"), result("c")], at=1, state={"k": None, "l": "1"}),
    ),
    "append behind": Case(turns.append_messages, lambda world: given(world.run, [answer()])),
    "finish": Case(turns.finish_run, lambda world: given(world.run, [answer()], state={"k": "5"})),
    "finish in the place of another": Case(turns.finish_run, lambda world: given(world.candidate, [answer()])),
    "tag": Case(changes.tag_session, lambda _: given("s", ["red", "blue"], remove=["old"])),
    "archive": Case(marks.archive_session, lambda _: given("s")),
    "pin": Case(marks.pin_session, lambda _: given("s")),
    "set expiry": Case(marks.set_session_expiry, lambda _: given("s", timedelta(days=1))),
    "fork": Case(fork.fork_session, lambda _: given("p", at_run="p1", new_session_id="f")),
    "fork all": Case(fork.fork_session, lambda _: given("s", new_session_id="f")),
    "begin where one has expired": Case(begin.begin_run, lambda _: given("e", [user()], run_id="r", **ALL)),
    "create where one has expired": Case(changes.create_session, lambda _: given("e")),
    "purge": Case(deletion.purge_sessions, lambda _: given()),
    "count what is old": Case(deletion.purge_sessions, lambda _: given(older_than=timedelta(0), dry_run=True)),
    "delete if due": Case(deletion.delete_if_due, lambda _: given("e")),
    "list what is due": Case(deletion.list_due, lambda _: given(None, None, 9)),
    "what is due": Case(deletion.iter_purgeable, lambda _: given(older_than=timedelta(0))),
    "get moment": Case(deletion.get_moment, lambda _: given(5)),
    "export user": Case(export.export_user, lambda _: given("u")),
    "export session": Case(export.export_session, lambda _: given("s")),
    "ids of a user, onward": Case(export.list_ids_after, lambda _: given("u", "u1")),
    "delete run": Case(removed.delete_run, lambda _: given("p1", "p")),
    "renew lease": Case(turns.renew_lease, lambda world: given(world.run)),
    "renew leases": Case(turns.renew_leases, lambda world: given([world.run.token])),
    "continue": Case(continued.continue_run, lambda _: given("failed", "s", token=3, **ALL)),
    "request cancel": Case(continued.request_cancel, lambda _: given("open", "s")),
    "get version": Case(copies.get_version, lambda _: given("s")),
    "copy": Case(copies.copy_session, lambda _: given("s")),
    "find begun": Case(outcome.find_begun, lambda _: given("s", run_id="open", token=1, **ALL)),
    "find appended": Case(outcome.find_appended, lambda world: given(world.run, at=0)),
    "find finished": Case(outcome.find_finished, lambda world: given(world.run, at=1)),
    "begin naming": Case(names.begin_naming, lambda _: given("s", 1)),
    "begin naming if due": Case(names.begin_naming, lambda _: given("u1", 1, due="unnamed")),
    "get opening": Case(names.get_opening, lambda _: given("s")),
    "finish naming": Case(
        names.finish_naming, lambda world: given("s", TOKEN, world.run.epoch, "Generated", "auto", 9)
    ),
    "restore name": Case(names.restore_session_name, lambda _: given("s", "", "Named", "auto")),
    "page of runs": Case(pages.get_run_page, lambda _: given("s", limit=2)),
    "page of runs onward": Case(pages.get_run_page, lambda _: given("s", after=1, limit=2)),
    "ends": Case(pages.get_ends, lambda _: given(["s", "u1", "nowhere"])),
    "claim next": Case(claims.claim_next, lambda _: given(DUE, 1, limit=2)),
    "let go": Case(claims.let_go, lambda _: given(["s"], TOKEN)),
    "let go next": Case(claims.let_go_next, lambda _: given(DUE, TOKEN)),
    "count due": Case(claims.count_due, lambda _: given(DUE)),
    "list due": Case(claims.list_due, lambda _: given(DUE, 5)),
    "get summary": Case(summaries.get_summary, lambda _: given("s")),
    "get unsummarised": Case(summaries.get_unsummarised, lambda _: given("s")),
    "finish summary": Case(
        summaries.finish_summary, lambda world: given("s", world.since, 2, SessionSummary(summary="Talk."), 9)
    ),
    "finish summary too late": Case(
        summaries.finish_summary, lambda world: given("u1", world.since, 2, SessionSummary(summary="Talk."), 9)
    ),
    "find hits": Case(hits.find_hits, lambda _: given(WANTED)),
    "read step": Case(documents.read_step, lambda _: given("s")),
    "write step": Case(documents.write_step, lambda world: given(_step(world.run.epoch))),
    "get mark": Case(indexed.get_mark, lambda _: given()),
    "list unindexed": Case(indexed.list_unindexed, lambda _: given({"changed": -indexed.EVER}, 5)),
    "move mark": Case(indexed.move_mark, lambda _: given()),
    "get stamps": Case(stamps.get_stamps, lambda _: given(["s", "u"])),
    "list stamps": Case(stamps.list_stamps, lambda _: given("", 9)),
    "list stamps of users": Case(stamps.list_stamps_of_users, lambda _: given(["u"])),
    "list active": Case(stamps.list_active, lambda _: given(1 << 50)),
    "list active of users": Case(stamps.list_active_of_users, lambda _: given(["u"], 1 << 50)),
    "list expiring": Case(stamps.list_expiring, lambda _: given(0)),
}


def _step(epoch: int) -> documents.Step:
    """A document of session ``s``."""
    was, now = documents.Progress(0, 0, 0), documents.Progress(epoch, 1, 1)
    said = documents.Text(1, 0, 0, "Hi")
    return documents.Step("s", was, now, version=1, is_last=True, keys=("k",), texts=(said,))


def _of_the_store() -> set[Any]:
    """Every operation: what the store's methods are made of, and whatever is marked as one."""
    modules = [
        import_module(f"recollect.store.{found.name}") for found in pkgutil.iter_modules(recollect.store.__path__)
    ]
    marked = {value for module in modules for value in vars(module).values() if hasattr(value, "mode")}
    return marked | {method.__wrapped__ for method in vars(Store).values() if hasattr(method, "__wrapped__")}


OTHERWISE = {hits.search, documents.index_sessions}
"""The one goes on where it cannot have what it finds be found faster, the other goes on where it was; tested below."""


def test_no_operation_of_the_store_is_missing_here() -> None:
    tested = {case.operation.__name__ for case in CASES.values()}
    assert tested == {operation.__name__ for operation in _of_the_store() - OTHERWISE}


class Course(NamedTuple):
    """What an operation runs when nothing fails, and what is stored at first and after each commit."""

    ran: list[Call]
    states: list[Rows]


async def course(case: Case, world: World, face: Make, folder: Path) -> Course:
    with world.copied(folder) as store:
        states = [store.rows()]
        store.faults.watch(lambda: states.append(store.rows()))
        await case.done(face(store), world)
        assert states[-1] == store.rows()
        return Course(store.faults.calls, states)


@pytest.mark.parametrize("name", CASES)
async def test_each_statement_may_fail_and_all_is_as_before_or_as_after(
    world: World, face: Make, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    good = await course(case, world, face, tmp_path)
    with world.copied(tmp_path) as store:
        faults = [(fault, call) for at, call in enumerate(good.ran) for fault in store.faults_at(at)]
    for fault, call in faults:
        assert fault.at is not None
        commits = sum(before.commits for before in good.ran[: fault.at])
        stored = call.commits and fault.after
        with world.copied(tmp_path) as store:
            db = face(store)
            store.faults.arm(fault)
            error = store.told(fault, call)
            if error is not None:
                with pytest.raises(DatabaseError, match=re.escape(store.address)) as caught:
                    await case.done(db, world)
                assert type(caught.value) is error, (fault, call)
                assert store.rows() == good.states[commits + stored], (fault, call)
                store.faults.watch()
            if not stored and not call.follows:
                await case.done(db, world)
                assert store.faults.fired or error, (fault, call)
                assert store.rows() == good.states[-1], (fault, call)


async def test_a_search_says_that_it_failed_or_finds_everything(
    world: World, face: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits, "keep_up", lambda _: None)  # the database is made anew for each fault
    case = Case(hits.search, lambda _: given("hi", limit=100))
    good = await course(case, world, face, tmp_path)
    with world.copied(tmp_path) as store:
        wanted = store.search("hi", limit=100)
        faults = [fault for at in range(0, len(good.ran), 4) for fault in store.faults_at(at)]
    assert len(wanted) > 1
    for fault in faults:
        with world.copied(tmp_path) as store:
            store.faults.arm(fault)
            with contextlib.suppress(DatabaseError):
                assert await face(store).search("hi", limit=100) == wanted, fault
            store.faults.watch()
            assert await face(store).search("hi", limit=100) == wanted, fault


async def test_indexing_that_failed_goes_on_where_it_was(world: World, face: Make, tmp_path: Path) -> None:
    good = await course(Case(documents.index_sessions, lambda _: given()), world, face, tmp_path)
    with world.copied(tmp_path) as store:
        wanted = store.search("hi", limit=100)
        faults = [fault for at in range(0, len(good.ran), 5) for fault in store.faults_at(at)]
    for fault in faults:
        with world.copied(tmp_path) as store:
            store.faults.arm(fault)
            with contextlib.suppress(DatabaseError):
                await face(store).index_sessions()
            assert store.faults.fired, fault
            store.faults.watch()
            await face(store).index_sessions()
            assert store.transact(indexed.list_unindexed, {"changed": -indexed.EVER}, 9) == []
            assert store.search("hi", limit=100) == wanted, fault


async def test_after_a_failure_readers_and_writers_both_go_on(world: World, face: Make, tmp_path: Path) -> None:
    with world.copied(tmp_path) as store:
        db = face(store)
        for kind in [*store.kinds.values()] * 2:
            fault = Fault(kind, at=1)
            for use in (lambda: db.get_session("s"), lambda: db.update_values("s", "state", {"k": 9})):
                store.faults.watch()
                await use()
                error = store.told(fault, store.faults.calls[1])
                store.faults.arm(fault)
                if error is None:
                    await use()
                else:
                    with pytest.raises(error):
                        await use()
                assert store.faults.fired
                store.faults.watch()
                await use()
        assert store.connections() <= 2


@writes
async def hold(tx: Tx, begun: threading.Event, go: threading.Event) -> None:
    """Keep the writer until released, so that others gather behind."""
    begun.set()
    go.wait(10)


async def together(store: FaultyDb, world: World, fault: Fault | None = None, value: Any = 1) -> list[Any]:
    """Four writers that share a commit, and what each is told."""
    begun, go = threading.Event(), threading.Event()
    first = asyncio.create_task(store.atransact(hold, begun, go))
    while not begun.is_set():  # noqa: ASYNC110 - it is set by another thread
        await asyncio.sleep(0)
    writers = (
        store.aupdate_values("u1", "state", {"one": value}),
        store.aset_session_name("s", "Another"),
        store.aappend_messages(world.run, [answer()], at=1),
        store.aupdate_values("u2", "state", {"two": 2}),
    )
    tasks = [asyncio.create_task(writer) for writer in writers]
    await asyncio.sleep(0)
    if fault is not None:
        store.faults.arm(fault)
    else:
        store.faults.watch()
    go.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


FIRST = 1
"""Where the group begins: the commit of the one who held the writer comes before."""


async def group(world: SqliteWorld, folder: Path) -> tuple[list[Call], Rows, Rows]:
    """What a group runs when nothing fails, and what is stored before and after."""
    with world.copied(folder) as store:
        before = store.rows()
        assert not any(isinstance(told, Exception) for told in await together(store, world))
        ran = [call.sql for call in store.faults.calls]
        assert (ran.count("commit"), ran.count("savepoint one")) == (2, 4)
        return store.faults.calls, before, store.rows()


async def test_whatever_fails_once_in_a_group_each_writer_is_stored_or_told_of_doubt(
    sqlite_world: SqliteWorld, tmp_path: Path
) -> None:
    ran, before, after = await group(sqlite_world, tmp_path)
    for number in range(FIRST, len(ran)):
        for fault in FaultyDb.faults_at(number):
            with sqlite_world.copied(tmp_path) as store:
                found = {type(told) for told in await together(store, sqlite_world, fault)}
                assert store.faults.fired
                stored = store.rows()
            if FaultyDb.told(fault, ran[number]) is OutcomeUnknown:
                assert (found, stored) == ({OutcomeUnknown}, after if fault.after else before), fault
            elif fault.kind is KINDS["busy"] and number == FIRST:
                assert (found, stored) == ({DatabaseBusy}, before)
            else:
                assert not any(issubclass(kind, Exception) for kind in found), (fault, ran[number], found)
                assert stored == after, (fault, ran[number])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_writer_that_always_fails_harms_none_that_share_its_commit(
    sqlite_world: SqliteWorld, tmp_path: Path, kind: str
) -> None:
    with sqlite_world.copied(tmp_path) as store:
        poison = Fault(KINDS[kind], mark="poison")
        found = await together(store, sqlite_world, poison, "poison")
        assert [type(each) for each in found if isinstance(each, Exception)] == [KINDS[kind].error]
        assert isinstance(found[0], Exception)
        assert store.get_values("u1", "state") == {"k": 1}
        assert store.get_values("u2", "state") == {"k": 1, "two": 2}
        assert store.get_header("s").name == "Another"  # type: ignore[union-attr]
        assert [message.text for message in store.get_run("open", "s").messages] == ["Hi", "Hello"]  # type: ignore[union-attr]


async def test_a_repeated_write_that_was_refused_in_doubt_is_stored_once(
    world: World, face: Make, tmp_path: Path
) -> None:
    """Whoever writes at a place may simply write again."""
    for after in (False, True):
        with world.copied(tmp_path) as store:
            db = face(store)
            store.faults.arm(Fault(store.in_doubt, commit=1, after=after))
            with pytest.raises(OutcomeUnknown, match="look before you repeat it"):
                await db.append_messages(world.run, [answer()], at=1)
            with pytest.raises(ValueError, match="already") if after else contextlib.nullcontext():
                await db.append_messages(world.run, [answer()], at=1)
            assert len((await db.get_run("open", "s")).messages) == 2


@pytest.mark.parametrize("kind", ["deadlock", "serialization", "ended", "lost"])
async def test_what_passes_is_tried_again_a_bounded_number_of_times(
    postgres_world: World, face: Make, tmp_path: Path, kind: str
) -> None:
    with postgres_world.copied(tmp_path) as store:
        before = store.rows()
        db = face(store)
        fault = Fault(POSTGRES_KINDS[kind], at=0, stays=True)
        store.faults.arm(fault)
        with pytest.raises(DatabaseUnreachable if fault.kind.ends else DatabaseBusy):
            await db.create_session("new")
        assert 3 <= len(store.faults.calls) <= 30
        assert store.rows() == before
        store.faults.watch()
        await db.create_session("new")


async def test_only_what_this_holder_of_a_run_has_stored_is_taken_for_its_own(
    world: World, face: Make, tmp_path: Path
) -> None:
    other = msgspec.structs.replace(world.run, token=9)
    with world.copied(tmp_path) as store:
        db = face(store)
        found = await db.transact(outcome.find_begun, "s", run_id="open", token=world.run.token, **ALL)
        assert (found.run_seq, found.created_at, found.state) == (world.run.run_seq, world.run.created_at, {"k": "2"})
        assert (found.version, found.epoch, found.attempt) == (world.run.version, world.run.epoch, 1)
        assert found.history.runs == 3
        assert await db.transact(outcome.find_begun, "s", run_id="open", token=9) is None
        assert await db.transact(outcome.find_begun, "s", run_id="r1", token=world.run.token) is None
        assert await db.transact(outcome.find_appended, world.run, at=0) is not None
        assert await db.transact(outcome.find_appended, world.run, at=1) is None
        assert await db.transact(outcome.find_appended, other, at=0) is None
        done = await db.finish_run(world.run, [answer("3")], at=1, status=RunStatus.cancelled)
        end = {"at": 1, "status": RunStatus.cancelled}
        assert await db.transact(outcome.find_finished, world.run, [answer("3")], **end) == done
        assert await db.transact(outcome.find_finished, world.run, [answer("4")], **end) is None
        assert await db.transact(outcome.find_finished, world.run, [answer("3")], at=1) is None


DISK = """
import asyncio, resource, sys
from recollect import OutcomeUnknown, SqliteDb

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main(db):
    db.create_session("s")
    for update in (lambda: db.update_values("s", "state", big), lambda: db.aupdate_values("s", "state", big)):
        big = {"k": "x" * 1_000_000}
        limit(300_000)
        try:
            found = update()
            print("stored", await found if hasattr(found, "__await__") else found)
        except OutcomeUnknown as error:
            print(error.code)
        print(db.get_values("s", "state"), await db.aget_values("s", "state"))
        limit(resource.RLIM_INFINITY)
        print(list(db.update_values("s", "metadata", {"k": 1})))

with SqliteDb(sys.argv[1]) as db:
    asyncio.run(main(db))
"""


def test_a_disk_that_fails_at_a_commit_leaves_the_outcome_open_and_the_file_whole(tmp_path: Path) -> None:
    """The system refuses to let the file grow: SQLite's own I/O error, at its own place."""
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DISK, str(tmp_path / "s.db")],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert not done.stderr
    assert done.stdout.splitlines() == ["outcome_unknown", "{} {}", "['k']"] * 2
    with SqliteDb(tmp_path / "s.db") as db:
        assert db.get_values("s", "metadata") == {"k": 1}
