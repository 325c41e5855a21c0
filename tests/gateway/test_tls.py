"""TLS on both legs: every mode towards the client and towards PostgreSQL, with real certificates."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import psycopg
import pytest

from tests.support import wire
from tests.support.certs import Certificates
from tests.support.gateway import OPEN_POLICY, Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def gateway(
    issuer: TestIssuer, postgres: PostgresServer, postgres_tls: PostgresServer, certificates: Certificates
) -> Iterator[Gateway]:
    ca = str(certificates.ca)
    connections = {
        "plain": upstream_of(postgres, "postgres"),
        "prefer-without": upstream_of(postgres, "postgres", tls="prefer"),
        "require-without": upstream_of(postgres, "postgres", tls="require"),
        "disable": upstream_of(postgres_tls, "postgres", tls="disable"),
        "prefer": upstream_of(postgres_tls, "postgres", tls="prefer"),
        "require": upstream_of(postgres_tls, "postgres", tls="require"),
        "verify-ca": upstream_of(postgres_tls, "postgres", tls="verify-ca", ca=ca),
        "verify-full": upstream_of(postgres_tls, "postgres", tls="verify-full", ca=ca, host="localhost"),
        "wrong-ca": upstream_of(postgres_tls, "postgres", tls="verify-ca", ca=str(certificates.other_cert)),
    }
    tls = {"cert": str(certificates.cert), "key": str(certificates.key)}
    with Gateway(issuer, connections, policy=OPEN_POLICY, config={"listen": {"tls": tls}}) as running:
        yield running


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_client_modes(gateway: Gateway, certificates: Certificates, mode: str) -> None:
    options = {"sslmode": mode, "sslrootcert": str(certificates.ca), "host": "localhost"}
    with gateway.connect("plain", **options) as db:
        assert db.pgconn.ssl_in_use
        assert db.execute("SELECT 1").fetchone() == (1,)
        big = db.execute("SELECT repeat('x', 5000000)").fetchone()
        assert big is not None and len(big[0]) == 5_000_000


def test_direct_tls(gateway: Gateway) -> None:
    """sslnegotiation=direct: the ClientHello comes first, with ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql"])
    with wire.WireClient(gateway.port) as client:
        assert isinstance(client.socket, socket.socket)
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        client.login("alice", "plain", gateway.token())
        assert wire.rows(client.query("SELECT 1")) == [[b"1"]]


def test_plain_bytes_behind_the_ssl_request_are_refused(gateway: Gateway) -> None:
    """CVE-2021-23214: what was sent before the handshake must not count as sent inside it."""
    with wire.WireClient(gateway.port, timeout=5) as client:
        client.send(wire.SSL_REQUEST + wire.startup(user="alice", database="plain"))
        try:
            data = client.receive()
            data += client.receive()
        except (wire.ConnectionEnded, TimeoutError):
            data = b""
        assert b"R\0\0\0\x08\0\0\0\3" not in data


@pytest.mark.parametrize(
    ("connection", "encrypted"),
    [("disable", False), ("prefer", True), ("require", True), ("verify-ca", True), ("verify-full", True)],
)
def test_upstream_modes(gateway: Gateway, connection: str, encrypted: bool) -> None:
    with gateway.connect(connection, sslmode="require") as db:
        row = db.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == (encrypted,)
        with db.cursor().copy("COPY (SELECT repeat('y', 1000) FROM generate_series(1, 5000)) TO STDOUT") as copy:
            assert sum(len(bytes(part)) for part in copy) == 5000 * 1001


def test_prefer_falls_back(gateway: Gateway) -> None:
    with gateway.connect("prefer-without", sslmode="require") as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("connection", ["require-without", "wrong-ca"])
def test_upstream_is_not_trusted(gateway: Gateway, connection: str) -> None:
    with pytest.raises(psycopg.OperationalError) as caught:
        gateway.connect(connection, sslmode="require")
    assert "correct horse" not in str(caught.value)


def test_cancel_over_tls(gateway: Gateway) -> None:
    import threading

    with gateway.connect("require", sslmode="require") as db:
        timer = threading.Timer(0.3, db.cancel_safe, kwargs={"timeout": 10})
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            db.execute("SELECT pg_sleep(20)")
        timer.join()


def test_tls_in_odd_pieces(gateway: Gateway) -> None:
    with wire.SplittingProxy(gateway.port, seed=3) as proxy, wire.WireClient(proxy.port) as client:
        client.start_tls()
        client.login("alice", "verify-full", gateway.token())
        for size in (1, 100, 8192, 40_000):
            assert wire.rows(client.query(f"SELECT repeat('x', {size})")) == [[b"x" * size]]


def test_a_broken_handshake_harms_nobody(gateway: Gateway) -> None:
    for garbage in (b"\x16\x03\x01\x00\x05hello", b"\x00" * 100, b""):
        with wire.WireClient(gateway.port, timeout=5) as client:
            client.send(wire.SSL_REQUEST)
            assert client.read_byte() == b"S"
            client.send(garbage)
    with gateway.connect("plain", sslmode="require") as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
