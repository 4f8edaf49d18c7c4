"""A hook of mkdocs: the page of the command line says what ``recollect ... --help`` says."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from typer.main import get_command

from recollect.cli.app import app

PLACE = "<!-- commands -->"
HELP = "Show this message and exit."


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the commands where the page wants them."""
    del page, config, files
    return markdown.replace(PLACE, "\n".join(told("recollect", get_command(app), None)))


def told(name: str, command: Any, parent: Any) -> Iterator[str]:
    """A command and those below it: what it does, how it is called, what its parameters mean."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield f"## {context.command_path}\n"
    yield f"{escape(command.help, quote=False)}\n"
    yield f"```text\n{' '.join(command.get_usage(context).split()).removeprefix('Usage: ')}\n```\n"
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [
        f"| `{escaped(names)}` | {escape(escaped(meaning), quote=False)} |"
        for names, meaning in filter(None, records)
        if meaning != HELP
    ]
    if rows:
        yield "| | |\n|---|---|\n" + "\n".join(rows) + "\n"
    if command.epilog:
        yield f"{command.epilog}\n"
    for below, inner in getattr(command, "commands", {}).items():
        yield from told(below, inner, context)


def escaped(text: str) -> str:
    """As it stands in a table."""
    return " ".join(text.split()).replace("|", r"\|").replace("[", r"\[")
