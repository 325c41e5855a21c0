"""The development issuer: its code flow is real, and its interlocks hold."""

from __future__ import annotations

import ast
import asyncio
import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from hoopfast.config import Config
from hoopfast.control.gate import Gate
from hoopfast.control.keys import KeyCaches
from hoopfast.demo.issuer import PEOPLE, DevelopmentIssuer, RunningIssuer, start
from hoopfast.identity.keyset import discovery_url
from hoopfast.model import Identity

VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
BACK = "http://127.0.0.1:9999/back"
ASKED = {
    "response_type": "code", "client_id": "hoopfast", "redirect_uri": BACK, "code_challenge": CHALLENGE,
    "code_challenge_method": "S256", "state": "s&1", "nonce": "n1", "scope": "openid email",
}


class Store:
    def find_secret(self, digest: bytes) -> None:
        return None

    def touch_secret(self, id: str, at: float) -> None:
        """Never called: there are no secrets."""

    def pin_identity(self, user: str, issuer: str, subject: str) -> bool:
        return True


@pytest.fixture(scope="module")
def issuer() -> Iterator[RunningIssuer]:
    running = start()
    yield running
    running.stop()


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, follow_redirects=False) as client:
        yield client


def identity_of(issuer: RunningIssuer, token: str) -> Identity:
    """Through the whole production path: discovery, key set, gate."""
    async def ask() -> Identity:
        config = Config(identity=(issuer.configuration(),))
        keys = KeyCaches(config)
        try:
            return await Gate(config, Store(), keys).verify_bearer(token)
        finally:
            await keys.close()
    return asyncio.run(ask())


def sign_in(browser: httpx.Client, issuer: RunningIssuer, person: str = "ana") -> str:
    """The code from clicking on a person."""
    answer = browser.post(f"{issuer.url}/authorize", params=ASKED, data={"person": person})
    assert answer.status_code == 303
    target = urlsplit(answer.headers["Location"])
    fields = parse_qs(target.query)
    assert answer.headers["Location"].startswith(BACK + "?")
    assert fields["state"] == ["s&1"]
    assert fields["iss"] == [issuer.url]
    return fields["code"][0]


def redeem(browser: httpx.Client, issuer: RunningIssuer, code: str, **changes: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "client_id": "hoopfast",
            "redirect_uri": BACK, **changes}
    return browser.post(f"{issuer.url}/token", data=form)


@pytest.mark.parametrize("person", PEOPLE)
def test_minted_tokens_pass_the_gate(issuer: RunningIssuer, person: Any) -> None:
    found = identity_of(issuer, issuer.mint(person.login))
    assert (found.user, found.groups, found.issuer) == (f"{person.login}@example.com", person.groups, "demo")


def test_a_browser_that_asks_for_an_icon_has_nothing_to_complain_of(
    issuer: RunningIssuer, browser: httpx.Client
) -> None:
    address = urlsplit(issuer.url)
    assert browser.get(f"{address.scheme}://{address.netloc}/favicon.ico").status_code == 204


def test_code_flow(issuer: RunningIssuer, browser: httpx.Client) -> None:
    page = browser.get(f"{issuer.url}/authorize", params=ASKED)
    assert all(person.name in page.text for person in PEOPLE)
    assert "script" not in page.text
    answer = redeem(browser, issuer, sign_in(browser, issuer, "max"))
    assert answer.headers["Cache-Control"] == "no-store"
    assert identity_of(issuer, answer.json()["id_token"]).groups == ("dba", "engineering")


def test_a_code_works_once_and_for_its_owner(issuer: RunningIssuer, browser: httpx.Client) -> None:
    code = sign_in(browser, issuer)
    assert redeem(browser, issuer, code).status_code == 200
    assert redeem(browser, issuer, code).json() == {"error": "invalid_grant"}
    for changes in ({"code_verifier": "w" * 64}, {"client_id": "other"}, {"redirect_uri": BACK + "/x"}):
        code = sign_in(browser, issuer)
        assert redeem(browser, issuer, code, **changes).json() == {"error": "invalid_grant"}
        assert redeem(browser, issuer, code).status_code == 400, "a wrong guess spends the code"
    assert redeem(browser, issuer, "x", grant_type="password").json() == {"error": "unsupported_grant_type"}


