"""The rules of what a database holds, on rows alone."""

from __future__ import annotations

from typing import Any

from postgres_kit import postgres_db

from recollect import Message, RunStatus, SqliteDb, survey
from recollect.doctor import database
from recollect.invariants import Fault, Said, Waiting
from recollect.port import Tx, writes
from recollect.run import RunMetrics
from recollect.store import Store


def call(*ids: str) -> Message:
    wanted = [{"id": own, "type": "function", "function": {"name": "look", "arguments": "{}"}} for own in ids]
    return Message("assistant", None, tool_calls=wanted)


def result(id: str) -> Message:
    return Message("tool", "seen", tool_call_id=id)


USER, ANSWER = Message("user", "Look"), Message("assistant", "I saw.")
UNREADABLE = Message.stored('{"role":"assistant","tool_calls":5}', None, "assistant")


def heard(
    *messages: Message | None, waiting: list[Waiting] | None = None, run: int = 1, completed: bool = True
) -> Said:
    """A run of these messages; None stands for a place that is empty."""
    said = Said("s", run, is_completed=completed, is_imported=False)
    for idx, message in enumerate(messages):
        if message is not None:
            row = {"session_id": "s", "run_seq": run, "idx": idx, "message_id": None}
            said.hear(row | {"role": message.role, "body": message.to_json()}, [] if waiting is None else waiting)
    return said


def told(said: Said) -> list[tuple[str, Any]]:
    due = [fault for _, fault in said.end() if fault is not None]
    return [(fault.check, fault.place) for fault in [*said.faults, *due]]


def test_every_call_needs_a_result_and_every_result_a_call() -> None:
    assert told(heard(USER, call("a", "b"), result("a"), result("b"), ANSWER)) == []
    assert told(heard(USER, call("a", "b"), result("a"), ANSWER)) == [("tool calls", (1, 1))]
    assert told(heard(USER, ANSWER, result("a"))) == [("tool results", (1, 2))]


def test_a_result_answers_the_nearest_call_of_its_id() -> None:
    assert told(heard(USER, call("a"), call("a"), result("a"))) == [("tool calls", (1, 1))]


def test_a_call_that_is_answered_twice_is_no_fault() -> None:
    assert told(heard(USER, call("a"), result("a"), result("a"))) == []


def test_a_run_may_begin_with_the_results_of_one_before_it_and_not_end_with_them() -> None:
    waiting: list[Waiting] = [("a", Fault("tool calls", "s", (1, 1)))]
    assert told(heard(result("a"), ANSWER, run=2, waiting=waiting)) == []
    assert waiting == []
    waiting = [("a", Fault("tool calls", "s", (1, 1)))]
    assert told(heard(USER, ANSWER, result("a"), run=2, waiting=waiting)) == [("tool results", (2, 2))]
    assert len(waiting) == 1


def test_a_run_that_is_not_completed_owes_no_result_but_may_get_it_later() -> None:
    paused = heard(USER, call("a"), completed=False)
    assert told(paused) == []
    waiting = paused.end()
    assert told(heard(result("a"), ANSWER, run=2, waiting=waiting)) == []


def test_places_are_empty_only_where_a_result_may_still_come() -> None:
    assert told(heard(USER, call("a", "b"), None, result("b"), completed=False)) == []
    assert ("order", (1, 3)) in told(heard(USER, call("a", "b"), None, result("b")))
    assert told(heard(USER, None, ANSWER, completed=False)) == [("order", (1, 2))]
    assert told(heard(None, USER, completed=False)) == [("order", (1, 1))]
    assert told(heard(USER, call("a"), None, None, ANSWER, completed=False)) == [("order", (1, 4))]


def test_where_a_call_cannot_be_read_its_results_are_not_blamed() -> None:
    said = heard(USER, UNREADABLE, result("a"), ANSWER)
    assert told(said) == [("tool call lists", (1, 1))]
    assert not said.is_whole, "its size is not known, then"


@writes
async def _change(tx: Tx, sql: str) -> None:
    await tx.execute((sql, {}))


def problems(db: Store) -> list[str]:
    return [finding.check for finding in database(db) if finding.status == "problem"]


def test_the_size_of_a_run_that_cannot_be_read_is_left_alone() -> None:
    with SqliteDb() as db:
        run = db.begin_run("s", [USER])
        db.finish_run(run, [ANSWER])
        db.transact(_change, "update recollect_messages set body = '{' where idx = 1")
        assert problems(db) == ["messages"]


def test_what_an_attempt_took_stays_counted_when_it_is_made_again() -> None:
    with SqliteDb() as db:
        run = db.begin_run("s", [USER], run_id="r")
        db.finish_run(run, status=RunStatus.error, metrics=RunMetrics(input_tokens=7, output_tokens=5))
        run = db.begin_run("s", [USER], run_id="r", again=True)
        db.finish_run(run, [ANSWER], metrics=RunMetrics(input_tokens=1))
        assert problems(db) == []


def test_a_message_that_is_there_more_often_than_rows_are_read_at_once_is_seen_each_time(monkeypatch: Any) -> None:
    monkeypatch.setattr(survey, "PAGE", 2)
    with SqliteDb() as db:
        run = db.begin_run("s", [USER])
        db.finish_run(run, [ANSWER])
        db.transact(_change, "drop index recollect_messages_place")
        for _ in range(2):
            db.transact(_change, "insert into recollect_messages select * from recollect_messages where idx = 0")
        found = {finding.check: finding for finding in database(db)}
        assert found["content"].detail == "sessions: 1, runs: 1, messages: 5"
        assert found["duplicates"].detail.startswith("3 rows")


def test_rows_are_there_once_also_where_the_primary_key_is_gone() -> None:
    with postgres_db() as db:
        run = db.begin_run("s", [USER], state={"k": 1})
        db.finish_run(run, [ANSWER])
        db.transact(_change, "alter table recollect_values drop constraint recollect_values_pkey")
        db.transact(_change, "insert into recollect_values select * from recollect_values")
        found = {finding.check: finding for finding in database(db)}
        assert found["tables and indexes"].examples == ("primary key recollect_values: missing",)
        assert found["duplicates"].examples == ("s state k",)
