"""What the routes add to the store's time: requests over a connection that stays, beside the same calls to the store.

``python -m bench.routes FILE`` is the server, a process of its own.
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.pace import Spread, clock
from bench.table import Budget, Line
from recollect.agent import Agent
from recollect.db.sqlite import SqliteDb
from recollect.models.echo import EchoModel

GROUP: Final = "What a route adds to the store's time, over HTTP on this machine; the store's own time is the floor"
ADDED: Final = Budget(2_000, "median")
SESSIONS: Final = 2_000
TURNS: Final = 10
COUNTED: Final = 10_000
TOKEN: Final = "benchmark"  # noqa: S105 - it opens a server that lives for a few seconds
LIMITS: Final = 1_000_000


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    file = folder / "routes.db"
    with SqliteDb(file, durability="normal") as db:
        _fill(db)
        with serving(file) as port:
            for what, (ask, call) in _calls(db, port).items():
                yield from _line(what, ask, call, 30 if quick else 300)


def _line(what: str, ask: Callable[[], object], call: Callable[[], object], rounds: int) -> Iterator[Line]:
    for _ in range(10):
        ask()
        call()
    pairs = [(clock(ask), clock(call)) for _ in range(rounds)]
    ours, floor = Spread.of([pair[0] for pair in pairs]), Spread.of([pair[1] for pair in pairs])
    yield Line(group=GROUP, what=what, ours=ours, floor=floor)
    added = Spread.of([over - store for over, store in pairs])
    yield Line(group=GROUP, what=f"{what}: added", ours=added, budget=ADDED)


def _calls(db: SqliteDb, port: int) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Each route beside what it asks of the store."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    user: dict[str, Any] = {"user_id": "user-3"}

    def ask(path: str) -> Callable[[], object]:
        def request() -> Any:
            connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            return body

        return request

    def listed() -> object:
        return db.count_sessions(**user, most=COUNTED), db.get_sessions(**user, sort="created_at")

    def whole() -> object:
        header = db.get_header("long")
        return header, [db.get_values("long", kind) for kind in ("state", "metadata", "tag", "summary")]

    def read() -> object:
        session = db.get_session("long")
        assert session is not None
        return [run.messages for run in session.runs]

    return {
        "GET /sessions": (ask("/sessions?user_id=user-3"), listed),
        "GET /v1/sessions": (ask("/v1/sessions?user_id=user-3"), lambda: db.get_sessions(**user)),
        "GET /v1/sessions/{id}": (ask("/v1/sessions/long"), whole),
        f"GET /sessions/{{id}}/runs of {TURNS} runs": (ask("/sessions/long/runs"), read),
        "GET /v1/sessions/{id}/messages, the last 20": (
            ask("/v1/sessions/long/messages?limit=20"),
            lambda: db.get_messages("long"),
        ),
    }


def _fill(db: SqliteDb) -> None:
    chance = random.Random(3)
    for number in range(SESSIONS):
        db.create_session(f"s{number}", user_id=f"user-{chance.randrange(20)}", name=f"Order {number}")
    agent = Agent(EchoModel(reply="x" * 300), id="desk", db=db)
    for number in range(TURNS):
        agent.run("q" * 100, session_id="long", session_state={"step": number})


@contextmanager
def serving(file: Path) -> Iterator[int]:
    """The port of a server over a file, with an agent ``desk``."""
    process = subprocess.Popen([sys.executable, "-m", "bench.routes", str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def main() -> None:
    """Serve the file, and print the port."""
    from recollect.server import Caller, Limits, create_app, serve

    with SqliteDb(sys.argv[1], durability="normal") as db:
        auth = {TOKEN: Caller(None, frozenset({"admin"}))}
        limits = Limits(rate=LIMITS, burst=LIMITS)
        app = create_app([Agent(EchoModel(), id="desk", db=db)], auth=auth, limits=limits)
        serve(app, port=0, on_start=lambda address: print(address.rpartition(":")[2], flush=True))


if __name__ == "__main__":
    main()
