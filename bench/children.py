"""Processes of this benchmark: started from the repository, let go together, and asked for one line of JSON.

What they import is compiled once, into the benchmark's own folder, as it is in an installed package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

ROOT: Final = Path(__file__).parent.parent


@contextmanager
def started(folder: Path, count: int, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes of ``bench.child``, each ready and waiting to be let go."""
    command = [sys.executable, "-m", "bench.child", *arguments]
    pipe, environment = subprocess.PIPE, _environment(folder)
    with ExitStack() as stack:
        made = [
            stack.enter_context(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment)
            )
            for _ in range(count)
        ]
        for child in made:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        yield made


def answers(children: Sequence[subprocess.Popen[str]]) -> list[Any]:
    """Let them go, and wait for what each has to say."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    return [msgspec.json.decode(child.communicate()[0]) for child in children]


def said_by(folder: Path, code: str) -> Any:
    """What a fresh interpreter prints when it runs this."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=_environment(folder))
    return msgspec.json.decode(done.stdout)


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}
