"""``python -m bench``: measure, and print the ratios.

A measurement tells; it never fails for a budget that is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

import recollect
from bench import cache, cold, crowd, fork, inbox, last, load, page, postgres, routes, search, size, start, tasks, turn
from bench.table import Line, table

GROUPS: Final[dict[str, Callable[..., Iterator[Line]]]] = {
    "turn": turn.lines,
    "cold": cold.lines,
    "last": last.lines,
    "load": load.lines,
    "fork": fork.lines,
    "cache": cache.lines,
    "page": page.lines,
    "size": size.lines,
    "start": start.lines,
    "routes": routes.lines,
    "inbox": inbox.lines,
    "crowd": crowd.lines,
    "tasks": tasks.lines,
    "postgres": postgres.lines,
    "postgres-page": postgres.pages,
    "search": search.lines,
    "postgres-search": search.postgres_lines,
}
LARGE: Final[dict[str, Callable[..., Iterator[Line]]]] = {
    name: GROUPS[name] for name in ("page", "inbox", "postgres-page", "search", "postgres-search")
}
"""Groups that may be measured among a million sessions, or messages, too."""
MARKS: Final = ("<!-- printed -->\n", "<!-- end -->\n")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    # Each process that takes a turn would load tiktoken's vocabulary beside it, for half a second.
    os.environ["RECOLLECT_TIKTOKEN"] = "off"
    lines: list[Line] = []
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="recollect-bench-") as folder:
        for name in options.only or GROUPS:
            lines += _measured(name, Path(folder), quick=options.quick)
        for name in options.only or GROUPS:
            if options.large and name in LARGE:
                lines += LARGE[name](Path(folder), quick=options.quick, count=1_000_000)
    report = _report(lines, perf_counter() - began)
    print(report)
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode([_plain(one) for one in lines]))
    if options.write is not None:
        _write(options.write, report)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Recollect against its budgets.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under a minute, and noisier")
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="this group (may be repeated)")
    parser.add_argument(
        "--large", action="store_true", help="pages among a million sessions or messages, too: 20 minutes more"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put what is printed between the marks of a page")
    return parser


def _measured(name: str, folder: Path, *, quick: bool) -> list[Line]:
    began = perf_counter()
    lines = list(GROUPS[name](folder, quick=quick))
    print(f"{name}: {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return lines


def _report(lines: Sequence[Line], seconds: float) -> str:
    versions = ", ".join(
        (
            f"recollect {recollect.__version__}",
            f"Python {platform.python_version()}",
            f"SQLite {sqlite3.sqlite_version}",
            f"msgspec {version('msgspec')}",
        )
    )
    return "\n".join(
        (
            f"{datetime.now(UTC):%Y-%m-%d}, {versions}; {_machine()}; {seconds:.0f} s. Medians (quartiles).",
            "",
            table(lines),
            "",
            _verdict(lines),
        )
    )


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _verdict(lines: Sequence[Line]) -> str:
    limited = [one for one in lines if one.kept is not None]
    missed = [f"- {one.group.partition(';')[0]}: {one.what}" for one in limited if not one.kept]
    return "\n".join(
        [f"{len(limited) - len(missed)} of {len(limited)} budgets kept.", *(["Missed:", "", *missed] if missed else [])]
    )


def _plain(one: Line) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(one)
    return fields | {"ratio": one.ratio, "kept": one.kept}


def _write(file: Path, report: str) -> None:
    before, begin, rest = file.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        sys.exit(f"{file} lacks the lines {MARKS[0].strip()} and {MARKS[1].strip()}; nothing was written there")
    file.write_text(f"{before}{begin}\n{report}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
