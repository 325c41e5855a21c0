"""A database and a gateway for the dual runner, with connections: plain, beside masks, and each in odd pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.protocol import stage
from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer
from tests.support.wire import SplittingProxy

POLICY: dict[str, Any] = {
    "access": [{"groups": ["engineering"], "connections": ["*"]}],
    "masks": [{"columns": ["public.people.ssn"], "with": "redact", "connections": ["beside", "beside-split"]}],
    "rules": [{"name": "no-grants", "when": {"statements": ["grant"]}, "action": "deny", "reason": "not here"}],
}


@pytest.fixture(scope="session")
def dual_database(postgres: PostgresServer) -> Iterator[str]:
    with stage.database(postgres) as name:
        yield name


@pytest.fixture(scope="session")
def dual_gateway(issuer: TestIssuer, postgres: PostgresServer, dual_database: str) -> Iterator[Gateway]:
    with SplittingProxy(postgres.port, seed=11) as pieces:
        whole = upstream_of(postgres, dual_database, user="app_trust")
        split = upstream_of(postgres, dual_database, user="app_trust", port=pieces.port)
        bad = upstream_of(postgres, dual_database, password="env:TEST_BAD_PASSWORD")
        connections = {
            "plain": whole, "beside": whole, "plain-split": split, "beside-split": split, "bad-password": bad,
        }
        with Gateway(issuer, connections, policy=POLICY, environment={"TEST_BAD_PASSWORD": "wrong"}) as running:
            yield running
