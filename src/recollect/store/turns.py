"""A turn as it is written: begin, append, finish. What a step costs does not depend on the past.

The header comes first in each transaction: it is the gate that decides who may write, and gives the version. Every
later statement repeats the condition, so that a closed gate changes nothing.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import uuid_utils

from recollect import checks
from recollect.errors import InvalidArgument, RunConflict, RunLost, SessionBusy, UserRequired
from recollect.history import History, HistoryLimits
from recollect.message import PROMPT_ROLES, Message, messages_of
from recollect.port import Duplicate, Params, Statement, Stop, Tx, looks, reads, writes
from recollect.run import RunMetrics, RunStatus
from recollect.session import SessionSummary, read_summary
from recollect.store.attempts import discard
from recollect.store.newest import ALIVE, stored_as
from recollect.store.past import Past, past, read_past
from recollect.store.rows import NO_METRICS, OPEN, is_set, metrics_text, no_session, text_set

LEASE: Final = 30_000_000
"""Microseconds for which a run holds its lease without a sign of life."""


class OpenRun(msgspec.Struct, frozen=True, kw_only=True, eq=False, weakref=True):
    """A run under way, and the right to write to it."""

    session_id: str
    run_id: str
    run_seq: int
    token: int
    """Whoever holds it may write; a run that was taken over has another."""
    version: int
    epoch: int
    created_at: datetime
    parent_run_id: str | None = None
    attempt: int = 1
    """How often this run was begun, this time included."""
    history: History = History()
    """What the model may be shown of the past."""
    state: Mapping[str, str] = {}
    """The session's state as JSON texts by key; empty unless it was asked for."""
    summary: SessionSummary | None = None
    """What the session was about until now; None unless it was asked for."""
    past: Past | None = None
    """The past as it was read; None where the caller's own is the newest, or none was asked for."""
    is_apart: bool = False
    """Whether no other run of the session was under way when this one began."""
    growing: Any = None
    """What a cache keeps of the run while it is under way."""
    took: RunMetrics = NO_METRICS
    """What the run had taken before it was taken up again; the session has counted that."""
    stop: Stop = msgspec.field(default_factory=Stop)
    """Where somebody says that the run is to end."""


class Commit(msgspec.Struct, frozen=True):
    """What a step of a run left: the session's version, when that was, and whether the session wants a name."""

    version: int
    at: datetime
    completed_count: int = 0
    name_source: str | None = None


def new_id() -> str:
    """A new id: UUIDv7, so that ids sort by the time of their making (RFC 9562)."""
    return str(uuid_utils.uuid7())


