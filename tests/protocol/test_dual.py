"""The dual runner: every scenario with PostgreSQL itself and through the gateway, and the replies compared.

Through the gateway each runs in four ways: as it is, on a connection with masked columns (of a table that it does not
read), and both once more with every stream in random pieces through tiny socket buffers. What it left in the table
`arrivals` is compared too.
"""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.protocol.scenarios import copying, extended, malformed, refusals, simple
from tests.support.dual import End, Heard, Scenario, difference, hear, reported
from tests.support.gateway import Gateway, wait_until
from tests.support.postgres import PostgresServer
from tests.support.wire import SplittingProxy

USER = "app_trust"
SEED = int(os.environ.get("HOOPFAST_TEST_SEED", random.randrange(1 << 32)))
TINY_BUFFER_BYTES = 4096
GROUPS = {
    "simple": simple.SCENARIOS, "extended": extended.SCENARIOS, "copy": copying.SCENARIOS,
    "malformed": malformed.SCENARIOS,
}
LIVES = {f"{subject}: {one.name}": one for subject, group in GROUPS.items() for one in group}
FATAL = {one.name: one for one in malformed.FATAL}
SILENT = {one.name: one for one in malformed.SILENT}
WAYS = ("plain", "beside", "plain-split", "beside-split")


class Stage:
    """Both sides, and the table that scenarios write to."""

    def __init__(self, postgres: PostgresServer, database: str, gateway: Gateway, pieces: SplittingProxy) -> None:
        self._postgres = postgres
        self._database = database
        self._gateway = gateway
        self._pieces = pieces
        self._db = postgres.connect(database, application_name="stage")
        self._server = functools.cache(self._ask_server)
        self.token = gateway.token()

    def close(self) -> None:
        self._db.close()

    def _clean(self) -> None:
        self._db.execute("DELETE FROM arrivals; DELETE FROM later")

    def _left(self, steps: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """What stands in the table once every session that a client has left is gone from the server."""
        if any(isinstance(step, End) for step in steps):
            wait_until(
                lambda: self._db.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = %s", (self._database, USER)
                ).fetchone() == (0,), "no session is left in the server", interval=0.005)
        return self._db.execute("SELECT * FROM arrivals ORDER BY id, note").fetchall()

    def _ask_server(self, steps: tuple[Any, ...]) -> tuple[Heard, list[tuple[Any, ...]]]:
        self._clean()
        return hear(self._postgres.port, USER, self._database, "", steps), self._left(steps)

    def _ask_gateway(self, steps: tuple[Any, ...], way: str) -> tuple[Heard, list[tuple[Any, ...]]]:
        self._clean()
        split = way.endswith("-split")
        port = self._pieces.port if split else self._gateway.port
        heard = hear(port, "alice", way, self.token, steps, buffer_bytes=TINY_BUFFER_BYTES if split else 0)
        return heard, self._left(steps)

    def both(self, scenario: Scenario, way: str) -> tuple[Heard, Heard]:
        return self._server(scenario.steps)[0], self._ask_gateway(scenario.steps, way)[0]

    def compare(self, scenario: Scenario, way: str, *, instead: Scenario | None = None, **how: Any) -> None:
        """AssertionError with the first difference. `instead`: what to say to the server."""
        server, left = self._server((instead or scenario).steps)
        gateway, left_too = self._ask_gateway(scenario.steps, way)
        found = difference(server, gateway, **how)
        assert not found, f"{found}\nserver:  {server.told()}\ngateway: {gateway.told()}\nHOOPFAST_TEST_SEED={SEED}"
        assert left_too == left, f"what the scenario wrote, HOOPFAST_TEST_SEED={SEED}"


@pytest.fixture(scope="module")
def stage(postgres: PostgresServer, dual_database: str, dual_gateway: Gateway) -> Iterator[Stage]:
    with SplittingProxy(dual_gateway.port, seed=SEED) as pieces:
        running = Stage(postgres, dual_database, dual_gateway, pieces)
        yield running
        running.close()


def ways_of(scenarios: dict[str, Scenario]) -> list[tuple[str, str]]:
    return [
        (name, way) for name, one in scenarios.items() for way in WAYS
        if not (one.bulky and way.endswith("-split")) and not (one.open_only and way.startswith("beside"))
    ]


@pytest.mark.parametrize(("name", "way"), ways_of(LIVES))
def test_same_as_postgres(stage: Stage, name: str, way: str) -> None:
    stage.compare(LIVES[name], way)


@pytest.mark.parametrize(("name", "way"), ways_of(FATAL))
def test_sessions_end_as_in_postgres(stage: Stage, name: str, way: str) -> None:
    stage.compare(FATAL[name], way)


@pytest.mark.parametrize(("name", "way"), ways_of(SILENT))
def test_sessions_end_with_a_reason_where_postgres_gives_none(stage: Stage, name: str, way: str) -> None:
    stage.compare(SILENT[name], way, explained=True)


@pytest.mark.parametrize(("name", "way"), ways_of(refusals.GATEWAY))
def test_refused_statements_are_errors_at_their_place(stage: Stage, name: str, way: str) -> None:
    """The server runs the same conversation with a statement that is not permitted to the role."""
    stage.compare(refusals.GATEWAY[name], way, instead=refusals.SERVER[name], refused=True)


def test_login_reports_the_same(stage: Stage) -> None:
    """ParameterStatus of the login, in its order, and the messages around it."""
    scenario = LIVES["simple: one row"]
    server, gateway = stage.both(scenario, "plain")
    assert reported(gateway.login) == reported(server.login)
    assert list(reported(gateway.login)) == list(reported(server.login))
    kinds = ["".join(item.kind for item in heard.login).replace("S", "") for heard in (server, gateway)]
    assert kinds == ["RKZ", "RRNKZ"], "the gateway asks for a password, and warns of the test issuer"


def test_there_are_enough_scenarios() -> None:
    names = [*LIVES, *FATAL, *SILENT, *refusals.GATEWAY]
    assert len(names) > 300
    assert len(LIVES) == sum(map(len, GROUPS.values())), "two scenarios of one name"
