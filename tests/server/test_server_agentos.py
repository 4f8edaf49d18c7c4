"""The routes of AgentOS as Agno's open-source chat client reads them: its paths, queries, fields and events."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx2
import msgspec
import pytest
from pydantic import BaseModel
from server_kit import CALLERS, BrokenModel, Served, SlowModel, events_of, said, serving

from recollect import Agent, EchoModel, Message, ModelError, SessionNamer, SqliteDb, Store, Team
from recollect.port import Delta, ModelRequest, Reply, World
from recollect.server import create_app


@pytest.fixture
def alice(served: Served) -> Any:
    with served.client("alice") as client:
        yield client


class Client:
    """What the client makes of a stream: it finds JSON objects in the bytes as they come, and folds them together."""

    def __init__(self) -> None:
        self.session_id = ""
        self.content: Any = ""
        self.tools: list[dict[str, Any]] = []
        self.images: Any = None
        self.extra_data: dict[str, Any] = {}
        self.failed: str | None = None
        self._last = ""
        self._buffer = ""

    def read(self, chunk: str) -> None:
        self._buffer += chunk
        while (begin := self._buffer.find("{")) >= 0:
            try:
                found, end = json.JSONDecoder().raw_decode(self._buffer[begin:])
            except json.JSONDecodeError:
                return
            self._buffer = self._buffer[begin + end :]
            self._take(found)

    def _take(self, chunk: dict[str, Any]) -> None:
        assert isinstance(chunk["event"], str), "else it is not the form that the client takes as it is"
        assert "data" not in chunk, "such an object would be taken for another form"
        assert isinstance(chunk["created_at"], int)
        event = chunk["event"].removeprefix("Team")
        if event == "RunStarted":
            self.session_id = chunk["session_id"]
        elif event == "RunContent":
            assert isinstance(chunk["content"], str)
            self.content += chunk["content"].replace(self._last, "", 1) if self._last else chunk["content"]
            self._last = chunk["content"]
        elif event in ("ToolCallStarted", "ToolCallCompleted"):
            self._call(chunk["tool"])
        elif event == "RunError":
            self.failed = chunk["content"]
        elif event == "RunCompleted":
            self.content = chunk["content"]
            for tool in chunk["tools"]:
                self._call(tool)
            self.images = chunk["images"] if chunk.get("images") is not None else self.images
            self.extra_data = {name: value for name, value in (chunk.get("extra_data") or {}).items() if value}
            assert chunk.get("response_audio") is None

    def seen(self) -> dict[str, Any]:
        """What it shows of the answer."""
        return shown(self.content, self.tools, self.images, self.extra_data)

    def _call(self, tool: dict[str, Any]) -> None:
        known = [one for one in self.tools if one["tool_call_id"] == tool["tool_call_id"]]
        if known:
            known[0].update(tool)
        else:
            self.tools.append(dict(tool))


def shown(content: Any, tools: Any, images: Any, extra_data: Any) -> dict[str, Any]:
    """What the client shows of an answer; where there is no text it shows dots, for ever, and no pictures."""
    assert content
    return {
        "content": content,
        "tools": [(tool["tool_call_id"], tool["tool_name"]) for tool in tools or []],
        "images": [(image["url"], image["revised_prompt"]) for image in images or []],
        "steps": [step["title"] for step in (extra_data or {}).get("reasoning_steps", [])],
        "references": (extra_data or {}).get("references", []),
    }


class Chat:
    """Asks for what is stored as the client does: its paths, queries and headers."""

    def __init__(self, client: httpx2.Client, kind: str = "agent", id: str = "desk") -> None:
        self._client = client
        self._kind = kind
        [self._entity] = [one for one in self._ask("GET", f"/{kind}s").json() if one["id"] == id]
        assert self._entity["name"]
        assert self._entity["db_id"]
        assert self._entity["model"]["model"]
        assert self._entity["model"]["provider"]

    def sessions(self) -> list[dict[str, Any]]:
        query = {"type": self._kind, "component_id": self._entity["id"], "db_id": self._entity["db_id"]}
        found: list[dict[str, Any]] = self._ask("GET", "/sessions", **query).json()["data"]
        for entry in found:
            assert entry["session_id"]
            assert entry["session_name"]
            assert datetime.fromisoformat(entry["created_at"]).tzinfo is not None
        return found

    def runs(self, session_id: str) -> httpx2.Response:
        return self._ask("GET", f"/sessions/{session_id}/runs", type=self._kind, db_id=self._entity["db_id"])

    def history(self, session_id: str) -> list[tuple[str, dict[str, Any]]]:
        """What was asked, and what is shown of each answer."""
        runs = self.runs(session_id).json()
        assert isinstance(runs, list), "it looks at nothing else"
        for run in runs:
            assert isinstance(run["run_input"], str)
            assert not (run["extra_data"] or {}).get("reasoning_messages"), "it would take these for calls of tools"
            assert (run["videos"], run["audio"], run["response_audio"]) == (None, None, None)
            assert datetime.fromisoformat(run["created_at"]).tzinfo is not None
        return [
            (run["run_input"], shown(run["content"], run["tools"], run["images"], run["extra_data"])) for run in runs
        ]

    def delete(self, session_id: str) -> httpx2.Response:
        return self._ask("DELETE", f"/sessions/{session_id}", db_id=self._entity["db_id"])

    def _ask(self, method: str, path: str, **query: str) -> httpx2.Response:
        return self._client.request(method, path, params=query, headers={"Content-Type": "application/json"})


def told(client: httpx2.Client, url: str, **fields: str) -> Client:
    """What the client makes of a run that it asks for as it does: a multipart form."""
    reader = Client()
    form = {name: (None, value) for name, value in fields.items()}
    with client.stream("POST", url, files=form) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for chunk in answer.iter_text():
            reader.read(chunk)
    return reader


def test_it_finds_the_server_its_agents_and_its_teams(alice: httpx2.Client) -> None:
    assert alice.get("/health").status_code == 200
    [agent], [team] = alice.get("/agents").json(), alice.get("/teams").json()
    assert (agent["id"], agent["name"], agent["model"]) == (
        "desk",
        "Desk",
        {"name": "echo", "model": "echo", "provider": "echo"},
    )
    assert (team["id"], team["name"], team["mode"]) == ("crew", "crew", "coordinate")
    assert agent["db_id"] == team["db_id"] == alice.get("/config").json()["databases"][0] != ""
    assert alice.get("/agents").json() == [agent], "the id of the database stays"
    assert alice.get("/agents/desk").json() == agent
    assert alice.get("/teams/crew").json() == team


def test_a_conversation_is_had_listed_read_and_deleted(served: Served, alice: httpx2.Client) -> None:
    served.service.db.delete_user("alice")
    [agent] = alice.get("/agents").json()
    first = told(alice, "/agents/desk/runs", message="look at {Paris}", stream="true", session_id="")
    assert first.content == "look: seen at {Paris}"
    assert [(tool["tool_name"], tool["result"]) for tool in first.tools] == [("look", "seen at {Paris}")]
    again = told(alice, "/agents/desk/runs", message="and now", stream="true", session_id=first.session_id)
    assert again.session_id == first.session_id
    assert again.content == "You said: and now (Before that: look at {Paris})"
    query = {"type": "agent", "component_id": "desk", "db_id": agent["db_id"]}
    listed = alice.get("/sessions", params=query).json()
    assert [entry["session_id"] for entry in listed["data"]] == [first.session_id]
    assert listed["data"][0]["session_name"] == "look at {Paris}"
    assert listed["meta"] == {"page": 1, "limit": 20, "total_pages": 1, "total_count": 1}
    runs = alice.get(f"/sessions/{first.session_id}/runs", params={"type": "agent", "db_id": agent["db_id"]}).json()
    assert [(run["run_input"], run["content"]) for run in runs] == [
        ("look at {Paris}", "look: seen at {Paris}"),
        ("and now", again.content),
    ]
    [tool] = runs[0]["tools"]
    assert tool["tool_args"] == {"at": "at {Paris}"}
    assert (tool["tool_name"], tool["tool_call_error"], tool["result"]) == ("look", False, "seen at {Paris}")
    assert isinstance(tool["created_at"], int)
    assert {"tool_call_id", "metrics", "content", "role"} <= tool.keys()
    lacking = {"run_id", "parent_run_id", "extra_data", "images", "videos", "audio", "response_audio", "status"}
    assert lacking <= runs[0].keys()
    assert runs[0]["status"] == "COMPLETED"
    assert datetime.fromisoformat(runs[0]["created_at"]).tzinfo is not None
    gone = alice.delete(f"/sessions/{first.session_id}", params={"db_id": agent["db_id"]})
    assert (gone.status_code, gone.content) == (204, b"")
    assert "content-type" not in gone.headers
    assert alice.get("/sessions", params=query).json()["data"] == []
    assert alice.get(f"/sessions/{first.session_id}/runs", params={"type": "agent"}).status_code == 404


def test_a_team_tells_its_own_events_and_its_members_only_where_they_are_wanted(alice: httpx2.Client) -> None:
    task = 'delegate_task_to_member {"member_id": "member", "task": "go"}'
    first = told(alice, "/teams/crew/runs", message=task, stream="true")
    assert first.content == "delegate_task_to_member: a member"
    events = said(alice, task, "/teams/crew/runs")
    assert [name for name, _ in events][:3] == ["TeamRunStarted", "TeamToolCallStarted", "TeamToolCallCompleted"]
    assert {name for name, _ in events} == {
        "TeamRunStarted",
        "TeamToolCallStarted",
        "TeamToolCallCompleted",
        "TeamRunContent",
        "TeamRunCompleted",
    }
    assert {data["run_id"] for _, data in events} == {events[0][1]["run_id"]}
    both = said(alice, task, "/teams/crew/runs", stream_member_events="true")
    inner = [(name, data) for name, data in both if "parent_run_id" in data]
    names = [name for name, _ in inner]
    assert (names[0], names[-1], set(names[1:-1])) == ("RunStarted", "RunCompleted", {"RunContent"})
    assert all(data["agent_id"] == "member" for _, data in inner)
    session = both[0][1]["session_id"]
    [own] = alice.get(f"/sessions/{session}/runs", params={"type": "team"}).json()
    assert own["team_id"] == "crew"
    runs = alice.get(f"/sessions/{session}/runs", params={"type": "team", "include_members": "true"}).json()
    assert [run["parent_run_id"] for run in runs] == [None, own["run_id"]]
    assert alice.get(f"/sessions/{session}/runs", params={"type": "agent"}).status_code == 404
    chat = Chat(alice, "team", "crew")
    assert chat.history(first.session_id) == [(task, first.seen())]
    assert [entry["session_id"] for entry in chat.sessions()[:3]][-1] == first.session_id
    assert chat.delete(first.session_id).status_code == 204
    assert first.session_id not in [entry["session_id"] for entry in chat.sessions()]


class Sayer:
    """Gives one answer, whatever is asked."""

    id = "sayer"
    provider = "test"

    def __init__(self, answer: Message) -> None:
        self.answer = answer

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        del request, world
        if self.answer.text:
            yield Delta(self.answer.text)
        yield Reply(self.answer)


DOT = "data:image/png;base64,iVBORw=="
PICTURE = {"type": "image_url", "image_url": {"url": DOT}}
WORDS = {"type": "text", "text": "Here it is."}
NO_TEXT = "(The answer has no text.)"


@pytest.mark.parametrize(
    ("answer", "told_of"),
    [
        (Message("assistant", "Yes."), {"content": "Yes."}),
        (Message("assistant", ""), {"content": NO_TEXT}),
        (Message("assistant", [WORDS, PICTURE]), {"content": "Here it is.", "images": [(DOT, "")]}),
        (Message("assistant", [PICTURE]), {"content": NO_TEXT, "images": [(DOT, "")]}),
        (Message("assistant", "So.", reasoning_content="I ponder."), {"content": "So.", "steps": ["Thinking"]}),
    ],
    ids=["text", "nothing", "text and a picture", "a picture", "thoughts"],
)
def test_an_answer_is_shown_at_once_as_it_is_shown_later(answer: Message, told_of: dict[str, Any]) -> None:
    agent = Agent(Sayer(answer), id="desk", db=SqliteDb())
    with serving(create_app([agent], auth=CALLERS)) as served, served.client() as alice:
        live = told(alice, "/agents/desk/runs", message="Well?", stream="true", session_id="")
        assert live.seen() == {"tools": [], "images": [], "steps": [], "references": []} | told_of
        assert Chat(alice).history(live.session_id) == [("Well?", live.seen())]


def test_calls_of_tools_are_shown_at_once_as_they_are_shown_later(alice: httpx2.Client) -> None:
    for message in ("look Paris", "look nothing"):
        live = told(alice, "/agents/desk/runs", message=message, stream="true", session_id="")
        assert [tool["tool_name"] for tool in live.tools] == ["look"]
        assert Chat(alice).history(live.session_id) == [(message, live.seen())]


def test_a_new_session_has_no_runs_to_be_read_while_its_first_is_told(tmp_path: Any) -> None:
    """The client reads it then, and would show what it gets in the place of what it was told."""
    with SqliteDb(tmp_path / "s.db") as db:
        slow = Agent(SlowModel(words=40, pause=0.02), id="desk", db=db)
        with serving(create_app([slow], auth=CALLERS)) as served, served.client() as alice, served.client() as other:
            chat, reader = Chat(other), Client()
            with alice.stream("POST", "/agents/desk/runs", data={"message": "Hi"}) as answer:
                chunks = answer.iter_text()
                reader.read(next(chunks))
                assert chat.sessions()[0]["session_id"] == reader.session_id
                refused = chat.runs(reader.session_id)
                assert (refused.status_code, refused.json()["code"]) == (404, "run_not_found")
                for chunk in chunks:
                    reader.read(chunk)
            assert chat.history(reader.session_id) == [("Hi", reader.seen())]
            again = {"message": "Again", "session_id": reader.session_id}
            with alice.stream("POST", "/agents/desk/runs", data=again) as answer:
                chunks = answer.iter_text()
                next(chunks)
                first, second = chat.history(reader.session_id)
            assert first == ("Hi", reader.seen())
            assert (second[0], second[1]["content"]) == ("Again", "(This run is under way.)")


def test_a_first_run_that_nobody_follows_can_be_read_while_it_is_under_way(
    served: Served, alice: httpx2.Client
) -> None:
    served.service.db.begin_run("unfollowed", [Message("user", "Hi")], user_id="alice", agent_id="desk")
    [(asked, answer)] = Chat(alice).history("unfollowed")
    assert (asked, answer["content"]) == ("Hi", "(This run is under way.)")


def test_a_wrong_token_is_told_in_words_that_the_client_shows(served: Served) -> None:
    with served.client("nobodys-token") as nobody:
        assert nobody.get("/health").status_code == 200, "it asks for nothing else before"
        refused = nobody.get("/agents")
        assert (refused.status_code, refused.reason_phrase) == (401, "Unauthorized")
        said = nobody.post("/agents/desk/runs", files={"message": (None, "Hi"), "stream": (None, "true")})
        assert (said.status_code, said.json()["detail"]) == (401, "the token is not known")


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/health", "content-type"),
        ("GET", "/agents", "authorization,content-type"),
        ("GET", "/teams", "authorization,content-type"),
        ("GET", "/sessions?type=agent&component_id=desk&db_id=main", "authorization,content-type"),
        ("GET", "/sessions/x/runs?type=agent&db_id=main", "authorization,content-type"),
        ("DELETE", "/sessions/x?db_id=main", "authorization,content-type"),
        ("POST", "/agents/desk/runs", "authorization"),
        ("POST", "/teams/crew/runs", "authorization"),
    ],
)
def test_a_browser_is_let_through_to_all_that_the_client_asks_for(
    served: Served, method: str, path: str, headers: str
) -> None:
    asking = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    with served.client(None) as browser:
        answer = browser.options(path, headers=asking)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert method in answer.headers["access-control-allow-methods"]
        allowed = answer.headers["access-control-allow-headers"].lower()
        assert all(header in allowed for header in headers.split(","))


def test_the_stream_is_what_agentos_sends_byte_for_byte_in_form(alice: httpx2.Client) -> None:
    answer = alice.post("/agents/desk/runs", data={"message": "line one\nline two", "user_id": ""})
    assert re.fullmatch(r'(event: \w+\ndata: \{"event":"\w+",[^\n]*\}\n\n)+', answer.text)
    for name, data in events_of(answer.text):
        assert data["event"] == name
        assert {"session_id", "run_id", "created_at"} <= data.keys()
    assert events_of(answer.text)[-1][1]["content"] == "You said: line one\nline two"


def test_an_answer_can_be_had_as_a_whole(alice: httpx2.Client) -> None:
    answer = alice.post("/agents/desk/runs", data={"message": "Hi", "stream": "false"})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["content"], told["status"], told["agent_id"]) == ("You said: Hi", "COMPLETED", "desk")
    assert told["user_id"] == "alice"
    stored = alice.get(f"/sessions/{told['session_id']}/runs/{told['run_id']}").json()
    assert stored["content"] == told["content"]


def test_pictures_and_files_go_along(alice: httpx2.Client) -> None:
    files = [("files", ("dot.png", b"\x89PNG", "image/png")), ("files", ("note.txt", b"hello", "text/plain"))]
    answer = alice.post("/agents/desk/runs", data={"message": "See", "stream": "false"}, files=files).json()
    assert answer["run_input"] == "See"
    assert answer["input_media"]["images"] == [{"url": "data:image/png;base64,iVBORw=="}]
    assert answer["input_media"]["files"] == [{"filename": "note.txt", "url": "data:text/plain;base64,aGVsbG8="}]


def test_sessions_are_made_changed_and_renamed_as_agno_has_it(alice: httpx2.Client) -> None:
    new = {"session_name": "Plan", "session_state": {"step": 1}, "metadata": {"k": "v"}, "agent_id": "desk"}
    made = alice.post("/sessions", params={"type": "agent"}, json=new)
    assert made.status_code == 201
    session = made.json()
    assert session["session_name"] == "Plan"
    assert (session["session_state"], session["metadata"], session["user_id"]) == ({"step": 1}, {"k": "v"}, "alice")
    where = f"/sessions/{session['session_id']}"
    assert alice.get(where, params={"type": "agent"}).json() == session
    change = {"session_state": {"step": 2}, "summary": {"summary": "They planned.", "topics": ["plans"]}}
    changed = alice.patch(where, json=change).json()
    assert (changed["session_state"], changed["session_name"]) == ({"step": 2}, "Plan")
    assert changed["session_summary"]["summary"] == "They planned."
    renamed = alice.post(f"{where}/rename", json={"session_name": "  A better\nplan "}).json()
    assert renamed["session_name"] == "A better plan"
    assert alice.get("/sessions", params={"session_name": "BETTER"}).json()["meta"]["total_count"] == 1
    again = alice.post("/sessions", json=new | {"session_id": session["session_id"]})
    assert (again.status_code, again.json()["code"]) == (409, "session_conflict")
    doomed = {"session_ids": [session["session_id"], "nowhere"], "session_types": ["agent", "agent"]}
    assert alice.request("DELETE", "/sessions", json=doomed).status_code == 204
    assert alice.get(where).status_code == 404


def test_what_clients_of_agentos_say_besides_is_passed_over(alice: httpx2.Client) -> None:
    new = {"session_id": "", "user_id": "", "agent_id": "", "team_id": "crew", "workflow_id": None}
    made = alice.post("/sessions", params={"db_id": "", "table": "sessions"}, json=new)
    assert (made.status_code, made.json()["team_id"], made.json()["user_id"]) == (201, "crew", "alice")
    session_id = made.json()["session_id"]
    assert alice.get(f"/sessions/{session_id}", params={"type": "team", "user_id": "", "table": "t"}).status_code == 200
    assert alice.get(f"/sessions/{session_id}", params={"type": "agent"}).status_code == 404
    summary = {"summary": "They met.", "topics": None, "updated_at": "2026-05-04T09:30:00Z"}
    changed = alice.patch(f"/sessions/{session_id}", json={"summary": summary}).json()
    assert changed["session_summary"]["summary"] == "They met."
    for wrong in ({}, {"summary": 7}, {"summary": "x", "topics": [7]}, {"topics": []}):
        assert alice.patch(f"/sessions/{session_id}", json={"summary": wrong}).status_code == 422
    doomed = {"session_ids": [session_id], "session_types": []}
    assert alice.request("DELETE", "/sessions", json=doomed).status_code == 204
    assert alice.get(f"/sessions/{session_id}").status_code == 404


def test_pages_are_numbered_and_go_both_ways(alice: httpx2.Client) -> None:
    made = [alice.post("/sessions", json={"agent_id": "pages"}).json()["session_id"] for _ in range(5)]
    query: dict[str, Any] = {"component_id": "pages", "limit": 2}
    pages = [alice.get("/sessions", params=query | {"page": page}).json() for page in (1, 2, 3, 4)]
    assert [[entry["session_id"] for entry in page["data"]] for page in pages] == [
        [made[4], made[3]],
        [made[2], made[1]],
        [made[0]],
        [],
    ]
    assert pages[0]["meta"] == {"page": 1, "limit": 2, "total_pages": 3, "total_count": 5}
    assert alice.get("/sessions", params=query | {"page": 0}).json()["data"] == pages[0]["data"]
    rising = [alice.get("/sessions", params=query | {"page": page, "sort_order": "asc"}).json() for page in (1, 2, 3)]
    assert [[entry["session_id"] for entry in page["data"]] for page in rising] == [made[:2], made[2:4], made[4:]]
    assert all(entry["session_name"] for page in pages for entry in page["data"])
    assert alice.get("/sessions", params={"db_id": "elsewhere"}).status_code == 404


class Trip(msgspec.Struct):
    city: str
    days: int


class Stay(BaseModel):
    city: str
    days: int


@pytest.mark.parametrize(("schema", "content"), [(Trip, None), (Stay, None), (list[int], {"value": [1, 2]})])
def test_an_answer_that_is_an_object_is_told_as_one(schema: Any, content: Any) -> None:
    reply = '{"city": "Porto", "days": 2}' if content is None else "[1, 2]"
    content = content or {"city": "Porto", "days": 2}
    agent = Agent(EchoModel(reply=reply), id="desk", db=SqliteDb(), output_schema=schema)
    with serving(create_app([agent], auth=CALLERS)) as served, served.client() as alice:
        *_, (_, last) = said(alice)
        assert last["content"] == content
        assert last["content_type"] == getattr(schema, "__name__", "list")
        whole = alice.post("/agents/desk/runs", data={"message": "Hi", "stream": "false"}).json()
        assert whole["content"] == content
        [run] = alice.get(f"/sessions/{last['session_id']}/runs").json()
        assert run["content"] == reply, "what is stored is text"


def test_a_run_without_an_answer_says_why_in_a_line(tmp_path: Any) -> None:
    with SqliteDb(tmp_path / "s.db") as db:
        failing = Agent(BrokenModel(ModelError("the provider\nis away")), id="desk", db=db)
        with serving(create_app([failing], auth=CALLERS)) as served, served.client() as alice:
            reader = told(alice, "/agents/desk/runs", message="Hi")
            assert reader.failed == "the provider\nis away"
            [run] = alice.get(f"/sessions/{reader.session_id}/runs").json()
            assert (run["status"], run["content"]) == ("ERROR", "(This run failed: the provider is away)")
            whole = alice.post("/agents/desk/runs", data={"message": "Hi", "stream": "false"})
            assert (whole.status_code, whole.json()["code"]) == (502, "model_error")
            assert whole.json()["run_id"] != run["run_id"]


def test_a_cancelled_run_ends_with_what_was_said(tmp_path: Any) -> None:
    with SqliteDb(tmp_path / "s.db") as db:
        slow = Agent(SlowModel(words=1000, pause=0.02), id="desk", db=db)
        with serving(create_app([slow], auth=CALLERS)) as served, served.client() as alice, served.client() as other:
            text = ""
            with alice.stream("POST", "/agents/desk/runs", data={"message": "Hi"}) as answer:
                for chunk in answer.iter_text():
                    text += chunk
                    if text.count("RunContent") >= 4 and "cancel" not in text:
                        run = events_of(text.rpartition("\n\n")[0])[0][1]
                        asked = other.post(f"/agents/desk/runs/{run['run_id']}/cancel")
                        assert asked.json() == {
                            "run_id": run["run_id"],
                            "session_id": run["session_id"],
                            "cancelled": True,
                        }
                        text += ": cancel\n\n"
            name, data = events_of(text)[-1]
            assert (name, data["status"]) == ("RunCompleted", "CANCELLED")
            assert data["content"].startswith("word word")
            [run] = alice.get(f"/sessions/{data['session_id']}/runs").json()
            assert (run["status"], run["content"]) == ("CANCELLED", data["content"])
            gone = other.post(f"/agents/desk/runs/{run['run_id']}/cancel", params={"session_id": data["session_id"]})
            assert gone.json()["cancelled"] is False


def test_every_error_is_json_with_a_text_and_carries_the_cors_headers(served: Served) -> None:
    origin = {"Origin": "http://localhost:3000"}
    with served.client("alice") as alice, served.client(None) as nobody:
        answers = [
            nobody.get("/agents", headers=origin),
            alice.get("/nowhere", headers=origin),
            alice.put("/agents", headers=origin),
            alice.get("/sessions", params={"limit": "many"}, headers=origin),
            alice.get("/sessions/nowhere/runs", headers=origin),
            alice.post("/agents/desk/runs", data={}, headers=origin),
            alice.post("/agents/nobody/runs", data={"message": "Hi"}, headers=origin),
            alice.patch("/sessions/nowhere", content=b"{", headers=origin | {"Content-Type": "application/json"}),
        ]
    assert [answer.status_code for answer in answers] == [401, 404, 405, 422, 404, 422, 404, 422]
    for answer in answers:
        told = answer.json()
        assert isinstance(told["detail"], str)
        assert told["detail"]
        assert {"type", "title", "status", "code"} <= told.keys()
        assert told["status"] == answer.status_code
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_a_browser_may_ask_before_and_shows_no_token_for_that(served: Served) -> None:
    asking = {
        "Origin": "http://127.0.0.1:3000",
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    with served.client(None) as browser:
        allowed = browser.options("/sessions/x", headers=asking)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "http://127.0.0.1:3000"
        for method in ("GET", "POST", "PATCH", "DELETE"):
            assert method in allowed.headers["access-control-allow-methods"]
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        assert browser.options("/sessions").status_code == 204
        refused = browser.options("/sessions", headers=asking | {"Origin": "http://evil.example"})
        assert (refused.status_code, refused.json()["detail"]) == (400, "Disallowed CORS origin")
        assert "access-control-allow-origin" not in refused.headers


def test_the_namer_of_who_a_session_is_made_for_has_its_say() -> None:
    namer = SessionNamer(model=EchoModel(), policy=lambda name, header: f"{header.kind}: {name}")
    db = SqliteDb()
    desk = Agent(EchoModel(), id="desk", db=db)
    crew = Team([Agent(EchoModel(), id="member")], model=EchoModel(), id="crew", db=db, session_namer=namer)
    with serving(create_app([desk], [crew], auth=CALLERS)) as served, served.client() as alice:
        names = [
            alice.post("/sessions", json={"session_name": "Trip", **ids}).json()["session_name"]
            for ids in ({"team_id": "crew"}, {"agent_id": "desk"})
        ]
    assert names == ["team: Trip", "Trip"]


def test_further_websites_are_allowed_by_name(db: Store) -> None:
    agent = Agent(SlowModel(), db=db)
    app = create_app([agent], auth=CALLERS, cors_origins=["https://chat.example"])
    with serving(app) as served, served.client() as client:
        for origin in ("https://chat.example", "http://localhost:3000"):
            assert client.get("/health", headers={"Origin": origin}).headers["access-control-allow-origin"] == origin
