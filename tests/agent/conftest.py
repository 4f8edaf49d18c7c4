"""Every test of an agent runs through both faces, and on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_kit import Bound
from postgres_kit import postgres_url

from recollect import PostgresDb, SqliteDb
from recollect.models.openai import OpenAIResponses
from recollect.testing import ResponsesServer

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


@pytest.fixture
def server() -> Iterator[ResponsesServer]:
    """A local server that is as strict as OpenAI's."""
    with ResponsesServer() as running:
        yield running


@pytest.fixture
def real(server: ResponsesServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIResponses]:
    """A model that asks it through the real SDK."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)  # nothing here speaks TLS, and reading certificates takes time
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    model = OpenAIResponses("gpt-5.2", base_url=server.base_url, api_key=server.api_key, max_retries=0)
    yield model
    model.close()
