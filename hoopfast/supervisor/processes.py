"""The worker processes: started, watched, restarted one at a time, with a link and a counters page each.

Owns the processes and nothing of what the messages mean (see dispatch.py). The entry point is injected, so that tests
run the pool with a worker that does nothing. Called by supervisor/main.py.

Death is seen through a pidfd rather than multiprocessing's sentinel: the sentinel belongs to the fork server, and would
report every worker dead when only the fork server is.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from hoopfast import model
from hoopfast.ipc import Link
from hoopfast.supervisor.state_dir import hold_workers_lock

log = logging.getLogger("hoopfast.supervisor.processes")

Entry = Callable[[int, socket.socket, str, str, int], None]     # worker, ipc socket, counters path, state_dir, boot

PING_EVERY_S = 5.0
SILENCE_MAX_S = 15.0
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 10.0
STABLE_S = 10.0                     # a worker that lived this long has earned a quick restart
CLOSED_LINK_S = 1.0                 # a worker that ends closes its link first; only one that stays is killed
START_MAX_S = 60.0                  # until the first Hello: imports and the compiled core's start


class PoolEvents(Protocol):
    """What the pool tells its owner; all calls come from the event loop."""

    def worker_started(self, worker: Worker) -> None: ...
    def worker_message(self, worker: Worker, message: Any) -> None: ...
    def worker_died(self, worker: Worker, how: str) -> None: ...


def start_fork_server(preload: tuple[str, ...]) -> None:
    """Start the process that workers are forked from, with these modules imported; before any loop or thread exists."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(preload))
    forkserver.ensure_running()


class Worker:
    """One live worker process. `index` is its slot, which its successor takes over; `load` is what it has accepted."""

    def __init__(self, index: int, process: BaseProcess, counters: CounterPage, now: float) -> None:
        self.index = index
        self.process = process
        self.counters = counters
        self.pid: int = process.pid or 0
        self.pidfd = os.pidfd_open(self.pid)
        self.link: Link | None = None
        self.load = 0
        self.ready = False          # it has said Hello
        self.started_at = now
        self.heard_at = now
        self.dead = False

    def send(self, message: Any, fd: int | None = None) -> None:
        """Send, or drop what is meant for a worker that is gone (its sessions are gone with it)."""
        if self.link is None:
            if fd is not None:
                os.close(fd)
            return
        self.link.send(message, fd)

    def kill(self) -> None:
        """SIGKILL by pidfd: can never hit another process that got the number meanwhile."""
        if not self.dead:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def bury(self) -> str:
        """After the pidfd became readable: release everything, and say how it ended."""
        self.dead = True
        os.close(self.pidfd)
        if self.link is not None:
            self.link.close()
            self.link = None
        # The exit status comes from the fork server, a moment after the pidfd knows of the death.
        self.process.join(0.1)
        how = _how(self.process.exitcode)
        if self.process.exitcode is not None:
            self.process.close()
        return how


