"""What was written down of the torture, held against what is stored."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torture_actor as work

from recollect import Agent, AgentSession, EchoModel, RunOutput, RunStatus, SqliteDb
from recollect.doctor import database
from recollect.port import Row, Tx, reads, writes
from recollect.store import Store

Line = dict[str, Any]


def check(db: Store, lines: list[Line]) -> Iterator[str]:
    """What of all that was acknowledged is not so."""
    yield from (f"{line['actor']} in {line['session']}: {line['problem']}" for line in lines if "problem" in line)
    yield from check_rows(db)
    for session_id in work.KEPT:
        of_session = [line for line in lines if line.get("session") == session_id]
        session = db.get_session(session_id)
        assert session is not None
        yield from check_runs(session, of_session)
        yield from check_values(session, of_session)
        yield from check_tools(session, of_session)
        yield from check_held(session_id, of_session)
    for session_id in work.DELETED:
        yield from check_deleted(db, session_id, lines)
    yield from check_order(db, lines)
    yield from check_free(db)


def check_rows(db: Store) -> Iterator[str]:
    """Whatever the doctor asks; of another database it is asked of its rows in SQLite."""
    with SqliteDb() as copy:
        copy.transact(_store_rows, db.transact(_all_rows))
        found = database(db if isinstance(db, SqliteDb) else copy)
        yield from (f"{one.check}: {one.detail} {one.examples}" for one in found if one.status == "problem")


TABLES = ("sessions", "values", "runs", "messages", "prompts", "leases")


@reads
async def _all_rows(tx: Tx) -> list[list[Row]]:
    return await tx.execute(*((f"select * from recollect_{table}", {}) for table in TABLES))


@writes
async def _store_rows(tx: Tx, found: list[list[Row]]) -> None:
    for table, rows in zip(TABLES, found, strict=True):
        for row in rows:
            names = ", ".join(f":c{place}" for place in range(len(row)))
            await tx.execute(
                (f"insert into recollect_{table} values ({names})", {f"c{n}": v for n, v in enumerate(row)})
            )


def check_runs(session: AgentSession, lines: list[Line]) -> Iterator[str]:
    """Every acknowledged run is there once, and is what was told of it last."""
    session_id = session.session_id
    stored = {run.run_id: run for run in session.runs}
    if len(stored) != len(session.runs):
        yield f"{session_id}: a run is there twice"
    tried = Counter(line["run"] for line in lines if line["what"] == "try" and "run" in line)
    for line in lines:
        if line["what"] == "brought" and line["run"] not in stored:
            yield f"{session_id}: run {line['run']} was brought and is not there"
        if line["what"] == "run" and line["run"]:
            yield from _as_told(session_id, stored.get(line["run"]), line, tried[line["run"]])
    for run_id in stored.keys() - tried.keys():
        yield f"{session_id}: run {run_id} is there and nobody began it"


def _as_told(session_id: str, run: RunOutput | None, line: Line, tried: int) -> Iterator[str]:
    """A run is as it was told, or, where it had failed, was taken up since."""
    if run is None:
        yield f"{session_id}: run {line['run']} was acknowledged and is not there"
        return
    ended = None if run.finished_at is None else run.finished_at.timestamp()
    is_later = line["status"] != RunStatus.completed and tried > 1 and (ended is None or ended > (line["ended"] or 0))
    if not is_later and (str(run.status), work.digest(run)) != (line["status"], line["digest"]):
        yield f"{session_id}: run {run.run_id} is stored as {run.status}, told was {line['status']}, or says otherwise"


def check_values(session: AgentSession, lines: list[Line]) -> Iterator[str]:
    """No acknowledged key of the state is lost or turned back, and the name is the last that was set."""
    session_id = session.session_id
    state = session.session_state
    for line in lines:
        if line["what"] == "state" and state.get(line["key"], -1) < line["value"]:
            yield f"{session_id}: {line['key']!r} was set to {line['value']} and is {state.get(line['key'])}"
    for run in session.runs:
        for message in run.messages:
            noted = re.fullmatch(r"noted (\S+) (\d+)", message.text) if message.role == "tool" else None
            if noted is not None and state.get(f"note {noted[1]}", -1) < int(noted[2]):
                yield f"{session_id}: {run.run_id} {noted[0]}, and the state says {state.get(f'note {noted[1]}')}"
    named = {line["version"]: line["name"] for line in lines if line["what"] == "name"}
    unsure = {line["name"] for line in lines if line["what"] == "try" and "name" in line} - set(named.values())
    if named and session.name not in unsure | {named[max(named)]}:
        yield f"{session_id}: is named {session.name!r}, the last name acknowledged is {named[max(named)]!r}"


def check_tools(session: AgentSession, lines: list[Line]) -> Iterator[str]:
    """A tool works only for a step that was stored: whoever lost his run calls none any more."""
    begun = Counter(line["run"] for line in lines if line["what"] == "try" and line.get("how") == "run")
    asked = {
        run.run_id: {json.loads(call.arguments)["once"] for message in run.messages for call in message.tool_calls}
        for run in session.runs
    }
    for line in lines:
        known = asked.get(line.get("run", ""))
        if line["what"] == "tool" and known is not None and begun[line["run"]] == 1 and line["once"] not in known:
            yield f"{session.session_id}: {line['actor']} called a tool in {line['run']}, which asked for none such"


def check_held(session_id: str, lines: list[Line]) -> Iterator[str]:
    """Nobody's run is taken away while he holds it; one that is cancelled, or fails, is free."""
    cancelled = {line["cancel"] for line in lines if "cancel" in line}
    lost = {(line["run"], line["pid"]): line["at"] for line in lines if line["what"] == "lost"}
    for line in lines:
        if line["what"] == "snatched" and line["at"] < line["until"] and line["run"] not in cancelled:
            at = lost.get((line["run"], line["pid"]), 0.0)
            if at > line["at"]:
                yield f"{session_id}: {line['actor']} was given {line['run']} while another one held it"


def check_deleted(db: Store, session_id: str, everything: list[Line]) -> Iterator[str]:
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


def check_order(db: Store, lines: list[Line]) -> Iterator[str]:
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


def check_free(db: Store) -> Iterator[str]:
    """Nothing is left locked: the next turn works at once, and settles what was left open."""
    agent = Agent(EchoModel(), db=db)
    time.sleep(1.1)  # a lease lasts a second here
    for session_id in (*work.KEPT, *work.DELETED, *work.QUIET):
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
