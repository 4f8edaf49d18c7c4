"""What is looked for, and the words that a text is found by: the same in Python and on every database. Pure.

Text is folded (case, accents, forms of one letter) and cut into words. Emoji, and scripts that put no blanks between
words, are cut into single characters, and every two that stand side by side are looked up as one; what is asked for
must then stand side by side in the text. So a query finds what a reader would find, and databases need no parser of
their own.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from recollect.errors import InvalidArgument

LONGEST: Final = 1000
"""Characters that a query may have."""

WORD: Final = 64
"""Characters of the longest word; a longer one is several words, side by side."""

PART: Final = 50_000
"""Characters of a text that are found together; a longer one is several, each of which is found for itself."""

LISTED: Final = 3
"""Letters of the longest beginning for which an index lists the texts that have such a word."""

OVERLAP: Final = 500
"""Characters that two parts have in common, so that what stands side by side does so in one of them."""

_ALONE: Final = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # kana, and signs that repeat
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"  # Hangul, whose particles stick to its words
    "\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"  # emoji and the like
)
"""Characters that are words of their own."""

_TOKEN: Final = re.compile(rf"[{_ALONE}]|[^ {_ALONE}]{{1,{WORD}}}")
_IS_ALONE: Final = re.compile(rf"[{_ALONE}]")

_LETTERS: Final = {
    "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ħ": "h", "ŧ": "t", "\u0131": "i",
    "\u0640": "",  # tatweel, which makes an Arabic word longer on paper
    "\u02bb": " ", "\u02bc": " ",  # letters that look like an apostrophe, which is a blank
    "\u200b": " ",  # where a word ends that has no blank behind it
}  # fmt: skip
"""Letters that Unicode does not take apart, as they are typed where there is no key for them."""

_CHOICE: Final = re.compile("[\u034f\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Marks that choose between two pictures of one character."""

_ACCENTS: Final = frozenset({1, 7, *range(10, 37), *range(200, 255)})
"""What Unicode calls the marks over, under and in letters, and the points of Hebrew, Arabic and Syriac."""

_HALVES: Final = re.compile("[\uff66-\uff9d][\uff9e\uff9f]")
"""Kana of half the width, whose mark is a character of its own."""

_ASKED: Final = re.compile(r'"([^"]*)(?:"(\*)?|$)|([^\s"]+)')
_QUOTES: Final = str.maketrans("“”„‟«»\uff02\uff0a\u3000", '"""""""* ')

_SATURATES: Final = 1.2
_LENGTH: Final = 100
"""Words that a text usually has: how often a word is in it means less the longer it is."""


