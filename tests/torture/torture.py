"""Many processes on a few sessions of one database, killed and stopped at random moments; then everything is checked.

``python tests/torture/torture.py --seconds 60 --processes 8`` prints the seed; ``--seed`` repeats the same decisions.
``--db`` names another database than a new file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torture_actor as work
import torture_worker
from torture_check import Line, check
from torture_worker import open_db

WORKER = Path(torture_worker.__file__)


class Worker:
    """One process, and the log that it writes."""

    def __init__(self, number: int, plan: dict[str, Any], folder: Path, lost: list[tuple[str, str]]) -> None:
        self.log = folder / f"{number}.jsonl"
        made = plan | {"worker": number, "log": str(self.log), "lost": lost, "make": number == 0}
        self.process = subprocess.Popen([sys.executable, str(WORKER), json.dumps(made)])

    def lines(self) -> list[Line]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def lost(self) -> list[tuple[str, str]]:
        """Runs in sessions that stay of which it was not told how they ended."""
        tried = {line["run"]: line["session"] for line in self.lines() if line["what"] == "try" and "run" in line}
        known = {line["run"] for line in self.lines() if line["what"] == "run"}
        return [(session, run) for run, session in tried.items() if run not in known and session in work.KEPT]


@dataclass
class Report:
    """What came of it."""

    wrong: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    killed: int = 0
    stopped: int = 0

    def __str__(self) -> str:
        done = Counter(line["what"] for line in self.lines)
        refused = Counter(f"{line['deed']}: {line['error']}" for line in self.lines if line["what"] == "refused")
        ended = Counter(line["status"] for line in self.lines if line["what"] == "run" and line["run"])
        counts = {"killed": self.killed, "stopped": self.stopped, **done}
        return f"{counts}\nruns {dict(ended)}\nrefused {dict(refused)}"


def torment(
    folder: Path, *, seed: int, seconds: float, processes: int, durability: str = "normal", db: str | None = None
) -> Report:
    """Let them work, kill and stop some; then check everything. ``db`` is a file or an address; None: a new file."""
    report = Report()
    rng = random.Random(seed)
    where = db or str(folder / "torture.db")
    open_db(where).close()
    until = time.monotonic() + seconds
    plan = {"seed": seed, "db": where, "until": until, "durability": durability}
    workers = [Worker(0, plan, folder, [])]
    while not workers[0].log.exists():
        time.sleep(0.02)
    workers += [Worker(number, plan, folder, []) for number in range(1, processes)]
    alive, everyone = list(workers), list(workers)
    while time.monotonic() < until - 1:
        time.sleep(rng.uniform(0.1, 0.6))
        victim = alive[rng.randrange(len(alive))]
        if rng.random() < 0.4:
            report.killed += 1
            os.kill(victim.process.pid, signal.SIGKILL)
            victim.process.wait()
            alive.remove(victim)
            alive.append(Worker(len(everyone), plan, folder, victim.lost()))
            everyone.append(alive[-1])
        else:
            stopped = rng.sample(alive, 1 + len(alive) // 4)
            report.stopped += len(stopped)
            for one in stopped:
                os.kill(one.process.pid, signal.SIGSTOP)
            time.sleep(rng.choice((0.1, 1.3, 1.6)))
            for one in stopped:
                os.kill(one.process.pid, signal.SIGCONT)
    for one in alive:
        if one.process.wait(timeout=60):
            report.wrong.append(f"process {one.log.stem} ended with {one.process.returncode}")
    report.lines = sorted((line for one in everyone for line in one.lines()), key=lambda line: float(line["at"]))
    with open_db(where) as store:
        report.wrong += check(store, report.lines)
    return report


@contextmanager
def address(db: str | None) -> Iterator[str | None]:
    """Where the sessions are; ``postgres`` is a database on the tests' own server, gone afterwards."""
    if db != "postgres":
        yield db
        return
    sys.path.append(str(Path(__file__).parents[1]))
    from postgres_kit import postgres_url

    with postgres_url() as url:
        yield url


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--durability", choices=["full", "normal"], default="normal")
    parser.add_argument("--db", help="a file, an address, or postgres for a server of the tests' own")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    given = parser.parse_args()
    say = sys.stdout.write
    say(f"seed {given.seed}, {given.processes} processes, {given.seconds:g} s\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="recollect-torture-") as folder, address(given.db) as db:
        report = torment(Path(folder), **vars(given) | {"db": db})
    say(f"{report}\n")
    say("".join(f"WRONG: {problem}\n" for problem in report.wrong))
    say(f"{len(report.wrong)} wrong; repeat with --seed {given.seed}\n")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
