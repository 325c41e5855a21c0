"""Views that may be read like tables: which of their columns show masked ones. Used by `control.views`; pure.

A view is *clear* when the gate would let a person for whom everything is masked run its definition as a query. Then
the server's word on where the definition's columns come from holds for the view's columns too: one without origin is
computed from clean columns only. A clear view is a relation with masked columns of its own, under its own OID, which
is what the server reports for queries over it. Every other view over masked tables stays closed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hoopfast.analysis import gate
from hoopfast.analysis.catalog import Catalog, Column, Relation
from hoopfast.analysis.flow import Closure
from hoopfast.analysis.parse import Statement, Unparsable, parse
from hoopfast.model import MaskedColumn

Origin = tuple[int, int]                    # table OID, attribute number; (0, 0) for none


def definition(text: str) -> Statement | None:
    """The query of a view, from pg_get_viewdef; None when it cannot be read."""
    try:
        found = parse(text)
    except Unparsable:
        return None
    return found[0] if len(found) == 1 and found[0].tag == "SelectStmt" else None


def everything_masked(catalog: Catalog) -> Closure:
    """The catalog as somebody sees it for whom every column of the policy is masked."""
    return Closure(catalog, (
        MaskedColumn(table_oid=relation.oid, attnum=column.attnum, mask=0)
        for relation in catalog.relations for column in relation.columns if column.policy))


def columns_without_origin(query: Statement, closure: Closure) -> int | None:
    """How many columns of a clear view may have no origin; None: the view is not clear."""
    try:
        (one,) = gate.judge((query,), closure).statements
    except Unparsable:
        return None
    if one.positions:
        return None
    if one.outcome == gate.CLEAN or (one.outcome == gate.TOUCHED and one.zero_origin is None):
        return len(query.node.get("targetList", ())) or gate.TARGETS_MAX
    return one.zero_origin if one.outcome == gate.TOUCHED else None


def why_closed(query: Statement | None, closure: Closure) -> str:
    """Why a view stays closed, for people."""
    if query is None:
        return "its definition cannot be read"
    try:
        (one,) = gate.judge((query,), closure).statements
    except Unparsable as fault:
        return fault.reason
    if one.outcome == gate.UNKNOWN:
        return f"it reads {', '.join(one.unknown)}, which the catalog does not have"
    return one.reason or "the server says of its columns what the analysis does not expect"


def cleared(catalog: Catalog, view: Relation, columns: Sequence[Column], origins: Sequence[Origin]) -> Relation | None:
    """The view as a relation of its own; None when the server's columns are not the ones the catalog has."""
    known = {(relation.oid, column.attnum): column for relation in catalog.relations for column in relation.columns}
    closed = {relation.oid for relation in catalog.relations if relation.reads}
    if len(columns) != len(origins) or any(oid and (not attnum or oid in closed) for oid, attnum in origins):
        return None
    shown = []
    for column, origin in zip(columns, origins, strict=True):
        source = known.get(origin)
        shown.append(msgspec.structs.replace(
            column, policy=tuple(sorted({*column.policy, *(source.policy if source else ())})),
            derived=source.derived if source else column.derived))
    return msgspec.structs.replace(view, columns=tuple(shown), reads=())
