"""Many workers on one table: each session is claimed once, and nobody waits longer than an update takes."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from postgres_kit import postgres_db

from recollect.db.postgres import PostgresDb
from recollect.message import Message
from recollect.store.claims import Wanted, claim_next

WANTED = Wanted(due="unnamed")


@pytest.fixture
def db() -> Iterator[PostgresDb]:
    with postgres_db(pool=8) as db:
        yield db


def fill(db: PostgresDb, sessions: int) -> None:
    for number in range(sessions):
        db.finish_run(db.begin_run(f"s{number:04}", [Message("user", "Hi")]), [Message("assistant", "Hello")])


def claim_all(db: PostgresDb, token: int) -> tuple[list[str], list[float]]:
    """What one worker claims until there is nothing left, and how long each claim took."""
    claimed: list[str] = []
    took: list[float] = []
    after: str | None = ""
    skip = 0
    rng = random.Random(token)
    while after is not None:
        began = time.perf_counter()
        found = db.transact(claim_next, WANTED, token, after=after, limit=4, skip=skip)
        took.append(time.perf_counter() - began)
        claimed += found.session_ids
        after = found.upto
        skip = rng.randrange(found.passed) if found.passed else 0
    return claimed, took


def test_eight_workers_claim_each_session_once_and_all_of_them(db: PostgresDb) -> None:
    fill(db, 400)
    with ThreadPoolExecutor(8) as threads:
        done = [one.result() for one in [threads.submit(claim_all, db, token) for token in range(1, 9)]]
    claimed = sorted(session_id for ids, _ in done for session_id in ids)
    assert claimed == [f"s{number:04}" for number in range(400)]
    assert sum(bool(ids) for ids, _ in done) > 4, "the work is shared"
    took = sorted(seconds for _, each in done for seconds in each)
    assert took[-1] < 0.9, (
        f"somebody waited {took[-1]:.3f} s: as long as a deadlock takes; median {statistics.median(took):.4f}"
    )


def test_claims_and_leases_go_by_the_servers_clock_whatever_the_client_believes(
    db: PostgresDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db, 1)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    run = db.begin_run("s0000", [Message("user", "Hi")])
    assert run.created_at.year > 2020
    assert db.get_last_run("s0000").status == "running"  # type: ignore[union-attr]
    assert db.transact(claim_next, WANTED, 1, limit=9).session_ids == ("s0000",)
    assert db.transact(claim_next, WANTED, 2, limit=9).session_ids == ()
