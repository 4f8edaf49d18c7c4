"""A process that names sessions and logs each call of its model.

``naming_worker.py DATABASE LOG SECONDS NUMBER CLAIM``: how long the model takes, how many it is asked at once, and the
seconds after which a claim returns.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from agent_kit import NamingModel

from recollect import Agent, open_db
from recollect.store import claims

if __name__ == "__main__":
    database, calls, seconds, concurrency, claim = sys.argv[1:]
    claims.CLAIM = int(float(claim) * 1_000_000)  # type: ignore[misc]
    log = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def name(request: Any) -> str:
        """Log which session this is; a line this short is appended whole."""
        number = request.messages[-1].text.partition("number ")[2].split()[0]
        os.write(log, f"{number} {os.getpid()}\n".encode())
        return f"Session Number {number}"

    with open_db(database) as db:
        report = Agent(NamingModel(name, seconds=float(seconds)), db=db).name_sessions(concurrency=int(concurrency))
    print(report.named, report.skipped, len(report.failed))  # noqa: T201 - what the test reads