def new_token() -> int:
    """A random number of 63 bits; it tells one holder from another and is no secret."""
    return random.getrandbits(63)


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
    model: str | None = None,
    prompt: Message | None = None,
    metadata: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    history: HistoryLimits | None = None,
    with_state: bool = False,
    with_summary: bool = False,
    again: bool = False,
    alone: bool = False,
    known: tuple[int, int] | None = None,
    token: int | None = None,
) -> OpenRun:
    """Begin a run and store what was asked, making the session if there is none.

    ``history`` asks for the past within limits, ``with_state`` for the session's state, ``with_summary`` for its
    summary; ``state`` sets keys of the state. ``again`` lets the run take the place of an attempt under the same
    ``run_id`` that failed, was cancelled or was interrupted: what that had stored is gone. ``alone`` refuses a run
    beside one that is under way. ``known`` is the epoch and version of a session whose past the caller has: while that
    is the newest, it is not read, and ``past`` is None.

    Raises:
        InvalidArgument: something cannot be stored; nothing was written.
        UserRequired: the session belongs to a user and none was named.
        SessionNotFound: the session is another user's, or nobody's while a user was named.
        RunConflict: the session has a run with this id already; with ``again``, one that is under way or completed.
        SessionBusy: ``alone``, and it is not.
    """
    asked = messages_of("input", input)
    p: Params = {
        **_of_session(session_id, user_id, kind, agent_id, team_id),
        **_of_run(run_id, agent_name, parent_run_id, model, prompt, metadata),
        **_of_input(asked, top=parent_run_id is None),
        "token": new_token() if token is None else token,
        "lease": LEASE,
    }
    p["attempt"] = 1 + await discard(tx, p) if again else 1
    batch = _begin(p, asked, prompt, checks.json_object("session_state", state))
    reading = {STATE_OF: with_state, SUMMARY_OF: with_summary, _OTHERS: alone}
    wanted = [
        *([] if history is None else [past(p, history, known)]),
        *((sql, p) for sql, read in reading.items() if read),
    ]
    try:
        gate, others, *answers = await tx.execute(*batch, *wanted)
    except Duplicate as error:
        raise RunConflict(f"session {session_id!r} has a run {p['run_id']!r} already") from error
    if not gate:
        raise UserRequired(session_id) if user_id is None else no_session(session_id)
    if not all(alive for _, alive in others):
        await tx.execute((_SETTLE, p), (_SETTLE_LEASES, p))
    answers = answers[len(batch) - 2 :]
    if alone and answers.pop():
        raise busy(session_id)
    summary = read_summary(dict(answers.pop())) if with_summary else None
    run_seq, version, epoch, now, completed, begun = gate[0]
    seen = None
    if history is not None and known != (epoch, version - 1):
        seen = await read_past(tx, p, answers[0], history, completed, begun)
    return OpenRun(
        session_id=session_id,
        run_id=p["run_id"],
        run_seq=run_seq,
        token=p["token"],
        version=version,
        epoch=epoch,
        created_at=checks.from_micros(now),
        parent_run_id=parent_run_id,
        attempt=p["attempt"],
        history=History() if seen is None or history is None else seen.history(history),
        past=seen,
        is_apart=not others,
        state=dict(answers[-1]) if with_state else {},
        summary=summary,
    )


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
    tx: Tx, run: OpenRun, *, history: HistoryLimits | None = None, with_state: bool = False, with_summary: bool = False
) -> OpenRun:
    """A run that waited for others, with the past, state and summary as those left them.

    Raises:
        SessionNotFound: the session was deleted meanwhile.
    """
    p: Params = {"session_id": run.session_id, "top": int(run.parent_run_id is None)}
    header, state, summary = await tx.execute((_SEEN, p), (STATE_OF, p), (SUMMARY_OF, p))
    if not header:
        raise no_session(run.session_id)
    seen = History()
    if history is not None:
        [found] = await tx.execute(past(p, history))
        seen = (await read_past(tx, p, found, history, *header[0])).history(history)
    return msgspec.structs.replace(
        run,
        history=seen,
        state=dict(state) if with_state else {},
        summary=read_summary(dict(summary)) if with_summary else None,
    )


@writes
async def append_messages(
    tx: Tx,
    run: OpenRun,
    messages: Sequence[Message] = (),
    *,
    at: int | None = None,
    state: Mapping[str, str | None] | None = None,
) -> Commit:
    """Store a step of a run, and prolong its lease.

    ``at`` is the place of the first message in the run; None: after the last. ``state`` holds JSON texts by key, None
    for a key that is gone.

    Raises:
        SessionNotFound: the session was deleted meanwhile; it is not brought back.
        RunLost: the run was ended or taken over by somebody else.
    """
    messages = messages_of("messages", messages)
    p = _step(run, messages, at) | {"changed": int(bool(messages) or bool(state))}
    return await _commit(
        tx,
        p,
        (_APPEND_HEADER, p),
        *([(_ACTIVE, p)] if p["changed"] else []),
        (_RENEW_LEASE, p),
        (_APPEND_RUN, p),
        *_said(p, messages, at),
        *_state_changes(p, state),
    )


