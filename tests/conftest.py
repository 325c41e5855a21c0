"""What every test gets: the order (quick ones first), the `server` mark, and fixtures for real PostgreSQL servers.

Servers start when the first test asks for one and are shared by the session; each test makes its own database.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certs import Certificates
from tests.support.gateway import Gateway
from tests.support.issuer import TestIssuer
from tests.support.leaks import Account
from tests.support.postgres import PostgresServer, scratch_directory

LONG = {Path(__file__).parent / name for name in ("gateway", "fuzz")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if LONG & set(item.path.parents) or {"postgres", "postgres_tls"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)
    items.sort(key=lambda item: item.get_closest_marker("server") is not None)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Gateways that were there before a test hold no more after it: descriptors, sessions, places, relay memory."""
    accounts = [Account(gateway) for gateway in Gateway.running]
    yield
    excess = [line for account in accounts if account.gateway in Gateway.running for line in account.settle()]
    assert not excess, "\n".join(["the gateway holds more than before this test:", *excess])


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    """A private authority with a certificate for localhost and 127.0.0.1."""
    return Certificates(scratch_directory("certs"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """PostgreSQL 18 without TLS; SCRAM for `app`, md5, cleartext and trust for `app_md5`, `app_clear`, `app_trust`."""
    with PostgresServer(scratch_directory("pg")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_tls(certificates: Certificates) -> Iterator[PostgresServer]:
    """A PostgreSQL that speaks TLS; skipped only where no such build is to be had."""
    with PostgresServer(scratch_directory("pgtls"), tls=certificates) as server:
        yield server


@pytest.fixture(scope="session")
def issuer() -> Iterator[TestIssuer]:
    """An OpenID provider that everybody may ask for tokens."""
    with TestIssuer() as running:
        yield running
