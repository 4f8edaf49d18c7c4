"""The lock that is handed on in order, and the gate that many pass, whoever gives up meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from recollect.errors import DatabaseBusy
from recollect.locks import FairLock, Gate, Mutex, Place


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Queue:
    """Threads that ask for one lock, each after the one before stands in the queue."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.lock = FairLock()
        self.had: list[str] = []
        self._threads = threads

    def ask(self, name: str, timeout: float = 10) -> Future[bool]:
        last = self.lock._last
        asked = self._threads.submit(self._have, name, timeout)
        until(lambda: self.lock._last is not last)
        return asked

    def _have(self, name: str, timeout: float) -> bool:
        place = Place()
        with place.held:
            had = self.lock.take(place, timeout)
            if had:
                self.had.append(name)
                assert self.lock.held_here()
                self.lock.leave()
        return had


def test_a_lock_is_handed_on_in_the_order_in_which_it_was_asked_for() -> None:
    with ThreadPoolExecutor(10) as threads:
        queue, mine = Queue(threads), Place()
        with mine.held:
            assert queue.lock.take(mine, 0)
            asked = [queue.ask(str(number)) for number in range(10)]
            time.sleep(0.01)
            assert queue.had == []
        assert all(each.result(10) for each in asked)
        assert queue.had == [str(number) for number in range(10)]
        assert not queue.lock.held_here()


def test_whoever_gives_up_leaves_the_place_to_those_behind() -> None:
    with ThreadPoolExecutor(10) as threads:
        queue, mine = Queue(threads), Place()
        with mine.held:
            assert queue.lock.take(mine, 0)
            hasty = [queue.ask(f"hasty {number}", 0.02) for number in range(2)]
            patient = queue.ask("patient")
            hasty.append(queue.ask("hasty too", 0.02))
            last = queue.ask("last")
            assert [each.result(10) for each in hasty] == [False] * 3
            time.sleep(0.01)
            assert queue.had == []
        assert patient.result(10)
        assert last.result(10)
        assert queue.had == ["patient", "last"]


def test_an_interrupt_while_it_waits_leaves_the_place_to_those_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, mine, interrupted, after = FairLock(), Place(), Place(), Place()
    mine.held.acquire()
    assert lock.take(mine, 0)

    def interrupt() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "monotonic", interrupt)
    with pytest.raises(KeyboardInterrupt), interrupted.held:
        lock.take(interrupted, 10)
    monkeypatch.undo()
    with after.held:
        assert not lock.take(after, 0.01)
    mine.held.release()
    last = Place()
    with last.held:
        assert lock.take(last, 0)


def test_a_gate_that_is_shut_keeps_others_out_and_waits_for_those_inside() -> None:
    gate, visit, entered = Gate(), Mutex(), threading.Event()

    def visit_later() -> None:
        later = Mutex()
        with later:
            gate.enter(later)
            entered.set()

    visitor = threading.Thread(target=visit_later, daemon=True)
    with visit:
        gate.enter(visit)
        with gate.shut:
            with pytest.raises(DatabaseBusy):
                gate.empty(0.01)
            visitor.start()
            assert not entered.wait(0.02)
    visitor.join(10)
    assert entered.is_set()
    with gate.shut:
        gate.empty(0)
