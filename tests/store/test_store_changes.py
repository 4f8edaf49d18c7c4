"""Sessions are made, saved, stored whole, copied and deleted: only what is named changes, and deleted is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from store_kit import NOTHING, TABLES, Face, answer, calls, dump, header_of, result, run_sql, system, turn, user

from recollect.errors import RunConflict, SessionConflict, SessionNotFound
from recollect.run import RunMetrics, RunOutput, RunStatus, TeamRunOutput
from recollect.session import AgentSession, SessionSummary, TeamSession

pytestmark = pytest.mark.anyio


def _run(run_id: str, *said: Any, **fields: Any) -> RunOutput:
    return RunOutput(run_id=run_id, session_id="s", messages=said or (user(run_id), answer()), **fields)


def _whole(**fields: Any) -> AgentSession:
    return AgentSession(
        "s",
        agent_id="a",
        session_data={"session_name": "Import", "session_state": {"k": None}},
        metadata={"from": "elsewhere"},
        runs=[
            _run("1", system(), user(), calls("c"), result("c"), answer("done"), metrics=RunMetrics(input_tokens=5)),
            _run("2", status=RunStatus.error, error="no"),
            _run("3", parent_run_id="1", agent_id="m"),
        ],
        **fields,
    )


async def test_a_session_is_made_empty_with_what_was_given(db: Face) -> None:
    header = await db.create_session(
        "s", user_id="u", kind="team", agent_id="a", team_id="t", name="N", metadata={"m": 1}
    )
    assert header == await header_of(db)
    assert (header.user_id, header.kind, header.agent_id, header.team_id, header.name) == ("u", "team", "a", "t", "N")
    assert (header.run_count, header.version, header.preview) == (0, 1, "")
    assert type(await db.get_session("s")) is TeamSession


async def test_an_id_that_is_taken_is_a_conflict_and_changes_nothing(db: Face) -> None:
    await db.create_session("s", metadata={"k": 1})
    before = dump(db)
    with pytest.raises(SessionConflict):
        await db.create_session("s", name="Other", metadata={"k": 2})
    assert dump(db) == before


async def test_saving_writes_what_was_changed_and_nothing_else(db: Face) -> None:
    await db.create_session("s", name="Old", metadata={"a": 1, "b": 2, "c": 3}, session_state={"x": {"y": 1}})
    await turn(db)
    session = await db.get_session("s")
    session.name = "New"
    session.metadata["a"] = None
    del session.metadata["b"]
    session.session_state["x"]["y"] = 2
    session.upsert_run(_run("added", metrics=RunMetrics(output_tokens=7)))
    header = await db.save_session(session)

    stored = await db.get_session("s")
    assert (stored.name, stored.name_source) == ("New", "manual")
    assert (stored.metadata, stored.session_state) == ({"a": None, "c": 3}, {"x": {"y": 2}})
    assert [run.run_id for run in stored.runs][1:] == ["added"]
    assert header == stored.header
    assert (header.version, header.run_count, header.message_count, header.output_tokens) == (4, 2, 4, 7)


CHANGES: dict[str, Callable[[Face], Awaitable[Any]]] = {
    "named": lambda db: db.set_session_name("s", "Theirs"),
    "set": lambda db: db.update_values("s", "state", {"k": 1}),
    "begun": lambda db: db.begin_run("s", [user()]),
    "claimed": lambda db: db.claim_session("s", "u"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_snapshot_that_is_stale_is_not_saved(db: Face, change: str) -> None:
    await turn(db)
    session = await db.get_session("s")
    session.name = "Mine"
    session.metadata["mine"] = 1
    session.upsert_run(_run("mine"))
    await CHANGES[change](db)
    before = dump(db)
    with pytest.raises(SessionConflict):
        await db.save_session(session)
    assert dump(db) == before


async def test_of_two_who_save_the_same_snapshot_one_is_refused(db: Face) -> None:
    await turn(db)
    one, other = await db.get_session("s"), await db.get_session("s")
    one.metadata["one"] = 1
    other.metadata["other"] = 1
    await db.save_session(one)
    with pytest.raises(SessionConflict):
        await db.save_session(other)
    assert (await db.get_session("s")).metadata == {"one": 1}


async def test_a_session_that_was_deleted_is_not_saved_nor_one_made_anew_in_its_place(db: Face) -> None:
    await db.create_session("s")
    session = await db.get_session("s")
    session.name = "Mine"
    await db.delete_session("s")
    with pytest.raises(SessionNotFound):
        await db.save_session(session)
    assert dump(db) == NOTHING
    await db.create_session("s")
    with pytest.raises(SessionConflict):
        await db.save_session(session)
    assert (await header_of(db)).name == ""


async def test_a_run_that_is_stored_already_is_not_saved_in_another_form(db: Face) -> None:
    await turn(db, run_id="r")
    session = await db.get_session("s")
    session.upsert_run(_run("r", user("Hi"), answer("never said")))
    before = dump(db)
    with pytest.raises(RunConflict):
        await db.save_session(session)
    assert dump(db) == before


async def test_saving_a_run_that_is_stored_already_as_it_is_adds_nothing(db: Face) -> None:
    await turn(db, run_id="r")
    session = await db.get_session("s")
    session.upsert_run(session.runs[0])
    await db.save_session(session)
    assert (await header_of(db)).run_count == 1


async def test_a_session_made_by_hand_is_saved_whole(db: Face) -> None:
    await db.save_session(_whole())
    stored = await db.get_session("s")
    assert stored.to_dict()["runs"][0]["messages"][0] == system().to_dict()
    assert [run.run_id for run in stored.runs] == ["1", "2", "3"]
    assert (stored.name, stored.session_state, stored.metadata) == ("Import", {"k": None}, {"from": "elsewhere"})
    header = stored.header
    assert (header.run_count, header.completed_count, header.message_count, header.input_tokens) == (2, 1, 5, 5)
    assert (header.agent_id, header.preview) == ("a", "Hi")


async def test_storing_a_session_twice_changes_nothing(db: Face) -> None:
    first = await db.upsert_session(_whole())
    before = dump(db)
    assert await db.upsert_session(_whole()) == first
    assert await db.upsert_session(await db.get_session("s")) == first
    assert dump(db) == before


@pytest.mark.parametrize("status", RunStatus)
async def test_storing_a_run_of_any_status_twice_changes_nothing(db: Face, status: RunStatus) -> None:
    session = AgentSession("s", runs=[_run("r", status=status)])
    await db.upsert_session(session)
    before = dump(db)
    await db.upsert_session(session)
    assert dump(db) == before


async def test_storing_a_longer_session_adds_what_is_new_after_what_is_there(db: Face) -> None:
    await db.upsert_session(_whole())
    await turn(db, run_id="live")
    longer = _whole()
    longer.upsert_run(_run("4"))
    version = (await header_of(db)).version
    assert (await db.upsert_session(longer)).version == version + 1
    stored = await db.get_session("s")
    assert [(run.run_id, run.run_seq) for run in stored.runs] == [("1", 1), ("2", 2), ("3", 3), ("live", 4), ("4", 5)]
    assert (await turn(db)).run_seq == 6


@pytest.mark.parametrize(
    "changed",
    [
        {"messages": (user("Hi"), answer("never said"))},
        {"messages": (user("Hi"),)},
        {"status": RunStatus.error},
        {"agent_id": "other"},
        {"parent_run_id": "other"},
    ],
)
async def test_a_finished_run_that_differs_is_refused_with_all_that_came_along(
    db: Face, changed: dict[str, Any]
) -> None:
    await turn(db, run_id="r")
    session = await db.get_session("s")
    other = AgentSession(
        "s", runs=[_run("new"), msgspec.structs.replace(session.runs[0], **changed)], metadata={"k": 1}
    )
    before = dump(db)
    with pytest.raises(RunConflict):
        await db.upsert_session(other)
    assert dump(db) == before


async def test_what_a_run_took_and_when_is_stored_with_it(db: Face) -> None:
    began, ended = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    run = TeamRunOutput(
        run_id="r", session_id="s", status=RunStatus.cancelled, user_id="u", agent_id="a", agent_name="A", team_id="t",
        model="m", messages=(system(), user(id="own"), answer()), metrics=RunMetrics(input_tokens=1, duration=0.25),
        error="stopped", attempt=3, created_at=began, finished_at=ended, input_count=1, metadata_json='{"k": null}',
    )  # fmt: skip
    await db.upsert_session(TeamSession("s", team_id="t", user_id="u", runs=[run], created_at=began, updated_at=ended))
    session = await db.get_session("s")
    assert (session.created_at, session.updated_at) == (began, ended)
    assert msgspec.structs.replace(session.runs[0], run_seq=None) == run
    assert [message.id for message in session.runs[0].messages] == ["r.prompt", "own", "r.1"]


async def test_a_summary_is_stored_with_its_session(db: Face) -> None:
    await db.upsert_session(AgentSession("s", summary=SessionSummary(summary="About it", topics=("a",))))
    assert (await db.get_session("s")).get_session_summary() == SessionSummary(summary="About it", topics=("a",))


async def test_what_was_set_here_is_left_as_it_is_when_an_older_copy_is_stored(db: Face) -> None:
    await db.upsert_session(_whole())
    await db.set_session_name("s", "Renamed here")
    await db.update_values("s", "metadata", {"from": "here"})
    before = dump(db)
    await db.upsert_session(_whole())
    assert dump(db) == before


async def test_deleting_leaves_no_row_of_the_session_and_all_of_the_others(db: Face) -> None:
    async def fill(session_id: str) -> None:
        await turn(db, session_id, prompt=system(), state={"k": 1}, metadata={"k": 1})
        await db.update_values(session_id, "metadata", {"k": 1})
        await db.begin_run(session_id, [user()])

    await fill("other")
    kept = dump(db)
    await fill("s")
    assert all(len(rows) == 2 * len(kept[table]) for table, rows in dump(db).items())
    await db.delete_session("s")
    assert dump(db) == kept
    for table in TABLES:
        assert run_sql(db, f"select * from recollect_{table} where session_id = 's'") == []
    with pytest.raises(SessionNotFound):
        await db.delete_session("s")
    assert await db.delete_sessions(["s", "other"]) == 1
    assert dump(db) == NOTHING


async def test_a_session_made_anew_under_a_deleted_id_is_another_one(db: Face) -> None:
    await turn(db)
    before = await header_of(db)
    await db.delete_session("s")
    await turn(db)
    after = await header_of(db)
    assert after.version == before.version
    assert after.epoch != before.epoch


async def test_deleting_a_user_with_more_sessions_than_a_page_leaves_none(db: Face) -> None:
    db.clock.stop()
    for number in range(130):
        await db.create_session(f"s{number}", user_id="u")
    await db.create_session("kept", user_id="v")
    assert await db.delete_user("u") == 130
    assert [header.session_id for header in await db.get_sessions()] == ["kept"]
