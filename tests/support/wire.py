"""A raw PostgreSQL client that knows frames and little else, and a proxy that cuts streams into odd pieces.

For tests that need to send what no driver would. Everything has a timeout; nothing here validates what it sends.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

# With much less, Linux drops trains of tiny segments for their bookkeeping, or waits for delayed acknowledgements, and
# whole conversations stand still for minutes. The gateway's own writes meet full sockets in tests/wire.
SMALL_BUFFER_BYTES = 32768

SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSSENC_REQUEST = struct.pack("!II", 8, 80877104)
PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610


class Frame(NamedTuple):
    """One backend message: its type byte and its body without the length."""

    kind: str
    body: bytes


def narrow(side: socket.socket) -> None:
    """Make this end of a TCP connection take and give little at a time."""
    side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER_BYTES)
    side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)


class ConnectionEnded(Exception):
    """The peer closed (or reset) the connection."""


def frame(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def startup(protocol: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    """A StartupMessage; odd names go in as **{"_pq_.x": "1"}."""
    body = struct.pack("!I", protocol)
    for name, value in parameters.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    return struct.pack("!I", len(body) + 5) + body + b"\0"


def cancel_request(pid: int, secret: bytes) -> bytes:
    return struct.pack("!III", 12 + len(secret), 80877102, pid) + secret


def query(sql: str) -> bytes:
    return frame("Q", sql.encode() + b"\0")


def parse(sql: str, name: str = "", types: Iterable[int] = ()) -> bytes:
    oids = list(types)
    body = name.encode() + b"\0" + sql.encode() + b"\0" + struct.pack(f"!H{len(oids)}I", len(oids), *oids)
    return frame("P", body)


def bind(
    parameters: Iterable[bytes | None] = (), *, name: str = "", portal: str = "",
    formats: Iterable[int] = (), result_formats: Iterable[int] = (),
) -> bytes:
    values, codes, results = list(parameters), list(formats), list(result_formats)
    body = portal.encode() + b"\0" + name.encode() + b"\0"
    body += struct.pack(f"!H{len(codes)}H", len(codes), *codes) + struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return frame("B", body + struct.pack(f"!H{len(results)}H", len(results), *results))


def describe_statement(name: str = "") -> bytes:
    return frame("D", b"S" + name.encode() + b"\0")


def describe_portal(name: str = "") -> bytes:
    return frame("D", b"P" + name.encode() + b"\0")


def execute(portal: str = "", limit: int = 0) -> bytes:
    return frame("E", portal.encode() + b"\0" + struct.pack("!I", limit))


def close_statement(name: str = "") -> bytes:
    return frame("C", b"S" + name.encode() + b"\0")


def close_portal(name: str = "") -> bytes:
    return frame("C", b"P" + name.encode() + b"\0")


def copy_data(data: bytes) -> bytes:
    return frame("d", data)


def copy_fail(reason: str) -> bytes:
    return frame("f", reason.encode() + b"\0")


def function_call(oid: int, arguments: Iterable[bytes | None] = (), *, result_format: int = 0) -> bytes:
    """FunctionCall with arguments in text."""
    values = list(arguments)
    body = struct.pack("!IHH", oid, 0, len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return frame("F", body + struct.pack("!H", result_format))


SYNC = frame("S")
FLUSH = frame("H")
TERMINATE = frame("X")
COPY_DONE = frame("c")


def error_fields(body: bytes) -> dict[str, str]:
    """Fields of an ErrorResponse or NoticeResponse by their letter: S, V, C (SQLSTATE), M, D, H, ..."""
    fields = {}
    for item in body.split(b"\0"):
        if item:
            fields[chr(item[0])] = item[1:].decode("utf-8", "replace")
    return fields


def data_row(body: bytes) -> list[bytes | None]:
    count = struct.unpack_from("!H", body)[0]
    position, values = 2, []
    for _ in range(count):
        size = struct.unpack_from("!i", body, position)[0]
        position += 4
        values.append(None if size < 0 else body[position : position + size])
        position += max(size, 0)
    return values


class WireClient:
    """A connection to host:port. `received` keeps every byte the peer ever sent, for canary searches."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, timeout: float = 10.0) -> None:
        self.socket: socket.socket | ssl.SSLSocket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        self._buffer = bytearray()
        self.parameters: dict[str, str] = {}
        self.key = (0, b"")
        self.status = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    # ---------------------------------------------------------------- bytes

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def send_chunks(self, chunks: Iterable[bytes]) -> None:
        """Each chunk in a segment of its own, as far as the kernel allows."""
        for chunk in chunks:
            self.socket.sendall(chunk)

    def receive(self, size: int = 65536) -> bytes:
        """Some bytes; raises ConnectionEnded at the end of the stream and TimeoutError when nothing comes."""
        try:
            data = self.socket.recv(size)
        except (ConnectionError, ssl.SSLError) as error:
            raise ConnectionEnded(str(error)) from error
        if not data:
            raise ConnectionEnded("end of stream")
        self.received += data
        return data

    def read_byte(self) -> bytes:
        """The one-byte answer to SSLRequest or GSSENCRequest."""
        return self.receive(1)

    def read_frame(self) -> Frame:
        while len(self._buffer) < 5 or len(self._buffer) < 1 + struct.unpack_from("!I", self._buffer, 1)[0]:
            self._buffer += self.receive()
        size = 1 + struct.unpack_from("!I", self._buffer, 1)[0]
        result = Frame(chr(self._buffer[0]), bytes(self._buffer[5:size]))
        del self._buffer[:size]
        return result

    def frames_until(self, *kinds: str) -> list[Frame]:
        """Frames up to and including the first whose kind is in `kinds`."""
        frames = []
        while True:
            item = self.read_frame()
            frames.append(item)
            if item.kind == "Z":
                self.status = item.body.decode()
            if item.kind in kinds:
                return frames

    def frames_until_end(self) -> list[Frame]:
        """Frames until the peer closes the connection."""
        frames = []
        with contextlib.suppress(ConnectionEnded):
            while True:
                frames.append(self.read_frame())
        return frames

    # ---------------------------------------------------------------- login

    def start_tls(self, context: ssl.SSLContext | None = None, hostname: str = "localhost") -> None:
        """SSLRequest and the handshake; without a context nothing is verified."""
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self.send(SSL_REQUEST)
        answer = self.read_byte()
        assert answer == b"S", answer
        self.socket = context.wrap_socket(self.socket, server_hostname=hostname)

    def login(
        self, user: str, database: str, password: str | bytes, protocol: int = PROTOCOL_3_0, **parameters: str
    ) -> list[Frame]:
        """Startup, cleartext password, ReadyForQuery; returns the frames. An ErrorResponse raises AssertionError."""
        self.send(startup(protocol, user=user, database=database, **parameters))
        frames = []
        while True:
            item = self.read_frame()
            frames.append(item)
            if item.kind == "R" and item.body == b"\0\0\0\3":
                secret = password if isinstance(password, bytes) else password.encode()
                self.send(frame("p", secret + b"\0"))
            elif item.kind == "S":
                name, value = item.body.split(b"\0")[:2]
                self.parameters[name.decode()] = value.decode()
            elif item.kind == "K":
                self.key = (struct.unpack_from("!I", item.body)[0], item.body[4:])
            elif item.kind == "E":
                raise AssertionError(f"login refused: {error_fields(item.body)}")
            elif item.kind == "Z":
                self.status = item.body.decode()
                return frames

    def ask(self, *messages: bytes) -> list[Frame]:
        """Send, then read up to ReadyForQuery."""
        self.send(*messages)
        return self.frames_until("Z")

    def query(self, sql: str) -> list[Frame]:
        return self.ask(query(sql))


