"""What a local server is to say, and what was said to it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from recollect.testing.answer import Answer, Failure, Refused, within
from recollect.testing.catalog import Catalog
from recollect.testing.chat import ChatApi
from recollect.testing.responses import ResponsesApi

Api = ResponsesApi | ChatApi
Script = Callable[[dict[str, Any]], Answer | Failure | str]


class Desk:
    """Where a test lays its answers down, and the threads of the connections take them up."""

    def __init__(self, api_key: str, models: Collection[str]) -> None:
        self.api_key = api_key
        self.requests: list[dict[str, Any]] = []
        self.abandoned = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.script: Script | None = None
        self.broken_script: Exception | None = None
        self.pause = 0.0
        self.hold = 0.0
        self.thinking = 0
        self.stopping = threading.Event()
        catalog = self._catalog = Catalog(models)
        self._apis: dict[str, Api] = {
            "/v1/responses": ResponsesApi(catalog, api_key),
            "/v1/chat/completions": ChatApi(catalog),
        }
        self._prepared: deque[Answer | Failure] = deque()
        self._mutex = threading.Lock()

    def prepare(self, answer: Answer | Failure) -> None:
        with self._mutex:
            self._prepared.append(answer)

    def api(self, path: str, key: str | None) -> Api:
        """The API at a path, for who has the key.

        Raises:
            Refused: there is none, or the key is wrong.
        """
        if path not in self._apis:
            raise Refused(f"Invalid URL (POST {path})", status=404)
        if key is None or not key.startswith("Bearer "):
            problem = "You didn't provide an API key. You need to provide your API key in an Authorization header."
            raise Refused(problem, status=401)
        if key != f"Bearer {self.api_key}":
            shown = f"{key[7:10]}***{key[-4:]}"
            raise Refused(f"Incorrect API key provided: {shown}.", None, "invalid_api_key", 401)
        return self._apis[path]

    def answer(self, api: Api, body: dict[str, Any]) -> Answer | Failure:
        """What to say to a request, within its limit.

        Raises:
            Refused: the API does not take it.
        """
        with self._mutex:
            self.requests.append(body)
            api.check(body)
            answer = self._prepared.popleft() if self._prepared else None
        answer = answer or self._scripted(api, body)
        return answer if isinstance(answer, Failure) else within(answer, api.limit(body), self._thought(body, answer))

    def _thought(self, body: dict[str, Any], answer: Answer) -> int:
        if not self._catalog.thinks(body["model"]):
            return 0
        return self.thinking if answer.thinking is None else answer.thinking

    def _scripted(self, api: Api, body: dict[str, Any]) -> Answer | Failure:
        if self.script is None:
            return Answer(text=api.said(body))
        try:
            answer = self.script(body)
        except Exception as error:  # noqa: BLE001 - carried to the test, and raised there
            self.broken_script = error
            return Failure(status=500, message=f"the script failed: {error!r}")
        return Answer(text=answer) if isinstance(answer, str) else answer

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Count a request as long as it is at work."""
        with self._mutex:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield
        finally:
            with self._mutex:
                self.in_flight -= 1

    def wait(self) -> None:
        """Let the pause before a piece of a stream pass."""
        if self.pause:
            self.stopping.wait(self.pause)

    def wait_for(self, answer: Answer | Failure) -> None:
        """Let the time before an answer pass."""
        own = answer.delay if isinstance(answer, Answer) else None
        seconds = self.hold if own is None else own
        if seconds:
            self.stopping.wait(seconds)

    def left(self) -> None:
        """Note that a client went away before the end."""
        with self._mutex:
            self.abandoned += 1
