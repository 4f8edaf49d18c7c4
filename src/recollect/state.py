"""The session's state while a run may change it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.tools import result_of

log = logging.getLogger("recollect")

SHOWN: Final = 4000
"""Characters of the state that a model is shown when it has changed some of it."""


class State:
    """The session's state while a run may change it: each top-level key that changed is stored, and no other."""

    def __init__(self, stored: Mapping[str, str]) -> None:
        self._stored: dict[str, str] = dict(stored)
        self._pending: dict[str, str | None] = {}
        self.live: dict[str, Any] = {key: checks.decode(text) for key, text in stored.items()}

    def changes(self) -> dict[str, str | None]:
        """Texts of the keys that differ from what is stored, None for one that is gone."""
        texts: dict[str, str | None] = {}
        for key, value in list(self.live.items()):
            try:
                texts[key] = checks.json_object("session_state", {key: value})[key]
            except InvalidArgument as refused:
                log.warning("session_state[%r] cannot be stored; the key keeps the value it had", key)
                log.debug("%s", refused)
                texts[key] = self._stored.get(key)
        gone: dict[str, str | None] = dict.fromkeys(self._stored.keys() - texts.keys())
        changed = {key: text for key, text in texts.items() if self._stored.get(key) != text}
        self._pending = gone | changed
        return self._pending

    def see(self, stored: Mapping[str, Any]) -> None:
        """Take over what others have stored; a key that was changed here and is not stored yet stays."""
        mine = self.changes()
        for key in (self._stored.keys() | stored.keys()) - mine.keys():
            if key in stored:
                self.live[key] = stored[key]
                self._stored[key] = checks.encode(stored[key]).decode()
            else:
                self.live.pop(key, None)
                self._stored.pop(key, None)

    def to_json(self) -> str:
        """What is stored. A tool may have left something among the live values that cannot be."""
        return checks.encode({key: msgspec.Raw(text.encode()) for key, text in self._stored.items()}).decode()

    def stored(self) -> None:
        """The last changes are committed."""
        self._stored |= {key: text for key, text in self._pending.items() if text is not None}
        for key in [key for key, text in self._pending.items() if text is None]:
            self._stored.pop(key, None)
        self._pending = {}


def state_text(state: str) -> str:
    """What the model is told of the state, given as JSON, to be put behind the system message."""
    return f"<session_state>\n{state}\n</session_state>"


def update_session_state(session_state: dict[str, Any], session_state_updates: dict[str, Any]) -> str:
    """Set keys of the session's state, which is kept for the whole conversation. Each value is set as a whole.

    Example: {"shopping_list": ["milk", "bread"]}

    Args:
        session_state_updates: the new values by key; keys that are not named stay as they are
    """
    checks.json_object("session_state_updates", session_state_updates)
    session_state.update(session_state_updates)
    whole = result_of(session_state).text
    return f"Updated session state: {whole if len(whole) <= SHOWN else ', '.join(session_state_updates)}"
