"""The store without the agent: any runtime can keep its conversations in it, step by step and crash-safe."""

from recollect import Message, RunMetrics, SqliteDb
from recollect.history import HistoryLimits


def answer(messages: list[Message]) -> str:
    """Stand in for your own model call."""
    return f"I know {len(messages)} messages."


def turn(db: SqliteDb, session_id: str, text: str) -> str:
    """One turn: what was asked is committed before the model sees it, the answer before it is returned."""
    question = Message("user", text)
    run = db.begin_run(session_id, [question], user_id="ada", history=HistoryLimits(runs=10))
    said = answer([*run.history.messages, question])
    db.finish_run(run, [Message("assistant", said)], metrics=RunMetrics(input_tokens=12, output_tokens=5))
    return said


def main() -> None:
    with SqliteDb(db_file="tmp/another_framework.db") as db:
        db.delete_sessions(["s1"])
        print(turn(db, "s1", "Hello"))
        print(turn(db, "s1", "Hello again"))
        print(db.get_messages("s1"))


if __name__ == "__main__":
    main()
