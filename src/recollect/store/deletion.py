"""Sessions that go: because somebody says so, because their time is over, or because nobody used them for long.

Each goes in a transaction of its own, whole. What they are judged by is asked once more in the statement that deletes:
a session that became active meanwhile stays.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.port import Access, Params, Tx, at_once, looks, writes
from recollect.session import SessionHeader
from recollect.store import rows
from recollect.store.rows import HEADER, LOCK, OWNED
from recollect.vanishing import vanishing

PAGE: Final = 100
"""Sessions that are looked up at once."""


@vanishing
@at_once
@writes
async def delete_session(tx: Tx, session_id: str, user_id: str | None = None) -> None:
    """Delete a session with everything in it.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    if not await _delete(tx, _DELETE, _owned(session_id, user_id)):
        raise rows.no_session(session_id)


@vanishing
@at_once
@writes
async def delete_if_there(tx: Tx, session_id: str, user_id: str | None = None) -> bool:
    """Delete a session; False when there is none for this caller."""
    return await _delete(tx, _DELETE, _owned(session_id, user_id))


@vanishing
@at_once
@writes
async def delete_if_due(tx: Tx, session_id: str, user_id: str | None = None, before: int | None = None) -> bool:
    """Delete a session that has expired, or that had no activity since ``before``; False where it has not, or had.

    One in which somebody is at work stays.
    """
    p = _owned(session_id, user_id) | {"before": before}
    return await _delete(tx, _DELETE_EXPIRED if before is None else _DELETE_UNUSED, p)


async def clear_expired(tx: Tx, session_id: str) -> None:
    """Make room under the id of a session, where that has expired. Others may do the same just now."""
    p: Params = {"session_id": session_id}
    await tx.execute(*((sql, p) for sql in (_CLEAR, *_DELETE_REST)), more=True)


async def delete_sessions(
    access: Access,
    session_ids: Sequence[str] | None = None,
    user_id: str | None = None,
    *,
    older_than: timedelta | datetime | None = None,
) -> int:
    """Delete sessions, each in a transaction of its own; give how many there were for this caller.

    ``older_than`` deletes those that had no activity since: of the ones that are named, or where none is, of all. A
    session in which somebody is at work is not old.

    Raises:
        InvalidArgument: neither is given.
    """
    if session_ids is None:
        if older_than is None:
            raise InvalidArgument("session_ids", "are missing: name sessions, or how old they must be")
        return await purge_sessions(access, older_than=older_than, user_id=user_id)
    if isinstance(session_ids, str):
        raise InvalidArgument("session_ids", f"must be a sequence of ids, not {session_ids!r}")
    ids = [checks.identifier("session_ids", session_id) for session_id in session_ids]
    if older_than is None:
        return sum([await access.do(delete_if_there, session_id, user_id) for session_id in ids])
    before = await _cutoff(access, older_than)
    return sum([await access.do(delete_if_due, session_id, user_id, before) for session_id in ids])


