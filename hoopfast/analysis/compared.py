"""Comparisons of hidden columns, in terms of the digests that masking views have. Pure; used by `rewrite` only.

Also the small tools to make pieces of trees from SQL.
"""

from __future__ import annotations

from typing import Any

from pglast import ast
from pglast.parser import parse_sql

from hoopfast.analysis.flow import Refused
from hoopfast.analysis.scopes import Source, fields
from hoopfast.analysis.shields import ShieldColumn, digest, quoted

ROW = "hf"                              # the view's alias in look-ups: nobody's names are looked for there


def digests(column: ShieldColumn, right: Any, kind: str, source: Source) -> tuple[str, dict[str, Any]]:
    """The right side of a comparison with the digest column: SQL with holes for the constants."""
    home = source.home
    if kind == "one":
        return f"= {digest(column.same.format(quoted('?0')), home)}", {"?0": right}
    if kind == "any" and not isinstance(right, ast.A_ArrayExpr):
        one = digest(column.same.format('"?v"."?v"'), home)
        return (f'= ANY (ARRAY (SELECT {one} FROM pg_catalog.unnest(CAST("?0" AS {column.plain}[])) '
                'AS "?v" ("?v")))'), {"?0": right}
    items = right.elements or () if isinstance(right, ast.A_ArrayExpr) else right
    each = [digest(column.same.format(quoted(f"?{n}")), home) for n in range(len(items))]
    holes = {f"?{n}": item for n, item in enumerate(items)}
    listed = ", ".join(each)
    return (f"IN ({listed})" if each else "= ANY ('{}'::pg_catalog.bytea[])"), holes


def joined(source: Source, column: ShieldColumn, other: Source, second: ShieldColumn) -> Any:
    """An equi-join of two hidden columns."""
    if "target" in (source.kind, other.kind) or not column.same or column.same_as != second.same_as:
        raise Refused(f'column "{column.name}" is hidden from you and cannot join these tables in enforced mode',
                      "Leave the condition out.")
    for one, of in ((source, column), (other, second)):
        one.read = True
        one.extras[of.digest] = None
    left, right = (f"{quoted(one.name)}.{quoted(of.digest)}" for one, of in ((source, column), (other, second)))
    return template(f"{left} = {right}", {})


def looked_up(source: Source, condition: str, holes: dict[str, Any]) -> Any:
    """A condition on hidden columns of a DML target: whether its key is among those of which the view says so.

    By key, where there is one: a row that somebody else changes meanwhile has another ctid and would be missed.
    """
    shield = source.shield
    assert shield is not None
    key = shield.key or shield.system[:2]
    if not key:
        raise Refused(f'rows of view "{shield.table}" cannot be found by hidden columns in enforced mode')
    outer = ", ".join(f"{quoted(source.name)}.{quoted(name)}" for name in key)
    inner = ", ".join(f"{ROW}.{quoted(name)}" for name in key)
    query = f"SELECT {inner} FROM {shield.qualified()} AS {ROW} WHERE {condition}"
    return template(f"({outer}) IN ({query})", holes)


def renamed(hides: frozenset[str], names: Any) -> frozenset[str]:
    """Which columns are hidden ones once a list of names has renamed them: any may be."""
    return hides | {name.sval for name in names or ()} if hides else hides


def names_in(node: Any) -> set[tuple[str, ...]]:
    """All column references in a tree."""
    found: set[tuple[str, ...]] = set()
    stack = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, tuple | list):
            stack.extend(here)
        elif isinstance(here, ast.ColumnRef):
            found.add(fields(here)[-2:])
        elif isinstance(here, ast.Node):
            stack.extend(getattr(here, slot) for slot in here)
    return found


def target_of(text: str) -> Any:
    query: Any = parse_sql(f"SELECT {text}")[0].stmt
    return query.targetList[0]


def expression(text: str) -> Any:
    return target_of(text).val


def template(text: str, holes: dict[str, Any]) -> Any:
    """The tree of an expression, with trees put in for column references with the names of `holes`."""
    def fill(node: Any) -> Any:
        if isinstance(node, tuple | list):
            return tuple(fill(item) for item in node)
        if isinstance(node, ast.ColumnRef) and len(fields(node)) == 1 and fields(node)[0] in holes:
            return holes[fields(node)[0]]
        if isinstance(node, ast.Node):
            for slot in node:
                value = getattr(node, slot)
                if isinstance(value, ast.Node | tuple | list):
                    setattr(node, slot, fill(value))
        return node

    return fill(expression(text))
