"""What a transaction costs as things grow: sessions, rows, masks, workers: `python -m bench.curves`.

Each curve is measured in interleaved rounds on one machine and shown beside PgBouncer's where PgBouncer does the same.
Results go to bench/results/ as JSON and PNG.

active    transactions by 1 to 64 clients at once
idle      16 clients at work beside 0 to 10,000 sessions that do nothing, with a server that only looks like PostgreSQL
width     rows of 16 bytes to 64 KiB
masked    rows of six columns of which the first 0 to 6 are masked: redact, email, partial, hash, null, partial
workers   hoopfast with one worker and with two
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import platform
import resource
import statistics
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench.measure import LOOKUP, Result, bulk, pgbench_window
from bench.servers import DATABASE, POLICY, Arena, Peer
from tests.support import wire
from tests.support.postgres import binaries
from tests.support.upstream import LightServer

CURVES = ("active", "idle", "width", "masked", "workers")
ACTIVE = (1, 2, 4, 8, 16, 32, 64)
IDLE = (0, 100, 1_000, 10_000)
WIDTHS = (16, 64, 256, 1_024, 4_096, 16_384, 65_536)
WIDTH_BYTES = 128 * 1024 * 1024
MASKED_ROWS = 400_000
COLUMNS = (
    ("name", "'person ' || i", "redact"),
    ("email", "'user' || i || '@example.com'", "email"),
    ("card", "lpad(i::text, 16, '4')", {"partial": {"keep": 4}}),
    ("city", "'city ' || i % 1000", "hash"),
    ("note", "'note no. ' || i", "null"),
    ("phone", "'+49 30 ' || i", {"partial": {"keep": 3}}),
)
RESULTS = Path(__file__).parent / "results"
Line = dict[float, float]           # position on the axis: microseconds or nanoseconds of CPU
Curve = dict[str, Line]


class Series:
    """Samples of one curve by line and position, and their medians."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[float, list[float]]] = {}

    def add(self, line: str, at: float, value: float) -> None:
        self._samples.setdefault(line, {}).setdefault(at, []).append(value)

    def medians(self) -> Curve:
        return {
            line: {at: round(statistics.median(values), 3) for at, values in sorted(points.items())}
            for line, points in self._samples.items()
        }


class Bench:
    """One arena and what the curves share."""

    def __init__(self, options: argparse.Namespace, arena: Arena, light: LightServer) -> None:
        self.options = options
        self.arena = arena
        self.light = light
        self.pgbench = binaries(tls=True) / "pgbench"
        self.script = arena.directory / "lookup.sql"
        self.script.write_text(LOOKUP.format(rows=100_000))

    def window(self, peer: Peer, clients: int) -> Result:
        return pgbench_window(
            self.pgbench, peer, "prepared", self.script, clients=clients, seconds=self.options.seconds)

    def peer(self, name: str) -> Peer:
        return next(peer for peer in self.arena.peers if peer.name == name)

    def beside(self, *names: str) -> list[Peer]:
        return [peer for peer in self.arena.peers if peer.name in names]


def active(bench: Bench, series: Series) -> None:
    for clients in ACTIVE:
        for peer in bench.beside("pgbouncer", "hoopfast"):
            series.add(peer.name, clients, bench.window(peer, clients).cpu_data_us)


def idle(bench: Bench, series: Series) -> None:
    """The idle ones log in through the same gateway and stay while pgbench runs."""
    peer = bench.peer("hoopfast")
    workers = [psutil.Process(pid) for pid in peer.data_path]
    room = (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1000) // 2
    hello = wire.startup(user=peer.user, database="light") + wire.frame("p", peer.password.encode() + b"\0")

    async def run() -> None:
        writers: list[asyncio.StreamWriter] = []
        held = _own_memory(workers)
        for count in sorted({min(count, room) for count in IDLE}):
            while len(writers) < count:
                batch = min(20, count - len(writers))
                writers += await asyncio.gather(*(_log_in(peer.port, hello) for _ in range(batch)))
            await asyncio.sleep(1)
            if count >= 1_000:
                series.add("KiB of the worker per idle session", count, (_own_memory(workers) - held) / count / 1024)
            series.add("hoopfast", count, (await asyncio.to_thread(bench.window, peer, 16)).cpu_data_us)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(1)

    asyncio.run(run())


async def _log_in(port: int, hello: bytes) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(hello)
    kind = b""
    while kind != b"Z":
        kind, size = struct.unpack("!cI", await reader.readexactly(5))
        body = await reader.readexactly(size - 4)
        if kind == b"E":
            raise RuntimeError(f"an idle session was refused: {wire.error_fields(body)['M']}")
    return writer


def _own_memory(processes: Iterable[psutil.Process]) -> int:
    return sum(process.memory_full_info().uss for process in processes)


def width(bench: Bench, series: Series) -> None:
    with bench.arena.postgres.connect(DATABASE) as db:
        db.execute("SET ROLE app")
        for size in WIDTHS:
            db.execute(f"CREATE TABLE IF NOT EXISTS width_{size} (body text STORAGE EXTERNAL)")
            if db.execute(f"SELECT EXISTS (SELECT FROM width_{size})").fetchone() == (False,):
                rows = f"SELECT repeat('x', {size}) FROM generate_series(1, {_rows(size)})"
                db.execute(f"INSERT INTO width_{size} {rows}")
    for size in WIDTHS:
        for peer in bench.beside("pgbouncer", "haproxy", "hoopfast"):
            result = bulk(peer, f"width_{size}", _rows(size))
            series.add(peer.name, size, result.cpu_data_us / size * 1024)


