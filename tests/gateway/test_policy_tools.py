"""`hoopfast explain` and `hoopfast policy` beside a running gateway, with its database and its trail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.gateway.conftest import CANARIES, SHOP_POLICY, connections
from tests.support.gateway import Gateway, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    with Gateway(issuer, connections(postgres, shop), policy=SHOP_POLICY) as running:
        yield running


def explain(gateway: Gateway, sql: str, *more: str) -> tuple[int, str]:
    arguments = ["explain", sql, "--as", "alice@example.com", "--connection", "shop", *more]
    done = gateway.cli(*arguments, check=False)
    assert not done.stderr, done.stderr
    assert not [value for value in CANARIES if value in done.stdout]
    return done.returncode, done.stdout


def test_the_origin_of_each_column(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        db.execute("SELECT 1")
    status, said = explain(
        gateway, "SELECT id, ssn AS number, c.badge, lower(name) AS n FROM customers c WHERE id = $1")
    assert status == 0, said
    lines = [line.strip("│├└─ ") for line in said.splitlines()]
    assert lines[0] == "allow"
    assert any(line.startswith("groups: engineering") and "latest recorded session" in line for line in lines), said
    columns = lines[lines.index("output columns") + 1:]
    assert columns == [
        "id  integer  CLEAN: from public.customers.id, shown as it is",
        "number  text  SOURCE: from public.customers.ssn, masked (redact): the policy hides it from them",
        "badge  integer  SOURCE: from public.customers.badge, masked (hash): the policy hides it from them",
        "n  text  CLEAN: an expression of name, which reads no hidden column: it has no origin, and is shown as it is",
    ]


def test_it_says_what_the_gateway_does(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        for sql, status in (
            ("SELECT * FROM customers", 0), ("SELECT upper(ssn) FROM customers", 1),
            ("GRANT ALL ON orders TO public", 1), ("SELECT nobody FROM customers", 0),
            ("INSERT INTO scratch VALUES (5) RETURNING *", 0),
        ):
            told, said = explain(gateway, sql, "--group", "engineering")
            assert told == status, said
            try:
                db.execute(sql)
                refusal = ""
            except psycopg.Error as error:
                refusal = error.diag.message_primary or ""
            assert bool(refusal) is (status == 1 or "the server refuses it" in said), (sql, refusal)
        assert db.execute("SELECT count(*) FROM scratch WHERE id = 5").fetchone() == (1,), "explain has run nothing"


def test_lattice_knobs_and_what_only_the_server_reads(gateway: Gateway) -> None:
    group = ("--group", "engineering")
    status, said = explain(gateway, "SELECT upper(ssn) AS u, now() FROM customers WHERE ssn = 'x'", *group)
    assert status == 1 and "knob for this is `derived`" in said, said
    assert "u  text  DERIVED: an expression of ssn; ssn may be hidden from them" in said, said
    status, said = explain(gateway, "SELECT id FROM customers WHERE ssn = 'x' ORDER BY city", *group)
    assert status == 0 and "CONTROL: ssn is hidden from them" in said and "CONTROL: city" not in said, said
    status, said = explain(gateway, "SELECT * FROM customers ORDER BY 4", *group)
    assert status == 1 and "position 4 would use a hidden column" in said, said
    status, said = explain(gateway, "SELEC id FROM customers", *group)
    assert status == 1 and "no SQL for the server either" in said, said


def test_who_may_not_enter(gateway: Gateway) -> None:
    status, said = explain(gateway, "SELECT 1", "--group", "cooks")
    assert status == 1 and said.startswith("no-entry")


def test_expectations_about_hidden_columns(gateway: Gateway, tmp_path: Path) -> None:
    suite = {
        "defaults": {"user": "alice@example.com", "groups": ["engineering"], "connection": "shop"},
        "tests": [
            {"sql": "SELECT ssn FROM customers", "verdict": "allow"},
            {"sql": "SELECT max(ssn) FROM customers", "verdict": "deny", "rule": "masking"},
            {"sql": "SELECT * FROM nobody_has_this", "verdict": "allow"},
            {"sql": "TRUNCATE orders", "verdict": "approve", "rule": "destructive"},
        ],
    }
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump(suite))
    live = gateway.cli("policy", "test", str(file), "--live", check=False)
    assert live.returncode == 2 and "no relation nobody_has_this" in live.stdout, live.stdout + live.stderr
    # The same without the database, by a catalog that is kept beside the file.
    gateway.cli("policy", "catalog", "shop", "-o", str(tmp_path / "shop.json"))
    kept = (tmp_path / "shop.json").read_text()
    assert "customers" in kept and not [value for value in CANARIES if value in kept]
    del suite["tests"][2]  # type: ignore[attr-defined]
    file.write_text(yaml.safe_dump(suite | {"catalogs": {"shop": "shop.json"}}))
    done = gateway.cli("policy", "test", str(file), check=False)
    assert done.returncode == 0 and "3 as expected" in done.stdout, done.stdout + done.stderr


def test_what_a_new_policy_would_have_said(gateway: Gateway, tmp_path: Path) -> None:
    with gateway.connect("shop", application_name="odd-tool") as db:
        for number in (1, 2, 3):
            db.execute("SELECT item FROM orders WHERE id = %s", (number,))
        db.execute("SELECT city FROM customers")
    rule = {"name": "odd", "when": {"applications": ["odd-*"], "columns": ["public.orders.item"]}, "action": "deny"}
    changed = SHOP_POLICY | {"rules": [rule, *SHOP_POLICY["rules"]]}
    new = tmp_path / "new.yaml"
    new.write_text(yaml.safe_dump(changed))

    def compared() -> dict[str, object] | None:
        done = gateway.cli("policy", "diff", str(gateway.policy_file), str(new), "--on-recorded", "--json", check=False)
        assert not done.stderr, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer if done.returncode == 1 and answer["changed"] == 3 else None

    answer = wait_until(compared, "three recorded statements that the new policy refuses")
    assert answer["differences"] == ["+ rule odd: deny"]
    (change,) = answer["changes"]
    assert (change["old"], change["new"], change["times"]) == (["allow", ""], ["deny", "odd"], 3)
    assert change["sql"] == "SELECT item FROM orders WHERE id = $1"
    again = gateway.cli(
        "policy", "diff", str(gateway.policy_file), str(new), "--on-recorded", "--user", "nobody", check=False)
    assert again.returncode == 0 and "0 recorded statements" in again.stdout
