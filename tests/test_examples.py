"""The examples run, in an empty folder, and say what they are meant to say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
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


def test_the_demo_ends_with_the_inbox(tmp_path: Path) -> None:
    demo = Path(__file__).parent.parent / "examples" / "demo.py"
    proxied = os.environ | {"http_proxy": "http://127.0.0.1:9", "OPENAI_API_KEY": ""}
    told = subprocess.run(
        [sys.executable, demo], check=True, capture_output=True, text=True, cwd=tmp_path, env=proxied, timeout=60
    )
    address = re.search(r"^The inbox: http://127\.0\.0\.1:\d+/\?token=\S{22}$", told.stdout, re.MULTILINE)
    assert address is not None
    assert "It answered 200, and lists 3 conversations." in told.stdout
    assert told.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
def test_on_a_terminal_the_demo_serves_the_inbox_until_ctrl_c(tmp_path: Path) -> None:
    import pty

    demo = Path(__file__).parent.parent / "examples" / "demo.py"
    ours, theirs = pty.openpty()
    environment = os.environ | {"OPENAI_API_KEY": "", "NO_COLOR": "1"}
    process = subprocess.Popen([sys.executable, demo], stdout=theirs, cwd=tmp_path, env=environment)
    os.close(theirs)
    try:
        said = ""
        while not (found := re.search(r"The inbox: (http://\S+)\s+Ctrl-C ends it\.", said)):
            said += os.read(ours, 4096).decode()
        assert httpx2.get(found[1].partition("?")[0] + "health").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


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
