"""What docs/coming-from-agno.md says of Agno, run by the real one; what it says of us, the page's own tests run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import agno_kit

from recollect.testing import ResponsesServer
from recollect.testing.answer import Answer

PAGE = Path(__file__).parent.parent / "docs" / "coming-from-agno.md"
BLOCK = re.compile(r'^```py title="Agno"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def test_what_the_page_says_of_agno_is_so(tmp_path: Path) -> None:
    agno_kit.needed()
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 15
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    with ResponsesServer() as server:
        server.script(answer)
        done = subprocess.run(
            [agno_kit.ENVIRONMENTS / "agno3" / "bin" / "python", "page.py"],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env=os.environ | server.environment() | {"AGNO_TELEMETRY": "false"},
        )
    assert done.returncode == 0, done.stdout + done.stderr


def answer(request: dict[str, Any]) -> Answer | str:
    """What was said; who leads a team and is told the name of a tool calls it."""
    last = request["input"][-1]
    text = last["content"] if last.get("role") == "user" else last.get("output", "")
    text = text if isinstance(text, str) else " ".join(part.get("text", "") for part in text)
    for tool in request.get("tools", ()):
        if last.get("role") == "user" and tool["name"] in text:
            return Answer(tool_calls=[(tool["name"], {"task": text.partition(":")[2].strip()})])
    return text
