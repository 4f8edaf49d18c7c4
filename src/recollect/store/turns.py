"""A turn as it is written, once it was begun: append, finish. What a step costs does not depend on the past.

The header comes first in each transaction: whoever holds the run's token passes, and gets the version. Every later
statement repeats the condition, so that a closed gate changes nothing.
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
from recollect.errors import InvalidArgument, RunLost, SessionNotFound
from recollect.history import History
from recollect.lease import Lease
from recollect.message import PROMPT_ROLES, Message, messages_of
from recollect.port import Duplicate, Missing, Params, Statement, Stop, Tx, at_once, writes
from recollect.run import RunMetrics, RunStatus
from recollect.session import SessionSummary
from recollect.store.past import Past
from recollect.store.replaced import exchange, hold_standing
from recollect.store.rows import NO_METRICS, STATUSES, found, is_set, metrics_text, no_session, text_set

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
    agent_id: str | None = None
    team_id: str | None = None
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
    replaces: str | None = None
    """The run that stood first in the place that this one takes when it is completed, as was known when it began; None
    for a run of its own."""
    before: int | None = None
    """That place: the past of the run is what came before it."""
    growing: Any = None
    """What a cache keeps of the run while it is under way."""
    took: RunMetrics = NO_METRICS
    """What the run had taken before it was taken up again; the session has counted that."""
    stop: Stop = msgspec.field(default_factory=Stop)
    """Where somebody says that the run is to end."""
    lease: Lease = msgspec.field(default_factory=Lease)
    """When it last gave a sign of life."""


class Commit(msgspec.Struct, frozen=True):
    """What a step of a run left: the session's version, when that was, and whether the session wants a name."""

    version: int
    at: datetime
    completed_count: int = 0
    name_source: str | None = None
    place: int | None = None
    """Where the run stands that ended; one that replaced another has taken its place."""


def new_id() -> str:
    """A new id: UUIDv7, so that ids sort by the time of their making (RFC 9562)."""
    return str(uuid_utils.uuid7())


def new_token() -> int:
    """A random number of 63 bits; it tells one holder from another and is no secret."""
    return random.getrandbits(63)


@at_once
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


@at_once
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

    One that replaces another takes its place when it is completed.

    Raises:
        SessionNotFound: the session was deleted meanwhile; it is not brought back.
        RunLost: the run was ended or taken over by somebody else.
    """
    messages = messages_of("messages", messages)
    took = NO_METRICS if metrics is None else metrics
    if not isinstance(took, RunMetrics):
        raise InvalidArgument("metrics", f"must be RunMetrics, not {type(took).__name__}")
    ended = STATUSES[checks.one_of("status", status, STATUSES)]
    p = _step(run, messages, at)
    completes = ended is RunStatus.completed and run.parent_run_id is None
    is_candidate = completes and run.replaces is not None
    old = await hold_standing(tx, run.session_id, run.run_id) if is_candidate else None
    p |= {
        "status": str(ended),
        "completed": int(completes and (old is None or old.status != RunStatus.completed)),
        "metrics": metrics_text(took),
        "input_tokens": took.input_tokens - run.took.input_tokens,
        "output_tokens": took.output_tokens - run.took.output_tokens,
        "model": checks.optional_identifier("model", model),
        "error": None if error is None else checks.problem("error", error),
    }
    commit = await _commit(
        tx,
        p,
        (_FINISH_HEADER, p),
        (_ACTIVE, p),
        (_FINISH_RUN, p),
        *_said(p, messages, at),
        *_state_changes(p, state),
        (_END_LEASE, p),
        more=old is not None,
    )
    if old is not None:
        await tx.execute(*await exchange(tx, p | {"epoch": new_token()}, old))
    return msgspec.structs.replace(commit, place=run.run_seq if old is None else old.place)


@at_once
@writes
async def renew_lease(tx: Tx, run: OpenRun) -> bool:
    """Prolong the lease of one run; give whether somebody wants it to end.

    Raises:
        SessionNotFound: the session was deleted meanwhile.
        RunLost: the run was ended or taken over by somebody else.
    """
    p = {"session_id": run.session_id, "run_seq": run.run_seq, "token": run.token, "lease": LEASE}
    [found] = await tx.execute((_RENEW_THIS_LEASE, p))
    if not found:
        raise await _lost(tx, p)
    return bool(found[0][0])


@at_once
@writes
async def renew_leases(tx: Tx, tokens: Sequence[int]) -> dict[int, bool]:
    """Prolong the leases of runs that this process is still at work on; give for each whether it is to end.

    Runs that somebody ended or took over are missing from what is given.
    """
    [found] = await tx.execute((_RENEW_LEASES, {"tokens": text_set(tokens), "lease": LEASE}))
    return {token: bool(to_end) for token, to_end in found}


def digest(prompt: Any) -> str:
    """What a system message is known by in its session: 64 bits of its text, as hexadecimal digits.

    Raises:
        InvalidArgument: it is not a system message.
    """
    if not isinstance(prompt, Message) or prompt.role not in PROMPT_ROLES:
        raise InvalidArgument("prompt", f"must be a system message, not {prompt!r}")
    return hashlib.blake2b(prompt.to_json().encode(), digest_size=8).hexdigest()


_HELD = """
    exists (
        select 1 from recollect_leases l
        where l.session_id = :session_id and l.run_seq = :run_seq and l.token = :token
    )
