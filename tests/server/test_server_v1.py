"""What AgentOS's routes lack: cursors, versions, names, export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from server_kit import CALLERS, Served, said, serving

from recollect import Agent, DatabaseBusy, EchoModel, InvalidArgument, SessionNamer, SqliteDb, Store, errors
from recollect.server import create_app
from recollect.server.problem import problem_of


@pytest.fixture(scope="module")
def served(db: Store) -> Iterator[Served]:
    def policy(name: str, header: Any) -> str:
        del header
        return "" if "forbidden" in name else name.capitalize()

    namer = SessionNamer(model=EchoModel(reply="Porto In Spring"), policy=policy)
    desk = Agent(EchoModel(), id="desk", db=db, session_namer=namer)
    with serving(create_app([desk], auth=CALLERS)) as running:
        yield running


@pytest.fixture
def alice(served: Served) -> Iterator[httpx2.Client]:
    with served.client("alice") as client:
        yield client


@pytest.fixture
def session(alice: httpx2.Client) -> str:
    """A session in which something was said."""
    found: str = said(alice, "Two days in Porto")[0][1]["session_id"]
    return found


def test_pages_follow_their_cursors_and_hold_each_session_once(alice: httpx2.Client) -> None:
    made = [alice.post("/sessions", json={"agent_id": "pages"}).json()["session_id"] for _ in range(5)]
    found, cursor = [], None
    while True:
        query = {"agent_id": "pages", "limit": 2, "sort": "created_at"} | ({"cursor": cursor} if cursor else {})
        page = alice.get("/v1/sessions", params=query).json()
        found += [entry["session_id"] for entry in page["sessions"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == made[::-1]
    wrong = alice.get("/v1/sessions", params={"cursor": "made up"})
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["argument"]) == (422, "invalid_argument", "cursor")
    naive = alice.get("/v1/sessions", params={"since": "2026-01-01T00:00:00"})
    assert naive.status_code == 422


def test_what_was_said_is_found_page_by_page_with_its_terms_marked(alice: httpx2.Client) -> None:
    for number in range(3):
        said(alice, f"Überall in Lissabon {number}")
    query: dict[str, Any] = {"q": "uberall liss*", "limit": 4}
    first = alice.get("/v1/search", params=query).json()
    second = alice.get("/v1/search", params=query | {"cursor": first["next_cursor"]}).json()
    hits = first["hits"] + second["hits"]
    assert second["next_cursor"] is None
    assert sorted(hit["role"] for hit in hits) == ["assistant"] * 3 + ["user"] * 3
    for hit in hits:
        assert {hit["snippet"][begin:end] for begin, end in hit["marks"]} == {"Überall", "Lissabon"}
    assert alice.get("/v1/search", params={"q": "lissabon", "limit": 101}).status_code == 422
    assert alice.get("/v1/search").status_code == 422


def test_a_version_has_a_tag_and_what_is_known_is_not_sent_again(alice: httpx2.Client, session: str) -> None:
    where = f"/v1/sessions/{session}"
    first = alice.get(where)
    tag = first.headers["etag"]
    assert tag.endswith(f'-{first.json()["version"]}"')
    same = alice.get(where, headers={"If-None-Match": f'"other", {tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    for known in (f"W/{tag}", "*"):
        assert alice.get(where, headers={"If-None-Match": known}).status_code == 304
    alice.patch(where, json={"metadata": {"k": 1}})
    changed = alice.get(where, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_a_change_is_made_to_what_the_caller_knows_or_not_at_all(alice: httpx2.Client, session: str) -> None:
    where = f"/v1/sessions/{session}"
    tag = alice.get(where).headers["etag"]
    change = {"name": "trip", "session_state": {"a": 1}, "metadata": {"m": None}}
    made = alice.patch(where, json=change, headers={"If-Match": tag})
    assert made.status_code == 200
    told = made.json()
    assert (told["name"], told["session_state"], told["metadata"]) == ("Trip", {"a": 1}, {"m": None})
    assert made.headers["etag"] == alice.get(where).headers["etag"] != tag
    stale = alice.patch(where, json={"name": "Late", "session_state": {"a": 2}}, headers={"If-Match": tag})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert alice.delete(where, headers={"If-Match": tag}).status_code == 412
    assert alice.get(where).json() == told
    marks = {"tags": ["red"], "pinned": True, "archived": True}
    marked = alice.patch(where, json=marks, headers={"If-Match": made.headers["etag"]}).json()
    assert (marked["tags"], marked["pinned"], marked["archived"]) == (["red"], True, True)
    weak = alice.patch(where, json={"name": "weak"}, headers={"If-Match": f"W/{alice.get(where).headers['etag']}"})
    assert weak.status_code == 412, "a weak tag does not name a version exactly"
    assert alice.delete(where, headers={"If-Match": "*"}).status_code == 204
    assert alice.get(where).status_code == 404


def test_of_many_who_know_the_same_version_one_changes_it(served: Served, alice: httpx2.Client, session: str) -> None:
    where = f"/v1/sessions/{session}"
    tag = alice.get(where).headers["etag"]

    def change(number: int) -> int:
        with served.client("alice") as client:
            body = {"session_state": {"by": number}, "tags": [f"t{number}"], "pinned": bool(number % 2)}
            return client.patch(where, json=body, headers={"If-Match": tag}).status_code

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(change, range(8)))
    assert sorted(answers) == [200] + [412] * 7
    winner = answers.index(200)
    told = alice.get(where).json()
    assert (told["session_state"], told["tags"], told["pinned"]) == ({"by": winner}, [f"t{winner}"], bool(winner % 2))


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"tags": ["red", "\ud800"]}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"metadata": {"a": "\ud800"}}, "metadata['a']"),
        ({"session_state": {"a": 1e999}}, "session_state['a']"),
    ],
)
def test_what_cannot_be_stored_changes_nothing_of_what_goes_along(
    alice: httpx2.Client, session: str, wrong: dict[str, Any], argument: str
) -> None:
    where = f"/v1/sessions/{session}"
    before = alice.get(where)
    body = {"name": "Along", "pinned": True, "archived": True} | wrong
    answer = alice.patch(where, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["argument"]) == (422, argument)
    assert (alice.get(where).json(), alice.get(where).headers["etag"]) == (before.json(), before.headers["etag"])


def test_keys_are_set_one_by_one_and_marks_as_they_are_named(alice: httpx2.Client, session: str) -> None:
    where = f"/v1/sessions/{session}"
    alice.patch(where, json={"session_state": {"a": 1, "b": 1}, "tags": ["red", "blue"], "pinned": True})
    told = alice.patch(where, json={"session_state": {"b": 2}, "tags": ["blue", "green"], "archived": True}).json()
    assert told["session_state"] == {"a": 1, "b": 2}
    assert (told["tags"], told["pinned"], told["archived"]) == (["blue", "green"], True, True)
    assert alice.patch(where, json={}).json() == told
    wrong = alice.patch(where, json={"name": "forbidden"})
    assert (wrong.status_code, wrong.json()["argument"]) == (422, "session_name")
    assert alice.patch(where, json={"nmae": "x"}).status_code == 422
    assert alice.get(where).json() == told


def test_a_model_names_a_session(alice: httpx2.Client, session: str) -> None:
    named = alice.post(f"/v1/sessions/{session}/name")
    assert (named.json()["name"], named.json()["name_source"]) == ("Porto in spring", "auto")
    assert named.headers["etag"] == alice.get(f"/v1/sessions/{session}").headers["etag"]
    empty = alice.post("/sessions", json={"agent_id": "desk"}).json()["session_id"]
    fallback = alice.post(f"/v1/sessions/{empty}/name", json={"fallback": "T-4711"}).json()
    assert (fallback["name"], fallback["name_source"]) == ("T-4711", "fallback")


def test_what_was_said_is_read_in_part(alice: httpx2.Client, session: str) -> None:
    said(alice, "More", session_id=session)
    where = f"/v1/sessions/{session}/messages"
    whole = alice.get(where).json()["messages"]
    assert [message["role"] for message in whole] == ["user", "assistant"] * 2
    assert alice.get(where, params={"last_n_runs": 1}).json()["messages"] == whole[2:]
    assert alice.get(where, params={"limit": 1}).json()["messages"] == whole[3:]


def test_what_is_exported_can_be_imported(alice: httpx2.Client, session: str) -> None:
    from recollect.transfer import read_line

    line = alice.get(f"/v1/sessions/{session}/export")
    read = read_line(line.content)
    assert next(message.text for message in read.get_messages()) == "Two days in Porto"
    lines = alice.get("/v1/export").content.splitlines()
    assert line.content.strip() in [one.strip() for one in lines]
    assert all(json.loads(one)["user_id"] == "alice" for one in lines)


@pytest.mark.parametrize("session_id", ["a/b", "50%", "a%2Fb", "%252F", "/", "ä/ö?x=1#y", "a b", ";,:@&=+$", "日本/語"])
def test_a_session_is_reached_whatever_its_id_is(alice: httpx2.Client, session_id: str) -> None:
    part = quote(session_id, safe="")
    run = alice.post(
        "/agents/desk/runs",
        data={"message": "Hi", "session_id": session_id, "stream": "false"},
        headers={"Idempotency-Key": "run/1"},
    )
    assert run.json()["session_id"] == session_id
    assert alice.get(f"/v1/sessions/{part}").json()["session_id"] == session_id
    assert alice.get(f"/sessions/{part}/runs/run%2F1").json()["run_id"] == "run/1"
    named = alice.post(f"/sessions/{part}/rename", json={"session_name": "Odd"}).json()
    assert (named["session_id"], named["session_name"]) == (session_id, "Odd")
    assert alice.options(f"/v1/sessions/{part}/messages").headers["allow"] == "GET, OPTIONS"
    assert alice.delete(f"/v1/sessions/{part}").status_code == 204
    gone = alice.get(f"/v1/sessions/{part}")
    assert (gone.status_code, gone.json()["detail"]) == (404, f"there is no session {session_id!r}")


def test_two_databases_are_told_apart_by_their_ids(tmp_path: Any) -> None:
    one, two = SqliteDb(tmp_path / "1.db"), SqliteDb(tmp_path / "2.db")
    agents = [Agent(EchoModel(), id="a", db=one), Agent(EchoModel(), id="b", db=two), Agent(EchoModel(), id="c")]
    with serving(create_app(agents, auth=CALLERS)) as served, served.client() as alice:
        first, second, third = (agent["db_id"] for agent in alice.get("/agents").json())
        assert first == third != second, "an agent without a database takes the first"
        assert alice.get("/config").json()["databases"] == [first, second]
        for agent in "abc":
            said(alice, f"I am {agent}", f"/agents/{agent}/runs")
        by_db = {db_id: alice.get("/sessions", params={"db_id": db_id}).json()["data"] for db_id in (first, second)}
        assert {db_id: len(found) for db_id, found in by_db.items()} == {first: 2, second: 1}
        assert len(alice.get("/v1/sessions").json()["sessions"]) == 2
        [only] = by_db[second]
        assert alice.get(f"/v1/sessions/{only['session_id']}").status_code == 404
        where = f"/v1/sessions/{only['session_id']}?db_id={second}"
        assert alice.post(where.replace("?", "/name?")).status_code == 200
    for agent, db in zip(agents, (one, two, None), strict=True):
        assert db is None or agent.db is db, "an agent that is served stays as it is"
        agent.close()


@pytest.mark.parametrize(
    "given",
    [{}, {"agents": [7]}, {"agents": "a"}, {"agents": [Agent(EchoModel()), Agent(EchoModel())]}, {"db": "s.db"}],
)
def test_an_application_of_nothing_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        create_app(**given, auth=CALLERS)


def test_a_database_alone_is_served() -> None:
    with SqliteDb() as db:
        db.create_session("s", user_id="alice")
        with serving(create_app(db=db, auth=CALLERS)) as served, served.client() as alice:
            assert alice.get("/agents").json() == []
            assert alice.get("/v1/sessions/s").status_code == 200
            assert (
                alice.post("/sessions/s/rename", json={"session_name": "By hand"}).json()["session_name"] == "By hand"
            )
            assert alice.post("/v1/sessions/s/name").status_code == 404


def test_every_error_of_the_library_has_a_status_and_keeps_its_code() -> None:
    def tree(kind: type[errors.RecollectError]) -> list[type[errors.RecollectError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in tree(child))]

    for kind in tree(errors.RecollectError):
        if kind.__module__ != "recollect.errors":
            continue
        error = kind.__new__(kind)
        Exception.__init__(error, "why")
        error.argument = "a"  # type: ignore[attr-defined]
        error.transient, error.retry_after, error.run = False, None, None  # type: ignore[attr-defined]
        told = problem_of(error)
        assert told.body["code"] == kind.code
        assert told.body["detail"] == (
            (kind.__doc__ or "").strip() if issubclass(kind, errors.DatabaseError) else "why"
        )
        assert 400 <= told.status <= 507
    assert problem_of(DatabaseBusy()).headers == {"Retry-After": "1"}
    limited = problem_of(errors.ModelError("slow down", transient=True, retry_after=7.2))
    assert (limited.status, limited.headers) == (503, {"Retry-After": "7"})
    unforeseen = problem_of(RuntimeError("postgresql://user:password@host"))
    assert (unforeseen.status, unforeseen.body["code"]) == (500, "internal_error")
    assert "password" not in str(unforeseen.body)


def test_where_a_database_is_stands_in_the_log_and_nowhere_else(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "secret-place").write_text("no folder", encoding="utf-8")
    db = SqliteDb(tmp_path / "secret-place" / "s.db")
    with serving(create_app([Agent(EchoModel(), id="desk", db=db)], auth=CALLERS)) as served, served.client() as alice:
        for answer in (alice.get("/sessions"), alice.post("/agents/desk/runs", data={"message": "Hi"})):
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unreachable")
            assert "secret-place" not in answer.text
    assert "secret-place" in caplog.text


def test_an_application_may_be_mounted_in_another() -> None:
    from fastapi import FastAPI

    inner = create_app([Agent(EchoModel(), id="desk", db=SqliteDb())], auth=CALLERS)
    outer = FastAPI(lifespan=lambda _: inner.router.lifespan_context(inner))
    outer.state.recollect = inner.state.recollect  # only for the kit of these tests
    outer.mount("/chat", inner)
    with serving(outer) as served, served.client() as alice, served.client(None) as nobody:
        assert nobody.get("/chat/health").status_code == 200
        assert nobody.get("/chat/agents").status_code == 401
        assert alice.get("/chat/sessions/a%2Fb").json()["detail"] == "there is no session 'a/b'"
        assert said(alice, "Hi", "/chat/agents/desk/runs")[-1][1]["content"] == "You said: Hi"
