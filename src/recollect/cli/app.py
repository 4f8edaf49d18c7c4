"""All commands, what they share, and the exit codes that errors become."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import recollect
from recollect.cli import chat, copy, doctor, migrate, serve, sessions
from recollect.cli.database import DEFAULT
from recollect.cli.screen import aside
from recollect.errors import (
    Conflict,
    DatabaseBusy,
    InvalidArgument,
    NotFound,
    RecollectError,
    UserRequired,
)

CODES: tuple[tuple[type[RecollectError], int], ...] = (
    (InvalidArgument, 2),
    (NotFound, 3),
    (Conflict, 4),
    (DatabaseBusy, 4),
    (RecollectError, 1),
)

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict or busy, 130 stopped by Ctrl-C."


class Commands(TyperGroup):
    """Commands whose errors are one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RecollectError as error:
            aside(f"error: {message(error)}", "red")
            raise typer.Exit(code(error)) from None
        except BrokenPipeError:
            raise  # whoever read has enough, such as `head`; this ends quietly
        except OSError as error:
            what = ": ".join(str(part) for part in (error.filename, error.strerror) if part) or str(error)
            aside(f"error: {what}", "red")
            raise typer.Exit(1) from None


def code(error: RecollectError) -> int:
    """The exit code that an error becomes."""
    return next(number for kind, number in CODES if isinstance(error, kind))


def message(error: RecollectError) -> str:
    """What is said of an error to somebody who types commands, not calls."""
    if isinstance(error, UserRequired):
        return f"session {error.session_id!r} belongs to a user; say who speaks with --user"
    return str(error)


app = typer.Typer(
    cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, epilog=EPILOG
)


def _version(asked: bool) -> None:  # noqa: FBT001 - typer's signature for the callback of an option
    if asked:
        typer.echo(f"recollect {recollect.__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="FILE_OR_URL",
            envvar="RECOLLECT_DB",
            help="The database; may also stand behind the command.",
            show_default=DEFAULT,
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Conversations that last: chat, and find, read, move and check what was said."""


app.command("chat")(chat.chat)
app.add_typer(sessions.app, name="sessions")
app.command("copy")(copy.copy)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)
app.command("migrate")(migrate.migrate)
