"""The same conversation with PostgreSQL itself and through the gateway, and what differs between the two.

A conversation is data: bytes to send, and marks of what to wait for before going on. Everything the other side says
until the end of the connection is compared, message by message, byte by byte, apart from what a gateway must change:
cancel keys, process ids and application_name. Its own errors (they name no source file) are compared by their fields.
"""

from __future__ import annotations

import enum
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterable
from typing import NamedTuple

from tests.support import wire
from tests.support.wire import Frame

SOURCE_FIELDS = "FLR"           # file, line, routine: only the server's own errors have them


class Until(NamedTuple):
    """Wait until `count` more messages of this kind have arrived."""

    kind: str
    count: int = 1


class End(enum.Enum):
    """How the client leaves, other than by Terminate after the last step."""

    CLOSE = "closes its socket without a word"
    RESET = "resets the connection"
    HALF_CLOSE = "sends no more, and reads to the end"
    STAYS = "waits for the server to end the connection"


READY = Until("Z")
Step = bytes | Until | End


class Scenario(NamedTuple):
    """`cases` are the numbers of tests/protocol/cases.py that it covers."""

    name: str
    steps: tuple[Step, ...]
    cases: tuple[int, ...] = ()
    bulky: bool = False         # sends so much that small socket buffers would take seconds
    open_only: str = ""         # why it is not for connections on which columns are masked


class Heard(NamedTuple):
    """What a client heard: the login's messages, then everything after its ReadyForQuery, and how it ended."""

    login: list[Frame]
    frames: list[Frame]
    torn: bytes                 # an incomplete message before the end

    def told(self) -> str:
        """The kinds of messages, for people."""
        return "".join(item.kind for item in self.frames)


