"""The request in what a user typed, without greetings, courtesies and noise.

The first sentence that says something is taken; what stands around the request in it is taken off by lists of words
(`words`), then it is cut at a clause, at a word, and not after "the".
"""

# ruff: noqa: RUF001 - punctuation as other scripts type it

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from recollect.naming import noise, words
from recollect.naming.clean import columns, cut, settled, spells
from recollect.naming.pasted import THREAD, is_error, parted, prose

_SENTENCES = 12
_SENTENCE = 600
"""Characters of a sentence that are looked at."""
_LAYERS = 12
"""How many things in a row are taken off a sentence."""
_PAIR = 4
"""Words from which the last two may go: "upgrade my seat and my"."""
_PHRASE = 3
"""Words from which one that is not everybody's is enough."""
_UNSPACED_CLAUSE = 10
"""Columns from which a clause in a script without spaces says enough."""

_STOP = re.compile(r"(?<=[.!?…])[\"'”’)]?\s+(?=\S)|(?<=[。！？])|\n+")
_CODE = re.compile(r"\w\(|[{};]|==|=>|->")
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:dr|mr|mrs|ms|prof|st|no|nr|vs|e\.g|i\.e|z\.b|d\.h|etc|inc|approx|ca|bzw|sr|sra|jr|[a-z])\.$",
    re.IGNORECASE,
)
_AFTER = r"[\s,!.:;…~،，。！？、：；?–—-]*"
_OPENERS = tuple(
    re.compile(rf"[¿¡]*(?:{pattern})", re.IGNORECASE)
    for pattern in (
        rf"(?:{words.GREETINGS}){_AFTER}",
        rf"(?:{words.INTRODUCTIONS}){_AFTER}",
        rf"(?:{words.FILLERS}){_AFTER}",
        rf"(?:{words.WRAPPERS})(?!\w)[\s,:]*",
        rf"(?:{words.UNSPACED_WRAPPERS})[\s,，:：]*",
    )
)
_COURTESIES, _WRAPPERS = _OPENERS[:3], _OPENERS[3:]
_TAIL = re.compile(rf"(?:{words.TAILS})[\s.!?。！？,，]*$", re.IGNORECASE)
_REQUEST = re.compile(rf"(?<![^\s,])(?:{words.REQUEST})(?!\w)\s*", re.IGNORECASE)
_REASON = re.compile(words.REASONS, re.IGNORECASE)
_CHANGES = re.compile(
    r"^mak(?:e|ing) (?:(?:some|a few|an?|any|several|the following) )?(?:changes?|adjustments?"
    r"|modifications?) (?:to|for|in|on) ",
    re.IGNORECASE,
)
_EVERYBODYS = words.VAGUE | words.FUNCTION
_LOOSE = re.compile(r" (?=[.,;])")
_ARTICLE = re.compile(r"(?:the|an?)\s+(?=\w)", re.IGNORECASE)
_LEAD = re.compile(r"(?:if|whether|to|that|about|with|for|regarding)\s+(?=(?:you|i|we|the|a|my|it)\b)", re.IGNORECASE)
_CAN = re.compile(r"(?:you|i|we|it) (?:can|could|would|will|might|may)\s+|you to\s+|to\s+", re.IGNORECASE)


def request_title(text: str, max_words: int, max_chars: int) -> str:
    """The request in a text as a title, "" where it holds none."""
    typed, put = parted(text)
    for sentence in islice(_split(prose(typed)), _SENTENCES):
        if found := _of_sentence(sentence, max_words, max_chars):
            return found
    return _of_pasted(put, max_words, max_chars)


def _of_sentence(sentence: str, max_words: int, max_chars: int) -> str:
    if is_error(sentence):
        return _of_pasted(sentence, max_words, max_chars)
    request = _request(sentence)
    if not request or _vague(request):
        return ""
    short = _short(request, max_words, max_chars)
    return "" if _vague(short) else _capital(short)


def _of_pasted(text: str, max_words: int, max_chars: int) -> str:
    """The first line of code or of an error's message."""
    lines = (settled(cut(THREAD.sub("", line), max_words, max_chars)) for line in text.split("\n"))
    return next(filter(None, lines), "")


