"""How long a run is surely still its holder's own: since its last sign of life that the database took.

A process that was stopped, or whose machine slept, does not feel it. So two clocks are asked: the one on the wall,
which goes on meanwhile but may be set, and one that nobody sets and that counts sleep, too.
"""

from __future__ import annotations

import time
from typing import Final

Moment = tuple[int, int]
"""Nanoseconds by both clocks."""

# Where the system's steady clock stands still while the machine sleeps, as on Linux, another one goes on.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def moment() -> Moment:
    """Now."""
    return time.time_ns(), time.monotonic_ns() if _STEADY is None else time.clock_gettime_ns(_STEADY)


class Lease:
    """When a run last gave a sign of life that the database took."""

    __slots__ = ("_signed",)

    def __init__(self) -> None:
        self._signed: Moment | None = None

    def sign(self, at: Moment) -> None:
        """A sign was taken that was given at this moment or after it."""
        self._signed = at

    def lasts(self, micros: int) -> bool:
        """Whether fewer microseconds have passed since the last sign, by either clock."""
        if self._signed is None:
            return False
        return all(0 <= now - then < micros * 1000 for now, then in zip(moment(), self._signed, strict=True))
