"""A server over a database of either kind, one for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_kit import postgres_db
from server_kit import CALLERS, Served, look, serving

from recollect import Agent, EchoModel, SqliteDb, Store, Team
from recollect.server import create_app


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "postgres":
        with postgres_db() as store:
            yield store
    else:
        with SqliteDb(tmp_path_factory.mktemp("server") / "s.db", durability="normal") as store:
            yield store


@pytest.fixture(scope="module")
def served(db: Store) -> Iterator[Served]:
    """An agent that echoes and can look, and a team of two."""
    desk = Agent(EchoModel(), id="desk", name="Desk", db=db, tools=[look])
    crew = Team([Agent(EchoModel(reply="a member"), id="member")], model=EchoModel(), id="crew", db=db)
    with serving(create_app([desk], [crew], auth=CALLERS)) as running:
        yield running
