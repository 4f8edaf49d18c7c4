"""A primary and its streaming replica: lists may be read from the replica, and nothing else is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import postgres_server
import pytest
from postgres_server import PostgresServer, Replica

from recollect import Agent, EchoModel
from recollect.db.postgres import PostgresDb

pytestmark = pytest.mark.anyio


class Pair(NamedTuple):
    primary: PostgresServer
    replica: Replica


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    postgres_server.own_needed()
    primary = PostgresServer()
    try:
        with primary.replica() as replica:
            yield Pair(primary, replica)
    finally:
        primary.close()


@pytest.fixture
def db(servers: Pair) -> Iterator[PostgresDb]:
    """A database with a session that both servers have, and a replica that stands still."""
    name = servers.primary.create()
    with PostgresDb(servers.primary.dsn(name), read_url=servers.replica.dsn(name)) as db:
        Agent(EchoModel(), db=db).run("Hi", session_id="old", user_id="ada")
        servers.replica.catch_up()
        servers.replica.pause()
        yield db
        servers.replica.resume()


async def test_what_was_written_is_read_at_once_while_lists_may_lag(servers: Pair, db: PostgresDb) -> None:
    agent = Agent(EchoModel(), db=db)
    agent.run("Hi", session_id="new", user_id="ada")
    agent.set_session_name("old", session_name="Plan")
    for cached in (False, True):
        reader = agent.replace(cache_session=cached)
        assert len(reader.get_session("new").runs) == 1  # type: ignore[union-attr]
        assert len(await reader.aget_session_messages("new", limit=5)) == 2
        assert reader.get_session_name("old") == "Plan"
        assert (await reader.aget_chat_history("new"))[0].text == "Hi"
    assert [header.title for header in agent.get_sessions()] == ["Hi"]
    assert [header.title async for header in db.aiter_sessions(user_id="ada")] == ["Hi"]
    servers.replica.resume()
    servers.replica.catch_up()
    assert [header.title for header in agent.get_sessions(user_id="ada", sort="created_at")] == ["Hi", "Plan"]
    servers.replica.pause()


async def test_deleting_a_user_goes_by_what_is_there_and_not_by_the_list(servers: Pair, db: PostgresDb) -> None:
    Agent(EchoModel(), db=db).run("Hi", session_id="new", user_id="ada")
    assert await db.adelete_user("ada") == 2
    assert db.delete_user("ada") == 0
    servers.replica.resume()
    servers.replica.catch_up()
    assert len(db.get_sessions()) == 0
    servers.replica.pause()


def test_where_the_replica_is_away_the_primary_answers(
    servers: Pair, db: PostgresDb, caplog: pytest.LogCaptureFixture
) -> None:
    Agent(EchoModel(), db=db).run("Hi", session_id="new", user_id="ada")
    assert len(db.get_sessions()) == 1
    servers.replica.resume()
    servers.replica.stop()
    try:
        with caplog.at_level(logging.WARNING, "recollect"):
            assert len(db.get_sessions()) == 2
        assert "the replica does not answer" in caplog.text
        caplog.clear()
        assert len(db.get_sessions()) == 2
        assert not caplog.text, "for a while it is not asked again"
    finally:
        servers.replica.start()
        servers.replica.pause()
