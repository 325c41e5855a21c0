"""Verdicts without a gateway: they agree with the desk's, and say what only the database knows."""

from __future__ import annotations

import asyncio

import pytest

from hoopfast import config
from hoopfast.control.preview import Preview, Situation, hidden_from, preview, with_origins
from hoopfast.policy import source
from hoopfast.policy.snapshot import Snapshot, compile_policy
from tests.worker.desk import ANN, CUSTOMERS, HERE, Bench, catalog, described

POLICY = """\
access: [{users: ["*"], connections: [shop]}]
masks: [{columns: [public.customers.ssn], with: redact}]
rules:
  - {name: drops, when: {statements: [drop]}, action: deny, reason: no}
  - {name: careful, when: {statements: [delete]}, action: warn}
"""
SETTINGS = config.Config(
    connections={"shop": config.Connection(upstream=config.Upstream(host="127.0.0.1", database="d", user="u"))})
STATEMENTS = [
    "SELECT id FROM orders", "DELETE FROM orders WHERE id = 1", "DROP TABLE orders", "SELECT upper(ssn) FROM customers",
    "SELECT ssn FROM customers", "SELEC 1", "SELECT 1; DROP TABLE x", "SET search_path = x", "BEGIN",
    "SET session_authorization = x", "SET standard_conforming_strings = off", "SELECT name FROM customers ORDER BY ssn",
]


def snapshot() -> Snapshot:
    return compile_policy(SETTINGS, source.parse_policy(POLICY, "p", ["shop"]), 1, bytes(32))


def look(sql: str | None, *, known: bool = True, masks: bool = True) -> Preview:
    situation = Situation(identity=ANN, connection="shop", client=HERE, now=0.0)
    return preview(snapshot(), situation, sql, catalog() if known else None, masks=masks)


@pytest.mark.parametrize("sql", STATEMENTS)
def test_it_is_the_verdict_of_the_desk(sql: str) -> None:
    bench = Bench(snapshot())
    bench.relay.describe = {one: described(("x", CUSTOMERS, 3)) for one in STATEMENTS}
    label = asyncio.run(bench.ask(sql))["label"]
    seen = look(sql)
    assert (seen.verdict, seen.rule, seen.reason) == (label["verdict"], label["rule"], label["reason"])
    assert not seen.open_question


def test_what_only_a_catalog_knows_is_left_open() -> None:
    assert "catalog" in look("SELECT id FROM orders", known=False).open_question
    assert "nobody_has_it" in look("SELECT * FROM nobody_has_it").open_question
    for sql in ("DROP TABLE orders", "BEGIN", "LOCK TABLE orders"):
        assert not look(sql, known=False).open_question
    assert look("SELECT upper(ssn) FROM customers", masks=False).verdict == "allow"


def test_entry() -> None:
    situation = Situation(identity=ANN, connection="elsewhere")
    assert preview(snapshot(), situation, "SELECT 1").verdict == "no-entry"
    assert look(None).verdict == "enter"


@pytest.mark.parametrize(("origins", "verdict"), [
    ([(CUSTOMERS, 3), (0, 0)], "allow"), ([(0, 0), (0, 0)], "deny"), ([(CUSTOMERS, 0), (0, 0)], "deny"),
])
def test_origins_that_contradict_the_analysis(origins: list[tuple[int, int]], verdict: str) -> None:
    situation = Situation(identity=ANN, connection="shop")
    seen = look("SELECT ssn, lower(name) FROM customers")
    hidden = hidden_from(snapshot(), situation, catalog())
    assert with_origins(seen, hidden, catalog(), origins).verdict == verdict
