"""A run while it is under way: what was said until now, and where the next thing goes.

Each thing is committed before it is told. Nothing is held across a ``yield``.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.ask import answers, nothing_said
from recollect.errors import RecollectError, RunFailed, RunLost, SessionBusy
from recollect.history import UNKNOWN_OUTCOME
from recollect.lease import moment
from recollect.message import Message, ToolCall, Usage
from recollect.plan import Plan
from recollect.port import Access, ModelRequest, Reply, Stopped, drive
from recollect.run import (
    RunEvent,
    RunMetrics,
    RunOutput,
    RunOutputEvent,
    RunStatus,
    TeamRunOutput,
    execution,
)
from recollect.state import State, state_text
from recollect.store import keep_alive, turns
from recollect.store.begin import count_ahead, refresh_run
from recollect.store.outcome import certain
from recollect.store.sessions import get_run, get_values
from recollect.store.turns import Commit, OpenRun, append_messages, finish_run, input_count, renew_lease
from recollect.summary import context_text
from recollect.tokens import TOKENIZERS
from recollect.tools import RunContext, ToolResult, Work, schema_of

log = logging.getLogger("recollect")

Events = AsyncGenerator[RunOutputEvent, None]
PlacedCall = tuple[int, ToolCall]
"""A tool call, and the place in the run that is reserved for its result."""

_Arrival = RunOutputEvent | tuple[int, ToolCall, ToolResult]
"""What comes of a call while it is made: what happens in it, and its result with the place that is kept for that."""

NAPS: Final = (0.005, 0.1)
"""Seconds between two looks at the runs before: the first, and the longest."""


class Turn:
    """A run while it is under way: what was said until now, and where the next thing goes."""

    def __init__(self, plan: Plan, access: Access, opened: OpenRun, began: float) -> None:
        self.plan = plan
        self.output: RunOutput | None = None
        """The run as it was stored in the end."""
        self.commit: Commit | None = None
        """What that left."""
        self._ending: tuple[RunStatus, RunMetrics, str | None, Commit] | None = None
        """How it ended."""
        self.left_open: list[PlacedCall] = []
        """Tool calls of a run taken up again that have no result yet."""
        self._access = access
        self._began = began
        self._said: dict[int, Message] = dict(enumerate(plan.input))
        self._place = len(plan.input)
        self._unstored: set[int] = set()
        """Places of what is said and not stored."""
        self._pieces: list[str] = []
        self._reply: Reply | None = None
        self._usage = Usage(**{name: getattr(opened.took, name) for name in Usage.__struct_fields__})
        self._steps = opened.took.steps
        self._first_token: float | None = opened.took.time_to_first_token
        self._opened = opened
        self._state = State(opened.state)
        self._last_words = frozenset(name for name, tool in plan.tools.items() if tool.is_last_word)
        self._context = RunContext(
            run_id=plan.run_id,
            session_id=plan.session_id,
            user_id=plan.user_id,
            agent_id=plan.agent_id,
            team_id=plan.team_id,
            session_state=self._state.live,
            metadata=checks.decode(checks.encode(plan.metadata)),
        )
        if not access.world.waits:
            # Nothing wakes a thread that waits for a model; so whoever asks for the end stores it.
            opened.stop.hear = partial(_cancel_there, weakref.ref(self))

    def take_up(self, said: Sequence[tuple[int, Message]]) -> None:
        """Go on after what was said before the run stopped."""
        self._said = dict(said)
        if not said:
            return
        place, last = next(((at, one) for at, one in reversed(said) if one.role != "tool"), said[-1])
        reserved = [(place + 1 + number, call) for number, call in enumerate(last.tool_calls)]
        self._place = max(place + len(reserved), said[-1][0]) + 1
        results = {at: one for at, one in said if at > place}
        for at, call in _unanswered(reserved, results):
            self.left_open += [(at, call)] if at not in results else self.reserve([call])

    async def hold(self) -> None:
        """Be sure that the run is still this process's own, and to go on.

        Nothing is asked while its last sign of life is younger than its lease: nobody can have taken it over by then.

        Raises:
            Stopped: somebody asked for its end.
            RunLost: it was ended or taken over by somebody else.
            SessionNotFound: the session was deleted meanwhile.
        """
        stop, lease = self._opened.stop, self._opened.lease
        if stop.is_lost or not lease.lasts(turns.LEASE):
            at = moment()
            to_end = await self._access.do(renew_lease, self._opened)
            lease.sign(at)
            if to_end:
                raise Stopped
        if stop.requested:
            raise Stopped

    async def ended(self, error: Stopped | RecollectError) -> RunOutputEvent:
        """Store why there is no answer, and tell it: somebody asked for the end, or something went wrong.

        Raises:
            RunLost: the end was asked for, and the run is gone with its session.
        """
        stop = self._opened.stop
        if isinstance(error, Stopped) or (isinstance(error, RunLost) and stop.requested and not stop.is_lost):
            return self.event(RunEvent.run_cancelled, run=await self._stopped())
        return self.event(RunEvent.run_error, run=await self._fail(error), error=str(error))

    async def _stopped(self) -> RunOutput:
        """The run as it was stored when somebody asked for its end."""
        await self.cancel()
        run = self.output or await self._access.do(get_run, self.plan.run_id, self.plan.session_id)
        if run is None:
            raise RunLost
        return run

    async def wait_for_others(self) -> None:
        """Wait until the runs that began before this one have ended, and see what they left.

        Raises:
            SessionBusy: they have not ended in time.
            Stopped, RunLost, SessionNotFound: as `hold`.
        """
        plan, do, nap = self.plan, self._access.do, NAPS[0]
        until = time.monotonic() + plan.patience
        waited = False
        while await do(count_ahead, self._opened):
            await self.hold()
            if time.monotonic() > until:
                raise SessionBusy(
                    f"the runs before this one in session {plan.session_id!r} did not end in {plan.patience:g} s"
                )
            waited = True
            await self._access.world.sleep(nap)
            nap = min(2 * nap, NAPS[1])
        if waited:
            opened = await do(
                refresh_run,
                self._opened,
                history=plan.history,
                with_state=plan.with_state,
                with_summary=plan.with_summary,
            )
            opened = await fitted(plan, self._access, opened)
            keep_alive(self._access.db, opened)
            state = State(opened.state)
            # First what tools see: whoever ends the run just now would take what others stored for deleted.
            self._context.session_state = state.live
            self._opened, self._state = opened, state

    def event(self, what: RunEvent, **told: Any) -> RunOutputEvent:
        """Something that happened in this run."""
        plan = self.plan
        return RunOutputEvent(
            event=what,
            run_id=plan.run_id,
            session_id=plan.session_id,
            agent_id=plan.agent_id,
            agent_name=plan.agent_name,
            team_id=plan.team_id,
            parent_run_id=plan.parent_run_id,
            **told,
        )

    async def ask(self) -> Events:
        """Ask the model once more, telling the pieces of its answer; the whole of it is for `take_reply`.

        Raises:
            ModelError: the model failed to answer.
        """
        plan = self.plan
        request = ModelRequest(
            messages=self._shown(),
            tools=[tool.spec for tool in plan.tools.values()],
            output_schema=None if plan.answer is None else schema_of(plan.answer),
            stream=plan.stream,
        )
        self._steps += 1
        self._pieces.clear()
        world = self._access.world
        async with aclosing(world.until(self._opened.stop, answers(plan.model, request, world))) as said:
            async for item in said:
                self._first_token = self._first_token or time.perf_counter() - self._began
                if isinstance(item, Reply):
                    self._reply = item
                    continue
                if item.reasoning:
                    yield self.event(RunEvent.reasoning_content, reasoning_content=item.reasoning)
                if item.content:
                    self._pieces.append(item.content)
                    yield self.event(RunEvent.run_content, content=item.content)
        if self._reply is None:
            raise nothing_said(plan.model)
        if not self._pieces and self._reply.message.text:
            yield self.event(RunEvent.run_content, content=self._reply.message.text)

    def take_reply(self) -> Message:
        """The model's whole answer to the last `ask`."""
        assert self._reply is not None
        reply, self._reply = self._reply, None
        self._pieces.clear()
        self._usage += reply.usage
        return reply.message

    async def append(self, reply: Message) -> None:
        """Commit at the next place what the model said when it called tools."""
        if not self.plan.store_tool_messages:
            self._unstored.update(range(self._place, self._place + 1 + len(reply.tool_calls)))
        await self._commit(self._place, (reply,))
        self._place += 1

    def reserve(self, calls: Sequence[ToolCall]) -> list[PlacedCall]:
        """A place for the result of each call, in the order of the calls."""
        first = self._place
        self._place += len(calls)
        return list(enumerate(calls, first))

    async def call_tools(self, calls: Sequence[PlacedCall]) -> Events:
        """Call tools at the same time; commit each result as it arrives, at the place reserved for it.

        Where one call has the last word, what is said in it is said to whoever asked, as it comes.
        """
        world = self._access.world
        hands_on = len(calls) == 1 and calls[0][1].name in self._last_words
        running = [self._call(place, call, hands_on=hands_on) for place, call in calls]
        async with aclosing(world.until(self._opened.stop, world.merge(running))) as arrivals:
            async for item in arrivals:
                if isinstance(item, RunOutputEvent):
                    if item.content and item.run_id == self.plan.run_id:
                        self._pieces.append(item.content)
                    yield item
                    continue
                place, call, result = item
                message = _tool_message(call, result)
                await self._take_result(place, message)
                done = execution(call.id, call.name, call.arguments, message)
                yield self.event(RunEvent.tool_call_completed, tool=done)

    async def _take_result(self, place: int, message: Message) -> None:
        await self._commit(place, (message,))
        tool = self.plan.tools.get(message.name or "")
        if self.plan.with_state and tool is not None and tool.shares_state:
            self._state.see(await self._access.do(get_values, self.plan.session_id, "state"))

    @property
    def has_spoken(self) -> bool:
        """Whether something of the answer was told since the model was last asked."""
        return bool(self._pieces)

    def last_word(self) -> Message | None:
        """The answer, where the tools that were last called have the last word and did not fail; None elsewhere."""
        if not self._last_words:
            return None
        said = [self._said[place] for place in sorted(self._said)][len(self.plan.input) :]
        start = next((at for at in reversed(range(len(said))) if said[at].role != "tool"), None)
        if start is None:
            return None
        calls, results = said[start].tool_calls, said[start + 1 :]
        if len(results) < max(1, len(calls)) or {call.name for call in calls} - self._last_words:
            return None
        if any(result.tool_call_error for result in results):
            return None
        return Message("assistant", "\n\n".join(result.text for result in results))

    async def complete(self, answer: Message) -> None:
        """Commit the answer and the end of the run together."""
        await self._finish(RunStatus.completed, (answer,))

    async def _fail(self, error: RecollectError) -> RunOutput | None:
        """Store why there is no answer, and tell the error of it."""
        run = await self._end(RunStatus.error, str(error))
        if isinstance(error, RunFailed):
            error.run = run
        return run

    async def cancel(self) -> None:
        """Store what was said until now; runs that are part of this one end, too."""
        await self._end(RunStatus.cancelled)
        self._opened.stop.ask_followers()

    async def _end(self, status: RunStatus, problem: str | None = None) -> RunOutput | None:
        """End without an answer. Something else is being raised: what goes wrong here is logged."""
        if self.output is None:
            try:
                await self._finish(status, self._unfinished(str(status)), problem)
            except RunLost:
                log.debug("run %s had ended before it could be stored as %s", self.plan.run_id, status)
            except RecollectError as error:
                log.warning("run %s could not be stored as %s: %s", self.plan.run_id, status, error)
        elif self._ending is not None:  # another thread stored it, beside the last step of this one
            self.output = self._output(*self._ending)
        return self.output

    def _shown(self) -> list[Message]:
        summary = self._opened.summary
        told = [] if summary is None else [context_text(summary)]
        if self.plan.tells_state:
            told.append(state_text(self._state.to_json()))
        if self.plan.context:
            told.append(self.plan.context)
        prompt = instructed(self.plan.prompt, told)
        return [*prompt, *self._opened.history.messages, *(self._said[place] for place in sorted(self._said))]

    async def _call(self, place: int, call: ToolCall, *, hands_on: bool) -> AsyncIterator[_Arrival]:
        tool = self.plan.tools.get(call.name)
        if tool is None:
            known = ", ".join(self.plan.tools) or "none"
            yield place, call, ToolResult(f"there is no tool {call.name!r}; there are: {known}", error=True)
        elif (place, call) in self.left_open and not tool.repeatable:
            yield place, call, ToolResult(UNKNOWN_OUTCOME, error=True)
        else:
            await self.hold()
            async with aclosing(tool.work(self._work(place, call))) as items:
                async for item in items:
                    if isinstance(item, ToolResult):
                        yield place, call, item
                        continue
                    if tool.tells:
                        yield item
                    if hands_on and item.content and item.parent_run_id == self.plan.run_id:
                        yield self.event(RunEvent.run_content, content=item.content)

    def _work(self, place: int, call: ToolCall) -> Work:
        return Work(
            call=call,
            place=place,
            context=self._context,
            access=self._access,
            stop=self._opened.stop,
            input=self.plan.input,
            said=[self._said[at] for at in sorted(self._said)],
            beside=self._beside(),
            past=self._opened.history.messages,
            again=(place, call) in self.left_open or (self.plan.continues and not self.plan.store_tool_messages),
            stream=self.plan.stream,
        )

    def _beside(self) -> tuple[int, int] | None:
        opened = self._opened
        return self.plan.beside if opened.before is None else (opened.before, opened.run_seq)

    async def _commit(self, place: int, messages: tuple[Message, ...]) -> None:
        changes, at = self._changes(), moment()
        stored = () if place in self._unstored else self.plan.stored(messages)
        if stored or changes:
            await certain(self._access, append_messages, self._opened, stored, at=self._stored_at(place), state=changes)
            self._opened.lease.sign(at)
        self._keep(place, messages)

    def _stored_at(self, place: int) -> int:
        """The place in what is stored."""
        return place - sum(unstored < place for unstored in self._unstored)

    def _changes(self) -> dict[str, str | None]:
        """What tools changed in the state; one may have put another dictionary in its place."""
        if isinstance(self._context.session_state, dict):
            self._state.live = self._context.session_state
        return self._state.changes()

    async def _finish(self, status: RunStatus, messages: tuple[Message, ...], error: str | None = None) -> RunOutput:
        metrics = self._metrics()
        commit = await certain(
            self._access,
            finish_run,
            self._opened,
            self.plan.stored(messages),
            at=self._stored_at(self._place),
            status=status,
            metrics=metrics,
            error=error,
            state=self._changes(),
        )
        self._keep(self._place, messages)
        self.commit = commit
        self._ending = status, metrics, error, commit
        self.output = self._output(*self._ending)
        return self.output

    def _keep(self, place: int, messages: tuple[Message, ...]) -> None:
        self._said.update(enumerate(messages, place))
        self._state.stored()

    def _with_id(self, place: int, message: Message) -> Message:
        """A message under the id that it is stored with, where it is stored."""
        if message.id or place in self._unstored:
            return message
        return message.with_id(f"{self.plan.run_id}.{self._stored_at(place)}")

    def _unfinished(self, reason: str) -> tuple[Message, ...]:
        whole = self._reply.message.text if self._reply is not None else ""
        said = checks.clean_text("".join(self._pieces) or whole)[0]
        return (Message("assistant", said, finish_reason=reason),) if said else ()

    def _metrics(self) -> RunMetrics:
        usage, history = self._usage, self._opened.history
        return RunMetrics(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            duration=round(time.perf_counter() - self._began, 6),
            time_to_first_token=None if self._first_token is None else round(self._first_token, 6),
            steps=self._steps,
            history_runs=history.runs,
            history_cut=history.cut,
            history_tokens=history.tokens,
            history_counted=history.counted,
        )

    def _output(self, status: RunStatus, metrics: RunMetrics, error: str | None, commit: Commit) -> RunOutput:
        plan = self.plan
        said = plan.stored(tuple(self._with_id(place, self._said[place]) for place in sorted(self._said)))
        prompt = () if plan.prompt is None else (plan.prompt.with_id(f"{plan.run_id}.prompt"),)
        run = (RunOutput if plan.team_id is None else TeamRunOutput)(
            run_id=plan.run_id,
            session_id=plan.session_id,
            status=status,
            user_id=plan.user_id,
            agent_id=plan.agent_id,
            agent_name=plan.agent_name,
            team_id=plan.team_id,
            parent_run_id=plan.parent_run_id,
            replaces=self._opened.replaces,
            model=plan.model.id,
            messages=(*prompt, *said),
            metrics=metrics,
            error=error,
            attempt=self._opened.attempt,
            run_seq=commit.place,
            created_at=self._opened.created_at,
            finished_at=commit.at,
            input_count=input_count(plan.input),
            metadata_json=checks.encode(plan.metadata).decode() if plan.metadata else None,
            state_json=self._state.to_json() if plan.with_state else None,
        )
        if plan.answer is None or status is not RunStatus.completed:
            return run
        return msgspec.structs.replace(run, parsed=parse_answer(plan.answer, run.content))


