"""What a model is to say, or how it is to fail: the script of `ResponsesServer`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

Calls = Sequence[tuple[str, Any]]

TOKEN: Final = 4
"""Characters that are counted as a token."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model."""

    text: str = ""
    tool_calls: Calls = ()
    """Name and arguments of each call; arguments that are text are sent as they are."""
    reasoning: str | None = None
    """The summary of a thought that comes first; only a reasoning model has one."""
    refusal: str | None = None
    incomplete: str | None = None
    """Why the answer is cut short: ``max_output_tokens`` or ``content_filter``."""
    output: Sequence[Mapping[str, Any]] | None = None
    """Instead of all that, what is sent as it is: items of a response, where reasoning is given its encrypted content;
    or the deltas of a streamed completion, or its one message."""
    usage: Mapping[str, Any] | None = None
    """Instead of an estimate."""
    broken_after: int | None = None
    """How many characters of text are sent before the connection is cut."""
    failure: str | None = None
    """Why the answer fails after it began, with status 200."""
    failure_code: str = "server_error"
    thinking: int | None = None
    """Tokens that a model which thinks takes for that, before it says anything; None: as the server was told."""
    delay: float | None = None
    """Seconds before it begins; None: as the server was told."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is an error status."""

    status: int
    message: str
    code: str | None = None
    retry_after: float | None = None
    """Seconds."""


class Refused(Exception):
    """A request that the API does not take, in the API's words."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status


def within(answer: Answer, limit: int | None, thinking: int) -> Answer:
    """The answer as far as a limit of output tokens lets it come. Thinking comes first, and counts."""
    answer = msgspec.structs.replace(answer, thinking=thinking)
    if limit is None or answer.output is not None or answer.incomplete is not None:
        return answer
    room = TOKEN * max(0, limit - thinking)
    if room and len(answer.text) <= room:
        return answer
    return msgspec.structs.replace(
        answer, text=answer.text[:room], tool_calls=(), refusal=None, incomplete="max_output_tokens"
    )


def last_text(messages: object) -> str:
    """The last text that the user said, in either API's form of a conversation."""
    if isinstance(messages, str):
        return messages
    for message in reversed(messages if isinstance(messages, list) else []):
        if message.get("role") == "user":
            content = message["content"]
            parts = [{"text": content}] if isinstance(content, str) else content
            return "\n".join(part["text"] for part in parts if "text" in part)
    return ""


class HangUp(Exception):
    """Here the server cuts the connection."""


def pieces(text: str, broken_after: int | None = None) -> Iterator[str]:
    """A text as a model says it, a word at a time.

    Raises:
        HangUp: so many characters were said.
    """
    yield from re.findall(r"\S+\s*|\s+", text[:broken_after])
    if broken_after is not None and broken_after < len(text):
        raise HangUp
