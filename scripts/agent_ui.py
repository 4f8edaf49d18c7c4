"""Start the real chat client of Agno against a Recollect server on this machine.

    python scripts/agent_ui.py                    # an agent that echoes, sessions in agent-ui.db
    python scripts/agent_ui.py main:agent         # agents of one's own, as recollect serve takes them

It needs Node.js with npx, and git. The client is fetched from its own repository on GitHub (agno-agi/agent-ui) into
``.agent-ui`` below this folder, and what it needs is installed there by npm; nothing of it is part of Recollect. Then
``recollect serve`` listens on port 7777 and the client on port 3000; both end with Ctrl-C.

Open http://localhost:3000. The endpoint is http://localhost:7777 already; put the token that is printed here into the
field for the auth token, at the left.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = "https://github.com/agno-agi/agent-ui.git"
FOLDER = Path(".agent-ui")


def main() -> None:
    """Fetch the client where it is not there yet, and start both."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("served", nargs="*", metavar="MODULE:NAME", help="agents and teams; else one that echoes")
    options.add_argument("--db", default="agent-ui.db", help="the database; a file or an address")
    given = options.parse_args()
    for needed in ("git", "npm", "npx"):
        if shutil.which(needed) is None:
            sys.exit(f"{needed} is not installed; the client needs git and Node.js")
    fetch()
    serving = subprocess.Popen([sys.executable, "-m", "recollect", "serve", "--db", given.db, *given.served])
    try:
        subprocess.run([found("npx"), "next", "dev", "-p", "3000"], cwd=FOLDER, check=False)
    except KeyboardInterrupt:
        pass
    finally:
        serving.terminate()
        serving.wait(30)


def fetch() -> None:
    """Fetch the client and what it needs, once."""
    if not FOLDER.exists():
        subprocess.run([found("git"), "clone", "--depth", "1", REPOSITORY, FOLDER], check=True)
    if not (FOLDER / "node_modules").exists():
        subprocess.run([found("npm"), "install", "--no-fund", "--no-audit"], cwd=FOLDER, check=True)


def found(program: str) -> str:
    """Where a program is; SystemExit where it is not."""
    return shutil.which(program) or sys.exit(f"{program} is not installed")


if __name__ == "__main__":
    main()
