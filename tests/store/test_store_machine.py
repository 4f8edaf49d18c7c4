"""The store is held against a plain dictionary: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import asyncio
import functools
from datetime import timedelta
from typing import Any

import postgres_server
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from postgres_kit import prepared
from store_kit import FACES, TABLES, Face, MovingClock, answer, change_rows, user

from recollect import doctor
from recollect.cache import SessionCache
from recollect.checks import from_micros
from recollect.db.postgres import PostgresDb
from recollect.db.sqlite import SqliteDb
from recollect.errors import (
    RecollectError,
    RunConflict,
    RunInProgress,
    RunLost,
    RunNotFound,
    SessionConflict,
    SessionNotFound,
    UserRequired,
)
from recollect.history import HistoryLimits
from recollect.run import RunStatus
from recollect.selection import Filter
from recollect.session import AgentSession
from recollect.store import OpenRun, Store

ids = st.sampled_from(["s", "t", "u"])
owners = st.sampled_from([None, None, "alice", "bob"])
keys = st.sampled_from(["k", "l"])
values = st.none() | st.integers(-3, 3) | st.text(max_size=3)
ends = st.sampled_from([RunStatus.completed, RunStatus.error, RunStatus.cancelled, RunStatus.paused])

Model = dict[str, Any]


class StoreAgainstDictionary(RuleBasedStateMachine):
    """A session in the dictionary: owner, name, values, flags, runs in the order of their places, when it expires."""

    face = "sync"
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.clock = MovingClock()
        self.clock.stop()
        self.store = self.opened()
        self.db: Face = FACES[self.face](self.store, self.clock)
        self.cached: Face = FACES[self.face](SessionCache(max_sessions=2).over(self.store), self.clock)
        self.model: dict[str, Model] = {}
        self.order: list[str] = []
        self.born = 0
        self.waited = 0
        self.over: dict[str, str | None] = {}
        """Who had the sessions that have expired."""

    def opened(self) -> Store:
        """An empty store."""
        return SqliteDb(clock=self.clock)

    def teardown(self) -> None:
        try:
            assert doctor.healthy(list(doctor.database(self.store)))
        finally:
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

    def tick(self, seconds: float = 0.001) -> None:
        """Let time pass; what has expired is gone, and its rows are not looked at."""
        self.clock.forward(seconds)
        now = from_micros(self.clock.now())
        for session_id, session in list(self.model.items()):
            if session["expires_at"] is not None and session["expires_at"] <= now:
                self.forget(session_id)
                self.over[session_id] = session["owner"]

    def forget(self, session_id: str) -> None:
        del self.model[session_id]
        self.order.remove(session_id)

    def kept(self, session: Model) -> None:
        """A run begins, or somebody said how long: from now on it is kept for so long."""
        span = session["expire_after"]
        session["expires_at"] = None if span is None else from_micros(self.clock.now()) + span

    def find(self, session: Model, run_id: str) -> Model | None:
        return next((run for run in session["runs"] if run["id"] == run_id), None)

    def mine(self, session_id: str, owner: str | None) -> Model | None:
        session = self.model.get(session_id)
        return session if session and owner in (None, session["owner"]) else None

    def active(self, session_id: str) -> None:
        if session_id in self.order:
            self.order.remove(session_id)
        self.order.insert(0, session_id)
        self.model[session_id]["active"] = self.clock.now()

    def new(self, session_id: str, owner: str | None) -> Model:
        self.born += 1
        self.over.pop(session_id, None)
        self.model[session_id] = {
            "owner": owner,
            "name": "",
            "state": {},
            "metadata": {},
            "tags": set(),
            "archived": False,
            "pinned": False,
            "expire_after": None,
            "expires_at": None,
            "runs": [],
            "places": 0,
            "version": 1,
            "born": self.born,
        }
        self.active(session_id)
        return self.model[session_id]

    @rule(session_id=ids, owner=owners, key=keys, value=values)
    def create(self, session_id: str, owner: str | None, key: str, value: Any) -> None:
        self.tick()
        found = self.do(self.db.create_session(session_id, user_id=owner, metadata={key: value}))
        if session_id in self.model:
            assert found is SessionConflict
        else:
            self.new(session_id, owner)["metadata"][key] = value

    @rule(
        target=runs, session_id=ids, owner=owners, run_id=st.sampled_from(["1", "2", "3", "4"]), key=keys, value=values
    )
    def begin(self, session_id: str, owner: str | None, run_id: str, key: str, value: Any) -> Any:
        self.tick()
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
        self.kept(session)
        session["places"] += 1
        session["runs"].append(_begun(run_id, session["places"]))
        assert (found.run_seq, found.version) == (session["places"], session["version"])
        return found, session["born"]

    @rule(
        target=runs,
        session_id=ids,
        owner=owners,
        run_id=st.sampled_from(["1", "2", "3", "4"]),
        old=st.sampled_from(["1", "2", "3", "4"]),
    )
    def replace(self, session_id: str, owner: str | None, run_id: str, old: str) -> Any:
        self.tick()
        limits = HistoryLimits()
        begun = self.db.begin_run(session_id, [user("r")], user_id=owner, run_id=run_id, replaces=old, history=limits)
        found = self.do(begun)
        session = self.model.get(session_id)
        if session is None or session["owner"] != owner:
            assert found is (UserRequired if session and owner is None else SessionNotFound)
            return multiple()
        asked = self.find(session, old)
        if asked is None:
            assert found is RunNotFound
            return multiple()
        root = asked["replaces"] or old
        standing = _standing(session, root)
        if "running" in (asked["status"], standing and standing["status"]):
            assert found is RunInProgress
            return multiple()
        if standing is None or asked["status"] == "regenerated" or self.find(session, run_id):
            assert found is RunConflict
            return multiple()
        session["version"] += 1
        self.active(session_id)
        self.kept(session)
        session["places"] += 1
        session["runs"].append(_begun(run_id, session["places"], root))
        session["runs"][-1]["texts"] = ["r"]
        past = [run for run in session["runs"] if run["place"] < standing["place"] and _is_history(run)]
        assert (found.replaces, found.before) == (root, standing["place"])
        assert found.history.runs == len(past)
        return found, session["born"]

    @rule(session_id=ids, owner=owners, run_id=st.sampled_from(["1", "2", "3", "4"]))
    def delete_run(self, session_id: str, owner: str | None, run_id: str) -> None:
        found = self.do(self.db.delete_run(run_id, session_id, owner))
        session = self.mine(session_id, owner)
        run = session and self.find(session, run_id)
        if session is None or run is None:
            assert found is (SessionNotFound if session is None else RunNotFound)
        elif run["status"] == "running":
            assert found is RunInProgress
        else:
            assert found is None
            session["runs"].remove(run)
            session["version"] += 1

    @rule(session_id=ids, owner=owners, new=ids, at_run=st.none() | st.sampled_from(["1", "2", "3"]))
    def fork(self, session_id: str, owner: str | None, new: str, at_run: str | None) -> None:
        self.tick()
        found = self.do(self.db.fork_session(session_id, at_run=at_run, new_session_id=new, user_id=owner))
        source = self.mine(session_id, owner)
        run = None if source is None or at_run is None else self.find(source, at_run)
        if source is None or (at_run is not None and run is None):
            assert found is (SessionNotFound if source is None else RunNotFound)
            return
        if new in self.model or (run and not _is_own(run)):
            assert found in (SessionConflict, RunConflict)
            return
        fork = self.new(new, source["owner"])
        upto = source["places"] if run is None else run["place"]
        fork |= {name: source[name] for name in ("name", "expire_after")} | {"places": upto, "tags": {*source["tags"]}}
        fork["state"] = dict(source["state"])
        fork["runs"] = [
            dict(run, texts=[*run["texts"]], status="interrupted" if run["status"] == "running" else run["status"])
            for run in source["runs"]
            if run["place"] <= upto
        ]
        own = [run for run in fork["runs"] if _is_own(run)]
        last = max(own, key=lambda run: run["place"], default={"id": None})["id"]
        fork["metadata"] = source["metadata"] | {"forked_from": session_id, "forked_at": last}
        self.kept(fork)
        assert found.session_id == new

    def step(self, open_run: tuple[OpenRun, int], found: Any, state: dict[str, Any]) -> dict[str, Any] | None:
        """The run in the dictionary that the step went into; None where it was refused."""
        run, born = open_run
        session = self.model.get(run.session_id)
        if session is None:  # a run that was under way when its session expired may go on, though nobody sees it
            assert found is SessionNotFound or run.session_id in self.over
            return None
        known = self.find(session, run.run_id)
        if session["born"] != born or known is None or (known["status"], known["place"]) != ("running", run.run_seq):
            assert found is RunLost
            return None
        session["version"] += 1
        session["state"] |= state
        if session["active"] < self.clock.now() - 10_000_000:
            self.active(run.session_id)
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
            session = self.model[run[0].session_id]
            standing = _standing(session, known["replaces"], known) if known["replaces"] else None
            if status is RunStatus.completed and standing:
                standing["status"] = "regenerated"
                standing["place"], known["place"] = known["place"], standing["place"]
            session["runs"].sort(key=lambda run: run["place"])

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

    @rule(session_id=ids, owner=owners, tag=st.sampled_from(["red", "blue"]), remove=st.booleans())
    def tag(self, session_id: str, owner: str | None, tag: str, remove: bool) -> None:  # noqa: FBT001
        given: dict[str, Any] = {"remove": [tag]} if remove else {"tags": [tag]}
        found = self.do(self.db.tag_session(session_id, **given, user_id=owner))
        if session := self.mine(session_id, owner):
            (session["tags"].discard if remove else session["tags"].add)(tag)
            session["version"] += 1
            assert found == tuple(sorted(session["tags"]))
        else:
            assert found is SessionNotFound

    @rule(session_id=ids, owner=owners, flag=st.sampled_from(["archived", "pinned"]), value=st.booleans())
    def mark(self, session_id: str, owner: str | None, flag: str, value: bool) -> None:  # noqa: FBT001
        verb = {"archived": self.db.archive_session, "pinned": self.db.pin_session}[flag]
        found = self.do(verb(session_id, value, owner))
        if session := self.mine(session_id, owner):
            session[flag] = value
            session["version"] += 1
            assert getattr(found, flag) is value
        else:
            assert found is SessionNotFound

    @rule(session_id=ids, owner=owners, span=st.none() | st.sampled_from([timedelta(seconds=5), timedelta(hours=1)]))
    def expire(self, session_id: str, owner: str | None, span: timedelta | None) -> None:
        found = self.do(self.db.set_session_expiry(session_id, span, owner))
        if session := self.mine(session_id, owner):
            session["expire_after"] = span
            session["version"] += 1
            self.kept(session)
            assert found.expires_at == session["expires_at"]
        else:
            assert found is SessionNotFound

    @rule(seconds=st.sampled_from([1, 4, 10]))
    def wait(self, seconds: int) -> None:
        """Not so long that a lease runs out, for then a run would read otherwise."""
        if self.waited + seconds < 25:
            self.waited += seconds
            self.tick(seconds)

    @rule(owner=owners)
    def purge(self, owner: str | None) -> None:
        self.do(self.db.purge_sessions(user_id=owner))

    @rule(owner=owners, place=st.integers(0, 2))
    def delete_older(self, owner: str | None, place: int) -> None:
        """Delete what had no activity since that of one of them; nothing in which somebody is at work."""
        headers = self.do(self.db.get_sessions()).sessions
        if place >= len(headers):
            return
        since = headers[place].updated_at
        self.do(self.db.delete_sessions(user_id=owner, older_than=since))
        for session_id in self.order[place + 1 :]:
            session = self.mine(session_id, owner)
            if session and not any(run["status"] == "running" for run in session["runs"]):
                self.forget(session_id)

    @rule(session_id=ids, owner=owners)
    def delete(self, session_id: str, owner: str | None) -> None:
        found = self.do(self.db.delete_session(session_id, owner))
        if self.mine(session_id, owner):
            assert found is None
            self.forget(session_id)
        elif session_id in self.over and owner in (None, self.over[session_id]):
            assert found in (None, SessionNotFound), "what has expired can be deleted, unless that was done"
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
            assert stored.tags == tuple(sorted(session["tags"]))
            marks = ("archived", "pinned", "expire_after", "expires_at")
            assert [getattr(stored.header, mark) for mark in marks] == [session[mark] for mark in marks]
            assert [
                {
                    "id": run.run_id,
                    "place": run.run_seq,
                    "replaces": run.replaces,
                    "status": run.status,
                    "texts": [message.text for message in run.messages],
                }
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


def _begun(run_id: str, place: int, replaces: str | None = None) -> Model:
    return {"id": run_id, "place": place, "replaces": replaces, "status": "running", "texts": ["q"]}


def _standing(session: Model, root: str, candidate: Model | None = None) -> Model | None:
    """The run that stands where the root stood."""
    first = [run for run in session["runs"] if run["id"] == root and run["status"] != "regenerated"]
    later = [run for run in session["runs"] if run["replaces"] == root and run["status"] == "completed"]
    return next((run for run in first + later if run is not candidate), None)


def _is_history(run: Model) -> bool:
    return run["status"] == "completed" or (run["status"] == "cancelled" and run["replaces"] is None)


def _is_own(run: Model) -> bool:
    return run["status"] == "completed" or (run["status"] != "regenerated" and run["replaces"] is None)


def _told(found: Any) -> Any:
    """What was read, in a form that can be compared."""
    return (found.header, found.to_dict()) if isinstance(found, AgentSession) else found


class AsyncStoreAgainstDictionary(StoreAgainstDictionary):
    face = "async"


class PostgresAgainstDictionary(StoreAgainstDictionary):
    def opened(self) -> Store:
        """The database of all examples, emptied."""
        db = PostgresDb(_the_url(), pool=2, clock=self.clock)
        for table in (*TABLES, "documents", "indexed"):
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
