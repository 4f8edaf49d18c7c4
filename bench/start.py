"""What it takes to import Recollect and open a database, in fresh processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.children import said_by
from bench.pace import Pair, Spread
from bench.table import Budget, Line

GROUP: Final = "Import, in a fresh process; the floor is an empty program, the budgets are absolute"
CPU: Final = Budget(150, "median")
RSS: Final = Budget(30, "median")

# VmHWM is the program's own peak; ru_maxrss, where there is nothing better, counts what it was forked from as well.
_TELL: Final = """
import sys, time
cpu = time.process_time()
try:
    status = open("/proc/self/status").read()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
except OSError:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
print([cpu * 1000, peak])
"""

_IMPORT: Final = "import recollect\nrecollect.SqliteDb({file!r})\n"
_OPEN: Final = "import recollect\nrecollect.SqliteDb({file!r}).get_header('nobody')\n"
_AGENT: Final = """
import recollect
agent = recollect.Agent(model=recollect.EchoModel(), db=recollect.SqliteDb({file!r}))
agent.run("Hello", session_id="start")
"""


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    file = str(folder / "start.db")
    programs = (
        ("import recollect, SqliteDb(file)", _IMPORT, True),
        ("... and one read", _OPEN, False),
        ("... and an Agent and its run()", _AGENT, False),
    )
    for what, code, limited in programs:
        cpu, rss = _beside(folder, code.format(file=file), 5 if quick else 15)
        for name, pair, unit, budget in (("CPU", cpu, "ms", CPU), ("peak RSS", rss, "MB", RSS)):
            yield Line(
                group=GROUP,
                what=f"{what}: {name}",
                ours=pair.ours,
                floor=pair.floor,
                unit=unit,
                budget=budget if limited else None,
            )


def _beside(folder: Path, code: str, rounds: int) -> tuple[Pair, Pair]:
    """Milliseconds of CPU and megabytes at most, of a program and of an empty one."""
    said_by(folder, code + _TELL)  # compiles what was not compiled yet
    ours, floor = [], []
    for _ in range(rounds):
        ours.append(said_by(folder, code + _TELL))
        floor.append(said_by(folder, _TELL))
    cpu, rss = (
        Pair(Spread.of([one[place] for one in ours]), Spread.of([one[place] for one in floor])) for place in (0, 1)
    )
    return cpu, rss
