"""What one thread or task of the torture does: a turn, a read, a change, by chance, and how it writes that down.

A line is written before something is tried and after it was acknowledged, so that whoever reads them knows what must be
there after a kill.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

from recollect import (
    Agent,
    AgentSession,
    InvalidArgument,
    Message,
    ModelError,
    RecollectError,
    RunConflict,
    RunLost,
    RunOutput,
    RunStatus,
    SessionCache,
)
from recollect.faces import LOOPS, THREADS
from recollect.history import HistoryLimits
from recollect.port import Delta, ModelRequest, Reply, Tx, World, looks
from recollect.store import OpenRun, Store
from recollect.store.begin import begin_run, refresh_run
from recollect.store.continued import continue_run
from recollect.store.copies import get_version
from recollect.store.turns import append_messages, finish_run
from recollect.tools import RunContext

Write = Callable[..., None]

KEPT = ("s0", "s1", "s2")
"""Sessions that stay: nothing that was acknowledged in them may be lost."""
DELETED = ("d0", "d1")
"""Sessions that are deleted and made again all the time."""
QUIET = ("q0", "q1")
"""Sessions of short turns, so that now and then one is alone; what each is shown is compared."""
LIMITS = HistoryLimits()


class Fickle:
    """A model that is slow, fails, and asks for tools, by chance. What it says, it never says again."""

    id, provider = "fickle", "test"

    def __init__(self, rng: random.Random, name: str, *, patient: bool = False) -> None:
        self.rng = rng
        self.name = name
        self.patient = patient
        self.count = 0

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        rng = self.rng
        await world.sleep(rng.uniform(0.05, 0.25) if self.patient else rng.choice((0, 0, 0.002, 0.01, 0.05, 0.2)))
        if request.purpose == "name":
            yield Reply(Message("assistant", f"Generated {rng.randrange(10**6)}"))
            return
        if request.purpose == "summary":
            yield Reply(Message("assistant", json.dumps({"summary": "They spoke.", "topics": ["speech"]})))
            return
        if rng.random() < 0.08:
            raise ModelError("the model is overloaded")
        self.count += 1
        once = f"{self.name}#{self.count}"
        if rng.random() < (0.6 if self.patient else 0.3) and len(request.messages) < 200:
            calls = [("look", f"{once}a"), (rng.choice(("look", "note")), f"{once}b")]
            yield Reply(Message("assistant", None, tool_calls=[call(*each) for each in calls]))
            return
        yield Delta("Answer ")
        await world.sleep(rng.choice((0, 0, 0.005, 0.02)))
        yield Reply(Message("assistant", f"Answer {once} to {request.messages[-1].text}"))


def call(tool: str, once: str) -> dict[str, Any]:
    function = {"name": tool, "arguments": json.dumps({"once": once})}
    return {"id": once, "type": "function", "function": function}


class Actor:
    """One thread or task: it does one thing after the other until the time is over."""

    def __init__(self, number: str, db: Store, cache: SessionCache, write: Write, plan: dict[str, Any]) -> None:
        self.name = f"{plan['worker']}.{number}"
        self.rng = random.Random(f"{plan['seed']}/{self.name}")
        self.write = write
        self.until = plan["until"]
        self.count = 0
        self.noted = 0
        self.db = db
        self.cached = cache.over(db)
        tools = [self.look, self.note]
        agent = Agent(Fickle(self.rng, self.name), db=db, tools=tools, id=self.name, background=False)
        self.agents = [agent, agent.replace(cache_session=cache)]
        self.heir = agent.replace(model=Fickle(self.rng, f"{self.name}+", patient=True))
        self.failed: list[tuple[str, str]] = []
        self.own: dict[str, list[int | None]] = {}
        """What this actor's own key of each session may hold: what was acknowledged, and what was not, since then."""

    def look(self, once: str, run_context: RunContext) -> str:
        """Look at something."""
        self.write("tool", self.name, run=run_context.run_id, session=run_context.session_id, once=once)
        time.sleep(0.002)
        return f"saw {once}"

    def note(self, once: str, run_context: RunContext, session_state: dict[str, Any]) -> str:
        """Note something in the session's state, under a key of the actor's own."""
        self.write("tool", self.name, run=run_context.run_id, session=run_context.session_id, once=once)
        self.noted += 1
        session_state[f"note {self.name}"] = self.noted
        return f"noted {self.name} {self.noted}"

    async def act(self, *, waits: bool) -> None:
        """Do things until the time is over; in the face of threads nothing here waits."""
        deeds = [self.turn] * 5 + [self.long_turn] * 4 + [self.read] * 5 + [self.overwrite] * 4 + [self.compare] * 3
        deeds += [
            self.rename,
            self.set_state,
            self.again,
            self.summarise,
            self.generate,
            self.cancel,
            self.bring,
            self.lapse,
        ]
        deeds += [self.delete, self.make, self.mark]
        face = Face(waits=waits)
        while time.monotonic() < self.until:
            self.count += 1
            await self.attempt(self.rng.choice(deeds), self.rng.choice(self.agents), face)

    async def inherit(self) -> None:
        """Look for runs that their processes lost, or may be thought to have lost, and take them up."""
        while time.monotonic() < self.until:
            self.count += 1
            await self.attempt(self.take_up, self.heir, Face(waits=False))
            await THREADS.sleep(0.02)

    async def attempt(self, deed: Any, agent: Agent, face: Any) -> None:
        """Do one thing; what is refused is written down, and what must not happen, too."""
        try:
            await deed(agent, face)
        except InvalidArgument as error:
            self.write("violation", self.name, session=deed.__name__, problem=f"was refused: {error}")
        except RecollectError as error:
            self.write("refused", self.name, deed=deed.__name__, error=type(error).__name__, text=str(error))
        except Exception as error:  # noqa: BLE001 - whatever is no error of the library is a fault of it
            self.write("violation", self.name, session=deed.__name__, problem=f"raised {error!r}")

    def session(self, *, deleted: bool = True) -> str:
        return self.rng.choice(KEPT + DELETED if deleted else KEPT)

    async def turn(self, agent: Agent, face: Any) -> None:
        await self.run(agent, face, self.session(), f"{self.name}-{self.count}")

    async def long_turn(self, _: Agent, face: Any) -> None:
        """A run that is most likely under way when its process is stopped."""
        await self.run(self.heir, face, self.session(deleted=False), f"{self.name}-{self.count}")

    async def run(self, agent: Agent, face: Any, session_id: str, run_id: str, how: str = "run") -> None:
        self.write("try", self.name, run=run_id, session=session_id, how=how)
        given = {"run_id": run_id} if how == "run" else {}
        try:
            run = await face(agent, how, run_id, session_id=session_id, **given)
        except ModelError as error:
            self.failed.append((session_id, run_id))
            self.write("run", self.name, **told(error.run))
        except RunLost:
            self.write("lost", self.name, run=run_id, session=session_id, pid=os.getpid())
            raise
        else:
            self.write("run", self.name, **told(run))

    async def again(self, agent: Agent, face: Any) -> None:
        """Continue a run that failed, or try it again."""
        if self.failed:
            await self.run(agent, face, *self.failed.pop(), self.rng.choice(("run", "continue_run")))

    async def take_up(self, agent: Agent, face: Any) -> None:
        """Take up a run of whoever lost it. Sometimes one that is under way: then it must be refused."""
        session_id = self.session(deleted=False)
        looked = time.monotonic()
        found = await face.transact(self.db, under_way, session_id)
        lost = [run for run, _, left in found if left is None]
        held = [each for each in found if each[2] is not None]
        how = self.rng.choice(("run", "continue_run", "continue_run"))
        if lost:
            await self.run(agent, face, session_id, self.rng.choice(lost), how)
        elif held and self.rng.random() < 0.3:
            run_id, owner, left = self.rng.choice(held)
            snatched = Snatched(self, run_id, session_id, owner, looked + left / 1e6)
            await self.run(agent.replace(model=snatched), face, session_id, run_id, how)

    async def lapse(self, _: Agent, face: Any) -> None:
        """Hold a run without a sign of life until another one may take it; then nothing more can be written to it."""
        run_id, session_id = f"{self.name}-{self.count}-lapsed", self.session(deleted=False)
        self.write("try", self.name, run=run_id, session=session_id, how="run")
        old = await face.transact(self.db, begin_run, session_id, [Message("user", run_id)], run_id=run_id)
        await face.sleep(1.1)
        taken = None
        with suppress(RunConflict):  # somebody else was faster
            taken = await face.transact(self.db, continue_run, run_id, session_id)
        with suppress(RunLost):
            await face.transact(self.db, append_messages, old, [Message("assistant", "Too late")], at=9)
            problem = f"{run_id} was written to by one who had lost it"
            self.write("violation", self.name, session=session_id, problem=problem)
        if taken is not None:
            await face.transact(self.db, finish_run, taken.open, [Message("assistant", "In time")])

    async def rename(self, _: Agent, face: Any) -> None:
        name, session_id = f"Name {self.name} {self.count}", self.session(deleted=False)
        self.write("try", self.name, name=name, session=session_id)
        header = await face(self.cached, "set_session_name", session_id, name)
        self.write("name", self.name, name=name, session=session_id, version=header.version)

    async def set_state(self, agent: Agent, face: Any) -> None:
        key, session_id = f"{self.name} {self.count}", self.session(deleted=False)
        self.write("try", self.name, key=key, value=self.count, session=session_id)
        await face(agent, "update_session_state", {key: self.count}, session_id)
        self.write("state", self.name, key=key, value=self.count, session=session_id)

    async def overwrite(self, agent: Agent, face: Any) -> None:
        """Set a key of this actor's own once more; nobody else does, so it must be as it was left."""
        session_id, key = self.session(deleted=False), f"own {self.name}"
        there = await face(agent, "get_session_state", session_id)
        known = self.own.setdefault(session_id, [None])
        if there.get(key) not in known:
            problem = f"{key!r} was {known} and is {there.get(key)}"
            self.write("violation", self.name, session=session_id, problem=problem)
        self.write("try", self.name, key=key, value=self.count, session=session_id)
        known += [self.count]
        await face(agent, "update_session_state", {key: self.count}, session_id)
        self.write("state", self.name, key=key, value=self.count, session=session_id)
        self.own[session_id] = [self.count]

    async def compare(self, _: Agent, face: Any) -> None:
        """A few turns behind the cache, one after the other; each is shown what it would be without a cache."""
        session_id = self.rng.choice(QUIET)
        for number in range(3):
            asked = Message("user", f"{self.name}-{self.count}.{number}")
            run = await face(self.cached, "begin_run", session_id, [asked], history=LIMITS)
            plain = await face.transact(self.db, refresh_run, run, history=LIMITS)
            at = await face.transact(self.db, get_version, session_id)
            was_stopped = asked in plain.history.messages  # for so long that the run itself reads as interrupted
            if run.is_apart and at == (run.epoch, run.version) and not was_stopped:
                self.write("compared", self.name, session=session_id)
                if plain.history != run.history:
                    problem = f"{run.run_id} was shown {past(run)}, and without a cache {past(plain)}"
                    self.write("violation", self.name, session=session_id, problem=problem)
            if self.rng.random() < 0.4:
                beside = await face(self.db, "begin_run", session_id, [Message("user", f"Beside {asked.text}")])
                await face(self.db, "finish_run", beside, [Message("assistant", "Yes")])
            if self.rng.random() < 0.3:
                await face(self.cached, "append_messages", run)
            status = self.rng.choice((RunStatus.completed, RunStatus.completed, RunStatus.error))
            await face(self.cached, "finish_run", run, [Message("assistant", f"Yes, {asked.text}")], status=status)

    async def bring(self, _: Agent, face: Any) -> None:
        """Store a session with a run from elsewhere."""
        run_id, session_id = f"{self.name}-{self.count}-brought", self.session(deleted=False)
        said = (Message("user", run_id), Message("assistant", "From elsewhere"))
        run = RunOutput(run_id=run_id, session_id=session_id, messages=said)
        self.write("try", self.name, run=run_id, session=session_id, how="upsert_session")
        await face(self.cached, "upsert_session", AgentSession(session_id, runs=[run]))
        self.write("brought", self.name, run=run_id, session=session_id)

    async def make(self, _: Agent, face: Any) -> None:
        await face(self.db, "create_session", self.rng.choice(DELETED), session_state={"made": self.name})

    async def mark(self, _: Agent, face: Any) -> None:
        await face(self.db, "update_values", self.rng.choice(DELETED), "state", {f"mark {self.name}": self.count})

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
            self.write("try", self.name, cancel=last.run_id, session=session_id)
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


