"""Statements made to take long: each is decided or refused within a bound, and the bounds are not in anybody's way."""

from __future__ import annotations

import random
import time

import pytest

from hoopfast.analysis.classify import facts
from hoopfast.analysis.gate import TOUCHED, judge
from hoopfast.analysis.parse import Unparsable, parse
from tests.analysis.shop import CLOSURE

CPU_MAX_S = 3.0                 # of one thread; `python -m bench.decide` has larger ones, and the true numbers


def chain(length: int, order: str) -> str:
    """Common table expressions that pass a hidden column on, each under another name."""
    parts = [f"c{n} AS (SELECT a{n - 1} AS a{n} FROM c{n - 1})" for n in range(1, length)]
    if order == "backwards":
        parts.reverse()
    elif order == "shuffled":
        random.Random(7).shuffle(parts)
    links = ", ".join(["c0 AS (SELECT ssn AS a0 FROM customers)", *parts])
    return f"WITH RECURSIVE {links} SELECT a{length - 1} FROM c{length - 1}"


def decided(sql: str) -> str:
    try:
        statements = parse(sql)
        facts(statements)
        return judge(statements, CLOSURE).outcome
    except Unparsable as fault:
        return fault.sqlstate


@pytest.mark.parametrize(("sql", "outcome"), [
    (chain(400, "forwards"), TOUCHED), (chain(400, "backwards"), TOUCHED), (chain(100, "shuffled"), TOUCHED),
    (chain(1_500, "shuffled"), "54001"),
    ("SELECT " + " || ".join(["ssn"] * 33_000) + " FROM customers", "54001"),
    ("SELECT " + "/*" * 20_000 + "*/" * 20_000 + " 1", "54001"), ("SELECT 1" + "/*/**/*/" * 20_000, "54001"),
    ("SELECT 1 " + ("/" + "*" * 1_200 + "/ ") * 300, "54001"), ("SELECT 1 " + ("/" + "*" * 300 + "/ ") * 300, "clean"),
    ("SELECT " + "(" * 10_000 + "ssn" + ")" * 10_000 + " FROM customers", "54001"),
    ("SELECT * FROM (" * 1_000 + "SELECT * FROM customers" + ") q" * 1_000, "54001"),
    (f"SELECT * FROM customers WHERE id IN ({','.join(map(str, range(20_000)))})", TOUCHED),
    ("SELECT 1 FROM customers" + " JOIN orders USING (id)" * 5_000, "54001"),
    ("SELECT " + ",".join(["c.ssn"] * 1_000) + " FROM customers c" + ", (SELECT 1 FROM customers c) s" * 500, "54001"),
], ids=lambda value: str(value)[:40])
def test_within_bounds(sql: str, outcome: str) -> None:
    started = time.thread_time()
    assert decided(sql) == outcome
    assert time.thread_time() - started < CPU_MAX_S
