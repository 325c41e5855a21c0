"""What the output columns of a statement are made of, as far as its text tells. Used by `hoopfast explain` only.

Nothing is decided here: what may run is the gate's business, and where a column comes from is the server's answer.
"""

from __future__ import annotations

from typing import NamedTuple

from hoopfast.analysis.parse import Statement
from hoopfast.analysis.tree import Body, column, strings, unwrap, walk

COLUMN, STAR, EXPRESSION = "column", "star", "expression"


class Output(NamedTuple):
    """One item of a select list or RETURNING. `reads` are the columns it names, as written."""

    kind: str
    name: str
    reads: tuple[str, ...]


def outputs(statement: Statement) -> tuple[Output, ...]:
    """The items of the statement's own list; () for statements without rows, and for set operations."""
    tag, node = statement.tag, statement.node
    while tag in ("ExplainStmt", "DeclareCursorStmt", "CopyStmt", "PrepareStmt") and "query" in node:
        tag, node = unwrap(node["query"])
    targets = node.get("targetList") if tag == "SelectStmt" else node.get("returningClause", {}).get("exprs")
    return tuple(_output(unwrap(target)[1]) for target in targets or ())


def _output(target: Body) -> Output:
    value = target.get("val")
    fields = column(value)
    reads = dict.fromkeys(
        ".".join(strings(node.get("fields"))) for tag, node in walk("", {"val": value}) if tag == "ColumnRef")
    kind = EXPRESSION if not fields else STAR if fields[-1] == "*" else COLUMN
    name = str(target.get("name") or (fields[-1] if kind == COLUMN else ""))
    return Output(kind, name, tuple(reads))
