"""The server of `load.py`: an agent that takes its time, and a look at the process."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from recollect import Agent, Message, SqliteDb, Usage
from recollect.port import Delta, ModelRequest, Reply, World
from recollect.server import Caller, Limits, create_app, serve

WORDS = 12
PAUSE = 0.05
SIZES = {"much": 20_000, "more": 400_000}
"""Characters at once, more than a connection holds that nobody reads from."""


CALLERS = {"busy": Caller("busy"), "idle": Caller("idle")}
"""Whoever is busy has all the sessions, so nothing changes for who is idle."""


class Slowly:
    """Answers with what was said, a dozen words, one after the other; whoever asks for much gets much at once."""

    id = "slowly"
    provider = "test"

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        asked = request.messages[-1].text
        size = SIZES.get(asked, 0)
        word, pause = ("x" * size, 0.0) if size else (f"{asked} ", PAUSE)
        for _ in range(WORDS):
            await world.sleep(pause)
            yield Delta(word)
        yield Reply(Message("assistant", word * WORDS), Usage(10, WORDS))


def memory() -> int:
    """Bytes that this process has in memory; 0 where the system does not say so."""
    status = Path("/proc/self/statm")
    return int(status.read_text(encoding="ascii").split()[1]) * 4096 if status.exists() else 0


def main() -> None:
    """Serve until the end is asked for."""
    db = SqliteDb(sys.argv[1], durability="normal")
    limits = Limits(rate=1e6, burst=1_000_000, patience=2, keep_alive=5)
    app = create_app([Agent(Slowly(), id="desk", db=db)], auth=CALLERS, limits=limits)

    async def look() -> Any:
        gc.collect()
        return {
            "memory": memory(),
            "tasks": len(asyncio.all_tasks()),
            "under_way": len(app.state.recollect.under_way),
        }

    app.add_api_route("/look", look)
    serve(app, port=0, on_start=lambda address: sys.stderr.write(f"{address}\n"), grace=5)
    db.close()


if __name__ == "__main__":
    main()
