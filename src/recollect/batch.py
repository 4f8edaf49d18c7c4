"""Names and summaries for many sessions: shared by any number of processes, slowed down by the provider, and reported.

Sessions are claimed a few at a time, so that no two processes work on the same one; what a process held when it died
returns. Stopped halfway, the next batch goes on, for whatever was stored is not due any more.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final

import msgspec

from recollect import checks
from recollect.calls.call import Call
from recollect.errors import InvalidArgument, ModelError, NamingFailed, NotFound, OutcomeUnknown
from recollect.history import CHARS_PER_TOKEN
from recollect.message import Usage
from recollect.naming import title_from_first_message
from recollect.port import World
from recollect.scribe import fall_back, generate, summarise
from recollect.store.claims import Due, Wanted, claim_next, count_due, let_go, let_go_next, list_due
from recollect.store.names import finish_naming, get_opening
from recollect.store.turns import new_token

ATTEMPTS: Final = 6
"""How often a model is asked for one session before it counts as failed."""

AT_ONCE: Final = 8
"""Sessions claimed together: what a process that dies keeps from the others for a while."""

LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries at most, unless the provider asks for more."""

NAP: Final = 0.2
"""Seconds after which one who waits looks whether there is still something to wait for."""

SAMPLE: Final = 200
"""Sessions that an estimate is made of."""

NAME_TOKENS: Final = 12
"""Tokens of an answer that is a name."""

REFUSED: Final = (401, 403, 404)
"""Statuses that no other session would fare better with: a wrong key, a model that is not there."""


class BatchFailure(msgspec.Struct, frozen=True):
    """A session that was not named or summarised, and why."""

    session_id: str
    reason: str


class BatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch did."""

    named: int = 0
    """Sessions that have a name now, fallbacks included."""
    summarised: int = 0
    fallbacks: int = 0
    """Names that were made without the model, which said nothing usable."""
    skipped: int = 0
    """Sessions with nothing to go by, or that somebody else saw to meanwhile."""
    failed: tuple[BatchFailure, ...] = ()
    """Sessions that the model failed on; they are as they were, and due in the next batch."""
    input_tokens: int = 0
    output_tokens: int = 0
    left: int = 0
    """Sessions that are still due, when it was stopped before it was through."""
    stopped: str | None = None
    """Why it was, such as a key that the provider refuses."""

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Estimate(msgspec.Struct, frozen=True):
    """What a batch would do: how many sessions, and about how many tokens."""

    sessions: int
    tokens: int


class Progress:
    """How far a batch is: one object for all of it, handed over at its start and after each session."""

    def __init__(self, total: int) -> None:
        self.total = total
        """Sessions that were due at the start."""
        self.named = self.summarised = self.fallbacks = self.skipped = 0
        self.failures: list[BatchFailure] = []
        self.input_tokens = self.output_tokens = 0
        self.session_id: str | None = None
        """The session that was done last."""
        self.name = ""
        """Its new name; "" where it was given none."""
        self.reason = ""
        """Why it was given none."""
        self.stopped: str | None = None

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def done(self) -> int:
        return self.named + self.summarised + self.skipped + self.failed

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def stop(self, reason: str = "stopped") -> None:
        """Begin no more; what is under way is finished. May be called from anywhere, a signal handler too."""
        self.stopped = self.stopped or reason

    def add(self, done: Done) -> None:
        """Count a session that is done."""
        self.session_id, self.name, self.reason = done.session_id, done.name, done.reason
        self.input_tokens += done.usage.input_tokens
        self.output_tokens += done.usage.output_tokens
        if done.failed:
            self.failures.append(BatchFailure(done.session_id, done.reason))
        elif done.summarised:
            self.summarised += 1
        elif done.name:
            self.named += 1
            self.fallbacks += done.fallback
        else:
            self.skipped += 1

    def report(self, left: int) -> BatchReport:
        return BatchReport(
            named=self.named,
            summarised=self.summarised,
            fallbacks=self.fallbacks,
            skipped=self.skipped,
            failed=tuple(self.failures),
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            left=left,
            stopped=self.stopped,
        )


OnProgress = Callable[[Progress], object]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one session; with neither name nor failure, it was skipped."""

    session_id: str
    name: str = ""
    fallback: bool = False
    summarised: bool = False
    failed: bool = False
    reason: str = ""
    usage: Usage = Usage()


Work = Callable[[str, int], Awaitable[Done]]
"""What is done with one session, whose claim is held with this token."""


