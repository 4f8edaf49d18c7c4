"""Where sessions stand: of each the ids, the version and the epoch, read for those who watch for changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recollect import checks
from recollect.change import Stamp
from recollect.port import Row, Tx, looks
from recollect.store.rows import LIVE

MOST: Final = 5000
"""Sessions that were active lately, read at once; more are found when all are looked through."""

DUE: Final = 100
"""Sessions whose time is over, read at once."""


@looks
async def get_stamps(tx: Tx, session_ids: Sequence[str]) -> list[Stamp]:
    """The stamps of these sessions, of those that there are."""
    [found] = await tx.execute((_BY_ID, {"ids": _json(session_ids)}))
    return _stamps(found)


@looks
async def list_stamps(tx: Tx, after: str, limit: int) -> list[Stamp]:
    """The next stamps of all, in the order of their ids."""
    [found] = await tx.execute((_PAGE, {"after": after, "limit": limit}))
    return _stamps(found)


@looks
async def list_stamps_of_users(tx: Tx, user_ids: Sequence[str]) -> list[Stamp]:
    """The stamps of all sessions of these users."""
    [found] = await tx.execute((_OF_USERS, {"ids": _json(user_ids)}))
    return _stamps(found)


@looks
async def list_active(tx: Tx, ago: int) -> list[Stamp]:
    """The stamps of sessions that had activity in the last ``ago`` microseconds."""
    [found] = await tx.execute((_ACTIVE, {"ago": ago, "limit": MOST}))
    return _stamps(found)


@looks
async def list_active_of_users(tx: Tx, user_ids: Sequence[str], ago: int) -> list[Stamp]:
    """The stamps of these users' sessions that had activity in the last ``ago`` microseconds."""
    [found] = await tx.execute((_ACTIVE_OF_USERS, {"ids": _json(user_ids), "ago": ago, "limit": MOST}))
    return _stamps(found)


@looks
async def list_expiring(tx: Tx, after: int) -> tuple[list[tuple[str, int]], int]:
    """The next sessions whose time is over after a moment, with when that is; and what time it is now."""
    [found] = await tx.execute((_EXPIRING, {"after": after, "limit": DUE}))
    return [(session_id, moment) for session_id, moment, _ in found if session_id is not None], found[0][2]


def _stamps(found: Sequence[Row]) -> list[Stamp]:
    return [Stamp(*row) for row in found]


def _json(ids: Sequence[str]) -> str:
    return checks.encode(list(ids)).decode()


_STAMP: Final = "s.session_id, s.user_id, s.agent_id, s.team_id, s.version, s.epoch"

# One parameter for many ids; Postgres makes an array of them first, so that it goes along the index.
_AMONG: Final = (
    "{one}in (select value from json_each(:ids)){/one}"
    "{many}= any(array(select jsonb_array_elements_text(cast(:ids as jsonb)))){/many}"
)

_BY_ID: Final = f"select {_STAMP} from recollect_sessions s where s.session_id {_AMONG} and {LIVE}"

_PAGE: Final = f"""
select {_STAMP} from recollect_sessions s where s.session_id > :after and {LIVE} order by s.session_id limit :limit
"""

_OF_USERS: Final = f"""
select {_STAMP} from recollect_sessions s {{along recollect_sessions_user_active}} where s.user_id {_AMONG} and {LIVE}
"""

# In order, so that Postgres goes along the index even where it cannot know how few there are.
_ACTIVE: Final = " union all ".join(
    f"""
    select * from (
        select {_STAMP} from recollect_sessions s {{along recollect_sessions_kind_active}}
        where s.kind = '{kind}' and s.archived = {archived} and s.updated_at >= :now - :ago and {LIVE}
        order by s.updated_at desc limit :limit
    ) one
    """
    for kind in ("agent", "team")
    for archived in (0, 1)
)

_ACTIVE_OF_USERS: Final = f"""
select {_STAMP} from recollect_sessions s {{along recollect_sessions_user_active}}
where s.user_id {_AMONG} and s.archived in (0, 1) and s.updated_at >= :now - :ago and {LIVE} limit :limit
"""

_EXPIRING: Final = """
select e.session_id, e.expires_at, t.moment from (select :now as moment) t left join (
    select s.session_id, s.expires_at from recollect_sessions s {along recollect_sessions_expiring}
    where s.expires_at is not null and s.expires_at > :after order by s.expires_at limit :limit
) e on true order by e.expires_at
"""
