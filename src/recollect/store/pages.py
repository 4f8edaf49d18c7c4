"""A session as it is read on a screen: its runs a page at a time, and how each of several sessions stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from recollect import checks
from recollect.port import Params, Tx, at_once, looks, may_lag, reads
from recollect.run import RunOutput
from recollect.store import rows
from recollect.store.newest import STATUS
from recollect.store.rows import RUN
from recollect.store.sessions import IS_MINE, LAST, THERE, of_session

MOST: Final = 200
"""Runs a page can hold."""

EVER: Final = (1 << 31) - 1
"""A place after that of every run."""


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some runs of a session, oldest first, members' runs among them."""

    runs: tuple[RunOutput, ...] = ()
    older: bool = False
    """Whether there are runs before these."""
    newer: bool = False
    """Whether there are runs after these."""


@at_once
@reads
async def get_run_page(
    tx: Tx,
    session_id: str,
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int = 20,
    user_id: str | None = None,
) -> RunPage:
    """The newest runs of a session, or the newest before a place (``run_seq``), or the oldest after one.

    A page costs the same wherever it is, but for the runs that are passed over: those that were replaced, and those
    that were to replace one and did not, are left out.

    Raises:
        SessionNotFound: there is no such session for this caller.
        InvalidArgument: a place or the limit (1-200) cannot be accepted.
    """
    p = of_session(session_id, user_id) | {
        "before": EVER if before is None else checks.count("before", before, most=EVER),
        "after": 0 if after is None else checks.count("after", after, most=EVER),
        "limit": checks.count("limit", limit, least=1, most=MOST) + 1,
    }
    onward = after is not None
    runs, spoken, prompts, there = await tx.execute(*((sql, p) for sql in (*_PAGES[onward], THERE)))
    rows.visible(there, session_id)
    found = rows.runs(session_id, runs, spoken, prompts)
    more = len(found) > limit
    kept = found[:limit] if onward else found[-limit:]
    if onward:
        return RunPage(runs=tuple(kept), older=(after or 0) > 0, newer=more)
    return RunPage(runs=tuple(kept), older=more, newer=before is not None)


@may_lag
@looks
async def get_ends(tx: Tx, session_ids: Sequence[str]) -> dict[str, str]:
    """The status of the last run of each of these sessions; those without runs are left out."""
    asked: list[tuple[str, Params]] = [(_END, {"session_id": session_id}) for session_id in session_ids]
    answers = await tx.execute(*asked) if asked else []
    return {session_id: str(found[0][0]) for session_id, found in zip(session_ids, answers, strict=True) if found}


def _page(order: str) -> tuple[str, str, str]:
    """Runs, messages and system messages of a page."""
    page = f"""
    with page as (
        select p.run_seq from recollect_runs p
        where p.session_id = :session_id and p.run_seq < :before and p.run_seq > :after
            and p.status <> 'regenerated' and (p.replaces is null or p.status = 'completed')
        order by p.run_seq {order} limit :limit
    )
    """
    return (
        f"""
        {page} select {RUN} from page join recollect_runs r on r.session_id = :session_id and r.run_seq = page.run_seq
        where {IS_MINE} order by r.run_seq
        """,
        f"""
        {page} select m.run_seq, m.idx, m.message_id, m.role, m.body
        from page join recollect_messages m on m.session_id = :session_id and m.run_seq = page.run_seq
        where {IS_MINE} order by m.run_seq, m.idx
        """,
        f"""
        {page} select p.digest, p.role, p.body from recollect_prompts p
        where p.session_id = :session_id and {IS_MINE} and p.digest in (
            select r.prompt from page join recollect_runs r on r.session_id = :session_id and r.run_seq = page.run_seq
        )
        """,
    )


_PAGES: Final = {False: _page("desc"), True: _page("asc")}

_END: Final = f"select {STATUS} from recollect_runs r where r.session_id = :session_id and {LAST}"
