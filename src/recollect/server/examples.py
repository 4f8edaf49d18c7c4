"""One example of each shape in the document, by its name there."""

from __future__ import annotations

from typing import Any, Final

from recollect.server.fields import RUN, SESSION

DB: Final = "sqlite-3f0c9a1b5d7e"
BEGAN: Final = "2026-05-04T09:30:00.250000Z"
ENDED: Final = "2026-05-04T09:30:02.750000Z"

_MODEL: Final = {"name": "gpt-5.2", "model": "gpt-5.2", "provider": "openai"}
_AGENT: Final = {
    "id": "travel-desk",
    "name": "Travel desk",
    "description": "Plans trips.",
    "role": None,
    "db_id": DB,
    "model": _MODEL,
}
_TEAM: Final = _AGENT | {"id": "travel-team", "name": "Travel team", "mode": "coordinate", "members": [_AGENT]}

_QUESTION: Final = "Plan two days in Porto"
_ANSWER: Final = "Day one: Ribeira. Day two: Foz."
_CHAT: Final = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]

_BRIEF: Final = {
    "session_id": SESSION,
    "session_name": "Two days in Porto",
    "user_id": "ada",
    "agent_id": "travel-desk",
    "team_id": None,
    "total_tokens": 74,
    "created_at": BEGAN,
    "updated_at": ENDED,
}
_LISTED: Final = _BRIEF | {"session_type": "agent"}

_TOOL: Final = {
    "role": "tool",
    "content": "18 degrees",
    "tool_call_id": "call_1",
    "tool_name": "get_weather",
    "tool_args": {"city": "Porto"},
    "tool_call_error": False,
    "result": "18 degrees",
    "metrics": None,
    "created_at": 1777887000,
}
_RUN: Final = {
    "run_id": RUN,
    "parent_run_id": None,
    "agent_id": "travel-desk",
    "team_id": None,
    "user_id": "ada",
    "status": "COMPLETED",
    "run_input": _QUESTION,
    "content": _ANSWER,
    "reasoning_content": None,
    "metrics": {"input_tokens": 61, "output_tokens": 13},
    "tools": [_TOOL],
    "extra_data": None,
    "images": None,
    "videos": None,
    "audio": None,
    "response_audio": None,
    "input_media": None,
    "created_at": BEGAN,
}

_ENTRY: Final = {
    "session_id": SESSION,
    "kind": "agent",
    "agent_id": "travel-desk",
    "team_id": None,
    "user_id": "ada",
    "name": "Two days in Porto",
    "name_source": "auto",
    "title": "Two days in Porto",
    "preview": _QUESTION,
    "archived": False,
    "pinned": True,
    "expires_at": None,
    "run_count": 1,
    "completed_count": 1,
    "message_count": 2,
    "input_tokens": 61,
    "output_tokens": 13,
    "aux_tokens": 20,
    "version": 4,
    "created_at": BEGAN,
    "updated_at": ENDED,
}
_HIT: Final = {
    "session_id": SESSION,
    "session_name": "Two days in Porto",
    "user_id": "ada",
    "where": "message",
    "run_id": RUN,
    "run_seq": 1,
    "idx": 0,
    "role": "user",
    "snippet": _QUESTION,
    "marks": [[17, 22]],
    "time": BEGAN,
    "rank": 0.5,
}

_ASKED: Final = {"message": _QUESTION, "stream": True, "session_id": SESSION, "stream_member_events": False}
_CONTINUED: Final = {"session_id": SESSION, "stream": True, "stream_member_events": False}

EXAMPLES: Final[dict[str, Any]] = {
    "Body_runs_continue_agent_run": _CONTINUED,
    "Body_runs_continue_team_run": _CONTINUED,
    "Body_runs_run_agent": _ASKED,
    "Body_runs_run_team": _ASKED,
    "Body_sessions_rename_session": {"session_name": "Two days in Porto"},
    "Cancelled": {"run_id": RUN, "session_id": SESSION, "cancelled": True},
    "Change": {"name": "Two days in Porto", "session_state": {"step": 2}, "tags": ["travel"], "pinned": True},
    "Config": {
        "os_id": "recollect",
        "name": "Recollect",
        "description": None,
        "available_models": ["gpt-5.2"],
        "databases": [DB],
        "agents": [_AGENT],
        "teams": [_TEAM],
        "workflows": [],
        "interfaces": [],
    },
    "Doomed": {"session_ids": [SESSION], "session_types": ["agent"]},
    "Entry": _ENTRY,
    "Health": {"status": "ok", "instantiated_at": BEGAN},
    "Hit": _HIT,
    "Hits": {"hits": [_HIT], "next_cursor": None},
    "Me": {"user_id": "ada", "scopes": ["user"]},
    "ModelShape": _MODEL,
    "Naming": {"fallback": "Trip to Porto"},
    "NewSession": {"session_name": "Two days in Porto", "session_state": {"step": 1}, "agent_id": "travel-desk"},
    "Page": {"sessions": [_ENTRY], "next_cursor": None},
    "PageMeta": {"page": 1, "limit": 20, "total_pages": 1, "total_count": 1},
    "Problem": {
        "type": "urn:recollect:session_not_found",
        "title": "Not Found",
        "status": 404,
        "detail": f"there is no session '{SESSION}'",
        "code": "session_not_found",
    },
    "RunAnswer": _RUN | {"session_id": SESSION, "agent_name": "Travel desk", "content_type": "str", "model": "gpt-5.2"},
    "RunShape": _RUN,
    "RunnerShape": _AGENT,
    "Said": {"messages": _CHAT},
    "Session": _ENTRY
    | {"session_state": {"step": 1}, "metadata": {}, "tags": ["travel"], "summary": {"summary": "A trip is planned."}},
    "SessionChange": {"session_state": {"step": 2}, "metadata": {"source": "web"}},
    "SessionDetail": _BRIEF
    | {
        "agent_session_id": SESSION,
        "session_summary": {"summary": "A trip is planned.", "topics": ["travel"]},
        "session_state": {"step": 1},
        "metrics": {"input_tokens": 61, "output_tokens": 13, "total_tokens": 74},
        "metadata": {},
        "chat_history": _CHAT,
    },
    "SessionEntry": _LISTED,
    "SessionList": {"data": [_LISTED], "meta": {"page": 1, "limit": 20, "total_pages": 1, "total_count": 1}},
    "Summary": {"summary": "A trip is planned.", "topics": ["travel"]},
    "TeamShape": _TEAM,
    "ToolShape": _TOOL,
}
