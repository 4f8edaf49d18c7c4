"""Many sessions are listed in pages: newest first, by any filter, the same from any page."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from store_kit import TWO, Face, dump, header_of, run_sql, turn, user

from recollect.errors import InvalidArgument

pytestmark = pytest.mark.anyio


async def ids(db: Face, **filters: Any) -> list[str]:
    return [header.session_id for header in await db.get_sessions(**filters)]


async def walk(db: Face, **filters: Any) -> list[str]:
    """Every id, page by page; no page but the last is short."""
    found: list[str] = []
    cursor = None
    while True:
        page = await db.get_sessions(cursor=cursor, **filters)
        found += [header.session_id for header in page]
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page) == filters["limit"]


async def _make(db: Face, count: int, **fields: Any) -> list[str]:
    made = []
    for number in range(count):
        db.clock.forward(1)
        made.append((await db.create_session(f"s{number:02}", **fields)).session_id)
    return made


async def test_a_list_shows_headers_newest_activity_first(db: Face) -> None:
    for session_id in ("a", "b", "c"):
        db.clock.forward(1)
        await turn(db, session_id, text=f"About {session_id}", user_id="u", agent_id="g")
    db.clock.forward(1)
    run = await db.begin_run("a", [user("more")], user_id="u")
    page = await db.get_sessions()
    assert [header.session_id for header in page] == ["a", "c", "b"]
    assert list(page) == [await header_of(db, session_id) for session_id in "acb"]
    assert (page[0].preview, page[0].run_count, page[0].message_count) == ("About a", 2, 3)
    db.clock.forward(1)
    await turn(db, "b", user_id="u")
    db.clock.forward(1)
    await db.append_messages(run, [user("step")])
    assert await ids(db) == ["b", "a", "c"], "the begin is recent enough to stand for the step"
    db.clock.forward(10)
    await db.append_messages(run, [user("step")])
    assert await ids(db) == ["a", "b", "c"]
    assert await ids(db, sort="created_at") == ["c", "b", "a"]


async def test_a_name_is_no_activity(db: Face) -> None:
    first, second = await _make(db, 2)
    db.clock.forward(1)
    await db.set_session_name(first, "Named late")
    assert await ids(db) == [second, first]


@pytest.mark.parametrize("sort", ["updated_at", "created_at"])
@pytest.mark.parametrize("limit", [1, 3, 7, 8, 1000])
async def test_pages_hold_each_session_once_also_when_times_are_equal(db: Face, sort: str, limit: int) -> None:
    db.clock.stop()
    made = [(await db.create_session(f"s{number}")).session_id for number in range(7)]
    assert await walk(db, sort=sort, limit=limit) == sorted(made, reverse=True)
    assert (await db.get_sessions(sort=sort, limit=7)).next_cursor is None


@pytest.mark.parametrize("sort", ["updated_at", "created_at"])
async def test_a_cursor_keeps_its_place_while_sessions_change(db: Face, sort: str) -> None:
    made = await _make(db, 9)
    first = await db.get_sessions(sort=sort, limit=3)
    db.clock.forward(1)
    await db.create_session("new")
    await turn(db, made[0])
    await turn(db, made[8])
    await db.set_session_name(made[5], "Renamed")
    await db.delete_session(made[4])
    await db.delete_session(made[6])  # where the cursor stands
    rest = []
    cursor = first.next_cursor
    while cursor:
        page = await db.get_sessions(sort=sort, limit=2, cursor=cursor)
        rest += [header.session_id for header in page]
        cursor = page.next_cursor
    assert [header.session_id for header in first] == [made[8], made[7], made[6]]
    assert rest == [made[5], made[3], made[2], made[1], *([made[0]] if sort == "created_at" else [])]


async def _filed(db: Face) -> None:
    for number in range(12):
        await db.create_session(
            f"s{number:02}",
            user_id=("alice", "bob", None)[number % 3],
            kind=("agent", "team")[number % 2],
            agent_id=("g", "h")[number // 6],
            team_id=("t", None)[number % 2],
            name=f"Number {number}",
            metadata={"n": number % 2, "list": [number % 3]},
        )
    await db.update_values("s03", "tag", {"red": None, "big": None})
    await db.update_values("s04", "tag", {"red": None})
    run_sql(db, "update recollect_sessions set archived = 1 where session_id in ('s00', 's01')")
    run_sql(db, "update recollect_sessions set pinned = 1 where session_id in ('s01', 's02')")


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({"user_id": "alice"}, lambda n: n % 3 == 0),
    ({"kind": "team"}, lambda n: n % 2 == 1),
    ({"agent_id": "g"}, lambda n: n < 6),
    ({"team_id": "t"}, lambda n: n % 2 == 0),
    ({"team_id": "none"}, lambda n: False),
    ({"name": "number 1"}, lambda n: n in (1, 10, 11)),
    ({"name": "%"}, lambda n: False),
    ({"metadata": {"n": 1}}, lambda n: n % 2 == 1),
    ({"metadata": {"n": 1, "list": [2]}}, lambda n: n % 2 == 1 and n % 3 == 2),
    ({"metadata": {"n": "1"}}, lambda n: False),
    ({"metadata": {"other": None}}, lambda n: False),
    ({"metadata": {}}, lambda n: True),
    ({"tags": ["red"]}, lambda n: n in (3, 4)),
    ({"tags": ["red", "big"]}, lambda n: n == 3),
    ({"tags": ["blue"]}, lambda n: False),
    ({"archived": True}, lambda n: n in (0, 1)),
    ({"archived": False}, lambda n: n not in (0, 1)),
    ({"pinned": True}, lambda n: n in (1, 2)),
    ({"pinned": True, "archived": True}, lambda n: n == 1),
    ({"user_id": "alice", "kind": "team", "metadata": {"n": 1}, "tags": ["red"]}, lambda n: n == 3),
    ({"user_id": "alice", "agent_id": "h", "name": "NUMBER"}, lambda n: n in (6, 9)),
]


@pytest.mark.parametrize("sort", ["updated_at", "created_at"])
async def test_filters_find_what_matches_all_of_them_on_pages_of_any_size(db: Face, sort: str) -> None:
    await _filed(db)
    for wanted, matches in FILTERS:
        expected = [f"s{number:02}" for number in range(11, -1, -1) if matches(number)]
        assert await ids(db, sort=sort, **wanted) == expected, wanted
        assert await walk(db, sort=sort, limit=2, **wanted) == expected, wanted
        assert [h.session_id async for h in db.iter_sessions(sort=sort, limit=3, **wanted)] == expected, wanted


@pytest.mark.parametrize("sort", ["updated_at", "created_at"])
async def test_since_is_included_and_until_is_not(db: Face, sort: str) -> None:
    db.clock.stop()
    made = await _make(db, 5)
    moments: list[datetime] = [getattr(await header_of(db, session_id), sort) for session_id in made]
    assert await ids(db, sort=sort, since=moments[2]) == made[:1:-1]
    assert await ids(db, sort=sort, until=moments[2]) == made[1::-1]
    assert await ids(db, sort=sort, since=moments[1], until=moments[3]) == [made[2], made[1]]
    assert await ids(db, sort=sort, since=moments[4] + timedelta(microseconds=1)) == []


@pytest.mark.parametrize("wanted", ["cafe", "CAFÉ", "Cafe\u0301", "é bo", "sträss", "STRASSE", "straße", "ﬁn", "fin"])
async def test_names_are_found_whatever_their_case_and_accents(db: Face, wanted: str) -> None:
    await db.create_session("s", name="Le Café Böhm, Straße 5, ﬁn")
    await db.create_session("other", name="Elsewhere")
    assert await ids(db, name=wanted) == ["s"]


async def test_a_value_can_be_found_until_it_changes(db: Face) -> None:
    await db.create_session("s", metadata={"project": "x", "none": None, "long": "y" * 300})
    assert await ids(db, metadata={"project": "x"}) == ["s"]
    assert await ids(db, metadata={"none": None}) == ["s"]
    await db.update_values("s", "metadata", {"project": "z"})
    assert await ids(db, metadata={"project": "x"}) == []
    assert await ids(db, metadata={"project": "z", "none": None}) == ["s"]
    with pytest.raises(InvalidArgument, match="long"):
        await db.get_sessions(metadata={"long": "y" * 300})


async def test_state_is_not_found_as_metadata(db: Face) -> None:
    await db.create_session("s", session_state={"k": 1})
    assert await ids(db, metadata={"k": 1}) == []


async def test_walking_all_pages_meets_every_session_once(db: Face) -> None:
    made = await _make(db, 23)
    assert [header.session_id async for header in db.iter_sessions(limit=5)] == made[::-1]
    walked = []
    async for header in db.iter_sessions(limit=2):
        walked.append(header.session_id)
        if len(walked) == 3:
            break
    assert walked == made[:-4:-1]
    page = await db.get_sessions(limit=4)
    assert [h.session_id async for h in db.iter_sessions(cursor=page.next_cursor)] == made[:-4][::-1]


def _cursor(*value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "not a cursor", "é", "\ud800", "====", 5, b"abc", ["updated_at", 1, "s"]),
        *(_cursor(), _cursor("updated_at"), _cursor("updated_at", "1", "s"), _cursor("updated_at", 1, 2)),
        *(_cursor("created_at", 1, "s"), _cursor("name", 1, "s"), _cursor("updated_at", 2**64, "s")),
        _cursor("updated_at", 10**30, "s"),
    ],
)
@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
async def test_a_cursor_of_another_list_or_none_at_all_is_refused(db: Face, cursor: Any) -> None:
    await db.create_session("s")
    before = dump(db)
    with pytest.raises(InvalidArgument, match="cursor"):
        await db.get_sessions(cursor=cursor)
    assert dump(db) == before


async def test_so_many_tags_and_values_can_be_asked_for_and_no_more(db: Face) -> None:
    tags = [f"t{number}" for number in range(15)]
    await db.create_session("s", metadata={"k": 1})
    await db.tag_session("s", tags)
    assert await ids(db, tags=[*tags, *tags], metadata={"k": 1}) == ["s"]
    for wanted in ({"tags": [*tags, "a", "b"]}, {"tags": [*tags, "a"], "metadata": {"k": 1}}):
        with pytest.raises(InvalidArgument, match="tags: no more than 16"):
            await db.get_sessions(**wanted)
    with pytest.raises(InvalidArgument, match="metadata: no more than 16"):
        await db.get_sessions(metadata=dict.fromkeys(map(str, range(17)), 1))


async def test_sessions_are_counted_as_they_are_listed_and_no_further_than_is_asked(db: Face) -> None:
    for session_id, owner, kind in (("a", "u", "agent"), ("b", "u", "team"), ("c", "w", "agent"), ("d", None, "agent")):
        await db.create_session(session_id, user_id=owner, kind=kind, agent_id="g" if kind == "agent" else None)
    await db.set_session_name("a", "Crème brûlée")
    await db.archive_session("b")
    wanted: list[dict[str, Any]] = [
        {},
        {"user_id": "u"},
        {"kind": "team"},
        {"agent_id": "g"},
        {"team_id": "t"},
        {"name": "creme"},
        {"archived": True},
        {"user_id": "u", "archived": False},
    ]
    counts = [await db.count_sessions(**filters) for filters in wanted]
    assert counts == [len(await ids(db, **filters)) for filters in wanted] == [4, 2, 1, 3, 0, 1, 1, 1]
    assert await db.count_sessions(most=3) == 3
    with pytest.raises(InvalidArgument, match="most"):
        await db.count_sessions(most=-1)
