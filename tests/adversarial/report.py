"""Runs whole lists of cases and counts. Used by the tests and by `python -m tests.adversarial`."""

from __future__ import annotations

import contextlib
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from tests.adversarial import generate
from tests.adversarial.cases import HERE, Case
from tests.adversarial.estate import DATABASES, RESTART, Stage
from tests.adversarial.forms import simple, text
from tests.adversarial.runner import Leak, Trial, attack, compared, play, trial
from tests.adversarial.shapes import differences, unordered
from tests.support import wire
from tests.support.postgres import clean_environment


def attacked(stage: Stage, cases: list[Case], runs: Counter[str], *, thorough: bool = True) -> Iterator[Leak]:
    """Every leak, through the gateway. `runs` counts statements sent, by form."""
    stage.repair([RESTART])     # sequences remember what others did to them
    with stage.through(0) as first, stage.through(1) as second:
        for case in cases:
            for form, what in attack(case, (first, second), stage.canaries, thorough=thorough):
                runs[form] += 1
                if what:
                    yield Leak(case, form, what)
            if "cleanup" in case.flags:
                stage.repair([case.flags["cleanup"]])


def bare(stage: Stage, cases: list[Case]) -> Iterator[Leak]:
    """Every leak in plain form, sent as the masked role to the server itself."""
    stage.repair([RESTART])
    with stage.masked_role(0) as first, stage.masked_role(1) as second:
        for case in cases:
            units = simple(case) or text(case)
            if units is not None and (what := compared(case, units, (first, second), stage.canaries)):
                yield Leak(case, "simple", what)
            if "cleanup" in case.flags:
                stage.repair([case.flags["cleanup"]])


def tried(stage: Stage, cases: list[Case]) -> Iterator[tuple[Case, list[Trial]]]:
    """Every benign case in all forms that fit, beside the server's own answer."""
    with contextlib.ExitStack() as stack:
        gateway, db = stack.enter_context(stage.through(0)), stack.enter_context(stage.server.connect(DATABASES[0]))
        direct = stack.enter_context(stage.masked_role(0) if stage.enforced else stage.past(0))
        reader = stack.enter_context(stage.past(0)) if stage.enforced else None

        def restart() -> None:
            db.execute(RESTART)

        for case in cases:
            reads = case.statement is not None and case.statement.tag == "SelectStmt" and "nextval" not in case.last
            before = _nothing if reads else restart
            yield case, list(trial(case, direct, gateway, stage.masked, stage.canaries, before, reader))


def _nothing() -> None:
    """Reading moves no sequence."""


def described(stage: Stage) -> tuple[int, set[str]]:
    """How many commands psql was given, and those that show something else through the gateway."""
    commands = (HERE / "benign" / "psql.txt").read_text().splitlines()
    script = "".join(f"\\echo == {number}\n{command}\n" for number, command in enumerate(commands))
    shown = []
    for dsn in (stage.server.dsn(DATABASES[0], stage.role), stage.gateway.dsn(DATABASES[0])):
        done = subprocess.run(
            [stage.server.bin / "psql", "-X", "--no-password", dsn], input=script, text=True, timeout=60, cwd="/",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment())
        # Before the first command: the gateway's notice that its tokens are those of a test.
        shown.append(done.stdout[done.stdout.index("== 0\n") :].split("\n== "))
    answers = zip(commands, *shown, strict=True)
    return len(commands), {command for command, mine, theirs in answers if mine != theirs}


class Random(msgspec.Struct):
    """What became of some random queries. `leaks` and `wrong` hold their texts, `refused` may be more than need be."""

    passed: int = 0
    refused: int = 0
    invalid: int = 0
    leaks: list[str] = []
    wrong: list[str] = []


def generated(stage: Stage, seeds: Iterable[int]) -> Random:
    """Random queries, compared with the server's own answer and between the worlds."""
    result = Random()
    with stage.past(0) as direct, stage.through(0) as first, stage.through(1) as second:
        for seed in seeds:
            case = Case("random", str(seed), (f"{generate.statement(seed)};",), {})
            units = [wire.query(case.last)]
            expected = play(direct, case, units)
            answer = play(first, case, units)
            what = compared(case, units, (first, second), stage.canaries)
            if what:
                result.leaks.append(f"{what}: {case.last}")
            if expected.errors:
                result.invalid += 1
            elif answer.errors:
                result.refused += 1
            else:
                result.passed += 1
                found = differences(
                    expected.frames, answer.frames, stage.masked, [], stable=True, enforced=stage.enforced)
                first_rows, rows = (unordered(one.frames, stage.masked, case.last) for one in (expected, answer))
                if found.problem and stage.enforced and first_rows == rows:
                    continue            # views make other plans, which put rows in another order
                if found.problem or answer.ended:
                    result.wrong.append(f"{found.problem or 'the connection ended'}: {case.last}")
    return result
