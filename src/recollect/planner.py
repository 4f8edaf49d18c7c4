"""What a run is to be: decided from how its runner is set up, and what is said of this one run."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, TypedDict

from recollect import checks
from recollect.background import BACKGROUND
from recollect.faces import THREADS
from recollect.input import Input, input_messages
from recollect.message import File, Image, Message
from recollect.plan import FollowUp, Plan
from recollect.port import Access, drive
from recollect.purge import is_due, purge
from recollect.scribe import follow_up
from recollect.setup import Setup
from recollect.store import sessions
from recollect.store.hits import keep_up
from recollect.store.turns import Commit, new_id
from recollect.tokens import TokenBudget
from recollect.tools import RunContext, Work

# Retries that name a user and a run but no session meet in this one.
_RUNS = uuid.UUID("6f1f3b0a-2f0e-5d0b-9d2c-8d1f5a4c7e10")


class Who(TypedDict):
    """Whose run it is, as it is stored."""

    kind: str
    agent_id: str | None
    agent_name: str | None
    team_id: str | None


class Planner(Setup):
    """A runner's setup, and the plans of its runs."""

    def _who(self) -> Who:
        """Whose runs they are."""
        raise NotImplementedError

    def _guidance(self) -> str:
        """The end of the system message, which is not the user's."""
        return ""

    async def _asked(
        self,
        input: Input,
        access: Access,
        *,
        stream: bool,
        user_id: str | None = None,
        session_id: str | None = None,
        session_state: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        images: Sequence[Image] = (),
        files: Sequence[File] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Plan:
        user = checks.optional_identifier("user_id", user_id if user_id is not None else self.user_id)
        run = new_id() if run_id is None else checks.identifier("run_id", run_id)
        session = self._session_of(session_id, user, run_id)
        attached = self._attached(metadata)
        return self._plan(
            session_id=session,
            run_id=run,
            input=input_messages(input, images, files),
            user_id=user,
            **self._who(),
            prompt=await self._prompt(access, session, user, run, attached, session_state or {}),
            state=dict(session_state or {}),
            with_state=self._with_state or session_state is not None,
            others=self.concurrent_runs,
            patience=self.queue_timeout,
            metadata=attached,
            expire_after=self.expire_after,
            follow_up=self._follow_up(access, session),
            stream=stream,
        )

    def _attached(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a run has attached: the runner's own metadata, and over it those of the run."""
        texts = self._metadata_texts | checks.json_object("metadata", metadata)
        return {key: checks.decode(text) for key, text in texts.items()}

    async def _part(self, work: Work, run_id: str, input: Sequence[Message], context: str, *, continues: bool) -> Plan:
        """What a run is to be that is part of another: that of a team's member, in the session of the team's run."""
        run, attached = work.context, self._attached(work.context.metadata)
        return self._plan(
            session_id=run.session_id,
            run_id=run_id,
            input=tuple(input),
            user_id=run.user_id,
            **self._who(),
            parent_run_id=run.run_id,
            beside=work.beside,
            leader=work.stop,
            prompt=await self._prompt(work.access, run.session_id, run.user_id, run_id, attached, {}),
            context=context,
            with_state=self._with_state,
            metadata=attached,
            stream=work.stream,
            continues=continues,
        )

    async def _taken_up(
        self, run_id: str, access: Access, *, stream: bool, session_id: str | None, user_id: str | None
    ) -> Plan:
        user = checks.optional_identifier("user_id", user_id if user_id is not None else self.user_id)
        run = checks.identifier("run_id", run_id)
        session = self._session_of(session_id, user, run)
        return self._plan(
            session_id=session,
            run_id=run,
            input=(),
            user_id=user,
            with_state=self._with_state,
            others=self.concurrent_runs,
            patience=self.queue_timeout,
            continues=True,
            follow_up=self._follow_up(access, session),
            stream=stream,
        )

    def _plan(self, **particular: Any) -> Plan:
        """A plan with what is the same for all runs of this runner."""
        budget = None if self._limits is None else TokenBudget.of(self._limits, self.model.id)
        return Plan(
            model=self.model,
            tools=self._toolbox,
            answer=self.output_schema,
            history=self._limits if self._limits is None or budget is None else self._limits.wide(),
            budget=budget,
            max_steps=self.max_steps,
            state_defaults={key: checks.decode(text) for key, text in self._state_texts.items()},
            with_summary=self.add_session_summary_to_context,
            tells_state=self._tells_state,
            store_media=self.store_media,
            store_tool_messages=self.store_tool_messages,
            **particular,
        )

    def _follow_up(self, access: Access, session_id: str) -> FollowUp:
        """What comes after a completed run, now or in the background: names, summaries, and sessions to be deleted.

        And, where somebody searches in this process, that what was said is found fast.
        """
        scribe, expires = self.scribe, self.expire_after is not None

        async def after(commit: Commit) -> None:
            if scribe.summaries or scribe.names_now(commit):
                key = (session_id, scribe.key)
                await self._afterwards(access, key, lambda later: follow_up(later, scribe, session_id, commit))
            if expires and is_due(self.db.home):
                await self._afterwards(access, ("purge",), purge)
            if scribe.background:
                keep_up(self.db.home)

        return after

    async def _afterwards(
        self, access: Access, key: Hashable, work: Callable[[Access], Coroutine[Any, Any, None]]
    ) -> None:
        if not self.scribe.background:
            await work(access)
            return
        later = Access(self.store, THREADS)
        BACKGROUND.submit(self.db.home, key, lambda: drive(work(later)))

    def _session_of(self, given: str | None, user_id: str | None, run_id: str | None) -> str:
        session_id = given if given is not None else self.session_id
        if session_id is not None:
            return checks.identifier("session_id", session_id)
        return new_id() if run_id is None else str(uuid.uuid5(_RUNS, f"{user_id or ''}\n{run_id}"))

    async def _prompt(
        self,
        access: Access,
        session_id: str,
        user_id: str | None,
        run_id: str,
        metadata: dict[str, Any],
        state: Mapping[str, Any],
    ) -> Message | None:
        instructions = self.instructions
        if callable(instructions):
            context = RunContext(
                run_id=run_id,
                session_id=session_id,
                user_id=user_id,
                agent_id=self._who()["agent_id"],
                team_id=self._who()["team_id"],
                metadata=metadata,
            )
            instructions = checks.lines("instructions", await self._called(instructions, access, context, state))
        lines = [instructions] if isinstance(instructions, str) else list(instructions or ())
        text = "\n".join(part for part in (self.description, *lines, self._guidance()) if part)
        return Message("system", text) if text else None

    async def _called(
        self, instructions: Callable[..., str], access: Access, context: RunContext, state: Mapping[str, Any]
    ) -> str:
        wanted = {"run_context", "session_state"} & inspect.signature(instructions).parameters.keys()
        if wanted:
            header = await access.do(sessions.get_header, context.session_id, context.user_id)
            stored = {} if header is None else await access.do(sessions.get_values, context.session_id, "state")
            defaults = {key: checks.decode(text) for key, text in self._state_texts.items()}
            context.session_state = defaults | stored | dict(state)
        given = {"run_context": context, "session_state": context.session_state}
        said: str = await access.world.call(instructions, **{name: given[name] for name in wanted})
        return said
