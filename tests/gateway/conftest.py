"""One shop database and one gateway per module."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, clean_environment

# Values that must never be seen by somebody they are masked for. Long and odd, so that a match is never chance.
CANARIES = (
    "078-05-1120", "CANARY-SSN-ZQXJ", "canary.zqxj@example.org", "4539-CANARY-1486", "98765.43", "+1-CANARY-555",
    "193584726",
)
SHOP = (
    """CREATE TABLE customers (
        id int PRIMARY KEY, name text NOT NULL, email text, ssn text, card varchar(30), salary numeric, city text,
        born date, note text, phone text, badge int)""",
    """INSERT INTO customers VALUES
    (1, 'Ada', 'canary.zqxj@example.org', 'CANARY-SSN-ZQXJ', '4539-CANARY-1486', 98765.43, 'Paris', '1990-01-02', 'x',
        '+1-CANARY-555', 193584726),
    (2, 'Bo', 'canary.zqxj@example.org', '078-05-1120', '4539-CANARY-1486', 98765.43, 'Rome', '1991-02-03', NULL,
        '+1-CANARY-555', 193584726),
    (3, 'Cy', NULL, NULL, NULL, NULL, 'Oslo', NULL, 'z', NULL, NULL)""",
    "CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, item text, price numeric(10,2))",
    "INSERT INTO orders (customer, item, price) SELECT 1 + i % 3, 'item ' || i, i * 1.5 FROM generate_series(1, 100) i",
    "CREATE TABLE scratch (id int, txt text)",
)
SHOP_POLICY: dict[str, Any] = {
    "access": [{"groups": ["engineering"], "connections": ["shop", "plain"]}],
    "masks": [
        {"columns": ["public.customers.ssn"], "with": "redact", "connections": ["shop"]},
        {"columns": ["public.customers.card"], "with": {"partial": {"keep": 4}}, "connections": ["shop"]},
        {
            "columns": ["public.customers.email"], "with": "email", "unless": {"groups": ["support-leads"]},
            "connections": ["shop"],
        },
        {"columns": ["public.customers.salary"], "with": "null", "connections": ["shop"]},
        {
            "columns": ["public.customers.phone"], "with": {"constant": {"value": "+00 000"}}, "connections": ["shop"],
        },
        {"columns": ["public.customers.badge"], "with": "hash", "connections": ["shop"]},
    ],
    "rules": [
        {
            "name": "destructive", "when": {"statements": ["drop", "truncate"]}, "action": "approve",
            "approvers": {"groups": ["dba"], "count": 1}, "expires": "15m",
        },
        {
            "name": "unfiltered", "when": {"statements": ["delete", "update"], "unfiltered": True}, "action": "approve",
            "approvers": {"groups": ["dba"], "count": 1}, "expires": "3s",
        },
        {
            "name": "no-grants", "when": {"statements": ["grant", "alter_role"]}, "action": "deny",
            "reason": "roles are managed elsewhere",
        },
    ],
}
Psql = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a fresh shop database."""
    name = "shop_" + request.module.__name__.rpartition(".")[2].removeprefix("test_")
    with postgres.database(name, *SHOP) as database:
        yield database


def connections(postgres: PostgresServer, shop: str) -> dict[str, Any]:
    """What SHOP_POLICY speaks of."""
    return {"shop": upstream_of(postgres, shop), "plain": upstream_of(postgres, "postgres")}


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    """A gateway with the policy above and two connections: `shop`, and `plain` where nothing is masked."""
    with Gateway(issuer, connections(postgres, shop), policy=SHOP_POLICY) as running:
        yield running


@pytest.fixture
def psql(postgres: PostgresServer) -> Psql:
    """Run psql with a script on standard input; returns the finished process. PGPASSWORD carries the token."""

    def run(dsn: str, script: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [postgres.bin / "psql", "-X", "-v", "ON_ERROR_STOP=0", "--no-password", *arguments, dsn],
            input=script, capture_output=True, text=True, timeout=timeout, cwd="/", env=clean_environment(),
        )

    return run
