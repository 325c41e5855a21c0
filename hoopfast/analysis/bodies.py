"""Which user functions are harmless in sessions with masks, judged by their bodies. Used by `control.catalog`; pure.

A body is read as a set of names only (PostgreSQL's lexer, no grammar). It is clean when none of its names is a
relation of the closure, a function that is not clean itself or a built-in that is not on the allow-list, and
nothing is EXECUTEd.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hoopfast.analysis.builtins import CONSTANT_ONLY, PURE_EXTENSIONS
from hoopfast.analysis.parse import identifiers

READABLE = frozenset({"sql", "plpgsql"})
# `execute` runs text; the others change what the rest of the session's texts mean.
DYNAMIC = frozenset({"execute"})


class Function(msgspec.Struct, frozen=True):
    """One row of pg_proc. `kind` is prokind, `body` prosrc or the SQL-standard body, `extension` its owner or ""."""

    oid: int
    name: str
    language: str
    kind: str
    body: str
    extension: str


def clean_functions(functions: Iterable[Function], forbidden: frozenset[str]) -> frozenset[int]:
    """OIDs of the clean ones. `forbidden` are names of relations of the closure and of built-ins that may not run."""
    clean: set[int] = set()
    candidates: dict[int, tuple[str, frozenset[str]]] = {}
    dirty: set[str] = set()
    for function in functions:
        names = _names(function)
        if names is None or names & forbidden or names & DYNAMIC or names & CONSTANT_ONLY:
            dirty.add(function.name)
        elif function.language in READABLE:
            candidates[function.oid] = (function.name, names)
        else:
            clean.add(function.oid)
    # A function that names a dirty one is dirty too. Every round removes at least one candidate, so it ends.
    while True:
        fallen = [oid for oid, (_, names) in candidates.items() if names & dirty]
        if not fallen:
            return frozenset(clean | set(candidates))
        for oid in fallen:
            dirty.add(candidates.pop(oid)[0])


def _names(function: Function) -> frozenset[str] | None:
    """The names in a body; None when it cannot be read."""
    if function.language in READABLE and function.kind in "fpw":
        return identifiers(function.body) if function.body else None
    return frozenset() if function.extension in PURE_EXTENSIONS else None
