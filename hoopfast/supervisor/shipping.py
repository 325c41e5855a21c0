"""Keeps the audit shipper's process going, and remembers how far it is. Called by supervisor/main.py.

Shipping takes a good part of a core when the gateway is busy; in a process of its own it cannot slow this loop. The
supervisor's own events are written here, into the spool, so that they are kept before anything follows from them,
whether that process runs or not.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from hoopfast.audit.events import Gateway, gateway_event
from hoopfast.audit.lanes import ShipperLag
from hoopfast.audit.segments import parse_name
from hoopfast.audit.shipper import ship_dir
from hoopfast.audit.streams import Spool
from hoopfast.config import Config
from hoopfast.errors import AuditUnavailable
from hoopfast.supervisor import shipping_process
from hoopfast.supervisor.shipping_process import MESSAGE_MAX, Answer, Report
from hoopfast.supervisor.state_dir import JOURNAL_NAME

log = logging.getLogger("hoopfast.supervisor.shipping")

START_S = 30.0
CLOSE_S = 10.0                      # the shipper itself takes 5 s at most
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 10.0
SILENT_S = 5.0                      # after this, the lag grows by the clock

_encoder = msgspec.msgpack.Encoder()
_reports = msgspec.msgpack.Decoder(Report)


class Shipping:
    """`start` once; `run` until cancelled, then `close`. `is_live(worker, boot)`: whether that process still runs."""

    def __init__(self, config: Config, state_dir: Path, *, is_live: Callable[[int, int], bool]) -> None:
        self._config = config
        self._state_dir = state_dir
        self._is_live = is_live
        self._loop = asyncio.get_running_loop()
        self._process: BaseProcess | None = None
        self._sock: socket.socket | None = None
        self._last = Report()
        self._heard_at = time.monotonic()
        self._lived = 0                 # failures of processes that are gone
        self._events = 0                # and what they shipped
        self._closing = False
        self._first = asyncio.Event()
        self._gone = asyncio.Event()
        journal = state_dir / JOURNAL_NAME
        home = ship_dir(journal)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._spool = Spool(home)

    # ------------------------------------------------------------ for the supervisor

    def add(self, event: Gateway) -> None:
        """An event of the gateway itself (events.gateway_event). Raises AuditUnavailable when it cannot be kept."""
        self._spool.add(event)

    @property
    def lag(self) -> ShipperLag:
        """As of the last report; a process that says nothing falls behind by the clock."""
        lag, silent_s = self._last.lag, time.monotonic() - self._heard_at
        return msgspec.structs.replace(
            lag, events_total=self._events + lag.events_total,
            seconds=lag.seconds + (silent_s if silent_s > SILENT_S else 0.0),
        )

    @property
    def failures(self) -> int:
        """Faults of the shipper itself, not of its sinks: steps that failed, processes that died."""
        return self._lived + self._last.failures

    @property
    def pid(self) -> int:
        """Of the process that ships; 0 while there is none."""
        return self._process.pid or 0 if self._process is not None else 0

    async def start(self) -> None:
        """Until the sinks are open. Raises AuditUnavailable with the reason when they cannot be."""
        self._spawn()
        try:
            await asyncio.wait_for(self._first.wait(), START_S)
        except TimeoutError:
            await self._bury()
            raise AuditUnavailable(f"the audit shipper has not started within {START_S:.0f} s") from None
        if self._last.refused:
            await self._bury()
            self._spool.close()
            raise AuditUnavailable(self._last.refused)

    async def run(self) -> None:
        """Start it again whenever it dies; what it had not checkpointed comes again, and is dropped by its key."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            started_at = self._loop.time()
            await self._gone.wait()
            how = await self._bury()
            if self._closing:
                return
            self._lived += 1
            backoff_s = BACKOFF_FIRST_S if self._loop.time() - started_at > BACKOFF_MAX_S else min(
                backoff_s * 2, BACKOFF_MAX_S)
            why = f": {self._last.refused}" if self._last.refused else ""
            log.error("the audit shipper ended (%s)%s; it starts again in %.1f s", how, why, backoff_s)
            await asyncio.sleep(backoff_s)
            try:
                self._spawn()
            except (OSError, EOFError):
                log.exception("the audit shipper could not be started")
                self._gone.set()

    async def close(self) -> None:
        """Ship what is there; after the workers have gone, so that it is everything."""
        self._closing = True
        if self._process is not None:
            try:
                await asyncio.wait_for(self._gone.wait(), CLOSE_S)
            except TimeoutError:
                log.warning("the audit shipper does not end, killing it; the rest is shipped at the next start")
            await self._bury()
        self._spool.close()

    # ------------------------------------------------------------ the process

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._first.clear()
        self._gone.clear()
        process = multiprocessing.get_context("forkserver").Process(
            target=shipping_process.run, args=(theirs, self._config, str(self._state_dir)), name="hoopfast-shipper",
            daemon=True,
        )
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process, self._sock = process, ours
        self._events += self._last.lag.events_total
        self._lived += self._last.failures
        self._last = Report(lag=msgspec.structs.replace(self._last.lag, events_total=0))
        self._loop.add_reader(ours, self._on_report, ours)
        log.info("the audit shipper runs, pid %d", process.pid)

    def _on_report(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(MESSAGE_MAX)
            report = _reports.decode(data) if data else None
            if report is not None and not report.refused and not report.closed:
                sock.send(_encoder.encode(self._answer(report)))
        except BlockingIOError:
            return
        except (OSError, msgspec.MsgspecError):
            report = None
        if report is None:
            self._loop.remove_reader(sock)
            self._gone.set()
            return
        self._say_skipped(report.lag)
        self._last, self._heard_at = report, time.monotonic()
        self._first.set()

    def _say_skipped(self, lag: ShipperLag) -> None:
        """A sink that misses events must be seen to: the others get an event that says so."""
        for name, sink in lag.sinks.items():
            known = self._last.lag.sinks.get(name)
            if sink.skipped > (known.skipped if known is not None else 0):
                try:
                    self._spool.add(gateway_event("sink_skipped", time.time_ns(), sink=name, error=sink.error))
                except AuditUnavailable:
                    log.exception("it cannot be recorded that the sink %s misses events", name)

    def _answer(self, report: Report) -> Answer:
        living = [stream for stream in report.streams if self._may_grow(stream)]
        return Answer(living=living, close=self._closing)

    def _may_grow(self, stream: str) -> bool:
        place = parse_name(f"{stream}-0.seg")
        return self._is_live(place.worker, place.boot) if place is not None else stream == self._spool.path.stem

    async def _bury(self) -> str:
        """Make sure that it is gone, and say how it ended."""
        process, sock, self._process, self._sock = self._process, self._sock, None, None
        if sock is not None:
            self._loop.remove_reader(sock)
            sock.close()
        if process is None:
            return "never started"
        await asyncio.to_thread(process.join, 1.0)
        if process.exitcode is None and process.pid:
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.join, 5.0)
        code = process.exitcode
        if code is not None:
            process.close()
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
