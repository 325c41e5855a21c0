"""One statement in every form in which a client can send it. Used by the runner; knows nothing of answers.

A form is a list of units, each answered by one ReadyForQuery. None: the form does not fit the statement.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from tests.adversarial.cases import Case
from tests.support import wire

DML = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
Units = list[bytes]


def _reads(case: Case) -> bool:
    """A statement that returns rows and may stand in a cursor."""
    statement = case.statement
    return statement is not None and statement.tag == "SelectStmt" and "intoClause" not in statement.node


def _returns(case: Case) -> bool:
    statement = case.statement
    return _reads(case) or (statement is not None and statement.tag in DML and "returningClause" in statement.node)


def _raw(case: Case) -> list[bytes | None]:
    return [None if value is None else value.encode() for value in case.parameters or []]


def simple(case: Case) -> Units | None:
    return None if case.parameters is not None else [wire.query(case.last)]


def text(case: Case) -> Units | None:
    if case.statement is None:
        return None
    return [wire.parse(case.last) + wire.bind(_raw(case)) + wire.describe_portal() + wire.execute() + wire.SYNC]


def binary(case: Case) -> Units | None:
    if case.statement is None or case.statement.tag == "CopyStmt":      # what follows would meet a COPY in progress
        return None
    bound = wire.bind(_raw(case), name="adv", result_formats=[1])
    return [wire.parse(case.last, "adv") + wire.describe_statement("adv") + bound + wire.execute()
            + wire.close_statement("adv") + wire.SYNC]


def blind(case: Case) -> Units | None:
    """Nothing is described, rows come a few at a time."""
    if not _reads(case):
        return None
    bound = wire.bind(_raw(case), result_formats=[1])
    return [wire.parse(case.last) + bound + wire.execute(limit=2) + wire.execute() + wire.SYNC]


def cursor(case: Case) -> Units | None:
    if not _reads(case) or case.parameters is not None:
        return None
    return [wire.query(f"DECLARE adv CURSOR FOR {case.last}"), wire.query("FETCH 2 FROM adv; FETCH ALL FROM adv"),
            wire.query("CLOSE adv")]


def binary_cursor(case: Case) -> Units | None:
    if not _reads(case) or case.parameters is not None:
        return None
    declare = f"DECLARE adv BINARY CURSOR FOR {case.last}"
    return [wire.query(declare), wire.parse("FETCH ALL FROM adv") + wire.bind() + wire.execute() + wire.SYNC,
            wire.query("CLOSE adv")]


def prepared(case: Case) -> Units | None:
    statement = case.statement
    if statement is None or case.parameters is not None or not (_reads(case) or statement.tag in DML):
        return None
    return [wire.query(f"PREPARE adv AS {case.last}"), wire.query("EXECUTE adv"), wire.query("DEALLOCATE adv")]


def _crossing(before: str, *after: bytes) -> Callable[[Case], Units | None]:
    """What SQL made, used by messages: one namespace holds both."""
    def crossing(case: Case) -> Units | None:
        if not _reads(case) or case.parameters is not None:
            return None
        return [wire.query(f"{before}{case.last}"), b"".join(after) + wire.SYNC]

    return crossing


def parsed_then_executed(case: Case) -> Units | None:
    """What messages made, used by SQL."""
    if not _reads(case) or case.parameters is not None:
        return None
    return [wire.parse(case.last, "adv") + wire.SYNC, wire.query("EXECUTE adv"), wire.query("DEALLOCATE adv")]


def _copying(options: str) -> Callable[[Case], Units | None]:
    def copy(case: Case) -> Units | None:
        if not _returns(case) or case.parameters is not None:
            return None
        return [wire.query(f"COPY ({case.last}) TO STDOUT {options}")]

    return copy


def _wrapped(before: str, after: str) -> Callable[[Case], Units | None]:
    def wrapped(case: Case) -> Units | None:
        if not _reads(case) or case.parameters is not None:
            return None
        return [wire.query(f"{before}{case.last}{after}")]

    return wrapped


def explained(case: Case) -> Units | None:
    if not _returns(case) or case.parameters is not None:
        return None
    return [wire.query(f"EXPLAIN (COSTS off) {case.last}")]


# In each of these a benign statement has to give what it gives without a gateway.
FAITHFUL: dict[str, Callable[[Case], Units | None]] = {
    "simple": simple, "text": text, "binary": binary, "blind": blind, "cursor": cursor, "binary_cursor": binary_cursor,
    "prepared": prepared, "copy": _copying(""), "copy_binary": _copying("(FORMAT binary)"),
}
# Where names made by SQL meet those made by messages. They say little of the statement, so one list is enough for them.
DECLARED = "DECLARE adv CURSOR FOR "
CROSSING: dict[str, Callable[[Case], Units | None]] = {
    "portal": _crossing(DECLARED, wire.describe_portal("adv"), wire.execute("adv"), wire.close_portal("adv")),
    "blind portal": _crossing(DECLARED, wire.execute("adv", 2), wire.execute("adv"), wire.close_portal("adv")),
    "binary portal": _crossing("DECLARE adv BINARY CURSOR FOR ", wire.execute("adv"), wire.close_portal("adv")),
    "bound": _crossing("PREPARE adv AS ", wire.bind(name="adv", result_formats=[1]), wire.execute(),
                       wire.close_statement("adv")),
    "executed": parsed_then_executed,
}
# And these turn one attack into more.
HOSTILE: dict[str, Callable[[Case], Units | None]] = FAITHFUL | {
    "copy_csv": _copying("(FORMAT csv, HEADER, FORCE_QUOTE *)"), "explain": explained,
    "subquery": _wrapped("SELECT * FROM (", ") AS adv"), "cte": _wrapped("WITH adv AS MATERIALIZED (", ") TABLE adv"),
    "array": _wrapped("SELECT ARRAY(SELECT adv::text FROM (", ") AS adv)"),
    "table": _wrapped("CREATE TEMP TABLE adv AS ", "; TABLE adv"),
}
# What came before decides such an attack, so the form matters less, and definitions are slow to judge.
LAST_OF_MANY = ("simple", "text", "binary", "copy")
# `make test` sends these, and one of the others, which one depends on the name.
ALWAYS = ("simple", "text", "binary", "cursor", "prepared", "copy")
AT_TIMES = tuple(sorted(HOSTILE.keys() - ALWAYS))


def hostile(case: Case, *, thorough: bool = True) -> Iterator[tuple[str, Units]]:
    """The forms of an attack that fit; without `thorough` fewer of them."""
    chosen = {*ALWAYS, AT_TIMES[zlib.crc32(case.name.encode()) % len(AT_TIMES)]}
    for form, make in HOSTILE.items():
        if (form in LAST_OF_MANY) if len(case.steps) > 1 else (thorough or form in chosen):
            units = make(case)
            if units is not None:
                yield form, units
