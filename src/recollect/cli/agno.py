"""``recollect sessions import --from agno``: sessions out of a database that Agno has written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from recollect.agno import AgnoDatabase
from recollect.agno.sessions import WORKFLOW
from recollect.agno.stored import messages_by_run
from recollect.cli.intake import Item, Tally, check, refuse_bad, store_all
from recollect.cli.screen import aside, line, plural, progress_bar, say
from recollect.store import Store

LISTED: Final = 20
"""Sessions that are named where a count differs; the rest are counted."""


class Moving(Tally):
    """What became of Agno's sessions, and whether what was stored is all there."""

    noun: ClassVar[str] = "row"
    source: ClassVar[str] = "Agno's database"

    def __init__(self, database: AgnoDatabase) -> None:
        super().__init__()
        self._database = database
        self.read = self.workflows = 0
        self.sessions = self.of_runs = self.messages = 0
        """What Agno has of the sessions that were to be stored."""
        self.differing: list[str] = []
        self.changed = self.orphans = 0

    @property
    def is_whole(self) -> bool:
        """Whether every count is the same on both sides."""
        return not self.differing and not self.changed

    def see(self, kind: str) -> None:
        """Count a session that was read, whatever becomes of it."""
        self.read += 1
        self.workflows += kind == WORKFLOW

    def add(self, store: Store, item: Item) -> None:
        """Store a session, and count what is there of it now."""
        super().add(store, item)
        assert item.session is not None
        there = store.transact(messages_by_run, item.session.session_id)
        self.sessions += 1
        self.of_runs += len(item.runs)
        self.messages += sum(item.runs.values())
        for run_id, messages in item.runs.items():
            if there.get(run_id) != messages:
                told = f"{plural(messages, 'message')} in Agno's database and {there.get(run_id, 0):,} here"
                self.differing.append(f"{item.where}: run {run_id!r} has {told}")

    def close(self) -> None:
        """Compare with what the database holds now that all of it was read."""
        self.changed = self._database.count() - self.read
        self.orphans = self._database.count_orphans()

    def report(self) -> dict[str, Any]:
        """The account, for scripts."""
        verified = {"sessions": self.sessions, "runs": self.of_runs, "messages": self.messages}
        passed = {"workflows": self.workflows, "runs_without_session": self.orphans}
        told = {"differing": self.differing, "sessions_changed_meanwhile": self.changed, "is_whole": self.is_whole}
        return {**super().report(), "source": verified, **passed, **told}

    def tell(self) -> None:
        """Say what became of them, and how the counts compare."""
        super().tell()
        if self.workflows:
            aside(f"{plural(self.workflows, 'workflow session')} passed over: there is nothing like them here")
        if self.orphans:
            aside(f"{plural(self.orphans, 'run')} passed over that belong to no session", "yellow")
        counts = f"{plural(self.sessions, 'session')}, {plural(self.of_runs, 'run')}, members' too,"
        counts += f" and {plural(self.messages, 'message')}"
        say(f"verified: {counts}, the same on both sides" if self.is_whole else f"NOT verified: of {counts}, not all")
        for difference in self.differing[:LISTED]:
            aside(line(difference), "red")
        if len(self.differing) > LISTED:
            aside(f"... and {plural(len(self.differing) - LISTED, 'more difference')}", "red")
        if self.changed:
            more = "more" if self.changed > 0 else "fewer"
            aside(f"Agno's database holds {abs(self.changed):,} {more} than were read; import again", "red")


def import_from(database: AgnoDatabase, store: Store, *, user: str | None, skip_bad: bool, json: bool) -> None:
    """Check all sessions of Agno's, then store them, and count them again.

    Raises:
        typer.Exit: something is bad, does not fit, or is not the same on both sides.
    """
    bad = check(_items(database, user, "checking", Moving(database)))
    tally = Moving(database)
    refuse_bad(bad, tally, skip_bad=skip_bad)
    store_all(store, _items(database, user, "storing", tally), tally, bad, skip_bad=skip_bad, json=json)


def _items(database: AgnoDatabase, user: str | None, doing: str, tally: Moving) -> Iterator[Item]:
    """The sessions, with a bar that shows how far they were read."""
    with progress_bar(doing) as bar:
        task = bar.add_task(doing, total=database.count(), told="")
        for found in database.sessions(user):
            tally.see(found.kind)
            where = f"session {found.session_id!r}"
            yield Item(tally.read, where, found.session, found.problems, found.runs)
            bar.update(task, completed=tally.read, told=f"{tally.messages:,} messages" if tally.messages else "")
    tally.close()
