"""Signing in: the printed address carries the token once; whoever comes without it is asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from inbox_kit import Desk, Reader, reading
from playwright.sync_api import expect


@pytest.fixture
def stranger(desk: Desk, browser: Any) -> Iterator[Reader]:
    """A reader who is not signed in yet."""
    with reading(desk, browser) as reader:
        reader.context.clear_cookies()
        yield reader


def test_the_token_becomes_a_cookie_that_no_script_reads_and_leaves_the_address(stranger: Reader) -> None:
    stranger.go(f"/?show=all&token=as-{stranger.name}")
    expect(stranger.page).to_have_url(f"{stranger.url}/?show=all")
    cookie = next(one for one in stranger.context.cookies() if one["name"] == stranger.cookie)
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert "as-" not in stranger.page.evaluate("document.cookie + location.href + document.referrer")
    assert f"as-{stranger.name}" not in stranger.page.content()
    stranger.page.reload()
    expect(stranger.page.locator("#list")).to_be_visible()


def test_who_has_no_token_is_asked_for_it_and_goes_on_to_where_they_wanted(stranger: Reader) -> None:
    session_id = stranger.talk("porto", name="Two Days in Porto")
    stranger.may_fail = {401}
    stranger.go(f"/s/{session_id}")
    expect(stranger.page.get_by_label("Token")).to_be_focused()
    stranger.page.fill("[name=token]", "guessed")
    stranger.press("Enter")
    expect(stranger.page.get_by_role("alert")).to_contain_text("not known")
    stranger.page.fill("[name=token]", f"as-{stranger.name}")
    stranger.press("Enter")
    expect(stranger.page).to_have_url(f"{stranger.url}/s/{session_id}")
    expect(stranger.name_shown).to_have_text("Two Days in Porto")


def test_a_wrong_token_in_an_address_lets_nobody_in(stranger: Reader) -> None:
    stranger.may_fail = {401}
    stranger.go("/?token=guessed")
    expect(stranger.page.get_by_role("alert")).to_contain_text("not known")
    assert stranger.context.cookies() == []


def test_who_signs_out_is_asked_for_the_token_again(reader: Reader) -> None:
    reader.go()
    reader.page.get_by_role("button", name="Sign out").click()
    expect(reader.page.get_by_label("Token")).to_be_visible()
    reader.go()
    expect(reader.page.get_by_label("Token")).to_be_visible()


def test_somebody_elses_session_is_not_there(reader: Reader) -> None:
    reader.desk.talk("not-yours", "somebody", "A secret")
    reader.may_fail = {404}
    reader.go("/s/not-yours")
    expect(reader.page.get_by_role("heading", name="Not here")).to_be_visible()
    expect(reader.page.get_by_text("A secret")).to_have_count(0)


def test_support_reads_everybodys_sessions_and_changes_nothing(desk: Desk, browser: Any) -> None:
    desk.talk("queue", "customer", "My bag is lost", name="Lost Bag")
    with reading(desk, browser, "support") as support:
        support.go("/?user=customer")
        expect(support.row("queue")).to_contain_text("customer")
        support.row("queue").click()
        expect(support.page.get_by_text("You may read this conversation")).to_be_visible()
        expect(support.page.locator("#main form")).to_have_count(0)
