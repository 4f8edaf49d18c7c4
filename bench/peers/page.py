"""A page of twenty sessions among many, first and deep, and a session found by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

from bench.peers.bench import Bench, Effort, Guest, log, name, session_id, together
from bench.peers.process import Gone
from bench.peers.result import Cell, cell
from bench.peers.roster import Backend
from bench.peers.work import PAGE

CASES: Final = ("first page", "deep page", "by name")


def cells(bench: Bench) -> Iterator[Cell]:
    backends: tuple[Backend, ...] = ("sqlite", "postgres")
    for backend in backends:
        entries = [entry for entry in bench.of(backend) if not entry.is_variant and entry.key != "floor-delete"]
        if entries:
            with bench.guests(entries) as guests:
                before = 0
                for count in bench.effort.sessions:
                    yield from _among(before, count, guests, bench.effort)
                    before = count


def _among(before: int, count: int, guests: Sequence[Guest], effort: Effort) -> Iterator[Cell]:
    log(f"page: {count:,} sessions on {guests[0].entry.backend}")

    def prepare(guest: Guest) -> None:
        try:
            guest.list_sessions(before, count, effort)
        except BaseException as error:
            guest.gone = str(error)  # with fewer sessions than the others, it has no part in what follows
            raise
        guest.peer.ask("settle")

    why = together(prepare, guests)
    here = [guest for guest in guests if guest.entry.key not in why]
    for guest in guests:
        for case in CASES if guest.entry.key in why else ():
            said = why[guest.entry.key]
            yield cell("page", _case(case, count), guest.entry, [], said="none" if "no API" in said else said)
    for case in CASES:
        yield from _pages(case, count, here, effort)


def _case(case: str, count: int) -> str:
    return f"{case}, {count:,} sessions"


def _pages(case: str, count: int, guests: Sequence[Guest], effort: Effort) -> Iterator[Cell]:
    verb, arguments, wanted = _asked(case, count)
    samples: dict[str, list[float]] = {guest.entry.key: [] for guest in guests}
    said: dict[str, str] = {}
    chance = Random(count)
    for turn in range(effort.rounds + 1):
        for guest in chance.sample(guests, len(guests)):
            key = guest.entry.key
            try:
                answer = guest.peer.ask(verb, *[arguments] * effort.burst, upto=effort.visit)
            except Gone as error:
                guest.gone = said[key] = str(error)
                continue
            if turn:  # the first looks up where the page begins
                samples[key] += answer.took[1:] or answer.took
            if answer.refused:
                said[key] = "none" if answer.refused[0] == "NotSupported" else answer.refused[0]
            elif answer.value != wanted:
                said[key] = "in another order"
    for guest in guests:
        yield cell(
            "page", _case(case, count), guest.entry, samples[guest.entry.key], said=said.get(guest.entry.key, "")
        )


def _asked(case: str, count: int) -> tuple[str, list[Any], list[str]]:
    """The verb, its arguments, and the ids that should come."""
    if case == "by name":
        number = count // 2
        return "find", [name(number).partition(" and")[0]], [session_id(number)]
    skipped = 0 if case == "first page" else count - 2 * PAGE
    newest = count - 1 - skipped
    return "page", [skipped], [session_id(number) for number in range(newest, newest - PAGE, -1)]
