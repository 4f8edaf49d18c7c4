"""The examples run, in an empty folder, and say what they are meant to say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
SAYS = {
    "another_framework": "I know 3 messages.",
    "demo": "Weekend in Lisbon              ada   3 runs, 8 messages",
    "many_users": "there is no session",
    "team": "['a weekend in Lisbon', 'A train leaves at nine.']",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_without_a_key(example: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    for _ in range(2):  # a second run finds what the first one left
        done = subprocess.run(
            [sys.executable, str(example)],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert SAYS[example.stem] in done.stdout


def test_the_script_that_starts_the_real_client_says_what_it_needs(tmp_path: Path) -> None:
    script = EXAMPLES[0].parent.parent / "scripts" / "agent_ui.py"
    told = subprocess.run([sys.executable, script, "--help"], check=True, capture_output=True, text=True).stdout
    assert "http://localhost:3000" in told
    alone = {name: value for name, value in os.environ.items() if name != "PATH"} | {"PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script], check=False, capture_output=True, text=True, cwd=tmp_path, env=alone, timeout=60
    )
    assert done.returncode == 1
    assert "git is not installed" in done.stderr
    assert list(tmp_path.iterdir()) == []
