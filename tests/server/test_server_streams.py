"""Streams and those who read them: clients that vanish, that read nothing, that come again; and the server's end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from server_kit import CALLERS, BrokenModel, Served, SlowModel, events_of, said, serving

from recollect import Agent, EchoModel, ModelError, RunStatus, SqliteDb
from recollect.server import Limits, create_app
from recollect.server.listening import listener_at


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDb]:
    with SqliteDb(tmp_path / "s.db", durability="normal") as store:
        yield store


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What the condition gives once it is met."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


class Raw:
    """A client with a socket of its own, which may stop reading, or vanish."""

    def __init__(
        self, served: Served, path: str, message: str = "Hi", *, buffer: int | None = None, key: str = ""
    ) -> None:
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", served.port))
        body = f"message={message}".encode()
        head = [
            f"POST {path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Authorization: Bearer alices-token",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
            *([f"Idempotency-Key: {key}"] if key else ()),
        ]
        self.socket.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def read_until(self, text: bytes) -> bytes:
        came = b""
        while text not in came:
            came += self.socket.recv(65536)
        return came

    def vanish(self) -> None:
        self.socket.close()


def runs(db: SqliteDb) -> list[Any]:
    return [run for header in db.iter_sessions() for run in db.get_session(header.session_id).runs]  # type: ignore[union-attr]


def nothing_is_left(served: Served) -> None:
    until(lambda: served.call(served.under_way()) == 0)


def test_a_client_that_vanishes_cancels_its_run_and_what_was_said_is_stored(db: SqliteDb) -> None:
    model = SlowModel(words=10_000, pause=0.01)
    with serving(create_app([Agent(model, id="desk", db=db)], auth=CALLERS)) as served:
        client = Raw(served, "/agents/desk/runs")
        client.read_until(b"RunContent")
        client.vanish()
        run = until(lambda: next((run for run in runs(db) if run.status is RunStatus.cancelled), None))
        assert run.content.startswith("word ")
        nothing_is_left(served)
        spoken = model.said
        time.sleep(0.1)
        assert model.said == spoken, "nobody is asked any more"
        with served.client() as alice:
            assert alice.get(f"/sessions/{run.session_id}/runs").json()[0]["status"] == "CANCELLED"


def test_a_client_that_vanishes_while_the_model_thinks_is_noticed(db: SqliteDb) -> None:
    model = SlowModel(words=1, pause=60)
    with serving(create_app([Agent(model, id="desk", db=db)], auth=CALLERS)) as served:
        client = Raw(served, "/agents/desk/runs")
        client.read_until(b"RunStarted")
        assert model.asked.wait(10)
        client.vanish()
        until(lambda: [run.status for run in runs(db)] == [RunStatus.cancelled])
        nothing_is_left(served)


def test_a_run_that_is_not_streamed_goes_on_without_its_client(db: SqliteDb) -> None:
    model = SlowModel(words=20, pause=0.02)
    with serving(create_app([Agent(model, id="desk", db=db)], auth=CALLERS)) as served:
        client = Raw(served, "/agents/desk/runs", "Hi&stream=false")
        assert model.asked.wait(10)
        client.vanish()
        until(lambda: [run.status for run in runs(db)] == [RunStatus.completed])
        nothing_is_left(served)


def test_a_client_that_reads_nothing_holds_up_its_run_for_a_while_and_then_loses_it(db: SqliteDb) -> None:
    model = SlowModel(words=100_000, pause=0.0, word="x" * 10_000)
    limits = Limits(patience=0.5)
    with serving(create_app([Agent(model, id="desk", db=db)], auth=CALLERS, limits=limits)) as served:
        client = Raw(served, "/agents/desk/runs", buffer=4096)
        run = until(lambda: next((run for run in runs(db) if run.status is RunStatus.cancelled), None), 20)
        assert 0 < len(run.content) < model.words * 10_000, "the run waited for its reader"
        nothing_is_left(served)
        client.vanish()
        with served.client() as alice:
            assert alice.get("/health").status_code == 200


def test_a_client_that_reads_slowly_gets_all_of_it(db: SqliteDb) -> None:
    model = SlowModel(words=300, pause=0.0, word="x" * 10_000)
    with serving(create_app([Agent(model, id="desk", db=db)], auth=CALLERS)) as served:
        client = Raw(served, "/agents/desk/runs", buffer=4096)
        came = b""
        while b"RunCompleted" not in came[-5_000_000:]:
            came += client.socket.recv(100_000)
            if len(came) < 500_000:
                time.sleep(0.002)
        client.vanish()
        assert came.count(b"event: RunContent\n") == 300
        nothing_is_left(served)


def test_a_silent_stream_says_that_it_is_still_there(db: SqliteDb) -> None:
    limits = Limits(keep_alive=0.05)
    agent = Agent(SlowModel(words=1, pause=0.5), id="desk", db=db)
    with serving(create_app([agent], auth=CALLERS, limits=limits)) as served, served.client() as alice:
        text = alice.post("/agents/desk/runs", data={"message": "Hi"}).text
    assert text.count(": still here\n\n") >= 3
    assert [name for name, _ in events_of(text)] == ["RunStarted", "RunContent", "RunCompleted"]


def test_the_same_key_gives_the_same_run_and_never_a_second_one(db: SqliteDb) -> None:
    model = SlowModel(words=2)
    key = {"Idempotency-Key": "payment-17"}
    with serving(create_app([Agent(model, id="desk", db=db)], auth=CALLERS)) as served, served.client() as alice:
        form = {"message": "Pay"}
        first = events_of(alice.post("/agents/desk/runs", data=form, headers=key).text)
        again = events_of(alice.post("/agents/desk/runs", data=form, headers=key).text)
        whole = alice.post("/agents/desk/runs", data=form | {"stream": "false"}, headers=key).json()
    assert first[0][1]["run_id"] == again[0][1]["run_id"] == whole["run_id"] == "payment-17"
    assert first[0][1]["session_id"] == again[0][1]["session_id"] == whole["session_id"]
    assert [name for name, _ in again] == ["RunStarted", "RunContent", "RunCompleted"]
    assert first[-1][1]["content"] == again[-1][1]["content"] == whole["content"] == "word word "
    assert model.said == 2
    assert len(runs(db)) == 1


def test_a_run_that_is_under_way_is_not_begun_again(db: SqliteDb) -> None:
    model = SlowModel(words=10_000, pause=0.01)
    key = {"Idempotency-Key": "one"}
    with serving(create_app([Agent(model, id="desk", db=db)], auth=CALLERS)) as served, served.client() as alice:
        first = Raw(served, "/agents/desk/runs", key="one")
        first.read_until(b"RunContent")
        refused = alice.post("/agents/desk/runs", data={"message": "Hi"}, headers=key)
        assert (refused.status_code, refused.json()["code"]) == (409, "run_in_progress")
        assert refused.headers["retry-after"] == "1"
        first.vanish()


def test_a_run_that_failed_is_continued(db: SqliteDb) -> None:
    failing = Agent(BrokenModel(ModelError("away")), id="failing", db=db)
    desk = Agent(EchoModel(), id="desk", db=db)
    with serving(create_app([failing, desk], auth=CALLERS)) as served, served.client() as alice:
        (_, first), *_, (name, _) = said(alice, "Hi", "/agents/failing/runs")
        assert name == "RunError"
        where = f"/agents/desk/runs/{first['run_id']}/continue"
        text = alice.post(where, data={"session_id": first["session_id"]}).text
        assert events_of(text)[-1][1]["content"] == "You said: Hi"
        whole = alice.post(where, data={"session_id": first["session_id"], "stream": "false"}).json()
        assert (whole["content"], whole["run_id"]) == ("You said: Hi", first["run_id"])
        gone = alice.post("/agents/desk/runs/nowhere/continue", data={"session_id": first["session_id"]})
        assert (gone.status_code, gone.json()["code"]) == (404, "run_not_found")


def test_what_fails_before_a_run_begins_is_answered_with_its_status(db: SqliteDb) -> None:
    db.create_session("nobodys")
    agent = Agent(EchoModel(), id="desk", db=db, concurrent_runs="refuse")
    with serving(create_app([agent], auth=CALLERS)) as served, served.client("admin") as admin:
        wrong = ({"session_id": "nobodys"}, {"session_id": "x" * 300}, {"user_id": "a\x00b"}, {"session_id": "\x85"})
        answers = [admin.post("/agents/desk/runs", data={"message": "Hi"} | form) for form in wrong]
    assert [answer.status_code for answer in answers] == [404, 422, 422, 422]
    assert all(isinstance(answer.json()["detail"], str) for answer in answers)
    assert runs(db) == []


def test_an_application_that_ends_lets_runs_finish_within_its_grace(db: SqliteDb) -> None:
    app = create_app([Agent(SlowModel(words=20, pause=0.02), id="desk", db=db)], auth=CALLERS)
    with serving(app, grace=5) as served:
        client = Raw(served, "/agents/desk/runs")
        client.read_until(b"RunContent")
        began = time.monotonic()
    assert time.monotonic() - began < 4
    assert b"RunCompleted" in client.read_until(b"0\r\n\r\n")
    client.vanish()
    assert [run.status for run in runs(db)] == [RunStatus.completed]


@pytest.mark.parametrize("stream", ["true", "false"])
def test_runs_that_take_longer_are_asked_to_end_and_what_was_said_is_stored(db: SqliteDb, stream: str) -> None:
    model = SlowModel(words=10_000, pause=0.02)
    with serving(create_app([Agent(model, id="desk", db=db)], auth=CALLERS), grace=0.3) as served:
        client = Raw(served, "/agents/desk/runs", f"Hi&stream={stream}")
        until(lambda: model.said > 2)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    told = client.read_until(b"CANCELLED")
    client.vanish()
    assert b"word word" in told
    [run] = runs(db)
    assert run.status is RunStatus.cancelled
    assert run.content.startswith("word word")


def test_a_run_whose_tool_hears_nothing_is_cut_off_at_last(db: SqliteDb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recollect.server.underway.LAST", 0.2)

    def sleep(text: str) -> str:
        time.sleep(3)
        return text

    agent = Agent(EchoModel(), id="desk", db=db, tools=[sleep])
    with serving(create_app([agent], auth=CALLERS), grace=0.1) as served:
        client = Raw(served, "/agents/desk/runs", "sleep now")
        client.read_until(b"ToolCallStarted")
        began = time.monotonic()
    assert time.monotonic() - began < 2.5, "nobody waits for a tool that will not end"
    [run] = runs(db)
    assert run.status is RunStatus.cancelled
    client.vanish()


def test_who_asks_while_the_server_ends_is_told_so(db: SqliteDb) -> None:
    with serving(create_app([Agent(EchoModel(), id="desk", db=db)], auth=CALLERS)) as served, served.client() as alice:
        served.service.under_way.is_ending = True
        answer = alice.post("/agents/desk/runs", data={"message": "Hi"})
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "ending", "1")


def test_small_packets_do_not_wait_for_one_another() -> None:
    with listener_at("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP, "by this asyncio sees that it may set TCP_NODELAY"


def test_events_are_json_on_one_line(db: SqliteDb) -> None:
    agent = Agent(EchoModel(reply='line\r\none\u2028{"}'), id="desk", db=db)
    with serving(create_app([agent], auth=CALLERS)) as served, served.client() as alice:
        text = alice.post("/agents/desk/runs", data={"message": "Hi"}).text
    assert json.loads(text.split("data: ")[-1])["content"] == 'line\r\none\u2028{"}'
    assert "\r" not in text
