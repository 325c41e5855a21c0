"""Framed messages and descriptors between the supervisor and a worker, over one Unix stream socket.

A frame is a 4-byte big-endian length and the msgpack of one struct of `model.ToWorker` or `model.ToSupervisor`. The
descriptor of an `Accept` travels with the first byte of its frame: the kernel never merges two messages that carry
descriptors into one read, so they arrive in the order of their frames, each no later than its frame's first byte.
Called by `supervisor/` and `worker/`; knows nothing of what the messages mean beyond "an Accept takes one descriptor".
"""

from __future__ import annotations

import array
import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from hoopfast import limits, model
from hoopfast.errors import InternalFault

log = logging.getLogger("hoopfast.ipc")

HEADER_BYTES = 4
RECEIVE_BYTES = 256 * 1024
RECEIVES_PER_TURN_MAX = 8           # then the loop's other readers get their turn
FRAMES_PER_SEND_MAX = 64            # well below IOV_MAX
DESCRIPTORS_MAX = 4096              # received and not yet claimed by a frame
BACKLOG_MAX_BYTES = 2 * limits.IPC_FRAME_MAX_BYTES
RETRY_S = 0.01                      # after the kernel refused to queue one more descriptor
ANCILLARY_BYTES = socket.CMSG_SPACE(16 * array.array("i").itemsize)
LOST = -1                           # its descriptor could not be received (EMFILE); keeps the order of the others

_encoder = msgspec.msgpack.Encoder()


