"""A run in the place of another: the old one is kept, and no longer part of the conversation.

Until the new run is completed it is a candidate: it stands where it began, part of no history, and the conversation is
as it was. Then both change places in the transaction that ends it. All candidates for one place name the run that stood
there first, their root, whichever stands there now. When the root is deleted, the one that stands there becomes it;
where none does, they are runs like others.
"""

from __future__ import annotations

from typing import Final

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument, RunConflict, UserRequired
from recollect.port import Params, Statement, Tx
from recollect.run import RunStatus
from recollect.store import rows
from recollect.store.family import (
    ASKED,
    FAMILY,
    FORGET_SUMMARY,
    IN_FAMILY,
    RENEW_PREVIEW,
    REWRITTEN,
    in_progress,
    no_run,
    preview_of,
)
from recollect.store.newest import STATUS
from recollect.store.rows import LIVE, LOCK


class Standing(msgspec.Struct, frozen=True):
    """The run that stands in the place a candidate is meant for."""

    run_id: str
    place: int
    status: str


async def find_place(tx: Tx, p: Params, run_id: str) -> tuple[str, int]:
    """Where a new run is to stand instead of this one: the root, and the place.

    Raises:
        InvalidArgument: it is the run of a member, which is part of another.
        UserRequired: the session belongs to a user and none was named.
        SessionNotFound: there is no such session for this caller.
        RunNotFound: it has no such run.
        RunInProgress: the run is under way.
        RunConflict: another stands in its place already, or none does.
    """
    p = p | {"run_id": checks.identifier("replaces", run_id)}
    _, owner, found = await tx.execute((LOCK, p), (_OWNER, p), (_ASKED_FOR, p), more=True)
    if not owner or owner[0][0] != p["user_id"]:
        raise UserRequired(p["session_id"]) if owner and p["user_id"] is None else rows.no_session(p["session_id"])
    if not found:
        raise no_run(p)
    parent, status, root = found[0]
    if parent is not None:
        raise InvalidArgument("replaces", f"run {run_id!r} is part of run {parent!r}; replace that one")
    standing = await find_standing(tx, p["session_id"], root or run_id)
    if RunStatus.running in (status, standing and standing.status):
        raise in_progress(p)
    if standing is None or status == RunStatus.regenerated:
        instead = "and what stood there is gone" if standing is None else f"by {standing.run_id!r}; replace that one"
        raise RunConflict(f"run {run_id!r} of session {p['session_id']!r} was replaced already, {instead}")
    return root or run_id, standing.place


async def find_standing(tx: Tx, session_id: str, root: str, candidate: str | None = None) -> Standing | None:
    """The run that stands where the root stood, and is not the candidate; None when it was deleted."""
    p: Params = {"session_id": session_id, "root": root, "candidate": candidate or ""}
    [found] = await tx.execute((_STANDING, p), more=True)
    return Standing(*found[0]) if found else None


async def hold_standing(tx: Tx, session_id: str, candidate: str) -> Standing | None:
    """The same, while nobody else changes the session, for the run that the candidate names now."""
    p: Params = {"session_id": session_id, "run_id": candidate}
    _, found = await tx.execute((LOCK, p), (_ASKED_FOR, p), more=True)
    root = found[0][2] if found else None
    return None if root is None else await find_standing(tx, session_id, root, candidate)


async def exchange(tx: Tx, p: Params, old: Standing) -> list[Statement]:
    """What puts a completed run ``run_seq`` in the place of an old one, in the transaction that ended it."""
    p = {**p, "place": old.place, "run_id": old.run_id}
    was, preview = await tx.execute((ASKED, p), (ASKED, {**p, "place": p["run_seq"]}), more=True)
    p |= {"was": preview_of(was), "preview": preview_of(preview)}
    return [(sql, p) for sql in _EXCHANGE]


_OWNER: Final = f"select s.user_id from recollect_sessions s where s.session_id = :session_id and {LIVE}"

_ASKED_FOR: Final = f"""
select r.parent_run_id, {STATUS}, r.replaces from recollect_runs r
where r.session_id = :session_id and r.run_id = :run_id
"""

_STANDING: Final = f"""
select r.run_id, r.run_seq, {STATUS} from recollect_runs r
where r.session_id = :session_id and r.run_id = :root and r.status <> 'regenerated' and r.run_id <> :candidate
union all
select r.run_id, r.run_seq, r.status from recollect_runs r {{along recollect_runs_replaces}}
where r.session_id = :session_id and r.replaces = :root and r.status = 'completed' and r.run_id <> :candidate
"""

_NOW: Final = "version = (select s.version from recollect_sessions s where s.session_id = :session_id)"

# The old one's place is below zero for a moment: there nothing else is.
_EXCHANGE: Final = (
    f"""
    with recursive {FAMILY}
    update recollect_runs set status = 'regenerated', finished_at = coalesce(finished_at, :now), {_NOW}
    where {IN_FAMILY}
    """,
    f"with recursive {FAMILY} delete from recollect_leases where {IN_FAMILY}",
    *(
        f"update recollect_{table} set run_seq = {after} where session_id = :session_id and run_seq = {before}"
        for table in ("messages", "runs")
        for before, after in ((":run_seq", "0 - :place"), (":place", ":run_seq"), ("0 - :place", ":place"))
    ),
    FORGET_SUMMARY,
    f"update recollect_sessions as s set {REWRITTEN} where s.session_id = :session_id",
    RENEW_PREVIEW,
)
