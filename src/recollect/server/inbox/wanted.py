"""Which sessions a reader of the inbox wants to see: a view of the list, by its address. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

SHOWN: Final = ("open", "pinned", "done", "all")
"""The views: what is not archived, what is pinned, what is archived, everything."""

SECRET: Final = "token"  # noqa: S105 - the name of a parameter
"""The parameter of an address that brings the token along, once."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What is said in the query of an address."""

    q: str = ""
    """What is searched for."""
    show: str = "open"
    user: str = ""
    agent: str = ""
    """The id of an agent or a team."""
    kind: str = ""
    tag: str = ""
    assignee: str = ""
    db: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> View:
        """The view that an address means; what is unknown in it counts for nothing."""
        given = {name: query[name].strip()[:200] for name in cls.__struct_fields__ if query.get(name, "").strip()}
        if given.get("show", "open") not in SHOWN:
            del given["show"]
        if given.get("kind", "agent") not in ("agent", "team"):
            del given["kind"]
        return cls(**given)

    def query(self, **changes: str) -> str:
        """The query of the view, or of one beside it; "" for the usual one, else beginning with ``?``."""
        usual = View()
        every = msgspec.structs.asdict(self) | changes
        said = {name: value for name, value in every.items() if value and value != getattr(usual, name, "")}
        return f"?{urlencode(said)}" if said else ""

    @property
    def chosen(self) -> dict[str, str]:
        """The filters beyond view and search that are set."""
        names = ("user", "agent", "kind", "tag", "assignee")
        return {name: value for name in names if (value := getattr(self, name))}

    def filters(self, teams: Mapping[str, Any]) -> dict[str, Any]:
        """What the store is asked for, but for the user."""
        of_team = self.agent in teams and self.kind != "agent"
        return {
            "kind": self.kind or None,
            "agent_id": None if of_team else self.agent or None,
            "team_id": self.agent if of_team else None,
            "tags": [self.tag] if self.tag else None,
            "metadata": {"assignee": self.assignee} if self.assignee else None,
            "archived": {"open": False, "done": True}.get(self.show),
            "pinned": True if self.show == "pinned" else None,
        }


def path_of(session_id: str, ending: str = "") -> str:
    """The address of a session. Those called ``.`` and ``..`` have none: browsers take these for folders."""
    return f"/s/{quote(session_id, safe='')}{ending}"
