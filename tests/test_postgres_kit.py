"""The tools of the tests for Postgres do what those tests rely on."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pooler
import postgres_server
import psycopg
import pytest
from postgres_server import PostgresServer, fresh, template
from psycopg import Connection
from wire import Proxy


def _make(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("create table notes (text text)")


@pytest.fixture(autouse=True)
def _postgres() -> None:
    postgres_server.needed()


@pytest.fixture
def dsn() -> Iterator[str]:
    with fresh(template(_make)) as dsn:
        yield dsn


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    with Proxy(dsn) as proxy:
        yield proxy


@pytest.fixture
def own() -> PostgresServer:
    server = postgres_server.server()
    if not isinstance(server, PostgresServer):
        pytest.skip("a server that somebody else runs is neither stopped nor copied")
    return server


def add(connection: Connection, text: str = "one", *, prepare: bool = False) -> None:
    connection.execute("insert into notes values (%s)", [text], prepare=prepare)


def notes(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [text for [text] in connection.execute("select text from notes order by text")]


# The server


def test_a_fresh_database_has_nothing_of_another_one() -> None:
    made = template(_make)
    with fresh(made) as one, fresh(made) as other:
        with psycopg.connect(one) as connection:
            add(connection)
        assert (notes(one), notes(other)) == (["one"], [])


def test_a_database_goes_with_its_test_though_somebody_is_connected() -> None:
    with fresh(template(_make)) as dsn:
        connection = psycopg.connect(dsn)
    postgres_server.server().settle()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
    connection.close()


def test_it_is_reached_over_its_socket_and_over_tcp(own: PostgresServer) -> None:
    for tcp in (False, True):
        with psycopg.connect(own.dsn(tcp=tcp)) as connection:
            assert connection.info.host.startswith("/") is not tcp


def test_a_commit_survives_a_crash_of_the_server(dsn: str, own: PostgresServer) -> None:
    with psycopg.connect(dsn) as connection:
        add(connection)
    own.restart(crash=True)
    assert notes(dsn) == ["one"]


def test_after_a_crash_databases_are_made_as_before(own: PostgresServer) -> None:
    own.restart(crash=True)
    with fresh(template(_make)) as dsn:
        assert notes(dsn) == []


def test_a_server_is_gone_when_its_process_was_killed(own: PostgresServer, tmp_path: Path) -> None:
    dies = """
        import os, signal, sys
        sys.path.insert(0, sys.argv[1])
        import postgres_server
        print(postgres_server.server().folder, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(dies), str(Path(__file__).parent)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=tmp_path).stdout
    deadline = time.monotonic() + 10
    while Path(told.strip()).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_replica_repeats_what_was_written_and_waits_when_told_to(dsn: str, own: PostgresServer) -> None:
    name = dsn.rpartition("/")[2]
    with own.replica() as replica, psycopg.connect(dsn, autocommit=True) as connection:
        add(connection, "one")
        replica.catch_up()
        replica.pause()
        add(connection, "two")
        time.sleep(0.05)
        assert notes(replica.dsn(name)) == ["one"]
        replica.resume()
        replica.catch_up()
        assert notes(replica.dsn(name)) == ["one", "two"]


# The wire


def test_a_connection_is_counted_and_its_beginning_is_no_round_trip(proxy: Proxy) -> None:
    with psycopg.connect(proxy.dsn):
        pass
    assert (proxy.connections, proxy.round_trips) == (1, 0)


@pytest.mark.parametrize("prepare", [False, True])
def test_a_pipeline_is_one_round_trip(proxy: Proxy, dsn: str, *, prepare: bool) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        for _ in range(2):
            proxy.reset()
            with connection.pipeline():
                for text in ("one", "two", "three"):
                    add(connection, text, prepare=prepare)
            assert proxy.round_trips == 1
            assert proxy.statements == ["insert into notes values ($1)"] * 3
    assert len(proxy.parsed) == (0 if prepare else 3)
    assert len(notes(dsn)) == 6


