"""One measurement: run a client against a peer, and say what the peer's processes spent on it."""

from __future__ import annotations

import os
import re
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.servers import DATABASE, Peer

TICKS = os.sysconf("SC_CLK_TCK")
PROGRESS = re.compile(rb"progress: ([0-9.]+) s, ([0-9.]+) tps, lat ([0-9.]+) ms")
LOOKUP = "\\set aid random(1, {rows})\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"


@dataclass
class Result:
    """`rate` and `cpu_us` (user + system, per unit) are per transaction, row or connection; latencies in ms."""

    rate: float
    cpu_all_us: float
    cpu_data_us: float
    latency_ms: float = 0.0
    p99_ms: float = 0.0


def cpu_seconds(pids: Iterable[int]) -> float:
    """utime + stime of these processes, all their threads. A process that is gone counts nothing."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def pgbench_window(
    program: Path, peer: Peer, mode: str, script: Path, *, clients: int, seconds: int, reconnect: bool = False
) -> Result:
    """`seconds` of pgbench from its first progress line on, so that logging in is not charged to the transactions."""
    command = [
        program, "-n", "-M", mode, "-c", str(clients), "-j", "2", "-T", str(seconds + 2), "-P", "1", "-f", script,
    ]
    if reconnect:
        command.append("-C")
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=peer.environment()
    )
    assert process.stderr is not None
    samples: list[tuple[float, float, float, float, float]] = []
    noise = b""
    for line in process.stderr:
        found = PROGRESS.match(line)
        if found:
            at, tps, latency = (float(x) for x in found.groups())
            samples.append((at, tps, latency, cpu_seconds(peer.processes), cpu_seconds(peer.data_path)))
        else:
            noise += line
    if process.wait() != 0 or len(samples) < 2:
        raise RuntimeError(f"pgbench against {peer.name} failed: {noise.decode(errors='replace')[-800:]}")
    first, last = samples[0], samples[seconds] if len(samples) > seconds else samples[-1]
    counted = samples[1 : samples.index(last) + 1]
    transactions = sum(s[1] * (s[0] - before[0]) for before, s in zip(samples, counted, strict=False))
    per = 1e6 / max(transactions, 1)
    return Result(
        rate=transactions / (last[0] - first[0]), cpu_all_us=(last[3] - first[3]) * per,
        cpu_data_us=(last[4] - first[4]) * per, latency_ms=statistics.mean(s[2] for s in counted),
    )


def pgbench_latency(program: Path, peer: Peer, script: Path, directory: Path, *, seconds: int) -> Result:
    """One client, every transaction timed by pgbench's log: medians and tails rather than means."""
    prefix = directory / f"latency-{peer.name}"
    command: list[str | Path] = [program, "-n", "-M", "prepared", "-c", "1", "-T", str(seconds), "-f", script]
    command += ["-l", "--log-prefix", prefix]
    before = cpu_seconds(peer.processes), cpu_seconds(peer.data_path)
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False, env=peer.environment())
    if done.returncode != 0:
        raise RuntimeError(f"pgbench against {peer.name} failed: {done.stderr.decode(errors='replace')[-800:]}")
    times: list[float] = []
    for path in directory.glob(f"latency-{peer.name}.*"):
        times += [int(line.split()[2]) / 1000 for line in path.read_text().splitlines()]
        path.unlink()
    times.sort()
    after = cpu_seconds(peer.processes), cpu_seconds(peer.data_path)
    count = max(len(times), 1)
    return Result(
        rate=count / seconds, cpu_all_us=(after[0] - before[0]) * 1e6 / count,
        cpu_data_us=(after[1] - before[1]) * 1e6 / count,
        latency_ms=times[count // 2], p99_ms=times[int(count * 0.99)],
    )


def bulk(peer: Peer, table: str, rows: int) -> Result:
    """All rows of a table by a simple Query, read as fast as a client can that does nothing with them."""
    sslmode = "require" if peer.tls else "disable"
    with psycopg.connect(
        host="127.0.0.1", port=peer.port, user=peer.user, password=peer.password, dbname=DATABASE, sslmode=sslmode,
        autocommit=True,
    ) as db:
        db.execute(f"SELECT * FROM {table} LIMIT 1")
        before = cpu_seconds(peer.processes), cpu_seconds(peer.data_path)
        began = time.perf_counter()
        text = f"SELECT * FROM {table}".encode() + b"\0"
        with socket.socket(fileno=os.dup(db.fileno())) as raw:
            raw.setblocking(True)
            raw.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
            _drain(raw, f"SELECT {rows}".encode())
        elapsed = time.perf_counter() - began
        after = cpu_seconds(peer.processes), cpu_seconds(peer.data_path)
    return Result(
        rate=rows / elapsed, cpu_all_us=(after[0] - before[0]) * 1e6 / rows,
        cpu_data_us=(after[1] - before[1]) * 1e6 / rows, latency_ms=elapsed * 1000,
    )


def _drain(raw: socket.socket, tag: bytes) -> None:
    buffer = bytearray(1 << 20)
    tail = b""
    while not tail.endswith(b"Z\0\0\0\5I"):
        size = raw.recv_into(buffer)
        if size == 0:
            raise RuntimeError("the connection ended in the middle of the rows")
        tail = (tail + bytes(buffer[max(0, size - 64) : size]))[-64:]
    if tag not in tail:
        raise RuntimeError(f"not all rows arrived: {tail!r}")


def median(results: list[Result]) -> Result:
    """Field by field."""
    def mid(name: str) -> float:
        return statistics.median(getattr(result, name) for result in results)

    return Result(mid("rate"), mid("cpu_all_us"), mid("cpu_data_us"), mid("latency_ms"), mid("p99_ms"))
