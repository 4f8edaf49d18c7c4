"""What changes, told as it changes, over the library's own watching: only what is the caller's, bounded, to its end."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
from server_kit import CALLERS, TOKENS, Served, events_of, serving
from watch_kit import elsewhere, until, watchers

from recollect import Agent, EchoModel, SqliteDb, Store, open_db
from recollect.server import Limits, create_app
from recollect.server.v1.shapes import SessionEvent
from recollect.watching import WATCHERS

LIMITS = Limits(keep_alive=0.2, patience=1, rate=1000, burst=1000)


def app(db: Store, limits: Limits = LIMITS) -> Any:
    return create_app([Agent(EchoModel(), id="desk", db=db)], auth=CALLERS, limits=limits)


@pytest.fixture(scope="module")
def served(db: Store) -> Iterator[Served]:
    for session_id, user_id in (("s", "alice"), ("t", "bob"), ("u", None)):
        db.create_session(session_id, user_id=user_id)
    with serving(app(db)) as running:
        yield running


class Listener:
    """Somebody who listens, in a thread; what was told is there to be looked at."""

    def __init__(self, served: Served, who: str, path: str = "/v1/events", last: str | None = None) -> None:
        self.text = ""
        self.status = 0
        self.ended = threading.Event()
        self._client = served.client(who)
        headers = {} if last is None else {b"Last-Event-ID": last.encode("latin-1")}
        self._thread = threading.Thread(target=self._listen, args=(path, headers), daemon=True)
        self._opened = threading.Event()
        self._thread.start()
        assert self._opened.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _listen(self, path: str, headers: dict[bytes, bytes]) -> None:
        try:
            with self._client.stream("GET", path, headers=headers) as answer:
                self.status = answer.status_code
                self._opened.set()
                for chunk in answer.iter_text():
                    self.text += chunk
        except httpx2.HTTPError:
            pass
        finally:
            self._opened.set()
            self.ended.set()

    @property
    def told(self) -> list[tuple[str, str | None]]:
        """Of each event its kind and session."""
        return [(name, data["session_id"]) for name, data in events_of(self.text.rpartition("\n\n")[0])]

    @property
    def place(self) -> str:
        """The last id that was told."""
        return self.text.rpartition("id: ")[2].partition("\n")[0]

    def hears(self, *wanted: tuple[str, str | None]) -> None:
        """Wait until it was told all of these."""
        until(lambda: set(wanted) <= set(self.told))


def test_each_is_told_of_what_is_theirs(served: Served, db: Store) -> None:
    with (
        Listener(served, "alice") as alice,
        Listener(served, "bob") as bob,
        Listener(served, "support") as support,
        Listener(served, "admin", "/v1/sessions/t/events") as one,
        Listener(served, "admin", "/v1/events?user_id=alice") as hers,
    ):
        for session_id in ("s", "t", "u"):
            db.set_session_name(session_id, f"A name of {session_id}")
        db.create_session("gone", user_id="alice")
        alice.hears(("changed", "s"), ("changed", "gone"))
        db.delete_session("gone")
        alice.hears(("deleted", "gone"))
        hers.hears(("deleted", "gone"))
        support.hears(("changed", "t"), ("changed", "u"), ("deleted", "gone"))
        bob.hears(("changed", "t"))
        one.hears(("changed", "t"))
    for listener, theirs in ((alice, "s gone"), (bob, "t"), (one, "t"), (hers, "s gone"), (support, "s t u gone")):
        assert {session_id for _, session_id in listener.told} == set(theirs.split())
    assert "A name" not in support.text, "what was said is not told"
    for name, data in events_of(support.text):
        assert SessionEvent.model_validate(data).version == (None if name == "deleted" else data["version"])
    [(_, data)] = events_of(bob.text)
    assert data == {"session_id": "t", "user_id": "bob", "agent_id": None, "team_id": None, "version": 2}


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        ("alice", "/v1/events?user_id=", 200),
        ("alice", "/v1/sessions/s/events?user_id=bob", 403),
        ("bob", "/v1/events?user_id=alice", 403),
        ("support", "/v1/sessions/s/events?user_id=bob", 404),
        ("admin", "/v1/sessions/nowhere/events", 404),
        ("admin", "/v1/events?db_id=elsewhere", 404),
        ("admin", "/v1/sessions/a%00b/events", 422),
    ],
)
def test_who_may_listen_to_whom(served: Served, who: str, path: str, status: int) -> None:
    with Listener(served, who, path) as listener:
        assert listener.status == status


def test_who_comes_back_is_told_what_was_missed(served: Served, db: Store) -> None:
    with Listener(served, "alice") as stays:
        until(lambda: "id: " in stays.text)
        begun = stays.place
        assert stays.told == [], "one may come back before anything has changed"
        db.set_session_name("s", "First")
        stays.hears(("changed", "s"))
        known = stays.place
        for session_id in ("x", "y"):
            db.create_session(session_id, user_id="alice")
        stays.hears(("changed", "x"), ("changed", "y"))
        db.delete_session("y")
        stays.hears(("deleted", "y"))
        with Listener(served, "alice", last=begun) as from_the_beginning:
            from_the_beginning.hears(("changed", "s"), ("changed", "x"), ("deleted", "y"))
        with Listener(served, "alice", last=known) as again:
            again.hears(("changed", "x"), ("deleted", "y"))
            assert ("changed", "s") not in again.told
        with Listener(served, "alice", last=stays.place) as knows_all:
            db.delete_session("x")
            knows_all.hears(("deleted", "x"))
            assert knows_all.told == [("deleted", "x")]


@pytest.mark.parametrize("last", ["1", "before", "é", "WzEsMCwwXQ", "W3siYSI6MX1d", "a" * 5000])
def test_a_place_that_nobody_knows_is_answered_with_reset(served: Served, db: Store, last: str) -> None:
    with Listener(served, "alice", last=last) as listener:
        listener.hears(("reset", None))
        db.set_session_name("s", f"Named {last}"[:50])
        listener.hears(("changed", "s"))
        assert listener.told[0] == ("reset", None)


def test_what_happened_while_nobody_listened_is_answered_with_reset(served: Served, db: Store) -> None:
    places = {}
    for path in ("/v1/events", "/v1/sessions/s/events"):
        with Listener(served, "alice", path) as first:
            until(lambda first=first: "id: " in first.text)
            places[path] = first.place
    until(lambda: not is_watched(served))
    db.set_session_name("s", f"Named at {time.monotonic()}")
    with Listener(served, "alice", last=places["/v1/events"]) as again:
        again.hears(("reset", None))
    with Listener(served, "alice", "/v1/sessions/s/events", last=places["/v1/sessions/s/events"]) as one:
        one.hears(("changed", "s"))


def test_a_change_by_another_process_is_told(place: str) -> None:
    with open_db(place) as db:
        db.create_session("s", user_id="alice")
        with (
            serving(app(db)) as served,
            Listener(served, "alice") as alice,
            Listener(served, "alice", "/v1/sessions/s/events") as one,
            Listener(served, "bob") as bob,
        ):
            program = """
                import sys
                from recollect import Agent, EchoModel, open_db
                with open_db(sys.argv[1]) as db:
                    Agent(EchoModel(), db=db).run("Hello", session_id="theirs", user_id="alice")
                    db.set_session_name("s", "Named elsewhere")
                    db.delete_session("s")
            """
            elsewhere(program, place)
            alice.hears(("changed", "theirs"), ("deleted", "s"))
            one.hears(("deleted", "s"))
            assert bob.told == []


def is_watched(served: Served) -> bool:
    """Whether a thread looks for those who watch the server's database."""
    return id(served.service.db.home) in WATCHERS._hubs


