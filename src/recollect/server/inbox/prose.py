"""What a model or a user wrote, as HTML that can do nothing: Markdown, then only tags and attributes that are allowed.

CommonMark with tables (https://spec.commonmark.org). HTML in a message is shown as it was typed. Nothing is loaded from
elsewhere: a picture of a Markdown text becomes a link to it, or whoever wrote it would learn who reads it and when.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any, Final

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

LONGEST: Final = 60_000
"""Characters up to which a text is read as Markdown; a longer one is shown as it is."""

BRACKETS: Final = 2000
"""Brackets up to which it is: for each that is open, the reader looks through the rest of the text."""

DEPTH: Final = 40
"""How deep lists and quotes may be nested; what is deeper the reader would leave out."""

KEPT: Final = 256
"""Texts that are remembered, for a page is made anew with each step of a run."""

TEXT: Final = {"a", "br", "code", "del", "em", "s", "strong"}
BLOCKS: Final = {"blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "ul"}
TABLES: Final = {"table", "tbody", "td", "th", "thead", "tr"}
ATTRIBUTES: Final = {"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}, "td": {"align"}, "th": {"align"}}
SCHEMES: Final = {"http", "https", "mailto"}


@lru_cache(KEPT)
def prose(text: str) -> str:
    """A text as HTML that is safe to be part of a page.

    >>> prose("**bold** <script>alert(1)</script>").strip()
    '<p><strong>bold</strong> &lt;script&gt;alert(1)&lt;/script&gt;</p>'
    """
    rendered = _rendered(text)
    if rendered is None:
        return f'<div class="plain">{escape(text)}</div>'
    return nh3.clean(
        rendered,
        tags=TEXT | BLOCKS | TABLES,
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        attribute_filter=_kept,
    )


def _rendered(text: str) -> str | None:
    """A text as Markdown; None where reading it as that takes too long, or would leave something out."""
    if len(text) > LONGEST or text.count("[") > BRACKETS:
        return None
    env: dict[str, Any] = {}
    tokens = _MARKDOWN.parse(text, env)
    if any(token.level >= DEPTH for token in tokens):
        return None
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, env))


def _kept(tag: str, name: str, value: str) -> str | None:
    """What is left of an attribute: of classes, none that our own style sheet knows."""
    del tag
    return None if name == "class" and not value.startswith("language-") else value


def _aligned(self: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
    """A cell of a table, whose alignment is no style: a page may have none of its own."""
    del env
    style = str(tokens[place].attrs.pop("style", ""))
    if style:
        tokens[place].attrs["align"] = style.removeprefix("text-align:")
    return self.renderToken(tokens, place, options, {})


def _image(_: Any, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
    """A link to a picture."""
    del options, env
    token = tokens[place]
    address = str(token.attrs.get("src", ""))
    shown = token.content or address
    return f'<a href="{escape(address)}">{escape(shown)}</a>'


def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 2 * DEPTH}).enable(
        ["table", "strikethrough"]
    )
    reader.add_render_rule("image", _image)
    for cell in ("td_open", "th_open"):
        reader.add_render_rule(cell, _aligned)
    return reader


_MARKDOWN: Final = _reader()
