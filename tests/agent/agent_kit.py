"""What the tests of agents share: both faces under one set of names, and models that do as they are told."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from recollect import Agent, Message, RunOutput, RunOutputEvent, RunStatus, Team, Usage
from recollect.port import Delta, ModelRequest, Reply, World
from recollect.runner import Runner
from recollect.store import Store


class Sync:
    """An agent whose every method is awaited, and answered by the sync one."""

    waits = False

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(self.agent, method)(*args, **kwargs)

        return call

    async def events(self, *args: Any, **kwargs: Any) -> AsyncIterator[RunOutputEvent]:
        with self.agent.run(*args, **kwargs) as stream:
            for event in stream:
                yield event


class Async:
    """An agent whose every method is awaited, and answered by its ``a`` twin."""

    waits = True

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def __getattr__(self, method: str) -> Callable[..., Any]:
        twin: Callable[..., Any] = getattr(self.agent, f"a{method}")
        assert inspect.iscoroutinefunction(twin) or method in ("run", "continue_run", "regenerate", "edit_message")
        return twin

    async def events(self, *args: Any, **kwargs: Any) -> AsyncIterator[RunOutputEvent]:
        async with self.agent.arun(*args, **kwargs) as stream:
            async for event in stream:
                yield event


FACES = {"sync": Sync, "async": Async}


class Bound:
    """Makes agents on a database of one test's own, seen through one face."""

    def __init__(self, place: str, backend: str, db: Store, face: str, *, cached: bool) -> None:
        self.place = place
        """The database's address, by which `open_db` opens it once more."""
        self.backend = backend
        self._face = FACES[face]
        self._usual = {"db": db, "cache_session": cached}

    def __call__(self, model: Any, **options: Any) -> Any:
        return self._face(Agent(model, **(self._usual | options)))

    def team(self, members: Sequence[Runner], model: Any, **options: Any) -> Any:
        return self._face(Team(members, model=model, **(self._usual | options)))


class ScriptedModel:
    """Says what it was given, one answer a call: text, a message, an exception, or deltas and then one of these.

    Before what comes next it sleeps for a number of seconds, or as long as a function takes.
    """

    id = "scripted"
    provider = "test"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[ModelRequest] = []

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        self.requests.append(request)
        for part in _parts(self.answers.pop(0)):
            if isinstance(part, BaseException):
                raise part
            if isinstance(part, float):
                await world.call(time.sleep, part)
            elif callable(part):
                await world.call(part)
            else:
                yield part

    def seen(self, number: int = -1) -> list[tuple[str, str]]:
        """What the model was shown in one of its calls."""
        return [(message.role, message.text) for message in self.requests[number].messages]


def _parts(answer: Any) -> list[Any]:
    given = answer if isinstance(answer, list) else [answer]
    return [_part(part) for part in given]


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return Reply(Message("assistant", part), Usage(input_tokens=10, output_tokens=5))
    return Reply(part, Usage(input_tokens=10, output_tokens=5)) if isinstance(part, Message) else part


async def ended(db: Store, run_id: str | None = None, session_id: str = "s") -> RunOutput:
    """A run, or the last one, once it has ended: an async generator that was dropped is closed by the event loop."""
    for _ in range(1000):
        run = db.get_last_run(session_id) if run_id is None else db.get_run(run_id, session_id)
        if run is not None and run.status is not RunStatus.running:
            return run
        await asyncio.sleep(0.01)
    raise AssertionError("it did not end in ten seconds")


def calls(*wanted: tuple[str, str]) -> Message:
    """An assistant message that calls tools, given as (name, arguments)."""
    return Message(
        "assistant",
        None,
        tool_calls=[
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(wanted)
        ],
    )


class CrewModel:
    """Leads a crew of three or works in it: a leader asks all of them at once, each looks once, and all tell."""

    id = "crew"
    provider = "test"

    def __init__(self, passes: Callable[[str], None] = lambda _: None) -> None:
        self.passes = passes
        """Called with what is about to be done, and what was."""

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        del world
        self.passes("ask")
        asked = max(place for place, message in enumerate(request.messages) if message.role == "user")
        seen = [message.text for message in request.messages[asked:] if message.role == "tool"]
        if seen:
            yield _part(f"They say: {'; '.join(seen)}")
        elif request.messages[asked].text == "And now?":
            yield _part("Now it is well.")
        elif "look" in {tool.name for tool in request.tools}:
            yield _part(calls(("look", f'{{"at": {request.messages[asked].text}}}')))
        else:
            wanted = [{"member_id": member_id, "task": str(at)} for at, member_id in enumerate("abc")]
            yield _part(calls(*(("delegate_task_to_member", json.dumps(one)) for one in wanted)))
        self.passes("answered")


def crew(model: CrewModel, look: Callable[..., Any], db: Store) -> Team:
    """A team of three whose members look."""
    members = [Agent(model, id=own, tools=[look]) for own in "abc"]
    return Team(members, model=model, db=db, instructions="Look around.")


class NamingModel:
    """Answers runs with "ok", and asks for names and summaries with what it was given, again and again.

    An answer may be text, a message, an exception, or a function of the request that gives one of these; ``seconds``
    is how long it thinks before.
    """

    id = "naming"
    provider = "test"

    def __init__(self, name: Any = "A Generated Name", summary: Any = None, seconds: float = 0.0) -> None:
        self.answers = {"name": name, "summary": summary or '{"summary": "They spoke.", "topics": ["speech"]}'}
        self.seconds = seconds
        self.requests: list[ModelRequest] = []

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        if request.purpose == "answer":
            yield _part("ok")
            return
        self.requests.append(request)
        if self.seconds:
            await world.sleep(self.seconds)
        answer = self.answers[request.purpose]
        said = answer(request) if callable(answer) else answer
        if isinstance(said, BaseException):
            raise said
        yield _part(said)

    def asked(self, purpose: str = "name") -> list[ModelRequest]:
        return [request for request in self.requests if request.purpose == purpose]

    def chars(self, number: int = -1, purpose: str = "name") -> int:
        """How many characters one of its side tasks was asked with."""
        return sum(len(message.text) for message in self.asked(purpose)[number].messages)
