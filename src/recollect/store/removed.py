"""A run that is taken out of its session."""

from __future__ import annotations

from typing import Final

from recollect import checks
from recollect.port import Tx, writes
from recollect.run import RunStatus
from recollect.store import rows
from recollect.store.family import (
    ASKED,
    FIND_FAMILY,
    FORGET_SUMMARY,
    REWRITTEN,
    delete_family,
    in_progress,
    no_run,
    preview_of,
    show_opening,
)
from recollect.store.indexed import TO_INDEX
from recollect.store.rows import LOCK
from recollect.store.sessions import THERE, of_session
from recollect.store.turns import new_token
from recollect.vanishing import vanishing


@vanishing
@writes
async def delete_run(tx: Tx, run_id: str, session_id: str, user_id: str | None = None) -> None:
    """Delete a run with all that was said in it and in the runs of its members.

    A summary that tells of it goes too. What it took stays counted.

    Raises:
        SessionNotFound: there is no such session for this caller.
        RunNotFound: it has no such run.
        RunInProgress: it is under way, or a run of its members is.
    """
    p = of_session(session_id, user_id) | {"run_id": checks.identifier("run_id", run_id), "epoch": new_token()}
    _, there, family = await tx.execute((LOCK, p), (THERE, p), (FIND_FAMILY, p))
    rows.visible(there, session_id)
    if not family:
        raise no_run(p)
    if any(status == RunStatus.running for _, _, _, status, _ in family):
        raise in_progress(p)
    [(_, place, parent, status, _)] = [row for row in family if row[0] == run_id]
    top = parent is None
    p |= {"place": place, "top": int(top), "completed": int(top and status == RunStatus.completed)}
    asked, *_ = await tx.execute(
        (ASKED, p), (FORGET_SUMMARY, p), (_UNCOUNT, p), (TO_INDEX, p), *delete_family(p, family)
    )
    if top:
        await show_opening(tx, p | {"was": preview_of(asked)})


_UNCOUNT: Final = f"""
update recollect_sessions as s set
    version = s.version + 1,
    run_count = s.run_count - :top,
    completed_count = s.completed_count - :completed,
    message_count = s.message_count - :top * (
        select count(*) from recollect_messages m
        where m.session_id = :session_id and m.run_seq = :place and m.role in ('user', 'assistant')
    ),
    {REWRITTEN}
where s.session_id = :session_id
"""
