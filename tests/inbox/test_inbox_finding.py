"""Finding a session: by searching, scrolling, filters and addresses; and what of a long one is shown."""

from __future__ import annotations

import re

from inbox_kit import Reader
from playwright.sync_api import expect


def test_a_search_answers_as_it_is_typed_and_marks_what_it_found(reader: Reader) -> None:
    reader.talk("porto", "Where is the azulejo museum?", name="Two Days in Porto")
    reader.talk("lisbon", "Where is the castle?", name="Lisbon")
    reader.go()
    reader.page.locator("#q").press_sequentially("azul", delay=20)
    expect(reader.rows).to_have_count(0)
    reader.page.locator("#q").press_sequentially("ejo")
    expect(reader.page.locator(".hit mark").first).to_have_text("azulejo")
    expect(reader.rows.filter(has_text="Lisbon")).to_have_count(0)
    reader.page.fill("#q", "porto")
    expect(reader.page.get_by_role("heading", name="Names")).to_be_visible()
    reader.page.fill("#q", "")
    expect(reader.rows).to_have_count(2)


def test_a_hit_is_jumped_to_in_the_middle_of_a_long_session(reader: Reader) -> None:
    turns = [f"Question {number}" for number in range(1, 46)]
    session_id = reader.talk("long", *turns[:6], "Where do narwhals live?", *turns[7:], name="A Long One")
    reader.go()
    reader.page.fill("#q", "narwhals")
    reader.page.locator(".hit").first.click()
    expect(reader.page).to_have_url(f"{reader.url}/s/{session_id}?q=narwhals&at=7#r7")
    expect(reader.page.locator("#r7")).to_be_in_viewport()
    expect(reader.page.locator("#r7")).to_have_class(re.compile("is-found"))
    expect(reader.page.locator("#r7")).to_contain_text("narwhals")
    reader.page.locator(".hit").first.click()
    expect(reader.page.locator("#r7")).to_be_in_viewport()
    expect(reader.page.locator("#r7")).to_have_class(re.compile("is-found"))
    reader.page.reload()
    expect(reader.page.locator("#r7")).to_be_in_viewport()


def test_newer_turns_follow_below_a_hit_as_one_scrolls(reader: Reader) -> None:
    session_id = reader.talk("down", *(f"Question {number}" for number in range(1, 46)))
    reader.go(f"/s/{session_id}?at=7#r7")
    expect(reader.page.locator("#r7")).to_be_in_viewport()
    expect(reader.page.locator("#r45")).to_have_count(0)
    for _ in range(3):
        reader.page.locator("#turns .turn").last.scroll_into_view_if_needed()
        reader.page.wait_for_timeout(300)
    expect(reader.page.locator("#r45")).to_have_count(1)
    numbers = reader.page.eval_on_selector_all("#turns .turn", "all => all.map(turn => Number(turn.dataset.seq))")
    assert numbers == sorted(set(numbers))


def test_older_turns_come_as_one_scrolls_up_and_the_reader_stays_where_they_were(reader: Reader) -> None:
    session_id = reader.talk("up", *(f"Question {number}" for number in range(1, 66)))
    reader.go(f"/s/{session_id}")
    expect(reader.turns).to_have_count(20)
    expect(reader.page.locator("#r65")).to_be_in_viewport()
    reader.page.evaluate("document.querySelector('#scroll').scrollTop = 0")
    expect(reader.turns).to_have_count(40)
    expect(reader.page.locator("#r46")).to_be_in_viewport()
    expect(reader.page.locator("#r26")).not_to_be_in_viewport()
    reader.page.wait_for_timeout(300)
    expect(reader.turns).to_have_count(40)
    reader.page.evaluate("document.querySelector('#scroll').scrollTop = 0")
    expect(reader.turns).to_have_count(60)


def test_more_sessions_come_as_one_scrolls_and_each_is_there_once(reader: Reader) -> None:
    own = [reader.talk(f"s{number:02}", name=f"Session {number}") for number in range(60)]
    reader.go()
    expect(reader.rows).to_have_count(40)
    expect(reader.page.get_by_role("heading", name="Today")).to_have_count(1)
    reader.rows.last.scroll_into_view_if_needed()
    expect(reader.rows).to_have_count(60)
    found = reader.page.eval_on_selector_all("#list .row", "all => all.map(row => row.dataset.session)")
    assert found == own[::-1]
    expect(reader.page.get_by_role("heading", name="Today")).to_have_count(1)


