"""Locks of threads that no interrupt (Ctrl-C) leaves taken."""

from __future__ import annotations

import threading
import time
from itertools import compress
from operator import call

from recollect.errors import DatabaseBusy

Mutex = threading.Lock
"""Holds others off for a moment, in which nothing waits."""


def is_main_thread() -> bool:
    """Whether this is the thread in which interrupts come."""
    return threading.current_thread() is threading.main_thread()


class Place:
    """A place in the queue for a `FairLock`, to be taken once; whoever comes next waits until it is no longer held.

    ``held`` is a lock of C's, so that no interrupt comes between taking it and the block that lets go of it::

        place = Place()
        with place.held:
            if lock.take(place, timeout):
                ...
    """

    __slots__ = ("ahead", "held", "thread")

    def __init__(self) -> None:
        self.held = Mutex()
        self.thread = threading.get_ident()
        self.ahead: Place | None = None
        """The place that comes before this one; None when it is this one's turn."""


class FairLock:
    """A lock that is handed on in the order in which it was asked for.

    An interrupt (Ctrl-C), which may come after any call, leaves it to the next in the queue.
    """

    def __init__(self) -> None:
        self._mutex = Mutex()
        self._last: Place | None = None
        self._holder: Place | None = None

    def held_here(self) -> bool:
        """Whether this very thread holds the lock: asking again would wait forever."""
        holder = self._holder
        return holder is not None and holder.thread == threading.get_ident() and holder.held.locked()

    def take(self, place: Place, timeout: float) -> bool:
        """Wait for the lock, at most ``timeout`` seconds, at a place that is held; False when that was not enough."""
        with self._mutex:
            place.ahead, self._last = self._last, place
        until = None
        while (ahead := place.ahead) is not None:
            until = until or time.monotonic() + timeout
            if ahead.held.locked() and not _is_let_go(ahead.held, until - time.monotonic()):
                return False
            place.ahead = ahead.ahead  # None, unless that one left before it was its turn
        self._holder = place
        return True

    def leave(self) -> None:
        """What was to be done is done; the lock is handed on when the place is no longer held."""
        self._holder = None


FEW = 8
"""Visits that a gate keeps in mind before it looks which of them are over."""


class Gate:
    """Many may be inside at once, each with a lock that is held meanwhile; while ``shut`` is held, nobody goes in."""

    def __init__(self) -> None:
        self.shut = Mutex()
        self._mutex = Mutex()
        self._inside: list[threading.Lock] = []

    def enter(self, visit: threading.Lock) -> None:
        """Go in, until the lock that is held is let go of."""
        while True:
            with self._mutex:
                if not self.shut.locked():
                    if len(self._inside) > FEW:  # those who left are taken out now and then
                        self._inside = [other for other in self._inside if other.locked()]
                    self._inside.append(visit)
                    return
            _is_let_go(self.shut, threading.TIMEOUT_MAX)

    def empty(self, timeout: float) -> None:
        """Wait until all have left; the gate is shut.

        Raises:
            DatabaseBusy: somebody was still inside after ``timeout`` seconds.
        """
        with self._mutex:
            inside = list(self._inside)
        until = time.monotonic() + timeout
        for visit in inside:
            if not _is_let_go(visit, until - time.monotonic()):
                raise DatabaseBusy(f"a read went on for more than {timeout:g} s")


def _is_let_go(lock: threading.Lock, seconds: float) -> bool:
    """Wait until somebody lets go of a lock, without keeping it; False when that took longer."""
    # One expression without a line of Python in it: no interrupt comes between taking the lock and letting go of it.
    return bool([*map(call, compress((lock.release,), map(lock.acquire, (True,), (max(0.0, seconds),))))])
