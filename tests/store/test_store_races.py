"""What two writers do to one session at the same moment, on a server that runs their statements side by side.

One of them is held before each of its statements in turn while the other one does all that it wants to, or waits.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from postgres_kit import postgres_db
from store_kit import TABLES, MovingClock, answer, user

from recollect.db.postgres import PostgresDb
from recollect.errors import RecollectError, RunConflict, RunInProgress, RunNotFound, SessionNotFound
from recollect.port import Operation, Row, Statement, Tx, at_once, is_at_once, reads, writes
from recollect.run import RunOutput
from recollect.session import AgentSession
from recollect.store import begin, changes, copies, deletion, removed, turns

PATIENCE = 0.1
"""Seconds after which somebody is thought to wait for the one who is held."""


class OneByOne:
    """A transaction that runs each statement by itself, and is held before it."""

    def __init__(self, tx: Tx, hold: Callable[[], None], *, at_once: bool) -> None:
        self.tx: Any = tx
        self.hold = hold
        self.at_once = at_once

    async def execute(self, *statements: Statement, more: bool = False) -> list[list[Row]]:
        answers: list[list[Row]] = []
        for statement in statements:
            self.hold()
            answers += await self.tx.execute(statement)
        if self.at_once and not more:
            await self.tx.commit()
        return answers


@writes
async def held(tx: Tx, operation: Operation[..., Any], hold: Callable[[], None], *args: Any, **kwargs: Any) -> Any:
    return await operation(OneByOne(tx, hold, at_once=is_at_once(operation)), *args, **kwargs)


@reads
async def rows_of(tx: Tx, table: str, session_id: str) -> list[Row]:
    columns = "run_seq" if table == "leases" else "*"
    sql = f"select {columns} from recollect_{table} where session_id = :session_id"
    [found] = await tx.execute((sql, {"session_id": session_id}))
    return found


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def db(clock: MovingClock) -> Iterator[PostgresDb]:
    with postgres_db(clock=clock) as made:
        yield made


def meet(
    db: PostgresDb,
    prepare: Callable[[str], object],
    other: Callable[[str], object],
    operation: Operation[..., Any],
    *rest: Any,
    **kwargs: Any,
) -> Iterator[tuple[str, object, object]]:
    """A session for each of an operation's statements, what that came to, and what came of the other one before it."""
    for place in itertools.count():
        session_id = f"s{place}"
        prepare(session_id)
        said: list[object] = []
        waiting: list[threading.Thread] = []
        turn = itertools.count()

        def hold() -> None:
            if next(turn) == place:  # noqa: B023 - it is called before the next place
                act = lambda: said.append(outcome(other, session_id))  # noqa: B023, E731
                waiting.append(threading.Thread(target=act))  # noqa: B023
                waiting[0].start()  # noqa: B023
                waiting[0].join(PATIENCE)  # noqa: B023

        came = outcome(db.transact, held, operation, hold, session_id, *rest, **kwargs)
        if not waiting:
            return
        waiting[0].join()
        yield session_id, came, said[0]


def outcome(act: Callable[..., object], *args: Any, **kwargs: Any) -> object:
    try:
        return act(*args, **kwargs)
    except RecollectError as error:
        return error


def nothing(session_id: str) -> None:
    """There is no session yet."""


def test_a_session_made_while_it_is_deleted_is_there_or_gone_but_never_in_part(db: PostgresDb) -> None:
    def make(session_id: str) -> None:
        db.begin_run(session_id, [user()], state={"key": 1})

    for session_id, _, _ in meet(db, nothing, make, deletion.delete_if_there):
        there = {table: len(db.transact(rows_of, table, session_id)) for table in TABLES}
        assert set(there.values()) == {0} or there == dict.fromkeys(TABLES, 1) | {"prompts": 0}, there


def test_a_key_of_no_session_is_not_set_in_the_one_made_meanwhile(db: PostgresDb) -> None:
    def make(session_id: str) -> None:
        db.create_session(session_id)

    for session_id, came, _ in meet(db, nothing, make, changes.update_values, "state", {"key": 1}):
        assert isinstance(came, SessionNotFound) == (db.get_values(session_id, "state") == {})


