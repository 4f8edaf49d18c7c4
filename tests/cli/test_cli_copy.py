"""``recollect copy``: what is told of a copy, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_kit import Command, rows, spoil, tool_turn, turn


@pytest.fixture
def target(recollect: Command, tmp_path: Path) -> Command:
    """A database in another file, to copy to."""
    return Command(tmp_path / "target.db")


@pytest.fixture
def filled(recollect: Command) -> Command:
    with recollect.store() as db:
        tool_turn(db, "s")
        turn(db, "t", user_id="alice")
        turn(db, "u", user_id="alice")
    return recollect


def test_a_copy_is_told_and_verified(filled: Command, target: Command) -> None:
    told = filled("copy", filled.db, target.db).stdout.splitlines()
    assert told[0].startswith("3 sessions: 3 copied; 3 runs and 8 messages written in ")
    assert told[1] == "verified: 3 of 3 have the same content on both sides"
    assert target("sessions", "export").stdout == filled("sessions", "export").stdout
    again = filled("copy", filled.db, target.db).stdout
    assert again.startswith("3 sessions: 0 copied, 3 there already; 0 runs and 0 messages written in ")


def test_back_again_it_is_the_same(filled: Command, target: Command) -> None:
    filled("copy", filled.db, target.db)
    assert filled("copy", target.db, filled.db).stdout.startswith("3 sessions: 0 copied, 3 there already")


def test_one_that_differs_is_named_and_is_an_exit_code(filled: Command, target: Command) -> None:
    filled("copy", filled.db, target.db)
    target("sessions", "rename", "s", "Only here")
    before = rows(target)
    result = filled("copy", filled.db, target.db, code=1)
    assert "2 there already, 1 different" in result.stdout
    assert "verified: 2 of 3" in result.stdout
    assert result.stderr.strip() == "s differs: the one that is there has another name"
    assert rows(target) == before


def test_scripts_get_the_report(filled: Command, target: Command) -> None:
    report = json.loads(filled("copy", filled.db, target.db, "--json", "--user", "alice").stdout)
    assert (report["copied"], report["verified"], report["is_whole"], report["failed"]) == (2, 2, True, [])
    spoil(target, "update recollect_sessions set preview = 'x', pinned = 1 where session_id = 't'")
    report = json.loads(filled("copy", filled.db, target.db, "--json", code=1).stdout)
    assert (report["copied"], report["same"], report["is_whole"]) == (1, 1, False)
    assert report["differing"][0]["session_id"] == "t"


def test_without_verifying_nothing_is_said_to_be_verified(filled: Command, target: Command) -> None:
    told = filled("copy", filled.db, target.db, "--no-verify").stdout
    assert told.startswith("3 sessions: 3 copied")
    assert "verified" not in told


def test_a_source_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    command = Command(tmp_path / "away.db")
    assert "there is no database" in command("copy", command.db, str(tmp_path / "b.db"), code=3).stderr
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_not_copied_into_itself(filled: Command) -> None:
    assert "is the source itself" in filled("copy", filled.db, filled.db, code=2).stderr
