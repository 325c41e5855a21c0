"""Logging in to a scripted server: every authentication method, every TLS mode, and servers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hoopfast import config
from hoopfast.errors import UpstreamFault
from hoopfast.net import upstream
from hoopfast.net.cancel import CancelKeys, Canceller
from hoopfast.protocol import messages as m
from hoopfast.protocol import scram
from tests.support.certs import Certificates

PASSWORD = "s3cret pässword"
READY = (
    m.authentication_ok() + m.parameter_status("server_version", "18.1") + m.parameter_status("client_encoding", "UTF8")
    + m.backend_key_data(4711, b"\1\2\3\4") + m.ready_for_query()
)


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.startup: dict[str, str] = {}
        self.version = 0

    async def first(self) -> int:
        """Read one first packet; its code."""
        length = int.from_bytes(await self.reader.readexactly(4), "big")
        body = await self.reader.readexactly(length - 4)
        self.version = int.from_bytes(body[:4], "big")
        if self.version >> 16 == 3:
            parts = body[4:-2].decode().split("\0")
            self.startup = dict(zip(parts[::2], parts[1::2], strict=True))
        return self.version

    async def message(self) -> tuple[bytes, bytes]:
        head = await self.reader.readexactly(5)
        return head[:1], await self.reader.readexactly(int.from_bytes(head[1:], "big") - 4)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Script = Callable[[Peer], Awaitable[None]]


async def _serving(script: Script, body: Callable[[int], Awaitable[Any]]) -> Any:
    failures: list[BaseException] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception as failure:
            failures.append(failure)
        finally:
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        result = await body(server.sockets[0].getsockname()[1])
    if failures:
        raise failures[0]
    return result


def target(port: int, **changes: Any) -> config.Upstream:
    known: dict[str, Any] = {
        "host": "127.0.0.1", "port": port, "database": "orders", "user": "svc", "tls": "disable",
        "connect_timeout": 1.0,
    }
    return config.Upstream(**(known | changes))


def login(
    script: Script, *, password: str = PASSWORD, settings: dict[str, str] | None = None, deadline_s: float = 3.0,
    version: int = m.PROTOCOL_3_0, **changes: Any,
) -> upstream.UpstreamLogin:
    async def secret() -> str:
        return password

    async def body(port: int) -> upstream.UpstreamLogin:
        to = target(**({"port": port} | changes))
        deadline = asyncio.get_running_loop().time() + deadline_s
        done = await upstream.login(
            to, upstream.client_context(to), secret, settings or {}, deadline=deadline, version=version
        )
        os.close(done.fd)
        return done

    return asyncio.run(_serving(script, body))


def fault(script: Script, **changes: Any) -> UpstreamFault:
    with pytest.raises(UpstreamFault) as caught:
        login(script, **changes)
    assert PASSWORD not in str(caught.value) + caught.value.hint + repr(caught.value.fields)
    return caught.value


def auth(code: int, rest: bytes = b"") -> bytes:
    return m.frame(b"R", struct.pack("!I", code) + rest)


# ---------------------------------------------------------------- authentication

async def trust(peer: Peer) -> None:
    await peer.first()
    await peer.send(READY + b"S\0\0\0\7a\0b")


def test_login_collects_everything_and_keeps_what_follows() -> None:
    done = login(trust)
    assert (done.pid, done.secret, done.status) == (4711, b"\1\2\3\4", b"I")
    assert done.parameters == {"server_version": "18.1", "client_encoding": "UTF8"}
    assert done.leftover == b"S\0\0\0\7a\0b"
    assert done.tls is None


def test_startup_names_user_database_and_settings() -> None:
    seen: dict[str, str] = {}

    async def script(peer: Peer) -> None:
        await peer.first()
        seen.update(peer.startup)
        await peer.send(READY)

    login(script, settings={"application_name": "ana psql", "datestyle": "", "user": "postgres", "database": "x"})
    assert seen == {"user": "svc", "database": "orders", "application_name": "ana psql", "datestyle": ""}


def test_login_stream_byte_by_byte_with_notices_between() -> None:
    async def script(peer: Peer) -> None:
        await peer.first()
        notice = m.notice_response("WARNING", "01000", "old")
        for byte in notice + auth(3):
            await peer.send(bytes([byte]))
        assert await peer.message() == (b"p", PASSWORD.encode() + b"\0")
        for byte in notice + READY:
            await peer.send(bytes([byte]))

    assert login(script).pid == 4711


def test_md5() -> None:
    async def script(peer: Peer) -> None:
        await peer.first()
        await peer.send(auth(5, b"salt"))
        _, body = await peer.message()
        inner = hashlib.md5(PASSWORD.encode() + b"svc").hexdigest().encode()
        assert body == b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode() + b"\0"
        await peer.send(READY)

    assert login(script).status == b"I"


class ScramServer:
    """The server's side; every misbehaviour is a parameter."""

    def __init__(
        self, *, offer: bytes = b"SCRAM-SHA-256\0\0", iterations: int = 4096, foreign_nonce: bool = False,
        wrong_signature: bool = False, skip_final: bool = False, binding: bytes = b"", after: bytes = READY,
    ) -> None:
        self.offer, self.iterations, self.foreign_nonce = offer, iterations, foreign_nonce
        self.wrong_signature, self.skip_final, self.binding, self.after = wrong_signature, skip_final, binding, after
        self.mechanism = b""
        self.gs2 = b""

    async def __call__(self, peer: Peer) -> None:
        await peer.first()
        await self.exchange(peer)

    async def exchange(self, peer: Peer) -> None:
        await peer.send(auth(10, self.offer))
        _, body = await peer.message()
        self.mechanism, rest = body.split(b"\0", 1)
        first = rest[4:]
        assert int.from_bytes(rest[:4], "big") == len(first)
        at = first.index(b"n=")
        self.gs2, bare = first[:at], first[at:]
        nonce = bare.split(b"r=")[1] + b"server"
        if self.foreign_nonce:
            nonce = b"x" + nonce
        server_first = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(b"saltsalt"), self.iterations)
        await peer.send(auth(11, server_first))
        _, final = await peer.message()
        without, proof = final.split(b",p=")
        assert base64.b64decode(without.split(b",")[0][2:]) == self.gs2 + self.binding
        salted = hashlib.pbkdf2_hmac("sha256", scram.prepare_password(PASSWORD), b"saltsalt", self.iterations)
        message = bare + b"," + server_first + b"," + without
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        assert base64.b64decode(proof) == bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        if self.wrong_signature:
            server_signature = bytes(32)
        if not self.skip_final:
            await peer.send(auth(12, b"v=" + base64.b64encode(server_signature)))
        await peer.send(self.after)


