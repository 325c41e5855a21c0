"""`hoopfast login` against a real gateway: a person signs in on its page, and an unchanged psql just works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from tests.support.gateway import HOOPFAST, Gateway, wait_until
from tests.support.postgres import PostgresServer, clean_environment

# What stands in for the person's browser: it writes down the address that it was asked to open.
BROWSER = "#!/bin/sh\nprintf '%s' \"$1\" > \"$HOME/opened\"\n"


class Terminal:
    """A home directory of somebody's, and `hoopfast` run in it."""

    def __init__(self, home: Path, gateway: Gateway, postgres: PostgresServer) -> None:
        self.home = home
        self.gateway = gateway
        self._bin = postgres.bin
        browser = home / "browser"
        browser.write_text(BROWSER)
        browser.chmod(0o755)
        self.environment = clean_environment(
            HOME=str(home), BROWSER=str(browser), USER="bob", PYTHONPATH=str(Path(__file__).parents[2]))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*HOOPFAST, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.home,
            env=self.environment, stdin=subprocess.DEVNULL,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def psql(self, conninfo: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._bin / "psql", "-XAtw", conninfo, "-c", "SELECT 'in ' || current_database()"], capture_output=True,
            text=True, timeout=60, cwd=self.home, env=self.environment,
        )

    def opened(self) -> str:
        path = self.home / "opened"
        address: str = wait_until(lambda: path.exists() and path.read_text(), "the browser was asked to open a page")
        path.unlink()
        return address


@pytest.fixture
def terminal(tmp_path: Path, gateway: Gateway, postgres: PostgresServer) -> Terminal:
    return Terminal(tmp_path, gateway, postgres)


@pytest.fixture
def page(gateway: Gateway) -> Iterator[Callable[[str], httpx.Client]]:
    """A signed-in browser, as far as HTTP goes."""
    made: list[httpx.Client] = []

    def sign_in(credential: str) -> httpx.Client:
        origin = gateway.admin_url
        client = httpx.Client(
            base_url=origin, headers={"Origin": origin}, trust_env=False, verify=False, timeout=30,
        )
        made.append(client)
        done = client.post("/signin", data={"credential": credential, "next": "/me"})
        assert done.status_code == 303, done.text
        return client

    yield sign_in
    for client in made:
        client.close()


def hidden_fields(html: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="([a-z]+)" value="([^"]*)">', html))


def let_in(client: httpx.Client, address: str, decision: str = "allow") -> httpx.Response:
    """What a person does with the page that `hoopfast login` opens."""
    asked = dict(parse_qsl(urlsplit(address).query))
    shown = client.get("/terminal", params=asked)
    assert shown.status_code == 200, shown.text
    assert f"form-action 'self' http://127.0.0.1:{asked['port']};" in shown.headers["Content-Security-Policy"]
    done = client.post("/terminal", data={**hidden_fields(shown.text), "decision": decision})
    assert done.status_code == 303, done.text
    return httpx.get(done.headers["Location"], trust_env=False, verify=False, timeout=30)


def test_signed_in_once_psql_just_works(
    terminal: Terminal, gateway: Gateway, page: Callable[[str], httpx.Client]
) -> None:
    with terminal.start("login", gateway.admin_url, "--ttl", "2h") as login:
        client = page(gateway.token("bob"))
        assert "You are signed in" in let_in(client, terminal.opened()).text
        out, err = login.communicate(timeout=60)
    assert login.returncode == 0, err
    assert "Signed in as bob@example.com" in out
    assert "psql service=shop" in out
    assert terminal.psql("service=plain").stdout == "in postgres\n"
    assert "hfdemo_" not in out + err                               # the secret is in its file, and nowhere else
    secret = terminal.run("token").stdout.strip()
    assert secret.startswith("hfdemo_")
    with gateway.connect("plain", "whoever", password=secret) as db:
        db.execute("SELECT 'hf-marker-signin'")
    assert gateway.wait_audited("hf-marker-signin")[0]["user"] == "bob@example.com"
    by_exec = terminal.run("exec", "--", sys.executable, "-c", "import os; print(os.environ['PGPASSFILE'])")
    assert Path(by_exec.stdout.strip()).read_text().endswith(secret + "\n")

    assert "Signed out" in terminal.run("logout").stdout
    refused = terminal.psql(f"host=127.0.0.1 port={gateway.port} dbname=plain user=bob password={secret}")
    assert "revoked" in refused.stderr
    assert not (terminal.home / ".pg_service.conf").exists()
    assert "not signed in" in terminal.run("token").stderr
    assert secret not in gateway.log_text()


