"""A session as people read it: parts of runs, and what each looks like on a terminal. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from recollect.cli.screen import clock, cut, line, plural, visible
from recollect.message import PROMPT_ROLES, Message
from recollect.run import RunOutput, RunStatus, ToolExecution, execution
from recollect.selection import is_own
from recollect.session import SessionHeader

_STYLES: Final = {
    "user": "bold cyan",
    "assistant": "bold green",
    "system": "magenta",
    "developer": "magenta",
    "tool": "yellow",
    "failure": "bold red",
    "notice": "yellow",
    "thinking": "dim italic",
}
_ENDS: Final = {
    RunStatus.error: "failed",
    RunStatus.cancelled: "cancelled; what was said until then is kept",
    RunStatus.interrupted: "interrupted: its process is gone; what was stored until then is kept",
    RunStatus.paused: "paused",
    RunStatus.pending: "not begun",
    RunStatus.running: "under way",
    RunStatus.regenerated: "replaced by a later run",
}
_ARGUMENTS: Final = 60
"""Characters of a tool call's arguments when it is folded."""
_RESULT: Final = 200
"""Characters of a tool's result when it is folded."""
_FIRST: Final = 50
"""Characters of a system message when it is folded."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Something of a run that is shown as a whole: what somebody said, a tool call, how it ended."""

    kind: str
    text: str = ""
    aside: str = ""
    """What stands small beside the kind."""
    call: ToolExecution | None = None
    settled: bool = True
    """Whether it will stay as it is: false for a call without its result while the run goes on."""


def parts(run: RunOutput, prompt: Message | None) -> list[Part]:
    """A run as what is shown of it; ``prompt`` is the system message that was shown last, and is not repeated."""
    results = {message.tool_call_id: message for message in run.messages if message.role == "tool"}
    called = {call.id for message in run.messages for call in message.tool_calls}
    made: list[Part] = []
    for message in run.messages:
        if message.role in PROMPT_ROLES and message == prompt:
            continue
        if message.role == "tool" and message.tool_call_id in called:
            continue
        made += _parts_of(message, run, results)
    return [*made, *_end(run)]


def heading(header: SessionHeader) -> Group:
    """What stands above a session: its name, its id, and what there is to know of it."""
    facts = [
        f"user {header.user_id}" if header.user_id else "no owner",
        f"{header.kind} {header.agent_id or header.team_id or ''}".strip(),
        plural(header.run_count, "run"),
        plural(header.message_count, "message"),
        clock(header.updated_at),
    ]
    title = Text(line(header.title), "bold" if header.name else "bold italic", no_wrap=True, overflow="ellipsis")
    return Group(title, Text(line(header.session_id), "cyan"), Text(line(" · ".join(facts)), "dim"))


def rendered(part: Part, *, full: bool, terminal: bool) -> RenderableType:
    """A part as it looks: tool calls and system messages folded to one line unless ``full``.

    Away from a terminal text stays as it was written: neither wrapped nor padded, nor read as Markdown.
    """
    if part.call is not None:
        return _unfolded(part.call, terminal=terminal) if full else _folded(part.call)
    if part.kind in ("failure", "notice"):
        return _indented(Text(visible(part.text), _STYLES[part.kind]), terminal=terminal)
    label = Text().append(part.kind, _STYLES.get(part.kind, "bold"))
    label.append(f"  {visible(part.aside)}" if part.aside else "", "dim")
    if part.kind in PROMPT_ROLES and not full:
        return Group(_first_line(label, part.text))
    said = visible(part.text)
    if terminal and part.kind == "assistant":
        from rich.markdown import Markdown  # a large part of the time it takes to start, for one of the commands

        return Group(label, Padding(Markdown(said, hyperlinks=False), (0, 0, 0, 2)))
    return Group(label, _indented(Text(said), terminal=terminal))


