"""Loads the statements: SQL files, one for each channel, cases separated by blank lines. Used by the runner.

    -- name of the case
    --! flag: value                     parameters, data, autocommit, cleanup, unstable, costs, known, dud (see Case)
    SELECT ssn || '' FROM people;       a step: lines up to one that ends with a semicolon

Several steps are sent one after the other on one session. A line with several statements is one query string.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from hoopfast.analysis.parse import Statement, Unparsable, parse

HERE = Path(__file__).parent


class Case(msgspec.Struct, frozen=True):
    """`flags`:

    parameters  JSON list of texts (or null) for $1, $2, ... of the last step: sent as a prepared statement only
    data        what a COPY FROM STDIN gets
    autocommit  every step is a transaction of its own; then the steps in `cleanup` run past the gateway
    costs       the answer shows a plan's costs, which are other ones in enforced mode: there only its shape is compared
    unstable    the answer is never the same twice (times, counters): only its shape is compared
    hash        the answer shows hashes, which no two connections share: only canaries are searched
    describe    a query with the columns of a COPY
    known       why this benign case fails today; counted, never hidden
    dud         why an attack shows nothing even without a gateway (needs rights that the role does not have)
    """

    channel: str
    name: str
    steps: tuple[str, ...]
    flags: dict[str, str]

    @property
    def parameters(self) -> list[str | None] | None:
        found: list[str | None] | None = json.loads(self.flags["parameters"]) if "parameters" in self.flags else None
        return found

    @property
    def last(self) -> str:
        """The last step without its semicolon."""
        return self.steps[-1].rstrip().removesuffix(";")

    @property
    def statement(self) -> Statement | None:
        """The last step's tree; None when it is several statements, or none that can be read."""
        return _single(self.last)


@functools.cache
def _single(sql: str) -> Statement | None:
    try:
        found = parse(sql)
    except Unparsable:
        return None
    return found[0] if len(found) == 1 else None


def load(kind: str) -> list[Case]:
    """`kind`: "attacks" or "benign". Raises ValueError for a file that does not follow the format."""
    return [case for path in sorted((HERE / kind).glob("*.sql")) for case in _file(path)]


def _file(path: Path) -> Iterator[Case]:
    seen = set()
    for block in path.read_text().strip().split("\n\n"):
        lines = [line for line in block.splitlines() if line.strip()]
        comments = [line for line in lines if line.startswith("--")]
        names = [line[2:].strip() for line in comments if not line.startswith("--!")]
        flags: dict[str, Any] = {}
        for line in comments:
            if line.startswith("--!"):
                flag, _, value = line[3:].strip().partition(":")
                flags[flag] = value.strip()
        steps, pending = [], []
        for line in lines:
            if line in comments:
                continue
            pending.append(line)
            if line.rstrip().endswith(";"):
                steps.append("\n".join(pending))
                pending = []
        if len(names) != 1 or not steps or pending or names[0] in seen:
            raise ValueError(f"{path.name}: not a case, or its name is taken: {block[:200]}")
        seen.add(names[0])
        yield Case(path.stem, names[0], tuple(steps), flags)
