"""A run that ended early: taken up again where it stopped; and one under way that somebody wants to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from recollect import checks
from recollect.errors import RunConflict, UserRequired
from recollect.history import History, HistoryLimits
from recollect.message import Message
from recollect.port import Params, Row, Tx, at_once, writes
from recollect.run import UNFINISHED, RunOutput
from recollect.session import read_summary
from recollect.store import rows, turns
from recollect.store.attempts import ENDED_EARLY
from recollect.store.begin import STATE_OF, SUMMARY_OF, busy
from recollect.store.family import THIS_RUN, no_run
from recollect.store.newest import ALIVE, UNDER_WAY
from recollect.store.past import left_out, past, read_past
from recollect.store.replaced import find_standing
from recollect.store.rows import LIVE, LOCK, MINE, OPEN, RUN
from recollect.store.sessions import IS_MINE, of_session
from recollect.store.turns import OpenRun, new_token


class Continued(msgspec.Struct, frozen=True):
    """A run that was taken up again."""

    open: OpenRun
    run: RunOutput
    """The run as it was stored."""
    said: tuple[tuple[int, Message], ...]
    """What was said in it by place; a result that never came has left its place empty."""


@writes
async def continue_run(
    tx: Tx,
    run_id: str,
    session_id: str,
    user_id: str | None = None,
    *,
    model: str | None = None,
    history: HistoryLimits | None = None,
    with_state: bool = False,
    with_summary: bool = False,
    beside: tuple[int, int] | None = None,
    alone: bool = False,
    seize: bool = False,
    token: int | None = None,
) -> Continued:
    """Take up a run that failed, was cancelled or was interrupted; what was committed of it stays.

    An answer that was broken off in the midst goes: it will be given anew. The past is what came before the run;
    ``beside`` is as in `begin_run`. ``alone`` refuses it beside a run that is under way. ``seize`` takes it from
    whoever has its lease: for a run of a team's member, by the one who holds the run that it is part of.

    Raises:
        UserRequired: the session belongs to a user and none was named.
        SessionNotFound: the session is another user's, or nobody's while a user was named, or is not there.
        RunNotFound: it has no such run.
        RunConflict: the run is under way, or completed.
        SessionBusy: ``alone``, and it is not.
    """
    p: Params = of_session(session_id, user_id) | {
        "run_id": checks.identifier("run_id", run_id),
        "model": checks.optional_identifier("model", model),
        "token": new_token() if token is None else token,
        "epoch": new_token(),
        "lease": turns.LEASE,
        "seize": int(seize),
        **left_out(beside),
    }
    _, gate, known, row, said, prompt, others = await tx.execute(
        (LOCK, p), (_TAKE_UP, p), (_KNOWN, p), (_THE_RUN, p), (_WHAT_IT_SAID, p), (_ITS_PROMPT, p), (_OTHERS, p)
    )
    if not gate:
        raise _refusal(known, p)
    if alone and others:
        raise busy(session_id)
    p["run_seq"] = row[0][0]
    if _is_unfinished(said):
        await _drop(tx, p, said[-1])
        said = said[:-1]
    await tx.execute((_UNDER_WAY, p), (_LEASE, p))
    bodies = {digest: Message.stored(body, None, role) for digest, role, body in prompt}
    run = rows.run(session_id, row[0], rows.outline(row[0], said, bodies).messages)
    opened = await _open_run(tx, p, run, history, with_state=with_state, with_summary=with_summary)
    return Continued(opened, run, tuple((idx, Message.stored(body, own, role)) for _, idx, own, role, body in said))


async def _open_run(
    tx: Tx, p: Params, run: RunOutput, history: HistoryLimits | None, *, with_state: bool, with_summary: bool
) -> OpenRun:
    """The right to write to a run that was taken up, with what the model is to be shown beside it."""
    assert run.run_seq is not None
    assert run.created_at is not None
    old = None if run.replaces is None else await find_standing(tx, run.session_id, run.replaces, run.run_id)
    before = run.run_seq if old is None else old.place
    p |= {"top": int(run.parent_run_id is None), "agent_id": run.agent_id, "team_id": run.team_id, "before": before}
    state, summary, at = await tx.execute((STATE_OF, p), (SUMMARY_OF, p), (_AT, p))
    seen = History()
    if history is not None:
        [found] = await tx.execute(past(p, history))
        seen = (await read_past(tx, p, found, history, 0, before - 1 + p["top"])).history(history)
    return OpenRun(
        session_id=run.session_id,
        run_id=run.run_id,
        run_seq=run.run_seq,
        token=p["token"],
        version=at[0][0],
        epoch=at[0][1],
        created_at=run.created_at,
        parent_run_id=run.parent_run_id,
        agent_id=run.agent_id,
        team_id=run.team_id,
        attempt=run.attempt,
        history=seen,
        state=dict(state) if with_state else {},
        summary=read_summary(dict(summary)) if with_summary else None,
        took=run.metrics,
        replaces=run.replaces,
        before=None if old is None else before,
    )


async def _drop(tx: Tx, p: Params, unfinished: Row) -> None:
    """Delete an answer that was broken off."""
    _, idx, _, role, body = unfinished
    gone = {"idx": idx, "chars": Message.stored(body, None, role).chars}
    await tx.execute(*((sql, p | gone) for sql in _DROP_UNFINISHED))


def _refusal(known: Sequence[Row], p: Params) -> Exception:
    """Why a run could not be taken up."""
    if not known:
        return rows.no_session(p["session_id"])
    owner, status = known[0]
    if owner != p["user_id"]:
        return UserRequired(p["session_id"]) if p["user_id"] is None else rows.no_session(p["session_id"])
    if status is None:
        return no_run(p)
    return RunConflict(f"run {p['run_id']!r} of session {p['session_id']!r} is under way or completed")


def _is_unfinished(said: Sequence[Row]) -> bool:
    """Whether the last message is an answer that was broken off."""
    if not said or said[-1][3] != "assistant":
        return False
    return Message.stored(said[-1][4], None, "assistant").finish_reason in UNFINISHED


@at_once
@writes
async def request_cancel(tx: Tx, run_id: str, session_id: str, user_id: str | None = None) -> int | None:
    """Ask for a run to be ended; give the token of its lease, or None where it is not under way.

    Whoever works on it is told with its next sign of life.

    Raises:
        SessionNotFound: there is no such session for this caller.
        RunNotFound: it has no such run.
    """
    p = of_session(session_id, user_id) | {"run_id": checks.identifier("run_id", run_id)}
    there, known, under_way, _ = await tx.execute((_THERE, p), (_IS_KNOWN, p), (_LEASE_OF, p), (_REQUEST, p))
    rows.visible(there, session_id)
    if not known:
        raise no_run(p)
    return under_way[0][0] if under_way else None


_TAKE_UP: Final = f"""
update recollect_sessions as s set
    version = s.version + 1, updated_at = :now, expires_at = :now + s.expire_after
