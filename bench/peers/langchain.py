"""LangChain's histories: `SQLChatMessageHistory` and `PostgresChatMessageHistory`, alone and under a runnable.

Both give the whole history or nothing; there is no call for its newest part.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from bench.peers.chat import message_of
from bench.peers.work import Said, Store, pragmas, turns_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that the package is no longer maintained
    from langchain_community.chat_message_histories import SQLChatMessageHistory


class Sql(Store):
    """`SQLChatMessageHistory` over one `create_engine("sqlite:///...")`, one object a session, kept between its turns.

    The documentation's example makes an engine for each history instead, which takes longer.
    """

    BULK = True

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.connection = self.connected()
        model: Any = RunnableLambda(self._model)
        self.runnable = RunnableWithMessageHistory(
            model, self.history, input_messages_key="question", history_messages_key="history"
        )
        self._open: dict[str, Any] = {}

    def connected(self) -> Any:
        from sqlalchemy import create_engine

        return create_engine(f"sqlite:///{self.address}")

    def opened(self, session_id: str) -> Any:
        return SQLChatMessageHistory(session_id, connection=self.connection)

    def history(self, session_id: str) -> Any:
        found = self._open.get(session_id)
        if found is None:
            found = self._open[session_id] = self.opened(session_id)
        return found

    def _model(self, asked: Any) -> Any:
        del asked
        return AIMessage(self.answer())

    def ready(self, session_id: str) -> None:
        self.history(session_id)

    def seed(self, session_id: str, said: Said) -> None:
        if said:
            self.history(session_id).add_messages([message for one in said for message in _both(*one)])

    def turn(self, session_id: str, question: str, answer: str) -> int:
        history = self.history(session_id)
        past = history.get_messages()
        history.add_messages(_both(question, answer))
        return len(past)

    def run(self, session_id: str, question: str, answer: str) -> object:
        self.reply = answer
        config: Any = {"configurable": {"session_id": session_id}}
        return str(self.runnable.invoke({"question": question}, config).content)

    def texts(self, session_id: str) -> list[str]:
        return [str(message.content) for message in self.history(session_id).get_messages()]

    def keep(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Without the prompt, which is the chain's."""
        _, turns = turns_of(messages)
        for turn in turns:
            self.history(session_id).add_messages([message_of(message) for message in turn])

    def status(self, session_id: str) -> str:
        del session_id
        return "none is kept"

    def settings(self) -> dict[str, str]:
        with self.connection.connect() as connection:
            return pragmas(lambda sql: connection.exec_driver_sql(sql).scalar())

    def close(self) -> None:
        self.connection.dispose()


class Postgres(Sql):
    """`PostgresChatMessageHistory` over one psycopg connection; session ids are UUIDs here."""

    NEEDS = ("langchain_postgres", "psycopg")
    TABLE = "chat_history"

    def connected(self) -> Any:
        import psycopg
        from langchain_postgres import PostgresChatMessageHistory

        connection = psycopg.connect(self.address)
        PostgresChatMessageHistory.create_tables(connection, self.TABLE)
        return connection

    def opened(self, session_id: str) -> Any:
        from langchain_postgres import PostgresChatMessageHistory

        name = str(uuid5(NAMESPACE_URL, session_id))
        return PostgresChatMessageHistory(self.TABLE, name, sync_connection=self.connection)

    def close(self) -> None:
        self.connection.close()


def _both(question: str, answer: str) -> list[Any]:
    return [HumanMessage(question), AIMessage(answer)]


STORES: Final = {"sqlite": Sql, "postgres": Postgres}
