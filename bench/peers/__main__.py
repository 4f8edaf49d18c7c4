"""``python -m bench.peers``: the same work by Recollect, its peers and the floor, in one run.

It makes an environment for each peer, measures, and writes ``bench/results.json``, ``bench/RESULTS.md`` and
``bench/plots/*.svg``.
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
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
from msgspec.structs import replace

from bench.children import ROOT
from bench.peers import crowd, history, kill, page, plots, size, start
from bench.peers.bench import QUICK, Bench, Effort, log, no_postgres, postgres
from bench.peers.environment import Unavailable, python_of, versions
from bench.peers.result import Cell, Report, compared
from bench.peers.roster import DISTRIBUTIONS, ROSTER, Entry
from bench.peers.written import written

GROUPS: Final[dict[str, Callable[[Bench], Iterator[Cell]]]] = {
    "history": history.cells,
    "page": page.cells,
    "size": size.cells,
    "crowd": crowd.cells,
    "kill": kill.cells,
    "start": start.cells,
}
HISTORY: Final = ("turn", "fresh", "load", "last")
"""What the cells of the group of histories are told apart by."""

PEERS: Final = sorted({entry.peer for entry in ROSTER})


def main(arguments: Sequence[str] | None = None, effort: Effort | None = None) -> None:
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _options().parse_args(given)
    if options.again:
        report = msgspec.json.decode(options.json.read_bytes(), type=Report)
        report = replace(report, cells=compared(report.cells, report.entries))
        _save(report, options.json)
    else:
        report = _measured(options, effort or (QUICK if options.quick else Effort()), _kept(options))
    pictures = [] if options.no_plots else plots.drawn(options.json, options.page.parent / "plots")
    text = written(report, pictures)
    options.page.write_text(text, encoding="utf-8")
    print(text)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Compare Recollect with its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter histories: to see that it runs")
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="this group (may be repeated)")
    parser.add_argument("--peer", action="append", choices=PEERS, help="this peer (may be repeated)")
    parser.add_argument("--sqlite", action="store_true", help="leave Postgres out")
    parser.add_argument("--json", type=Path, metavar="FILE", default=ROOT / "bench" / "results.json")
    parser.add_argument("--page", type=Path, metavar="FILE", default=ROOT / "bench" / "RESULTS.md")
    parser.add_argument("--renew", action="store_true", help="keep what the JSON has of other groups than --only's")
    parser.add_argument("--no-plots", action="store_true", help="leave the plots as they are")
    parser.add_argument("--again", action="store_true", help="write the page from the JSON, measuring nothing")
    return parser


def _command(options: argparse.Namespace) -> str:
    """What to type for the same run; where its results were written is left out."""
    chosen = [f"--{name} {value}" for name in ("only", "peer") for value in getattr(options, name) or ()]
    flags = [f"--{name}" for name in ("quick", "sqlite") if getattr(options, name)]
    return " ".join(["python -m bench.peers", *flags, *chosen])


def _kept(options: argparse.Namespace) -> Report | None:
    """What is there of groups that are not measured again."""
    if not options.renew:
        return None
    report = msgspec.json.decode(options.json.read_bytes(), type=Report)
    again = {told for name in options.only or GROUPS for told in (HISTORY if name == "history" else (name,))}
    return replace(report, cells=[one for one in report.cells if one.group not in again])


def _measured(options: argparse.Namespace, effort: Effort, kept: Report | None) -> Report:
    """The report, which is saved after each group: a long run that is ended leaves what it has."""
    began = perf_counter()
    pythons, left_out = _environments(options.peer or PEERS)
    missing = "left out" if options.sqlite else no_postgres()
    entries = [one for one in ROSTER if one.peer in pythons and (missing is None or one.backend != "postgres")]
    told = {peer: versions(python, DISTRIBUTIONS[peer]) for peer, python in pythons.items() if peer in DISTRIBUTIONS}
    report = Report(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=_machine(entries),
        command=_command(options),
        versions=told,
        left_out=left_out | ({} if missing is None else {"Postgres": missing}),
        entries=entries,
    )
    if kept is not None:
        report = replace(report, command=f"{kept.command}\n$ {report.command}", cells=kept.cells)
        began -= kept.seconds
    with tempfile.TemporaryDirectory(prefix="recollect-peers-") as folder:
        bench = Bench(Path(folder), entries, pythons, effort)
        report = replace(report, settings=_settings(bench))
        for name in options.only or GROUPS:
            since = perf_counter()
            cells = compared([*report.cells, *GROUPS[name](bench)], entries)
            report = replace(report, cells=cells, seconds=perf_counter() - began)
            _save(report, options.json)
            log(f"{name}: {perf_counter() - since:.0f} s")
    return report


def _save(report: Report, file: Path) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


def _environments(peers: Sequence[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """An interpreter for each peer that can be installed, and why the others cannot."""
    pythons, left_out = {}, {}
    for peer in peers:
        name = next(entry.environment for entry in ROSTER if entry.peer == peer)
        try:
            pythons[peer] = python_of(name)
        except Unavailable as error:
            left_out[peer] = str(error)
            log(f"{peer} is left out: {error}")
    return pythons, left_out


def _settings(bench: Bench) -> dict[str, dict[str, str]]:
    """What SQLite does for each store, as its own connection says."""
    found = {}
    for entry in bench.of("sqlite"):
        with bench.guests([entry]) as [guest]:
            found[entry.key] = {} if guest.gone else guest.peer.ask("settings", []).value
    return found


def _machine(entries: Sequence[Entry]) -> str:
    server = f", Postgres {postgres().version}" if any(entry.backend == "postgres" for entry in entries) else ""
    cores = f"{os.cpu_count()} cores (a load of {os.getloadavg()[0]:.1f} when it began)"
    programs = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}{server}"
    return f"{platform.system()} {platform.machine()}, {cores}, {programs}"


if __name__ == "__main__":
    main()
