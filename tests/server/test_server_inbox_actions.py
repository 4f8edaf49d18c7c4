"""What is done in the inbox, by forms and by a script; and how it is undone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from server_kit import CALLERS, OWN, PAGE, BrokenModel, Served, SlowModel, browser, events_of, serving, signed_in

from recollect import Agent, EchoModel, Message, ModelError, RunStatus, SessionNamer, SqliteDb, Store, Team
from recollect.port import Tx, reads
from recollect.server import Caller, create_app
from recollect.server.inbox import undo as undoing
from recollect.server.inbox.desk import Desk

SCRIPT = {"HX-Request": "true", "Accept": "*/*"}

TABLES = ("sessions", "values", "runs", "messages", "prompts")


@pytest.fixture(scope="module")
def served(db: Store) -> Iterator[Served]:
    namer = SessionNamer(model=EchoModel(reply="Two Days Porto"))
    desk = Agent(EchoModel(), id="desk", name="Desk", db=db, session_namer=namer)
    flaky = Agent(BrokenModel(ModelError("it is away")), id="flaky", db=db)
    member = Agent(EchoModel(reply="seen"), id="member")
    crew = Team([member], model=EchoModel(), id="crew", db=db)
    with serving(create_app([desk, flaky], [crew], auth=CALLERS)) as running:
        yield running


@pytest.fixture
def alice(served: Served, db: Store) -> Iterator[httpx2.Client]:
    """Alice's browser, and a session ``s`` of hers."""
    db.delete_sessions([header.session_id for header in db.iter_sessions()])
    Agent(EchoModel(), id="desk", db=db).run("Plan two days", session_id="s", user_id="alice", run_id="r1")
    with signed_in(served) as client:
        yield client


def sent(client: httpx2.Client, what: str, **fields: Any) -> httpx2.Response:
    """A form without scripts."""
    return client.post(f"/inbox/{what}", data={"session_id": "s", **fields}, headers=OWN)


def done(client: httpx2.Client, what: str, **fields: Any) -> dict[str, Any]:
    """What a script is told."""
    answer = client.post(f"/inbox/{what}", data={"session_id": "s", **fields}, headers=OWN | SCRIPT)
    assert (answer.status_code, answer.content) == (204, b""), answer.text
    told: dict[str, Any] = json.loads(answer.headers["hx-trigger"])["done"]
    return told


def deed(answer: httpx2.Response) -> str:
    """What a page offers to undo."""
    return parse_qs(urlsplit(answer.headers["location"]).query)["undo"][0]


@reads
async def _dump(tx: Tx, *, of: str) -> list[Any]:
    """All that is stored of a session but what belongs to a copy of it: its epoch, version and claims."""
    found: list[Any] = []
    for table in TABLES:
        [rows] = await tx.execute(
            (f"select * from recollect_{table} where session_id = :of order by 1, 2, 3", {"of": of})
        )
        found.append(rows)
    return found


def content(db: Store, session_id: str = "s") -> Any:
    """Everything in a session, as it would be exported, with its marks."""
    header = db.get_header(session_id)
    session = db.get_session(session_id)
    assert header is not None
    assert session is not None
    told = session.to_dict()
    marks = {name: getattr(header, name) for name in header.__struct_fields__ if name not in ("version", "epoch")}
    runs = [(run.to_dict(), run.attempt, run.error, run.metrics) for run in session.runs]
    return told, marks, runs, db.get_values(session_id, "tag")


def test_a_form_leads_to_a_page_that_says_what_was_done_and_offers_to_undo_it(alice: httpx2.Client) -> None:
    answer = sent(alice, "rename", name="Porto")
    assert answer.status_code == 303
    address = urlsplit(answer.headers["location"])
    assert (address.path, parse_qs(address.query)["did"]) == ("/s/s", ["renamed"])
    page = alice.get(answer.headers["location"]).text
    assert "<span>Renamed</span>" in page
    assert f'name="deed" value="{deed(answer)}"' in page
    undone = alice.post("/inbox/undo", data={"deed": deed(answer)}, headers=OWN)
    assert (undone.status_code, undone.headers["location"]) == (303, "/?did=undone")


