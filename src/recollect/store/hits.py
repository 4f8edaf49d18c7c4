"""What was ever said, found: newest first, complete at every moment, and seen by those only who may see it.

A search has a few sessions that were changed made findable, and looks through the texts of those that are left. Texts
that can be found fast are found along the index, beginning with the newest: a page costs the same whatever else is
stored. Ranking a million texts would not, so the order is that of time, and each hit tells how well it fits.
"""

from __future__ import annotations

import base64
import heapq
import logging
import time
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypedDict

import msgspec

from recollect import checks
from recollect.background import BACKGROUND
from recollect.errors import (
    DatabaseBusy,
    DatabaseFull,
    DatabaseReadOnly,
    InvalidArgument,
    RecollectError,
    SearchUnavailable,
)
from recollect.faces import THREADS
from recollect.hit import SearchHit, SearchPage, snippet
from recollect.port import Access, Database, Params, Row, Statement, Tx, drive, may_lag, reads
from recollect.query import LISTED, Query, parts, spelled
from recollect.store.documents import (
    IN_SECOND,
    IS_SPOKEN,
    NAME,
    ROLES,
    SUMMARY,
    Text,
    index_sessions,
    key_of,
    message_text,
    read_step,
    second_of,
    summary_text,
    write_step,
)
from recollect.store.indexed import CLEAN, EVER, MARK, get_mark, list_unindexed, move_mark, read_mark, scope, unindexed
from recollect.store.rows import MINE

log = logging.getLogger("recollect")

MOST: Final = 100
"""Hits a page can hold."""

AT_ONCE: Final = 20
"""Changed sessions that a search makes findable itself; the rest it looks through."""

NEWEST: Final = 1_000
"""Documents that Postgres looks at one by one before it asks its index."""

OFTEN: Final = 3
"""Hits among these from which on it looks at more."""

MORE: Final = (2_000, 4_000, 10_000)
"""So many: as many as the page is likely to take."""

FORMS: Final = 200
"""Words with one beginning that SQLite looks up, each for itself."""

BEGINNINGS: Final = 10
"""Beginnings in one query for which that is done."""

PERIOD: Final = 1.0
"""Seconds between two times that a process has changed sessions made findable in the background."""

LONG: Final = 2.0
"""Seconds that this may take."""

Key = tuple[int, str, int, int, int]
"""What orders documents: time, session, place of the run, of the message, part of it."""

_LAST: Final[Key] = (EVER, "", 0, 0, 0)


class PartFilters(TypedDict, total=False):
    """Which part of what is found is wanted."""

    since: datetime | None
    """The earliest `SearchHit.time` that is wanted."""
    until: datetime | None
    """The time before which is wanted."""
    limit: int
    """How many on a page, 1-100."""
    cursor: str | None
    """Where the page begins: the ``next_cursor`` of the one before."""


class SearchFilters(PartFilters, total=False):
    """Where is searched, and which part of what is found is wanted; all that is said must match."""

    user_id: str | None
    session_id: str | None
    """The one session that is searched; it need not be there."""
    kind: Literal["agent", "team"] | None
    """Of the session, as ``agent_id`` is."""
    agent_id: str | None


class Wanted(msgspec.Struct, frozen=True):
    """What is searched for, checked."""

    query: Query
    params: Params
    before: Key
    limit: int


class Found(msgspec.Struct, frozen=True):
    """A document that holds it."""

    key: Key
    words: str


