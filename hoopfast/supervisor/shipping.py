"""Keeps the audit shipper going, in a thread of its own, and remembers how far it is. Called by supervisor/main.py."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from hoopfast.audit.shipper import ShipperLag

log = logging.getLogger("hoopfast.supervisor.shipping")

IDLE_S = 0.1
BROKEN_S = 1.0


class Ships(Protocol):
    """The part of audit.shipper.Shipper that is used here; one call at a time."""

    def step(self) -> int: ...
    def lag(self) -> ShipperLag: ...
    def close(self) -> None: ...


class Shipping:
    """`lag` is as of the last step. `run` until cancelled, then `close`."""

    def __init__(self, shipper: Ships) -> None:
        self.lag = ShipperLag(bytes=0, seconds=0.0, events_total=0, errors=0)
        self.failures = 0
        self._shipper = shipper
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shipper")

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                built, self.lag = await loop.run_in_executor(self._thread, self._step)
                pause_s = 0.0 if built else IDLE_S
            except Exception:
                # Sinks fail by themselves inside step(): this is a fault of ours. The journal keeps everything.
                self.failures += 1
                pause_s = BROKEN_S
                log.exception("the audit shipper failed; it goes on in %.0f s", BROKEN_S)
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Ship what is there; after the workers have gone, so that it is everything."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._shipper.close)
        self._thread.shutdown()

    def _step(self) -> tuple[int, ShipperLag]:
        return self._shipper.step(), self._shipper.lag()
