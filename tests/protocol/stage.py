"""Both sides of the dual runner, and the table that scenarios write to. Used by the tests of tests/protocol/."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import ssl
from collections.abc import Iterator
from typing import Any

from tests.protocol.scenarios import SCHEMA
from tests.support.dual import End, Heard, Scenario, difference, hear
from tests.support.gateway import Gateway, wait_until
from tests.support.postgres import PostgresServer
from tests.support.wire import SplittingProxy

USER = "app_trust"
SEED = int(os.environ.get("HOOPFAST_TEST_SEED", random.randrange(1 << 32)))


@contextlib.contextmanager
def database(postgres: PostgresServer) -> Iterator[str]:
    """`items`, `arrivals` and what else the scenarios speak of; schema `closed` is closed to their role."""
    with postgres.database("dual", *SCHEMA, owner=USER) as name:
        with postgres.connect(name) as db:
            db.execute("CREATE SCHEMA closed")
            db.execute("CREATE TABLE closed.secrets (id int)")
        yield name


class Stage:
    """`pieces` leads to the gateway; with `tls` clients speak TLS to it, and never to the server."""

    def __init__(
        self, postgres: PostgresServer, database: str, gateway: Gateway, pieces: SplittingProxy, *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._postgres = postgres
        self._database = database
        self.gateway = gateway
        self._pieces = pieces
        self._tls = tls
        self._db = postgres.connect(database, application_name="stage")
        self._server = functools.cache(self._ask_server)
        self.token = gateway.token()

    def close(self) -> None:
        self._db.close()

    def _clean(self) -> None:
        self._db.execute("DELETE FROM arrivals; DELETE FROM later")

    def wait_until_alone(self) -> None:
        """Until no session of a scenario is left in the server."""
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = %s"
        wait_until(
            lambda: self._db.execute(count, (self._database, USER)).fetchone() == (0,),
            "no session is left in the server", interval=0.005)

    def _left(self, steps: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """What stands in the table once every session that a client has left is gone from the server."""
        if any(isinstance(step, End) for step in steps):
            self.wait_until_alone()
        return self._db.execute("SELECT * FROM arrivals ORDER BY id, note").fetchall()

    def _ask_server(self, steps: tuple[Any, ...]) -> tuple[Heard, list[tuple[Any, ...]]]:
        self._clean()
        return hear(self._postgres.port, USER, self._database, "", steps), self._left(steps)

    def _ask_gateway(self, steps: tuple[Any, ...], way: str) -> tuple[Heard, list[tuple[Any, ...]]]:
        self._clean()
        split = way.endswith("-split")
        port = self._pieces.port if split else self.gateway.port
        heard = hear(port, "alice", way, self.token, steps, narrow=split, tls=self._tls)
        return heard, self._left(steps)

    def server(self, scenario: Scenario) -> Heard:
        return self._server(scenario.steps)[0]

    def both(self, scenario: Scenario, way: str) -> tuple[Heard, Heard]:
        return self._server(scenario.steps)[0], self._ask_gateway(scenario.steps, way)[0]

    def compare(self, scenario: Scenario, way: str, *, instead: Scenario | None = None, **how: Any) -> None:
        """AssertionError with the first difference. `instead`: what to say to the server."""
        server, left = self._server((instead or scenario).steps)
        gateway, left_too = self._ask_gateway(scenario.steps, way)
        found = difference(server, gateway, **how)
        kinds = f"server:  {server.told()}\ngateway: {gateway.told()}\nHOOPFAST_TEST_SEED={SEED}"
        assert not found, f"{scenario.name}: {found}\n{kinds}"
        assert left_too == left, f"{scenario.name}: what it wrote\n{kinds}"