def test_all_who_listen_share_one_thread_that_ends_with_them(served: Served) -> None:
    until(lambda: not is_watched(served))  # by those whom the test before has sent away
    before = {*watchers()}  # of other databases in this process
    listeners = [Listener(served, who) for who in ("alice", "bob", "support", "admin") for _ in range(10)]
    assert served.call(served.under_way()) == 40
    assert len({*watchers()} - before) == 1
    for listener in listeners:
        with listener:
            pass
    until(lambda: not is_watched(served))
    until(lambda: served.call(served.under_way()) == 0)
    gc.collect()
    assert not served.service.watches


def listening(served: Served, *, buffer: int = 4096) -> socket.socket:
    """The socket of somebody who has asked for events, and has read their beginning."""
    served.shrink(buffer)
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(10)
    made.connect(("127.0.0.1", served.port))
    head = f"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKENS['alice']}\r\n\r\n"
    made.sendall(head.encode())
    came = b""
    while b"id: " not in came:
        came += made.recv(4096)
    return made


def read_up(slow: socket.socket) -> bytes:
    """All that is told, until nothing was for two seconds."""
    slow.settimeout(2)
    came = b""
    with suppress(TimeoutError):
        while piece := slow.recv(65536):
            came += piece
    return came


def flood(db: Store, sessions: int, rounds: int) -> None:
    for number in range(rounds):
        for session in range(sessions):
            db.set_session_name(f"many-{session}", f"Round {number}")