async def search(
    access: Access,
    query: str,
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    kind: Literal["agent", "team"] | None = None,
    agent_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> SearchPage:
    """A page of what was said that holds all of ``query``, newest first: messages, and names and summaries of sessions.

    ``query`` is made of words, ``"phrases"`` and beginnings (``foo*``), whatever their case and accents; everything
    else is taken for a blank, so nothing is a mistake. ``session_id`` searches one session, which need not be there;
    ``kind`` and ``agent_id`` are those of the session. ``since`` is
    included, ``until`` is not; both mean the `SearchHit.time`. Runs of members, and runs that were replaced, are not
    searched.

    Raises:
        InvalidArgument: the query has more than 1,000 characters; or a filter, the limit (1-100) or the cursor cannot
            be accepted.
        SearchUnavailable: SQLite was built without what searching needs.
    """
    wanted = Wanted(
        query=Query.of(query),
        params={
            "user_id": checks.optional_identifier("user_id", user_id),
            "session_id": checks.optional_identifier("session_id", session_id),
            "kind": None if kind is None else checks.one_of("kind", kind, ("agent", "team")),
            "agent_id": checks.optional_identifier("agent_id", agent_id),
            "since": -EVER if since is None else checks.moment("since", since),
        },
        before=min(_LAST if cursor is None else _read_cursor(cursor), _first_at(until)),
        limit=checks.count("limit", limit, least=1, most=MOST),
    )
    if not wanted.query.terms:
        return SearchPage()
    await _index_some(access, wanted)
    page, left = await access.do(find_hits, wanted)
    _USED.setdefault(access.db.home, -PERIOD)
    if left:
        keep_up(access.db.home)
    return page


def keep_up(database: Database) -> None:
    """Have what was said be made findable in the background, where somebody searches in this process.

    That is done now and then, and never for long; what is left is found all the same.
    """
    now = time.monotonic()
    if now - _USED.get(database, now) >= PERIOD:
        _USED[database] = now
        BACKGROUND.submit(database, ("search",), lambda: _catch_up(database))


_USED: Final[weakref.WeakKeyDictionary[Database, float]] = weakref.WeakKeyDictionary()
"""The databases that were searched by this process, each with when that was last done."""


def _catch_up(database: Database) -> None:
    try:
        drive(index_sessions(Access(database, THREADS), seconds=LONG))
    except RecollectError as error:
        log.warning("what was said could not be made findable; it is looked through meanwhile: %s", error)


async def _index_some(access: Access, wanted: Wanted) -> None:
    """Make a few changed sessions findable."""
    changed, is_time = await access.do(get_mark)
    try:
        for session_id in await access.do(list_unindexed, wanted.params | {"changed": changed}, AT_ONCE):
            step = await access.do(read_step, session_id)
            if step is not None:
                await access.do(write_step, step)
        if is_time:
            await access.do(move_mark)
    except (DatabaseReadOnly, DatabaseBusy, DatabaseFull) as error:
        log.debug("changed sessions are looked through, for they cannot be made findable: %s", error)


@may_lag
@reads
async def find_hits(tx: Tx, wanted: Wanted) -> tuple[SearchPage, int]:
    """A page of hits at one moment, and how many sessions had to be looked through for it.

    Raises:
        SearchUnavailable: there is no index, and nothing here that could make it.
    """
    has_index, mark = await tx.execute((_HAS_INDEX, {}), (MARK, {}))
    if has_index == [(0,)]:
        raise SearchUnavailable
    p = _params(wanted, read_mark(mark)[0]) | {"match": _matching(wanted, await _forms(tx, wanted))}
    left, found, newest = await tx.execute(
        (unindexed(p), p | {"most": EVER}), (_match(wanted), p), (_walk(wanted, NEWEST), p)
    )
    if found and len(found) == p["most"]:
        found += await _rest_of_second(tx, wanted, p, found[-1])
    found += await _onward(tx, wanted, p, newest)
    every = [Found((at, session_id, *place), words) for session_id, *place, at, words, _ in found]
    best = heapq.nlargest(wanted.limit + 1, [*every, *await _look_through(tx, wanted, left)], key=_key)
    hits = await _hits(tx, wanted, best[: wanted.limit])
    more = len(best) > wanted.limit
    return SearchPage(hits=hits, next_cursor=_cursor(best[wanted.limit - 1].key) if more else None), len(left)


def _key(found: Found) -> Key:
    return found.key


def _params(wanted: Wanted, changed: int) -> Params:
    at, session_id, run_seq, idx, part = wanted.before
    return {
        **wanted.params,
        **{f"t{number}": pattern for number, pattern in enumerate(_patterns(wanted))},
        "changed": changed,
        "before_at": at,
        "before_id": session_id,
        "before_seq": run_seq,
        "before_idx": idx,
        "before_part": part,
        "tsquery": " & ".join(f"'{word}'{':*' if is_prefix else ''}" for word, is_prefix in _lookups(wanted)),
        "lowest": second_of(wanted.params["since"]),
        "highest": second_of(at) + IN_SECOND - 1,
        "most": wanted.limit + 1,
    }


def _lookups(wanted: Wanted) -> list[tuple[str, bool]]:
    return [*wanted.query.lookups(), *((key, False) for key in _scope_keys(wanted))]


async def _forms(tx: Tx, wanted: Wanted) -> dict[str, list[str]]:
    """SQLite: the words with each beginning that is longer than those it lists the texts of.

    Of such a beginning it would first merge all texts of all words, however many, before it gives the newest one.
    """
    begins = [word for word, is_prefix in wanted.query.lookups() if is_prefix and len(word) > LISTED][:BEGINNINGS]
    if not begins:
        return {}
    found = await tx.execute(*((_FORMS, {"begin": begin, "most": FORMS + 1}) for begin in begins))
    return {begin: [form for (form,) in forms] for begin, forms in zip(begins, found, strict=True)}


def _matching(wanted: Wanted, forms: dict[str, list[str]]) -> str:
    """What FTS5 is asked; where it gives more than was wanted, the stored words tell (`_holds`)."""
    return " AND ".join(_asked(word, forms.get(word), is_prefix=is_prefix) for word, is_prefix in _lookups(wanted))


def _asked(word: str, forms: list[str] | None, *, is_prefix: bool) -> str:
    if not is_prefix:
        return f'"{word}"'
    if len(word) <= LISTED or forms is None or len(forms) > FORMS:
        return f'"{word[:LISTED]}" *'
    return "(" + " OR ".join(f'"{form}"' for form in forms or [word]) + ")"


def _scope_keys(wanted: Wanted) -> Iterator[str]:
    for name in ("user_id", "session_id", "kind", "agent_id"):
        if (value := wanted.params[name]) is not None:
            yield key_of(name, value)


def _patterns(wanted: Wanted) -> list[str]:
    """What words stand side by side, where being in the text is not enough."""
    return [term.pattern for term in wanted.query.terms if not term.is_plain]


async def _onward(tx: Tx, wanted: Wanted, p: Params, newest: list[Row]) -> list[Row]:
    """Postgres: the page, where the newest documents did not fill it: among more of them, or along the index.

    That gives all that have the words, to be sorted, so it is for words that few have; of how many that are, the newest
    tell.
    """
    steps = [_look_up(wanted)]
    if len(newest) >= OFTEN:
        needed = 1.5 * NEWEST * p["most"] / len(newest)
        steps.insert(0, _walk(wanted, next((count for count in MORE if count >= needed), MORE[-1])))
    for step in steps:
        if len(newest) == p["most"]:
            break
        [newest] = await tx.execute((step, p))
    return newest


async def _rest_of_second(tx: Tx, wanted: Wanted, p: Params, last: Row) -> list[Row]:
    """What else was found in the second of the last one: SQLite numbers its documents in no order within it."""
    number = last[-1]
    lowest = number - number % IN_SECOND
    [found] = await tx.execute((_match(wanted), p | {"lowest": lowest, "highest": number - 1, "most": EVER}))
    return found


async def _look_through(tx: Tx, wanted: Wanted, left: Sequence[Row]) -> list[Found]:
    """The newest texts of changed sessions that hold it."""
    best: list[Found] = []
    async for session_id, text in _texts(tx, [session_id for (session_id,) in left]):
        if text.at < wanted.params["since"]:
            continue
        for part, words in text.documents():
            found = Found((text.at, session_id, text.run_seq, text.idx, part), spelled(words))
            if found.key < wanted.before and wanted.query.matches(found.words):
                best.append(found)
        if len(best) > 10 * MOST:
            best = heapq.nlargest(wanted.limit + 1, best, key=_key)
    return best


async def _texts(tx: Tx, ids: Sequence[str]) -> AsyncIterator[tuple[str, Text]]:
    """All that can be found of some sessions, read a few at a time."""
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        asked: list[Statement] = [(sql, {"session_id": one}) for one in some for sql in (_OWN_TEXTS, _TEXTS)]
        answers = await tx.execute(*asked)
        for place, session_id in enumerate(some):
            for at, name, summary in answers[2 * place]:
                yield session_id, Text(0, NAME, at, name)
                yield session_id, Text(0, SUMMARY, at, summary_text(summary))
            for run_seq, idx, at, role, body in answers[2 * place + 1]:
                yield session_id, Text(run_seq, idx, at, message_text(role, body))


async def _hits(tx: Tx, wanted: Wanted, best: Sequence[Found]) -> tuple[SearchHit, ...]:
    asked: list[Statement] = []
    for found in best:
        _, session_id, run_seq, idx, _ = found.key
        asked.append((_MESSAGE if run_seq else _OWN, {"session_id": session_id, "run_seq": run_seq, "idx": idx}))
    answers = await tx.execute(*asked) if asked else []
    return tuple(_hit(wanted, found, row[0]) for found, row in zip(best, answers, strict=True) if row)


def _hit(wanted: Wanted, found: Found, row: Row) -> SearchHit:
    at, session_id, run_seq, idx, part = found.key
    name, user_id, *rest = row
    place: dict[str, Any] = {"where": "name" if idx == NAME else "summary"}
    text = name if idx == NAME else summary_text(rest[0]) if not run_seq else ""
    if run_seq:
        run_id, role, body = rest
        place = {"run_id": run_id, "run_seq": run_seq, "idx": idx, "role": role}
        text = message_text(role, body)
    shown, marks = snippet(list(parts(text))[part], wanted.query)
    return SearchHit(
        session_id=session_id,
        session_name=name,
        user_id=user_id,
        snippet=shown,
        marks=marks,
        time=checks.from_micros(at),
        rank=wanted.query.rank(found.words),
        **place,
    )


_BEFORE: Final = """(d.at, d.session_id, d.run_seq, d.idx, d.part)
    < (:before_at, :before_id, :before_seq, :before_idx, :before_part)"""

_NEWEST_FIRST: Final = "order by d.at desc, d.session_id desc, d.run_seq desc, d.idx desc, d.part desc"

_COLUMNS: Final = "d.session_id, d.run_seq, d.idx, d.part, d.at, d.words"

_HAS_INDEX: Final = """{one}
select count(*) from sqlite_master where type = 'trigger' and name = 'recollect_documents_added'
{/one}"""


# From one word to the next without looking at the texts that have it.
_FORMS: Final = """{one}
with recursive forms (form) as (
    select (select v.term from recollect_vocabulary v where v.term >= :begin limit 1)
    union all
    select (select v.term from recollect_vocabulary v where v.term >= form || char(1) limit 1)
    from forms where substr(form, 1, length(:begin)) = :begin
)
select form from forms where substr(form, 1, length(:begin)) = :begin limit :most
{/one}"""


def _match(wanted: Wanted) -> str:
    """SQLite: along its index, which is in the order of time down to the second."""
    return f"""{{one}}
    select {_COLUMNS}, d.id
    from recollect_words w cross join recollect_documents d cross join recollect_sessions s
    cross join recollect_indexed i
    where recollect_words match :match and w.rowid >= :lowest and w.rowid <= :highest
        and d.id = w.rowid and s.session_id = d.session_id and i.session_id = d.session_id
        and {_holds(wanted)} and {_visible(wanted)} and {_BEFORE} and d.at >= :since
    order by w.rowid desc limit :most
    {{/one}}"""


def _walk(wanted: Wanted, count: int) -> str:
    """Postgres: among so many of the newest, one by one."""
    return f"""{{many}}
    select {_COLUMNS}, null from (
        select * from recollect_documents d where {_BEFORE} {_NEWEST_FIRST} limit {count}
    ) d
    where d.at >= :since and d.terms @@ cast(:tsquery as tsquery) and {_holds(wanted)}
        and {_is_visible(wanted)} limit :most
    {{/many}}"""


def _look_up(wanted: Wanted) -> str:
    """Postgres: along its index, and not along that of times, which has nearly all of them.

    Whose they are is asked of the newest first, until the page is full.
    """
    return f"""{{many}}
    with d as materialized (
        select d.session_id, d.run_seq, d.idx, d.part, d.at from recollect_documents d
        where d.terms @@ cast(:tsquery as tsquery) and {_holds(wanted)}
            and {_BEFORE.replace("d.at", "d.at + 0")} and d.at + 0 >= :since {_NEWEST_FIRST}
    )
    select d.session_id, d.run_seq, d.idx, d.part, d.at, (
        select o.words from recollect_documents o
        where o.session_id = d.session_id and o.run_seq = d.run_seq and o.idx = d.idx and o.part = d.part
    ), null
    from d where {_is_visible(wanted)} limit :most
    {{/many}}"""


def _holds(wanted: Wanted) -> str:
    """What stands side by side does so."""
    held = [f"replace(d.words, :t{number}, '') <> d.words" for number in range(len(_patterns(wanted)))]
    return " and ".join(held) or "1 = 1"


def _visible(wanted: Wanted) -> str:
    return " and ".join((MINE, scope(wanted.params), CLEAN))


# Asked like this, for of a join Postgres makes one with all sessions there are.
def _is_visible(wanted: Wanted) -> str:
    return f"""(
        select 1 from recollect_sessions s join recollect_indexed i on i.session_id = s.session_id
        where s.session_id = d.session_id and {_visible(wanted)}
    ) = 1"""


_SUMMARY_OF: Final = """(
    select v.value from recollect_values v
    where v.session_id = s.session_id and v.kind = 'summary' and v.key = 'summary'
)"""

_OWN_TEXTS: Final = f"""
select s.updated_at, s.name, {_SUMMARY_OF} from recollect_sessions s where s.session_id = :session_id
"""

_TEXTS: Final = f"""
select m.run_seq, m.idx, r.created_at, m.role, m.body
from recollect_runs r join recollect_messages m on m.session_id = r.session_id and m.run_seq = r.run_seq
where r.session_id = :session_id and {IS_SPOKEN} and m.role in {ROLES}
"""

_OWN: Final = f"""
select s.name, s.user_id, {_SUMMARY_OF} from recollect_sessions s where s.session_id = :session_id
"""

_MESSAGE: Final = """
select s.name, s.user_id, r.run_id, m.role, m.body
from recollect_messages m
join recollect_runs r on r.session_id = m.session_id and r.run_seq = m.run_seq
join recollect_sessions s on s.session_id = m.session_id
where m.session_id = :session_id and m.run_seq = :run_seq and m.idx = :idx
"""


def _first_at(until: datetime | None) -> Key:
    """What comes before every document of this time."""
    return _LAST if until is None else (checks.moment("until", until), "", 0, 0, 0)


def _cursor(key: Key) -> str:
    return base64.urlsafe_b64encode(checks.encode(key)).decode().rstrip("=")


def _read_cursor(cursor: str) -> Key:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key: Key = msgspec.json.decode(text, type=tuple[int, str, int, int, int])
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise InvalidArgument("cursor", f"{cursor!r} was not given out by this method") from error
    at, session_id, *places = key
    if abs(at) > EVER or len(session_id) > checks.MAX_ID or not all(0 <= place < 1 << 31 for place in places):
        raise InvalidArgument("cursor", f"{cursor!r} was not given out by this method")
    return key
