"""Work after the reply: who does it, how often, and who waits for it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest

from recollect import background
from recollect.background import MOST, Background


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Background]:
    monkeypatch.setattr(background, "IDLE", 0.05)
    made = Background()
    yield made
    assert made.flush(timeout=10)
    end = time.monotonic() + 10
    while made._threads:
        assert time.monotonic() < end, "threads without work end"
        time.sleep(0.01)


class Owner:
    """Somebody for whom work is done."""


def test_work_is_done_once_by_a_few_daemon_threads(work: Background) -> None:
    done: list[int] = []
    threads: set[threading.Thread] = set()

    def job(number: int) -> None:
        threads.add(threading.current_thread())
        time.sleep(0.005)
        done.append(number)

    owner = Owner()
    for number in range(40):
        work.submit(owner, number, lambda number=number: job(number))  # type: ignore[misc]
    assert work.flush(owner, 10)
    assert sorted(done) == list(range(40))
    assert 1 <= len(threads) <= MOST
    assert all(thread.daemon for thread in threads)


def test_what_waits_is_replaced_by_its_like_and_what_runs_is_followed_by_it(work: Background) -> None:
    said: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert go.wait(10)
        said.append("first")

    owner = Owner()
    work.submit(owner, "s", first)
    assert begun.wait(10)
    for word in ("second", "third"):
        work.submit(owner, "s", lambda word=word: said.append(word))  # type: ignore[misc]
    time.sleep(0.02)
    assert not said, "not at the same time as its like"
    go.set()
    assert work.flush(owner, 10)
    assert said == ["first", "third"]


def test_a_job_that_fails_is_logged_and_the_others_are_done(work: Background, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise SystemExit(3)

    done = threading.Event()
    owner = Owner()
    with caplog.at_level(logging.ERROR, "recollect"):
        work.submit(owner, 1, fail)
        work.submit(owner, 2, done.set)
        assert work.flush(owner, 10)
    assert done.is_set()
    assert "failed" in caplog.text


def test_one_waits_for_ones_own_work_only(work: Background) -> None:
    go = threading.Event()
    mine, yours = Owner(), Owner()
    work.submit(yours, "s", lambda: go.wait(10))
    assert work.flush(mine, 0)
    assert not work.flush(yours, 0.01)
    assert not work.flush(timeout=0.01)
    go.set()


def test_one_who_closes_drops_what_has_not_begun(work: Background, caplog: pytest.LogCaptureFixture) -> None:
    go, dropped = threading.Event(), threading.Event()
    mine, yours, done = Owner(), Owner(), threading.Event()
    for number in range(MOST):
        work.submit(mine, number, lambda: go.wait(10))
    work.submit(mine, "late", dropped.set)
    work.submit(yours, "s", done.set)
    with caplog.at_level(logging.WARNING, "recollect"):
        work.settle(mine, 0.02)
    assert "closed before" in caplog.text
    go.set()
    assert work.flush(timeout=10)
    assert (dropped.is_set(), done.is_set()) == (False, True)


def test_more_than_can_wait_is_left_to_the_next_run(
    work: Background, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "CAPACITY", 2)
    go = threading.Event()
    owner, done = Owner(), []
    for number in range(MOST):
        work.submit(owner, number, lambda: go.wait(10))
        while any(place == (id(owner), number) for place in work._waiting):
            time.sleep(0.001)
    with caplog.at_level(logging.WARNING, "recollect"):
        for number in range(5):
            work.submit(owner, f"late {number}", lambda number=number: done.append(number))  # type: ignore[misc]
    assert "left to the session's next run" in caplog.text
    go.set()
    assert work.flush(timeout=10)
    assert done == [0, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_has_none_of_its_parents_work_and_can_have_its_own(work: Background) -> None:
    go, done = threading.Event(), threading.Event()
    owner = Owner()
    work.submit(owner, "s", lambda: (go.wait(10), done.set()))
    child = os.fork()
    if child == 0:
        own = threading.Event()
        fine = work.flush(owner, 1)
        work.submit(owner, "mine", own.set)
        os._exit(0 if fine and own.wait(5) and work.flush(owner, 5) else 1)
    assert os.waitpid(child, 0)[1] == 0
    go.set()
    assert work.flush(owner, 10)
    assert done.is_set()
