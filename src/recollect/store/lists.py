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

FEW: Final = 500
"""Sessions with a tag or a value up to which they are looked up one by one."""

WANTED: Final = 16
"""Tags and values that one list can ask for: what it takes to plan for them grows with their square."""

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
    """Keys with their values, each as a whole and as it was written: 1 is not 1.0, and the keys of an object have an
    order."""
    tags: Sequence[str] | None
    """All of them. One that more than 500 sessions have, as a value of ``metadata``, is looked for along the list: at
    once where many of the newest sessions have it, slower the further it must go."""
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
    "name": "{one}instr{/one}{many}strpos{/many}(s.name_key, :name) > 0",
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

    ``name`` finds sessions whose name contains it, whatever the case and accents. ``metadata`` and ``tags``, 16 of them
    at most, must all match; a value does as it was written: 1 is not 1.0. ``since`` is included, ``until`` is not; both
    mean the time that is sorted by.

    Raises:
        InvalidArgument: a filter, the limit (1-1000) or the cursor cannot be accepted.
    """
    checks.one_of("sort", sort, ("updated_at", "created_at"))
    p, conditions = _filters(user_id, kind, agent_id, team_id, name)
    conditions += [] if archived is None else [f"s.archived = {int(checks.flag('archived', archived))}"]
    conditions += [] if pinned is None else [f"s.pinned = {int(checks.flag('pinned', pinned))}"]
    conditions += _times(p, sort, since, until, cursor)
    values = _values(p, checks.json_object("metadata", metadata), checks.texts("tags", tags))
    p["limit"] = checks.count("limit", limit, least=1, most=MOST) + 1
    [found] = await tx.execute((_page(tuple(conditions), sort, values), p))
    sessions = tuple(rows.header(row) for row in found[:limit])
    more = len(found) > limit
    return SessionPage(sessions=sessions, next_cursor=_cursor(sort, found[limit - 1]) if more else None)


@may_lag
@looks
async def count_sessions(
    tx: Tx,
    user_id: str | None = None,
    kind: Literal["agent", "team"] | None = None,
    agent_id: str | None = None,
    team_id: str | None = None,
    name: str | None = None,
    archived: bool | None = None,  # noqa: FBT001
    most: int = 10_000,
) -> int:
    """How many sessions `get_sessions` would find by these filters; those beyond ``most`` are not counted.

    Raises:
        InvalidArgument: a filter or ``most`` cannot be accepted.
    """
    p, conditions = _filters(user_id, kind, agent_id, team_id, name)
    conditions += [] if archived is None else [f"s.archived = {int(checks.flag('archived', archived))}"]
    p["most"] = checks.count("most", most)
    counted = f"select 1 from recollect_sessions s where {' and '.join(conditions)} limit :most"
    [found] = await tx.execute((f"select count(*) from ({counted}) counted", p))
    return int(found[0][0])


def _filters(
    user_id: str | None, kind: str | None, agent_id: str | None, team_id: str | None, name: str | None
) -> tuple[Params, list[str]]:
    """The conditions that are columns of the header, with their parameters."""
    p: Params = {
        "user_id": checks.optional_identifier("user_id", user_id),
        "kind": None if kind is None else checks.one_of("kind", kind, ("agent", "team")),
        "agent_id": checks.optional_identifier("agent_id", agent_id),
        "team_id": checks.optional_identifier("team_id", team_id),
        "name": None if name is None else rows.name_key(checks.key("name", name)),
    }
    return p, [LIVE, *(condition for column, condition in _CONDITIONS.items() if p[column] is not None)]


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


def _page(conditions: tuple[str, ...], sort: Sort, values: int = 0) -> str:
    """The newest sessions that meet the conditions, and have so many values.

    Where few have one of the values, these are looked up. Else the list is read, which may be the shorter way even
    where a million sessions have it: those of one user are few. Which way it is, its limit says: 0 for the others.
    """
    if not values:
        return _merged(_listed(conditions, sort, ":limit"), sort)
    found = ", ".join(_FOUND.format(number) for number in range(values))
    having = (*(_HAS.format(number) for number in range(values)), *conditions)
    pages = [_looked_up(number, having, sort) for number in range(values)]
    return f"with {found} {_merged([*pages, *_listed(having, sort, _limit(values))], sort)}"


def _looked_up(number: int, conditions: tuple[str, ...], sort: Sort) -> str:
    """The page of those that have one of the values. Both databases are told to begin with these."""
    return f"""
    select {HEADER} from {{one}}found{number} f cross join {{/one}}recollect_sessions s
    where s.session_id = {{one}}f.session_id{{/one}}{{many}}any(array(select session_id from found{number})){{/many}}
    and {" and ".join(conditions)}
    order by s.{sort} desc, s.session_id desc limit {_limit(number, few=number)}
    """


def _limit(values: int, few: int | None = None) -> str:
    """The limit where many have each of the first values, and where few have another one."""
    counts = [f"(select count(*) from found{number}) > {FEW}" for number in range(values)]
    counts += [] if few is None else [f"(select count(*) from found{few}) <= {FEW}"]
    return f"case when {' and '.join(counts)} then :limit else 0 end"


_FOUND: Final = f"""
found{{0}} as materialized (
    select v.session_id from recollect_values v where v.kind in ('metadata', 'tag')
    and v.kind = :kind{{0}} and v.key = :key{{0}} and v.value = :value{{0}} and length(v.value) <= {SEARCHABLE}
    limit {FEW + 1}
)
"""

# Asked like this, and not whether there is one: of that Postgres makes a join, or a table of all that have it.
_HAS: Final = """(
    select 1 from recollect_values v
    where v.session_id = s.session_id and v.kind = :kind{0} and v.key = :key{0} and v.value = :value{0}
) = 1"""


def _listed(conditions: tuple[str, ...], sort: Sort, limit: str) -> list[str]:
    """The pages that a list is merged of.

    Each index begins with one column and whether a session is archived, and one of its kind holds only those that are
    pinned. What is not said of these is read for each value, so that nothing is walked past and nothing sorted.
    """
    column = next((column for column in _ALONG if _CONDITIONS[column] in conditions), None)
    kinds = [()] if column else [("s.kind = 'agent'",), ("s.kind = 'team'",)]
    states = [()] if any("s.archived = " in condition for condition in conditions) else _STATES
    is_pinned = "s.pinned = 1" in conditions
    along = f"{{along recollect_sessions_{_ALONG[column or 'kind']}_pinned_{_ORDER[sort]}}}" if is_pinned else ""
    by_name = _CONDITIONS["name"] in conditions
    return [
        _along(along, (*kind, *state, *conditions), sort, limit, by_name=by_name) for kind in kinds for state in states
    ]


def _along(along: str, conditions: tuple[str, ...], sort: Sort, limit: str, *, by_name: bool) -> str:
    """A page along one index. SQLite's may hold names: they are looked for there, and only what is found is read."""
    order = f"order by s.{sort} desc, s.session_id desc"
    found = f"from recollect_sessions s {along} where {' and '.join(conditions)} {order} limit {limit}"
    if not by_name:
        return f"select {HEADER} {found}"
    return f"""
    select {HEADER} {{one}}from (select s.session_id{{/one}} {found}
    {{one}}) f cross join recollect_sessions s where s.session_id = f.session_id {order}{{/one}}
    """


