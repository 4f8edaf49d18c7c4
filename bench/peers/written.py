"""The page: every number of a run, beside what one should know to read it. Nothing on it is written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from bench.pace import Spread
from bench.peers import notes
from bench.peers.result import Cell, Report
from bench.peers.roster import KINDS, Entry

BACKENDS: Final = {"sqlite": "SQLite", "postgres": "Postgres"}
SECONDS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))

TIMED: Final = (
    ("turn", "Turns in a process that goes on", notes.TURN),
    ("fresh", "Turns in a fresh process", notes.FRESH),
    ("load", "Full load", notes.LOAD),
    ("last", "The last three turns", notes.LAST),
    ("page", "Pages of sessions", notes.PAGE),
    ("size", "Bytes", notes.SIZE),
)
WORDS: Final = (
    ("crowd", "Four processes on one session", notes.CROWD),
    ("kill", "Killed while the model is thinking", notes.KILL),
    ("start", "Import", notes.START),
)
PICTURES: Final = {
    "turn": ("turn-sqlite.svg", "turn-postgres.svg"),
    "fresh": ("fresh-sqlite.svg", "fresh-postgres.svg"),
    "page": ("page.svg",),
    "size": ("size.svg",),
}


def written(report: Report, pictures: Sequence[str]) -> str:
    """The whole page, as Markdown."""
    page = _Page(report, pictures)
    parts = [
        "# Recollect beside its peers",
        _head(report),
        "## How to read this\n\n" + notes.READING,
        *(page.timed(*section) for section in TIMED),
        *(page.words(*section) for section in WORDS),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _head(report: Report) -> str:
    versions = [
        [peer.replace("_", "-"), ", ".join(f"{name} {number}" for name, number in found.items())]
        for peer, found in report.versions.items()
    ]
    left_out = [f"- Left out: {who}: {why}" for who, why in report.left_out.items()]
    return "\n".join(
        [
            f"Measured on {report.date} in {report.seconds / 60:.0f} minutes: {report.machine}.",
            "The numbers of this page are of these runs of the committed scripts, which also wrote it; those of a",
            "section, and with them its ratios, are always of one run:",
            "",
            "```console",
            f"$ {report.command}",
            "```",
            "",
            "`make bench-peers` does the same, and makes what it needs; with `ARGS=--quick` it does less of each, to",
            "see that it runs. All numbers are in [results.json](results.json).",
            "",
            _table(["peer", "versions"], versions),
            *(["", *left_out] if left_out else []),
        ]
    )


class _Page:
    """The sections of a report."""

    def __init__(self, report: Report, pictures: Sequence[str]) -> None:
        self.report = report
        self.pictures = pictures
        self.entries = {entry.key: entry for entry in report.entries}

    def timed(self, group: str, title: str, note: str) -> str:
        """A section of numbers: one table to see all, and one for each case with quartiles and ratios."""
        cells = [one for one in self.report.cells if one.group == group]
        if not cells:
            return ""
        parts = [f"## {title}", note, *self._pictures(group)]
        for backend, name in BACKENDS.items():
            here = [one for one in cells if one.backend == backend]
            if here:
                parts += [f"### {title}: {name}", self._overview(here)]
                parts += [self._details(group, name, case, here) for case in _cases(here)]
        return "\n\n".join(parts)

    def words(self, group: str, title: str, note: str) -> str:
        """A section of one table for each database: a row for each store, a column for each thing that is told."""
        cells = [one for one in self.report.cells if one.group == group]
        if not cells:
            return ""
        parts = [f"## {title}", note]
        for backend, name in BACKENDS.items():
            here = [one for one in cells if one.backend == backend]
            if here:
                parts += [f"### {title}: {name}", self._overview(here, ratios=True)]
        return "\n\n".join(parts)

    def _pictures(self, group: str) -> list[str]:
        return [
            f"![{name.removesuffix('.svg')}](plots/{name})" for name in PICTURES.get(group, ()) if name in self.pictures
        ]

    def _overview(self, cells: Sequence[Cell], *, ratios: bool = False) -> str:
        cases = _cases(cells)
        is_turn = len({one.kind for one in cells}) > 1
        rows = []
        measured = {(one.who, one.kind) for one in cells}
        rowed = ((entry.key, kind) for entry in self.report.entries for kind in KINDS)
        for who, kind in (row for row in rowed if row in measured):
            found = {one.case: one for one in cells if (one.who, one.kind) == (who, kind)}
            texts = [_brief(found.get(case), ratios=ratios) for case in cases]
            anchor = f'<a id="{cells[0].group}-{who}-{kind}"></a>' if ratios else ""
            rows.append([anchor + self._label(who), *([KINDS[kind]] if is_turn else []), *texts])
        return _table(["", *(["turn"] if is_turn else []), *cases], rows)

    def _details(self, group: str, backend: str, case: str, cells: Sequence[Cell]) -> str:
        head = ["", "turn", "median (quartiles)", "x floor", "x Recollect", "samples"]
        is_turn = group in ("turn", "fresh")
        has_settings = backend == "SQLite"
        rows = []
        for one in cells:
            if one.case == case:
                row = [
                    self._anchor(group, one) + self._label(one.who),
                    KINDS[one.kind],
                    _whole(one),
                    _ratio(one.over_floor),
                    _ratio(one.over_ours),
                    str(one.spread.count) if one.spread else "",
                ]
                rows.append([*row, *([self._settings(one.who)] if has_settings else [])])
        head += ["SQLite"] if has_settings else []
        if not is_turn:
            head, rows = _without(1, head), [_without(1, row) for row in rows]
        return f"#### {_capital(case)}, {backend}\n\n{_table(head, rows)}"

    def _anchor(self, group: str, one: Cell) -> str:
        case = "".join(letter if letter.isalnum() else "-" for letter in one.case.replace(",", ""))
        name = f"{group}-{case}-{one.who}-{one.kind}" if group in ("turn", "fresh") else f"{group}-{case}-{one.who}"
        return f'<a id="{name}"></a>'

    def _label(self, who: str) -> str:
        entry: Entry = self.entries[who]
        return f"**{entry.label}**" if entry.peer == "recollect" else entry.label

    def _settings(self, who: str) -> str:
        told = self.report.settings.get(who) or {}
        return ", ".join(told.values())


def _cases(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(one.case for one in cells))


def _brief(one: Cell | None, *, ratios: bool) -> str:
    if one is None:
        return ""
    if one.spread is None:
        return _shortened(one.said)
    ratio = f" ({one.over_ours:.2g}x)" if ratios and one.over_ours is not None else ""
    return amount(one.spread.median, one.unit) + ratio


def _shortened(said: str) -> str:
    return "not measured" if said.startswith("not measured") else said


def _whole(one: Cell) -> str:
    if one.spread is None:
        return one.said
    return f"{spread(one.spread, one.unit)}{f'; {one.said}' if one.said else ''}"


def spread(found: Spread, unit: str) -> str:
    if found.low == found.high:
        return amount(found.median, unit)
    return f"{amount(found.median, unit)} ({amount(found.low, unit)}-{amount(found.high, unit)})"


def amount(value: float, unit: str) -> str:
    """A number in a unit that suits it."""
    if unit == "bytes":
        return f"{value / 1e9:,.2f} GB" if value >= 1e9 else f"{value / 1e6:,.2f} MB"
    if unit != "s":
        return f"{_figures(value)} {unit}" if unit == "MB" else _figures(value)
    size, name = next(((size, name) for size, name in SECONDS if value >= size), SECONDS[-1])
    return f"{_figures(value / size)} {name}"


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{_figures(value)}x"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _without(place: int, row: Sequence[str]) -> list[str]:
    return [*row[:place], *row[place + 1 :]]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
