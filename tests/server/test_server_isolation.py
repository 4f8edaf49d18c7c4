"""Law 4 over HTTP: each route, asked by alice, bob, support, an administrator and nobody, of what is alice's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from server_kit import CALLERS, Served, events_of, serving

from recollect import Agent, EchoModel, Message, SqliteDb, Store, Team
from recollect.port import Tx, reads
from recollect.server import create_app

WHO = ("alice", "bob", "support", "admin", None)
HERS, MISSING = "alices-session", "missing-session"


class Ask(msgspec.Struct, frozen=True):
    """A request for a session, and what each caller is answered: a status, or the ids that are found."""

    method: str
    url: str
    options: Callable[[], dict[str, Any]] = dict
    expected: tuple[Any, ...] = (200, 404, 200, 200, 401)
    """For alice, bob, support, the administrator and nobody."""
    found: Callable[[httpx2.Response], Any] | None = None
    """What is compared in place of the status, where the answer is no error."""


READ = (200, 404, 200, 200, 401)
WRITE = (200, 404, 403, 200, 401)
GONE = (204, 404, 403, 204, 401)
ALL = (200, 200, 200, 200, 401)
MINE = ([HERS], [], [HERS], [HERS], 401)


def ids(answer: httpx2.Response) -> list[str]:
    """The sessions that a list holds."""
    told = answer.json()
    return [entry["session_id"] for entry in told.get("data", told.get("sessions"))]


def hits(answer: httpx2.Response) -> list[str]:
    """The sessions in which a search finds something."""
    return sorted({hit["session_id"] for hit in answer.json()["hits"]})


def shown(answer: httpx2.Response) -> list[str]:
    """The sessions that a page lists, or links to."""
    return sorted(set(re.findall(r'(?:data-session="|/s/)([\w-]+-session)', answer.text)))


def lines(answer: httpx2.Response) -> list[str]:
    return [json.loads(line)["conversation_id"] for line in answer.text.splitlines()]


def _say(**fields: str) -> Callable[[], dict[str, Any]]:
    return lambda: {"data": {"message": "Hello", "stream": "false", **fields}}


def _json(**body: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"json": body}


def _form(**fields: str) -> Callable[[], dict[str, Any]]:
    """A form of the inbox, about her session."""
    return lambda: {"data": {"session_id": "{id}", **fields}}


def _from_here(**fields: str) -> Callable[[], dict[str, Any]]:
    """A form as a browser sends it from a page of the server."""
    return lambda: {"data": fields, "headers": {"Sec-Fetch-Site": "same-origin"}}


S = "/sessions/{id}"
V = "/v1/sessions/{id}"
RUN = "/agents/desk/runs"

# Alice's own administrator must name her as the one who speaks in her session.
SPEAK = (200, 404, 403, 404, 401)

DO = (303, 404, 403, 303, 401)
DO_OWN = (303, 303, 403, 303, 401)
EVERYBODY = (200, 200, 200, 200, 200)
SENT_ON = (303, 303, 303, 303, 303)

INBOX: dict[str, Ask] = {
    "GET /": Ask("GET", "/", expected=MINE, found=shown),
    "GET / of alice": Ask("GET", "/?user=alice", expected=([HERS], 403, [HERS], [HERS], 401), found=shown),
    "GET /index.json": Ask("GET", "/index.json", expected=MINE, found=ids),
    "GET /index.md": Ask("GET", "/index.md", expected=MINE, found=shown),
    "GET /new": Ask("GET", "/new", expected=MINE, found=shown),
    "GET /inbox/rows": Ask("GET", "/inbox/rows", expected=MINE, found=shown),
    "GET /inbox/rows by text": Ask("GET", "/inbox/rows?q=secret", expected=MINE, found=shown),
    "GET /inbox/rows by tag": Ask("GET", "/inbox/rows?tag=red", expected=MINE, found=shown),
    "GET /inbox/rows of alice": Ask(
        "GET", "/inbox/rows?q=secret&user=alice", expected=([HERS], 403, [HERS], [HERS], 401), found=shown
    ),
    "GET /inbox/turns": Ask("GET", "/inbox/turns?session_id={id}", expected=READ),
    "GET /inbox/unnamed": Ask("GET", "/inbox/unnamed", expected=(200, 200, 403, 200, 401)),
    "GET /s/{session_id}": Ask("GET", "/s/{id}", expected=READ),
    "GET /s/{session_id} as data": Ask("GET", "/s/{id}.json", expected=READ),
    "GET /s/{session_id} as text": Ask("GET", "/s/{id}.md", expected=READ),
    "GET /sign-in": Ask("GET", "/sign-in", expected=EVERYBODY),
    "POST /sign-in": Ask("POST", "/sign-in", _from_here(token="alices-token"), SENT_ON),
    "POST /sign-out": Ask("POST", "/sign-out", _from_here(), SENT_ON),
    **{
        f"GET /inbox/static/{name}": Ask("GET", f"/inbox/static/{name}", expected=EVERYBODY)
        for name in ("htmx-2.0.11.min.js", "icon.svg", "inbox.css", "inbox.js")
    },
    "POST /inbox/rename": Ask("POST", "/inbox/rename", _form(name="Mine"), DO),
    "POST /inbox/generate": Ask("POST", "/inbox/generate", _form(), DO),
    "POST /inbox/archive": Ask("POST", "/inbox/archive", _form(), DO),
    "POST /inbox/pin": Ask("POST", "/inbox/pin", _form(), DO),
    "POST /inbox/tag": Ask("POST", "/inbox/tag", _form(tags="blue"), DO),
    "POST /inbox/delete": Ask("POST", "/inbox/delete", _form(), DO),
    "POST /inbox/fork": Ask("POST", "/inbox/fork", _form(run_id="r"), DO),
    "POST /inbox/say": Ask("POST", "/inbox/say", _form(message="Hello", runner="agent:desk"), DO),
    "POST /inbox/continue": Ask("POST", "/inbox/continue", _form(run_id="failed"), DO),
    "POST /inbox/retry": Ask("POST", "/inbox/retry", _form(run_id="r"), DO),
    "POST /inbox/stop": Ask("POST", "/inbox/stop", _form(run_id="r"), DO),
    "POST /inbox/undo": Ask("POST", "/inbox/undo", _from_here(deed="what nobody did"), DO_OWN),
    "POST /inbox/name-all": Ask("POST", "/inbox/name-all", expected=DO_OWN),
}
"""What people open and send. Who speaks in a session there is its owner, also where an administrator writes."""

TABLE: dict[str, Ask] = {
    **INBOX,
    "GET /openapi.json": Ask("GET", "/openapi.json", expected=(200, 200, 200, 200, 200)),
    "GET /health": Ask("GET", "/health", expected=(200, 200, 200, 200, 200)),
    "GET /config": Ask("GET", "/config", expected=ALL),
    "GET /agents": Ask("GET", "/agents", expected=ALL),
    "GET /agents/{agent_id}": Ask("GET", "/agents/desk", expected=ALL),
    "GET /teams": Ask("GET", "/teams", expected=ALL),
    "GET /teams/{team_id}": Ask("GET", "/teams/crew", expected=ALL),
    "POST /agents/{agent_id}/runs": Ask("POST", RUN, _say(session_id="{id}"), SPEAK),
    "POST /agents/{agent_id}/runs as alice": Ask(
        "POST", RUN, _say(session_id="{id}", user_id="alice"), (200, 403, 403, 200, 401)
    ),
    "POST /teams/{team_id}/runs": Ask("POST", "/teams/crew/runs", _say(session_id="{id}"), SPEAK),
    "POST /agents/{agent_id}/runs/{run_id}/continue": Ask(
        "POST", f"{RUN}/r/continue", lambda: {"data": {"session_id": "{id}", "stream": "false"}}, SPEAK
    ),
    "POST /teams/{team_id}/runs/{run_id}/continue": Ask(
        "POST", "/teams/crew/runs/r/continue", lambda: {"data": {"session_id": "{id}", "stream": "false"}}, SPEAK
    ),
    "POST /agents/{agent_id}/runs/{run_id}/cancel": Ask(
        "POST", f"{RUN}/r/cancel", lambda: {"params": {"session_id": "{id}"}}, WRITE
    ),
    "POST /teams/{team_id}/runs/{run_id}/cancel": Ask(
        "POST", "/teams/crew/runs/r/cancel", lambda: {"params": {"session_id": "{id}"}}, WRITE
    ),
    "GET /sessions": Ask("GET", "/sessions", expected=MINE, found=ids),
    "GET /sessions by name": Ask("GET", "/sessions?session_name=Secret", expected=MINE, found=ids),
    "GET /sessions of alice": Ask(
        "GET", "/sessions?user_id=alice", expected=([HERS], 403, [HERS], [HERS], 401), found=ids
    ),
    "POST /sessions": Ask("POST", "/sessions", _json(session_name="New"), (201, 201, 403, 201, 401)),
    "POST /sessions under the id of hers": Ask(
        "POST", "/sessions", _json(session_id="{id}"), (409, 409, 403, 409, 401)
    ),
    "POST /sessions for alice": Ask(
        "POST", "/sessions", _json(session_name="New", user_id="alice"), (201, 403, 403, 201, 401)
    ),
    "DELETE /sessions": Ask("DELETE", "/sessions", _json(session_ids=["{id}"]), (204, 204, 403, 204, 401)),
    "GET /sessions/{session_id}": Ask("GET", S, expected=READ),
    "GET /sessions/{session_id} of alice": Ask("GET", f"{S}?user_id=alice", expected=(200, 403, 200, 200, 401)),
    "PATCH /sessions/{session_id}": Ask("PATCH", S, _json(session_name="Mine", session_state={"k": 2}), WRITE),
    "DELETE /sessions/{session_id}": Ask("DELETE", S, expected=GONE),
    "POST /sessions/{session_id}/rename": Ask("POST", f"{S}/rename", _json(session_name="Mine"), WRITE),
    "GET /sessions/{session_id}/runs": Ask("GET", f"{S}/runs", expected=READ),
    "GET /sessions/{session_id}/runs/{run_id}": Ask("GET", f"{S}/runs/r", expected=READ),
    "GET /v1/me": Ask("GET", "/v1/me", expected=ALL),
    "GET /v1/sessions": Ask("GET", "/v1/sessions", expected=MINE, found=ids),
    "GET /v1/sessions by tag": Ask("GET", "/v1/sessions?tag=red&name=secret", expected=MINE, found=ids),
    "GET /v1/search": Ask("GET", "/v1/search?q=secret", expected=MINE, found=hits),
    "GET /v1/search of a session": Ask("GET", f"/v1/search?q=secret&session_id={HERS}", expected=MINE, found=hits),
    "GET /v1/search of alice": Ask(
        "GET", "/v1/search?q=secr*&user_id=alice", expected=([HERS], 403, [HERS], [HERS], 401), found=hits
    ),
    "GET /v1/sessions of alice": Ask(
        "GET", "/v1/sessions?user_id=alice", expected=([HERS], 403, [HERS], [HERS], 401), found=ids
    ),
    "GET /v1/sessions/{session_id}": Ask("GET", V, expected=READ),
    "PATCH /v1/sessions/{session_id}": Ask(
        "PATCH", V, _json(name="Mine", session_state={"k": 2}, metadata={"k": 2}, tags=[], archived=True), WRITE
    ),
    "DELETE /v1/sessions/{session_id}": Ask("DELETE", V, expected=GONE),
    "POST /v1/sessions/{session_id}/name": Ask("POST", f"{V}/name", expected=WRITE),
    "GET /v1/sessions/{session_id}/messages": Ask("GET", f"{V}/messages", expected=READ),
    "GET /v1/sessions/{session_id}/export": Ask("GET", f"{V}/export", expected=READ),
    "GET /v1/sessions/{session_id}/events": Ask("GET", f"{V}/events", expected=READ),
    "GET /v1/sessions/{session_id}/events of alice": Ask(
        "GET", f"{V}/events?user_id=alice", expected=(200, 403, 200, 200, 401)
    ),
    "GET /v1/events": Ask("GET", "/v1/events", expected=ALL),
    "GET /v1/events of alice": Ask("GET", "/v1/events?user_id=alice", expected=(200, 403, 200, 200, 401)),
    "GET /v1/export": Ask("GET", "/v1/export", expected=MINE, found=lines),
    "GET /v1/export of alice": Ask(
        "GET", "/v1/export?user_id=alice", expected=([HERS], 403, [HERS], [HERS], 401), found=lines
    ),
}


def test_every_route_is_in_the_table(served: Served) -> None:
    """By what the application really answers, its document included; a question for methods tells nothing."""
    routes = {
        f"{method} {route.path}"
        for route in served.app.routes
        for method in route.methods - {"OPTIONS", "HEAD"}  # type: ignore[attr-defined]
    }
    assert routes == {" ".join(name.split(" ")[:2]) for name in TABLE}


@pytest.fixture(scope="module")
def served(db: Store) -> Iterator[Served]:
    desk = Agent(EchoModel(), id="desk", db=db)
    crew = Team([Agent(EchoModel(), id="member")], model=EchoModel(), id="crew", db=db)
    with serving(create_app([desk], [crew], auth=CALLERS)) as running:
        yield running


@reads
async def _dump(tx: Tx) -> list[Any]:
    tables = ("sessions", "values", "runs", "messages", "prompts")
    return await tx.execute(*((f"select * from recollect_{table} order by 1, 2, 3", {}) for table in tables))


@pytest.fixture
def sessions(db: Store) -> None:
    """A session of alice's, and nothing else."""
    db.delete_sessions([header.session_id for header in db.iter_sessions()])
    agent = Agent(EchoModel(), id="desk", db=db)
    agent.run("Secret plan", session_id=HERS, user_id="alice", run_id="r", session_state={"k": 1})
    db.finish_run(db.begin_run(HERS, [Message("user", "And then?")], user_id="alice", run_id="failed"), status="error")
    agent.set_session_name(HERS, session_name="Secret plan")
    agent.tag_session(HERS, ["red"])


