"""A turn as it begins: what was asked is stored, and what the model is to be shown is read.

The header comes first in the transaction: it is the gate that decides who may write, and gives place and version.
Every later statement repeats the condition, so that a closed gate changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.errors import RunConflict, RunNotFound, SessionBusy, UserRequired
from recollect.history import History, HistoryLimits
from recollect.message import Message, messages_of
from recollect.port import Duplicate, Params, Row, Statement, Tx, at_once, looks, reads, writes
from recollect.session import SessionSummary, read_summary
from recollect.store import turns
from recollect.store.attempts import discard
from recollect.store.deletion import clear_expired
from recollect.store.newest import UNDER_WAY
from recollect.store.past import Past, left_out, past, read_past
from recollect.store.replaced import find_place
from recollect.store.rows import LIVE, LOCK, OPEN, no_session
from recollect.store.turns import OpenRun, chars, digest, input_count, new_id, new_token, placed, spoken


@at_once
@writes
async def begin_run(
    tx: Tx,
    session_id: str,
    input: Sequence[Message],
    *,
    run_id: str | None = None,
    user_id: str | None = None,
    kind: str = "agent",
    agent_id: str | None = None,
    agent_name: str | None = None,
    team_id: str | None = None,
    parent_run_id: str | None = None,
    replaces: str | None = None,
    beside: tuple[int, int] | None = None,
    model: str | None = None,
    prompt: Message | None = None,
    metadata: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    state_defaults: Mapping[str, Any] | None = None,
    history: HistoryLimits | None = None,
    with_state: bool = False,
    with_summary: bool = False,
    again: bool = False,
    alone: bool = False,
    expire_after: timedelta | None = None,
    known: tuple[int, int] | None = None,
    token: int | None = None,
) -> OpenRun:
    """Begin a run and store what was asked, making the session if there is none.

    ``history`` asks for the past within limits, ``with_state`` for the session's state, ``with_summary`` for its
    summary; ``state`` sets keys of the state, ``state_defaults`` those that it does not have yet. ``again`` lets the
    run take the place of an attempt under the same ``run_id`` that failed, was cancelled or was interrupted: what that
    had stored is gone. ``replaces`` names a run whose place this one is to have: its past is what came before that
    place, and until it is completed the conversation is as it was. ``beside`` are two places: for a member's part in
    such a run, what stands from the first to the second is no past. ``alone`` refuses a run beside one under way.
    ``expire_after`` is how long after this begin, or a later one, the session is gone; None leaves that as it is, and
    so does a session that was told of its own (`set_session_expiry`).
    ``known`` is the epoch and version of a session whose past the caller has: while that is the newest, it is not read,
    and ``past`` is None.

    Raises:
        InvalidArgument: something cannot be stored; nothing was written.
        UserRequired: the session belongs to a user and none was named.
        SessionNotFound: the session is another user's, or nobody's while a user was named.
        RunNotFound: there is no run to replace.
        RunInProgress: the run to replace is under way.
        RunConflict: the session has a run with this id already; with ``again``, one that is under way or completed; or
            the run to replace was replaced already.
        SessionBusy: ``alone``, and it is not.
    """
    asked = messages_of("input", input)
    p: Params = {
        **_of_session(session_id, user_id, kind, agent_id, team_id),
        **_of_run(run_id, agent_name, parent_run_id, model, prompt, metadata),
        **_of_input(asked, top=parent_run_id is None),
        "expire_after": checks.optional_span("expire_after", expire_after),
        "token": new_token() if token is None else token,
        "lease": turns.LEASE,
        **left_out(beside),
    }
    p["attempt"] = 1 + await discard(tx, p) if again else 1
    if replaces is not None:
        p["replaces"], p["before"] = await find_place(tx, p, replaces)
        known = None
    batch = [
        *_begin(p, asked, prompt),
        *_state(p, "session_state", state, _SET_VALUE_OF_MINE),
        *_state(p, "state_defaults", state_defaults, _SET_VALUE_IF_NONE),
    ]
    reading = {STATE_OF: with_state, SUMMARY_OF: with_summary, _OTHERS: alone}
    wanted = [
        *([] if history is None else [past(p, history, known)]),
        *((sql, p) for sql, read in reading.items() if read),
    ]
    gate, others, answers = await _passed(tx, p, batch, wanted, alone=alone)
    summary = read_summary(dict(answers.pop())) if with_summary else None
    seen = None if history is None else await _past(tx, p, gate, answers[0], history, known)
    return _opened(
        p,
        gate,
        history=History() if seen is None or history is None else seen.history(history),
        past=seen,
        is_apart=not others,
        state=dict(answers[-1]) if with_state else {},
        summary=summary,
    )


async def _passed(
    tx: Tx, p: Params, batch: Sequence[Statement], wanted: Sequence[Statement], *, alone: bool
) -> tuple[Row, list[Row], list[list[Row]]]:
    """Pass the gate: what it gives, the other runs under way, and what is ``wanted``."""
    try:
        gate, others, *answers = await _answers(tx, p, [*batch, *wanted], more=alone)
        if not gate and p["top"]:
            await clear_expired(tx, p["session_id"])
            gate, others, *answers = await _answers(tx, p, [*batch, *wanted], more=alone)
    except Duplicate as error:
        raise RunConflict(f"session {p['session_id']!r} has a run {p['run_id']!r} already") from error
    if not gate:
        raise await _refusal(tx, p)
    answers = answers[len(batch) - 2 :]
    if alone and answers.pop():
        raise busy(p["session_id"])
    if not all(alive for _, alive in others):
        await tx.execute((LOCK, p), *((sql, p) for sql in _SETTLE))
    return gate[0], others, answers


async def _past(
    tx: Tx, p: Params, gate: Row, found: list[Row], history: HistoryLimits, known: tuple[int, int] | None
) -> Past | None:
    """What came before a run that has begun; None where the caller has it."""
    run_seq, version, epoch, _, completed, begun = gate
    if known == (epoch, version - 1):
        return None
    if "before" in p:
        return await read_past(tx, p, found, history, 0, p["before"] - 1 + p["top"])
    return await read_past(tx, p, found, history, completed, begun if p["top"] else run_seq)


def _opened(
    p: Params,
    gate: Row,
    *,
    history: History,
    past: Past | None,
    is_apart: bool,
    state: Mapping[str, str],
    summary: SessionSummary | None,
) -> OpenRun:
    """A run as its begin left it, with what was read for it."""
    run_seq, version, epoch, now, *_ = gate
    return OpenRun(
        session_id=p["session_id"],
        run_id=p["run_id"],
        token=p["token"],
        parent_run_id=p["parent_run_id"],
        agent_id=p["agent_id"],
        team_id=p["team_id"],
        attempt=p["attempt"],
        replaces=p["replaces"],
        run_seq=run_seq,
        version=version,
        epoch=epoch,
        created_at=checks.from_micros(now),
        before=p.get("before"),
        history=history,
        past=past,
        is_apart=is_apart,
        state=state,
        summary=summary,
    )


async def _answers(tx: Tx, p: Params, batch: Sequence[Statement], *, more: bool) -> list[list[Row]]:
    """What the statements of a begin find. That of a member depends on another run, too, so it takes the header."""
    locks: list[Statement] = [] if p["top"] else [(LOCK, p)]
    return (await tx.execute(*locks, *batch, more=more))[len(locks) :]


async def _refusal(tx: Tx, p: Params) -> Exception:
    """Why a run could not begin."""
    if not p["top"]:
        [found] = await tx.execute((_OWNER, p))
        if not found:
            return no_session(p["session_id"])
        if found[0][0] == p["user_id"]:
            return RunNotFound(f"there is no run {p['parent_run_id']!r} in session {p['session_id']!r} to be part of")
    return UserRequired(p["session_id"]) if p["user_id"] is None else no_session(p["session_id"])


def busy(session_id: str) -> SessionBusy:
    """The error for a session in which a run is under way."""
    return SessionBusy(f"another run is under way in session {session_id!r}; wait for it, or queue runs")


@looks
async def count_ahead(tx: Tx, run: OpenRun) -> int:
    """How many top-level runs that began before this one are still under way."""
    [found] = await tx.execute((_AHEAD, {"session_id": run.session_id, "run_seq": run.run_seq}))
    return len(found)


@reads
async def refresh_run(
    tx: Tx,
    run: OpenRun,
    *,
    history: HistoryLimits | None = None,
    with_state: bool = False,
    with_summary: bool = False,
    beside: tuple[int, int] | None = None,
) -> OpenRun:
    """A run that waited for others, with the past, state and summary as those left them.

    Raises:
        SessionNotFound: the session was deleted meanwhile.
    """
    p: Params = {
        "session_id": run.session_id,
        "before": (before := run.before or run.run_seq),
        **left_out(beside),
        "top": int(run.parent_run_id is None),
        "agent_id": run.agent_id,
        "team_id": run.team_id,
    }
    there, state, summary = await tx.execute((_THERE, p), (STATE_OF, p), (SUMMARY_OF, p))
    if not there:
        raise no_session(run.session_id)
    seen = History()
    if history is not None:
        [found] = await tx.execute(past(p, history))
        seen = (await read_past(tx, p, found, history, 0, before - 1 + p["top"])).history(history)
    return msgspec.structs.replace(
        run,
        history=seen,
        state=dict(state) if with_state else {},
        summary=read_summary(dict(summary)) if with_summary else None,
    )


def _of_session(session_id: str, user_id: str | None, kind: str, agent_id: str | None, team_id: str | None) -> Params:
    return {
        "session_id": checks.identifier("session_id", session_id),
        "user_id": checks.optional_identifier("user_id", user_id),
        "kind": checks.one_of("kind", kind, ("agent", "team")),
        "agent_id": checks.optional_identifier("agent_id", agent_id),
        "team_id": checks.optional_identifier("team_id", team_id),
        "epoch": new_token(),
    }


def _of_run(
    run_id: str | None,
    agent_name: str | None,
    parent_run_id: str | None,
    model: str | None,
    prompt: Message | None,
    metadata: Mapping[str, Any] | None,
) -> Params:
    attached = None
    if metadata is not None:
        attached = checks.json_object("metadata", metadata) and checks.json_text("metadata", dict(metadata))
    return {
        "run_id": new_id() if run_id is None else checks.identifier("run_id", run_id),
        "agent_name": checks.optional_identifier("agent_name", agent_name),
        "parent_run_id": checks.optional_identifier("parent_run_id", parent_run_id),
        "model": checks.optional_identifier("model", model),
        "replaces": None,
        "digest": None if prompt is None else digest(prompt),
        "metadata": attached or None,
    }


def _of_input(asked: Sequence[Message], *, top: bool) -> Params:
    return {
        "top": int(top),
        "input": input_count(asked),
        "spoken": int(top) * spoken(asked),
        "chars": chars(asked),
        "preview": next((checks.preview(said.text) for said in asked if said.role == "user"), ""),
    }


def _begin(p: Params, asked: Sequence[Message], prompt: Message | None) -> list[Statement]:
    """What a begin writes; the first two answers are the gate and the other runs under way."""
    batch = [
        (_BEGIN_HEADER if p["top"] else _BEGIN_HEADER_OF_MEMBER, p),
        (_OTHERS_UNDER_WAY, p),
        (_gated(_BEGIN_RUN, p), p),
        (_gated(_BEGIN_LEASE, p), p),
        *(placed(_gated(_BEGIN_MESSAGE, p), p, place, said) for place, said in enumerate(asked)),
    ]
    if prompt is not None:
        batch.append((_gated(_BEGIN_PROMPT, p), {**p, "role": prompt.role, "body": prompt.to_json()}))
    return batch


def _state(p: Params, argument: str, values: Mapping[str, Any] | None, sql: str) -> list[Statement]:
    if values is None:
        return []
    texts = checks.json_object(argument, values)
    return [(_gated(sql, p), {**p, "key": key, "value": text}) for key, text in texts.items()]


def _gated(sql: str, p: Params) -> str:
    """A statement behind the gate: that of a member's run is shut where the run that it is part of is not there."""
    return sql if p["top"] else _of_member(sql)


