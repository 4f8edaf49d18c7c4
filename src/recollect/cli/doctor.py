"""``recollect doctor``: what the checks found, for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from recollect.checks import encode
from recollect.cli.database import Db, existing, opened
from recollect.cli.screen import err, out, say, visible
from recollect.doctor import Finding, database, environment, healthy
from recollect.errors import InvalidArgument
from recollect.repair import Change
from recollect.repair import repair as mend
from recollect.store import Store

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


def doctor(
    context: typer.Context,
    *,
    db: Db = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended, and print each change; then check again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --repair: print the changes and make none.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this environment and a database; without --repair nothing is changed.

    Exits with 0 when all is well (notes are no fault) and with 1 when there is a problem, after repairing: one that is
    left.
    """
    if dry_run and not repair:
        raise InvalidArgument("--dry-run", "says what --repair would do; give both")
    store = existing(context, db) if repair else opened(context, db)
    changes = _repaired(store, dry_run=dry_run, quiet=json) if repair else []
    with err().status("checking"):
        findings = [*environment(), *database(store)]
    if json:
        told = {"changes": changes, "findings": findings} if repair else findings
        typer.echo(msgspec.json.format(encode(told), indent=2))
    else:
        out().print(_table(findings))
    raise typer.Exit(0 if healthy(findings) else 1)


def _repaired(store: Store, *, dry_run: bool, quiet: bool) -> list[Change]:
    """Mend what can be mended, telling each change as it is made."""
    done, changes = "would mend" if dry_run else "mended", []
    for change in mend(store, dry_run=dry_run):
        changes.append(change)
        if not quiet:
            where = "" if change.session_id is None else f"session {change.session_id}: "
            say(f"{done} {where}{change.what}: {change.before} -> {change.after}")
    if not changes and not quiet:
        say("nothing can be mended" if dry_run else "nothing was mended")
    return changes


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
