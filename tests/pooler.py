"""pgbouncer before the tests' server: a connection of a client's own is one of the server's only for a transaction."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from postgres_server import GivenServer, Keeper, PostgresServer, free_port, own, private_folder, url
from psycopg.conninfo import conninfo_to_dict

PREPARES_SINCE = (1, 21)
"""The version of pgbouncer that knows what its clients prepared."""

SETTINGS = """
[databases]
* = {target}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 500
# The next transaction of a client gets another connection, where there is one. What leans on the last one then fails.
server_round_robin = 1
"""


@functools.cache
def program() -> str | None:
    """The path of pgbouncer, or None when this machine has none."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


def missing() -> str | None:
    """Why there is no pooler to test with; None when there is one."""
    return None if program() else "no pgbouncer on PATH or in /usr/sbin"


def header() -> str:
    """A line for pytest's header."""
    if reason := missing():
        return f"pgbouncer MISSING, its tests are skipped: {reason}"
    return f"pgbouncer {'.'.join(map(str, version()))}"


@functools.cache
def version() -> tuple[int, ...]:
    told = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True).stdout
    numbers = re.search(r"(\d+)\.(\d+)", told)
    assert numbers, told
    return tuple(int(number) for number in numbers.groups())


def needed(*, prepares: bool = False) -> None:
    """Skip the test that asks when there is no pgbouncer, or none that handles prepared statements."""
    if reason := missing():
        pytest.skip(reason)
    if prepares and version() < PREPARES_SINCE:
        pytest.skip(f"pgbouncer {version()} does not follow prepared statements")


@contextmanager
def pooler(
    server: PostgresServer | GivenServer, *, size: int = 4, max_prepared_statements: int = 0
) -> Iterator[Callable[[str], str]]:
    """Run pgbouncer before a server; gives the function that turns a DSN of the server into one through the pooler."""
    folder, port = private_folder(), free_port()
    settings = SETTINGS.format(target=_target(server.dsn()), port=port, size=size)
    if version() >= PREPARES_SINCE:
        settings += f"max_prepared_statements = {max_prepared_statements}\n"
    config = _written(folder / "pgbouncer.ini", settings)
    keeper = Keeper(folder, folder / "log", _program(), config, last="KILL")  # versions differ in what others mean

    def through(dsn: str) -> str:
        given = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        return url(**{**given, "host": "127.0.0.1", "port": str(port)})

    try:
        _wait_until_ready(keeper, through(server.dsn()), folder / "log")
        yield through
    finally:
        keeper.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _program() -> str:
    found = program()
    if found is None:
        raise RuntimeError(missing())
    return found


def _target(dsn: str) -> str:
    """Where pgbouncer goes, and as whom, in its own spelling."""
    given = conninfo_to_dict(dsn)
    parts = {name: str(given[name]) for name in ("host", "port", "user", "password") if given.get(name)}
    return " ".join(f"{name}='{value.replace(chr(39), chr(39) * 2)}'" for name, value in parts.items())


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return own(path)


def _wait_until_ready(keeper: Keeper, dsn: str, log: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError as problem:
            if keeper.ended(within=0.01) or time.monotonic() > deadline:
                raise RuntimeError(f"pgbouncer did not start:\n{log.read_text()}") from problem
        else:
            return
