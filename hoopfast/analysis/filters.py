"""Whether an UPDATE, DELETE or MERGE is restricted by a column of its target. Used by `classify`.

"Has a WHERE" is not "is filtered": a filter compares a column of the target with something that is not the same table.
Doubt counts as unfiltered, because the rule that asks is a guard against accidents and their disguises.
"""

from __future__ import annotations

from typing import Any

from hoopfast.analysis.tree import Body, column, strings, unwrap, walk

COMPARISONS = frozenset({
    "AEXPR_OP", "AEXPR_OP_ANY", "AEXPR_OP_ALL", "AEXPR_IN", "AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR",
    "AEXPR_BETWEEN",
    "AEXPR_BETWEEN_SYM", "AEXPR_NOT_BETWEEN", "AEXPR_NOT_BETWEEN_SYM", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT",
})


class _Target:
    """How columns of the written table can be named in this statement."""

    def __init__(self, relation: Body, sources: list[Any]) -> None:
        self.relname = str(relation.get("relname", ""))
        self.names = {self.relname if "alias" not in relation else str(relation["alias"].get("aliasname", ""))}
        self.foreign: set[str] = set()      # names of sources that are other relations
        self.alone = not sources
        for source in sources:
            for tag, node in walk("", {"source": source}):
                if tag == "RangeVar":
                    name = str(node.get("alias", {}).get("aliasname") or node.get("relname", ""))
                    if node.get("relname") != self.relname:
                        self.foreign.add(name)
                elif tag in ("RangeSubselect", "RangeFunction"):
                    inner = {n.get("relname") for t, n in walk(tag, node) if t == "RangeVar"}
                    if self.relname not in inner:
                        self.foreign.add(str(node.get("alias", {}).get("aliasname", "")))

    def sides(self, value: Any) -> tuple[bool, bool, bool]:
        """(names a column of the target, names one of another relation, names something that may be the target's)."""
        target = other = unsure = False
        for tag, node in walk("", {"value": value}):
            if tag != "ColumnRef":
                continue
            fields = strings(node.get("fields"))
            if len(fields) == 1:
                target = target or self.alone
                unsure = unsure or not self.alone
            elif fields[-2] in self.names:
                target = True
            elif fields[-2] in self.foreign:
                other = True
            else:
                unsure = True
        return target, other, unsure


def unfiltered(tag: str, node: Body) -> bool:
    """True when the statement may write every row of its target."""
    relation = node.get("relation", {})
    if tag == "InsertStmt":
        return _upserts_itself(node)
    if tag == "MergeStmt":
        return _merge_unfiltered(node)
    sources = node.get("fromClause" if tag == "UpdateStmt" else "usingClause", [])
    return not _filters(node.get("whereClause"), _Target(relation, sources))


def _merge_unfiltered(node: Body) -> bool:
    target = _Target(node.get("relation", {}), [node.get("sourceRelation")])
    joined = _filters(node.get("joinCondition"), target)
    for clause in node.get("mergeWhenClauses", ()):
        _, when = unwrap(clause)
        if when.get("commandType") not in ("CMD_UPDATE", "CMD_DELETE"):
            continue
        by_source = when.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE"
        if not (joined and not by_source) and not _filters(when.get("condition"), target):
            return True
    return False


def _upserts_itself(node: Body) -> bool:
    if node.get("onConflictClause", {}).get("action") != "ONCONFLICT_UPDATE":
        return False
    if "whereClause" in node["onConflictClause"]:
        return False
    tag, query = unwrap(node.get("selectStmt"))
    name = node.get("relation", {}).get("relname")
    reads = any(t == "RangeVar" and n.get("relname") == name for t, n in walk(tag, query))
    if not reads:
        return False
    first = next(iter(query.get("fromClause", ())), None)
    first_tag, first_body = unwrap(first)
    if first_tag != "RangeVar":
        return True
    return not _filters(query.get("whereClause"), _Target(first_body, query.get("fromClause", [])[1:]))


def _filters(condition: Any, target: _Target) -> bool:
    """Whether a condition restricts the rows of the target: AND needs one part that does, OR and NOT need all."""
    pending: list[tuple[str, Any]] = [("visit", condition)]
    values: list[bool] = []
    while pending:
        step, value = pending.pop()
        if step in ("any", "all"):
            parts = [values.pop() for _ in range(value)]
            values.append(any(parts) if step == "any" else all(parts))
            continue
        tag, node = unwrap(value)
        if tag == "BoolExpr":
            args = node.get("args", [])
            pending.append(("any" if node.get("boolop") == "AND_EXPR" else "all", len(args)))
            pending.extend(("visit", arg) for arg in args)
        else:
            values.append(_restricts(tag, node, target))
    return values[0]


def _restricts(tag: str, node: Body, target: _Target) -> bool:
    if tag == "CurrentOfExpr":
        return True
    if tag == "A_Expr" and node.get("kind") in COMPARISONS:
        return _compares(node.get("lexpr"), node.get("rexpr"), target)
    if tag == "NullTest":
        return node.get("nulltesttype") == "IS_NULL" and target.sides(node.get("arg"))[0]
    if tag == "BooleanTest":
        return target.sides(node.get("arg"))[0]
    if tag == "ColumnRef":
        return target.sides({tag: node})[0]
    if tag == "SubLink":
        return _subquery_restricts(node, target)
    return False


def _compares(left: Any, right: Any, target: _Target) -> bool:
    left_tag, _ = unwrap(left)
    right_tag, right_node = unwrap(right)
    if right_tag == "SubLink":
        return target.sides(left)[0] and _outside(right_node, target)
    if left_tag == "SubLink":
        return target.sides(right)[0] and _outside(unwrap(left)[1], target)
    for mine, theirs in ((target.sides(left), target.sides(right)), (target.sides(right), target.sides(left))):
        if mine[0] and not theirs[0] and not theirs[2]:
            return True
    return False


def _subquery_restricts(node: Body, target: _Target) -> bool:
    if node.get("subLinkType") == "EXISTS_SUBLINK":
        tag, query = unwrap(node.get("subselect"))
        names = {n.get("relname") for t, n in walk(tag, query) if t == "RangeVar"}
        qualified = any(f[-2] in target.names for t, n in walk(tag, query) if t == "ColumnRef"
                        for f in [strings(n.get("fields"))] if len(f) > 1)
        return qualified and target.relname not in names
    return bool(column(node.get("testexpr"))) and target.sides(node.get("testexpr"))[0] and _outside(node, target)


def _outside(sublink: Body, target: _Target) -> bool:
    """A subquery that reads another table, or this one under a filter of its own."""
    tag, query = unwrap(sublink.get("subselect"))
    for inner_tag, inner in walk(tag, query):
        if inner_tag == "RangeVar" and inner.get("relname") == target.relname:
            return _filters(query.get("whereClause"), _Target(inner, query.get("fromClause", [])[1:]))
    return True
