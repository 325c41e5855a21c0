"""Sizes, durations and addresses as people write them."""

from __future__ import annotations

import pytest

from hoopfast import units


@pytest.mark.parametrize(("text", "size"), [
    ("64KiB", 65536), ("1GiB", 1 << 30), ("10 MiB", 10 << 20), ("500MB", 500_000_000), ("4096", 4096), ("0", 0),
    ("7b", 7),
])
def test_sizes(text: str, size: int) -> None:
    assert units.size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "-1", "1.5GiB", "3 parsecs", "64k", "\u0661KiB", "9" * 16, "1 GiB x"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size such as"):
        units.size_bytes(text)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("15m", 900.0), ("8h", 28800.0), ("2d", 172800.0)])
def test_durations(text: str, seconds: float) -> None:
    assert units.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "-5m", "1.5h", "15M", "15 minutes"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration such as"):
        units.duration_s(text)


@pytest.mark.parametrize(("text", "address", "local"), [
    ("127.0.0.1:6432", ("127.0.0.1", 6432, ""), True),
    ("127.9.9.9:1", ("127.9.9.9", 1, ""), True),
    ("localhost:0", ("localhost", 0, ""), True),
    ("[::1]:6432", ("::1", 6432, ""), True),
    ("unix:/run/gw.sock", ("", 0, "/run/gw.sock"), True),
    ("0.0.0.0:6432", ("0.0.0.0", 6432, ""), False),
    ("[::]:6432", ("::", 6432, ""), False),
    ("*:6432", ("", 6432, ""), False),
    (":6432", ("", 6432, ""), False),
    ("localhost.example.com:1", ("localhost.example.com", 1, ""), False),
])
def test_addresses(text: str, address: tuple[str, int, str], local: bool) -> None:
    parsed = units.parse_address(text)
    assert tuple(parsed) == address
    assert parsed.local is local


@pytest.mark.parametrize("text", [
    "", "6432", "host", "host:", "host:x", "host:65536", "host:-1", "::1:6432", "[::1:6432", "[nonsense]:1", "unix:",
    "https://host:1", "a b:1",
])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        units.parse_address(text)


def test_loopback() -> None:
    assert all(map(units.is_loopback_address, ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "::ffff:127.0.0.1")))
    elsewhere = ("", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "unix", "127.1", "127.0.0.1.example.com")
    assert not any(map(units.is_loopback_address, elsewhere))
    assert not any(map(units.is_loopback, elsewhere))
    # A name that somebody configured, not one that somebody else resolves.
    assert units.is_loopback("LocalHost")
    assert not units.is_loopback_address("localhost")


def test_peers() -> None:
    assert [units.host_of(p) for p in ("192.0.2.7:5", "[2001:db8::7]:5", "unix", "", ":5")] == [
        "192.0.2.7", "2001:db8::7", "unix", "", "",
    ]
    here = ("unix", "127.0.0.1:1", "[::1]:1", "::1:1", "::ffff:127.0.0.1:9")
    assert all(map(units.is_local_peer, here))
    assert not any(map(units.is_local_peer, ("192.0.2.7:1", "[2001:db8::1]:1", "", "localhost:5")))
