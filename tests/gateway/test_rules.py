"""Rules on what statements touch, on the client and on the time, and rules that warn, on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
        {"name": "sleepers", "when": {"functions": ["pg_sleep_*"]}, "action": "deny"},
        {"name": "slow", "when": {"functions": ["pg_sleep"]}, "action": "limit", "limit": {"time": "1s"}},
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
        for sql, rule in (("SELECT pg_sleep_for('0 s')", "sleepers"), ("TRUNCATE scratch", "always")):
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


TOO_LONG = 'rule "slow" of the gateway lets this run for 1s, and it was cancelled'


def run_too_long(gateway: Gateway, how: str) -> float:
    """One way to run for too long; returns the seconds it took."""
    with gateway.connect("shop") as db:
        db.execute("SELECT 1")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled) as caught:
            if how == "pipeline":
                with db.pipeline():
                    db.execute("SELECT pg_sleep(0.01)")
                    db.execute("SELECT pg_sleep(20)")
                    db.execute("SELECT 1")
            elif how == "transaction":
                with db.transaction():
                    db.execute("SELECT pg_sleep(20)")
            else:
                db.execute("SELECT pg_sleep(20)", prepare=how == "prepared")
        took = time.monotonic() - began
        assert caught.value.diag.message_primary == TOO_LONG
        assert db.execute("SELECT 1").fetchone() == (1,), "the session goes on"
        # Each short, together longer than the limit: nothing is added up.
        for _ in range(4):
            assert db.execute("SELECT pg_sleep(0.4)").fetchone() == ("",)
        return took


def test_what_runs_for_too_long_is_cancelled(gateway: Gateway) -> None:
    ways = ("simple", "prepared", "pipeline", "transaction")
    with ThreadPoolExecutor(len(ways)) as pool:
        for took in pool.map(lambda way: run_too_long(gateway, way), ways):
            assert 1 <= took < 10

    def canceled() -> list[dict[str, Any]] | None:
        with gateway.admin() as api:
            found = api.get("/audit/search", params={"rule": "slow", "outcome": "error"}).raise_for_status().json()
        events: list[dict[str, Any]] = found["events"]
        return events if len(events) >= len(ways) else None

    events = wait_until(canceled, "the trail of what was cancelled")
    assert {(e["verdict"], e["error"]["sqlstate"], e["error"]["message"]) for e in events} == {
        ("limit", "57014", TOO_LONG)}


def test_a_clients_own_cancel_says_what_it_always_said(gateway: Gateway) -> None:
    with gateway.connect("shop") as db, ThreadPoolExecutor(1) as pool:
        running = pool.submit(db.execute, "SELECT pg_sleep(20)")
        time.sleep(0.3)
        db.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
            running.result(10)
