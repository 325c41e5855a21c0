"""Runs whole lists of cases and counts. Used by the tests and by `python -m tests.adversarial`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.adversarial.cases import Case
from tests.adversarial.estate import DATABASES, RESTART, Stage
from tests.adversarial.runner import Leak, Trial, attack, trial


def attacked(stage: Stage, cases: list[Case], runs: Counter[str]) -> Iterator[Leak]:
    """Every leak, through the gateway. `runs` counts statements sent, by form."""
    stage.repair([RESTART])     # sequences remember what others did to them
    with stage.through(0) as first, stage.through(1) as second:
        for case in cases:
            for form, what in attack(case, (first, second), stage.canaries):
                runs[form] += 1
                if what:
                    yield Leak(case, form, what)
            if "cleanup" in case.flags:
                stage.repair([case.flags["cleanup"]])


def tried(stage: Stage, cases: list[Case]) -> Iterator[tuple[Case, list[Trial]]]:
    """Every benign case in all forms that fit, beside the server's own answer."""
    with stage.past(0) as direct, stage.through(0) as gateway, stage.server.connect(DATABASES[0]) as db:
        for case in cases:
            yield case, list(trial(case, direct, gateway, stage.masked, stage.canaries, lambda: db.execute(RESTART)))