@writes
async def finish_run(
    tx: Tx,
    run: OpenRun,
    messages: Sequence[Message] = (),
    *,
    at: int | None = None,
    status: RunStatus = RunStatus.completed,
    metrics: RunMetrics | None = None,
    model: str | None = None,
    error: str | None = None,
    state: Mapping[str, str | None] | None = None,
) -> Commit:
    """Store the last step of a run together with how it ended.

    Raises:
        SessionNotFound: the session was deleted meanwhile; it is not brought back.
        RunLost: the run was ended or taken over by somebody else.
    """
    messages = messages_of("messages", messages)
    took = NO_METRICS if metrics is None else metrics
    if not isinstance(took, RunMetrics):
        raise InvalidArgument("metrics", f"must be RunMetrics, not {type(took).__name__}")
    ended = RunStatus(checks.one_of("status", status, tuple(RunStatus)))
    p = _step(run, messages, at) | {
        "status": str(ended),
        "completed": int(ended is RunStatus.completed and run.parent_run_id is None),
        "metrics": metrics_text(took),
        "input_tokens": took.input_tokens - run.took.input_tokens,
        "output_tokens": took.output_tokens - run.took.output_tokens,
        "model": checks.optional_identifier("model", model),
        "error": None if error is None else checks.problem("error", error),
    }
    return await _commit(
        tx,
        p,
        (_FINISH_HEADER, p),
        (_ACTIVE, p),
        (_FINISH_RUN, p),
        *_said(p, messages, at),
        *_state_changes(p, state),
        (_END_LEASE, p),
    )


@writes
async def renew_leases(tx: Tx, tokens: Sequence[int]) -> list[int]:
    """Prolong the leases of runs that this process is still at work on; give the tokens of those that are to end.

    Runs that somebody took over have another token, and are left alone.
    """
    [found] = await tx.execute((_RENEW_LEASES, {"tokens": text_set(tokens), "lease": LEASE}))
    return [token for token, to_end in found if to_end]


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
    attached = checks.json_object("metadata", metadata) and checks.json_text("metadata", dict(metadata or {}))
    return {
        "run_id": new_id() if run_id is None else checks.identifier("run_id", run_id),
        "agent_name": checks.optional_identifier("agent_name", agent_name),
        "parent_run_id": checks.optional_identifier("parent_run_id", parent_run_id),
        "model": checks.optional_identifier("model", model),
        "digest": None if prompt is None else digest(prompt),
        "metadata": attached or None,
    }


def _of_input(asked: Sequence[Message], *, top: bool) -> Params:
    return {
        "top": int(top),
        "input": input_count(asked),
        "spoken": int(top) * _spoken(asked),
        "chars": _chars(asked),
        "preview": next((checks.preview(said.text) for said in asked if said.role == "user"), ""),
    }


def _begin(p: Params, asked: Sequence[Message], prompt: Message | None, state: Mapping[str, str]) -> list[Statement]:
    """What a begin writes; the first two answers are the gate and the other runs under way."""
    batch = [
        (_BEGIN_HEADER, p),
        (_OTHERS_UNDER_WAY, p),
        (_BEGIN_RUN, p),
        (_BEGIN_LEASE, p),
        *(_message(_BEGIN_MESSAGE, p, place, said) for place, said in enumerate(asked)),
    ]
    if prompt is not None:
        batch.append((_BEGIN_PROMPT, {**p, "role": prompt.role, "body": prompt.to_json()}))
    return batch + [(_SET_VALUE_OF_MINE, {**p, "key": key, "value": text}) for key, text in state.items()]


def digest(prompt: Any) -> str:
    """What a system message is known by in its session: 64 bits of its text, as hexadecimal digits.

    Raises:
        InvalidArgument: it is not a system message.
    """
    if not isinstance(prompt, Message) or prompt.role not in PROMPT_ROLES:
        raise InvalidArgument("prompt", f"must be a system message, not {prompt!r}")
    return hashlib.blake2b(prompt.to_json().encode(), digest_size=8).hexdigest()


_BEGIN_HEADER = """
insert into recollect_sessions (
    session_id, kind, agent_id, team_id, user_id, preview, next_seq, run_count, message_count, version, epoch,
    created_at, updated_at
) values (
    :session_id, :kind, :agent_id, :team_id, :user_id, :preview, 2, :top, :spoken, 1, :epoch, :now, :now
)
on conflict (session_id) do update set
    next_seq = recollect_sessions.next_seq + 1,
    run_count = recollect_sessions.run_count + :top,
    message_count = recollect_sessions.message_count + :spoken,
    preview = case when recollect_sessions.preview = '' then excluded.preview else recollect_sessions.preview end,
    version = recollect_sessions.version + 1,
    updated_at = :now
where coalesce(recollect_sessions.user_id, '') = coalesce(excluded.user_id, '')
returning next_seq - 1, version, epoch, updated_at, completed_count, run_count
"""

