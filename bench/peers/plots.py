"""The plots of the page, drawn by a process in an environment of its own, for nothing else needs matplotlib."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.children import ROOT
from bench.peers.bench import log
from bench.peers.environment import Unavailable, python_of


def drawn(results: Path, folder: Path) -> list[str]:
    """Draw what is in the results; the names of the files, none where there is no matplotlib."""
    try:
        python = python_of("plots")
    except Unavailable as error:
        log(f"no plots: {error}")
        return []
    folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [python, "-m", "bench.peers.draw", results.resolve(), folder.resolve()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return done.stdout.split()
