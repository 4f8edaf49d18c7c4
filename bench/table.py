"""Lines of results, and how they are printed: the same text on the terminal and in bench/README.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, Literal

import msgspec

from bench.pace import Pair, Spread

HEAD: Final = ("what", "recollect", "floor", "ratio", "budget", "kept")


class Budget(msgspec.Struct, frozen=True):
    """A limit to the ratio, or to the median itself."""

    limit: float
    of: Literal["ratio", "median"] = "ratio"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One result."""

    group: str
    what: str
    ours: Spread
    floor: Spread | None = None
    unit: str = "us"
    budget: Budget | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the floor; None where there is none, or none that one could divide by."""
        return None if self.floor is None or not self.floor.median else self.ours.median / self.floor.median

    @property
    def kept(self) -> bool | None:
        """Whether the budget is kept; None where there is no budget."""
        if self.budget is None:
            return None
        reached = self.ratio if self.budget.of == "ratio" else self.ours.median
        return reached is not None and reached <= self.budget.limit


def line(group: str, what: str, pair: Pair, budget: float | Budget | None = None) -> Line:
    """The line of a thing that was timed beside its floor; a plain number limits the ratio."""
    limit = Budget(budget) if isinstance(budget, int | float) else budget
    return Line(group=group, what=what, ours=pair.ours, floor=pair.floor, budget=limit)


def table(lines: Iterable[Line]) -> str:
    """The lines as Markdown, a table for each group."""
    return "\n\n".join(_group(name, list(members)) for name, members in groupby(lines, key=lambda one: one.group))


def _group(name: str, lines: Sequence[Line]) -> str:
    cells = [HEAD, *(_cells(one) for one in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD))]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([f"### {name}", "", rows[0], rule, *rows[1:]])


def _cells(one: Line) -> tuple[str, ...]:
    return (
        one.what,
        _spread(one.ours, one.unit),
        "" if one.floor is None else _spread(one.floor, one.unit),
        "" if one.ratio is None else f"{one.ratio:.2f}x",
        "" if one.budget is None else _limit(one.budget, one.unit),
        "" if one.kept is None else "yes" if one.kept else "NO",
    )


def _limit(budget: Budget, unit: str) -> str:
    return f"<= {budget.limit:g}x" if budget.of == "ratio" else f"<= {_amount(budget.limit, unit)}"


def _spread(spread: Spread, unit: str) -> str:
    if spread.low == spread.high:
        return _amount(spread.median, unit)
    return f"{_amount(spread.median, unit)} ({_number(spread.low, unit)}-{_number(spread.high, unit)})"


def _amount(value: float, unit: str) -> str:
    return f"{value:.2f}x" if unit == "x" else f"{_number(value, unit)} {unit}".rstrip()


def _number(value: float, unit: str) -> str:
    if unit in ("", "bytes"):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
