"""Laws 1 to 6 under attack: a few seconds of what ``make torture`` does for as long as one likes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from torture import torment


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_nothing_acknowledged_is_lost_and_no_cached_read_is_stale(tmp_path: Path, durability: str) -> None:
    seed = random.SystemRandom().randrange(10**9)
    report = torment(tmp_path, seed=seed, seconds=5, processes=4, durability=durability)
    again = f"python tests/torture/torture.py --seed {seed} --seconds 5 --processes 4 --durability {durability}"
    assert not report.wrong, again
    done = [line["what"] for line in report.lines]
    assert report.killed + report.stopped > 0
    for what in ("run", "name", "state", "seen", "deleted"):
        assert done.count(what) > 5, f"too little was done to prove anything: {report}\n{again}"
