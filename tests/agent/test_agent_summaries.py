"""Summaries: made of the last one and what was said since, after the reply, and told to the model."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from agent_kit import NamingModel

from recollect import (
    AgentSession,
    InvalidArgument,
    Message,
    ModelError,
    RunOutput,
    RunStatus,
    SessionNotFound,
    SessionSummary,
    SessionSummaryManager,
    SqliteDb,
)

pytestmark = pytest.mark.anyio


def counting(request: Any) -> str:
    """A summary that says which one it is."""
    before = request.messages[-1].text.partition("summary number ")[2][:1]
    return json.dumps({"summary": f"summary number {int(before or 0) + 1}", "topics": ["counting"]})


async def test_a_summary_is_made_of_what_was_said_and_kept(bound: Any) -> None:
    model = NamingModel(summary='{"summary": "Ada plans a launch.", "topics": ["launch", "lamp"]}')
    agent = bound(model, instructions="SYSTEM PROMPT")
    assert await agent.run("Plan the launch of my lamp", session_id="s", user_id="ada")
    assert await agent.get_session_summary("s") is None
    summary = await agent.create_session_summary("s")
    assert (summary.summary, summary.topics) == ("Ada plans a launch.", ("launch", "lamp"))
    assert summary.updated_at is not None
    assert await agent.get_session_summary("s") == summary
    assert (await agent.get_session("s")).get_session_summary() == summary
    [request] = model.asked("summary")
    sent = request.messages[-1].text
    assert "Plan the launch of my lamp" in sent
    assert "SYSTEM PROMPT" not in sent
    assert request.output_schema["title"] == "SessionSummary"


async def test_only_what_was_said_since_is_sent_with_the_last_summary(bound: Any) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model)
    for number in range(1, 4):
        await agent.run(f"question {number} " + "x" * 500, session_id="s")
        assert (await agent.create_session_summary("s")).summary == f"summary number {number}"
    sent = model.asked("summary")[-1].messages[-1].text
    assert "summary number 2" in sent
    assert "question 3" in sent
    assert "question 2" not in sent
    sizes = [model.chars(number, "summary") for number in range(3)]
    assert max(sizes) - min(sizes) < 200


@pytest.mark.parametrize("turns", [2, 50, 5000])
async def test_a_new_run_costs_its_own_characters_however_long_the_session(bound: Any, turns: int) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model)
    old = [
        RunOutput(run_id=str(n), session_id="s", messages=(Message("user", "x" * 2000), Message("assistant", "y")))
        for n in range(turns)
    ]
    agent.agent.db.upsert_session(AgentSession("s", runs=old))
    await agent.create_session_summary("s")
    calls = len(model.asked("summary"))
    assert calls == -(-turns // 11) or calls <= 1 + turns // 8, "in parts, each of many runs"
    assert all(model.chars(number, "summary") <= 24_000 + 6000 for number in range(calls))
    await agent.run("z" * 1000, session_id="s")
    await agent.create_session_summary("s")
    assert len(model.asked("summary")) == calls + 1
    assert model.chars(-1, "summary") <= 1000 + 2000


async def test_nothing_new_asks_nobody(bound: Any) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model)
    agent.agent.db.create_session("empty")
    assert await agent.create_session_summary("empty") is None
    await agent.run("Hi", session_id="s")
    for _ in range(3):
        await agent.create_session_summary("s")
    assert len(model.asked("summary")) == 1


async def test_each_run_is_followed_by_one_summary_in_the_background(bound: Any) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(request: Any) -> str:
        asked.set()
        assert answer.wait(30)
        return counting(request)

    model = NamingModel(summary=slow)
    agent = bound(model, enable_session_summaries=True)
    run = await agent.run("question 1", session_id="s")
    assert run.content == "ok"
    assert asked.wait(10)
    assert await agent.get_session_summary("s") is None
    answer.set()
    assert await agent.flush(10)
    assert (await agent.get_session_summary("s")).summary == "summary number 1"
    await agent.run("question 2", session_id="s")
    assert await agent.flush(10)
    assert (await agent.get_session_summary("s")).summary == "summary number 2"
    assert len(model.asked("summary")) == 2


async def test_the_model_is_told_the_summary_behind_the_system_message(bound: Any) -> None:
    class Listening(NamingModel):
        seen: list[Any] = []  # noqa: RUF012 - of this test's own class

        async def ask(self, request: Any, world: Any) -> Any:
            if request.purpose == "answer":
                self.seen.append(request.messages)
            async for piece in super().ask(request, world):
                yield piece

    model = Listening(summary='{"summary": "They like lamps.", "topics": []}')
    agent = bound(
        model, enable_session_summaries=True, background=False, instructions="Be brief.", add_history_to_context=False
    )
    model.seen.clear()
    await agent.run("Hi", session_id="s")
    await agent.run("And?", session_id="s")
    first, second = model.seen
    assert [message.role for message in second] == ["system", "user"]
    assert first[0].text == "Be brief."
    assert second[0].text.startswith("Be brief.\n\n")
    assert "They like lamps." in second[0].text
    stored = (await agent.get_session("s")).get_messages()
    assert stored[0].text == "Be brief.", "what changes is not stored with what does not"
    silent = bound(model, enable_session_summaries=True, add_session_summary_to_context=False, background=False)
    await silent.run("And now?", session_id="s")
    assert "They like lamps." not in str([message.text for message in model.seen[-1]])
    plain = bound(model, add_session_summary_to_context=True)
    await plain.run("And now?", session_id="s")
    assert "They like lamps." in model.seen[-1][0].text


async def test_a_run_that_ends_late_is_not_passed_over(bound: Any) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model)
    db: SqliteDb = agent.agent.db
    first = db.begin_run("s", [Message("user", "asked first")])
    second = db.begin_run("s", [Message("user", "asked second")])
    db.finish_run(second, [Message("assistant", "answered first")])
    assert await agent.create_session_summary("s") is None
    assert not model.requests
    db.finish_run(first, [Message("assistant", "answered second")])
    assert await agent.create_session_summary("s") is not None
    sent = model.asked("summary")[-1].messages[-1].text
    assert sent.index("asked first") < sent.index("answered second") < sent.index("asked second")


async def test_failed_runs_are_not_part_of_it_and_are_not_looked_at_again(bound: Any) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model)
    db: SqliteDb = agent.agent.db
    run = db.begin_run("s", [Message("user", "asked in vain")])
    db.finish_run(run, status=RunStatus.error, error="no")
    assert await agent.create_session_summary("s") is None
    await agent.run("asked again", session_id="s")
    await agent.create_session_summary("s")
    assert "asked in vain" not in model.asked("summary")[-1].messages[-1].text


async def test_looking_in_vain_for_something_new_is_no_change(bound: Any) -> None:
    agent = bound(NamingModel())
    db: SqliteDb = agent.agent.db
    db.finish_run(db.begin_run("s", [Message("user", "in vain")]), status=RunStatus.error, error="no")
    before = db.get_header("s")
    await agent.create_session_summary("s")
    assert db.get_header("s") == before


@pytest.mark.parametrize("timeout", [-1, "1", True, float("nan")])
async def test_a_time_to_wait_that_is_none_is_refused(bound: Any, timeout: Any) -> None:
    with pytest.raises(InvalidArgument, match="timeout"):
        await bound(NamingModel()).flush(timeout)


async def test_of_a_long_past_only_the_last_runs_are_looked_at_when_so_asked(bound: Any) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model, session_summary_manager=SessionSummaryManager(last_n_runs=2))
    for number in range(5):
        await agent.run(f"question {number}", session_id="s")
    await agent.create_session_summary("s")
    [request] = model.asked("summary")
    said = request.messages[-1].text
    assert ["question" in said, "question 2" in said, "question 3" in said, "question 4" in said] == [
        True,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    "answer", ["", "...", ModelError("down"), Message("assistant", "No.", finish_reason="refusal")]
)
async def test_a_summary_that_fails_leaves_the_last_one_and_is_made_later(bound: Any, answer: Any) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model)
    await agent.run("question 1", session_id="s")
    await agent.create_session_summary("s")
    await agent.run("question 2", session_id="s")
    model.answers["summary"] = answer
    with pytest.raises(ModelError):
        await agent.create_session_summary("s")
    assert (await agent.get_session_summary("s")).summary == "summary number 1"
    model.answers["summary"] = counting
    assert (await agent.create_session_summary("s")).summary == "summary number 2"
    assert "question 2" in model.asked("summary")[-1].messages[-1].text


async def test_a_summary_made_elsewhere_meanwhile_stays(bound: Any) -> None:
    def meanwhile(request: Any) -> str:
        model.answers["summary"] = counting
        other.create_session_summary("s")
        return counting(request)

    model = NamingModel(summary=meanwhile)
    agent = bound(model)
    other = agent.agent.replace()
    await agent.run("question 1", session_id="s")
    summary = await agent.create_session_summary("s")
    assert (summary.summary, (await agent.get_session_metrics("s")).aux_tokens) == ("summary number 1", 30)


async def test_summaries_and_names_do_not_revert_each_other_or_a_run(bound: Any) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model, enable_session_summaries=True, auto_name_sessions=True, background=False)
    for number in range(4):
        await agent.run(f"question {number}", session_id="s", session_state={f"k{number}": number})
    session = await agent.get_session("s")
    assert (session.name, session.name_source) == ("A Generated Name", "auto")
    assert session.summary.summary == "summary number 4"
    assert session.session_state == {f"k{number}": number for number in range(4)}
    metrics = await agent.get_session_metrics("s")
    assert (metrics.aux_tokens, metrics.input_tokens) == (5 * 15, 4 * 10)


async def test_many_sessions_are_summarised(bound: Any) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model)
    for number in range(6):
        await agent.run("question 1", session_id=f"s{number}")
    report = await agent.create_session_summaries(concurrency=3)
    assert (report.summarised, report.named, report.failed, report.total_tokens) == (6, 0, (), 90)
    assert (await agent.create_session_summaries()).summarised == 0
    assert len(model.asked("summary")) == 6
    await agent.run("question 2", session_id="s3")
    assert (await agent.create_session_summaries(min_messages=4)).summarised == 1
    assert (await agent.get_session_summary("s3")).summary == "summary number 2"


async def test_a_session_that_is_not_there_has_no_summary(bound: Any) -> None:
    agent = bound(NamingModel())
    for method in (agent.get_session_summary, agent.create_session_summary):
        with pytest.raises(SessionNotFound):
            await method("nowhere")


@pytest.mark.parametrize(
    "option", ["enable_session_summaries", "auto_name_sessions", "background", "add_session_summary_to_context"]
)
def test_switches_are_true_or_false(bound: Any, option: str) -> None:
    with pytest.raises(InvalidArgument, match=option):
        bound(NamingModel(), **{option: "yes"})


async def test_a_summary_set_by_hand_is_the_one_that_is_gone_on_from(bound: Any) -> None:
    model = NamingModel(summary=counting)
    agent = bound(model)
    await agent.run("question 1", session_id="s")
    session = await agent.get_session("s")
    session.summary = SessionSummary(summary="summary number 7")
    await agent.save_session(session)
    assert (await agent.create_session_summary("s")).summary == "summary number 8"
