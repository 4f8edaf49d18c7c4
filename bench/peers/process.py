"""A worker as the driver sees it: asked for one thing at a time, within a time, and ended in the end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from bench.children import ROOT

QUIET: Final = {
    "AGNO_TELEMETRY": "false",
    "LANGSMITH_TRACING": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "PYTHONWARNINGS": "ignore",
    "RECOLLECT_TIKTOKEN": "off",
}
"""Nothing is sent anywhere."""
DROPPED: Final = ("PYTHONDONTWRITEBYTECODE", "OPENAI_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY")
PATIENCE: Final = 300.0
"""Seconds for which one answer is waited for."""


class Gone(Exception):
    """A worker ended, or did not answer in time; it is no longer there."""


class Answer(msgspec.Struct, frozen=True):
    """What a worker says to a request."""

    seconds: list[float | None] = []
    """What each call took; None where it failed."""
    refused: list[str] = []
    """The names of the errors."""
    value: Any = None
    cpu: float = 0.0
    rss: float = 0.0

    @property
    def took(self) -> list[float]:
        """Of the calls that did not fail."""
        return [one for one in self.seconds if one is not None]


class Peer:
    """A worker process with one store of one peer. It is waited for when it is first asked, not when it is started."""

    def __init__(self, python: Path, module: str, store: str, log: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [python, "-m", "bench.peers.worker", module, store],
                cwd=ROOT,
                env=kept | QUIET,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        self._is_up = False

    def _greeted(self) -> None:
        """Have read its first line, which it says when it has imported everything."""
        if not self._is_up:
            self._read(PATIENCE)
            self._is_up = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, verb: str, *each: list[Any], patience: float = PATIENCE, **more: object) -> Answer:
        """Have a verb called with each list of arguments."""
        self.send(verb, *each, **more)
        return self._read(patience)

    def send(self, verb: str, *each: list[Any], **more: object) -> None:
        """Ask, without waiting for the answer."""
        self._greeted()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode({"do": verb, "each": each, **more}) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Gone("it had ended") from None

    def answer(self, patience: float = PATIENCE) -> Answer:
        """The answer to what was sent."""
        return self._read(patience)

    def open(self, address: str) -> Answer:
        opened = self.ask("open", address=address)
        if opened.refused:
            raise Gone(f"it could not open its database: {opened.refused[0]}")
        return opened

    def _read(self, patience: float) -> Answer:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], patience)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.kill()
            raise Gone("it ended" if ready else f"no answer within {patience:.0f} s")
        return msgspec.json.decode(line, type=Answer)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.send_signal(signal.SIGKILL)
        self._end()

    def close(self) -> None:
        """Let it close its database and end."""
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