def test_a_session_stored_whole_while_it_is_deleted_is_stored(db: PostgresDb) -> None:
    def whole(session_id: str) -> AgentSession:
        run = RunOutput(run_id="r", session_id=session_id, messages=(user(), answer()))
        return AgentSession(session_id, runs=[run])

    for session_id, came, other in meet(
        db, db.create_session, lambda session_id: db.upsert_session(whole(session_id)), deletion.delete_session
    ):
        assert came is None
        assert not isinstance(other, RecollectError), other
        assert len(db.transact(rows_of, "runs", session_id)) in (0, 1)


def test_a_run_is_settled_or_gives_a_sign_of_life_but_never_both(db: PostgresDb, clock: MovingClock) -> None:
    late: dict[str, int] = {}

    def lose(session_id: str) -> None:
        late[session_id] = begin_only(db, session_id).token
        clock.forward(60)

    def sign(session_id: str) -> None:
        db.transact(turns.renew_leases, [late[session_id]])

    for session_id, _, _ in meet(db, lose, sign, begin.begin_run, [user()]):
        session = db.get_session(session_id)
        assert session is not None
        leases = {run_seq for (run_seq,) in db.transact(rows_of, "leases", session_id)}
        assert leases == {run.run_seq for run in session.runs if run.status == "running"}


class Between:
    """A transaction before whose second trip somebody else does something."""

    def __init__(self, tx: Tx, do: Callable[[], None]) -> None:
        self.tx = tx
        self.do = do
        self.trips = 0

    async def execute(self, *statements: Statement, more: bool = False) -> list[list[Row]]:
        self.trips += 1
        if self.trips == 2:
            self.do()
        return await self.tx.execute(*statements, more=more)


@at_once
@reads
async def brought_up(tx: Tx, known: copies.Copy, do: Callable[[], None]) -> copies.Copy | None:
    return await copies.copy_session(Between(tx, do), "s", known=known)


def test_a_copy_of_a_session_that_was_made_anew_and_deleted_as_it_was_read_is_none(db: PostgresDb) -> None:
    begin_only(db, "s")
    known = db.transact(copies.copy_session, "s")
    assert known is not None
    db.delete_session("s")
    begin_only(db, "s")
    assert db.transact(brought_up, known, lambda: db.delete_session("s")) is None


def begin_only(db: PostgresDb, session_id: str) -> turns.OpenRun:
    return db.transact(begin.begin_run, session_id, [user()])


def test_a_member_begins_beside_its_teams_run_or_is_refused_where_that_is_deleted(db: PostgresDb) -> None:
    def whole(session_id: str) -> None:
        db.finish_run(db.begin_run(session_id, [user()], run_id="team"), [answer()])

    def member(session_id: str) -> turns.OpenRun:
        return db.begin_run(session_id, [user()], parent_run_id="team", agent_id="m", run_id="m")

    @writes
    async def delete_team(tx: Tx, session_id: str) -> None:
        await removed.delete_run(tx, "team", session_id)

    for session_id, came, other in meet(db, whole, member, delete_team):
        assert isinstance(came, RunInProgress) or isinstance(other, RunNotFound), (came, other)
        assert (db.get_run("m", session_id) is None) == isinstance(other, RunNotFound)


def test_a_session_in_which_a_run_begins_is_not_purged_for_its_age(db: PostgresDb, clock: MovingClock) -> None:
    def whole(session_id: str) -> None:
        db.finish_run(db.begin_run(session_id, [user()]), [answer()])

    def purge(session_id: str) -> bool:
        return db.transact(deletion.delete_if_due, session_id, None, clock.now() + 1)

    for session_id, came, was_deleted in meet(db, whole, purge, begin.begin_run, [user()]):
        assert isinstance(came, turns.OpenRun)
        assert len(db.transact(rows_of, "leases", session_id)) == 1, was_deleted


@pytest.mark.parametrize("before", range(5))
def test_a_statement_that_was_not_run_because_another_one_failed_is_run_the_next_time(before: int) -> None:
    with postgres_db(pool=1) as db:
        for number in range(before):
            db.begin_run("s", [user()], run_id=f"r{number}")
        db.begin_run("s", [user()], run_id="r")
        with pytest.raises(RunConflict):
            db.begin_run("s", [user()], run_id="r")
        db.finish_run(db.begin_run("s", [user()]), [answer()])
