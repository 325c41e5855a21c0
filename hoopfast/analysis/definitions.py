"""Definitions on tables with masked columns that leave those columns alone. Used by `gate`; pure.

Adding a column, an index or a foreign key is daily work of migrations. Expressions in them are judged by `flow` as any
other; what is left are columns that stand by their bare name, and the tables themselves: both are listed here, and what
is not on the lists is refused.
"""

from __future__ import annotations

from collections.abc import Collection

from hoopfast.analysis.tree import Body, strings, walk

COMMANDS = frozenset({
    "AT_AddColumn", "AT_DropColumn", "AT_ColumnDefault", "AT_DropNotNull", "AT_SetNotNull", "AT_AddConstraint",
    "AT_DropConstraint", "AT_ValidateConstraint",
})
CONSTRAINTS = frozenset({
    "CONSTR_NULL", "CONSTR_NOTNULL", "CONSTR_DEFAULT", "CONSTR_IDENTITY", "CONSTR_CHECK", "CONSTR_PRIMARY",
    "CONSTR_UNIQUE", "CONSTR_FOREIGN", "CONSTR_ATTR_DEFERRABLE", "CONSTR_ATTR_NOT_DEFERRABLE", "CONSTR_ATTR_DEFERRED",
    "CONSTR_ATTR_IMMEDIATE",
})


def leaves_alone(tag: str, node: Body, tables: Collection[str], columns: Collection[str]) -> bool:
    """Whether a definition touches `tables` (bare names) in no more than a harmless way, and none of `columns`."""
    if tag == "AlterTableStmt" and node.get("objtype") != "OBJECT_TABLE":
        return False
    # A new table may only refer to them: LIKE and INHERITS would make another with the same columns.
    places = [node["relation"]] if tag in ("AlterTableStmt", "IndexStmt") else []
    if tag not in ("AlterTableStmt", "IndexStmt", "CreateStmt"):
        return False
    met = []
    for inner_tag, body in walk(tag, node):
        if inner_tag == "RangeVar" and body.get("relname") in tables:
            met.append(body)
        elif inner_tag == "Constraint":
            table = body.get("pktable", {})
            if body.get("contype") not in CONSTRAINTS or (table.get("relname") in tables and not body.get("pk_attrs")):
                return False            # without a list it is the primary key, which nobody here knows
            places.append(table)
        if not columns_of(inner_tag, body).isdisjoint(columns):
            return False
        if inner_tag == "AlterTableCmd" and body.get("subtype") not in COMMANDS:
            return False
    return all(any(body is place for place in places) for body in met)


def columns_of(tag: str, body: Body) -> frozenset[str]:
    """The columns that a node names without a ColumnRef."""
    if tag in ("IndexElem", "AlterTableCmd"):
        return frozenset({str(body["name"])} if "name" in body else ())
    if tag == "ColumnDef":
        return frozenset({str(body.get("colname", ""))})
    if tag == "Constraint":
        lists = ("keys", "including", "pk_attrs", "fk_attrs", "fk_del_set_cols")
        return frozenset(name for field in lists for name in strings(body.get(field)))
    return frozenset()
