"""A short form of `make load`."""

from __future__ import annotations

import asyncio
import sys

import pytest
from load import Load, run


@pytest.mark.skipif(sys.platform == "win32", reason="the server is told to end by a signal")
def test_under_load_memory_is_flat_no_task_is_left_and_runs_are_stored_as_they_were_told() -> None:
    load = asyncio.run(run(Load(streams=20, listeners=60, followers=2, slow=4, vanishing=4, seconds=3)))
    assert load.problems == []
    assert len(load.completed) > 20
    assert all(len(heard) > len(load.completed) for heard in load.heard), "of those that vanished, too"
    assert load.vanished > 4
    assert load.dropped > 0
