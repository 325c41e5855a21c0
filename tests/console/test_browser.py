"""The console in a real browser: a held statement seen, approved, done and found; signing in with a provider; pages
that fit; and nothing that a client writes becomes a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from hoopfast.demo import issuer as development
from tests.gateway.conftest import SHOP, SHOP_POLICY, connections
from tests.support import browser as browsers
from tests.support.browser import Browser
from tests.support.gateway import Gateway, wait_until
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.skipif(bool(browsers.missing()), reason=browsers.missing() or "there is one")

SCRIPT = '<script>document.title = "owned"</script><img src=x onerror=alert(1)>'
POLICY = SHOP_POLICY | {
    "rules": [rule | ({"expires": "15m"} if rule["action"] == "approve" else {}) for rule in SHOP_POLICY["rules"]]
}
ROLES = {"admin": {"groups": ["hoopfast-admin"], "auditors": ["auditors"], "approvers": ["dba"]}}
Hold = Callable[..., "Future[str | None]"]


class Issuer:
    """The development issuer as tests.support.gateway wants one: ana (engineer), max (dba), ada (admin, auditor)."""

    def __init__(self, running: development.RunningIssuer) -> None:
        self._running = running
        self.url = running.url

    def configuration(self) -> dict[str, Any]:
        settings: dict[str, Any] = msgspec.to_builtins(self._running.configuration("acme"))
        return settings

    def mint(self, person: str) -> str:
        return self._running.mint(person)


@pytest.fixture(scope="module")
def gateway(postgres: PostgresServer) -> Iterator[Gateway]:
    running = development.start()
    try:
        with postgres.database("shop_console", *SHOP) as shop:
            issuer: Any = Issuer(running)
            with Gateway(issuer, connections(postgres, shop), policy=POLICY, config=ROLES) as gateway:
                yield gateway
    finally:
        running.stop()


@pytest.fixture(scope="module")
def shared(gateway: Gateway) -> Iterator[Browser]:
    with Browser(gateway.admin_url) as running:
        yield running


@pytest.fixture
def browser(shared: Browser) -> Browser:
    """Nobody is signed in, and the window is wide."""
    shared.driver.delete_all_cookies()
    shared.resize(1280)
    shared.complaints()
    return shared


@pytest.fixture
def hold(gateway: Gateway) -> Iterator[Hold]:
    """Run a statement in a thread, as ana unless told; the future has its command tag, or its error's text."""
    pool = ThreadPoolExecutor(4)

    def run(statement: str, person: str) -> str | None:
        with gateway.connect("shop", person, application_name=SCRIPT[:60]) as db:
            try:
                return db.execute(statement).statusmessage
            except Exception as failure:
                return str(failure)

    def submit(statement: str, person: str = "ana") -> Future[str | None]:
        return pool.submit(run, statement, person)

    yield submit
    for row in gateway.approvals():                     # nothing stays held, whatever the test has done
        with gateway.admin() as api:
            api.delete(f"/sessions/{row['session']}")
    pool.shutdown()


def sign_in(browser: Browser, gateway: Gateway, person: str) -> None:
    browser.open("/signin")
    browser.driver.execute_script(
        "document.getElementById('credential').value = arguments[0]", gateway.token(person)
    )
    browser.press("Sign in with this")


def sign_in_with_provider(browser: Browser, name: str, start: str = "/") -> None:
    browser.open(start)
    browser.press("Sign in with acme")
    browser.see("Who are you today?")
    browser.press(name)


def test_seen_approved_done_and_found(gateway: Gateway, browser: Browser, hold: Hold) -> None:
    with gateway.connect("shop", "ana") as db:
        db.execute("CREATE TABLE held_console (id int)")
    sign_in(browser, gateway, "max")
    browser.open("/approvals")
    assert "Nothing is waiting" in browser.text

    future = hold(f"DROP TABLE held_console -- {SCRIPT}")
    browser.see("DROP TABLE held_console")              # by itself, without a reload
    assert browser.driver.title.startswith("(1) Approvals")
    approval = gateway.wait_approval("held_console")["id"]
    browser.press(approval)
    browser.see(SCRIPT)                                 # the statement as it is
    browser.see("ana@example.com wants to run this on shop")
    browser.fill("#reason", "the reporting job has moved")
    assert not future.done()
    browser.press("Approve: run it now")
    assert future.result(15) == "DROP TABLE"
    browser.see("the reporting job has moved")
    assert "max@example.com" in browser.text
    assert not browser.all("button[name=decision]")
    browser.open("/approvals")
    browser.see("Nothing is waiting")

    browser.press("Sign out")
    browser.see("Sign in")
    sign_in_with_provider(browser, "Ada Okafor")
    browser.see("Overview")
    gateway.wait_audited("DROP TABLE held_console")
    browser.open("/audit")
    browser.fill("input[name=text]", "held_console drop")
    browser.press("Search")
    browser.wait(lambda: "DROP TABLE held_console" in browser.one("article.event").text, "the statement is found")
    event = browser.one("article.event")
    assert "complete" in event.text
    assert "rule destructive" in event.text
    event.find_element("link text", "session").click()
    browser.see("the reporting job has moved")
    assert browser.complaints() == []