def test_a_script_is_told_what_was_done_by_an_event(alice: httpx2.Client) -> None:
    told = done(alice, "rename", name="Porto")
    assert told | {"undo": ""} == {"text": "Renamed", "session": "s", "gone": False, "undo": ""}
    assert done(alice, "undo", deed=told["undo"]) == {"text": "Undone", "session": "s", "gone": False, "undo": None}


BEFORE = {"": None, "Made Up": "auto", "Plan two days": "fallback", "By hand": "manual"}


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("what", ["rename", "generate"])
def test_a_name_is_undone_whatever_it_was_before(alice: httpx2.Client, db: Store, name: str, what: str) -> None:
    if name:
        db.set_session_name("s", name, source=BEFORE[name] or "")
    before = content(db)
    told = done(alice, what, name="Porto")
    now = db.get_header("s")
    assert now is not None
    assert (now.name, now.name_source) == (("Porto", "manual") if what == "rename" else ("Two Days Porto", "auto"))
    assert done(alice, "undo", deed=told["undo"])["text"] == "Undone"
    after = content(db)
    if what == "generate":
        assert after[1].pop("aux_tokens") > before[1].pop("aux_tokens"), "what it took is not undone"
    assert after == before


def test_a_name_that_somebody_gave_meanwhile_is_not_undone(alice: httpx2.Client, db: Store) -> None:
    told = done(alice, "rename", name="Porto")
    db.set_session_name("s", "Lisbon")
    answer = alice.post("/inbox/undo", data={"deed": told["undo"]}, headers=OWN | SCRIPT)
    assert answer.status_code == 409
    assert "another name meanwhile" in answer.json()["detail"]
    header = db.get_header("s")
    assert header is not None
    assert header.name == "Lisbon"


@pytest.mark.parametrize("name", ["", " ", "x" * 201])
def test_a_name_that_is_none_is_refused_and_said_on_a_page(alice: httpx2.Client, db: Store, name: str) -> None:
    before = content(db)
    answer = sent(alice, "rename", name=name)
    assert answer.status_code == 422
    assert "<h1>That did not work</h1>" in answer.text
    script = alice.post("/inbox/rename", data={"session_id": "s", "name": name}, headers=OWN | SCRIPT)
    assert (script.status_code, script.json()["code"]) == (422, "invalid_argument")
    assert content(db) == before


def test_the_namer_of_the_agent_has_its_say(tmp_path: Any) -> None:
    def shout(name: str, _: Any) -> str:
        return name.upper()

    agent = Agent(EchoModel(), id="desk", db=SqliteDb(), session_namer=SessionNamer(policy=shout))
    agent.run("Hi", session_id="s", user_id="alice")
    with serving(create_app([agent], auth=CALLERS)) as served, signed_in(served) as client:
        told = done(client, "rename", name="porto")
        assert agent.get_session_name("s") == "PORTO"
        done(client, "undo", deed=told["undo"])
        assert agent.get_session_name("s") == ""


def _marks(db: Store) -> tuple[bool, bool]:
    header = db.get_header("s")
    assert header is not None
    return header.archived, header.pinned


@pytest.mark.parametrize("was", [False, True])
@pytest.mark.parametrize("on", [False, True])
def test_archiving_is_undone_to_what_it_was(alice: httpx2.Client, db: Store, was: bool, on: bool) -> None:  # noqa: FBT001 - a table
    db.archive_session("s", was)
    told = done(alice, "archive", on=str(on).lower())
    assert told["text"] == ("Moved to Done" if on else "Moved back to Open")
    assert _marks(db) == (on, False)
    done(alice, "undo", deed=told["undo"])
    assert _marks(db) == (was, False)


def test_a_session_is_pinned_and_let_go(alice: httpx2.Client, db: Store) -> None:
    assert done(alice, "pin") == {"text": "Pinned", "session": "s", "gone": False, "undo": None}
    assert _marks(db) == (False, True)
    answer = sent(alice, "pin", on="false")
    assert (answer.status_code, answer.headers["location"]) == (303, "/s/s?did=unpinned")
    assert _marks(db) == (False, False)


