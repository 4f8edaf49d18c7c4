"""What the inbox shows: addresses with their twins, the list, and a session a page at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import pytest
from server_kit import CALLERS, Served, serving, signed_in

from recollect import Agent, EchoModel, Message, RunStatus, Store
from recollect.server import create_app
from recollect.server.inbox.views import HITS, ROWS, TURNS

ODD = [
    "plain",
    "ends.json",
    "ends.md",
    "a/b/c",
    "with space",
    "ünï 😀",
    "\"quoted\" 'twice'",
    "<b>bold</b>",
    "100%25 & more?x=1#r2",
    "../../etc",
    ".json",
    "a\\b",
]


@pytest.fixture(scope="module")
def served(db: Store) -> Iterator[Served]:
    with serving(create_app([Agent(EchoModel(), id="desk", db=db)], auth=CALLERS)) as running:
        yield running


@pytest.fixture
def alice(served: Served, db: Store) -> Iterator[httpx2.Client]:
    db.delete_sessions([header.session_id for header in db.iter_sessions()])
    with signed_in(served) as client:
        yield client


def said(db: Store, session_id: str, text: str = "Hi", **begin: Any) -> None:
    run = db.begin_run(session_id, [Message("user", text)], user_id="alice", agent_id="desk", **begin)
    db.finish_run(run, [Message("assistant", f"You said: {text}")])


def names(page: str) -> list[str]:
    return [unescape(found).strip() for found in re.findall(r'<span class="name[^"]*">([^<]*)</span>', page)]


@pytest.mark.parametrize("session_id", ODD)
def test_whatever_its_id_a_session_has_an_address_and_twins(alice: httpx2.Client, db: Store, session_id: str) -> None:
    said(db, session_id, "**Plan** two days")
    listed = alice.get("/").text
    [link] = re.findall(r'<a class="row"[^>]* href="([^"]+)"', listed)
    address = unescape(link)
    assert address == f"/s/{quote(session_id, safe='')}"
    assert address in unescape(listed.split(' hx-get="')[-1])
    page = alice.get(address)
    assert page.status_code == 200
    assert "<strong>Plan</strong> two days" in page.text
    assert f'data-session="{session_id}"' in unescape(page.text)
    data = alice.get(f"{address}.json")
    assert data.headers["content-type"] == "application/json"
    assert (data.json()["session_id"], len(data.json()["runs"])) == (session_id, 1)
    text = alice.get(f"{address}.md")
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert text.text.startswith("# **Plan** two days\n")
    assert "\n**user**\n\n**Plan** two days\n" in text.text
    for ending in (".json", ".md"):
        export = re.search(rf'href="(/s/[^"]*{re.escape(ending)})" download', page.text)
        assert export is not None
        assert unescape(export[1]) == f"{address}{ending}"


def test_a_session_whose_id_ends_so_comes_before_a_twin(alice: httpx2.Client, db: Store) -> None:
    said(db, "a", "The short one")
    said(db, "a.json", "The long one")
    page = alice.get("/s/a.json")
    assert page.headers["content-type"].startswith("text/html")
    assert "The long one" in page.text
    assert alice.get("/s/a.json.json").json()["session_id"] == "a.json"


@pytest.mark.parametrize("path", ["/s/nowhere", "/s/nowhere.json", "/s/nowhere.md", "/s/.json", "/s/"])
def test_what_is_not_there_is_said_on_a_page(alice: httpx2.Client, path: str) -> None:
    answer = alice.get(path)
    assert answer.status_code == 404
    assert "<h1>Not here</h1>" in answer.text
    assert alice.get(path, headers={"Accept": "application/json"}).json()["status"] == 404


def test_a_session_whose_time_is_over_has_neither_page_nor_twin(alice: httpx2.Client, db: Store) -> None:
    said(db, "s")
    db.set_session_expiry("s", timedelta(microseconds=1))
    for ending in ("", ".json", ".md"):
        assert alice.get(f"/s/s{ending}").status_code == 404
    assert alice.get("/index.json").json()["sessions"] == []


def test_the_twins_of_the_list_are_its_sessions(alice: httpx2.Client, db: Store) -> None:
    for number in range(ROWS + 3):
        said(db, f"s{number}", f"Number {number} [x](y)")
    first = alice.get("/index.json").json()
    assert [entry["session_id"] for entry in first["sessions"]] == [f"s{n}" for n in range(ROWS + 2, 2, -1)]
    rest = alice.get("/index.json", params={"cursor": first["next_cursor"]}).json()
    assert [entry["session_id"] for entry in rest["sessions"]] == ["s2", "s1", "s0"]
    assert rest["next_cursor"] is None
    text = alice.get("/index.md").text
    assert text.startswith(f"# Sessions\n\n- [Number {ROWS + 2} \\[x\\](y)](/s/s{ROWS + 2}.md) 20")
    db.tag_session("s1", ["red"])
    assert [entry["session_id"] for entry in alice.get("/index.json?tag=red").json()["sessions"]] == ["s1"]
    assert alice.get("/index.md?tag=red").text.count("\n- ") == 1


def test_text_in_a_twin_is_neither_cut_nor_able_to_end_its_block(alice: httpx2.Client, db: Store) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": "```"}'}}
    run = db.begin_run("s", [Message("user", "Look")], user_id="alice")
    db.append_messages(run, [Message("assistant", None, tool_calls=[call]), Message("tool", "seen", tool_call_id="c")])
    db.finish_run(run, status=RunStatus.error, error="it broke\nbadly")
    text = alice.get("/s/s.md").text
    assert "*look*\n\n````\n{" in text
    assert "```\nseen\n```" in text
    assert "> This run failed: it broke badly\n" in text


def test_the_list_is_read_on_without_scripts(alice: httpx2.Client, db: Store) -> None:
    for number in range(ROWS + 1):
        said(db, f"s{number}", f"Number {number}")
    page = alice.get("/").text
    assert len(names(page)) == ROWS
    more = re.search(r'class="more" hx-get="([^"]+)"[^>]*><a href="([^"]+)">', page)
    assert more is not None
    for address in more.groups():
        assert "Number 0" in names(alice.get(unescape(address)).text)
    assert "Today" not in alice.get(unescape(more[1])).text, "a day's heading is not said twice"


VIEWS: dict[str, list[str]] = {
    "": ["b", "a"],
    "?show=pinned": ["b"],
    "?show=done": ["d"],
    "?show=all": ["d", "b", "a"],
    "?show=nonsense": ["b", "a"],
    "?tag=red": ["a"],
    "?assignee=kim": ["b"],
    "?agent=desk": ["b", "a"],
    "?agent=nobody": [],
    "?kind=team": [],
    "?kind=agent&show=all": ["d", "b", "a"],
    "?q=porto": ["a"],
}


@pytest.mark.parametrize("query", VIEWS)
def test_a_view_holds_what_its_address_says(alice: httpx2.Client, db: Store, query: str) -> None:
    for session_id, text in (("a", "To Porto"), ("b", "To Rome"), ("d", "To Oslo")):
        said(db, session_id, text)
    db.tag_session("a", ["red"])
    db.update_values("b", "metadata", {"assignee": "kim"})
    db.pin_session("b")
    db.archive_session("d")
    db.set_session_name("a", "Porto")
    found = re.findall(r'class="row" data-session="([^"]+)"', alice.get(f"/{query}").text)
    assert found == VIEWS[query]
    assert [entry["session_id"] for entry in alice.get(f"/index.json{query}").json()["sessions"]] == VIEWS[query]


def test_what_is_searched_for_is_marked_and_leads_to_its_place(alice: httpx2.Client, db: Store) -> None:
    for number in range(60):
        said(db, "s", f"Number {number}")
    said(db, "t", "<i>Azulejos</i> & more")
    db.set_session_name("t", "Tiles")
    page = alice.get("/inbox/rows", params={"q": "azulejos"}).text
    assert "&lt;i&gt;<mark>Azulejos</mark>&lt;/i&gt; &amp; more" in page
    assert "Tiles" in names(page)
    said(db, "t", "They are **blue** and `white`")
    assert "They are <mark>blue</mark> and white" in alice.get("/inbox/rows", params={"q": "blue"}).text
    hits = alice.get("/inbox/rows", params={"q": '"number 17"'}).text
    [address] = set(re.findall(r'href="([^"]+#r18)"', hits))
    shown = alice.get(unescape(address).partition("#")[0]).text
    assert 'id="r18"' in shown
    assert shown.count('<section class="turn') == TURNS
    assert 'data-edge="older"' in shown
    assert 'data-edge="newer"' in shown
    assert len(re.findall('class="row hit"', alice.get("/inbox/rows", params={"q": "number"}).text)) == HITS
    assert "Nothing holds" in alice.get("/inbox/rows", params={"q": "zzz"}).text


def test_a_long_session_is_read_page_by_page_without_scripts_too(alice: httpx2.Client, db: Store) -> None:
    for number in range(1, 51):
        said(db, "s", f"Number {number}")
    page = alice.get("/s/s").text
    seen = set(re.findall(r'id="r(\d+)"', page))
    assert seen == {str(number) for number in range(31, 51)}, "the newest"
    link = re.search(r'data-edge="older" hx-get="([^"]+)"[^>]*><a href="([^"]+)"', page)
    assert link is not None
    older = set(re.findall(r'id="r(\d+)"', alice.get(unescape(link[1])).text))
    assert older == {str(number) for number in range(11, 31)}
    while link := re.search(r'data-edge="older"[^>]*><a href="([^"]+)"', page):
        page = alice.get(unescape(link[1])).text
        seen |= set(re.findall(r'id="r(\d+)"', page))
    assert seen == {str(number) for number in range(1, 51)}, "no turn is passed over"
    onward = alice.get("/inbox/turns", params={"session_id": "s", "after": 30}).text
    assert set(re.findall(r'id="r(\d+)"', onward)) == {str(number) for number in range(31, 51)}


def test_a_page_of_a_long_session_stays_in_its_database(alice: httpx2.Client, db: Store, served: Served) -> None:
    for number in range(50):
        said(db, "s", f"Number {number}")
    name = served.service.db_id(db)
    page = alice.get("/s/s", params={"db": name}).text
    earlier = re.search(r'data-edge="older"[^>]*><a href="([^"]+)"', page)
    assert earlier is not None
    page = alice.get(unescape(earlier[1])).text
    later = re.search(r'data-edge="newer"[^>]*><a href="([^"]+)"', page)
    assert later is not None
    for link in (earlier, later):
        assert f"db={name}" in unescape(link[1])


def test_a_page_weighs_little(alice: httpx2.Client, db: Store) -> None:
    for number in range(60):
        said(db, "s", f"Number {number}. " + "What would you do on a rainy day in Porto? " * 8)
        said(db, f"other-{number}", "Another one")
    assert len(alice.get("/s/s", headers={"Accept-Encoding": "identity"}).content) < 150_000
    weight, pages = 0, [alice.get("/s/s", headers={"Accept-Encoding": "gzip"})]
    pages += [
        alice.get(unescape(address), headers={"Accept-Encoding": "gzip"})
        for address in re.findall(r'(?:src|href)="(/inbox/static/[^"]+)"', pages[0].text)
    ]
    for answer in pages:
        weight += int(answer.headers["content-length"])
    assert len(pages) == 5
    assert weight < 100_000


def test_the_reader_sees_the_hours_of_their_own_clock(alice: httpx2.Client, db: Store) -> None:
    said(db, "s")
    header = db.get_header("s")
    assert header is not None
    assert header.updated_at is not None
    for zone, offset in (("Asia/Tokyo", 9), ("nowhere/at all", 0), ("../../etc/passwd", 0), ("", 0), ("x" * 300, 0)):
        alice.cookies.set("recollect-zone", zone)
        there = header.updated_at.astimezone(UTC) + timedelta(hours=offset)
        assert f">{there:%H:%M}</time>" in alice.get("/").text
    assert datetime.now(UTC) - header.updated_at.astimezone(UTC) < timedelta(minutes=5)


def test_what_was_said_is_shown_whole_and_does_nothing(alice: httpx2.Client, db: Store) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>[x](javascript:alert(1))\"'><svg onload=alert(1)>"
    call = {"id": "c", "type": "function", "function": {"name": evil, "arguments": json.dumps({"a": evil})}}
    run = db.begin_run("s", [Message("user", evil)], user_id="alice", agent_name=evil, model=evil)
    db.append_messages(run, [Message("assistant", evil, reasoning_content=evil, tool_calls=[call])])
    db.append_messages(run, [Message("tool", evil, tool_call_id="c")])
    db.finish_run(run, status=RunStatus.error, error=evil)
    db.set_session_name("s", evil[:150])
    db.tag_session("s", [evil[:100]])
    db.update_values("s", "metadata", {"k": evil, evil[:50]: "https://x.example/" + evil, "assignee": evil})
    for path in ("/", "/s/s", "/inbox/rows?q=alert", "/inbox/turns?session_id=s", f"/?tag={quote(evil)}"):
        page = alice.get(path).text
        assert page.count("<script") == len(re.findall(r"<script src=[^>]+ defer></script>", page)), path
        assert not re.search(r"<(svg|img)[^>]*\son\w+=", page), path
        assert not re.search(r'<[^>]*(href|src)="?\s*javascript:', page, re.IGNORECASE), path
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in alice.get("/s/s").text


def test_metadata_that_is_an_address_leads_there(alice: httpx2.Client, db: Store) -> None:
    said(db, "s")
    db.update_values("s", "metadata", {"ticket": "https://tickets.example/7?a=1&b=2", "note": "javascript:alert(1)"})
    page = alice.get("/s/s").text
    assert 'href="https://tickets.example/7?a=1&amp;b=2" target="_blank" rel="noopener noreferrer"' in page
    assert 'href="javascript:' not in page


def test_a_fallback_name_is_told_apart(alice: httpx2.Client, db: Store) -> None:
    for session_id, name, source in (("a", "By hand", "manual"), ("b", "Fallen back", "fallback"), ("c", "", "")):
        said(db, session_id, "The first words")
        if name:
            db.set_session_name(session_id, name, source=source)
    page = alice.get("/").text
    assert re.findall(r'<span class="name([^"]*)">([^<]*)<', page) == [
        (" is-fallback", "The first words"),
        (" is-fallback", "Fallen back"),
        ("", "By hand"),
    ]


def test_code_to_go_on_with_names_this_session(alice: httpx2.Client, db: Store, served: Served) -> None:
    said(db, "a 'b' \"c\"")
    page = unescape(
        alice.get(f"/s/{quote(chr(97) + ' ' + chr(39) + 'b' + chr(39) + ' ' + chr(34) + 'c' + chr(34))}").text
    )
    assert "recollect chat --session 'a '\"'\"'b'\"'\"' \"c\"' --user alice" in page
    assert f"{served.url}/agents/desk/runs" in page


def test_a_page_of_a_database_that_is_not_there_is_not_there(alice: httpx2.Client) -> None:
    for path in ("/", "/new", "/inbox/rows", "/index.json", "/inbox/unnamed", "/s/s"):
        assert alice.get(path, params={"db": "nowhere"}).status_code == 404


@pytest.mark.parametrize("query", ["cursor=nonsense", "at=-1", "at=x", f"at={1 << 40}"])
def test_an_address_that_cannot_be_read_is_refused_on_a_page(alice: httpx2.Client, db: Store, query: str) -> None:
    said(db, "s")
    answer = alice.get(f"/?{query}" if "cursor" in query else f"/s/s?{query}")
    assert answer.status_code == 422
    assert "That did not work" in answer.text


def test_the_piece_for_a_script_is_the_piece_of_the_page(alice: httpx2.Client, db: Store) -> None:
    said(db, "s")
    whole = alice.get("/s/s").text
    piece = alice.get("/s/s", headers={"HX-Request": "true"}).text
    assert piece.lstrip().startswith("<title>")
    article = piece[piece.index("<article") : piece.index("</article>")]
    assert article in whole
    assert urlsplit("/s/s").path in whole
