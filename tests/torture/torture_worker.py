"""A process that works on a few sessions in every way at once, and writes down what it was told.

Started by `torture` with a plan; each actor, a thread or a task, decides by a seed of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any

from torture_actor import KEPT, Actor, Face

from recollect import SessionCache, heartbeat
from recollect.db.postgres import PostgresDb
from recollect.db.sqlite import SqliteDb
from recollect.port import drive
from recollect.store import Store, turns

TIMEOUT = 1.5
"""Seconds for which a Postgres server waits for a stopped process: no longer, for others wait, too."""


def open_db(where: str, durability: str = "normal") -> Store:
    """The database that all of them work on."""
    if "://" in where:
        return PostgresDb(where, pool=6, timeout=TIMEOUT)
    return SqliteDb(where, durability=durability)


async def retry(actor: Actor, lost: list[tuple[str, str]]) -> None:
    """Try runs again that a process before this one was killed over: each is there once in the end."""
    actor.failed += lost
    for _ in lost:
        await actor.attempt(actor.again, actor.agents[0], Face(waits=False))


def main(plan: dict[str, Any]) -> None:
    turns.LEASE, heartbeat.BEAT = 1_000_000, 0.25  # type: ignore[misc]
    log = os.open(plan["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(what: str, actor: str, **more: Any) -> None:
        line = {"what": what, "actor": actor, "at": time.monotonic(), **more}
        os.write(log, json.dumps(line).encode() + b"\n")

    cache = SessionCache(max_bytes=200_000)
    with open_db(plan["db"], plan["durability"]) as db:
        for session_id in KEPT:
            if plan["make"]:
                db.create_session(session_id)
        actors = [Actor(f"{number}", db, cache, write, plan) for number in range(4)]
        drive(retry(actors[0], [tuple(one) for one in plan["lost"]]))
        threads = [threading.Thread(target=_drive, args=[actor.act(waits=False)]) for actor in actors[:2]]
        threads.append(threading.Thread(target=_drive, args=[Actor("heir", db, cache, write, plan).inherit()]))
        for thread in threads:
            thread.start()

        async def tasks() -> None:
            await asyncio.gather(*(actor.act(waits=True) for actor in actors[2:]))

        asyncio.run(tasks())
        for thread in threads:
            thread.join()
        stats = cache.stats()
        write("done", str(plan["worker"]), hits=stats.hits, catch_ups=stats.catch_ups, reloads=stats.reloads)


def _drive(coroutine: Coroutine[Any, Any, None]) -> None:
    drive(coroutine)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