def test_tags_are_what_the_form_says(alice: httpx2.Client, db: Store) -> None:
    db.tag_session("s", ["old", "urgent"])
    assert done(alice, "tag", tags=" urgent, billing ,, billing")["text"] == "Tags saved"
    assert sorted(db.get_values("s", "tag")) == ["billing", "urgent"]
    assert sent(alice, "tag", tags="").headers["location"] == "/s/s?did=tagged"
    assert not db.get_values("s", "tag")


def _full(db: Store) -> None:
    """A session with all that one may hold."""
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at":  1.50}'}}
    run = db.begin_run("s", [Message("user", "Look")], user_id="alice", run_id="r2", prompt=Message("system", "Brief."))
    db.append_messages(
        run, [Message("assistant", None, tool_calls=[call]), Message("tool", "x\x00y", tool_call_id="c")]
    )
    db.finish_run(run, [Message("assistant", "I saw.", provider_data={"k": None})])
    member = db.begin_run("s", [Message("user", "Do")], user_id="alice", parent_run_id="r2", agent_id="m", run_id="m1")
    db.finish_run(member, [Message("assistant", "Done.")])
    for status in (RunStatus.error, RunStatus.cancelled, RunStatus.regenerated):
        ended = db.begin_run("s", [Message("user", "More")], user_id="alice", run_id=str(status))
        db.finish_run(ended, status=status, error="it broke" if status is RunStatus.error else None)
    db.update_values("s", "state", {"n": 1, "none": None})
    db.update_values("s", "metadata", {"ticket": "https://tickets.example/7", "a": [1.5, None]})
    db.tag_session("s", ["red"])
    db.pin_session("s")
    db.set_session_name("s", "Fallen back", source="fallback")


def test_what_was_deleted_comes_back_as_it_was(alice: httpx2.Client, db: Store, served: Served) -> None:
    _full(db)
    before, stored = content(db), db.transact(_dump, of="s")
    told = done(alice, "delete")
    assert (told["text"], told["gone"]) == ("Deleted", True)
    assert db.get_header("s") is None
    assert db.transact(_dump, of="s") == [[], [], [], [], []]
    assert done(alice, "undo", deed=told["undo"])["session"] == "s"
    assert content(db) == before
    assert db.transact(_dump, of="s")[1:] == stored[1:], "row by row"
    assert {hit.session_id for hit in db.search("saw")} == {"s"}


def test_after_a_deletion_without_scripts_the_list_offers_to_undo_it(alice: httpx2.Client, db: Store) -> None:
    answer = sent(alice, "delete")
    assert urlsplit(answer.headers["location"]).path == "/"
    page = alice.get(answer.headers["location"]).text
    assert "<span>Deleted</span>" in page
    [name] = re.findall(r'name="deed" value="([^"]+)"', page)
    alice.post("/inbox/undo", data={"deed": name}, headers=OWN)
    assert db.get_header("s") is not None


def test_what_was_deleted_does_not_come_back_over_what_has_its_id_by_now(alice: httpx2.Client, db: Store) -> None:
    told = done(alice, "delete")
    db.create_session("s", user_id="bob")
    before = content(db)
    answer = alice.post("/inbox/undo", data={"deed": told["undo"]}, headers=OWN | SCRIPT)
    assert answer.status_code == 409
    assert "there is another session 's' by now" in answer.json()["detail"]
    assert content(db) == before
    db.delete_session("s")
    assert done(alice, "undo", deed=told["undo"])["text"] == "Undone", "one that failed may be tried again"


def test_who_did_it_may_undo_it_and_nobody_else(alice: httpx2.Client, db: Store, served: Served) -> None:
    told = done(alice, "delete")
    for token in ("bobs-token", "admins-token"):
        with signed_in(served, token) as other:
            assert done(other, "undo", deed=told["undo"])["text"] == "It is too late to undo that"
    assert db.get_header("s") is None
    assert done(alice, "undo", deed=told["undo"])["text"] == "Undone"
    assert done(alice, "undo", deed=told["undo"])["text"] == "It is too late to undo that", "once"


def test_an_administrator_may_undo_what_it_did_to_anybodys(alice: httpx2.Client, db: Store, served: Served) -> None:
    with signed_in(served, "admins-token") as root:
        told = done(root, "delete")
        done(root, "undo", deed=told["undo"])
    header = db.get_header("s")
    assert header is not None
    assert header.user_id == "alice"


