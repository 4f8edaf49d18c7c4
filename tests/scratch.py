"""Where the tests' files are: in memory where there is room, for none of them has to survive the machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - what is made in it is private
ENOUGH = 4 << 30
"""Bytes: several times what the tests and their Postgres have there at a time."""


def bytes_free(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def use_memory() -> None:
    """Have temporary files made in memory, here and in the processes that are started from now on.

    SQLite waits for the disk thousands of times in these tests, and a disk that others use at the same time makes that
    the most of what they take. Where programs may not be run from there, files stay on the disk.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK) or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return
    if bytes_free(MEMORY) >= ENOUGH:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
