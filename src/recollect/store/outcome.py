"""Whether a step of a run was stored, where the database did not say.

Nobody but the holder of its token writes to a run, and each step has its place. So what was stored can be looked up:
a begun run has this token, a message is at its place, an ended run has its status, took what it took, and ends so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from recollect.checks import from_micros
from recollect.errors import DatabaseError, OutcomeUnknown
from recollect.history import HistoryLimits
from recollect.message import Message
from recollect.port import Access, Operation, P, Params, T, Tx, looks, reads
from recollect.run import RunMetrics, RunStatus
from recollect.store.begin import begin_run, refresh_run
from recollect.store.replaced import find_standing
from recollect.store.rows import NO_METRICS, metrics_text
from recollect.store.turns import Commit, OpenRun, append_messages, finish_run


async def certain(access: Access, step: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Begin a run with a token of the caller's, append to it at a given place, or finish it, with a known outcome.

    A message or an end that was not stored is stored once more. A begin is not: nobody was told of it.

    Raises:
        OutcomeUnknown: the database did not answer that question either.
        DatabaseError: the run was not begun.
    """
    try:
        return await access.do(step, *args, **kwargs)
    except OutcomeUnknown as unknown:
        try:
            stored: T | None = await access.do(_LOOKS[step], *args, **kwargs)
        except DatabaseError as error:
            raise unknown from error
        if stored is not None:
            return stored
        if _LOOKS[step] is find_begun:
            raise DatabaseError("the run was not begun: its commit failed, and nothing of it is stored") from unknown
    return await access.do(step, *args, **kwargs)


@reads
async def find_begun(
    tx: Tx,
    /,
    session_id: str,
    *_: Any,
    run_id: str,
    token: int,
    parent_run_id: str | None = None,
    agent_id: str | None = None,
    team_id: str | None = None,
    history: HistoryLimits | None = None,
    with_state: bool = False,
    with_summary: bool = False,
    beside: tuple[int, int] | None = None,
    **__: Any,
) -> OpenRun | None:
    """The run that a `begin_run` with these arguments has begun; None when it has not."""
    [found] = await tx.execute((_BEGUN, {"session_id": session_id, "run_id": run_id, "token": token}))
    if not found:
        return None
    run_seq, version, epoch, created, attempt, root = found[0]
    old = None if root is None else await find_standing(tx, session_id, root, run_id)
    run = OpenRun(
        session_id=session_id,
        run_id=run_id,
        run_seq=run_seq,
        token=token,
        version=version,
        epoch=epoch,
        created_at=from_micros(created),
        parent_run_id=parent_run_id,
        agent_id=agent_id,
        team_id=team_id,
        attempt=attempt,
        replaces=root,
        before=None if old is None else old.place,
    )
    return await refresh_run(tx, run, history=history, with_state=with_state, with_summary=with_summary, beside=beside)


@looks
async def find_appended(tx: Tx, /, run: OpenRun, *_: Any, at: int, **__: Any) -> Commit | None:
    """What an `append_messages` with these arguments has left; None when it has stored nothing."""
    return await _left(tx, _APPENDED, run, {"token": run.token, "at": at})


@looks
async def find_finished(
    tx: Tx,
    /,
    run: OpenRun,
    messages: Sequence[Message] = (),
    *_: Any,
    at: int,
    status: RunStatus = RunStatus.completed,
    metrics: RunMetrics = NO_METRICS,
    **__: Any,
) -> Commit | None:
    """What a `finish_run` with these arguments has left; None when it has stored nothing."""
    end: Params = {
        "run_id": run.run_id,
        "attempt": run.attempt,
        "status": str(status),
        "metrics": metrics_text(metrics),
        "at": at,
        "body": messages[0].to_json() if messages else None,
    }
    return await _left(tx, _FINISHED, run, end)


async def _left(tx: Tx, sql: str, run: OpenRun, p: Params) -> Commit | None:
    [found] = await tx.execute((sql, {"session_id": run.session_id, "run_seq": run.run_seq, **p}))
    if not found:
        return None
    version, at, completed, source, *place = found[0]
    return Commit(version, from_micros(at), completed, source, *place)


_LOOKS: Final[Mapping[Any, Operation[..., Any]]] = {
    begin_run: find_begun,
    append_messages: find_appended,
    finish_run: find_finished,
}

_BEGUN = """
select r.run_seq, r.version, s.epoch, r.created_at, r.attempt, r.replaces
from recollect_runs r
join recollect_leases l on l.session_id = r.session_id and l.run_seq = r.run_seq
join recollect_sessions s on s.session_id = r.session_id
where r.session_id = :session_id and r.run_id = :run_id and l.token = :token
"""

_APPENDED = """
select s.version, :now, s.completed_count, s.name_source
from recollect_leases l
join recollect_messages m on m.session_id = l.session_id and m.run_seq = l.run_seq
join recollect_sessions s on s.session_id = l.session_id
where l.session_id = :session_id and l.run_seq = :run_seq and l.token = :token and m.idx = :at
"""

# The token is gone with the end, and the run may stand in another place by now, or be replaced. What somebody else
# ended took another time, and said something else at this place.
_FINISHED = """
select r.version, r.finished_at, s.completed_count, s.name_source, r.run_seq
from recollect_runs r
join recollect_sessions s on s.session_id = r.session_id
where r.session_id = :session_id and r.run_id = :run_id and r.attempt = :attempt
    and (r.status = :status or r.status = 'regenerated' and :status = 'completed')
    and coalesce(r.metrics, '') = coalesce(cast(:metrics as text), '')
    and (cast(:body as text) is null or exists (
        select 1 from recollect_messages m
        where m.session_id = :session_id and m.run_seq = r.run_seq and m.idx = :at and m.body = :body
    ))
"""