def test_after_a_while_it_is_too_late(alice: httpx2.Client, db: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undoing, "SECONDS", 0.2)
    monkeypatch.setattr(undoing, "LATE", 0.1)
    told = done(alice, "delete")
    time.sleep(0.5)
    answer = alice.post("/inbox/undo", data={"deed": told["undo"]}, headers=OWN)
    assert answer.headers["location"] == "/?did=late"
    assert "It is too late to undo that" in alice.get(answer.headers["location"]).text
    assert db.get_header("s") is None


def test_what_can_be_undone_is_bounded_and_let_go_of(alice: httpx2.Client, db: Store, served: Served) -> None:
    desk: Desk = served.app.state.inbox
    for number in range(undoing.MOST + 5):
        db.create_session(f"n{number}", user_id="alice")
        done(alice, "delete", session_id=f"n{number}")
    assert len(desk.undos._deeds) == undoing.MOST
    served.call(_closed(desk))
    assert not desk.undos._deeds
    assert done(alice, "undo", deed="n")["text"] == "It is too late to undo that"


async def _closed(desk: Desk) -> None:
    desk.undos.close()


def test_a_session_that_cannot_be_kept_is_not_deleted(
    alice: httpx2.Client, db: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        msg = "no room is left"
        raise MemoryError(msg)

    monkeypatch.setattr("recollect.server.inbox.actions.copy_sessions", full)
    assert sent(alice, "delete").status_code == 500
    assert db.get_header("s") is not None


def test_a_fork_is_shown_at_once(alice: httpx2.Client, db: Store) -> None:
    db.finish_run(
        db.begin_run("s", [Message("user", "More")], user_id="alice", run_id="r2"), [Message("assistant", "Yes")]
    )
    told = done(alice, "fork", run_id="r1")
    made = db.get_session(told["session"])
    assert made is not None
    assert (told["go"], told["text"]) == (f"/s/{made.session_id}", "This is the fork")
    assert (len(made.runs), made.user_id) == (1, "alice")
    answer = sent(alice, "fork")
    assert re.fullmatch(r"/s/[^/?]+\?did=forked", answer.headers["location"])
    assert "This is the fork" in alice.get(answer.headers["location"]).text


def test_a_message_is_answered_and_the_session_shown(alice: httpx2.Client, db: Store) -> None:
    answer = sent(alice, "say", message="And **then**?", runner="agent:desk")
    assert (answer.status_code, answer.headers["location"]) == (303, "/s/s")
    page = alice.get("/s/s").text
    assert "<p>You said: And <strong>then</strong>? (" in page
    assert content(db)[0]["user_id"] == "alice"


def test_a_new_conversation_begins_with_the_first_message(alice: httpx2.Client, db: Store) -> None:
    for runner, kind in (("agent:desk", "agent"), ("team:crew", "team")):
        answer = sent(alice, "say", session_id="", message="Hello", runner=runner)
        header = db.get_header(answer.headers["location"].removeprefix("/s/"))
        assert header is not None
        assert (header.user_id, header.kind) == ("alice", kind)


def test_what_is_said_comes_as_a_stream_to_a_script(alice: httpx2.Client) -> None:
    headers = OWN | {"Accept": "text/event-stream"}
    data = {"session_id": "s", "message": "Hello", "runner": "agent:desk"}
    events = events_of(alice.post("/inbox/say", data=data, headers=headers).text)
    assert [events[0][0], events[-1][0]] == ["RunStarted", "RunCompleted"]
    assert events[-1][1]["content"].startswith("You said: Hello")
    assert events[0][1]["session_id"] == "s"


def test_pictures_and_files_go_along(alice: httpx2.Client, db: Store) -> None:
    pixel = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
    files = [("files", ("a.png", pixel, "image/png")), ("files", ("b.txt", b"text", "text/plain"))]
    data = {"session_id": "s", "message": "Look", "runner": "agent:desk"}
    assert alice.post("/inbox/say", data=data, files=files, headers=OWN).status_code == 303
    run = db.get_last_run("s")
    assert run is not None
    [asked] = [message for message in run.said if message.role == "user"]
    assert len(asked.images) == 1
    assert [file.filename for file in asked.files] == ["b.txt"]
    page = alice.get("/s/s").text
    assert '<img src="data:image/png;base64,' in page
    assert "b.txt" in page


def test_a_form_without_a_file_sends_one_without_a_name(alice: httpx2.Client, db: Store) -> None:
    parts = {'name="session_id"': "s", 'name="message"': "Hi", 'name="runner"': "agent:desk"}
    parts['name="files"; filename=""\r\nContent-Type: application/octet-stream'] = ""
    body = "".join(f"--x\r\nContent-Disposition: form-data; {head}\r\n\r\n{said}\r\n" for head, said in parts.items())
    headers = OWN | {"Content-Type": "multipart/form-data; boundary=x"}
    assert alice.post("/inbox/say", content=f"{body}--x--\r\n", headers=headers).status_code == 303
    run = db.get_last_run("s")
    assert run is not None
    assert not run.said[0].files


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"message": "", "runner": "agent:desk"}, 422),
        ({"message": "Hi", "runner": "agent:nobody"}, 404),
        ({"message": "Hi", "runner": "desk"}, 404),
        ({"message": "Hi", "runner": "agent:desk", "session_id": "nowhere"}, 404),
        ({"message": "Hi", "runner": "agent:desk", "session_id": "a\x00b"}, 422),
        ({"message": "Hi", "runner": "agent:desk", "db": "other"}, 404),
    ],
)
def test_what_cannot_be_said_is_refused(alice: httpx2.Client, db: Store, fields: dict[str, str], status: int) -> None:
    before = [header.session_id for header in db.iter_sessions()]
    assert sent(alice, "say", **fields).status_code == status
    assert [header.session_id for header in db.iter_sessions()] == before
    assert len(content(db)[2]) == 1