_BEGIN_RUN = f"""
insert into recollect_runs (
    session_id, run_seq, run_id, parent_run_id, agent_id, agent_name, team_id, user_id, status, attempt, prompt, model,
    input, metadata, chars, version, created_at
)
select
    s.session_id, s.next_seq - 1, :run_id, :parent_run_id, :agent_id, :agent_name, :team_id, :user_id, 'running',
    :attempt, :digest, :model, :input, :metadata, :chars, s.version, :now
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

_SETTLE = """
update recollect_runs set
    status = 'interrupted', finished_at = :now,
    version = (select s.version from recollect_sessions s where s.session_id = :session_id)
where session_id = :session_id and status = 'running' and run_seq in (
    select l.run_seq from recollect_leases l where l.session_id = :session_id and not {alive}
)
"""

_SETTLE_LEASES = """
delete from recollect_leases where session_id = :session_id and run_seq in (
    select l.run_seq from recollect_leases l where l.session_id = :session_id and not {alive}
)
"""

_SET_VALUE_OF_MINE = f"""
insert into recollect_values (session_id, kind, key, value)
select s.session_id, 'state', :key, :value from recollect_sessions s where {OPEN}
on conflict (session_id, kind, key) do update set value = excluded.value
"""

STATE_OF = "select key, value from recollect_values where session_id = :session_id and kind = 'state'"

SUMMARY_OF = "select key, value from recollect_values where session_id = :session_id and kind = 'summary'"

_SEEN = "select completed_count, run_count from recollect_sessions where session_id = :session_id"

_AHEAD = f"""
select r.run_seq from {stored_as(RunStatus.running)} and r.run_seq < :run_seq and {ALIVE}
"""

_OTHERS = f"""
select r.run_seq from {stored_as(RunStatus.running)} and {ALIVE} and r.run_seq < (
    select s.next_seq - 1 from recollect_sessions s where s.session_id = :session_id
)
"""

_HELD = """
    exists (
        select 1 from recollect_leases l
        where l.session_id = :session_id and l.run_seq = :run_seq and l.token = :token
    )
"""

_APPEND_HEADER = f"""
update recollect_sessions set
    version = version + :changed,
    message_count = message_count + :spoken
where session_id = :session_id and {_HELD}
returning version, :now, completed_count, name_source
"""

_FINISH_HEADER = f"""
update recollect_sessions set
    version = version + 1,
    message_count = message_count + :spoken,
    completed_count = completed_count + :completed,
    input_tokens = input_tokens + :input_tokens,
    output_tokens = output_tokens + :output_tokens
where session_id = :session_id and {_HELD}
returning version, :now, completed_count, name_source
"""

# A step of a run that goes on is activity, but not worth four indexes while the begin is this fresh.
_ACTIVE = """
update recollect_sessions set updated_at = :now where session_id = :session_id and updated_at < :now - 10000000
"""

_RENEW_LEASE = """
update recollect_leases set until = :now + :lease
where session_id = :session_id and run_seq = :run_seq and token = :token
"""

_RENEW_LEASES = f"""
update recollect_leases set until = :now + :lease
where owner = :owner and {is_set("tokens", "cast(token as text)")}
returning token, (
    select r.cancel_requested from recollect_runs r
    where r.session_id = recollect_leases.session_id and r.run_seq = recollect_leases.run_seq
)
"""

_STEP_MESSAGE = """
insert into recollect_messages (session_id, run_seq, idx, message_id, role, body)
select
    l.session_id, l.run_seq,
    (
        select coalesce(max(m.idx), -1) + 1 from recollect_messages m
        where m.session_id = :session_id and m.run_seq = :run_seq
    ),
    :message_id, :role, :body
