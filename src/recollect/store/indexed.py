"""Which sessions can be found as they are now, and which were changed since.

``recollect_indexed`` holds for each session the epoch and version that can be found. A turn does not tell that it
changed something; it is found by its time. The row without a session says from when on a session may have been changed
unseen: all before it were looked at later than their last turn was stored. What changes a session at no new time says
that it is due. So no turn pays for searching, and what was lost with a process is found by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recollect.port import Params, Row, Tx, looks, reads, writes
from recollect.store.rows import LIVE

GRACE: Final = 120_000_000
"""Microseconds for which a change may be under way before it is seen: longer than a transaction may take."""

EVER: Final = 1 << 62
"""Later than every time, and its negative earlier."""

TO_INDEX: Final = "update recollect_indexed set due = 1 where session_id = :session_id"
"""After a change of what can be found of a session that is no turn; its header comes first."""

TO_INDEX_ANEW: Final = "update recollect_indexed set due = 1, epoch = 0 where session_id = :session_id"
"""The same where nothing of what can be found is right any more."""

TO_INDEX_STORED: Final = """
insert into recollect_indexed (session_id, epoch, version, run_seq, due)
select s.session_id, 0, 0, 0, 1 from recollect_sessions s where s.session_id = :session_id
on conflict (session_id) do update set due = 1
"""
"""After a session was stored whole, with times of its own."""

CLEAN: Final = "i.due = 0 and i.epoch = s.epoch and (s.updated_at < :changed or i.version >= s.version)"
"""What can be found of the session ``s`` is what is in it."""

_CHANGED: Final = """coalesce((
    select i.version from recollect_indexed i where i.session_id = s.session_id and i.epoch = s.epoch and i.due = 0
), -1) < s.version"""

_SCOPE: Final = {
    "user_id": "s.user_id = :user_id",
    "session_id": "s.session_id = :session_id",
    "kind": "s.kind = :kind",
    "agent_id": "s.agent_id = :agent_id",
}


def scope(p: Params) -> str:
    """SQL: the sessions ``s`` that a caller wants, of those it may see."""
    return " and ".join([LIVE, *(condition for name, condition in _SCOPE.items() if p.get(name) is not None)])


def unindexed(p: Params) -> str:
    """A select of the ids of the wanted sessions that cannot be found as they are; ``:changed`` is from `get_mark`.

    Those with a time since then are found along the indexes of lists. A range with two ends tells Postgres that these
    are few.
    """
    along = next(
        ((_SCOPE[name],) for name in ("session_id", "user_id") if p.get(name) is not None),
        ("s.kind = 'agent'", "s.kind = 'team'"),
    )
    wanted = scope(p)
    branches = [
        f"""
        select s.session_id from recollect_sessions s
        where {one} and s.archived = {archived} and s.updated_at >= :changed and s.updated_at <= {EVER}
            and {_CHANGED} and {wanted}
        """
        for one in along
        for archived in (0, 1)
    ]
    due = f"""
    select s.session_id from recollect_indexed i {{along recollect_indexed_due}}
    join recollect_sessions s on s.session_id = i.session_id where i.due = 1 and {wanted}
    """
    return f"select session_id from ({' union '.join([*branches, due])}) one order by 1 limit :most"


@looks
async def get_mark(tx: Tx) -> tuple[int, bool]:
    """From when on sessions may have been changed unseen; and whether it is time to move that on.

    Where the clock was put back, nobody knows what was changed since: all are looked at, once.
    """
    [found] = await tx.execute((MARK, {}))
    return read_mark(found)


def read_mark(found: Sequence[Row]) -> tuple[int, bool]:
    """The same, of what `MARK` found."""
    if not found:
        return -EVER, True
    mark, now = found[0]
    return (-EVER, True) if mark > now else (mark, mark < now - 2 * GRACE)


@reads
async def list_unindexed(tx: Tx, p: Params, most: int) -> list[str]:
    """The ids of some wanted sessions that cannot be found as they are."""
    [found] = await tx.execute((unindexed(p), p | {"most": most}))
    return [session_id for (session_id,) in found]


@writes
async def move_mark(tx: Tx) -> None:
    """Say that all was looked at that had its last turn a while ago; up to the first session that was not."""
    p: Params = {"user_id": None, "most": EVER, "changed": (await get_mark(tx))[0], "grace": GRACE}
    await tx.execute((_FIRST_MARK, p), (_move(p), p))


MARK: Final = "select i.version, :now from recollect_indexed i where i.session_id = ''"

_FIRST_MARK: Final = """
insert into recollect_indexed (session_id, epoch, version, run_seq, due) values ('', 0, :changed, 0, 0)
on conflict (session_id) do nothing
"""


def _move(p: Params) -> str:
    return f"""
    update recollect_indexed set version = (
        select coalesce(min(case when s.updated_at < :now - :grace then s.updated_at end), :now - :grace)
        from recollect_sessions s where s.session_id in ({unindexed(p)}) and s.updated_at >= :changed
    )
    where session_id = ''
    """
