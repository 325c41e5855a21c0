"""What the gateway would make of a statement, without running it: entry, rules, masks. Pure.

The same decisions as the worker's verdict desk takes, for people who write policies (`hoopfast explain`, `policy test`,
`policy diff`). What only the database can say is left open, and said to be: without a catalog nobody knows whether
hidden columns let a statement pass, and without its description nobody knows the origins of its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from hoopfast.analysis import gate
from hoopfast.analysis.catalog import Catalog, Hidden, hide_for
from hoopfast.analysis.classify import facts, function_call_facts
from hoopfast.analysis.flow import Closure
from hoopfast.analysis.gate import Judgement
from hoopfast.analysis.parse import Statement, Unparsable, parse
from hoopfast.analysis.settings import assigned
from hoopfast.knobs import Knobs
from hoopfast.model import Client, Frozen, Identity, Ruling, StatementFacts
from hoopfast.policy.snapshot import MASKING, ColumnMask, Snapshot, Step, also_held
from hoopfast.protocol import sqlstate
from hoopfast.protocol.settings import unreadable

NO_ENTRY: Final = "no-entry"
ENTER: Final = "enter"


class Preview(Frozen, frozen=True):
    """`verdict`: no-entry | enter (without a statement) | allow | limit | warn | deny | approve.

    `misread`: our grammar cannot read it, so the server is asked for its own error. `open_question`: what the database
    would have to be asked before the verdict is sure; "" when it is.
    """

    verdict: str
    rule: str = ""
    reason: str = ""
    hint: str = ""
    ruling: Ruling = Ruling(action="allow")
    statements: tuple[Statement, ...] = ()
    facts: tuple[StatementFacts, ...] = ()
    masks: tuple[ColumnMask, ...] = ()
    judgement: Judgement | None = None
    misread: bool = False
    open_question: str = ""


class Situation(Frozen, frozen=True):
    """Who, where, from where and when. `now` in unix seconds; None: not known."""

    identity: Identity
    connection: str
    client: Client = Client()
    now: float | None = None


def hidden_from(snapshot: Snapshot, situation: Situation, catalog: Catalog | None) -> Hidden:
    """The catalog's columns that are masked for these people."""
    return hide_for(catalog, snapshot.masks_for(situation.identity, situation.connection))


def preview(
    snapshot: Snapshot, situation: Situation, sql: str | None, catalog: Catalog | None = None, *, masks: bool = True
) -> Preview:
    """Judge one query string (None: whether somebody may enter at all). `masks=False` asks the rules only."""
    if not snapshot.may_enter(situation.identity, situation.connection):
        return Preview(verdict=NO_ENTRY, reason="no access rule lets this person in here")
    hidden = snapshot.masks_for(situation.identity, situation.connection)
    if sql is None:
        return Preview(verdict=ENTER, masks=hidden)
    try:
        statements = parse(sql)
        found = facts(statements)
    except Unparsable as fault:
        return Preview(verdict="deny", reason=fault.reason, hint=fault.hint, masks=hidden,
                       misread=fault.sqlstate == sqlstate.SYNTAX_ERROR)
    if hint := _changes_reading(statements):
        return Preview(verdict="deny", reason="setting", hint=hint, statements=statements, facts=found, masks=hidden)
    ruling = ruled(snapshot, situation, found)
    seen = Preview(verdict=ruling.action, rule=ruling.rule, reason=ruling.reason, ruling=ruling, statements=statements,
                   facts=found, masks=hidden)
    if ruling.action == "deny" or not hidden or not masks:
        return seen
    knobs = snapshot.knobs_for(situation.identity, situation.connection)
    return _masked(seen, hidden_from(snapshot, situation, catalog), catalog, knobs)


def _changes_reading(statements: tuple[Statement, ...]) -> str:
    """What to do instead of a setting with which the gateway could not read later statements; "" without one."""
    settings = (assigned(one.node) for one in statements if one.tag == "VariableSetStmt")
    return next((hint for name, value in settings if (hint := unreadable(name, value))), "")


