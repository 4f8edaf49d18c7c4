"""A local HTTP server that speaks OpenAI's APIs, as strict as the real ones, and says what a test tells it to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from recollect.testing.answer import Answer, Calls, Failure
from recollect.testing.desk import Desk, Script
from recollect.testing.listener import Listener

USUAL: Final = {
    429: "Rate limit reached for requests.",
    503: "The engine is currently overloaded, please try again later.",
}
"""What the API says with a status."""


class ResponsesServer:
    """A server on 127.0.0.1 for ``POST /v1/responses`` and ``POST /v1/chat/completions``, whole or streamed.

    ::

        with ResponsesServer() as server:
            server.reply("Hello!")
            agent = Agent(model=OpenAIResponses(base_url=server.base_url, api_key=server.api_key))
            assert agent.run("Hi").content == "Hello!"

    What `reply`, `fail` and `hang_up` prepare is used up in order, one for each accepted request of either API; after
    that `script` answers, or else the last text of the user comes back. A request that the real API would refuse is
    refused in its words; it uses up nothing. ``models`` names models beside OpenAI's own. An answer ends where the
    request's limit of tokens does, each of them four characters; what `think` or the answer says is thought first.
    """

    def __init__(self, *, api_key: str = "sk-recollect-test", models: Collection[str] = ()) -> None:
        self.api_key = api_key
        self._desk = Desk(api_key, models)
        self._listener: Listener | None = None

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies that came, refused ones too, in order."""
        return self._desk.requests

    @property
    def abandoned(self) -> int:
        """How many answers the client left before their end."""
        return self._desk.abandoned

    @property
    def in_flight(self) -> int:
        """How many requests are being answered now."""
        return self._desk.in_flight

    @property
    def most_in_flight(self) -> int:
        """How many requests were being answered at once, at most."""
        return self._desk.most_in_flight

    @property
    def base_url(self) -> str:
        """The address for an SDK's ``base_url``."""
        if self._listener is None:
            msg = "the server is not running; use it in a with statement, or call start()"
            raise RuntimeError(msg)
        return f"http://127.0.0.1:{self._listener.server_port}/v1"

    def environment(self) -> dict[str, str]:
        """The variables with which the SDK finds this server by itself."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": self.api_key}

    def reply(
        self,
        text: str = "",
        *,
        tool_calls: Calls = (),
        reasoning: str | None = None,
        refusal: str | None = None,
        incomplete: str | None = None,
        output: Sequence[Mapping[str, Any]] | None = None,
        usage: Mapping[str, Any] | None = None,
        thinking: int | None = None,
        delay: float | None = None,
    ) -> None:
        """Prepare an answer; see `Answer`."""
        self._desk.prepare(
            Answer(
                text=text,
                tool_calls=tool_calls,
                reasoning=reasoning,
                refusal=refusal,
                incomplete=incomplete,
                output=output,
                usage=usage,
                thinking=thinking,
                delay=delay,
            )
        )

    def fail(
        self,
        status: int,
        *,
        message: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        times: int = 1,
    ) -> None:
        """Prepare an answer with an error status, for the next request or so many of them."""
        said = message or USUAL.get(status, "The server had an error while processing your request.")
        for _ in range(times):
            self._desk.prepare(Failure(status=status, message=said, code=code, retry_after=retry_after))

    def fail_midway(
        self, message: str = "The server had an error while processing your request.", *, code: str = "server_error"
    ) -> None:
        """Prepare an answer that begins with status 200 and then says that it failed."""
        self._desk.prepare(Answer(failure=message, failure_code=code))

    def hang_up(self, *, after_chars: int = 5, text: str = "This sentence will never be finished.") -> None:
        """Prepare an answer that the connection does not survive."""
        self._desk.prepare(Answer(text=text, broken_after=after_chars))

    def delay(self, seconds: float) -> None:
        """Wait so long before each piece of a stream from now on; 0 ends it."""
        self._desk.pause = seconds

    def hold(self, seconds: float) -> None:
        """Wait so long before each answer from now on; 0 ends it."""
        self._desk.hold = seconds

    def think(self, tokens: int) -> None:
        """Have models that may think take so many tokens for it from now on: OpenAI's reasoning ones and ``models``."""
        self._desk.thinking = tokens

    def script(self, function: Script) -> None:
        """Have a function answer what nothing was prepared for: it gets the body, and gives an `Answer` or its text.

        What the function raises is answered with status 500, and raised when the server is left.
        """
        self._desk.script = function

    def start(self) -> None:
        """Listen on a free port; `close` ends it."""
        self._desk.stopping.clear()
        self._listener = Listener(self._desk)

    def close(self) -> None:
        """End all connections and threads."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self._desk.broken_script is not None:
            raise self._desk.broken_script
