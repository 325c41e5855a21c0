"""`python -m tests.replay [--sessions N] [--statements N] [--speed S]`: an afternoon, recorded by a real gateway.

People work on a shop through the gateway at the same time, in all protocols and in transactions that get into each
other's way; then the afternoon is exported and run again on a copy of the database from before, as fast as it goes and
at the speed that was asked for. Prints how it went; fails when anything differs that the server did not choose.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, scratch_directory

ACCOUNTS = 2000
SHOP = (
    "CREATE TABLE accounts (id int PRIMARY KEY, owner text, balance numeric(12, 2))",
    f"INSERT INTO accounts SELECT i, 'owner ' || i, 100 FROM generate_series(1, {ACCOUNTS}) i",
    "CREATE TABLE moves (id bigserial PRIMARY KEY, account int, amount numeric(12, 2), at timestamptz DEFAULT now())",
    "CREATE INDEX ON moves (account)",
)


def person(gateway: Gateway, number: int, statements: int, pause: float) -> None:
    """About `statements` statements: reads, prepared and binary, pipelines, transfers between few accounts."""
    dice = random.Random(number)
    with gateway.connect("shop", application_name=f"person {number}") as db:
        binary = db.cursor(binary=True)
        left = statements
        while left > 0:
            account = dice.randint(1, 50) if dice.random() < 0.3 else dice.randint(1, ACCOUNTS)
            what = dice.random()
            if what < 0.5:
                db.execute("SELECT owner, balance FROM accounts WHERE id = %s", (account,)).fetchall()
                left -= 1
            elif what < 0.7:
                binary.execute("SELECT id, balance FROM accounts WHERE id BETWEEN %s AND %s ORDER BY id",
                               (account, account + 9)).fetchall()
                left -= 1
            elif what < 0.85:
                with db.transaction():
                    other = dice.randint(account, ACCOUNTS)             # in one order: no deadlocks
                    db.execute("UPDATE accounts SET balance = balance - 1 WHERE id = %s RETURNING balance", (account,))
                    db.execute("UPDATE accounts SET balance = balance + 1 WHERE id = %s RETURNING balance", (other,))
                    db.execute("INSERT INTO moves (account, amount) VALUES (%s, -1)", (account,))
                left -= 5
            elif what < 0.95:
                with db.pipeline():
                    for i in range(5):
                        db.execute("SELECT balance + %s FROM accounts WHERE id = %s", (i, account))
                left -= 5
            else:
                db.execute(f"SELECT count(*), sum(amount) FROM moves WHERE account = {account}").fetchall()
                left -= 1
            if pause:
                time.sleep(dice.random() * 2 * pause)


def replayed(gateway: Gateway, server: PostgresServer, events: Path, speed: str) -> dict[str, Any]:
    report = events.with_suffix(".report.json")
    with server.database("replay_copy", *SHOP) as name:
        done = gateway.cli(
            "replay", "--events", str(events), "-c", str(gateway.config_file), "--to", server.dsn(name, "app"),
            "--speed", speed, "--json", str(report), "--html", str(events.with_suffix(".html")),
            "--allow", "server-chosen", "--steps", "different", check=False, timeout=3600)
    sys.stdout.write(done.stdout[-3000:] + done.stderr[-2000:])
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def main() -> int:
    """0 when everything did the same, but for what the server chooses."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sessions", type=int, default=50)
    options.add_argument("--statements", type=int, default=1000, help="of each session")
    options.add_argument("--pause", type=float, default=0.0, help="mean seconds between two things that a person does")
    options.add_argument("--speed", default="1")
    given = options.parse_args()
    with PostgresServer(scratch_directory("pg"), log_statements=False) as server, TestIssuer() as issuer, \
            tempfile.TemporaryDirectory() as directory, server.database("shop_afternoon", *SHOP) as shop, \
            Gateway(issuer, {"shop": upstream_of(server, shop)}) as gateway:
        people = [
            threading.Thread(target=person, args=(gateway, i, given.statements, given.pause))
            for i in range(given.sessions)]
        begun = time.monotonic()
        for each in people:
            each.start()
        for each in people:
            each.join()
        with gateway.connect("shop") as db:
            db.execute("SELECT 'the end'")
        gateway.wait_audited("the end", timeout=120)
        sys.stdout.write(f"recorded in {time.monotonic() - begun:.1f} s\n")
        events = Path(directory) / "afternoon.jsonl"
        gateway.cli("audit", "export", "-c", str(gateway.config_file), "-o", str(events), timeout=300)
        worst = 0
        for speed in ("max", given.speed):
            begun = time.monotonic()
            made = replayed(gateway, server, events, speed)
            other = [step for step in made["steps"] if step["status"] == "differs" and step["class"] != "server-chosen"]
            sys.stdout.write(
                f"speed {speed}: {made['statements']} statements, {len(other)} differ but for what the server chooses, "
                f"{made['statements_per_second']:.0f}/s, lag {made['lag_max_s']} s at most, "
                f"{time.monotonic() - begun:.1f} s with everything\n")
            worst += len(other)
    return int(worst > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except psycopg.Error as failure:
        sys.exit(f"the recording failed: {failure}")
