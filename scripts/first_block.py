"""Run the first Python block of a Markdown page as its reader would: in an empty folder, with a given Python.

    python scripts/first_block.py README.md path/to/environment/bin/python

First it makes sure that the `recollect` which that Python imports lies in its own environment.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

WHERE = """
import recollect, sys
from pathlib import Path
file, environment = Path(recollect.__file__).resolve(), Path(sys.prefix).resolve()
if not file.is_relative_to(environment):
    sys.exit(f"recollect comes from {file}, not from {environment}")
"""
SECONDS = 120


def first_block(page: str) -> str:
    """The code between the first line ```python and the next fence; SystemExit where there is none."""
    found = re.search(r"^```python[^\n]*\n(.*?)^```\s*$", page, re.MULTILINE | re.DOTALL)
    if found is None:
        sys.exit("no ```python block found")
    return found.group(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the first Python block of a Markdown page.")
    parser.add_argument("page", type=Path)
    parser.add_argument("python", type=Path, help="the interpreter of the environment to run it in")
    given = parser.parse_args()
    code = first_block(given.page.read_text(encoding="utf-8"))
    # Not resolved: an environment's python is often a link to the one it was made from.
    python = given.python.absolute()
    with tempfile.TemporaryDirectory() as folder:
        for text in (WHERE, code):
            # -I: neither PYTHONPATH nor the user's own packages nor the current folder is looked at.
            done = subprocess.run(
                [python, "-I", "-c", text], cwd=folder, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False
            )
            if done.returncode:
                sys.exit(f"{given.page}: its first block failed with exit code {done.returncode}")


if __name__ == "__main__":
    main()
