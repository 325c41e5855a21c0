"""A TLS peer on a socket whose records can be looked at: OpenSSL (Python's ssl) over memory, the bytes moved by us."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from pathlib import Path

from tests.support.certs import Certificates

ALPN = "postgresql"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def client_context(
    files: Certificates, *, version: str = "", alpn: str = ALPN, certificate: tuple[Path, Path] | None = None,
) -> ssl.SSLContext:
    """Trusts the test authority alone. `version` pins 1.2 or 1.3; `certificate` is (certificate, key) to show."""
    context = ssl.create_default_context(cafile=str(files.ca))
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if alpn:
        context.set_alpn_protocols([alpn])
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


def server_context(files: Certificates, *, version: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


class TlsPeer:
    """`end` is a blocking socket with a timeout. `records` collects the lengths of the application records received."""

    def __init__(self, end: socket.socket, context: ssl.SSLContext, *, server: bool = False) -> None:
        self.end = end
        self.records: list[int] = []
        self._raw = bytearray()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server else "localhost"
        self.tls = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=name)

    def handshake(self) -> None:
        """SSLError when it fails, by the peer's alert or our own check."""
        while True:
            try:
                self.tls.do_handshake()
                self._flush()
                return
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError:
                self._flush()
                raise

    def send(self, data: bytes, *, pieces: int = 0) -> None:
        """One record, or records of `pieces` bytes each; all of them in one write to the socket."""
        for at in range(0, len(data), pieces or len(data)):
            self.tls.write(data[at : at + (pieces or len(data))])
        self._flush()

    def recv(self, size: int = 65536) -> bytes:
        """Some bytes; b"" after the peer's close_notify, and SSLEOFError when the stream ends without one."""
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLZeroReturnError:
                return b""

    def read_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            got = self.recv(size - len(data))
            assert got, f"end of stream after {len(data)} of {size} bytes"
            data += got
        return bytes(data)

    def close_half(self) -> None:
        """Our close_notify; reading goes on."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        if data := self._out.read():
            self.end.sendall(data)

    def _receive(self) -> None:
        data = self.end.recv(65536)
        if not data:
            self._in.write_eof()
            return
        self._in.write(data)
        self._raw += data
        while len(self._raw) >= 5 and len(self._raw) >= 5 + (length := struct.unpack_from("!H", self._raw, 3)[0]):
            if self._raw[0] == 23:
                self.records.append(length)
            del self._raw[: 5 + length]
