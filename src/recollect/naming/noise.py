"""What a title is better without: addresses, ids, numbers and dates."""

# ruff: noqa: RUF001 - punctuation as other scripts type it

from __future__ import annotations

import re
from typing import Final

from recollect.naming import words

URL = re.compile(r"\b(?:https?://|www\.)([^\s/?#<>\"'()]+)[^\s<>\"'()，。！？、]*", re.IGNORECASE)
EMAIL = re.compile(
    r"(?:\b(?:my |the )?e-?mail(?: address)?(?: is|:)? )?(?:<|\b(?:mailto:)?)"
    r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}>?(?:, )?(?:and )?",
    re.IGNORECASE,
)
_CODE = (
    r"(?-i:[A-Z0-9]*\d[A-Z0-9]*[A-Z][A-Z0-9]*|(?=[A-Z0-9]{5,12}\b)[A-Z]+\d[A-Z0-9]*|[A-Z]{5,12}"
    r"|\d{4,}(?:[- ]\d{3,})*|[a-z]+(?:_[a-z0-9]+)*_\d+)"
)
_THING = (
    r"(?:reservation|booking|order|user|customer|account|ticket|case|invoice|confirmation|tracking"
    r"|reference|flight|member|contract|policy|serial|request)"
)
IDS = re.compile(
    rf"(?:(?:,? (?:under|with|for|in|on|using|of)|,)? (?:my |the |our |your )?(?:{_THING} )?(?:id|number|no\.?"
    rf"|code|ref\.?|reference|nr\.?|#)"
    rf"(?: is| of)?[:# ]{{1,2}}{_CODE}(?!\w)"
    rf"| (?:in|under|with|on) {_THING} \#?{_CODE}(?!\w)|(?:(?<=reservation )|(?<=booking )|(?<=order )"
    rf"|(?<=flight )|(?<=ticket )|(?<=invoice )){_CODE}(?!\w))"
    r"|\s?\#\d{3,}\b|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{13,}\b|\b(?=[0-9a-f]*\d)[0-9a-f]{16,64}\b|\b\d{7,}\b"
    r"|\b[a-z]{2,20}(?:_[a-z0-9]{1,20}){0,4}_\d{2,}\b|(?-i:\b(?=[A-Z0-9]{5,14}\b)(?=[A-Z]*\d+[A-Z])"
    r"(?=[0-9]*[A-Z])[A-Z0-9]+\b)",
    re.IGNORECASE,
)
_WHEN = (
    r"(?: ?,? (?:on|from|to|by|for|at|since|until|till|am|vom|bis|le|du|au|el|del|al|il|em|op)"
    r"(?: the| den| dem)?| and| between)?"
)
DATES = re.compile(
    rf"{_WHEN}(?:^| )(?:(?:{words.MONTHS})\.? \d{{1,2}}(?:st|nd|rd|th)?(?!\d)(?:,? \d{{4}})?|\d{{1,2}}(?:st|nd|rd"
    rf"|th|\.|er|º)?(?: of| de)? (?:{words.MONTHS})(?!\w)\.?"
    r"(?:,?(?: de)? \d{4})?|\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d\S{0,12})?|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}(?!\w)"
    r"|\d{1,2}(?::\d\d)? ?[ap]\.?m\b\.?|\d{1,2}:\d\d(?!\w))",
    re.IGNORECASE,
)

KINDS: Final = (EMAIL, IDS, DATES)


def hosts(text: str) -> str:
    """Text with the host in the place of each web address."""
    return URL.sub(lambda url: url[1].removeprefix("www."), text)