async def fitted(plan: Plan, access: Access, opened: OpenRun) -> OpenRun:
    """The run with the past as the model is shown it, where tokens are counted no more than may be."""
    past = opened.history
    if plan.budget is not None:
        return msgspec.structs.replace(opened, history=await plan.budget.fit(past, access.world))
    if past.messages and plan.history is not None and plan.history.tokens is not None:
        TOKENIZERS.ask(plan.model.id)
    return opened


def _cancel_there(turn: weakref.ref[Turn]) -> None:
    known = turn()
    if known is not None and not known._opened.stop.is_lost:  # noqa: SLF001 - a function of this very class
        drive(known.cancel())


def _unanswered(reserved: Sequence[PlacedCall], results: Mapping[int, Message]) -> list[PlacedCall]:
    """The calls of a step without a result. An id may be there twice: some providers count anew in each step."""
    given = {(at, result.tool_call_id) for at, result in results.items()}
    elsewhere = {call_id for _, call_id in given - {(at, call.id) for at, call in reserved}}
    return [(at, call) for at, call in reserved if (at, call.id) not in given and call.id not in elsewhere]


def instructed(prompt: Message | None, told: Sequence[str]) -> list[Message]:
    """The system message as the model is shown it: what is so by now goes behind what always holds.

    In one message, for some servers take no second one; what is stored is the part that does not change.
    """
    if not told:
        return [] if prompt is None else [prompt]
    if prompt is None:
        return [Message("system", "\n\n".join(told))]
    return [Message(prompt.role, "\n\n".join((prompt.text, *told)))]


def parse_answer(kind: Any, text: Any) -> Any:
    """The answer as an object of the type that was asked for; None where the text does not describe one."""
    try:
        if hasattr(kind, "model_validate_json"):
            return kind.model_validate_json(text)
        return msgspec.json.decode(text, type=kind)
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        log.warning("the answer is no %s; its text is kept", getattr(kind, "__name__", kind))
        log.debug("%s", error)
        return None


def _tool_message(call: ToolCall, result: ToolResult) -> Message:
    marks: dict[str, Any] = {"tool_call_error": True} if result.error else {}
    if result.repaired:
        marks["repaired"] = True
    return Message("tool", result.text, tool_call_id=call.id, name=call.name, **marks)
