"""The comparison with peers runs, here with Recollect and the floor alone and next to nothing to measure."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.peers import quotes

ROOT = Path(__file__).parent.parent
GROUPS = ("history", "page", "size", "crowd", "kill")
TINY = """
import sys
from bench.peers.__main__ import main
from bench.peers.bench import Effort
little = Effort(
    turns=(1, 100), rounds=1, burst=2, fresh=1,
    sessions=(100,), bytes_turns=20, conversations=2, crowds=1, crowd_turns=5,
)
main(sys.argv[1:], little)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a run wrote."""
    folder = tmp_path_factory.mktemp("bench")
    measure(folder, *(argument for group in GROUPS for argument in ("--only", group)))
    return folder


def measure(folder: Path, *groups: str) -> None:
    given = ["--sqlite", "--no-plots", "--json", str(folder / "results.json"), "--page", str(folder / "RESULTS.md")]
    command = [sys.executable, "-c", TINY, *given, *groups, "--peer", "recollect", "--peer", "floor"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr


def every(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "results.json").read_text(encoding="utf-8"))["cells"]
    return found


def cells(folder: Path, group: str, who: str) -> list[dict[str, Any]]:
    return [one for one in every(folder) if one["group"] == group and one["who"] == who]


@pytest.mark.parametrize("group", ["turn", "fresh", "load", "last", "page", "size"])
def test_every_group_has_numbers_of_both_sides(written: Path, group: str) -> None:
    for who in ("recollect-full", "floor-full"):
        found = cells(written, group, who)
        assert found
        for one in found:
            if one["said"] != "none":
                assert one["spread"]["low"] <= one["spread"]["median"] <= one["spread"]["high"], one
                assert one["spread"]["median"] > 0
                assert one["said"] == ""


def test_ratios_are_to_the_floor_and_to_recollect(written: Path) -> None:
    [ours] = [
        one for one in cells(written, "turn", "recollect-full") if (one["case"], one["kind"]) == ("turn 1", "turn")
    ]
    [floor] = [one for one in cells(written, "turn", "floor-full") if one["case"] == "turn 1"]
    assert ours["over_ours"] == 1
    assert ours["over_floor"] == pytest.approx(ours["spread"]["median"] / floor["spread"]["median"])


def test_four_processes_lose_nothing_and_agree(written: Path) -> None:
    told = cells(written, "crowd", "recollect-full")
    said = {one["case"]: one["said"] for one in told if one["kind"] == "run"}
    assert (said["kept"], said["refused"], said["lost"], said["orders seen"]) == ("20 of 20", "0", "0", "1")


def test_a_message_outlives_the_process(written: Path) -> None:
    said = {one["case"]: one["said"] for one in cells(written, "kill", "recollect-full")}
    assert (said["the turn before"], said["the message in flight"], said["the next turn"]) == ("kept",) * 3


def test_the_page_says_what_was_measured_and_how(written: Path) -> None:
    page = (written / "RESULTS.md").read_text(encoding="utf-8")
    assert page.startswith("# Recollect beside its peers\n")
    assert "$ python -m bench.peers --sqlite --only history " in page
    assert "wal, full" in page
    assert "wal, normal" in page
    assert "delete, full" in page
    assert str(written) not in page


def test_one_group_is_measured_again_and_the_others_stay(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    measure(tmp_path, "--renew", "--only", "kill")
    before, after = (
        {one["group"]: cells(folder, one["group"], "recollect-full") for one in every(folder)}
        for folder in (written, tmp_path)
    )
    assert list(before) == list(after)
    assert {group for group in before if before[group] == after[group]} >= {"turn", "page", "size", "crowd"}
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert page.count("\n$ python -m bench.peers --sqlite --only ") == 2


QUOTING = [file for pattern in quotes.QUOTING for file in ROOT.glob(pattern)]


@pytest.mark.parametrize("file", QUOTING, ids=lambda file: file.name)
def test_numbers_that_a_page_quotes_stand_in_their_rows(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert quotes.quoted(text, quotes.rows(quotes.PAGE.read_text(encoding="utf-8"))) == text


def test_a_quote_is_brought_up_to_date_and_one_of_no_row_is_refused(written: Path) -> None:
    known = quotes.rows((written / "RESULTS.md").read_text(encoding="utf-8"))
    link = '(bench/RESULTS.md#crowd-recollect-full-run "{}")'
    assert quotes.quoted(f"[?]{link.format('kept')}", known) == f"[20 of 20]{link.format('kept')}"
    with pytest.raises(KeyError, match="nobody"):
        quotes.quoted("[1 ms](../bench/RESULTS.md#turn-nobody)", known)
    with pytest.raises(KeyError, match="stolen"):
        quotes.quoted(f"[?]{link.format('stolen')}", known)