from recollect_leases l where l.session_id = :session_id and l.run_seq = :run_seq and l.token = :token
"""

_STEP_MESSAGE_AT = """
insert into recollect_messages (session_id, run_seq, idx, message_id, role, body)
select l.session_id, l.run_seq, cast(:at as integer) + :place, :message_id, :role, :body
from recollect_leases l where l.session_id = :session_id and l.run_seq = :run_seq and l.token = :token
"""

_APPEND_RUN = f"""
update recollect_runs set
    chars = chars + :chars,
    version = (select s.version from recollect_sessions s where s.session_id = :session_id)
where session_id = :session_id and run_seq = :run_seq and {_HELD}
"""

_FINISH_RUN = f"""
update recollect_runs set
    chars = chars + :chars,
    status = :status,
    metrics = :metrics,
    model = coalesce(:model, model),
    error = :error,
    finished_at = :now,
    version = (select s.version from recollect_sessions s where s.session_id = :session_id)
where session_id = :session_id and run_seq = :run_seq and {_HELD}
"""

_END_LEASE = """
delete from recollect_leases where session_id = :session_id and run_seq = :run_seq and token = :token
"""

_SET_VALUE = f"""
insert into recollect_values (session_id, kind, key, value)
select :session_id, 'state', :key, :value where {_HELD}
on conflict (session_id, kind, key) do update set value = excluded.value
"""

_DROP_VALUE = f"""
delete from recollect_values where session_id = :session_id and kind = 'state' and key = :key and {_HELD}
"""


def _step(run: OpenRun, messages: Sequence[Message], at: int | None) -> Params:
    if not isinstance(run, OpenRun):
        raise InvalidArgument("run", f"must be what begin_run gave, not {type(run).__name__}")
    return {
        "session_id": run.session_id,
        "run_seq": run.run_seq,
        "token": run.token,
        "lease": LEASE,
        "spoken": int(run.parent_run_id is None) * _spoken(messages),
        "chars": _chars(messages),
        "at": None if at is None else checks.count("at", at, most=1 << 31),
    }


def _said(p: Params, messages: Sequence[Message], at: int | None) -> list[Statement]:
    sql = _STEP_MESSAGE if at is None else _STEP_MESSAGE_AT
    return [_message(sql, p, place, said) for place, said in enumerate(messages)]


def _message(sql: str, p: Params, place: int, message: Message) -> Statement:
    return sql, {
        **p,
        "idx": place,
        "place": place,
        "message_id": message.id,
        "role": message.role,
        "body": message.to_json(),
    }


def _state_changes(p: Params, state: Mapping[str, str | None] | None) -> list[Statement]:
    return [
        (_DROP_VALUE, {**p, "key": key}) if text is None else (_SET_VALUE, {**p, "key": key, "value": text})
        for key, text in checks.json_texts("state", state).items()
    ]


async def _commit(tx: Tx, p: Params, *batch: Statement) -> Commit:
    try:
        gate, *_ = await tx.execute(*batch)
    except Duplicate as error:
        raise InvalidArgument("at", f"the run has a message at place {p['at']} or after it already") from error
    if gate:
        version, now, completed, source = gate[0]
        return Commit(version, checks.from_micros(now), completed, source)
    [there] = await tx.execute(("select 1 from recollect_sessions where session_id = :session_id", p))
    if not there:
        raise no_session(p["session_id"])
    raise RunLost


def input_count(messages: Sequence[Message]) -> int | None:
    """How many messages are the input; None where it ends with the first answer, as a reader assumes.

    Raises:
        InvalidArgument: there is none, or the first is a system message.
    """
    if not messages:
        raise InvalidArgument("input", "is empty; a run needs at least one message")
    if messages[0].role in PROMPT_ROLES:
        raise InvalidArgument("input", "begins with a system message; give it as prompt=")
    return len(messages) if any(message.role in ("assistant", "tool") for message in messages) else None


def _spoken(messages: Sequence[Message]) -> int:
    return sum(message.role in ("user", "assistant") for message in messages)


def _chars(messages: Sequence[Message]) -> int:
    return sum(message.chars for message in messages)
