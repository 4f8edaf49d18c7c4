"""What a run is asked: text, a message or several, with images and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.message import File, Image, Message

Input = str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]]


def input_messages(input: Input, images: Sequence[Image] = (), files: Sequence[File] = ()) -> tuple[Message, ...]:
    """The messages that a run's input means; images and files go with the last one.

    Raises:
        InvalidArgument: it is empty, or of another type.
    """
    parts = [*_parts("images", images, Image), *_parts("files", files, File)]
    if isinstance(input, str):
        return (Message("user", [{"type": "text", "text": input}, *parts] if parts else input),)
    given: Any = [input] if isinstance(input, Message | Mapping) else input
    if not isinstance(given, Sequence):
        raise InvalidArgument("input", f"must be text, a Message or several, not {type(input).__name__}")
    if not given:
        raise InvalidArgument("input", "is empty; a run needs at least one message")
    messages = [said if isinstance(said, Message) else _message(said) for said in given]
    if parts:
        messages.append(Message("user", parts))
    return tuple(messages)


def _parts(argument: str, given: Any, kind: type[Image | File]) -> list[dict[str, Any]]:
    return [checks.instance(argument, part, kind).to_part() for part in checks.sequence(argument, given)]


def _message(given: Any) -> Message:
    if isinstance(given, Mapping):
        return Message.from_dict(given)
    raise InvalidArgument("input", f"must hold messages, not {type(given).__name__}")
