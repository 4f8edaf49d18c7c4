"""Conversations that come in, whatever from: all checked, then stored one by one, with an account of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec
import typer

from recollect.checks import encode
from recollect.cli.screen import aside, plural, say
from recollect.errors import Conflict, InvalidArgument, RunConflict, SessionNotFound
from recollect.session import AgentSession
from recollect.store import Store
from recollect.transfer import fit

LISTED: Final = 20
"""Bad ones that are named; the rest are counted."""

Bad = tuple[int, str]
"""The place of what is bad, and where it is and why, in words."""


class Item(msgspec.Struct, frozen=True):
    """A conversation that was read: as it is to be stored, and what is bad about it."""

    place: int
    where: str
    """Where it is, in words: ``line 3``."""
    session: AgentSession | None
    problems: tuple[str, ...] = ()
    runs: Mapping[str, int] = {}
    """How many messages its runs have where it comes from, by their ids; empty where that is not known."""


class Tally:
    """What became of the conversations."""

    noun: ClassVar[str] = "line"
    """What one of them is where they come from."""
    source: ClassVar[str] = "the file"
    """What they come from."""

    def __init__(self) -> None:
        self.new = self.grown = self.same = self.runs = 0

    def __str__(self) -> str:
        told = [f"{plural(self.new, 'session')} new"]
        told += [f"{self.grown:,} grown"] if self.grown else []
        told += [f"{self.same:,} stored already"] if self.same else []
        return ", ".join(told) + f" ({plural(self.runs, 'run')} added)"

    @property
    def is_whole(self) -> bool:
        """Whether what was to be stored is there."""
        return True

    def add(self, store: Store, item: Item) -> None:
        """Store a conversation."""
        assert item.session is not None
        before = store.get_header(item.session.session_id)
        after = store.upsert_session(fit(item.session, before))
        if before is None:
            self.new += 1
        elif after.version == before.version:
            self.same += 1
        else:
            self.grown += 1
        self.runs += after.run_count - (0 if before is None else before.run_count)

    def report(self) -> dict[str, Any]:
        """The account, for scripts."""
        return {"new": self.new, "grown": self.grown, "same": self.same, "runs": self.runs}

    def tell(self) -> None:
        """Say what became of them."""
        say(str(self))


def check(items: Iterable[Item]) -> list[Bad]:
    """What is bad."""
    return [(item.place, f"{item.where}: {problem}") for item in items for problem in item.problems]


def refuse_bad(bad: Sequence[Bad], tally: Tally, *, skip_bad: bool) -> None:
    """End here where something is bad, unless that is to be passed over.

    Raises:
        typer.Exit: so it is.
    """
    if bad and not skip_bad:
        _list_bad(bad, tally.noun)
        aside(f"nothing was stored; mend {tally.source}, or pass over these {tally.noun}s with --skip-bad", "red")
        raise typer.Exit(1)


def store_all(store: Store, items: Iterable[Item], tally: Tally, bad: list[Bad], *, skip_bad: bool, json: bool) -> None:
    """Store conversations; whatever happens, say how far it came.

    Raises:
        typer.Exit: it was stopped, one does not fit, or not all of it is there now.
    """
    unfit = False
    try:
        for item in items:
            if item.session is None:
                continue
            try:
                tally.add(store, item)
            except (Conflict, SessionNotFound, InvalidArgument) as error:
                bad.append((item.place, f"{item.where}: {_unfit(item.session, error, tally)}"))
                unfit = True
                if not skip_bad:
                    break
    except KeyboardInterrupt:
        aside(f"stopped: {tally}; the same command goes on from here", "yellow")
        raise typer.Exit(130) from None
    except BaseException:  # whatever ends it, what was done is told
        aside(f"broken off: {tally}", "yellow")
        raise
    _list_bad(sorted(bad), tally.noun)
    _tell(tally, bad, json=json)
    if unfit and not skip_bad:
        aside(f"stopped there; --skip-bad passes over such {tally.noun}s", "red")
        raise typer.Exit(4)
    if not tally.is_whole:
        raise typer.Exit(1)


def _tell(tally: Tally, bad: Sequence[Bad], *, json: bool) -> None:
    if json:
        typer.echo(encode(tally.report() | {"bad": [reason for _, reason in sorted(bad)]}))
    else:
        tally.tell()


def _unfit(session: AgentSession, error: Exception, tally: Tally) -> str:
    if not isinstance(error, RunConflict):
        return str(error)
    return (
        f"conversation {session.session_id!r} does not continue what is stored of it, which is never replaced: in "
        f"{tally.source}, a stored run has other messages, or more of them. Delete the session and import it anew, "
        "or rename one"
    )


def _list_bad(bad: Sequence[Bad], noun: str) -> None:
    for _, reason in bad[:LISTED]:
        aside(reason, "red")
    if len(bad) > LISTED:
        aside(f"... and {plural(len(bad) - LISTED, f'more bad {noun}')}", "red")
