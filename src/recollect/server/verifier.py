"""Who a JSON Web Token is about, by keys that its issuer publishes."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt
from jwt import PyJWK, PyJWKClient, PyJWKSet

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.server.caller import SCOPES, Caller
from recollect.server.problem import Refused

ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SYMMETRIC: Final = ("HS256", "HS384", "HS512")

FRESH: Final = 300.0
"""Seconds after which published keys are read again."""

STALE: Final = 24 * 3600.0
"""Seconds for which keys are used whose issuer cannot be reached."""

PAUSE: Final = 10.0
"""Seconds between two attempts to read keys: tokens with made-up key ids must not flood the issuer."""


class JwtVerifier:
    """Reads JSON Web Tokens: whose they are (``sub``) and what these may do (``scope``, ``scp`` or ``scopes``).

    A token without one of the scopes ``user``, ``support`` and ``admin`` has ``user``; ``scope_names`` maps an
    issuer's own words to these three.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str | Sequence[str],
        jwks_url: str | None = None,
        key: str | bytes | None = None,
        algorithms: Sequence[str] = ("RS256", "ES256", "EdDSA"),
        leeway: float = 30.0,
        user_claim: str = "sub",
        scope_names: Mapping[str, str] | None = None,
        timeout: float = 5.0,
    ) -> None:
        """Set up.

        Args:
            issuer: what ``iss`` must be.
            audience: what ``aud`` must be, or one of several.
            jwks_url: where the issuer publishes its keys; they are kept for five minutes, and for a day where it
                cannot be reached. A key that is not among them has them read again, at most every ten seconds.
            key: the one key, in place of ``jwks_url``: a public key in PEM, or a secret with an HS algorithm.
            algorithms: those that are accepted, whatever a token says.
            leeway: seconds by which the clocks may differ.
            user_claim: the claim that holds the user's id.
            scope_names: what the issuer calls the scopes: ``{"support-desk": "support"}``.
            timeout: seconds that the issuer has to publish its keys.

        Raises:
            InvalidArgument: something is missing, or an algorithm cannot be accepted.
        """
        if (jwks_url is None) == (key is None):
            raise InvalidArgument("jwks_url", "say where the keys are published, or give the one key; one of both")
        allowed = ASYMMETRIC if jwks_url is not None else (*ASYMMETRIC, *SYMMETRIC)
        self._algorithms = [
            checks.one_of("algorithms", name, allowed) for name in checks.texts("algorithms", algorithms)
        ]
        of_secrets = [name in SYMMETRIC for name in self._algorithms]
        if len(set(of_secrets)) != 1:
            raise InvalidArgument("algorithms", "name some, either those of secrets (HS...) or those of public keys")
        self._issuer = checks.text("issuer", issuer)
        self._audience = audience
        self._leeway = checks.seconds("leeway", leeway)
        self._user_claim = checks.text("user_claim", user_claim)
        self._names = {name: name for name in SCOPES} | {
            theirs: checks.one_of("scope_names", ours, SCOPES) for theirs, ours in (scope_names or {}).items()
        }
        self._keys = None if jwks_url is None else Keys(jwks_url, timeout)
        self._key = key

    def caller(self, token: str) -> Caller:
        """Who the token is about; may wait for the issuer's keys.

        Raises:
            Refused: the token is not valid, or the issuer's keys cannot be had (503).
        """
        try:
            key: Any = self._key if self._keys is None else self._keys.find(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["exp", self._user_claim]},
            )
        except jwt.PyJWTError as error:
            raise _invalid(str(error)) from None
        try:
            return Caller(claims[self._user_claim], self._scopes(claims))
        except InvalidArgument as error:
            raise _invalid(str(error)) from None

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[str]:
        said: list[Any] = []
        for claim in ("scope", "scp", "scopes"):
            value = claims.get(claim)
            said += value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
        texts = [name for name in said if isinstance(name, str)]
        return frozenset(self._names[name] for name in texts if name in self._names) or frozenset({"user"})

    def __repr__(self) -> str:
        return f"JwtVerifier(issuer={self._issuer!r}, audience={self._audience!r})"


class Keys:
    """An issuer's public keys, read when they are wanted and not too often. Called in any thread."""

    def __init__(self, url: str, timeout: float) -> None:
        self._client = PyJWKClient(url, cache_jwk_set=False, cache_keys=False, timeout=timeout)
        self._mutex = threading.Lock()
        self._known: dict[str | None, PyJWK] = {}
        self._read_at = self._tried_at = float("-inf")

    def find(self, kid: str | None) -> PyJWK:
        """The key of this id; without one, the only one there is.

        Raises:
            Refused: there is none, or the keys cannot be had.
        """
        found = self._choose(kid)
        # Whoever has a key does not wait for another one's attempt to read them anew.
        if (found is None or self._age() > FRESH) and self._mutex.acquire(blocking=found is None):
            try:
                self._read()
            finally:
                self._mutex.release()
            found = self._choose(kid)
        if self._age() > STALE:
            raise Refused(503, "keys_unreachable", "the keys of the issuer cannot be had", {"Retry-After": "10"})
        if found is None:
            raise _invalid("the token was signed with a key that its issuer does not publish")
        return found

    def _age(self) -> float:
        return time.monotonic() - self._read_at

    def _choose(self, kid: str | None) -> PyJWK | None:
        if kid is None:
            return next(iter(self._known.values())) if len(self._known) == 1 else None
        return self._known.get(kid)

    def _read(self) -> None:
        now = time.monotonic()
        if now - self._tried_at < PAUSE:
            return
        self._tried_at = now
        try:
            published: PyJWKSet = self._client.get_jwk_set(refresh=True)
        except jwt.PyJWTError:
            return
        self._known = {key.key_id: key for key in published.keys if key.public_key_use in ("sig", None)}
        self._read_at = now


def _invalid(why: str) -> Refused:
    challenge = 'Bearer realm="recollect", error="invalid_token"'
    return Refused(401, "unauthorized", f"the token is not valid: {why}", {"WWW-Authenticate": challenge})
