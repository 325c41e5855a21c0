"""A held statement: seen, approved, rejected, expired, withdrawn; by the right people only, once, and on the record."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest

from tests.gateway.conftest import SHOP_POLICY, connections
from tests.support import wire
from tests.support.gateway import Gateway, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, clean_environment
from tests.support.terminal import Terminal

SECRET = "webhook secret of the test"
Hold = Callable[..., "Future[Any]"]


class Receiver:
    """An HTTP server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posts.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    running.thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str, receiver: Receiver) -> Iterator[Gateway]:
    config = {"approvals": {"webhooks": [{"url": receiver.url, "secret": "env:TEST_WEBHOOK_SECRET"}]}}
    environment = {"TEST_WEBHOOK_SECRET": SECRET}
    upstreams = connections(postgres, shop)
    with Gateway(issuer, upstreams, policy=SHOP_POLICY, config=config, environment=environment) as running:
        yield running


@pytest.fixture
def hold(gateway: Gateway) -> Iterator[Hold]:
    """Run a statement in a thread, as alice unless told; the future has its command tag and the notices."""
    opened: list[int] = []
    with ThreadPoolExecutor(8) as pool:

        def run(statement: str, *parameters: Any, person: str = "alice") -> tuple[str | None, list[str]]:
            notices: list[str] = []
            with gateway.connect("shop", person) as db:
                opened.append(db.fileno())
                db.add_notice_handler(lambda d: notices.append(f"{d.message_primary} {d.message_hint or ''}"))
                done = db.execute(statement, parameters or None)
                assert db.execute("SELECT 1").fetchone() == (1,)
                return done.statusmessage, notices

        futures: list[Future[Any]] = []

        def submit(statement: str, *parameters: Any, **options: Any) -> Future[Any]:
            futures.append(pool.submit(run, statement, *parameters, **options))
            return futures[-1]

        yield submit
        # A statement that is still held would block the end of the test for ever.
        for descriptor, future in zip(opened, futures, strict=False):
            if not future.done():
                with socket.socket(fileno=os.dup(descriptor)) as raw:
                    raw.shutdown(socket.SHUT_RDWR)


def table(gateway: Gateway, name: str) -> str:
    with gateway.connect("shop") as db:
        db.execute(f"CREATE TABLE {name} (id int)")
    return name


def exists(postgres: PostgresServer, shop: str, name: str) -> bool:
    with postgres.connect(shop) as db:
        return bool(db.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone() == (True,))


def test_approved(gateway: Gateway, hold: Hold, postgres: PostgresServer, shop: str) -> None:
    name, began = table(gateway, "held_1"), postgres.log.stat().st_size
    future = hold(f"DROP TABLE {name}")
    row = gateway.wait_approval(name)
    assert row["requester"] == "alice@example.com" and row["rule"] == "destructive"
    assert exists(postgres, shop, name) and not future.done()
    assert f"DROP TABLE {name}" not in postgres.log_text(began), "nothing reaches the server before the approval"
    gateway.decide(row["id"], "approve", "bob", "fine").raise_for_status()
    tag, notices = future.result(20)
    assert tag == "DROP TABLE"
    assert any(row["id"] in notice for notice in notices), notices
    assert not exists(postgres, shop, name)
    again = gateway.decide(row["id"], "approve", "bob")
    assert again.status_code == 409, "an approval is good for once"


def test_rejected(gateway: Gateway, hold: Hold, postgres: PostgresServer, shop: str) -> None:
    name = table(gateway, "held_2")
    future = hold(f"DROP TABLE {name}")
    row = gateway.wait_approval(name)
    gateway.decide(row["id"], "reject", "bob", "we still need it").raise_for_status()
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="we still need it"):
        future.result(20)
    assert exists(postgres, shop, name)


