"""What is said: messages, the tool calls in them, images and files, and the tokens they took.

A `Message` *is* its JSON text in the Chat Completions form. What the library does not know, it keeps: unknown keys,
explicit nulls, key order and the spelling of tool arguments come back as they came. The text is read through typed
properties, decoded when first looked at; nested values are frozen, or made afresh for each reader.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
PROMPT_ROLES: Final = frozenset({"system", "developer"})

MAY_CALL: Final = '"tool_calls"'
"""A message whose JSON text does not hold this calls no tool; most need not be decoded to know that."""

PROVIDER_DATA: Final = '"provider_data"'
"""A message whose JSON text does not hold this has as many characters for the model as that text."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tokens that one or more model calls took."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together; cached and reasoning tokens are parts of these."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


class ToolCall(msgspec.Struct, frozen=True):
    """A model's wish to have one tool called."""

    id: str
    name: str
    arguments: str = "{}"
    """JSON text, as the provider wrote it; possibly not valid JSON."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


class Image(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A picture, by address or by content (exactly one of ``url``, ``content``, ``filepath``)."""

    url: str | None = None
    content: bytes | None = None
    filepath: str | None = None
    mime_type: str | None = None
    detail: str | None = None
    """How closely the model looks: ``low``, ``high`` or ``auto``."""

    def to_part(self) -> dict[str, Any]:
        """The content part of the Chat Completions form."""
        url = self.url or _data_url("images", self.content, self.filepath, self.mime_type or "image/png")
        picture = {"url": url} if self.detail is None else {"url": url, "detail": self.detail}
        return {"type": "image_url", "image_url": picture}


