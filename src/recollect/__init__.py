"""Recollect: the session layer for AI agents.

The names below are the public ones; each is imported when it is first used, so that ``import recollect`` stays light.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recollect.agent import Agent
    from recollect.batch import BatchReport
    from recollect.cache import CacheStats, SessionCache
    from recollect.change import SessionChange
    from recollect.conversation import Conversation
    from recollect.db import open_db
    from recollect.db.postgres import PostgresDb
    from recollect.db.sqlite import SqliteDb
    from recollect.errors import (
        Conflict,
        DatabaseBusy,
        DatabaseError,
        DatabaseFull,
        DatabaseReadOnly,
        DatabaseUnreachable,
        ExtraMissing,
        InvalidArgument,
        ModelError,
        NamingFailed,
        NotADatabase,
        NotFound,
        OutcomeUnknown,
        RecollectError,
        RunConflict,
        RunFailed,
        RunInProgress,
        RunLost,
        RunNotFound,
        SchemaMismatch,
        SearchUnavailable,
        SessionBusy,
        SessionConflict,
        SessionIdMissing,
        SessionNotFound,
        StepLimit,
        UserRequired,
    )
    from recollect.hit import SearchHit, SearchPage
    from recollect.message import File, Image, Message, ToolCall, Usage
    from recollect.models.echo import EchoModel
    from recollect.naming import SessionNamer, title_from_first_message
    from recollect.run import (
        RunEvent,
        RunMetrics,
        RunOutput,
        RunOutputEvent,
        RunStatus,
        TeamRunOutput,
        ToolExecution,
    )
    from recollect.session import AgentSession, SessionHeader, SessionMetrics, SessionPage, SessionSummary, TeamSession
    from recollect.store import OpenRun, Store
    from recollect.store.watches import AsyncSessionWatch, SessionWatch
    from recollect.stream import AsyncRunStream, RunStream
    from recollect.summary import SessionSummaryManager
    from recollect.team import Team
    from recollect.tools import RunContext, Tool

_HOMES = {
    "agent": ("Agent",),
    "batch": ("BatchReport",),
    "cache": ("CacheStats", "SessionCache"),
    "change": ("SessionChange",),
    "conversation": ("Conversation",),
    "db": ("open_db",),
    "db.postgres": ("PostgresDb",),
    "db.sqlite": ("SqliteDb",),
    "errors": (
        "Conflict",
        "DatabaseBusy",
        "DatabaseError",
        "DatabaseFull",
        "DatabaseReadOnly",
        "DatabaseUnreachable",
        "ExtraMissing",
        "InvalidArgument",
        "ModelError",
        "NamingFailed",
        "NotADatabase",
        "NotFound",
        "OutcomeUnknown",
        "RecollectError",
        "RunConflict",
        "RunFailed",
        "RunInProgress",
        "RunLost",
        "RunNotFound",
        "SchemaMismatch",
        "SearchUnavailable",
        "SessionBusy",
        "SessionConflict",
        "SessionIdMissing",
        "SessionNotFound",
        "StepLimit",
        "UserRequired",
    ),
    "hit": ("SearchHit", "SearchPage"),
    "message": ("File", "Image", "Message", "ToolCall", "Usage"),
    "models.echo": ("EchoModel",),
    "naming": ("SessionNamer", "title_from_first_message"),
    "run": (
        "RunEvent",
        "RunMetrics",
        "RunOutput",
        "RunOutputEvent",
        "RunStatus",
        "TeamRunOutput",
        "ToolExecution",
    ),
    "session": (
        "AgentSession",
        "SessionHeader",
        "SessionMetrics",
        "SessionPage",
        "SessionSummary",
        "TeamSession",
    ),
    "store": ("OpenRun", "Store"),
    "store.watches": ("AsyncSessionWatch", "SessionWatch"),
    "stream": ("AsyncRunStream", "RunStream"),
    "summary": ("SessionSummaryManager",),
    "team": ("Team",),
    "tools": ("RunContext", "Tool"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"

# Silent unless the program that uses the library says where the log goes.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "Agent",
    "AgentSession",
    "AsyncRunStream",
    "AsyncSessionWatch",
    "BatchReport",
    "CacheStats",
    "Conflict",
    "Conversation",
    "DatabaseBusy",
    "DatabaseError",
    "DatabaseFull",
    "DatabaseReadOnly",
    "DatabaseUnreachable",
    "EchoModel",
    "ExtraMissing",
    "File",
    "Image",
    "InvalidArgument",
    "Message",
    "ModelError",
    "NamingFailed",
    "NotADatabase",
    "NotFound",
    "OpenRun",
    "OutcomeUnknown",
    "PostgresDb",
    "RecollectError",
    "RunConflict",
    "RunContext",
    "RunEvent",
    "RunFailed",
    "RunInProgress",
    "RunLost",
    "RunMetrics",
    "RunNotFound",
    "RunOutput",
    "RunOutputEvent",
    "RunStatus",
    "RunStream",
    "SchemaMismatch",
    "SearchHit",
    "SearchPage",
    "SearchUnavailable",
    "SessionBusy",
    "SessionCache",
    "SessionChange",
    "SessionConflict",
    "SessionHeader",
    "SessionIdMissing",
    "SessionMetrics",
    "SessionNamer",
    "SessionNotFound",
    "SessionPage",
    "SessionSummary",
    "SessionSummaryManager",
    "SessionWatch",
    "SqliteDb",
    "StepLimit",
    "Store",
    "Team",
    "TeamRunOutput",
    "TeamSession",
    "Tool",
    "ToolCall",
    "ToolExecution",
    "Usage",
    "UserRequired",
    "open_db",
    "title_from_first_message",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
