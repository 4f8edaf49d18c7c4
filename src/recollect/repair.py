"""What can be mended of a damaged database, without making up what was said.

Each session is mended in one transaction, with a new epoch, so that whoever holds a copy of it reads it anew. Nothing
that was said is deleted: a message without a run gets a run, a run without a session a session.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from recollect.db import migrate, tables
from recollect.errors import SchemaMismatch
from recollect.invariants import Fault
from recollect.port import Duplicate, Params, Row, Tx, reads, writes
from recollect.run import RunStatus
from recollect.store import Store
from recollect.store.indexed import TO_INDEX
from recollect.store.newest import ALIVE
from recollect.store.rows import LOCK
from recollect.store.turns import new_token
from recollect.survey import look_at, survey


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

    Rows that are there twice are left as they are, and so is the index that would refuse them: which one is right,
    nobody can tell from here.

    Raises:
        SchemaMismatch: a table or a column is missing; what it held cannot be had again.
        DatabaseError: the database cannot be written; the session that was being mended is as it was.
    """
    for lack in store.transact(_lacks, store.home.dialect):
        if lack.kind != "index":
            continue
        try:
            yield from _transacted(store, _mend_index, store.home.dialect, lack, dry_run=dry_run)
        except Duplicate:
            continue  # the doctor tells where they are
    for session_id in _damaged(store):
        yield from _transacted(store, _mend_session, session_id, dry_run=dry_run)


def _transacted(store: Store, operation: Any, *args: Any, dry_run: bool) -> Sequence[Change]:
    try:
        found: Sequence[Change] = store.transact(operation, *args, dry_run=dry_run)
    except _Undo as undone:
        return undone.changes
    return found


@reads
async def _lacks(tx: Tx, dialect: str) -> list[tables.Lack]:
    """The indexes that are missing, or not as the schema makes them.

    Raises:
        SchemaMismatch: more than an index is missing.
    """
    found = [*tables.lacks(dialect, await tables.found(tx, dialect))]
    gone = [lack for lack in found if lack.kind in ("table", "column")]
    if gone:
        told = ", ".join(f"{lack.kind} {lack.name} is {lack.fault}" for lack in gone)
        raise SchemaMismatch(f"{told}; what it held cannot be made up. Take the database from a backup")
    return found


@writes
async def _mend_index(tx: Tx, dialect: str, lack: tables.Lack, *, dry_run: bool) -> list[Change]:
    """Make an index as the schema makes it.

    Raises:
        Duplicate: it is to hold each key once, and there is one twice.
    """
    if dialect == "postgres":
        await tx.execute(("set local statement_timeout = 0", {}))  # it takes as long as it takes
    if lack not in tables.lacks(dialect, await tables.found(tx, dialect)):
        return []
    if lack.fault != "missing":
        await tables.drop_index(tx, dialect, lack.name)
    await tx.execute((migrate.parts(dialect)[lack.name], {}))
    return _told([Change(None, f"index {lack.name}", lack.fault, "made")], dry_run=dry_run)


def _damaged(store: Store) -> list[str]:
    """The sessions in which something may have to be mended."""
    faults = (fault for sight in survey(store.transact) for fault in sight.faults)
    return list(dict.fromkeys(fault.session_id for fault in faults if fault.check != "under way"))


@writes
async def _mend_session(tx: Tx, session_id: str, *, dry_run: bool) -> list[Change]:
    """Mend a session, one kind of fault after the other: later ones build on what earlier ones made whole."""
    p: Params = {"session_id": session_id, "epoch": new_token(), "reason": "found without a word of its end"}
    await tx.execute((LOCK, p))
    changes: list[Change] = []
    for mend in _MENDS:
        [found] = await tx.execute((mend.find, p))
        if found:
            await tx.execute(*((sql, p) for sql in mend.mend))
            changes += [_change(session_id, mend, row) for row in found]
    while put_right := [fault for fault in (await look_at(tx, session_id)).faults if fault.should is not None]:
        if not (made := await _put_right(tx, put_right)):
            break
        changes += made
    if changes:
        await tx.execute((_RENEW, p), (TO_INDEX, p))
    return _told(changes, dry_run=dry_run)


