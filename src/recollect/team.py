"""A team: a leader that has its members answer, each in a run of its own in the team's session.

There is no second loop: to delegate is a tool of the leader's, and a member's run is what happens in one call of it.
Its id follows from the leader's run and the place of the call, so that a run that is taken up again takes up its
members' runs.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, ClassVar, Final, Literal, Unpack

import msgspec

from recollect import checks
from recollect.calls.messages import get_team_session_messages
from recollect.errors import Conflict, InvalidArgument, RecollectError, RunFailed, RunNotFound
from recollect.faces import blocking, waiting
from recollect.loop import run_events
from recollect.message import Message, ToolCall
from recollect.plan import Plan
from recollect.planner import Who
from recollect.port import Model
from recollect.run import RunOutput, RunOutputEvent, RunStatus
from recollect.runner import Runner
from recollect.setup import RunnerOptions
from recollect.tools import Tool, ToolResult, Work, result_of

Mode = Literal["coordinate", "route", "broadcast"]

_MODES: Final = ("coordinate", "route", "broadcast")

_GUIDANCE: Final = {
    "coordinate": (
        "You lead a team. Give each member the part of the work that suits it, with delegate_task_to_member; parts "
        "that do not depend on one another in one step. Members see the task that you write, not this conversation. "
        "Then answer yourself, from what they found; say it where somebody failed or found nothing."
    ),
    "route": (
        "You lead a team. Hand each request over to the one member that suits it best, with delegate_task_to_member, "
        "and pass it on whole: the member sees the task that you write, not this conversation. Its answer goes to the "
        "user as it is; add nothing to it. What no member is for you answer yourself."
    ),
    "broadcast": (
        "You lead a team. Put the question to all members at once, with delegate_task_to_members, in words that each "
        "can answer by itself: they see the task that you write, not this conversation. Then answer yourself, from "
        "what they say: what they agree on once, where they differ with your judgement; say it where somebody failed."
    ),
}

_ASKED_ITSELF: Final = (
    "Members are given the user's own message instead of the task that you write; a few words will do."
)


class Team(Runner):
    """A leader with members, which are agents or teams themselves, in durable sessions.

    Members keep nothing of their own: their runs are in the team's session, with ``parent_run_id`` and their own
    ``agent_id`` (``team_id`` where they are teams), and what a member is shown of the past is what it said itself in
    this session. Their ``db``, ``cache_session``, ``session_id``, ``user_id``, ``concurrent_runs`` and ``expire_after``
    do not count here, nor whether they name and summarise sessions; what is stored of their runs is for their own
    ``store_media`` and ``store_tool_messages`` to say. A member that fails is told to the leader, and the run goes on.

    It does not change, and serves all users and sessions of a process; `replace` makes another.
    """

    KIND: ClassVar[str] = "team"

    def __init__(
        self,
        members: Sequence[Runner],
        *,
        model: Model | str | None = None,
        mode: Mode = "coordinate",
        determine_input_for_members: bool = True,
        share_member_interactions: bool = False,
        add_team_history_to_members: bool = False,
        num_team_history_runs: int = 3,
        stream_member_events: bool = True,
        **options: Unpack[RunnerOptions],
    ) -> None:
        """Set up.

        Args:
            members: agents and teams, told apart by their ids.
            model: the leader's; the first member's unless given.
            mode: ``coordinate``: the leader gives tasks to members, as many at once as it likes, and answers itself;
                ``route``: it hands the request over to one member, whose answer is the run's; ``broadcast``: it gives
                one task to all members at once, and answers itself.
            determine_input_for_members: False gives members the user's own message instead of the leader's words.
            share_member_interactions: whether a member is told what the others were asked and answered in this run.
            add_team_history_to_members: whether a member is told what user and team said before,
                ``num_team_history_runs`` questions and answers of what the leader itself is shown.
            stream_member_events: whether ``stream_events`` tells what happens in members' runs, too.
            options: those of `Agent`, for the leader.

        Raises:
            InvalidArgument: one of them cannot be accepted.
        """
        chosen = _members(members)
        super().__init__(next(iter(chosen.values())).model if model is None else model, **options)
        self._refuse_namesakes(chosen.values())
        own: dict[str, Any] = {
            "members": tuple(chosen.values()),
            "mode": checks.one_of("mode", mode, _MODES),
            "determine_input_for_members": checks.flag("determine_input_for_members", determine_input_for_members),
            "share_member_interactions": checks.flag("share_member_interactions", share_member_interactions),
            "add_team_history_to_members": checks.flag("add_team_history_to_members", add_team_history_to_members),
            "num_team_history_runs": checks.count("num_team_history_runs", num_team_history_runs),
            "stream_member_events": checks.flag("stream_member_events", stream_member_events),
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_given", self._given | own | {"model": model})
        object.__setattr__(self, "_toolbox", self._with_delegation())

    members: tuple[Runner, ...]
    mode: Mode
    determine_input_for_members: bool
    share_member_interactions: bool
    add_team_history_to_members: bool
    num_team_history_runs: int
    stream_member_events: bool

    # The arguments are in the order that Agno's teams have.
    get_session_messages = blocking(get_team_session_messages)  # type: ignore[arg-type]
    aget_session_messages = waiting(get_team_session_messages)  # type: ignore[arg-type]

    def _refuse_namesakes(self, members: Iterable[Runner]) -> None:
        """Refuse a team within this one that has its id: runs of the one would be taken for those of the other."""
        for member in members:
            if isinstance(member, Team):
                if member.id == self.id:
                    raise InvalidArgument("members", f"a team within the team {self.id!r} has its id; give one a name")
                self._refuse_namesakes(member.members)

    def _with_delegation(self) -> dict[str, Tool]:
        tool = Delegation(self)
        if tool.name in self._toolbox:
            raise InvalidArgument("tools", f"{tool.name!r} is how the leader delegates; give the tool another name")
        return self._toolbox | {tool.name: tool}

    def _who(self) -> Who:
        return Who(kind="team", agent_id=None, agent_name=self.name, team_id=self.id)

    def _guidance(self) -> str:
        roster = "\n".join(_line(member) for member in self.members)
        rules = [_GUIDANCE[self.mode], *([] if self.determine_input_for_members else [_ASKED_ITSELF])]
        return "\n".join([*rules, f"<team_members>\n{roster}\n</team_members>"])

    def _opened(self) -> list[Any]:
        return [*super()._opened(), *(model for member in self.members for model in member._opened())]  # noqa: SLF001


class Delegation(Tool):
    """The tool by which a team's leader has members answer."""

    def __init__(self, team: Team) -> None:
        super().__init__(_to_all if team.mode == "broadcast" else _to_one(team.members))
        self.is_last_word = team.mode == "route"
        self.shares_state = True
        self.tells = team.stream_member_events
        self._team = team

    @property
    def waiting(self) -> Sequence[str]:
        """What must be awaited among the tools of the members."""
        return [
            f"{member.id}.{name}"
            for member in self._team.members
            for tool in member._toolbox.values()  # noqa: SLF001 - a team and its members are of one kind
            for name in tool.waiting
        ]

    async def work(self, work: Work) -> AsyncGenerator[RunOutputEvent | ToolResult, None]:
        """Have members answer, at the same time; tell what happens in their runs, and last what they said."""
        read = self.read(work.call.arguments)
        if isinstance(read, ToolResult):
            yield read
            return
        results: dict[str, ToolResult] = {}
        runs = [self._answer(member, read["task"], work) for member in self._asked(read)]
        async with aclosing(work.access.world.merge(runs)) as arrivals:
            async for item in arrivals:
                if isinstance(item, RunOutputEvent):
                    yield item
                else:
                    member_id, results[member_id] = item
        yield _joined(results) if "member_id" not in read else results[read["member_id"]]

    def _asked(self, read: dict[str, Any]) -> list[Runner]:
        return [member for member in self._team.members if read.get("member_id", member.id) == member.id]

    async def _answer(
        self, member: Runner, task: str, work: Work
    ) -> AsyncGenerator[RunOutputEvent | tuple[str, ToolResult], None]:
        run: RunOutput | None = None
        run_id = part_id(work.context.run_id, work.place, member.id, task)
        try:
            async with aclosing(self._events(member, task, run_id, work)) as events:
                async for event in events:
                    run = event.run if event.run_id == run_id else run
                    yield event
        except (RunFailed, Conflict, InvalidArgument) as error:
            yield member.id, result_of(f"{member.id} did not answer: {error}", error=True)
            return
        yield member.id, _said(member, run)

    async def _events(self, member: Runner, task: str, run_id: str, work: Work) -> AsyncGenerator[RunOutputEvent, None]:
        """The member's run; where the team's run was broken off after it had begun, it is taken up again."""
        planned = partial(_planned, member, work, run_id, self._input(task, work), self._context(work))
        for continues in (True, False) if work.again else (False,):
            try:
                async with aclosing(run_events(partial(planned, continues=continues), work.access)) as events:
                    async for event in events:
                        yield event
            except RunNotFound:
                if not continues:
                    raise
            else:
                return

    def _input(self, task: str, work: Work) -> Sequence[Message]:
        """What the member is asked: pictures and files of the user's go along."""
        if not self._team.determine_input_for_members:
            return work.input
        media = [part for message in work.input for part in _media(message)]
        return [Message("user", [{"type": "text", "text": task}, *media] if media else task)]

    def _context(self, work: Work) -> str:
        team = self._team
        told = [
            *(
                _told("team_history", _turns(work.past, team.num_team_history_runs))
                if team.add_team_history_to_members
                else ()
            ),
            *(_told("member_interactions", _interactions(work.said)) if team.share_member_interactions else ()),
        ]
        return "\n\n".join(told)


