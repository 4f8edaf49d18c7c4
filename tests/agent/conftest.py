"""Every test of an agent runs through both faces, and on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_kit import Bound
from postgres_kit import postgres_url

from recollect import PostgresDb, SqliteDb

BINDINGS = {
    "sync": ("sqlite", "sync", False),
    "async": ("sqlite", "async", False),
    "cached": ("sqlite", "async", True),
    "postgres": ("postgres", "sync", False),
    "cached-postgres": ("postgres", "async", True),
}
"""Database, face, and whether sessions are cached."""


def _place(backend: str, folder: Path) -> Iterator[str]:
    if backend == "postgres":
        with postgres_url() as url:
            yield url
    else:
        yield str(folder / "agent.db")


@pytest.fixture(params=BINDINGS)
def bound(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bound]:
    backend, face, cached = BINDINGS[request.param]
    for place in _place(backend, tmp_path):
        with SqliteDb(place, durability="normal") if backend == "sqlite" else PostgresDb(place, pool=4) as db:
            yield Bound(place, backend, db, face, cached=cached)
