"""Many processes on a few sessions of one file, killed and stopped at random moments; then everything is checked.

``python tests/torture/torture.py --seconds 60 --processes 8`` prints the seed; ``--seed`` repeats the same decisions.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torture_worker as work

from recollect import Agent, EchoModel, RunStatus, SqliteDb
from recollect.doctor import database
from recollect.port import Tx, reads

WORKER = Path(work.__file__)
Line = dict[str, Any]


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


def torment(folder: Path, *, seed: int, seconds: float, processes: int, durability: str = "normal") -> Report:
    """Let them work, kill and stop some; then check everything."""
    report = Report()
    rng = random.Random(seed)
    file = folder / "torture.db"
    SqliteDb(file).close()
    until = time.monotonic() + seconds
    plan = {"seed": seed, "file": str(file), "until": until, "durability": durability}
    workers = [Worker(0, plan, folder, [])]
    while not workers[0].log.exists():
        time.sleep(0.02)
    workers += [Worker(number, plan, folder, []) for number in range(1, processes)]
    alive, everyone = list(workers), list(workers)
    while time.monotonic() < until - 1:
        time.sleep(rng.uniform(0.1, 0.9))
        victim = alive[rng.randrange(len(alive))]
        if rng.random() < 0.5:
            report.killed += 1
            os.kill(victim.process.pid, signal.SIGKILL)
            victim.process.wait()
            alive.remove(victim)
            alive.append(Worker(len(everyone), plan, folder, victim.lost()))
            everyone.append(alive[-1])
        else:
            report.stopped += 1
            os.kill(victim.process.pid, signal.SIGSTOP)
            time.sleep(rng.choice((0.1, 1.5)))
            os.kill(victim.process.pid, signal.SIGCONT)
    for one in alive:
        if one.process.wait(timeout=60):
            report.wrong.append(f"process {one.log.stem} ended with {one.process.returncode}")
    report.lines = sorted((line for one in everyone for line in one.lines()), key=lambda line: float(line["at"]))
    with SqliteDb(file) as db:
        report.wrong += check(db, report.lines)
    return report


def check(db: SqliteDb, lines: list[Line]) -> Iterator[str]:
    """What of all that was acknowledged is not so."""
    yield from (f"{line['actor']} in {line['session']}: {line['problem']}" for line in lines if "problem" in line)
    yield from (f"{one.check}: {one.detail} {one.examples}" for one in database(db) if one.status == "problem")
    for session_id in work.KEPT:
        of_session = [line for line in lines if line.get("session") == session_id]
        yield from check_runs(db, session_id, of_session)
        yield from check_values(db, session_id, of_session)
    for session_id in work.DELETED:
        yield from check_deleted(db, session_id, lines)
    yield from check_order(db, lines)
    yield from check_free(db)


def check_runs(db: SqliteDb, session_id: str, lines: list[Line]) -> Iterator[str]:
    """Every acknowledged run is there once, and complete."""
    session = db.get_session(session_id)
    assert session is not None
    stored = {run.run_id: run for run in session.runs}
    if len(stored) != len(session.runs):
        yield f"{session_id}: a run is there twice"
    told = {line["run"]: line for line in lines if line["what"] == "run" and line["run"]}
    tried = {line["run"]: line for line in lines if line["what"] == "try" and "run" in line}
    for run_id, line in told.items():
        run = stored.get(run_id)
        later = tried[run_id]["at"] > line["at"] if run_id in tried else False
        if run is None:
            yield f"{session_id}: run {run_id} was acknowledged and is not there"
        elif not later and (str(run.status), work.digest(run)) != (line["status"], line["digest"]):
            yield f"{session_id}: run {run_id} is stored as {run.status}, told was {line['status']}, or says otherwise"
    for run_id in stored.keys() - tried.keys():
        yield f"{session_id}: run {run_id} is there and nobody began it"


def check_values(db: SqliteDb, session_id: str, lines: list[Line]) -> Iterator[str]:
    """No acknowledged key of the state is lost, and the name is the last that was set."""
    session = db.get_session(session_id)
    assert session is not None
    for line in lines:
        if line["what"] == "state" and session.session_state.get(line["key"]) != line["value"]:
            yield f"{session_id}: key {line['key']!r} of the state was acknowledged and is lost"
    named = {line["version"]: line["name"] for line in lines if line["what"] == "name"}
    unsure = {line["name"] for line in lines if line["what"] == "try" and "name" in line} - set(named.values())
    if named and session.name not in unsure | {named[max(named)]}:
        yield f"{session_id}: is named {session.name!r}, the last name acknowledged is {named[max(named)]!r}"


def check_deleted(db: SqliteDb, session_id: str, everything: list[Line]) -> Iterator[str]:
    """What was told before a deletion was asked for is gone; what was begun after the last one is there."""
    lines = [line for line in everything if line.get("session") == session_id]
    session = db.get_session(session_id)
    stored = set() if session is None else {run.run_id for run in session.runs}
    told = {line["run"]: line["at"] for line in lines if line["what"] == "run" and line["run"]}
    begun = {line["run"]: line["at"] for line in lines if line["what"] == "try" and "run" in line}
    asked: dict[str, float] = {}
    for line in lines:
        if "delete" in line:
            asked[line["actor"]] = line["at"]
        elif line["what"] == "deleted":
            gone = [run for run, at in told.items() if max(at, begun[run]) < asked[line["actor"]]]
            yield from (f"{session_id}: run {run} outlived its session" for run in gone if run in stored)
    last = max((_over(everything, line) for line in lines if "delete" in line), default=0.0)
    for run, at in begun.items():
        if at > last and told.get(run, 0.0) > at and run not in stored:
            yield f"{session_id}: run {run} was acknowledged after the last deletion and is not there"


def _over(lines: list[Line], asked: Line) -> float:
    """When a deletion had happened, or never would: a process may be stopped, or killed, in the midst of it."""
    later = (line["at"] for line in lines if line["actor"] == asked["actor"] and line["at"] > asked["at"])
    return min(later, default=asked["at"] + 3.0)


def check_order(db: SqliteDb, lines: list[Line]) -> Iterator[str]:
    """All readers saw one order: that of the rows. A run that was tried again has moved to a new place."""
    tried = Counter(line["run"] for line in lines if line["what"] == "try" and "run" in line)
    for session_id in work.KEPT:
        session = db.get_session(session_id)
        assert session is not None
        place = {run.run_id: run.run_seq or 0 for run in session.runs if tried[run.run_id] == 1}
        for line in lines:
            if line["what"] == "seen" and line["session"] == session_id:
                seen = [place[run] for run in line["runs"] if run in place]
                if seen != sorted(seen):
                    yield f"{session_id}: {line['actor']} saw another order: {line['runs']}"


def check_free(db: SqliteDb) -> Iterator[str]:
    """Nothing is left locked: the next turn works at once, and settles what was left open."""
    agent = Agent(EchoModel(), db=db)
    time.sleep(1.1)  # a lease lasts a second here
    for session_id in (*work.KEPT, *work.DELETED):
        run = agent.run("And now?", session_id=session_id)
        if run.status is not RunStatus.completed:
            yield f"{session_id}: the next turn ended as {run.status}"
        session = agent.get_session(session_id)
        assert session is not None
        yield from (f"{session_id}: {run.run_id} is still under way" for run in session.runs if run.status == "running")
    if left := db.transact(_leases):
        yield f"leases are left: {left}"


@reads
async def _leases(tx: Tx) -> list[Any]:
    [rows] = await tx.execute(("select session_id, run_seq from recollect_leases", {}))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--durability", choices=["full", "normal"], default="normal")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    given = parser.parse_args()
    say = sys.stdout.write
    say(f"seed {given.seed}, {given.processes} processes, {given.seconds:g} s\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="recollect-torture-") as folder:
        report = torment(Path(folder), **vars(given))
    say(f"{report}\n")
    say("".join(f"WRONG: {problem}\n" for problem in report.wrong))
    say(f"{len(report.wrong)} wrong; repeat with --seed {given.seed}\n")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
