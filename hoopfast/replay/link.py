"""One connection to the sandbox that speaks the recorded session's own protocol: simple and extended, byte by byte.

Owns the socket, what is prepared on it and which portals are open. `hoopfast.replay.run` says what to send when.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from hoopfast import config
from hoopfast.audit.typed import decode_error
from hoopfast.errors import GatewayError
from hoopfast.net import upstream
from hoopfast.net.channel import Channel, PeerGone
from hoopfast.protocol import messages
from hoopfast.replay import encode
from hoopfast.replay.compare import Answer, ResultSet
from hoopfast.replay.recorded import Recorded

READ_BYTES = 65536
WINDOW_BYTES = 32768                    # sent in one go; more of a pipeline goes out beside the reading
CONNECT_S = 30.0
ROWS_BYTES = 16 << 20                   # of one statement's rows, kept for the comparison
NO_ROWS = "hoopfast replay has no rows for this COPY"
# Fails in every state of a transaction and does nothing else: what a refusal by the gateway did to it.
FAILURE = 'ROLLBACK TO SAVEPOINT "hoopfast: the gateway refused this statement"'


class Lost(GatewayError):
    """The sandbox closed the connection."""


class Ask:
    """One statement of an exchange. `fails`: the gateway refused it, so something fails in its place.

    Raises ValueError when its parameters are not in the trail as they were sent.
    """

    def __init__(self, one: Recorded, *, fails: bool = False, kept: int = 0) -> None:
        self.one = one
        self.fails = fails
        self.room = min(kept * 4 + 65536, ROWS_BYTES) if kept else 0
        self.answer = Answer()
        self.bind = encode.bind(one) if one.kind == "extended" and not fails else b""


class Link:
    """Opened by `connect`. One exchange at a time; `status` is that of the last ReadyForQuery."""

    def __init__(self, login: upstream.UpstreamLogin) -> None:
        self._channel = Channel(login.fd, asyncio.get_running_loop())
        self._channel.tls = login.tls
        self._buffer = bytearray(login.leftover)
        self._secret, self._route = login.secret, login.route
        self._prepared = encode.Prepared()
        self.portals: dict[str, tuple[str, bytes]] = {}         # suspended: (text, row description)
        self.pid = login.pid
        self.status = login.status
        self.parameters = dict(login.parameters)

    @classmethod
    async def connect(cls, target: config.Upstream, password: str, settings: dict[str, str]) -> Link:
        """Raises GatewayError when the sandbox does not let us in."""

        async def secret() -> str:
            return password

        deadline = asyncio.get_running_loop().time() + CONNECT_S
        context = upstream.client_context(target)
        return cls(await upstream.login(target, context, secret, settings, deadline=deadline))

    def close(self) -> None:
        self._channel.close()

    async def leave(self) -> None:
        """Say goodbye, so that the server ends the session at once, and wait until it has."""
        try:
            await self._channel.write(messages.TERMINATE)
            async with asyncio.timeout(2):
                while await self._channel.read_some(READ_BYTES):
                    pass
        except (PeerGone, TimeoutError):
            pass
        finally:
            self.close()

    async def cancel(self) -> None:
        """Ask the server to cancel what runs. Failures are nobody's business: the statement goes on then."""
        if not self._secret:
            return
        try:
            deadline = asyncio.get_running_loop().time() + CONNECT_S
            channel, _ = await upstream.open_route(self._route, deadline)
        except (OSError, GatewayError, TimeoutError):
            return
        try:
            await channel.write(messages.cancel_request(self.pid, self._secret))
            await channel.read_some(1)
        except (PeerGone, TimeoutError):
            pass
        finally:
            channel.close()

    def forget(self, names: Sequence[str] | None) -> None:
        self._prepared.forget(names)

    # ------------------------------------------------------------ exchanges

    async def command(self, sql: str) -> Answer:
        """A statement of our own, as a simple query. Its rows are kept."""
        ask = Ask(_own(sql), kept=ROWS_BYTES)
        await self._exchange(messages.query(sql), [ask], simple=True)
        return ask.answer

    async def run(self, asks: Sequence[Ask]) -> None:
        """A simple query, or extended statements up to one Sync; fills in their answers."""
        first = asks[0].one
        if first.kind == "simple" or (asks[0].fails and len(asks) == 1):
            text = FAILURE if asks[0].fails else first.sql
            await self._exchange(messages.query(text), asks, simple=True)
            return
        opened: dict[str, str] = {}     # portals that this very pipeline leaves suspended, as it did then
        data = bytearray()
        for ask in asks:
            one = ask.one
            data += self._messages(ask, goes_on=opened.get(one.portal) == one.sql or self._goes_on(one))
            opened[one.portal] = one.sql if one.outcome == "suspended" else ""
        await self._exchange(bytes(data) + messages.SYNC, asks, simple=False)

    def _messages(self, ask: Ask, *, goes_on: bool) -> bytes:
        one = ask.one
        if ask.fails:
            return messages.parse("", FAILURE) + messages.bind("", "", ()) + messages.execute("")
        if one.kind == "parse":
            return messages.parse(one.name, one.sql, one.types)
        if goes_on:
            return messages.execute(one.portal, one.row_limit)
        # The trail has no Close: a named portal that is bound again had been closed before.
        closed = messages.close_portal(one.portal) if one.portal else b""
        return (self._prepared.messages(one) + closed + ask.bind + messages.describe_portal(one.portal)
                + messages.execute(one.portal, one.row_limit))

    def _goes_on(self, one: Recorded) -> bool:
        """Whether it fetches more from a portal that is open here, as a cursor of a driver does."""
        open_portal = self.portals.get(one.portal)
        return open_portal is not None and open_portal[0] == one.sql and self.status in (b"T", b"E")

    async def _exchange(self, data: bytes, asks: Sequence[Ask], *, simple: bool) -> None:
        begun = time.monotonic()
        writing: asyncio.Task[None] | None = None
        try:
            if len(data) > WINDOW_BYTES:
                writing = asyncio.create_task(self._channel.write(data))
            else:
                await self._channel.write(data)
            await self._read(_Reading(self, asks, begun, simple=simple))
            if writing is not None:
                await writing
        except (PeerGone, TimeoutError, ValueError) as failure:
            raise Lost(f"the sandbox closed the connection: {failure}") from failure
        finally:
            if writing is not None and not writing.done():
                writing.cancel()

    async def _read(self, reading: _Reading) -> None:
        buffer = self._buffer
        while True:
            at = 0
            while len(buffer) - at >= 5:
                length = int.from_bytes(buffer[at + 1 : at + 5], "big")
                if length < 4:
                    raise ValueError("a message of the sandbox has no length")
                if len(buffer) - at <= length:
                    break
                kind, body = buffer[at], bytes(buffer[at + 5 : at + 1 + length])
                at += 1 + length
                reply = reading.take(kind, body)
                if reply:
                    await self._channel.write(reply)
            del buffer[:at]
            if reading.done:
                return
            got = await self._channel.read_some(READ_BYTES)
            if not got:
                raise PeerGone(reading.last_error or "the server ended it")
            buffer += got