async def purge_sessions(
    access: Access,
    *,
    older_than: timedelta | datetime | None = None,
    user_id: str | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> int:
    """Delete the sessions that have expired, or that had no activity since; give how many.

    At most ``limit`` of them. With ``dry_run`` they are only counted. A session in which somebody is at work stays.
    """
    checks.flag("dry_run", dry_run)
    most = None if limit is None else checks.count("limit", limit)
    before = await _cutoff(access, older_than)
    count = 0
    async with aclosing(_due(access, before, user_id, most or PAGE)) as due:
        async for header in due:
            if most is not None and count >= most:
                break
            count += dry_run or await access.do(delete_if_due, header.session_id, user_id, before)
    return count


async def iter_purgeable(
    access: Access, /, *, older_than: timedelta | datetime | None = None, user_id: str | None = None
) -> AsyncIterator[SessionHeader]:
    """Every session that `purge_sessions` would delete, those first that are due for longest."""
    before = await _cutoff(access, older_than)
    async with aclosing(_due(access, before, user_id, PAGE)) as due:
        async for header in due:
            yield header


async def delete_user(access: Access, user_id: str) -> int:
    """Delete all sessions of a user; give how many there were."""
    checks.identifier("user_id", user_id)
    count = 0
    while ids := await access.do(list_ids, user_id):
        count += await delete_sessions(access, ids, user_id)
    return count


@looks
async def list_ids(tx: Tx, user_id: str) -> list[str]:
    """The ids of a hundred of a user's sessions at most; unlike a page of the list, always the newest truth."""
    [found] = await tx.execute((_IDS, {"user_id": user_id}))
    return [session_id for (session_id,) in found]


@looks
async def list_due(
    tx: Tx, before: int | None, user_id: str | None, limit: int, after: tuple[int, str] | None = None
) -> list[tuple[int, SessionHeader]]:
    """The next sessions that have expired, or had no activity since ``before``, each with when that was."""
    p: Params = {
        "user_id": checks.optional_identifier("user_id", user_id),
        "before": before,
        "limit": limit,
        "moment": -1 if after is None else after[0],
        "after": "" if after is None else after[1],
    }
    [found] = await tx.execute((_LIST_EXPIRED if before is None else _list_unused(of_user=user_id is not None), p))
    return [(row[-1], rows.header(row[:-1])) for row in found]


@looks
async def get_moment(tx: Tx, ago: int) -> int:
    """When it was so many microseconds ago, by the database's clock."""
    [[(now,)]] = await tx.execute(("select :now", {}))
    moment: int = now - ago
    return moment


async def _cutoff(access: Access, older_than: timedelta | datetime | None) -> int | None:
    if older_than is None:
        return None
    if isinstance(older_than, datetime):
        return checks.moment("older_than", older_than)
    return await access.do(get_moment, checks.span("older_than", older_than, least=0))


async def _due(access: Access, before: int | None, user_id: str | None, page: int) -> AsyncGenerator[SessionHeader]:
    after = None
    while found := await access.do(list_due, before, user_id, min(page, PAGE), after):
        for _, header in found:
            yield header
        moment, last = found[-1]
        after = moment, last.session_id


async def _delete(tx: Tx, header: str, p: Params) -> bool:
    """Delete a session whose header is deleted. Whether somebody is at work in it depends on more than that."""
    _, gone, *_ = await tx.execute(*((sql, p) for sql in (LOCK, header, *_DELETE_REST)))
    return bool(gone)


def _owned(session_id: str, user_id: str | None) -> Params:
    return {
        "session_id": checks.identifier("session_id", session_id),
        "user_id": checks.optional_identifier("user_id", user_id),
    }


_IDLE: Final = "not exists (select 1 from recollect_leases l where l.session_id = s.session_id and {alive})"

_IS_EXPIRED: Final = f"s.expires_at is not null and s.expires_at <= :now and {_IDLE}"

_IS_UNUSED: Final = f"s.updated_at < :before and {_IDLE}"

# The header goes first. Until that is committed nobody can make the session anew, so what has no header was its own.
_DELETE: Final = f"delete from recollect_sessions as s where s.session_id = :session_id and {OWNED} returning 1"

_DELETE_EXPIRED: Final = f"""
delete from recollect_sessions as s where s.session_id = :session_id and {OWNED} and {_IS_EXPIRED} returning 1
"""

_DELETE_UNUSED: Final = f"""
delete from recollect_sessions as s where s.session_id = :session_id and {OWNED} and {_IS_UNUSED} returning 1
"""

# Whoever makes a session under this id does not ask who is still at work in the old one.
_CLEAR: Final = """
delete from recollect_sessions as s where s.session_id = :session_id and s.expires_at <= :now
"""

_DELETE_REST: Final = tuple(
    f"""
    delete from recollect_{table} where session_id = :session_id
    and not exists (select 1 from recollect_sessions s where s.session_id = :session_id)
    """
    for table in ("values", "messages", "runs", "prompts", "leases", "documents", "indexed")
)

_IDS: Final = "select session_id from recollect_sessions where user_id = :user_id limit 100"

_LIST_EXPIRED: Final = f"""
select {HEADER}, s.expires_at as moment from recollect_sessions s {{along recollect_sessions_expiring}}
where {_IS_EXPIRED} and {OWNED} and (s.expires_at, s.session_id) > (:moment, :after)
order by s.expires_at, s.session_id limit :limit
"""


def _list_unused(*, of_user: bool) -> str:
    """Those that were used last longest ago, along the indexes that lists go along."""
    along = ("s.user_id = :user_id",) if of_user else ("s.kind = 'agent'", "s.kind = 'team'")
    pages = [
        f"""
        select * from (
            select {HEADER}, s.updated_at as moment from recollect_sessions s
            where {one} and s.archived = {archived} and {_IS_UNUSED}
                and (s.updated_at, s.session_id) > (:moment, :after)
            order by s.updated_at, s.session_id limit :limit
        ) one
        """
        for one in along
        for archived in (0, 1)
    ]
    return f"{' union all '.join(pages)} order by moment, session_id limit :limit"
