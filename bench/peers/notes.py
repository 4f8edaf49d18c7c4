"""What one should know to read the numbers: what is measured, and what favours whom."""

from __future__ import annotations

from typing import Final

READING: Final = """\
- Each section is measured in one run: a worker process for each store, in an environment of its own, is asked in turns
  (A B C ... in an order that is drawn anew in each round), so that the machine's moods hit all alike. The clock is in the
  worker. Four processes, and what a kill leaves, are measured store after store. Believe the ratios, not the
  milliseconds.
- A number is the median, with the quartiles in brackets. `x floor` is how many times the floor at the same durability,
  `x Recollect` how many times Recollect's own, at the same `synchronous` and for the same kind of turn: a whole run
  beside a whole run, a store alone beside a store alone. Where it is below 1, the peer is quicker or smaller.
- The floor is hand-written SQL for the rows that Recollect keeps (`bench/floor.py`, `bench/postgres_floor.py`), in two
  transactions a turn, without anything that a real store needs besides. It is no peer; it says what the machine can do.
- A turn is a question of 100 characters and an answer of 300, the same for all. A model is a stub in the peer's own
  runtime that answers at once.
- Each peer is used through its public API as its documentation shows it, with its defaults. Where it can be told how much
  of the past to load, it is told 50 turns, which is what Recollect loads; where it cannot, it loads everything.
- The first call of a visit finds the machine's caches cold and is not counted, for anybody.
- Histories are made as quickly as each API lets one: at once for Recollect, the floor and the stores of OpenAI and
  LangChain (the newest 50 turns of `SQLAlchemySession` one by one, for it sorts by time), turn by turn for Agno and ADK.
- Nothing leaves the machine: telemetry and traces are off, which some peers have on by default.
"""

TURN: Final = """\
What a turn consists of:

| peer | the store alone | a whole run |
|------|-----------------|-------------|
| floor | the question and a row for the run in one transaction, which also reads and decodes 50 turns; the answer in a second one | |
| Recollect | `begin_run` with the past, which is decoded, then `finish_run` | `Agent.run` with an `EchoModel` that decodes what it is shown |
| Agno | | `Agent.run` with `add_history_to_context=True` and `num_history_runs=50`; beside it the same with 3, which is Agno's default |
| OpenAI Agents SDK | `get_items(limit=100)`, then `add_items` of both | `Runner.run` with `SessionSettings(limit=100)` |
| Google ADK | `get_session` with `num_recent_events=100`, then two `append_event` | `Runner.run_async` with the same limit |
| LangGraph | | `graph.invoke` of one node over `MessagesState`; the state is loaded whole |
| LangChain | `get_messages`, then `add_messages` of both; the history is loaded whole | `RunnableWithMessageHistory.invoke` |

What favours whom:

- A whole run does more than a store alone: it makes messages for a model, calls it, and reports. Compare runs with runs.
- Recollect and the floor store a question before the model is asked, and so do the runs of ADK, LangGraph and, in a
  transaction of its own, the SDK's `Runner`. The stores of OpenAI and LangChain, used alone, store both texts in one
  transaction after the answer: one commit where Recollect has two, and nothing is left of a question whose answer never
  came. That favours them here.
- Agno reads the whole session whatever `num_history_runs` says; that chooses what the model is shown. It keeps the runs it
  has decoded, of the last 64 sessions; where each turn is of another session (turns 1 and 10) that helps it less than in one
  long conversation. With `cache_session=True` its agent keeps one session, and does not see what others write to it.
- Recollect estimates tokens by characters here, as it does without its extra `tokens`.
- LangChain's histories and `RunnableWithMessageHistory` are what it had before LangGraph, to which its documentation sends
  those who begin today. LangGraph's `SqliteSaver` says of itself that it is for small projects.
- The objects that OpenAI and LangChain want for each session are made before the clock starts, and kept; an application
  that makes them for each request pays for that as well (the rows of a fresh process show it). LangChain's documentation
  makes an engine for each history; here they share one.
- ADK and OpenAI are asynchronous: each call waits for an event loop that stays open. Their SQLite stores hop to a thread for
  each statement or call, and `SqliteSessionService` opens the file anew for each; that is how they work.
- LangGraph writes its checkpoints in the background while the graph goes on (`durability="async"`, the default), and is
  waited for before `invoke` returns. Sessions of LangGraph were filled by one `update_state`, which leaves one checkpoint
  where a real conversation leaves three a turn; its turns are measured on a file that is smaller than it would be.
  `durability="exit"` writes fewer checkpoints, and none of a run that is killed; its documentation proposes to trim or
  summarise long threads, which bounds what it stores at the price of the history. Neither was done.
- SQLite's stores stand as they are opened by default: see the column `SQLite` for journal and `synchronous`. ADK and
  LangChain leave the rollback journal, and are held against a floor with one.
- Postgres is one server of the tests for all, on a port of this machine. It does not wait for the disk (`fsync = off`):
  what is measured is work and round trips.
"""

