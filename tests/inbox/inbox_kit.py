"""The inbox in a browser: a desk that answers as it is asked to, and readers whose pages must stay quiet."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect
from server.server_kit import look
from starlette.requests import Request as Asked

from recollect import Agent, Message, SqliteDb, Team, Usage
from recollect.port import Delta, ModelRequest, Reply, World
from recollect.server import Caller

NUMBERS = itertools.count(1)

expect.set_options(timeout=10_000)


class DeskModel:
    """Answers by what the last message asks for, so that a test says in it what it wants to see.

    ``slowly`` has the answer come in small pieces; ``fail`` fails, until somebody sets ``is_well``; ``look at it``
    calls the tool of this name. Every name it makes is the same one.
    """

    id = "desk-1"
    provider = "test"

    def __init__(self) -> None:
        self.is_well = False

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        last = request.messages[-1]
        if request.purpose != "answer":
            await world.sleep(0.05)
            yield Reply(Message("assistant", "A Name by the Model"), Usage(100, 5))
            return
        if last.role == "user" and "fail" in last.text and not self.is_well:
            raise RuntimeError("the provider is away")
        if last.role == "user" and "look at" in last.text:
            yield Reply(Message("assistant", "Let me look.", tool_calls=[_look(last.text.split("look at ")[1])]))
            return
        answer = f"The **answer** to: {last.text}"
        if "slowly" in last.text:
            answer = " ".join(f"word{number}" for number in range(80))
            for word in answer.split():
                await world.sleep(0.03)
                yield Delta(word + " ")
        yield Reply(Message("assistant", answer, reasoning_content="Let me think."), Usage(40, 12))


def _look(at: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": f'{{"at": "{at}"}}'}}


class Desk:
    """An agent and a team of one, over one file."""

    def __init__(self, db: SqliteDb) -> None:
        self.db = db
        self.model = DeskModel()
        self.agent = Agent(self.model, id="desk", name="Travel desk", db=db, tools=[look])
        self.crew = Team([self.agent], model=DeskModel(), id="crew", name="Crew", db=db)
        self.url = ""

    def talk(self, session_id: str, user_id: str, *messages: str, name: str = "") -> None:
        """Have a conversation that is over when somebody looks at it."""
        for message in messages:
            self.agent.run(message, session_id=session_id, user_id=user_id)
        if name:
            self.db.set_session_name(session_id, name, user_id)


def whose(request: Asked) -> Caller | None:
    """Who comes with a token: ``as-ada`` is Ada, ``as-support`` sees everything, ``as-admin`` may do everything."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not token.startswith("as-"):
        return None
    name = token.removeprefix("as-")
    if name in ("support", "admin"):
        return Caller(name, frozenset({name}))
    return Caller(name)


class Reader:
    """Somebody before a browser, whose page must say nothing, ask nothing, and speak to nobody but the server."""

    def __init__(self, desk: Desk, context: BrowserContext, name: str) -> None:
        self.desk, self.context, self.name = desk, context, name
        self.url = desk.url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(10_000)
        self.trouble: list[str] = []
        self.may_fail: set[int] = set()
        """Statuses of answers that a test wants to see; the browser writes them into its console."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        self.page.on("dialog", self._asked)
        self.page.on("popup", lambda page: self.trouble.append(f"window: {page.url}"))
        context.on("request", self._went)

    def _said(self, message: ConsoleMessage) -> None:
        found = re.search(r"status of (\d+)", message.text)
        if found is None or int(found[1]) not in self.may_fail:
            self.trouble.append(f"console {message.type}: {message.text}")

    def _asked(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _went(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data" and parts.netloc != urlsplit(self.url).netloc:
            self.trouble.append(f"request: {request.url}")

    def sign_in(self) -> None:
        self.context.add_cookies([{"name": self.cookie, "value": f"as-{self.name}", "url": self.url}])

    @property
    def cookie(self) -> str:
        return f"recollect-{urlsplit(self.url).port}"

    def go(self, path: str = "/") -> None:
        """Open an address of the inbox."""
        self.page.goto(self.url + path)

    def talk(self, session_id: str, *messages: str, name: str = "") -> str:
        """A conversation of this reader's, with an id of its own: that id."""
        own = f"{self.name}-{session_id}"
        self.desk.talk(own, self.name, *(messages or ("Hello",)), name=name)
        return own

    def row(self, session_id: str) -> Locator:
        return self.page.locator(f"#list .row[data-session='{session_id}']")

    @property
    def rows(self) -> Locator:
        return self.page.locator("#list .row")

    @property
    def name_shown(self) -> Locator:
        return self.page.locator("#name")

    @property
    def turns(self) -> Locator:
        return self.page.locator("#turns .turn")

    @property
    def toast(self) -> Locator:
        return self.page.locator("#toasts")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def delete(self) -> None:
        """Delete what is open. The page may be asking for it at that moment."""
        self.may_fail.add(404)
        self.page.get_by_role("button", name="Delete").click()

    def say(self, text: str) -> None:
        self.page.fill("#message", text)
        self.page.press("#message", "Enter")


@contextmanager
def reading(desk: Desk, browser: Browser, name: str = "", **options: Any) -> Iterator[Reader]:
    """A new reader, signed in, whose page is held to have been quiet at the end."""
    context = browser.new_context(
        **{"timezone_id": "Europe/Berlin", "viewport": {"width": 1280, "height": 800}} | options
    )
    reader = Reader(desk, context, name or f"reader{next(NUMBERS)}")
    reader.sign_in()
    try:
        yield reader
        assert not reader.trouble, "; ".join(reader.trouble)
    finally:
        context.close()


def elsewhere(program: str, *args: str) -> None:
    """Run a program in another process, to its end."""
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), *args], check=True, timeout=60)
