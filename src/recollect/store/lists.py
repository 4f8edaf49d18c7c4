"""Many sessions: pages that cost the same wherever they are in the list."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, Unpack

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.port import Access, Params, Tx, looks, may_lag
from recollect.session import SessionHeader, SessionPage
from recollect.store import rows
from recollect.store.rows import HEADER, LIVE, MINE

Sort = Literal["updated_at", "created_at"]

MOST: Final = 1000
"""Sessions a page can hold."""

PAGE: Final = 200
"""Sessions read at once by those who want all."""

SEARCHABLE: Final = 255
"""Characters of a metadata value's JSON text up to which it can be searched for."""


class SessionFilters(TypedDict, total=False):
    """Which sessions are wanted; all that is said must match."""

    user_id: str | None
    kind: Literal["agent", "team"] | None
    agent_id: str | None
    team_id: str | None
    name: str | None
    """A part of the name, whatever the case and accents."""
    metadata: Mapping[str, Any] | None
    """Keys with their values, each as a whole."""
    tags: Sequence[str] | None
    archived: bool | None
    pinned: bool | None
    since: datetime | None
    """The earliest time that is wanted, of the one that is sorted by."""
    until: datetime | None
    """The time before which is wanted."""
    sort: Sort
    """``updated_at``, the last activity, or ``created_at``."""
    limit: int
    """How many on a page, 1-1000."""
    cursor: str | None
    """Where the page begins: the ``next_cursor`` of the one before."""


_CONDITIONS: Final = {
    "user_id": "s.user_id = :user_id",
    "kind": "s.kind = :kind",
    "agent_id": "s.agent_id = :agent_id",
    "team_id": "s.team_id = :team_id",
    "archived": "s.archived = :archived",
    "pinned": "s.pinned = :pinned",
    "name": "replace(s.name_key, :name, '') <> s.name_key",
}


@may_lag
@looks
async def get_sessions(
    tx: Tx,
    user_id: str | None = None,
    kind: Literal["agent", "team"] | None = None,
    agent_id: str | None = None,
    team_id: str | None = None,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] | None = None,
    archived: bool | None = None,  # noqa: FBT001
    pinned: bool | None = None,  # noqa: FBT001
    since: datetime | None = None,
    until: datetime | None = None,
    sort: Sort = "updated_at",
    limit: int = 20,
    cursor: str | None = None,
) -> SessionPage:
    """A page of sessions, newest first by last activity or by creation (``sort``), without their content.

    ``name`` finds sessions whose name contains it, whatever the case and accents. ``metadata`` and ``tags`` must all
    match. ``since`` is included, ``until`` is not; both mean the time that is sorted by.

    Raises:
        InvalidArgument: a filter, the limit (1-1000) or the cursor cannot be accepted.
    """
    checks.one_of("sort", sort, ("updated_at", "created_at"))
    p: Params = {
        "user_id": checks.optional_identifier("user_id", user_id),
        "kind": None if kind is None else checks.one_of("kind", kind, ("agent", "team")),
        "agent_id": checks.optional_identifier("agent_id", agent_id),
        "team_id": checks.optional_identifier("team_id", team_id),
        "archived": None if archived is None else int(checks.flag("archived", archived)),
        "pinned": None if pinned is None else int(checks.flag("pinned", pinned)),
        "name": None if name is None else rows.name_key(checks.key("name", name)),
    }
    conditions = [LIVE, *(condition for column, condition in _CONDITIONS.items() if p[column] is not None)]
    conditions += _values(p, checks.json_object("metadata", metadata), checks.texts("tags", tags))
    conditions += _times(p, sort, since, until, cursor)
    p["limit"] = checks.count("limit", limit, least=1, most=MOST) + 1
    [found] = await tx.execute((_page(tuple(conditions), sort), p))
    sessions = tuple(rows.header(row) for row in found[:limit])
    more = len(found) > limit
    return SessionPage(sessions=sessions, next_cursor=_cursor(sort, found[limit - 1]) if more else None)


