"""Nothing unrecorded: every statement with person, parameters, outcome; search, export, replay; no secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.gateway.conftest import CANARIES, SHOP_POLICY, connections
from tests.support import wire
from tests.support.gateway import Gateway, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    config = {"audit": {"results": "64KiB"}}
    with Gateway(issuer, connections(postgres, shop), policy=SHOP_POLICY, config=config) as running:
        yield running


def test_a_statement_has_a_person_and_an_outcome(gateway: Gateway) -> None:
    with gateway.connect("shop", application_name="auditing") as db:
        db.execute("SELECT id FROM orders WHERE id <= 7 /* hf-marker-1 */")
    event = gateway.wait_audited("hf-marker-1")[0]
    assert event["user"] == "alice@example.com" and event["subject"] == "sub-alice"
    assert event["connection"] == "shop" and event["application"] == "auditing"
    assert event["outcome"] == "complete" and event["tag"] == "SELECT 7" and event["rows"] == 7
    assert event["verdict"] == "allow" and event["bytes"] > 0 and event["duration_us"] >= 0
    assert event["client"].startswith("127.0.0.1")


def test_parameters(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        for binary in (False, True):
            cursor = db.cursor(binary=binary)
            cursor.execute("SELECT %s::int, %s::text, %s::text /* hf-marker-2 */", (4711, "läuft", None))
    events = gateway.wait_audited("hf-marker-2", 2)
    for event in events:
        text = json.dumps(event["parameters"], ensure_ascii=False)
        assert "4711" in text and "läuft" in text and "null" in text, text


def test_errors_and_refusals(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        for statement, kind in (
            ("SELECT 1/0 /* hf-marker-3 */", psycopg.errors.DivisionByZero),
            ("GRANT SELECT ON orders TO PUBLIC /* hf-marker-4 */", psycopg.errors.InsufficientPrivilege),
            ("SELECT upper(ssn) FROM customers /* hf-marker-5 */", psycopg.errors.InsufficientPrivilege),
            ("SELEC /* hf-marker-6 */", psycopg.errors.SyntaxError),
        ):
            with pytest.raises(kind):
                db.execute(statement)
    event = gateway.wait_audited("hf-marker-3")[0]
    assert event["outcome"] == "error" and event["error"]["sqlstate"] == "22012"
    event = gateway.wait_audited("hf-marker-4")[0]
    assert event["outcome"] == "denied" and event["rule"] == "no-grants"
    assert gateway.wait_audited("hf-marker-5")[0]["outcome"] == "denied"
    assert gateway.wait_audited("hf-marker-6")[0]["outcome"] in {"error", "denied"}


def test_denied_statements_do_not_reach_postgres(gateway: Gateway, postgres: PostgresServer) -> None:
    with gateway.connect("shop") as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("GRANT SELECT ON orders TO PUBLIC /* hf-marker-7 */")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("ALTER ROLE app CREATEDB /* hf-marker-8 */", prepare=True)
    text = postgres.log_text()
    assert "hf-marker-7" not in text and "hf-marker-8" not in text


def test_statements_that_share_a_verdict_have_their_own_text(gateway: Gateway) -> None:
    texts = [f"SELECT id FROM orders WHERE id = {n} AND id <> {n + 100} /* hf-marker-21 */" for n in range(1, 8)]
    with gateway.connect("shop") as db:
        for text in texts:
            db.execute(text)
        masked = "SELECT ssn FROM customers WHERE id = {} /* hf-marker-22 */"
        hidden = [db.execute(masked.format(n)).fetchall() for n in (1, 2, 3)]
    events = gateway.wait_audited("hf-marker-21", 7)
    assert sorted(event["sql"] for event in events) == sorted(texts)
    assert {(e["verdict"], e["outcome"], *e["tables"]) for e in events} == {("allow", "complete", "orders")}
    assert {tuple(event["masks"]) for event in gateway.wait_audited("hf-marker-22", 3)} == {("public.customers.ssn",)}
    assert all(len(rows) == 1 and not any(secret in str(rows) for secret in CANARIES) for rows in hidden), hidden


def test_every_execution_of_a_prepared_statement(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        for i in range(25):
            db.execute("SELECT %s::int /* hf-marker-9 */", (i,), prepare=True)
    events = gateway.wait_audited("hf-marker-9", 25)
    assert len(events) == 25
    assert len({json.dumps(e["parameters"]) for e in events}) == 25, "each with its own parameter"
    assert len({(e["session"], e["seq"]) for e in events}) == 25


def test_pipelines_cursors_copy_and_functions(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        with db.pipeline():
            for i in range(10):
                db.execute("SELECT %s::int /* hf-marker-10 */", (i,))
        with db.cursor().copy("COPY orders TO STDOUT /* hf-marker-11 */") as copy:
            size = sum(len(bytes(part)) for part in copy)
        with db.cursor().copy("COPY scratch FROM STDIN /* hf-marker-12 */") as copy:
            copy.write(b"1\tone\n2\ttwo\n")
        db.execute("SELECT 1 /* hf-marker-13 */; SELECT 2")
    assert len(gateway.wait_audited("hf-marker-10", 10)) == 10
    out = gateway.wait_audited("hf-marker-11")[0]
    assert out["tag"] == "COPY 100" and out["bytes"] >= size
    assert gateway.wait_audited("hf-marker-12")[0]["copy_bytes"] == 12
    assert "SELECT 1" in gateway.wait_audited("hf-marker-13")[0]["tag"]


def test_suspended_portals(gateway: Gateway) -> None:
    with wire.WireClient(gateway.port) as client:
        client.login("alice", "shop", gateway.token())
        client.ask(
            wire.parse("SELECT generate_series(1, 10) /* hf-marker-14 */"), wire.bind(), wire.execute(limit=4),
            wire.execute(limit=4), wire.execute(limit=4), wire.SYNC,
        )
    events = gateway.wait_audited("hf-marker-14", 3)
    assert sorted(e["outcome"] for e in events) == ["complete", "suspended", "suspended"]
    assert sorted(e["rows"] for e in events) == [2, 4, 4]


def test_results_as_the_client_got_them(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        db.execute("SELECT ssn, city FROM customers /* hf-marker-15 */").fetchall()
    event = gateway.wait_audited("hf-marker-15")[0]
    assert "Paris" in json.dumps(event["results"])


def test_sqlite_and_jsonl_agree(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        db.execute("SELECT 1 /* hf-marker-18 */")
    gateway.wait_audited("hf-marker-18")
    search = ("audit", "search", "-c", str(gateway.config_file), "--limit", "50")
    wait_until(lambda: "hf-marker-18" in gateway.cli(*search).stdout, "the search finds the statement")


def test_sessions_have_a_beginning_and_an_end(gateway: Gateway) -> None:
    with gateway.connect("shop", application_name="short one") as db:
        db.execute("SELECT 1 /* hf-marker-16 */")
    session = gateway.wait_audited("hf-marker-16")[0]["session"]

    def kinds() -> list[str]:
        return [e["event"] for e in gateway.audit_jsonl() if e["session"] == session]

    wait_until(lambda: "session_end" in kinds(), "the session's end is recorded")
    assert kinds()[0] == "session_start" and kinds()[-1] == "session_end"
    shown = gateway.cli("sessions", "show", session, "-c", str(gateway.config_file)).stdout
    assert "hf-marker-16" in shown and "alice@example.com" in shown


def test_refused_logins_are_recorded(gateway: Gateway) -> None:
    with pytest.raises(psycopg.OperationalError):
        gateway.connect("shop", password=gateway.issuer.forged("alice")["expired"])

    def refused() -> list[dict[str, object]]:
        return [e for e in gateway.audit_jsonl() if e.get("action") == "login_refused"]

    assert "expired" in json.dumps(wait_until(refused, "the refusal is recorded")).lower()


def test_no_masked_value_in_the_trail(gateway: Gateway) -> None:
    gateway.wait_audited("hf-marker-15")
    for path in gateway.state_dir.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [c for c in CANARIES if c.encode() in data], path


def test_export_and_replay(gateway: Gateway, postgres: PostgresServer, shop: str) -> None:
    with gateway.connect("shop", application_name="to replay") as db:
        db.execute("SELECT count(*) FROM orders /* hf-marker-17 */")
        db.execute("SELECT item FROM orders WHERE id = %s", (5,))
        with pytest.raises(psycopg.errors.UndefinedTable):
            db.execute("SELECT * FROM not_there")
    session = gateway.wait_audited("hf-marker-17")[0]["session"]
    exported = gateway.cli("audit", "export", "-c", str(gateway.config_file)).stdout
    lines = [json.loads(line) for line in exported.splitlines() if line.startswith("{")]
    assert any("hf-marker-17" in line.get("sql", "") for line in lines)
    with postgres.database("sandbox", "CREATE TABLE orders (id int, item text)") as sandbox:
        done = gateway.cli(
            "replay", session, "-c", str(gateway.config_file), "--to", postgres.dsn(sandbox, "app"), check=False
        )
        assert "SELECT item FROM orders" in done.stdout or "differ" in done.stdout, done.stdout + done.stderr
        assert done.returncode == 1, "the sandbox has no rows: that is a difference"
    to = postgres.dsn(shop, "app")
    done = gateway.cli("replay", session, "-c", str(gateway.config_file), "--to", to, "--i-mean-it", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_trail_of_a_running_gateway_is_proven(gateway: Gateway) -> None:
    """Search by what the analysis found, then verify, prove and rotate while it runs."""
    with gateway.connect("shop", application_name="proof") as db:
        db.execute("SELECT ssn, id FROM customers /* hf-proof-1 */")
        db.execute("SELECT item FROM orders WHERE id = 3 /* hf-proof-2 */")
    event = gateway.wait_audited("hf-proof-1")[0]
    assert event["kinds"] == ["select"] and set(event["columns"]) == {"customers.ssn", "customers.id"}
    saw = json.loads(gateway.cli("audit", "who-saw", "public.customers.ssn", "--json").stdout)["sessions"]
    mine = next(found for found in saw if found["session"] == event["session"])
    assert (mine["read"], mine["clear"], mine["user"]) == (1, False, "alice@example.com")
    found = json.loads(gateway.cli("audit", "search", "--column", "orders.item", "--json").stdout)["events"]
    assert any("hf-proof-2" in one["sql"] for one in found)

    def is_proven(event: dict[str, Any]) -> bool:
        return gateway.cli("audit", "prove", f"{event['session']}/{event['seq']}", check=False).returncode == 0

    wait_until(lambda: is_proven(event), "a proof of the first event")
    key = gateway.cli("audit", "keys", "show").stdout.split()[0]
    gateway.cli("audit", "keys", "rotate")
    with gateway.connect("shop") as db:
        db.execute("SELECT 1 /* hf-proof-3 */")
    later = gateway.wait_audited("hf-proof-3")[0]
    wait_until(lambda: is_proven(later), "a proof of the last event")
    proof = gateway.directory / "proof.json"
    proof.write_text(gateway.cli("audit", "prove", f"{event['session']}/{event['seq']}").stdout)
    assert "hf-proof-1" in gateway.cli("audit", "verify", "--proof", str(proof), "--key", key).stdout
    report = json.loads(gateway.cli("audit", "verify", "--key", key, "--json").stdout)
    assert len(report) == 2 and all(one["events"] > 10 and not one["problems"] for one in report)
