"""The knobs of hidden columns, through a running gateway: what each shows, and that it shows no more."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.gateway.conftest import CANARIES, SHOP_POLICY
from tests.support import wire
from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer

ASK: dict[str, Any] = {"approvers": {"groups": ["dba"]}, "expires": "30s"}
HIDDEN: dict[str, dict[str, Any]] = {
    "redacting": {"derived": "redact"}, "sums": {"aggregates": "sum"}, "free": {"control": "any"},
    "closed": {"control": "none", "aggregates": "none", "explain": "deny"}, "strict": {"errors": "strict"},
    "asking": {"opaque": "approve", "sink": "approve", "ddl": "approve"} | ASK,
}


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    masks = [{key: value for key, value in mask.items() if key != "connections"} for mask in SHOP_POLICY["masks"]]
    policy = {
        "access": [{"groups": ["engineering"], "connections": ["*"]}], "masks": masks,
        "hidden": [{"connections": [name]} | knobs for name, knobs in HIDDEN.items()]
        # The first entry that says something decides, and this one comes too late.
        + [{"groups": ["engineering"], "connections": ["redacting"], "derived": "deny"}],
    }
    with postgres.connect(shop) as db:
        db.execute("CREATE UNIQUE INDEX IF NOT EXISTS customers_note ON customers (note)")
        db.execute("CREATE OR REPLACE FUNCTION first_ssn() RETURNS text LANGUAGE sql AS "
                   "'SELECT ssn FROM customers WHERE id = 1'")
        db.execute("GRANT EXECUTE ON FUNCTION first_ssn TO app")
    with Gateway(issuer, {name: upstream_of(postgres, shop) for name in HIDDEN}, policy=policy) as running:
        yield running


def refused(db: psycopg.Connection[Any], sql: str) -> str:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        db.execute(sql)
    return str(caught.value)


def test_redacted_expressions(gateway: Gateway) -> None:
    query = "SELECT id, upper(ssn) AS loud, name || '!' AS said, ssn || ' ' || email, ssn FROM customers ORDER BY id"
    expected = [(1, None, None, None, "***"), (2, None, None, None, "***"), (3, None, None, None, None)]
    with gateway.connect("redacting") as db:
        assert db.execute(query).fetchall() == expected
        for binary in (False, True):
            with db.cursor(binary=binary) as cursor:
                assert cursor.execute(f"{query} LIMIT %s", (3,), prepare=True).fetchall() == expected
        with db.cursor() as cursor, cursor.copy("COPY (SELECT id, upper(ssn), email FROM customers) TO STDOUT") as copy:
            assert b"".join(copy).splitlines()[0] == b"1\t\\N\tc***@example.org"
        assert db.execute("SELECT max(ssn), count(ssn) FROM customers").fetchall() == [(None, None)]
        counted = "SELECT count(ssn), lower(name) FROM customers GROUP BY 2 ORDER BY 2"
        assert db.execute(counted).fetchall()[0] == (1, "ada")
        for sql in ("SELECT length(ssn) / 0 FROM customers", "SELECT DISTINCT upper(ssn) FROM customers",
                    "SELECT upper(ssn) AS u FROM customers ORDER BY u",
                    "SELECT id FROM customers WHERE upper(ssn) > 'C'"):
            refused(db, sql)


def test_redacted_in_every_message(gateway: Gateway) -> None:
    with wire.WireClient(gateway.port) as client:
        client.login("alice", "redacting", gateway.token("alice"))
        client.received.clear()
        sql = "SELECT upper(ssn), email || 'x' FROM customers"
        client.query(sql)
        client.query(f"{sql}; SELECT 1; {sql}")
        client.query("UPDATE customers SET city = city RETURNING upper(card)")
        client.query(f"DECLARE c CURSOR WITH HOLD FOR {sql}")
        client.query(f"PREPARE p AS {sql}")
        client.query("EXECUTE p")
        assert not [value for value in CANARIES if value.upper().encode() in bytes(client.received).upper()]


def test_sums(gateway: Gateway) -> None:
    with gateway.connect("sums") as db:
        row = db.execute("SELECT sum(salary), avg(salary) > 0 FROM customers").fetchone()
        assert row is not None and str(row[0]) == "197530.86" and row[1] is True
        for sql in ("SELECT max(salary) FROM customers", "SELECT upper(ssn) FROM customers",
                    "SELECT id FROM customers GROUP BY id HAVING sum(salary) > 5"):
            refused(db, sql)


def test_free_conditions(gateway: Gateway) -> None:
    with gateway.connect("free") as db:
        assert db.execute("SELECT id, ssn FROM customers WHERE ssn LIKE 'CANARY%'").fetchall() == [(1, "***")]
        counted = "SELECT ssn, count(*) FROM customers GROUP BY ssn ORDER BY ssn LIMIT 1"
        assert db.execute(counted).fetchall() == [("***", 1)]
        grouped = "SELECT * FROM (SELECT ssn AS s FROM customers GROUP BY GROUPING SETS ((ssn), ())) q"
        assert {one for (one,) in db.execute(grouped)} == {"***", None}
        assert len(db.execute("SELECT DISTINCT email FROM customers").fetchall()) == 2
        for sql in ("SELECT upper(ssn) FROM customers", "SELECT ssn FROM customers UNION SELECT 'x'",
                    "INSERT INTO scratch SELECT id, ssn FROM customers"):
            refused(db, sql)


def test_closed(gateway: Gateway) -> None:
    with gateway.connect("closed") as db:
        assert db.execute("SELECT ssn FROM customers WHERE id = 1").fetchone() == ("***",)
        for sql in ("SELECT id FROM customers WHERE ssn = 'x'", "SELECT id FROM customers WHERE ssn IS NULL",
                    "SELECT count(ssn) FROM customers", "EXPLAIN SELECT ssn FROM customers"):
            refused(db, sql)


def test_strict_errors(gateway: Gateway) -> None:
    for name, state in (("free", "23505"), ("strict", "P0001")):
        with gateway.connect(name) as db, pytest.raises(psycopg.Error) as caught:
            db.execute("UPDATE customers SET note = 'x'")
        assert caught.value.sqlstate == state and "withheld" in str(caught.value)
    with gateway.connect("strict") as db, pytest.raises(psycopg.errors.UndefinedColumn):
        db.execute("SELECT no_such FROM customers")


def test_what_may_be_approved(gateway: Gateway) -> None:
    statements = (
        ("SELECT first_ssn() AS held_opaque", [("CANARY-SSN-ZQXJ",)], "opaque"),
        ("INSERT INTO scratch SELECT id, ssn FROM customers WHERE id = 1 RETURNING 'held_sink'", [("held_sink",)],
         "sink"),
        ("CREATE VIEW held_ddl AS SELECT upper(ssn) AS u FROM customers", None, "ddl"),
    )
    for sql, rows, marker in statements:
        for decision in ("reject", "approve"):
            with ThreadPoolExecutor(1) as pool, gateway.connect("asking") as db:
                future = pool.submit(lambda db=db, sql=sql: db.execute(sql, prepare=True))
                row = gateway.wait_approval(f"held_{marker}")
                assert row["rule"] == "masking" and row["approver_groups"] == ["dba"]
                gateway.decide(row["id"], decision, "bob", "why").raise_for_status()
                if decision == "reject":
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        future.result(20)
                else:
                    cursor = future.result(20)
                    assert (cursor.fetchall() if cursor.description else None) == rows
    with gateway.connect("asking") as db:
        # Two at once are never held, and what no knob is about stays refused.
        refused(db, "SELECT first_ssn(); SELECT 1")
        refused(db, "SELECT upper(ssn) FROM customers")
        refused(db, "COPY (SELECT first_ssn()) TO STDOUT")