@cache
def _of_member(sql: str) -> str:
    return sql.replace(OPEN, f"{OPEN} and {_HAS_PARENT}")


_HAS_PARENT: Final = """exists (
    select 1 from recollect_runs t where t.session_id = :session_id and t.run_id = :parent_run_id
)"""

# What a session was told of its own stays, "for good" too.
_KEPT_FOR: Final = """case
        when recollect_sessions.own_expiry = 1 then recollect_sessions.expire_after
        else coalesce(excluded.expire_after, recollect_sessions.expire_after)
    end"""

_BEGIN_HEADER = f"""
insert into recollect_sessions (
    session_id, kind, agent_id, team_id, user_id, preview, expire_after, expires_at, next_seq, run_count,
    message_count, version, epoch, created_at, updated_at
) values (
    :session_id, :kind, :agent_id, :team_id, :user_id, :preview, cast(:expire_after as bigint),
    :now + cast(:expire_after as bigint), 2, :top, :spoken, 1, :epoch, :now, :now
)
on conflict (session_id) do update set
    next_seq = recollect_sessions.next_seq + 1,
    run_count = recollect_sessions.run_count + :top,
    message_count = recollect_sessions.message_count + :spoken,
    preview = case when recollect_sessions.preview = '' then excluded.preview else recollect_sessions.preview end,
    expire_after = {_KEPT_FOR},
    expires_at = :now + {_KEPT_FOR},
    version = recollect_sessions.version + 1,
    updated_at = :now
where coalesce(recollect_sessions.user_id, '') = coalesce(excluded.user_id, '')
    and (recollect_sessions.expires_at is null or recollect_sessions.expires_at > :now)
returning next_seq - 1, version, epoch, updated_at, completed_count, run_count
"""

