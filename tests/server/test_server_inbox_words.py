"""What the inbox makes of stored data, without a server: prose, days, turns, views."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recollect import Message, RunOutput, RunStatus
from recollect.input import input_messages
from recollect.message import File, Image
from recollect.run import RunMetrics
from recollect.server.inbox.page import _clock, _flat
from recollect.server.inbox.prose import BLOCKS, BRACKETS, DEPTH, LONGEST, TABLES, TEXT, prose
from recollect.server.inbox.shown import (
    RESULT_CHARS,
    Entry,
    Turn,
    day_label,
    days_of,
    pause_label,
    tickets,
    turns_of,
)
from recollect.server.inbox.wanted import SHOWN, View, path_of
from recollect.session import SessionHeader

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


class Reader(HTMLParser):
    """What a browser would find in a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


ATTRIBUTES = {"href", "title", "rel", "target", "start", "class", "align"}
PLAIN = ("div", {"class": "plain"})


def scheme_of(address: str) -> str:
    """As a browser has it, which passes over line breaks, and what stands before: https://url.spec.whatwg.org."""
    seen = re.sub(r"[\t\n\r]", "", address.lstrip("".join(map(chr, range(33)))))
    found = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)", seen)
    return found[0].lower() if found else ""


def is_harmless(html: str) -> None:
    for tag, attributes in Reader(html).found:
        assert tag in TEXT | BLOCKS | TABLES or (tag, attributes) == PLAIN
        assert attributes.keys() <= ATTRIBUTES
        if "href" in attributes:
            assert scheme_of(attributes["href"] or "") in ("", "http", "https", "mailto")
            assert (attributes["rel"], attributes["target"]) == ("noopener noreferrer nofollow", "_blank")


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "[x](javascript:alert(1))",
    "[x](JaVa\tScRiPt:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:x)",
    "<javascript:alert(1)>",
    '[x](https://a.example "onmouseover=alert(1)")',
    "[x](https://a.example\"onmouseover='alert(1)')",
    "[x]: javascript:alert(1)\n\n[x]",
    "```html onmouseover=alert(1)\n</code></pre><script>alert(1)</script>\n```",
    "``` row\nx\n```",
    "| a | b |\n|:-:|--:|\n| <svg onload=alert(1)> | `</td><script>` |",
    "<a href='javascript:alert(1)'>x</a>",
    "<style>*{display:none}</style>",
    "<iframe src=//evil.example></iframe>",
    "\\<script>alert(1)\\</script>",
    "<!--><script>alert(1)</script>-->",
    "<math><mtext></table><mglyph><style><img src=x onerror=alert(1)>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_is_written_can_run_or_load(text: str) -> None:
    is_harmless(prose(text))


