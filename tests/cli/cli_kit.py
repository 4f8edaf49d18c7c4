"""What the tests of the command share: running it here or in a process of its own, and looking into its database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner, Result

from recollect.cli.app import app
from recollect.db import open_db
from recollect.message import Message
from recollect.port import Tx, reads, writes
from recollect.store import Store

SOURCE = Path(__file__).parents[2] / "src"
TABLES = ("sessions", "values", "runs", "messages", "prompts", "leases")


class Command:
    """The command, on one database: a file, or the address of a server's."""

    def __init__(self, db: Path | str) -> None:
        self.db = str(db)

    @property
    def db_file(self) -> Path:
        """The file of a database that is one."""
        assert "://" not in self.db, "this test is about a file; mark it so"
        return Path(self.db)

    def __call__(self, *args: str, said: str | bytes | None = None, code: int = 0, **env: str) -> Result:
        """Run it in this process; it must end with this exit code."""
        unset = dict.fromkeys(("OPENAI_API_KEY", "RECOLLECT_MODEL"))
        given = unset | {"RECOLLECT_DB": self.db, "COLUMNS": "100"} | env
        result = CliRunner().invoke(app, list(args), input=said, env=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    def process(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        """Start it in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "recollect", *args],
            env=self.environment(**options.pop("env", {})),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def environment(self, **more: str) -> dict[str, str]:
        plain = {key: value for key, value in os.environ.items() if key not in ("OPENAI_API_KEY", "RECOLLECT_MODEL")}
        return plain | {"PYTHONPATH": str(SOURCE), "RECOLLECT_DB": self.db} | more

    def store(self) -> Store:
        return open_db(self.db)


@reads
async def _rows(tx: Tx) -> list[Any]:
    return await tx.execute(*((f"select * from recollect_{table} order by 1, 2, 3", {}) for table in TABLES))


def rows(recollect: Command) -> list[Any]:
    """Every stored row."""
    with recollect.store() as db:
        return db.transact(_rows)


@writes
async def _change(tx: Tx, sql: str) -> None:
    await tx.execute((sql, {}))


def spoil(recollect: Command, sql: str) -> None:
    """Do to a database what the library would not."""
    with recollect.store() as db:
        db.transact(_change, sql)


def turn(db: Store, session_id: str, text: str = "Hi", **begin: Any) -> None:
    """A whole run of one question and its answer."""
    run = db.begin_run(session_id, [Message("user", text)], **begin)
    db.finish_run(run, [Message("assistant", f"You said: {text}")])


def tool_turn(db: Store, session_id: str, result: str = "sunny", user: str | None = None, **end: Any) -> None:
    """A run in which a tool is called."""
    question, prompt = Message("user", "How is it in Paris?"), Message("system", "Be brief.")
    run = db.begin_run(session_id, [question], prompt=prompt, user_id=user)
    function = {"name": "get_weather", "arguments": '{"city": "Paris", "days": 3}'}
    call = {"id": "c1", "type": "function", "function": function}
    db.append_messages(run, [Message("assistant", None, tool_calls=[call])])
    db.append_messages(run, [Message("tool", result, tool_call_id="c1", name="get_weather")])
    db.finish_run(run, [Message("assistant", "It is **sunny**.")], **end)


def get_command() -> Any:
    return typer.main.get_command(app)
