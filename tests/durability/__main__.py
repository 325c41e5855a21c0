"""`python -m tests.durability --kills 200 --seed 1 [--durability disk]`: random faults, and the account of them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.durability.chaos import chaos, random_plan
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer, scratch_directory


def main() -> int:
    """0 when nothing was lost, nothing stands twice, and nothing ran unrecorded."""
    options = argparse.ArgumentParser(prog="python -m tests.durability", description=__doc__)
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--threads", type=int, default=6)
    options.add_argument("--durability", choices=("process", "disk"), default="process")
    options.add_argument("--disk-mib", type=int, default=3072, help="size of the state directory's file system")
    options.add_argument("--keep", type=Path, help="a new directory, for state and logs if they disagree")
    chosen = options.parse_args()
    started = time.monotonic()
    with PostgresServer(scratch_directory("pg")) as postgres, TestIssuer() as issuer:
        with chaos(issuer, postgres, seed=chosen.seed, threads=chosen.threads, disk_mib=chosen.disk_mib,
                   durability=chosen.durability, keep=chosen.keep) as run:
            made, result = run(random_plan(chosen.kills, chosen.seed))
    sys.stdout.write(f"seed {chosen.seed}, durability {chosen.durability}, {time.monotonic() - started:.0f} s: "
                     f"{dict(made.done)}\n{result.line()}\n")
    for problem in result.problems[:50]:
        sys.stdout.write(f"  PROBLEM {problem}\n")
    return int(bool(result.problems))


if __name__ == "__main__":
    sys.exit(main())
