"""A proxy before a Postgres server that counts round trips and cuts connections where a test says.

It reads the messages that pass in both directions (protocol 3), and knows which answer belongs to which batch: what a
client sends up to a Sync or a simple query is answered as a whole, and ends with ReadyForQuery. Encryption is declined,
so that there is something to read.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from postgres_server import url
from psycopg.conninfo import conninfo_to_dict

QUERY, SYNC, FLUSH, PARSE, BIND, READY = b"Q", b"S", b"H", b"P", b"B", b"Z"
COPY_ENDS = (b"c", b"f")
WAITS_FOR_MORE = (PARSE, BIND, b"D", b"E", b"C")
"""What a client says before it asks for an answer."""

CANCEL, SSL, GSS = 80877102, 80877103, 80877104
"""Codes that stand where a client's first message has the version of the protocol."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a client asked to have done at once: its statements, also those prepared before, by their SQL."""

    statements: tuple[str, ...]

    def has(self, text: str) -> bool:
        return any(text in statement for statement in self.statements)


Wanted = str | int | Callable[[Batch], bool]
"""Which batch is meant: the first that has a text in its SQL, the n-th from now, or the first that a function likes."""


def _matcher(wanted: Wanted) -> Callable[[Batch], bool]:
    if isinstance(wanted, str):
        return lambda batch: batch.has(wanted)
    if isinstance(wanted, int):
        numbers = itertools.count(1)
        return lambda _: next(numbers) == wanted
    return wanted


class Stop:
    """A place where one batch, or its answer, goes no further: for good, or until it is let go on."""

    def __init__(self, wanted: Wanted, *, answered: bool, cut: bool) -> None:
        self.matches, self.answered, self._cut = _matcher(wanted), answered, cut
        self._reached, self._released = threading.Event(), threading.Event()

    @property
    def reached(self) -> bool:
        return self._reached.is_set()

    def wait(self, seconds: float = 10) -> None:
        """Wait until the batch, or its answer, is here."""
        if not self._reached.wait(seconds):
            raise TimeoutError("no such batch came")

    def release(self) -> None:
        self._released.set()

    def passes(self) -> bool:
        """Whether it goes on after all; asked once, when it is here."""
        self._reached.set()
        if self._cut:
            return False
        self._released.wait()
        return True


class Messages:
    """The messages that come out of a socket."""

    def __init__(self, source: socket.socket) -> None:
        self._source, self._arrived = source, bytearray()

    def first(self) -> bytes:
        """A message of the time before the types of messages are used; empty at the end."""
        return self._take(0)

    def __iter__(self) -> Iterator[list[bytes]]:
        """As many messages as arrived whole, until the end."""
        while first := self._take(1):
            found = [first]
            while self._whole(1):
                found.append(self._take(1))
            yield found

    def _whole(self, skipped: int) -> int:
        """The length of the next message, if all of it is here."""
        if len(self._arrived) < skipped + 4:
            return 0
        length = skipped + int(struct.unpack_from("!i", self._arrived, skipped)[0])
        return length if len(self._arrived) >= length else 0

    def _take(self, skipped: int) -> bytes:
        while not (length := self._whole(skipped)):
            if not (more := self._source.recv(1 << 16)):
                return b""
            self._arrived += more
        taken = bytes(self._arrived[:length])
        del self._arrived[:length]
        return taken


