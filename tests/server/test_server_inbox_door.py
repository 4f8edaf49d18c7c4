"""The way into the inbox: a token becomes a cookie, and no page of another website rides on it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from server_kit import CALLERS, OWN, Served, browser, serving, signed_in
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from recollect import Agent, EchoModel, SqliteDb
from recollect.server import Caller, JwtVerifier, Limits, create_app
from recollect.server.inbox import signing
from recollect.server.inbox.desk import ATTEMPTS
from recollect.server.inbox.door import own_address
from recollect.server.inbox.page import FILES, SAFE, address_of

CROSS = [
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Referer": "https://evil.example/"},
    {},
]
"""What a browser sends along with a form of another website; the last two tell nothing of where it comes from."""


def desk() -> Agent:
    return Agent(EchoModel(), id="desk", db=SqliteDb())


@pytest.fixture
def served() -> Iterator[Served]:
    agent = desk()
    agent.run("Secret plan", session_id="s", user_id="alice", run_id="r")
    with serving(create_app([agent], auth=CALLERS, limits=Limits(guesses=0.001))) as running:
        yield running


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address(served: Served) -> None:
    with browser(served) as client:
        answer = client.get("/s/a%2Fb?show=all&token=alices-token&q=x%26y")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/s/a%2Fb?show=all&q=x%26y"
        assert answer.headers["cache-control"] == "no-store"
        [(name, cookie)] = SimpleCookie(answer.headers["set-cookie"]).items()
        assert (name, cookie.value) == (f"recollect-{served.port}", "alices-token")
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "lax", "/")
        assert not cookie["secure"], "there is no TLS here"
        assert "Secret plan" in client.get("/").text


def test_a_cookie_opens_the_pages_and_the_api(served: Served) -> None:
    with signed_in(served) as client:
        assert client.get("/s/s").status_code == 200
        assert client.get("/v1/me").json()["user_id"] == "alice"
        assert client.get("/v1/sessions").json()["sessions"][0]["session_id"] == "s"
        assert client.post("/inbox/pin", data={"session_id": "s"}, headers=OWN).status_code == 303
        other = client.get("/v1/me", headers={"Authorization": "Bearer bobs-token"})
        assert other.json()["user_id"] == "bob", "a header says more than a cookie"


@pytest.mark.parametrize("headers", CROSS, ids=str)
@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/inbox/delete", {"session_id": "s"}),
        ("POST", "/inbox/say", {"session_id": "s", "message": "Hi", "runner": "agent:desk"}),
        ("POST", "/agents/desk/runs", {"session_id": "s", "message": "Hi"}),
        ("DELETE", "/v1/sessions/s", None),
        ("DELETE", "/sessions/s", None),
    ],
)
def test_what_another_website_sends_is_refused_and_changes_nothing(
    served: Served, method: str, path: str, fields: Any, headers: dict[str, str]
) -> None:
    with signed_in(served) as client:
        before = client.get("/s/s.json").json()
        answer = client.request(method, path, data=fields, headers=headers)
        assert answer.status_code == 403
        assert client.get("/s/s.json").json() == before


@pytest.mark.parametrize("headers", CROSS, ids=str)
def test_nobody_is_signed_in_or_out_by_another_website(served: Served, headers: dict[str, str]) -> None:
    with browser(served) as client:
        answer = client.post("/sign-in", data={"token": "bobs-token"}, headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    with signed_in(served) as client:
        answer = client.post("/sign-out", headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_where_the_browser_tells_only_the_origin_that_of_the_server_is_let_in(served: Served) -> None:
    with signed_in(served) as client:
        answer = client.post("/inbox/pin", data={"session_id": "s"}, headers={"Origin": served.url})
        assert answer.status_code == 303


def test_whoever_has_no_token_is_asked_for_it_and_comes_to_where_they_wanted(served: Served) -> None:
    with browser(served) as client:
        asked = client.get("/s/a%2Fb?show=all")
        assert asked.status_code == 303
        assert asked.headers["location"] == "/sign-in?next=%2Fs%2Fa%252Fb%3Fshow%3Dall"
        form = client.get(asked.headers["location"])
        assert 'name="next" value="/s/a%2Fb?show=all"' in form.text
        wrong = client.post("/sign-in", data={"token": "guess", "next": "/s/s"}, headers=OWN)
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        assert "This token is not known here." in wrong.text
        right = client.post("/sign-in", data={"token": " alices-token\n", "next": "/s/s"}, headers=OWN)
        assert (right.status_code, right.headers["location"]) == (303, "/s/s")
        assert client.get("/s/s").status_code == 200


def test_a_form_without_a_token_leads_to_the_page_for_it(served: Served) -> None:
    with browser(served) as client:
        answer = client.post("/inbox/delete", data={"session_id": "s"}, headers=OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2F")


def test_a_script_without_a_token_is_told_so_in_json(served: Served) -> None:
    with browser(served) as client:
        for headers in ({"HX-Request": "true"}, {"Accept": "*/*"}):
            answer = client.get("/", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert client.get("/v1/me").json()["code"] == "unauthorized", "the API is no page, whoever looks at it"


def test_whoever_signs_out_has_no_cookie_any_more(served: Served) -> None:
    with signed_in(served) as client:
        answer = client.post("/sign-out", headers=OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        assert client.get("/").headers["location"].startswith("/sign-in")
        assert not client.cookies


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "\\/evil.example/",
    "/\t/evil.example/",
    "\n//evil.example/",
    "http:evil.example",
    "javascript:alert(1)",
    "evil.example",
    " //evil.example",
    "",
]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_nobody_is_sent_on_to_another_website(served: Served, address: str) -> None:
    assert own_address(address) == ""
    with browser(served) as client:
        answer = client.post("/sign-in", data={"token": "alices-token", "next": address}, headers=OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_guesses_are_limited_and_whoever_knows_the_token_is_let_in(served: Served) -> None:
    with browser(served) as client:
        tried = [client.get("/", params={"token": f"guess-{n}"}).status_code for n in range(ATTEMPTS + 1)]
        assert tried == [401] * ATTEMPTS + [429]
        form = client.post("/sign-in", data={"token": "guess"}, headers=OWN)
        assert (form.status_code, "Too fast" in form.text) == (429, True)
        assert int(form.headers["retry-after"]) > 0
        assert client.get("/", params={"token": "alices-token"}).status_code == 303


def test_no_token_is_written_down(served: Served, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    caplog.set_level(logging.DEBUG)
    with browser(served) as client:
        client.get("/", params={"token": "guessed-token"})
        client.get("/s/s", params={"token": "alices-token"})
        client.post("/sign-in", data={"token": "alices-token"}, headers=OWN)
        client.get("/s/s")
    records = [record for record in caplog.records if not record.name.startswith("http")]  # the client's own
    written = "\n".join(map(logging.Formatter().format, records)) + "".join(capfd.readouterr())
    assert "GET /s/s -> 303" in written
    assert "-token" not in written


def test_two_servers_on_one_machine_do_not_share_a_cookie(served: Served) -> None:
    with (
        serving(create_app([desk()], auth={"another-token": Caller("eve")})) as other,
        signed_in(served) as client,
    ):
        client.base_url = httpx2.URL(other.url)
        client.get("/", params={"token": "another-token"})
        assert client.get("/v1/me").json()["user_id"] == "eve"
        client.base_url = httpx2.URL(served.url)
        assert client.get("/v1/me").json()["user_id"] == "alice"


def test_a_token_may_hold_whatever_a_header_can() -> None:
    token = "a\"b;c,d=\\e%41+/'"
    with serving(create_app([desk()], auth={token: Caller("ada")})) as served, signed_in(served, token) as client:
        assert client.get("/v1/me").json()["user_id"] == "ada"


def test_a_signed_token_is_as_good(tmp_path: Any) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    verifier = JwtVerifier(issuer="i", audience="a", key=key.public_key())
    good = jwt.encode({"iss": "i", "aud": "a", "sub": "ada", "exp": 1 << 33}, key, algorithm="RS256")
    old = jwt.encode({"iss": "i", "aud": "a", "sub": "ada", "exp": 1}, key, algorithm="RS256")
    with serving(create_app([desk()], auth=verifier)) as served:
        with signed_in(served, good) as client:
            assert client.get("/v1/me").json()["user_id"] == "ada"
            assert client.get("/").status_code == 200
        with browser(served) as client:
            assert client.get("/", params={"token": old}).status_code == 401
            client.cookies.set(f"recollect-{served.port}", old)
            assert client.get("/").headers["location"].startswith("/sign-in"), "one that has expired is asked for anew"


def _by_own_cookie(request: Request) -> Caller | None:
    user = request.cookies.get("user")
    return Caller(user) if user else None


def _by_token(request: Request) -> Caller | None:
    return Caller("ada") if request.headers.get("authorization") == "Bearer known" else None


def test_a_function_may_go_by_the_token() -> None:
    with serving(create_app([desk()], auth=_by_token)) as served, signed_in(served, "known") as client:
        assert client.get("/v1/me").json()["user_id"] == "ada"
        assert client.post("/inbox/name-all", headers=OWN).status_code == 303
        assert client.post("/inbox/name-all", headers=CROSS[0]).status_code == 403


FOLLOWED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def test_a_link_on_another_website_opens_a_page_where_a_function_goes_by_its_own_cookie() -> None:
    agent = desk()
    agent.run("Hi", session_id="s", user_id="ada")
    with (
        serving(create_app([agent], auth=_by_own_cookie)) as served,
        browser(served, cookies={"user": "ada"}) as client,
    ):
        assert client.get("/s/s", headers=FOLLOWED).status_code == 200
        for other in (
            {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
            {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
            {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        ):
            assert client.get("/s/s", headers=FOLLOWED | other).status_code == 403
        deleting = client.post("/inbox/delete", data={"session_id": "s"}, headers=FOLLOWED)
        assert deleting.status_code == 403
        assert "Not allowed" in deleting.text, "said on a page"
        assert client.get("/s/s").status_code == 200


def test_where_nobody_is_asked_no_sign_in_is_needed() -> None:
    with serving(create_app([desk()], auth=None)) as served, browser(served) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "Sign out" not in page.text
        for headers in (CROSS[0], *CROSS[2:4]):
            refused = client.post("/inbox/name-all", headers=headers)
            assert refused.status_code == 403
        assert client.post("/inbox/name-all", headers={"Origin": served.url}).status_code == 303


def test_no_other_website_may_frame_a_page_and_no_script_runs_but_ours(served: Served) -> None:
    with signed_in(served) as client:
        pages = ["/", "/new", "/s/s", "/s/s.json", "/s/s.md", "/index.json", "/index.md", "/inbox/rows"]
        pages += ["/inbox/unnamed", "/inbox/turns?session_id=s", "/sign-in", "/s/nowhere"]
        pages += [f"/inbox/static/{name}" for name in FILES]
        for path in pages:
            answer = client.get(path)
            assert {name: answer.headers[name] for name in SAFE} == SAFE, path
        policy = SAFE["Content-Security-Policy"]
        for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
            assert rule in policy
        assert "unsafe" not in policy
        for path in ("/", "/s/s", "/sign-in", "/new"):
            text = client.get(path).text
            assert not re.search(r"<script(?![^>]* src=)", text), "no script stands in a page"
            assert not re.search(r"<[^>]*\s(on\w+|style)=", text), "nor does a handler or a style"
            assert not re.search(r'(src|href|action)="(https?:)?//', text), "nothing is loaded from elsewhere"


def test_files_are_kept_by_the_browser_under_an_address_that_changes_with_them(served: Served) -> None:
    with browser(served) as client:
        for name, kind in FILES.items():
            assert re.fullmatch(rf"/inbox/static/{re.escape(name)}\?[0-9a-f]{{8}}", address_of(name))
            for encoding in ("gzip", "identity"):
                answer = client.get(address_of(name), headers={"Accept-Encoding": encoding})
                assert answer.headers["content-type"] == kind
                assert "immutable" in answer.headers["cache-control"]
                assert answer.headers.get("content-encoding", "identity") == encoding
                assert len(answer.content) > 100
        for other in ("page.py", "..%2Fpage.py", "%2e%2e/page.py"):
            assert client.get(f"/inbox/static/{other}", headers={"Accept": "*/*"}).status_code == 401


def test_pages_are_never_kept_and_are_compressed_where_that_is_worth_it(served: Served) -> None:
    with signed_in(served) as client:
        answer = client.get("/")
        assert (answer.headers["cache-control"], answer.headers["content-encoding"]) == ("no-store", "gzip")
        plain = client.get("/", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.text.split("<main")[0] == answer.text.split("<main")[0]


def test_it_may_be_mounted_in_another_application() -> None:
    app = create_app([desk()], auth=CALLERS)
    outer = Starlette(routes=[Mount("/chats", app)], lifespan=lambda _: app.router.lifespan_context(app))
    outer.state.recollect = app.state.recollect
    with serving(outer) as served, browser(served) as client:  # type: ignore[arg-type]
        assert client.get("/chats/").headers["location"] == "/chats/sign-in?next=%2Fchats%2F"
        answer = client.get("/chats/?token=alices-token")
        assert (answer.status_code, answer.headers["location"]) == (303, "/chats/")
        assert SimpleCookie(answer.headers["set-cookie"]).popitem()[1]["path"] == "/chats"
        page = client.get("/chats/")
        assert page.status_code == 200
        addresses = re.findall(r'(?:href|src|action|hx-get|hx-post)="(/[^"]*)"', page.text)
        assert len(addresses) > 10
        assert all(address.startswith("/chats/") for address in addresses)
        for address in addresses:
            if "/static/" in address:
                assert client.get(address).status_code == 200
        done = client.post("/chats/inbox/name-all", headers=OWN)
        assert (done.status_code, done.headers["location"]) == (303, "/chats/")


def test_every_file_of_a_page_is_open(served: Served) -> None:
    served_files = {route.path.rpartition("/")[2] for route in signing.ROUTES if "/static/" in route.path}
    assert served_files == set(FILES)
    with browser(served) as client:
        page = client.get("/sign-in").text
        for address in re.findall(r'(?:href|src)="(/inbox/static/[^"]*)"', page):
            assert client.get(address).status_code == 200
