"""Databases that the real Agno has written, each release in an environment of its own; `make agno` installs them."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import postgres_server
import pytest

from recollect.testing import ResponsesServer
from recollect.testing.answer import Answer, Failure

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = Path(os.environ.get("RECOLLECT_TEST_AGNO") or ROOT / ".venv")
WRITER = Path(__file__).with_name("agno_writer.py")

RELEASES = {"2.0": ("agno2", "agno2-first"), "2": ("agno2", None), "3": ("agno3", None)}
"""Of each release: its environment, and a folder of packages that stand before those of that."""

SOURCES = ("2.0-sqlite", "2-sqlite", "2-postgres", "3-sqlite", "3-postgres")


class Source(NamedTuple):
    """A database that Agno has written."""

    release: str
    address: str
    said: dict[str, Any]
    """What Agno's own API says of each session."""


def missing() -> str | None:
    """Why there is no Agno to write databases; None when there is."""
    wanted = [ENVIRONMENTS / name for pair in RELEASES.values() for name in pair if name]
    away = sorted({str(path) for path in wanted if not path.exists()})
    return f"{', '.join(away)} not there; make agno" if away else None


def demand() -> None:
    """Refuse to run under CI without Agno; for ``pytest_configure``."""
    if (reason := missing()) and os.environ.get("CI"):
        raise pytest.UsageError(reason)


def header() -> str:
    """A line for pytest's header."""
    if reason := missing():
        return f"Agno MISSING, its tests are skipped: {reason}"
    return f"Agno {', '.join(_version(release) for release in RELEASES)}"


def summarise(reporter: Any) -> None:
    """Say at the end of the run that tests were skipped; for ``pytest_terminal_summary``."""
    if reason := missing():
        reporter.section("Agno MISSING", sep="=", red=True, bold=True)
        reporter.line(f"Nothing was tested of moving in from Agno: {reason}", red=True)


def needed() -> None:
    """Skip the test that asks when there is no Agno."""
    if reason := missing():
        pytest.skip(reason)


@contextmanager
def source(name: str, folder: Path) -> Iterator[Source]:
    """A database of one of `SOURCES`, to do with as one likes; it is written once, and then only copied."""
    needed()
    release, kind = name.split("-")
    if kind == "postgres":
        postgres_server.needed()
    written = _written(release)
    if kind == "sqlite":
        shutil.copy(written.file, folder / "agno.db")
        yield Source(release, str(folder / "agno.db"), written.said("sqlite"))
        return
    assert written.template is not None
    with postgres_server.fresh(written.template) as url:
        yield Source(release, url, written.said("postgres"))


def agno(release: str, do: str, *addresses: str) -> list[dict[str, Any]]:
    """Have a release of Agno do something to databases; give what it then says of the sessions of each."""
    environment, before = RELEASES[release]
    out = _folder() / f"{release}-{do}.json"
    path = {"PYTHONPATH": str(ENVIRONMENTS / before)} if before else {}
    with ResponsesServer() as server:
        server.script(_answer)
        done = subprocess.run(
            [ENVIRONMENTS / environment / "bin" / "python", WRITER, do, out, *addresses],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | server.environment() | path | {"AGNO_TELEMETRY": "false"},
        )
    assert done.returncode == 0, done.stdout + done.stderr
    said: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    return said


class _Written(NamedTuple):
    """What a release has written: the same conversations in a file and in a template of Postgres's."""

    file: Path
    template: str | None
    accounts: list[str]

    def said(self, kind: str) -> dict[str, Any]:
        """What Agno says of them, as JSON made afresh."""
        account: dict[str, Any] = json.loads(self.accounts[kind == "postgres"])
        return account


@functools.cache
def _written(release: str) -> _Written:
    file, accounts = _folder() / f"{release}.db", list[str]()

    def write(*dsn: str) -> None:
        accounts.extend(map(json.dumps, agno(release, "write", str(file), *dsn)))

    if f"{release}-postgres" in SOURCES and postgres_server.missing() is None:
        return _Written(file, postgres_server.template(write), accounts)
    write()
    return _Written(file, None, accounts)


@functools.cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="recollect-agno-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[Any] = []
"""What is removed when the process ends."""


def _version(release: str) -> str:
    environment, before = RELEASES[release]
    folder = ENVIRONMENTS / (before or environment)
    found = next(folder.glob("**/agno-*.dist-info"), None)
    return found.name.removesuffix(".dist-info").removeprefix("agno-") if found else "?"


_WISH = re.compile(r"(note|fail|stop|delegate|weather|think): (\w+)")


def _answer(body: dict[str, Any]) -> Answer | Failure | str:
    """A model that does what it is told: the text names a tool, or how to fail."""
    messages = body.get("messages") or body["input"]
    said = _said(messages)
    if "Provide the summary" in said or "summary of the conversation" in said:
        return json.dumps({"summary": "They spoke of the weather.", "topics": ["weather"]})
    if said.startswith("error"):
        return Failure(status=400, message="It is broken.")
    is_answered = messages[-1].get("role") == "tool" or messages[-1].get("type") == "function_call_output"
    wish = None if is_answered else _WISH.search(said)
    return f"You said: {said}" if wish is None else _granted(*wish.groups(), body.get("tools") or [])


def _granted(what: str, arg: str, tools: list[dict[str, Any]]) -> Answer:
    if what == "think":
        thought = {"role": "assistant", "content": "It is seven.", "reasoning_content": "I think of seven."}
        return Answer(output=[thought])
    name = {"fail": "broken", "delegate": "delegate_task_to_member"}.get(what, what)
    tool = next(tool for tool in (tool.get("function") or tool for tool in tools) if tool["name"] == name)
    # Releases call what a member is asked by different names.
    given = {key: arg if key in ("city", "what", "member_id") else f"Please, {arg}" for key in _required(tool)}
    return Answer(tool_calls=[(name, given)])


def _required(tool: dict[str, Any]) -> list[str]:
    required: list[str] = tool["parameters"].get("required", [])
    return required


def _said(messages: list[dict[str, Any]]) -> str:
    """The last thing that the user said."""
    content = next((item["content"] for item in reversed(messages) if item.get("role") == "user"), "")
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
