"""One run: begin, ask, call tools, append, finish. The only loop; not streaming is draining it.

Each thing is committed before it is told: what was asked before the model sees it, each step before the next begins,
the answer before ``RunCompleted``. Nothing is held across a ``yield``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.errors import (
    InvalidArgument,
    RecollectError,
    RunConflict,
    RunInProgress,
    SessionBusy,
    StepLimit,
)
from recollect.lease import Moment, moment
from recollect.plan import Plan
from recollect.port import Access, Stopped
from recollect.run import RunEvent, RunOutput, RunOutputEvent, RunStatus, execution, input_messages
from recollect.store import keep_alive
from recollect.store.begin import begin_run
from recollect.store.continued import Continued, continue_run
from recollect.store.outcome import certain
from recollect.store.sessions import get_run, get_values
from recollect.store.turns import OpenRun, new_token
from recollect.tools import Tool
from recollect.turn import NAPS, Events, PlacedCall, Turn, fitted, parse_answer

log = logging.getLogger("recollect")

TRIES: Final = 4
"""How often a run is begun whose id was taken, and then was free again, before it counts as under way."""


async def run_events(planned: Callable[[], Awaitable[Plan]], access: Access) -> Events:
    """Run what is planned, telling what happens; the last event carries the stored run.

    An event loop that ends closes all generators at once. So that none finds another already closing, this is the
    outermost one, and the only one that waits for something then.

    Raises:
        ModelError: the model failed; the run is stored with status ``error``.
        StepLimit: the model went on calling tools; likewise.
        RunInProgress: a run with this id is under way.
        RecollectError: the run could not begin, or not be stored.
    """
    plan = await planned()
    check_tools(plan.tools, access)
    token, turn = new_token(), None
    try:
        turn = await (_continue_or_know if plan.continues else _begin_or_know)(plan, access, token)
        if isinstance(turn, RunOutput):
            for event in _stored(turn):
                yield event
            return
        try:
            yield turn.event(RunEvent.run_started)
            if plan.others == "queue" and not plan.continues:
                await turn.wait_for_others()
            async with aclosing(_steps(turn)) as events:
                async for event in events:
                    yield event
        except (Stopped, RecollectError) as error:
            ended = await turn.ended(error)
            yield ended
            if ended.event is RunEvent.run_cancelled:
                return
            raise
    except access.world.interrupts:
        if not isinstance(turn, RunOutput):
            ending = turn.cancel() if turn is not None else _cancel_unknown(plan, access, token)
            await access.world.finish(ending)
        raise
    if plan.follow_up is not None and turn.commit is not None:
        await plan.follow_up(turn.commit)
    yield turn.event(RunEvent.run_completed, run=turn.output)


async def drain(events: Events) -> RunOutput:
    """Run it to the end; the stored run."""
    run: RunOutput | None = None
    async with aclosing(events):
        async for event in events:
            run = event.run or run
    assert run is not None
    return run


async def _begin_or_know(plan: Plan, access: Access, token: int) -> Turn | RunOutput:
    """Begin; or give the run that is there already: a caller that tries again gets the answer of the first attempt.

    One that failed, was cancelled or was interrupted is begun again, as the next attempt of the same run.

    Raises:
        RunInProgress: a run with this id is under way.
    """
    again = False
    for _ in range(TRIES):
        try:
            return await _begin(plan, access, token, again=again)
        except RunConflict:
            run = await access.do(get_run, plan.run_id, plan.session_id, plan.user_id)
            if run is None and plan.replaces is not None:
                raise
        if run is not None and run.status is RunStatus.completed:
            return await _known(plan, access, run)
        if run is not None and run.status is RunStatus.running:
            break
        again = run is not None
    raise _in_progress(plan)


async def _begin(plan: Plan, access: Access, token: int, *, again: bool) -> Turn:
    began, at = time.perf_counter(), moment()
    opened = await certain(
        access,
        begin_run,
        plan.session_id,
        plan.stored(plan.input),
        run_id=plan.run_id,
        user_id=plan.user_id,
        kind=plan.kind,
        agent_id=plan.agent_id,
        agent_name=plan.agent_name,
        team_id=plan.team_id,
        parent_run_id=plan.parent_run_id,
        replaces=plan.replaces,
        beside=plan.beside,
        model=plan.model.id,
        prompt=plan.prompt,
        metadata=plan.metadata,
        state=plan.state,
        state_defaults=plan.state_defaults,
        history=plan.history,
        with_state=plan.with_state,
        with_summary=plan.with_summary,
        again=again,
        alone=plan.others == "refuse",
        expire_after=plan.expire_after,
        token=token,
    )
    opened.lease.sign(at)
    opened = await fitted(plan, access, opened)
    _hold(plan, access, opened)
    return Turn(plan, access, opened, began)


def _hold(plan: Plan, access: Access, opened: OpenRun) -> None:
    """Have the run's lease renewed, and the run end with the one that it is part of."""
    keep_alive(access.db, opened)
    if plan.leader is not None:
        plan.leader.lead(opened.stop)


async def _continue_or_know(plan: Plan, access: Access, token: int) -> Turn | RunOutput:
    """Take the run up where it stopped; or give it, where it was completed.

    Raises:
        RunInProgress: it is under way.
        NotFound: it is not there for this caller.
    """
    began = time.perf_counter()
    for _ in range(TRIES):
        try:
            found, at = await _continued(plan, access, token)
        except RunConflict:
            run = await access.do(get_run, plan.run_id, plan.session_id, plan.user_id)
        else:
            found.open.lease.sign(at)
            opened = await fitted(plan, access, found.open)
            _hold(plan, access, opened)
            turn = Turn(_as_begun(plan, found.run), access, opened, began)
            turn.take_up(found.said)
            return turn
        if run is not None and run.status is RunStatus.completed:
            return await _known(plan, access, run)
        if run is not None and run.status is RunStatus.running:
            break
    raise _in_progress(plan)