# A member works on what somebody asked its team: a session that was deleted meanwhile is not brought back.
_BEGIN_HEADER_OF_MEMBER = f"""
update recollect_sessions as s set next_seq = s.next_seq + 1, version = s.version + 1, updated_at = :now
where {OPEN} and {_HAS_PARENT}
returning next_seq - 1, version, epoch, updated_at, completed_count, run_count
"""

_BEGIN_RUN = f"""
insert into recollect_runs (
    session_id, run_seq, run_id, parent_run_id, agent_id, agent_name, team_id, user_id, status, attempt, prompt, model,
    input, metadata, chars, replaces, version, created_at
)
select
    s.session_id, s.next_seq - 1, :run_id, :parent_run_id, :agent_id, :agent_name, :team_id, :user_id, 'running',
    :attempt, :digest, :model, :input, :metadata, :chars, :replaces, s.version, :now
from recollect_sessions s where {OPEN}
"""

_BEGIN_LEASE = f"""
insert into recollect_leases (session_id, run_seq, owner, token, until)
select s.session_id, s.next_seq - 1, :owner, :token, :now + :lease from recollect_sessions s where {OPEN}
"""

_BEGIN_MESSAGE = f"""
insert into recollect_messages (session_id, run_seq, idx, message_id, role, body)
select s.session_id, s.next_seq - 1, :idx, :message_id, :role, :body from recollect_sessions s where {OPEN}
"""

