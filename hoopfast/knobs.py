"""What a policy may allow, or forbid, people to do with hidden columns. Made by `policy.snapshot`, used by
`analysis`.

The defaults are safe: with them nothing of a hidden value arrives, whatever the statement. Every knob says in
docs/hidden-columns.md what turning it gives away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from hoopfast.model import Ruling

Derived = Literal["deny", "redact"]             # expressions of hidden columns: refused, or shown as NULL
Control = Literal["none", "eq", "any"]          # conditions: none, = and IN with constants and equi-joins, all
Aggregates = Literal["none", "count", "sum"]    # count(column); with sum also sum() and avg()
Gate = Literal["deny", "approve"]               # what cannot be read, copies of hidden columns, DDL
Errors = Literal["canonical", "strict"]         # without their text, or also without their SQLSTATE
Explain = Literal["plain", "deny"]              # plans of statements that touch hidden columns

# What has to be approved, by its knob; the other refusals are final.
APPROVABLE: Final = ("opaque", "sink", "ddl")


class Handling(msgspec.Struct, frozen=True):
    """The knobs of single columns."""

    derived: Derived = "deny"
    control: Control = "eq"
    aggregates: Aggregates = "count"


class Knobs(msgspec.Struct, frozen=True):
    """The knobs of statements, for one class of people. `approvals` say who may let what pass, by knob."""

    errors: Errors = "canonical"
    explain: Explain = "plain"
    approvals: dict[str, Ruling] = {}


SAFE: Final = Handling()
STRICTEST: Final = Handling(derived="deny", control="none", aggregates="none")
_ORDER: Final = {"deny": 0, "redact": 1, "none": 0, "eq": 1, "any": 2, "count": 1, "sum": 2}


def strictest(handlings: Iterable[Handling]) -> Handling:
    """What holds when a name may mean any of these columns; STRICTEST for none."""
    found = list(handlings)
    if not found:
        return STRICTEST
    return Handling(
        derived=min((one.derived for one in found), key=_ORDER.__getitem__),
        control=min((one.control for one in found), key=_ORDER.__getitem__),
        aggregates=min((one.aggregates for one in found), key=_ORDER.__getitem__),
    )