def asked(served: Served, client: httpx2.Client, ask: Ask, session_id: str) -> httpx2.Response:
    options = json.loads(json.dumps(ask.options()).replace("{id}", session_id))
    with client.stream(ask.method, ask.url.replace("{id}", session_id), **options) as answer:
        served.call(_end_watches(served))  # such a stream would go on for ever
        answer.read()
    return answer


async def _end_watches(served: Served) -> None:
    for watch in [*served.service.watches]:
        await watch.aclose()


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", TABLE)
def test_whoever_asks_gets_what_is_theirs(
    served: Served, db: Store, sessions: None, name: str, who: str | None
) -> None:
    ask = TABLE[name]
    before = db.transact(_dump)
    with served.client(who) as client:
        answer = asked(served, client, ask, HERS)
        expected = ask.expected[WHO.index(who)]
        if isinstance(expected, list):
            assert ask.found is not None
            assert ask.found(answer) == expected
        else:
            assert answer.status_code == expected, answer.text
    if who in ("bob", "support", None) and "POST /sessions" not in name:
        assert db.transact(_dump) == before, "nothing of alice's was touched"
        assert "Secret" not in answer.text or who == "support"


FOREIGN = [name for name, ask in TABLE.items() if ask.expected[1] == 404]
BEGINS = ("POST /agents/{agent_id}/runs", "POST /teams/{team_id}/runs")
"""A run into a session that is not there makes it: there the two differ, as the library has it."""


