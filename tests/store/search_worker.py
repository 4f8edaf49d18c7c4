"""A process that writes turns, or makes what was said findable.

``search_worker.py DATABASE write WORD COUNT`` prints the number of each turn when it is stored;
``search_worker.py DATABASE index`` prints a line before it begins.
"""

from __future__ import annotations

import sys

from recollect import Message, open_db

if __name__ == "__main__":
    database, what, *rest = sys.argv[1:]
    with open_db(database) as db:
        if what == "index":
            print("begun", flush=True)  # noqa: T201 - what the test waits for
            db.index_sessions()
        for number in range(int(rest[1]) if rest else 0):
            run = db.begin_run(f"{rest[0]}-{number % 3}", [Message("user", f"{rest[0]} number{number}")])
            db.finish_run(run, [Message("assistant", f"Noted: number{number}")])
            print(number, flush=True)  # noqa: T201 - what the test reads
