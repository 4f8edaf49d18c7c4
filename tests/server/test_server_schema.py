"""The OpenAPI document: whatever it allows is answered as it says, and never with a failure of the server's."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import jsonschema_rs
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis import checks
from server_kit import Served, serving

from recollect import Agent, EchoModel, SqliteDb, Team
from recollect.server import Caller, Limits, create_app
from recollect.server.fields import RUN, SESSION

EXAMPLES = int(os.environ.get("RECOLLECT_TEST_EXAMPLES", "0"))
"""Requests of each kind for each operation, made at random; unless given, ten, the same ones each time."""

TOKEN = {"Authorization": "Bearer adas-token"}

OPAQUE = {"cursor"}
"""Arguments whose form no schema tells: a cursor must have been given out."""


def application() -> FastAPI:
    """What the examples of the document are about."""
    db = SqliteDb()
    desk = Agent(EchoModel(), id="travel-desk", db=db)
    crew = Team([Agent(EchoModel(), id="member")], model=EchoModel(), id="travel-team", db=db)
    desk.run("Plan two days in Porto", session_id=SESSION, run_id=RUN, user_id="ada")
    callers = {"adas-token": Caller("ada"), "roots-token": Caller("root", frozenset({"admin"}))}
    return create_app([desk], [crew], auth=callers, limits=Limits(rate=100_000, burst=100_000, guesses=100_000))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server that soon ends each stream of events, which would go on for ever."""
    is_over = threading.Event()

    async def end_watches() -> None:
        for watch in [*running.service.watches]:
            await watch.aclose()

    def end_streams() -> None:
        while not is_over.wait(0.05):
            running.call(end_watches())

    with serving(application()) as running:
        ending = threading.Thread(target=end_streams)
        ending.start()
        yield running
        is_over.set()
        ending.join()


schema = schemathesis.openapi.from_dict(application().openapi())


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES or 10,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_whatever_the_document_allows_is_answered_as_it_says(served: Served, case: Any) -> None:
    answer = case.call(base_url=served.url, headers=TOKEN)
    case.validate_response(answer, headers=TOKEN, excluded_checks=[*_too_strict(case, answer)])


def _too_strict(case: Any, answer: Any) -> Iterator[Any]:
    """The checks that ask more of this one answer than a schema can say."""
    if answer.status_code == 412 or (answer.status_code == 422 and answer.json().get("argument") in OPAQUE):
        yield checks.positive_data_acceptance
    # In forms and queries all is text: there 0 and 1 are flags, as clients of AgentOS may send them, an object or list
    # is sent as its texts, or as nothing at all, and what nobody knows is passed over, for those clients ask for more.
    query = case.query or {}
    said = [*query.values(), *(case.body.values() if isinstance(case.body, dict) else ())]
    is_more = query.keys() - {parameter.name for parameter in case.operation.query}
    is_object = any(isinstance(value, dict | list) for value in query.values())
    if is_more or is_object or any(value in ({}, [], 0, 1, "0", "1") for value in said):
        yield checks.negative_data_rejection


def _parts() -> dict[str, Any]:
    parts: dict[str, Any] = application().openapi()["components"]["schemas"]
    return parts


@pytest.mark.parametrize("name", _parts())
def test_every_shape_has_an_example_that_is_one(name: str) -> None:
    parts = _parts()
    examples = parts[name].get("examples", [])
    assert examples, "the document shows how it looks"
    for example in examples:
        known = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": parts}}
        jsonschema_rs.Draft202012Validator(known).validate(example)


def test_every_parameter_says_what_it_means() -> None:
    document = application().openapi()
    assert document["openapi"].startswith("3.1.")
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"]
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (path, parameter["name"])
                if parameter["in"] == "path":
                    assert parameter["schema"]["maxLength"] == 255, "it is one of the ids that may hold slashes"
