"""A run of the driver: who takes part, where the databases are, and how hard it is tried."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeVar

import msgspec

from bench.children import ROOT
from bench.peers.process import Gone, Peer
from bench.peers.roster import Backend, Entry
from bench.talk import Said, turns

T = TypeVar("T")

ENOUGH: Final = 10.0
"""Seconds after which the pace of filling is known."""
CHUNK: Final = 100
"""Turns that are stored between two looks at the clock."""


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    turns: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    rounds: int = 6
    burst: int = 4
    """Calls in one visit, of which the first is not counted where there were more."""
    visit: float = 0.25
    """Seconds after which a visit ends early."""
    fresh: int = 5
    sessions: tuple[int, ...] = (10_000, 100_000)
    bytes_turns: int = 1_000
    conversations: int = 100
    crowds: int = 2
    crowd_turns: int = 40
    """Of each process."""
    starts: int = 3
    patience: float = 300.0
    """Seconds that filling one store may take."""
    room: int = 2_500_000_000
    """Bytes that one store may grow to."""


QUICK: Final = Effort(
    turns=(10, 1_000),
    rounds=3,
    fresh=2,
    sessions=(1_000,),
    bytes_turns=50,
    conversations=10,
    crowds=1,
    crowd_turns=10,
    starts=1,
    patience=10.0,
    room=200_000_000,
)


class Full(Exception):
    """Filling a store took too long, or too many bytes; how far it came."""


class Filling:
    """How far a store has been filled, and whether it is worth while to go on."""

    def __init__(self, what: str, wanted: int, size: Callable[[], int], effort: Effort) -> None:
        self.what = what
        self.wanted = wanted
        self.size = size
        self.effort = effort
        self.done = 0
        self._began, self._before = perf_counter(), size()

    def add(self, count: int) -> None:
        """So many more are there.

        Raises:
            Full: at this pace it takes too long, or it has become too many bytes.
        """
        self.done += count
        seconds, grown = perf_counter() - self._began, self.size() - self._before
        is_slow = seconds > ENOUGH and seconds / self.done * self.wanted > self.effort.patience
        if self.done < self.wanted and (is_slow or grown > self.effort.room):
            reached = f"{self.done:,} of {self.wanted:,} {self.what}"
            raise Full(f"not measured: {reached} took {seconds:.0f} s and {grown / 1e6:,.0f} MB")


class Guest:
    """A store that takes part in a group: its worker, its database, and why it is gone when it is."""

    def __init__(self, entry: Entry, peer: Peer, address: str, size: Callable[[], int]) -> None:
        self.entry = entry
        self.peer = peer
        self.address = address
        self.size = size
        self.gone = ""
        self.is_bulk = False

    def open(self) -> None:
        """Have the worker open its database; where it cannot, it is gone."""
        try:
            self.is_bulk = bool(self.peer.open(self.address).value)
        except Gone as error:
            self.gone = str(error)

    def fill(self, session_ids: Sequence[str], said: Sequence[Said], effort: Effort) -> None:
        """Store the same turns in each of these sessions.

        Raises:
            Full: it took too long, or too many bytes.
        """
        filling = Filling("turns", len(session_ids) * len(said), self.size, effort)
        chunk = max(len(said), 1) if self.is_bulk else CHUNK
        for session_id in session_ids:
            for start in range(0, len(said), chunk):
                part = said[start : start + chunk]
                self._store("seed", [session_id, part], effort)
                filling.add(len(part))

    def list_sessions(self, start: int, end: int, effort: Effort) -> None:
        """Make sessions with names; as `fill`."""
        filling = Filling("sessions", end - start, self.size, effort)
        for first in range(start, end, 10 * CHUNK):
            last = min(first + 10 * CHUNK, end)
            named = [[session_id(number), name(number), 1_790_000_000 + number] for number in range(first, last)]
            self._store("sessions", [named], effort)
            filling.add(last - first)

    def _store(self, verb: str, arguments: list[Any], effort: Effort) -> None:
        answer = self.peer.ask(verb, arguments, patience=effort.patience + 60)
        if answer.refused:
            raise Full("there is no API for it" if answer.refused == ["NotSupported"] else answer.refused[0])


def session_id(number: int) -> str:
    return f"session-{number:07}"


def name(number: int) -> str:
    return f"Order {number:07} and what came of it"


class Bench:
    """Where a run takes place."""

    def __init__(self, folder: Path, entries: Sequence[Entry], pythons: dict[str, Path], effort: Effort) -> None:
        self.folder = folder
        self.entries = entries
        self.pythons = pythons
        self.effort = effort
        self._numbers = iter(range(1, 1_000_000))

    def of(self, backend: Backend) -> list[Entry]:
        return [entry for entry in self.entries if entry.backend == backend]

    def start(self, entry: Entry) -> Peer:
        """A worker that has opened nothing yet."""
        return Peer(self.pythons[entry.peer], entry.peer, entry.store, self.folder / f"{entry.key}.log")

    @contextmanager
    def place(self, entry: Entry) -> Iterator[tuple[str, Callable[[], int]]]:
        """An empty database, and what tells how many bytes it has; gone afterwards."""
        if entry.backend == "postgres":
            server = postgres()
            name = server.create()
            try:
                yield server.dsn(name, tcp=True), lambda: _relations(server, name)
            finally:
                server.drop(name)
            return
        file = self.folder / f"{entry.key}-{next(self._numbers)}.db"
        try:
            yield str(file), lambda: _bytes(file)
        finally:
            for one in _files(file):
                one.unlink(missing_ok=True)

    @contextmanager
    def guests(self, entries: Sequence[Entry]) -> Iterator[list[Guest]]:
        """A worker for each, which has opened a database of its own."""
        with ExitStack() as stack:
            found = []
            for entry in entries:
                address, size = stack.enter_context(self.place(entry))
                found.append(Guest(entry, stack.enter_context(self.start(entry)), address, size))
            for guest in found:
                guest.open()
            yield found


def together(work: Callable[[Guest], None], guests: Sequence[Guest]) -> dict[str, str]:
    """Do what is not timed for all of them, two at a time; why it could not be done, by their keys."""

    def one(guest: Guest) -> str:
        if guest.gone:
            return guest.gone
        try:
            work(guest)
        except Full as error:
            return str(error)
        except Gone as error:
            guest.gone = str(error)
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as threads:
        told = dict(zip((guest.entry.key for guest in guests), threads.map(one, guests), strict=True))
    return {key: why for key, why in told.items() if why}


def endless(seed: int) -> Iterator[Said]:
    """Turns, again and again the same five hundred."""
    return cycle(turns(500, seed=seed))


def log(text: str) -> None:
    print(f"peers: {text}", file=sys.stderr, flush=True)


def postgres() -> Any:
    """The tests' own server, or the one that ``RECOLLECT_TEST_POSTGRES`` names."""
    sys.path.append(str(ROOT / "tests"))
    try:
        return import_module("postgres_server").server()
    finally:
        sys.path.pop()


def no_postgres() -> str | None:
    """Why there is no Postgres; None when there is one."""
    sys.path.append(str(ROOT / "tests"))
    try:
        found: str | None = import_module("postgres_server").missing()
    finally:
        sys.path.pop()
    return found


def _relations(server: Any, database: str) -> int:
    found = server.query(
        "select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class"
        " where relkind = 'r' and relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema')",
        database,
    )
    return int(found[0][0])


def _files(file: Path) -> list[Path]:
    return [file.with_name(file.name + end) for end in ("", "-wal", "-shm", "-journal")]


def _bytes(file: Path) -> int:
    return sum(one.stat().st_size for one in _files(file)[:2] if one.exists())
