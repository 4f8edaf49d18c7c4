"""``python -m bench.check``: whether what is called often has become dearer than it was.

Where there is valgrind, instructions are counted, which come out the same on a busy machine. They are those of one
interpreter with one SQLite, so elsewhere, and without valgrind, the ratio to the floor is timed and compared instead.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench.children import ROOT
from bench.counted import cases
from bench.pace import interleave

BASELINE: Final = ROOT / "bench" / "baseline.json"
ROUNDS: Final = 5


class Measure(NamedTuple):
    """A way to say what a call takes."""

    unit: str
    digits: int
    bound: float
    """How many times the baseline is still no worse."""


INSTRUCTIONS: Final = Measure("instructions", 0, 1.05)
FLOORS: Final = Measure("times the floor", 2, 1.5)


class Baseline(msgspec.Struct, frozen=True):
    """What each call took when the baseline was written, by its name."""

    made_with: str
    instructions: dict[str, float]
    floors: dict[str, float]


def main(arguments: Sequence[str] | None = None, baseline: Path = BASELINE) -> int:
    """The program's exit code: 1 where something has become worse."""
    options = _options().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="recollect-check-") as folder:
        if options.write:
            made = Baseline(made_with(), _counted(Path(folder, "c"), options.rounds), _timed(Path(folder, "t"), 40))
            baseline.write_bytes(msgspec.json.format(msgspec.json.encode(made)) + b"\n")
            print(f"{baseline} is written")
            return 0
        before = msgspec.json.decode(baseline.read_bytes(), type=Baseline)
        if not options.times and shutil.which("valgrind") and before.made_with == made_with():
            return _told(INSTRUCTIONS, before.instructions, _counted(Path(folder), options.rounds))
        print(f"Timed, for the baseline was counted by valgrind with {before.made_with}.")
        return _told(FLOORS, before.floors, _timed(Path(folder), 8 * options.rounds))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.check", description="Compare what is called often with the baseline."
    )
    parser.add_argument("--write", action="store_true", help="make what is measured the new baseline; needs valgrind")
    parser.add_argument("--times", action="store_true", help="time the ratios to the floor, also where one could count")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often the longest are called ({ROUNDS})")
    return parser


def made_with() -> str:
    """What the number of instructions depends on, besides Recollect."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, SQLite {sqlite3.sqlite_version}, msgspec {version('msgspec')}, {platform.machine()}"


def _counted(folder: Path, rounds: int) -> dict[str, float]:
    """Instructions of one call of each case."""
    folder.mkdir(exist_ok=True)
    out = folder / "callgrind.out"
    callgrind = ["valgrind", "-q", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}"]
    program = [sys.executable, "-m", "bench.counted", str(folder), str(rounds)]
    # Without a seed every dictionary of texts has another order; what counts tokens is loaded in a thread of its own.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "RECOLLECT_TIKTOKEN": "off"}
    done = subprocess.run(
        [*callgrind, *program], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    # The first part ends as the first case begins; each case is followed by a part that belongs to none.
    return {what: round(_total(out, 2 * place + 2) / int(times)) for place, (times, what) in enumerate(lines)}


def _total(out: Path, part: int) -> int:
    """The instructions of one part of what callgrind counted."""
    text = out.with_name(f"{out.name}.{part}").read_text(encoding="utf-8")
    return int(text.rpartition("totals: ")[2])


def _timed(folder: Path, rounds: int) -> dict[str, float]:
    """How many times the floor each case takes."""
    folder.mkdir(exist_ok=True)
    return {case.what: round(interleave(*case.calls, case.rounds * rounds).ratio, 2) for case in cases(folder)}


def _told(measure: Measure, before: Mapping[str, float], now: Mapping[str, float]) -> int:
    """Print a line for each case; 1 where one is worse, or the baseline does not know it."""
    width = max(map(len, now))
    print(f"{'':{width}}  {'baseline':>12}  {'now':>12}  ratio  ({measure.unit}; worse above {measure.bound:g})")
    worse = False
    for what, took in now.items():
        known = before.get(what, 0.0)
        ratio = took / known if known else math.inf
        worse |= ratio > measure.bound
        shown = "  ".join(f"{number:12,.{measure.digits}f}" for number in (known, took))
        print(f"{what:{width}}  {shown}  {ratio:5.3f}  {'worse' if ratio > measure.bound else 'ok'}")
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