class Link:
    """One client's connection, and the one to the server that was opened for it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._prepared: dict[bytes, str] = {}
        self._statements: list[str] = []
        self._last = b""
        self._asked: deque[Stop | None] = deque()
        self.thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._answers = threading.Thread(target=self._guarded, args=(self._from_server,), name="wire", daemon=True)

    def drop(self) -> None:
        """Hang up on both."""
        for side in (self._client, self._server):
            with suppress(OSError):  # it may have gone by itself
                side.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with self._client, self._server:
            self._answers.start()
            self._guarded(self._from_client)
            self._answers.join()

    def _guarded(self, pump: Callable[[], None]) -> None:
        with suppress(OSError):  # one of the two hung up
            pump()
        self.drop()

    def _send(self, receiver: socket.socket, messages: list[bytes]) -> None:
        self._proxy.flowing.wait()
        receiver.sendall(b"".join(messages))

    # From the client

    def _from_client(self) -> None:
        messages = Messages(self._client)
        first = self._greeting(messages)
        self._send(self._server, [first])
        waiting: list[bytes] = []
        for message in itertools.chain.from_iterable(messages):
            waiting.append(message)
            self._note(message)
            if message[:1] in WAITS_FOR_MORE:
                continue
            if not self._ask(waiting):
                return
            self._send(self._server, waiting)
            waiting = []

    def _greeting(self, messages: Messages) -> bytes:
        """What the client begins with, once it has heard that there is no encryption."""
        while (first := messages.first()) and struct.unpack_from("!i", first, 4)[0] in (SSL, GSS):
            self._send(self._client, [b"N"])
        if first and struct.unpack_from("!i", first, 4)[0] != CANCEL:
            self._proxy.count(connections=1)
        return first

    def _note(self, message: bytes) -> None:
        """Keep in mind which statements the message names."""
        kind, body = message[:1], message[5:]
        if kind == PARSE:
            name, text, _ = body.split(b"\0", 2)
            self._prepared[name] = text.decode(errors="replace")
            self._proxy.parsed.append(self._prepared[name])
        elif kind == BIND:
            _, name, _ = body.split(b"\0", 2)
            self._statements.append(self._prepared.get(name, ""))
        elif kind == QUERY:
            self._statements.append(body[:-1].decode(errors="replace"))

    def _ask(self, messages: list[bytes]) -> bool:
        """Take note that the client waits for an answer to these messages, and say whether they go to the server."""
        before, kind = self._last, messages[-1][:1]
        self._last = kind
        if kind == FLUSH and len(messages) > 1:  # psycopg's own after a Sync asks for nothing
            self._proxy.count(round_trips=1)
        of_copy = len(messages) == 1 and before in COPY_ENDS  # of two Syncs around its data, the server answers one
        if kind != QUERY and (kind != SYNC or of_copy):
            return True
        stop = self._proxy.meet(Batch(tuple(self._statements)))
        self._statements = []
        if stop and not stop.answered and not stop.passes():
            return False
        self._asked.append(stop if stop and stop.answered else None)
        return True

    # From the server

    def _from_server(self) -> None:
        kept: list[bytes] = []
        for messages in Messages(self._server):
            passed: list[bytes] = []
            for message in messages:
                kept.append(message)
                stop = self._asked[0] if self._asked else None
                if message[:1] == READY and self._asked:
                    self._asked.popleft()
                    self._proxy.count(round_trips=1)
                elif stop:
                    continue  # its answer is kept together
                if stop:
                    self._send(self._client, passed)
                    passed = []
                    if not stop.passes():
                        return
                passed += kept
                kept = []
            self._send(self._client, passed)


class Proxy:
    """A port on 127.0.0.1 that leads to the database of a DSN; ``dsn`` is the way through it.

    ``round_trips`` counts how often a client asked and was answered since it was connected: batches, and flushes within
    them. ``statements`` are the SQL of what was to be done, ``parsed`` of what was to be parsed for it, in order.
    """

    def __init__(self, dsn: str) -> None:
        self._target = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        self._lock = threading.Lock()
        self._links: list[Link] = []
        self._stops: list[Stop] = []
        self._every_stop: list[Stop] = []
        self._accepting: threading.Thread | None = None
        self.flowing = threading.Event()
        self.flowing.set()
        self.port = 0
        self.reset()

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self.flowing.set()
        for stop in self._every_stop:
            stop.release()
        for link in self._links:
            link.thread.join()

    @property
    def dsn(self) -> str:
        return url(**{**self._target, "host": "127.0.0.1", "port": str(self.port)})

    def reset(self) -> None:
        """Count from nothing again."""
        self.round_trips = self.connections = 0
        self.statements: list[str] = []
        self.parsed: list[str] = []

    # What a test may do to the network

    def cut_before(self, wanted: Wanted) -> Stop:
        """Hang up instead of passing a batch on: the server never hears of it. Once."""
        return self._add(Stop(wanted, answered=False, cut=True))

    def cut_after(self, wanted: Wanted) -> Stop:
        """Hang up when the server has answered a batch, so that it is done and its client never hears of it. Once."""
        return self._add(Stop(wanted, answered=True, cut=True))

    def hold_before(self, wanted: Wanted) -> Stop:
        """Keep a batch from the server until it is released. Once."""
        return self._add(Stop(wanted, answered=False, cut=False))

    def hold_after(self, wanted: Wanted) -> Stop:
        """Keep the answer to a batch from its client until it is released. Once."""
        return self._add(Stop(wanted, answered=True, cut=False))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let nothing pass for a while, in either direction."""
        self.flowing.clear()
        try:
            yield
        finally:
            self.flowing.set()

    def cut(self) -> None:
        """Hang up on everybody, now."""
        with self._lock:
            for link in self._links:
                link.drop()

    def refuse(self) -> None:
        """Hang up on everybody, and accept nobody until told to."""
        accepting, self._accepting = self._accepting, None
        if accepting:
            with suppress(OSError):  # somebody else came just now
                socket.create_connection(("127.0.0.1", self.port)).close()  # wakes who accepts
            accepting.join()
        self.cut()

    def accept(self) -> None:
        """Accept clients, on the same port as before."""
        listening = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(listening,), name="wire", daemon=True)
        self._accepting.start()

    # What the links tell

    def count(self, *, round_trips: int = 0, connections: int = 0) -> None:
        with self._lock:
            self.round_trips += round_trips
            self.connections += connections

    def meet(self, batch: Batch) -> Stop | None:
        """Take note of a batch; the stop that it comes to, which is then used up."""
        with self._lock:
            self.statements += batch.statements
            stop = next((stop for stop in self._stops if stop.matches(batch)), None)
            if stop:
                self._stops.remove(stop)
            return stop

    def _add(self, stop: Stop) -> Stop:
        with self._lock:
            self._stops.append(stop)
            self._every_stop.append(stop)
        return stop

    def _accept(self, listening: socket.socket) -> None:
        with listening:
            while True:
                client, _ = listening.accept()
                if self._accepting is not threading.current_thread():
                    client.close()
                    return
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = self._dial()
        except OSError:
            client.close()  # the server is not there, so neither are we
            return
        for side in (client, server):
            if side.family != socket.AF_UNIX:
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(self, client, server)
        with self._lock:
            self._links = [*(other for other in self._links if other.thread.is_alive()), link]
            link.thread.start()

    def _dial(self) -> socket.socket:
        host, port = self._target.get("host", "127.0.0.1"), self._target.get("port", "5432")
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(f"{host}/.s.PGSQL.{port}")
        except OSError:
            server.close()
            raise
        return server
