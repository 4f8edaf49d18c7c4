"""``recollect serve``: agents and teams over HTTP."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import sys
import threading
import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from recollect.agent import Agent
from recollect.cli.database import Db, named, opened
from recollect.cli.model import BaseUrl, ModelName, choose, open_choice
from recollect.cli.screen import aside, say
from recollect.errors import InvalidArgument
from recollect.runner import Runner
from recollect.store import Store
from recollect.team import Team

if TYPE_CHECKING:
    from fastapi import FastAPI

    from recollect.server.auth import Auth

HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Addresses that only this machine reaches."""


def serve(
    context: typer.Context,
    served: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODULE:NAME]...",
            help="Agents, teams, or lists of them, by the module they are in and their name there.",
            show_default="an agent that answers with --model",
        ),
    ] = None,
    *,
    db: Db = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 7777,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="RECOLLECT_TOKEN",
            help="The token that everybody must show; it may do everything.",
            show_default="a new one, which is printed",
            show_envvar=True,
        ),
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Ask nobody for a token.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="With --no-token: listen beyond this machine all the same.")
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            metavar="ORIGIN",
            help="A website whose pages may use the server, beside the chat client on this machine (port 3000).",
        ),
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", min=0, help="Seconds that runs have to end by themselves when it is stopped.")
    ] = 10.0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the inbox in a browser.")] = False,
    model_name: ModelName = None,
    base_url: BaseUrl = None,
    instructions: Annotated[
        str | None, typer.Option("--instructions", "-i", metavar="TEXT", help="The system message of that agent.")
    ] = None,
) -> None:
    """Serve agents and teams over HTTP: the inbox for browsers, the API for the chat client of Agno and others.

    Every request must show a token. Without one of yours, a new one is printed at the start; the printed address of the
    inbox carries it, so that a click signs in. What is listened on is this machine alone, unless you say otherwise.
    SIGTERM and Ctrl-C end it: runs under way have --grace seconds, then they are cancelled, and what was said is
    stored.
    """
    from recollect import server

    auth, made = _auth(host, token, no_token=no_token, insecure=insecure, origins=cors_origin or ())
    runners = [runner for name in served or () for runner in load(name)]
    is_named = named(context, db) is not None
    store = opened(context, db) if is_named or not all(runner.has_own_db for runner in runners) or not runners else None
    if not runners:
        runners = [_default(context, store, model_name, base_url, instructions)]
    app = _application(context, runners, store, auth, cors_origin or ())
    say(f"serving {', '.join(f'{runner.KIND} {runner.id}' for runner in runners)}")

    def started(address: str) -> None:
        _tell(address, made)
        if open_browser:
            _open(app, address, token or made)

    server.serve(app, host=host, port=port, grace=grace, on_start=started)


def _application(
    context: typer.Context, runners: Sequence[Runner], store: Store | None, auth: Auth, origins: Sequence[str]
) -> FastAPI:
    """What is served; its agents and teams are closed with the command."""
    from recollect import server

    _log_to_stderr()
    app = server.create_app(
        [runner for runner in runners if isinstance(runner, Agent)],
        [runner for runner in runners if isinstance(runner, Team)],
        store,
        auth=auth,
        cors_origins=origins,
    )
    for runner in runners:
        context.call_on_close(runner.close)
    return app


def _tell(address: str, made: str | None) -> None:
    """Say where the server is, and the token that was made for it."""
    say(f"  inbox:   {address}/{f'?token={made}' if made else ''}")
    say(f"  address: {address}")
    if made is not None:
        say(f"  token:   {made}")
    sys.stdout.flush()


def _open(app: FastAPI, address: str, token: str | None) -> None:
    """Open the inbox in a browser, without waiting for it: one in this terminal ends only when its reader leaves.

    Others on this machine can read with what a browser was started, so that is good for one time only.
    """
    where = f"{address}/?token={app.state.inbox.admit_once(token)}" if token else f"{address}/"
    threading.Thread(target=_open_at, args=(where,), daemon=True).start()


def _open_at(where: str) -> None:
    if not webbrowser.open(where):
        aside("no browser was found; open the address of the inbox in yours", "yellow")


def _log_to_stderr() -> None:
    """Have what goes wrong be written where whoever started the server sees it."""
    log = logging.getLogger("recollect")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)


def _auth(
    host: str, token: str | None, *, no_token: bool, insecure: bool, origins: Sequence[str]
) -> tuple[Auth, str | None]:
    """Who may come in, and the token to be printed.

    Raises:
        InvalidArgument: everybody would, from everywhere.
        ExtraMissing: what a server needs is not installed.
    """
    from recollect.server.app import ORIGINS
    from recollect.server.auth import Everybody
    from recollect.server.caller import TRUSTED

    if not no_token:
        made = token or secrets.token_urlsafe(24)
        return {made: TRUSTED}, None if token else made
    if token is not None and not os.environ.get("RECOLLECT_TOKEN"):
        raise InvalidArgument("--token", "is given together with --no-token; say one of both")
    is_own = host in HOSTS
    if not is_own and not insecure:
        raise InvalidArgument(
            "--no-token", f"everybody who reaches {host} could read and delete all sessions; if so, say --insecure"
        )
    aside("no token is asked for: whoever reaches this server may do everything", "red")
    return Everybody([*ORIGINS, *origins], HOSTS if is_own else ()), None


def load(name: str) -> list[Runner]:
    """The agents and teams that are meant by ``module:name``; modules of this folder are found, too.

    Raises:
        InvalidArgument: there is no such module or name, or it is something else.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise InvalidArgument("MODULE:NAME", f"{name!r} is none; say for example main:agent")
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise InvalidArgument("MODULE:NAME", f"there is no module {error.name!r} here") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InvalidArgument("MODULE:NAME", f"there is no {part!r} in {module}")
        found = getattr(found, part)
    given = list(found) if isinstance(found, list | tuple) else [found]
    if not given or not all(isinstance(one, Agent | Team) for one in given):
        raise InvalidArgument("MODULE:NAME", f"{name} is no agent or team, nor a list of them: {found!r}")
    return given


def _default(
    context: typer.Context, store: Store | None, model: str | None, base_url: str | None, instructions: str | None
) -> Runner:
    """An agent with the model that `recollect chat` would ask."""
    choice = choose(model, base_url, os.environ)
    if choice.notice:
        aside(choice.notice)
    return Agent(open_choice(choice, context), db=store, instructions=instructions)