def test_expired(gateway: Gateway, hold: Hold) -> None:
    future = hold("UPDATE orders SET item = 'expired'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="nobody approved"):
        future.result(20)
    with gateway.connect("shop") as db:
        assert db.execute("SELECT count(*) FROM orders WHERE item = 'expired'").fetchone() == (0,)


def test_who_may_not_decide(gateway: Gateway, hold: Hold) -> None:
    name = table(gateway, "held_3")
    future = hold(f"DROP TABLE {name}", person="bob")
    row = gateway.wait_approval(name)
    assert gateway.decide(row["id"], "approve", "bob").status_code == 403, "the requester"
    assert gateway.decide(row["id"], "approve", "alice").status_code == 403, "no approver"
    assert gateway.decide(row["id"], "approve", "mallory").status_code in {401, 403}
    with gateway.admin("not a token") as api:
        assert api.post(f"/approvals/{row['id']}/approve", json={}).status_code == 401
    with gateway.admin(gateway.issuer.forged("carol")["expired"]) as api:
        assert api.post(f"/approvals/{row['id']}/approve", json={}).status_code == 401
    assert gateway.decide("apr_nothing0", "approve", "carol").status_code == 404
    made = gateway.cli("secret", "create", "--user", "max@example.com", "--group", "dba", "--ttl", "1h").stdout.strip()
    with gateway.admin(made) as api:
        assert row["id"] in api.get("/approvals").raise_for_status().text, "a secret may read"
        refused = api.post(f"/approvals/{row['id']}/approve", json={})
        assert refused.status_code == 403 and "your own sign-in" in refused.text
    assert not future.done()
    gateway.decide(row["id"], "reject", "carol", "no").raise_for_status()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        future.result(20)


def test_command_line(gateway: Gateway, hold: Hold) -> None:
    name = table(gateway, "held_4")
    future = hold(f"DROP TABLE {name}")
    row = gateway.wait_approval(name)
    assert row["id"] in gateway.cli("approvals", "list", "-c", str(gateway.config_file)).stdout
    shown = gateway.cli("approvals", "show", row["id"], "-c", str(gateway.config_file)).stdout
    assert f"DROP TABLE {name}" in shown and "alice@example.com" in shown
    gateway.cli("approvals", "approve", row["id"], "-c", str(gateway.config_file))
    assert future.result(20)[0] == "DROP TABLE"


def test_parameters_are_part_of_what_is_approved(gateway: Gateway, hold: Hold) -> None:
    future = hold("UPDATE orders SET item = %s", "with a parameter")
    row = gateway.wait_approval("UPDATE orders SET item = $1")
    assert "with a parameter" in json.dumps(row["parameters"])
    gateway.decide(row["id"], "approve", "bob").raise_for_status()
    assert future.result(20)[0] == "UPDATE 100"


def test_in_a_transaction_and_a_pipeline(gateway: Gateway) -> None:
    name = table(gateway, "held_5")
    with wire.WireClient(gateway.port, timeout=20) as client:
        client.login("alice", "shop", gateway.token())
        client.query("BEGIN")
        client.send(
            wire.parse("SELECT 1"), wire.bind(), wire.execute(), wire.parse(f"DROP TABLE {name}"), wire.bind(),
            wire.execute(), wire.parse("SELECT 2"), wire.bind(), wire.execute(), wire.SYNC, wire.query("SELECT 3"),
        )
        row = gateway.wait_approval(name)
        gateway.decide(row["id"], "approve", "bob").raise_for_status()
        frames = client.frames_until("Z")
        assert wire.rows(frames) == [[b"1"], [b"2"]] and client.status == "T"
        assert wire.rows(client.frames_until("Z")) == [[b"3"]]
        client.query("ROLLBACK")


def test_ctrl_c_withdraws(gateway: Gateway, postgres: PostgresServer, shop: str) -> None:
    name = table(gateway, "held_6")
    command = [postgres.bin / "psql", "-X", "-At", "-n", gateway.dsn("shop")]
    with Terminal(command, clean_environment()) as terminal:
        terminal.type(f"DROP TABLE {name};\n")
        row = gateway.wait_approval(name)
        terminal.wait_for(row["id"])
        terminal.ctrl_c()
        terminal.wait_for("ERROR")
        terminal.type("SELECT 'still' || ' here';\n")
        terminal.wait_for("still here")
    wait_until(lambda: not [r for r in gateway.approvals() if r["id"] == row["id"]], "the request is withdrawn")
    assert gateway.decide(row["id"], "approve", "bob").status_code == 409
    assert exists(postgres, shop, name)


def test_leaving_withdraws(gateway: Gateway, postgres: PostgresServer, shop: str) -> None:
    name = table(gateway, "held_7")
    with wire.WireClient(gateway.port) as client:
        client.login("alice", "shop", gateway.token())
        client.send(wire.query(f"DROP TABLE {name}"))
        row = gateway.wait_approval(name)
    wait_until(lambda: not [r for r in gateway.approvals() if r["id"] == row["id"]], "the request is withdrawn")
    assert exists(postgres, shop, name)


def test_waiting_delays_nobody(gateway: Gateway, hold: Hold) -> None:
    name = table(gateway, "held_8")
    future = hold(f"DROP TABLE {name}")
    row = gateway.wait_approval(name)
    began = time.monotonic()
    with gateway.connect("shop") as db:
        for _ in range(100):
            db.execute("SELECT 1")
    assert time.monotonic() - began < 3
    gateway.decide(row["id"], "reject", "bob", "no").raise_for_status()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        future.result(20)


def test_the_webhook_is_signed(gateway: Gateway, hold: Hold, receiver: Receiver) -> None:
    name = table(gateway, "held_9")
    future = hold(f"DROP TABLE {name}")
    row = gateway.wait_approval(name)
    headers, body = wait_until(
        lambda: next((post for post in receiver.posts if name.encode() in post[1]), None), "the webhook was called"
    )
    assert row["id"].encode() in body
    signatures = [value for key, value in headers.items() if "signature" in key]
    assert signatures, headers
    stamps = [value for key, value in headers.items() if "timestamp" in key]
    signed = [body, *(f"{stamp}.".encode() + body for stamp in stamps)]
    digests = [hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest() for text in signed]
    assert any(digest in signatures[0] for digest in digests)
    gateway.decide(row["id"], "reject", "bob", "no").raise_for_status()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        future.result(20)


def test_denied_by_rule(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="roles are managed elsewhere"):
            db.execute("GRANT SELECT ON orders TO PUBLIC")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="no-grants"):
            db.execute("SELECT 1; ALTER ROLE app CREATEDB; SELECT 2")
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_everything_is_on_the_record(gateway: Gateway) -> None:
    def actions() -> set[str]:
        return {e.get("action", "") for e in gateway.audit_jsonl() if e["event"] == "gateway"}

    wanted = {"approval_requested", "approval_vote", "approval_vote_refused", "approval_withdrawn", "approval_expired"}
    wait_until(lambda: wanted <= actions(), f"{wanted} in the audit trail")
