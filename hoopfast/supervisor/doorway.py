"""Who stands in the door: clients that are connected and not logged in yet, counted by address.

Such a client has proved nothing and costs a place until the login timeout, so no single address may have more than its
share of the places; otherwise one machine could keep everybody out. Used by supervisor/main.py and dispatch.py.
"""

from __future__ import annotations

from collections import Counter
from weakref import WeakKeyDictionary

from hoopfast import limits
from hoopfast.control.throttle import network_of
from hoopfast.supervisor.processes import Worker
from hoopfast.units import host_of


class Doorway:
    """Counts by worker, so that those of a dead worker are forgotten with it. Peers are "address:port" or "unix"."""

    def __init__(self) -> None:
        self._waiting: WeakKeyDictionary[Worker, Counter[str]] = WeakKeyDictionary()

    def may_enter(self, peer: str, places: int) -> bool:
        """Whether one more from there may wait, in a gateway for `places` sessions."""
        where = network_of(host_of(peer))
        most = max(places // limits.LOGIN_SHARE_OF_ADDRESS, limits.LOGINS_OF_ADDRESS_MIN)
        return sum(counts[where] for counts in self._waiting.values()) < most

    def entered(self, worker: Worker, peer: str) -> None:
        self._waiting.setdefault(worker, Counter())[network_of(host_of(peer))] += 1

    def left(self, worker: Worker, peer: str) -> None:
        """It has become a session, or is gone."""
        counts, where = self._waiting.get(worker), network_of(host_of(peer))
        if counts is None or not counts[where]:
            return
        counts[where] -= 1
        if not counts[where]:
            del counts[where]

    def __len__(self) -> int:
        return sum(counts.total() for counts in self._waiting.values())
