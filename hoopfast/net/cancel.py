"""Cancel keys of our own, and cancel requests to the servers behind them.

The front issues a key per session (`CancelKeys`), looks incoming CancelRequests up in it, and calls `Canceller.cancel`
when the relay has found a statement in flight. A key names its worker, so any worker can route one that is not its own.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from typing import Final, NamedTuple

from hoopfast import limits
from hoopfast.errors import GatewayError
from hoopfast.net import upstream
from hoopfast.net.channel import Channel
from hoopfast.protocol import messages

log = logging.getLogger(__name__)

SLOT_BITS: Final = 22
SLOTS_MAX: Final = 1 << SLOT_BITS
WORKERS_MAX: Final = 1 << (31 - SLOT_BITS)          # a pid stays positive in clients that read it as int32
SECRET_BYTES: Final = {0: 4, 2: 32}                 # by protocol minor: a 3.0 client must never get a longer key
_NOBODY: Final = secrets.token_bytes(32)


class Key(NamedTuple):
    pid: int
    secret: bytes


class CancelKeys:
    """The keys of one worker's sessions. Slots are reused oldest first, so that a late key rarely meets a live slot."""

    def __init__(self, worker: int) -> None:
        if not 0 <= worker < WORKERS_MAX:
            raise ValueError(f"worker number {worker} does not fit into a cancel key")
        self._worker = worker
        self._keys: dict[int, tuple[bytes, int]] = {}           # pid -> (secret, session)
        self._next = 0

    def issue(self, session: int, minor: int) -> Key:
        """A key for `session`, of the length its protocol allows."""
        if len(self._keys) >= SLOTS_MAX - 1:
            raise GatewayError("no cancel key is free")
        while True:
            self._next = self._next % (SLOTS_MAX - 1) + 1       # 1..SLOTS_MAX-1: pid 0 means "none" to some clients
            pid = self._worker << SLOT_BITS | self._next
            if pid not in self._keys:
                break
        secret = secrets.token_bytes(SECRET_BYTES[minor])
        self._keys[pid] = (secret, session)
        return Key(pid, secret)

    def release(self, pid: int) -> None:
        self._keys.pop(pid, None)

    def is_ours(self, pid: int) -> bool:
        """Whether this worker issued the key; otherwise the supervisor routes it."""
        return pid >> SLOT_BITS == self._worker

    def find(self, pid: int, secret: bytes) -> int | None:
        """The session of a key, or None. Takes the same time for an unknown pid and a wrong secret."""
        expected, session = self._keys.get(pid, (_NOBODY, 0))
        fits = hmac.compare_digest(expected, secret)
        return session if fits and session else None


class Canceller:
    """Sends CancelRequests upstream, a bounded number at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(limits.CANCELS_IN_FLIGHT_MAX)

    async def cancel(self, route: upstream.Route, pid: int, secret: bytes) -> bool:
        """Ask the server to cancel, over a connection of its own. True when the server has closed it: only then is
        it certain that the signal hits no later statement. Never raises for a server that cannot be reached."""
        if not secret:
            return False                                        # the server gave no key (case 55)
        channel: Channel | None = None
        try:
            async with self._places:
                deadline = asyncio.get_running_loop().time() + limits.CANCEL_TIMEOUT_S
                # A session under TLS is cancelled under TLS or not at all: the key is worth protecting.
                channel, _ = await upstream.open_route(route, deadline)
                await channel.write(messages.cancel_request(pid, secret))
                while await channel.read_some():
                    pass
                return True
        except (OSError, GatewayError) as failure:              # TimeoutError is an OSError
            log.warning("cancel did not reach the server", extra={"fields": {"reason": str(failure) or "timeout"}})
            return False
        finally:
            if channel is not None:
                channel.close()
