"""What conversations take on disk: turns taken one by one, as an application does, and real ones with tools."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.children import ROOT
from bench.peers.bench import Bench, Effort, Filling, Full, Guest, log, together
from bench.peers.result import Cell, cell
from bench.peers.roster import Entry
from bench.talk import turns

AIRLINE: Final = "airline_conversations.jsonl"
SESSION: Final = "01903f4e-7d2a-7c31-9c57-5d0b8e1f4a6c"
"""An id as they are made when none is given."""
FEW: Final = 10
"""Turns that are taken in one request."""


def cells(bench: Bench) -> Iterator[Cell]:
    entries = [entry for entry in bench.entries if not entry.is_variant and entry.key != "floor-delete"]
    log("size: turn by turn")
    yield from _measured(bench, entries, f"{bench.effort.bytes_turns:,} turns", _turn_by_turn)
    conversations = _airline(bench.effort.conversations)
    if conversations is None:
        log(f"size: {AIRLINE} is not there; RECOLLECT_SHARED_DATA may name its folder")
        return
    log("size: airline conversations")

    def keep(guest: Guest, effort: Effort) -> None:
        del effort
        for number, messages in enumerate(conversations):
            answer = guest.peer.ask("keep", [f"airline-{number}", messages])
            if answer.refused:
                raise Full("none" if answer.refused == ["NotSupported"] else answer.refused[0])

    yield from _measured(bench, entries, f"{len(conversations)} airline conversations", keep)


def _measured(bench: Bench, entries: list[Entry], case: str, work: Any) -> Iterator[Cell]:
    with bench.guests(entries) as guests:
        empty = {guest.entry.key: guest.size() for guest in guests}
        why = together(lambda guest: work(guest, bench.effort), guests)
        for guest in guests:
            key, entry = guest.entry.key, guest.entry
            if key in why:
                yield cell("size", case, entry, [], said=why[key])
                continue
            guest.peer.close()
            if entry.backend == "sqlite":
                _checkpoint(guest.address)
                yield cell("size", case, entry, [guest.size()], unit="bytes")
            else:
                yield cell("size", case, entry, [guest.size() - empty[key]], unit="bytes")


def _turn_by_turn(guest: Guest, effort: Effort) -> None:
    said = turns(effort.bytes_turns)
    filling = Filling("turns", len(said), guest.size, effort)
    for start in range(0, len(said), FEW):
        each = [[SESSION, *one] for one in said[start : start + FEW]]
        answer = guest.peer.ask(guest.entry.kinds[0], *each)
        if answer.refused:
            raise Full(answer.refused[0])
        filling.add(len(each))


def _airline(count: int) -> list[Any] | None:
    source = Path(os.environ.get("RECOLLECT_SHARED_DATA") or ROOT.parent / "shared" / "data") / AIRLINE
    if not source.is_file():
        return None
    return [msgspec.json.decode(line)["messages"] for line in source.read_bytes().splitlines()[:count]]


def _checkpoint(file: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
