"""The Python blocks of the README and of docs/ are tests: a page runs in an empty folder, top to bottom.

Where a block asks OpenAI, it reaches a server on this machine that speaks the same API; where it opens the database at
``DATABASE_URL``, that is one on the tests' own Postgres server. A block of ``output`` says what the Python above it
prints. In blocks of ``console`` each line that begins with ``$ recollect`` is run, and must print what stands below it,
where anything does. In either, ``...`` stands for anything.
"""

import doctest
import gc
import io
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import postgres_kit
import postgres_server
import pytest
import scratch
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from recollect.testing import ResponsesServer

scratch.use_memory()


def _enter_empty_folder(namespace: dict[str, Any]) -> None:
    namespace["_server"] = ResponsesServer()
    namespace["_environment"] = dict(os.environ)
    os.environ.update(namespace["_server"].__enter__().environment(), COLUMNS="80")
    namespace["_left"] = Path.cwd()
    namespace["_folder"] = tempfile.TemporaryDirectory()
    os.chdir(namespace["_folder"].name)
    namespace["_open"] = ExitStack()
    namespace["has_postgres"] = postgres_server.missing() is None
    if namespace["has_postgres"]:
        os.environ["DATABASE_URL"] = namespace["_open"].enter_context(postgres_kit.postgres_url())


def _leave_folder(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_left"])
    for name in ("agent", "db"):
        if name in namespace:
            namespace[name].close()
    namespace["_open"].close()
    namespace["_folder"].cleanup()
    namespace["_server"].__exit__(None, None, None)
    os.environ.clear()
    os.environ.update(namespace["_environment"])
    for name in [name for name in namespace if not name.startswith("_")]:
        del namespace[name]
    gc.collect()  # models that the page made close their connections when they are let go of


_RUN = PythonEvaluator()


def _run_python(block: Example) -> None:
    """Run a block, and keep what it prints."""
    with redirect_stdout(io.StringIO()) as said:
        _RUN(block)
    block.namespace["_said"] = said.getvalue()


def _compare_output(block: Example) -> str | None:
    """What is wrong where the block before printed something else than the page says."""
    said = block.namespace["_said"]
    return None if _is_as_told(block.parsed, said) else f"it printed:\n{said}"


def _run_commands(block: Example) -> str | None:
    """What is wrong with the first command that does not do as the page says."""
    for text in block.parsed.split("$ ")[1:]:
        command, _, told = text.partition("\n")
        if not command.startswith("recollect "):
            continue
        line = [sys.executable, "-m", *shlex.split(command, comments=True)]
        done = subprocess.run(line, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode or not (told.strip() == "" or _is_as_told(told, done.stdout)):
            return f"{command}\nended with {done.returncode} and printed:\n{done.stdout}"
    return None


def _is_as_told(told: str, said: str) -> bool:
    return doctest.OutputChecker().check_output(told, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser("python", _run_python),
        CodeBlockParser("output", _compare_output),
        CodeBlockParser("console", _run_commands),
        SkipParser(),
    ],
    patterns=["README.md", "docs/*.md", "docs/*/*.md", "docs/llms.txt"],
    setup=_enter_empty_folder,
    teardown=_leave_folder,
).pytest()


LONGEST = (
    "test_agent_kill_sweep.py",
    "test_agent_ctrl_c.py",
    "test_store_faults.py",
    "test_cli_agno.py",
    "test_docs.py",
    "test_inbox_everybody.py",
)
"""Files that take minutes, few tests as they may hold. Where files run side by side they come first, or all would wait
for them in the end; then those of many tests."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put things in order again after the shuffle."""
    _put_pages_together(items)
    if hasattr(config, "workerinput"):
        many = Counter(item.path for item in items)
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: (places.get(item.path.name, len(LONGEST)), -many[item.path]))


def _put_pages_together(items: list[pytest.Item]) -> None:
    """The blocks of a page continue one another."""
    pages: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if isinstance(item, SybilItem):
            pages.setdefault(item.path, []).append(item)
    items[:] = [
        one
        for item in items
        for one in (
            sorted(pages.pop(item.path, ()), key=lambda block: block.reportinfo()[1] or 0)
            if isinstance(item, SybilItem)
            else [item]
        )
    ]