async def _known(plan: Plan, access: Access, run: RunOutput) -> RunOutput:
    """A run that was completed before, as its caller was given it then; the state is that of today."""
    parsed = None if plan.answer is None else parse_answer(plan.answer, run.content)
    if not plan.with_state:
        return msgspec.structs.replace(run, parsed=parsed)
    state = await access.do(get_values, plan.session_id, "state", plan.user_id)
    return msgspec.structs.replace(run, parsed=parsed, state_json=checks.encode(state).decode())


async def _continued(plan: Plan, access: Access, token: int) -> tuple[Continued, Moment]:
    """Take the run up, and when that was; where runs are queued, when no other is under way.

    Raises:
        SessionBusy: another one is, and runs refuse each other, or it has not ended in time.
    """
    until, nap = time.monotonic() + plan.patience, NAPS[0]
    while True:
        at = moment()
        try:
            found = await access.do(
                continue_run,
                plan.run_id,
                plan.session_id,
                plan.user_id,
                model=plan.model.id,
                history=plan.history,
                with_state=plan.with_state,
                with_summary=plan.with_summary,
                beside=plan.beside,
                alone=plan.others != "allow",
                seize=plan.leader is not None,
                token=token,
            )
        except SessionBusy:
            if plan.others == "refuse" or time.monotonic() > until:
                raise
        else:
            return found, at
        await access.world.sleep(nap)
        nap = min(2 * nap, NAPS[1])


def _as_begun(plan: Plan, run: RunOutput) -> Plan:
    """What the run was begun with; model, tools and limits are those of the one who continues it."""
    return msgspec.structs.replace(
        plan,
        input=input_messages(run.said, run.input_count),
        agent_id=run.agent_id,
        agent_name=run.agent_name,
        team_id=run.team_id,
        parent_run_id=run.parent_run_id,
        prompt=run.prompt,
        metadata=run.metadata,
    )


def _in_progress(plan: Plan) -> RunInProgress:
    return RunInProgress(
        f"run {plan.run_id!r} of session {plan.session_id!r} is under way; wait for it, or give another run_id"
    )


async def _cancel_unknown(plan: Plan, access: Access, token: int) -> None:
    """Settle a run whose begin was interrupted, if it was committed after all."""
    try:
        run = await access.do(get_run, plan.run_id, plan.session_id)
    except RecollectError as error:
        log.warning("whether run %s was begun could not be looked up: %s", plan.run_id, error)
        return
    if run is None or run.run_seq is None or run.created_at is None:
        return
    opened = OpenRun(
        session_id=plan.session_id,
        run_id=plan.run_id,
        run_seq=run.run_seq,
        token=token,
        version=0,
        epoch=0,
        created_at=run.created_at,
        parent_run_id=plan.parent_run_id,
        took=run.metrics,
    )
    await Turn(plan, access, opened, time.perf_counter()).cancel()


def _stored(run: RunOutput) -> Iterator[RunOutputEvent]:
    """What is told of a run that was completed before."""
    told: dict[str, Any] = {
        name: getattr(run, name)
        for name in ("run_id", "session_id", "agent_id", "agent_name", "team_id", "parent_run_id")
    }
    if isinstance(run.content, str):
        yield RunOutputEvent(event=RunEvent.run_content, content=run.content, **told)
    yield RunOutputEvent(event=RunEvent.run_completed, run=run, **told)


async def _steps(turn: Turn) -> Events:
    try:
        async with aclosing(_tools(turn, turn.left_open)) as called:
            async for event in called:
                yield event
        asked = 0
        while (answer := turn.last_word()) is None:
            if asked == turn.plan.max_steps:
                raise _too_many_steps(asked)
            asked += 1
            async with aclosing(turn.ask()) as pieces:
                async for piece in pieces:
                    yield piece
            reply = turn.take_reply()
            if not reply.tool_calls:
                await turn.complete(reply)
                return
            await turn.append(reply)
            async with aclosing(_tools(turn, turn.reserve(reply.tool_calls))) as called:
                async for event in called:
                    yield event
        if not turn.has_spoken:
            yield turn.event(RunEvent.run_content, content=answer.text)
        await turn.complete(answer)
    except Stopped:
        await turn.hold()  # where the run is somebody else's now, that is what is raised
        raise


def _too_many_steps(asked: int) -> StepLimit:
    return StepLimit(f"the model went on calling tools after max_steps={asked} answers; raise it or mend the tools")


async def _tools(turn: Turn, calls: Sequence[PlacedCall]) -> Events:
    if not calls:
        return
    for _, call in calls:
        yield turn.event(RunEvent.tool_call_started, tool=execution(call.id, call.name, call.arguments, None))
    async with aclosing(turn.call_tools(calls)) as events:
        async for event in events:
            yield event


def check_tools(tools: Mapping[str, Tool], access: Access) -> None:
    """See to it that no tool must be awaited where nothing can be.

    Raises:
        InvalidArgument: one must.
    """
    if access.world.waits:
        return
    waiting = [name for tool in tools.values() for name in tool.waiting]
    if waiting:
        raise InvalidArgument("tools", f"{', '.join(waiting)} must be awaited; use arun(), or give plain functions")
