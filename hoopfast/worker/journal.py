"""Supplies the relay with journal segments: made in a thread, never more than the configured bytes on disk.

The relay asks with one "segment" event for each segment it wants and pauses sessions by itself while it has none.
Called by `worker/front.py` from its event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from hoopfast import limits
from hoopfast._wire import Segment

log = logging.getLogger(__name__)

PAGE_BYTES: Final = 4096
SEGMENT_MIN_BYTES: Final = 1 << 20
RESERVE_BYTES: Final = 4 << 20          # the relay keeps 2 MiB free for outcomes; segment ends cost a little more
RETRY_S: Final = 0.1
COMPLAIN_EVERY_S: Final = 60.0


class SegmentTaker(Protocol):
    def add_segment(self, segment: Segment) -> None: ...


class Share(NamedTuple):
    """What one worker may occupy of the journal directory, in bytes, and the size of its segments."""

    total: int
    segment: int

    @property
    def message_max(self) -> int:
        """The largest message whose record is sure to find room once everything before it has been shipped."""
        return max(self.total // 2 - RESERVE_BYTES, PAGE_BYTES)


def share(max_bytes: int, workers: int) -> Share:
    """An equal part of `audit.max_bytes` for each worker: from a common pot, an idle worker's reserve segments could
    take the last room, and a busy one would wait for ever. At least four segments fit."""
    total = max(max_bytes // workers, 4 * SEGMENT_MIN_BYTES)
    segment = min(limits.JOURNAL_SEGMENT_BYTES, total // 4)
    return Share(total, segment - segment % PAGE_BYTES)


class Journal:
    """The segment files of one worker process. `max_bytes` bounds them, and those of its predecessors in its place.
    `to_disk`: a segment has its place in the directory before it is used, even after a power cut."""

    def __init__(
        self,
        directory: Path,
        worker: int,
        relay: SegmentTaker,
        *,
        max_bytes: int,
        boot_ns: int,
        to_disk: bool = False,
        segment_bytes: int = limits.JOURNAL_SEGMENT_BYTES,
        make: Callable[[str, int, int, int], Segment] = Segment,
    ) -> None:
        self.max_bytes = max_bytes
        self._directory = directory
        self._worker = worker
        self._relay = relay
        self._segment_bytes = segment_bytes
        self._boot_ns = boot_ns
        self._make = make
        self._to_disk = to_disk
        self._sequence = 0
        self._wanted = 0
        self._task: asyncio.Task[None] | None = None
        self._complained_at = -COMPLAIN_EVERY_S

    def want(self) -> None:
        """One more segment, as soon as there is room."""
        self._wanted += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._supply())

    def unsynced(self, error: int) -> None:
        """Segments could not be brought to the disk (an errno)."""
        log.error("THE JOURNAL CANNOT BE BROUGHT TO THE DISK (%s): what waited for it was not run, its sessions ended",
                  os.strerror(error), extra={"fields": {"directory": str(self._directory)}})

    async def close(self) -> None:
        """Stop supplying."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _supply(self) -> None:
        while self._wanted:
            try:
                # Allocating and mapping megabytes takes milliseconds: not on the loop.
                segment = await asyncio.to_thread(self._next)
                self._relay.add_segment(segment)
            except (OSError, BufferError) as failure:
                self._complain(failure)
                await asyncio.sleep(RETRY_S)
            except Exception:
                # Without segments nothing may run; giving up would pause every session for ever without a word.
                log.exception("a journal segment could not be made")
                await asyncio.sleep(10 * RETRY_S)
            else:
                self._wanted -= 1

    def _next(self) -> Segment:
        used = _used_bytes(self._directory, self._worker)
        if used + self._segment_bytes > self.max_bytes:
            raise OSError(f"{used} bytes wait, of {self.max_bytes} (this worker's part of audit.max_bytes)")
        name = f"w{self._worker}-{self._boot_ns}-{self._sequence:08d}.seg"
        segment = self._make(str(self._directory / name), self._segment_bytes, self._worker, self._sequence)
        self._sequence += 1
        if self._to_disk:
            # The records are synced through the file; that there is such a file stands in its directory.
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return segment

    def _complain(self, failure: Exception) -> None:
        now = time.monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = now
            log.error(
                "THE JOURNAL CANNOT GROW, sessions pause until it can: %s", failure,
                extra={"fields": {"directory": str(self._directory)}},
            )


def _used_bytes(directory: Path, worker: int) -> int:
    """Bytes that this worker number's segments occupy; files that vanish meanwhile were shipped."""
    used = 0
    for path in directory.glob(f"w{worker}-*.seg"):
        try:
            used += path.stat().st_size
        except FileNotFoundError:
            continue
    return used
