"""The dual runner with TLS on both legs: record boundaries, half-closed streams and short writes are TLS's own then.

Below it, what only a client with a TLS library in its hands can do: odd records, key updates, broken ones.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import random
import socket
import ssl
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.protocol.conftest import POLICY
from tests.protocol.stage import SEED, USER, Stage, database
from tests.protocol.test_dual import LIVES
from tests.support import wire
from tests.support.certs import Certificates
from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer
from tests.support.wire import SplittingProxy

WHOLE = [name for name, one in LIVES.items() if not name.startswith("malformed")]
# Another part of them in every run: the seed is in the message of a failure.
SPLIT = random.Random(SEED).sample([name for name in WHOLE if not LIVES[name].bulky], 60)


@pytest.fixture(scope="module")
def stage(issuer: TestIssuer, postgres_tls: PostgresServer, certificates: Certificates) -> Iterator[Stage]:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    listen = {"tls": {"cert": str(certificates.cert), "key": str(certificates.key)}}
    # Without TLS this goes over what `auto` takes, here over the older backend: every life is seen on both.
    config = {"listen": listen, "relay": "epoll"}
    with database(postgres_tls) as name, SplittingProxy(postgres_tls.port, seed=13) as back:
        whole = upstream_of(postgres_tls, name, user=USER, tls="require")
        connections = {"plain": whole, "plain-split": upstream_of(
            postgres_tls, name, user=USER, tls="require", port=back.port)}
        policy = {"access": POLICY["access"]}
        with Gateway(issuer, connections, policy=policy, config=config) as gateway:
            with SplittingProxy(gateway.port, seed=SEED) as front:
                running = Stage(postgres_tls, name, gateway, front, tls=context)
                yield running
                running.close()


@pytest.mark.parametrize("name", WHOLE)
def test_same_as_postgres_over_tls(stage: Stage, name: str) -> None:
    stage.compare(LIVES[name], "plain")


def test_same_as_postgres_over_tls_in_pieces(stage: Stage) -> None:
    for name in SPLIT:
        stage.compare(LIVES[name], "plain-split")


# ---------------------------------------------------------------- TLS by hand

class HandTls:
    """A client whose TLS records are seen; `records` holds the size of each that the gateway sent."""

    def __init__(self, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = secure_socket(port)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.records: list[int] = []
        self._raw = b""
        self._do(self.tls.do_handshake)

    def _do(self, call: Callable[[], object]) -> None:
        while True:
            try:
                call()
                return
            except ssl.SSLWantReadError:
                self.flush()
                self._fill()
            finally:
                self.flush()

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise wire.ConnectionEnded("end of stream")
        self.incoming.write(data)
        self._raw += data
        while len(self._raw) >= 5 and len(self._raw) >= 5 + struct.unpack_from("!H", self._raw, 3)[0]:
            size = struct.unpack_from("!H", self._raw, 3)[0]
            self.records.append(size)
            self._raw = self._raw[5 + size :]

    def flush(self) -> None:
        if self.outgoing.pending:
            self.socket.sendall(self.outgoing.read())

    def sendall(self, data: bytes) -> None:
        self._do(lambda: self.tls.write(data))

    def recv(self, size: int) -> bytes:
        got: list[bytes] = []
        self._do(lambda: got.append(self.tls.read(size)))
        return got[0]


def secure_socket(port: int) -> socket.socket:
    """Connected, and the gateway has agreed to speak TLS."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.sendall(wire.SSL_REQUEST)
    assert sock.recv(1) == b"S"
    return sock


def log_in(send: Callable[[bytes], object], read: Callable[[int], bytes], token: str) -> None:
    send(wire.startup(user="alice", database="plain") + wire.frame("p", token.encode() + b"\0"))
    read_until_ready(read)


def read_until_ready(read: Callable[[int], bytes]) -> bytes:
    """All up to a ReadyForQuery that ends what has come."""
    data = b""
    while data[-6:-1] != b"Z\0\0\0\5":
        data += read(65536)
    return data


def test_records_are_small(stage: Stage) -> None:
    """libpq's asynchronous readers stall on records that are larger than what they ask for at once."""
    client = HandTls(stage.gateway.port)
    log_in(client.sendall, client.recv, stage.token)
    client.sendall(wire.query("SELECT repeat('x', 300000)"))
    assert len(read_until_ready(client.recv)) > 300_000
    assert 4096 < max(client.records) <= 8192 + 256
    client.socket.close()


def test_many_messages_in_one_record(stage: Stage) -> None:
    client = HandTls(stage.gateway.port)
    log_in(client.sendall, client.recv, stage.token)
    client.sendall(wire.query("SELECT 1") * 500)
    data = b""
    while data.count(b"Z\0\0\0\5I") < 500:
        data += client.recv(65536)
    client.socket.close()


def test_an_alert_ends_both_sides(stage: Stage) -> None:
    """A record that cannot be decrypted: TLS is over, and with it both connections."""
    client = HandTls(stage.gateway.port)
    log_in(client.sendall, client.recv, stage.token)
    client.sendall(wire.query("BEGIN"))
    read_until_ready(client.recv)
    client.socket.sendall(b"\x17\x03\x03\0\x20" + b"x" * 32)
    while client.socket.recv(65536):
        pass
    client.socket.close()
    stage.wait_until_alone()


def test_key_updates_in_the_middle_of_a_result(stage: Stage) -> None:
    """The peer wants to read while it is written to, and the other way round: neither may wait for ever."""
    name = ctypes.util.find_library("ssl")
    if name is None:
        pytest.skip("no libssl to make a client of that updates its keys")
    lib = ctypes.CDLL(name)
    for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(lib, function).restype = ctypes.c_void_p
    if not hasattr(lib, "SSL_key_update"):
        pytest.skip("libssl is too old for TLS 1.3")
    context = ctypes.c_void_p(lib.SSL_CTX_new(ctypes.c_void_p(lib.TLS_client_method())))
    tls = ctypes.c_void_p(lib.SSL_new(context))
    sock = secure_socket(stage.gateway.port)
    sock.settimeout(None)           # libssl reads from a descriptor that blocks; the test has its own timeout
    room = ctypes.create_string_buffer(65536)

    def send(data: bytes) -> None:
        assert lib.SSL_write(tls, data, len(data)) == len(data)

    def read(_: int) -> bytes:
        got = lib.SSL_read(tls, room, 65536)
        assert got > 0
        return room.raw[:got]

    lib.SSL_set_fd(tls, sock.fileno())
    assert lib.SSL_connect(tls) == 1
    log_in(send, read, stage.token)
    send(wire.query("SELECT repeat('x', 5000000)"))
    data, updates = b"", 0
    while not data.endswith(b"Z\0\0\0\5I"):
        data += read(0)
        if len(data) > updates * 200_000:
            updates += 1
            assert lib.SSL_key_update(tls, 1) == 1, "1: the peer shall update its key too"
            assert lib.SSL_do_handshake(tls) == 1
    assert len(data) > 5_000_000
    assert updates > 20
    send(wire.query("SELECT 1"))
    read_until_ready(read)
    lib.SSL_free(tls)
    lib.SSL_CTX_free(context)
    sock.close()
