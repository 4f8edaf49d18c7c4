"""Names and summaries for many sessions, by any number of processes."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from agent_kit import NamingModel, calls

from recollect import (
    Agent,
    EchoModel,
    InvalidArgument,
    Message,
    ModelError,
    RunOutput,
    SessionNamer,
    SqliteDb,
    Store,
    batch,
    open_db,
)
from recollect.batch import Progress
from recollect.models.openai import OpenAIResponses
from recollect.port import Tx, writes
from recollect.session import AgentSession
from recollect.store import claims
from recollect.store.claims import Wanted, claim_next, count_due, let_go
from recollect.store.names import finish_naming
from recollect.testing import ResponsesServer
from recollect.testing.answer import Failure

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent


def fill(db: Store, count: int, **fields: Any) -> None:
    """Sessions of one turn each, in which their number is said."""
    for number in range(count):
        said = (Message("user", f"This is about number {number} please"), Message("assistant", "ok"))
        runs = [RunOutput(run_id="r", session_id=f"s{number:05}", messages=said)]
        db.upsert_session(AgentSession(f"s{number:05}", runs=runs, **fields))


def names(db: Store) -> dict[str, tuple[str, str | None]]:
    return {header.session_id: (header.name, header.name_source) for header in db.iter_sessions()}


def numbered(request: Any) -> str:
    return "Session Number " + request.messages[-1].text.partition("number ")[2].split()[0]


async def test_all_unnamed_sessions_are_named_once_and_reported(bound: Any) -> None:
    model = NamingModel(numbered)
    agent = bound(model)
    db = agent.agent.db
    fill(db, 20)
    db.set_session_name("s00003", "By hand")
    report = await agent.name_sessions(concurrency=4)
    assert (report.named, report.skipped, report.failed, report.fallbacks) == (19, 0, (), 0)
    assert (report.input_tokens, report.output_tokens, report.total_tokens) == (190, 95, 285)
    assert (report.left, report.stopped) == (0, None)
    assert len(model.requests) == 19
    stored = names(db)
    assert stored.pop("s00003") == ("By hand", "manual")
    assert stored == {f"s{n:05}": (f"Session Number {n}", "auto") for n in range(20) if n != 3}
    assert db.get_header("s00001").aux_tokens == 15  # type: ignore[union-attr]
    assert (await agent.name_sessions()).named == 0
    assert len(model.requests) == 19


async def test_only_what_is_asked_for_is_named(bound: Any) -> None:
    agent = bound(NamingModel(numbered))
    db = agent.agent.db
    fill(db, 6)
    for number, user in enumerate(["ada", "ada", "bob"]):
        session = AgentSession(
            f"u{number}",
            user_id=user,
            runs=[RunOutput(run_id="r", session_id=f"u{number}", messages=(Message("user", f"number {number}"),))],
            updated_at=datetime.now(UTC) - timedelta(days=number),
        )
        db.upsert_session(session)
    assert (
        await agent.name_sessions(user_id="ada", min_messages=1, since=datetime.now(UTC) - timedelta(hours=1))
    ).named == 1
    assert names(db)["u0"] == ("Session Number 0", "auto")
    assert (await agent.name_sessions(user_id="bob")).named == 0, "one message is too few"
    assert (await agent.name_sessions(limit=2)).named == 2
    assert (await agent.name_sessions(limit=0)).named == 0
    assert sorted(session_id for session_id, (name, _) in names(db).items() if name) == ["s00000", "s00001", "u0"]
    assert (await agent.name_sessions(min_messages=0)).named == 6


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("concurrency", 0),
        ("concurrency", "8"),
        ("limit", -1),
        ("min_messages", -1),
        ("since", datetime(2026, 1, 1)),  # noqa: DTZ001 - that it has no time zone is what is refused
        ("user_id", ""),
        ("only_unnamed", 1),
        ("on_progress", "print"),
    ],
)
async def test_a_bad_argument_is_refused_before_any_session_is_touched(bound: Any, argument: str, given: Any) -> None:
    model = NamingModel()
    agent = bound(model)
    fill(agent.agent.db, 1)
    with pytest.raises(InvalidArgument, match=argument):
        await agent.name_sessions(**{argument: given})
    assert not model.requests


async def test_names_are_made_anew_when_asked_and_those_set_by_hand_never(bound: Any) -> None:
    model = NamingModel("Old Name")
    agent = bound(model)
    db = agent.agent.db
    fill(db, 12)
    db.set_session_name("s00005", "By hand")
    await agent.name_sessions(concurrency=3)
    model.answers["name"] = "New Name"
    assert (await agent.name_sessions(only_unnamed=False, concurrency=3)).named == 11
    assert set(names(db).values()) == {("New Name", "auto"), ("By hand", "manual")}
    assert len(model.requests) == 22
    model.answers["name"] = "..."
    report = await agent.name_sessions(only_unnamed=False)
    assert (report.named, report.skipped) == (0, 11), "a name is not replaced by a worse one"


async def test_where_the_model_says_nothing_the_first_message_is_the_name_until_it_does(bound: Any) -> None:
    model = NamingModel("")
    agent = bound(model)
    fill(agent.agent.db, 5)
    report = await agent.name_sessions()
    assert (report.named, report.fallbacks) == (5, 5)
    assert {source for _, source in names(agent.agent.db).values()} == {"fallback"}
    before = names(agent.agent.db)
    report = await agent.name_sessions()
    assert (report.named, report.skipped, names(agent.agent.db)) == (0, 5, before), "one fallback is as good as another"
    model.answers["name"] = numbered
    report = await agent.name_sessions()
    assert (report.named, report.fallbacks) == (5, 0)
    assert len(model.requests) == 15


@writes
async def change_rows(tx: Tx, sql: str) -> list[tuple[Any, ...]]:
    [found] = await tx.execute((sql, {}))
    return found


class Hesitant(SqliteDb):
    """Tells late that a name was stored: until then others may find the session free, and due for a better one."""

    def transact(self, operation: Any, /, *args: Any, **kwargs: Any) -> Any:
        value = super().transact(operation, *args, **kwargs)
        if operation is finish_naming:
            time.sleep(0.02)
        return value


def test_no_session_is_taken_up_twice_by_one_batch_nor_left_held_by_it() -> None:
    with Hesitant() as db:
        fill(db, 6)
        model = NamingModel("")
        for named, skipped in ((6, 0), (0, 6), (0, 6)):
            report = Agent(model, db=db).name_sessions()
            assert (report.named, report.skipped) == (named, skipped)
        assert len(model.requests) == 18
        assert db.transact(change_rows, "select count(*) from recollect_sessions where claim_token is not null") == [
            (0,)
        ]


async def test_a_model_that_fails_leaves_the_session_to_the_next_batch_and_says_why(bound: Any) -> None:
    def answer(request: Any) -> Any:
        return ModelError("no such luck", status=400) if "number 3" in request.messages[-1].text else "A Name"

    model = NamingModel(answer)
    agent = bound(model)
    fill(agent.agent.db, 6)
    report = await agent.name_sessions(concurrency=2)
    assert (report.named, report.stopped) == (5, None)
    assert [(failure.session_id, failure.reason) for failure in report.failed] == [("s00003", "no such luck")]
    assert names(agent.agent.db)["s00003"] == ("", None)
    model.answers["name"] = "A Name"
    assert (await agent.name_sessions()).named == 1


async def test_sessions_without_text_are_skipped(bound: Any) -> None:
    model = NamingModel()
    agent = bound(model)
    image = Message("user", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])
    runs = [RunOutput(run_id="r", session_id="s", messages=(image, calls(("look", "{}"))))]
    agent.agent.db.upsert_session(AgentSession("s", runs=runs))
    report = await agent.name_sessions()
    assert (report.named, report.skipped, model.requests) == (0, 1, [])


async def test_progress_is_told_at_the_start_and_after_each_session(bound: Any) -> None:
    seen: list[tuple[int, int, int]] = []
    agent = bound(NamingModel(numbered))
    fill(agent.agent.db, 5)

    def told(progress: Progress) -> None:
        seen.append((progress.done, progress.total, progress.total_tokens))
        if progress.session_id is not None:
            assert progress.name == f"Session Number {int(progress.session_id[1:])}"

    await agent.name_sessions(on_progress=told, concurrency=2)
    assert seen == [(number, 5, 15 * number) for number in range(6)]


async def test_a_batch_that_is_stopped_says_what_is_left_and_the_next_one_goes_on(bound: Any) -> None:
    model = NamingModel(numbered, seconds=0.01)
    agent = bound(model)
    fill(agent.agent.db, 30)

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            time.sleep(0.3)  # time enough to run ahead of who is told
            progress.stop()

    report = await agent.name_sessions(on_progress=stop, concurrency=3)
    assert report.stopped == "stopped"
    assert 5 <= report.named <= 5 + 3, "what is under way is finished"
    assert report.left == 30 - report.named
    report = await agent.name_sessions()
    assert (report.named, len(model.requests)) == (30 - (len(model.requests) - report.named), 30)


async def test_a_callback_that_raises_ends_the_batch_and_gives_claims_back(bound: Any) -> None:
    agent = bound(NamingModel(numbered, seconds=0.01))
    fill(agent.agent.db, 30)

    def fail(progress: Progress) -> None:
        if progress.done == 3:
            msg = "enough"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="enough"):
        await agent.name_sessions(on_progress=fail, concurrency=3)
    await asyncio.sleep(0.1)
    left = agent.agent.db.transact(count_due, Wanted(due="unnamed"))
    free = agent.agent.db.transact(claim_next, Wanted(due="unnamed"), 1, limit=100)
    assert len(free.session_ids) == left >= 20


async def test_a_cancelled_batch_gives_claims_back(place: str) -> None:
    with open_db(place) as db:
        fill(db, 20)
        model = NamingModel(numbered, seconds=30)
        task = asyncio.create_task(Agent(model, db=db).aname_sessions(concurrency=4))
        await asyncio.to_thread(until, lambda: len(model.requests) == 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(db.transact(claim_next, Wanted(due="unnamed"), 1, limit=100).session_ids) == 20


@pytest.fixture
def server() -> Iterator[ResponsesServer]:
    with ResponsesServer() as server:
        yield server


@asynccontextmanager
async def provider(server: ResponsesServer, **options: Any) -> AsyncIterator[OpenAIResponses]:
    given = {"base_url": server.base_url, "api_key": server.api_key} | options
    model = OpenAIResponses("gpt-4.1-mini", **given)
    try:
        yield model
    finally:
        await model.aclose()


async def test_a_rate_limit_slows_all_down_and_no_session_is_lost(bound: Any, server: ResponsesServer) -> None:
    for _ in range(4):
        server.fail(429, retry_after=0.3)
    for _ in range(12):
        server.reply("A Fine Name")
    async with provider(server) as model:
        agent = bound(model)
        fill(agent.agent.db, 12)
        began = time.perf_counter()
        report = await agent.name_sessions(concurrency=4)
    assert (report.named, report.failed) == (12, ())
    assert time.perf_counter() - began >= 0.3
    assert len(server.requests) == 16, "nobody else asked while it was told to wait"


async def test_a_refused_key_ends_the_batch_at_once(bound: Any, server: ResponsesServer) -> None:
    async with provider(server, api_key="wrong") as model:
        agent = bound(model)
        fill(agent.agent.db, 50)
        report = await agent.name_sessions(concurrency=4)
    assert report.named == 0
    assert report.stopped is not None
    assert "401" in report.stopped
    assert (1 <= len(report.failed) <= 4, report.left) == (True, 50)


async def test_a_provider_that_hangs_costs_its_timeout_and_not_more(bound: Any, server: ResponsesServer) -> None:
    server.script(lambda _: time.sleep(1.5) or "Too late")
    async with provider(server, max_retries=0) as model:
        agent = bound(model, session_namer=SessionNamer(timeout=0.2))
        fill(agent.agent.db, 3)
        began = time.perf_counter()
        session = await agent.set_session_name("s00000", autogenerate=True)
        assert session.name_source == "fallback"
        assert time.perf_counter() - began < 1.5


async def test_a_session_that_the_provider_keeps_failing_on_is_given_up(
    bound: Any, server: ResponsesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "LONGEST_PAUSE", 0.01)
    server.script(lambda _: Failure(status=503, message="overloaded"))
    async with provider(server) as model:
        agent = bound(model)
        fill(agent.agent.db, 1)
        report = await agent.name_sessions()
    assert len(server.requests) == batch.ATTEMPTS
    assert "overloaded" in report.failed[0].reason


async def test_an_estimate_asks_nobody_and_changes_nothing(bound: Any) -> None:
    model = NamingModel(numbered)
    agent = bound(model)
    fill(agent.agent.db, 250)
    before = names(agent.agent.db)
    estimate = await agent.estimate_names()
    assert (estimate.sessions, model.requests, names(agent.agent.db)) == (250, [], before)
    await agent.name_sessions(limit=1)
    sent = model.chars() / 4
    assert 250 * sent * 0.8 <= estimate.tokens <= 250 * (sent + 20) * 1.2
    assert (await agent.estimate_names(limit=10)).sessions == 10
    assert (await agent.estimate_names(user_id="nobody")) == type(estimate)(0, 0)


async def test_claims_are_for_one_and_return_when_their_time_is_over(bound: Any) -> None:
    db = bound(EchoModel()).agent.db
    fill(db, 5)
    wanted = Wanted(due="unnamed")
    first = db.transact(claim_next, wanted, 1, limit=2)
    assert (first.session_ids, first.upto) == (("s00000", "s00001"), "s00001")
    second = db.transact(claim_next, wanted, 2, limit=9)
    assert (second.session_ids, second.upto) == (("s00002", "s00003", "s00004"), None)
    db.transact(let_go, ["s00000", "s00002"], 1)
    assert db.transact(claim_next, wanted, 3, limit=9).session_ids == ("s00000",), "only one's own are given back"


async def test_a_search_for_work_looks_at_a_bounded_part_of_the_table(
    bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "WINDOW", 10)
    agent = bound(NamingModel(numbered))
    db = agent.agent.db
    fill(db, 35)
    for number in range(33):
        db.set_session_name(f"s{number:05}", "By hand")
    claimed = db.transact(claim_next, Wanted(due="unnamed"), 1, limit=9)
    assert (claimed.session_ids, claimed.upto) == ((), "s00009")
    assert (await agent.name_sessions()).named == 2


def work(place: str, log: Path, seconds: float, concurrency: int, claim: float = 300) -> subprocess.Popen[str]:
    command = [sys.executable, HERE / "naming_worker.py", place, log / "calls", seconds, concurrency, claim]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)


def called(tmp_path: Path) -> list[str]:
    log = tmp_path / "calls"
    return [line.split()[0] for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_two_processes_share_a_thousand_sessions(place: str, tmp_path: Path) -> None:
    with open_db(place) as db:
        fill(db, 1000)
    workers = [work(place, tmp_path, 0.05, 8) for _ in range(2)]
    until(lambda: bool(called(tmp_path)))
    began = time.perf_counter()
    reports = [tuple(map(int, worker.communicate(timeout=120)[0].split())) for worker in workers]
    took = time.perf_counter() - began
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(named for named, _, _ in reports) == 1000
    assert all((skipped, failed) == (0, 0) for _, skipped, failed in reports)
    assert sorted(called(tmp_path), key=int) == [str(number) for number in range(1000)], "one call each"
    assert all(named > 250 for named, _, _ in reports), "both had their share"
    assert took < 4 * 1000 * 0.05 / 16
    with open_db(place) as db:
        assert names(db) == {f"s{n:05}": (f"Session Number {n}", "auto") for n in range(1000)}


CLAIM = 4.0


def test_what_a_killed_process_held_is_named_by_the_others(place: str, tmp_path: Path) -> None:
    with open_db(place) as db:
        fill(db, 300)
    killed, other = (work(place, tmp_path, 0.05, 8, claim=CLAIM) for _ in range(2))
    until(lambda: len(called(tmp_path)) > 60)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    died = time.monotonic()
    other.communicate(timeout=120)
    if place.startswith("postgresql"):  # where a process died, only the time of its claims tells
        time.sleep(max(0, died + CLAIM - time.monotonic()))
        work(place, tmp_path, 0.05, 8).communicate(timeout=120)
    asked = collections.Counter(called(tmp_path))
    again = [number for number, times in asked.items() if times > 1]
    assert sorted(asked, key=int) == [str(number) for number in range(300)]
    assert len(again) <= 8, "only what was under way in the killed process"
    assert max(asked.values()) <= 2
    with open_db(place) as db:
        assert names(db) == {f"s{n:05}": (f"Session Number {n}", "auto") for n in range(300)}


async def test_names_are_not_made_one_after_the_other(bound: Any) -> None:
    running = most = 0
    lock = threading.Lock()

    def answer(_: Any) -> str:
        nonlocal running
        with lock:
            running -= 1
        return "A Name"

    class Counting(NamingModel):
        async def ask(self, request: Any, world: Any) -> Any:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            async for piece in super().ask(request, world):
                yield piece

    agent = bound(Counting(answer, seconds=0.03))
    fill(agent.agent.db, 24)
    await agent.name_sessions(concurrency=6)
    assert 4 <= most <= 6
