"""The dual runner with TLS on both legs: record boundaries, half-closed streams and short writes are TLS's own then."""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterator

import pytest

from tests.protocol.conftest import POLICY
from tests.protocol.stage import SEED, USER, Stage, database
from tests.protocol.test_dual import LIVES
from tests.support.certs import Certificates
from tests.support.gateway import Gateway, upstream_of
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer
from tests.support.wire import SplittingProxy

WHOLE = [name for name, one in LIVES.items() if not name.startswith("malformed")]
# Another part of them in every run: the seed is in the message of a failure.
SPLIT = random.Random(SEED).sample([name for name in WHOLE if not LIVES[name].bulky], 60)


@pytest.fixture(scope="module")
def stage(issuer: TestIssuer, postgres_tls: PostgresServer, certificates: Certificates) -> Iterator[Stage]:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    listen = {"tls": {"cert": str(certificates.cert), "key": str(certificates.key)}}
    with database(postgres_tls) as name, SplittingProxy(postgres_tls.port, seed=13) as back:
        whole = upstream_of(postgres_tls, name, user=USER, tls="require")
        connections = {"plain": whole, "plain-split": upstream_of(
            postgres_tls, name, user=USER, tls="require", port=back.port)}
        policy = {"access": POLICY["access"]}
        with Gateway(issuer, connections, policy=policy, config={"listen": listen}) as gateway:
            with SplittingProxy(gateway.port, seed=SEED) as front:
                running = Stage(postgres_tls, name, gateway, front, tls=context)
                yield running
                running.close()


@pytest.mark.parametrize("name", WHOLE)
def test_same_as_postgres_over_tls(stage: Stage, name: str) -> None:
    stage.compare(LIVES[name], "plain")


def test_same_as_postgres_over_tls_in_pieces(stage: Stage) -> None:
    for name in SPLIT:
        stage.compare(LIVES[name], "plain-split")
