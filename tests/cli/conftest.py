"""The command on a database of its own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from cli_kit import Command


@pytest.fixture
def recollect(tmp_path: Path) -> Command:
    return Command(tmp_path / "sessions.db")


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_works() -> None:
    """Processes that a shell put into the background ignore Ctrl-C, and so would those that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
