"""The command ``recollect``: what is typed is parsed, the library is called, and what it says is shown."""

from __future__ import annotations

import io
import sys

from recollect.errors import ExtraMissing


def main() -> None:
    """Run the command; without what it needs, say what to install."""
    try:
        from recollect.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write(f"{ExtraMissing('cli', 'the command recollect')}\n")
        sys.exit(1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # better a "?" on an old terminal than no answer
    app(prog_name="recollect")
