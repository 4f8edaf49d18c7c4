"""The documentation: it is built without a warning, names what there is, and leaves out nothing that is public."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import recollect
from recollect import Agent, AgentSession, EchoModel, RunOutput, Store, Team, TeamSession

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"\[([^\[\]]+)\]\((?![a-z]+:|#)([^()\s#]+)[^()\s]*\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    return folder


INNER = {"changes", "of", "whole"}
"""Methods by which the store makes sessions and reads what was changed in them."""

ITSELF = {"self", "at", "tx", "access"}
"""First parameters, which a caller does not give."""


def public_methods(kind: type[Any]) -> Iterator[str]:
    """The methods of a class, without async twins."""
    names = {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}
    return (name for name in sorted(names - INNER) if not (name.startswith("a") and name[1:] in names))


def entries(site: Path) -> dict[str, str]:
    """What the reference says of each name, as text."""
    found: dict[str, str] = {}
    for page in (site / "reference").glob("*.html"):
        parts = re.split(r'<h\d id="(recollect\.[\w.]+)"', page.read_text(encoding="utf-8"))
        texts = (unescape(re.sub(r"<[^>]+>", "", part)) for part in parts[2::2])
        found |= dict(zip(parts[1::2], texts, strict=True))
    return found


def test_reading_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="(\w+:)?//', page.read_text("utf-8"))
        assert fetched == [], page


def test_the_reference_has_every_public_name(site: Path) -> None:
    told = entries(site)
    missing = {name for name in recollect.__all__ if f"recollect.{name}" not in told | errors(told)}
    assert missing == set()


def errors(told: dict[str, str]) -> dict[str, str]:
    """Errors are told by the module that has them all."""
    return {path.replace("recollect.errors.", "recollect."): text for path, text in told.items()}


@pytest.mark.parametrize("kind", [Agent, Team, AgentSession, TeamSession, Store])
def test_the_reference_has_every_method_with_its_parameters_and_what_it_does(kind: type[Any], site: Path) -> None:
    prefix = f"recollect.{kind.__name__}."
    told = {path.removeprefix(prefix): text for path, text in entries(site).items() if path.startswith(prefix)}
    methods = set(public_methods(kind))
    assert methods - told.keys() == set(), "a page in docs/reference must name them"
    for name in methods:
        method = getattr(kind, name)
        text = " ".join(told[name].split())
        given = inspect.signature(method).parameters.values()
        wanted = {one.name for one in given if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)} - ITSELF
        assert {one for one in wanted if not re.search(rf"\b{one}\b", text)} == set(), name
        summary = (inspect.getdoc(method) or "").split("\n\n")[0].replace("`", "")
        assert " ".join(summary.split()) in text, name
        assert hasattr(kind, f"a{name}") == (f"async: a{name}" in text), name


def test_every_guarantee_names_tests_that_are_there() -> None:
    page = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    for guarantee in re.split(r"^- ", page, flags=re.MULTILINE)[1:]:
        proofs = [(name, path) for name, path in LINK.findall(guarantee) if name.startswith("`test_")]
        assert proofs, guarantee
        for name, path in proofs:
            assert f"def {name.strip('`')}(" in (DOCS / path).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "llms.txt"], ids=lambda page: page.name)
def test_what_is_linked_to_is_there(page: Path) -> None:
    assert [
        target for _, target in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / target).exists()
    ] == []


def test_names_in_llms_txt_exist() -> None:
    page = (DOCS / "llms.txt").read_text(encoding="utf-8")
    named = re.findall(r"`(?:await )?(agent|team|session|run|chat|db)\.(\w+)", page)
    assert len(named) > 40
    for home, name in named:
        assert hasattr(HOMES[home], name), f"{home}.{name}"


HOMES: dict[str, Any] = {
    "agent": Agent,
    "team": Team,
    "session": TeamSession("s"),
    "run": RunOutput,
    "chat": Agent(EchoModel()).conversation(),
    "db": Store,
}
