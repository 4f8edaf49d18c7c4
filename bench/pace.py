"""How long things take: in turns with their floor, so that both meet the same moods of the machine."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

import msgspec

Calls = tuple[Callable[[], object], Callable[[], object]]
"""A thing, and its floor."""

WARM: Final = 3
"""Calls that are not timed, before those that are."""


class Spread(msgspec.Struct, frozen=True):
    """Samples of one thing: their median, and the quartiles around it."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        if len(samples) < 2:
            return cls(samples[0], samples[0], samples[0], 1)
        low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(middle, low, high, len(samples))


class Pair(msgspec.Struct, frozen=True):
    """The thing and its floor, measured in the same minutes."""

    ours: Spread
    floor: Spread

    @property
    def ratio(self) -> float:
        """How many times the floor."""
        return self.ours.median / self.floor.median


def interleave(ours: Callable[[], object], floor: Callable[[], object], rounds: int) -> Pair:
    """Time both in turns, in microseconds a call."""
    [pair] = together([(ours, floor)], rounds)
    return pair


def together(calls: Sequence[Calls], rounds: int) -> list[Pair]:
    """Time several things, each beside its floor, all in turns: what they have in common weighs on all alike."""
    for _ in range(WARM):
        for ours, floor in calls:
            ours()
            floor()
    gc.collect()
    gc.freeze()  # what was made until now is not walked through again while the clock runs
    samples: list[tuple[list[float], list[float]]] = [([], []) for _ in calls]
    for _ in range(rounds):
        for (ours, floor), (one, other) in zip(calls, samples, strict=True):
            one.append(clock(ours))
            other.append(clock(floor))
    gc.unfreeze()
    return [Pair(Spread.of(one), Spread.of(other)) for one, other in samples]


def clock(call: Callable[[], object]) -> float:
    """Microseconds that a call takes."""
    began = perf_counter()
    call()
    return (perf_counter() - began) * 1e6
