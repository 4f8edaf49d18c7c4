"""Reading a model's answer: the name is in there, or nothing is.

Models wrap a name in thoughts, markdown, labels, quotes and courtesies. One pass takes one layer of each off and cuts;
passes follow until nothing changes, so that reading a name gives it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from recollect import checks
from recollect.naming import words
from recollect.naming.clean import LOOKED_AT, cut, head, plain, says, tidy

LINE = 400
"""Characters of a line that are looked at."""

_THOUGHT = re.compile(
    r"[<\[\u25c1](/?)(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad)(?:\s[^<>]{0,80})?[>\]\u25b7]",
    re.IGNORECASE,
)
_FENCE = re.compile(r"[ \t]*(?:`{3,}+|~{3,}+)[ \t]*[\w+.-]{0,20}[ \t]*")
_TOKEN = re.compile(r"<\|[a-z_]{1,30}\|>|</?s>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:title|name|session_name|session|answer|output|response|final|result|b|i|u|em|strong|code|pre|p|span|div|br"
    r"|h[1-6]|li|ul|ol)(?:\s[^<>]{0,100})?/?>",
    re.IGNORECASE,
)
_LINK = re.compile(r"!?\[([^\[\]\n]{0,300})\]\([^()\s]{0,1000}(?:\s\"[^\"\n]{0,100}\")?\)")
_BULLET = re.compile(
    rf"\s*(?:\#{{1,6}}(?=\s|$)|\#{{2,}}+|>|[-*+\u2022\u2023\u25e6\u25aa\u25cf](?=\s)|\(?\d{{1,2}}[.)](?=\s)"
    rf"(?!\s(?:{words.MONTHS})\b))\s*",
    re.IGNORECASE,
)
# Stars and underscores that are not within a word; a name such as __init__ among other words stays as it is.
_EMPHASIS = re.compile(
    r"(?<=\s)(__[A-Za-z0-9]+__)(?![A-Za-z0-9_])|(?<![A-Za-z0-9_])(__[A-Za-z0-9]+__)(?=\s)"
    r"|(?<![0-9A-Za-z*])\*++(?!\s\w)|(?<!\*)\*++(?![0-9A-Za-z])(?<!\s\*)|(?<![^\W_])_++|(?<!_)_++(?![^\W_])|~~|`"
)
_OPEN = r"\"\u201c\u00ab\u300c\u201e"
_LABEL = re.compile(rf"(?:{words.LABELS})\s*(?:[:\uff1a=]|[-\u2013\u2014](?=\s))\s*", re.IGNORECASE)
_COURTESY = re.compile(
    rf"(?:{words.COURTESIES})(?:[!.,:;\s\u3002\uff0c\uff01\uff1a\u3001\u2013\u2014-]+|$)", re.IGNORECASE
)
_PREAMBLE = re.compile(
    rf"(?=[^:\uff1a\n]{{0,280}}?(?:{words.TITLE_NOUNS}))(?:{words.PREAMBLES})[^:\uff1a\n]{{0,280}}[:\uff1a]\s*",
    re.IGNORECASE,
)
_CALLED = re.compile(
    rf"(?=[^{_OPEN}\n]{{0,220}}?(?:{words.TITLE_NOUNS}|call|entitled))(?:{words.PREAMBLES})[^{_OPEN}\n]{{0,220}}"
    rf"[{_OPEN}]([^{_OPEN}\u201d\u00bb\u300d\n]{{1,200}})[\"\u201c\u201d\u00bb\u300d]",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:the|a|my) (?:\w+ ){0,3}?(?:title|name)(?: (?:for|of) (?:this|the|your) \w+)?"
    r" (?:is|would be|could be|should be)\s+",
    re.IGNORECASE,
)
_REFUSAL = re.compile(rf"\W*(?:{words.REFUSALS})", re.IGNORECASE)
_NOTHING = frozenset(words.NAMELESS)
_TITLE_KEY = re.compile(r'"(?:\w{0,20}[_ ])?(?:title|name|topic)"\s*:\s*("(?:[^"\\]|\\.){0,600}+"?)', re.IGNORECASE)
_ANY_KEY = re.compile(r'"[^"\\]{1,40}"\s*:\s*("(?:[^"\\]|\\.){0,600}+"?)')


def read_name(text: str, max_words: int, max_chars: int) -> str:
    """The name in an answer, clean and cut; "" where there is none."""
    name = text
    for _ in range(checks.MAX_NAME):
        before, name = name, _pass(name, max_words, max_chars)
        if name == before:
            break
    return name


def _pass(text: str, max_words: int, max_chars: int) -> str:
    said = _unwrapped(head(_TOKEN.sub("\n", spoken(text)[: LOOKED_AT * 4])))
    if refuses(said):
        return ""
    for line in _lines(said):
        name = tidy(cut(line, max_words, max_chars))
        if name and name.casefold() not in _NOTHING:
            return plain(name)
    return ""


def spoken(text: str) -> str:
    """Text without thoughts; one that was not closed goes on to the end, one that was not opened began at the start."""
    kept: list[str] = []
    start, thinking = 0, False
    for tag in _THOUGHT.finditer(text):
        closes = bool(tag[1])
        if closes and not thinking:
            kept.clear()
        elif not closes and not thinking:
            kept.append(text[start : tag.start()])
        thinking = not closes
        start = tag.end()
    return "".join(kept) if thinking else "".join([*kept, text[start:]])


def refuses(text: str) -> bool:
    """Whether an answer declines, in one of the larger languages."""
    return _REFUSAL.match(text[:LINE].lstrip().replace("\u2019", "'")) is not None


def _unwrapped(text: str) -> str:
    """The text that JSON around a name holds; other text as it is."""
    inner = "\n".join(line for line in text.split("\n") if not _FENCE.fullmatch(line)).strip()
    if not inner.startswith(("{", "[{")):
        return inner
    found = _TITLE_KEY.search(inner) or _ANY_KEY.search(inner)
    return inner if found is None else plain(_string(found[1]))


def _string(literal: str) -> str:
    try:
        return str(checks.decode(literal))
    except msgspec.MsgspecError:  # cut off in its midst, or no JSON after all
        return literal.strip('"')


def _lines(text: str) -> Iterator[str]:
    """What each line says without what is around it; a line that leads to the next comes last."""
    leads = []
    for line in text.split("\n"):
        bare = _bare(line[:LINE])
        if not says(bare):
            continue
        if bare.endswith((":", "\uff1a")):
            leads.append(bare)
        else:
            yield bare
    yield from leads


def _bare(line: str) -> str:
    bare = _TAG.sub(" ", _LINK.sub(r"\1", line)).strip()
    while True:
        before = bare
        bare = bare[found.end() :] if (found := _BULLET.match(bare)) else bare
        bare = _EMPHASIS.sub(r"\1\2", bare).strip()
        bare = _without_words(bare.lstrip("\"'\u201c\u201e\u00ab\u300c ")) or bare
        if bare == before:
            return bare


def _without_words(bare: str) -> str:
    """What is left without a label or a preamble; "" where there was none."""
    if found := _CALLED.match(bare):
        return found[1]
    for opening in (_LABEL, _PREAMBLE, _NAMED, _COURTESY):
        if found := opening.match(bare):
            return bare[found.end() :] or "-"
    return ""
