"""The command on a database of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import Command
from postgres_kit import postgres_url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of the command is run on both kinds of database, unless it is about a file."""
    if "recollect" in metafunc.fixturenames:
        is_of_a_file = metafunc.definition.get_closest_marker("of_a_file")
        metafunc.parametrize("recollect", ["sqlite"] if is_of_a_file else ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def recollect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Command]:
    if request.param == "sqlite":
        yield Command(tmp_path / "sessions.db")
        return
    with postgres_url() as url:
        yield Command(url)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_works() -> None:
    """Processes that a shell put into the background ignore Ctrl-C, and so would those that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