def test_waiting_in_the_middle_of_a_pipeline_is_a_round_trip(proxy: Proxy) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        with connection.pipeline():
            assert connection.execute("select 1").fetchall() == [(1,)]
            connection.execute("select 2")
        assert proxy.round_trips == 2


def test_a_transaction_is_a_round_trip_for_each_of_its_statements(proxy: Proxy) -> None:
    with psycopg.connect(proxy.dsn) as connection:
        add(connection)
    assert proxy.statements == ["BEGIN", "insert into notes values ($1)", "COMMIT"]
    assert proxy.round_trips == 3


def test_a_copy_is_one_round_trip_and_the_next_statement_another(proxy: Proxy, dsn: str) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        for where, params in (("", None), (" where text <> %s", ["two"])):  # in either way of asking
            with connection.cursor().copy(f"copy notes from stdin{where}", params) as copy:
                copy.write_row(["one"])
        add(connection, "two")
    assert proxy.round_trips == 3
    assert notes(dsn) == ["one", "one", "two"]


@pytest.mark.parametrize("prepare", [False, True])
def test_what_is_cut_after_is_done_and_never_heard_of(proxy: Proxy, dsn: str, *, prepare: bool) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        add(connection, "one", prepare=prepare)
        stop = proxy.cut_after("insert into notes")
        with pytest.raises(psycopg.OperationalError):
            add(connection, "two", prepare=prepare)
        assert stop.reached
    assert notes(dsn) == ["one", "two"]


@pytest.mark.parametrize("prepare", [False, True])
def test_what_is_cut_before_never_arrives(proxy: Proxy, dsn: str, *, prepare: bool) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        add(connection, "one", prepare=prepare)
        proxy.cut_before("insert into notes")
        with pytest.raises(psycopg.OperationalError), connection.pipeline():
            add(connection, "two", prepare=prepare)
    assert notes(dsn) == ["one"]


def test_the_nth_batch_can_be_cut(proxy: Proxy, dsn: str) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        proxy.cut_before(3)
        add(connection, "one")
        add(connection, "two")
        with pytest.raises(psycopg.OperationalError):
            add(connection, "three")
    assert notes(dsn) == ["one", "two"]


def test_a_cut_is_made_once(proxy: Proxy, dsn: str) -> None:
    proxy.cut_after(lambda batch: batch.has("notes"))
    for expectation in (pytest.raises(psycopg.OperationalError), psycopg.connect(dsn)):
        with expectation, psycopg.connect(proxy.dsn, autocommit=True) as connection:
            add(connection)
    assert notes(dsn) == ["one", "one"]


def test_an_answer_is_held_until_it_is_released(proxy: Proxy, dsn: str) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        stop = proxy.hold_after("insert")
        adding = threading.Thread(target=add, args=(connection,))
        adding.start()
        stop.wait()
        assert notes(dsn) == ["one"]
        assert adding.is_alive()
        stop.release()
        adding.join()


def test_a_network_that_hangs_goes_on_later(proxy: Proxy, dsn: str) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        adding = threading.Thread(target=add, args=(connection,))
        with proxy.hold():
            adding.start()
            time.sleep(0.05)
            assert notes(dsn) == []
        adding.join()
    assert notes(dsn) == ["one"]


def test_who_refuses_hangs_up_and_can_be_called_again_later(proxy: Proxy) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError):
            add(connection)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.dsn)
    proxy.accept()
    psycopg.connect(proxy.dsn).close()


# The pooler


def test_a_transaction_through_the_pooler_is_on_any_of_its_connections(dsn: str) -> None:
    pooler.needed()
    which = "select pg_backend_pid()"
    with pooler.pooler(postgres_server.server()) as through, psycopg.connect(through(dsn)) as one:
        with psycopg.connect(through(dsn)) as other:
            assert one.execute(which).fetchone() != other.execute(which).fetchone()
        seen = set()
        for _ in range(4):
            seen.add(one.execute(which).fetchone())
            one.commit()
    assert len(seen) == 2
