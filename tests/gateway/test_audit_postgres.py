"""A gateway whose trail is in PostgreSQL: answers, proof, and exactly once while shipper and store are killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest

from hoopfast.audit.database import PostgresStore
from hoopfast.audit.search import AuditReader
from tests.gateway.conftest import SHOP_POLICY, connections
from tests.support.gateway import Gateway, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def trail(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database("trail_of_gateway") as name:
        yield name


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str, trail: str) -> Iterator[Gateway]:
    sinks = [{"kind": "postgres", "dsn": "env:TRAIL_DSN", "keep": "90d"}, {"kind": "jsonl"}]
    with Gateway(issuer, connections(postgres, shop), policy=SHOP_POLICY, config={"audit": {"sinks": sinks}},
                 environment={"TRAIL_DSN": postgres.dsn(trail)}) as running:
        yield running


def test_search_sessions_who_saw_export_tail_verify_prove(
    gateway: Gateway, postgres: PostgresServer, trail: str,
) -> None:
    reader = AuditReader(PostgresStore(postgres.dsn(trail)))
    with gateway.connect("shop", application_name="auditing") as db:
        db.execute("SELECT name FROM customers WHERE id = 1 /* hf-marker-pg1 */")
        with pytest.raises(psycopg.errors.DivisionByZero):
            db.execute("SELECT 1/0 /* hf-marker-pg1 */")
    events = wait_until(lambda: len(found := reader.search(text="hf-marker-pg1")) == 2 and found, "events")
    session = str(events[0]["session"])
    wait_until(lambda: len(reader.search(session=session)) == 4, "its end")
    found = json.loads(gateway.cli("audit", "search", "--json", "--sqlstate", "22012").stdout)["events"]
    assert [event["seq"] for event in found] == [events[0]["seq"]]
    shown = gateway.cli("sessions", "show", session).stdout
    assert "hf-marker-pg1" in shown and "alice@example.com" in shown
    assert session in gateway.cli("audit", "who-saw", "customers.name").stdout
    assert gateway.cli("audit", "export", "--session", session).stdout.count("\n") == 4
    assert "hf-marker-pg1" in gateway.cli("audit", "tail", "--json", "--count", "100").stdout
    event = f"{session}/{events[0]['seq']}"
    proof = gateway.directory / "proof.json"
    sealed = "SELECT count(*) FROM hoopfast_audit.checkpoints WHERE last_id >= %s"
    with contextlib.closing(postgres.connect(trail)) as admin:
        wait_until(lambda: admin.execute(sealed, (events[0]["id"],)).fetchone() != (0,), "a checkpoint")
    gateway.cli("audit", "prove", event, "-o", str(proof))
    assert "proven" in gateway.cli("audit", "verify", "--proof", str(proof)).stderr
    verified = gateway.cli("audit", "verify").stdout
    assert "postgres, chain of key" in verified and verified.count("whole") == 2, verified
    metrics = gateway.metrics()
    assert metrics['hoopfast_sink_dead_letters{sink="postgres"}'] == 0
    assert metrics['hoopfast_sink_events_total{sink="postgres"}'] > 4


def test_exactly_once_while_shipper_and_store_are_killed(
    gateway: Gateway, postgres: PostgresServer, trail: str,
) -> None:
    """Compared with the files, which are cut back to their mark: both have every statement once."""
    wanted = 0
    for turn in range(4):
        with gateway.connect("shop") as db:
            for n in range(200):
                db.execute(f"SELECT {n} /* hf-marker-pg2 */")
                wanted += 1
                if n == 100:
                    if turn % 2:
                        _kill_shipper(gateway)
                    else:
                        with postgres.connect(trail) as admin:
                            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                          " WHERE application_name = 'hoopfast shipper'")
    query = ("SELECT count(*), count(DISTINCT (e.session, e.seq)) FROM hoopfast_audit.events e"
             " JOIN hoopfast_audit.definitions d ON d.id = e.definition WHERE d.sql LIKE '%hf-marker-pg2%'")
    with contextlib.closing(postgres.connect(trail)) as admin:
        wait_until(lambda: (admin.execute(query).fetchone() or (0,))[0] >= wanted, f"{wanted} events", 60)
        time.sleep(0.5)
        assert admin.execute(query).fetchone() == (wanted, wanted)
    assert gateway.cli("audit", "verify").stdout.count("NOT WHOLE") == 0


def _kill_shipper(gateway: Gateway) -> None:
    pids = re.findall(r"the audit shipper runs, pid (\d+)", gateway.log_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pids[-1]), signal.SIGKILL)
