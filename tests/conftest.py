"""What every test shares: which versions ran, and asyncio as the event loop of async tests."""

import os
import platform
import sqlite3

import hypothesis
import postgres_server
import pytest

# Timings are the business of `make bench`; on CI the examples are the same on every run.
hypothesis.settings.register_profile("recollect", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("recollect")


def pytest_configure() -> None:
    postgres_server.demand()


def pytest_report_header() -> list[str]:
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return [versions, postgres_server.header()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    postgres_server.summarise(terminalreporter)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
