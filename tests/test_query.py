"""What is looked for, how text is cut into words, and what is shown of a text."""

from __future__ import annotations

import html
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.errors import InvalidArgument
from recollect.hit import SNIPPET, SearchHit, snippet
from recollect.query import OVERLAP, PART, Query, Term, composed, parts, places, spelled, words_of

TEXTS = {
    "Crème brûlée, Straße!": ["creme", "brulee", "strasse"],
    "e\u0301tude re\u0301sume\u0301": ["etude", "resume"],
    "auto\u00admatic ﬁne ℡ ½": ["automatic", "fine", "tel", "1", "2"],
    "foo_bar-baz's 3.14": ["foo", "bar", "baz", "s", "3", "14"],
    "東京都 iPhone東京": ["東", "京", "都", "iphone", "東", "京"],
    "がく かく": ["が", "く", "か", "く"],
    "\u1112\u1161\u11ab\u1100\u116e\u11a8어": ["한", "국", "어"],
    "x" * 70: ["x" * 64, "x" * 6],
    " … !? ": [],
    "हिन्दी की कि का": ["हिन्दी", "की", "कि", "का"],
    "தமிழ் বাংলা": ["தமிழ்", "বাংলা"],
    "กิน กัน": ["ก", "ิ", "น", "ก", "ั", "น"],
    "العَرَبِيَّة العـــربية": ["العربية", "العربية"],
    "ｶﾞｲﾄﾞ ガイド": ["ガ", "イ", "ド", "ガ", "イ", "ド"],
    "Łódź Ørsted Đà Æther Þór ISPARTA \u0131sparta": ["lodz", "orsted", "da", "aether", "thor", "isparta", "isparta"],
    "٢٠٢٦ ۲۰۲۶ \uff12\uff10\uff12\uff16": ["2026", "2026", "2026"],
    "O\u2019Neil O\u02bcNeil O'Neil": ["o", "neil", "o", "neil", "o", "neil"],
    "here\u200bthere": ["here", "there"],
    "Yes🎉! 👍🏽👍 ❤️ 👩\u200d🚀 🇩🇪 →": ["yes", "🎉", "👍", "👍", "❤", "👩", "🚀", "🇩", "🇪"],
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_folded_and_cut_into_words(text: str) -> None:
    assert words_of(text) == TEXTS[text]


@given(st.text())
@settings(max_examples=200)
def test_the_words_of_a_text_are_where_its_places_say(text: str) -> None:
    whole = words_of(text)
    seen = list(places(composed(text)))
    assert [word for word, _, _ in seen] == whole
    assert all(begin < end for _, begin, end in seen)
    assert spelled(whole).split() == whole


QUERIES = {
    "big deal": [("big",), ("deal",)],
    '"big deal"': [("big", "deal")],
    '“Big  deal” "x': [("big", "deal"), ("x",)],
    "foo* bar": [("foo", True), ("bar",)],
    '"big de"*': [("big", "de", True)],
    "e-mail": [("e", "mail")],
    "* \" ' () AND": [("and",)],
    "東京": [("東", "京")],
    "a a A": [("a",)],
    "🎉 ok👍": [("🎉",), ("ok", "👍")],
    "!!! \x00 \ud800": [],
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_words_phrases_and_beginnings(query: str) -> None:
    wanted = [
        Term(tuple(part for part in term if isinstance(part, str)), is_prefix=True in term) for term in QUERIES[query]
    ]
    assert list(Query.of(query).terms) == wanted


def test_two_characters_side_by_side_are_looked_up_as_one() -> None:
    assert Query.of("東京都 京 ipad東").lookups() == (
        ("東京", False),
        ("京都", False),
        ("京", False),
        ("ipad", False),
        ("東", False),
    )
    assert Query.of('foo* "a b"*').lookups() == (("foo", True), ("a", False), ("b", True))


@given(st.text(max_size=100) | st.text('ab"* 東京é“”', max_size=30))
@settings(max_examples=300)
def test_nothing_that_is_typed_is_a_mistake_and_a_text_holds_itself(query: str) -> None:
    wanted = Query.of(query)
    assert wanted.matches(spelled(words_of(query)))
    shown, marks = snippet(query, wanted)
    assert bool(marks) == bool(wanted.terms)
    assert all(0 <= begin < end <= len(shown) for begin, end in marks)


def test_what_is_no_query_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"query: must have at most 1,000 characters, this has 1,001"):
        Query.of("x" * 1001)
    with pytest.raises(InvalidArgument, match="query: must be text, not int"):
        Query.of(7)


SHOWN = {
    ("Le  crème\nbrûlée est là", "creme bru*"): "Le [crème] [brûlée] est là",
    ("東京都に行きました", "京都"): "東[京都]に行きました",
    ("aa bb cc", '"aa bb" "bb cc"'): "[aa bb cc]",
    ("nothing of it", "else"): "nothing of it",
    ("We won 🎉🎉 today, Łukasz", "🎉 lukasz"): "We won [🎉🎉] today, [Łukasz]",
    ("fish fishes fishing", "fish*"): "[fish] [fishes] [fishing]",
    ("a b a b c", '"a b c"'): "a b [a b c]",
    ("x " * 9 + "one " + "y " * 200 + "one two " + "z " * 200, "two one"): None,
}


@pytest.mark.parametrize(("text", "query"), SHOWN)
def test_a_snippet_shows_most_terms_on_one_line(text: str, query: str) -> None:
    shown, marks = snippet(text, Query.of(query))
    hit = SearchHit(session_id="s", session_name="", snippet=shown, marks=marks, time=datetime.now(UTC), rank=1.0)
    if (wanted := SHOWN[text, query]) is not None:
        assert hit.marked("[", "]") == wanted
    else:
        assert "[one] [two]" in hit.marked("[", "]")
        assert shown[0] == shown[-1] == "…"
        assert len(shown) <= SNIPPET + 2


def test_marks_go_around_escaped_text_and_a_hit_is_plain_values() -> None:
    shown, marks = snippet("<i>fire</i> & water", Query.of("fire water"))
    hit = SearchHit(
        session_id="s", session_name="n", snippet=shown, marks=marks, time=datetime(2026, 1, 1, tzinfo=UTC), rank=0.5
    )
    assert hit.marked("<b>", "</b>", html.escape) == "&lt;i&gt;<b>fire</b>&lt;/i&gt; &amp; <b>water</b>"
    assert [list(mark) for mark in hit.to_dict()["marks"]] == [[3, 7], [14, 19]]


def test_a_long_text_is_found_in_parts_that_overlap() -> None:
    text = "".join(f"{number:07} " for number in range(20_000))
    found = list(parts(text))
    assert len(found) == 4
    assert found[0] == text[:PART]
    assert all(one[-OVERLAP:] == other[:OVERLAP] for one, other in pairwise(found))
    assert found[-1].endswith("0019999 ")
    assert list(parts("short")) == ["short"]
    assert list(parts("x" * PART)) == ["x" * PART]


def test_what_holds_a_term_more_often_for_its_length_fits_better() -> None:
    query = Query.of("fish")
    ranks = [query.rank(spelled(words_of(text))) for text in ("fish fish", "fish", "fish " + "and chips " * 50)]
    assert ranks == sorted(ranks, reverse=True)
    assert all(0 < rank < 1 for rank in ranks)
