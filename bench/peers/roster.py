"""Who takes part: every store of every peer, what it is called, and which floor it is held against."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Backend = Literal["sqlite", "postgres"]
Kind = Literal["turn", "run", "short"]

KINDS: Final[dict[Kind, str]] = {"turn": "the store alone", "run": "whole run", "short": "whole run, default history"}


class Entry(msgspec.Struct, frozen=True):
    """A store of a peer."""

    key: str
    peer: str
    """The name of its file here, and of its locked requirements with - for _."""
    store: str
    backend: Backend
    label: str
    floor: str
    """The floor at the same durability."""
    ours: str
    """Recollect at the same ``synchronous``."""
    kinds: tuple[Kind, ...]
    """The ways to take a turn, the main one first."""

    @property
    def is_floor(self) -> bool:
        return self.peer == "floor"

    @property
    def is_variant(self) -> bool:
        """Whether it is another setting of a store that is there as well; only what differs by it is measured."""
        return self.store in ("normal", "cached") or self.only_starts

    @property
    def only_starts(self) -> bool:
        """Whether nothing but its start differs."""
        return self.store == "openai"

    @property
    def environment(self) -> str:
        """The name of the environment that it runs in; empty for this one."""
        return "" if self.peer in ("floor", "recollect") else self.peer.replace("_", "-")


def _sqlite(key: str, peer: str, store: str, label: str, kinds: tuple[Kind, ...], floor: str = "floor-full") -> Entry:
    ours = "recollect-normal" if floor == "floor-normal" else "recollect-full"
    return Entry(key, peer, store, "sqlite", label, floor, ours, kinds)


def _postgres(key: str, peer: str, label: str, kinds: tuple[Kind, ...]) -> Entry:
    return Entry(key, peer, "postgres", "postgres", label, "floor-postgres", "recollect-postgres", kinds)


ROSTER: Final = (
    _sqlite("floor-full", "floor", "sqlite", "floor, WAL, full", ("turn",)),
    _sqlite("floor-normal", "floor", "normal", "floor, WAL, normal", ("turn",), "floor-normal"),
    _sqlite("floor-delete", "floor", "delete", "floor, rollback journal, full", ("turn",), "floor-delete"),
    _sqlite("recollect-full", "recollect", "sqlite", "Recollect", ("run", "turn")),
    _sqlite("recollect-normal", "recollect", "normal", "Recollect, normal", ("run", "turn"), "floor-normal"),
    _sqlite("recollect-cached", "recollect", "cached", "Recollect, cached", ("run",)),
    _sqlite("recollect-openai", "recollect", "openai", "Recollect, OpenAI's SDK imported", ("run",)),
    _sqlite("agno", "agno", "sqlite", "Agno SqliteDb", ("run", "short")),
    _sqlite("agno-cached", "agno", "cached", "Agno SqliteDb, cached", ("run",)),
    _sqlite("openai", "openai_agents", "sqlite", "OpenAI SQLiteSession", ("turn", "run")),
    _sqlite("openai-sqlalchemy", "openai_agents", "sqlalchemy", "OpenAI SQLAlchemySession", ("turn", "run")),
    _sqlite("adk", "google_adk", "sqlite", "ADK SqliteSessionService", ("turn", "run"), "floor-delete"),
    _sqlite("adk-database", "google_adk", "database", "ADK DatabaseSessionService", ("turn", "run"), "floor-delete"),
    _sqlite("langgraph", "langgraph", "sqlite", "LangGraph SqliteSaver", ("run",)),
    _sqlite("langgraph-delta", "langgraph", "delta", "LangGraph SqliteSaver, DeltaChannel (beta)", ("run",)),
    _sqlite("langchain", "langchain", "sqlite", "LangChain SQLChatMessageHistory", ("turn", "run"), "floor-delete"),
    _postgres("floor-postgres", "floor", "floor", ("turn",)),
    _postgres("recollect-postgres", "recollect", "Recollect", ("run", "turn")),
    _postgres("agno-postgres", "agno", "Agno PostgresDb", ("run", "short")),
    _postgres("openai-postgres", "openai_agents", "OpenAI SQLAlchemySession", ("turn", "run")),
    _postgres("adk-postgres", "google_adk", "ADK DatabaseSessionService", ("turn", "run")),
    _postgres("langgraph-postgres", "langgraph", "LangGraph PostgresSaver", ("run",)),
    _postgres("langchain-postgres", "langchain", "LangChain PostgresChatMessageHistory", ("turn", "run")),
)

DISTRIBUTIONS: Final = {
    "agno": ("agno", "sqlalchemy"),
    "openai_agents": ("openai-agents", "sqlalchemy", "aiosqlite", "asyncpg"),
    "google_adk": ("google-adk", "sqlalchemy", "aiosqlite", "asyncpg"),
    "langgraph": ("langgraph", "langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "langchain-core"),
    "langchain": ("langchain-core", "langchain-community", "langchain-postgres", "sqlalchemy"),
    "recollect": ("recollect", "msgspec", "psycopg"),
}
"""What is told of a peer's environment."""
