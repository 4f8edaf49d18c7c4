"""The inbox for everybody: with a screen reader, in the dark, on a small screen, without JavaScript, under attack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from inbox_kit import Desk, Reader, reading
from playwright.sync_api import Page, expect

from recollect import ModelError

HOSTILE = """
<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>
<iframe src="https://evil.example/"></iframe><a href="javascript:alert(4)">click</a>
[click](javascript:alert(5)) [data](data:text/html,<script>alert(6)</script>) ![pixel](https://evil.example/pixel.png)
<style>body { background: url(https://evil.example/style) }</style><form action="https://evil.example"><button>x</button></form>
"><div hx-get="https://evil.example/" hx-trigger="load">x</div> {{ 7 * 7 }} <base href="https://evil.example/">
<link rel=stylesheet href=https://evil.example/x.css> <meta http-equiv=refresh content="0;url=https://evil.example/">
"""


WIDE = f"{'| a column ' * 30}|\n{'|---' * 30}|\n{'| 1 ' * 30}|\n\n```\n{'x' * 400}\n```"
"""A table and code that do not fit beside the list."""

AXE = Axe()


EVERYTHING = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
"""What the dark can make worse: the elements are those of the light."""


def _axe(page: Page, wanted: dict[str, Any] = EVERYTHING) -> list[str]:
    violations = AXE.run(page, options={"runOnly": wanted}).response["violations"]
    return [f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']]}" for one in violations]


def _filled(reader: Reader) -> str:
    """One session of everything; its id."""
    session_id = reader.talk("all", "look at nothing", "look at the sea", WIDE, name="All of It")
    reader.desk.db.tag_session(session_id, ["billing"])
    reader.desk.db.update_values(session_id, "metadata", {"ticket": "https://tickets.example/17", "assignee": "sam"})
    reader.desk.db.pin_session(session_id)
    reader.desk.model.is_well = False
    with pytest.raises(ModelError):
        reader.desk.agent.run("Please fail", session_id=session_id, user_id=reader.name)
    reader.desk.crew.run("Hello, crew", session_id=f"{reader.name}-crew", user_id=reader.name)
    return session_id


def _nothing(reader: Reader, session_id: str) -> None:
    del session_id
    reader.go("/?show=pinned&tag=none")


def _list(reader: Reader, session_id: str) -> None:
    del session_id
    reader.go()
    expect(reader.page.locator("#unnamed")).to_contain_text("unnamed")


def _session(reader: Reader, session_id: str) -> None:
    reader.go(f"/s/{session_id}")
    for fold in reader.page.locator(".fold > summary").all():
        fold.click()


def _more(reader: Reader, session_id: str) -> None:
    reader.go(f"/s/{session_id}")
    reader.page.locator("#more > summary").click()
    reader.page.locator(".incode > summary").click()


def _search(reader: Reader, session_id: str) -> None:
    del session_id
    reader.go()
    reader.page.fill("#q", "sea")
    expect(reader.page.locator("mark").first).to_be_visible()


def _filters(reader: Reader, session_id: str) -> None:
    del session_id
    reader.go("/?tag=billing")
    reader.page.get_by_title("Filters").click()


def _palette(reader: Reader, session_id: str) -> None:
    reader.go(f"/s/{session_id}")
    reader.press("Control+k")
    reader.page.keyboard.type("all")
    expect(reader.page.get_by_role("option", name="All of It")).to_be_visible()


def _help(reader: Reader, session_id: str) -> None:
    del session_id
    reader.go()
    reader.press("?")


def _new(reader: Reader, session_id: str) -> None:
    del session_id
    reader.go("/new")


def _renaming(reader: Reader, session_id: str) -> None:
    reader.go(f"/s/{session_id}")
    reader.press("r")


def _streaming(reader: Reader, session_id: str) -> None:
    reader.go(f"/s/{session_id}")
    reader.say("Speak slowly")
    expect(reader.page.locator(".pending .answer")).to_contain_text("word2")


def _deleted(reader: Reader, session_id: str) -> None:
    reader.go(f"/s/{session_id}")
    expect(reader.page.locator("#turns")).not_to_contain_text("at work")
    reader.delete()
    expect(reader.toast).to_contain_text("Deleted")


STATES = [
    _nothing, _list, _session, _more, _search, _filters, _palette, _help, _new, _renaming, _streaming, _deleted
]  # fmt: skip


SCREENS = {"wide": {"width": 1280, "height": 800}, "narrow": {"width": 375, "height": 740}}


def _axe_by_day_and_night(page: Page) -> list[str]:
    found = _axe(page)
    page.emulate_media(color_scheme="dark")
    found += _axe(page, COLOURS)
    page.emulate_media(color_scheme="light")
    return found


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing_in_any_state(desk: Desk, browser: Any, screen: str) -> None:
    found: dict[str, list[str]] = {}
    with reading(desk, browser, viewport=SCREENS[screen]) as reader:
        session_id = _filled(reader)
        for show in STATES:
            show(reader, session_id)
            found[show.__name__] = _axe_by_day_and_night(reader.page)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing_at_the_door(desk: Desk, browser: Any, screen: str) -> None:
    with reading(desk, browser, viewport=SCREENS[screen]) as reader:
        reader.context.clear_cookies()
        reader.may_fail = {401, 404}
        reader.go("/?token=wrong")
        assert _axe_by_day_and_night(reader.page) == []
        reader.sign_in()
        reader.go("/s/nowhere")
        assert _axe_by_day_and_night(reader.page) == []


def _overflows(page: Page) -> list[str]:
    """The parts of the page that would have to be scrolled sideways. Code and tables are, within their own borders."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(
                "html, body, #side, #list, #main, #bar, #scroll, .sheet, .fold, .bubble")]
            .filter(one => one.clientWidth > 1 && one.scrollWidth > one.clientWidth + 1)
            .map(one => one.outerHTML.slice(0, 80))"""
    )
    return found


def _width(page: Page, selector: str) -> float:
    box = page.locator(selector).bounding_box()
    return box["width"] if box else 0


def test_nothing_stands_out_of_the_page_at_any_width(reader: Reader) -> None:
    session_id = _filled(reader)
    reader.desk.talk(session_id, reader.name, "W" * 300, "```\n" + "x" * 400 + "\n```", name="N" * 200)
    for show in (_list, _session, _more, _search, _new):
        show(reader, session_id)
        for width in (320, 375, 768, 1280, 1920):
            reader.page.set_viewport_size({"width": width, "height": 740})
            assert _overflows(reader.page) == [], (show.__name__, width)


def test_on_a_small_screen_the_list_and_the_conversation_take_turns(desk: Desk, browser: Any) -> None:
    with reading(desk, browser, viewport={"width": 375, "height": 740}) as reader:
        session_id = reader.talk("one", name="Castle")
        reader.go()
        assert _width(reader.page, "#main") <= 1
        reader.row(session_id).click()
        expect(reader.name_shown).to_be_visible()
        expect(reader.page.locator("#side")).not_to_be_visible()
        reader.say("And on")
        expect(reader.turns).to_have_count(2)
        reader.page.get_by_role("link", name="Back to the list").click()
        expect(reader.row(session_id)).to_be_visible()
        assert _width(reader.page, "#main") <= 1
        assert _width(reader.page, "#side") == 375


def test_the_dark_is_dark(desk: Desk, browser: Any) -> None:
    with reading(desk, browser, color_scheme="dark") as reader:
        session_id = reader.talk("one", name="Castle")
        reader.go(f"/s/{session_id}")
        for selector in ("body", "#side", ".bubble.user", "#message"):
            shades = reader.page.eval_on_selector(
                selector, "one => getComputedStyle(one).color.match(/[\\d.]+/g).slice(0, 3).map(Number)"
            )
            assert min(shades) > 128, selector
        ground = reader.page.eval_on_selector("body", "one => getComputedStyle(one).backgroundColor.match(/\\d+/g)")
        assert max(map(int, ground[:3])) < 64


def test_a_hostile_message_does_nothing(reader: Reader) -> None:
    session_id = reader.talk("bad", HOSTILE, f"slowly {HOSTILE}")
    reader.desk.db.set_session_name(
        session_id, "<img src=x onerror=alert(7)> '\" <script>alert(8)</script>", reader.name
    )
    reader.desk.db.tag_session(session_id, ["<b onclick=alert(9)>tag"])
    reader.desk.db.update_values(
        session_id, "metadata", {"<i>key": "<script>alert(10)</script>", "js": "javascript:alert(11)"}
    )
    reader.go()
    expect(reader.row(session_id)).to_contain_text("<img src=x onerror=alert(7)>")
    reader.row(session_id).click()
    expect(reader.name_shown).to_contain_text("<script>alert(8)</script>")
    expect(reader.turns.first).to_contain_text("<script>alert(1)</script>")
    said = reader.page.locator("#turns")
    expect(
        said.locator("script, iframe, style, link, meta, base, form[action*=evil], [onerror], [onload]")
    ).to_have_count(0)
    expect(said.locator("[hx-get*=evil], a[href^=javascript], a[href^=data], img")).to_have_count(0)
    for link in said.locator("a[href*=evil]").all():
        assert link.get_attribute("target") == "_blank"
        assert "noopener" in (link.get_attribute("rel") or "")
    reader.page.fill("#q", "evil")
    expect(reader.page.locator(".hit mark").first).to_be_visible()
    reader.press("Control+k")
    reader.page.keyboard.type("onerror")
    expect(reader.page.locator("#palette-list")).to_contain_text("<img src=x onerror=alert(7)>")
    reader.press("Escape")
    reader.page.locator("#more > summary").click()
    reader.say(HOSTILE.replace("\n", " "))
    expect(reader.turns).to_have_count(3)
    reader.page.wait_for_timeout(300)


@pytest.fixture
def plain(desk: Desk, browser: Any) -> Iterator[Reader]:
    """A reader without JavaScript."""
    with reading(desk, browser, java_script_enabled=False) as reader:
        yield reader


def test_one_finds_and_reads_without_javascript(plain: Reader) -> None:
    turns = [f"Question {number}" for number in range(1, 46)]
    session_id = plain.talk("long", *turns, "Where do narwhals live?", name="A Long One")
    for number in range(45):
        plain.talk(f"s{number}")
    plain.go()
    plain.page.get_by_role("link", name="More", exact=True).click()
    plain.row(session_id).click()
    expect(plain.name_shown).to_have_text("A Long One")
    expect(plain.page.locator("#r46")).to_have_count(1)
    plain.page.get_by_role("link", name="Earlier").click()
    expect(plain.page.locator("#r20")).to_have_count(1)
    plain.page.get_by_role("link", name="Later").click()
    expect(plain.page.locator("#r46")).to_have_count(1)
    plain.page.fill("#q", "narwhals")
    plain.press("Enter")
    expect(plain.page.locator(".hit mark").first).to_have_text("narwhals")
    plain.page.locator(".hit").first.click()
    expect(plain.page.locator("#r46")).to_be_in_viewport()


def test_one_names_deletes_and_speaks_without_javascript(plain: Reader) -> None:
    session_id = plain.talk("one", name="Castle")
    plain.go(f"/s/{session_id}")
    plain.page.locator("#more > summary").click()
    plain.page.get_by_label("Name", exact=True).fill("Palace")
    plain.page.get_by_role("button", name="Rename").click()
    expect(plain.name_shown).to_have_text("Palace")
    plain.page.fill("#message", "Where is it?")
    plain.page.get_by_role("button", name="Send").click()
    expect(plain.turns).to_have_count(2)
    expect(plain.turns.nth(1)).to_contain_text("answer to: Where is it?")
    plain.page.get_by_role("button", name="Delete").click()
    expect(plain.toast).to_contain_text("Deleted")
    expect(plain.row(session_id)).to_have_count(0)
    plain.toast.get_by_role("button", name="Undo").click()
    expect(plain.row(session_id)).to_have_count(1)


def test_a_page_weighs_less_than_a_hundred_kilobytes(desk: Desk, browser: Any) -> None:
    with reading(desk, browser) as reader:
        session_id = reader.talk("long", *(f"Question {number}" for number in range(30)), name="A Long One")
        for number in range(45):
            reader.talk(f"s{number}", name=f"Session {number}")
        wire = reader.context.new_cdp_session(reader.page)
        sizes: dict[str, float] = {}
        wire.on("Network.loadingFinished", lambda told: sizes.update({told["requestId"]: told["encodedDataLength"]}))
        wire.send("Network.enable")
        reader.go(f"/s/{session_id}")
        expect(reader.turns).to_have_count(20)
        reader.page.wait_for_timeout(500)
        assert len(sizes) >= 4, sizes
        assert sum(sizes.values()) < 100_000, json.dumps(sizes)
