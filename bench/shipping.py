"""Does the shipper keep up? `pgbench -S` through two workers as fast as it goes, while sinks take every event.

`python -m bench.shipping`: for each set of sinks, statements per second, events shipped, what was still waiting when
pgbench ended and how long that took, and CPU of workers, shipper and the sink's own server, per event. PostgreSQL,
client and gateway share the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, binaries, clean_environment, scratch_directory

SETS: dict[str, list[dict[str, Any]]] = {
    "sqlite and jsonl": [{"kind": "sqlite"}, {"kind": "jsonl"}],
    "jsonl": [{"kind": "jsonl"}],
    "postgres": [{"kind": "postgres", "dsn": "env:TRAIL"}],
    "postgres and jsonl": [{"kind": "postgres", "dsn": "env:TRAIL"}, {"kind": "jsonl"}],
}
DRAIN_MAX_S = 120.0


class Row(NamedTuple):
    """CPU in microseconds per event; `backlog` in events, at the end of the load."""

    sinks: str
    mode: str
    tps: float
    events_per_s: float
    backlog: float
    drain_s: float
    lag_max_s: float
    worker_us: float
    shipper_us: float
    shipper_cores: float
    store_us: float


def cpu(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def measure(name: str, mode: str, shop: PostgresServer, trail: PostgresServer, seconds: int, clients: int) -> Row:
    with TestIssuer() as issuer, trail.database("trail") as database:
        config = {"audit": {"sinks": SETS[name]}, "listen": {"workers": 2}}
        gateway = Gateway(issuer, {"shop": upstream_of(shop, "shop")}, config=config,
                          environment={"TRAIL": trail.dsn(database)})
        with gateway:
            shipper = psutil.Process(int(re.findall(r"audit shipper runs, pid (\d+)", gateway.log_text())[-1]))
            workers = gateway.workers()
            before = cpu([shipper]), cpu(workers), cpu(family(trail.pid))
            begin = time.monotonic()
            load = subprocess.Popen(
                [binaries() / "pgbench", "-S", "-M", mode, "-n", "-c", str(clients), "-j", "2", "-T", str(seconds),
                 gateway.dsn("shop")],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environment())
            lag = 0.0
            while load.poll() is None:
                time.sleep(0.5)
                lag = max(lag, gateway.metrics()["hoopfast_shipping_lag_seconds"])
            ended = time.monotonic()
            output = load.communicate()[0]
            transactions = int(re.findall(r"actually processed: (\d+)", output)[0])
            tps = float(re.findall(r"tps = ([\d.]+)", output)[0])
            sink = SETS[name][0]["kind"]
            at_end = _events(gateway, sink)
            while (there := _events(gateway, sink)) < transactions and time.monotonic() < ended + DRAIN_MAX_S:
                time.sleep(0.1)
            drained = time.monotonic()
            after = cpu([shipper]), cpu(workers), cpu(family(trail.pid))
            used = [(b - a) for a, b in zip(before, after, strict=True)]
            return Row(
                name, mode, tps, at_end / (ended - begin), max(0.0, transactions - at_end), drained - ended, lag,
                used[1] / there * 1e6, used[0] / there * 1e6, used[0] / (drained - begin), used[2] / there * 1e6)


def _events(gateway: Gateway, sink: str) -> float:
    return gateway.metrics().get(f'hoopfast_sink_events_total{{sink="{sink}"}}', 0.0)


@contextlib.contextmanager
def servers() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """One for the people's data, one for the trail, as nobody would keep both in one."""
    quiet = {"shared_buffers": "256MB"}
    with PostgresServer(scratch_directory("shop"), log_statements=False, settings=quiet) as shop, \
            PostgresServer(scratch_directory("trail"), log_statements=False, settings=quiet | {
                "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "autovacuum": "on"}) as trail:
        with shop.connect() as db:
            db.execute("CREATE DATABASE shop OWNER app")
        subprocess.run(
            [shop.bin / "pgbench", "-i", "-q", "-s", "2", "-h", str(shop.socket_dir), "-p", str(shop.port), "-U",
             "postgres", "shop"], check=True, capture_output=True, env=clean_environment())
        with shop.connect("shop") as db:
            db.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
        yield shop, trail


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.shipping", description=__doc__)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--modes", default="prepared,simple")
    parser.add_argument("--sinks", default=",".join(SETS), help=f"comma separated; of {', '.join(SETS)}")
    parser.add_argument("-o", "--output", type=Path, help="the rows as JSON")
    options = parser.parse_args()
    rows = []
    with servers() as (shop, trail):
        for mode in options.modes.split(","):
            for name in options.sinks.split(","):
                row = measure(name, mode, shop, trail, options.seconds, options.clients)
                rows.append(row._asdict())
                print(f"{row.mode:9} {row.sinks:19} {row.tps:8.0f} tps  {row.events_per_s:8.0f} events/s shipped  "
                      f"behind {row.backlog:7.0f} events, {row.drain_s:5.1f} s  lag {row.lag_max_s:4.1f} s  "
                      f"CPU/event: worker {row.worker_us:5.2f}, shipper {row.shipper_us:5.2f} us "
                      f"({row.shipper_cores:4.2f} cores), store {row.store_us:5.2f} us", flush=True)
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
