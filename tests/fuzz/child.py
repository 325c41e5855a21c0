"""The process that is fuzzed: loads `_fuzz` under the sanitizers, runs one target, writes what it found.

Started by tests/fuzz/run.py with LD_PRELOAD; arguments: directory of the module, target, seconds, seed, board, results.
"""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path

from tests.fuzz.run import BOARD_BYTES, corpus
from tests.fuzz.seeds import SEEDS, WORDS, python_call


def main(directory: str, target: str, seconds: str, seed: str, board: str, results: str) -> None:
    sys.path.insert(0, directory)
    import _fuzz

    with Path(board).open("r+b") as file:
        page = mmap.mmap(file.fileno(), BOARD_BYTES)
    call, expected = python_call(target, _fuzz)
    if target in {"startup", "login"}:      # the decoder is C; its Python half would only slow it down
        sys.settrace(_fuzz.count_line)
    seeds = [*SEEDS[target](), *corpus(target)]
    runs, features, found = _fuzz.fuzz(
        target, seeds, WORDS[target], float(seconds), int(seed), memoryview(page), call, expected
    )
    sys.settrace(None)
    Path(results).write_text(json.dumps({"runs": runs, "features": features, "found": [x.hex() for x in found]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
