"""Rules on what statements touch, on the client and on the time, and rules that warn, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.gateway.conftest import Psql, connections
from tests.support import wire
from tests.support.gateway import Gateway, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer

ALL_WEEK = [{"days": ["mon-sun"], "from": "00:00", "to": "24:00", "zone": "Europe/Berlin"}]
POLICY: dict[str, Any] = {
    "access": [{"groups": ["engineering"], "connections": ["*"]}],
    "masks": [{"columns": ["public.customers.ssn"], "with": "redact", "connections": ["shop"]}],
    "rules": [
        {"name": "batch", "when": {"applications": ["batch-*"], "addresses": ["127.0.0.0/8"]}, "action": "deny"},
        {"name": "elsewhere", "when": {"addresses": ["192.0.2.0/24"]}, "action": "deny"},
        {"name": "prices", "when": {"columns": ["public.orders.price"]}, "action": "deny", "reason": "ask sales"},
        {"name": "sleepers", "when": {"functions": ["pg_sleep*"]}, "action": "deny"},
        {"name": "always", "when": {"statements": ["truncate"], "during": ALL_WEEK}, "action": "deny"},
        {"name": "scratch", "when": {"statements": ["delete", "update", "insert"], "tables": ["public.scratch"]},
         "action": "warn", "reason": "scratch is emptied every night"},
        {"name": "customers", "when": {"statements": ["select"], "tables": ["public.customers"]}, "action": "warn"},
    ],
}


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    with Gateway(issuer, connections(postgres, shop), policy=POLICY) as running:
        yield running


@pytest.fixture
def notices(gateway: Gateway) -> Iterator[tuple[psycopg.Connection[Any], list[str]]]:
    """A session of alice's, and the notices it has got."""
    seen: list[str] = []
    with gateway.connect("shop") as db:
        db.add_notice_handler(lambda d: seen.append(f"{d.severity} {d.sqlstate} {d.message_primary}"))
        yield db, seen


SAID = 'NOTICE 01000 rule "scratch" of the gateway: scratch is emptied every night'


def test_every_run_is_warned_about_and_runs(
    gateway: Gateway, notices: tuple[psycopg.Connection[Any], list[str]]
) -> None:
    db, seen = notices
    for run in (1, 2, 3):
        # Equal texts: a remembered verdict would say nothing the second time.
        assert db.execute("INSERT INTO public.scratch VALUES (1, 'a')").statusmessage == "INSERT 0 1"
        assert seen == [SAID] * run
    seen.clear()
    for run in (1, 2, 3):
        db.execute("UPDATE public.scratch SET txt = %s WHERE id = 1", ("b",), prepare=True)
        assert seen == [SAID] * run
    seen.clear()
    with db.pipeline():
        cursors = [db.execute("DELETE FROM public.scratch WHERE id = %s", (n,)) for n in (1, 2)]
    assert [cursor.statusmessage for cursor in cursors] == ["DELETE 3", "DELETE 0"]
    assert seen == [SAID] * 2
    db.execute("SELECT 1")
    assert seen == [SAID] * 2
    events = wait_until(lambda: found if len(found := warned(gateway)) >= 8 else None, "the trail of eight runs")
    assert {(event["rule"], event["outcome"]) for event in events} == {("scratch", "complete")}
    assert len(events) == 8


def warned(gateway: Gateway) -> list[dict[str, Any]]:
    with gateway.admin() as api:
        answer = api.get("/audit/search", params={"text": "scratch", "verdict": "warn"}).raise_for_status().json()
    found: list[dict[str, Any]] = answer["events"]
    return found


def test_the_notice_stands_before_the_answer(gateway: Gateway) -> None:
    update = "UPDATE public.scratch SET txt = 'x' WHERE id = 77"
    with wire.WireClient(gateway.port, timeout=20) as client:
        client.login("alice", "shop", gateway.token())
        assert [f.kind for f in client.ask(wire.query(update))] == ["N", "C", "Z"]
        # In a pipeline the answers before the statement keep their places.
        frames = client.ask(
            wire.parse("SELECT 1"), wire.bind(), wire.execute(), wire.parse(update), wire.bind(), wire.execute(),
            wire.parse("SELECT 2"), wire.bind(), wire.execute(), wire.SYNC)
        kinds = "".join(f.kind for f in frames)
        assert kinds.replace("N", "") == "12DC12C12DCZ"
        second = kinds.index("C", kinds.index("C") + 1)
        assert kinds.count("N") == 1 and kinds.index("N") < second


def test_the_notice_in_psql(gateway: Gateway, psql: Psql) -> None:
    done = psql(gateway.dsn("shop"), "DELETE FROM public.scratch WHERE id = 9;\nSELECT 'end';\n")
    assert 'NOTICE:  rule "scratch" of the gateway: scratch is emptied every night\n' in done.stderr
    assert "DELETE 0" in done.stdout and "end" in done.stdout


def test_a_warning_about_a_masked_table_masks_all_the_same(
    notices: tuple[psycopg.Connection[Any], list[str]]
) -> None:
    db, seen = notices
    for prepare in (False, True, True):
        rows = db.execute("SELECT ssn FROM public.customers WHERE id = %s", (1,), prepare=prepare).fetchall()
        assert rows == [("***",)], "masked"
    assert len(seen) == 3 and all('"customers"' in notice for notice in seen)


def test_a_refusal_in_a_transaction_after_a_warning(notices: tuple[psycopg.Connection[Any], list[str]]) -> None:
    db, seen = notices
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction():
        db.execute("DELETE FROM public.scratch WHERE id = 4")
        db.execute("SELECT price FROM orders")
    assert seen == [SAID]
    assert db.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("sql", [
    "SELECT price FROM orders", "SELECT * FROM orders", "SELECT id FROM orders WHERE price > 3", "TABLE orders",
    "SELECT o FROM orders o", "COPY orders TO STDOUT", "SELECT (o).price FROM orders o",
    "WITH orders AS (SELECT 1) DELETE FROM orders",
])
def test_a_column_is_kept_away(gateway: Gateway, sql: str) -> None:
    with gateway.connect("shop") as db, pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"prices.*ask sales"):
        db.execute(sql)


def test_other_columns_are_not(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        assert db.execute("SELECT count(*) FROM orders").fetchone() == (100,)
        assert db.execute("SELECT item FROM orders WHERE id = 1").fetchone() == ("item 1",)


def test_functions_and_times(gateway: Gateway) -> None:
    with gateway.connect("shop") as db:
        for sql, rule in (("SELECT pg_sleep(0)", "sleepers"), ("TRUNCATE scratch", "always")):
            for prepare in (False, True):
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match=rule):
                    db.execute(sql, prepare=prepare)


def test_clients_are_told_apart(gateway: Gateway) -> None:
    with gateway.connect("shop", application_name="batch-7") as db, pytest.raises(
            psycopg.errors.InsufficientPrivilege, match="batch"):
        db.execute("SELECT 1")
    with gateway.connect("shop", application_name="psql") as db:
        # The same text: the two sessions must not share verdicts.
        assert db.execute("SELECT 1").fetchone() == (1,)
        db.execute("SET application_name = 'batch-7'")
        assert db.execute("SELECT 1").fetchone() == (1,), "what counts is how a client began"
