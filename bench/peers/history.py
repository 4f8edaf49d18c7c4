"""What a turn costs and what reading costs, by how much came before: in a process that goes on, and in a fresh one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, repeat
from math import ceil
from random import Random
from typing import Final

import msgspec

from bench.peers.bench import Bench, Effort, Guest, endless, log, together
from bench.peers.process import Gone, Peer
from bench.peers.result import Cell, cell
from bench.peers.roster import Backend, Kind
from bench.peers.work import WINDOW
from bench.talk import turns

READS: Final = ("load", "last")
RUNS: Final = 3
LONG: Final = 100
"""Turns from which on reading is measured."""


class Places:
    """Sessions that stand just before a turn, each used for so few turns that it hardly moves."""

    def __init__(self, turn: int, calls: int) -> None:
        uses = max(1, turn // 10)
        self.turn = turn
        self.ids = [f"{turn}-{number}" for number in range(ceil(calls / uses))]
        self._next = chain.from_iterable(repeat(one, uses) for one in self.ids)

    def next(self) -> str:
        return next(self._next)


def cells(bench: Bench) -> Iterator[Cell]:
    backends: tuple[Backend, ...] = ("sqlite", "postgres")
    for backend in backends:
        entries = [entry for entry in bench.of(backend) if not entry.only_starts]
        if entries:
            with bench.guests(entries) as guests, ExitStack() as stack:
                unopened = {entry.key: stack.enter_context(bench.start(entry)) for entry in entries}
                for turn in bench.effort.turns:
                    yield from _at(turn, guests, unopened, bench.effort)


def _at(turn: int, guests: Sequence[Guest], unopened: dict[str, Peer], effort: Effort) -> Iterator[Cell]:
    log(f"history: turn {turn:,} on {guests[0].entry.backend}")
    kinds = max(len(guest.entry.kinds) for guest in guests)
    calls = kinds * (effort.rounds * effort.burst + effort.fresh)
    places = {guest.entry.key: Places(turn, calls) for guest in guests}
    past = turns(turn - 1)

    def prepare(guest: Guest) -> None:
        ids = places[guest.entry.key].ids
        guest.fill(ids, past, effort)
        guest.peer.ask("ready", *([one] for one in ids))
        guest.peer.ask("settle")

    why = together(prepare, guests)
    here = [guest for guest in guests if guest.entry.key not in why]
    yield from _turns(turn, here, places, effort)
    if turn >= LONG:
        for verb in READS:
            yield from _reads(verb, turn, here, effort)
    yield from _fresh(turn, here, unopened, places, effort)
    for guest in guests:
        if guest.entry.key in why:
            yield from _missing(guest, turn, why[guest.entry.key])


def _missing(guest: Guest, turn: int, why: str) -> Iterator[Cell]:
    for group in ("turn", "fresh", *(READS if turn >= LONG else ())):
        kinds: dict[str, tuple[Kind, ...]] = {"turn": guest.entry.kinds, "fresh": _main(guest)}
        for kind in kinds.get(group, ("turn",)):
            yield msgspec.structs.replace(cell(group, _case(turn), guest.entry, [], said=why), kind=kind)


def _case(turn: int) -> str:
    return f"turn {turn:,}"


def _turns(turn: int, guests: Sequence[Guest], places: dict[str, Places], effort: Effort) -> Iterator[Cell]:
    rows: list[tuple[Guest, Kind]] = [(guest, kind) for guest in guests for kind in guest.entry.kinds]
    samples: dict[tuple[str, Kind], list[float]] = {(guest.entry.key, kind): [] for guest, kind in rows}
    said: dict[tuple[str, Kind], str] = {}
    texts, chance = endless(1), Random(turn)
    for _ in range(effort.rounds):
        for guest, kind in chance.sample(rows, len(rows)):
            key = guest.entry.key, kind
            each = [[places[guest.entry.key].next(), *next(texts)] for _ in range(effort.burst)]
            try:
                answer = guest.peer.ask(kind, *each, upto=effort.visit)
            except Gone as error:
                guest.gone = said[key] = str(error)
                continue
            samples[key] += answer.took[1:] or answer.took
            if answer.refused:
                said[key] = answer.refused[0]
            elif kind == "turn" and answer.value < min(2 * (turn - 1), 2 * WINDOW):
                said[key] = f"it loaded {answer.value} messages only"
    for guest, kind in rows:
        key = guest.entry.key, kind
        made = cell("turn", _case(turn), guest.entry, samples[key], said=said.get(key, ""))
        yield msgspec.structs.replace(made, kind=kind)


def _reads(verb: str, turn: int, guests: Sequence[Guest], effort: Effort) -> Iterator[Cell]:
    samples: dict[str, list[float]] = {guest.entry.key: [] for guest in guests}
    said: dict[str, str] = {}
    chance = Random(turn)
    for _ in range(max(effort.rounds // 2, 1)):
        for guest in chance.sample(guests, len(guests)):
            key = guest.entry.key
            arguments = [f"{turn}-0", *([RUNS] if verb == "last" else [])]
            try:
                answer = guest.peer.ask(verb, *[arguments] * effort.burst, upto=effort.visit)
            except Gone as error:
                guest.gone = said[key] = str(error)
                continue
            samples[key] += answer.took[1:] or answer.took
            if answer.refused:
                said[key] = "none" if answer.refused[0] == "NotSupported" else answer.refused[0]
    for guest in guests:
        key = guest.entry.key
        yield cell(verb, _case(turn), guest.entry, samples[key], said=said.get(key, ""))


def _main(guest: Guest) -> tuple[Kind, ...]:
    return tuple(kind for kind in guest.entry.kinds if kind != "short")


def _fresh(
    turn: int, guests: Sequence[Guest], unopened: dict[str, Peer], places: dict[str, Places], effort: Effort
) -> Iterator[Cell]:
    rows: list[tuple[Guest, Kind]] = [(guest, kind) for guest in guests for kind in _main(guest)]
    samples: dict[tuple[str, Kind], list[float]] = {(guest.entry.key, kind): [] for guest, kind in rows}
    said: dict[tuple[str, Kind], str] = {}
    texts, chance = endless(2), Random(turn)
    for _ in range(effort.fresh):
        for guest, kind in chance.sample(rows, len(rows)):
            key = guest.entry.key, kind
            arguments = [places[guest.entry.key].next(), *next(texts)]
            try:
                answer = unopened[guest.entry.key].ask("fresh", arguments, address=guest.address, call=kind)
            except Gone as error:
                said[key] = str(error)
                continue
            samples[key] += answer.took
            if answer.refused:
                said[key] = answer.refused[0]
    for guest, kind in rows:
        key = guest.entry.key, kind
        made = cell("fresh", _case(turn), guest.entry, samples[key], said=said.get(key, ""))
        yield msgspec.structs.replace(made, kind=kind)
