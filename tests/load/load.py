"""Load on a server: streams, idle listeners, slow readers and clients that vanish, all at once.

Afterwards memory must be flat, no task left, and every run stored as its client was told. Run by `make load`; a short
form of it is among the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from recollect import RunStatus, SqliteDb
from recollect.run import RunOutput

WARM = 0.3
"""The part of the time after which memory is looked at for the first time."""

LOOKS = 12
"""How often it is looked at from then on. What runs of megabytes take while they are told comes and goes."""

ROOM = 24 * 1024 * 1024
"""Bytes by which it may differ at the end: what was allocated and given back is not all returned to the system."""


class Load(msgspec.Struct, kw_only=True):
    """How much is asked of the server, and what came of it."""

    streams: int
    listeners: int
    """Who listen for changes, and hear of none."""
    followers: int
    """Who hear of every change there is."""
    slow: int
    vanishing: int
    seconds: float
    completed: dict[str, str] = {}
    """What clients were told of runs that were completed, by the ids of their sessions."""
    heard: list[set[str]] = []
    """The sessions that each follower was told of, ``reset`` among them where it was told to read anew."""
    vanished: int = 0
    dropped: int = 0
    """Streams that were ended because nobody read them."""
    memory: list[int] = []
    problems: list[str] = []


class Client:
    """A connection to the server, by plain HTTP/1.1."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def opened(self, buffer: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        made = socket.socket()
        if buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.settimeout(0)
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self._port))
        return await asyncio.open_connection(sock=made, limit=buffer or 65536)

    async def get(self, path: str) -> Any:
        reader, writer = await self.opened()
        writer.write(_head("GET", path) + b"Connection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    async def asked(self, message: str, buffer: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A run that was asked for, to be read."""
        reader, writer = await self.opened(buffer)
        body = f"message={message}".encode()
        head = (
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        )
        writer.write(_head("POST", "/agents/desk/runs") + head.encode() + b"\r\n" + body)
        return reader, writer


def _head(method: str, path: str, who: str = "busy") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {who}\r\n".encode()


async def put_on(load: Load, port: int) -> None:
    """Ask the server for all of it, for so long."""
    client = Client(port)
    before = await client.get("/look")
    end = time.monotonic() + load.seconds
    listening = [asyncio.ensure_future(_listen(client)) for _ in range(load.listeners)]
    listening += [asyncio.ensure_future(_follow(load, client)) for _ in range(load.followers)]
    working = [
        *(_talk(load, client, end, number) for number in range(load.streams)),
        *(_read_slowly(load, client, end, number) for number in range(load.slow)),
        *(_vanish(load, client, end, number) for number in range(load.vanishing)),
        _look(load, client),
    ]
    for done in await asyncio.gather(*working, return_exceptions=True):
        if isinstance(done, BaseException):
            load.problems.append(f"a client failed: {done!r}")
    await _settled(load, client, load.listeners + load.followers, "beside those who listen")
    await asyncio.sleep(1)  # the time in which followers are told of the last changes
    for listener in listening:
        if listener.done():
            load.problems.append(f"a listener was cut off: {listener!r}")
        listener.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    await _settled(load, client, 0, "when all have left")
    after = await client.get("/look")
    if after["tasks"] > before["tasks"]:
        load.problems.append(f"{after['tasks'] - before['tasks']} tasks are left")
    floor = min(load.memory[: LOOKS // 3], default=0)
    for when, size in (
        ("at last", min(load.memory[-LOOKS // 3 :], default=0)),
        ("when all have left", after["memory"]),
    ):
        if size > floor + ROOM:
            load.problems.append(f"memory came back to {floor >> 20} MiB at first, and {when} to {size >> 20}")


async def _look(load: Load, client: Client) -> None:
    """Look at the server's memory, once it is warm and then again and again."""
    await asyncio.sleep(load.seconds * WARM)
    for _ in range(LOOKS):
        load.memory.append((await client.get("/look"))["memory"])
        await asyncio.sleep(load.seconds * (1 - WARM) / LOOKS)


async def _settled(load: Load, client: Client, count: int, when: str) -> None:
    for _ in range(200):
        found = (await client.get("/look"))["under_way"]
        if found == count:
            return
        await asyncio.sleep(0.05)
    load.problems.append(f"{found} requests are under way {when}, not {count}")


async def _listen(client: Client) -> None:
    reader, writer = await client.opened()
    try:
        writer.write(_head("GET", "/v1/events", "idle") + b"\r\n")
        while await reader.read(4096):
            pass
    finally:
        writer.close()


async def _follow(load: Load, client: Client) -> None:
    heard: set[str] = set()
    load.heard.append(heard)
    reader, writer = await client.opened()
    try:
        writer.write(_head("GET", "/v1/events") + b"\r\n")
        while line := await reader.readline():
            if line.startswith(b"data: "):
                heard.add(json.loads(line.removeprefix(b"data: "))["session_id"] or "reset")
    finally:
        writer.close()


async def _talk(load: Load, client: Client, end: float, number: int) -> None:
    turn = 0
    while time.monotonic() < end:
        reader, writer = await client.asked(f"{number}.{turn}")
        try:
            _note(load, await reader.read())
        finally:
            writer.close()
        turn += 1


async def _read_slowly(load: Load, client: Client, end: float, number: int) -> None:
    """Read a little now and then; every other one reads nothing at all, until it is let go of."""
    while time.monotonic() < end:
        reader, writer = await client.asked("more" if number % 2 else "much", buffer=4096)
        came = b""
        with contextlib.suppress(ConnectionError):
            if number % 2:
                await asyncio.sleep(4)
            while piece := await reader.read(16384):
                came += piece
                await asyncio.sleep(0.002)
        writer.close()
        if b"event: RunCompleted" in came:
            _note(load, came)
        else:
            load.dropped += 1


async def _vanish(load: Load, client: Client, end: float, number: int) -> None:
    while time.monotonic() < end:
        reader, writer = await client.asked(f"vanishing {number}")
        await reader.readuntil(b"RunContent")
        writer.transport.abort()
        load.vanished += 1
        await asyncio.sleep(0.05)


def _note(load: Load, answer: bytes) -> None:
    """Write down what a client was told."""
    for line in answer.splitlines():
        if line.startswith(b"data: "):
            told = json.loads(line.removeprefix(b"data: "))
            if told["event"] == "RunCompleted" and told["status"] == "COMPLETED":
                load.completed[told["session_id"]] = told["content"]
                return
    load.problems.append(f"a run did not end: {answer[-300:]!r}")


def judge(load: Load, db: SqliteDb) -> None:
    """Hold what is stored against what was told."""
    stored = {header.session_id: db.get_last_run(header.session_id) for header in db.iter_sessions()}
    for session_id, content in load.completed.items():
        run = stored.get(session_id)
        if run is None or run.status is not RunStatus.completed or run.content != content:
            load.problems.append(f"the run in {session_id} was told to be completed, and is stored as {run!r}")
    for heard in load.heard:
        if "reset" not in heard and (missed := load.completed.keys() - heard):
            load.problems.append(f"a follower was not told of {len(missed)} sessions")
    for run in stored.values():
        if run is not None:
            load.problems += _wrong(run)


def _wrong(run: RunOutput) -> Sequence[str]:
    """What is wrong with a run that nobody works on any more."""
    if run.status not in (RunStatus.completed, RunStatus.cancelled):
        return [f"run {run.run_id} is stored as {run.status}"]
    return [] if run.said and run.said[0].role == "user" else [f"run {run.run_id} lost its question"]


@contextlib.asynccontextmanager
async def _server(file: Path) -> AsyncIterator[int]:
    script = Path(__file__).with_name("load_server.py")
    process = await asyncio.create_subprocess_exec(sys.executable, script, file, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        port = int((await process.stderr.readline()).rpartition(b":")[2])
        rest = asyncio.ensure_future(process.stderr.read())
        yield port
        process.terminate()
        async with asyncio.timeout(60):
            code = await process.wait()
        assert code == 0, f"the server ended with {code}: {(await rest).decode()[-2000:]}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def run(load: Load) -> Load:
    """Start a server, put the load on it, end it, and judge."""
    _many_files()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "load.db"
        async with _server(file) as port:
            await put_on(load, port)
        with SqliteDb(file) as db:
            judge(load, db)
    return load


def _many_files() -> None:
    """Let this process and those it starts have as many connections as the system allows."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Put load on a server, and say what came of it."""
    options = argparse.ArgumentParser(description=__doc__)
    defaults = {"streams": 200, "listeners": 1000, "followers": 5, "slow": 10, "vanishing": 20, "seconds": 60}
    for name, default in defaults.items():
        options.add_argument(f"--{name}", type=int, default=default)
    load = asyncio.run(run(Load(**vars(options.parse_args()))))
    heard = ", ".join(f"{len(heard)}" for heard in load.heard)
    counts = f"{len(load.completed)} runs completed, {load.vanished} clients vanished, {load.dropped} streams not read"
    memory = f"memory {[size >> 20 for size in load.memory]} MiB"
    told = [
        f"{counts}; {memory}; followers heard of {heard} sessions",
        *(f"  {problem}" for problem in load.problems[:20]),
    ]
    sys.stdout.write("\n".join([*told, ""]))
    sys.exit(1 if load.problems else 0)


if __name__ == "__main__":
    main()
