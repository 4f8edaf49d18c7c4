"""``recollect doctor``: what the checks found, for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from recollect.checks import encode
from recollect.cli.database import Db, opened
from recollect.cli.screen import err, out, visible
from recollect.doctor import Finding, database, environment, healthy

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


def doctor(
    context: typer.Context,
    *,
    db: Db = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this environment and a database; nothing is changed.

    Exits with 0 when all is well (notes are no fault) and with 1 when there is a problem.
    """
    with err().status("checking"):
        findings = [*environment(), *database(opened(context, db))]
    if json:
        typer.echo(msgspec.json.format(encode(findings), indent=2))
    else:
        out().print(_table(findings))
    raise typer.Exit(0 if healthy(findings) else 1)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column("check", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("detail", overflow="fold")
    for finding in findings:
        places = [f"at {place}" for place in finding.examples]
        detail = "\n".join([finding.detail, *places])
        table.add_row(finding.check, Text(finding.status, STYLES[finding.status]), Text(visible(detail)))
    return table
