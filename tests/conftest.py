"""What every test shares: which versions ran, and asyncio as the event loop of async tests."""

import os
import platform
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import agno_kit
import chromium
import hypothesis
import pooler
import postgres_server
import pytest
from postgres_kit import postgres_url

# Timings are the business of `make bench`; on CI the examples are the same on every run.
hypothesis.settings.register_profile("recollect", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("recollect")

# No test, and no process that one starts, fetches a vocabulary from the network; test_tokens.py brings its own.
os.environ["RECOLLECT_TIKTOKEN"] = "off"


def pytest_configure() -> None:
    postgres_server.demand()
    agno_kit.demand()
    chromium.demand()


def pytest_report_header() -> list[str]:
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return [versions, postgres_server.header(), pooler.header(), agno_kit.header(), chromium.header()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    postgres_server.summarise(terminalreporter)
    agno_kit.summarise(terminalreporter)
    chromium.summarise(terminalreporter)
    if reason := pooler.missing():
        terminalreporter.section("pgbouncer MISSING", sep="=", yellow=True, bold=True)
        terminalreporter.line(f"Nothing was tested behind a pooler: {reason}", yellow=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database of either kind, for tests of several processes; `open_db` opens it."""
    if request.param == "postgres":
        with postgres_url() as url:
            yield url
    else:
        yield str(tmp_path / "s.db")
