"""Expressions that cannot fail, whatever the values of their columns. Used by `survey`; pure.

A redacted output column is NULL for the client, but the server still computes it: an expression that fails for some
values and not for others would tell them apart. So only what is listed here may be redacted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hoopfast import limits
from hoopfast.analysis.builtins import words
from hoopfast.analysis.tree import Body, constant_like, strings, unwrap

# Of texts, with constants for all other arguments; the counts that make some of them fail are constants then. None
# makes a text much longer: what does not fit into memory fails as well.
TEXT_FUNCTIONS = words("""
upper lower initcap length char_length character_length octet_length bit_length btrim ltrim rtrim reverse md5 left right
translate concat concat_ws quote_literal quote_nullable starts_with strpos ascii split_part lpad rpad substr substring
""")
# Of values of any type.
FUNCTIONS = words("to_char date_trunc extract date_part min max sum avg count bool_and bool_or")
OPERATORS = frozenset({"=", "<>", "<", "<=", ">", ">="})
TEXT_TYPES = frozenset({"text", "varchar"})
TEXT_OIDS = frozenset({25, 1042, 1043})
PLAIN_CALL = frozenset({"funcname", "args", "funcformat", "location", "agg_star", "agg_distinct"})


class Total(NamedTuple):
    """Of an expression that cannot fail: the bodies of its ColumnRefs, those among them that have to be texts, and the
    functions that it calls."""

    references: list[Body]
    texts: list[Body]
    functions: list[str]


def total(value: Any) -> Total | None:
    """None for an expression that may fail."""
    found = Total([], [], [])
    stack: list[tuple[Any, bool]] = [(value, False)]
    budget = limits.TOTAL_MAX_NODES
    while stack:
        budget -= 1
        node, text = stack.pop()
        if budget < 0 or not _step(*unwrap(node), text, stack, found):
            return None
    return found


def _step(tag: str, body: Body, text: bool, stack: list[tuple[Any, bool]], found: Total) -> bool:
    """One node; False when it may fail. `text`: its value is taken for a text."""
    if tag == "ColumnRef":
        found.references.append(body)
        if text:
            found.texts.append(body)
        return strings(body.get("fields"))[-1:] != ("*",)
    if tag == "A_Const":
        return True
    if tag == "CoalesceExpr":
        first, *others = body.get("args", [None])
        stack.append((first, text))
        return all(constant_like(other) for other in others)
    if tag == "TypeCast":
        # To a text is what the type's output function does; one with a length cuts, and does not fail either.
        kind = body.get("typeName", {})
        stack.append((body.get("arg"), False))
        return not TEXT_TYPES.isdisjoint(strings(kind.get("names"))[-1:]) and "arrayBounds" not in kind
    if tag == "A_Expr" and body.get("kind") == "AEXPR_OP":
        return _operator(body, stack)
    return tag == "FuncCall" and _function(body, stack, found)


def _operator(body: Body, stack: list[tuple[Any, bool]]) -> bool:
    name, left, right = strings(body.get("name")), body.get("lexpr"), body.get("rexpr")
    if name == ("||",) and left is not None:
        stack.extend(((left, True), (right, True)))
        return True
    stack.append((left, False))
    return len(name) == 1 and name[0] in OPERATORS and constant_like(right)


def _function(body: Body, stack: list[tuple[Any, bool]], found: Total) -> bool:
    name = strings(body.get("funcname"))
    if not set(body) <= PLAIN_CALL or not name or (len(name) > 1 and name[0] != "pg_catalog"):
        return False                # FILTER, OVER and ORDER BY are conditions
    found.functions.append(name[-1])
    varying = [arg for arg in body.get("args", []) if not constant_like(arg)]
    text = name[-1] in TEXT_FUNCTIONS
    stack.extend((arg, text) for arg in varying)
    if text:
        return len(varying) <= 1 or name[-1] in ("concat", "concat_ws")
    return name[-1] in FUNCTIONS and len(varying) <= 1
