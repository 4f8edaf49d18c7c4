"""The attempts of one run: one that failed, was cancelled or was interrupted makes room for the next."""

from __future__ import annotations

from recollect.errors import RunConflict
from recollect.port import Params, Tx
from recollect.store.family import ASKED, FIND_FAMILY, THIS_RUN, delete_family, preview_of, show_opening
from recollect.store.newest import ALIVE
from recollect.store.rows import LOCK, OPEN


async def discard(tx: Tx, p: Params) -> int:
    """Make room for the next attempt of a run; give which one the last was, 0 when there was none.

    The runs of its members go with it: those of the next attempt may have the same ids.

    Raises:
        RunConflict: it is under way, or completed.
    """
    _, gate, known, family = await tx.execute((LOCK, p), (_DISCARD, p), (_KNOWN, p), (FIND_FAMILY, p), more=True)
    if not gate and known:
        raise RunConflict(f"run {p['run_id']!r} of session {p['session_id']!r} is under way or completed")
    if gate:
        [(place, parent)] = [(place, parent) for run_id, place, parent, *_ in family if run_id == p["run_id"]]
        asked, *_ = await tx.execute((ASKED, p | {"place": place}), *delete_family(p, family), more=True)
        if parent is None:
            await show_opening(tx, p | {"was": preview_of(asked)})
    return known[0][0] if known else 0


# A run whose holder may still be at work is not taken away from it.
ENDED_EARLY = f"(r.status in ('error', 'cancelled', 'interrupted') or r.status = 'running' and not {ALIVE})"

# Rows vanish, so that whoever holds a copy of the session has to read all of it again.
_DISCARD = f"""
update recollect_sessions as s set
    epoch = :epoch,
    run_count = s.run_count - (select count(*) from recollect_runs r where {THIS_RUN} and r.parent_run_id is null),
    message_count = s.message_count - (
        select count(*) from recollect_runs r
        join recollect_messages m on m.session_id = r.session_id and m.run_seq = r.run_seq
        where {THIS_RUN} and r.parent_run_id is null and m.role in ('user', 'assistant')
    )
where {OPEN} and exists (select 1 from recollect_runs r where {THIS_RUN} and {ENDED_EARLY})
returning version
"""

_KNOWN = f"""
select r.attempt from recollect_runs r join recollect_sessions s on s.session_id = r.session_id
where {THIS_RUN} and {OPEN}
"""
