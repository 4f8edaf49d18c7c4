"""LangGraph: a graph of one node over `MessagesState`, compiled with `SqliteSaver` or `PostgresSaver`.

A saver keeps checkpoints, each with the whole state; a session is a thread. What stores is ``graph.invoke``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from functools import reduce
from typing import Annotated, Any, Final, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages

from bench.peers.chat import message_of
from bench.peers.work import Said, Store, pragmas, turns_of


class Sqlite(Store):
    """`SqliteSaver` over ``sqlite3.connect(file, check_same_thread=False)``, ``durability`` at its default, "async"."""

    BULK = True
    STATE: Any = MessagesState

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.stack = ExitStack()
        self.saver = self.opened()
        builder = StateGraph(self.STATE)
        builder.add_node("model", self._model)
        builder.add_edge(START, "model")
        builder.add_edge("model", END)
        self.graph = builder.compile(checkpointer=self.saver)
        self._said: list[Any] | None = None

    def opened(self) -> Any:
        return SqliteSaver(sqlite3.connect(self.address, check_same_thread=False))

    def _model(self, state: Any) -> dict[str, Any]:
        del state
        return {"messages": [AIMessage(self.answer())] if self._said is None else self._said}

    def seed(self, session_id: str, said: Said) -> None:
        """All at once, by ``update_state``: one checkpoint, where turn by turn would have left three each."""
        messages = [message for one in said for message in (HumanMessage(one[0]), AIMessage(one[1]))]
        if messages:
            self.graph.update_state(_thread(session_id), {"messages": messages}, as_node="model")

    def run(self, session_id: str, question: str, answer: str) -> object:
        self.reply = answer
        return len(self.graph.invoke({"messages": [HumanMessage(question)]}, _thread(session_id))["messages"])

    def texts(self, session_id: str) -> list[str]:
        return [str(message.content) for message in self._all(session_id)]

    def _all(self, session_id: str) -> list[Any]:
        found: list[Any] = self.graph.get_state(_thread(session_id)).values.get("messages", [])
        return found

    def keep(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Turn by turn, each an ``invoke`` whose node says the rest of the turn; without the prompt, as is usual."""
        _, turns = turns_of(messages)
        for turn in turns:
            first, *self._said = [message_of(message) for message in turn]
            self.graph.invoke({"messages": [first]}, _thread(session_id))
        self._said = None

    def status(self, session_id: str) -> str:
        waiting = self.graph.get_state(_thread(session_id)).next
        return f"next: {', '.join(waiting)}" if waiting else "done"

    def settings(self) -> dict[str, str]:
        with self.saver.cursor(transaction=False) as cursor:
            return pragmas(lambda sql: cursor.execute(sql).fetchone()[0])

    def close(self) -> None:
        self.stack.close()


def _reduced(state: Any, writes: Sequence[Any]) -> Any:
    return reduce(add_messages, writes, state)


class Deltas(TypedDict):
    """The state of `MessagesState`, kept as what was added."""

    messages: Annotated[list[AnyMessage], DeltaChannel(_reduced)]


class Delta(Sqlite):
    """The same with a `DeltaChannel` for the messages, which is in beta."""

    STATE = Deltas


class Postgres(Sqlite):
    """`PostgresSaver.from_conn_string(url)`."""

    NEEDS = ("langgraph.checkpoint.postgres", "psycopg")

    def opened(self) -> Any:
        from langgraph.checkpoint.postgres import PostgresSaver

        saver = self.stack.enter_context(PostgresSaver.from_conn_string(self.address))
        saver.setup()
        return saver


def _thread(session_id: str) -> Any:
    return {"configurable": {"thread_id": session_id}}


STORES: Final = {"sqlite": Sqlite, "delta": Delta, "postgres": Postgres}
