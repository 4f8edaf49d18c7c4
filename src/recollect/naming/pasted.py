"""What people paste: code, traces, JSON, mail; told from what they typed."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.naming.clean import spells

_FENCE = re.compile(r"[ \t]*(?:```+|~~~+)[^\n`]*$", re.MULTILINE)
_QUOTED_MAIL = re.compile(
    r"^(?:[ \t]*>.*|-{2,}\s*(?:original message|forwarded message|ursprüngliche nachricht|message d'origine).*"
    r"|(?:on|am|le|el|il) [^\n]{5,100} (?:wrote|schrieb[^\n]{0,60}|a écrit|escribió|ha scritto) ?:)[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_MAIL_HEADER = re.compile(r"^(?:from|to|cc|date|sent|von|an|gesendet|de|à) ?:[^\n]*$", re.MULTILINE | re.IGNORECASE)
_SUBJECT = re.compile(
    r"^(?:subject|betreff|objet|asunto|oggetto|assunto) ?: *(?:(?:re|fwd?|aw|wg) ?: *)*", re.IGNORECASE | re.MULTILINE
)
_TRACE = re.compile(
    r"^(?:Traceback \(most recent call last\)|\s+at [\w.$<>]+\(|\s+File \"[^\"\n]+\", line \d+)", re.MULTILINE
)
_ERROR = re.compile(
    r"^[ \t]*(?:(?:Uncaught |Exception in thread \"[^\"\n]{0,80}\" |Caused by: )*(?:\w{1,60}[.:$]{1,2}){0,12}\w{0,80}"
    r"(?:Error|Exception|Warning|Interrupt|Exit)\b[^\n]*|(?:error|fatal|panic)(?:\[\w+\])?: [^\n]+)$",
    re.MULTILINE,
)
THREAD: Final = re.compile(r"(?:Uncaught |Exception in thread \"[^\"\n]{0,80}\" |Caused by: )+")
_MARKDOWN = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]+|[-*+•][ \t]+|\(?\d{1,2}[.)][ \t]+)|\*\*+|__+(?=\s|$)|(?:(?<=\s)|^)__+|`+", re.MULTILINE
)
_LINK = re.compile(r"!?\[([^\[\]\n]{1,300})\]\([^()\s]{0,1000}\)")

_KEYS = (
    "subject",
    "title",
    "question",
    "query",
    "message",
    "prompt",
    "text",
    "content",
    "input",
    "description",
    "body",
    "error",
)


def parted(text: str) -> tuple[str, str]:
    """Prose, and what was pasted with it: an error's message, else code."""
    if (value := _json(text)) is not None:
        text = _of_json(value)
    typed: list[str] = []
    code: list[str] = []
    for number, part in enumerate(_FENCE.split(text)):
        (code if number % 2 else typed).append(part)
    said = "\n".join(typed)
    pasted = "\n".join(code)
    if (trace := _TRACE.search(text)) is not None:
        error = _ERROR.search(text, trace.start()) or _ERROR.search(text)
        said = said[: begin.start()] if (begin := _TRACE.search(said)) else said
        pasted = error[0].strip() if error else pasted
        said = said.replace(pasted, " ") if error else said
    return said, pasted


def prose(text: str) -> str:
    """Text without markdown, and without the mail that it answers."""
    if (quoted := _QUOTED_MAIL.search(text)) is not None and spells(text[: quoted.start()]):
        text = text[: quoted.start()]
    text = _MAIL_HEADER.sub("", _QUOTED_MAIL.sub("", text))
    text = _SUBJECT.sub("", text)
    text = _LINK.sub(r"\1", text)
    return _MARKDOWN.sub("", text)


def is_error(line: str) -> bool:
    """Whether a line is what a program says when it fails."""
    return _ERROR.fullmatch(line) is not None


def _json(text: str) -> Any:
    if not text.startswith(("{", "[")):
        return None
    try:
        return checks.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _of_json(value: Any) -> str:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            return item
        if isinstance(item, dict):
            said = [item[key] for key in _KEYS if isinstance(item.get(key), str)]
            return str(said[0]) if said else ", ".join(item)
    return ""
