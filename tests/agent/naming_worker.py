"""A process that names sessions and logs each call of its model: ``naming_worker.py DATABASE LOG SECONDS NUMBER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from agent_kit import NamingModel

from recollect import Agent, SqliteDb

if __name__ == "__main__":
    database, calls, seconds, concurrency = sys.argv[1:]
    log = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def name(request: Any) -> str:
        """Log which session this is; a line this short is appended whole."""
        number = request.messages[-1].text.partition("number ")[2].split()[0]
        os.write(log, f"{number} {os.getpid()}\n".encode())
        return f"Session Number {number}"

    with SqliteDb(Path(database), durability="normal", timeout=30) as db:
        report = Agent(NamingModel(name, seconds=float(seconds)), db=db).name_sessions(concurrency=int(concurrency))
    print(report.named, report.skipped, len(report.failed))  # noqa: T201 - what the test reads