class _Reading:
    """Sorts the server's messages to the statements that they answer."""

    def __init__(self, link: Link, asks: Sequence[Ask], begun: float, *, simple: bool) -> None:
        self._link, self._asks, self._begun, self._simple = link, asks, begun, simple
        self._at = 0
        self._failed = False
        self.done = False
        self.last_error = ""

    def take(self, kind: int, body: bytes) -> bytes:
        """What to send back, if anything."""
        code = chr(kind)
        if code in "DdTH" and self._at < len(self._asks):
            self._data(code, body)
        elif code in "CIs1" and self._at < len(self._asks):
            self._end_of(code, body)
        elif code == "E":
            self._error(body)
        elif code == "G":
            # The Sync that was sent already is swallowed by the COPY.
            return messages.copy_fail(NO_ROWS) + (b"" if self._simple else messages.SYNC)
        elif code == "Z":
            self._link.status = body
            if body == b"I":
                self._link.portals.clear()
            self.done = True
        elif code == "S":
            name, value = messages.parse_parameter_status(body)
            self._link.parameters[name] = value
        return b""

    def _data(self, code: str, body: bytes) -> None:
        ask = self._asks[self._at]
        answer = ask.answer
        if code in "TH":
            answer.sets.append(ResultSet(description=body if code == "T" else b""))
            return
        answer.rows += 1
        if not answer.sets:
            # More of a portal that was described when it was opened.
            known = self._link.portals.get(ask.one.portal)
            answer.sets.append(ResultSet(description=known[1] if known else b""))
        kept = answer.sets[-1]
        if len(kept.frames) + len(body) + 5 <= ask.room:
            kept.frames += messages.frame(code.encode(), body)
            kept.rows += 1
        else:
            ask.room = 0                # a first part without gaps

    def _end_of(self, code: str, body: bytes) -> None:
        ask = self._asks[self._at]
        if code == "1" and ask.one.kind != "parse":
            return
        answer = ask.answer
        if code == "C":
            answer.tags.append(body[:-1].decode("utf-8", "replace"))
        answer.state = "suspended" if code == "s" else "complete"
        answer.us = int((time.monotonic() - self._begun) * 1_000_000)
        if code == "s":
            description = answer.sets[-1].description if answer.sets else b""
            self._link.portals[ask.one.portal] = (ask.one.sql, description)
        elif not self._simple:
            self._link.portals.pop(ask.one.portal, None)
        if not self._simple:
            self._at += 1

    def _error(self, body: bytes) -> None:
        fields = decode_error(body)
        self.last_error = fields.get("message", "")
        if self._at >= len(self._asks) or self._failed:
            return
        self._failed = True
        answer = self._asks[self._at].answer
        answer.state, answer.sqlstate, answer.message = "error", fields.get("sqlstate", ""), self.last_error
        answer.us = int((time.monotonic() - self._begun) * 1_000_000)
        self._at = len(self._asks)


def _own(sql: str) -> Recorded:
    return Recorded(
        session="", seq=0, event=0, begin=0, end=0, kind="simple", sql=sql, name="", portal="", row_limit=0,
        parameters=None, types=(), parameter_bytes=(), result_formats=(), rule="", masks=(), tables=(), kinds=(),
        outcome="", tag="", rows=0, sqlstate="", message="", is_protected=False, results=None,
    )
