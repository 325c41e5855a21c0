"""Supplies the relay with journal segments: made in a thread, never more than the configured bytes on disk.

The relay asks with one "segment" event for each segment it wants and pauses sessions by itself while it has none.
Called by `worker/front.py` from its event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from hoopfast import limits
from hoopfast._wire import Segment

log = logging.getLogger(__name__)

RETRY_S: Final = 0.1
COMPLAIN_EVERY_S: Final = 60.0


class SegmentTaker(Protocol):
    def add_segment(self, segment: Segment) -> None: ...


class Journal:
    """The segment files of one worker process. `max_bytes` bounds the whole directory, all workers together."""

    def __init__(
        self,
        directory: Path,
        worker: int,
        relay: SegmentTaker,
        *,
        max_bytes: int,
        segment_bytes: int = limits.JOURNAL_SEGMENT_BYTES,
        boot_ns: int | None = None,
        make: Callable[[str, int, int, int], Segment] = Segment,
    ) -> None:
        self.max_bytes = max_bytes
        self._directory = directory
        self._worker = worker
        self._relay = relay
        self._segment_bytes = segment_bytes
        self._boot_ns = boot_ns if boot_ns is not None else time.time_ns()
        self._make = make
        self._sequence = 0
        self._wanted = 0
        self._task: asyncio.Task[None] | None = None
        self._complained_at = -COMPLAIN_EVERY_S

    def want(self) -> None:
        """One more segment, as soon as there is room."""
        self._wanted += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._supply())

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
        used = _used_bytes(self._directory)
        if used + self._segment_bytes > self.max_bytes:
            raise OSError(f"{used} bytes wait to be shipped, and audit.max_bytes is {self.max_bytes}")
        name = f"w{self._worker}-{self._boot_ns}-{self._sequence:08d}.seg"
        segment = self._make(str(self._directory / name), self._segment_bytes, self._worker, self._sequence)
        self._sequence += 1
        return segment

    def _complain(self, failure: Exception) -> None:
        now = time.monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = now
            log.error(
                "THE JOURNAL CANNOT GROW, sessions pause until it can: %s", failure,
                extra={"fields": {"directory": str(self._directory)}},
            )


def _used_bytes(directory: Path) -> int:
    """Bytes that segments occupy; files that vanish meanwhile were shipped."""
    used = 0
    for path in directory.glob("*.seg"):
        try:
            used += path.stat().st_size
        except FileNotFoundError:
            continue
    return used
