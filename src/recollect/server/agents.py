"""What is served: the server's health, its agents and teams."""

from __future__ import annotations

from typing import Any, Final

from recollect.server import wire
from recollect.server.fields import AgentId, TeamId
from recollect.server.route import Route, ServiceOf
from recollect.team import Team


async def health(service: ServiceOf) -> Any:
    """Whether the server is there. Asks nobody who they are."""
    return {"status": "ok", "instantiated_at": service.started_at}


async def list_agents(service: ServiceOf) -> Any:
    """The agents that are served."""
    return [wire.runner_shape(service, agent) for agent in service.agents.values()]


async def get_agent(service: ServiceOf, agent_id: AgentId) -> Any:
    """One agent."""
    return wire.runner_shape(service, service.runner("agent", agent_id))


async def list_teams(service: ServiceOf) -> Any:
    """The teams that are served."""
    return [wire.runner_shape(service, team) for team in service.teams.values()]


async def get_team(service: ServiceOf, team_id: TeamId) -> Any:
    """One team with its members."""
    return wire.runner_shape(service, service.runner("team", team_id))


async def config(service: ServiceOf) -> Any:
    """All that is served."""
    models = {runner.model.id for runner in service.runners}
    models |= {member.model.id for team in service.teams.values() for member in _members(team)}
    return {
        "os_id": "recollect",
        "name": "Recollect",
        "available_models": sorted(models),
        "databases": list(dict.fromkeys([service.db_id(service.db), *service.databases])),
        "agents": await list_agents(service),
        "teams": await list_teams(service),
        "workflows": [],
        "interfaces": [],
    }


def _members(team: Team) -> list[Any]:
    inner = [one for member in team.members if isinstance(member, Team) for one in _members(member)]
    return [*team.members, *inner]


ROUTES: Final = (
    Route("GET", "/health", health, "open", shape=wire.Health, tag="Agents"),
    Route("GET", "/config", config, shape=wire.Config, tag="Agents"),
    Route("GET", "/agents", list_agents, shape=list[wire.RunnerShape], tag="Agents"),
    Route("GET", "/agents/{agent_id}", get_agent, shape=wire.RunnerShape, tag="Agents"),
    Route("GET", "/teams", list_teams, shape=list[wire.TeamShape], tag="Agents"),
    Route("GET", "/teams/{team_id}", get_team, shape=wire.TeamShape, tag="Agents"),
)
