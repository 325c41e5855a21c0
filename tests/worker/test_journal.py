"""The supply of segments: as many as asked for, never more bytes than allowed, and patience when the disk is full."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hoopfast._wire import Segment
from hoopfast.audit.segments import parse_name
from hoopfast.worker import journal as journal_module
from hoopfast.worker.journal import Journal, share
from tests.support.waiting import until

SIZE = 65_536


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.005)


class Taker:
    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.full = 0

    def add_segment(self, segment: Any) -> None:
        if self.full:
            self.full -= 1
            raise BufferError("full")
        self.taken.append(segment)


def run(body: Callable[[Journal, Taker], Awaitable[None]], directory: Path, **setup: Any) -> None:
    async def main() -> None:
        taker = Taker()
        known: dict[str, Any] = {"max_bytes": 10 * SIZE, "segment_bytes": SIZE, "boot_ns": 77}
        journal = Journal(directory, 3, taker, **(known | setup))
        await body(journal, taker)
        await journal.close()

    asyncio.run(main())


def test_real_segments_with_names_the_shipper_reads(tmp_path: Path) -> None:
    async def body(journal: Journal, taker: Taker) -> None:
        journal.want()
        journal.want()
        await until(lambda: len(taker.taken) == 2)

    run(body, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [parse_name(name) for name in names] == [(3, 77, 0), (3, 77, 1)]
    assert all(path.stat().st_size == SIZE for path in tmp_path.iterdir())


def test_the_bound_counts_a_predecessors_segments_and_gives_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "w3-1-0.seg"
    other.write_bytes(b"x" * SIZE)
    (tmp_path / "w30-1-0.seg").write_bytes(b"x" * 5 * SIZE)         # another worker's part is its own

    async def body(journal: Journal, taker: Taker) -> None:
        for _ in range(3):
            journal.want()
        await until(lambda: len(taker.taken) == 1)
        await asyncio.sleep(0.03)
        assert len(taker.taken) == 1
        other.unlink()                              # the shipper has it
        await until(lambda: len(taker.taken) == 2)
        journal.max_bytes = 3 * SIZE                # a reload
        await until(lambda: len(taker.taken) == 3)

    with caplog.at_level(logging.ERROR):
        run(body, tmp_path, max_bytes=2 * SIZE)
    assert len(caplog.records) == 1, "loud, once a minute"
    assert "JOURNAL" in caplog.text


def test_a_full_disk_and_a_full_queue_are_waited_for(tmp_path: Path) -> None:
    failures = [OSError(errno.ENOSPC, "no space left"), OSError(errno.EMFILE, "too many files"), MemoryError()]

    def make(path: str, size: int, worker: int, sequence: int) -> Segment:
        if failures:
            raise failures.pop(0)
        return Segment(path, size, worker, sequence)

    async def body(journal: Journal, taker: Taker) -> None:
        taker.full = 1
        journal.want()
        await until(lambda: taker.taken)

    run(body, tmp_path, make=make)


def test_close_ends_the_waiting(tmp_path: Path) -> None:
    async def body(journal: Journal, taker: Taker) -> None:
        journal.want()
        await asyncio.sleep(0.01)
        await journal.close()
        assert not taker.taken

    run(body, tmp_path, max_bytes=0)


@pytest.mark.parametrize(("max_bytes", "workers"), [(1 << 30, 2), (64 << 20, 2), (32 << 20, 1), (32 << 20, 64)])
def test_every_worker_gets_a_part_of_its_own(max_bytes: int, workers: int) -> None:
    part = share(max_bytes, workers)
    assert 4 * part.segment <= part.total
    assert part.segment % 4096 == 0
    assert 1 << 16 <= part.segment <= 16 << 20
    assert part.message_max + (4 << 20) < part.total or part.message_max == 4096
    assert part.total * workers <= max_bytes or part.total == 4 << 20
