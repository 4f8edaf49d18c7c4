"""Hooks of mkdocs: what docs/ links to outside of itself becomes part of the site, and the pages are also kept as text.

A page of docs/ links to tests and to other files of the repository as they lie. The site, which knows no other home,
shows them under source/; a link whose text is the name of a test leads to its line.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS, SOURCE = "docs", "source"
ALWAYS = ("ARCHITECTURE.md", "CHANGELOG.md", "bench/README.md", "bench/RESULTS.md")
"""What the site's navigation names."""
PICTURES = ("bench/plots/*.svg",)
LINK = re.compile(r'\[([^\[\]]+)\]\((?![a-z]+:|#)([^()\s]+)( "[^"]*")?\)')
NAMED = re.compile(r'(href="[^"#]*source/([^"#]+\.py)\.html)("><code>(\w+)</code>)')
"""In HTML: a link to a listing, named for what stands in it."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file that is linked to."""
    pages = [Path(DOCS, file.src_uri) for file in files.documentation_pages()]
    for path in sorted({*ALWAYS, *(target for page in pages for target in linked(page))}):
        files.append(File.generated(config, f"{SOURCE}/{path}.md", content=page_of(path)))
    for picture in (found for pattern in PICTURES for found in ROOT.glob(pattern)):
        uri = f"{SOURCE}/{picture.relative_to(ROOT).as_posix()}"
        files.append(File.generated(config, uri, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where their targets are in the site; where it has none, their text is enough."""
    del config
    here = page.file.src_uri
    home = here.removeprefix(f"{SOURCE}/").removesuffix(".md") if here.startswith(f"{SOURCE}/") else f"{DOCS}/{here}"

    def lead(found: re.Match[str]) -> str:
        text, target, title = found.groups()
        path, anchor = split(home, target)
        ending = "" if path.endswith(".svg") else ".md"
        inside = path.removeprefix(f"{DOCS}/") if path.startswith(f"{DOCS}/") else f"{SOURCE}/{path}{ending}"
        if files.get_file_from_path(inside) is None:
            return found[0] if path.startswith(f"{DOCS}/") else text
        return f"[{text}]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{anchor}{title or ''})"

    return LINK.sub(lead, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links that are named for a test to its line."""
    del page, config, files
    return NAMED.sub(lambda found: f"{found[1]}{line_of(found[2], found[4])}{found[3]}", html)


def on_post_build(config: MkDocsConfig) -> None:
    """Keep the pages as Markdown beside what was made of them, which is what llms.txt names."""
    for page in Path(config.docs_dir).glob("*.md"):
        shutil.copyfile(page, Path(config.site_dir, page.name))


def linked(page: Path) -> Iterator[str]:
    """The files outside of docs/ to which a page links."""
    for _, target, _ in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
        path, _ = split(page.as_posix(), target)
        if not path.startswith(f"{DOCS}/") and not path.endswith(".svg") and (ROOT / path).is_file():
            yield path


def split(home: str, target: str) -> tuple[str, str]:
    """A link's target as a path from the root of the repository, and the anchor behind it."""
    path, hash_sign, anchor = target.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), path)), hash_sign + anchor


def page_of(path: str) -> str:
    """A file of the repository as a page: Markdown as it is, code as a listing."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    fence = "`" * 4
    return f'---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n{fence} {{ .python linenums="1" }}\n{text}{fence}\n'


def line_of(path: str, name: str) -> str:
    """The anchor of the line of a listing where a function or class begins."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    starts = (number for number, line in enumerate(lines, 1) if re.match(rf"\s*(async )?(def|class) {name}\b", line))
    number = next(starts, None)
    return "" if number is None else f"#__codelineno-0-{number}"