def test_a_run_that_fails_is_shown_with_what_can_be_done(alice: httpx2.Client, db: Store) -> None:
    answer = sent(alice, "say", message="Hello", runner="agent:flaky")
    assert (answer.status_code, answer.headers["location"]) == (303, "/s/s")
    page = alice.get("/s/s").text
    assert "This run failed: " in page
    assert "it is away" in page
    assert 'action="/inbox/continue"' in page
    failed = db.transact(_last_run, "s")
    headers = OWN | {"Accept": "text/event-stream"}
    data = {"session_id": "s", "run_id": failed, "runner": "agent:desk"}
    events = events_of(alice.post("/inbox/continue", data=data, headers=headers).text)
    assert events[-1][0] == "RunCompleted", "the session is the desk's, and the desk goes on"
    assert "This run failed" not in alice.get("/s/s").text


@reads
async def _last_run(tx: Tx, session_id: str) -> str:
    sql = "select run_id from recollect_runs where session_id = :of order by run_seq desc limit 1"
    [[(run_id,)]] = await tx.execute((sql, {"of": session_id}))
    return str(run_id)


def test_a_run_is_tried_anew_in_its_place(alice: httpx2.Client, db: Store) -> None:
    answer = sent(alice, "retry", run_id="r1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/s/s")
    session = db.get_session("s")
    assert session is not None
    assert sorted(run.status for run in session.runs) == ["completed", "regenerated"]
    page = alice.get("/s/s").text
    assert page.count('<section class="turn') == 1
    headers = OWN | {"Accept": "text/event-stream"}
    newest = next(run.run_id for run in session.runs if run.status == "completed")
    events = events_of(alice.post("/inbox/retry", data={"session_id": "s", "run_id": newest}, headers=headers).text)
    assert events[-1][0] == "RunCompleted"


@pytest.mark.parametrize("what", ["continue", "retry", "stop"])
def test_a_run_that_is_not_there_cannot_go_on(alice: httpx2.Client, what: str) -> None:
    answer = sent(alice, what, run_id="nowhere")
    assert answer.status_code == 404 if what != "stop" else answer.status_code in (303, 404)


