"""Work after the reply: names and summaries, done by a few daemon threads of the process, whichever face ran the turn.

A task left behind by `asyncio.run` would be cancelled, and a thread that is waited for would hold up the reply. What is
lost with the process is no loss: that it is due is a fact of the session's header, and the next run does it.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

from recollect.forking import OfProcess

log = logging.getLogger("recollect")

MOST: Final = 4
"""Threads at once: one model that does not answer must not hold up everybody's names."""

IDLE: Final = 5.0
"""Seconds after which a thread without work ends."""

AT_EXIT: Final = 10.0
"""Seconds that the end of the program waits for what is under way."""

CAPACITY: Final = 10_000
"""Jobs that may wait; further ones are left to the sessions' next runs."""

Job = Callable[[], None]
Key = tuple[Hashable, ...]


def aside(name: str, job: Job) -> bool:
    """Do something in a thread that nobody waits for, not even the end of the program; False where there is none."""
    try:
        threading.Thread(target=job, name=name, daemon=True).start()
    except RuntimeError as error:  # the interpreter ends, or the system has no thread left
        log.debug("%s is not begun: %s", name, error)
        return False
    return True


class Background(OfProcess):
    """Jobs that wait and jobs under way, each for an owner; jobs with the same key are done one after the other."""

    def _begin_process(self) -> None:
        # Taken by itself: an interrupt may come before a condition's `__exit__` has done anything.
        self._mutex = threading.RLock()
        self._changed = threading.Condition(self._mutex)
        self._waiting: dict[Key, Job] = {}
        self._running: set[Key] = set()
        self._threads = 0
        self._idle = 0
        self._hooked = False

    def submit(self, owner: object, key: Hashable, job: Job) -> None:
        """Have a job done soon; it takes the place of one with the same key that has not begun."""
        place = (id(owner), key)
        with self._mutex:
            if place not in self._waiting and len(self._waiting) >= CAPACITY:
                log.warning("%d pieces of work wait already; one more is left to the session's next run", CAPACITY)
                return
            self._waiting[place] = job
            if not self._idle and self._threads < MOST:
                self._start()
            self._changed.notify_all()

    def flush(self, owner: object = None, timeout: float | None = None) -> bool:
        """Wait until nothing of this owner, or of anybody, waits or is under way; False when time was up before."""
        with self._mutex:
            return self._changed.wait_for(lambda: not self._open(owner), timeout)

    def settle(self, owner: object, timeout: float) -> None:
        """As `flush`, for an owner that closes: what has not begun by then is dropped."""
        if self.flush(owner, timeout):
            return
        with self._mutex:
            dropped = [place for place in self._waiting if place[0] == id(owner)]
            for place in dropped:
                del self._waiting[place]
            self._changed.notify_all()
        log.warning("closed before all names and summaries were made; %d are left to the next runs", len(dropped) + 1)

    def _open(self, owner: object) -> bool:
        return any(owner is None or place[0] == id(owner) for place in (*self._waiting, *self._running))

    def _start(self) -> None:
        if not self._hooked:
            self._hooked = True
            atexit.register(self._at_exit)
        thread = threading.Thread(target=self._work, name="recollect-background", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter ends, or the system has no thread left
            log.warning("names and summaries are left to the next runs: %s", error)
        else:
            self._threads += 1

    def _at_exit(self) -> None:
        if not self.flush(timeout=AT_EXIT):
            log.warning("the program ends before all names and summaries are made; the next runs make them")

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            place, job = taken
            try:
                job()
            except BaseException:  # nobody waits for it: it is told, and the thread goes on
                log.exception("work in the background failed")
            del job, taken
            with self._mutex:
                self._running.discard(place)
                self._changed.notify_all()

    def _take(self) -> tuple[Key, Job] | None:
        """The next job whose like is not under way; None when there was none for a while, and the thread ends."""
        until = time.monotonic() + IDLE
        with self._mutex:
            self._idle += 1
            try:
                while True:
                    place = next((place for place in self._waiting if place not in self._running), None)
                    if place is not None:
                        self._running.add(place)
                        return place, self._waiting.pop(place)
                    if not self._changed.wait(until - time.monotonic()):
                        self._threads -= 1
                        return None
            finally:
                self._idle -= 1


BACKGROUND: Final = Background()
