"""What is done with sessions: named, put away, deleted, and brought back; with the mouse or without it."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from inbox_kit import Reader
from playwright.sync_api import expect


def _name(reader: Reader, session_id: str) -> str:
    header = reader.desk.db.get_header(session_id)
    assert header is not None
    return header.name or ""


def test_a_double_click_renames_in_place_and_enter_keeps_it(reader: Reader) -> None:
    session_id = reader.talk("one", name="Before")
    reader.go(f"/s/{session_id}")
    reader.name_shown.dblclick()
    field = reader.page.get_by_label("Name of the session")
    expect(field).to_be_focused()
    field.fill("After")
    field.press("Enter")
    expect(reader.name_shown).to_have_text("After")
    expect(reader.row(session_id)).to_contain_text("After")
    expect(reader.toast).to_contain_text("Renamed")
    assert _name(reader, session_id) == "After"


def test_escape_leaves_the_name_as_it_was(reader: Reader) -> None:
    session_id = reader.talk("one", name="Before")
    reader.go(f"/s/{session_id}")
    reader.name_shown.dblclick()
    reader.page.get_by_label("Name of the session").fill("After")
    reader.press("Escape")
    expect(reader.name_shown).to_have_text("Before")
    expect(reader.name_shown).to_be_visible()
    reader.press("r")
    expect(reader.page.get_by_label("Name of the session")).to_have_value("Before")
    reader.press("Escape")
    assert _name(reader, session_id) == "Before"


def test_a_rename_is_undone_with_z(reader: Reader) -> None:
    session_id = reader.talk("one", name="Before")
    reader.go(f"/s/{session_id}")
    reader.press("r")
    reader.page.get_by_label("Name of the session").fill("After")
    reader.press("Enter")
    expect(reader.toast).to_contain_text("Renamed")
    reader.press("z")
    expect(reader.name_shown).to_have_text("Before")
    assert _name(reader, session_id) == "Before"


def test_a_model_makes_a_name(reader: Reader) -> None:
    session_id = reader.talk("one", "Where is the castle?")
    reader.go(f"/s/{session_id}")
    expect(reader.name_shown).to_have_class(re.compile("is-fallback"))
    reader.page.locator("#more > summary").click()
    reader.page.get_by_role("button", name="Generate a name").click()
    expect(reader.name_shown).to_have_text("A Name by the Model")
    expect(reader.name_shown).not_to_have_class(re.compile("is-fallback"))
    expect(reader.row(session_id)).to_contain_text("A Name by the Model")


def test_all_that_have_no_name_are_named_and_one_sees_how_far_it_is(reader: Reader) -> None:
    for number in range(24):
        reader.talk(f"s{number}", f"Question {number}")
    reader.go()
    expect(reader.page.locator("#unnamed")).to_contain_text(re.compile(r"24 unnamed, about [\d,]+ tokens"))
    reader.page.evaluate(
        """new MutationObserver(() => {
            const told = document.querySelector("#unnamed progress");
            if (told) (window.seen ??= []).push(told.max);
        }).observe(document.querySelector("#unnamed"), { childList: true, subtree: true })"""
    )
    reader.page.get_by_role("button", name="Name them").click()
    expect(reader.page.locator("#unnamed")).to_contain_text("24 named", timeout=20_000)
    assert reader.page.evaluate("window.seen.length") > 0
    expect(reader.rows.filter(has_text="A Name by the Model")).to_have_count(24)


@pytest.mark.parametrize("how", ["button", "key"])
def test_what_was_deleted_is_brought_back(reader: Reader, how: str) -> None:
    session_id = reader.talk("one", "Where is the castle?", name="Castle")
    other = reader.talk("two", name="Other")
    reader.go(f"/s/{session_id}")
    reader.delete()
    expect(reader.toast).to_contain_text("Deleted")
    expect(reader.row(session_id)).to_have_count(0)
    expect(reader.row(other)).to_be_visible()
    expect(reader.name_shown).to_have_count(0)
    assert reader.desk.db.get_header(session_id) is None
    if how == "button":
        reader.toast.get_by_role("button", name="Undo").click()
    else:
        reader.press("z")
    expect(reader.row(session_id)).to_be_visible()
    reader.row(session_id).click()
    expect(reader.turns).to_have_count(1)
    expect(reader.turns.first).to_contain_text("Where is the castle?")


def test_what_is_done_leaves_the_list_and_undo_brings_it_back(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.go(f"/s/{session_id}")
    reader.press("e")
    expect(reader.row(session_id)).to_have_count(0)
    expect(reader.toast).to_contain_text("Done")
    reader.press("z")
    expect(reader.row(session_id)).to_be_visible()
    header = reader.desk.db.get_header(session_id)
    assert header is not None
    assert not header.archived


def test_the_offer_to_undo_ends_after_ten_seconds(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.page.clock.install()
    reader.go(f"/s/{session_id}")
    reader.page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=5))
    reader.delete()
    expect(reader.toast.get_by_role("button", name="Undo")).to_be_visible()
    reader.page.clock.run_for(9_900)
    expect(reader.toast.get_by_role("button", name="Undo")).to_be_visible()
    reader.page.clock.run_for(200)
    expect(reader.toast.get_by_role("button", name="Undo")).to_have_count(0)


def test_pins_and_tags_are_set_and_shown(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.go(f"/s/{session_id}")
    reader.press("p")
    expect(reader.row(session_id).locator(".pin")).to_be_visible()
    expect(reader.page.locator("[data-form=pin] button")).to_have_attribute("aria-pressed", "true")
    reader.page.locator("#more > summary").click()
    reader.page.get_by_label("Tags").fill("billing, urgent")
    reader.page.get_by_role("button", name="Save tags").click()
    expect(reader.page.locator("#bar .tag")).to_have_text(["billing", "urgent"])


def test_a_fork_up_to_a_turn_is_opened(reader: Reader) -> None:
    session_id = reader.talk("one", "First", "Second", "Third", name="Castle")
    reader.go(f"/s/{session_id}")
    reader.page.locator("#r2").hover()
    reader.page.locator("#r2").get_by_role("button", name="Fork from here").click()
    expect(reader.turns).to_have_count(2)
    expect(reader.page).not_to_have_url(f"{reader.url}/s/{session_id}")
    expect(reader.rows).to_have_count(2)


def test_everything_is_done_without_a_mouse(reader: Reader) -> None:
    for number in (1, 2, 3):
        reader.talk(f"s{number}", f"Question {number}", name=f"Session {number}")
    reader.go()
    reader.press("j", "j")
    expect(reader.rows.nth(1)).to_be_focused()
    reader.press("k")
    expect(reader.rows.nth(0)).to_be_focused()
    reader.press("j", "Enter")
    expect(reader.name_shown).to_have_text("Session 2")
    expect(reader.page.get_by_role("region", name="What was said")).to_be_focused()
    reader.press("r")
    reader.page.keyboard.type("By Hand")
    reader.press("Enter")
    expect(reader.name_shown).to_have_text("By Hand")
    reader.press("Escape")
    expect(reader.name_shown).to_have_count(0)
    expect(reader.page.locator("#list .row:focus")).to_contain_text("By Hand")
    reader.press("/")
    expect(reader.page.locator("#q")).to_be_focused()
    reader.page.keyboard.type("Question 3")
    expect(reader.page.locator(".hit mark").first).to_be_visible()
    reader.press("Enter")
    expect(reader.rows.first).to_be_focused()
    reader.press("Enter")
    expect(reader.name_shown).to_have_text("Session 3")


def test_escape_empties_the_search_and_leaves_it(reader: Reader) -> None:
    reader.talk("one", name="Castle")
    reader.go()
    reader.press("/")
    reader.page.keyboard.type("nothing like it")
    expect(reader.rows).to_have_count(0)
    reader.press("Escape")
    expect(reader.page.locator("#q")).not_to_be_focused()


def test_ctrl_k_finds_sessions_and_deeds(reader: Reader) -> None:
    reader.talk("one", name="Castle by the Sea")
    two = reader.talk("two", name="Museum")
    reader.go(f"/s/{two}")
    reader.press("Control+k")
    expect(reader.page.locator("#palette-q")).to_be_focused()
    reader.page.keyboard.type("castle")
    expect(reader.page.get_by_role("option", name="Castle by the Sea")).to_be_visible()
    reader.press("Enter")
    expect(reader.name_shown).to_have_text("Castle by the Sea")
    reader.press("Control+k")
    reader.page.keyboard.type("rename")
    expect(reader.page.locator("#palette [aria-selected=true]")).to_contain_text("Rename")
    reader.press("Enter")
    expect(reader.page.get_by_label("Name of the session")).to_be_focused()


def test_a_question_mark_tells_the_keys_and_escape_closes_it(reader: Reader) -> None:
    reader.go()
    reader.press("?")
    expect(reader.page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    reader.press("Escape")
    expect(reader.page.get_by_role("dialog", name="Keyboard")).not_to_be_visible()


def test_letters_typed_into_a_field_are_no_shortcuts(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.go(f"/s/{session_id}")
    reader.page.focus("#message")
    reader.page.keyboard.type("e r z j ?")
    expect(reader.page.locator("#message")).to_have_value("e r z j ?")
    time.sleep(0.2)
    expect(reader.row(session_id)).to_be_visible()
    expect(reader.page.locator("#help")).not_to_be_visible()
