"""Values of masked columns in recorded statements: sealed wherever the record goes, opened by the recovery key."""

from __future__ import annotations

import contextlib
import itertools
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.types.numeric import Int4

from tests.gateway.conftest import SHOP_POLICY, connections
from tests.support import wire
from tests.support.gateway import Gateway, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer

BADGE = 739_151_846             # a canary that is a number
WORD = "ZQXJ"                   # is in every other
MASKED, EXEMPT = "alice", "dora"
COPIED: list[str] = []          # what went by COPY FROM STDIN, whose data nobody records


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    unless = {"unless": {"groups": ["support-leads"]}}
    policy = SHOP_POLICY | {"masks": [mask | unless for mask in SHOP_POLICY["masks"]]}
    config = {"audit": {"results": "all", "masked_values_clear": 1}}
    with Gateway(issuer, connections(postgres, shop), policy=policy, config=config) as running:
        yield running


def where(gateway: Gateway, *secrets: bytes) -> list[str]:
    """Which files of the gateway hold one of these."""
    found = []
    for path in (gateway.log, *gateway.state_dir.rglob("*")):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, OSError):
            content = path.read_bytes()
            found += [f"{secret!r} in {path.name}" for secret in secrets if secret in content]
    return found


def statements(canary: Callable[[], str]) -> list[str]:
    return [
        f"INSERT INTO customers (id, name, ssn) VALUES (100, 'n', '{canary()}')",
        f"INSERT INTO customers (id, name) VALUES (100, 'n') ON CONFLICT (id) DO UPDATE SET ssn = '{canary()}'",
        f"INSERT INTO customers VALUES (101, 'n', '{canary()}', '{canary()}')",
        f"UPDATE customers SET ssn = '{canary()}', badge = {BADGE} WHERE id = 100",
        f"UPDATE customers SET (name, ssn) = ('n', '{canary()}') WHERE id = 100 RETURNING *",
        f"UPDATE customers SET ssn = E'\\x41{canary()}' WHERE id = 100",
        f"UPDATE customers SET ssn = $a${canary()}$a$ WHERE id = 100",
        f"SELECT id FROM customers WHERE ssn = '{canary()}' OR email IN ('{canary()}', '{canary()}')",
        f"SELECT id FROM customers WHERE ssn LIKE '{canary()}%'",
        f"SELECT id FROM customers WHERE badge BETWEEN {BADGE} AND {BADGE + 1}",
        f"SELECT 1; SELECT id FROM customers WHERE ssn = '{canary()}'; SELECT 2",
        f"WITH v(x) AS (VALUES ('{canary()}')) UPDATE customers SET ssn = v.x FROM v WHERE customers.id = 100",
        f"INSERT INTO customers (id, name, ssn) SELECT 102, 'n', '{canary()}'",
        f"DO $$ BEGIN UPDATE customers SET ssn = '{canary()}' WHERE id = 100; END $$",
        f"PREPARE p1 AS SELECT id FROM customers WHERE ssn = '{canary()}'",
        "PREPARE p2 (text) AS UPDATE customers SET ssn = $1 WHERE id = 100",
        f"EXECUTE p2 ('{canary()}')",
        f"EXPLAIN SELECT id FROM customers WHERE ssn = '{canary()}'",
        f"SELECT id FROM customers WHERE badge = '{canary()}'",                     # 22P02 says the value
        f"INSERT INTO customers (id, name, ssn) VALUES (103, NULL, '{canary()}')",  # 23502 shows the row
        f"INSERT INTO customers (id, name, ssn) VALUES (100, 'n', '{canary()}')",
        f"SELECT id FROM customers WHERE ssn == = '{canary()}'",                    # no SQL
        f"SELECT id FROM customers WHERE ssn = '{canary()}",
        f"COPY (SELECT id FROM customers WHERE ssn = '{canary()}') TO STDOUT",
        f"ALTER TABLE customers ALTER ssn SET DEFAULT '{canary()}'",
        f"COMMENT ON COLUMN customers.ssn IS '{canary()}'",
    ]


