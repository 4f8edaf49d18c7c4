"""What can be mended of a damaged database, without making up what was said.

Each session is mended in one transaction, with a new epoch, so that whoever holds a copy of it reads it anew. Nothing
that was said is deleted: a message without a run gets a run, a run without a session a session.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from recollect.db import migrate
from recollect.invariants import QUESTIONS
from recollect.port import Params, Row, Tx, reads, writes
from recollect.run import RunStatus
from recollect.store import Store
from recollect.store.newest import ALIVE
from recollect.store.turns import new_token


class Change(msgspec.Struct, frozen=True):
    """One thing that was mended, or would be."""

    session_id: str | None
    """None for the database as a whole."""
    what: str
    before: str
    after: str


class _Mend(msgspec.Struct, frozen=True):
    """How one kind of fault is mended in a session."""

    what: str
    find: str
    """A row for each fault: where in the session it is, what it was, what it becomes."""
    mend: tuple[str, ...]
    """Mends all of them, with ``:session_id``; the first finds the same as ``find``."""


class _Undo(Exception):
    """Carries what would be changed out of a transaction that is not to be committed."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = changes


def repair(store: Store, *, dry_run: bool = False) -> Iterator[Change]:
    """Mend what can be mended, a session at a time; what is told is done, or would be with ``dry_run``.

    Raises:
        DatabaseError: the database cannot be written; the session that was being mended is as it was.
    """
    yield from _transacted(store, _mend_parts, dry_run=dry_run)
    for session_id in store.transact(_damaged):
        yield from _transacted(store, _mend_session, session_id, dry_run=dry_run)


def _transacted(store: Store, operation: Any, *args: Any, dry_run: bool) -> Sequence[Change]:
    try:
        found: Sequence[Change] = store.transact(operation, *args, dry_run=dry_run)
    except _Undo as undone:
        return undone.changes
    return found


@writes
async def _mend_parts(tx: Tx, *, dry_run: bool) -> list[Change]:
    """Make indexes that are missing; a table that is missing held something that cannot be had again."""
    [found] = await tx.execute(("select name from sqlite_master", {}))
    there = {name for (name,) in found}
    parts = migrate.parts("sqlite")
    gone = {name: sql for name, sql in parts.items() if name not in there and not sql.startswith("create table")}
    if gone:
        await tx.execute(*((sql, {}) for sql in gone.values()))
    return _told([Change(None, f"index {name}", "missing", "made") for name in gone], dry_run=dry_run)


@reads
async def _damaged(tx: Tx) -> list[str]:
    """The sessions in which something may have to be mended."""
    found = await tx.execute(*((f"select distinct session_id from ({sql})", {}) for sql in _SUSPECTS))
    return sorted({session_id for rows in found for (session_id,) in rows})


@writes
async def _mend_session(tx: Tx, session_id: str, *, dry_run: bool) -> list[Change]:
    """Mend a session, one kind of fault after the other: later ones build on what earlier ones made whole."""
    p: Params = {"session_id": session_id, "epoch": new_token(), "reason": "found without a word of its end"}
    changes: list[Change] = []
    for mend in _MENDS:
        [found] = await tx.execute((mend.find, p))
        if found:
            await tx.execute(*((sql, p) for sql in mend.mend))
            changes += [_change(session_id, mend, row) for row in found]
    if changes:
        await tx.execute((_RENEW, p))
    return _told(changes, dry_run=dry_run)


def _change(session_id: str, mend: _Mend, row: Row) -> Change:
    where, before, after = row
    return Change(session_id, mend.what + (f" {where}" if where is not None else ""), str(before), str(after))


def _told(changes: list[Change], *, dry_run: bool) -> list[Change]:
    if dry_run:
        raise _Undo(changes)
    return changes


_THIS: Final = "r.session_id = :session_id"
_OVER: Final = "'completed', 'cancelled', 'error', 'regenerated', 'interrupted'"
_KNOWN: Final = ", ".join(f"'{status}'" for status in RunStatus)
_RENEW: Final = """
update recollect_sessions set epoch = :epoch, version = version + 1 where session_id = :session_id
"""

_LEFT_OVER: Final = """
:session_id not in (select session_id from recollect_sessions)
and not exists (select 1 from recollect_runs r where r.session_id = :session_id)
and not exists (select 1 from recollect_messages m where m.session_id = :session_id)
"""

_HEADLESS: Final = f"""
:session_id not in (select session_id from recollect_sessions) and not ({_LEFT_OVER})
"""

_RUNLESS: Final = """
recollect_messages m where m.session_id = :session_id and not exists (
    select 1 from recollect_runs r where r.session_id = m.session_id and r.run_seq = m.run_seq
)
"""

_UNHELD: Final = f"""
{_THIS} and (r.status not in ({_KNOWN}) or r.status = 'running' and not {ALIVE})
"""

_TIMELESS: Final = f"{_THIS} and r.status in ({_OVER}) and r.finished_at is null"

_LOST_PROMPT: Final = f"""
{_THIS} and r.prompt is not null and not exists (
    select 1 from recollect_prompts p where p.session_id = r.session_id and p.digest = r.prompt
)
"""

_IDLE_LEASE: Final = """
l.session_id = :session_id and not exists (
    select 1 from recollect_runs r
    where r.session_id = l.session_id and r.run_seq = l.run_seq and r.status = 'running'
)
"""

