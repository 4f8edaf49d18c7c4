"""Law 4: a call that names a user never sees or touches another user's session, nor one without an owner."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from store_kit import TWO, Face, dump, turn, user
from watch_kit import heard, opened

from recollect.change import Cursor, SessionChange
from recollect.errors import SessionNotFound, UserRequired
from recollect.selection import Filter
from recollect.session import AgentSession
from recollect.store import Store
from recollect.store.names import restore_session_name
from recollect.store.pages import get_run_page

pytestmark = pytest.mark.anyio

Call = Callable[[Face, str], Awaitable[Any]]

NONE = object()
"""The answer is None, as for a session that is not there."""
EMPTY = object()
"""The answer is empty, or counts nothing."""
REFUSED = object()
"""SessionNotFound is raised."""

WHEN_THERE_WERE_NONE = str(Cursor(0, 0, 0))
ALIVE = SessionChange(kind="changed", session_id="hers", cursor="")

AS_ALICE: dict[str, tuple[Call, object]] = {
    "get_session": (lambda db, s: db.get_session(s, "alice"), NONE),
    "get_header": (lambda db, s: db.get_header(s, "alice"), NONE),
    "get_run": (lambda db, s: db.get_run("r", s, "alice"), NONE),
    "get_messages": (lambda db, s: db.get_messages(s, None, "alice"), REFUSED),
    "get_messages of last runs": (lambda db, s: db.get_messages(s, Filter(last_n_runs=9), "alice"), REFUSED),
    "get_messages with a limit": (lambda db, s: db.get_messages(s, Filter(limit=9), "alice"), REFUSED),
    "get_last_run": (lambda db, s: db.get_last_run(s, "alice"), REFUSED),
    "get_values": (lambda db, s: db.get_values(s, "state", "alice"), REFUSED),
    "get_metrics": (lambda db, s: db.get_metrics(s, "alice"), REFUSED),
    "get_sessions": (lambda db, s: db.get_sessions("alice"), EMPTY),
    "get_sessions by name": (lambda db, s: db.get_sessions("alice", name="Secret"), EMPTY),
    "get_sessions by metadata": (lambda db, s: db.get_sessions("alice", metadata={"k": 1}, tags=["red"]), EMPTY),
    "transact of a page of runs": (lambda db, s: db.transact(get_run_page, s, user_id="alice"), REFUSED),
    "transact of a name that is taken back": (
        lambda db, s: db.transact(restore_session_name, s, "Secret plan", "", None, "alice"),
        REFUSED,
    ),
    "search": (lambda db, _: db.search("hi", user_id="alice"), EMPTY),
    "search of one session": (lambda db, s: db.search("hi", user_id="alice", session_id=s), EMPTY),
    "search of names": (lambda db, _: db.search('"secret plan"', user_id="alice", limit=100), EMPTY),
    "count_sessions": (lambda db, _: db.count_sessions("alice", name="Secret"), EMPTY),
    "find_sessions_by_prefix": (lambda db, s: db.find_sessions_by_prefix(s[:3], user_id="alice"), EMPTY),
    "iter_sessions": (lambda db, s: _each(db, "iter_sessions", user_id="alice"), EMPTY),
    "watch_sessions": (lambda db, _: _told(db, "watch_sessions", "alice", since=WHEN_THERE_WERE_NONE), EMPTY),
    "watch_sessions of one": (lambda db, s: _told(db, "watch_sessions", "alice", s, since=None), REFUSED),
    "set_session_name": (lambda db, s: db.set_session_name(s, "Mine", "alice"), REFUSED),
    "update_values": (lambda db, s: db.update_values(s, "state", {"k": 2}, "alice"), REFUSED),
    "update_values of metadata": (lambda db, s: db.update_values(s, "metadata", {"n": 2}, "alice"), REFUSED),
    "upsert_session": (lambda db, s: db.upsert_session(AgentSession(s, user_id="alice")), REFUSED),
    "save_session": (lambda db, s: db.save_session(AgentSession(s, user_id="alice")), REFUSED),
    "begin_run": (lambda db, s: db.begin_run(s, [user()], user_id="alice", state={"k": 2}), REFUSED),
    "begin_run in the place of another": (
        lambda db, s: db.begin_run(s, [user()], user_id="alice", run_id="n", replaces="r"),
        REFUSED,
    ),
    "tag_session": (lambda db, s: db.tag_session(s, ["blue"], user_id="alice"), REFUSED),
    "archive_session": (lambda db, s: db.archive_session(s, user_id="alice"), REFUSED),
    "pin_session": (lambda db, s: db.pin_session(s, user_id="alice"), REFUSED),
    "set_session_expiry": (lambda db, s: db.set_session_expiry(s, timedelta(days=1), "alice"), REFUSED),
    "fork_session": (lambda db, s: db.fork_session(s, user_id="alice"), REFUSED),
    "export_user": (lambda db, _: _each(db, "export_user", "alice"), EMPTY),
    "iter_purgeable": (lambda db, _: _each(db, "iter_purgeable", older_than=timedelta(0), user_id="alice"), EMPTY),
    "purge_sessions": (
        lambda db, _: db.purge_sessions(older_than=timedelta(0), user_id="alice", dry_run=True),
        EMPTY,
    ),
    "purge_sessions of what expired": (lambda db, _: db.purge_sessions(user_id="alice"), EMPTY),
    "delete_run": (lambda db, s: db.delete_run("r", s, "alice"), REFUSED),
    "delete_session": (lambda db, s: db.delete_session(s, "alice"), REFUSED),
    "delete_sessions": (lambda db, s: db.delete_sessions([s], "alice"), EMPTY),
    "delete_sessions by age": (lambda db, _: db.delete_sessions(user_id="alice", older_than=timedelta(0)), EMPTY),
    "delete_user": (lambda db, s: db.delete_user("alice"), EMPTY),
}

OTHERWISE = {
    "create_session": "makes a session and opens none; an id that is taken is a conflict, whoever holds it",
    "claim_session": "tested below",
    "index_sessions": "tells how many, and nothing of them",
    "append_messages": "by the token of a run, which only its beginner has",
    "finish_run": "by the token of a run",
    "close": "of the whole database",
    "transact": "runs the operations above; those that are no method are among them",
}


async def _told(db: Face, method: str, *args: Any, since: str | None) -> list[SessionChange]:
    """What a watcher is told at once; of one session, when it begins to be watched, nothing but that it is there."""
    async with opened(db, method, *args, since=since) as watch:
        change = await heard(watch, 0.0 if since else 0.3)
        return [change] if change else [ALIVE] if since is None else []


async def _each(db: Face, method: str, *args: Any, **filters: Any) -> list[Any]:
    return [item async for item in db.each(method, *args, **filters)]


def test_every_public_method_is_held_to_it() -> None:
    public = {name for name, verb in vars(Store).items() if callable(verb) and not name.startswith("_")}
    plain = {name for name in public if f"a{name}" in public}
    assert public == plain | {f"a{name}" for name in plain}
    assert plain == {name.split(" ")[0] for name in AS_ALICE} | set(OTHERWISE)


async def _fill(db: Face) -> None:
    for session_id, owner in (("bobs", "bob"), ("nobodys", None)):
        await db.create_session(session_id, user_id=owner, name="Secret plan", metadata={"k": 1})
        await db.update_values(session_id, "tag", {"red": None})
        await turn(db, session_id, user_id=owner, run_id="r", state={"k": 1})


@pytest.mark.parametrize("session_id", ["bobs", "nobodys"])
@pytest.mark.parametrize("method", AS_ALICE)
async def test_alice_meets_no_session_that_is_not_hers(db: Face, method: str, session_id: str) -> None:
    await _fill(db)
    before = dump(db)
    call, expected = AS_ALICE[method]
    if expected is REFUSED:
        with pytest.raises(SessionNotFound, match=f"there is no session '{session_id}'"):
            await call(db, session_id)
    else:
        found = await call(db, session_id)
        assert found is None if expected is NONE else found in (0, []) or len(found) == 0
    assert dump(db) == before


@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
@pytest.mark.parametrize("method", [name for name in AS_ALICE if not re.search("^delete|expired", name)])
async def test_alice_meets_her_own(db: Face, method: str) -> None:
    await db.create_session("hers", user_id="alice", name="Secret plan", metadata={"k": 1})
    await db.update_values("hers", "tag", {"red": None})
    await turn(db, "hers", user_id="alice", run_id="r", state={"k": 1})
    call, _ = AS_ALICE[method]
    assert await call(db, "hers")


async def test_an_unowned_session_is_claimed_once_and_an_owned_one_never(db: Face) -> None:
    await _fill(db)
    before = dump(db)
    with pytest.raises(SessionNotFound):
        await db.claim_session("bobs", "alice")
    with pytest.raises(SessionNotFound):
        await db.claim_session("nowhere", "alice")
    assert dump(db) == before
    assert (await db.claim_session("nobodys", "alice")).user_id == "alice"
    claimed = dump(db)
    assert (await db.claim_session("nobodys", "alice")).user_id == "alice"
    with pytest.raises(SessionNotFound):
        await db.claim_session("nobodys", "bob")
    assert dump(db) == claimed
    assert len(await db.get_messages("nobodys", None, "alice")) == 2


async def test_trusted_code_sees_all_but_must_say_who_speaks_in_an_owned_session(db: Face) -> None:
    await _fill(db)
    assert {header.session_id for header in await db.get_sessions()} == {"bobs", "nobodys"}
    assert (await db.get_session("bobs")).user_id == "bob"
    before = dump(db)
    with pytest.raises(UserRequired) as caught:
        await db.begin_run("bobs", [user()])
    assert caught.value.argument == "user_id"
    assert dump(db) == before
    await turn(db, "nobodys")


async def test_no_write_but_a_claim_changes_the_owner(db: Face) -> None:
    await _fill(db)
    session = await db.get_session("nobodys")
    session.name = "Renamed"
    await db.save_session(session)
    await db.update_values("nobodys", "metadata", {"user_id": "alice"})
    await turn(db, "nobodys")
    await db.upsert_session(await db.get_session("nobodys"))
    assert (await db.get_header("nobodys")).user_id is None
    for forged in ("alice", None):
        with pytest.raises(SessionNotFound):
            await db.upsert_session(AgentSession("bobs", user_id=forged))
    assert (await db.get_header("bobs")).user_id == "bob"


async def test_deleting_a_user_takes_exactly_that_users_sessions(db: Face) -> None:
    await _fill(db)
    kept = dump(db)
    for number in range(3):
        await turn(db, f"alices {number}", user_id="alice")
    assert await db.delete_user("alice") == 3
    assert dump(db) == kept
    assert await db.delete_sessions(["bobs", "nobodys", "nowhere"], "bob") == 1
    assert {header.session_id for header in await db.get_sessions()} == {"nobodys"}
