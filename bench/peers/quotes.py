"""Numbers of the page that other pages quote: each is a link to its row, and what it says is what stands there.

``python -m bench.peers.quotes`` brings README.md and docs/*.md up to date after a run. A link is given the row's first
number, or that of the column its title names: ``[0](bench/RESULTS.md#crowd-agno-run "lost")``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bench.children import ROOT

PAGE: Final = ROOT / "bench" / "RESULTS.md"
QUOTING: Final = ("README.md", "docs/*.md")

_ROW: Final = re.compile(r'^\| <a id="([^"]+)"></a>(.*) \|$')
_QUOTE: Final = re.compile(r'\[([^\]]+)\]\(((?:\.\./)?bench/RESULTS\.md#([^ )"]+))(?: "([^"]+)")?\)')

Rows = Mapping[str, Mapping[str, str]]


def rows(page: str) -> Rows:
    """The cells of each row that has an anchor, by the heads of their columns."""
    found: dict[str, dict[str, str]] = {}
    head: list[str] = []
    for line in page.splitlines():
        if not line.startswith("|"):
            head = []
        elif not head:
            head = [cell.strip() for cell in line.strip("|").split("|")]
        elif row := _ROW.match(line):
            cells = [cell.strip() for cell in row[2].split(" |")]
            found[row[1]] = dict(zip(head, cells, strict=False))
    return found


def quoted(text: str, known: Rows) -> str:
    """A text in which every number that is quoted is the one in its row.

    Raises:
        KeyError: there is no such row or column.
    """

    def one(link: re.Match[str]) -> str:
        _, address, anchor, title = link.groups()
        column = title or next(name for name in known[anchor] if name not in ("", "turn"))
        number = known[anchor][column].partition(" (")[0]
        named = f' "{title}"' if title else ""
        return f"[{number}]({address}{named})"

    return _QUOTE.sub(one, text)


def main() -> None:
    known = rows(PAGE.read_text(encoding="utf-8"))
    for pattern in QUOTING:
        for file in ROOT.glob(pattern):
            text = file.read_text(encoding="utf-8")
            if (fresh := quoted(text, known)) != text:
                file.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    main()