async def name_sessions(
    at: Call,
    *,
    user_id: str | None = None,
    only_unnamed: bool = True,
    min_messages: int = 2,
    since: datetime | None = None,
    limit: int | None = None,
    concurrency: int = 8,
    on_progress: OnProgress | None = None,
) -> BatchReport:
    """Name all sessions that have no name, or only a fallback; with ``only_unnamed=False`` generated names anew, too.

    One model call a session, ``concurrency`` at once; a name set by hand is never touched. Sessions with fewer than
    ``min_messages`` messages, or last active before ``since``, are left out; ``limit`` bounds how many are done. Where
    the model says nothing usable, a session without a name gets one made of its first message.

    Any number of processes may do this at the same time: each session is named by one of them. When a provider asks
    to slow down, all of them that heard it wait. ``on_progress`` is called with a `Progress` at the start and after
    each session, and may stop the batch with ``progress.stop()``.

    Raises:
        InvalidArgument: an argument cannot be accepted; no session was touched.
    """
    due: Due = "unnamed" if checks.flag("only_unnamed", only_unnamed) else "not named by hand"
    wanted = Wanted(due=due, user_id=at.user_id(user_id), since=since, min_messages=min_messages)
    batch = Batch(at, wanted, lambda session_id, token: _name(at, session_id, token), limit, concurrency)
    return await batch.run(on_progress)


async def create_session_summaries(
    at: Call,
    *,
    user_id: str | None = None,
    min_messages: int = 2,
    since: datetime | None = None,
    limit: int | None = None,
    concurrency: int = 8,
    on_progress: OnProgress | None = None,
) -> BatchReport:
    """Bring the summaries of all sessions up to what was last said in them; the arguments are those of `name_sessions`.

    Raises:
        InvalidArgument: an argument cannot be accepted; no session was touched.
    """
    wanted = Wanted(due="not summarised", user_id=at.user_id(user_id), since=since, min_messages=min_messages)
    batch = Batch(at, wanted, lambda session_id, _: _summarise(at, session_id), limit, concurrency)
    return await batch.run(on_progress)


async def estimate_names(
    at: Call,
    *,
    user_id: str | None = None,
    only_unnamed: bool = True,
    min_messages: int = 2,
    since: datetime | None = None,
    limit: int | None = None,
) -> Estimate:
    """How many sessions `name_sessions` would name, and about how many tokens that would take. Nothing is asked.

    The tokens are estimated from the first messages of at most 200 of the sessions, at four characters a token.
    """
    due: Due = "unnamed" if checks.flag("only_unnamed", only_unnamed) else "not named by hand"
    wanted = Wanted(due=due, user_id=at.user_id(user_id), since=since, min_messages=min_messages)
    count = _bounded(await at.do(count_due, wanted), limit)
    sample = await at.do(list_due, wanted, min(count, SAMPLE))
    tokens = sum([await _tokens(at, session_id) for session_id in sample])
    return Estimate(count, round(tokens * count / len(sample)) if sample else 0)


async def _tokens(at: Call, session_id: str) -> int:
    namer = at.scribe.namer
    opening = await at.do(get_opening, session_id, runs=namer.context_messages)
    asked = namer.messages(opening.messages) if opening is not None else ()
    return sum(len(message.text) for message in asked) // CHARS_PER_TOKEN + NAME_TOKENS if asked else 0


async def _name(at: Call, session_id: str, token: int) -> Done:
    """Name one claimed session.

    Raises:
        ModelError: the model failed.
    """
    scribe = at.scribe
    opening = await at.do(get_opening, session_id, runs=scribe.namer.context_messages)
    if opening is None:
        return Done(session_id=session_id, reason="it was deleted meanwhile")
    made = await generate(scribe, opening, at.access.world, max_retries=0)
    name, source = made.name, "auto"
    reason = made.problem
    if not name and opening.header.name_source is None:
        try:
            name = await fall_back(at.access, scribe, opening, title_from_first_message, made.problem)
            source = "fallback"
        except NamingFailed as failed:
            reason = str(failed)
    tokens = made.usage.total_tokens
    epoch = opening.header.epoch
    header = await at.do(finish_naming, session_id, token, epoch, name or None, source, tokens)
    if name and (header is None or (header.name, header.name_source) != (name, source)):
        name, reason = "", "somebody else named or deleted it meanwhile"
    return Done(
        session_id=session_id, name=name, fallback=bool(name) and source == "fallback", reason=reason, usage=made.usage
    )


async def _summarise(at: Call, session_id: str) -> Done:
    """Summarise one claimed session.

    Raises:
        ModelError: the model failed.
    """
    made = await summarise(at.access, at.scribe, session_id, max_retries=0)
    reason = "" if made.new else "nothing new was said"
    return Done(session_id=session_id, summarised=made.new, reason=reason, usage=made.usage)


