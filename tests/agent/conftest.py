"""Every test of an agent runs through both faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_kit import FACES

from recollect import Agent, SqliteDb


@pytest.fixture(params=[*FACES, "cached"])
def bound(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make an agent on a database of this test's own, seen through one face."""
    with SqliteDb(tmp_path / "agent.db", durability="normal") as db:
        usual = {"db": db, "cache_session": request.param == "cached"}
        face = FACES.get(request.param, FACES["async"])
        yield lambda model, **options: face(Agent(model, **(usual | options)))
