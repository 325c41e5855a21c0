"""`python -m tests.adversarial [--enforced] [--redact] [QUERIES]`: attacks, benign statements, random queries, a table.

With --enforced the gateway's role may not read hidden columns, and attacks are sent to it without a gateway as well.
With --redact the policy says `derived: redact`, so that expressions of hidden columns run: nothing more may be seen.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.adversarial.cases import load
from tests.adversarial.estate import Stage, stage
from tests.adversarial.report import attacked, bare, described, generated, tried
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, scratch_directory

LINE = "{:<14}{:>7}{:>9}{:>10}{:>12}{:>8}"


def main() -> int:
    """0 when nothing leaks and nothing benign fails that is not known to."""
    started = time.monotonic()
    arguments = argparse.ArgumentParser(prog="python -m tests.adversarial")
    arguments.add_argument("queries", nargs="?", type=int, default=1000)
    arguments.add_argument("--enforced", action="store_true")
    arguments.add_argument("--redact", action="store_true")
    given = arguments.parse_args()
    with PostgresServer(scratch_directory("pg"), log_statements=False) as server, TestIssuer() as issuer:
        hidden = [{"derived": "redact"}] if given.redact else []
        with stage(server, issuer, enforced=given.enforced, hidden=hidden) as ready:
            leaks = _attacks(ready)
            if given.enforced:
                _bare(ready)
            # Benign statements write to one world only, and the order of rows is a matter of pages: they come last.
            surprises = _random(ready, given.queries)
            failures = _benign(ready)
    sys.stdout.write(f"\n{time.monotonic() - started:.0f} s\n")
    return int(bool(leaks or failures or surprises))


def _attacks(ready: Stage) -> int:
    cases = load("attacks")
    _line("attacks", "cases", "sent", "leaks", "", "duds")
    total: Counter[str] = Counter()
    details = []
    for channel in sorted({case.channel for case in cases}):
        mine = [case for case in cases if case.channel == channel]
        runs: Counter[str] = Counter()
        leaks = list(attacked(ready, mine, runs))
        details += [f"  {leak.case.channel}/{leak.case.name} as {leak.form}: {leak.what}" for leak in leaks]
        found = {"cases": len(mine), "sent": runs.total(), "leaks": len(leaks),
                 "duds": sum("dud" in case.flags for case in mine)}
        total.update(found)
        _line(channel, *(found[name] for name in ("cases", "sent", "leaks")), "", found["duds"])
    _line("together", total["cases"], total["sent"], total["leaks"], "", total["duds"])
    _details(details)
    return total["leaks"]


def _bare(ready: Stage) -> None:
    """What the database alone keeps back: the same attacks, as the masked role, past the gateway."""
    cases = load("attacks")
    found = list(bare(ready, cases))
    sys.stdout.write(f"\nwithout the gateway, as its role: {len(cases)} attacks, {len(found)} leaks\n")
    _details([f"  {leak.case.channel}/{leak.case.name}: {leak.what}" for leak in found])


def _benign(ready: Stage) -> int:
    cases = load("benign")
    _line("benign", "cases", "sent", "failures", "over-masked", "known")
    total: Counter[str] = Counter()
    details = []
    for source in sorted({case.channel for case in cases}):
        found: Counter[str] = Counter()
        for case, trials in tried(ready, [case for case in cases if case.channel == source]):
            wrong = [trial for trial in trials if trial.problem or trial.leak]
            found.update(cases=1, sent=len(trials), over=sum(trial.over_masked for trial in trials))
            if wrong:
                known = "known" in case.flags
                found["known" if known else "failures"] += 1
                why = f"known: {case.flags['known']}" if known else wrong[0].problem or wrong[0].leak
                details.append(f"  {source}/{case.name} as {wrong[0].form}: {why}")
        total.update(found)
        _line(source, *(found[name] for name in ("cases", "sent", "failures", "over", "known")))
    commands, differing = described(ready)
    total.update(cases=commands, sent=commands, failures=len(differing))
    details += [f"  psql/{command}: differs" for command in sorted(differing)]
    _line("psql", commands, commands, len(differing), 0, 0)
    _line("together", *(total[name] for name in ("cases", "sent", "failures", "over", "known")))
    _details(details)
    return total["failures"]


def _random(ready: Stage, queries: int) -> int:
    found = generated(ready, range(queries))
    sys.stdout.write(f"\nrandom queries: {queries}, {found.invalid} not valid, {found.passed} passed, "
                     f"{found.refused} refused, {len(found.leaks)} leaks, {len(found.wrong)} wrong answers\n\n")
    _details([f"  {text}" for text in found.leaks + found.wrong])
    return len(found.leaks) + len(found.wrong)


def _line(*columns: object) -> None:
    sys.stdout.write(LINE.format(*columns) + "\n")
    sys.stdout.flush()


def _details(lines: list[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
