"""The link between processes: every message in three deliveries, descriptors in order, bounds, nothing leaked."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from typing import Any

import pytest

from hoopfast import ipc, limits, model
from hoopfast.errors import InternalFault
from tests.support.waiting import until

MESSAGES = [
    model.Accept(listener="0.0.0.0:6432", peer="192.0.2.7:50123"),
    model.Ping(number=7),
    model.AuthReply(request=3, identity=model.Identity(user="ana", subject="1", issuer="okta", groups=("dba",))),
    model.Accept(listener="0.0.0.0:6432", peer="unix"),
    model.KillSessions(credential="abc"),
]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Far:
    """The receiving link, with what it got."""

    def __init__(self, sock: socket.socket, kind: Any = model.ToWorker) -> None:
        self.messages: list[Any] = []
        self.descriptors: list[int | None] = []
        self.closed = 0
        self.link = ipc.Link(sock, kind, self._on_message, self._on_closed)

    def _on_message(self, message: Any, fd: int | None) -> None:
        self.messages.append(message)
        if isinstance(message, model.Accept):
            self.descriptors.append(fd)
        else:
            assert fd is None

    def _on_closed(self) -> None:
        self.closed += 1


def pipe_marked(mark: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, mark)
    os.close(writer)
    return reader


def deliver(near: socket.socket, how: str) -> None:
    """Write MESSAGES by hand; the n-th Accept carries a pipe that holds its number."""
    accepts = 0
    plain = bytearray()
    for message in MESSAGES:
        frame = ipc.pack(message)
        rights = []
        fd = -1
        if isinstance(message, model.Accept):
            fd = pipe_marked(str(accepts).encode())
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            accepts += 1
        if how == "bytes":
            near.sendmsg([frame[:1]], rights)
            for at in range(1, len(frame)):
                near.send(frame[at : at + 1])
        elif rights:
            # With what was left over from before in the same read, and the beginning of the next frame after it.
            near.send(bytes(plain))
            plain.clear()
            near.sendmsg([frame], rights)
        else:
            plain += frame
        if fd >= 0:
            os.close(fd)
    near.send(bytes(plain) + (ipc.pack(model.Ping(number=99))[:5] if how == "trailing" else b""))


@pytest.mark.parametrize("how", ["whole", "bytes", "trailing"])
def test_three_deliveries(how: str) -> None:
    async def scenario() -> None:
        before = open_descriptors()
        near, far_sock = socket.socketpair()
        far = Far(far_sock)
        await asyncio.get_running_loop().run_in_executor(None, deliver, near, how)
        await until(lambda: len(far.messages) == len(MESSAGES))
        assert far.messages == MESSAGES
        marks = []
        for fd in far.descriptors:
            assert fd is not None
            marks.append(os.read(fd, 10))
            assert not os.get_inheritable(fd)
            os.close(fd)
        assert marks == [b"0", b"1"]
        if how == "trailing":
            near.send(ipc.pack(model.Ping(number=99))[5:])
            await until(lambda: far.messages[-1] == model.Ping(number=99))
        near.close()
        await until(lambda: far.closed == 1)
        assert open_descriptors() == before

    asyncio.run(scenario())


def test_link_to_link_with_more_than_the_socket_holds() -> None:
    async def scenario() -> None:
        before = open_descriptors()
        a, b = socket.socketpair()
        far = Far(b)
        near = ipc.Link(a, model.ToSupervisor, lambda message, fd: None, lambda: None)
        big = {"x": "y" * 700_000}
        for number in range(30):
            near.send(model.ConfigUpdate(version=number, config=big, policy={}))
            near.send(model.Accept(listener="l", peer=str(number)), pipe_marked(str(number).encode()))
        assert near.backlog_bytes > 0
        await until(lambda: len(far.messages) == 60)
        assert near.backlog_bytes == 0
        accepts = [m for m in far.messages if isinstance(m, model.Accept)]
        assert [m.peer for m in accepts] == [str(n) for n in range(30)]
        for number, fd in enumerate(far.descriptors):
            assert fd is not None
            assert os.read(fd, 10) == str(number).encode()
            os.close(fd)
        near.close()
        await until(lambda: far.closed == 1)
        assert open_descriptors() == before

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "garbage",
    [
        (limits.IPC_FRAME_MAX_BYTES + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x03\xc1\xc1\xc1",
        ipc.pack(model.Hello(worker=1, pid=2)),               # the wrong direction
        ipc.pack(model.Accept(listener="l", peer="p")),       # its descriptor is missing
    ],
)
def test_a_peer_that_breaks_the_protocol_is_closed(garbage: bytes) -> None:
    async def scenario() -> None:
        before = open_descriptors()
        near, far_sock = socket.socketpair()
        far = Far(far_sock)
        near.send(garbage)
        await until(lambda: far.closed == 1)
        assert far.messages == []
        near.close()
        assert open_descriptors() == before

    asyncio.run(scenario())


def test_descriptors_nobody_claimed_are_closed() -> None:
    async def scenario() -> None:
        before = open_descriptors()
        near, far_sock = socket.socketpair()
        far = Far(far_sock)
        fd = pipe_marked(b"x")
        near.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        os.close(fd)
        await asyncio.sleep(0.01)
        near.close()
        await until(lambda: far.closed == 1)
        assert open_descriptors() == before

    asyncio.run(scenario())


def test_sending_on_a_closed_link_closes_the_descriptor() -> None:
    async def scenario() -> None:
        before = open_descriptors()
        a, b = socket.socketpair()
        near = ipc.Link(a, model.ToSupervisor, lambda message, fd: None, lambda: None)
        near.close()
        near.send(model.Accept(listener="l", peer="p"), pipe_marked(b"x"))
        b.close()
        assert near.closed
        assert open_descriptors() == before

    asyncio.run(scenario())


def test_a_frame_over_the_bound_is_refused_by_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IPC_FRAME_MAX_BYTES", 100)
    with pytest.raises(InternalFault, match="Drain of"):
        ipc.pack(model.Drain(seconds=1.0, reason="x" * 200))


def test_a_failing_handler_does_not_stop_the_next_message() -> None:
    async def scenario() -> None:
        seen: list[int] = []

        def on_message(message: Any, fd: int | None) -> None:
            seen.append(message.number)
            if message.number == 1:
                raise ValueError("handler")

        near, far_sock = socket.socketpair()
        link = ipc.Link(far_sock, model.ToWorker, on_message, lambda: None)
        near.send(ipc.pack(model.Ping(number=1)) + ipc.pack(model.Ping(number=2)))
        await until(lambda: seen == [1, 2])
        link.close()
        near.close()

    asyncio.run(scenario())


def test_closing_from_inside_a_handler_delivers_nothing_more() -> None:
    async def scenario() -> None:
        near, far_sock = socket.socketpair()
        seen: list[Any] = []

        def on_message(message: Any, fd: int | None) -> None:
            seen.append(message)
            link.close()

        link = ipc.Link(far_sock, model.ToWorker, on_message, lambda: seen.append("closed"))
        near.send(ipc.pack(model.Ping(number=1)) + ipc.pack(model.Ping(number=2)))
        await asyncio.sleep(0.02)
        assert seen == [model.Ping(number=1)]
        near.close()

    asyncio.run(scenario())