def errors(frames: Iterable[Frame]) -> list[dict[str, str]]:
    return [error_fields(item.body) for item in frames if item.kind == "E"]


def rows(frames: Iterable[Frame]) -> list[list[bytes | None]]:
    return [data_row(item.body) for item in frames if item.kind == "D"]


class SplittingProxy:
    """Forwards one port to another in random pieces, with small socket buffers: every boundary gets hit in time.

    The pieces of a direction depend on `seed` and on how many connections came before, on nothing else. Directions are
    independent, and the end of one is passed on as such: what the other still has to say arrives.
    """

    def __init__(self, target: int, *, seed: int = 7, largest: int = 37) -> None:
        self._target = target
        self._seed = seed
        self._largest = largest
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._acceptor.join(5)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        number = 0
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            number += 1
            server = socket.socket()
            for side in (client, server):
                narrow(side)
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.connect(("127.0.0.1", self._target))
            thread = threading.Thread(target=self._connection, args=(client, server, number), daemon=True)
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def _connection(self, client: socket.socket, server: socket.socket, number: int) -> None:
        """Both directions until both have ended; then, and not before, the descriptors go."""
        back = threading.Thread(target=self._pump, args=(server, client, f"{self._seed}/{number}/back"), daemon=True)
        with client, server:
            back.start()
            self._pump(client, server, f"{self._seed}/{number}/front")
            back.join()

    def _pump(self, source: socket.socket, target: socket.socket, seed: str) -> None:
        rng = random.Random(seed)
        try:
            while data := self._some(source, rng.randint(1, 4096)):
                view = memoryview(data)
                while view:
                    size = rng.randint(1, self._largest)
                    target.sendall(view[:size])
                    view = view[size:]
            target.shutdown(socket.SHUT_WR)
        except OSError:
            # A reset is passed on by ending both directions.
            for side in (source, target):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def _some(self, source: socket.socket, size: int) -> bytes:
        """What comes next; b"" at the end of the stream or of the proxy."""
        while not self._closing.is_set():
            if select.select([source], [], [], 0.1)[0]:
                return source.recv(size)
        return b""