_BEGIN_PROMPT = f"""
insert into recollect_prompts (session_id, digest, role, body)
select s.session_id, :digest, :role, :body from recollect_sessions s where {OPEN}
on conflict (session_id, digest) do nothing
"""

_OTHERS_UNDER_WAY = """
select l.run_seq, case when {alive} then 1 else 0 end from recollect_leases l where l.session_id = :session_id
"""

# Record that runs are interrupted. The version is raised for it, as it may have a transaction of its own. Whoever gives
# a late sign of life meanwhile waits, and then finds no lease.
_SETTLE = (
    """
    {many}select 1 from recollect_leases l where l.session_id = :session_id and not {alive} for no key update{/many}
    """,
    "update recollect_sessions set version = version + 1 where session_id = :session_id",
    """
    update recollect_runs set
        status = 'interrupted', finished_at = :now,
        version = (select s.version from recollect_sessions s where s.session_id = :session_id)
    where session_id = :session_id and status = 'running' and run_seq in (
        select l.run_seq from recollect_leases l where l.session_id = :session_id and not {alive}
    )
    """,
    """
    delete from recollect_leases where session_id = :session_id and run_seq in (
        select l.run_seq from recollect_leases l where l.session_id = :session_id and not {alive}
    )
    """,
)

_SET_VALUE_OF_MINE = f"""
insert into recollect_values (session_id, kind, key, value)
select s.session_id, 'state', :key, :value from recollect_sessions s where {OPEN}
on conflict (session_id, kind, key) do update set value = excluded.value
"""

_SET_VALUE_IF_NONE = f"""
insert into recollect_values (session_id, kind, key, value)
select s.session_id, 'state', :key, :value from recollect_sessions s where {OPEN}
on conflict (session_id, kind, key) do nothing
"""

STATE_OF = "select key, value from recollect_values where session_id = :session_id and kind = 'state'"

SUMMARY_OF = "select key, value from recollect_values where session_id = :session_id and kind = 'summary'"

_OWNER = f"select s.user_id from recollect_sessions s where s.session_id = :session_id and {LIVE}"

_THERE = "select 1 from recollect_sessions where session_id = :session_id"

_AHEAD = f"select r.run_seq from {UNDER_WAY} and r.run_seq < :run_seq"

_OTHERS = f"""
select r.run_seq from {UNDER_WAY} and r.run_seq < (
    select s.next_seq - 1 from recollect_sessions s where s.session_id = :session_id
)
"""
