"""Run N transactions through a relay, one after the other: the workload whose instructions test_instructions.py counts.

A process of its own, because it runs under callgrind: `python -m tests.wire.transactions N DIRECTORY`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hoopfast.model import MASK_REDACT
from tests.support import wire
from tests.support.relay import READY, RelayBench, complete, expect, row, row_description

TABLE = 16400
PREPARED = wire.bind([b"4711"], name="P_0") + wire.describe_portal() + wire.execute() + wire.SYNC
BOUND = b"2\0\0\0\x04"


def run(count: int, directory: Path) -> None:
    """Each is what `pgbench -S -M prepared` sends, and its answer with one column, in a context with masks."""
    # Under valgrind a thread that sleeps in io_uring_enter keeps the others from running.
    with RelayBench(directory, capture_bytes=0, backend="epoll") as bench:
        bench.relay.define_context(2, [(MASK_REDACT, 0, b"", b"")], [(TABLE, 2, 0)])
        pair = bench.session(context=2)
        opening = wire.parse("SELECT abalance FROM pgbench_accounts WHERE aid = $1", "P_0", [23]) + wire.SYNC
        pair.client.sendall(opening)
        expect(pair.upstream, opening)
        pair.upstream.sendall(b"1\0\0\0\x04" + READY)
        expect(pair.client, b"1\0\0\0\x04" + READY)
        described = row_description(("abalance", TABLE, 3, 23, 0))
        answer = BOUND + described + row(b"-1234") + complete("SELECT 1") + READY
        for _ in range(count):
            pair.client.sendall(PREPARED)
            expect(pair.upstream, PREPARED)
            pair.upstream.sendall(answer)
            expect(pair.client, answer)


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2]))
