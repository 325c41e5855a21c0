"""Walking libpg_query's JSON trees without recursion. Used by the other modules of this package.

A node stands either wrapped (`{"RangeVar": {...}}`) or, where the C struct names its type, bare (`"relation": {...}`).
The types of the bare ones come from pglast's own description of the C structs, so that no place is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pglast import ast

from hoopfast import limits
from hoopfast.analysis.parse import TOO_COMPLEX, Unparsable

Body = dict[str, Any]
_NOT_NODES = frozenset({"Node", "List", "char", "Expr", "Bitmapset"})


def _bare_fields() -> dict[tuple[str, str], str]:
    found = {}
    for tag in dir(ast):
        slots = getattr(getattr(ast, tag), "__slots__", None)
        if isinstance(slots, dict):
            for field, info in slots.items():
                target = info.c_type.rstrip("*")
                if info.c_type.endswith("*") and target not in _NOT_NODES:
                    found[tag, field] = target
    return found


BARE = _bare_fields()


def children(tag: str, body: Body) -> Iterator[tuple[str, str, Body]]:
    """(field, tag, body) of every direct child. A child of unknown type has the tag "" and is walked all the same."""
    for field, value in body.items():
        if type(value) is dict:
            yield (field, *_unwrap(tag, field, value))
        elif type(value) is list:
            for item in value:
                if type(item) is dict:
                    yield (field, *_unwrap(tag, field, item))


def _unwrap(tag: str, field: str, value: Body) -> tuple[str, Body]:
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key[:1].isupper() and type(inner) is dict:
            return key, inner
    return BARE.get((tag, field), ""), value


def walk(tag: str, body: Body) -> Iterator[tuple[str, Body]]:
    """Every node of a tree, the root first. Raises Unparsable when there are more than ANALYSE_MAX_NODES."""
    stack = [(tag, body)]
    budget = limits.ANALYSE_MAX_NODES
    while stack:
        budget -= 1
        if budget < 0:
            raise Unparsable("54001", TOO_COMPLEX)
        here = stack.pop()
        yield here
        if here[0] != "A_Const":
            stack.extend((inner_tag, inner) for _, inner_tag, inner in children(*here))


def unwrap(value: Any) -> tuple[str, Body]:
    """(tag, body) of one wrapped node; ("", {}) when there is none."""
    if type(value) is dict and len(value) == 1:
        ((tag, body),) = value.items()
        if type(body) is dict:
            return tag, body
    return "", {}


def strings(items: Any) -> tuple[str, ...]:
    """The texts of a list of String nodes; "*" for a star."""
    found = []
    for item in items or ():
        tag, body = unwrap(item)
        if tag == "A_Star":
            found.append("*")
        elif tag == "String":
            found.append(str(body.get("sval", "")))
    return tuple(found)


def column(value: Any) -> tuple[str, ...]:
    """The fields of a ColumnRef node, () when `value` is something else."""
    tag, body = unwrap(value)
    return strings(body.get("fields")) if tag == "ColumnRef" else ()


def constant_like(value: Any) -> bool:
    """A literal, a parameter, a cast of one, or an ARRAY of them: it reads nothing."""
    stack = [value]
    while stack:
        tag, body = unwrap(stack.pop())
        if tag in ("A_Const", "ParamRef"):
            continue
        if tag == "TypeCast":
            stack.append(body.get("arg"))
        elif tag == "A_ArrayExpr":
            stack.extend(body.get("elements", ()))
        elif tag == "List":
            stack.extend(body.get("items", ()))
        else:
            return False
    return True


def text_constant(value: Any) -> str | None:
    """The text of a literal (numbers as written); None for anything else."""
    tag, body = unwrap(value)
    if tag == "TypeCast":
        tag, body = unwrap(body.get("arg"))
    if tag == "A_Const":
        for key in ("sval", "ival", "fval", "boolval"):
            if key in body:
                return str(body[key].get(key, 0 if key == "ival" else ""))
    if tag == "String":
        return str(body.get("sval", ""))
    return None


def without_places(tag: str, body: Body) -> tuple[Any, ...]:
    """A tree as a flat tuple without source positions: equal for equal statements, wherever they stood."""
    flat: list[Any] = []
    stack: list[Any] = [(tag, body)]
    while stack:
        here = stack.pop()
        if type(here) is tuple:
            flat.append(here[0])
            stack.append(here[1])
        elif type(here) is dict:
            kept = [key for key in sorted(here) if not key.endswith(("location", "_start", "_end"))]
            flat.append(len(kept))
            stack.extend((key, here[key]) for key in kept)
        elif type(here) is list:
            flat.append(len(here))
            stack.extend(here)
        else:
            flat.append(here)
    return tuple(flat)