async def _planned(member: Runner, work: Work, *args: Any, continues: bool) -> Plan:
    """What a member's run is to be.

    Raises:
        InvalidArgument: the function that gives its instructions failed.
    """
    try:
        return await member._part(work, *args, continues=continues)  # noqa: SLF001 - as above
    except RecollectError:
        raise
    except Exception as error:  # its instructions may be the user's function
        raise InvalidArgument("instructions", f"raised {type(error).__name__}: {error}") from error


def part_id(run_id: str, place: int, member_id: str, task: str) -> str:
    """The id of a member's run: always the same for one call of one run (UUIDv8, RFC 9562).

    The task belongs to it, for a run that does not store its calls may make another one in the same place.
    """
    digest = hashlib.blake2b(f"{run_id}\n{place}\n{member_id}\n{task}".encode(), digest_size=16).digest()
    number = int.from_bytes(digest, "big") & ~(0xF << 76) & ~(0x3 << 62)
    return str(uuid.UUID(int=number | 8 << 76 | 2 << 62))


def _members(given: Any) -> dict[str, Runner]:
    """Members by their ids.

    Raises:
        InvalidArgument: there is none, one is neither agent nor team, or two have the same id.
    """
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise InvalidArgument("members", f"must be a sequence of agents and teams, not {given!r}")
    chosen: dict[str, Runner] = {}
    for member in given:
        if not isinstance(member, Runner):
            raise InvalidArgument("members", f"{member!r} is neither an agent nor a team")
        if member.id in chosen:
            raise InvalidArgument("members", f"two have the id {member.id!r}; give them names or ids of their own")
        chosen[member.id] = member
    return chosen