def test_who_reads_too_slowly_is_told_to_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recollect.watching.MOST", 20)
    with SqliteDb() as db:
        for number in range(100):
            db.create_session(f"many-{number}", user_id="alice")
        with serving(app(db, Limits(patience=60, keep_alive=60))) as served, listening(served) as slow:
            end = time.monotonic() + 20
            waiting = _waiting(served)
            while not any(change.kind == "reset" for change in [*waiting.values()]):
                assert time.monotonic() < end
                flood(db, 100, 2)
                assert len(waiting) <= 20, "what waits for a slow reader is bounded"
            assert b"event: reset" in read_up(slow)
            db.create_session("last", user_id="alice")
            assert b'"last"' in read_up(slow), "from then on each change is told again"


def _waiting(served: Served) -> dict[str | None, Any]:
    """What waits for the only one who listens."""
    [watch] = served.service.watches
    waiting: dict[str | None, Any] = watch._watching._subscription._waiting  # type: ignore[union-attr]
    return waiting


def test_who_reads_nothing_is_let_go_of() -> None:
    with SqliteDb() as db:
        for number in range(200):
            db.create_session(f"many-{number}", user_id="alice")
        with serving(app(db, Limits(patience=0.5, keep_alive=60))) as served, listening(served):
            end = time.monotonic() + 20
            while served.call(served.under_way()):
                assert time.monotonic() < end
                flood(db, 200, 1)
            until(lambda: not is_watched(served))


def test_a_client_that_vanishes_leaves_nothing(served: Served) -> None:
    for _ in range(20):
        listening(served).close()
    until(lambda: served.call(served.under_way()) == 0)
    gc.collect()
    assert not served.service.watches
    until(lambda: not is_watched(served))


def test_streams_end_with_the_server_and_nothing_is_left() -> None:
    with SqliteDb() as db, serving(app(db), grace=5) as served:
        listeners = [Listener(served, "alice") for _ in range(5)]
        assert served.call(served.under_way()) == 5
        began = time.monotonic()
        served.stop()
        assert time.monotonic() - began < 3, "nobody waits for streams that tell of nothing"
        for listener in listeners:
            with listener:
                assert listener.ended.wait(5)
                assert listener.told == []
        until(lambda: not is_watched(served))


def test_who_asks_while_the_server_ends_is_told_so() -> None:
    with SqliteDb() as db, serving(app(db)) as served, served.client() as alice:
        served.service.under_way.is_ending = True
        for path in ("/v1/events", "/v1/export"):
            answer = alice.get(path)
            assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "ending", "1")


def test_streams_end_when_their_database_is_closed() -> None:
    db = SqliteDb()
    with serving(app(db)) as served, Listener(served, "alice") as alice, Listener(served, "support"):
        db.close()
        assert alice.ended.wait(10)
        until(lambda: served.call(served.under_way()) == 0)


def test_a_database_that_is_away_is_said_to_be_before_a_stream_begins(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("no folder", encoding="utf-8")
    with SqliteDb(tmp_path / "place" / "s.db") as db, serving(app(db)) as served, served.client() as alice:
        answer = alice.get("/v1/events")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unreachable")
        assert served.call(served.under_way()) == 0


def test_silence_is_broken_by_a_sign_of_life(served: Served) -> None:
    with Listener(served, "alice") as listener:
        until(lambda: listener.text.count(": still here\n\n") >= 2)


def test_each_database_tells_of_its_own(tmp_path: Path) -> None:
    with SqliteDb(tmp_path / "1.db") as one, SqliteDb(tmp_path / "2.db") as two:
        agents = [Agent(EchoModel(), id=name, db=db) for name, db in (("a", one), ("b", two))]
        with serving(create_app(agents, auth=CALLERS)) as served, served.client() as alice:
            [_, second] = alice.get("/config").json()["databases"]
            with Listener(served, "alice") as first, Listener(served, "alice", f"/v1/events?db_id={second}") as other:
                two.create_session("in-two", user_id="alice")
                one.create_session("in-one", user_id="alice")
                first.hears(("changed", "in-one"))
                other.hears(("changed", "in-two"))
                assert (len(first.told), len(other.told)) == (1, 1)