class File(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A document, by the provider's id, by address or by content."""

    file_id: str | None = None
    url: str | None = None
    content: bytes | None = None
    filepath: str | None = None
    filename: str | None = None
    mime_type: str | None = None

    def to_part(self) -> dict[str, Any]:
        """The content part of the Chat Completions form (``file_url`` is this library's addition)."""
        if self.file_id is not None:
            return {"type": "file", "file": {"file_id": self.file_id}}
        filename = self.filename or (Path(self.filepath).name if self.filepath else "file")
        if self.url is not None:
            return {"type": "file", "file": {"filename": filename, "file_url": self.url}}
        kind = self.mime_type or mimetypes.guess_type(filename)[0] or "application/octet-stream"
        data = _data_url("files", self.content, self.filepath, kind)
        return {"type": "file", "file": {"filename": filename, "file_data": data}}


def _data_url(argument: str, content: bytes | None, filepath: str | None, mime_type: str) -> str:
    if content is None:
        if filepath is None:
            raise InvalidArgument(argument, "needs one of url, content or filepath")
        try:
            content = Path(filepath).read_bytes()
        except OSError as error:
            raise InvalidArgument(argument, f"cannot read {filepath!r}: {error.strerror}") from error
        mime_type = mimetypes.guess_type(filepath)[0] or mime_type
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: str = ""


class _Custom(msgspec.Struct, frozen=True):
    name: str = ""
    input: str = ""


class _Call(msgspec.Struct, frozen=True):
    id: str = ""
    function: _Function | None = None
    custom: _Custom | None = None

    def plain(self) -> ToolCall:
        if self.custom is not None:
            return ToolCall(self.id, self.custom.name, self.custom.input)
        function = self.function or _Function()
        return ToolCall(self.id, function.name, function.arguments)


_NULL = msgspec.Raw(b"null")


class _View(msgspec.Struct, frozen=True, gc=False):
    """The keys of a message that the library looks at. What JSON makes has no cycles, so none are looked for."""

    role: str
    content: Any = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[_Call, ...] | None = None
    tool_call_error: bool = False
    reasoning_content: str | None = None
    finish_reason: str | None = None
    provider_data: msgspec.Raw = _NULL


_read_view = msgspec.json.Decoder(_View).decode


class _Draft:
    """A message while it is made: what can be set until it becomes a `Message`, which refuses."""

    __slots__ = ("_text", "_view", "id", "role")

    role: str
    id: str | None
    """The message's id: the caller's own, else ``<run_id>.<place in the run>`` once stored, else None."""
    _text: str
    _view: _View | None


class Message(_Draft):
    """One message of a conversation: a frozen value, equal to any other with the same JSON.

    ``role`` is one of system, developer, user, assistant, tool (or function). ``content`` is text, a list of content
    parts in the Chat Completions form, or None. Any other key may be given and is kept. Beside the keys of that form
    the library writes ``reasoning_content``, ``tool_call_error``, ``finish_reason`` (only when an answer is cut short),
    ``repaired`` (its text could not be stored as it came) and ``provider_data`` (what the provider wants to see again).

    Raises:
        InvalidArgument: the role is unknown, or a value cannot be stored as JSON.
    """

    __slots__ = ()

    def __init__(self, role: str, content: Any = msgspec.UNSET, *, id: str | None = None, **fields: Any) -> None:
        if type(content) is str and not fields and type(role) is str and role in ROLES:
            # Plain text is most of what is said; it needs none of the general checks.
            checks.text("message['content']", content)
            _set_text(self, checks.encode({"role": role, "content": content}).decode())
            _set_id(self, checks.optional_identifier("message.id", id))
            _set_role(self, role)
            _set_view(self, None)
            return
        body: dict[str, Any] = {"role": role}
        if content is not msgspec.UNSET:
            body["content"] = content
        body |= {key: _plain(value) for key, value in fields.items()}
        _set_text(self, checks.json_text("message", body))
        _set_view(self, None)
        _set_id(self, checks.optional_identifier("message.id", id))
        self._check()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Message:
        """The message that a dictionary in the Chat Completions form describes; a key ``id`` is a key like others."""
        if not isinstance(data, Mapping):
            raise InvalidArgument("message", f"must be a dictionary, not {type(data).__name__}")
        return cls.from_json(checks.json_text("message", dict(data)))

    @classmethod
    def from_json(cls, text: str | bytes, *, id: str | None = None) -> Message:
        """The message whose JSON text is given; the text itself is what is stored.

        Raises:
            InvalidArgument: the text is not JSON, or not a message.
        """
        if not isinstance(text, str | bytes):
            raise InvalidArgument("message", f"must be JSON text, not {type(text).__name__}")
        message = cls.__new__(cls)
        _set_view(message, None)
        _set_id(message, id)
        try:
            _set_text(message, text if isinstance(text, str) else text.decode())
            checks.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InvalidArgument("message", f"not valid JSON: {error}") from error
        message._check()  # noqa: SLF001 - of its own class
        return message

    @staticmethod
    def stored(text: str, id: str | None, role: str) -> Message:
        """A message as the store holds it; its text was checked when it came in."""
        message = _Draft()
        message._text = text  # noqa: SLF001 - of the same class, as it will be
        message._view = None  # noqa: SLF001
        message.id = id
        message.role = role
        message.__class__ = Message
        return message  # type: ignore[return-value]

    @staticmethod
    def stored_all(roles: Sequence[str], texts: Sequence[str]) -> list[Message]:
        """Messages without ids, as the store holds them: the past of a run."""
        return [*map(Message.stored, texts, repeat(None), roles)]

    def with_id(self, id: str) -> Message:
        """This message under an id."""
        return Message.stored(self._text, id, self.role)

    @property
    def content(self) -> Any:
        """Text, or None, or a fresh list of content parts."""
        content = (self._view or self._look()).content
        return content if isinstance(content, str) or content is None else self.to_dict()["content"]

    @property
    def text(self) -> str:
        """All text of the content, parts joined by line breaks; "" where there is none."""
        content = (self._view or self._look()).content
        if isinstance(content, str):
            return content
        parts = [part for part in content or () if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return "\n".join(part["text"] for part in parts)

    @property
    def name(self) -> str | None:
        """Who speaks, or which tool answered."""
        return self._look().name

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        if MAY_CALL not in self._text:
            return ()
        return tuple(call.plain() for call in self._look().tool_calls or ())

    @property
    def tool_call_id(self) -> str | None:
        """The call that this message answers."""
        return self._look().tool_call_id

    @property
    def tool_call_error(self) -> bool:
        """Whether the tool failed and the content is its error."""
        return self._look().tool_call_error

    @property
    def reasoning_content(self) -> str | None:
        """The model's thinking, or the provider's summary of it."""
        return self._look().reasoning_content

    @property
    def finish_reason(self) -> str | None:
        """Why an answer is no whole one (``length``, ``content_filter``, ``refusal``, ``cancelled``), else None."""
        return self._look().finish_reason

    @property
    def provider_data(self) -> Any:
        """What the provider wants to see again on the next turn; made afresh for each reader."""
        return msgspec.json.decode(self._look().provider_data)

    @property
    def chars(self) -> int:
        """Characters of the JSON text that a model has to read; what only the provider can read is left out."""
        if PROVIDER_DATA not in self._text:
            return len(self._text)
        return len(self._text) - len(memoryview(self._look().provider_data))

    @property
    def images(self) -> tuple[Image, ...]:
        """The pictures among the content parts."""
        found = [part.get("image_url") for part in self._parts("image_url")]
        return tuple(Image(url=item.get("url"), detail=item.get("detail")) for item in found if isinstance(item, dict))

    @property
    def files(self) -> tuple[File, ...]:
        """The documents among the content parts; content is given as a ``data:`` address."""
        found = [item for part in self._parts("file") if isinstance(item := part.get("file"), dict)]
        return tuple(
            File(
                file_id=item.get("file_id"),
                url=item.get("file_url") or item.get("file_data"),
                filename=item.get("filename"),
            )
            for item in found
        )

    def to_dict(self) -> dict[str, Any]:
        """The message as it came: a fresh dictionary in the Chat Completions form."""
        fresh: dict[str, Any] = checks.decode(self._text)
        return fresh

    def to_json(self) -> str:
        """The message's JSON text, as it is stored."""
        return self._text

    def _parts(self, kind: str) -> list[dict[str, Any]]:
        content = self.content
        if not isinstance(content, list):
            return []
        return [part for part in content if isinstance(part, dict) and part.get("type") == kind]

    def _check(self) -> None:
        try:
            view = self._look()
        except msgspec.MsgspecError as error:
            raise InvalidArgument("message", str(error).replace("`", "")) from error
        _set_role(self, view.role)
        if view.role not in ROLES:
            raise InvalidArgument("message.role", f"{view.role!r} is not one of {', '.join(sorted(ROLES))}")
        if not (view.content is None or isinstance(view.content, str | list)):
            raise InvalidArgument("message.content", "must be text, a list of content parts, or None")

    def _look(self) -> _View:
        view = self._view
        if view is None:
            view = _read_view(self._text)
            _set_view(self, view)
        return view

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"a Message is frozen; make a new one instead of setting {name!r}"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        msg = f"a Message is frozen; make a new one instead of deleting {name!r}"
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self._text == other._text or checks.decode(self._text) == checks.decode(other._text)

    def __hash__(self) -> int:
        return hash((self.role, self.text))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Message.stored, (self._text, self.id, self.role))

    def __repr__(self) -> str:
        calls = "".join(f", calls {call.name}" for call in self.tool_calls)
        return f"Message({self.role}: {checks.preview(self.text, 60)!r}{calls})"


# The slots themselves, for `Message.__setattr__` refuses.
_set_text = _Draft.__dict__["_text"].__set__
_set_view = _Draft.__dict__["_view"].__set__
_set_id = _Draft.__dict__["id"].__set__
_set_role = _Draft.__dict__["role"].__set__


def chars_of(messages: Iterable[Message]) -> int:
    """The characters of all these messages that a model has to read."""
    known = [*messages]
    joined = "".join([message._text for message in known])  # noqa: SLF001 - of the module's own class
    return sum(message.chars for message in known) if PROVIDER_DATA in joined else len(joined)


def messages_of(argument: str, value: object) -> tuple[Message, ...]:
    """Accept a sequence of messages.

    Raises:
        InvalidArgument: it is something else, or holds something else.
    """
    if isinstance(value, str) or not isinstance(value, (tuple, list, Sequence)):
        raise InvalidArgument(argument, f"must be a sequence of Message, not {type(value).__name__}")
    for item in value:
        if not isinstance(item, Message):
            raise InvalidArgument(argument, f"must hold Message only, not {type(item).__name__}")
    return tuple(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [_plain(item) for item in value]
    return value.to_dict() if isinstance(value, ToolCall) else value
