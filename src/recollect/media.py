"""Pictures, documents and sound in messages, and the notes that stand for them where they are not to be kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from recollect import checks
from recollect.message import Message

TEXTS: Final = frozenset({"text", "input_text", "output_text", "refusal"})
"""Content parts that are words."""

_KINDS: Final = {
    "image_url": "image",
    "input_image": "image",
    "input_file": "file",
    "input_audio": "audio",
    "video_url": "video",
}
_NAME_CHARS: Final = 100


def without_media(message: Message) -> Message:
    """The message with a note such as ``[image]`` or ``[file report.pdf]`` for each content part that is no text."""
    content = message.content
    if not isinstance(content, list) or all(map(_is_text, content)):
        return message
    parts = [part if _is_text(part) else {"type": "text", "text": _note(part)} for part in content]
    return Message.from_json(checks.encode(message.to_dict() | {"content": parts}), id=message.id)


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, Mapping) and part.get("type") in TEXTS)


def _note(part: Any) -> str:
    kind = str(part.get("type")) if isinstance(part, Mapping) else "media"
    held = part.get("file") if kind == "file" else part
    name = held.get("filename") if isinstance(held, Mapping) else None
    shown = checks.preview(name, _NAME_CHARS) if isinstance(name, str) else ""
    return f"[{_KINDS.get(kind, kind)} {shown}]" if shown else f"[{_KINDS.get(kind, kind)}]"