async def _put_right(tx: Tx, faults: Sequence[Fault]) -> list[Change]:
    """Write what should be there; the header's numbers last, when what they count is right."""
    small = [fault for fault in faults if not isinstance(fault.should, dict)]
    for fault in small:
        place = dict(zip(("run_seq", "idx"), fault.place, strict=False))
        p = {"session_id": fault.session_id, "should": fault.should, **place}
        await tx.execute((_RIGHT[fault.check][1], p))
    if small:
        return [_righted(fault) for fault in small]
    header = faults[0]
    if header.was == header.should:
        return []
    await tx.execute((_NUMBERS, {"session_id": header.session_id, **header.should}))
    return [
        Change(header.session_id, "counts", _numbers(header.was, header.should), _numbers(header.should, header.was))
    ]


def _righted(fault: Fault) -> Change:
    where = ".".join(map(str, fault.place))
    what = _RIGHT[fault.check][0]
    after = "as long from now as it is held" if fault.check in ("claims", "leases") else str(fault.should)
    return Change(fault.session_id, f"{what} {where}".strip(), str(fault.was), after)


def _numbers(header: dict[str, Any], other: dict[str, Any]) -> str:
    """The numbers of a header; the less usual only where they are to change."""
    told = (
        f"{header['run_count']} runs, {header['completed_count']} completed, {header['message_count']} messages, "
        f"next {header['next_seq']}, version {header['version']}"
    )
    others = ("input_tokens", "output_tokens", "aux_tokens", "summarised_through")
    changed = [f", {name} {header[name]}" for name in others if header[name] != other[name]]
    if header["epoch"] != other["epoch"]:
        changed.append(f", epoch {header['epoch'] or 'drawn anew'}")
    return told + "".join(changed)


def _change(session_id: str, mend: _Mend, row: Row) -> Change:
    where, before, after = row
    return Change(session_id, mend.what + (f" {where}" if where is not None else ""), str(before), str(after))


def _told(changes: list[Change], *, dry_run: bool) -> list[Change]:
    if dry_run:
        raise _Undo(changes)
    return changes


_RIGHT: Final = {
    "headers": (
        "what the name is found by",
        "update recollect_sessions set name_key = :should where session_id = :session_id",
    ),
    "claims": ("claim", "update recollect_sessions set claim_until = :should where session_id = :session_id"),
    "messages": (
        "role of message",
        """
        update recollect_messages set role = :should
        where session_id = :session_id and run_seq = :run_seq and idx = :idx
        """,
    ),
    "sizes": (
        "size of run",
        "update recollect_runs set chars = :should where session_id = :session_id and run_seq = :run_seq",
    ),
    "leases": (
        "lease of run",
        "update recollect_leases set until = :should where session_id = :session_id and run_seq = :run_seq",
    ),
}
"""What is written where it follows from the rest: what it is called, and how it is written."""

_NUMBERS: Final = """
update recollect_sessions set
    run_count = :run_count, completed_count = :completed_count, message_count = :message_count, next_seq = :next_seq,
    version = :version, summarised_through = :summarised_through, input_tokens = :input_tokens,
    output_tokens = :output_tokens, aux_tokens = :aux_tokens, epoch = :epoch
where session_id = :session_id
"""

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

_FOUND_IN_VAIN: Final = """
recollect_documents d left join recollect_indexed i on i.session_id = d.session_id
where d.session_id = :session_id and (i.session_id is null or d.run_seq > 0 and not exists (
    select 1 from recollect_messages m where m.session_id = d.session_id and m.run_seq = d.run_seq and m.idx = d.idx
) and i.epoch = (select s.epoch from recollect_sessions s where s.session_id = d.session_id))
"""

_IDLE_LEASE: Final = """
l.session_id = :session_id and not exists (
    select 1 from recollect_runs r
    where r.session_id = l.session_id and r.run_seq = l.run_seq and r.status = 'running'
)
"""

_MENDS: Final = (
    _Mend(
        "rows left over from a session that was deleted",
        f"select null, 'there', 'deleted' where {_LEFT_OVER}",
        tuple(
            f"delete from recollect_{table} where session_id = :session_id and {_LEFT_OVER}"
            for table in ("values", "prompts", "leases", "documents", "indexed")
        ),
    ),
    _Mend(
        "search index",
        f"select null, 'finds what is not there', 'to be made anew' where exists (select 1 from {_FOUND_IN_VAIN})",
        (
            "delete from recollect_documents where session_id = :session_id",
            "update recollect_indexed set epoch = 0, due = 1 where session_id = :session_id",
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
                cast(:session_id as text), case when max(r.team_id) is null then 'agent' else 'team' end,
                max(r.agent_id), max(r.team_id), max(r.user_id), 1, :epoch, coalesce(min(r.created_at), :now),
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
)
