"""The inbox over HTTP: its list among many sessions, and a long conversation, each as a whole page."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.pace import WARM, Spread, clock
from bench.routes import TOKEN, serving
from bench.table import Budget, Line
from recollect.db.sqlite import SqliteDb
from recollect.message import Message
from recollect.port import Tx, writes
from recollect.run import RunOutput
from recollect.session import AgentSession

GROUP: Final = "The inbox among {count:,} sessions: a whole page over HTTP on this machine"
LIST: Final = Budget(50_000, "median")
RUNS: Final = 5_000
"""Of the long conversation, each of two messages."""

SESSIONS: Final = """
insert into recollect_sessions (
    session_id, kind, agent_id, user_id, name, name_key, name_source, preview, archived, pinned, run_count,
    completed_count, message_count, version, epoch, created_at, updated_at
)
with recursive n (i) as (select 1 union all select i + 1 from n where i < :count)
select 's' || i, 'agent', 'agent-' || i % 4, 'user-' || i % 20, 'Order ' || i, 'order ' || i, 'auto',
    'What became of my order?', i % 5 = 0, i % 5000 = 0, 1, 1, 2, 1, i, 1700000000000000, 1700000000000000 + i
from n
"""


def lines(folder: Path, *, quick: bool, count: int = 10_000) -> Iterator[Line]:
    file = folder / f"inbox-{count}.db"
    with SqliteDb(file, durability="normal") as db:
        db.transact(_fill, count)
        db.upsert_session(_long())
        cursor = db.get_sessions(archived=False, limit=40).next_cursor
        with serving(file) as port:
            for what, path in _pages(cursor or "").items():
                ask = _asking(port, path)
                for _ in range(WARM):
                    ask()
                took = Spread.of([clock(ask) for _ in range(20 if quick else 100)])
                budget = LIST if "list" in what else None
                yield Line(group=GROUP.format(count=count), what=what, ours=took, budget=budget)


def _long() -> AgentSession:
    """A long conversation."""
    said = Message("assistant", "An answer with **some** `code`. " * 9)
    runs = [
        RunOutput(
            run_id=str(number),
            session_id="long",
            user_id="user-3",
            agent_id="desk",
            messages=(Message("user", f"Question {number}: " + "what then? " * 9), said),
        )
        for number in range(RUNS)
    ]
    return AgentSession("long", user_id="user-3", agent_id="desk", runs=runs)


def _pages(cursor: str) -> dict[str, str]:
    return {
        "the list": "/",
        "the list, its second page": f"/inbox/rows?cursor={cursor}",
        "the list of one user's": "/?user=user-7",
        "the list of what is pinned": "/?show=pinned",
        f"the newest page of {2 * RUNS:,} messages": "/s/long",
        "older turns, as they are scrolled to": f"/inbox/turns?session_id=long&before={RUNS // 2}",
    }


def _asking(port: int, path: str) -> Callable[[], object]:
    """Ask for a page as a browser does, over a connection that stays."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html", "Accept-Encoding": "gzip"}

    def ask() -> object:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return body

    return ask


@writes
async def _fill(tx: Tx, count: int) -> None:
    await tx.execute((SESSIONS, {"count": count}))
