"""The process that ships the audit trail: runs audit.shipper.Shipper and talks to supervisor/shipping.py about it.

One socket, one message each way per step: a Report (how far it is, which streams it knows), then an Answer (which of
them may still grow). When the socket ends, the supervisor has gone, and so does this process, at once: checkpoints make
that safe. It holds the workers' lock, so that no other gateway begins while it still writes.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Collection
from pathlib import Path

import msgspec

from hoopfast import logs
from hoopfast.audit.lanes import ShipperLag
from hoopfast.audit.shipper import Shipper
from hoopfast.audit.sinks.base import make_sinks
from hoopfast.audit.vault import Vault
from hoopfast.config import Config, size_bytes
from hoopfast.errors import GatewayError
from hoopfast.supervisor.state_dir import JOURNAL_NAME, hold_workers_lock

MESSAGE_MAX = 1 << 20
IDLE_S = 0.1
BATCH_WORTH = 4_000                     # statements; fewer wait IDLE_S for company
BROKEN_S = 1.0

log = logging.getLogger("hoopfast.supervisor.shipping")


class Report(msgspec.Struct):
    """`refused`: the sinks cannot be opened, why; nothing follows. `closed`: all was shipped, nothing follows."""

    lag: ShipperLag = ShipperLag(bytes=0, seconds=0.0, events_total=0, errors=0)
    streams: list[str] = []
    failures: int = 0
    refused: str = ""
    closed: bool = False


class Answer(msgspec.Struct):
    """`living`: of the streams in the report, those that may still grow. `close`: ship what is there, then end."""

    living: list[str]
    close: bool = False


class SupervisorGone(Exception):
    """End-of-file on the socket."""


_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(Answer)


def run(sock: socket.socket, config: Config, state_dir: str) -> None:
    """The body of the process. `sock` is one end of a SEQPACKET pair: a message is whole or not there."""
    # Ctrl-C and systemd's SIGTERM reach the whole process group; the supervisor alone decides how to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logs.setup(config.log_level, process="shipper")
    hold_workers_lock(state_dir)
    if _is_over(sock):
        # Started by a supervisor that was killed meanwhile: another gateway may ship already.
        return
    try:
        _Talk(sock).run(config, Path(state_dir))
    except (SupervisorGone, ConnectionError):
        log.info("the supervisor has gone")


def _is_over(sock: socket.socket) -> bool:
    """Whether the supervisor has gone."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


class _Talk:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._shipper: Shipper | None = None
        self._failures = 0
        self._close = False

    def run(self, config: Config, state_dir: Path) -> None:
        try:
            vault = Vault(state_dir, keep=config.audit.masked_values == "sealed")
            self._shipper = Shipper(state_dir / JOURNAL_NAME, make_sinks(config, state_dir), living=self._living,
                                    # The other half is for what a sink that is required may need.
                                    optional_bytes=size_bytes(config.audit.max_bytes) // 2,
                                    vault=vault if config.audit.masked_values != "plain" else None)
        except (OSError, GatewayError, ValueError) as failure:
            self._send(Report(refused=str(failure)))
            return
        while not self._close:
            pause_s = 0.0
            try:
                # A batch costs a look at the directory, a word with the supervisor and a transaction, however small it
                # is: under load it is worth waiting for a larger one.
                if self._shipper.step() < BATCH_WORTH:
                    pause_s = IDLE_S
            except (SupervisorGone, ConnectionError):
                raise
            except Exception:
                # Sinks fail by themselves inside step(): this is a fault of ours. The journal keeps everything.
                self._failures += 1
                pause_s = BROKEN_S
                log.exception("the audit shipper failed; it goes on in %.0f s", BROKEN_S)
                self._living(())
            time.sleep(pause_s)
        self._shipper.close()
        self._send(Report(lag=self._shipper.lag(), failures=self._failures, closed=True))

    def _living(self, streams: Collection[str]) -> list[str]:
        assert self._shipper is not None
        self._send(Report(lag=self._shipper.lag(), streams=list(streams), failures=self._failures))
        data = self._sock.recv(MESSAGE_MAX)
        if not data:
            raise SupervisorGone
        answer = _answers.decode(data)
        self._close = self._close or answer.close
        return answer.living

    def _send(self, report: Report) -> None:
        self._sock.sendall(_encoder.encode(report))