def _line(member: Runner) -> str:
    about = " ".join(part for part in (member.name, member.role or member.description) if part)
    inner = ", ".join(one.id for one in member.members) if isinstance(member, Team) else ""
    return f"- {member.id}" + (f": {about}" if about else "") + (f" (a team of {inner})" if inner else "")


def _to_one(members: Sequence[Runner]) -> Callable[..., str]:
    def delegate_task_to_member(member_id: str, task: str) -> str:
        """Have one member of the team do a task, and get its answer.

        Args:
            member_id: the member's id, as it stands in team_members
            task: what it is to do, with all that it has to know for it
        """
        raise NotImplementedError

    delegate_task_to_member.__annotations__["member_id"] = Literal[tuple(member.id for member in members)]
    return delegate_task_to_member


def _to_all(task: str) -> str:
    """Have all members of the team do the same task at once, and get their answers.

    Args:
        task: what they are to do, with all that they have to know for it
    """
    raise NotImplementedError


_to_all.__name__ = "delegate_task_to_members"


def _said(member: Runner, run: RunOutput | None) -> ToolResult:
    """What came of a member's run."""
    if run is not None and run.status is RunStatus.completed:
        return result_of(msgspec.structs.replace(run, parsed=None).content or "")
    return result_of(f"{member.id} did not answer: its run was {'lost' if run is None else run.status}", error=True)


def _joined(results: dict[str, ToolResult]) -> ToolResult:
    """What several members said, by their ids."""
    told = {member_id: {"error": one.text} if one.error else one.text for member_id, one in sorted(results.items())}
    return result_of(told, error=all(one.error for one in results.values()))


def _media(message: Message) -> list[dict[str, Any]]:
    content = message.content
    return [part for part in content if part.get("type") != "text"] if isinstance(content, list) else []


def _told(what: str, lines: Iterator[str]) -> Iterator[str]:
    text = "\n".join(lines)
    if text:
        yield f"<{what}>\n{text}\n</{what}>"


def _turns(past: Sequence[Message], most: int) -> Iterator[str]:
    """What user and team said, the newest questions with what was answered to them."""
    said = [message for message in past if message.role in ("user", "assistant") and message.text]
    asked = [at for at, message in enumerate(said) if message.role == "user"]
    for message in said[asked[-most] if len(asked) >= most > 0 else 0 if most else len(said) :]:
        yield f"{message.role}: {message.text}"


def _interactions(said: Sequence[Message]) -> Iterator[str]:
    """What members were asked in this run, and what they answered."""
    calls: dict[str, ToolCall] = {}
    for message in said:
        calls |= {call.id: call for call in message.tool_calls}
        call = calls.get(message.tool_call_id or "") if message.role == "tool" else None
        if call is not None and call.name.startswith("delegate_task_to_member"):
            yield f"{call.arguments} was answered: {message.text}"
