"""Which constants of a statement can be others without another verdict. Pure; called by the verdict desk.

A constant is free where no rule of policy and no check of this package looks at its value, and where PostgreSQL's
grammar gives every value the same tree: a value that a column is compared with, a value that is stored, a row limit.
All others (arguments of functions, output columns, options, positions in ORDER BY) are part of what a statement is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hoopfast.analysis.parse import Statement
from hoopfast.analysis.tree import Body, column, strings, unwrap, walk

# Kinds of statements whose values say nothing of what they do.
PLAIN = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "TransactionStmt"})
COMPARED = frozenset({"=", "<>", "<", ">", "<=", ">="})
LISTED = frozenset({"AEXPR_IN", "AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN", "AEXPR_BETWEEN_SYM", "AEXPR_NOT_BETWEEN_SYM"})
MATCHED = frozenset({"AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT"})
CHANGED = frozenset({"+", "-"})
CAST_TO = frozenset({
    "bool", "int2", "int4", "int8", "numeric", "float4", "float8", "text", "varchar", "bpchar", "uuid", "date", "time",
    "timetz", "timestamp", "timestamptz", "interval",
})


def free_constants(sql: str, statements: Sequence[Statement]) -> list[int]:
    """Where they begin: byte offsets in the UTF-8 text, ascending. A sign is not part of a constant."""
    if any(statement.tag not in PLAIN for statement in statements):
        return []
    raw = sql.encode()
    found = set()
    for statement in statements:
        for tag, body in walk(statement.tag, statement.node):
            for value in _values(tag, body):
                place = _place(value, raw)
                if place is not None:
                    found.add(place)
    return sorted(found)


def _values(tag: str, body: Body) -> Iterator[Any]:
    """The expressions at free places right below a node."""
    if tag == "A_Expr":
        yield from _compared(body)
    elif tag == "SelectStmt":
        yield body.get("limitCount")
        yield body.get("limitOffset")
    elif tag == "InsertStmt":
        _, query = unwrap(body.get("selectStmt"))
        for row in query.get("valuesLists", ()):
            yield from unwrap(row)[1].get("items", ())
    elif tag == "UpdateStmt":
        for target in body.get("targetList", ()):
            yield unwrap(target)[1].get("val")


def _compared(body: Body) -> Iterator[Any]:
    left, right = body.get("lexpr"), body.get("rexpr")
    kind, name = body.get("kind"), "".join(strings(body.get("name")))
    if not column(left):
        if column(right) and kind == "AEXPR_OP" and name in COMPARED:
            yield left
    elif kind in LISTED:
        yield from unwrap(right)[1].get("items", ())
    elif kind == "AEXPR_OP_ANY" and name == "=":
        tag, array = unwrap(right)
        yield from array.get("elements", ()) if tag == "A_ArrayExpr" else (right,)
    elif kind in MATCHED or (kind == "AEXPR_OP" and name in COMPARED | CHANGED):
        yield right


def _place(value: Any, raw: bytes) -> int | None:
    tag, body = unwrap(value)
    if tag == "TypeCast":
        name = strings(body.get("typeName", {}).get("names"))
        if not name or name[-1] not in CAST_TO or name[:-1] not in ((), ("pg_catalog",)):
            return None
        tag, body = unwrap(body.get("arg"))
    if tag != "A_Const" or not body.keys() & {"ival", "fval", "sval"}:
        return None
    # The decoder leaves out what is 0, and a statement that begins with a constant has none.
    place = int(body.get("location", 0))
    if place < 0:
        return None             # nowhere in the text, like the 1 of FETCH FIRST ROW
    return place + 1 if raw[place : place + 1] == b"-" else place