_STATES: Final = [("s.archived = 0",), ("s.archived = 1",)]

_ALONG: Final = {"user_id": "user", "agent_id": "agent", "team_id": "team", "kind": "kind"}

_ORDER: Final[dict[Sort, str]] = {"updated_at": "active", "created_at": "created"}


def _merged(pages: Sequence[str], sort: Sort) -> str:
    if len(pages) == 1:
        return pages[0]
    every = " union all ".join(f"select * from ({page}) one" for page in pages)
    return f"select * from ({every}) s order by {sort} desc, session_id desc limit :limit"


def _values(p: Params, metadata: Mapping[str, str], tags: Sequence[str]) -> int:
    """Say which values are wanted; give how many."""
    wanted = [("metadata", key, value) for key, value in metadata.items()]
    wanted += [("tag", tag, "null") for tag in dict.fromkeys(tags)]
    if len(wanted) > WANTED:
        argument = "metadata" if len(metadata) > WANTED else "tags"
        raise InvalidArgument(argument, f"no more than {WANTED} tags and values can be asked for, not {len(wanted)}")
    for number, (kind, key, value) in enumerate(wanted):
        if len(value) > SEARCHABLE:
            raise InvalidArgument(f"metadata[{key!r}]", f"values over {SEARCHABLE} characters cannot be searched for")
        p |= {f"kind{number}": kind, f"key{number}": key, f"value{number}": value}
    return len(wanted)


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
