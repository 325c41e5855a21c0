"""Each kind of fault once; the long version with hundreds of kills is `python -m tests.durability`."""

from __future__ import annotations

import pytest

from tests.durability.account import ran_in
from tests.durability.chaos import chaos
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer

PLAN = ("worker", "shipper", "broken", "disk", "damage")


def test_nothing_is_lost_and_nothing_stands_twice(issuer: TestIssuer, postgres: PostgresServer) -> None:
    with chaos(issuer, postgres, seed=7, threads=4, name="short") as run:
        made, result = run(PLAN)
    assert not result.problems, "\n".join([result.line(), *result.problems])
    assert result.ran.total() > 1000 and result.outcomes["complete"] > 1000
    if not made.done["disk"]:
        pytest.skip("everything else holds; a full disk needs the right to mount a small file system")


def test_the_witness_counts_what_ran() -> None:
    log = """
2026-01-01 [7] app LOG:  statement: SELECT 1 /* hf-marker-x-1z */
2026-01-01 [7] app LOG:  execute <unnamed>: SELECT $1 /* hf-marker-x-2z */
2026-01-01 [7] app LOG:  execute _pg3_0: SELECT $1
2026-01-01 [7] app DETAIL:  Parameters: $1 = 'hf-marker-x-3z'
2026-01-01 [7] app ERROR:  division by zero
2026-01-01 [7] app STATEMENT:  SELECT 1/0 /* hf-marker-x-4z */
2026-01-01 [7] app LOG:  statement: SELECT 1 /* hf-marker-other-1z */
2026-01-01 [7] app LOG:  statement: SELECT 1 /* hf-marker-x-1z */
"""
    assert ran_in(log, "x") == {"hf-marker-x-1z": 2, "hf-marker-x-2z": 1, "hf-marker-x-3z": 1}
