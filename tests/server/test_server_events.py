"""What changes, told as it changes: one watch over a feed, many streams, bounded, and only of what is the caller's."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from server_kit import CALLERS, Served, events_of, serving

from recollect import Agent, EchoModel, SqliteDb
from recollect.server import Change, Limits, create_app


class Told:
    """A feed that tells what a test says. It counts who watches, and may fail."""

    def __init__(self) -> None:
        self.watching = 0
        self._queues: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Any]]] = []

    async def watch(self) -> AsyncIterator[Change]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        mine = (asyncio.get_running_loop(), queue)
        self._queues.append(mine)
        self.watching += 1
        try:
            while True:
                change = await queue.get()
                if isinstance(change, BaseException):
                    raise change
                yield change
        finally:
            self.watching -= 1
            self._queues.remove(mine)

    def tell(self, *changes: Any) -> None:
        for loop, queue in self._queues:
            for change in changes:
                loop.call_soon_threadsafe(queue.put_nowait, change)


def change(number: int, user: str | None = "alice", session: str = "s") -> Change:
    return Change(id=str(number), session_id=session, user_id=user, version=number)


@pytest.fixture
def feed() -> Told:
    return Told()


@pytest.fixture
def served(feed: Told) -> Iterator[Served]:
    db = SqliteDb()
    db.create_session("s", user_id="alice")
    db.create_session("t", user_id="bob")
    limits = Limits(queue=5, keep_alive=0.2, patience=1)
    with serving(create_app([Agent(EchoModel(), db=db)], auth=CALLERS, limits=limits, feed=feed)) as running:
        yield running


class Listener:
    """Somebody who listens, in a thread; what was told is there to be looked at."""

    def __init__(self, served: Served, who: str, path: str = "/v1/events", last: str | None = None) -> None:
        self.text = ""
        self.status = 0
        self.ended = threading.Event()
        self._client = served.client(who)
        headers = {} if last is None else {"Last-Event-ID": last}
        self._thread = threading.Thread(target=self._listen, args=(path, headers), daemon=True)
        self._opened = threading.Event()
        self._thread.start()
        assert self._opened.wait(10)

    def _listen(self, path: str, headers: dict[str, str]) -> None:
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

    def waits_for(self, count: int) -> list[tuple[str, Any]]:
        end = time.monotonic() + 10
        while len(found := events_of(self.text.rpartition("\n\n")[0])) < count:
            assert time.monotonic() < end, self.text
            time.sleep(0.01)
        return [(name, data.get("version")) for name, data in found]

    def leave(self) -> None:
        self._client.close()


def watched(feed: Told, count: int = 1) -> None:
    end = time.monotonic() + 10
    while feed.watching != count:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_each_is_told_of_what_is_theirs(served: Served, feed: Told) -> None:
    alice, bob = Listener(served, "alice"), Listener(served, "bob")
    support, one = Listener(served, "support"), Listener(served, "admin", "/v1/sessions/t/events")
    watched(feed)
    feed.tell(change(1), change(2, "bob", "t"), change(3, None, "u"), change(4))
    assert alice.waits_for(2) == [("session", 1), ("session", 4)]
    assert bob.waits_for(1) == [("session", 2)]
    assert support.waits_for(4) == [("session", number) for number in (1, 2, 3, 4)]
    assert one.waits_for(1) == [("session", 2)]
    assert "id: 1\nevent: session\n" in alice.text
    for listener in (alice, bob, support, one):
        listener.leave()
    watched(feed, 0)


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        ("alice", "/v1/events", 200),
        ("alice", "/v1/sessions/s/events", 200),
        ("alice", "/v1/sessions/t/events", 404),
        ("bob", "/v1/sessions/s/events", 404),
        ("bob", "/v1/events?user_id=alice", 403),
        ("support", "/v1/sessions/s/events", 200),
        ("admin", "/v1/sessions/t/events", 200),
        ("admin", "/v1/sessions/nowhere/events", 404),
        ("nobodys-token", "/v1/events", 401),
        ("nobodys-token", "/v1/sessions/s/events", 401),
    ],
)
def test_who_may_listen(served: Served, who: str, path: str, status: int) -> None:
    listener = Listener(served, who, path)
    assert listener.status == status
    listener.leave()


def test_who_comes_back_is_told_what_was_missed(served: Served, feed: Told) -> None:
    stays = Listener(served, "alice")
    watched(feed)
    feed.tell(*(change(number) for number in range(1, 4)))
    stays.waits_for(3)
    again = Listener(served, "alice", last="1")
    assert again.waits_for(2) == [("session", 2), ("session", 3)]
    unknown = Listener(served, "alice", last="before")
    feed.tell(change(4))
    assert unknown.waits_for(2) == [("reset", None), ("session", 4)]
    for listener in (stays, again, unknown):
        listener.leave()


def test_nothing_is_taken_for_known_that_happened_while_nobody_listened(served: Served, feed: Told) -> None:
    first = Listener(served, "alice")
    watched(feed)
    feed.tell(change(1))
    first.waits_for(1)
    first.leave()
    watched(feed, 0)
    again = Listener(served, "alice", last="1")
    assert again.waits_for(1) == [("reset", None)]
    again.leave()


def test_who_reads_too_slowly_is_told_to_read_anew(served: Served, feed: Told) -> None:
    listener = Listener(served, "alice")
    watched(feed)

    async def flood() -> None:
        [ear] = served.service.hub._ears  # type: ignore[union-attr]
        for number in range(100):
            ear.hear(change(number))
        assert ear.queue.qsize() <= 5

    served.call(flood())
    told = listener.waits_for(1)
    assert ("reset", None) in told
    assert len(told) <= 5
    listener.leave()


def test_a_feed_that_fails_is_begun_again_and_all_are_told(
    served: Served, feed: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recollect.server.feed.AGAIN", 0.05)
    listener = Listener(served, "alice")
    watched(feed)
    feed.tell(RuntimeError("the connection was cut"))
    assert listener.waits_for(1) == [("reset", None)]
    watched(feed)
    feed.tell(change(7))
    assert listener.waits_for(2)[-1] == ("session", 7)
    listener.leave()


def test_streams_end_with_the_server_and_nothing_is_left(feed: Told) -> None:
    db = SqliteDb()
    with serving(create_app([Agent(EchoModel(), db=db)], auth=CALLERS, feed=feed), grace=5) as served:
        listeners = [Listener(served, "alice") for _ in range(5)]
        watched(feed)
        assert served.call(served.under_way()) == 5
        began = time.monotonic()
    assert time.monotonic() - began < 3, "nobody waits for streams that tell of nothing"
    for listener in listeners:
        assert listener.ended.wait(5)
        assert listener.text == ""
        listener.leave()
    assert feed.watching == 0


def test_silence_is_broken_by_a_sign_of_life(served: Served) -> None:
    listener = Listener(served, "alice")
    time.sleep(0.7)
    assert listener.text.count(": still here\n\n") >= 2
    listener.leave()


def test_without_a_feed_there_are_no_events() -> None:
    with serving(create_app([Agent(EchoModel())], auth=CALLERS)) as served, served.client() as alice:
        assert alice.get("/v1/events").status_code == 404
        assert "/v1/events" not in json.dumps(alice.get("/openapi.json").json()["paths"])
