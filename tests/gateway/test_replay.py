"""`hoopfast replay` of what a real gateway recorded, on real sandboxes: protocol, order, masks, modes, refusals."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from hoopfast.cli.replay import command
from tests.gateway.conftest import CANARIES, SHOP, SHOP_POLICY, connections
from tests.support import wire
from tests.support.gateway import Gateway
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    with Gateway(issuer, connections(postgres, shop), policy=SHOP_POLICY, config={"audit": {"results": "64KiB"}}) as g:
        yield g


class Sandbox:
    """A fresh copy of the shop from before, and `hoopfast replay` on it."""

    def __init__(self, gateway: Gateway, server: PostgresServer, name: str, tmp: Path) -> None:
        self.gateway, self.dsn, self.tmp = gateway, server.dsn(name, "app"), tmp

    def replay(self, *arguments: str, check: bool = True) -> dict[str, Any]:
        report = self.tmp / "report.json"
        report.unlink(missing_ok=True)
        done = CliRunner().invoke(command, [
            *arguments, "-c", str(self.gateway.config_file), "--to", self.dsn, "--json", str(report),
            "--html", str(self.tmp / "report.html")])
        assert not check or report.exists(), (done.output, done.exception)
        self.output, self.code = done.output, done.exit_code
        found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
        return found

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as db:
            return db.execute(sql).fetchall()


@pytest.fixture
def sandbox(gateway: Gateway, postgres: PostgresServer, tmp_path: Path) -> Iterator[Sandbox]:
    with postgres.database("replay_sandbox", *SHOP) as name:
        yield Sandbox(gateway, postgres, name, tmp_path)


def steps(report: dict[str, Any], text: str = "") -> list[dict[str, Any]]:
    return [step for step in report["steps"] if text in step["sql"]]


def shapes(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(step["sql"][:60], step["status"], step["class"]) for step in report["steps"]]


def test_protocol(gateway: Gateway, sandbox: Sandbox) -> None:
    """Simple, prepared, binary, pipelined, portals in steps, failed, in transactions: all do the same again."""
    with gateway.connect("plain", application_name="rp-protocol", options="-c search_path=pg_catalog,public") as db:
        db.execute("CREATE TEMP TABLE t (id int, txt text, at timestamptz, n numeric)")
        for i in range(8):
            db.execute("INSERT INTO t VALUES (%s, %s, '2020-01-01', %s)", (i, f"läuft {i}", i * 1.5), prepare=True)
        for binary in (False, True):
            db.cursor(binary=binary).execute("SELECT id, txt, at, n FROM t WHERE id > %b ORDER BY id", (2,)).fetchall()
        with db.pipeline():
            for i in range(20):
                db.execute("SELECT %s::int + 1", (i,))
        with pytest.raises(psycopg.errors.DivisionByZero):
            db.execute("SELECT 1/0")
        with db.transaction():
            db.execute("UPDATE t SET txt = 'x' WHERE id = 1")
        with pytest.raises(psycopg.errors.UniqueViolation), db.transaction():
            db.execute("CREATE UNIQUE INDEX ON t (txt)")
            db.execute("INSERT INTO t VALUES (9, 'x')")
        db.execute("SELECT 1; SELECT 'two', 3")
        with db.cursor().copy("COPY t TO STDOUT") as copy:
            assert sum(len(bytes(part)) for part in copy)
        db.execute("SHOW search_path")
    with wire.WireClient(gateway.port) as client:
        client.login("alice", "plain", gateway.token())
        client.ask(wire.parse("SELECT generate_series(1, 10) /* rp-portal */", "s1"), wire.bind(name="s1", portal="p"),
                   wire.execute("p", limit=4), wire.execute("p", limit=4), wire.execute("p", limit=4), wire.SYNC)
        client.ask(wire.parse("SELECT $1 /* rp-last */", "s2", types=[23]), wire.bind([b"\0\0\0\7"], name="s2",
                   formats=[1], result_formats=[1]), wire.describe_portal(), wire.execute(), wire.SYNC)
    first = gateway.wait_audited("CREATE UNIQUE INDEX ON t")[0]["session"]
    last = gateway.wait_audited("rp-last")[0]
    assert last["parameter_bytes"] == ["00000007"] and last["result_formats"] == [1] and last["parameters"] == ["7"]
    report = sandbox.replay(first, last["session"])
    assert sandbox.code == 0 and report["differs"] == 0, (sandbox.output, shapes(report))
    assert report["skipped"] == 0 and report["same"] == report["statements"] > 45, sandbox.output
    assert all(step["recorded"]["digest"] == step["replayed"]["digest"] for step in report["steps"])
    assert len(steps(report, "rp-portal")) == 3
    assert steps(report, "SHOW search_path")[0]["replayed"]["digest"]


def test_masked_values_are_not_compared_and_never_shown(gateway: Gateway, sandbox: Sandbox) -> None:
    with gateway.connect("shop", application_name="rp-masks") as db:
        db.execute("SELECT id, ssn, city FROM customers WHERE id < 3 ORDER BY id /* rp-masked */").fetchall()
        db.cursor(binary=True).execute("SELECT badge, city FROM customers ORDER BY id").fetchall()
        db.execute("TABLE customers").fetchall()
        with db.cursor().copy("COPY customers TO STDOUT") as copy:
            assert sum(len(bytes(part)) for part in copy)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("SELECT upper(ssn) FROM customers")
        db.execute("INSERT INTO customers (id, name, ssn) VALUES (50, 'Di', 'CANARY-NEW-SSN') ON CONFLICT DO NOTHING")
    session = gateway.wait_audited("rp-masked")[0]["session"]
    gateway.wait_audited("ON CONFLICT DO NOTHING")
    report = sandbox.replay(session)
    masked = steps(report, "rp-masked")[0]
    assert masked["status"] == "same" and masked["note"] == "not comparable: masked: ssn", sandbox.output
    assert masked["recorded"]["digest"] == masked["replayed"]["digest"] != ""
    assert steps(report, "upper(ssn)")[0]["class"] == "refused"
    assert report["differs"] == 0, sandbox.output
    # The sandbox differs now in hidden and in plain columns: only the plain ones are told.
    sandbox.ask("UPDATE customers SET ssn = 'CANARY-OTHER', city = 'Lyon' WHERE id = 1 RETURNING 1")
    sandbox.ask("DELETE FROM customers WHERE id = 50 RETURNING 1")
    report = sandbox.replay(session)
    masked = steps(report, "rp-masked")[0]
    assert masked["status"] == "differs" and masked["class"] == "values"
    assert masked["diff"] == ["- row 1, city: Paris", "+ row 1, city: Lyon"]
    told = sandbox.output + json.dumps({**report, "steps": [{**s, "sql": ""} for s in report["steps"]]})
    told += (sandbox.tmp / "report.html").read_text()
    assert not [c for c in (*CANARIES, "CANARY-OTHER") if c in told]


def test_copied_rows_are_not_in_the_trail(gateway: Gateway, sandbox: Sandbox) -> None:
    with gateway.connect("plain") as plain:
        plain.execute("SELECT 1 /* rp-wait */")
    with gateway.connect("shop") as db:
        db.execute("BEGIN")
        with db.cursor().copy("COPY scratch FROM STDIN /* rp-copy */") as copy:
            copy.write(b"1\tone\n2\ttwo\n")
        db.execute("SELECT count(*) FROM scratch")
        db.execute("ROLLBACK")
    session = gateway.wait_audited("rp-copy")[0]["session"]
    report = sandbox.replay(session)
    copied = steps(report, "rp-copy")[0]
    assert (copied["status"], copied["class"]) == ("skipped", "no-data")
    assert copied["why"] == "cannot be replayed: the rows that the client copied in are not in the trail"
    counted = steps(report, "count(*)")[0]
    assert (counted["status"], counted["class"]) == ("differs", "after-gap"), counted
    assert steps(report, "ROLLBACK")[0]["status"] == "same"


def test_what_the_server_chooses(gateway: Gateway, sandbox: Sandbox) -> None:
    with gateway.connect("shop") as db:
        db.execute("SELECT now(), 1 /* rp-chosen */")
        db.execute("INSERT INTO orders (customer, item) VALUES (1, 'new') RETURNING id")
        db.execute("SELECT id, item FROM orders WHERE item = 'new'")
        db.execute("SELECT DISTINCT ON (customer) customer, item FROM orders ORDER BY customer, id")
        db.execute("DELETE FROM orders WHERE item = 'new'")
    session = gateway.wait_audited("rp-chosen")[0]["session"]
    gateway.wait_audited("DELETE FROM orders WHERE item = 'new'")
    sandbox.ask("SELECT nextval('orders_id_seq')")
    report = sandbox.replay(session, "--allow", "server-chosen")
    assert sandbox.code == 0, sandbox.output
    assert [s["class"] for s in report["steps"]] == ["server-chosen"] * 3 + ["", ""], sandbox.output
    assert report["classes"] == {"server-chosen": 3}


def test_order_across_sessions(gateway: Gateway, sandbox: Sandbox) -> None:
    """Dependent reads read the same, lock waits wait again, and as fast as it goes."""
    with gateway.connect("shop", application_name="a") as a, gateway.connect("shop", application_name="b") as b:
        a.execute("INSERT INTO scratch VALUES (1, '0') /* rp-order */")
        for i in range(30):
            reader, writer = (a, b) if i % 2 else (b, a)
            writer.execute("UPDATE scratch SET txt = txt || %s WHERE id = 1", (str(i),))
            reader.execute("SELECT txt FROM scratch WHERE id = 1").fetchall()
        a.execute("BEGIN")
        a.execute("UPDATE scratch SET txt = 'a' WHERE id = 1")
        waiting = threading.Thread(target=lambda: b.execute(
            "UPDATE scratch SET txt = txt || 'b' WHERE id = 1 RETURNING txt /* rp-waited */").fetchall())
        waiting.start()
        time.sleep(0.3)
        a.execute("COMMIT")
        waiting.join()
        b.execute("SELECT txt FROM scratch WHERE id = 1").fetchall()
        a.execute("DELETE FROM scratch WHERE id = 1")
    waited = gateway.wait_audited("rp-waited")[0]
    sessions = {waited["session"], gateway.wait_audited("rp-order")[0]["session"]}
    assert len(sessions) == 2 and waited["duration_us"] > 200_000
    gateway.wait_audited("DELETE FROM scratch WHERE id = 1")
    report = sandbox.replay(*sessions)
    assert report["differs"] == 0 and report["same"] == report["statements"] == 67, (sandbox.output, shapes(report))
    assert report["stalls"] == [] and report["recorded_seconds"] > 0.3
    # As slowly as it was, it waits as long as it did.
    sandbox.ask("DELETE FROM scratch RETURNING 1")
    begun = time.monotonic()
    report = sandbox.replay(*sessions, "--speed", "1")
    assert report["differs"] == 0 and time.monotonic() - begun > report["recorded_seconds"] > 0.3
    assert report["lag_s"] < 2, report["lag_s"]


def test_an_order_that_cannot_be_kept_is_given_up_and_said(gateway: Gateway, sandbox: Sandbox) -> None:
    with gateway.connect("shop", application_name="c") as a, gateway.connect("shop", application_name="d") as b:
        a.execute("BEGIN /* rp-stall */")
        a.execute("UPDATE orders SET price = 1 WHERE id = 1")
        b.execute("UPDATE orders SET price = 2 WHERE item = 'item 2' /* rp-stalled */")
        a.execute("ROLLBACK")
    sessions = [gateway.wait_audited(text)[0]["session"] for text in ("rp-stall */", "rp-stalled")]
    sandbox.ask("UPDATE orders SET item = 'item 2' WHERE id = 1 RETURNING 1")     # now both want the same row
    report = sandbox.replay(*sessions)
    assert report["stalls"][0]["held_by"] == [sessions[0]] and "order was given up" in report["stalls"][0]["what"]
    assert steps(report, "rp-stalled")[0]["class"] == "row-count", sandbox.output
    assert steps(report, "ROLLBACK")[0]["status"] == "same"


def test_in_transaction_leaves_nothing_behind(gateway: Gateway, sandbox: Sandbox) -> None:
    with gateway.connect("shop") as db:
        db.execute("INSERT INTO scratch VALUES (1, 'one') /* rp-tx */")
        with pytest.raises(psycopg.errors.UndefinedTable):
            db.execute("SELECT * FROM not_there")
        with db.transaction():
            db.execute("INSERT INTO scratch VALUES (2, 'two')")
        with pytest.raises(psycopg.errors.DivisionByZero), db.transaction():
            db.execute("INSERT INTO scratch VALUES (3, 'three')")
            db.execute("SELECT 1/0")
        db.execute("SELECT id FROM scratch ORDER BY id").fetchall()
        db.execute("VACUUM scratch")
        db.execute("DELETE FROM scratch WHERE id < 10")
    session = gateway.wait_audited("rp-tx")[0]["session"]
    gateway.wait_audited("DELETE FROM scratch WHERE id < 10")
    report = sandbox.replay(session, "--in-transaction")
    assert report["differs"] == 0 and report["adapted"] == 4, (sandbox.output, shapes(report))
    vacuum = steps(report, "VACUUM")[0]
    assert (vacuum["status"], vacuum["why"]) == ("skipped", "VACUUM cannot run inside a transaction")
    assert steps(report, "SELECT id FROM scratch")[0]["replayed"]["tag"] == "SELECT 2"
    assert sandbox.ask("SELECT count(*) FROM scratch") == [(0,)]


def test_read_only_and_stop_at(gateway: Gateway, sandbox: Sandbox) -> None:
    with gateway.connect("shop") as db:
        db.execute("SELECT count(*) FROM scratch /* rp-ro */")
        db.execute("INSERT INTO scratch VALUES (1, 'one')")
        db.execute("SELECT set_config('default_transaction_read_only', 'off', false)")
        db.execute("BEGIN READ WRITE")
        db.execute("SELECT count(*) FROM scratch WHERE id = 1")
        db.execute("COMMIT")
        db.execute("SELECT count(*) FROM orders WHERE id < 10")
        db.execute("DELETE FROM scratch WHERE id = 1")
    session = gateway.wait_audited("rp-ro")[0]["session"]
    last = gateway.wait_audited("SELECT count(*) FROM orders WHERE id < 10")[0]
    report = sandbox.replay(session, "--read-only", "--stop-at", f"{session}:{last['seq']}")
    found = [(step["status"], step["class"]) for step in report["steps"]]
    assert found == [
        ("same", ""), ("skipped", "read-only"), ("skipped", "read-only"), ("skipped", "read-only"),
        ("differs", "after-gap"), ("same", ""), ("same", "")], (sandbox.output, shapes(report))
    assert sandbox.ask("SELECT count(*) FROM scratch") == [(0,)]
    report = sandbox.replay(session, "--stop-at", last["at"][:26] + "Z")
    assert report["statements"] == 6, shapes(report)


def test_cancelled_statements_and_refusals_in_transactions(gateway: Gateway, sandbox: Sandbox) -> None:
    with gateway.connect("shop") as db:
        killer = threading.Timer(0.4, db.cancel)
        killer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            db.execute("SELECT pg_sleep(60) /* rp-cancel */")
        db.execute("BEGIN")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("GRANT SELECT ON orders TO PUBLIC")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            db.execute("SELECT 5")
        db.execute("ROLLBACK")
    session = gateway.wait_audited("rp-cancel")[0]["session"]
    begun = time.monotonic()
    report = sandbox.replay(session)
    assert time.monotonic() - begun < 20
    assert [(s["status"], s["recorded"]["sqlstate"]) for s in report["steps"]] == [
        ("same", "57014"), ("same", ""), ("skipped", "42501"), ("same", "25P02"), ("same", "")], sandbox.output


def test_upstreams_are_refused_under_any_name(
    gateway: Gateway, sandbox: Sandbox, postgres: PostgresServer, shop: str,
) -> None:
    with gateway.connect("shop") as db:
        db.execute("SELECT 1 /* rp-upstream */")
    session = gateway.wait_audited("rp-upstream")[0]["session"]
    with wire.SplittingProxy(postgres.port, largest=4096) as tunnel:
        for port, host in ((postgres.port, "127.0.0.1"), (postgres.port, "localhost"), (tunnel.port, "127.0.0.1")):
            sandbox.dsn = f"host={host} port={port} dbname={shop} user=app password='correct horse'"
            assert sandbox.replay(session, check=False) == {}
            assert sandbox.code == 1 and "is the upstream of connection shop" in sandbox.output, sandbox.output
            assert "--i-mean-it" in sandbox.output and "correct" not in sandbox.output
    sandbox.dsn = gateway.dsn("shop")
    assert sandbox.replay(session, check=False) == {} and "the gateway itself" in sandbox.output
    sandbox.dsn = postgres.dsn(shop, "app")
    assert sandbox.replay(session, "--i-mean-it")["same"] == 1


def test_a_selection_and_an_export(gateway: Gateway, sandbox: Sandbox) -> None:
    for i in range(3):
        with gateway.connect("shop", application_name=f"rp-many-{i}") as db:
            db.execute(f"SELECT {i} /* rp-many-{i} */")
    gateway.wait_audited("rp-many-2")
    report = sandbox.replay("--since", "1h", "--user", "alice@example.com", "--connection", "shop")
    assert len(report["sessions"]) >= 3 and len(steps(report, "rp-many-")) == 3
    export = sandbox.tmp / "afternoon.jsonl"
    gateway.cli("audit", "export", "-c", str(gateway.config_file), "--text", "rp-many", "-o", str(export))
    report = sandbox.replay("--events", str(export))
    assert report["same"] == 3 and sandbox.code == 0, sandbox.output
    assert sandbox.replay("0123456789abcdef", check=False) == {} and "no session 0123456789abcdef" in sandbox.output