class Conversation:
    """One client that reads while it writes, so that neither side can be blamed for a deadlock."""

    def __init__(
        self, port: int, *, narrow: bool = False, timeout: float = 20.0, tls: ssl.SSLContext | None = None,
    ) -> None:
        self._socket = socket.socket()
        if narrow:
            wire.narrow(self._socket)
        self._socket.connect(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._socket.settimeout(timeout)
            self._socket.sendall(wire.SSL_REQUEST)
            assert self._socket.recv(1) == b"S"
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._socket.setblocking(False)
        self._timeout = timeout
        self._buffer = bytearray()
        self.frames: list[Frame] = []
        self.ended = False

    def close(self) -> None:
        self._socket.close()

    def _turn(self, unsent: memoryview, what: str) -> memoryview:
        """Read what there is, write what goes; returns what is left to write."""
        # Nothing is written to a connection that has ended: its last words would be lost to a reset.
        writing = [self._socket] if unsent and not self.ended else []
        reading = [] if self.ended else [self._socket]
        readable, writable, _ = select.select(reading, writing, [], self._timeout)
        if not readable and not writable:
            raise AssertionError(f"{what}: nothing came within {self._timeout:g} s after {self.frames[-6:]}")
        if readable:
            self._receive()
        elif writable:
            try:
                unsent = unsent[self._socket.send(unsent):]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
            except OSError:
                unsent = unsent[:0]
        return unsent

    def _receive(self) -> None:
        """All there is: what waits inside TLS makes no descriptor readable."""
        try:
            while data := self._socket.recv(1 << 18):
                self._buffer += data
            self.ended = True
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.ended = True
        at = 0
        while len(self._buffer) - at >= 5:
            size = 1 + struct.unpack_from("!I", self._buffer, at + 1)[0]
            if len(self._buffer) - at < size:
                break
            self.frames.append(Frame(chr(self._buffer[at]), bytes(self._buffer[at + 5 : at + size])))
            at += size
        del self._buffer[:at]

    def send(self, data: bytes) -> None:
        unsent = memoryview(data)
        while unsent and not self.ended:
            unsent = self._turn(unsent, "sending")

    def until(self, kind: str, count: int, since: int) -> int:
        """Read until `count` messages of `kind` stand at or behind index `since`; returns the index behind the last of
        them. The connection's end ends the waiting too."""
        at, missing = since, count
        while missing:
            while at == len(self.frames):
                if self.ended:
                    return at
                self._turn(memoryview(b""), f"waiting for {count} x {kind!r}")
            missing -= self.frames[at].kind == kind
            at += 1
        return at

    def login(self, user: str, database: str, password: str, **parameters: str) -> list[Frame]:
        self.send(wire.startup(user=user, database=database, **parameters))
        since = 0
        while True:
            while not self.ended and since == len(self.frames):
                self._turn(memoryview(b""), "login")
            assert since < len(self.frames), "the connection ended during the login"
            item = self.frames[since]
            since += 1
            if item == ("R", b"\0\0\0\3"):
                self.send(wire.frame("p", password.encode() + b"\0"))
            assert item.kind != "E", f"login refused: {wire.error_fields(item.body)}"
            if item.kind == "Z":
                break
        login, self.frames = self.frames[:since], self.frames[since:]
        return login

    def hold(self, steps: Iterable[Step]) -> tuple[list[Frame], bytes]:
        """The whole conversation; adjacent bytes go in one write."""
        since, unsent, end = 0, b"", None
        for step in steps:
            if isinstance(step, bytes):
                unsent += step
            elif isinstance(step, Until):
                self.send(unsent)
                unsent = b""
                since = self.until(step.kind, step.count, since)
            else:
                end = step
        self.send(unsent if end else unsent + wire.TERMINATE)
        if end in {End.CLOSE, End.RESET}:
            # How much more has come by now is chance.
            del self.frames[since:], self._buffer[:]
        self._leave(end)
        deadline = time.monotonic() + self._timeout
        while not self.ended:
            assert time.monotonic() < deadline, f"the connection did not end, after {self.frames[-6:]}"
            self._turn(memoryview(b""), "waiting for the end")
        return self.frames, bytes(self._buffer)

    def _leave(self, end: End | None) -> None:
        if end is End.HALF_CLOSE:
            # Not SSLSocket's own, which forgets the TLS session and shows ciphertext from then on.
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
        elif end in {End.CLOSE, End.RESET}:
            if end is End.RESET:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()
            self.ended = True


def hear(
    port: int, user: str, database: str, password: str, steps: Iterable[Step], *, narrow: bool = False,
    tls: ssl.SSLContext | None = None, **parameters: str,
) -> Heard:
    conversation = Conversation(port, narrow=narrow, tls=tls)
    try:
        login = conversation.login(user, database, password, **{"application_name": "dual", **parameters})
        return Heard(login, *conversation.hold(steps))
    finally:
        conversation.close()


def plain(item: Frame) -> Frame:
    """A message without what is different in every session."""
    if item.kind == "A":
        return Frame("A", b"\0\0\0\0" + item.body[4:])
    return item


def is_application_name(item: Frame) -> bool:
    return item.kind == "S" and item.body.startswith(b"application_name\0")


def same_error(server: Frame, gateway: Frame) -> bool:
    """Whether all fields are the same apart from the place in the server's source: the gateway gives some errors in the
    server's stead, and where columns are masked the server meets some a message earlier."""
    said, repeated = wire.error_fields(server.body), wire.error_fields(gateway.body)
    both = [{key: text for key, text in one.items() if key not in SOURCE_FIELDS} for one in (said, repeated)]
    return both[0] == both[1]


def is_refusal(server: Frame, gateway: Frame) -> bool:
    """Whether the gateway refuses (42501) where the server says 42501, or that the transaction has failed already."""
    said, refused = wire.error_fields(server.body), wire.error_fields(gateway.body)
    return said["V"] == refused["V"] == "ERROR" and said["C"] in {"42501", "25P02"} and refused["C"] == "42501"


def difference(server: Heard, gateway: Heard, *, refused: bool = False, explained: bool = False) -> str:
    """The first difference, in words; "" when there is none.

    `refused`: the texts of 42501 errors may differ. `explained`: the gateway says why it ends a session where the
    server ends it without a word.
    """
    left = [plain(item) for item in server.frames if not is_application_name(item)]
    right = [plain(item) for item in gateway.frames if not is_application_name(item)]
    if explained:
        assert right[-1].kind == "E" and wire.error_fields(right[-1].body)["C"] == "08P01", right[-3:]
        del right[-1]
    for number, (one, other) in enumerate(zip(left, right, strict=False)):
        if one == other:
            continue
        if one.kind == other.kind == "E" and (same_error(one, other) or (refused and is_refusal(one, other))):
            continue
        return f"message {number}: {shown(one)} from the server, {shown(other)} through the gateway"
    if len(left) != len(right):
        more, by = (left, "the server") if len(left) > len(right) else (right, "the gateway")
        return f"message {min(len(left), len(right))}: only {by} says {shown(more[min(len(left), len(right))])}"
    if server.torn != gateway.torn:
        return f"torn end: {server.torn[:40]!r} from the server, {gateway.torn[:40]!r} through the gateway"
    return ""


def shown(item: Frame) -> str:
    if item.kind in "EN":
        return f"{item.kind} {wire.error_fields(item.body)}"
    return f"{item.kind} {item.body[:80]!r}" + ("..." if len(item.body) > 80 else "")


def reported(login: Iterable[Frame]) -> dict[str, str]:
    """What ParameterStatus messages say, apart from application_name."""
    pairs = [item.body.split(b"\0")[:2] for item in login if item.kind == "S"]
    return {name.decode(): value.decode() for name, value in pairs if name != b"application_name"}
