"""Encrypted reasoning: text that nobody else can have made, and that tells where it belongs."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from recollect.testing.answer import Refused

PREFIX = "gAAAA"


class Seal:
    """What one holder of a key writes, and reads again; servers with the same API key read one another's."""

    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(key.encode()).digest()

    def close(self, content: dict[str, Any]) -> str:
        """The content as opaque text."""
        text = json.dumps(content).encode()
        return PREFIX + base64.urlsafe_b64encode(self._sign(text) + text).decode()

    def open(self, sealed: str) -> dict[str, Any]:
        """The content again.

        Raises:
            Refused: somebody else wrote it, or changed it.
        """
        try:
            raw = base64.urlsafe_b64decode(sealed.removeprefix(PREFIX))
        except (binascii.Error, ValueError):
            raw = b""
        if not sealed.startswith(PREFIX) or not hmac.compare_digest(raw[:32], self._sign(raw[32:])):
            shown = f"{sealed[:7]}...{sealed[-4:]}"
            raise Refused(f"The encrypted content {shown} could not be verified.", None, "invalid_encrypted_content")
        content: dict[str, Any] = json.loads(raw[32:])
        return content

    def _sign(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, "sha256")
