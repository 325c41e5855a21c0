"""The worker process: loop, link to the supervisor, relay thread, and the order in which they start and end.

`run` is the entry that the supervisor's pool calls in a fresh process. Nothing works before the first ConfigUpdate;
then the worker says Hello and takes clients. When the link ends, nobody could be revoked any more: every session ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import mmap
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any, Final

import uvloop

from hoopfast import config as configuration
from hoopfast import limits, logs, model, units
from hoopfast._wire import Relay
from hoopfast.ipc import Link
from hoopfast.worker.approvals import ApprovalDesk
from hoopfast.worker.contexts import Contexts
from hoopfast.worker.front import Front
from hoopfast.worker.functions import Functions
from hoopfast.worker.journal import Journal, Share, share
from hoopfast.worker.plan import Plan, make_plan
from hoopfast.worker.verdicts import VerdictDesk

log = logging.getLogger(__name__)

ORPHANED: Final = "the gateway is restarting: connect again"
RELAY_STOP_S: Final = 5.0
FLUSH_S: Final = 1.0
MASK_KEY_NAME: Final = "mask.key"


def run(worker: int, ipc_socket: socket.socket, counters_path: str, state_dir: str, boot: int) -> None:
    """Be worker number `worker` until drained or orphaned.

    `counters_path` is a page the supervisor reads; `boot` the number it knows this process's journal by.
    """
    logs.setup(process=f"worker-{worker}")
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)          # they reach the whole group; the supervisor decides
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Worker(worker, counters_path, Path(state_dir), boot).main(ipc_socket))


class Worker:
    """Everything of one worker process. `main` returns when the process should exit."""

    def __init__(self, number: int, counters_path: str, state_dir: Path, boot: int) -> None:
        self._number = number
        self._boot = boot
        self._state_dir = state_dir
        self._counters = _map_counters(counters_path)
        self._mask_key = (state_dir / MASK_KEY_NAME).read_bytes()
        self._link: Link | None = None
        self._plan: Plan | None = None
        self._front: Front | None = None
        self._relay: Relay | None = None
        self._thread: threading.Thread | None = None
        self._journal: Journal | None = None
        self._verdicts: VerdictDesk | None = None
        self._approvals: ApprovalDesk | None = None
        self._over = asyncio.Event()
        self._orphaned = asyncio.Event()
        self._drain: tuple[float, str] = (0.0, ORPHANED)

    async def main(self, ipc_socket: socket.socket) -> None:
        self._link = Link(ipc_socket, model.ToWorker, self._on_message, self._on_closed)
        await self._over.wait()
        await self._end_sessions()
        await self._stop()

    def _on_closed(self) -> None:
        self._orphaned.set()
        self._over.set()

    async def _end_sessions(self) -> None:
        """With the time that the supervisor gave, and at once when it is gone, even in the middle of a drain."""
        if self._front is None:
            return
        seconds, reason = self._drain
        loop = asyncio.get_running_loop()
        drain = loop.create_task(self._front.drain(seconds, reason))
        orphaned = loop.create_task(self._orphaned.wait())
        await asyncio.wait((drain, orphaned), return_when=asyncio.FIRST_COMPLETED)
        orphaned.cancel()
        if not drain.done():
            drain.cancel()
            await self._front.drain(0.0, ORPHANED)

    # ------------------------------------------------------------ messages

    def _on_message(self, message: Any, fd: int | None) -> None:
        if isinstance(message, model.ConfigUpdate):
            self._configure(message)
        elif isinstance(message, model.Drain):
            self._drain = (message.seconds, message.reason)
            self._over.set()
        elif isinstance(message, model.Decision | model.ApprovalOpened):
            if self._approvals is not None:
                self._approvals.on_message(message)
        elif self._front is not None:
            self._front.on_message(message, fd)
        else:
            log.error("a %s came ahead of the configuration", type(message).__name__)
            if fd is not None:
                os.close(fd)
            if isinstance(message, model.Accept):
                self._send(model.ConnectionDone(reason="error", peer=message.peer))

    def _send(self, message: Any) -> None:
        if self._link is not None:
            self._link.send(message)

    def _configure(self, update: model.ConfigUpdate) -> None:
        try:
            plan = make_plan(update, self._mask_key, self._plan)
        except Exception:
            log.exception("version %d of the configuration cannot be used", update.version)
            if self._plan is None:
                self._over.set()            # the supervisor starts another, with a back-off
            return
        self._plan = plan
        logging.getLogger().setLevel(plan.config.log_level.upper())
        if self._front is None:
            try:
                self._start(plan)
            except OSError as e:
                # With `auto` the relay takes what there is: it was told to use io_uring, and may not.
                log.error("the relay cannot start: %s. It needs Linux 6.1 or later and neither seccomp nor the sysctl "
                          "kernel.io_uring_disabled in its way; `relay: auto` goes without", e)
                self._over.set()
        else:
            assert self._journal is not None
            self._journal.max_bytes = _share(plan.config).total
            self._front.replan(plan)

    # ------------------------------------------------------------ life

    def _start(self, plan: Plan) -> None:
        audit = plan.config.audit
        part = _share(plan.config)
        relay = self._relay = Relay(
            counters=self._counters,
            capture_bytes=configuration.result_bytes(audit.results),
            durable=audit.durability == "disk",
            # What the journal could never hold is refused (54000), instead of waiting for room for ever.
            statement_max=min(limits.STATEMENT_MAX_BYTES, part.message_max),
            message_max=min(limits.CLIENT_MESSAGE_MAX_BYTES, part.message_max),
            row_max=limits.MASKED_ROW_MAX_BYTES,
            private_s=audit.masked_values_clear,
            backend=plan.config.relay, journal_timeout_s=audit.wait,
        )
        log.info("the relay runs on %s%s", relay.backend, f" ({relay.fallback})" if relay.fallback else "")
        self._journal = Journal(
            self._state_dir / "journal", self._number, relay, max_bytes=part.total, segment_bytes=part.segment,
            boot_ns=self._boot, to_disk=audit.durability == "disk",
        )
        self._approvals = ApprovalDesk(self._send)
        self._verdicts = VerdictDesk(relay, self._approvals, Functions(lambda: self._plan).describe)
        self._front = Front(
            self._number, relay, self._send, plan,
            contexts=Contexts(relay), desk=self._verdicts, journal=self._journal,
        )
        asyncio.get_running_loop().add_reader(relay.event_fd, self._front.on_events)
        self._thread = threading.Thread(target=relay.run, name="relay", daemon=True)
        self._thread.start()
        self._send(model.Hello(worker=self._number, pid=os.getpid()))

    async def _stop(self) -> None:
        """Relay first, so that the last records are written; then the supervisor hears the last words."""
        if self._relay is not None and self._thread is not None and self._front is not None:
            self._relay.stop()
            await asyncio.to_thread(self._thread.join, RELAY_STOP_S)
            if self._thread.is_alive():
                log.error("the relay does not stop")
            asyncio.get_running_loop().remove_reader(self._relay.event_fd)
            self._front.on_events()
            self._front.close()
        if self._verdicts is not None:
            self._verdicts.close()
        if self._journal is not None:
            await self._journal.close()
        link = self._link
        if link is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                while link.backlog_bytes and not link.closed:  # noqa: ASYNC110  the link has no event for it
                    await asyncio.sleep(0.005)
        link.close()


def _share(config: configuration.Config) -> Share:
    workers = config.listen.workers if isinstance(config.listen.workers, int) else len(os.sched_getaffinity(0))
    return share(units.size_bytes(config.audit.max_bytes), workers)


def _map_counters(path: str) -> memoryview:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return memoryview(mmap.mmap(descriptor, model.COUNTER_PAGE_BYTES))
    finally:
        os.close(descriptor)
