"""The OpenAPI document: whatever it allows is answered as it says, and never with a failure of the server's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from server_kit import CALLERS, Served, serving

from recollect import Agent, EchoModel, SqliteDb, Team
from recollect.server import Limits, create_app

EXAMPLES = int(os.environ.get("RECOLLECT_TEST_EXAMPLES", "3"))
"""Requests of each kind for each operation."""


def application() -> FastAPI:
    db = SqliteDb()
    desk = Agent(EchoModel(), id="travel-desk", db=db)
    crew = Team([Agent(EchoModel(), id="member")], model=EchoModel(), id="travel-team", db=db)
    db.create_session("0199f0a8-7c1e-7d2a-9d55-5a1c0f3c2b11", user_id="alice")  # the one of the document's examples
    return create_app([desk], [crew], auth=CALLERS, limits=Limits(rate=100_000, burst=100_000, guesses=100_000))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(application()) as running:
        yield running


schema = schemathesis.openapi.from_dict(application().openapi())


@schema.parametrize()
@hypothesis.settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_whatever_the_document_allows_is_answered_as_it_says(served: Served, case: Any) -> None:
    # Not all that an id or a cursor must be can be said in a schema: what is refused is a 422 that says why. And in
    # forms and queries all is text, where 0 is no for a flag and 0.5 a time.
    case.call_and_validate(
        base_url=served.url,
        headers={"Authorization": "Bearer alices-token"},
        excluded_checks=[
            schemathesis.checks.positive_data_acceptance,
            schemathesis.checks.negative_data_rejection,
        ],
    )
