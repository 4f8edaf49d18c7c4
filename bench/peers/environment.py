"""Environments: each peer is installed alone, from its own locked requirements, into a folder that git ignores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.children import ROOT

FOLDER: Final = ROOT / "build" / "peers"
LOCKS: Final = Path(__file__).parent / "requirements"
SECONDS: Final = 900
"""That an installation may take."""

_VERSIONS: Final = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


class Unavailable(Exception):
    """An environment cannot be made."""


def python_of(name: str) -> Path:
    """The interpreter of an environment, which is made where it is not there or its lock is newer.

    Raises:
        Unavailable: it cannot be made; why.
    """
    if not name:
        return Path(sys.executable)
    folder, lock = FOLDER / name, LOCKS / f"{name}.txt"
    python, done = folder / "bin" / "python", folder / ".locked"
    wanted = f"{sys.version}\n{lock.read_text(encoding='utf-8')}"
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        print(f"peers: install {name}", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder])
        pip: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--progress-bar",
            "off",
        ]
        _run([*pip, "--no-deps", "--require-hashes", "-r", lock])
        done.write_text(wanted, encoding="utf-8")
    return python


def _run(command: Sequence[str | Path]) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"not installed within {SECONDS} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise Unavailable(lines[-1][:200] if lines else f"pip ended with {done.returncode}")


def versions(python: Path, distributions: Sequence[str]) -> dict[str, str]:
    """Which versions of these an environment has."""
    told = subprocess.run([python, "-c", _VERSIONS, *distributions], check=True, capture_output=True, text=True)
    found: dict[str, str] = msgspec.json.decode(told.stdout, type=dict[str, str])
    return found
