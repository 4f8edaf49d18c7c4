"""The session's state while a run may change it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument

log = logging.getLogger("recollect")


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
