"""The terminal: where things are written, and how times, ids and text are put there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recollect.checks import encode
from recollect.session import SessionHeader

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_WIDE: Final = 200
"""Columns where there is no terminal: what is piped on is not cut to the width of a screen."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

_WHOLE_ID: Final = 20
_SHORT_ID: Final = 13
"""The part of a UUIDv7 that holds its time: rarely shared by two sessions."""


def out() -> Console:
    """Standard output, coloured on a terminal unless NO_COLOR is set."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error, for what is said beside the result."""
    return _console(stderr=True)


def say(text: str) -> None:
    """Write a line of the result, whole however long it is."""
    out().print(visible(text), soft_wrap=True)


def aside(text: str, style: str = "dim") -> None:
    """Write something beside the result, which does not mix with it when that is piped on."""
    err().print(visible(text), style=style, soft_wrap=True)


def progress_bar(doing: str) -> Progress:
    """A bar on a terminal's standard error, gone when it ends; its task's field ``told`` is written behind it."""
    return Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        console=err(),
        disable=not err().is_terminal,
        transient=True,
    )


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def visible(text: str) -> str:
    """Text without the control characters that would steer a terminal; what somebody said must not."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def line(text: str) -> str:
    """Text as one line."""
    return visible(" ".join(text.split()))


def cut(text: str, length: int) -> str:
    """The start of a text, marked where it was cut."""
    return text if len(text) <= length else text[: max(length - 1, 0)].rstrip() + "…"


def plural(count: int, noun: str) -> str:
    """A count and what is counted."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago a moment was, roughly; a date when it was long ago."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min ago"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h ago"
    if seconds < 7 * _DAY:
        return f"{plural(int(seconds // _DAY), 'day')} ago"
    return f"{moment.astimezone():%Y-%m-%d}"


def clock(moment: datetime | None) -> str:
    """A moment in this place's time."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M}"


def print_headers(headers: Iterable[SessionHeader]) -> None:
    """Write sessions as a JSON array, as they are read."""
    before = b"["
    for header in headers:
        typer.echo(before + b"\n" + encode(header), nl=False)
        before = b","
    typer.echo(b"[]" if before == b"[" else b"\n]")


def short_ids(ids: Sequence[str]) -> list[str]:
    """Ids as they are shown in a list: whole, or as the beginning that tells them apart from each other."""
    long = {session_id for session_id in ids if len(session_id) > _WHOLE_ID}
    lengths = range(_SHORT_ID, max(map(len, long), default=0) + 1)
    length = next((n for n in lengths if len({session_id[:n] for session_id in long}) == len(long)), _SHORT_ID)
    return [session_id if len(session_id) <= _WHOLE_ID else session_id[:length].rstrip("-") for session_id in ids]
