"""Whether a step of a run was stored, where the database did not say so: a connection that broke at the commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recollect import checks
from recollect.message import Message
from recollect.port import Params, Tx, reads
from recollect.run import RunStatus
from recollect.store.turns import Commit, OpenRun


@reads
async def find_begun(tx: Tx, session_id: str, run_id: str, token: int) -> OpenRun | None:
    """The run that was begun with this token; without past, state and summary."""
    [found] = await tx.execute((_BEGUN, {"session_id": session_id, "run_id": run_id, "token": token}))
    if not found:
        return None
    run_seq, parent, attempt, created, version, epoch = found[0]
    return OpenRun(
        session_id=session_id,
        run_id=run_id,
        run_seq=run_seq,
        token=token,
        version=version,
        epoch=epoch,
        created_at=checks.from_micros(created),
        parent_run_id=parent,
        attempt=attempt,
    )


@reads
async def find_step(tx: Tx, run: OpenRun, messages: Sequence[Message], at: int) -> Commit | None:
    """What a step left whose messages are at their places; None where they are not."""
    places = [{**_of(run), "idx": place, "body": said.to_json()} for place, said in enumerate(messages, at)]
    *there, header = await tx.execute(*((_SAID, p) for p in places), (_HEADER, _of(run)))
    return Commit(header[0][0], checks.from_micros(header[0][1])) if header and all(there) else None


@reads
async def find_end(tx: Tx, run: OpenRun, status: RunStatus) -> Commit | None:
    """What the end of a run left; None where it has not ended so."""
    ended, header = await tx.execute((_ENDED, {**_of(run), "status": str(status)}), (_HEADER, _of(run)))
    if not ended or not header:
        return None
    version, _, completed, source = header[0]
    return Commit(version, checks.from_micros(ended[0][0]), completed, source)


def _of(run: OpenRun) -> Params:
    return {"session_id": run.session_id, "run_seq": run.run_seq, "run_id": run.run_id}


_BEGUN: Final = """
select r.run_seq, r.parent_run_id, r.attempt, r.created_at, s.version, s.epoch
from recollect_runs r
join recollect_leases l on l.session_id = r.session_id and l.run_seq = r.run_seq and l.token = :token
join recollect_sessions s on s.session_id = r.session_id
where r.session_id = :session_id and r.run_id = :run_id
"""

_SAID: Final = """
select 1 from recollect_messages
where session_id = :session_id and run_seq = :run_seq and idx = :idx and body = :body
"""

_HEADER: Final = (
    "select version, :now, completed_count, name_source from recollect_sessions where session_id = :session_id"
)

_ENDED: Final = """
select r.finished_at from recollect_runs r
where r.session_id = :session_id and r.run_seq = :run_seq and r.run_id = :run_id and r.status = :status
    and not exists (
        select 1 from recollect_leases l where l.session_id = r.session_id and l.run_seq = r.run_seq
    )
"""
