"""The dual runner: every scenario with PostgreSQL itself and through the gateway, and the replies compared.

Through the gateway each runs in four ways: as it is, on a connection with masked columns (of a table that it does not
read), and both once more with every stream in random pieces through small socket buffers. What it left in the table
`arrivals` is compared too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hoopfast import flow
from tests.protocol.scenarios import copying, extended, malformed, refusals, simple
from tests.protocol.stage import SEED, Stage
from tests.protocol.walk import Astray, walk
from tests.support.dual import Scenario, reported
from tests.support.gateway import Gateway
from tests.support.postgres import PostgresServer
from tests.support.wire import SplittingProxy

GROUPS = {
    "simple": simple.SCENARIOS, "extended": extended.SCENARIOS, "copy": copying.SCENARIOS,
    "malformed": malformed.SCENARIOS,
}
LIVES = {f"{subject}: {one.name}": one for subject, group in GROUPS.items() for one in group}
FATAL = {one.name: one for one in malformed.FATAL}
SILENT = {one.name: one for one in malformed.SILENT}
WAYS = ("plain", "beside", "plain-split", "beside-split")


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


# What no conversation of ours brings about.
UNSEEN = {
    ("query copied", "E"), ("execute copied", "E"),         # an error between CopyDone and CommandComplete
    ("query failed", "E"), ("sync failed", "E"), ("function failed", "E"),      # only FATAL follows an error at once
    ("function complete", "E"),                             # a deferred constraint behind a function call
    ("close", "E"),                                         # only a malformed one, which the gateway answers
}


def test_conversations_walk_the_tables(stage: Stage) -> None:
    """Every conversation with the server itself has a way through hoopfast/flow.py, and together they take all ways."""
    sides: set[tuple[str, str]] = set()
    replies: set[tuple[str, str]] = set()
    for one in [*LIVES.values(), *FATAL.values(), *SILENT.values(), *refusals.SERVER.values()]:
        try:
            went = walk(one.steps, stage.server(one).frames)
        except Astray as astray:
            raise AssertionError(f"{one.name}: {astray}") from None
        sides |= went[0]
        replies |= went[1]
    known = {(reply, kind) for reply, row in flow.SERVER.items() for kind in row if reply != "idle"}
    assert known - replies == UNSEEN & known - replies, "a transition that no scenario takes"
    known = {(side, kind) for side, row in flow.CLIENT.items() for kind in row if side != flow.GONE}
    assert not known - sides, "a transition that no scenario takes"


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
