"""How many bytes conversations take in the file, and where they are."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bench.children import ROOT
from bench.floor import Floor
from bench.pace import Spread
from bench.table import Budget, Line
from bench.talk import turns
from recollect.agent import Agent
from recollect.db.sqlite import SqliteDb
from recollect.message import PROMPT_ROLES, Message
from recollect.models.echo import EchoModel
from recollect.run import RunOutput
from recollect.session import AgentSession

AIRLINE: Final = "airline_conversations.jsonl"
TURNS: Final = 1_000
SHOWN: Final = 6
"""Tables and indexes that are told one by one."""
NAMES: Final = ("01903f4e-7d2a-7c31-9c57-5d0b8e1f4a6c", "user_123_session_456")
"""Session ids: one as they are made when none is given, and that of the documentation."""

WHOLE: Final = "Bytes of the file after a checkpoint; the floor is the JSON of the messages"
WHERE: Final = "Where these bytes are; the floor is the same JSON"


class Stored(NamedTuple):
    """A file, and the bytes of the JSON that went in."""

    what: str
    file: Path
    json: int
    limit: float | None = None


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    del quick
    shared = Path(os.environ.get("RECOLLECT_SHARED_DATA") or ROOT.parent / "shared" / "data") / AIRLINE
    measured = [*_airline(folder, shared), *(_turns(folder, name) for name in NAMES)]
    for one in [*measured, _floor(folder)]:
        yield _line(WHOLE, one.what, one.file.stat().st_size, one)
    yield Line(group=WHOLE, what="an empty file", ours=Spread.of([_empty(folder).stat().st_size]), unit="bytes")
    for one in measured:
        for name, size in _parts(one.file):
            yield _line(WHERE, f"{one.what}: {name}", size, one._replace(limit=None))


def _line(group: str, what: str, size: int, stored: Stored) -> Line:
    budget = None if stored.limit is None else Budget(stored.limit)
    beside = Spread.of([stored.json])
    return Line(group=group, what=what, ours=Spread.of([size]), floor=beside, unit="bytes", budget=budget)


def _airline(folder: Path, source: Path) -> Iterator[Stored]:
    """The 100 real conversations, each stored whole; each user message begins a run."""
    if not source.is_file():
        print(f"left out: {AIRLINE} is not there; RECOLLECT_SHARED_DATA may name its folder")
        return
    file = folder / "size-airline.db"
    with SqliteDb(file, durability="normal") as db:
        for text in source.read_bytes().splitlines():
            conversation = msgspec.json.decode(text)
            db.upsert_session(_session(conversation["conversation_id"], conversation["messages"]))
    _checkpoint(file)
    yield Stored("100 airline conversations", file, source.stat().st_size, 1.5)


def _session(session_id: str, messages: Iterable[dict[str, Any]]) -> AgentSession:
    prompt: tuple[Message, ...] = ()
    said: list[list[Message]] = []
    for message in map(Message.from_dict, messages):
        if message.role in PROMPT_ROLES:
            prompt = (message,)
        elif message.role == "user" or not said:
            said.append([message])
        else:
            said[-1].append(message)
    runs = [
        RunOutput(run_id=f"{session_id}-{number}", session_id=session_id, agent_id="airline", messages=(*prompt, *run))
        for number, run in enumerate(said)
    ]
    return AgentSession(session_id, agent_id="airline", runs=runs)


def _turns(folder: Path, session_id: str) -> Stored:
    """One session, turn after turn through an agent."""
    file = folder / f"size-turns-{len(session_id)}.db"
    model = EchoModel("")
    with Agent(model=model, db=SqliteDb(file, durability="normal")) as agent:
        for question, model.reply in turns(TURNS):
            agent.run(question, session_id=session_id)
    _checkpoint(file)
    return Stored(f"{TURNS:,} turns of 400 characters, session id of {len(session_id)}", file, _json(), 2.5)


def _floor(folder: Path) -> Stored:
    file = folder / "size-floor.db"
    floor = Floor(file)
    floor.create()
    floor.fill(NAMES[0], turns(TURNS))
    floor.close()
    _checkpoint(file)
    return Stored(f"the same by hand-written SQL, keys only, session id of {len(NAMES[0])}", file, _json())


def _json() -> int:
    """Bytes of the turns as one JSON array of messages."""
    return len(
        msgspec.json.encode(
            [
                {"role": role, "content": content}
                for said in turns(TURNS)
                for role, content in (("user", said.question), ("assistant", said.answer))
            ]
        )
    )


def _empty(folder: Path) -> Path:
    file = folder / "size-empty.db"
    with SqliteDb(file) as db:
        db.get_header("nobody")
    _checkpoint(file)
    return file


def _checkpoint(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()


def _parts(file: Path) -> list[tuple[str, int]]:
    """Tables and indexes with what they take, the largest first; nothing where SQLite was built without dbstat."""
    connection = sqlite3.connect(file)
    try:
        found = connection.execute("select name, sum(pgsize) from dbstat group by name order by 2 desc").fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()
    return [*found[:SHOWN], ("all the rest", sum(size for _, size in found[SHOWN:]))]
