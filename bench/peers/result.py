"""What comes of a run: cells, each a number or a word for one store in one case, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from bench.pace import Spread
from bench.peers.roster import Backend, Entry, Kind


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One result."""

    group: str
    backend: Backend
    case: str
    who: str
    """The key of the store."""
    kind: Kind = "turn"
    """How a turn was taken, where that is what was measured."""
    spread: Spread | None = None
    """In seconds, bytes or what ``unit`` says; None where there is no number."""
    unit: str = "s"
    said: str = ""
    """What there is to say instead of a number, or beside it."""
    over_floor: float | None = None
    over_ours: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    date: str
    machine: str
    command: str
    versions: dict[str, dict[str, str]]
    left_out: dict[str, str]
    """Peers that took no part, and why."""
    entries: list[Entry]
    settings: dict[str, dict[str, str]] = {}
    """What SQLite does for each store: its journal and what it waits for."""
    cells: list[Cell] = []
    seconds: float = 0.0


def cell(group: str, case: str, entry: Entry, samples: Sequence[float], *, said: str = "", unit: str = "s") -> Cell:
    """A cell of these samples; without any, of what is said."""
    spread = Spread.of(samples) if samples else None
    return Cell(group=group, backend=entry.backend, case=case, who=entry.key, spread=spread, unit=unit, said=said)


def compared(cells: Iterable[Cell], entries: Iterable[Entry]) -> list[Cell]:
    """The cells with their ratios to the floor and to Recollect, of the same case."""
    every, roster = list(cells), {entry.key: entry for entry in entries}
    medians = {(one.group, one.case, one.who, one.kind): one.spread.median for one in every if one.spread is not None}

    def over(one: Cell, who: str, kind: Kind) -> float | None:
        base = medians.get((one.group, one.case, who, kind))
        if base is None and one.backend == "sqlite":  # not each durability was measured
            base = medians.get((one.group, one.case, who.partition("-")[0] + "-full", kind))
        return one.spread.median / base if one.spread is not None and base else None

    return [
        msgspec.structs.replace(
            one,
            over_floor=over(one, roster[one.who].floor, "turn"),
            over_ours=over(one, roster[one.who].ours, "run" if one.kind == "short" else one.kind),
        )
        if one.unit in COMPARED
        else one
        for one in every
    ]


COMPARED: Final = ("s", "bytes", "a second", "MB")
