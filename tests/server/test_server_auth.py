"""Who may come in, how much they may ask for, and that no secret is written down."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm
from server_kit import CALLERS, BrokenModel, Served, said, serving
from starlette.requests import Request

from recollect import Agent, EchoModel, InvalidArgument, SqliteDb
from recollect.server import Caller, JwtVerifier, Limits, create_app
from recollect.server.auth import LOOPBACK, Everybody, Tokens
from recollect.server.limits import KNOWN, Buckets
from recollect.server.problem import Refused
from recollect.server.verifier import FRESH, PAUSE, STALE

ISSUER, AUDIENCE = "https://issuer.example", "recollect"


def desk(**options: Any) -> Agent:
    return Agent(EchoModel(), id="desk", db=SqliteDb(), **options)


@pytest.fixture(scope="module")
def keys() -> dict[str, rsa.RSAPrivateKey]:
    return {kid: rsa.generate_private_key(public_exponent=65537, key_size=2048) for kid in ("one", "two")}


class Issuer:
    """Publishes keys over HTTP, counts who asks, and may be away."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.asked = 0
        self.is_away = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(500 if issuer.is_away else 200)
                self.end_headers()
                self.wfile.write(json.dumps({"keys": issuer.published}).encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, **keys: rsa.RSAPrivateKey) -> None:
        self.published = [
            json.loads(RSAAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"} for kid, key in keys.items()
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer(keys: dict[str, rsa.RSAPrivateKey]) -> Iterator[Issuer]:
    running = Issuer()
    running.publish(one=keys["one"])
    yield running
    running.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the verifier's clock forward."""
    ahead = 0.0

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + ahead

    def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr("recollect.server.verifier.time", Clock)
    return forward


def token(key: Any, kid: str | None = "one", algorithm: str = "RS256", **claims: Any) -> str:
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 60} | claims
    wanted = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(wanted, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


def verifier(issuer: Issuer, **options: Any) -> JwtVerifier:
    return JwtVerifier(**({"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": issuer.url} | options))


def test_a_valid_token_says_who_it_is_about_and_what_they_may(issuer: Issuer, keys: dict[str, Any]) -> None:
    checks = verifier(issuer, scope_names={"desk": "support"})
    assert checks.caller(token(keys["one"])) == Caller("ada")
    assert checks.caller(token(keys["one"], scope="openid admin")) == Caller("ada", frozenset({"admin"}))
    assert checks.caller(token(keys["one"], scp=["desk", "user"])).scopes == {"support", "user"}
    assert checks.caller(token(keys["one"], kid=None)) == Caller("ada")
    assert issuer.asked == 1


WRONG: dict[str, Callable[[dict[str, Any]], str]] = {
    "expired": lambda keys: token(keys["one"], exp=int(time.time()) - 60),
    "not yet": lambda keys: token(keys["one"], nbf=int(time.time()) + 60),
    "without an end": lambda keys: token(keys["one"], exp=None),
    "without a user": lambda keys: token(keys["one"], sub=None),
    "of another issuer": lambda keys: token(keys["one"], iss="https://other.example"),
    "for another audience": lambda keys: token(keys["one"], aud="another"),
    "signed by somebody else": lambda keys: token(keys["two"]),
    "by a key that is not published": lambda keys: token(keys["two"], kid="two"),
    "with another algorithm": lambda keys: token(keys["one"], algorithm="RS512"),
    "not signed": lambda _: token(None, algorithm="none"),
    "signed with the public key as a secret": lambda keys: forged(keys["one"]),
    "no token at all": lambda _: "nothing",
    "for a user that is none": lambda keys: token(keys["one"], sub="a\x00b"),
}


def forged(key: rsa.RSAPrivateKey) -> str:
    """A token whose algorithm was swapped, so that the public key is its secret."""
    import base64
    import hashlib
    import hmac

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 60}
    signed = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(claims)}"
    secret = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


@pytest.mark.parametrize("what", WRONG)
def test_a_token_that_is_not_valid_is_refused(issuer: Issuer, keys: dict[str, Any], what: str) -> None:
    with pytest.raises(Refused) as caught:
        verifier(issuer).caller(WRONG[what](keys))
    assert (caught.value.status_code, caught.value.code) == (401, "unauthorized")
    assert 'error="invalid_token"' in dict(caught.value.headers or {})["WWW-Authenticate"]