def run_everything(gateway: Gateway, person: str, canary: Callable[[], str]) -> None:
    """Whether a statement succeeds does not matter: what was sent is recorded."""
    with wire.WireClient(gateway.port) as client:
        client.login(user=person, database="shop", password=gateway.token(person))
        for sql in statements(canary):
            client.query(sql)
    with gateway.connect("shop", person) as db:
        for binary, named in itertools.product((False, True), repeat=2):
            with contextlib.suppress(psycopg.Error), db.cursor(binary=binary) as cursor:
                cursor.execute("UPDATE customers SET ssn = %s, badge = %s, city = 'visible' WHERE id = %s",
                               (canary(), Int4(BADGE), 100), binary=binary, prepare=named)
                cursor.execute("SELECT ssn, badge FROM customers WHERE ssn = %s", (canary(),), prepare=named)
                cursor.execute("SELECT id FROM customers WHERE badge = %s::text::int", (canary(),), prepare=named)
        with contextlib.suppress(psycopg.Error), db.pipeline(), db.cursor() as cursor:
            cursor.executemany("UPDATE customers SET ssn = %s WHERE id = %s", [(canary(), 100), (canary(), 101)])
        copied = [canary(), canary()]
        for rows in (f"200\tn\t{copied[0]}\n", f"not a number\tn\t{copied[1]}\n"):
            with contextlib.suppress(psycopg.Error), \
                    db.cursor().copy("COPY customers (id, name, ssn) FROM STDIN") as copy:
                copy.write(rows)
        COPIED.extend(copied)
        with contextlib.suppress(psycopg.Error), db.transaction(), db.cursor("rows") as cursor:
            cursor.execute("SELECT ssn FROM customers WHERE id = 100")
            cursor.fetchall()
        oid = db.execute("SELECT 'upper(text)'::regprocedure::oid").fetchone()
    with wire.WireClient(gateway.port) as client:
        client.login(user=person, database="shop", password=gateway.token(person))
        client.ask(wire.function_call(int(oid[0]), [canary().encode()]))           # type: ignore[index]
        client.ask(wire.parse("SELECT id FROM customers WHERE badge = $1"), wire.bind(parameters=[canary().encode()]),
                   wire.execute(), wire.frame("S"))
        client.query(f"SELECT name FROM orders WHERE item = 'the last one of {person}'")


@pytest.fixture(scope="module")
def written(gateway: Gateway) -> list[str]:
    """Everything was run, by a masked person and one who sees all; the canaries."""
    numbers = itertools.count(1)
    made: list[str] = []

    def canary() -> str:
        made.append(f"{WORD}-{next(numbers)}-{WORD}")
        return made[-1]

    for person in (MASKED, EXEMPT):
        run_everything(gateway, person, canary)
        gateway.wait_audited(f"the last one of {person}")
    return made


def test_no_value_is_left_anywhere(gateway: Gateway, written: list[str]) -> None:
    assert len(written) > 80
    left = [event for event in gateway.audit_jsonl() if WORD in json.dumps(event)]
    assert left == []
    secrets = (WORD.encode(), str(BADGE).encode(), struct.pack("!i", BADGE))
    wait_until(lambda: not where(gateway, *secrets), f"the journal has gone on: {where(gateway, *secrets)}", 10)
    export = gateway.cli("audit", "export").stdout
    assert WORD not in export
    assert str(BADGE) not in export
    assert "visible" in export
    # Last: what is searched for is recorded too.
    found = gateway.cli("audit", "search", "--text", WORD, "--json")
    assert json.loads(found.stdout)["events"] == []


def test_what_was_sealed_comes_back_exactly(gateway: Gateway, written: list[str], tmp_path: Path) -> None:
    export = tmp_path / "export.jsonl"
    sealed = [event for event in gateway.audit_jsonl() if event.get("protected")]
    export.write_text("".join(json.dumps(event) + "\n" for event in sealed))
    names = [f"{event['session']}/{event['seq']}" for event in sealed]
    shown = gateway.cli("audit", "reveal", *names, "--json", "--reason", "a test", "--store", str(export)).stdout
    assert [canary for canary in written if canary not in shown and canary not in COPIED] == []
    opened = [json.loads(line) for line in shown.splitlines()]
    wanted = f"UPDATE customers SET ssn = '{written[4]}', badge = {BADGE} WHERE id = 100"
    assert wanted in [event["sql"] for event in opened]
    assert {"sql", "parameters", "error", "results"} <= {part for event in sealed for part in event["protected"]}
    (event,) = wait_until(lambda: [e for e in gateway.audit_jsonl() if e.get("action") == "revealed"][:1], "recorded")
    assert event["fields"]["reason"] == "a test"


def test_erasure_ends_what_can_be_opened_and_leaves_the_trail_whole(gateway: Gateway, written: list[str]) -> None:
    def of(person: str) -> list[str]:
        return [f"{event['session']}/{event['seq']}" for event in gateway.audit_jsonl()
                if event.get("protected") and event["user"] == f"{person}@example.com"]

    before, others = of(EXEMPT), of(MASKED)
    gateway.cli("audit", "erase", f"{EXEMPT}@example.com", "--reason", "asked to be forgotten", "--yes")
    refused = gateway.cli("audit", "reveal", before[0], check=False)
    assert refused.returncode == 1
    assert "destroyed" in refused.stderr
    assert "asked to be forgotten" in refused.stderr
    with gateway.connect("shop", EXEMPT) as db:
        db.execute(f"UPDATE customers SET ssn = '{WORD} again' WHERE id = 100")
    after = wait_until(lambda: of(EXEMPT)[len(before):], "a statement after the erasure")
    assert f"{WORD} again" in gateway.cli("audit", "reveal", others[0], *after).stdout
    erased = wait_until(lambda: [e for e in gateway.audit_jsonl() if e.get("action") == "erased"], "recorded")
    assert [event["fields"]["person"] for event in erased] == [f"{EXEMPT}@example.com"]
    # A checkpoint is made when something was written for a while; before the first there is nothing to verify.
    said = wait_until(lambda: gateway.cli("audit", "verify", check=False).stdout, "a checkpoint", 60, 1)
    assert "whole" in said
    assert "NOT WHOLE" not in said
