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
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hoopfast import model
from tests.support.gateway import Gateway, wait_until

SETTLE_S = 15.0
# Rests of a worker: back to what they were, or lower. "statements" are those that no cache holds.
HELD = ("sessions_open", "parked", "buffer_bytes", "arena_bytes", "held_names", "held_plans", "statements")
# A worker keeps its current segment and two in reserve; one more is about to be handed over or unmapped.
SEGMENTS_MAX = 5
# Connections to the stores are kept for later: pooled ones, and one per thread that searches; three files each.
STORES_MAX = 64
# So are HTTP connections for the key set, and those of a browser to the console.
KEPT = {"to the issuer": 2, "to the admin address": 8}
NUMBERED = re.compile(r"\[\d+\]|\d{3,}")


class Open(NamedTuple):
    """Descriptors of a process: sockets by inode, everything else counted by what it is."""

    sockets: frozenset[str]
    others: Counter[str]


def descriptors(gateway: Gateway, pid: int) -> Open:
    sockets, others = set(), Counter[str]()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                target = os.readlink(f"/proc/{pid}/fd/{entry}")
                if target.startswith("socket:"):
                    sockets.add(target[8:-1])
                else:
                    others[_kind(gateway, target)] += 1
    return Open(frozenset(sockets), others)


def _kind(gateway: Gateway, target: str) -> str:
    if target.endswith(".seg"):
        return "segment"
    if gateway.state_dir.name in Path(target).parts and re.search(r"\.(db|jsonl|zst)\b", target):
        return "store"
    return NUMBERED.sub("", target)


def ends(gateway: Gateway, inodes: Iterable[str]) -> Counter[str]:
    """What sockets are connected with. Reads the machine's whole table: only when there is something to explain."""
    known = {}
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
                fields = line.split()
                local, remote = (int(fields[at].rpartition(":")[2], 16) for at in (1, 2))
                known[fields[9]] = _end(gateway, local, remote)
    return Counter(known.get(inode, "a local peer") for inode in inodes)


def _end(gateway: Gateway, local: int, remote: int) -> str:
    if local == gateway.port:
        return "client"
    if local == gateway.admin_port:
        return "to the admin address"
    return "to the issuer" if remote == urlsplit(gateway.issuer.url).port else "upstream"


def held(gateway: Gateway) -> Counter[str]:
    """HELD over all workers."""
    total: Counter[str] = Counter()
    for page in (gateway.state_dir / "run").glob("counters-*"):
        with contextlib.suppress(FileNotFoundError, struct.error):
            numbers = struct.unpack_from(f"={len(model.COUNTERS)}Q", page.read_bytes())
            total.update(dict(zip(model.COUNTERS, numbers, strict=True)))
    total["statements"] = total["held_statements"] - total["cached_statements"]
    return Counter({name: total[name] for name in HELD})


def _workers(gateway: Gateway) -> list[dict[str, Any]]:
    with gateway.admin() as api:
        found: list[dict[str, Any]] = api.get("/workers").raise_for_status().json()["workers"]
    return found


def complete(gateway: Gateway) -> bool:
    """Whether all its workers are there; a gateway is ready as soon as one is."""
    workers = _workers(gateway)
    return len(workers) == gateway.config["listen"]["workers"] and all(worker["ready"] for worker in workers)


def places(gateway: Gateway) -> int:
    """Clients and sessions that the supervisor counts for its workers: what it balances and limits by."""
    return sum(worker["load"] for worker in _workers(gateway))


class Account:
    """What one gateway held when this was made; `settle` waits until it holds no more than that."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        wait_until(lambda: complete(gateway), "all workers are ready")
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
            now = descriptors(self.gateway, pid)
            found += [f"{self._processes[pid]} {pid}: {what}" for what in self._more(before, now)]
        if not found and (taken := places(self.gateway)) > self._places:
            found.append(f"places that the supervisor counts as taken: {taken}, was {self._places}")
        return found

    def _more(self, before: Open, now: Open) -> list[str]:
        """Descriptors that one process did not have, in words."""
        allowed = {"segment": SEGMENTS_MAX, "store": STORES_MAX}
        found = [
            f"{count} descriptors of {kind!r}, was {before.others[kind]}"
            for kind, count in now.others.items() if count > max(before.others[kind], allowed.get(kind, 0))
        ]
        if len(now.sockets) > len(before.sockets):
            new = ends(self.gateway, now.sockets - before.sockets)
            kept = sum(min(new[kind], most) for kind, most in KEPT.items())
            if new.total() - kept > len(before.sockets - now.sockets):
                told = ", ".join(f"{count} {kind!r}" for kind, count in sorted(new.items()))
                found.append(f"{len(now.sockets)} sockets, was {len(before.sockets)}; new: {told}")
        return found
