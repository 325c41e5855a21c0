"""Worker processes that do next to nothing, for tests of the supervisor. The fork server imports this module once."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from hoopfast import ipc, model


def _frames(sock: socket.socket) -> Iterator[Any]:
    decoder = msgspec.msgpack.Decoder(model.ToWorker)
    while True:
        header = sock.recv(4, socket.MSG_WAITALL)
        if len(header) < 4:
            return
        yield decoder.decode(sock.recv(int.from_bytes(header, "big"), socket.MSG_WAITALL))


def polite(worker: int, sock: socket.socket, counters: str, state_dir: str, boot: int) -> None:
    """Says hello, counts in its page (and shows its boot number there), answers pings, ends at end-of-file."""
    with open(counters, "r+b") as page:
        page.write(struct.pack("=QQQ", 1, 5, boot))
    sock.sendall(ipc.pack(model.Hello(worker=worker, pid=os.getpid())))
    for message in _frames(sock):
        if isinstance(message, model.Ping):
            sock.sendall(ipc.pack(model.Pong(number=message.number, sessions=0)))
        elif isinstance(message, model.KillSessions):
            os._exit(7)


def stuck(worker: int, sock: socket.socket, counters: str, state_dir: str, boot: int) -> None:
    sock.sendall(ipc.pack(model.Hello(worker=worker, pid=os.getpid())))
    time.sleep(60)


def crashing(worker: int, sock: socket.socket, counters: str, state_dir: str, boot: int) -> None:
    os._exit(3)


def refusing(worker: int, sock: socket.socket, counters: str, state_dir: str, boot: int) -> None:
    """Refuses every client with a line that says which worker it was; ends when drained."""
    decoder = msgspec.msgpack.Decoder(model.ToWorker)
    buffer = b""
    descriptors: list[int] = []
    while True:
        data, fds, _, _ = socket.recv_fds(sock, 65536, 16)
        if not data:
            return
        buffer += data
        descriptors += fds
        while len(buffer) >= 4 and len(buffer) >= 4 + (length := int.from_bytes(buffer[:4], "big")):
            message, buffer = decoder.decode(buffer[4 : 4 + length]), buffer[4 + length :]
            if isinstance(message, model.ConfigUpdate):
                sock.sendall(ipc.pack(model.Hello(worker=worker, pid=os.getpid())))
            elif isinstance(message, model.Ping):
                sock.sendall(ipc.pack(model.Pong(number=message.number, sessions=0)))
            elif isinstance(message, model.Accept):
                with socket.socket(fileno=descriptors.pop(0)) as client:
                    client.sendall(f"worker {worker} {message.peer}".encode())
                sock.sendall(ipc.pack(model.ConnectionDone(reason="probe")))
            elif isinstance(message, model.Drain):
                return
