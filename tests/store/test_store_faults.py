"""Law 3: whatever statement fails, the caller is told so, and the state is as it was before or as it is after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from faults import COUNT, KINDS, Faults, faulty
from store_kit import FACES, Face, MovingClock, answer, calls, dump, result, system, user

from recollect.db.sqlite import SqliteDb
from recollect.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseUnreachable,
    OutcomeUnknown,
)
from recollect.history import HistoryLimits
from recollect.run import RunStatus
from recollect.session import Filter
from recollect.store import Store, continued, copies, names, outcome, summaries, turns

pytestmark = pytest.mark.anyio

EXPECTED: dict[str, type[DatabaseError]] = {
    "busy": DatabaseBusy,
    "full": DatabaseFull,
    "read only": DatabaseReadOnly,
    "I/O error": DatabaseError,
    "connection lost": DatabaseUnreachable,
}

Call = Callable[[Any], Awaitable[Any]]


class World:
    """A store with a past: a completed run, a failed one, one under way, a session of somebody else."""

    def __init__(self, db: Face) -> None:
        self.db = db
        self.held: Any = None
        self.session: Any = None

    async def fill(self) -> World:
        db = self.db
        run = await db.begin_run("s", [user()], run_id="done", prompt=system(), state={"k": 1})
        await db.append_messages(run, [calls("c"), result("c")])
        await db.finish_run(run, [answer()])
        failed = await db.begin_run("s", [user()], run_id="failed")
        await db.finish_run(failed, [answer("so far", finish_reason="error")], status=RunStatus.error, error="no")
        await db.create_session("empty", user_id="bob", metadata={"k": 1})
        self.held = await db.begin_run("s", [user("Now?")], run_id="held")
        self.session = await db.get_session("s")
        self.session.name = "Saved"
        self.session.metadata["saved"] = True
        return self

    async def do(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """An operation that has no verb of its own."""
        store: Store = self.db.db
        face = isinstance(self.db, FACES["async"])
        return await store.atransact(operation, *args, **kwargs) if face else store.transact(operation, *args, **kwargs)


LIMITS = HistoryLimits()
BEGIN: dict[str, Any] = {"history": LIMITS, "with_state": True, "with_summary": True}

OPERATIONS: dict[str, Call] = {
    "create_session": lambda w: w.db.create_session("new", name="A", metadata={"a": 1}, session_state={"b": 2}),
    "get_session": lambda w: w.db.get_session("s"),
    "get_header": lambda w: w.db.get_header("s"),
    "get_messages": lambda w: w.db.get_messages("s"),
    "get_messages of last runs": lambda w: w.db.get_messages("s", Filter(last_n_runs=2)),
    "get_messages with a limit": lambda w: w.db.get_messages("s", Filter(limit=3)),
    "get_run": lambda w: w.db.get_run("done", "s"),
    "get_last_run": lambda w: w.db.get_last_run("s"),
    "get_values": lambda w: w.db.get_values("s", "state"),
    "get_metrics": lambda w: w.db.get_metrics("s"),
    "get_sessions": lambda w: w.db.get_sessions(),
    "find_sessions_by_prefix": lambda w: w.db.find_sessions_by_prefix("s"),
    "iter_sessions": lambda w: _all(w.db),
    "update_values": lambda w: w.db.update_values("s", "state", {"a": 1, "b": [2]}),
    "set_session_name": lambda w: w.db.set_session_name("s", "Named"),
    "save_session": lambda w: w.db.save_session(w.session),
    "upsert_session": lambda w: w.db.upsert_session(_copy(w.session)),
    "claim_session": lambda w: w.db.claim_session("s", "alice"),
    "delete_session": lambda w: w.db.delete_session("s"),
    "delete_sessions": lambda w: w.db.delete_sessions(["s"]),
    "delete_user": lambda w: w.db.delete_user("bob"),
    "begin_run": lambda w: w.db.begin_run("s", [user(), user()], prompt=system("New"), state={"x": 1}, **BEGIN),
    "begin_run of a new session": lambda w: w.db.begin_run("new", [user()], prompt=system(), **BEGIN),
    "begin_run again": lambda w: w.db.begin_run("s", [user()], run_id="failed", again=True, **BEGIN),
    "begin_run alone": lambda w: w.db.begin_run("empty", [user()], user_id="bob", alone=True),
    "append_messages": lambda w: w.db.append_messages(w.held, [calls("d"), result("d")], at=1, state={"k": "2"}),
    "finish_run": lambda w: w.db.finish_run(w.held, [answer()], state={"k": None, "l": "3"}),
    "continue_run": lambda w: w.do(continued.continue_run, "failed", "s", **BEGIN),
    "request_cancel": lambda w: w.do(continued.request_cancel, "held", "s"),
    "renew_leases": lambda w: w.do(turns.renew_leases, [w.held.token]),
    "refresh_run": lambda w: w.do(turns.refresh_run, w.held, **BEGIN),
    "count_ahead": lambda w: w.do(turns.count_ahead, w.held),
    "begin_naming": lambda w: w.do(names.begin_naming, "s", 7, runs=4),
    "finish_naming": lambda w: w.do(names.finish_naming, "s", 0, w.session.header.epoch, None, None, 9),
    "get_unsummarised": lambda w: w.do(summaries.get_unsummarised, "s", None, limit=9),
    "copy_session": lambda w: w.do(copies.copy_session, "s"),
    "get_version": lambda w: w.do(copies.get_version, "s"),
    "find_begun": lambda w: w.do(outcome.find_begun, "s", "held", w.held.token),
}
IN_PARTS = {"delete_sessions", "delete_user", "iter_sessions"}
"""Several transactions, each of which holds for itself."""
NOT_HERE = {"close", "transact"}


async def _all(db: Face) -> list[Any]:
    return [header async for header in db.iter_sessions()]  # type: ignore[attr-defined]


def _copy(session: Any) -> Any:
    return type(session).from_dict(session.to_dict() | {"session_id": "copied"})


@pytest.fixture(params=FACES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Callable[[], Any], Faults]]:
    """A new database with a past, as often as one is wanted."""
    with faulty() as faults:
        opened: list[SqliteDb] = []

        async def make() -> World:
            clock = MovingClock()
            clock.stop()
            store = SqliteDb(tmp_path / f"{len(opened)}.db", durability="normal", timeout=0.0, clock=clock)
            opened.append(store)
            world = await World(FACES[request.param](store, clock)).fill()
            await world.db.get_header("s")  # a reading connection is open
            return world

        yield make, faults
        faults.plan(None)
        for store in opened:
            store.close()


def test_every_operation_of_the_store_is_in_the_table() -> None:
    verbs = {name for name, verb in vars(Store).items() if callable(verb) and not name.startswith("_")}
    plain = {name for name in verbs if f"a{name}" in verbs} - NOT_HERE
    assert plain <= {name.split(" ")[0] for name in OPERATIONS}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_each_statement_fails_in_turn_and_nothing_is_left_between(made: Any, operation: str) -> None:
    make, faults = made
    call = OPERATIONS[operation]
    world = await make()
    faults.plan(COUNT)
    await call(world)
    said = [sql.strip() for sql in faults.seen]
    faults.plan(None)
    after = _rows(dump(world.db))
    world = await make()
    for number, kind, late in product(range(len(said)), KINDS, (False, True)):
        if said[number].startswith("begin") and (late or kind == "busy"):
            continue  # whoever finds the file busy there waits; what has begun has changed nothing yet
        if said[number] == "commit" and late and kind != "I/O error":
            continue  # SQLite says these of a commit that it has not done
        before = dump(world.db)
        faults.plan(number, kind, after=late)
        with pytest.raises(DatabaseError) as caught:
            await call(world)
        faults.plan(None)
        where = f"statement {number} of {len(said)} ({said[number][:60]}), {kind}, {late=}"
        writes = [sql for sql in said[:number] if sql.startswith("begin")][-1:] == ["begin immediate"]
        if said[number] == "commit" and late and writes:
            assert type(caught.value) is OutcomeUnknown, where
            assert _rows(dump(world.db)) == after, where
            world = await make()
        elif operation in IN_PARTS and dump(world.db) != before:
            assert "commit" in said[:number], where  # what a transaction before this one committed stays
            world = await make()
        else:
            assert type(caught.value) is EXPECTED[kind], where
            assert dump(world.db) == before, where
    await call(world)
    assert _rows(dump(world.db)) == after, "and then it works"


def _rows(found: Any) -> dict[str, int]:
    """How many rows there are, and what the headers say: ids and times differ from one time to the next."""
    kept = {table: len(rows) for table, rows in found.items()}
    return kept | {
        f"{row[0]} {place}": row[place] for row in found["sessions"] for place in (4, 5, 6, 11, 12, 13, 14, 15)
    }


async def test_one_of_several_writers_that_share_a_commit_fails_alone(tmp_path: Path) -> None:
    with faulty() as faults, SqliteDb(tmp_path / "s.db", durability="normal") as db:
        db.create_session("s")
        faults.plan(COUNT)
        await asyncio.gather(*(db.aset_session_name("s", f"Name {number}") for number in range(3)))
        together = len(faults.seen)
        for number in range(together):
            faults.plan(number, "I/O error")
            found = await asyncio.gather(
                *(db.abegin_run("s", [user()], run_id=f"{number}-{one}") for one in range(4)), return_exceptions=True
            )
            faults.plan(None)
            session = db.get_session("s")
            assert session is not None
            stored = {run.run_id for run in session.runs}
            for one, came in enumerate(found):
                if isinstance(came, BaseException):
                    assert isinstance(came, DatabaseError)
                    assert f"{number}-{one}" not in stored
                else:
                    assert came.run_id in stored
            assert len(session.runs) == session.header.run_count


async def test_a_shared_commit_of_unknown_outcome_is_told_to_all_and_done_once(tmp_path: Path) -> None:
    with faulty() as faults, SqliteDb(tmp_path / "s.db", durability="normal") as db:
        db.create_session("s")
        for attempt in range(20):
            held = asyncio.get_running_loop().run_in_executor(None, _hold, db)
            await asyncio.sleep(0.01)
            begun = [asyncio.ensure_future(db.abegin_run("s", [user()], run_id=f"{attempt}-{one}")) for one in range(3)]
            await asyncio.sleep(0)
            _fail_at_commit(faults)
            await held
            found = await asyncio.gather(*begun, return_exceptions=True)
            faults.plan(None)
            session = db.get_session("s")
            assert session is not None
            stored = [run.run_id for run in session.runs]
            assert len(set(stored)) == len(stored)
            assert all(isinstance(came, OutcomeUnknown) or came.run_id in stored for came in found)
            if any(isinstance(came, OutcomeUnknown) for came in found):
                break
        else:
            pytest.fail("no commit was made to fail")


def _hold(db: SqliteDb) -> None:
    """Keep the writer busy, so that others gather behind it."""
    import time

    with db._locked(db._deadline()):
        time.sleep(0.05)


def _fail_at_commit(faults: Faults) -> None:
    class AtCommit(Faults):
        def due(self, sql: str, *, after: bool) -> bool:
            return sql == "commit" and after

    failing = AtCommit()
    faults.due = failing.due  # type: ignore[method-assign]
    faults.plan = lambda *_, **__: vars(faults).pop("due", None) and None  # type: ignore[method-assign]
