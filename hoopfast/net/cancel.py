"""Cancel keys of our own, and cancel requests to the servers behind them.

The front issues a key per session (`CancelKeys`), looks incoming CancelRequests up in it, and calls `Canceller.cancel`
when the relay has found a statement in flight. A key that this worker does not know may be another's: it is passed on.
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

SECRET_BYTES: Final = {0: 4, 2: 32}                 # by protocol minor: a 3.0 client must never get a longer key
_NOBODY: Final = secrets.token_bytes(32)


class Key(NamedTuple):
    pid: int
    secret: bytes


class CancelKeys:
    """The keys of one worker's sessions: the server's own process id, with a secret that only this gateway knows.

    The pid is the true one because clients use it: as NOTIFY's sender, for pg_terminate_backend, in pg_stat_activity.
    Two servers may use the same pid, so it may stand for several sessions.
    """

    def __init__(self) -> None:
        self._keys: dict[int, dict[bytes, int]] = {}            # pid -> secret -> session

    def issue(self, session: int, minor: int, pid: int) -> Key:
        """A key for `session`, of the length its protocol allows. `pid` 0 (the server gave none): one is made up."""
        pid = pid or secrets.randbelow((1 << 31) - 1) + 1
        key = Key(pid, secrets.token_bytes(SECRET_BYTES[minor]))
        self._keys.setdefault(pid, {})[key.secret] = session
        return key

    def release(self, key: Key) -> None:
        sessions = self._keys.get(key.pid, {})
        sessions.pop(key.secret, None)
        if not sessions:
            self._keys.pop(key.pid, None)

    def find(self, pid: int, secret: bytes) -> int | None:
        """The session of a key, or None. Takes the same time for an unknown pid and a wrong secret."""
        found = None
        for expected, session in self._keys.get(pid, {_NOBODY: 0}).items():
            if hmac.compare_digest(expected, secret) and session:
                found = session
        return found


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