FRESH: Final = """\
A process that has imported everything and opened nothing is forked; the fork opens the database, checks or makes its
tables, and takes one turn. That is what a worker of a web server pays for its first request. Imports are in the last
section, and so are those of the driver; what a peer imports when it is first used counts, for a process cannot spare it.
"""

LOAD: Final = """\
All of a session, as the peer's own objects, every text looked at. Recollect decodes a run when it is looked at; Agno keeps
the runs it has decoded in memory, so that its later loads are shorter than its first; Recollect does so where it is told
to (`cache_session=True`), and then looks at one row first, to see whether another process has written. Told the same, Agno
gives what it has without looking.
"""

LAST: Final = """\
The last three turns of a session: `get_session_messages(last_n_runs=3)` of Recollect and Agno, `get_items(limit=6)`,
`num_recent_events=6`. LangGraph's savers and LangChain's histories have no call for it: they load everything.
"""

PAGE: Final = """\
Twenty sessions without their content, newest activity first, of all users; the first page, and the last but one; and one
session found by a part of its name. Recollect reads on from a cursor, Agno is given the number of a page and told to leave
out the runs (`include_runs=False`; its default loads the runs of all twenty), ADK lists all sessions and the page is cut
out of them. `SQLiteSession`, `SQLAlchemySession` and LangChain's histories list no sessions, LangGraph's savers list
checkpoints; and only Recollect and Agno have names and find them: Agno by `LIKE` over the JSON that the name is in, Recollect by the name
without case and accents. Recollect's list without any filter is its slowest, for it is merged from two indexes. The floor
has an index for the order and looks through all names.
"""

SIZE: Final = """\
Turns are taken one by one, as an application would, by the first kind of turn in the table of turns; the file is measured
after a checkpoint; of Postgres, the tables with their indexes and with what updates left in them, without a vacuum. The floor keeps
keys and no other index. Recollect and Agno keep a row for each run with its metrics; stores alone keep texts. The
conversations are real ones with tools and a long prompt, stored turn by turn, too; Recollect keeps the prompt once a
session and Agno in each run; the others do not keep it, which favours them. The items of OpenAI's stores have a role and
content here; those that its `Runner` stores are larger. LangGraph takes its turns one by one here, in its default
`durability`.
"""

CROWD: Final = """\
Four processes take turns in one session, 40 each (10 with `--quick`) and twice over, as quickly as they can.
*Refused* are turns that raised an error, *lost* those that were acknowledged and of which a text is not there afterwards,
*torn* questions that are not followed by their answer: nothing is lost by that, but a model reads them so. *Orders seen* is
in how many orders five processes read the session afterwards: 1 is agreement. Compare runs with runs, stores with stores.

ADK's services ask to load the session anew when another process was quicker; a caller that does so in a loop has fewer
refused, and slower turns. LangGraph's savers keep whole states, of which the last one wins; what to do with a message that
comes while a thread is busy is a matter of its platform, not of the library. Turns a second count what was acknowledged, lost or not. Recollect naps while another process
writes, so that nobody waits for long; the floor and `SQLiteSession` let one go on while others wait.
"""

KILL: Final = """\
After one complete turn a second one is asked; half a second into the model's thinking the process is killed with `kill -9`.
A new process then says what is there, at once, and takes the next turn. All are whole runs. Agno stores a run when it ends;
its `checkpoint="tool-batch"` stores it after tools have answered, of which there are none here, and what it is asked about
is the turn before. In SQLite Recollect sees that
the process is gone; in Postgres a run is called running until its lease has run out, half a minute at most, and the next
turn does not wait for that.
"""

START: Final = """\
In a fresh process, already compiled: seconds of CPU and the peak of memory after importing what the peer's file here
imports (runtime, store, stub), and after opening a database and one turn: a whole run of Recollect, Agno and LangGraph, the
store alone of the others, which is less. No model is asked over a network. The SDK of OpenAI Agents imports OpenAI's own
SDK in any case, Recollect when a model of OpenAI's is used: hence its second row. The floor is an empty interpreter with the
worker's few modules of the standard library.
"""
