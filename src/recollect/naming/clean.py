"""Text as a name may hold it: what is not seen is gone, and nothing is cut inside what a reader sees as one character.

Every function takes time in proportion to the text, or is given a text that was cut short before.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from recollect.checks import MAX_NAME

LOOKED_AT: Final = 4000
"""Characters of a text that are looked at; a name is found at its start or nowhere."""

MAX_CLUSTER: Final = 16
"""Code points of one visible character; a family of four with skin tones takes eleven."""

_BREAK = re.compile(r"[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")

# Control and format characters, lone surrogates and what stands for them, letters and marks that show nothing. Arabic
# number signs are format characters by category, but are seen; joiners, variation selectors and tags are looked at one
# by one.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    r"\u202a-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffd\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e001f\U000e0080-\U000e00ff\U000e01f0-\U000e0fff]+"
)
_TAGS = re.compile(r"(\U0001f3f4[\U000e0020-\U000e007e]{1,6}\U000e007f)|[\U000e0020-\U000e007f]+")
_SELECTORS = r"\ufe00-\ufe0f\U000e0100-\U000e01ef"
_LONE_SELECTOR = re.compile(rf"(?<![^\s{_SELECTORS}])[{_SELECTORS}]+")
_JOINERS = re.compile(r"[\u200c\u200d]+")

_JOINED = ("Lo", "Ll", "Lu", "Lm", "Mn", "Mc", "So", "Sk")
_LATIN_ENDS = 0x02FF
_REGIONAL = range(0x1F1E6, 0x1F200)
_SKIN = range(0x1F3FB, 0x1F400)
# Thai and Lao vowels, Japanese voicing marks and old Korean letters that belong to the character before them.
_TRAILS = frozenset("\u0e33\u0eb3\uff9e\uff9f") | frozenset(map(chr, range(0x1160, 0x1200)))
_VIRAMA = 9

_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\U00020000-\U0003ffff]"
)

BRACKETS: Final = dict(zip("([{（［｛【〔《〈「『", ")]}）］｝】〕》〉」』", strict=True))  # noqa: RUF001 - as they are typed
_CLOSES: Final = {close: start for start, close in BRACKETS.items()}

_QUOTED: Final = {
    '"': '"',
    "'": "'",
    "`": "`'",
    "\u00b4": "\u00b4",
    "\u2018": "\u2019",
    "\u2019": "\u2019",
    "\u201a": "\u2018\u2019",
    "\u201b": "\u2019",
    "\u201c": "\u201d\u201c",
    "\u201d": "\u201d",
    "\u201e": "\u201c\u201d",
    "\u201f": "\u201d",
    "\u00ab": "\u00bb",
    "\u00bb": "\u00ab",
    "\u2039": "\u203a",
    "\u203a": "\u2039",
    "\u300c": "\u300d",
    "\u300e": "\u300f",
    "\u301d": "\u301e\u301f",
    "\uff02": "\uff02",
    "\uff07": "\uff07",
}
"""What closes a quotation, by what opens it."""

_QUOTES = frozenset(_QUOTED) | frozenset("".join(_QUOTED.values()))
_OPENED = {close: "".join(start for start in _QUOTED if close in _QUOTED[start]) for close in _QUOTES}
_DOUBLE = frozenset('"\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02')

# Comma, stop, colon, dash and the like as scripts have them; a question mark is not among them.
_ENDS = (
    ".,;:!\\/|~=<&_\u00b7\u2026\u2022\u2010\u2011\u2012\u2013\u2014\u2015-\u3002\u3001\uff0c\uff1b\uff1a\uff01\uff0e"
    "\uff0f\uff0d\uff5e\u301c\u060c\u061b\u06d4\u0964\u0965\u0589\u1362"
)
_LOOSE_END = re.compile(r"(?:^|(?<=\s))[+#*>^]+$")
_LEAD = re.compile(
    r"(?:[,;:\u2026\u3002\u3001\uff0c\uff1b\uff1a\uff01\u00b7\u2022\u2013\u2014\u060c\u061b\u06d4\u0964\s]"
    r"|[!.\-|=~&/+#*_>\\]++(?=\s|$))+"
)


def plain(text: str) -> str:
    """Text without what is not seen, in NFC; line breaks of any kind become line feeds."""
    text = _BREAK.sub("\n", text)
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    text = _TAGS.sub(lambda tags: tags[1] or "", _HIDDEN.sub("", text))
    text = _JOINERS.sub(_joiner, unicodedata.normalize("NFC", _LONE_SELECTOR.sub("", text)))
    return unicodedata.normalize("NFC", text)


def head(text: str) -> str:
    """The start of a text, `plain`: as much of it as is looked at."""
    return plain(text.lstrip()[:LOOKED_AT])


def _joiner(found: re.Match[str]) -> str:
    before, after = found.string[found.start() - 1 : found.start()], found.string[found.end() : found.end() + 1]
    return found[0][0] if _joins(before) and _joins(after) else ""


def _joins(char: str) -> bool:
    return char > chr(_LATIN_ENDS) and unicodedata.category(char) in _JOINED


def says(text: str) -> bool:
    """Whether there is a letter, a digit or a picture in it."""
    return any(char.isalnum() or unicodedata.category(char) == "So" for char in text)


def spells(text: str) -> bool:
    """Whether there is a letter or a digit in it."""
    return any(map(str.isalnum, text))


def clusters(text: str) -> Iterator[str]:
    """What a reader sees as single characters: a base with its marks, a joined emoji, a flag."""
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or not _goes_on(text, start, place):
            yield text[start:place]
            start = place


def _goes_on(text: str, start: int, place: int) -> bool:
    char, before = text[place], text[place - 1]
    if char.isascii():
        return False
    code = ord(char)
    if code in _REGIONAL:
        return place - start == 1 and ord(before) in _REGIONAL
    if unicodedata.category(char)[0] == "M" or char in "\u200c\u200d" or char in _TRAILS:
        return True
    if code in _SKIN or 0xE0020 <= code <= 0xE007F:  # noqa: PLR2004 - the tags that spell a flag
        return True
    return before == "\u200d" or (char.isalpha() and unicodedata.combining(before) == _VIRAMA)


def columns(text: str) -> int:
    """How wide a text is where East Asian characters and pictures take two columns."""
    return len(text) if text.isascii() else sum(map(_width, clusters(text)))


def _width(cluster: str) -> int:
    if "\ufe0f" in cluster or ord(cluster[0]) in _REGIONAL:
        return 2
    return min(2, sum(_char_width(char) for char in cluster))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, max_words: int, max_chars: int) -> str:
    """The first words, at most so many words and columns, and no more code points than a name may have.

    Within a word only where it stands alone, or its script puts no spaces between words.
    """
    kept, room, points = "", max_chars, MAX_NAME
    for word in text.split()[:max_words]:
        gap = " " if kept else ""
        fits = _within(word, room - len(gap), points - len(gap))
        if fits != word and kept and not _UNSPACED.search(word):
            break
        if not fits:
            break
        kept += gap + fits
        room -= len(gap) + columns(fits)
        points -= len(gap) + len(fits)
        if fits != word:
            break
    return kept


def _within(word: str, room: int, points: int) -> str:
    if word.isascii():
        return word[: max(0, min(room, points))]
    kept: list[str] = []
    for cluster in clusters(word):
        whole = cluster if len(cluster) <= MAX_CLUSTER else cluster[:MAX_CLUSTER].rstrip("\u200c\u200d")
        room, points = room - _width(cluster), points - len(whole)
        if room < 0 or points < 0:
            return "".join(kept).rstrip("\u200c\u200d")
        kept.append(whole)
    return "".join(kept)


def tidy(text: str) -> str:
    """Text without quotes and brackets around it, and without punctuation that leads or trails.

    A question mark at the end stays, as it is part of what was said; "?!" becomes "?".
    """
    text = " ".join(text.split())
    while text and (trimmed := _balanced(_trimmed(text))) != text:
        text = trimmed
    return text if says(text) else ""


def settled(text: str) -> str:
    """Text that is `plain` and `tidy` at once: each may leave the other something to do."""
    while (done := tidy(plain(text))) != text:
        text = done
    return text


def _trimmed(text: str) -> str:
    text = _unquoted(text)
    if (close := BRACKETS.get(text[:1])) and text.find(close) == len(text) - 1:
        text = text[1:-1]
    text = _LOOSE_END.sub("", text.rstrip(_ENDS + " ")).rstrip()
    text = text[found.end() :] if (found := _LEAD.match(text)) else text
    for start, end in ("\u00a1!", "\u00bf?"):
        if text.startswith(start) and end not in text:
            text = text[1:]
    return text.strip()


def _unquoted(text: str) -> str:
    if text[:1] in _QUOTED and (text[1:2] in _QUOTES or not _closed(text)):
        text = text[1:].lstrip()
    if text[-1:] in _QUOTES and (text[-2:-1] in _QUOTES or not _opened(text)):
        text = text[:-1].rstrip()
    return text


def _closed(text: str) -> bool:
    """Whether the quotation that the text begins with ends before the text does."""
    for place in range(1, len(text)):
        if text[place] in _QUOTED[text[0]] and not _in_word(text, place):
            return place < len(text) - 1 and not text[place - 1].isspace()
    return False


def _opened(text: str) -> bool:
    """Whether the quotation that the text ends with began after the text did."""
    for place in range(len(text) - 2, -1, -1):
        if text[place] in _OPENED[text[-1]] and not _in_word(text, place):
            return not text[place + 1].isspace()
    return False


def _in_word(text: str, place: int) -> bool:
    return text[place - 1 : place].isalnum() and text[place + 1 : place + 2].isalnum()


def _balanced(text: str) -> str:
    """Text without brackets and quotes that want their other half."""
    opened: list[int] = []
    stray: list[int] = []
    for place, char in enumerate(text):
        if char in BRACKETS:
            opened.append(place)
        elif char in _CLOSES and (not opened or text[opened.pop()] != _CLOSES[char]):
            stray.append(place)
    if opened and says(text[: opened[0]]):
        return text[: opened[0]]
    gone = {*stray, *opened, *_odd_quote(text)}
    return "".join(char for place, char in enumerate(text) if place not in gone) if gone else text


def _odd_quote(text: str) -> list[int]:
    """Where the one double quote is that has no other; one after a digit is a measure."""
    places = [
        place for place, char in enumerate(text) if char in _DOUBLE and not (char == '"' and text[place - 1].isdigit())
    ]
    return places[-1:] if len(places) % 2 else []