def test_a_run_under_way_is_shown_so_and_stopped(alice: httpx2.Client) -> None:
    slow = SlowModel(words=10_000, pause=0.01)
    agent = Agent(slow, id="desk", db=SqliteDb())
    with serving(create_app([agent], auth=CALLERS)) as served, signed_in(served) as client:
        headers = OWN | {"Accept": "text/event-stream"}
        data = {"message": "Count", "runner": "agent:desk"}
        with client.stream("POST", "/inbox/say", data=data, headers=headers) as answer:
            lines = answer.iter_lines()
            first = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
            session_id, run_id = first["session_id"], first["run_id"]
            with signed_in(served) as second:
                page = second.get(f"/s/{session_id}").text
                assert "is at work…" in page
                assert "Under way: " in second.get("/").text
                stopped = {"session_id": session_id, "run_id": run_id}
                answer_of_stop = second.post("/inbox/stop", data=stopped, headers=OWN | SCRIPT)
                assert answer_of_stop.status_code == 204
            for _ in lines:
                pass
        page = client.get(f"/s/{session_id}").text
        assert "This run was stopped before it was done." in page
        assert client.post("/inbox/stop", data=stopped, headers=OWN).headers["location"] == f"/s/{session_id}"


def test_an_answer_goes_on_when_its_reader_turns_to_something_else() -> None:
    agent = Agent(SlowModel(words=60, pause=0.01), id="desk", db=SqliteDb())
    with serving(create_app([agent], auth=CALLERS)) as served, signed_in(served) as client:
        headers = OWN | {"Accept": "text/event-stream"}
        data = {"message": "Count", "runner": "agent:desk"}
        with client.stream("POST", "/inbox/say", data=data, headers=headers) as answer:
            first = next(line for line in answer.iter_lines() if line.startswith("data: "))
        session_id = json.loads(first[6:])["session_id"]
        assert "is at work…" in client.get(f"/s/{session_id}").text
        _until(lambda: "is at work…" not in client.get(f"/s/{session_id}").text)
        assert ("word " * 60).strip() in client.get(f"/s/{session_id}").text
        assert served.call(served.under_way()) == 0


def _until(check: Callable[[], bool]) -> None:
    for _ in range(200):
        if check():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen")


@contextmanager
def _naming(*users: str, model: Any = None) -> Iterator[tuple[Served, SqliteDb]]:
    """A server whose sessions have no names, some of each of these users."""
    db = SqliteDb()
    namer = SessionNamer(model=model or EchoModel(reply="A Good Name"))
    agent = Agent(EchoModel(), id="desk", db=db, session_namer=namer)
    for user in users:
        for number in range(3):
            agent.run("Hello there", session_id=f"{user}-{number}", user_id=user)
    callers = CALLERS | {"boths-token": Caller("alice", frozenset({"user", "support"}))}
    with serving(create_app([agent], auth=callers)) as served:
        yield served, db


@pytest.mark.parametrize("token", ["alices-token", "boths-token"])
def test_all_of_ones_own_that_have_no_name_are_named(token: str) -> None:
    model = SlowModel(words=1, word="A Good Name")
    model.held = True
    with _naming("alice", "bob", model=model) as (served, db), signed_in(served, token) as alice:
        offer = alice.get("/inbox/unnamed").text
        assert re.search(r"3 unnamed, about [\d,]+ tokens", offer)
        begun = alice.post("/inbox/name-all", headers=OWN | SCRIPT)
        assert begun.status_code == 200
        assert "<progress" in begun.text
        model.held = False
        told: list[str] = []
        _until(lambda: told.append(alice.get("/inbox/unnamed").text) or "data-over" in told[-1])  # type: ignore[func-returns-value]
        assert re.search(r"3 named, [\d,]+ tokens", told[-1])
        names = {header.session_id: header.name for header in db.iter_sessions()}
        assert {name for of, name in names.items() if of.startswith("alice")} == {"A Good Name"}
        assert {name for of, name in names.items() if of.startswith("bob")} == {""}
        assert alice.get("/inbox/unnamed").text.strip() == "", "told once, and then nothing is left to offer"