"""

# Where many write at a time, only what is read after the header was taken tells who holds the run. So there the change
# of its lease must find it, or all is undone; and where one writes at a time, the header asks.
_IF_HELD = f"{{one}} and {_HELD}{{/one}}"

# A step of a run that goes on is activity, but not worth four indexes while the begin is this fresh.
_ACTIVE_TOO = """{many},
    updated_at = case when updated_at < :now - 10000000 then :now else updated_at end{/many}"""

_APPEND_HEADER = f"""
update recollect_sessions set
    version = version + :changed,
    message_count = message_count + :spoken{_ACTIVE_TOO.replace("when", "when :changed = 1 and")}
where session_id = :session_id{_IF_HELD}
returning version, :now, completed_count, name_source
"""

_FINISH_HEADER = f"""
update recollect_sessions set
    version = version + 1,
    message_count = message_count + :spoken,
    completed_count = completed_count + :completed,
    input_tokens = input_tokens + :input_tokens,
    output_tokens = output_tokens + :output_tokens{_ACTIVE_TOO}
where session_id = :session_id{_IF_HELD}
returning version, :now, completed_count, name_source
"""

# Apart, where an update that names the column of an index writes to the index though the value is the same.
_ACTIVE = """
{one}update recollect_sessions set updated_at = :now where session_id = :session_id and updated_at < :now - 10000000
{/one}
"""

_PROLONG = """
update recollect_leases set until = :now + :lease
where session_id = :session_id and run_seq = :run_seq and token = :token
"""

_RENEW_LEASE = found(_PROLONG)

_TO_END = """(
    select r.cancel_requested from recollect_runs r
    where r.session_id = recollect_leases.session_id and r.run_seq = recollect_leases.run_seq
)"""

_RENEW_THIS_LEASE = f"{_PROLONG} returning {_TO_END}"

_RENEW_LEASES = f"""
update recollect_leases set until = :now + :lease
where owner = :owner and {is_set("tokens", "cast(token as text)")}
returning token, {_TO_END}
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

_END_LEASE = found("""
delete from recollect_leases where session_id = :session_id and run_seq = :run_seq and token = :token
""")

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
        "spoken": int(run.parent_run_id is None) * spoken(messages),
        "chars": chars(messages),
        "at": None if at is None else checks.count("at", at, most=1 << 31),
    }


def _said(p: Params, messages: Sequence[Message], at: int | None) -> list[Statement]:
    sql = _STEP_MESSAGE if at is None else _STEP_MESSAGE_AT
    return [placed(sql, p, place, said) for place, said in enumerate(messages)]


def placed(sql: str, p: Params, place: int, message: Message) -> Statement:
    return sql, {
        **p,
        "idx": place,
        "place": place,
        "message_id": message.id,
        "role": message.role,
        "body": message.to_json(),
    }


def _state_changes(p: Params, state: Mapping[str, str | None] | None) -> list[Statement]:
    if state is None:
        return []
    return [
        (_DROP_VALUE, {**p, "key": key}) if text is None else (_SET_VALUE, {**p, "key": key, "value": text})
        for key, text in checks.json_texts("state", state).items()
    ]


async def _commit(tx: Tx, p: Params, *batch: Statement, more: bool = False) -> Commit:
    try:
        gate, *_ = await tx.execute(*batch, more=more)
    except Missing:
        gate = []
    except Duplicate as error:
        raise InvalidArgument("at", f"the run has a message at place {p['at']} or after it already") from error
    if gate:
        version, now, completed, source = gate[0]
        return Commit(version, checks.from_micros(now), completed, source)
    raise await _lost(tx, p)


async def _lost(tx: Tx, p: Params) -> SessionNotFound | RunLost:
    """Why the token of a run opens nothing any more."""
    [there] = await tx.execute(("select 1 from recollect_sessions where session_id = :session_id", p))
    return RunLost() if there else no_session(p["session_id"])


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


def spoken(messages: Sequence[Message]) -> int:
    return sum([message.role in ("user", "assistant") for message in messages])


def chars(messages: Sequence[Message]) -> int:
    return sum([message.chars for message in messages])
