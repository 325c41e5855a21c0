"""Cancel requests: from a client's key to the statement in flight, over whichever workers lie between.

Called by `worker/front.py`. A client's connection is closed only when its cancel has taken effect or came to nothing:
libpq waits for that, and a client that went on too early would have its next statement cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from hoopfast import limits, model
from hoopfast.net.cancel import CancelKeys, Canceller
from hoopfast.worker.session import Session

NOTICE_S: Final = 0.1                   # how long the relay may take to say that a statement is in flight
_REQUESTED: Final = b'{"kind":"cancel_requested"}'
ELSEWHERE_S: Final = 3.0                # how long another worker may take to handle its key


class Withdrawer(Protocol):
    def cancel(self, session: Any) -> bool: ...


class Cancels:
    """`sessions` is the front's live table; `desk` withdraws a waiting approval; `tell` queues for the supervisor."""

    def __init__(
        self, keys: CancelKeys, sessions: Mapping[int, Session], relay: Any, desk: Withdrawer,
        tell: Callable[[Any], None],
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._relay = relay
        self._desk = desk
        self._tell = tell
        self._canceller = Canceller()
        self._waiting: dict[int, asyncio.Future[None]] = {}                 # by session, until the relay has spoken
        self._elsewhere: dict[model.CancelKey, asyncio.Future[None]] = {}

    async def asked(self, pid: int, secret: bytes) -> None:
        """A client's CancelRequest; returns when its connection may be closed."""
        session = self._keys.find(pid, secret)
        if session is not None:
            await self._cancel(session)
        else:
            await self._ask_elsewhere(model.CancelKey(pid=pid, secret=secret))

    async def asked_elsewhere(self, key: model.CancelKey) -> None:
        """A key that came to another worker. The supervisor waits for every worker's answer, found or not."""
        session = self._keys.find(key.pid, key.secret)
        if session is not None:
            await self._cancel(session)
        self._tell(model.CancelKey(pid=key.pid, secret=key.secret, done=True))

    def handled_elsewhere(self, key: model.CancelKey) -> None:
        """The other workers are done with a key that we passed on."""
        _wake(self._elsewhere.get(model.CancelKey(pid=key.pid, secret=key.secret)))

    async def upstream(self, session: Session) -> None:
        """The relay has found a statement in flight, and sends nothing new until `cancel_done`."""
        waiting = self._waiting.pop(session.id, None)
        try:
            await self._canceller.cancel(session.route, session.upstream_pid, session.upstream_secret)
        finally:
            if session.id in self._sessions:
                self._relay.cancel_done(session.id)
            _wake(waiting)

    async def _ask_elsewhere(self, key: model.CancelKey) -> None:
        done = self._elsewhere.setdefault(key, asyncio.get_running_loop().create_future())
        try:
            self._tell(key)
            await _wait(done, ELSEWHERE_S)
        finally:
            self._elsewhere.pop(key, None)

    async def _cancel(self, number: int) -> None:
        """A waiting approval is withdrawn; otherwise the relay says whether a statement is in flight."""
        session = self._sessions.get(number)
        if session is None or self._desk.cancel(session):
            return
        waiting = self._waiting.get(number)
        if waiting is None:
            self._relay.note(number, _REQUESTED)
            loop = asyncio.get_running_loop()
            waiting = self._waiting[number] = loop.create_future()
            loop.call_later(NOTICE_S, self._nothing_in_flight, number, waiting)
            self._relay.cancel(number)
        await _wait(waiting, limits.CANCEL_TIMEOUT_S)

    def _nothing_in_flight(self, number: int, waiting: asyncio.Future[None]) -> None:
        """The relay has kept silent; once it speaks, `upstream` has taken the future over."""
        if self._waiting.get(number) is waiting:
            del self._waiting[number]
            _wake(waiting)


async def _wait(done: asyncio.Future[None], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            # Shielded: several clients may wait for the same end.
            await asyncio.shield(done)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
