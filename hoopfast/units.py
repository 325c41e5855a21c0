"""The written forms that configuration and policy share: sizes, durations, addresses. Pure.

Every parser raises ValueError with words fit for the person who wrote the value; none repeats it.
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple

_SIZE_UNITS: Final = {
    "": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
}
_DURATION_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _number_and_unit(text: str) -> tuple[int, str]:
    text = text.strip()
    digits = len(text) - len(text.lstrip("0123456789"))
    if not 0 < digits <= 15 or not text.isascii():
        raise ValueError("it does not begin with a whole number")
    return int(text[:digits]), text[digits:].strip()


def size_bytes(text: str) -> int:
    """`64KiB`, `1GiB`, `500MB`, `4096` as bytes."""
    try:
        number, unit = _number_and_unit(text)
        return number * _SIZE_UNITS[unit.lower()]
    except (ValueError, KeyError):
        raise ValueError("must be a size such as 64KiB, 10MiB, 1GiB or 4096") from None


def duration_s(text: str) -> float:
    """`90s`, `15m`, `8h`, `2d` as seconds."""
    try:
        number, unit = _number_and_unit(text)
        return float(number * _DURATION_UNITS[unit])
    except (ValueError, KeyError):
        raise ValueError("must be a duration such as 90s, 15m, 8h or 2d") from None


class Address(NamedTuple):
    """Where to listen: a path, or host and port; host "" is every interface."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or is_loopback(self.host)


def parse_address(text: str) -> Address:
    """`host:port`, `[v6]:port`, `*:port` or `unix:/path`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError("must name a path after unix:")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError("must be host:port, [v6 address]:port, *:port or unix:/path")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if bracketed or ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            bracketed = False
        if not bracketed:
            raise ValueError("must have an IPv6 address in brackets, as in [::1]:6432")
    if any(c.isspace() or c == "/" for c in host):
        raise ValueError("must be host:port, without a scheme or spaces")
    return Address(host="" if host == "*" else host, port=int(port))


def is_loopback(host: str) -> bool:
    """Whether a host as somebody configured it, name or address, can only be this machine."""
    return host.lower() == "localhost" or is_loopback_address(host)


def is_loopback_address(host: str) -> bool:
    """Whether `host` is a literal loopback address. Names do not count: where `localhost` leads is up to a resolver."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def host_of(peer: str) -> str:
    """The address of a peer: "192.0.2.7:50123", "[2001:db8::7]:50123" or "unix"."""
    host, colon, port = peer.rpartition(":")
    if not colon or not port.isdigit():
        return peer
    return host.strip("[]")


def is_local_peer(peer: str) -> bool:
    """Whether a peer can only be on this machine, so that a credential in the clear meets no wire."""
    return peer == "unix" or is_loopback_address(host_of(peer))
