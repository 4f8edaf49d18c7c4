"""A session that begins as another one was: with all that belongs to it, and from then on apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from store_kit import TWO, Face, answer, dump, header_of, system, texts, turn, user

from recollect import doctor
from recollect.errors import InvalidArgument, RunConflict, RunNotFound, SessionConflict, SessionNotFound
from recollect.history import HistoryLimits
from recollect.run import RunMetrics, RunStatus
from recollect.session import SessionHeader, SessionSummary
from recollect.store import continued, summaries

pytestmark = pytest.mark.anyio


async def three(db: Face, **begin: Any) -> None:
    for number in ("1", "2", "3"):
        await turn(db, text=f"q{number}", run_id=number, prompt=system(f"System {number}."), **begin)


async def ids(db: Face, session_id: str = "f") -> list[str]:
    return [run.run_id for run in (await db.get_session(session_id)).runs]


async def forked(db: Face, **which: Any) -> SessionHeader:
    return await db.fork_session("s", new_session_id="f", **which)  # type: ignore[no-any-return]


def in_order(db: Face) -> bool:
    return doctor.healthy(list(doctor.database(db.db.home)))


async def test_a_fork_holds_what_its_source_holds(db: Face) -> None:
    await db.create_session(
        "s", kind="team", agent_id="a", team_id="t", user_id="u", name="Plan", session_state={"k": [1]}
    )
    await three(db, user_id="u", kind="team")
    await db.tag_session("s", ["red"])
    await db.update_values("s", "metadata", {"ticket": "T-42"})
    await db.archive_session("s")
    await db.pin_session("s")
    header = await forked(db, user_id="u")
    source, fork = await db.get_session("s"), await db.get_session("f")
    assert fork.header == header
    same = ("kind", "agent_id", "team_id", "user_id", "name", "name_source", "preview", "run_count", "completed_count")
    assert [getattr(fork.header, name) for name in same] == [getattr(source.header, name) for name in same]
    assert (header.message_count, header.archived, header.pinned, header.version) == (6, False, False, 1)
    assert fork.header.epoch != source.header.epoch
    assert (fork.session_state, fork.tags) == ({"k": [1]}, ("red",))
    assert fork.metadata == {"ticket": "T-42", "forked_from": "s", "forked_at": "3"}
    assert fork.get_messages() == source.get_messages()
    assert [(run.run_seq, run.run_id, run.created_at) for run in fork.runs] == [
        (run.run_seq, run.run_id, run.created_at) for run in source.runs
    ]
    assert in_order(db)


async def test_a_fork_at_a_run_ends_with_it_and_one_before_it_without(db: Face) -> None:
    await three(db)
    header = await forked(db, at_run="2")
    assert (await ids(db), header.run_count, header.message_count) == (["1", "2"], 2, 4)
    assert (await db.get_session("f")).metadata == {"forked_from": "s", "forked_at": "2"}
    before = await db.fork_session("s", before_run="2", name="Another try")
    assert (await ids(db, before.session_id), before.name, before.name_source) == (["1"], "Another try", "manual")
    nothing = await db.fork_session("s", before_run="1")
    assert (await ids(db, nothing.session_id), nothing.preview, nothing.run_count) == ([], "", 0)
    assert (await db.get_session(nothing.session_id)).metadata["forked_at"] is None
    assert in_order(db)


async def test_only_the_system_messages_that_its_runs_name_come_along(db: Face) -> None:
    await three(db)
    await forked(db, at_run="1")
    assert [row[3] for row in dump(db)["prompts"] if row[0] == "f"] == [system("System 1.").to_json()]


async def test_members_runs_come_with_the_run_they_are_part_of_and_later_ones_do_not(db: Face) -> None:
    async def member(run_id: str, parent: str) -> None:
        run = await db.begin_run("s", [user()], run_id=run_id, parent_run_id=parent, agent_id="m")
        await db.finish_run(run, [answer()], metrics=RunMetrics(input_tokens=10, output_tokens=1))

    first = await db.begin_run("s", [user()], run_id="1")
    other = await db.begin_run("s", [user()], run_id="2")
    for run_id, parent in (("2a", "2"), ("1a", "1"), ("1aa", "1a"), ("2aa", "2a")):
        await member(run_id, parent)
    for run in (first, other):
        await db.finish_run(run, [answer()])
    header = await forked(db, at_run="1")
    assert await ids(db) == ["1", "1a", "1aa"]
    assert (header.run_count, header.message_count, header.input_tokens, header.output_tokens) == (1, 2, 20, 2)
    await turn(db, "f", run_id="new")
    assert [run.run_seq for run in (await db.get_session("f")).runs] == [1, 4, 5, 6]
    assert in_order(db)


async def test_a_run_under_way_comes_as_interrupted_and_can_be_taken_up(db: Face) -> None:
    await turn(db, run_id="1")
    run = await db.begin_run("s", [user("Still at it")], run_id="2")
    await forked(db)
    assert [run.status for run in (await db.get_session("f")).runs] == ["completed", "interrupted"]
    assert in_order(db)
    taken = (await db.transact(continued.continue_run, "2", "f")).open
    await db.finish_run(taken, [answer("in the fork")])
    await db.finish_run(run, [answer("in the source")])
    assert (await texts(db))[-1] == "in the source"
    assert (await texts(db, "f"))[-1] == "in the fork"


async def test_the_summary_comes_along_where_it_tells_of_nothing_beyond(db: Face) -> None:
    await three(db)
    since = await db.transact(summaries.get_unsummarised, "s")
    await db.transact(summaries.finish_summary, "s", since, 2, SessionSummary(summary="Of two."), 1)
    for at_run, summary, through in (("1", None, 0), ("2", "Of two.", 2), ("3", "Of two.", 2)):
        fork = await db.fork_session("s", at_run=at_run)
        told = (await db.get_session(fork.session_id)).summary
        assert (told and told.summary) == summary
        assert (await db.transact(summaries.get_unsummarised, fork.session_id)).through == through


async def test_a_fork_is_kept_as_long_as_its_source_from_then_on(db: Face) -> None:
    await db.create_session("s", expire_after=timedelta(hours=1))
    db.clock.forward(1800)
    header = await forked(db)
    assert header.expire_after == timedelta(hours=1)
    assert header.expires_at - (await header_of(db)).expires_at >= timedelta(seconds=1800)


async def test_a_fork_and_its_source_live_and_die_apart(db: Face) -> None:
    await three(db)
    await forked(db, at_run="2")
    await turn(db, "f", text="only in the fork")
    await turn(db, "s", text="only in the source")
    await db.update_values("f", "state", {"k": 1})
    begun = await db.begin_run("f", [user()], history=HistoryLimits())
    assert [said.text for said in begun.history.messages if said.role == "user"] == ["q1", "q2", "only in the fork"]
    await db.finish_run(begun, [answer()])
    assert await db.get_values("s", "state") == {}
    source = dump(db)
    await db.delete_session("f")
    left = dump(db)
    assert left == {table: [row for row in source[table] if row[0] != "f"] for table in source}
    await forked(db)
    before = [row for table in dump(db).values() for row in table if row[0] == "f"]
    await db.delete_session("s")
    assert [row for table in dump(db).values() for row in table] == before
    assert "only in the source" in await texts(db, "f")


async def test_a_fork_of_a_fork_names_the_session_it_was_made_of(db: Face) -> None:
    await three(db)
    await forked(db)
    again = await db.fork_session("f", at_run="1")
    assert (await db.get_session(again.session_id)).metadata == {"forked_from": "f", "forked_at": "1"}
    assert [header.session_id for header in await db.get_sessions(metadata={"forked_from": "s"})] == ["f"]


async def test_a_fork_at_a_replacement_holds_it_in_its_place(db: Face) -> None:
    await three(db)
    run = await db.begin_run("s", [user("better")], run_id="n", replaces="2")
    await db.finish_run(run, [answer()])
    await forked(db, at_run="n")
    assert await ids(db) == ["1", "n"]
    with pytest.raises(RunConflict, match="'n' stands there"):
        await db.fork_session("s", at_run="2")
    assert in_order(db)


async def test_a_fork_names_the_run_that_stands_there_and_not_the_one_it_replaced(db: Face) -> None:
    await three(db)
    run = await db.begin_run("s", [user("better")], run_id="n", replaces="3")
    await db.finish_run(run, [answer()])
    await forked(db)
    assert (await db.get_values("f", "metadata"))["forked_at"] == "n"


@pytest.mark.parametrize("is_under_way", [True, False])
async def test_a_fork_before_a_run_that_did_not_replace_another_is_one_before_that_place(
    db: Face, *, is_under_way: bool
) -> None:
    await three(db)
    run = await db.begin_run("s", [user("better")], run_id="n", replaces="2")
    if not is_under_way:
        await db.finish_run(run, status=RunStatus.error)
    await forked(db, before_run="n")
    assert await ids(db) == ["1"]
    with pytest.raises(RunConflict, match="'2' stands there"):
        await db.fork_session("s", at_run="n")
    whole = await db.fork_session("s")
    assert (await db.get_values(whole.session_id, "metadata"))["forked_at"] == "3"
    await db.delete_run("2", "s")
    left = await db.fork_session("s", before_run="n")
    assert await ids(db, left.session_id) == ["1", "3"]
    assert in_order(db)


async def test_what_cannot_be_forked_is_refused_and_nothing_is_written(db: Face) -> None:
    await three(db, user_id="u")
    member = await db.begin_run("s", [user()], run_id="m", parent_run_id="2", user_id="u")
    await db.finish_run(member, [answer()])
    await turn(db, "taken")
    before = dump(db)
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (RunNotFound, {"at_run": "nowhere"}),
        (RunNotFound, {"before_run": "nowhere"}),
        (InvalidArgument, {"at_run": "m"}),
        (InvalidArgument, {"at_run": "1", "before_run": "2"}),
        (InvalidArgument, {"at_run": ""}),
        (InvalidArgument, {"name": " "}),
        (InvalidArgument, {"new_session_id": ""}),
        (SessionConflict, {"new_session_id": "taken"}),
        (SessionConflict, {"new_session_id": "s"}),
        (SessionNotFound, {"user_id": "other"}),
    ]
    for error, which in refused:
        with pytest.raises(error):
            await db.fork_session("s", **which)
    with pytest.raises(SessionNotFound):
        await db.fork_session("nowhere")
    assert dump(db) == before


@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
async def test_runs_that_failed_come_along_as_they_are(db: Face) -> None:
    await turn(db, run_id="1")
    for status in (RunStatus.error, RunStatus.cancelled, RunStatus.paused):
        run = await db.begin_run("s", [user()], run_id=status)
        await db.finish_run(run, status=status)
    header = await forked(db)
    assert [run.status for run in (await db.get_session("f")).runs] == ["completed", "error", "cancelled", "paused"]
    assert (header.run_count, header.completed_count) == (4, 1)
