"""A process that works on a few sessions in every way at once, and writes down what it was told.

Started by `torture` with a plan; each actor, a thread or a task, decides by a seed of its own. A line is written before
something is tried and after it was acknowledged, so that whoever reads them knows what must be there after a kill.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from hashlib import sha256
from pathlib import Path
from typing import Any

from recollect import (
    Agent,
    Message,
    ModelError,
    RecollectError,
    RunOutput,
    RunStatus,
    SessionCache,
    SqliteDb,
    heartbeat,
)
from recollect.port import Delta, ModelRequest, Reply, World
from recollect.store import turns
from recollect.store.copies import get_version

KEPT = ("s0", "s1", "s2")
"""Sessions that stay: nothing that was acknowledged in them may be lost."""
DELETED = ("d0", "d1")
"""Sessions that are deleted and made again all the time."""


class Fickle:
    """A model that is slow, fails, and asks for tools, by chance."""

    id, provider = "fickle", "test"

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        rng = self.rng
        await world.sleep(rng.choice((0, 0, 0.002, 0.01, 0.05)))
        if request.purpose == "name":
            yield Reply(Message("assistant", f"Generated {rng.randrange(10**6)}"))
            return
        if request.purpose == "summary":
            yield Reply(Message("assistant", json.dumps({"summary": "They spoke.", "topics": ["speech"]})))
            return
        if rng.random() < 0.08:
            raise ModelError("the model is overloaded")
        asked = next(message.text for message in reversed(request.messages) if message.role == "user")
        if request.messages[-1].role == "user" and rng.random() < 0.3:
            call = {"type": "function", "function": {"name": "look", "arguments": json.dumps({"at": asked})}}
            yield Reply(Message("assistant", None, tool_calls=[{"id": f"c{number}", **call} for number in range(2)]))
            return
        yield Delta("Answer ")
        await world.sleep(rng.choice((0, 0, 0.005, 0.02)))
        yield Reply(Message("assistant", f"Answer to {asked}"))


def look(at: str) -> str:
    """Look at something."""
    time.sleep(0.002)
    return f"saw {at}"


class Actor:
    """One thread or task: it does one thing after the other until the time is over."""

    def __init__(self, number: str, db: SqliteDb, cache: SessionCache, write: Any, plan: dict[str, Any]) -> None:
        self.name = f"{plan['worker']}.{number}"
        self.rng = random.Random(f"{plan['seed']}/{self.name}")
        self.write = write
        self.until = plan["until"]
        self.count = 0
        self.db = db
        self.cached = cache.over(db)
        agent = Agent(Fickle(self.rng), db=db, tools=[look], id=self.name, background=False)
        self.agents = [agent, agent.replace(cache_session=cache)]
        self.failed: list[tuple[str, str]] = []

    async def act(self, *, waits: bool) -> None:
        """Do things until the time is over; in the face of threads nothing here waits."""
        deeds = [self.turn] * 8 + [self.read] * 6 + [self.rename, self.set_state, self.set_state, self.again]
        deeds += [self.summarise, self.generate, self.delete, self.cancel]
        while time.monotonic() < self.until:
            self.count += 1
            deed = self.rng.choice(deeds)
            try:
                await deed(self.rng.choice(self.agents), _Face(waits))
            except RecollectError as error:
                self.write("refused", self.name, deed=deed.__name__, error=type(error).__name__, text=str(error))
            except Exception as error:  # noqa: BLE001 - whatever is no error of the library is a fault of it
                self.write("violation", self.name, session=deed.__name__, problem=f"raised {error!r}")

    def session(self, *, deleted: bool = True) -> str:
        return self.rng.choice(KEPT + DELETED if deleted else KEPT)

    async def turn(self, agent: Agent, face: Any) -> None:
        await self.run(agent, face, self.session(), f"{self.name}-{self.count}")

    async def run(self, agent: Agent, face: Any, session_id: str, run_id: str) -> None:
        self.write("try", self.name, run=run_id, session=session_id)
        try:
            run = await face(agent, "run", run_id, session_id=session_id, run_id=run_id)
        except ModelError as error:
            self.failed.append((session_id, run_id))
            self.write("run", self.name, **told(error.run))
            return
        self.write("run", self.name, **told(run))

    async def again(self, agent: Agent, face: Any) -> None:
        """Continue a run that failed, or try it again."""
        if self.failed:
            session_id, run_id = self.failed.pop()
            self.write("try", self.name, run=run_id, session=session_id)
            if self.rng.random() < 0.5:
                await self.run(agent, face, session_id, run_id)
            else:
                self.write("run", self.name, **told(await face(agent, "continue_run", run_id, session_id=session_id)))

    async def rename(self, _: Agent, face: Any) -> None:
        name, session_id = f"Name {self.name} {self.count}", self.session(deleted=False)
        self.write("try", self.name, name=name, session=session_id)
        header = await face(self.cached, "set_session_name", session_id, name)
        self.write("name", self.name, name=name, session=session_id, version=header.version)

    async def set_state(self, agent: Agent, face: Any) -> None:
        key, session_id = f"{self.name} {self.count}", self.session(deleted=False)
        await face(agent, "update_session_state", {key: self.count}, session_id)
        self.write("state", self.name, key=key, value=self.count, session=session_id)

    async def summarise(self, agent: Agent, face: Any) -> None:
        await face(agent, "create_session_summary", self.session())

    async def generate(self, agent: Agent, face: Any) -> None:
        await face(agent, "set_session_name", self.rng.choice(DELETED), autogenerate=True)

    async def delete(self, agent: Agent, face: Any) -> None:
        session_id = self.rng.choice(DELETED)
        self.write("try", self.name, delete=session_id, session=session_id)
        await face(agent, "delete_session", session_id)
        self.write("deleted", self.name, session=session_id)

    async def cancel(self, agent: Agent, face: Any) -> None:
        session_id = self.session()
        last = await face(agent, "get_last_run_output", session_id)
        if last is not None:
            await face(agent, "cancel_run", last.run_id, session_id)

    async def read(self, _: Agent, face: Any) -> None:
        """A cached read, between two looks at the version and beside an uncached one."""
        session_id = self.session()
        before = await face.transact(self.db, get_version, session_id)
        session = await face(self.cached, "get_session", session_id)
        plain = await face(self.db, "get_session", session_id)
        after = await face.transact(self.db, get_version, session_id)
        at = None if session is None else (session.header.epoch, session.header.version)
        if problem := stale(before, at, after):
            self.write("violation", self.name, session=session_id, problem=problem)
        if before == after is not None and (plain is None or session is None or shown(session) != shown(plain)):
            self.write("violation", self.name, session=session_id, problem="a cached read says otherwise")
        if plain is not None:
            self.write("seen", self.name, session=session_id, epoch=plain.header.epoch, runs=order(plain))


class _Face:
    """A method in one face; in that of threads the answer is there at once."""

    def __init__(self, waits: bool) -> None:  # noqa: FBT001 - the name says it
        self.waits = waits

    async def __call__(self, thing: Any, method: str, /, *args: Any, **kwargs: Any) -> Any:
        if not self.waits:
            return getattr(thing, method)(*args, **kwargs)
        return await getattr(thing, f"a{method}")(*args, **kwargs)

    async def transact(self, db: SqliteDb, operation: Any, *args: Any) -> Any:
        return await db.atransact(operation, *args) if self.waits else db.transact(operation, *args)


def told(run: RunOutput | None) -> dict[str, Any]:
    """What the caller was told of a run."""
    if run is None:
        return {"run": None}
    return {
        "run": run.run_id,
        "session": run.session_id,
        "status": str(run.status),
        "seq": run.run_seq,
        "digest": digest(run),
    }


def digest(run: RunOutput) -> str:
    """What was said in a run, in short."""
    said = [(message.role, message.text, message.tool_call_id) for message in run.messages]
    return sha256(repr(said).encode()).hexdigest()[:16]


def order(session: Any) -> list[str]:
    """The last runs of a session, in their order."""
    return [run.run_id for run in session.runs[-12:]]


def stale(before: Any, at: Any, after: Any) -> str | None:
    """Why a read at one version cannot be right between two others."""
    if before == after is not None:
        return None if at == before else f"read {at} while it was {before} before and after"
    if None in (before, at, after) or len({before[0], at[0], after[0]}) > 1:
        return None  # deleted and made anew meanwhile: any of several sessions may have been read
    return None if before[1] <= at[1] <= after[1] else f"read {at[1]} between {before[1]} and {after[1]}"


def shown(session: Any) -> Any:
    """All of a session; whether a run is under way or interrupted depends on the moment, too."""
    made = session.to_dict()
    for run in made["runs"]:
        if run["status"] == RunStatus.interrupted and run.get("finished_at") is None:
            run["status"] = str(RunStatus.running)
    return made


def retry(actor: Actor, lost: list[tuple[str, str]]) -> None:
    """Try runs again that a process before this one was killed over: each is there once in the end."""
    for session_id, run_id in lost:
        actor.write("try", actor.name, run=run_id, session=session_id)
        try:
            run = actor.agents[0].run(run_id, session_id=session_id, run_id=run_id)
            actor.write("run", actor.name, **told(run))
        except ModelError as error:
            actor.write("run", actor.name, **told(error.run))
        except RecollectError as error:
            actor.write("refused", actor.name, deed="retry", error=type(error).__name__, text=str(error))


def main(plan: dict[str, Any]) -> None:
    turns.LEASE, heartbeat.BEAT = 1_000_000, 0.25  # type: ignore[misc]
    log = os.open(plan["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(what: str, actor: str, **more: Any) -> None:
        line = {"what": what, "actor": actor, "at": time.monotonic(), **more}
        os.write(log, json.dumps(line).encode() + b"\n")

    cache = SessionCache(max_bytes=200_000)
    with SqliteDb(Path(plan["file"]), durability=plan["durability"]) as db:
        for session_id in KEPT:
            if plan["make"]:
                db.create_session(session_id)
        actors = [Actor(f"{number}", db, cache, write, plan) for number in range(4)]
        retry(actors[0], [tuple(one) for one in plan["lost"]])
        threads = [threading.Thread(target=_drive, args=[actor.act(waits=False)]) for actor in actors[:2]]
        for thread in threads:
            thread.start()

        async def tasks() -> None:
            await asyncio.gather(*(actor.act(waits=True) for actor in actors[2:]))

        asyncio.run(tasks())
        for thread in threads:
            thread.join()
        stats = cache.stats()
        write("done", str(plan["worker"]), hits=stats.hits, catch_ups=stats.catch_ups, reloads=stats.reloads)


def _drive(coroutine: Coroutine[Any, Any, None]) -> None:
    from recollect.port import drive

    drive(coroutine)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