_OTHER_ROLE: Final = """
m.session_id = :session_id and json_valid(m.body) and json_type(m.body, '$.role') = 'text'
and json_extract(m.body, '$.role') <> m.role
"""

_COUNTED: Final = """
    coalesce((select count(*) from recollect_runs r where r.session_id = s.session_id and r.parent_run_id is null), 0)
    as runs,
    coalesce((
        select count(*) from recollect_runs r
        where r.session_id = s.session_id and r.parent_run_id is null and r.status = 'completed'
    ), 0) as completed,
    coalesce((
        select count(*) from recollect_runs r
        join recollect_messages m on m.session_id = r.session_id and m.run_seq = r.run_seq
        where r.session_id = s.session_id and r.parent_run_id is null and m.role in ('user', 'assistant')
    ), 0) as spoken,
    max(s.next_seq, 1 + coalesce((select max(run_seq) from recollect_runs r where r.session_id = s.session_id), 0))
    as place,
    max(s.version, coalesce((select max(version) from recollect_runs r where r.session_id = s.session_id), 0))
    as newest
"""

_COUNTS: Final = f"""
select s.session_id, s.run_count, s.completed_count, s.message_count, s.next_seq, s.version, s.summarised_through,
    {_COUNTED}
from recollect_sessions s where s.session_id = :session_id
"""

_MISCOUNTED: Final = """
run_count <> runs or completed_count <> completed or message_count <> spoken or next_seq <> place or version <> newest
or summarised_through >= place
"""

_MENDS: Final = (
    _Mend(
        "rows left over from a session that was deleted",
        f"select null, 'there', 'deleted' where {_LEFT_OVER}",
        tuple(
            f"delete from recollect_{table} where session_id = :session_id and {_LEFT_OVER}"
            for table in ("values", "prompts", "leases")
        ),
    ),
    _Mend(
        "header",
        f"select null, 'missing', 'made from its runs' where {_HEADLESS}",
        (
            f"""
            insert into recollect_sessions (
                session_id, kind, agent_id, team_id, user_id, version, epoch, created_at, updated_at
            )
            select
                :session_id, case when max(r.team_id) is null then 'agent' else 'team' end, max(r.agent_id),
                max(r.team_id), max(r.user_id), 1, :epoch, coalesce(min(r.created_at), :now),
                coalesce(max(r.finished_at), max(r.created_at), :now)
            from recollect_runs r where {_THIS} having {_HEADLESS}
            """,
        ),
    ),
    _Mend(
        "run for the messages at",
        f"select distinct m.run_seq, 'missing', 'made, interrupted' from {_RUNLESS}",
        (
            f"""
            insert into recollect_runs (session_id, run_seq, run_id, status, error, chars, version, created_at)
            select
                m.session_id, m.run_seq, 'recovered-' || m.run_seq, 'interrupted', :reason, sum(length(m.body)), 1,
                (select s.created_at from recollect_sessions s where s.session_id = m.session_id)
            from {_RUNLESS} group by m.session_id, m.run_seq
            """,
        ),
    ),
    _Mend(
        "run",
        f"select r.run_seq, r.status, 'interrupted' from recollect_runs r where {_UNHELD}",
        (
            f"""
            update recollect_runs as r set status = 'interrupted', finished_at = coalesce(r.finished_at, :now)
            where {_UNHELD}
            """,
        ),
    ),
    _Mend(
        "end of run",
        f"select r.run_seq, 'no time', 'the time of its begin' from recollect_runs r where {_TIMELESS}",
        (f"update recollect_runs as r set finished_at = r.created_at where {_TIMELESS}",),
    ),
    _Mend(
        "lease of run",
        f"select l.run_seq, 'held', 'deleted' from recollect_leases l where {_IDLE_LEASE}",
        (f"delete from recollect_leases as l where {_IDLE_LEASE}",),
    ),
    _Mend(
        "system message of run",
        f"select r.run_seq, 'named, and lost', 'none' from recollect_runs r where {_LOST_PROMPT}",
        (f"update recollect_runs as r set prompt = null where {_LOST_PROMPT}",),
    ),
    _Mend(
        "role of message",
        f"select m.run_seq || '.' || m.idx, m.role, json_extract(m.body, '$.role') from recollect_messages m where "
        f"{_OTHER_ROLE}",
        (f"update recollect_messages as m set role = json_extract(m.body, '$.role') where {_OTHER_ROLE}",),
    ),
    _Mend(
        "counts",
        f"""
        select
            null, run_count || ' runs, ' || completed_count || ' completed, ' || message_count || ' messages, next '
            || next_seq || ', version ' || version,
            runs || ' runs, ' || completed || ' completed, ' || spoken || ' messages, next ' || place || ', version '
            || newest
        from ({_COUNTS}) where {_MISCOUNTED}
        """,
        (
            f"""
            update recollect_sessions set (
                run_count, completed_count, message_count, next_seq, version, summarised_through
            ) = (
                select runs, completed, spoken, place, newest, min(summarised_through, place - 1) from ({_COUNTS})
            ) where session_id = :session_id
            """,
        ),
    ),
)

_SUSPECTS: Final = tuple(question.faults for question in QUESTIONS if question.check != "under way")
