"""`make load`: PostgreSQL, a gateway, an approver and locust's users for half a minute, then a summary.

Exit status 0 only when no request failed and everything that PostgreSQL logged is in the audit trail.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from tests.support.gateway import Gateway, markers_in, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, scratch_directory

ROOT = Path(__file__).resolve().parents[1]
CANARY = "CANARY-LOAD-ZQXJ"
PEOPLE = ["alice", "bob", "carol"]
SHOP = (
    "CREATE TABLE customers (id int PRIMARY KEY, name text, ssn text, email text)",
    f"""INSERT INTO customers SELECT i, 'name ' || i, '{CANARY}-' || i, '{CANARY}' || i || '@example.org'
    FROM generate_series(1, 500) i""",
    "CREATE TABLE orders (id int PRIMARY KEY, item text, price numeric(10,2))",
    "INSERT INTO orders SELECT i, 'item ' || i, i * 1.5 FROM generate_series(1, 100) i",
    "CREATE TABLE scratch (id int, txt text)",
)
POLICY: dict[str, Any] = {
    "access": [{"groups": ["engineering"], "connections": ["shop"]}],
    "masks": [
        {"columns": ["public.customers.ssn"], "with": "redact"},
        {"columns": ["public.customers.email"], "with": "email"},
    ],
    "rules": [{
        "name": "unfiltered", "when": {"statements": ["update", "delete"], "unfiltered": True}, "action": "approve",
        "approvers": {"groups": ["load-approvers"], "count": 1},
    }],
}


class Approver(threading.Thread):
    """Approves whatever waits, half a second later, as a person would who does nothing else."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(daemon=True)
        self.gateway = gateway
        self.stopping = threading.Event()
        self.approved = 0

    def run(self) -> None:
        while not self.stopping.wait(0.3):
            with contextlib.suppress(httpx.HTTPError):
                waiting = self.gateway.approvals()
                with self.gateway.admin(self.gateway.token("dora", groups=["load-approvers"])) as api:
                    for row in waiting:
                        answer = api.post(f"/approvals/{row['id']}/approve", json={"reason": "load test"})
                        self.approved += answer.is_success


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.run", description=__doc__)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def run_locust(gateway: Gateway, options: argparse.Namespace, directory: Path) -> list[dict[str, str]]:
    """Locust's statistics, one row per kind of request."""
    setup = {
        "port": gateway.port, "sslmode": "disable", "canary": CANARY, "people": PEOPLE,
        "tokens": {person: gateway.token(person, exp=int(time.time()) + 3600) for person in PEOPLE},
    }
    command = [
        sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless", "--only-summary",
        "-u", str(options.users), "-r", str(max(5, options.users // 2)), "-t", f"{options.seconds}s",
        "--csv", str(directory / "load"), "--stop-timeout", "25", "--skip-log", "--exit-code-on-error", "0",
    ]
    environment = os.environ | {"HOOPFAST_LOAD": json.dumps(setup), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, timeout=options.seconds + 120
    )
    stats = directory / "load_stats.csv"
    if done.returncode != 0 or not stats.exists():
        raise SystemExit(f"locust failed ({done.returncode}):\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    failures = directory / "load_failures.csv"
    for row in list(csv.DictReader(failures.read_text().splitlines()))[:20]:
        print(f"  failure in {row['Name']}: {row['Error'][:200]} ({row['Occurrences']} times)")
    return list(csv.DictReader(stats.read_text().splitlines()))


def audit_gap(postgres: PostgresServer, gateway: Gateway, *, patience: float = 30.0) -> tuple[int, set[str]]:
    """How many marked statements PostgreSQL logged, and which of them the audit trail lacks."""
    reached = {m for m in markers_in(postgres.log_text()) if m.startswith("hf-marker-load-")}
    deadline = time.monotonic() + patience
    while True:
        recorded: set[str] = set()
        for path in gateway.state_dir.rglob("*.jsonl"):
            recorded |= markers_in(path.read_text(errors="replace"))
        missing = reached - recorded
        if not missing or time.monotonic() > deadline:
            return len(reached), missing
        time.sleep(0.5)


def main() -> None:
    options = arguments()
    console = Console()
    directory = scratch_directory("load")
    console.print(f"{options.users} users for {options.seconds} s against {options.workers} workers ...")
    with contextlib.ExitStack() as stack:
        server = PostgresServer(scratch_directory("load-pg"), settings={"max_connections": "400"})
        postgres = stack.enter_context(server)
        shop = stack.enter_context(postgres.database("shop", *SHOP))
        issuer = stack.enter_context(TestIssuer())
        config = {"listen": {"workers": options.workers}, "admin": {"approvers": ["load-approvers"]}}
        connections = {"shop": upstream_of(postgres, shop)}
        gateway = stack.enter_context(Gateway(issuer, connections, policy=POLICY, config=config))
        approver = Approver(gateway)
        approver.start()
        rows = run_locust(gateway, options, directory)
        approver.stopping.set()
        approver.join(10)
        logged, missing = audit_gap(postgres, gateway)
        leaked = CANARY in "".join(path.read_text(errors="replace") for path in gateway.state_dir.rglob("*.jsonl"))

    table = Table(title="load", title_justify="left")
    for heading in ("what", "requests", "failures", "p50 ms", "p99 ms", "max ms", "per second"):
        table.add_column(heading, justify="left" if heading == "what" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["Name"], row["Request Count"], row["Failure Count"], row["50%"], row["99%"],
            f"{float(row['Max Response Time']):.0f}", f"{float(row['Requests/s']):.1f}",
        )
    console.print(table)
    total = next(row for row in rows if row["Name"] == "Aggregated")
    failures, requests = int(total["Failure Count"]), int(total["Request Count"])
    console.print(f"approved {approver.approved}; statements at PostgreSQL {logged}, unrecorded {len(missing)}")
    if leaked:
        console.print("[red]a masked value is in the audit trail[/]")
    if failures or missing or leaked or not requests or not logged:
        console.print(f"[red]failed[/]: {failures} failures, {len(missing)} unrecorded, e.g. {sorted(missing)[:3]}")
        raise SystemExit(1)
    console.print(f"[green]{requests} requests, no failure, everything recorded[/]")


if __name__ == "__main__":
    main()