def test_clocks_may_differ_a_little(issuer: Issuer, keys: dict[str, Any]) -> None:
    late = token(keys["one"], exp=int(time.time()) - 10)
    assert verifier(issuer, leeway=30).caller(late) == Caller("ada")
    with pytest.raises(Refused):
        verifier(issuer, leeway=5).caller(late)


def test_new_keys_are_read_when_they_are_wanted_and_not_too_often(
    issuer: Issuer, keys: dict[str, Any], clock: Callable[[float], None]
) -> None:
    checks = verifier(issuer)
    assert checks.caller(token(keys["one"])) == Caller("ada")
    issuer.publish(two=keys["two"])
    for number in range(20):
        with pytest.raises(Refused):
            checks.caller(token(keys["two"], kid=f"made up {number}"))
    assert issuer.asked == 1, "made-up ids do not flood the issuer"
    clock(PAUSE + 1)
    assert checks.caller(token(keys["two"], kid="two")) == Caller("ada")
    with pytest.raises(Refused, match="does not publish"):
        checks.caller(token(keys["one"]))
    assert issuer.asked == 2


def test_keys_outlast_an_issuer_that_is_away_but_not_for_ever(
    issuer: Issuer, keys: dict[str, Any], clock: Callable[[float], None]
) -> None:
    checks = verifier(issuer)
    checks.caller(token(keys["one"]))
    issuer.is_away = True
    clock(FRESH + 1)
    assert checks.caller(token(keys["one"])) == Caller("ada")
    assert issuer.asked == 2
    clock(STALE)
    with pytest.raises(Refused) as caught:
        checks.caller(token(keys["one"]))
    assert caught.value.status_code == 503
    issuer.is_away = False
    clock(PAUSE + 1)
    assert checks.caller(token(keys["one"])) == Caller("ada")


def test_one_key_may_be_given_in_place_of_an_address() -> None:
    secret = "a secret that is long enough for this algorithm"
    checks = JwtVerifier(issuer=ISSUER, audience=AUDIENCE, key=secret, algorithms=["HS256"])
    assert checks.caller(token(secret, algorithm="HS256")) == Caller("ada")
    assert secret not in repr(checks)


@pytest.mark.parametrize(
    "options",
    [
        {"jwks_url": None},
        {"key": "both"},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"key": "k", "jwks_url": None, "algorithms": ["HS256", "RS256"]},
        {"scope_names": {"x": "root"}},
    ],
)
def test_a_verifier_that_could_be_deceived_is_not_made(options: dict[str, Any]) -> None:
    given = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": "http://127.0.0.1:1/keys"}
    with pytest.raises(InvalidArgument):
        JwtVerifier(**(given | options))


def test_a_server_asks_a_verifier(issuer: Issuer, keys: dict[str, Any]) -> None:
    with serving(create_app([desk()], auth=verifier(issuer))) as served:
        with served.client(token(keys["one"], scope="support")) as ada:
            assert ada.get("/v1/me").json() == {"user_id": "ada", "scopes": ["support"]}
        with served.client(token(keys["two"])) as stranger:
            refused = stranger.get("/v1/me")
    assert refused.status_code == 401
    assert refused.json()["detail"].startswith("the token is not valid")


def _by_cookie(request: Request) -> Caller | None:
    user = request.cookies.get("user")
    return Caller(user) if user else None


async def _by_cookie_later(request: Request) -> tuple[str, set[str]] | None:
    user = request.cookies.get("user")
    return (user, {"user", "support"}) if user else None


@pytest.mark.parametrize(("auth", "scopes"), [(_by_cookie, ["user"]), (_by_cookie_later, ["support", "user"])])
def test_a_server_asks_a_function(auth: Any, scopes: list[str]) -> None:
    with serving(create_app([desk()], auth=auth)) as served:
        with served.client(None, cookies={"user": "ada"}) as ada:
            assert ada.get("/v1/me").json() == {"user_id": "ada", "scopes": scopes}
        with served.client("whatever") as nobody:
            assert nobody.get("/v1/me").status_code == 401


