"""Laws 1 to 6 under attack: a few seconds of what ``make torture`` does for as long as one likes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from postgres_kit import postgres_url
from torture import torment

LEAST = {"run": 5, "state": 5, "seen": 5, "name": 1, "deleted": 1, "brought": 1, "compared": 1, "tool": 1}
"""How often each thing must have been done to prove anything."""


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_nothing_acknowledged_is_lost_and_no_cached_read_is_stale(tmp_path: Path, durability: str) -> None:
    hold(tmp_path, f"--durability {durability}", durability=durability)


def test_nor_on_postgres(tmp_path: Path) -> None:
    with postgres_url() as url:
        hold(tmp_path, "--db postgres", seconds=10, db=url)


def hold(folder: Path, named: str, *, seconds: float = 8, **options: str) -> None:
    seed = random.SystemRandom().randrange(10**9)
    report = torment(folder, seed=seed, seconds=seconds, processes=4, **options)  # type: ignore[arg-type]
    again = f"python tests/torture/torture.py --seed {seed} --seconds {seconds} --processes 4 {named}"
    assert not report.wrong, again
    done = [line["what"] for line in report.lines]
    assert report.killed + report.stopped > 0
    for what, least in LEAST.items():
        assert done.count(what) > least, f"too little was done to prove anything: {report}\n{again}"