def test_all_are_named_by_a_form_without_scripts() -> None:
    with _naming("alice", "bob") as (served, db), signed_in(served, "admins-token") as root:
        assert "6 unnamed" in root.get("/inbox/unnamed").text
        answer = root.post("/inbox/name-all", headers=OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        _until(lambda: {header.name for header in db.iter_sessions()} == {"A Good Name"})


def test_naming_that_is_under_way_is_not_begun_twice() -> None:
    slow = SlowModel(words=3, word="Name ")
    slow.held = True
    with _naming("alice", model=slow) as (served, _), signed_in(served) as alice:
        for _ in range(3):
            assert "<progress" in alice.post("/inbox/name-all", headers=OWN | SCRIPT).text
        slow.held = False
        _until(lambda: "data-over" in alice.get("/inbox/unnamed").text)
        assert slow.said == 9, "each of three sessions was asked about once"


def test_a_server_that_ends_ends_the_naming() -> None:
    slow = SlowModel(words=100, pause=0.01, word="Name ")
    with (
        _naming(*(f"user-{n}" for n in range(8)), model=slow) as (served, db),
        signed_in(served, "admins-token") as root,
    ):
        root.post("/inbox/name-all", headers=OWN | SCRIPT)
        assert slow.asked.wait(5)
    assert 0 < sum(bool(header.name) for header in db.iter_sessions()) < 24


def test_where_nobody_is_served_nobody_can_answer_or_name() -> None:
    db = SqliteDb()
    db.finish_run(db.begin_run("s", [Message("user", "Hi")], user_id="alice"), [Message("assistant", "Hello")])
    with serving(create_app(db=db, auth=CALLERS)) as served, signed_in(served) as alice:
        assert "nobody can answer" in alice.get("/s/s").text
        for what in ("generate", "name-all", "continue", "retry", "stop"):
            answer = sent(alice, what, run_id="r")
            assert (answer.status_code, "No agent or team is served" in answer.text.capitalize()) == (404, False)
            assert "no agent or team is served" in answer.text
        done(alice, "rename", name="Porto")
        assert "Porto" in alice.get("/").text


def test_each_database_has_sessions_and_agents_of_its_own() -> None:
    one = Agent(EchoModel(), id="one", db=SqliteDb())
    two = Agent(EchoModel(), id="two", db=SqliteDb())
    one.run("In the first", session_id="s", user_id="alice")
    two.run("In the second", session_id="s", user_id="alice")
    with serving(create_app([one, two], auth=CALLERS)) as served, signed_in(served) as alice:
        second = served.service.db_id(two.db)
        assert "In the second" not in alice.get("/").text
        page = alice.get("/", params={"db": second}).text
        assert "In the second" in page
        assert 'value="agent:one"' not in alice.get("/new", params={"db": second}).text
        answer = sent(alice, "say", session_id="", message="Hi", runner="agent:two", db=second)
        assert alice.get(answer.headers["location"]).status_code == 200
        assert sent(alice, "say", message="Hi", runner="agent:one", db=second).status_code == 404
        for what, fields in (("rename", {"name": "N"}), ("pin", {}), ("fork", {}), ("archive", {}), ("tag", {})):
            answer = sent(alice, what, db=second, **fields)
            assert f"db={second}" in answer.headers["location"]
            assert alice.get(answer.headers["location"]).status_code == 200
        assert one.get_session_name("s") == ""
        answer = sent(alice, "delete", db=second)
        assert answer.headers["location"].startswith(f"/?db={second}&did=deleted&undo=")
        done(alice, "undo", deed=deed(answer))
        assert two.get_session_name("s") == "N"


def test_what_fails_is_said_on_a_page_to_who_looks_at_one(alice: httpx2.Client, served: Served) -> None:
    answer = sent(alice, "pin", session_id="<b>nowhere</b>")
    assert answer.status_code == 404
    assert "there is no session &#39;&lt;b&gt;nowhere&lt;/b&gt;&#39;" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    with signed_in(served, "supports-token") as support:
        answer = sent(support, "pin")
        assert (answer.status_code, "Not allowed" in answer.text) == (403, True)
    with browser(served) as nobody:
        assert sent(nobody, "pin").headers["location"] == "/sign-in?next=%2F"


def test_support_may_read_and_is_offered_nothing_to_change(alice: httpx2.Client, served: Served) -> None:
    with signed_in(served, "supports-token") as support:
        page = support.get("/s/s", headers=PAGE).text
        assert "You may read this conversation, and change nothing in it." in page
        assert set(re.findall(r'action="([^"]*)"', page)) == {"/", "/sign-out"}
        assert "hx-post" not in page
