"""Every target for a short while under the sanitizers, from hand-written conversations and the kept corpus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.build import Unavailable, build
from tests.fuzz.run import CORPUS, CORPUS_MAX_BYTES, SHARES, corpus, fuzz
from tests.fuzz.seeds import SEEDS

SECONDS = float(os.environ.get("HOOPFAST_FUZZ_SECONDS", "20"))      # for all targets together


@pytest.fixture(scope="module")
def instrumented() -> Iterator[Path]:
    try:
        yield build()
    except Unavailable as lack:
        pytest.skip(f"the fuzzer cannot be built here: {lack}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", SHARES)
def test_no_input_breaks_the_core(instrumented: Path, target: str) -> None:
    report = fuzz(instrumented, target, SECONDS * SHARES[target] / sum(SHARES.values()), seed=os.getpid())
    assert not report.fault, report.fault
    assert report.runs > len(SEEDS[target]()) + len(corpus(target))
    print(f"{target}: {report.runs} inputs, {report.features} features, {len(report.found)} new")


def test_the_corpus_stays_small() -> None:
    for file in CORPUS.iterdir():
        assert file.stem in SHARES, f"{file.name} belongs to no target"
        assert sum(map(len, corpus(file.stem))) <= CORPUS_MAX_BYTES
