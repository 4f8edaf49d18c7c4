"""The work that is asked of every peer: the same verbs, done through the peer's own public API.

A peer's file has a table ``STORES``, which names each way it has to keep conversations. Nothing here, nor in a peer's
file, knows Recollect or the driver: a worker runs in the peer's own environment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

WINDOW: Final = 50
"""Turns of the past that a model is shown, where the peer can be told."""

PAGE: Final = 20

Said = Sequence[tuple[str, str]]
"""Questions and their answers."""


class NotSupported(Exception):
    """The peer's public API has no call for this."""


class Store:
    """One way to keep conversations, opened at a file or a URL. A verb that is not overridden is one it has no API for.

    What models are asked is answered with `reply`, at once; with ``held``, that is called instead, and never returns.
    """

    NEEDS: tuple[str, ...] = ()
    """Modules that it needs beside those that its file imports, the driver of its database among them."""
    BULK = False
    """Whether `seed` takes any number of turns in one call of the peer's."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.reply = ""
        self.held: Callable[[], None] | None = None

    def answer(self) -> str:
        """What the stub of a model says."""
        if self.held is not None:
            self.held()
        return self.reply

    def ready(self, session_id: str) -> None:
        """Make what the peer keeps for a session in memory between its turns; never timed."""

    def seed(self, session_id: str, said: Said) -> None:
        """Store turns that were had, at the end of a session, as quickly as the public API lets one."""
        raise NotSupported

    def turn(self, session_id: str, question: str, answer: str) -> int:
        """Load what a model needs, store both texts; how many messages were loaded."""
        raise NotSupported

    def run(self, session_id: str, question: str, answer: str) -> object:
        """A whole turn by the peer's own runtime, with a stub for the model."""
        raise NotSupported

    def short(self, session_id: str, question: str, answer: str) -> object:
        """As `run`, with the history that the runtime has by default, where that is shorter than `WINDOW`."""
        raise NotSupported

    def load(self, session_id: str) -> int:
        """The whole session, as the peer's own objects; how many messages there are."""
        return len(self.texts(session_id))

    def last(self, session_id: str, runs: int) -> int:
        """The newest turns; how many messages they have."""
        raise NotSupported

    def texts(self, session_id: str) -> list[str]:
        """What was said in the session, in order."""
        raise NotSupported

    def sessions(self, named: Sequence[tuple[str, str, int]]) -> None:
        """Make sessions without turns: ids, names, and when they were last active, in seconds of the epoch."""
        raise NotSupported

    def page(self, skipped: int) -> list[str]:
        """The ids of twenty sessions, newest activity first, after so many."""
        raise NotSupported

    def find(self, name: str) -> list[str]:
        """The ids of up to twenty sessions with this in their name."""
        raise NotSupported

    def keep(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Store a conversation that has tools in it, given as the messages of chat completions."""
        raise NotSupported

    def status(self, session_id: str) -> str:
        """What the peer calls the newest turn."""
        raise NotSupported

    def settings(self) -> dict[str, str]:
        """``journal_mode`` and ``synchronous`` of SQLite, as the peer's own connection has them."""
        raise NotSupported

    def close(self) -> None:
        """Let go of the database."""


SYNCHRONOUS: Final = ("off", "normal", "full", "extra")


def pragmas(execute: Callable[[str], Any]) -> dict[str, str]:
    """What a connection says of itself; ``execute`` gives the first column of the first row."""
    synchronous = SYNCHRONOUS[int(execute("pragma synchronous"))]
    return {"journal_mode": str(execute("pragma journal_mode")), "synchronous": synchronous}


def turns_of(messages: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """The prompt of a conversation, and its turns; each user message begins one."""
    prompt: list[dict[str, Any]] = []
    turns: list[list[dict[str, Any]]] = []
    for message in messages:
        if message["role"] == "system":
            prompt = [message]
        elif message["role"] == "user" or not turns:
            turns.append([message])
        else:
            turns[-1].append(message)
    return prompt, turns