def test_scram() -> None:
    server = ScramServer()
    assert login(server).pid == 4711
    assert (server.mechanism, server.gs2) == (b"SCRAM-SHA-256", b"n,,")


@pytest.mark.parametrize(("server", "code"), [
    (ScramServer(iterations=1), "08004"),
    (ScramServer(iterations=1_000_000_000), "08004"),
    (ScramServer(foreign_nonce=True), "08004"),
    (ScramServer(wrong_signature=True), "08004"),
    (ScramServer(skip_final=True), "08006"),
    (ScramServer(offer=b"OAUTHBEARER\0\0"), "08004"),
    (ScramServer(offer=b"SCRAM-SHA-256-PLUS\0\0"), "08004"),
    (ScramServer(after=auth(3)), "08006"),
])
def test_scram_servers_that_misbehave(server: ScramServer, code: str) -> None:
    assert fault(server).sqlstate == code


def test_no_password_where_one_is_wanted() -> None:
    async def script(peer: Peer) -> None:
        await peer.first()
        await peer.send(auth(3))
        await peer.message()

    assert fault(script, password="").sqlstate == "08004"


@pytest.mark.parametrize(("answer", "code"), [
    (m.error_response("FATAL", "3D000", "database does not exist", hint="create it"), "3D000"),
    (m.error_response("FATAL", "53300", "too many clients"), "53300"),
    (m.error_response("FATAL", "57P03", "starting up"), "57P03"),
    (m.error_response("FATAL", "28P01", 'password authentication failed for user "svc"'), "08004"),
    (m.error_response("FATAL", "28000", "no pg_hba.conf entry"), "08004"),
    (m.frame(b"E", b"SFATAL\0Mno code\0\0"), "08006"),
    (m.frame(b"E", b"Mbroken"), "08006"),
    (b"Efatal: old style error\n\0", "08006"),
    (auth(7), "08004"),
    (auth(5, b"salt too long"), "08006"),
    (m.ready_for_query(), "08006"),
    (m.parameter_status("a", "b"), "08006"),
    (m.authentication_ok() + m.authentication_ok(), "08006"),
    (m.authentication_ok() + m.frame(b"D", b""), "08006"),
    (m.authentication_ok() + m.frame(b"Z", b"X"), "08006"),
    (m.authentication_ok() + m.frame(b"K", b"abc"), "08006"),
    (m.authentication_ok() + b"S\x7f\xff\xff\xff", "08006"),
    (m.authentication_ok() + b"S\0\0\0\0", "08006"),
    (m.negotiate_protocol_version(2, []) + READY, "08006"),
    (m.notice_response("NOTICE", "00000", "x") * 1001, "08006"),
    (b"", "08006"),
    (b"H", "08006"),
])
def test_refusals_and_nonsense(answer: bytes, code: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.first()
        await peer.send(answer)

    got = fault(script)
    assert got.sqlstate == code
    assert "svc" not in got.message


def test_the_servers_own_words_are_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.first()
        await peer.send(m.error_response("FATAL", "3D000", "no such database", hint="look", detail="gone"))

    got = fault(script)
    assert (got.message, got.hint, got.fields["D"]) == ("no such database", "look", "gone")


def test_no_cancel_key_and_a_long_one() -> None:
    async def none(peer: Peer) -> None:
        await peer.first()
        await peer.send(m.authentication_ok() + m.ready_for_query())

    async def long(peer: Peer) -> None:
        assert await peer.first() == m.PROTOCOL_3_2
        await peer.send(READY.replace(m.backend_key_data(4711, b"\1\2\3\4"), m.backend_key_data(1, b"k" * 32)))

    async def older(peer: Peer) -> None:
        await peer.first()
        await peer.send(m.negotiate_protocol_version(0, []) + READY)

    assert (login(none).pid, login(none).secret) == (0, b"")
    assert login(long, version=m.PROTOCOL_3_2).secret == b"k" * 32
    assert login(older, version=m.PROTOCOL_3_2).secret == b"\1\2\3\4"


# ---------------------------------------------------------------- reaching it

async def silent(peer: Peer) -> None:
    await peer.reader.read()


def test_a_silent_server() -> None:
    assert fault(silent, deadline_s=0.2).sqlstate == "08001"
    assert fault(silent, tls="require", deadline_s=0.2).sqlstate == "08001"


def test_nobody_listens_and_no_such_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    got = fault(trust, port=port)
    assert got.sqlstate == "08001"
    assert got.hint
    assert fault(trust, host="\udcff").sqlstate == "08001"
    assert fault(trust, host="a" * 300).sqlstate == "08001"


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = server.getsockname()

    async def resolve(to: config.Upstream, _deadline: float) -> list[tuple[int, object]]:
        return [(socket.AF_INET, dead), (socket.AF_INET, ("127.0.0.1", to.port))]

    monkeypatch.setattr(upstream, "_resolve", resolve)
    assert login(trust).route.address != dead


def test_unix_socket(tmp_path: Path) -> None:
    async def main() -> upstream.UpstreamLogin:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await trust(Peer(reader, writer))
            writer.close()

        async def secret() -> str:
            return ""

        to = target(5432, host=str(tmp_path), tls="require")
        assert upstream.client_context(to) is None
        async with await asyncio.start_unix_server(handle, f"{tmp_path}/.s.PGSQL.5432"):
            done = await upstream.login(to, None, secret, {}, deadline=asyncio.get_running_loop().time() + 2)
            os.close(done.fd)
            return done

    assert asyncio.run(main()).pid == 4711


# ---------------------------------------------------------------- TLS

@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certs"))


def answering(answer: bytes, then: Script | None = None, *, plain: Script | None = trust) -> Script:
    """A server that answers SSLRequest with `answer` (b"": end of stream) and plaintext with `plain`."""
    async def script(peer: Peer) -> None:
        length = int.from_bytes(await peer.reader.readexactly(4), "big")
        code = int.from_bytes((rest := await peer.reader.readexactly(length - 4))[:4], "big")
        if code == m.SSL_REQUEST_CODE:
            if answer:
                await peer.send(answer)
            if then is not None:
                await then(peer)
            return
        assert plain is not None, "plaintext where TLS was required"
        assert rest
        await peer.send(READY)

    return script


def tls_server(cert: Path, key: Path, inner: Script) -> Script:
    async def script(peer: Peer) -> None:
        assert await peer.first() == m.SSL_REQUEST_CODE
        await peer.send(b"S")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        await peer.writer.start_tls(context)
        await inner(peer)

    return script


@pytest.mark.parametrize(("mode", "host"), [
    ("prefer", "127.0.0.1"), ("require", "127.0.0.1"), ("verify-ca", "127.0.0.1"), ("verify-full", "127.0.0.1"),
    ("verify-full", "localhost"),
])
def test_tls_modes(files: Certificates, mode: str, host: str) -> None:
    ca = str(files.ca) if mode.startswith("verify") else ""
    done = login(tls_server(files.cert, files.key, trust), tls=mode, ca=ca, host=host)
    assert done.tls is not None
    assert done.route.context is not None
    assert done.pid == 4711


def test_wrong_certificates(files: Certificates, tmp_path: Path) -> None:
    other = tls_server(files.other_cert, files.other_key, trust)
    assert login(other, tls="verify-ca", ca=str(files.ca)).tls is not None
    assert fault(other, tls="verify-full", ca=str(files.ca)).sqlstate == "08001"
    (tmp_path / "stranger").mkdir()
    stranger = Certificates(tmp_path / "stranger")
    for mode in ("verify-ca", "verify-full", "require"):
        got = fault(tls_server(files.cert, files.key, trust), tls=mode, ca=str(stranger.ca))
        assert got.sqlstate == "08001"
        assert "ertificate" in got.message


@pytest.mark.parametrize("answer", [b"N", b"E", b"", b"X"])
def test_prefer_falls_back_and_require_does_not(answer: bytes) -> None:
    done = login(_n_then_plain if answer == b"N" else answering(answer), tls="prefer")
    assert done.tls is None
    assert done.route.context is None
    assert fault(answering(answer, plain=None), tls="require").sqlstate == "08001"


async def _n_then_plain(peer: Peer) -> None:
    if await peer.first() == m.SSL_REQUEST_CODE:
        await peer.send(b"N")
        await peer.first()
    await peer.send(READY)


@pytest.mark.parametrize("answer", [b"S" + READY, b"N" + READY])
def test_bytes_behind_the_answer_to_an_ssl_request(answer: bytes) -> None:
    async def wait(peer: Peer) -> None:
        await peer.reader.read()

    got = fault(answering(answer, wait, plain=None), tls="require")
    assert got.sqlstate == "08001"
    assert "ahead of the TLS handshake" in got.message


def test_channel_binding(files: Certificates) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    der = x509.load_pem_x509_certificate(files.cert.read_bytes()).public_bytes(Encoding.DER)
    bound = ScramServer(offer=b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", binding=hashlib.sha256(der).digest())
    login(tls_server(files.cert, files.key, bound), tls="require")
    assert (bound.mechanism, bound.gs2) == (b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,")
    unbound = ScramServer()
    login(tls_server(files.cert, files.key, unbound), tls="require")
    assert (unbound.mechanism, unbound.gs2) == (b"SCRAM-SHA-256", b"y,,")
    without = ScramServer(offer=b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
    login(tls_server(files.cert, files.key, without), tls="require", channel_binding="disable")
    assert (without.mechanism, without.gs2) == (b"SCRAM-SHA-256", b"n,,")


def test_channel_binding_required(files: Certificates) -> None:
    """Nothing that is derived from the password leaves the gateway for a server that cannot bind."""
    sent: list[bytes] = []

    def asking(request: bytes) -> Script:
        async def script(peer: Peer) -> None:
            await peer.first()
            await peer.send(request)
            with contextlib.suppress(asyncio.CancelledError):       # the client has given up, and we are ended
                sent.append(await peer.reader.read())

        return script

    for request in (auth(3), auth(5, b"salt"), auth(10, b"SCRAM-SHA-256\0\0"), READY):
        server = tls_server(files.cert, files.key, asking(request))
        assert fault(server, tls="require", channel_binding="require").sqlstate == "08004"
    assert not any(sent)
    assert fault(asking(auth(3)), channel_binding="require").sqlstate == "08004"


# ---------------------------------------------------------------- cancel

def cancel(script: Script, *, secret: bytes = b"\1\2\3\4", context: Any = None) -> bool:
    async def body(port: int) -> bool:
        route = upstream.Route(socket.AF_INET, ("127.0.0.1", port), context, "127.0.0.1")
        return await Canceller().cancel(route, 4711, secret)

    return asyncio.run(_serving(script, body))


def test_cancel_waits_for_the_servers_close(files: Certificates) -> None:
    got: list[bytes] = []

    async def plain(peer: Peer) -> None:
        got.append(await peer.reader.readexactly(16))
        await asyncio.sleep(0.02)
        got.append(b"closing")

    assert cancel(plain)
    assert got == [m.cancel_request(4711, b"\1\2\3\4"), b"closing"]
    to = target(1, tls="verify-ca", ca=str(files.ca))
    assert cancel(tls_server(files.cert, files.key, plain), context=upstream.client_context(to))
    assert got[2] == got[0]


def test_cancel_that_cannot_be_sent() -> None:
    assert not cancel(trust, secret=b"")
    to = target(1, tls="require")
    assert not cancel(answering(b"N", plain=None), context=upstream.client_context(to))


def test_cancels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoopfast.limits.CANCELS_IN_FLIGHT_MAX", 3)
    now = most = 0

    async def script(peer: Peer) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await peer.reader.readexactly(16)
        await asyncio.sleep(0.01)
        now -= 1

    async def body(port: int) -> list[bool]:
        canceller = Canceller()
        route = upstream.Route(socket.AF_INET, ("127.0.0.1", port), None, "")
        return await asyncio.gather(*(canceller.cancel(route, 1, b"abcd") for _ in range(12)))

    assert all(asyncio.run(_serving(script, body)))
    assert most <= 3


def test_keys_have_the_servers_pid_and_fit_the_protocol() -> None:
    keys = CancelKeys()
    old, new = keys.issue(100, 0, 4711), keys.issue(200, 2, 4711)
    assert (len(old.secret), len(new.secret)) == (4, 32)
    assert old.pid == new.pid == 4711
    assert keys.find(*old) == 100
    assert keys.find(*new) == 200
    for pid, secret in [(4711, b"\0\0\0\0"), (4712, new.secret), (4711, old.secret + b"x"), (0, b"abcd"), (1, b"")]:
        assert keys.find(pid, secret) is None
    keys.release(old)
    assert keys.find(*old) is None
    assert keys.find(*new) == 200


def test_a_server_without_keys_gets_one_made_up() -> None:
    key = CancelKeys().issue(1, 0, 0)
    assert 0 < key.pid < 1 << 31