def _split(text: str) -> Iterator[str]:
    start = 0
    for stop in _STOP.finditer(text):
        if not _ABBREVIATED.search(text[max(start, stop.start() - 8) : stop.start()]):
            yield text[start : stop.start()][:_SENTENCE].strip()
            start = stop.end()
    yield text[start:][:_SENTENCE].strip()


def _request(sentence: str) -> str:
    """The request in a sentence; "" where it holds none."""
    sentence = noise.hosts(" ".join(sentence.split()))
    spoken = _unopened(sentence, _COURTESIES)
    bare = _unopened(spoken)
    if not _REQUEST.match(spoken):
        bare = _wish(bare)
    if bare != spoken:
        bare = bare.rstrip("?\uff1f ")
    bare = _CHANGES.sub(r"change ", bare)
    quiet = _quiet(bare)
    return quiet if quiet and not _vague(quiet) else bare


def _wish(text: str) -> str:
    """What is wished in the midst of a sentence, where that can be understood alone; else all of it."""
    for asked in _REQUEST.finditer(text):
        wish = _unopened(text[asked.end() :])
        if len(_content(wish)) > (2 if _points_back(wish) else 1):
            return wish
    return text


def _unopened(text: str, openers: Sequence[re.Pattern[str]] = _OPENERS) -> str:
    """Text without what it need not be opened or closed with."""
    for _ in range(_LAYERS):
        before = text
        for opener in openers:
            found = opener.match(text.replace("\u2019", "'"))
            text = text[found.end() :] if found else text
            if found and opener in _WRAPPERS:
                text = _led(text)
        text = text[: found.start()] if (found := _TAIL.search(text.replace("\u2019", "'"))) else text
        text = text.strip(" \t,;")
        if text == before:
            break
    return text


def _led(text: str) -> str:
    """Text without what links a wrapper to the wish: "if you could", "to"."""
    for lead in (_LEAD, _CAN):
        found = lead.match(text)
        text = text[found.end() :] if found else text
    return text


def _quiet(text: str) -> str:
    """Text without ids, dates and addresses; as it is where too little would be left."""
    for kind in noise.KINDS:
        less = _LOOSE.sub("", " ".join(kind.sub(" ", text).split()))
        text = less if len(_content(less)) > (len(less.split()) < _PHRASE) else text
    return text.strip(" ,;:-")


def _points_back(wish: str) -> bool:
    """Whether a wish is about what was said before it: "change it to a later one", "make some changes"."""
    return any(word in ("it", "this", "that", "them", "these", "those") for word in _spelled(wish)[1:3])


def _spelled(text: str) -> list[str]:
    return [word.strip(".,;:!?\"'()…，。！？、“”«»").replace("\u2019", "'") for word in text.casefold().split()]


def _content(text: str) -> list[str]:
    return [word for word in _spelled(text) if spells(word) and word not in _EVERYBODYS]


def _vague(text: str) -> bool:
    found = _content(text)
    return not found or (len(found) == 1 and len(_spelled(text)) == 1 and found[0] in words.VAGUE_UNSPACED)


def _short(request: str, max_words: int, max_chars: int) -> str:
    request = _ARTICLE.sub("", request, count=1) if _ARTICLE.match(request) else request
    clause = _clause(request)
    short = cut(clause, max_words, max_chars)
    if len(short) < len(request):
        short = _without_dangling(short)
    return settled(short)


def _clause(request: str) -> str:
    """The request up to its reason or its next wish, where that says enough."""
    for reason in _REASON.finditer(request):
        before = request[: reason.start()]
        if len(_content(before)) > 1 if " " in before else columns(before) >= _UNSPACED_CLAUSE:
            return before
    return request


def _without_dangling(short: str) -> str:
    found = short.split(" ")
    if len(found) > _PAIR and found[-2].casefold() in words.CONJUNCTIONS:
        del found[-2:]
    while len(found) > 1 and _spelled(found[-1])[:1] and _spelled(found[-1])[0] in words.FUNCTION:
        found.pop()
    return " ".join(found) if len(found) > 1 else short


def _capital(text: str) -> str:
    """The first word with a capital, unless it is spelled in a way of its own: iPhone, numpy.array."""
    word = text.split(" ", 1)[0]
    upper = word[:1].title()
    if len(upper) != 1 or _CODE.search(text) or any(char.isupper() or char in "._/()@=\\" for char in word[1:]):
        return text
    return upper + text[1:]
