"""Pictures, sounds and files of Agno's as content parts of the Chat Completions form."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from recollect.message import File, Image

Part = dict[str, Any]

_SAID: Final = frozenset({"id", "content", "url", "mime_type", "format", "detail", "filename", "name"})
"""What a part says of its medium; an id is Agno's own affair."""

_PICTURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
"""How files of pictures begin."""


def parts(message: Mapping[str, Any]) -> tuple[list[Part], dict[str, list[Any]]]:
    """The parts that a message's media make; and by key, media without a part, and what a part does not say."""
    made: list[Part] = []
    rest: dict[str, list[Any]] = {}
    for key, make in _MAKERS.items():
        for item in _listed(message.get(key)):
            part = make(item) if isinstance(item, dict) else None
            made += [] if part is None else [part]
            if part is None or not item.keys() <= _SAID:
                kept = item if part is None else {name: item[name] for name in item if name not in _SAID - {"id"}}
                rest.setdefault(key, []).append(kept)
    return made, rest


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _image(item: Mapping[str, Any]) -> Part | None:
    detail = item.get("detail")
    detail = detail if isinstance(detail, str) else None
    if content := item.get("content"):
        picture = _picture(content) if isinstance(content, str) else None
        kind = _mime(item, "image")
        return Image(content=picture, mime_type=kind, detail=detail).to_part() if picture else None
    url = item.get("url")
    return Image(url=url, detail=detail).to_part() if isinstance(url, str) and url else None


def _sound(item: Mapping[str, Any]) -> Part | None:
    content, kind = item.get("content"), _mime(item, "audio") or "audio/wav"
    if not isinstance(content, str) or _bytes(content) is None:
        return None
    name = kind.removeprefix("audio/").removeprefix("x-")
    return {"type": "input_audio", "input_audio": {"data": content, "format": {"mpeg": "mp3"}.get(name, name)}}


def _file(item: Mapping[str, Any]) -> Part | None:
    name = next((item[key] for key in ("filename", "name") if isinstance(item.get(key), str)), None)
    url, content, kind = item.get("url"), item.get("content"), item.get("mime_type")
    kind = kind if isinstance(kind, str) else None
    if isinstance(content, str) and content:
        plain = None if (kind or "").startswith("text/") else _bytes(content)
        raw = content.encode() if plain is None else plain
        return File(content=raw, filename=name, mime_type=kind).to_part()
    return File(url=url, filename=name).to_part() if isinstance(url, str) and url else None


_MAKERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Part | None]]] = {
    "images": _image,
    "audio": _sound,
    "files": _file,
}


def _mime(item: Mapping[str, Any], family: str) -> str | None:
    kind, name = item.get("mime_type"), item.get("format")
    if isinstance(kind, str) and kind:
        return kind
    return f"{family}/{name}" if isinstance(name, str) and name else None


def _bytes(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _picture(text: str) -> bytes | None:
    """The bytes of a picture. The first releases encoded it once more each time its session was stored."""
    outer = inner = _bytes(text)
    while inner is not None and not inner.startswith(_PICTURES):
        inner = _bytes(inner.decode("latin-1")) if inner else None
    return inner or outer