@pytest.mark.parametrize("change", [
    {"redirect_uri": "https://evil.example.com/"}, {"redirect_uri": "http://localhost.evil.example.com/"},
    {"redirect_uri": "javascript:alert(1)"}, {"redirect_uri": BACK + "#x"}, {"redirect_uri": ""},
    {"client_id": "other"}, {"response_type": "token"}, {"code_challenge_method": "plain"}, {"code_challenge": ""},
    {"code_challenge": "ü" * 50},
])  # fmt: skip
def test_bad_authorization_requests(issuer: RunningIssuer, browser: httpx.Client, change: dict[str, str]) -> None:
    for answer in (
        browser.get(f"{issuer.url}/authorize", params=ASKED | change),
        browser.post(f"{issuer.url}/authorize", params=ASKED | change, data={"person": "ana"}),
    ):
        assert answer.status_code == 400
        assert "Location" not in answer.headers


def test_page_does_not_echo_markup(issuer: RunningIssuer, browser: httpx.Client) -> None:
    page = browser.get(f"{issuer.url}/authorize", params=ASKED | {"state": '"><script>alert(1)</script>'})
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_strange_forms(issuer: RunningIssuer, browser: httpx.Client) -> None:
    url = f"{issuer.url}/authorize"
    for body in (b"", b"person=ana&person=max", b"person=eve", b"\xff", b"person=" + b"a" * 100_000):
        assert browser.post(url, params=ASKED, content=body).status_code == 400


def test_other_host_names_are_refused(issuer: RunningIssuer, browser: httpx.Client) -> None:
    answer = browser.get(discovery_url(issuer.url), headers={"Host": "rebound.example.com"})
    assert answer.status_code == 400


def test_codes_expire_and_are_bounded() -> None:
    now = [1000.0]
    issuer = DevelopmentIssuer("http://127.0.0.1:1/run-x", lambda: now[0])
    for _ in range(500):
        issuer._issue_code(PEOPLE[0], ASKED)
    assert len(issuer._codes) == 100
    now[0] += 61
    issuer._issue_code(PEOPLE[0], ASKED)
    assert len(issuer._codes) == 1


# ---------------------------------------------------------------- interlocks

@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "::1", "localhost", "192.0.2.1"])
def test_binds_loopback_only(host: str) -> None:
    with pytest.raises(ValueError):
        start(host=host)


def test_name_must_be_loopback() -> None:
    with pytest.raises(ValueError):
        DevelopmentIssuer("https://issuer.example.com")


def test_each_run_has_a_name_and_a_key_of_its_own(issuer: RunningIssuer) -> None:
    other = start()
    try:
        assert urlsplit(other.url).path != urlsplit(issuer.url).path
        assert other.mint("ana").split(".")[0] != issuer.mint("ana").split(".")[0]
    finally:
        other.stop()
        other.stop()
    with pytest.raises(httpx.ConnectError), httpx.Client(trust_env=False) as client:
        client.get(discovery_url(other.url))


def test_configuration_is_marked_as_development(issuer: RunningIssuer) -> None:
    assert issuer.configuration().development


def test_tokens_end(issuer: RunningIssuer) -> None:
    with pytest.raises(Exception, match="expired"):
        identity_of(issuer, issuer.mint("ana", ttl=-60))


def test_nothing_but_the_demo_and_the_command_line_imports_it() -> None:
    package = Path(__file__).resolve().parents[2] / "hoopfast"
    importers = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
            if any(name.startswith("hoopfast.demo") for name in names):
                importers.add(path.relative_to(package).parts[0])
    assert importers <= {"demo", "cli"}
