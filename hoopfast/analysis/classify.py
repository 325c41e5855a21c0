"""What the statements of a query string are and touch, as `model.StatementFacts`. Called by the verdict desk.

Kinds are found wherever they hide: CTEs, EXPLAIN ANALYZE, PREPARE, COPY (query), rules, CREATE SCHEMA elements.
A statement kind that is not in these tables is opaque.
"""

from __future__ import annotations

from collections.abc import Sequence

from hoopfast.analysis.columns import Columns
from hoopfast.analysis.filters import unfiltered
from hoopfast.analysis.parse import Statement
from hoopfast.analysis.touches import Touches
from hoopfast.analysis.tree import Body, unwrap
from hoopfast.model import StatementFacts

# Tags whose kind needs no look inside.
PLAIN: dict[str, tuple[str, ...]] = {
    "SelectStmt": ("select",), "InsertStmt": ("insert",), "UpdateStmt": ("update",), "DeleteStmt": ("delete",),
    "MergeStmt": ("merge",), "TruncateStmt": ("truncate",), "ExplainStmt": ("explain",), "PrepareStmt": ("prepare",),
    "ExecuteStmt": ("execute",), "DeallocateStmt": ("deallocate",), "DeclareCursorStmt": ("declare",),
    "ClosePortalStmt": ("close",), "ListenStmt": ("listen",), "NotifyStmt": ("notify",), "UnlistenStmt": ("unlisten",),
    "LockStmt": ("lock",), "ClusterStmt": ("cluster",), "ReindexStmt": ("reindex",), "RefreshMatViewStmt": ("refresh",),
    "DoStmt": ("do",), "CallStmt": ("call",), "CommentStmt": ("comment",), "DiscardStmt": ("discard",),
    "CheckPointStmt": ("checkpoint",), "LoadStmt": ("load",), "SecLabelStmt": ("security_label",),
    "ImportForeignSchemaStmt": ("import_foreign_schema",), "GrantStmt": ("grant",), "GrantRoleStmt": ("grant",),
    "VariableShowStmt": ("show",), "ConstraintsSetStmt": ("set",),
    "CreateStmt": ("create_table", "create"), "CreateTableAsStmt": ("create_table", "create"),
    "ViewStmt": ("create_view", "create"), "CreateFunctionStmt": ("create_function", "create"),
    "IndexStmt": ("create_index", "create"), "CreateSchemaStmt": ("create_schema", "create"),
    "CreateRoleStmt": ("create_role", "create"), "CreatedbStmt": ("create_database", "create"),
    "CreateExtensionStmt": ("create_extension", "create"), "CreateTrigStmt": ("create_trigger", "create"),
    "AlterRoleStmt": ("alter_role", "alter"), "AlterRoleSetStmt": ("alter_role", "alter"),
    "AlterDatabaseStmt": ("alter_database", "alter"), "AlterDatabaseSetStmt": ("alter_database", "alter"),
    "AlterDatabaseRefreshCollStmt": ("alter_database", "alter"), "AlterSystemStmt": ("alter_system", "alter"),
    "DropRoleStmt": ("drop_role", "drop"), "DropdbStmt": ("drop_database", "drop"),
    "DropOwnedStmt": ("drop_owned", "drop"),
    **dict.fromkeys((
        "RuleStmt", "CreateSeqStmt", "CreateDomainStmt", "CreateEnumStmt", "CreateRangeStmt",
        "CompositeTypeStmt", "DefineStmt", "CreateCastStmt", "CreateConversionStmt", "CreateEventTrigStmt",
        "CreateFdwStmt", "CreateForeignServerStmt", "CreateForeignTableStmt", "CreateUserMappingStmt",
        "CreateOpClassStmt", "CreateOpFamilyStmt", "CreatePLangStmt", "CreatePolicyStmt",
        "CreatePublicationStmt", "CreateSubscriptionStmt", "CreateStatsStmt", "CreateTableSpaceStmt",
        "CreateTransformStmt", "CreateAmStmt",
    ), ("create_other", "create")),
    **dict.fromkeys((
        "AlterSeqStmt", "AlterDomainStmt", "AlterEnumStmt", "AlterTypeStmt", "AlterFunctionStmt",
        "AlterOperatorStmt", "AlterOpFamilyStmt", "AlterPolicyStmt", "AlterPublicationStmt",
        "AlterSubscriptionStmt", "AlterStatsStmt", "AlterTableSpaceOptionsStmt", "AlterTSConfigurationStmt",
        "AlterTSDictionaryStmt", "AlterUserMappingStmt", "AlterExtensionStmt", "AlterExtensionContentsStmt",
        "AlterEventTrigStmt", "AlterFdwStmt", "AlterForeignServerStmt", "AlterCollationStmt",
        "AlterDefaultPrivilegesStmt", "AlterObjectDependsStmt", "AlterTableMoveAllStmt", "ReassignOwnedStmt",
    ), ("alter_other", "alter")),
    **dict.fromkeys(("DropTableSpaceStmt", "DropUserMappingStmt", "DropSubscriptionStmt"), ("drop_other", "drop")),
}
DROPS = {
    "OBJECT_TABLE": "drop_table", "OBJECT_FOREIGN_TABLE": "drop_table", "OBJECT_SCHEMA": "drop_schema",
    "OBJECT_VIEW": "drop_view", "OBJECT_MATVIEW": "drop_view", "OBJECT_FUNCTION": "drop_function",
    "OBJECT_PROCEDURE": "drop_function", "OBJECT_ROUTINE": "drop_function", "OBJECT_AGGREGATE": "drop_function",
}
ALTERS = {
    "OBJECT_TABLE": "alter_table", "OBJECT_FOREIGN_TABLE": "alter_table", "OBJECT_COLUMN": "alter_table",
    "OBJECT_TABCONSTRAINT": "alter_table", "OBJECT_ROLE": "alter_role", "OBJECT_DATABASE": "alter_database",
}
TRANSACTIONS = {
    "TRANS_STMT_BEGIN": "begin", "TRANS_STMT_START": "begin", "TRANS_STMT_COMMIT": "commit",
    "TRANS_STMT_ROLLBACK": "rollback",
    "TRANS_STMT_SAVEPOINT": "savepoint", "TRANS_STMT_RELEASE": "savepoint", "TRANS_STMT_ROLLBACK_TO": "rollback",
    "TRANS_STMT_COMMIT_PREPARED": "commit", "TRANS_STMT_ROLLBACK_PREPARED": "rollback",
}
# Statements that take code or another statement along: what is inside counts too.
WITH_QUERY = frozenset({
    "PrepareStmt", "DeclareCursorStmt", "CopyStmt", "CreateTableAsStmt", "ExplainStmt", "InsertStmt",
})
NESTED = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def facts(statements: Sequence[Statement]) -> tuple[StatementFacts, ...]:
    """One StatementFacts per statement, in order. Raises Unparsable when a tree is too large to walk."""
    return tuple(_facts(statement) for statement in statements)