@may_lag
@looks
async def find_sessions_by_prefix(
    tx: Tx, prefix: str, user_id: str | None = None, limit: int = 10
) -> tuple[SessionHeader, ...]:
    """Sessions whose id begins like this, in the order of their ids.

    Raises:
        InvalidArgument: the prefix is no beginning of an id, or the limit is not 1-1000.
    """
    p: Params = {
        "prefix": checks.identifier("prefix", prefix),
        "after": prefix + "\U0010ffff",
        "user_id": checks.optional_identifier("user_id", user_id),
        "limit": checks.count("limit", limit, least=1, most=MOST),
    }
    [found] = await tx.execute((_PREFIXED, p))
    return tuple(rows.header(row) for row in found)


async def iter_sessions(access: Access, /, **filters: Unpack[SessionFilters]) -> AsyncIterator[SessionHeader]:
    """Every session that `get_sessions` would find, page after page; ``limit`` is the size of a page."""
    wanted: SessionFilters = {"limit": PAGE, **filters}
    while True:
        page = await access.do(get_sessions, **wanted)
        for header in page:
            yield header
        if page.next_cursor is None:
            return
        wanted["cursor"] = page.next_cursor


_PREFIXED = f"""
select {HEADER} from recollect_sessions s
where s.session_id >= :prefix and s.session_id < :after and {MINE}
order by s.session_id limit :limit
"""


def _page(conditions: tuple[str, ...], sort: Sort) -> str:
    """The newest sessions that meet the conditions.

    Each index begins with one column and whether a session is archived. What is not said of these is read for each
    value and merged, so that nothing is walked past and nothing sorted.
    """
    along = {_CONDITIONS[column] for column in ("user_id", "kind", "agent_id", "team_id")}
    kinds = [()] if along & set(conditions) else [("s.kind = 'agent'",), ("s.kind = 'team'",)]
    states = [()] if _CONDITIONS["archived"] in conditions else [("s.archived = 0",), ("s.archived = 1",)]
    pages = [_one_page((*kind, *state, *conditions), sort) for kind in kinds for state in states]
    if len(pages) == 1:
        return pages[0]
    every = " union all ".join(f"select * from ({page}) one" for page in pages)
    return f"select * from ({every}) s order by {sort} desc, session_id desc limit :limit"


def _one_page(conditions: tuple[str, ...], sort: Sort) -> str:
    return f"""
    select {HEADER} from recollect_sessions s where {" and ".join(conditions)}
    order by s.{sort} desc, s.session_id desc limit :limit
    """


def _values(p: Params, metadata: Mapping[str, str], tags: Sequence[str]) -> list[str]:
    wanted = [("metadata", key, value) for key, value in metadata.items()]
    wanted += [("tag", tag, "null") for tag in tags]
    conditions = []
    for number, (kind, key, value) in enumerate(wanted):
        if len(value) > SEARCHABLE:
            raise InvalidArgument(f"metadata[{key!r}]", f"values over {SEARCHABLE} characters cannot be searched for")
        p |= {f"kind{number}": kind, f"key{number}": key, f"value{number}": value}
        conditions.append(f"""s.session_id in (
            select v.session_id from recollect_values v where v.kind in ('metadata', 'tag')
            and v.kind = :kind{number} and v.key = :key{number} and v.value = :value{number} and length(v.value) <= 255
        )""")
    return conditions


def _times(p: Params, sort: Sort, since: datetime | None, until: datetime | None, cursor: str | None) -> list[str]:
    conditions = []
    if since is not None:
        p["since"] = checks.moment("since", since)
        conditions.append(f"s.{sort} >= :since")
    if until is not None:
        p["until"] = checks.moment("until", until)
        conditions.append(f"s.{sort} < :until")
    if cursor is not None:
        p["before"], p["before_id"] = _read_cursor(sort, cursor)
        conditions.append(f"(s.{sort}, s.session_id) < (:before, :before_id)")
    return conditions


def _cursor(sort: Sort, row: tuple[Any, ...]) -> str:
    moment = row[-1] if sort == "updated_at" else row[-2]
    return base64.urlsafe_b64encode(checks.encode([sort, moment, row[0]])).decode().rstrip("=")


def _read_cursor(sort: Sort, cursor: str) -> tuple[int, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        made_for, moment, session_id = msgspec.json.decode(text, type=tuple[str, int, str])
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise InvalidArgument("cursor", f"{cursor!r} was not given out by this method") from error
    checks.count("cursor", moment, most=1 << 62)
    if made_for != sort:
        raise InvalidArgument("cursor", f"was given out for sort={made_for!r}, not {sort!r}")
    return moment, session_id
