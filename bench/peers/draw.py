"""Draws the plots: ``python -m bench.peers.draw RESULTS FOLDER`` in an environment that has matplotlib.

Dark on a white card, so that they can be read on a dark page too; each line and bar is labelled where it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from math import log10
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

COLOURS: Final = {
    "recollect": "#0b5fff",
    "floor": "#57606a",
    "agno": "#d1242f",
    "openai_agents": "#1a7f37",
    "google_adk": "#b35900",
    "langgraph": "#8250df",
    "langchain": "#0a7e8c",
}
INK: Final = "#24292f"
FAINT: Final = "#d0d7de"
KINDS: Final = {"run": "A whole run by the peer's own runtime", "turn": "The store alone: load, then append"}
BACKENDS: Final = {"sqlite": "SQLite", "postgres": "Postgres"}
SECONDS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
TITLE: Final = 0.2
"""Inches between the title of a figure and its panels."""
MEMORY: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))

Series = dict[str, list[tuple[float, float]]]


class Results:
    """What was measured, by group and store."""

    def __init__(self, file: Path) -> None:
        told = json.loads(file.read_text(encoding="utf-8"))
        self.entries: dict[str, dict[str, Any]] = {entry["key"]: entry for entry in told["entries"]}
        self.cells: list[dict[str, Any]] = [one for one in told["cells"] if one["spread"] is not None]

    def lines(self, backend: str, kind: str, group: str = "turn") -> Series:
        """By store: the number of the turn, and its median."""
        found: Series = {}
        for one in self.cells:
            if one["group"] == group and one["backend"] == backend and (one["kind"] == kind or self._is_base(one)):
                turn = int(one["case"].split()[-1].replace(",", ""))
                found.setdefault(one["who"], []).append((turn, one["spread"]["median"]))
        return found

    def _is_base(self, one: dict[str, Any]) -> bool:
        return one["who"] in ("floor-full", "floor-postgres") and one["kind"] == "turn"

    def bars(self, group: str, backend: str, case: str) -> list[tuple[str, float]]:
        """Stores and their medians, the smallest first."""
        found = [
            (one["who"], one["spread"]["median"])
            for one in self.cells
            if one["group"] == group and one["backend"] == backend and one["case"] == case
        ]
        return sorted(found, key=lambda pair: pair[1])

    def cases(self, group: str) -> list[str]:
        return list(dict.fromkeys(one["case"] for one in self.cells if one["group"] == group))

    def colour(self, who: str) -> str:
        return COLOURS[self.entries[who]["peer"]]

    def label(self, who: str) -> str:
        return str(self.entries[who]["label"]).removesuffix(", WAL, full").replace(" (beta)", "")


def amount(value: float, units: Sequence[tuple[float, str]]) -> str:
    """A number with its unit, to three figures."""
    size, unit = next(((size, unit) for size, unit in units if value >= size), units[-1])
    number = value / size
    return f"{number:.0f} {unit}" if number >= 99.5 else f"{number:.2g} {unit}"


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Heights for labels: near what they name, and never nearer to one another than the gap. In logarithms."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    found = list(places)
    for _ in range(200):
        for low, high in pairwise(order):
            short = gap - (found[high] - found[low])
            if short > 1e-6:
                found[low] -= short / 2
                found[high] += short / 2
    return found


def turns(results: Results, backend: str, group: str, title: str, folder: Path) -> str | None:
    """What a turn costs by how many came before; one panel for runtimes, one for bare stores."""
    panels = {kind: results.lines(backend, kind, group) for kind in KINDS}
    if not any(panels.values()):
        return None
    figure, axes = plt.subplots(1, len(KINDS), figsize=(12, 5.2), sharey=True)
    for axis, (kind, lines) in zip(axes, panels.items(), strict=True):
        _panel(axis, results, lines, KINDS[kind])
    axes[0].yaxis.set_major_formatter(lambda value, _: amount(value, SECONDS))
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    return _saved(figure, folder, f"{group}-{backend}")


def _panel(axis: Any, results: Results, lines: Series, title: str) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    ends = []
    for who, points in lines.items():
        xs, ys = zip(*sorted(points), strict=True)
        is_ours, is_floor = who.startswith("recollect"), who.startswith("floor")
        style = (0, (4, 2)) if is_floor or who in ("recollect-normal", "recollect-cached") else "-"
        axis.plot(
            xs,
            ys,
            color=results.colour(who),
            linewidth=2.6 if is_ours else 1.5,
            linestyle=style,
            marker="o",
            markersize=4 if is_ours else 3,
            zorder=3 if is_ours else 2,
        )
        ends.append((who, xs[-1], ys[-1]))
    _label_ends(axis, results, ends)
    axis.set_title(title, loc="left", fontsize=11, color=INK)
    axis.set_xlabel("which turn of its session", color=INK)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.grid(visible=True, which="major", color=FAINT, linewidth=0.6)
    axis.minorticks_off()


def _label_ends(axis: Any, results: Results, ends: Sequence[tuple[str, float, float]]) -> None:
    if not ends:
        return
    low, high = (log10(limit) for limit in axis.get_ylim())
    heights = apart([log10(y) for _, _, y in ends], (high - low) / 19)
    furthest = max(x for _, x, _ in ends)
    for (who, x, y), height in zip(ends, heights, strict=True):
        axis.annotate(
            f"{results.label(who)}  {amount(y, SECONDS)}{'' if x == furthest else f' at {x:,.0f}'}",
            xy=(x, y),
            xytext=(furthest * 1.5, 10**height),
            fontsize=8.5,
            color=results.colour(who),
            fontweight="bold" if who.startswith("recollect") else "normal",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )


def bars(results: Results, group: str, cases: Sequence[str], title: str, units: Any, folder: Path) -> str | None:
    """A panel for each case and database: who takes how much, on a scale of powers of ten."""
    panels = [(case, backend) for backend in BACKENDS for case in cases if results.bars(group, backend, case)]
    if not panels:
        return None
    rows = [len(results.bars(group, backend, case)) for case, backend in panels]
    heights = [count + 1.6 for count in rows]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 0.34 * sum(heights) + 0.5), height_ratios=heights, sharex=True, squeeze=False
    )
    for axis, (case, backend) in zip(axes[:, 0], panels, strict=True):
        _bars(axis, results, results.bars(group, backend, case), units)
        axis.set_title(f"{BACKENDS[backend]}: {case}", loc="left", fontsize=11, color=INK)
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    return _saved(figure, folder, group)


def _bars(axis: Any, results: Results, values: Sequence[tuple[str, float]], units: Any) -> None:
    axis.set_xscale("log")
    for place, (who, value) in enumerate(values):
        is_ours = who.startswith("recollect")
        axis.plot(value, place, "o", color=results.colour(who), markersize=8 if is_ours else 6)
        axis.annotate(
            amount(value, units),
            xy=(value, place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
            annotation_clip=False,
        )
    axis.set_yticks(range(len(values)), [results.label(who) for who, _ in values])
    for label, (who, _) in zip(axis.get_yticklabels(), values, strict=True):
        label.set_color(results.colour(who))
        label.set_fontweight("bold" if who.startswith("recollect") else "normal")
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.xaxis.set_major_formatter(lambda value, _: amount(value, units))
    axis.grid(visible=True, which="major", color=FAINT, linewidth=0.6)
    axis.minorticks_off()


def _saved(figure: Any, folder: Path, name: str) -> str:
    file = f"{name}.svg"
    figure.tight_layout(rect=(0, 0, 1, 1 - TITLE / figure.get_figheight()))
    figure.savefig(folder / file, bbox_inches="tight", pad_inches=0.15, facecolor="white", metadata={"Date": None})
    plt.close(figure)
    return file


def main(results: str, folder: str) -> None:
    plt.rcParams.update(
        {
            "font.family": "sans-serif",
            "svg.hashsalt": "recollect",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": FAINT,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.labelcolor": INK,
        }
    )
    found, place = Results(Path(results)), Path(folder)
    drawn = [
        turns(found, backend, group, f"A turn on {name}, {where}", place)
        for backend, name in BACKENDS.items()
        for group, where in (("turn", "in a process that goes on"), ("fresh", "the first of a fresh process"))
    ]
    sizes = found.cases("size")
    drawn.append(bars(found, "size", sizes, "What conversations take on disk", MEMORY, place))
    *some, deepest = [case for case in found.cases("page") if not case.startswith("by name")] or [""]
    pages = [*(case for case in some if case.startswith("first page")), deepest]
    drawn.append(bars(found, "page", pages, "A page of 20 sessions", SECONDS, place))
    sys.stdout.write(" ".join(name for name in drawn if name))


if __name__ == "__main__":
    main(*sys.argv[1:])
