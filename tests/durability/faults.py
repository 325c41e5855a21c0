"""What goes wrong: killed processes, stopped and locked sinks, a full disk, damaged records.

Each returns when it is over. Whoever calls holds the dice; nothing here is random.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from hoopfast.audit.segments import Record, read_header, read_segment
from hoopfast.model import JOURNAL_HEADER_BYTES
from tests.support.gateway import Gateway, wait_until

START_S = 60.0
SHIPPER = re.compile(r"the audit shipper runs, pid (\d+)")


class Damage(NamedTuple):
    """A record that was destroyed: where, and what it was."""

    path: Path
    offset: int
    record: Record


def shipper_of(gateway: Gateway) -> int:
    """Process id of the running shipper; 0 when it is not there just now."""
    found = SHIPPER.findall(gateway.log_text())
    return int(found[-1]) if found and psutil.pid_exists(int(found[-1])) else 0


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_supervisor(gateway: Gateway) -> bool:
    gateway.kill9()
    gateway.start(START_S)
    return True


def kill_everything(gateway: Gateway) -> bool:
    """All processes at one moment, then a start on what they left."""
    leave_corpses(gateway)
    gateway.start(START_S)
    return True


def leave_corpses(gateway: Gateway) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        family = gateway.processes()[::-1]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family[:-1], timeout=10)
    gateway.kill9()


def stop_shipper(gateway: Gateway, seconds: float) -> None:
    """A sink so slow that nothing comes through."""
    pid = shipper_of(gateway)
    if not pid:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


def break_store(gateway: Gateway, seconds: float, times: int) -> None:
    """The embedded store refuses to be written, `times` times for `seconds`, with pauses as long."""
    for _ in range(times):
        with contextlib.closing(sqlite3.connect(gateway.audit_database(), timeout=5, isolation_level=None)) as db:
            with contextlib.suppress(sqlite3.OperationalError):
                db.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            with contextlib.suppress(sqlite3.OperationalError):
                db.execute("ROLLBACK")
        time.sleep(seconds)


@contextlib.contextmanager
def small_disk(directory: Path, size_mib: int) -> Iterator[bool]:
    """`directory` on a file system of its own; False where we may not mount."""
    directory.mkdir(mode=0o700, exist_ok=True)
    options = f"size={size_mib}m,mode=0700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "hoopfast-test", directory], capture_output=True)
    if done.returncode != 0:
        yield False
        return
    try:
        yield True
    finally:
        # Lazily: a process that was killed may still be on its way out.
        subprocess.run(["umount", "-l", directory], check=True)


@contextlib.contextmanager
def full_disk(gateway: Gateway) -> Iterator[None]:
    """Nothing of the state directory's file system is left, down to the last page."""
    ballast = gateway.state_dir / "ballast"
    descriptor = os.open(ballast, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _fill(descriptor)
        yield
    finally:
        os.close(descriptor)
        ballast.unlink()


def _fill(descriptor: int) -> None:
    step = 64 << 20
    size = os.fstat(descriptor).st_size
    while step >= 4096:
        try:
            os.posix_fallocate(descriptor, size, step)
            size += step
        except OSError:
            step //= 2


def damage_last_records(gateway: Gateway) -> list[Damage]:
    """Of a gateway that does not run: one byte of the last record of each worker's journal is turned."""
    newest: dict[str, Path] = {}
    for path in sorted((gateway.state_dir / "journal").glob("*.seg")):
        if _records(path):
            newest[path.name.rpartition("-")[0]] = path
    damages = []
    for path in newest.values():
        record = _records(path)[-1]
        with path.open("r+b") as file:
            file.seek(record.offset + 40)
            byte = file.read(1)
            file.seek(record.offset + 40)
            file.write(bytes([byte[0] ^ 0x55]))
        damages.append(Damage(path, record.offset, record))
    return damages


def _records(path: Path) -> list[Record]:
    data = path.read_bytes()
    if read_header(data[:JOURNAL_HEADER_BYTES]) is None:
        return []
    return read_segment(data, JOURNAL_HEADER_BYTES, limit=1 << 30).records


def settled(gateway: Gateway) -> None:
    """Both workers and the shipper are back."""
    want = gateway.config["listen"]["workers"]
    wait_until(lambda: len(gateway.workers()) == want and shipper_of(gateway), "all processes are back", 60)