def _parts_of(message: Message, run: RunOutput, results: Mapping[str | None, Message]) -> Iterator[Part]:
    if message.role == "tool":
        lone = execution(message.tool_call_id or "", message.name or "a call that is not there", "", message)
        yield Part(kind="tool", call=lone)
        return
    if message.reasoning_content:
        yield Part(kind="thinking", text=message.reasoning_content)
    if text := _text(message):
        yield Part(kind=message.role, text=text, aside=_aside(message, run))
    for call in message.tool_calls:
        done = execution(call.id, call.name, call.arguments, results.get(call.id))
        yield Part(kind="tool", call=done, settled=done.result is not None or run.status is not RunStatus.running)


def _text(message: Message) -> str:
    pictures = [f"[image {cut(image.url or '', 60)}]" for image in message.images]
    documents = [f"[file {file.filename or file.file_id or 'without a name'}]" for file in message.files]
    return "\n".join(part for part in (message.text, *pictures, *documents) if part)


def _aside(message: Message, run: RunOutput) -> str:
    member = "" if run.parent_run_id is None else run.agent_name or run.agent_id or run.team_id
    if message.role == "user":
        return clock(run.created_at) + (f"  the leader to {member}" if member else "")
    told = [message.name or run.agent_name or member if message.role == "assistant" else message.name]
    told.append(f"cut short: {message.finish_reason}" if message.finish_reason else None)
    return ", ".join(filter(None, told))


def _end(run: RunOutput) -> Iterator[Part]:
    if run.status in _ENDS:
        why = f": {line(run.error)}" if run.error else ""
        kind = "failure" if run.status is RunStatus.error else "notice"
        yield Part(kind=kind, text=_ENDS[run.status] + why, settled=run.status is not RunStatus.running)


def _indented(text: Text, columns: int = 2, *, terminal: bool) -> RenderableType:
    if terminal:
        return Padding(text, (0, 0, 0, columns))
    return Text("\n").join(
        Text(" " * columns if part.plain else "").append_text(part) for part in text.split("\n", allow_blank=True)
    )


def _folded(call: ToolExecution) -> Group:
    text = Text("  ", no_wrap=True, overflow="ellipsis")
    text.append(visible(call.tool_name), _STYLES["tool"])
    text.append(f"({cut(line(_arguments(call)), _ARGUMENTS)})", "dim")
    text.append(" → ", "dim")
    if call.result is None:
        text.append("no result", "red")
    else:
        text.append(cut(line(call.result), _RESULT) or "(nothing)", "red" if call.tool_call_error else "dim")
    return Group(text)


def _arguments(call: ToolExecution) -> str:
    """Arguments as one would write them in Python; as they are where they are no JSON object."""
    try:
        given = call.tool_args
    except RecursionError:  # nested deeper than can be read
        given = {}
    if not given:
        return "" if call.arguments.strip() in ("", "{}") else call.arguments
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in given.items())


def _unfolded(call: ToolExecution, *, terminal: bool) -> Group:
    result = "no result" if call.result is None else _laid_out(call.result)
    style = "red" if call.tool_call_error or call.result is None else ""
    return Group(
        Text("  ").append(visible(call.tool_name), _STYLES["tool"]),
        _indented(Text(visible(_laid_out(call.arguments)), "dim"), 4, terminal=terminal),
        _indented(Text(f"→ {visible(result)}", style), 4, terminal=terminal),
    )


def _laid_out(text: str) -> str:
    """JSON over several lines; other text as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict | list) else text


def _first_line(label: Text, text: str) -> Text:
    label.append(f"  {cut(line(text), _FIRST)}", "dim")
    if len(line(text)) > _FIRST:
        label.append(f"  ({len(text):,} characters; --full shows them)", "dim")
    label.no_wrap, label.overflow = True, "ellipsis"
    return label


def shown_runs(runs: Sequence[RunOutput], *, full: bool) -> list[RunOutput]:
    """The runs that are shown: not those of a team's members nor replaced ones, unless ``full``."""
    return [run for run in runs if full or is_own(run)]
