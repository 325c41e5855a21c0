"""Statements that try to see masked values, and statements of a normal day, against a real gateway and server.

The lists are in attacks/ and benign/; `python -m tests.adversarial` prints every result as a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.adversarial.cases import Case, load
from tests.adversarial.estate import Stage, stage
from tests.adversarial.forms import simple, text
from tests.adversarial.report import attacked, described, generated, tried
from tests.adversarial.runner import play, verdict
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.server
ATTACKS = load("attacks")
BENIGN = load("benign")
CHANNELS = sorted({case.channel for case in ATTACKS})
RANDOM = 500                    # queries; `python -m tests.adversarial 20000` tries more
SOURCES = sorted({case.channel for case in BENIGN})


@pytest.fixture(scope="module")
def estate(postgres: PostgresServer, issuer: TestIssuer) -> Iterator[Stage]:
    with stage(postgres, issuer) as ready:
        yield ready


def test_there_is_enough_of_both() -> None:
    assert len(ATTACKS) >= 800
    assert len(BENIGN) >= 500


@pytest.mark.parametrize("channel", CHANNELS)
def test_attacks_work_without_a_gateway(estate: Stage, channel: str) -> None:
    """An attack that shows nothing to anybody proves nothing. Those that cannot are marked, and say why."""
    idle = []
    with estate.past(0) as first, estate.past(1) as second:
        for case in _of(ATTACKS, channel):
            if "dud" in case.flags:
                continue
            shown = False
            for make in (simple, text):
                units = make(case)
                if units is not None and not shown:
                    answers = [play(line, case, units) for line in (first, second)]
                    shown = bool(verdict(answers, estate.canaries, worlds="hash" not in case.flags))
            if not shown:
                idle.append(case.name)
    assert not idle


@pytest.mark.parametrize("channel", CHANNELS)
def test_no_attack_shows_anything(estate: Stage, channel: str) -> None:
    leaks = [f"{leak.case.name} as {leak.form}: {leak.what}"
             for leak in attacked(estate, _of(ATTACKS, channel), Counter(), thorough=False)]
    assert not leaks, "\n".join(leaks)


def test_random_queries(estate: Stage) -> None:
    """Many pass, so that this says something; what passes answers as the server does, masks aside.

    Before the benign statements: those write to one of the worlds only, and the order of rows is a matter of pages.
    """
    found = generated(estate, range(RANDOM))
    assert not found.leaks, "\n".join(found.leaks)
    assert not found.wrong, "\n".join(found.wrong)
    assert found.invalid < RANDOM / 3
    assert found.passed > RANDOM / 4


@pytest.mark.parametrize("source", SOURCES)
def test_benign_statements_answer_as_without_a_gateway(estate: Stage, source: str) -> None:
    failures, better = [], []
    for case, trials in tried(estate, _of(BENIGN, source)):
        wrong = [trial for trial in trials if trial.problem or trial.leak]
        assert not [trial for trial in trials if trial.leak or trial.over_masked], (case.name, wrong)
        if wrong and "known" not in case.flags:
            failures.append(f"{case.name} as {wrong[0].form}: {wrong[0].problem}")
        if not wrong and "known" in case.flags:
            better.append(case.name)
    assert not failures, "\n".join(failures)
    assert not better, f"these work now: take away their mark: {better}"


def test_psql_describes_everything(estate: Stage) -> None:
    """The real psql: every backslash command shows through the gateway what it shows without."""
    number, differing = described(estate)
    assert number > 50
    assert not differing


def _of(cases: list[Case], channel: str) -> list[Case]:
    return [case for case in cases if case.channel == channel]
