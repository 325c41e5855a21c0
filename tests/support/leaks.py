"""Leak accounting: what the processes of a running gateway hold before a test and, soon after it, again.

Descriptors are counted by what they are, from /proc, so that a leak says its name; sessions, parked statements and the
relays' memory come from the workers' counter pages, taken places from the supervisor. Used by the fixture in
tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from hoopfast import model
from tests.support.gateway import Gateway

SETTLE_S = 15.0
# Rests of a worker: back to what they were, or lower. "statements" are those that no cache holds.
HELD = ("sessions_open", "parked", "buffer_bytes", "arena_bytes", "held_names", "held_plans", "statements")
# A worker keeps its current segment and two in reserve; one more is about to be handed over or unmapped.
SEGMENTS_MAX = 5
# Kept for later: connections to the stores (pooled, and one per thread that searches; three files each), HTTP
# connections for the key set, and those that a browser keeps to the console.
KEPT = {"to the issuer": 2, "store": 64, "to the admin address": 8}
NUMBERED = re.compile(r"\[\d+\]|\d{3,}")


def descriptors(gateway: Gateway, pid: int) -> Counter[str]:
    """Open descriptors of a process by what they are."""
    ends = _tcp_ends(gateway, pid)
    found: Counter[str] = Counter()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[_kind(gateway, os.readlink(f"/proc/{pid}/fd/{entry}"), ends.get(int(entry), ""))] += 1
    return found


def _kind(gateway: Gateway, target: str, end: str) -> str:
    if target.startswith("socket:"):
        return end or "local socket"
    if target.endswith(".seg"):
        return "segment"
    if gateway.state_dir.name in Path(target).parts and re.search(r"\.(db|jsonl|zst)\b", target):
        return "store"
    return NUMBERED.sub("", target)


def _tcp_ends(gateway: Gateway, pid: int) -> dict[int, str]:
    names: dict[int, str] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in psutil.Process(pid).net_connections(kind="tcp"):
            local, remote = each.laddr, each.raddr
            if not remote:
                names[each.fd] = "listener"
            elif local.port == gateway.port:
                names[each.fd] = "client"
            elif local.port == gateway.admin_port:
                names[each.fd] = "to the admin address"
            elif remote.port == urlsplit(gateway.issuer.url).port:
                names[each.fd] = "to the issuer"
            else:
                names[each.fd] = "upstream"
    return names


def held(gateway: Gateway) -> Counter[str]:
    """HELD over all workers."""
    total: Counter[str] = Counter()
    for page in (gateway.state_dir / "run").glob("counters-*"):
        with contextlib.suppress(FileNotFoundError, struct.error):
            numbers = struct.unpack_from(f"={len(model.COUNTERS)}Q", page.read_bytes())
            total.update(dict(zip(model.COUNTERS, numbers, strict=True)))
    total["statements"] = total["held_statements"] - total["cached_statements"]
    return Counter({name: total[name] for name in HELD})


def places(gateway: Gateway) -> int:
    """Clients and sessions that the supervisor counts for its workers: what it balances and limits by."""
    with gateway.admin() as api:
        return sum(worker["load"] for worker in api.get("/workers").raise_for_status().json()["workers"])


class Account:
    """What one gateway held when this was made; `settle` waits until it holds no more than that."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._processes = {process.pid: process.name() for process in gateway.processes()}
        self._descriptors = {pid: descriptors(gateway, pid) for pid in self._processes}
        self._held = held(gateway)
        self._places = places(gateway)

    def settle(self, timeout: float = SETTLE_S) -> list[str]:
        """What is still too much after `timeout` seconds, in words; empty as soon as nothing is."""
        deadline = time.monotonic() + timeout
        while True:
            excess = self.excess()
            if not excess or time.monotonic() > deadline:
                return excess
            time.sleep(0.02)

    def excess(self) -> list[str]:
        before_it = self._held
        found = [f"{name}: {n}, was {before_it[name]}" for name, n in held(self.gateway).items() if n > before_it[name]]
        for pid, before in self._descriptors.items():
            for kind, now in descriptors(self.gateway, pid).items():
                allowed = max(before[kind], SEGMENTS_MAX if kind == "segment" else KEPT.get(kind, 0))
                if now > allowed:
                    found.append(f"{self._processes[pid]} {pid}: {now} descriptors of {kind!r}, was {before[kind]}")
        if not found and (taken := places(self.gateway)) > self._places:
            found.append(f"places that the supervisor counts as taken: {taken}, was {self._places}")
        return found