class _Folded(dict[int, str]):
    """What each character is folded to, made when first met."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold(chr(code))
        return folded


def _fold(character: str) -> str:
    if character in _LETTERS:
        return _LETTERS[character]
    if unicodedata.category(character) == "Cf" or _is_tint(character):  # soft hyphens and the like, in midst of a word
        return ""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return unicodedata.normalize("NFC", "".join(map(_plain, plain)))


def _is_tint(character: str) -> bool:
    """Whether it says what the skin of an emoji is like."""
    return "\U0001f3fb" <= character <= "\U0001f3ff"


def _plain(character: str) -> str:
    """A character that was taken apart, as it is in a word; nothing where it is an accent, a blank where it is none."""
    if character in _LETTERS:
        return _LETTERS[character]
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    if unicodedata.category(character) in ("Mn", "Mc"):
        return "" if _is_accent(character) else character
    return character if character.isalnum() or _is_emoji(character) else " "


def _is_accent(character: str) -> bool:
    """Whether a mark is no letter of its own, as vowels are in India, and in kana what makes another sound of one.

    https://www.unicode.org/reports/tr44/#Canonical_Combining_Class_Values
    """
    return unicodedata.combining(character) in _ACCENTS or bool(_CHOICE.match(character))


def _is_emoji(character: str) -> bool:
    return unicodedata.category(character) == "So" and bool(_IS_ALONE.match(character))


_FOLDED: Final = _Folded()


def fold(text: str) -> str:
    """Text without case, accents and other differences of form, character by character; between words are blanks."""
    return composed(text).translate(_FOLDED)


def composed(text: str) -> str:
    """Text in which a letter and its accent are one character, as `fold` goes through it."""
    return text if text.isascii() else unicodedata.normalize("NFC", _HALVES.sub(_whole, text))


def _whole(halves: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", halves[0])


def words_of(text: str) -> list[str]:
    """The words of a text, folded, in order."""
    return _TOKEN.findall(fold(text))


def places(text: str) -> Iterator[tuple[str, int, int]]:
    """The words of a `composed` text, each with where it begins and ends there."""
    if text.isascii():
        yield from ((found[0], found.start(), found.end()) for found in _TOKEN.finditer(text.translate(_FOLDED)))
        return
    pieces = [_FOLDED[ord(character)] for character in text]
    at = [place for place, piece in enumerate(pieces) for _ in piece]
    for found in _TOKEN.finditer("".join(pieces)):
        yield found[0], at[found.start()], at[found.end() - 1] + 1


def spelled(words: Iterable[str]) -> str:
    """Words as one text, in which each stands between blanks."""
    return f" {' '.join(words)} "


def pairs(words: Sequence[str]) -> Iterator[str]:
    """Words of one character that stand side by side."""
    for one, other in itertools.pairwise(words):
        if _IS_ALONE.match(one) and _IS_ALONE.match(other):
            yield one + other


def parts(text: str) -> Iterator[str]:
    """A text as the parts that are found, each for itself; most texts are one."""
    yield text[:PART]
    for start in range(PART - OVERLAP, len(text) - OVERLAP, PART - OVERLAP):
        yield text[start : start + PART]


class Term(msgspec.Struct, frozen=True):
    """A word, a phrase, or the beginning of one: what a text must hold."""

    words: tuple[str, ...]
    is_prefix: bool = False
    """Whether the last word is only how it begins."""

    @property
    def pattern(self) -> str:
        """What is in the `spelled` words of a text that holds it."""
        return f" {' '.join(self.words)}{'' if self.is_prefix else ' '}"

    def count(self, spelled_words: str) -> int:
        """How often a text with these words holds it."""
        apart = f" {'  '.join(self.words)}{'' if self.is_prefix else ' '}"
        return spelled_words.replace(" ", "  ").count(apart)

    @property
    def is_plain(self) -> bool:
        """Whether its one lookup is all there is to it."""
        return len(self.words) == 1 and not (self.is_prefix and len(self.words[0]) > LISTED)

    def lookups(self) -> Iterator[tuple[str, bool]]:
        """What a text that holds it is looked up by, and whether that is only how it begins."""
        paired = [bool(_IS_ALONE.match(word)) for word in self.words]
        last = len(self.words) - 1
        yield from ((pair, False) for pair in pairs(self.words))
        for place, word in enumerate(self.words):
            beside = (place and paired[place - 1]) or (place < last and paired[place + 1])
            if not (paired[place] and beside):
                yield word, self.is_prefix and place == last and not paired[place]


class Query(msgspec.Struct, frozen=True):
    """What is looked for; a text must hold all of its terms."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def of(cls, query: object) -> Query:
        """Read what somebody typed: words, ``"phrases"`` and beginnings (``foo*``). Nothing is a mistake.

        What has no letter, no digit and no emoji asks for nothing.

        Raises:
            InvalidArgument: it is no text, or has more than 1,000 characters.
        """
        if not isinstance(query, str):
            raise InvalidArgument("query", f"must be text, not {type(query).__name__}")
        if len(query) > LONGEST:
            raise InvalidArgument("query", f"must have at most {LONGEST:,} characters, this has {len(query):,}")
        terms = [_term(*found) for found in _ASKED.findall(query.translate(_QUOTES))]
        return cls(tuple(dict.fromkeys(term for term in terms if term.words)))

    def matches(self, spelled_words: str) -> bool:
        """Whether a text with these `spelled` words holds all of it."""
        return all(term.pattern in spelled_words for term in self.terms)

    def lookups(self) -> tuple[tuple[str, bool], ...]:
        """What every text that holds it is looked up by, without those that follow from others."""
        return tuple(dict.fromkeys(lookup for term in self.terms for lookup in term.lookups()))

    def rank(self, spelled_words: str) -> float:
        """How well a text that holds it fits, from 0 to 1: how often each term is in it, for its length.

        The part of BM25 that tells texts apart which hold all terms. https://doi.org/10.1561/1500000019
        """
        length = 0.25 + 0.75 * (spelled_words.count(" ") - 1) / _LENGTH
        counts = [term.count(spelled_words) for term in self.terms]
        return round(sum(count / (count + _SATURATES * length) for count in counts) / len(counts), 4)


def _term(phrase: str, after_phrase: str, word: str) -> Term:
    said = words_of(phrase or word)
    return Term(tuple(said), is_prefix=bool(said) and (bool(after_phrase) or word.endswith("*")))
