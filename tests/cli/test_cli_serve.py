"""``recollect serve``: what it listens on, who may come in, what it serves, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cli_kit import Command

from recollect import RunStatus

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the processes are told to end by signals")

MODULE = """
import time
from recollect import Agent, EchoModel, Message, SqliteDb, Team
from recollect.port import Delta, Reply

class Slow:
    id, provider = "slow", "test"
    async def ask(self, request, world):
        for _ in range({words}):
            await world.sleep(0.02)
            yield Delta("word ")
        yield Reply(Message("assistant", "word " * {words}))

slow = Agent(Slow(), id="slow")
own = Agent(EchoModel(), id="own", db=SqliteDb("own.db"))
crew = [slow, Team([Agent(EchoModel(), id="member")], id="crew")]
nothing = 7
"""


class Running:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""
        assert process.stdout is not None
        while not (found := re.search(r"address: (http://\S+)", self.said)):
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            self.said += line
        self.url = found[1]

    def token(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return line.rpartition(" ")[2].strip()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Have it end; its exit code, and what it wrote to where errors go."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@contextmanager
def serving(recollect: Command, *args: str, **options: Any) -> Iterator[Running]:
    process = recollect.process("serve", "--port", "0", *args, **options)
    try:
        yield Running(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "desk.py").write_text(MODULE.replace("{words}", "10000"), encoding="utf-8")
    return tmp_path


@pytest.mark.of_a_file
def test_a_token_is_printed_and_asked_for_and_nothing_else_is_said(recollect: Command, tmp_path: Path) -> None:
    with serving(recollect, cwd=tmp_path) as server:
        token = server.token()
        assert len(token) >= 32
        assert server.url.startswith("http://127.0.0.1:")
        assert httpx2.get(f"{server.url}/agents").status_code == 401
        with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as client:
            assert [agent["id"] for agent in client.get("/agents").json()] == ["agent"]
            answer = client.post("/agents/agent/runs", data={"message": "Hi", "stream": "false"})
            assert answer.json()["content"] == "You said: Hi"
            client.get("/sessions", params={"session_name": "private"})
        code, errors = server.end()
    assert code == 0
    assert token not in errors
    assert "private" not in errors
    with recollect.store() as db:
        assert [header.preview for header in db.get_sessions()] == ["Hi"]


@pytest.mark.of_a_file
def test_the_printed_address_of_the_inbox_signs_in(recollect: Command, tmp_path: Path) -> None:
    with serving(recollect, cwd=tmp_path) as server:
        token = server.token()
        assert f"  inbox:   {server.url}/?token={token}\n" in server.said
        with httpx2.Client(follow_redirects=True) as browser:
            page = browser.get(f"{server.url}/?token={token}")
            assert (page.status_code, str(page.url)) == (200, f"{server.url}/")
            assert "No conversations yet." in page.text
        assert token not in server.end()[1]


@pytest.mark.of_a_file
@pytest.mark.parametrize("own", [(), ("--token", "a-token-of-ones-own"), ("--no-token",)])
def test_a_browser_is_opened_and_let_in_once(recollect: Command, tmp_path: Path, own: tuple[str, ...]) -> None:
    browser = tmp_path / "browser.py"
    browser.write_text("import sys, pathlib\npathlib.Path('opened').write_text(sys.argv[1])\n", encoding="utf-8")
    env = {"BROWSER": f"{sys.executable} {browser} %s"}
    with serving(recollect, "--open", *own, env=env, cwd=tmp_path) as server:
        opened = tmp_path / "opened"
        for _ in range(200):
            if opened.exists() and opened.read_text(encoding="utf-8"):
                break
            time.sleep(0.05)
        address = opened.read_text(encoding="utf-8")
        assert address.startswith(f"{server.url}/")
        if own == ("--no-token",):
            assert httpx2.get(address).status_code == 200
            return
        assert own[-1:] != (address.rpartition("=")[2],), "others on the machine may read what is opened"
        assert address not in server.said
        with httpx2.Client(follow_redirects=True) as first:
            assert first.get(address).status_code == 200
        assert httpx2.get(address).status_code == 401


@pytest.mark.of_a_file
def test_a_token_of_ones_own_is_taken_and_never_printed(recollect: Command, tmp_path: Path) -> None:
    own = "a-token-of-ones-own"
    with serving(recollect, env={"RECOLLECT_TOKEN": own}, cwd=tmp_path) as server:
        headers = {"Authorization": f"Bearer {own}", "Origin": "http://localhost:3000"}
        answer = httpx2.get(f"{server.url}/agents", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        server.process.send_signal(signal.SIGINT)
        said, errors = server.process.communicate(timeout=30)
    assert own not in server.said + said + errors
    assert server.process.returncode == 130


@pytest.mark.of_a_file
def test_without_a_token_it_serves_this_machine_alone(recollect: Command, tmp_path: Path) -> None:
    refused = recollect("serve", "--no-token", "--host", "192.0.2.1", code=2)
    assert "--insecure" in refused.stderr
    assert "one of both" in recollect("serve", "--no-token", "--token", "t", code=2).stderr
    with serving(recollect, "--no-token", "--cors-origin", "https://chat.example", cwd=tmp_path) as server:
        assert httpx2.get(f"{server.url}/sessions").status_code == 200
        assert httpx2.get(f"{server.url}/sessions", headers={"Host": "evil.example"}).status_code == 403
        assert httpx2.get(f"{server.url}/sessions", headers={"Origin": "https://evil.example"}).status_code == 403
        assert httpx2.get(f"{server.url}/sessions", headers={"Origin": "https://chat.example"}).status_code == 200
        assert "may do everything" in server.end()[1]


@pytest.mark.of_a_file
def test_agents_are_found_by_module_and_name(recollect: Command, folder: Path) -> None:
    with serving(recollect, "desk:crew", "desk:own", "--token", "t", cwd=folder) as server:
        with httpx2.Client(base_url=server.url, headers={"Authorization": "Bearer t"}) as client:
            slow, own = client.get("/agents").json()
            [crew] = client.get("/teams").json()
            assert (slow["id"], own["id"], crew["id"]) == ("slow", "own", "crew")
            assert slow["db_id"] == crew["db_id"] != own["db_id"]
            client.post("/agents/own/runs", data={"message": "Hi", "stream": "false"})
            assert client.get("/sessions").json()["data"] == [], "what it said is in its own database"
        assert server.end()[0] == 0
    assert (folder / "own.db").exists()


@pytest.mark.of_a_file
@pytest.mark.parametrize(
    ("name", "told"),
    [("desk", "main:agent"), ("nowhere:agent", "no module"), ("desk:gone", "no 'gone'"), ("desk:nothing", "no agent")],
)
def test_what_is_no_agent_is_said_to_be_none(
    recollect: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    assert told in recollect("serve", name, code=2).stderr


@pytest.mark.of_a_file
def test_a_port_that_is_taken_is_said_to_be(recollect: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "Address already in use" in recollect("serve", "--port", str(port), code=1).stderr


def test_sigterm_ends_it_within_its_grace_and_loses_nothing(recollect: Command, folder: Path) -> None:
    with serving(recollect, "desk:slow", "--token", "t", "--grace", "0.5", cwd=folder) as server:
        text = ""
        with httpx2.stream(
            "POST",
            f"{server.url}/agents/slow/runs",
            data={"message": "Hi"},
            headers={"Authorization": "Bearer t"},
            timeout=30,
        ) as answer:
            for chunk in answer.iter_text():
                if "RunContent" in chunk and "RunContent" not in text:
                    began = time.monotonic()
                    server.process.send_signal(signal.SIGTERM)
                text += chunk
        _, errors = server.process.communicate(timeout=30)
        took = time.monotonic() - began
    assert server.process.returncode == 0, errors
    assert 0.4 < took < 10
    assert '"status":"CANCELLED"' in text, "whoever listens is told how it ended"
    with recollect.store() as db:
        [header] = db.get_sessions()
        run = db.get_last_run(header.session_id)
        assert run is not None
        assert run.status is RunStatus.cancelled
        assert run.content
        assert run.content.startswith("word word")
        assert text.count('"content":"word "') * "word " in run.content


def test_sigterm_lets_a_short_run_finish(recollect: Command, tmp_path: Path) -> None:
    (tmp_path / "desk.py").write_text(MODULE.replace("{words}", "30"), encoding="utf-8")
    with serving(recollect, "desk:slow", "--token", "t", "--grace", "10", cwd=tmp_path) as server:
        with httpx2.stream(
            "POST", f"{server.url}/agents/slow/runs", data={"message": "Hi"}, headers={"Authorization": "Bearer t"}
        ) as answer:
            chunks = answer.iter_text()
            text = next(chunks)
            server.process.send_signal(signal.SIGTERM)
            text += "".join(chunks)
        server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    assert '"status":"COMPLETED"' in text
    with recollect.store() as db:
        [header] = db.get_sessions()
        run = db.get_last_run(header.session_id)
        assert run is not None
        assert (run.status, run.content) == (RunStatus.completed, "word " * 30)
