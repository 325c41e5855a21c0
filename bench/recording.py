"""What recording costs: `python -m bench.recording [--seconds 4] [--rounds 5]`.

First the records of one transaction of `pgbench -S -M prepared`, written into a real segment by the relay's own code,
and making that segment: CPU alone, no server. There is no gateway that does not record, so this is the difference to
one. Then two gateways side by side, `durability: process` and `disk`, in paired rounds.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import sys
import time
from pathlib import Path

from bench.measure import LOOKUP, Result, pgbench_window
from bench.servers import Arena
from hoopfast._wire import Segment, journal_cost
from hoopfast.limits import JOURNAL_SEGMENT_BYTES
from hoopfast.model import JOURNAL_HEADER_BYTES, RECORD_HEADER_BYTES
from tests.support import wire
from tests.support.postgres import scratch_directory

ROUNDS = 200_000
DISK = "hoopfast-disk"


def transaction() -> list[bytes]:
    """Payloads that `SELECT abalance ... WHERE aid = $1` leaves: Bind, Execute, its row, its outcome."""
    number = struct.pack("<Q", 1)
    bound = number + wire.bind([b"12345"], name="P_0")[5:]
    executed = number + struct.pack("<QI", 7, 0) + b"\0"
    described = wire.frame("T", struct.pack("!H", 1) + b"abalance\0" + struct.pack("!IhIhih", 16384, 3, 23, 4, -1, 0))
    result = number + described + wire.frame("D", struct.pack("!Hi", 1, 1) + b"0")
    outcome = struct.pack("<qQQQQqccH", 90_000, 8, 1, 12, 0, 100_000, b"C", b"I", 8) + b"SELECT 1"
    return [bound, executed, result, outcome]


def record_bytes(payloads: list[bytes]) -> int:
    return sum((RECORD_HEADER_BYTES + len(payload) + 7) & ~7 for payload in payloads)


def written(directory: Path, rounds: int) -> tuple[float, float]:
    """CPU ns per transaction: writing its records, and its part of making their segment; the best of some."""
    payloads = transaction()
    per_segment = (JOURNAL_SEGMENT_BYTES - JOURNAL_HEADER_BYTES) / record_bytes(payloads)
    writing, making = [], []
    for number in range(rounds):
        began = time.thread_time_ns()
        segment = Segment(str(directory / f"w0-1-{number:08d}.seg"), JOURNAL_SEGMENT_BYTES, 0, number)
        making.append((time.thread_time_ns() - began) / per_segment)
        writing.append(journal_cost(segment, payloads, ROUNDS))
    return min(writing), min(making)


def paired(seconds: int, rounds: int) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {"hoopfast": [], DISK: []}
    with Arena(scale=1, bulk_rows=1, names=list(results), workers=1) as arena:
        script = arena.directory / "lookup.sql"
        script.write_text(LOOKUP.format(rows=100_000))
        for _ in range(rounds):
            for peer in arena.peers:
                found = pgbench_window(
                    arena.postgres.bin / "pgbench", peer, "prepared", script, clients=16, seconds=seconds)
                results[peer.name].append(found)
    return results


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m bench.recording", description=__doc__)
    options.add_argument("--seconds", type=int, default=4)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    writing, making = written(scratch_directory("bench-journal"), chosen.rounds)
    payloads = transaction()
    sys.stdout.write(f"one transaction: {len(payloads)} records, {record_bytes(payloads)} bytes; CPU {writing:.0f} ns "
                     f"to write them, {making:.0f} ns of making the segment\n")
    results = paired(chosen.seconds, chosen.rounds)
    for name, found in results.items():
        line = " ".join(f"{result.cpu_data_us:.1f}" for result in found)
        rate, latency = (statistics.median(getattr(r, what) for r in found) for what in ("rate", "latency_ms"))
        sys.stdout.write(f"{name}: data path us/tx {line}; median rate {rate:.0f}/s, latency {latency:.2f} ms\n")
    pairs = list(zip(results[DISK], results["hoopfast"], strict=True))
    for what in ("cpu_data_us", "rate", "latency_ms"):
        ratio = statistics.median(getattr(disk, what) / getattr(process, what) for disk, process in pairs)
        sys.stdout.write(f"disk / process, {what}: {ratio:.2f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
