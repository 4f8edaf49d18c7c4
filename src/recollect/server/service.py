"""What the routes work with: the agents and teams that are served, their databases, and the runs under way."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from weakref import WeakSet

from recollect.agent import Agent
from recollect.errors import InvalidArgument, NotFound
from recollect.runner import Runner
from recollect.server.limits import Limits
from recollect.server.underway import UnderWay
from recollect.session import SessionHeader
from recollect.store import Store
from recollect.store.watches import AsyncSessionWatch
from recollect.team import Team

log = logging.getLogger("recollect.server")

Kind = Literal["agent", "team"]

MEMORY: Final = "memory"

FLUSH: Final = 5.0
"""Seconds that names and summaries have to be stored when the server ends."""


class Service:
    """Agents and teams by id, and their databases by theirs."""

    def __init__(self, agents: Sequence[Agent], teams: Sequence[Team], db: Store | None, limits: Limits) -> None:
        given = [*_all("agents", agents, Agent), *_all("teams", teams, Team)]
        self.db = _main(given, db)
        served = [_served(runner, self.db) for runner in given]
        self.agents = _by_id("agents", [runner for runner in served if isinstance(runner, Agent)])
        self.teams = _by_id("teams", [runner for runner in served if isinstance(runner, Team)])
        self._names = _names([self.db, *(runner.db for runner in served)])
        self.databases = {self._names[id(db)]: db for db in [*(runner.db for runner in reversed(served)), self.db]}
        self.limits = limits
        self.under_way = UnderWay()
        self.watches: WeakSet[AsyncSessionWatch] = WeakSet()
        """What streams of events come from."""
        self.started_at = datetime.now(UTC)

    @property
    def runners(self) -> Sequence[Runner]:
        return (*self.agents.values(), *self.teams.values())

    def runner(self, kind: Kind, id: str) -> Runner:
        """The agent or team of this id.

        Raises:
            NotFound: there is none.
        """
        found: Runner | None = (self.agents if kind == "agent" else self.teams).get(id)
        if found is None:
            msg = f"there is no {kind} {id!r}"
            raise NotFound(msg)
        return found

    def database(self, db_id: str | None) -> Store:
        """The database of this id; without one, the first.

        Raises:
            NotFound: there is none.
        """
        found = self.db if not db_id else self.databases.get(db_id)
        if found is None:
            msg = f"there is no database {db_id!r}"
            raise NotFound(msg)
        return found

    def db_id(self, db: Store) -> str:
        return self._names[id(db)]

    def keeper(self, db: Store, header: SessionHeader) -> Runner | None:
        """Who names this session: the agent or team that it is with, else any over its database."""
        kind: Mapping[str, Runner] = self.teams if header.kind == "team" else self.agents
        found = kind.get((header.team_id if header.kind == "team" else header.agent_id) or "")
        near = [runner for runner in self.runners if self.db_id(runner.db) == self.db_id(db)]
        return found if found in near else next(iter(near), None)

    def approved(self, db: Store, name: str, header: SessionHeader) -> str:
        """The name as the namer of the session's agent or team has it."""
        keeper = self.keeper(db, header)
        return name if keeper is None else keeper.scribe.namer.approved(name, header)

    async def end(self, grace: float) -> None:
        """End what is under way within a bound: streams of events at once, runs when they are done or are asked to."""
        for watch in [*self.watches]:
            await watch.aclose()
        await self.under_way.end(grace)
        await asyncio.gather(*(self._flush(runner) for runner in {id(one.db): one for one in self.runners}.values()))

    async def _flush(self, runner: Runner) -> None:
        if not await runner.aflush(FLUSH):
            log.warning("names and summaries of %r are not stored yet; another process makes them", runner.db)


def component(service: Service, kind: Kind | None, id: str | None) -> dict[str, Any]:
    """The filters of a list that mean the sessions of an agent or a team."""
    if id is None:
        return {"kind": kind}
    is_team = kind == "team" or (kind is None and id in service.teams and id not in service.agents)
    return {"kind": kind, "team_id" if is_team else "agent_id": id}


def _all(argument: str, given: Any, kind: type[Any]) -> Sequence[Any]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(one, kind) for one in given):
        raise InvalidArgument(argument, f"must be a sequence of {kind.__name__}s, not {given!r}")
    return given


def _main(given: Sequence[Runner], db: Any) -> Store:
    """The database that is meant where none is named."""
    if db is not None:
        if not isinstance(db, Store):
            raise InvalidArgument("db", f"must be a database, not {type(db).__name__}")
        return db
    own = next((runner.db for runner in given if runner.has_own_db), None)
    if own is not None:
        return own
    if not given:
        raise InvalidArgument("agents", "are missing: give agents, teams, or a database whose sessions are served")
    return given[0].db


def _served(runner: Runner, db: Store) -> Runner:
    """An agent or team as it is served: nobody speaks in a session, or as a user, that was set up for all."""
    changes: dict[str, Any] = {} if runner.has_own_db else {"db": db}
    return runner.replace(session_id=None, user_id=None, **changes)


def _by_id(argument: str, runners: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for runner in runners:
        if runner.id in found:
            raise InvalidArgument(argument, f"two have the id {runner.id!r}; give them names or ids of their own")
        found[runner.id] = runner
    return found


def _names(given: Sequence[Store]) -> dict[int, str]:
    """What each database is called, by its identity. Two objects over one file or server are one database."""
    found: dict[int, str] = {}
    for db in given:
        name = _name(db)
        if name == MEMORY and id(db) not in found and MEMORY in found.values():
            name = f"{MEMORY}-{len(found)}"
        found.setdefault(id(db), name)
    return found


def _name(db: Store) -> str:
    """A name for a database that is the same in every process, and tells nobody where it is."""
    if db.dialect == "sqlite":
        file: Path | None = getattr(db, "db_file", None)
        if file is None:
            return MEMORY
        place = str(file.resolve())
    else:
        place = str(getattr(db, "address", ""))
    return f"{db.dialect}-{hashlib.blake2b(place.encode(), digest_size=6).hexdigest()}"
