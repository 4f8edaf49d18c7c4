"""Recollect over HTTP: an application to serve by itself or to mount in another.

It answers the clients of Agno's AgentOS with the fields they read, and under ``/v1`` offers what these lack. See
`create_app`.
"""

from __future__ import annotations

from recollect.errors import ExtraMissing

try:
    import fastapi as _fastapi  # noqa: F401 - looked for, so that what is missing is said by the name of its extra
    import jinja2 as _jinja2  # noqa: F401
    import jwt as _jwt  # noqa: F401
    import markdown_it as _markdown_it  # noqa: F401
    import nh3 as _nh3  # noqa: F401
    import python_multipart as _multipart  # noqa: F401
except ImportError as error:
    raise ExtraMissing("server", "recollect.server") from error

from recollect.server.app import create_app
from recollect.server.caller import Caller
from recollect.server.limits import Limits
from recollect.server.listening import serve
from recollect.server.verifier import JwtVerifier

__all__ = ["Caller", "JwtVerifier", "Limits", "create_app", "serve"]
