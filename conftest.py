"""The Python blocks of the README and of docs/ are tests: a page runs in an empty folder, top to bottom.

Where a block asks OpenAI, it reaches a server on this machine that speaks the same API; where it opens the database at
``DATABASE_URL``, that is one on the tests' own Postgres server. In blocks of ``console`` each line that begins with
``$ recollect`` is run, and must print what stands below it, where anything does (``...`` stands for anything).
"""

import doctest
import gc
import os
import shlex
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import postgres_kit
import postgres_server
import pytest
from sybil import Example, Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from recollect.testing import ResponsesServer


def _enter_empty_folder(namespace: dict[str, Any]) -> None:
    namespace["_server"] = ResponsesServer()
    namespace["_environment"] = dict(os.environ)
    os.environ.update(namespace["_server"].__enter__().environment())
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


def _run_commands(block: Example) -> str | None:
    """What is wrong with the first command that does not do as the page says."""
    for text in block.parsed.split("$ ")[1:]:
        command, _, told = text.partition("\n")
        if not command.startswith("recollect "):
            continue
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command, comments=True)], check=False, capture_output=True, text=True
        )
        said = done.stdout + done.stderr
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if done.returncode or (told.strip() and not doctest.OutputChecker().check_output(told, said, options)):
            return f"{command}\nended with {done.returncode} and said:\n{said}"
    return None


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", _run_commands), SkipParser()],
    patterns=["README.md", "docs/**/*.md", "docs/llms.txt"],
    setup=_enter_empty_folder,
    teardown=_leave_folder,
).pytest()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the blocks of a page, which continue one another, their order back after the shuffle."""
    places = [place for place, item in enumerate(items) if isinstance(item, SybilItem)]
    blocks = sorted((items[place] for place in places), key=lambda item: item.reportinfo()[:2])
    for place, block in zip(places, blocks, strict=True):
        items[place] = block
