"""Start the real chat client of Agno against a Recollect server on this machine.

    python scripts/agent_ui.py                       # the agent of `recollect serve`, sessions in agent-ui.db
    python scripts/agent_ui.py main:desk main:crew   # agents and teams of one's own, as recollect serve takes them
    python scripts/agent_ui.py --client ../agent-ui  # with the client from a folder it was fetched to before

It needs a Python that has ``recollect[server,cli]``, Node.js, and Linux or macOS. The client is fetched with git from
its own repository on GitHub (agno-agi/agent-ui) into ``.agent-ui``, and what it needs is installed there by pnpm, in
the versions that it names; nothing of it is part of Recollect. Then ``recollect serve`` listens on port 7777 and the
client on port 3000, both on this machine alone. Ctrl-C ends both; so does the end of either.

Open http://localhost:3000. The client asks http://localhost:7777 unless it is told otherwise there, and is given the
token (``RECOLLECT_TOKEN``, else a new one) in its own environment variable. Its fonts come from the network; without
one it waits some seconds for them, and takes others.
"""

import argparse
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

REPOSITORY = "https://github.com/agno-agi/agent-ui.git"
FOLDER = Path(".agent-ui")
PNPM = "pnpm@9"
"""Reads the client's list of pinned packages."""
INSTALLED = (".modules.yaml", ".package-lock.json", ".yarn-integrity")
"""What pnpm, npm and yarn write to node_modules when all is there."""
NEXT = Path("node_modules/next/dist/bin/next")
ENDPOINT = 7777
"""The port that the client asks unless it is told otherwise in the page; no variable of its environment says so."""
PATIENCE = 30.0
"""Seconds for the server to listen, and for either to end."""
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Fetch the client where it is not there yet, and run both until one of them ends."""
    given = options()
    if importlib.util.find_spec("recollect") is None:
        sys.exit(f"recollect is not installed for {sys.executable}; start this script with the Python that has it")
    folder = client(given.client)
    for ending in ENDINGS:
        signal.signal(ending, signal.default_int_handler)
    token = os.environ.get("RECOLLECT_TOKEN") or secrets.token_urlsafe(24)
    with suppress(KeyboardInterrupt), ExitStack() as running:
        server = running.enter_context(started(serving(given), {"RECOLLECT_TOKEN": token}))
        wait_for(server, given.port)
        # The token becomes part of its pages, so the client listens on this machine alone.
        variables = {"NEXT_PUBLIC_OS_SECURITY_KEY": token, "NEXT_TELEMETRY_DISABLED": "1"}
        shown = running.enter_context(started(showing(given), variables, folder))
        tell(given, None if os.environ.get("RECOLLECT_TOKEN") else token)
        while server.poll() is None and shown.poll() is None:
            time.sleep(0.2)
        sys.exit(f"the {'client' if server.poll() is None else 'server'} has ended")


def serving(given: argparse.Namespace) -> list[str]:
    """The command of the server."""
    origins = [f"--cors-origin=http://{host}:{given.page_port}" for host in ("localhost", "127.0.0.1")]
    where = [f"--db={given.db}", f"--port={given.port}", "--grace=3"]
    return [sys.executable, "-m", "recollect", "serve", *where, *origins, *given.served]


def showing(given: argparse.Namespace) -> list[str]:
    """The command of the client, in its folder."""
    return [found("node"), str(NEXT), "dev", "--port", str(given.page_port), "--hostname", "127.0.0.1"]


def tell(given: argparse.Namespace, token: str | None) -> None:
    """Say where the client is, and what has to be done there."""
    if token is not None:
        print(f"  token:   {token} (the client has it)")
    print(f"  client:  http://localhost:{given.page_port}")
    if given.port != ENDPOINT:
        print(f"           change its endpoint, at the left, to http://localhost:{given.port}")
    sys.stdout.flush()


def options() -> argparse.Namespace:
    """What was given on the command line."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("served", nargs="*", metavar="MODULE:NAME", help="agents and teams, else one that answers")
    asked.add_argument("--db", default="agent-ui.db", help="the database, a file or an address (%(default)s)")
    asked.add_argument("--client", type=Path, metavar="FOLDER", help="the client, where it is there already")
    asked.add_argument("--port", type=int, default=ENDPOINT, help="the server's port (%(default)s)")
    asked.add_argument("--page-port", type=int, default=3000, help="the client's port (%(default)s)")
    return asked.parse_args()


def client(folder: Path | None) -> Path:
    """The client's folder, with all that it needs; fetched, unless one is given."""
    if folder is None and not FOLDER.exists():
        run(
            [found("git"), "clone", "--depth", "1", REPOSITORY, str(FOLDER)],
            "fetch it elsewhere, and say --client FOLDER",
        )
    folder = folder or FOLDER
    if not (folder / "package.json").is_file():
        sys.exit(f"{folder} does not hold the client: there is no package.json in it")
    if not any((folder / "node_modules" / name).exists() for name in INSTALLED):
        install = [found("npx"), "--yes", PNPM, "install", "--frozen-lockfile"]
        run(install, f"install what the client needs in {folder} by hand, and start this again", folder)
    return folder


def run(command: Sequence[str], otherwise: str, folder: Path | None = None) -> None:
    """Run a program to its end; SystemExit where it fails, with what can be done instead."""
    if subprocess.run(command, cwd=folder, check=False).returncode != 0:
        sys.exit(f"{' '.join(command)} failed; {otherwise}")


def found(program: str) -> str:
    """Where a program is; SystemExit where it is not."""
    return shutil.which(program) or sys.exit(f"{program} is not installed; the client needs git and Node.js")


@contextmanager
def started(
    command: Sequence[str], variables: Mapping[str, str], folder: Path | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """A process, ended with all that it has started when the block is left.

    It has a group of its own: Ctrl-C reaches this script alone, which then ends each of them once, in order.
    """
    process = subprocess.Popen(command, cwd=folder, env=os.environ | variables, start_new_session=True)
    try:
        yield process
    finally:
        for impatience in ENDINGS:
            signal.signal(impatience, signal.SIG_IGN)
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):  # all of it has ended
                os.killpg(process.pid, ending)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)


def wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers; SystemExit where it does not."""
    until = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < until:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
            return
        time.sleep(0.1)
    sys.exit(f"the server does not answer on port {port}")


if __name__ == "__main__":
    main()