def function_call_facts() -> tuple[StatementFacts, ...]:
    """Of a FunctionCall message, which names a function by OID and has no SQL."""
    return (StatementFacts(kinds=("function_call",), opaque="FunctionCall runs a function by its number"),)


def _facts(statement: Statement) -> StatementFacts:
    kinds = list(own_kinds(statement.tag, statement.node))
    opaque = "" if kinds else f"unknown statement {statement.tag}"
    loose = False
    runs_inner = statement.tag != "ExplainStmt" or explain_runs(statement.node)
    columns, touches = Columns(), Touches()
    for tag, node in touches.nodes(statement.tag, statement.node):
        columns.see(tag, node)
        if tag in ("DoStmt", "CallStmt"):
            opaque = opaque or f"{'DO' if tag == 'DoStmt' else 'CALL'} runs code that cannot be read"
        if runs_inner and node is not statement.node:
            kinds += _nested_kinds(tag, node)
        if runs_inner and tag in NESTED:
            loose = loose or unfiltered(tag, node)
        if runs_inner and tag in WITH_QUERY:
            kinds += _query_kinds(node)
        if tag == "SelectStmt" and "intoClause" in node:
            kinds += ["create_table", "create"]
        if tag == "OnConflictClause" and node.get("action") == "ONCONFLICT_UPDATE":
            kinds.append("update")
        if tag == "MergeWhenClause" and runs_inner:
            kinds.append({"CMD_UPDATE": "update", "CMD_DELETE": "delete"}.get(str(node.get("commandType")), "insert"))
    names = touches.found()
    return StatementFacts(
        kinds=tuple(dict.fromkeys(kinds)) or ("other",), unfiltered=loose, opaque=opaque,
        tables=names.tables, columns=columns.names(), touches=names.columns, functions=names.functions,
        attributes=names.attributes, schemas=names.schemas,
    )


