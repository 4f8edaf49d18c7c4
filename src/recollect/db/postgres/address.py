"""A Postgres server as it is reached: where, as whom, with what settings; and a new connection to it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Final

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recollect.db.postgres.failures import refused
from recollect.errors import DatabaseError, DatabaseUnreachable, InvalidArgument
from recollect.port import World

PROBE: Final = 2
"""Seconds after which a server that does not answer is said to be away."""

_KEPT_ALIVE: Final = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60000,
}
"""A peer that vanished without a word is noticed within a minute."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is spoken to."""

    timeout: float
    """Seconds to wait for a connection, and for locks."""
    statement_timeout: float
    """Seconds that a statement may run."""
    pooler: bool
    """Whether connections may be another one's with each transaction, so that no setting of theirs lasts."""
    prepare: bool
    """Whether statements are prepared."""


class Address:
    """One database server as it is reached: where, as whom, and with what settings."""

    def __init__(self, url: str, settings: Settings, argument: str = "db_url") -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error as error:
            raise InvalidArgument(argument, f"is no address of a Postgres database: {str(error).strip()}") from None
        self.name = _shown(given)
        self.pooler = settings.pooler
        self.prepares = settings.prepare
        self.timeouts = {
            "lock_timeout": round(settings.timeout * 1000),
            "statement_timeout": round(settings.statement_timeout * 1000),
            "idle_in_transaction_session_timeout": round(settings.timeout * 1000),
        }
        usual: dict[str, Any] = {
            "application_name": "recollect",
            "connect_timeout": max(PROBE, round(settings.timeout)),
            **_KEPT_ALIVE,
        }
        if not settings.pooler:
            ours = {**self.timeouts, "plan_cache_mode": "force_generic_plan"}
            said = " ".join(f"-c {name}={value}" for name, value in ours.items())
            theirs = given.get("options") or os.environ.get("PGOPTIONS") or ""
            given["options"] = f"{said} {theirs}".strip()
        self.conninfo = make_conninfo("", **{**usual, **given, "client_encoding": "UTF8"})
        self.options: dict[str, Any] = {
            "autocommit": True,
            "prepare_threshold": 2 if settings.prepare else None,
        }


def _shown(given: dict[str, Any]) -> str:
    """The address without its password."""
    if any("@" in str(given.get(part) or "") for part in ("host", "port", "dbname")):
        return "postgresql://..."  # a password with characters that were not escaped: parts of it would show
    user = f"{given['user']}@" if given.get("user") else ""
    port = f":{given['port']}" if given.get("port") else ""
    return f"postgresql://{user}{given.get('host') or ''}{port}/{given.get('dbname') or ''}"


async def connect(address: Address, world: World, **settings: Any) -> Any:
    """Open a connection.

    Raises:
        DatabaseUnreachable: the server does not answer, or does not let us in.
    """
    kind = psycopg.AsyncConnection if world.waits else psycopg.Connection
    try:
        return await world.result(kind.connect(address.conninfo, **address.options, **settings))
    except psycopg.InterfaceError as error:
        raise _unfit_loop(error) from error
    except psycopg.Error as error:
        raise refused(error, address.name) from error


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Refuse the one event loop that psycopg cannot wait with, before it tries.

    Raises:
        DatabaseUnreachable: it is that of Windows.
    """
    if sys.platform == "win32" and isinstance(loop, getattr(asyncio, "ProactorEventLoop", ())):
        raise _unfit_loop(None)


def _unfit_loop(error: Exception | None) -> DatabaseError:
    why = "" if error is None else f" ({error})"
    return DatabaseUnreachable(
        "psycopg cannot wait with this event loop of Windows. Run the program with another: "
        "asyncio.run(main(), loop_factory=asyncio.SelectorEventLoop), or on Python 3.11 first "
        f"asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy()){why}"
    )
