"""Going on with a conversation: answers as they come, stopping them, failures in place, and what changes by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from inbox_kit import Reader, elsewhere
from playwright.sync_api import Route, expect

ELSEWHERE = """
    import sys
    from recollect import Agent, EchoModel, SqliteDb

    path, session_id, user_id, message = sys.argv[1:]
    with Agent(EchoModel(reply="said elsewhere"), id="desk", db=SqliteDb(path)) as agent:
        agent.run(message, session_id=session_id, user_id=user_id)
"""


@pytest.fixture
def unwell(reader: Reader) -> Iterator[Reader]:
    """A reader whose desk fails when it is told to."""
    reader.desk.model.is_well = False
    yield reader
    reader.desk.model.is_well = False


def _elsewhere(reader: Reader, session_id: str, message: str) -> None:
    elsewhere(ELSEWHERE, str(reader.desk.db.db_file), session_id, reader.name, message)


def test_an_answer_comes_word_by_word_and_is_stored(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.go(f"/s/{session_id}")
    reader.say("Speak slowly")
    answer = reader.page.locator(".pending .answer")
    expect(answer).to_contain_text("word3")
    expect(answer).not_to_contain_text("word79")
    expect(reader.page.locator(".pending .asked")).to_have_text("Speak slowly")
    expect(reader.page.locator("#message")).to_have_value("")
    expect(reader.turns.nth(1)).to_contain_text("word79", timeout=20_000)
    expect(reader.page.locator(".pending")).to_have_count(0)
    expect(reader.turns).to_have_count(2)
    expect(reader.turns.nth(1)).to_be_in_viewport()


def test_an_answer_is_stopped_and_what_was_said_is_kept(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.go(f"/s/{session_id}")
    reader.say("Speak slowly")
    expect(reader.page.locator(".pending .answer")).to_contain_text("word5")
    reader.page.get_by_role("button", name="Stop", exact=True).last.click()
    stopped = reader.turns.nth(1)
    expect(stopped.locator(".why")).to_contain_text("stopped before it was done")
    expect(stopped).to_contain_text("word5")
    expect(stopped).not_to_contain_text("word79")
    expect(reader.page.get_by_role("button", name="Send")).to_be_visible()


def test_an_answer_that_has_not_begun_is_stopped_when_it_does(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.go(f"/s/{session_id}")
    stop = reader.page.get_by_role("button", name="Stop", exact=True)

    def stopped_first(route: Route) -> None:
        stop.last.click()
        route.continue_()

    reader.page.route("**/inbox/say", stopped_first)
    reader.say("Speak slowly")
    expect(reader.turns.nth(1).locator(".why")).to_contain_text("stopped before it was done")


def test_a_conversation_begins_and_has_an_address(reader: Reader) -> None:
    reader.go()
    reader.press("n")
    expect(reader.page.locator("#message")).to_be_focused()
    reader.say("Where is the castle?")
    expect(reader.turns).to_have_count(1)
    expect(reader.turns.first).to_contain_text("answer to: Where is the castle?")
    expect(reader.page).to_have_url(re.compile(r"/s/.+"))
    expect(reader.rows).to_have_count(1)
    expect(reader.page.locator(".row[aria-current=true]")).to_have_count(1)


@pytest.mark.parametrize("button", ["Continue", "Retry"])
def test_a_failed_run_says_why_and_is_taken_up_in_place(unwell: Reader, button: str) -> None:
    session_id = unwell.talk("one", name="Castle")
    unwell.go(f"/s/{session_id}")
    unwell.say("Please fail")
    failed = unwell.turns.nth(1)
    expect(failed.locator(".why")).to_contain_text("the provider is away")
    expect(unwell.row(session_id).locator(".dot.failed")).to_be_visible()
    unwell.desk.model.is_well = True
    failed.get_by_role("button", name=button).click()
    expect(unwell.page.locator("#turns")).to_contain_text("The answer to: Please fail")
    expect(unwell.page.locator(".why")).to_have_count(0)
    expect(unwell.turns).to_have_count(2)
    expect(unwell.row(session_id).locator(".dot")).to_have_count(0)


def test_files_go_along_with_a_message(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.go(f"/s/{session_id}")
    picture = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf"
        "c0f01f0005000101ff5ba0d9a20000000049454e44ae426082"
    )
    files = [{"name": "dot.png", "mimeType": "image/png", "buffer": picture}]
    reader.page.set_input_files("[name=files]", files)
    expect(reader.page.locator("#files")).to_have_text("dot.png")
    reader.say("What is this?")
    expect(reader.turns.nth(1).locator("img")).to_be_visible()
    expect(reader.page.locator("#files")).not_to_be_visible()


def test_a_draft_is_kept_for_each_session_until_it_is_sent(reader: Reader) -> None:
    first, second = reader.talk("first", name="First"), reader.talk("second", name="Second")
    reader.go(f"/s/{first}")
    reader.page.fill("#message", "Half a thought")
    reader.row(second).click()
    expect(reader.name_shown).to_have_text("Second")
    expect(reader.page.locator("#message")).to_have_value("")
    reader.row(first).click()
    expect(reader.page.locator("#message")).to_have_value("Half a thought")
    reader.page.reload()
    expect(reader.page.locator("#message")).to_have_value("Half a thought")
    reader.press("c", "Enter")
    expect(reader.turns).to_have_count(2)
    reader.page.reload()
    expect(reader.turns).to_have_count(2)
    expect(reader.page.locator("#message")).to_have_value("")


def test_what_another_process_writes_appears_by_itself(reader: Reader) -> None:
    session_id = reader.talk("one", *(f"Question {number}" for number in range(9)), name="Castle")
    reader.go(f"/s/{session_id}")
    expect(reader.turns).to_have_count(9)
    _elsewhere(reader, session_id, "Asked from afar")
    expect(reader.turns).to_have_count(10)
    expect(reader.turns.last).to_contain_text("Asked from afar")
    expect(reader.turns.last.locator(".took")).to_be_in_viewport()
    _elsewhere(reader, f"{reader.name}-new", "A new one")
    expect(reader.row(f"{reader.name}-new")).to_be_visible()
    expect(reader.rows.first).to_contain_text("A new one")
    expect(reader.name_shown).to_have_text("Castle")
    reader.desk.db.set_session_name(session_id, "Named Elsewhere", reader.name)
    expect(reader.name_shown).to_have_text("Named Elsewhere")


def test_what_changes_before_a_page_is_watched_is_shown(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")

    def meanwhile(route: Route) -> None:
        reader.desk.talk(session_id, reader.name, "Asked meanwhile")
        route.continue_()

    reader.page.route("**/v1/events**", meanwhile, times=1)
    reader.go(f"/s/{session_id}")
    expect(reader.turns).to_have_count(2)
    expect(reader.turns.last).to_contain_text("Asked meanwhile")


def test_an_answer_goes_on_while_another_page_is_looked_at(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.go(f"/s/{session_id}")
    reader.say("Speak slowly")
    expect(reader.page.locator(".pending .answer")).to_contain_text("word3")
    reader.page.get_by_role("link", name="Done", exact=True).click()
    expect(reader.page.locator(".views [aria-current]")).to_have_text("Done")
    reader.go(f"/s/{session_id}")
    expect(reader.turns.nth(1)).to_contain_text("at work")
    expect(reader.turns.nth(1)).to_contain_text("word79")


def test_what_came_since_the_last_visit_is_told(reader: Reader) -> None:
    session_id = reader.talk("one", "First", name="Castle")
    reader.go(f"/s/{session_id}")
    expect(reader.turns).to_have_count(1)
    expect(reader.page.locator(".news")).to_have_count(0)
    reader.go("/?show=done")
    reader.desk.talk(session_id, reader.name, "Second", "Third")
    reader.go(f"/s/{session_id}")
    expect(reader.page.locator(".news")).to_have_text("2 new since your last visit")
    expect(reader.page.locator(".news + .turn")).to_contain_text("Second")
    reader.page.reload()
    expect(reader.turns).to_have_count(3)
    expect(reader.page.locator(".news")).to_have_count(0)


def test_a_session_that_is_deleted_elsewhere_is_closed(reader: Reader) -> None:
    session_id = reader.talk("one", name="Castle")
    reader.may_fail = {404}
    reader.go(f"/s/{session_id}")
    expect(reader.turns).to_have_count(1)
    reader.desk.db.delete_session(session_id, reader.name)
    expect(reader.name_shown).to_have_count(0)
    expect(reader.rows).to_have_count(0)


def test_an_agent_that_is_not_served_here_is_named_before_another_one_answers(reader: Reader) -> None:
    elsewhere(ELSEWHERE.replace('id="desk"', 'id="elsewhere"'), str(reader.desk.db.db_file), "away", reader.name, "Hi")
    reader.go("/s/away")
    expect(reader.page.locator("#main")).to_contain_text("elsewhere is not served here")
    expect(reader.page.locator("#message")).to_be_visible()