def _rows(size: int) -> int:
    return min(1_000_000, WIDTH_BYTES // size)


def masked(bench: Bench, series: Series) -> None:
    with bench.arena.postgres.connect(DATABASE) as db:
        db.execute("SET ROLE app")
        columns = ", ".join(f"{source} AS {name}" for name, source, _ in COLUMNS)
        for share in range(len(COLUMNS) + 1):
            db.execute(f"CREATE TABLE IF NOT EXISTS share_{share} AS SELECT {columns} "
                       f"FROM generate_series(1, {MASKED_ROWS}) i")
    for share in range(len(COLUMNS) + 1):
        for peer in bench.beside("pgbouncer", "hoopfast"):
            series.add(peer.name, share, bulk(peer, f"share_{share}", MASKED_ROWS).cpu_data_us * 1000)


def workers(bench: Bench, series: Series) -> None:
    """In arenas of their own: the number of workers is fixed when a gateway starts."""
    for count in (1, 2):
        with Arena(scale=1, bulk_rows=1000, names=["hoopfast"], workers=count) as arena:
            result = Bench(bench.options, arena, bench.light).window(arena.peers[0], 32)
            series.add("CPU us, data path", count, result.cpu_data_us)
            series.add("CPU us, all processes", count, result.cpu_all_us)
            series.add("transactions per ms", count, result.rate / 1000)


RUN: dict[str, Callable[[Bench, Series], None]] = {
    "active": active, "idle": idle, "width": width, "masked": masked, "workers": workers,
}
LABELS = {
    "active": ("clients at once", "CPU us per transaction, data path"),
    "idle": ("idle sessions beside 16 at work", "CPU us per transaction, data path"),
    "width": ("bytes per row", "CPU us per KiB of values, data path"),
    "masked": ("masked columns of six", "CPU ns per row, data path"),
    "workers": ("workers, 32 clients", ""),
}


def policy() -> dict[str, Any]:
    """The arena's, access to the stand-in, and a mask for the first `share` columns of each table share_N."""
    masks = [
        {"columns": [f"public.share_{share}.{name}"], "with": mask, "connections": [DATABASE]}
        for share in range(len(COLUMNS) + 1) for name, _, mask in COLUMNS[:share]
    ]
    of_arena = [{**mask, "connections": [DATABASE]} for mask in POLICY["masks"]]
    access = [{"groups": ["engineering"], "connections": [DATABASE, "light"]}]
    return POLICY | {"access": access, "masks": [*of_arena, *masks]}


def show(name: str, curve: Curve, console: Console) -> None:
    across, up = LABELS[name]
    table = Table(title=f"{name}: {up}" if up else name, title_justify="left")
    table.add_column(across, justify="right")
    for line in curve:
        table.add_column(line, justify="right")
    for at in sorted({at for line in curve.values() for at in line}):
        table.add_row(f"{at:,.0f}", *(f"{line[at]:,.2f}" if at in line else "-" for line in curve.values()))
    console.print(table)


def draw(curves: dict[str, Curve], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(4.2 * len(curves), 3.6), squeeze=False)
    for axis, (name, curve) in zip(axes[0], curves.items(), strict=True):
        across, up = LABELS[name]
        for line, points in curve.items():
            axis.plot(list(points), list(points.values()), marker="o", label=line)
        axis.set_xscale("symlog" if name in {"idle", "width", "active"} else "linear")
        axis.set_ylim(bottom=0)
        axis.set_xlabel(across, fontsize=8)
        axis.set_ylabel(up, fontsize=8)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", default=",".join(CURVES), help=f"comma separated; of {', '.join(CURVES)}")
    parser.add_argument("--seconds", type=int, default=2, help="measured seconds per point and round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    chosen = options.curves.split(",")
    if unknown := set(chosen) - set(CURVES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose of {', '.join(CURVES)}")
    console = Console(width=None if Console().is_terminal else 130)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    series = {name: Series() for name in chosen}
    with LightServer() as light, Arena(
        scale=1, bulk_rows=1000, names=["pgbouncer", "haproxy", "hoopfast"], workers=1, policy=policy(),
        connections={"light": light.connection()},
    ) as arena:
        for name in arena.skipped:
            console.print(f"[yellow]{name} is not installed and was left out[/]")
        bench = Bench(options, arena, light)
        for number in range(1, options.rounds + 1):
            for name in chosen:
                if console.is_terminal:
                    console.print(f"[dim]{number}/{options.rounds} {name}[/]".ljust(40), end="\r")
                RUN[name](bench, series[name])
    curves = {name: samples.medians() for name, samples in series.items()}
    for name, curve in curves.items():
        show(name, curve, console)
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / dt.datetime.now(dt.UTC).strftime("curves-%Y%m%d-%H%M%S")
    document = {"cores": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release(),
                "options": vars(options), "curves": curves}
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1))
    draw(curves, stem.with_suffix(".png"))
    console.print(f"written: {stem}.json and .png")


if __name__ == "__main__":
    main()