def pack(message: Any) -> bytes:
    """The frame of one message. InternalFault if it is larger than the receiver would take."""
    body = _encoder.encode(message)
    if len(body) > limits.IPC_FRAME_MAX_BYTES:
        bound = limits.IPC_FRAME_MAX_BYTES
        raise InternalFault(f"a {type(message).__name__} of {len(body)} bytes is over the {bound} bytes of IPC")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class Link:
    """One end of the socket pair on the running event loop. Owns the socket and every descriptor given to `send`.

    `on_message(message, fd)` gets each decoded message in order; `fd` is the descriptor of an `Accept` and from then on
    the callee's, or None for every other message (and for an Accept whose descriptor this process had no room for: the
    client is gone, but its place must still be freed). `on_closed()` is called once, when the peer has gone or broken
    the protocol, and not after `close()`.
    """

    def __init__(
        self,
        sock: socket.socket,
        decode_type: Any,
        on_message: Callable[[Any, int | None], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._fd = sock.fileno()
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(decode_type)
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._unsent: deque[tuple[memoryview, int | None]] = deque()
        self._unsent_bytes = 0
        self._writing = False
        self._closed = False
        self._loop.add_reader(self._fd, self._readable)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def backlog_bytes(self) -> int:
        """Bytes handed to `send` that the peer's socket has not taken yet."""
        return self._unsent_bytes

    def send(self, message: Any, fd: int | None = None) -> None:
        """Queue one message, with a descriptor that this link closes once it is on its way. Never blocks.

        After the link has closed, the message is dropped and the descriptor closed. InternalFault if it is too large.
        """
        if self._closed:
            _close_all([fd])
            return
        try:
            frame = pack(message)
        except InternalFault:
            _close_all([fd])
            raise
        self._unsent.append((memoryview(frame), fd))
        self._unsent_bytes += len(frame)
        if self._unsent_bytes > BACKLOG_MAX_BYTES:
            self._fail(f"the peer has not read for {self._unsent_bytes} bytes")
        elif not self._writing:
            self._flush()

    def close(self) -> None:
        """Close without a callback: unsent messages and undelivered descriptors are given up."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        _close_all(list(self._descriptors))
        _close_all([fd for _, fd in self._unsent])
        self._descriptors.clear()
        self._unsent.clear()
        self._unsent_bytes = 0

    def _fail(self, reason: str) -> None:
        if self._closed:
            return
        log.debug("link closed: %s", reason)
        self.close()
        # Not from inside send(): its caller is in the middle of something.
        self._loop.call_soon(self._on_closed)

    # ------------------------------------------------------------ out

    def _flush(self) -> None:
        while self._unsent and not self._closed:
            parts, fd = self._batch()
            try:
                if fd is None:
                    sent = self._sock.sendmsg(parts)
                else:
                    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
                    sent = self._sock.sendmsg(parts, [rights])
            except (BlockingIOError, InterruptedError):
                self._wait_writable()
                return
            except OSError as failure:
                if failure.errno in (errno.ETOOMANYREFS, errno.ENOBUFS):
                    # The peer has not collected earlier descriptors; writability says nothing about that limit.
                    self._wait_a_little()
                    return
                self._fail(f"send: {failure}")
                return
            self._sent(sent, fd)
        if self._writing and not self._closed:
            self._writing = False
            self._loop.remove_writer(self._fd)

    def _batch(self) -> tuple[list[memoryview], int | None]:
        """As many queued frames as one sendmsg may take: a descriptor only ever goes with the first of them."""
        first, fd = self._unsent[0]
        parts = [first]
        for index in range(1, min(len(self._unsent), FRAMES_PER_SEND_MAX)):
            frame, other = self._unsent[index]
            if other is not None:
                break
            parts.append(frame)
        return parts, fd

    def _sent(self, sent: int, fd: int | None) -> None:
        assert sent > 0
        if fd is not None:
            os.close(fd)
            self._unsent[0] = (self._unsent[0][0], None)
        self._unsent_bytes -= sent
        while sent:
            frame, _ = self._unsent[0]
            if sent < len(frame):
                self._unsent[0] = (frame[sent:], None)
                return
            sent -= len(frame)
            self._unsent.popleft()

    def _wait_writable(self) -> None:
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._fd, self._flush)

    def _wait_a_little(self) -> None:
        if self._writing:
            self._loop.remove_writer(self._fd)
        self._writing = True        # keeps send() from trying at once
        self._loop.call_later(RETRY_S, self._flush_again)

    def _flush_again(self) -> None:
        if not self._closed:
            self._writing = False
            self._flush()

    # ------------------------------------------------------------ in

    def _readable(self) -> None:
        for _ in range(RECEIVES_PER_TURN_MAX):
            if self._closed:
                return
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(RECEIVE_BYTES, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as failure:
                self._fail(f"receive: {failure}")
                return
            self._take_descriptors(ancillary, flags)
            if not data:
                self._fail("end of file")
                return
            self._received += data
            self._take_frames()
            if len(data) < RECEIVE_BYTES and not ancillary:
                return

    def _take_descriptors(self, ancillary: list[tuple[int, int, bytes]], flags: int) -> None:
        got: list[int] = []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                got.extend(numbers)
        if flags & socket.MSG_CTRUNC and not got:
            log.error("out of file descriptors: a client's connection was lost; raise LimitNOFILE of the service")
            got.append(LOST)
        self._descriptors.extend(got)
        if len(self._descriptors) > DESCRIPTORS_MAX:
            self._fail("descriptors that belong to no frame")

    def _take_frames(self) -> None:
        buffer = self._received
        at = 0
        while not self._closed and len(buffer) - at >= HEADER_BYTES:
            length = int.from_bytes(buffer[at : at + HEADER_BYTES], "big")
            if length > limits.IPC_FRAME_MAX_BYTES:
                self._fail(f"a frame of {length} bytes")
                return
            end = at + HEADER_BYTES + length
            if len(buffer) < end:
                break
            body = bytes(memoryview(buffer)[at + HEADER_BYTES : end])
            at = end
            self._deliver(body)
        # Once per read, not per frame: dropping the front of a bytearray only moves its start.
        if at:
            del buffer[:at]

    def _deliver(self, body: bytes) -> None:
        try:
            message = self._decoder.decode(body)
        except msgspec.MsgspecError as failure:
            self._fail(f"a message that cannot be read: {failure}")
            return
        fd: int | None = None
        if isinstance(message, model.Accept):
            if not self._descriptors:
                self._fail("an Accept without its descriptor")
                return
            fd = self._descriptors.popleft()
            if fd == LOST:
                fd = None
        try:
            self._on_message(message, fd)
        except Exception:
            # The descriptor was the callee's from the call on; closing it here could close somebody else's.
            log.exception("the handler of %s failed", type(message).__name__)


def _close_all(descriptors: list[int] | list[int | None]) -> None:
    for fd in descriptors:
        if fd is not None and fd != LOST:
            os.close(fd)
