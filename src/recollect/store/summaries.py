"""A session's summary as it grows: what was said since the last one, and the next one in its place."""

from __future__ import annotations

import msgspec

from recollect import checks
from recollect.history import HISTORY_STATUSES
from recollect.port import Params, Tx, at_once, reads, writes
from recollect.run import RunOutput, RunStatus
from recollect.session import SessionSummary, read_summary
from recollect.store import rows
from recollect.store.indexed import TO_INDEX
from recollect.store.newest import ALIVE, newest, stored_as
from recollect.store.rows import MINE, RUN


class Unsummarised(msgspec.Struct, frozen=True, kw_only=True):
    """What a session's summary does not cover yet."""

    epoch: int
    through: int
    """The ``run_seq`` up to which the session is summarised."""
    before: SessionSummary | None
    """The summary until there."""
    runs: tuple[RunOutput, ...]
    """Top-level runs since, oldest first."""
    settled: int
    """The ``run_seq`` up to which this is all there is, and nothing is under way."""


@at_once
@reads
async def get_summary(tx: Tx, session_id: str, user_id: str | None = None) -> SessionSummary | None:
    """The session's summary; None while it has none.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    p = _session(session_id, user_id)
    header, summary = await tx.execute((_HEADER, p), (_SUMMARY, p))
    rows.visible(header, session_id)
    return read_summary(dict(summary))


@reads
async def get_unsummarised(
    tx: Tx, session_id: str, user_id: str | None = None, *, newest_runs: int | None = None, limit: int = 100
) -> Unsummarised:
    """What was said since the last summary: the oldest ``limit`` runs, or only the ``newest_runs`` last ones.

    It ends before the first run that is still under way: a run that ends later is not passed over.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    p = _session(session_id, user_id) | {"runs": limit if newest_runs is None else newest_runs}
    header, summary, running = await tx.execute((_HEADER, p), (_SUMMARY, p), (_RUNNING, p))
    through, epoch, last = rows.visible(header, session_id)
    p |= {"through": through, "before": running[0][0] if running else last + 1}
    order = "asc" if newest_runs is None else "desc"
    found, said = await tx.execute((_runs_since(order), p), (_said_since(order), p))
    whole = newest_runs is not None or len(found) < limit
    return Unsummarised(
        epoch=epoch,
        through=through,
        before=read_summary(dict(summary)),
        runs=tuple(rows.runs(session_id, found, said, ())),
        settled=p["before"] - 1 if whole else found[-1][0],
    )


@writes
async def finish_summary(
    tx: Tx, session_id: str, since: Unsummarised, through: int, summary: SessionSummary | None, tokens: int
) -> bool:
    """Store the next summary and up to where it goes, and count what it took.

    False when somebody else stored one meanwhile, or the session is gone or not the same any more; then only the tokens
    are counted. Without a summary the session is marked as looked at up to there.
    """
    p: Params = {
        "session_id": session_id,
        "epoch": since.epoch,
        "was": since.through,
        "through": through,
        "tokens": checks.count("tokens", tokens),
        "value": None if summary is None else checks.encode(summary).decode(),
        "changed": int(summary is not None or tokens > 0),
    }
    [gate] = await tx.execute((_FINISH, p))
    if gate and summary is not None:
        await tx.execute((_SET, p), (TO_INDEX, p))
    if not gate and tokens:
        await tx.execute((_COUNT, p))
    return bool(gate)


_HEADER = f"""
select s.summarised_through, s.epoch, s.next_seq - 1 from recollect_sessions s
where s.session_id = :session_id and {MINE}
"""

_SUMMARY = """
select key, value from recollect_values where session_id = :session_id and kind = 'summary' and key = 'summary'
"""

_RUNNING = f"""
select r.run_seq from {stored_as(RunStatus.running)} and {ALIVE} order by r.run_seq limit 1
"""


def _since(order: str) -> str:
    condition = "and r.run_seq > :through and r.run_seq < :before"
    return f"with since as ({newest('r.run_seq', HISTORY_STATUSES, ':runs', condition=condition, order=order)})"


def _runs_since(order: str) -> str:
    return f"""
    {_since(order)}
    select {RUN} from since join recollect_runs r on r.session_id = :session_id and r.run_seq = since.run_seq
    order by r.run_seq
    """


def _said_since(order: str) -> str:
    return f"""
    {_since(order)}
    select m.run_seq, m.idx, m.message_id, m.role, m.body from recollect_messages m
    where m.session_id = :session_id and m.run_seq in (select run_seq from since) order by m.run_seq, m.idx
    """


_FINISH = """
update recollect_sessions set
    summarised_through = :through, aux_tokens = aux_tokens + :tokens, version = version + :changed
where session_id = :session_id and epoch = :epoch and summarised_through = :was returning version
"""

_COUNT = """
update recollect_sessions set aux_tokens = aux_tokens + :tokens, version = version + 1
where session_id = :session_id and epoch = :epoch
"""

_SET = """
insert into recollect_values (session_id, kind, key, value) values (:session_id, 'summary', 'summary', :value)
on conflict (session_id, kind, key) do update set value = excluded.value
"""


def _session(session_id: str, user_id: str | None) -> Params:
    return {
        "session_id": checks.identifier("session_id", session_id),
        "user_id": checks.optional_identifier("user_id", user_id),
    }