def own_kinds(tag: str, node: Body) -> tuple[str, ...]:
    """The kinds of one statement node, the most specific first; () when the tag is not a known statement."""
    if tag == "SelectStmt" and "valuesLists" in node:
        return ("values",)
    if tag == "CreateTableAsStmt" and node.get("objtype") == "OBJECT_MATVIEW":
        return ("create_view", "create")
    if tag in ("GrantStmt", "GrantRoleStmt"):
        return ("grant",) if node.get("is_grant") else ("revoke",)
    if tag in PLAIN:
        return PLAIN[tag]
    if tag == "CopyStmt":
        return ("copy_from",) if node.get("is_from") else ("copy_to",)
    if tag == "DropStmt":
        return (DROPS.get(str(node.get("removeType")), "drop_other"), "drop")
    if tag == "AlterTableStmt":
        return (ALTERS.get(str(node.get("objtype")), "alter_other"), "alter")
    if tag in ("RenameStmt", "AlterOwnerStmt", "AlterObjectSchemaStmt"):
        return (ALTERS.get(str(node.get("renameType") or node.get("objectType")), "alter_other"), "alter")
    if tag == "TransactionStmt":
        return (TRANSACTIONS.get(str(node.get("kind")), "other"),)
    if tag == "VariableSetStmt":
        return ("reset",) if str(node.get("kind")).startswith("VAR_RESET") else ("set",)
    if tag == "FetchStmt":
        return ("move",) if node.get("ismove") else ("fetch",)
    if tag == "VacuumStmt":
        return ("vacuum",) if node.get("is_vacuumcmd") else ("analyze",)
    return ()


def explain_runs(node: Body) -> bool:
    """True for EXPLAIN ANALYZE, which executes what it explains."""
    for option in node.get("options", ()):
        _, body = unwrap(option)
        if body.get("defname") == "analyze" and option_on(body):
            return True
    return False


def option_on(body: Body) -> bool:
    """Whether a DefElem that holds a Boolean is switched on; anything that is not plainly off counts as on."""
    if "arg" not in body:
        return True
    tag, value = unwrap(body["arg"])
    if tag == "Boolean":
        return bool(value.get("boolval"))
    if tag == "Integer":
        return bool(value.get("ival", 0))
    return str(value.get("sval", "on")).lower() not in ("off", "false", "0", "no")


def _nested_kinds(tag: str, node: Body) -> tuple[str, ...]:
    if tag == "SelectStmt":
        return ()
    return own_kinds(tag, node)


def _query_kinds(node: Body) -> tuple[str, ...]:
    tag, inner = unwrap(node.get("query") or node.get("selectStmt"))
    if tag == "SelectStmt" and "valuesLists" not in inner:
        return ("select",)
    return ()
