"""Tags, archived and pinned: what people mark sessions with, and find them by. None of it is activity."""

from __future__ import annotations

from typing import Any

import pytest
from store_kit import TWO, Face, dump, header_of, turn

from recollect.errors import InvalidArgument, SessionNotFound

pytestmark = pytest.mark.anyio


async def ids(db: Face, **filters: Any) -> list[str]:
    return [header.session_id for header in await db.get_sessions(**filters)]


async def test_tags_are_added_and_taken_away_and_are_what_a_session_is_found_by(db: Face) -> None:
    for session_id in ("s", "t"):
        await db.create_session(session_id)
    assert await db.tag_session("s", ["red", "älter", "red"]) == ("red", "älter")
    assert await db.tag_session("t", ["red"]) == ("red",)
    assert await db.tag_session("s", ["blue"], remove=["red", "never there"]) == ("blue", "älter")
    assert (await db.get_session("s")).tags == ("blue", "älter")
    assert await ids(db, tags=["red"]) == ["t"]
    assert await ids(db, tags=["blue", "älter"]) == ["s"]
    assert await ids(db, tags=["blue", "red"]) == []


async def test_a_mark_raises_the_version_and_is_no_activity(db: Face) -> None:
    await turn(db)
    before = await header_of(db)
    db.clock.forward(3600)
    await db.tag_session("s", ["red"])
    await db.pin_session("s")
    archived = await db.archive_session("s")
    assert archived == await header_of(db)
    assert (archived.archived, archived.pinned) == (True, True)
    assert (archived.version, archived.updated_at) == (before.version + 3, before.updated_at)
    back = await db.archive_session("s", archived=False)
    assert (back.archived, back.pinned) == (False, True)
    assert (await db.pin_session("s", pinned=False)).pinned is False


async def test_to_ask_for_the_tags_changes_nothing(db: Face) -> None:
    await db.create_session("s")
    await db.tag_session("s", ["red"])
    before = dump(db)
    assert await db.tag_session("s") == ("red",)
    assert dump(db) == before


async def test_what_is_archived_or_pinned_is_listed_apart_or_with_the_rest(db: Face) -> None:
    for number in range(6):
        await turn(db, f"s{number}", user_id="u")
        if number % 2:
            await db.archive_session(f"s{number}")
        if number > 3:
            await db.pin_session(f"s{number}")
    assert await ids(db) == ["s5", "s4", "s3", "s2", "s1", "s0"]
    assert await ids(db, archived=True) == ["s5", "s3", "s1"]
    assert await ids(db, archived=False, user_id="u") == ["s4", "s2", "s0"]
    assert await ids(db, pinned=True) == ["s5", "s4"]
    assert await ids(db, pinned=True, archived=False) == ["s4"]
    assert await ids(db, pinned=False, sort="created_at") == ["s3", "s2", "s1", "s0"]


async def test_pages_of_what_has_a_tag_follow_one_another_whether_few_have_it_or_many(
    db: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        await db.create_session(f"s{number}", metadata={"even": number % 2 == 0})
        await db.tag_session(f"s{number}", ["all"])
    for few in (500, 2):
        monkeypatch.setattr("recollect.store.lists.FEW", few)
        for found in ({"tags": ["all"]}, {"tags": ["all"], "metadata": {"even": True}}):
            pages, cursor = [], None
            while True:
                page = await db.get_sessions(**found, limit=2, cursor=cursor, sort="created_at")
                pages += [header.session_id for header in page]
                if (cursor := page.next_cursor) is None:
                    break
            step = 2 if "metadata" in found else 1
            assert pages == [f"s{number}" for number in range(8, -1, -step)], few


@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
async def test_what_is_no_mark_is_refused(db: Face) -> None:
    await db.create_session("s")
    before = dump(db)
    wrong: list[dict[str, Any]] = [
        {"tags": "red"},
        {"tags": [""]},
        {"tags": [1]},
        {"tags": ["x" * 256]},
        {"tags": ["a\nb"]},
        {"remove": "red"},
        {"tags": ["red"], "remove": ["red"]},
    ]
    for given in wrong:
        with pytest.raises(InvalidArgument, match=r"tags|remove"):
            await db.tag_session("s", **given)
    for verb in (db.archive_session, db.pin_session):
        with pytest.raises(InvalidArgument, match=r"archived|pinned"):
            await verb("s", 1)
        with pytest.raises(SessionNotFound):
            await verb("nowhere")
    with pytest.raises(SessionNotFound):
        await db.tag_session("nowhere", ["red"])
    assert dump(db) == before
