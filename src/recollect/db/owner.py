"""Who holds a lease: this process, named so that others on the machine can tell whether it still lives."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final


def this_process() -> str:
    """``boot:pid:start``; a process that is gone cannot be mistaken for a later one with the same number."""
    return _named(os.getpid())


def alive(owner: str, until: int, now: int) -> bool:
    """Whether the holder of a lease may still be at work: the lease runs, and its process did not die."""
    if until <= now:
        return False
    return lives(owner) is not False


def lives(owner: str) -> bool | None:
    """Whether the process lives; None where only its own machine can tell."""
    if owner == this_process():
        return True
    boot, pid, start = (*owner.split(":"), "", "")[:3]
    if not boot or boot != boot_id() or not pid.isdigit():
        return None
    return start == _start(int(pid))


@cache
def boot_id() -> str:
    """What tells one run of this machine from the next and from other machines; "" where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Containers share the kernel but not the process numbers.
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


@cache
def _named(pid: int) -> str:
    return f"{boot_id()}:{pid}:{_start(pid)}"


def _start(pid: int) -> str:
    """When a process began, in clock ticks since boot; "" when it is gone.

    Asked of each run under way while a writer has the file to itself, so it goes straight to the system.
    """
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return ""
    try:
        status = os.read(file, _ROOM)
    except OSError:  # it went while it was asked
        return ""
    finally:
        os.close(file)
    # The second field is the program's name in brackets and may hold anything, so count from the last bracket.
    fields = status.rpartition(b")")[2].split(None, 20)
    return "" if fields[0] == b"Z" else fields[19].decode("ascii")


_ROOM: Final = 4096
"""Bytes that hold what is told of a process: some fifty numbers."""