@pytest.mark.parametrize("name", [name for name in FOREIGN if name not in BEGINS])
def test_what_is_somebody_elses_is_answered_as_what_is_not_there(served: Served, sessions: None, name: str) -> None:
    with served.client("bob") as bob:
        foreign, missing = (asked(served, bob, TABLE[name], session_id) for session_id in (HERS, MISSING))
    assert foreign.status_code == missing.status_code == 404
    assert foreign.text.replace(HERS, MISSING) == missing.text
    assert {**foreign.headers, "date": "", "content-length": ""} == {
        **missing.headers,
        "date": "",
        "content-length": "",
    }


def test_a_run_belongs_to_who_asked_for_it_also_where_two_use_the_same_key(served: Served, sessions: None) -> None:
    key = {"Idempotency-Key": "payment-17"}
    runs = {}
    for who in ("alice", "bob"):
        with served.client(who) as client:
            for _ in range(2):
                answer = client.post(RUN, data={"message": f"I am {who}"}, headers=key)
                first = events_of(answer.text)[0][1]
                assert events_of(answer.text)[-1][1]["content"] == f"You said: I am {who}"
                runs.setdefault(who, set()).add((first["session_id"], first["run_id"]))
            assert len(client.get("/sessions", params={"component_id": "desk"}).json()["data"]) == (
                2 if who == "alice" else 1
            )
    assert {len(found) for found in runs.values()} == {1}
    assert runs["alice"] != runs["bob"]


def test_agents_that_were_set_up_for_one_session_or_user_do_not_share_it_with_all() -> None:
    with SqliteDb() as db:
        agent = Agent(EchoModel(), id="desk", db=db, session_id="shared", user_id="somebody")
        with serving(create_app([agent], auth=CALLERS)) as served:
            for who in ("alice", "bob"):
                with served.client(who) as client:
                    answer = client.post(RUN, data={"message": "Hi", "stream": "false"}).json()
                    assert answer["user_id"] == who
                    assert answer["session_id"] != "shared"
