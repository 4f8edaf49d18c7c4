"""Every law of the store is tested on each of its databases and through both faces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_kit import BACKENDS, FACES, Face, MovingClock

from recollect.heartbeat import HEARTBEAT


def _opened(backend: str, face: str, folder: Path) -> Iterator[Face]:
    clock = MovingClock()
    with BACKENDS[backend](folder, clock) as store:
        yield FACES[face](store, clock)


@pytest.fixture(autouse=True)
def nobody_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease runs out when a test's own clock says so; a sign of life, by the real one, would come at any moment."""
    monkeypatch.setattr(HEARTBEAT, "watch", lambda *_: None)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[(backend, face) for backend in BACKENDS for face in FACES], ids="-".join)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Face]:
    """An empty store, on each database and through both faces."""
    yield from _opened(*request.param, tmp_path)


@pytest.fixture(params=FACES)
def file_db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Face]:
    """An empty store in a file, through both faces."""
    yield from _opened("normal", request.param, tmp_path)


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Any:
    """What makes a store an object whose every method is awaited."""
    return lambda store: FACES[request.param](store, MovingClock())
