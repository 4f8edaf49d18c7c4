"""Sessions listed, named, found and deleted by the command."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from cli_kit import Command, spoil, turn

from recollect.cli import marks
from recollect.errors import InvalidArgument


@pytest.fixture
def filled(recollect: Command) -> Command:
    with recollect.store() as db:
        turn(db, "trip-1", "Where to in spring?", user_id="alice")
        turn(db, "trip-2", "And in autumn?", user_id="bob", agent_id="guide")
        turn(db, "plan", "A launch", user_id="alice")
        db.set_session_name("plan", "Product Launch Planning")
    return recollect


def listed(recollect: Command, *args: str) -> list[str]:
    return [header["session_id"] for header in json.loads(recollect("sessions", "list", "--json", *args).stdout)]


def test_a_list_shows_names_and_previews_and_counts(filled: Command) -> None:
    head, newest, *_, oldest = filled("sessions", "list").stdout.splitlines()
    assert head.split() == ["ID", "NAME", "USER", "RUNS", "MESSAGES", "LAST", "ACTIVITY"]
    assert newest.split() == ["plan", "Product", "Launch", "Planning", "alice", "1", "2", "just", "now"]
    assert oldest.startswith("trip-1  Where to in spring?")


def test_names_give_way_when_the_screen_is_narrow(filled: Command) -> None:
    with filled.store() as db:
        turn(db, "01a2060c-c28d-7245-a90c-4e584898b5b7", "word " * 50)
    line = filled("sessions", "list", COLUMNS="70").stdout.splitlines()[1]
    assert line.startswith("01a2060c-c28d  word")
    assert "…" in line
    assert line.rstrip().endswith("just now")
    assert len(line) <= 70


def test_lists_are_filtered(filled: Command) -> None:
    assert listed(filled) == ["plan", "trip-2", "trip-1"]
    assert listed(filled, "--user", "alice") == ["plan", "trip-1"]
    assert listed(filled, "--agent", "guide") == ["trip-2"]
    assert listed(filled, "--kind", "team") == []
    assert listed(filled, "--name", "LAUNCH") == ["plan"]
    assert listed(filled, "--limit", "1") == ["plan"]
    assert listed(filled, "--limit", "1", "--all") == ["plan", "trip-2", "trip-1"]


def test_a_list_that_was_cut_says_so(filled: Command) -> None:
    assert "there are more" in filled("sessions", "list", "--limit", "2").stderr
    assert "there are more" not in filled("sessions", "list", "--limit", "3").stderr


def test_an_empty_list_says_so(filled: Command) -> None:
    assert filled("sessions", "list", "--user", "nobody").stderr == "no sessions\n"


def test_a_session_is_renamed_by_the_beginning_of_its_id(filled: Command) -> None:
    assert "plan is now named 'Spring  plans'" not in filled("sessions", "rename", "pl", " Spring  plans ").stdout
    with filled.store() as db:
        assert db.get_sessions(name="Spring plans")[0].session_id == "plan"


def test_a_name_that_cannot_be_is_refused(filled: Command) -> None:
    assert "visible characters" in filled("sessions", "rename", "plan", " ", code=2).stderr


def test_last_is_the_session_last_active(filled: Command) -> None:
    assert filled("sessions", "rename", "@last", "Newest").stdout.startswith("plan ")


def test_a_whole_id_is_meant_even_where_others_begin_with_it(filled: Command) -> None:
    with filled.store() as db:
        turn(db, "trip")
    assert filled("sessions", "rename", "trip", "This one").stdout.startswith("trip ")


def test_a_beginning_that_fits_several_lists_them(filled: Command) -> None:
    result = filled("sessions", "show", "trip", code=2)
    assert "several sessions begin with 'trip'" in result.stderr
    assert "  trip-1  Where to in spring?\n  trip-2  And in autumn?" in result.stderr


def test_an_id_that_is_not_there_is_not_found(filled: Command) -> None:
    assert filled("sessions", "show", "nope", code=3).stderr.startswith("error: there is no session 'nope'")


def test_sessions_are_found_by_the_beginning_of_their_id(filled: Command) -> None:
    with filled.store() as db:
        assert [header.session_id for header in db.find_sessions_by_prefix("trip")] == ["trip-1", "trip-2"]
        assert [header.session_id for header in db.find_sessions_by_prefix("trip", "bob")] == ["trip-2"]
        assert [header.session_id for header in db.find_sessions_by_prefix("trip", limit=1)] == ["trip-1"]
        assert db.find_sessions_by_prefix("trip-11") == ()
        with pytest.raises(InvalidArgument):
            db.find_sessions_by_prefix("")


def test_sessions_are_tagged_archived_and_pinned_and_listed_by_it(filled: Command) -> None:
    assert filled("sessions", "tag", "trip-1", "red", "spring").stdout == "red\nspring\n"
    assert filled("sessions", "tag", "trip-1", "--remove", "red").stdout == "spring\n"
    assert filled("sessions", "archive", "trip-2").stdout == "trip-2 is archived\n"
    assert filled("sessions", "pin", "plan", "trip-1").stdout == "plan is pinned\ntrip-1 is pinned\n"
    assert filled("sessions", "pin", "plan", "--undo").stdout == "plan is not pinned\n"
    assert listed(filled, "--tag", "spring") == listed(filled, "--pinned") == ["trip-1"]
    assert listed(filled, "--archived") == ["trip-2"]
    assert listed(filled, "--no-archived") == ["plan", "trip-1"]
    assert listed(filled, "--no-pinned") == ["plan", "trip-2"]
    assert listed(filled, "--tag", "red") == []


@pytest.fixture
def aged(filled: Command) -> Command:
    """One session that has expired, and one that was not used for a hundred days."""
    with filled.store() as db:
        db.set_session_expiry("trip-1", timedelta(microseconds=1))
    spoil(filled, "update recollect_sessions set updated_at = updated_at - 8640000000000 where session_id = 'trip-2'")
    return filled


def test_a_purge_takes_what_has_expired(aged: Command) -> None:
    found = aged("sessions", "purge", "--dry-run").stdout
    assert found.startswith("  trip-1  Where to in spring?  (")
    assert found.endswith("\n1 session would be deleted\n")
    assert aged("sessions", "purge", "--user", "bob", "--dry-run").stdout == "0 sessions would be deleted\n"
    assert aged("sessions", "purge", "--yes").stdout == "1 session deleted\n"
    assert "would be deleted" in aged("sessions", "purge", "--dry-run").stdout
    assert listed(aged) == ["plan", "trip-2"]


def test_a_purge_takes_what_was_not_used_for_long(aged: Command) -> None:
    due = json.loads(aged("sessions", "purge", "--older-than", "14w", "--dry-run", "--json").stdout)
    assert [header["session_id"] for header in due] == ["trip-2"]
    assert json.loads(aged("sessions", "purge", "--older-than", "101d", "--dry-run", "--json").stdout) == []
    assert json.loads(aged("sessions", "purge", "--older-than", "90d", "--yes", "--json").stdout) == {"deleted": 1}
    assert listed(aged) == ["plan"]


def test_what_is_asked_about_is_what_is_deleted(aged: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow_old(text: str, **_: object) -> None:
        assert text == "Delete 1 session?"
        ninety_days_ago = time.time_ns() // 1000 - 90 * 86_400_000_000
        spoil(aged, f"update recollect_sessions set updated_at = {ninety_days_ago} where session_id = 'plan'")

    monkeypatch.setattr(marks, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setattr(marks.typer, "confirm", grow_old)
    assert aged("sessions", "purge", "--older-than", "90d").stdout.endswith("\n1 session deleted\n")
    assert listed(aged) == ["plan"]


def test_the_doctor_notes_what_waits_for_the_purge(aged: Command) -> None:
    found = {finding["check"]: finding for finding in json.loads(aged("doctor", "--json").stdout)}
    assert (found["expired"]["status"], found["expired"]["examples"]) == ("note", ["trip-1"])


def test_purging_without_a_terminal_needs_yes(aged: Command) -> None:
    assert "say --yes" in aged("sessions", "purge", code=2).stderr
    assert aged("sessions", "purge", "--dry-run").stdout.endswith("1 session would be deleted\n")


@pytest.mark.parametrize("span", ["90", "d", "1y", "-1d", "1.5h", "9999999d", "999999w"])
def test_a_span_of_time_that_is_none_is_refused(aged: Command, span: str) -> None:
    assert "no span of time" in aged("sessions", "purge", f"--older-than={span}", "--yes", code=2).stderr


def test_deleting_takes_everything_along(filled: Command) -> None:
    assert filled("sessions", "delete", "trip-1", "plan", "--yes").stdout == "2 sessions deleted\n"
    assert listed(filled) == ["trip-2"]


def test_deleting_without_a_terminal_needs_yes(filled: Command) -> None:
    assert "say --yes" in filled("sessions", "delete", "plan", code=2).stderr
    assert "plan" in listed(filled)


def test_nothing_is_deleted_when_one_of_them_is_not_there(filled: Command) -> None:
    filled("sessions", "delete", "plan", "nope", "--yes", code=3)
    assert "plan" in listed(filled)