PIECES = st.sampled_from([*HOSTILE, *"[]()<>!*_`~#|\\\n\t\"'&:/=- ", "https://a.example", "\n\n", "1. ", "on", "a"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
@example("\x00<script>")
@example("[a](\x01javascript:alert(1))")
def test_whatever_is_written_nothing_in_it_can_run_or_load(text: str) -> None:
    html = prose(text)
    is_harmless(html)
    words = {word for word in unescape(text).split() if word.isalpha() and word.isascii() and len(word) > 3}
    if not any(mark in text for mark in "[]<>`"):
        assert words <= set(Reader(html).text.split()), "and nothing of it is missing"


def test_markdown_is_shown_as_what_it_means() -> None:
    assert prose("**a** *b* ~~c~~ `d`").strip() == "<p><strong>a</strong> <em>b</em> <s>c</s> <code>d</code></p>"
    assert "<br>" in prose("one\ntwo")
    assert '<code class="language-python">' in prose("```python\nx = 1\n```")
    assert "class" not in prose("``` row\nx\n```").replace('class="language-row"', "")
    table = prose("| a | b | c |\n|:-:|--:|---|\n| 1 | 2 | 3 |")
    assert '<td align="center">1</td>\n<td align="right">2</td>\n<td>3</td>' in table
    assert "style" not in table
    link = '<a href="https://a.example/x.png" target="_blank" rel="noopener noreferrer nofollow">a picture</a>'
    assert link in prose("![a picture](https://a.example/x.png)")
    assert ">https://a.example/x.png</a>" in prose("![](https://a.example/x.png)")


LONG = {
    "brackets": "[" * LONGEST,
    "pictures": "![" * (LONGEST // 2),
    "open links": "[a](" * (LONGEST // 4),
    "pairs": "[[]" * (LONGEST // 3),
    "references": "[a]: /u\n" + "[a]" * (LONGEST // 4),
    "quotes": ">" * (LONGEST - 5) + " text",
    "lists": "- " * (LONGEST // 2 - 5) + "text",
    "deep lists": "".join("  " * depth + "- a\n" for depth in range(240)),
    "emphasis": "*a_ " * (LONGEST // 4),
    "stars": "***a " * (LONGEST // 5),
    "backticks": "".join("`" * length + " " for length in range(340)),
    "less than": "<" * LONGEST,
    "columns": "|a" * 15_000 + "\n" + "|-" * 15_000,
    "too long": "**a** " * LONGEST,
}


@pytest.mark.parametrize("what", LONG)
def test_no_text_takes_long_or_is_left_out(what: str) -> None:
    began = time.process_time()
    html = prose(LONG[what])
    assert time.process_time() - began < 8, "without bounds, some of these would take minutes"
    is_harmless(html)
    if what in ("quotes", "lists", "deep lists"):
        said = LONG[what]
        assert Reader(html).text.count("a") + Reader(html).text.count("text") >= said.count("a") + said.count("text")


def test_what_is_nested_deeper_than_is_read_is_shown_as_it_is() -> None:
    assert "<blockquote>" in prose("> " * (DEPTH // 2 - 2) + "deep")
    assert prose("> " * (2 * DEPTH + 5) + "deep") == f'<div class="plain">{"&gt; " * (2 * DEPTH + 5)}deep</div>'
    assert prose("[" * (BRACKETS + 1)).startswith('<div class="plain">')


def header(**fields: Any) -> SessionHeader:
    return SessionHeader(session_id="s", kind="agent", **fields)


def entry(at: datetime) -> Entry:
    return Entry(header(updated_at=at))


def test_a_day_is_one_of_the_readers_clock() -> None:
    late = datetime(2026, 3, 9, 23, 30, tzinfo=UTC)
    for zone, label in (("UTC", "Yesterday"), ("Europe/Berlin", "Today"), ("America/New_York", "Yesterday")):
        [day] = days_of([entry(late)], NOON, ZoneInfo(zone))
        assert day.label == label


def test_days_are_called_what_people_call_them() -> None:
    today = date(2026, 3, 10)  # a Tuesday
    for ago, label in ((-1, "Today"), (0, "Today"), (1, "Yesterday"), (2, "Sunday"), (6, "Wednesday"), (7, "3 March")):
        assert day_label(today - timedelta(days=ago), today) == label
    assert day_label(date(2025, 12, 31), today) == "31 December 2025"


def test_sessions_of_one_day_stand_together() -> None:
    entries = [entry(NOON - timedelta(hours=hours)) for hours in (0, 1, 20, 30, 200)]
    days = days_of(entries, NOON, UTC)
    assert [(day.label, len(day.entries)) for day in days] == [("Today", 2), ("Yesterday", 2), ("2 March", 1)]
    assert days_of([], NOON, UTC) == []
    assert days_of([Entry(header())], NOON, UTC)[0].entries, "one without a time is listed, too"


def test_the_end_of_its_last_run_marks_a_session() -> None:
    marks = {status: Entry(header(), status).mark for status in RunStatus} | {"": Entry(header()).mark}
    assert {mark: [str(end) for end, given in marks.items() if given == mark] for mark in ("running", "failed")} == {
        "running": ["pending", "running"],
        "failed": ["error", "interrupted"],
    }


def test_a_time_is_as_short_as_it_can_be() -> None:
    for hours, said in ((1, "11:00"), (24, "Mon 12:00"), (24 * 10, "28 Feb"), (24 * 400, "3 Feb 2025")):
        assert _clock(NOON - timedelta(hours=hours), UTC, NOON) == said


def test_pauses_are_said_in_words() -> None:
    for hours, said in (
        (1, "1 hour later"),
        (23.9, "23 hours later"),
        (24, "1 day later"),
        (24_000, "1,000 days later"),
    ):
        assert pause_label(timedelta(hours=hours)) == said


def test_only_addresses_of_the_web_are_links() -> None:
    metadata = {"ticket": "https://t.example/1", "old": "http://t.example", "js": "javascript:x", "n": 1, "none": None}
    assert tickets(metadata) == [("ticket", "https://t.example/1"), ("old", "http://t.example")]


def run(*said: Message, at: datetime | None = NOON, **fields: Any) -> RunOutput:
    known = {"run_id": "r", "session_id": "s", "status": RunStatus.completed, "created_at": at, "finished_at": at}
    return RunOutput(**(known | fields), messages=said)


def test_a_pause_is_noted_between_turns_and_not_around_members() -> None:
    runs = [
        run(run_id="a"),
        run(run_id="m", parent_run_id="a", at=NOON + timedelta(hours=3)),
        run(run_id="b", at=NOON + timedelta(minutes=59)),
        run(run_id="c", at=NOON + timedelta(hours=2)),
        run(run_id="d", at=None),
        run(run_id="e", at=NOON + timedelta(days=2)),
    ]
    assert [turn.pause for turn in turns_of(runs)] == [
        None,
        None,
        timedelta(minutes=61),
        None,
        timedelta(days=2) - timedelta(hours=2),
    ]
    [first] = turns_of(runs[:1], before=NOON - timedelta(hours=5))
    assert first.pause == timedelta(hours=5)


def test_members_stand_with_whoever_asked_them() -> None:
    runs = [
        run(run_id="a", team_id="crew", user_id="ada"),
        run(run_id="m", parent_run_id="a", agent_name="Scout"),
        run(run_id="n", parent_run_id="m", agent_id="digger"),
        run(run_id="lost", parent_run_id="not on this page"),
    ]
    team, lost = turns_of(runs)
    [scout] = team.members
    [digger] = scout.members
    assert [one.depth for one in (team, scout, digger, lost)] == [0, 1, 2, 1]
    assert [one.asker for one in (team, scout, digger, lost)] == ["ada", "crew", "Scout", "User"]
    assert [one.who for one in (team, scout, digger, lost)] == ["crew", "Scout", "digger", "assistant"]


def test_members_are_heard_before_the_team_answers() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "delegate_task_to_member", "arguments": "{}"}}
    said = (
        Message("user", "Go"),
        Message("assistant", "Let us see.", tool_calls=[call]),
        Message("tool", "seen", tool_call_id="1"),
        Message("assistant", "Done"),
    )
    [team] = turns_of([run(*said, run_id="a"), run(run_id="m", parent_run_id="a")])
    assert [[bubble.text for bubble in part] for part in team.parts] == [["Go", "Let us see."], ["Done"]]
    alone = turn(*said)
    assert alone.parts == (alone.bubbles, [])


def turn(*said: Message, **fields: Any) -> Turn:
    [made] = turns_of([run(*said, **fields)])
    return made


def test_a_call_stands_with_its_result() -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in (("a", '{"x":1}'), ("b", "not json"), ("c", "[]"))
    ]
    made = turn(
        Message("user", "Go"),
        Message("assistant", None, tool_calls=calls),
        Message("tool", "[1]", tool_call_id="a"),
        Message("tool", "x" * (RESULT_CHARS + 7), tool_call_id="b", tool_call_error=True),
        Message("tool", "nobody called", tool_call_id="z"),
        Message("assistant", "Done"),
    )
    assert [bubble.role for bubble in made.bubbles] == ["user", "assistant", "tool", "assistant"]
    a, b, c = made.bubbles[1].calls
    assert (a.arguments, a.result, a.failed, a.cut) == ('{\n  "x": 1\n}', "[\n  1\n]", False, 0)
    assert (b.arguments, len(b.result or ""), b.failed, b.cut) == ("not json", RESULT_CHARS, True, 7)
    assert (c.arguments, c.result, c.failed) == ("[]", None, False)


def test_pictures_are_shown_where_they_are_stored_and_linked_where_they_are_not() -> None:
    pictures = [
        Image(content=b"\x89PNG", mime_type="image/png"),
        Image(url="https://a.example/x.png"),
        Image(content=b"<svg/>", mime_type="image/svg+xml"),
    ]
    files = [File(content=b"text", filename="a.txt"), File(url="https://a.example/b.pdf", filename="b.pdf")]
    [bubble] = turn(*input_messages("Look", pictures, files)).bubbles
    assert [image[:15] for image in bubble.images] == ["data:image/png;"]
    assert bubble.links == (
        ("picture", "https://a.example/x.png"),
        ("picture", ""),
        ("a.txt", ""),
        ("b.pdf", "https://a.example/b.pdf"),
    )


def test_a_run_without_an_answer_says_why() -> None:
    why = {status: turn(status=status, error="no room").why for status in RunStatus}
    assert why[RunStatus.completed] == why[RunStatus.running] == ""
    assert why[RunStatus.error] == "This run failed: no room"
    assert all(said.startswith("This run") or "process" in said for said in why.values() if said)
    go_on = {status for status in RunStatus if turn(status=status).can_go_on}
    assert go_on == {RunStatus.error, RunStatus.cancelled, RunStatus.interrupted}
    assert not turn(status=RunStatus.error, parent_run_id="a").can_go_on, "a member's goes on with its team's"
    assert {status for status in RunStatus if turn(status=status).is_under_way} == {
        RunStatus.running,
        RunStatus.pending,
    }


def test_what_a_turn_took_is_on_one_line() -> None:
    metrics = RunMetrics(input_tokens=1200, output_tokens=34, duration=1.26)
    assert turn(model="gpt", metrics=metrics).facts == "gpt · 1,200 in · 34 out · 1.3 s"
    assert turn().facts == ""


def test_marks_are_left_out_of_what_is_one_line() -> None:
    assert _flat("# A **bold**\n> `word`") == "A bold word"


def test_a_view_is_read_from_an_address_and_written_to_one() -> None:
    view = View.of({"q": " porto ", "show": "done", "user": "ada", "tag": "a&b", "other": "x", "kind": "team"})
    assert view == View(q="porto", show="done", user="ada", tag="a&b", kind="team")
    assert view.query() == "?q=porto&show=done&user=ada&kind=team&tag=a%26b"
    assert view.query(q="", show="open") == "?user=ada&kind=team&tag=a%26b"
    assert View().query() == ""
    assert view.chosen == {"user": "ada", "kind": "team", "tag": "a&b"}


@pytest.mark.parametrize("query", [{"show": "x"}, {"kind": "x"}, {"q": "  "}, {}, {"show": "open"}, {"db": ""}])
def test_what_an_address_does_not_mean_counts_for_nothing(query: dict[str, str]) -> None:
    assert View.of(query) == View()


def test_what_is_asked_of_the_store_is_what_the_view_says() -> None:
    assert [View(show=show).filters({})["archived"] for show in SHOWN] == [False, None, True, None]
    assert [View(show=show).filters({})["pinned"] for show in SHOWN] == [None, True, None, None]
    assert View(tag="red", assignee="kim").filters({}) | {"archived": None} == {
        "kind": None,
        "agent_id": None,
        "team_id": None,
        "tags": ["red"],
        "metadata": {"assignee": "kim"},
        "archived": None,
        "pinned": None,
    }
    for kind, is_team in (("", True), ("team", True), ("agent", False)):
        asked = View(agent="crew", kind=kind).filters({"crew": object()})
        assert (asked["team_id"], asked["agent_id"]) == (("crew", None) if is_team else (None, "crew"))


@settings(deadline=None)
@given(st.text(min_size=1, max_size=50))
def test_an_id_is_one_part_of_an_address(session_id: str) -> None:
    address = path_of(session_id, ".json") if session_id.isprintable() else "/s/x.json"
    assert address.count("/") == 2
    assert address.isascii()
    assert not set(address) & set(" ?#\"'<>\\")
