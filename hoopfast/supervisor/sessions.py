"""Who is connected right now: every live session, by worker, with exact counts for the limits.

Pure bookkeeping of what workers report; written by supervisor/dispatch.py, read by the admin API, metrics and limits.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from hoopfast.model import SessionOpened

REVOKED_REMEMBERED_MAX = 10_000


class Sessions:
    """The live sessions of all workers."""

    def __init__(self) -> None:
        self._live: dict[int, tuple[int, SessionOpened]] = {}
        self._by_connection: Counter[str] = Counter()
        self._revoked: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    def opened(self, worker: int, session: SessionOpened) -> None:
        self._live[session.session] = (worker, session)
        self._by_connection[session.connection] += 1

    def closed(self, session: int) -> SessionOpened | None:
        """None: it was not known, or closed already."""
        found = self._live.pop(session, None)
        if found is None:
            return None
        self._by_connection[found[1].connection] -= 1
        return found[1]

    def worker_lost(self, worker: int) -> list[SessionOpened]:
        """Take out everything a dead worker had."""
        lost = [session for of, session in self._live.values() if of == worker]
        for session in lost:
            self.closed(session.session)
        return lost

    def find(self, session: int) -> tuple[int, SessionOpened] | None:
        """(worker, session) of a live one."""
        return self._live.get(session)

    def all(self) -> list[tuple[int, SessionOpened]]:
        """Oldest first."""
        return sorted(self._live.values(), key=lambda item: (item[1].started_at, item[1].session))

    def on_connection(self, connection: str) -> int:
        return self._by_connection[connection]

    def by_connection(self) -> dict[str, int]:
        return dict(self._by_connection)

    def revoke(self, credential: str) -> int:
        """Remember that a credential is dead, for logins that are under way; returns how many live sessions it has."""
        self._revoked[credential] = None
        while len(self._revoked) > REVOKED_REMEMBERED_MAX:
            self._revoked.popitem(last=False)
        return sum(1 for _, session in self._live.values() if session.identity.credential == credential)

    def is_revoked(self, credential: str) -> bool:
        return bool(credential) and credential in self._revoked
