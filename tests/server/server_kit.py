"""What the tests of the server share: one behind real sockets, callers with tokens, and readers of its events."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2
from fastapi import FastAPI

from recollect import Message
from recollect.port import Delta, ModelRequest, Reply, World
from recollect.server import Caller
from recollect.server.listening import Server, listener_at
from recollect.server.service import Service

T = TypeVar("T")

CALLERS = {
    "alices-token": Caller("alice"),
    "bobs-token": Caller("bob"),
    "supports-token": Caller("sam", frozenset({"support"})),
    "admins-token": Caller("root", frozenset({"admin"})),
}
TOKENS = {"alice": "alices-token", "bob": "bobs-token", "support": "supports-token", "admin": "admins-token"}


class Served:
    """An application behind uvicorn, in a thread of its own."""

    def __init__(self, app: FastAPI, grace: float = 2.0) -> None:
        self.app = app
        self.service: Service = app.state.recollect
        self._server = Server(app, grace)
        self._listener = listener_at("127.0.0.1", 0)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self._server.serve(sockets=[self._listener])

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server did not end"

    def shrink(self, size: int) -> None:
        """Have connections that are yet to come hold no more than this, so that a slow reader is noticed soon."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def call(self, work: Coroutine[Any, Any, T], timeout: float = 10.0) -> T:
        """Run something in the server's own loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def client(self, who: str | None = "alice", **options: Any) -> httpx2.Client:
        """Somebody who speaks to the server; None has no token."""
        headers = {} if who is None else {"Authorization": f"Bearer {TOKENS.get(who, who)}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=20, verify=False, **options)

    async def under_way(self) -> int:
        return len(self.service.under_way)

    async def tasks(self) -> list[str]:
        """The tasks of the server's loop, without that of the server itself and this one."""
        return [repr(task) for task in asyncio.all_tasks() if "_serve" not in repr(task) and "tasks" not in repr(task)]


@contextmanager
def serving(app: FastAPI, grace: float = 2.0) -> Iterator[Served]:
    served = Served(app, grace)
    served.start()
    try:
        yield served
    finally:
        served.stop()


PAGE = {"Accept": "text/html,application/xhtml+xml"}

OWN = {"Sec-Fetch-Site": "same-origin"}
"""What a browser sends along with a form of the server's own page."""


@contextmanager
def browser(served: Served, **options: Any) -> Iterator[httpx2.Client]:
    """Somebody who wants pages, keeps cookies and has no token."""
    with served.client(None, **options) as client:
        client.headers.update(PAGE)
        yield client


@contextmanager
def signed_in(served: Served, token: str = TOKENS["alice"]) -> Iterator[httpx2.Client]:
    """Somebody who came by the address that is printed at the start."""
    with browser(served) as client:
        assert client.get("/", params={"token": token}).status_code == 303
        yield client


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events in a text, each as its name and its data."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        if "event" in fields:  # an id alone tells nothing
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def said(client: httpx2.Client, message: str = "Hi", where: str = "/agents/desk/runs", **fields: Any) -> Any:
    """A run, streamed to its end: its events."""
    answer = client.post(where, data={"message": message, **fields})
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


def look(at: str) -> str:
    """Look at something.

    Args:
        at: what to look at
    """
    if at == "nothing":
        msg = "there is nothing to be seen"
        raise ValueError(msg)
    return f"seen {at}"


class SlowModel:
    """Says a word again and again, with a pause before each, and nothing while it is ``held``."""

    id = "slow"
    provider = "test"

    def __init__(self, words: int = 3, pause: float = 0.01, word: str = "word ") -> None:
        self.words, self.pause, self.word = words, pause, word
        self.held = False
        self.said = 0
        self.asked = threading.Event()

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        self.asked.set()
        for _ in range(self.words):
            await world.sleep(self.pause)
            while self.held:
                await world.sleep(self.pause)
            self.said += 1
            yield Delta(self.word)
        yield Reply(Message("assistant", self.word * self.words))


class BrokenModel:
    """Fails as a provider does, or as nobody foresaw."""

    id = "broken"
    provider = "test"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        raise self.error
        yield
