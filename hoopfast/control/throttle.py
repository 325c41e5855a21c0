"""Failed logins slow their address down: some are free, then each attempt from there waits a little.

A leaky bucket by address. Never by name: whoever could lock a name out would own a weapon. Used by `control/gate.py`.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from hoopfast import limits


class FailureThrottle:
    """Counts failures; memory is bounded, the address that failed longest ago is forgotten first. Times in seconds."""

    def __init__(self, addresses_max: int = limits.LOGIN_FAILURE_ADDRESSES_MAX) -> None:
        self._addresses_max = addresses_max
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def delay(self, host: str, now: float) -> float:
        """How long the next attempt from there has to wait."""
        excess = self._level(network_of(host), now) - limits.LOGIN_FAILURES_PER_MINUTE
        return min(max(excess + 1.0, 0.0) * limits.LOGIN_DELAY_STEP_S, limits.LOGIN_DELAY_MAX_S)

    def failed(self, host: str, now: float) -> None:
        """Count one."""
        key = network_of(host)
        # Bounded above, so that an hour of attack does not mean an hour of penance for the office behind the address.
        highest = limits.LOGIN_FAILURES_PER_MINUTE + limits.LOGIN_DELAY_MAX_S / limits.LOGIN_DELAY_STEP_S
        self._levels[key] = (min(self._level(key, now) + 1.0, highest), now)
        self._levels.move_to_end(key)
        while len(self._levels) > self._addresses_max:
            self._levels.popitem(last=False)

    def _level(self, key: str, now: float) -> float:
        level, at = self._levels.get(key, (0.0, now))
        return max(level - max(now - at, 0.0) * limits.LOGIN_FAILURES_PER_MINUTE / 60.0, 0.0)


def network_of(host: str) -> str:
    """What counts as one address: an IPv4 address, an IPv6 /64 (one customer has 2**64 of them), or the text itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