class Batch:
    """Workers that claim sessions, a few at a time, until none is due any more."""

    def __init__(self, at: Call, wanted: Wanted, work: Work, limit: int | None, concurrency: int) -> None:
        wanted.params()
        self._at = at
        self._wanted = wanted
        self._work = work
        self._limit = None if limit is None else checks.count("limit", limit)
        self._concurrency = checks.count("concurrency", concurrency, least=1, most=256)
        self._token = new_token()
        self._pace = Pace(at.access.world)
        self._claiming = at.access.world.lock()
        self._queue: deque[str] = deque()
        self._held: set[str] = set()
        self._tried: set[str] = set()
        """Sessions that were taken up and may be due all the same: not once more in this batch."""
        self._begun = 0
        self._after: str | None = ""
        self._skip = 0
        self._fresh = False
        """Whether the walk through the table has found anything yet."""
        self.progress = Progress(0)

    async def run(self, on_progress: OnProgress | None = None) -> BatchReport:
        """Do all that is due, telling how far it is."""
        if on_progress is not None and not callable(on_progress):
            raise InvalidArgument("on_progress", f"must be a function, not {type(on_progress).__name__}")
        tell = on_progress or _nobody
        progress = self.progress
        progress.total = _bounded(await self._at.do(count_due, self._wanted), self._limit)
        tell(progress)
        workers = [self._worker() for _ in range(min(self._concurrency, max(1, progress.total)))]
        try:
            async with aclosing(self._at.access.world.merge(workers)) as arrivals:
                async for done in arrivals:
                    progress.add(done)
                    tell(progress)
        except BaseException:  # an interrupt, too
            progress.stop("interrupted")  # threads that are still at it begin no more
            raise
        finally:
            await self._let_go(*self._held)
        left = await self._at.do(count_due, self._wanted) if progress.stopped else 0
        return progress.report(left)

    async def _worker(self) -> AsyncGenerator[Done, None]:
        while (session_id := await self._next()) is not None:
            done = await self._one(session_id)
            if done is None or not done.name:
                await self._let_go(session_id)
            elif not done.fallback:
                self._tried.discard(session_id)  # it is not due any more
            self._held.discard(session_id)
            if done is not None:
                yield done

    async def _one(self, session_id: str) -> Done | None:
        """Do one session, again where the provider was busy; None when it was stopped before that helped."""
        for attempt in range(1, ATTEMPTS + 1):
            await self._pace.wait(self.progress)
            try:
                done = await self._work(session_id, self._token)
            except ModelError as error:
                if not error.transient or attempt == ATTEMPTS:
                    return self._failed(session_id, error)
                if self.progress.stopped:
                    return None
                self._pace.slow_down(error.retry_after)
            except NotFound:
                return Done(session_id=session_id, reason="it was deleted meanwhile")
            else:
                self._pace.went_well()
                return done
        return None

    def _failed(self, session_id: str, error: ModelError) -> Done:
        if error.status in REFUSED:
            self.progress.stop(str(error))
        return Done(session_id=session_id, failed=True, reason=str(error))

    async def _next(self) -> str | None:
        """The next session to be done; None when there is none, or no more are to be begun."""
        async with self._claiming:
            while not self.progress.stopped and (self._limit is None or self._begun < self._limit):
                if self._queue:
                    self._begun += 1
                    self._tried.add(self._queue[0])
                    return self._queue.popleft()
                if not await self._claim():
                    return None
        return None

    async def _claim(self) -> bool:
        """Claim some more; False at the end. What others let go of behind is found by a last walk from the start."""
        if self._after is None:
            if not self._fresh or self._wanted.due == "not named by hand":
                return False
            self._after, self._fresh = "", False
        some = min(AT_ONCE, self._concurrency)
        if self._limit is not None:
            some = min(some, self._limit - self._begun)
        after = self._after
        unsure: tuple[type[BaseException], ...] = (OutcomeUnknown, *self._at.access.world.interrupts)
        try:
            claimed = await self._at.do(claim_next, self._wanted, self._token, after=after, limit=some, skip=self._skip)
        except unsure:
            await self._at.do(let_go_next, self._wanted, self._token, after=after)
            raise
        self._after = claimed.upto
        self._skip = random.randrange(claimed.passed) if claimed.passed else 0  # noqa: S311 - no secret
        stopped = bool(self.progress.stopped)
        not_now = {session_id for session_id in claimed.session_ids if stopped or session_id in self._tried}
        await self._let_go(*not_now)
        new = [session_id for session_id in claimed.session_ids if session_id not in not_now]
        self._fresh = self._fresh or bool(new)
        self._queue += new
        self._held.update(new)
        return True

    async def _let_go(self, *session_ids: str) -> None:
        if session_ids:
            await self._at.do(let_go, session_ids, self._token)


class Pace:
    """How fast the provider may be asked: when one worker is told to wait, all of them do."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._until = 0.0
        self._pause = 0.0

    async def wait(self, progress: Progress) -> None:
        """Wait until asking is allowed again, some a little longer than others, or no more is to be done."""
        late = random.uniform(0, self._pause / 4)  # noqa: S311 - no secret
        while (left := self._until + late - time.monotonic()) > 0 and not progress.stopped:
            await self._world.sleep(min(left, NAP))

    def slow_down(self, seconds: float | None) -> None:
        """Have everybody wait: as long as the provider asks for, else twice as long as the last time."""
        now = time.monotonic()
        if now >= self._until:  # not for each of those that were under way together
            self._pause = min(LONGEST_PAUSE, max(0.5, 2 * self._pause))
        self._until = max(self._until, now + (self._pause if seconds is None else seconds))

    def went_well(self) -> None:
        """Go a little faster again."""
        self._pause *= 0.7


def _bounded(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, checks.count("limit", limit))


def _nobody(_: Progress) -> None:
    pass