def test_nobody_approves_their_own(gateway: Gateway, browser: Browser, hold: Hold) -> None:
    hold("TRUNCATE scratch", "max")
    approval = gateway.wait_approval("TRUNCATE scratch")["id"]
    sign_in(browser, gateway, "max")
    browser.open(f"/approvals/{approval}")
    assert "TRUNCATE scratch" in browser.text
    assert not browser.all("button[name=decision]")
    assert "somebody else has to" in browser.text


def test_rejecting(gateway: Gateway, browser: Browser, hold: Hold) -> None:
    future = hold("TRUNCATE orders CASCADE")
    approval = gateway.wait_approval("TRUNCATE orders")["id"]
    # The link of the notice, in a browser where nobody is signed in: through the provider, and back to it.
    sign_in_with_provider(browser, "Max Keller", f"/approvals/{approval}")
    browser.see("TRUNCATE orders")
    assert browser.path == f"/approvals/{approval}"
    browser.fill("#reason", "ask Dana first")
    browser.press("Reject")
    assert "ask Dana first" in str(future.result(15))
    browser.see("rejected")


def test_a_session_that_has_ended_leads_to_signing_in(gateway: Gateway, browser: Browser) -> None:
    sign_in(browser, gateway, "max")
    browser.open("/approvals")
    browser.driver.delete_all_cookies()
    browser.see("Paste a token")                        # the live page notices by itself
    assert "next=%2Fapprovals" in browser.path


def test_without_scripts(gateway: Gateway, browser: Browser, hold: Hold) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open("/signin")
        browser.fill("#credential", gateway.token("max"))
        browser.press("Sign in with this")
        future = hold("TRUNCATE scratch")
        approval = gateway.wait_approval("TRUNCATE scratch")["id"]
        browser.open("/")
        browser.press(approval)
        browser.press("Approve: run it now")
        assert future.result(15) == "TRUNCATE TABLE"
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_fits_and_nothing_runs(gateway: Gateway, browser: Browser, hold: Hold, width: int) -> None:
    with gateway.connect("shop", "ana", application_name=SCRIPT) as db:
        db.execute(f"""SELECT '{SCRIPT}' AS "<script>alert(2)</script>", email, ssn, '{"x" * 300}' FROM customers""")
        session = wait_until(lambda: newest(gateway), "the session is listed")
        gateway.wait_audited("alert(2)")
    hold(f"""DELETE FROM scratch /* {SCRIPT} {"y" * 200} */""", "max")
    approval = gateway.wait_approval("DELETE FROM scratch")["id"]
    sign_in(browser, gateway, "ada")
    browser.resize(width)
    for path in (
        "/", "/approvals", f"/approvals/{approval}", "/sessions", f"/sessions/{session}", "/audit", "/audit?event=all",
        f"/audit?text={SCRIPT}", "/policy", "/approvals/nothing", "/approvals?state=expired",
    ):
        browser.open(path)
        assert browser.width_of_page() <= width, path
        assert "owned" not in browser.driver.title, path
        assert not browser.all("img, iframe, object"), path
        assert {script.get_attribute("src") for script in browser.all("script")} <= {f"{browser.base}/console.js"}, path
    complaints = [said for said in browser.complaints() if "/approvals/nothing" not in said]
    assert complaints == []


def test_somebody_without_a_role_makes_a_secret_and_connects(gateway: Gateway, browser: Browser) -> None:
    sign_in_with_provider(browser, "Ana", "/")
    browser.see("Databases you may use")
    browser.fill("input[name=label]", f"psql {SCRIPT}")
    browser.press("Make a secret")
    browser.see("shown this once")
    secret = browser.one("#secret").text
    assert browser.width_of_page() <= 1280
    with gateway.connect("shop", "ana", password=secret) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
    browser.open("/me")
    browser.see(SCRIPT)
    assert secret not in browser.text
    browser.press("Revoke")
    browser.see("None that is still good")
    browser.resize(390)
    assert browser.width_of_page() <= 390
    assert browser.complaints() == []


def newest(gateway: Gateway) -> str | None:
    with gateway.admin() as api:
        found = api.get("/sessions", params={"live": "true"}).json()["sessions"]
    return found[0]["session"] if found else None
