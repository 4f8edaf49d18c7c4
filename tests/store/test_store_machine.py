"""The store is held against a plain dictionary: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import postgres_server
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from postgres_kit import prepared
from store_kit import FACES, TABLES, Face, MovingClock, answer, change_rows, user

from recollect.cache import SessionCache
from recollect.db.postgres import PostgresDb
from recollect.db.sqlite import SqliteDb
from recollect.errors import RecollectError, RunConflict, RunLost, SessionConflict, SessionNotFound, UserRequired
from recollect.run import RunStatus
from recollect.session import AgentSession, Filter
from recollect.store import OpenRun, Store

ids = st.sampled_from(["s", "t", "u"])
owners = st.sampled_from([None, None, "alice", "bob"])
keys = st.sampled_from(["k", "l"])
values = st.none() | st.integers(-3, 3) | st.text(max_size=3)
ends = st.sampled_from([RunStatus.completed, RunStatus.error, RunStatus.cancelled, RunStatus.paused])

Model = dict[str, Any]


class StoreAgainstDictionary(RuleBasedStateMachine):
    """A session in the dictionary: owner, name, state, metadata, runs as [id, status, texts, lease], changes."""

    face = "sync"
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.store = self.opened()
        self.db: Face = FACES[self.face](self.store, MovingClock())
        self.cached: Face = FACES[self.face](SessionCache(max_sessions=2).over(self.store), MovingClock())
        self.model: dict[str, Model] = {}
        self.order: list[str] = []
        self.born = 0

    def opened(self) -> Store:
        """An empty store."""
        return SqliteDb()

    def teardown(self) -> None:
        self.store.close()
        self.loop.close()

    def do(self, operation: Any) -> Any:
        """What an operation gives, or the class of its error."""

        async def done() -> Any:
            return await operation

        try:
            return self.loop.run(done())
        except RecollectError as error:
            return type(error)

    def mine(self, session_id: str, owner: str | None) -> Model | None:
        session = self.model.get(session_id)
        return session if session and owner in (None, session["owner"]) else None

    def active(self, session_id: str) -> None:
        if session_id in self.order:
            self.order.remove(session_id)
        self.order.insert(0, session_id)

    def new(self, session_id: str, owner: str | None) -> Model:
        self.born += 1
        self.model[session_id] = {
            "owner": owner,
            "name": "",
            "state": {},
            "metadata": {},
            "runs": [],
            "version": 1,
            "born": self.born,
        }
        self.active(session_id)
        return self.model[session_id]

    @rule(session_id=ids, owner=owners, key=keys, value=values)
    def create(self, session_id: str, owner: str | None, key: str, value: Any) -> None:
        found = self.do(self.db.create_session(session_id, user_id=owner, metadata={key: value}))
        if session_id in self.model:
            assert found is SessionConflict
        else:
            self.new(session_id, owner)["metadata"][key] = value

    @rule(
        target=runs, session_id=ids, owner=owners, run_id=st.sampled_from(["1", "2", "3", "4"]), key=keys, value=values
    )
    def begin(self, session_id: str, owner: str | None, run_id: str, key: str, value: Any) -> Any:
        found = self.do(self.db.begin_run(session_id, [user("q")], user_id=owner, run_id=run_id, state={key: value}))
        session = self.model.get(session_id)
        if session and session["owner"] != owner:
            assert found is (UserRequired if owner is None else SessionNotFound)
            return multiple()
        if session and run_id in [run["id"] for run in session["runs"]]:
            assert found is RunConflict
            return multiple()
        if session:
            session["version"] += 1
            self.active(session_id)
        else:
            session = self.new(session_id, owner)
        session["state"][key] = value
        session["runs"].append({"id": run_id, "status": "running", "texts": ["q"]})
        assert (found.run_seq, found.version) == (len(session["runs"]), session["version"])
        return found, session["born"]

    def step(self, open_run: tuple[OpenRun, int], found: Any, state: dict[str, Any]) -> dict[str, Any] | None:
        """The run in the dictionary that the step went into; None where it was refused."""
        run, born = open_run
        session = self.model.get(run.session_id)
        if session is None:
            assert found is SessionNotFound
            return None
        known: dict[str, Any] = session["runs"][run.run_seq - 1] if len(session["runs"]) >= run.run_seq else {}
        if session["born"] != born or known["status"] != "running":
            assert found is RunLost
            return None
        session["version"] += 1
        session["state"] |= state
        assert found.version == session["version"]
        return known

    @rule(run=runs, text=st.text(max_size=3), key=keys, value=st.integers())
    def append(self, run: tuple[OpenRun, int], text: str, key: str, value: int) -> None:
        found = self.do(self.db.append_messages(run[0], [answer(text)], state={key: str(value)}))
        if known := self.step(run, found, {key: value}):
            known["texts"].append(text)

    @rule(run=consumes(runs), text=st.text(max_size=3), status=ends)
    def finish(self, run: tuple[OpenRun, int], text: str, status: RunStatus) -> None:
        found = self.do(self.db.finish_run(run[0], [answer(text)], status=status))
        if known := self.step(run, found, {}):
            known["texts"].append(text)
            known["status"] = str(status)

    @rule(session_id=ids, owner=owners, name=st.sampled_from(["One", "Two"]))
    def rename(self, session_id: str, owner: str | None, name: str) -> None:
        found = self.do(self.db.set_session_name(session_id, name, owner))
        if session := self.mine(session_id, owner):
            session["name"] = name
            session["version"] += 1
            assert found.name == name
        else:
            assert found is SessionNotFound

    @rule(session_id=ids, owner=owners, kind=st.sampled_from(["state", "metadata"]), key=keys, value=values)
    def set_value(self, session_id: str, owner: str | None, kind: str, key: str, value: Any) -> None:
        found = self.do(self.db.update_values(session_id, kind, {key: value}, owner))
        if session := self.mine(session_id, owner):
            session[kind][key] = value
            session["version"] += 1
            assert found == session[kind]
        else:
            assert found is SessionNotFound

    @rule(session_id=ids, owner=owners, name=st.sampled_from(["Three", "Four"]), key=keys, gone=keys)
    def save(self, session_id: str, owner: str | None, name: str, key: str, gone: str) -> None:
        session = self.mine(session_id, owner)
        stored = self.do(self.db.get_session(session_id, owner))
        assert (stored is None) == (session is None)
        if session:
            before = (session["name"], dict(session["metadata"]))
            stored.name = session["name"] = name
            for values_of in (stored.metadata, session["metadata"]):
                values_of.pop(gone, None)
                values_of[key] = "saved"
            session["version"] += before != (session["name"], session["metadata"])
            assert self.do(self.db.save_session(stored)).version == session["version"]

    @rule(session_id=ids, owner=st.sampled_from(["alice", "bob"]))
    def claim(self, session_id: str, owner: str) -> None:
        found = self.do(self.db.claim_session(session_id, owner))
        session = self.model.get(session_id)
        if session and session["owner"] in (None, owner):
            session["version"] += session["owner"] is None
            session["owner"] = owner
            assert found.user_id == owner
        else:
            assert found is SessionNotFound

    @rule(session_id=ids, owner=owners)
    def delete(self, session_id: str, owner: str | None) -> None:
        found = self.do(self.db.delete_session(session_id, owner))
        if self.mine(session_id, owner):
            assert found is None
            del self.model[session_id]
            self.order.remove(session_id)
        else:
            assert found is SessionNotFound

    @rule(owner=owners)
    def list_sessions(self, owner: str | None) -> None:
        found = [header.session_id for header in self.do(self.db.get_sessions(owner))]
        assert found == [session_id for session_id in self.order if self.mine(session_id, owner)]

    @invariant()
    def both_say_the_same(self) -> None:
        for session_id in ("s", "t", "u"):
            stored = self.do(self.db.get_session(session_id))
            if session_id not in self.model:
                assert stored is None
                continue
            session = self.model[session_id]
            assert (stored.user_id, stored.name, stored.version) == (
                session["owner"],
                session["name"],
                session["version"],
            )
            assert (stored.session_state, stored.metadata) == (session["state"], session["metadata"])
            assert [
                {"id": run.run_id, "status": run.status, "texts": [message.text for message in run.messages]}
                for run in stored.runs
            ] == session["runs"]
            assert stored.header.run_count == len(session["runs"])
            assert stored.header.completed_count == sum(run["status"] == "completed" for run in session["runs"])
            assert stored.header.message_count == sum(len(run["texts"]) for run in session["runs"])

    @rule(session_id=ids, owner=owners, limit=st.none() | st.integers(0, 4), last=st.none() | st.integers(0, 3))
    def a_cache_says_the_same(self, session_id: str, owner: str | None, limit: int | None, last: int | None) -> None:
        some = Filter.checked(limit=limit, last_n_runs=last, skip_statuses=())
        for read in (
            lambda db: db.get_session(session_id, owner),
            lambda db: db.get_messages(session_id, some, owner),
            lambda db: db.get_last_run(session_id, owner),
            lambda db: db.get_run("2", session_id, owner),
        ):
            assert _told(self.do(read(self.cached))) == _told(self.do(read(self.db)))


def _told(found: Any) -> Any:
    """What was read, in a form that can be compared."""
    return (found.header, found.to_dict()) if isinstance(found, AgentSession) else found


class AsyncStoreAgainstDictionary(StoreAgainstDictionary):
    face = "async"


class PostgresAgainstDictionary(StoreAgainstDictionary):
    def opened(self) -> Store:
        """The database of all examples, emptied."""
        db = PostgresDb(_the_url(), pool=2)
        for table in TABLES:
            db.transact(change_rows, f"delete from recollect_{table}")
        return db


class AsyncPostgresAgainstDictionary(PostgresAgainstDictionary):
    face = "async"


@functools.cache
def _the_url() -> str:
    """A database for all examples; it goes with the server, or with the sweep at the end of the tests."""
    return postgres_server.server().dsn(postgres_server.server().create(prepared()))


StoreAgainstDictionary.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
AsyncStoreAgainstDictionary.TestCase.settings = settings(max_examples=12, stateful_step_count=30)
PostgresAgainstDictionary.TestCase.settings = settings(max_examples=12, stateful_step_count=30)
AsyncPostgresAgainstDictionary.TestCase.settings = settings(max_examples=8, stateful_step_count=30)
TestSyncStore = StoreAgainstDictionary.TestCase
TestAsyncStore = AsyncStoreAgainstDictionary.TestCase
needs_postgres = pytest.mark.skipif(bool(postgres_server.missing()), reason="there is no Postgres")
TestSyncPostgres = needs_postgres(PostgresAgainstDictionary.TestCase)
TestAsyncPostgres = needs_postgres(AsyncPostgresAgainstDictionary.TestCase)
