"""Runs that kill their own process at a chosen moment: around any statement, in a tool, around the model.

On Postgres, what is sent together arrives together; so the moments are those before it, and after it was answered.

Reads plans, one JSON object a line; forks a child for each, which runs once and dies; answers with what it had told.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import threading
import traceback
from typing import Any

import openai
from agent_kit import CrewModel, crew

from recollect import Agent, RunEvent, RunOutputEvent, SqliteDb, Store, Team, open_db
from recollect.db.postgres.wire import Wire
from recollect.models.openai import OpenAIResponses


class Moments:
    """The moments of a run, counted as they pass; at the chosen one the process is killed."""

    def __init__(self, chosen: int) -> None:
        self.chosen = chosen
        self.passed: list[str] = []

    def passes(self, what: str) -> None:
        self.passed.append(what)
        if len(self.passed) == self.chosen + 1:
            os.kill(os.getpid(), signal.SIGKILL)


class Connection(sqlite3.Connection):
    """Each statement is a moment, and so is the time after a commit."""

    moments: Moments | None = None

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if self.moments is not None and not sql.startswith("pragma"):
            self.moments.passes(" ".join(sql.split())[:60])
        cursor = super().execute(sql, *args)
        if self.moments is not None and sql == "commit":
            self.moments.passes("committed")
        return cursor


def watch_wires(moments: Moments) -> None:
    """Have what is sent to Postgres pass as moments."""
    plain = Wire.send

    async def send(wire: Wire, batch: Any) -> Any:
        moments.passes(" ".join(batch[0].text.decode().split())[:60])
        answers = await plain(wire, batch)
        moments.passes("answered")
        return answers

    Wire.send = send  # type: ignore[method-assign]


def opened(place: str, moments: Moments) -> Store:
    """A database that is open already; from here on each statement counts."""
    if place.startswith("postgresql"):
        db = open_db(place)
        db.get_header("nothing")
        watch_wires(moments)
        return db
    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Connection)  # type: ignore[assignment]
    db = SqliteDb(place, durability="normal")
    db.get_header("nothing")
    Connection.moments = moments
    return db


class Model:
    """Before the request and after the answer are moments."""

    def __init__(self, model: OpenAIResponses, moments: Moments) -> None:
        self.id, self.provider = model.id, model.provider
        self.model, self.moments = model, moments

    async def ask(self, request: Any, world: Any) -> Any:
        self.moments.passes("ask")
        async for piece in self.model.ask(request, world):
            yield piece
        self.moments.passes("answered")


def runner(plan: dict[str, Any], look: Any, moments: Moments) -> Agent | Team:
    """An agent that asks the tests' server, or a team that needs none."""
    if plan["crew"]:
        return crew(CrewModel(moments.passes), look, opened(plan["place"], moments))
    model = Model(OpenAIResponses(id="gpt-5.2", base_url=plan["base_url"], api_key=plan["api_key"]), moments)
    return Agent(model, db=opened(plan["place"], moments), tools=[look], instructions="Look around.")


def run(plan: dict[str, Any], told: int) -> None:
    """One run in this process, which may not survive it."""
    moments = Moments(plan["moment"])
    turns = {at: threading.Event() for at in plan["order"]}
    before = dict(zip(plan["order"][1:], plan["order"], strict=False))

    def look(at: int) -> str:
        """Look, after the one whose turn is before."""
        if at in before:
            turns[before[at]].wait(10)
        moments.passes(f"look({at})")
        return f"saw {at}"

    agent = runner(plan, look, moments)

    def tell(event: RunOutputEvent) -> None:
        said = f"{event.event}:{event.tool.result if event.tool else ''}"
        os.write(told, said.encode() + b"\n")
        if event.event is RunEvent.tool_call_completed and event.tool is not None and event.tool.tool_name == "look":
            turn = turns.get(int(event.tool.tool_args["at"]))
            if turn is not None:
                turn.set()

    async def arun() -> None:
        async for event in agent.arun("Look", session_id=plan["session"], run_id="r", stream_events=True):
            tell(event)

    if plan["face"] == "async":
        asyncio.run(arun())
    else:
        for event in agent.run("Look", session_id=plan["session"], run_id="r", stream_events=True):
            tell(event)
    os.write(told, json.dumps({"moments": moments.passed}).encode() + b"\n")


def _warm_up(base_url: str, api_key: str) -> None:
    """Have the SDK import what it imports with its first request: here once, and not in each child."""
    with openai.OpenAI(base_url=base_url, api_key=api_key) as client:
        client.responses.create(model="gpt-5.2", input="And now?", tools=[])


def main() -> None:
    _warm_up(*sys.argv[1:])
    for line in sys.stdin:
        plan = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                run(plan, writing)
            except BaseException:  # noqa: BLE001 - a child must not go on in its parent's place
                os.write(writing, traceback.format_exc().encode())
                os._exit(1)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = pipe.read().splitlines()
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(json.dumps({"status": status, "told": told}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