where {OPEN} and exists (
    select 1 from recollect_runs r where {THIS_RUN} and ({ENDED_EARLY} or :seize = 1 and r.status = 'running')
)
returning version
"""

_KNOWN: Final = f"""
select s.user_id, r.status from recollect_sessions s
left join recollect_runs r on {THIS_RUN} where s.session_id = :session_id and {LIVE}
"""

_OTHERS: Final = f"""
select 1 from {UNDER_WAY} and r.run_id <> :run_id limit 1
"""

_IS_OPEN: Final = f"exists (select 1 from recollect_sessions s where {OPEN})"

_THE_RUN: Final = f"select {RUN} from recollect_runs r where {THIS_RUN} and {_IS_OPEN}"

_WHAT_IT_SAID: Final = f"""
select m.run_seq, m.idx, m.message_id, m.role, m.body
from recollect_runs r join recollect_messages m on m.session_id = r.session_id and m.run_seq = r.run_seq
where {THIS_RUN} and {_IS_OPEN} order by m.idx
"""

_ITS_PROMPT: Final = f"""
select p.digest, p.role, p.body
from recollect_runs r join recollect_prompts p on p.session_id = r.session_id and p.digest = r.prompt
where {THIS_RUN} and {_IS_OPEN}
"""

# A row vanishes, so that whoever holds a copy of the session has to read all of it again.
_DROP_UNFINISHED: Final = (
    "delete from recollect_messages where session_id = :session_id and run_seq = :run_seq and idx = :idx",
    "delete from recollect_documents where session_id = :session_id and run_seq = :run_seq and idx = :idx",
    f"""
    update recollect_sessions as s set epoch = :epoch, message_count = s.message_count - (
        select count(*) from recollect_runs r where {THIS_RUN} and r.parent_run_id is null
    ) where s.session_id = :session_id
    """,
    "update recollect_runs set chars = chars - :chars where session_id = :session_id and run_seq = :run_seq",
)

_UNDER_WAY: Final = """
update recollect_runs set
    status = 'running', error = null, finished_at = null, cancel_requested = 0, model = coalesce(:model, model),
    version = (select s.version from recollect_sessions s where s.session_id = :session_id)
where session_id = :session_id and run_seq = :run_seq
"""

_LEASE: Final = """
insert into recollect_leases (session_id, run_seq, owner, token, until)
values (:session_id, :run_seq, :owner, :token, :now + :lease)
on conflict (session_id, run_seq) do update set
    owner = excluded.owner, token = excluded.token, until = excluded.until
"""

_AT: Final = "select version, epoch from recollect_sessions where session_id = :session_id"

_THERE: Final = f"select 1 from recollect_sessions s where s.session_id = :session_id and {MINE}"

_IS_KNOWN: Final = f"select 1 from recollect_runs r where {THIS_RUN} and {IS_MINE}"

_LEASE_OF: Final = f"""
select l.token from recollect_runs r
join recollect_leases l on l.session_id = r.session_id and l.run_seq = r.run_seq and {{alive}}
where {THIS_RUN} and {IS_MINE}
"""

_REQUEST: Final = f"""
update recollect_runs as r set cancel_requested = 1
where {THIS_RUN} and r.status = 'running' and {ALIVE} and {IS_MINE}
"""