def test_a_page_of_a_foreign_website_cannot_ride_on_a_cookie() -> None:
    form = {"message": "Hi", "stream": "false"}
    with (
        serving(create_app([desk()], auth=_by_cookie)) as served,
        served.client(None, cookies={"user": "ada"}) as browser,
    ):
        for origin in ("https://evil.example", "null"):
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            refused = browser.post("/agents/desk/runs", data=form, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert browser.get("/v1/export", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert browser.get("/sessions").json()["data"] == [], "nothing was begun"
        for headers in (
            {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "https://own.example", "Sec-Fetch-Site": "same-origin"},
            {},
        ):
            assert browser.post("/agents/desk/runs", data=form, headers=headers).status_code == 200


@pytest.mark.parametrize("named", [("", {"user"}), ("ada", {"root"}), (None, {"user"}), ("ada",) * 3, 7])
def test_a_function_that_names_nobody_has_failed_and_lets_nobody_in(named: Any) -> None:
    with serving(create_app([desk()], auth=lambda _: named)) as served, served.client() as client:
        answer = client.get("/v1/me")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")


def test_a_function_that_fails_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    def auth(request: Request) -> Caller:
        msg = "the directory is away"
        raise RuntimeError(msg)

    with serving(create_app([desk()], auth=auth)) as served, served.client() as client:
        answer = client.get("/v1/me", headers={"Origin": "http://localhost:3000"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "directory" not in answer.text
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "the directory is away" in caplog.text


@pytest.mark.parametrize("auth", [{}, {"": "ada"}, {"a b": "ada"}, {"t": 7}, "token", 7, {"t": ""}])
def test_auth_that_is_none_is_refused(auth: Any) -> None:
    with pytest.raises(InvalidArgument):
        create_app([desk()], auth=auth)


def test_whether_a_server_is_open_must_be_said() -> None:
    with pytest.raises(TypeError, match="auth"):
        create_app([desk()])  # type: ignore[call-arg]


@pytest.mark.parametrize("caller", [("ada", {"root"}), ("ada", set()), (None, {"user"}), ("", {"admin"})])
def test_a_caller_that_could_not_be_scoped_is_not_made(caller: Any) -> None:
    with pytest.raises(InvalidArgument):
        Caller(*caller)


def test_scopes_add_up() -> None:
    both = Caller("sam", {"user", "support"})  # type: ignore[arg-type]
    assert (both.reads_as(None), both.writes_as(None)) == (None, "sam")
    assert both.reads_as("ada") == "ada"
    with pytest.raises(Refused, match="another user"):
        both.writes_as("ada")


def test_everybody_is_trusted_where_nobody_is_asked_but_no_page_of_a_foreign_website() -> None:
    with serving(create_app([desk()], auth=None)) as served, served.client(None) as client:
        assert client.get("/v1/me").json() == {"user_id": None, "scopes": ["admin"]}
        for origin in ("http://localhost:3000", served.url):
            assert client.get("/v1/me", headers={"Origin": origin}).status_code == 200
        for origin in ("https://evil.example", "null"):
            answer = client.post("/agents/desk/runs", data={"message": "Hi"}, headers={"Origin": origin})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert client.get("/sessions").json()["data"] == []


def test_a_server_of_this_machine_is_not_reached_by_another_name() -> None:
    with serving(create_app([desk()], auth=Everybody((), LOOPBACK))) as served, served.client(None) as client:
        assert client.get("/v1/me").status_code == 200
        assert client.get("/v1/me", headers={"Host": "rebound.example"}).status_code == 403


def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("recollect.server.auth.hmac.compare_digest", compare)
    tokens = Tokens({f"token-{number}": f"user-{number}" for number in range(5)})
    with serving(create_app([desk()], auth=CALLERS)) as served, served.client("bobs-token") as bob:
        assert bob.get("/v1/me").json()["user_id"] == "bob"
    assert len(compared) == len(CALLERS), "whichever it is, all are compared"
    assert "token-1" not in repr(tokens)


def test_a_token_in_an_address_opens_nothing(served_alone: Served) -> None:
    with served_alone.client(None) as client:
        for name in ("token", "access_token", "authorization"):
            assert client.get("/v1/me", params={name: "alices-token"}).status_code == 401
        for header in ("Basic alices-token", "alices-token", "Bearer", "Bearer alices-token x"):
            assert client.get("/v1/me", headers={"Authorization": header}).status_code == 401
        assert client.get("/v1/me", headers={"Authorization": "bearer alices-token"}).status_code == 200


@pytest.fixture
def served_alone() -> Iterator[Served]:
    agent = Agent(EchoModel(), id="desk", db=SqliteDb())
    broken = Agent(BrokenModel(RuntimeError("a secret-in-an-error")), id="broken", db=agent.db)
    limits = Limits(body=2000, page=7, rate=1000, burst=1000)
    with serving(create_app([agent, broken], auth=CALLERS, limits=limits)) as running:
        yield running


def test_no_secret_is_written_down(served_alone: Served, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    caplog.set_level(logging.INFO)
    with served_alone.client("alice") as alice, served_alone.client("guessed-token") as stranger:
        said(alice, "what is said is private")
        alice.get("/sessions", params={"token": "alices-token", "session_name": "private"})
        alice.get("/v1/sessions/a%0Ab")
        stranger.get("/agents", params={"access_token": "guessed-token"})
        alice.post("/agents/broken/runs", data={"message": "what is said is private"})
    records = [record for record in caplog.records if not record.name.startswith("http")]  # the client's own
    written = "\n".join(map(logging.Formatter().format, records)) + "".join(capfd.readouterr())
    assert "GET /sessions -> 200" in written
    assert "GET /agents -> 401" in written
    assert "/v1/sessions/a%0Ab" in written, "nobody adds lines to the log"
    for secret in ("alices-token", "guessed-token", "private"):
        assert secret not in written


def test_a_body_that_is_too_long_is_refused_whatever_it_says_of_its_length(served_alone: Served) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    with served_alone.client("alice") as alice:
        announced = alice.post("/agents/desk/runs", data={"message": "x" * 3000})
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        streamed = alice.post("/agents/desk/runs", content=endless(), headers=form)
        for answer in (announced, streamed):
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert alice.get("/sessions").json()["data"] == []
    with served_alone.client(None) as nobody:
        assert nobody.post("/agents/desk/runs", data={"message": "x" * 3000}).status_code == 401


def test_a_page_has_a_bound(served_alone: Served) -> None:
    with served_alone.client("alice") as alice:
        assert alice.get("/sessions", params={"limit": 7}).status_code == 200
        for url in ("/sessions", "/v1/sessions"):
            answer = alice.get(url, params={"limit": 8})
            assert (answer.status_code, answer.json()["detail"]) == (422, "limit: at most 7 may be asked for, not 8")
        document = alice.get("/openapi.json").json()
    parameters = document["paths"]["/sessions"]["get"]["parameters"]
    assert next(one for one in parameters if one["name"] == "limit")["schema"]["anyOf"][0]["maximum"] == 7


def test_whoever_asks_too_often_is_told_when_to_come_again() -> None:
    limits = Limits(rate=0.01, burst=3, guesses=0.01)  # so that nothing comes back while a busy machine asks
    with serving(create_app([desk()], auth=CALLERS, limits=limits)) as served:
        alice, bob, stranger = (served.client(who) for who in ("alice", "bob", "a guess"))
        with alice, bob, stranger:
            assert [alice.get("/v1/me").status_code for _ in range(4)] == [200, 200, 200, 429]
            refused = alice.get("/agents", headers={"Origin": "http://localhost:3000"})
            assert refused.json()["code"] == "rate_limited"
            assert 50 <= int(refused.headers["retry-after"]) <= 100
            assert refused.headers["access-control-allow-origin"] == "http://localhost:3000"
            assert bob.get("/v1/me").status_code == 200, "each has a bucket"
            assert alice.get("/health").status_code == 200
            guesses = [stranger.get("/v1/me").status_code for _ in range(110)]
            assert guesses[:100] == [401] * 100
            assert guesses[-1] == 429
            assert bob.get("/v1/me").status_code == 200, "who guesses locks out nobody"


def test_buckets_fill_steadily_and_are_bounded() -> None:
    now = 0.0
    buckets = Buckets(2.0, 2, lambda: now)
    for _ in range(2):
        buckets.take("a")
    with pytest.raises(Refused) as caught:
        buckets.take("a")
    assert dict(caught.value.headers or {}) == {"Retry-After": "1"}
    now = 0.5
    buckets.take("a")
    with pytest.raises(Refused):
        buckets.take("a")
    for number in range(2 * KNOWN):
        buckets.take(number)
    assert len(buckets._left) == KNOWN


@pytest.mark.parametrize("limits", [{"body": 0}, {"page": 1001}, {"rate": -1}, {"patience": 0}, {"burst": "many"}])
def test_limits_that_are_none_are_refused(limits: Any) -> None:
    with pytest.raises(InvalidArgument):
        Limits(**limits)
