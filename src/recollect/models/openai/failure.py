"""What went wrong between here and the provider, as a `ModelError` that says what to do."""

from __future__ import annotations

import email.utils
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from recollect import checks
from recollect.errors import ModelError


def transport_errors() -> tuple[type[Exception], ...]:
    """What the SDK raises when a request or its answer goes wrong.

    That is its own errors, bodies that are no JSON, and with SDKs before 3 what the HTTP library raises in mid-stream.
    """
    import openai

    libraries = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return (openai.APIError, json.JSONDecodeError, *(library.HTTPError for library in libraries))


def failure(model: str, client: Any, error: Exception) -> ModelError:
    """The error with the model, what the provider said, and advice; never with the API key."""
    status: int | None = getattr(error, "status_code", None)
    transient = False
    code = getattr(error, "code", None) or getattr(error, "type", None)
    headers = getattr(getattr(error, "response", None), "headers", {})
    if isinstance(error, json.JSONDecodeError):
        text = f"Model {model!r} at {address(client)} answered with broken JSON: {error}. Check base_url."
    elif status is None and code is not None:
        said_itself = said_so(model, _said(error), code)
        text, status, transient = str(said_itself), said_itself.status, said_itself.transient
    elif status is None:
        text = f"Model {model!r} at {address(client)} could not be asked: {_cause(error)}. {ADVICE[0]}"
        transient = not _is_wrong(error)
    else:
        said = checks.preview(_said(error), 600)
        text = f"Model {model!r} answered with status {status}: {said} {ADVICE.get(status, '')}".rstrip()
        transient = _passes(status, code)
    text = text.replace(_key(client), "***")
    return ModelError(text, status=status, retry_after=_retry_after(headers), transient=transient)


def said_so(model: str, problem: object, code: object, *, transient: bool = False) -> ModelError:
    """The error for an answer that says itself, with status 200, that it failed."""
    status = STATUS.get(str(code)) or (code if isinstance(code, int) and code in range(400, 600) else None)
    said = checks.preview(str(problem or "no reason given"), 600)
    text = f"Model {model!r} failed: {said}" + (f" ({code})" if code else "")
    return ModelError(text, status=status, transient=transient or _passes(status, code))


def _passes(status: int | None, code: object) -> bool:
    """Whether the same request may well be answered later."""
    return status is not None and (status in AGAIN or status >= SERVER_ERROR) and code not in NO_MONEY


def _is_wrong(error: BaseException | None) -> bool:
    """Whether it is the address or the certificate, and not the connection, that failed."""
    while error is not None:
        if type(error).__name__ in WRONG:
            return True
        error = error.__cause__ or error.__context__
    return False


STATUS: Final = {"rate_limit_exceeded": 429, "insufficient_quota": 429, "server_error": 500}
"""The status that a word stands for where it is said with status 200."""

AGAIN: Final = (408, 409, 425, 429)
SERVER_ERROR: Final = 500
"""Statuses, this and those above, with which the same request may well be answered later."""

NO_MONEY: Final = ("insufficient_quota", "billing_not_active", "billing_hard_limit_reached")
"""What comes with status 429 and does not pass by waiting."""

WRONG: Final = ("UnsupportedProtocol", "LocalProtocolError", "InvalidURL", "SSLCertVerificationError")
"""Names of errors of the HTTP library and of TLS that do not pass by waiting."""

ADVICE: Final = {
    0: "Check base_url, timeout and the network.",
    401: "Check the API key: api_key=... or OPENAI_API_KEY.",
    403: "Check what this API key may do.",
    404: "Check the model's id and base_url.",
    429: "Wait, raise max_retries, or check the quota.",
}
"""What to do, by status; 0 is no answer at all."""


def shown(client: Any, error: Exception) -> Exception | None:
    """The error as a cause to be shown: not if it holds the API key, which some compatible servers repeat."""
    return None if _key(client) in str(error) else error


def document(answer: Any, client: Any) -> dict[str, Any]:
    """The body of an answer.

    Raises:
        ModelError: it is no JSON object, as when ``base_url`` names a web site.
    """
    if not hasattr(answer, "to_dict"):
        problem = f"{address(client)} answered with something other than a JSON object; check base_url"
        raise ModelError(f"{problem}. It begins: {checks.preview(str(answer), 80)!r}")
    body: dict[str, Any] = answer.to_dict(warnings=False)
    return body


def address(client: Any) -> str:
    """Where the client asks, without the credentials an address may hold."""
    url = client.base_url
    return f"{url.scheme}://{url.netloc.decode()}{url.path}".rstrip("/")


def _said(error: Exception) -> str:
    """The provider's own words where its body has the usual form."""
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, Mapping) else None
    return message if isinstance(message, str) else str(error)


def _cause(error: Exception) -> str:
    """The error in words, with the reason behind the SDK's "Connection error."; some errors have nothing but a name."""
    words = [str(each) or type(each).__name__ for each in (error, error.__cause__) if each is not None]
    return checks.preview(" ".join(words), 600).rstrip(". ")


def _key(client: Any) -> str:
    key = getattr(client, "api_key", None)
    return key if isinstance(key, str) and key else "\x00"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``retry-after``, which is a number of seconds or a date."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
