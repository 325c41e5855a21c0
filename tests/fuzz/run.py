"""Fuzz the core: `make fuzz SECONDS=600`, or `python -m tests.fuzz.run --seconds 600 relay copy`.

Builds the instrumented core, runs each target in a process of its own for its share of the time, and says for each how
much it did. A crash, a hang or a broken invariant leaves the input under build/fuzz/, and the exit status is 1.
`--keep` adds what reached something new to tests/fuzz/corpus/.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.build import HERE, ROOT, Unavailable, asan_library, build, compiler

BOARD_BYTES = 8192              # u64 runs, u64 length, the input under way
STUCK_S = 20.0
START_S = 60.0
CORPUS = HERE / "corpus"
CORPUS_MAX_BYTES = 30_000       # per target, as bytes of inputs
SHARES = {"relay": 6, "mask": 2, "copy": 2, "frames": 1, "decoder": 3, "startup": 1, "login": 1}


class Report(NamedTuple):
    """What one target did; `fault` is empty when nothing was wrong."""

    target: str
    runs: int
    features: int
    found: list[bytes]
    fault: str


def corpus(target: str) -> list[bytes]:
    """Kept inputs: one a line, in hexadecimal."""
    file = CORPUS / f"{target}.hex"
    return [bytes.fromhex(line) for line in file.read_text().split()] if file.exists() else []


def fuzz(directory: Path, target: str, seconds: float, seed: int) -> Report:
    """One target in a process of its own."""
    board, results, log = (directory / f"{target}.{kind}" for kind in ("board", "json", "log"))
    board.write_bytes(bytes(BOARD_BYTES))
    results.unlink(missing_ok=True)
    environment = os.environ | {
        "LD_PRELOAD": asan_library(compiler()),
        "PYTHONPATH": str(ROOT), "PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0",
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:quarantine_size_mb=32:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
    }
    arguments = [str(directory), target, str(seconds), str(seed), str(board), str(results)]
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.child", *arguments], cwd=ROOT, env=environment,
            stdout=output, stderr=output, stdin=subprocess.DEVNULL,
        )
        fault = _watch(child, board, seconds)
    runs, length = struct.unpack_from("=QQ", board.read_bytes())
    if child.returncode == 0 and results.exists():
        told = json.loads(results.read_text())
        return Report(target, told["runs"], told["features"], [bytes.fromhex(x) for x in told["found"]], "")
    crash = directory.parent / f"{target}-crash-{seed}"
    crash.write_bytes(board.read_bytes()[16 : 16 + length])
    fault = fault or f"ended with {child.returncode}"
    return Report(target, runs, 0, [], f"{fault}; input in {crash}\n{log.read_text(errors='replace')[-6000:]}")


def _watch(child: subprocess.Popen[bytes], board: Path, seconds: float) -> str:
    """Wait for the end of the child; why it was killed, or nothing."""
    runs, since, deadline = 0, time.monotonic(), time.monotonic() + START_S + seconds
    while True:
        try:
            child.wait(0.25)
            return ""
        except subprocess.TimeoutExpired:
            now = struct.unpack_from("=Q", board.read_bytes())[0]
        if now != runs:
            runs, since = now, time.monotonic()
        stuck = runs and time.monotonic() - since > STUCK_S
        if stuck or time.monotonic() > deadline:
            child.kill()
            child.wait()
            return f"no end of one input in {STUCK_S:g} s" if stuck else "it took longer than it was given"


def keep(report: Report) -> int:
    """Add found inputs to the corpus, short ones first, as long as it stays small; how many."""
    have = corpus(report.target)
    room = CORPUS_MAX_BYTES - sum(map(len, have))
    added = []
    for each in sorted(set(report.found) - set(have), key=len):
        if room < len(each):
            break
        room -= len(each)
        added.append(each)
    CORPUS.mkdir(exist_ok=True)
    lines = [each.hex() for each in [*have, *added] if each]
    (CORPUS / f"{report.target}.hex").write_text("".join(f"{line}\n" for line in lines))
    return len(added)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", choices=[*SHARES, []], help="all of them unless named")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats a run on the same machine")
    parser.add_argument("--keep", action="store_true", help="add what was found to tests/fuzz/corpus/")
    arguments = parser.parse_args()
    try:
        directory = build()
    except Unavailable as lack:
        print(f"the fuzzer cannot be built here: {lack}", file=sys.stderr)
        return 2
    targets = arguments.targets or list(SHARES)
    whole = sum(SHARES[target] for target in targets)
    print(f"seed {arguments.seed}")
    failed = False
    for target in targets:
        seconds = arguments.seconds * SHARES[target] / whole
        report = fuzz(directory, target, seconds, arguments.seed)
        failed |= bool(report.fault)
        speed = f"{report.runs:,} inputs in {seconds:.0f} s, {report.features:,} features, {len(report.found)} new"
        print(f"{target}: {report.fault or speed}", flush=True)
        if arguments.keep and not report.fault:
            print(f"{target}: {keep(report)} added to the corpus")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
