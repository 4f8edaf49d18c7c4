"""A desk behind a real server and a browser before it, one of each for a module of tests; a reader for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chromium import browsing
from inbox_kit import Desk, Reader, reading, whose
from server.server_kit import serving

from recollect import SqliteDb
from recollect.server import create_app


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with SqliteDb(tmp_path_factory.mktemp("inbox") / "s.db", durability="normal") as db:
        desk = Desk(db)
        with serving(create_app([desk.agent], [desk.crew], auth=whose)) as served:
            desk.url = served.url
            yield desk


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def reader(desk: Desk, browser: Any) -> Iterator[Reader]:
    with reading(desk, browser) as reader:
        yield reader