class Face:
    """A method in one face; in that of threads the answer is there at once."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits

    async def __call__(self, thing: Any, method: str, /, *args: Any, **kwargs: Any) -> Any:
        if not self.waits:
            return getattr(thing, method)(*args, **kwargs)
        return await getattr(thing, f"a{method}")(*args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        await (LOOPS if self.waits else THREADS).sleep(seconds)

    async def transact(self, db: Store, operation: Any, *args: Any, **kwargs: Any) -> Any:
        run = db.atransact if self.waits else db.transact
        value = run(operation, *args, **kwargs)
        return await value if self.waits else value


class Snatched(Fickle):
    """The model of whoever takes up a run that is held: that it is asked at all says that the run was given away."""

    def __init__(self, actor: Actor, run_id: str, session_id: str, owner: str, until: float) -> None:
        super().__init__(actor.rng, f"{actor.name}!")
        self.actor = actor
        self.known = {"run": run_id, "session": session_id, "pid": int(owner.split(":")[1]), "until": until}

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        self.actor.write("snatched", self.actor.name, **self.known)
        async for said in super().ask(request, world):
            yield said


@looks
async def under_way(tx: Tx, session_id: str) -> list[tuple[str, str, int | None]]:
    """Runs that are not over, with their holder, and for how long he holds it; None where he lost it."""
    [found] = await tx.execute((_UNDER_WAY, {"session_id": session_id}))
    return found


_UNDER_WAY = """
select r.run_id, l.owner, case when {alive} then l.until - :now end
from recollect_leases l join recollect_runs r on r.session_id = l.session_id and r.run_seq = l.run_seq
where l.session_id = :session_id
union all
select r.run_id, null, null from recollect_runs r
where r.session_id = :session_id and r.status = 'interrupted' and r.parent_run_id is null
"""


def past(run: OpenRun) -> str:
    """What a run was shown, in short."""
    seen = run.history
    return f"{seen.runs} runs, cut: {seen.cut}, {[message.text for message in seen.messages[-8:]]}"


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
        "ended": None if run.finished_at is None else run.finished_at.timestamp(),
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