def ruled(snapshot: Snapshot, situation: Situation, found: tuple[StatementFacts, ...]) -> Ruling:
    """What the rules alone say; facts of a FunctionCall are `function_call_facts()`."""
    return snapshot.decide(situation.identity, situation.connection, found, situation.client, situation.now)


def traced(snapshot: Snapshot, situation: Situation, found: StatementFacts) -> tuple[Step, ...]:
    """What each rule, in order, has to do with one statement."""
    return snapshot.trace(situation.identity, situation.connection, found, situation.client, situation.now)


def read_by_the_server(seen: Preview, trouble: str) -> Preview:
    """The preview of a text that our grammar cannot read, after the server has; `trouble` is its error or ""."""
    if trouble:
        return msgspec.structs.replace(seen, reason="it is no SQL for the server either, whose error is the answer")
    return msgspec.structs.replace(
        seen, reason=f"the server can read it and the gateway cannot: {seen.reason}",
        hint="The server's dialect is newer than the gateway's, which lets nothing pass unread: update hoopfast.")


def with_origins(seen: Preview, hidden: Hidden, catalog: Catalog | None, origins: Sequence[tuple[int, int]]) -> Preview:
    """The preview of one statement once the server has said where its columns come from: (table OID, attribute number),
    0 for none. The gateway refuses what has more columns without origin than the analysis has proven clean."""
    judged = seen.judgement
    if judged is None or catalog is None or judged.outcome != gate.TOUCHED or len(judged.statements) != 1:
        return seen
    allowed, views = judged.statements[0].zero_origin, Closure(catalog, hidden.columns, unfit=hidden.unfit).view_oids
    computed = sum(not table for table, _ in origins)
    rows = any(table and (not number or table in views) for table, number in origins)
    if rows or (allowed is not None and computed > allowed):
        return msgspec.structs.replace(
            seen, verdict="deny", rule=MASKING, reason="its output columns may hold hidden values",
            hint="Name plain columns of tables.")
    for position in judged.statements[0].positions:
        if not origins[position - 1 : position] or origins[position - 1] in hidden.names:
            return msgspec.structs.replace(
                seen, verdict="deny", rule=MASKING, hint="Name the column to sort or group by.",
                reason=f"sorting or grouping by position {position} would use a hidden column")
    return seen


def _masked(seen: Preview, hidden: Hidden, catalog: Catalog | None, knobs: Knobs) -> Preview:
    if catalog is None:
        if all(one.tag in gate.HARMLESS for one in seen.statements):
            return seen                 # whatever the catalog says
        return msgspec.structs.replace(
            seen, open_question="columns are hidden from this person here, so it also depends on the catalog")
    try:
        closure = Closure(catalog, hidden.columns, knobs, hidden.handling, unfit=hidden.unfit)
        judgement = gate.judge(seen.statements, closure)
    except Unparsable as fault:
        return msgspec.structs.replace(seen, verdict="deny", rule=MASKING, reason=fault.reason, hint=fault.hint)
    held = knobs.approvals.get(judgement.knob)
    if judgement.outcome == gate.REFUSED and held is not None and len(seen.statements) == 1:
        ruling = also_held(seen.ruling, msgspec.structs.replace(held, reason=judgement.reason))
        return msgspec.structs.replace(seen, verdict=ruling.action, rule=ruling.rule, reason=ruling.reason,
                                       hint=judgement.hint, ruling=ruling, judgement=judgement)
    if judgement.outcome == gate.REFUSED:
        return msgspec.structs.replace(seen, verdict="deny", rule=MASKING, reason=judgement.reason, hint=judgement.hint,
                     judgement=judgement)
    if judgement.outcome == gate.UNKNOWN:
        names = ", ".join(name for one in judgement.statements for name in one.unknown)
        return msgspec.structs.replace(seen, judgement=judgement, open_question=f"the catalog has no relation {names}")
    return msgspec.structs.replace(seen, judgement=judgement)


__all__ = [
    "ENTER", "MASKING", "NO_ENTRY", "Preview", "Situation", "function_call_facts", "hidden_from", "preview",
    "read_by_the_server", "ruled",
    "traced", "with_origins",
]
