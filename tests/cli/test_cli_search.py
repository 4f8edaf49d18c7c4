"""What was said, searched by the command."""

from __future__ import annotations

import json

import pytest
from cli_kit import Command, turn


@pytest.fixture
def filled(recollect: Command) -> Command:
    with recollect.store() as db:
        turn(db, "trip-1", "Where to in  spring?", user_id="alice")
        turn(db, "trip-2", "And in autumn, or in SPRING?", user_id="bob", agent_id="guide")
        db.set_session_name("trip-2", "A spring trip")
    return recollect


def found(recollect: Command, *args: str) -> list[tuple[str, str]]:
    hits = json.loads(recollect("sessions", "search", "--json", *args).stdout)
    return [(hit["session_id"], hit["role"] or hit["where"]) for hit in hits]


def test_hits_say_where_they_are_and_what_was_said(filled: Command) -> None:
    said = filled("sessions", "search", "spring", "--limit", "100").stdout.splitlines()
    assert len(said) == 10
    assert said[0].startswith("trip-2  A spring trip  ")
    assert {line.split("  ")[-1] for line in said[1::2]} >= {"A spring trip", "And in autumn, or in SPRING?"}
    assert any(line.startswith("trip-1  user 1.0  ") for line in said[::2])
    assert "\x1b" not in "".join(said)


def test_what_was_searched_for_is_in_bold_on_a_terminal(filled: Command) -> None:
    said = filled("sessions", "search", '"to in spring"', FORCE_COLOR="1", TERM="xterm").stdout
    assert "Where \x1b[1mto in spring\x1b[0m?" in said


def test_hits_are_filtered(filled: Command) -> None:
    assert len(found(filled, "spring")) == 5
    assert {session_id for session_id, _ in found(filled, "spring", "--user", "alice")} == {"trip-1"}
    assert found(filled, "autumn", "--agent", "guide")[-1] == ("trip-2", "user")
    assert found(filled, "spring", "--kind", "team") == []
    assert found(filled, "spring", "--until", "2020-01-01") == []
    assert len(found(filled, "spr*", "--since", "2020-01-01T10:00")) == 5
    assert len(found(filled, "spring", "--limit", "2")) == 2
    assert {session_id for session_id, _ in found(filled, "spring", "--session", "@last")} == {"trip-2"}
    assert found(filled, "spring", "--session", "trip-1") == [("trip-1", "assistant"), ("trip-1", "user")]
    assert "there is no session" in filled("sessions", "search", "x", "--session", "trip-1", "-u", "bob", code=3).stderr


def test_more_hits_than_are_shown_are_told_and_none_too(filled: Command) -> None:
    assert "the newest 2; there are more" in filled("sessions", "search", "spring", "-n", "2").stderr
    assert "there are more" not in filled("sessions", "search", "spring", "-n", "5").stderr
    assert "nothing found" in filled("sessions", "search", "winter").stderr
    assert found(filled, "winter") == []
    assert "at most 1,000 characters" in filled("sessions", "search", "x" * 1001, code=2).stderr
