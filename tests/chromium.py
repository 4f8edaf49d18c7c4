"""The browser of the tests: the one that ``RECOLLECT_TEST_CHROMIUM`` names, else the one of this machine.

``make browser`` installs the distribution's package where root may do that; ``make test`` asks for it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

GIVEN = "RECOLLECT_TEST_CHROMIUM"

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

ELSEWHERE = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/usr/lib/chromium/chromium",
    "/usr/lib64/chromium-browser/chromium-browser",
)


@functools.cache
def program() -> str | None:
    """The path of a Chromium that runs, or None."""
    return next((path for path in _candidates() if _version(path)), None)


def _candidates() -> Iterator[str]:
    if given := os.environ.get(GIVEN):
        yield given
        return
    yield from filter(None, map(shutil.which, NAMES))
    yield from (path for path in ELSEWHERE if Path(path).exists())


@functools.cache
def _version(path: str) -> str:
    """What a program says it is; "" where it does not run, as the placeholder of a snap that is not installed."""
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""


def missing() -> str | None:
    """Why there is no browser to test with; None when there is one."""
    if program():
        return None
    if given := os.environ.get(GIVEN):
        return f"no Chromium: {GIVEN} names {given!r}, which does not run"
    return f"no Chromium: {GIVEN} is not set, and none of {', '.join(NAMES)} is on PATH and runs; try `make browser`"


def demand() -> None:
    """Refuse to run under CI without a browser; for ``pytest_configure``."""
    if (reason := missing()) and os.environ.get("CI"):
        raise pytest.UsageError(reason)


def header() -> str:
    """A line for pytest's header."""
    path = program()
    return f"Chromium MISSING, its tests are skipped: {missing()}" if path is None else f"{_version(path)}, from {path}"


def summarise(reporter: Any) -> None:
    """Say at the end of the run that tests were skipped; for ``pytest_terminal_summary``."""
    if reason := missing():
        reporter.section("Chromium MISSING", sep="=", red=True, bold=True)
        reporter.line(f"Nothing was tested in a browser: {reason}", red=True)


@contextmanager
def browsing() -> Iterator[Any]:
    """A browser of the tests' own. As root it can be no sandbox for what it shows, and is told so."""
    from playwright.sync_api import sync_playwright

    if reason := missing():
        pytest.skip(reason)
    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=options)
        try:
            yield browser
        finally:
            browser.close()
