"""Every protocol case has a scenario or a test, and the tests that are named exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.protocol.cases import CASES
from tests.protocol.scenarios import refusals
from tests.protocol.test_dual import FATAL, LIVES, SILENT

TESTS = Path(__file__).parents[1]
SCENARIOS = [*LIVES.values(), *FATAL.values(), *SILENT.values(), *refusals.GATEWAY.values()]
COVERED = {number for one in SCENARIOS for number in one.cases}


def test_numbers() -> None:
    assert list(CASES) == list(range(1, 125))
    assert set(CASES) >= COVERED


@pytest.mark.parametrize("number", CASES)
def test_case_is_covered(number: int) -> None:
    case = CASES[number]
    assert bool(case.absent) != bool(case.tests or number in COVERED), "either tests, or a reason why there are none"
    for name in case.tests:
        path, _, function = name.partition("::")
        tree = ast.parse((TESTS / path).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name
