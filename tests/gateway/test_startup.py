"""The first bytes: what a client may send before it has a session, and what it gets for nonsense."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support import wire
from tests.support.deliveries import Delivery, deliveries
from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, free_port

POLICY = {"access": [{"groups": ["engineering"], "connections": ["shop", "gone", "badpassword", "nodatabase"]}]}


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    connections = {
        "shop": upstream_of(postgres, shop),
        "gone": upstream_of(postgres, shop, port=free_port()),
        "badpassword": upstream_of(postgres, shop, password="env:TEST_BAD_PASSWORD"),
        "nodatabase": upstream_of(postgres, "no_such_database"),
        "closed": upstream_of(postgres, shop),
    }
    config = {"listen": {"login_timeout": 3.0}}
    environment = {"TEST_BAD_PASSWORD": "wrong-upstream-password"}
    with Gateway(issuer, connections, policy=POLICY, config=config, environment=environment) as running:
        yield running


def refusal(client: wire.WireClient) -> dict[str, str]:
    """The ErrorResponse that ends the connection."""
    frames = client.frames_until_end()
    found = wire.errors(frames)
    assert found, f"no error before the end, only {frames}"
    assert found[-1]["S"] == "FATAL"
    return found[-1]


def still_works(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


@deliveries
@pytest.mark.parametrize("protocol", [wire.PROTOCOL_3_0, wire.PROTOCOL_3_2])
def test_login_in_pieces(gateway: Gateway, delivery: Delivery, protocol: int) -> None:
    with wire.WireClient(gateway.port) as client:
        client.send_chunks(delivery(wire.startup(protocol, user="alice", database="shop")))
        assert client.read_frame() == ("R", b"\0\0\0\3")
        client.send_chunks(delivery(wire.frame("p", gateway.token().encode() + b"\0")))
        frames = client.frames_until("Z")
        assert frames[0] == ("R", b"\0\0\0\0")
        key = next(f.body for f in frames if f.kind == "K")
        assert len(key) == (8 if protocol == wire.PROTOCOL_3_0 else 36) or protocol == wire.PROTOCOL_3_2
        client.send_chunks(delivery(wire.query("SELECT 5")))
        assert wire.rows(client.frames_until("Z")) == [[b"5"]]


def test_everything_at_once(gateway: Gateway) -> None:
    """A client may send its first queries before it has read the end of the login."""
    with wire.WireClient(gateway.port) as client:
        client.send(wire.startup(user="alice", database="shop"))
        assert client.read_frame().kind == "R"
        password = wire.frame("p", gateway.token().encode() + b"\0")
        client.send(password, wire.query("SELECT 1"), wire.query("SELECT 2"))
        client.frames_until("Z")
        assert wire.rows(client.frames_until("Z")) == [[b"1"]]
        assert wire.rows(client.frames_until("Z")) == [[b"2"]]


def test_newer_minor_is_negotiated(gateway: Gateway) -> None:
    with wire.WireClient(gateway.port) as client:
        client.send(wire.startup(196608 + 99, user="alice", database="shop", **{"_pq_.unheard_of": "1"}))
        answer = client.read_frame()
        assert answer.kind == "v", answer
        assert struct.unpack_from("!I", answer.body)[0] in {2, wire.PROTOCOL_3_2}
        assert b"_pq_.unheard_of" in answer.body
        assert client.read_frame().kind == "R"


def test_gssenc_and_ssl_requests_without_tls(gateway: Gateway) -> None:
    with wire.WireClient(gateway.port) as client:
        client.send(wire.GSSENC_REQUEST)
        assert client.read_byte() == b"N"
        client.send(wire.SSL_REQUEST)
        assert client.read_byte() == b"N"
        client.login("alice", "shop", gateway.token())
        assert wire.rows(client.query("SELECT 1")) == [[b"1"]]


MALFORMED = {
    "length too small": struct.pack("!II", 4, 196608),
    "length huge": struct.pack("!II", 0x7FFFFFFF, 196608),
    "length negative": struct.pack("!iI", -1, 196608),
    "over the limit": struct.pack("!II", 10_001, 196608) + b"x" * 9_993,
    "no terminator": struct.pack("!II", 8 + 10, 196608) + b"user\0alice",
    "odd number of strings": struct.pack("!II", 8 + 6, 196608) + b"user\0\0",
    "no user": wire.startup(database="shop"),
    "protocol 2": struct.pack("!II", 8, 131072),
    "protocol 4": struct.pack("!II", 8, 4 << 16),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls without a request": bytes.fromhex("16030100fa010000f60303") + b"\0" * 240,
    "ssl twice": wire.SSL_REQUEST + wire.SSL_REQUEST + wire.SSL_REQUEST,
    "random": bytes(range(255, 0, -1)) * 8,
    "zeroes": b"\0" * 4096,
    "replication": wire.startup(user="alice", database="shop", replication="database"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_startup(gateway: Gateway, name: str) -> None:
    with wire.WireClient(gateway.port, timeout=8) as client:
        try:
            client.send(MALFORMED[name])
            client.frames_until("R", "E")
            client.send(wire.frame("p", gateway.token().encode() + b"\0"))
            frames = client.frames_until_end()
        except (wire.ConnectionEnded, OSError, UnicodeDecodeError):
            frames = []
        assert not [f for f in frames if f.kind == "Z"], "nonsense must not become a session"
    still_works(gateway)


def test_no_database_names_the_choice(gateway: Gateway) -> None:
    with wire.WireClient(gateway.port) as client:
        client.send(wire.startup(user="alice", database="nowhere"))
        if client.read_frame().kind == "R":
            client.send(wire.frame("p", gateway.token().encode() + b"\0"))
        assert refusal(client)["C"] in {"3D000", "28000", "42501"}
    still_works(gateway)


def test_no_access_rule(gateway: Gateway) -> None:
    for person, connection in (("mallory", "shop"), ("alice", "closed")):
        with pytest.raises(psycopg.OperationalError) as caught:
            gateway.connect(connection, person)
        assert "sub-" not in str(caught.value)
    still_works(gateway)


def test_unreachable_upstream(gateway: Gateway) -> None:
    with wire.WireClient(gateway.port) as client:
        client.send(wire.startup(user="alice", database="gone"))
        assert client.read_frame().kind == "R"
        client.send(wire.frame("p", gateway.token().encode() + b"\0"))
        error = refusal(client)
        assert error["C"][:2] in {"08", "57"}, error
    still_works(gateway)


@pytest.mark.parametrize("connection", ["badpassword", "nodatabase"])
def test_upstream_refuses(gateway: Gateway, connection: str) -> None:
    with wire.WireClient(gateway.port) as client:
        client.send(wire.startup(user="alice", database=connection))
        assert client.read_frame().kind == "R"
        client.send(wire.frame("p", gateway.token().encode() + b"\0"))
        error = refusal(client)
        assert error["C"] != "28P01", "the person's own credential was fine"
        assert b"wrong-upstream-password" not in client.received
    assert "wrong-upstream-password" not in gateway.log_text()
    still_works(gateway)


def test_silent_clients_are_let_go(gateway: Gateway) -> None:
    clients = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(50)]
    half = [wire.WireClient(gateway.port) for _ in range(10)]
    for client in half:
        client.send(wire.startup(user="alice", database="shop")[:9])
    still_works(gateway)
    began = time.monotonic()
    for sock in [*clients, *(c.socket for c in half)]:
        sock.settimeout(12)
        while sock.recv(4096):
            pass
        sock.close()
    assert time.monotonic() - began < 15


def test_oversized_messages_after_login(gateway: Gateway) -> None:
    for length in (3, 0x7FFFFFFF, 0xFFFFFFFF):
        with wire.WireClient(gateway.port) as client:
            client.login("alice", "shop", gateway.token())
            client.send(b"Q" + struct.pack("!I", length) + b"x" * 100)
            assert refusal(client)["C"] in {"08P01", "54000", "53200"}
    with wire.WireClient(gateway.port) as client:
        client.login("alice", "shop", gateway.token())
        client.send(b"\xfe" + struct.pack("!I", 8) + b"1234")
        assert refusal(client)["C"] == "08P01"
    still_works(gateway)


def test_statement_too_long_keeps_the_session(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        with pytest.raises(psycopg.Error) as caught:
            db.execute("SELECT '" + "x" * (17 * 1024 * 1024) + "'")
        assert caught.value.sqlstate == "54000"
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_deep_and_odd_statements_harm_nobody(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        deep = ["SELECT " + "(" * 20_000 + "1", "SELECT 1" + "+1" * 60_000]
        for text in [*deep, "SELECT '\x01\x7f", "", ";;", "--", "/*"]:
            with contextlib.suppress(psycopg.errors.Error):
                db.execute(text)
            assert not db.closed, text[:20]
        assert db.execute("SELECT 1").fetchone() == (1,)
    still_works(gateway)


def test_bad_credentials(gateway: Gateway) -> None:
    messages: dict[str, Any] = {}
    for what, token in gateway.issuer.forged("alice").items():
        with wire.WireClient(gateway.port) as client:
            client.send(wire.startup(user="alice", database="shop"))
            assert client.read_frame().kind == "R"
            client.send(wire.frame("p", token.encode() + b"\0"))
            error = refusal(client)
            assert error["C"] in {"28P01", "28000", "08P01"}, (what, error)
            assert not token or token not in str(error)
            messages[what] = error["M"]
    assert messages["signature of a stranger"] == messages["unknown key"] == messages["key confusion"]
    log = gateway.log_text()
    assert not [what for what, token in gateway.issuer.forged("alice").items() if len(token) > 20 and token in log]
    still_works(gateway)


def test_the_password_never_leaves(gateway: Gateway, postgres: PostgresServer) -> None:
    token = gateway.token()
    with gateway.connect("shop", password=token) as db:
        assert db.execute("SELECT current_user").fetchone() == ("app",)
    assert token not in gateway.log_text()
    assert token not in postgres.log_text()
    for path in gateway.state_dir.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("role", ["app", "app_md5", "app_clear", "app_trust"])
def test_upstream_authentication(issuer: TestIssuer, postgres: PostgresServer, shop: str, role: str) -> None:
    one = {"listen": {"workers": 1}}
    with Gateway(issuer, {"shop": upstream_of(postgres, shop, user=role)}, config=one) as running:
        with running.connect("shop") as db:
            assert db.execute("SELECT current_user").fetchone() == (role,)