class CounterPage:
    """One page of counters in a file that the worker maps too. New for each process: a dying one cannot write here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Allocated, not only sized: on a full disk the first write into a hole would kill the worker (SIGBUS).
            os.posix_fallocate(descriptor, 0, model.COUNTER_PAGE_BYTES)
            self._map = mmap.mmap(descriptor, model.COUNTER_PAGE_BYTES)
        finally:
            os.close(descriptor)

    def read(self) -> list[int]:
        """All u64 of the page, in native order."""
        return memoryview(bytes(self._map)).cast("Q").tolist()

    def close(self) -> None:
        self._map.close()
        self.path.unlink(missing_ok=True)


class Pool:
    """Keeps `size` workers alive. `start` once, `stop` once; `workers` maps a slot to its live worker, if any."""

    def __init__(
        self,
        size: int,
        entry: Entry,
        events: PoolEvents,
        *,
        state_dir: Path,
        ping_every_s: float = PING_EVERY_S,
        silence_max_s: float = SILENCE_MAX_S,
        backoff_first_s: float = BACKOFF_FIRST_S,
    ) -> None:
        self.size = size
        self.workers: dict[int, Worker] = {}
        self.restarts = 0
        # Counts of processes that are gone, so that totals never fall.
        self.retired = [0] * (model.COUNTER_PAGE_BYTES // 8)
        self._entry = entry
        self._events = events
        self._state_dir = state_dir
        self._ping_every_s = ping_every_s
        self._silence_max_s = silence_max_s
        self._backoff_first_s = backoff_first_s
        self._boots: dict[int, int] = {}        # slot -> the boot number of its live process
        self._last_boot = 0
        self._backoff: dict[int, float] = {}
        self._restarting: dict[int, asyncio.TimerHandle] = {}
        self._stopping = False
        self._ping_number = 0
        self._ping_due = 0.0
        self._ping_handle: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._context = multiprocessing.get_context("forkserver")
        (state_dir / "run").mkdir(mode=0o700, exist_ok=True)

    # ------------------------------------------------------------ life

    def start(self) -> None:
        for index in range(self.size):
            self._spawn(index)
        self._ping_later()

    def least_loaded(self) -> Worker | None:
        """The worker that should get the next client; None while none is ready."""
        ready = [worker for worker in self.workers.values() if worker.ready]
        return min(ready, key=lambda worker: worker.load) if ready else None

    def broadcast(self, message: Any) -> None:
        for worker in list(self.workers.values()):
            worker.send(message)

    async def wait_gone(self, seconds: float) -> bool:
        """Wait until every worker has exited of itself (after a Drain). False when the time is over."""
        self.expect_exits()
        if not self.workers:
            return True
        try:
            await asyncio.wait_for(self._gone.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def is_live(self, index: int, boot: int) -> bool:
        """Whether the worker process with this boot number still runs. From any thread."""
        return self._boots.get(index) == boot

    def expect_exits(self) -> None:
        """From now on, a worker that exits is not replaced."""
        self._stopping = True
        for handle in self._restarting.values():
            handle.cancel()
        self._restarting.clear()

    async def stop(self, seconds: float = 5.0) -> None:
        """End all workers: by closing their links (they see end-of-file and exit), by SIGKILL after `seconds`."""
        self.expect_exits()
        if self._ping_handle is not None:
            self._ping_handle.cancel()
        for worker in self.workers.values():
            if worker.link is not None:
                worker.link.close()
                worker.link = None
        if not await self.wait_gone(seconds):
            for worker in list(self.workers.values()):
                log.warning("worker %d does not end, killing it", worker.index)
                worker.kill()
            await self.wait_gone(5.0)

    def _spawn(self, index: int) -> None:
        self._restarting.pop(index, None)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        boot = self._next_boot()
        try:
            counters = CounterPage(self._state_dir / "run" / f"counters-{index}")
        except OSError:
            log.exception("worker %d could not be started: there is no room for its counters", index)
            ours.close()
            theirs.close()
            self._restart_later(index, lived_s=0.0)
            return
        process = self._context.Process(
            target=_run_worker,
            args=(self._entry, index, theirs, str(counters.path), str(self._state_dir), boot),
            name=f"hoopfast-worker-{index}",
            daemon=True,
        )
        # Before the start: a journal without a live process would count as final.
        self._boots[index] = boot
        try:
            process.start()
            worker = Worker(index, process, counters, self._loop.time())
        except (OSError, EOFError):
            # No memory, no processes, a dead fork server: the next try starts a new one.
            log.exception("worker %d could not be started", index)
            del self._boots[index]
            ours.close()
            counters.close()
            self._restart_later(index, lived_s=0.0)
            return
        finally:
            theirs.close()
        self.workers[index] = worker
        worker.link = Link(
            ours,
            model.ToSupervisor,
            lambda message, _: self._on_message(worker, message),
            lambda: self._on_closed(worker),
        )
        self._loop.add_reader(worker.pidfd, self._on_exit, worker)
        log.info("worker %d started, pid %d", index, worker.pid)
        self._events.worker_started(worker)

    def _next_boot(self) -> int:
        """Names a worker process in the files of its journal: its start in ns, but never the same number twice.

        Given to the worker rather than read from its own clock: a step of the clock between the two would make a live
        worker's journal look final.
        """
        self._last_boot = max(time.time_ns(), self._last_boot + 1)
        return self._last_boot

    # ------------------------------------------------------------ what workers do

    def _on_message(self, worker: Worker, message: Any) -> None:
        worker.heard_at = self._loop.time()
        if isinstance(message, model.Hello):
            worker.ready = True
        self._events.worker_message(worker, message)

    def _on_closed(self, worker: Worker) -> None:
        worker.link = None
        worker.ready = False
        self._loop.call_later(CLOSED_LINK_S, self._end_unlinked, worker)

    def _end_unlinked(self, worker: Worker) -> None:
        # Without its link it can neither be told nor tell anything; its sessions could not be revoked any more.
        if not worker.dead:
            log.error("worker %d lives without its link, killing it", worker.index)
            worker.kill()

    def _on_exit(self, worker: Worker) -> None:
        self._loop.remove_reader(worker.pidfd)
        how = worker.bury()
        del self.workers[worker.index], self._boots[worker.index]
        self._retire(worker)
        lived_s = self._loop.time() - worker.started_at
        self._events.worker_died(worker, how)
        if self._stopping:
            log.info("worker %d ended (%s)", worker.index, how)
            if not self.workers:
                self._gone.set()
            return
        log.error("worker %d, pid %d, died (%s) after %.1f s", worker.index, worker.pid, how, lived_s)
        self._restart_later(worker.index, lived_s)

    def _retire(self, worker: Worker) -> None:
        open_now = model.COUNTERS.index("sessions_open")
        for position, value in enumerate(worker.counters.read()):
            if position != open_now:
                self.retired[position] += value
        worker.counters.close()

    def _restart_later(self, index: int, lived_s: float) -> None:
        last = 0.0 if lived_s >= STABLE_S else self._backoff.get(index, 0.0)
        delay = min(max(2 * last, self._backoff_first_s), BACKOFF_MAX_S)
        self._backoff[index] = delay
        self.restarts += 1
        log.warning("worker %d restarts in %.1f s", index, delay)
        self._restarting[index] = self._loop.call_later(delay, self._spawn, index)

    # ------------------------------------------------------------ liveness

    def _ping(self) -> None:
        self._ping_number += 1
        now = self._loop.time()
        # While this process itself was stopped or starved, nobody could be heard.
        deaf_s = max(0.0, now - self._ping_due)
        for worker in list(self.workers.values()):
            worker.heard_at = min(now, worker.heard_at + deaf_s)
            allowed_s = self._silence_max_s if worker.ready else START_MAX_S
            silent_s = now - worker.heard_at
            if silent_s > allowed_s:
                log.error("worker %d has not answered for %.0f s, killing it", worker.index, silent_s)
                worker.kill()
            else:
                worker.send(model.Ping(number=self._ping_number))
        self._ping_later()

    def _ping_later(self) -> None:
        self._ping_due = self._loop.time() + self._ping_every_s
        self._ping_handle = self._loop.call_at(self._ping_due, self._ping)


def _how(exitcode: int | None) -> str:
    if exitcode is None:
        return "unknown"
    if exitcode < 0:
        try:
            return signal.Signals(-exitcode).name
        except ValueError:
            return f"signal {-exitcode}"
    return f"exit status {exitcode}"


def _run_worker(
    entry: Entry, index: int, ipc_socket: socket.socket, counters_path: str, state_dir: str, boot: int
) -> None:
    # Ctrl-C and systemd's SIGTERM reach the whole process group; the supervisor alone decides how to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hold_workers_lock(state_dir)
    entry(index, ipc_socket, counters_path, state_dir, boot)