def test_no_is_no(terminal: Terminal, gateway: Gateway, page: Callable[[str], httpx.Client]) -> None:
    with terminal.start("login", gateway.admin_url) as login:
        assert "Nothing was given" in let_in(page(gateway.token("bob")), terminal.opened(), "refuse").text
        _, err = login.communicate(timeout=60)
    assert login.returncode == 1
    assert "turned away" in err
    assert not (terminal.home / ".config").exists()


def test_without_a_browser_letters_are_typed(
    terminal: Terminal, gateway: Gateway, page: Callable[[str], httpx.Client]
) -> None:
    with terminal.start("login", gateway.admin_url, "--no-browser") as login:
        assert login.stderr is not None
        said = login.stderr.readline()
        found = re.search(r"type  ([A-Z]{4}-[A-Z]{4})", said)
        assert found, said
        assert f"{gateway.admin_url}/terminal/code" in said
        client = page(gateway.token("bob"))
        assert "eight letters" in client.get("/terminal/code").text
        assert client.post("/terminal/code", data={"letters": "BBBB-CCCC"}).status_code == 404
        shown = client.post("/terminal/code", data={"letters": found[1].lower()})
        assert f"bob@{os.uname().nodename}" in shown.text
        done = client.post("/terminal/decide", data={**hidden_fields(shown.text), "decision": "allow"})
        assert "is let in" in done.text
        out, err = login.communicate(timeout=60)
    assert login.returncode == 0, err
    assert "psql service=shop" in out
    assert terminal.psql("service=plain").stdout == "in postgres\n"


def test_a_secret_from_the_page(gateway: Gateway, page: Callable[[str], httpx.Client]) -> None:
    client = page(gateway.token("alice"))
    assert client.get("/", follow_redirects=False).headers["Location"] == "/me"     # no role, but a person of ours
    assert client.get("/sessions").status_code == 403
    made = client.post("/me/secrets", data={"label": "DBeaver <b>", "ttl": "1h"})
    found = re.search(r"hfdemo_[0-9A-Za-z]{43}", made.text)
    assert found, made.text
    assert "DBeaver &lt;b&gt;" in made.text
    assert f"jdbc:postgresql://127.0.0.1:{gateway.port}/plain?user=alice%40example.com" in made.text
    with gateway.connect("plain", "alice", password=found[0]) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
        again = client.get("/me").text
        assert found[0] not in again                                # shown once
        name = re.search(r"sec_[0-9a-f]{10}", again)
        assert name
        assert client.post(f"/me/secrets/{name[0]}/revoke").status_code == 303
        with pytest.raises(Exception, match=r"revoked|closed"):
            for _ in range(100):
                db.execute("SELECT pg_sleep(0.05)")
    given = gateway.cli("secret", "create", "--user", "alice@example.com", "--group", "engineering").stdout.strip()
    by_secret = page(given)
    assert "only a sign-in with the identity provider makes a secret" in by_secret.get("/me").text
    assert by_secret.post("/me/secrets", data={"ttl": "1h"}).status_code == 403


def test_other_sites_and_strangers_get_nothing(gateway: Gateway, page: Callable[[str], httpx.Client]) -> None:
    client = page(gateway.token("bob"))
    for path in ("/me/secrets", "/terminal", "/terminal/code", "/terminal/decide"):
        refused = client.post(path, data={"ttl": "1h"}, headers={"Origin": "https://evil.example"})
        assert refused.status_code == 403, path
    with httpx.Client(base_url=gateway.admin_url, trust_env=False, verify=False) as stranger:
        sent_to = stranger.get("/terminal", params={"port": "5000"}).headers["Location"]
        assert sent_to.startswith("/signin?next=%2Fterminal")
        assert stranger.post("/api/v1/login/redeem", json={"code": "x", "verifier": "y"}).status_code == 404
        assert stranger.get("/api/v1/me").status_code == 401
    for port in ("80", "99999", "5000/evil", "5000@evil.example", ""):
        assert client.get("/terminal", params={"port": port, "state": "s"}).status_code == 400, port
