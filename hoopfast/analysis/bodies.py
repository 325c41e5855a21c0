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


def verdicts(functions: Iterable[Function], closure: frozenset[str], unsafe: frozenset[str]) -> dict[int, str]:
    """By OID, why a function may not run; "" for the clean. `closure` are names of relations, `unsafe` of built-ins."""
    found: dict[int, str] = {}
    names_of: dict[int, tuple[str, frozenset[str]]] = {}
    dirty: set[str] = set()
    for function in functions:
        names = _names(function)
        found[function.oid] = reason = _reason(function, names, closure, unsafe)
        if reason:
            dirty.add(function.name)
        elif names:
            names_of[function.oid] = (function.name, names)
    # A function that names a dirty one is dirty too. Every round removes at least one candidate, so it ends.
    while True:
        fallen = {oid: min(names & dirty) for oid, (_, names) in names_of.items() if names & dirty}
        if not fallen:
            return found
        for oid, culprit in fallen.items():
            found[oid] = f"names function {culprit}"
            dirty.add(names_of.pop(oid)[0])


def _reason(function: Function, names: frozenset[str] | None, closure: frozenset[str], unsafe: frozenset[str]) -> str:
    if names is None:
        return f"language {function.language}: its code cannot be read" if function.language not in READABLE else (
            "its code cannot be read")
    for what, found in (("names", names & closure), ("calls", names & unsafe), ("calls", names & CONSTANT_ONLY)):
        if found:
            return f"{what} {min(found)}"
    return "runs text that it makes (EXECUTE)" if names & DYNAMIC else ""


def _names(function: Function) -> frozenset[str] | None:
    """The names in a body; None when it cannot be read."""
    if function.language in READABLE and function.kind in "fpw":
        return identifiers(function.body) if function.body else None
    return frozenset() if function.extension in PURE_EXTENSIONS else None


def mentions(function: Function) -> frozenset[str]:
    """The names in its body, as far as it can be read."""
    return _names(function) or frozenset()