def test_filters_are_in_the_address_and_can_be_taken_off(reader: Reader) -> None:
    tagged = reader.talk("tagged", name="Tagged")
    pinned = reader.talk("pinned", name="Pinned")
    assigned = reader.talk("assigned", name="Assigned")
    done = reader.talk("done", name="Put Away")
    db = reader.desk.db
    db.tag_session(tagged, ["billing"])
    db.pin_session(pinned)
    db.update_values(assigned, "metadata", {"assignee": "sam"})
    db.archive_session(done)
    reader.go()
    expect(reader.rows).to_have_count(3)
    reader.page.get_by_title("Filters").click()
    reader.page.get_by_label("Tag").fill("billing")
    reader.page.get_by_role("button", name="Apply").click()
    expect(reader.page).to_have_url(re.compile(r"\?.*tag=billing"))
    expect(reader.rows).to_have_count(1)
    reader.page.get_by_title("Remove this filter").click()
    expect(reader.rows).to_have_count(3)
    for path, session_id in [("/?assignee=sam", assigned), ("/?show=pinned", pinned), ("/?show=done", done)]:
        reader.go(path)
        expect(reader.rows).to_have_count(1)
        expect(reader.row(session_id)).to_be_visible()


def test_a_click_opens_a_session_and_back_leads_to_where_one_was(reader: Reader) -> None:
    first, second = reader.talk("first", name="First"), reader.talk("second", name="Second")
    reader.go()
    reader.row(first).click()
    expect(reader.name_shown).to_have_text("First")
    expect(reader.page).to_have_url(f"{reader.url}/s/{first}")
    expect(reader.page).to_have_title("First · Recollect")
    expect(reader.row(first)).to_have_attribute("aria-current", "true")
    reader.row(second).click()
    expect(reader.name_shown).to_have_text("Second")
    reader.page.go_back()
    expect(reader.name_shown).to_have_text("First")
    reader.page.go_back()
    expect(reader.name_shown).to_have_count(0)
    expect(reader.rows).to_have_count(2)


def test_a_session_is_shown_with_its_tool_calls_and_its_thinking_folded(reader: Reader) -> None:
    session_id = reader.talk("tools", "look at nothing", "look at the sea")
    reader.go(f"/s/{session_id}")
    call = reader.page.locator("#r2 .call")
    expect(call).to_contain_text("look")
    expect(call.get_by_text("seen the sea")).not_to_be_visible()
    call.locator("summary").click()
    expect(call.get_by_text("seen the sea")).to_be_visible()
    expect(reader.page.locator("#r1 .call .state")).to_have_text("failed")
    expect(reader.page.locator("#r2 .thinking").first).not_to_have_attribute("open", "")


def test_every_address_has_its_twins(reader: Reader) -> None:
    session_id = reader.talk("twins", "Tell me", name="Twins")
    reader.go(f"/s/{session_id}")
    expect(reader.page.get_by_text("Export as JSON")).to_have_attribute("href", f"/s/{session_id}.json")
    for path, told in [
        (f"/s/{session_id}.json", '"name":"Twins"'),
        (f"/s/{session_id}.md", "# Twins"),
        ("/index.json?show=all", session_id),
        ("/index.md?show=all", session_id),
    ]:
        assert told in reader.context.request.get(reader.url + path).text()


def test_code_is_copied_with_a_button(reader: Reader) -> None:
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    session_id = reader.talk("code", "```python\nprint('hello')\n```")
    reader.go(f"/s/{session_id}")
    code = reader.page.locator("#r1 .user pre")
    code.hover()
    reader.page.locator("#r1 .user .copy").click()
    expect(reader.page.locator("#r1 .user .copy")).to_have_text("Copied")
    assert reader.page.evaluate("navigator.clipboard.readText()") == "print('hello')\n"


def test_code_is_still_copied_with_a_button_after_the_conversation_was_renewed(reader: Reader) -> None:
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    session_id = reader.talk("renewed", "Hello")
    reader.go(f"/s/{session_id}")
    reader.desk.db.tag_session(session_id, ["billing"])
    expect(reader.page.locator("#bar .tag")).to_have_text("billing")
    reader.page.locator("#more > summary").click()
    reader.page.locator(".incode > summary").click()
    expect(reader.page.locator(".incode pre[tabindex='0']")).to_have_count(3)
    reader.page.locator(".incode .code", has_text="recollect chat").hover()
    reader.page.locator(".incode .copy").nth(1).click()
    copied = f"recollect chat --session {session_id} --user {reader.name}"
    expect(reader.page.locator(".incode .copy").nth(1)).to_have_text("Copied")
    assert reader.page.evaluate("navigator.clipboard.readText()") == copied


def test_what_is_above_a_conversation_stays_in_its_place_while_nothing_of_it_changes(reader: Reader) -> None:
    session_id = reader.talk("unchanged", "Hello")
    reader.go(f"/s/{session_id}")
    reader.page.evaluate("document.querySelector('#bar').isTheFirst = true")
    with reader.page.expect_response(lambda answer: f"/s/{session_id}" in answer.url):
        reader.page.evaluate("refreshConversation()")
    reader.page.wait_for_timeout(200)
    assert reader.page.evaluate("document.querySelector('#bar').isTheFirst")
