"""What replay does with a recorded statement: run it, leave it out and say why, or put a savepoint in its place. Pure.

SQL is read by PostgreSQL's own grammar. Under `read_only` and `in_transaction` a text that cannot be read is never run:
the server might read it, and it might end the transaction.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec

from hoopfast.analysis.builtins import words
from hoopfast.analysis.parse import Statement, Unparsable, parse
from hoopfast.analysis.tree import walk
from hoopfast.replay.recorded import Recorded

FACTS_CACHED = 20_000
# Functions whose answer is the server's own choice: the clock, chance, sequences, addresses, sizes, what it does now.
CHOSEN = words("""
now statement_timestamp transaction_timestamp clock_timestamp timeofday random random_normal gen_random_uuid uuidv4
uuidv7 uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 nextval currval lastval age pg_backend_pid
pg_current_xact_id pg_current_xact_id_if_assigned pg_current_snapshot txid_current txid_current_if_assigned
txid_current_snapshot pg_current_wal_lsn pg_current_wal_insert_lsn pg_current_wal_flush_lsn pg_postmaster_start_time
pg_conf_load_time inet_client_addr inet_client_port inet_server_addr inet_server_port version current_database
current_catalog pg_database_size pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size pg_size_pretty
pg_column_size pg_get_userbyid pg_export_snapshot current_setting
""")
CHOSEN_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"})
READ_ONLY_SETTINGS = frozenset({"transaction_read_only", "default_transaction_read_only"})
# What PostgreSQL does not do within a transaction block.
_ALONE = {
    "VacuumStmt": "VACUUM", "CreatedbStmt": "CREATE DATABASE", "DropdbStmt": "DROP DATABASE",
    "CreateTableSpaceStmt": "CREATE TABLESPACE", "DropTableSpaceStmt": "DROP TABLESPACE",
    "AlterSystemStmt": "ALTER SYSTEM", "CreateSubscriptionStmt": "CREATE SUBSCRIPTION",
    "DropSubscriptionStmt": "DROP SUBSCRIPTION", "AlterSubscriptionStmt": "ALTER SUBSCRIPTION",
}
BEGINS, COMMITS, ROLLS_BACK = "begin", "commit", "rollback"
_TRANSACTION = {
    "TRANS_STMT_BEGIN": BEGINS, "TRANS_STMT_START": BEGINS, "TRANS_STMT_COMMIT": COMMITS,
    "TRANS_STMT_ROLLBACK": ROLLS_BACK, "TRANS_STMT_SAVEPOINT": "", "TRANS_STMT_RELEASE": "",
    "TRANS_STMT_ROLLBACK_TO": "",
}
REFUSED, NO_TEXT, PROTECTED, NO_ROWS, FASTPATH = "refused", "no-text", "protected", "no-data", "function-call"
READ_ONLY, TRANSACTION, NEVER_RAN = "read-only", "in-transaction", "never-ran"


class Facts(msgspec.Struct, frozen=True):
    """What a text is, as far as replay has to know."""

    statements: int = 0
    unreadable: bool = False
    copies_in: bool = False
    chosen: bool = False                # it asks for something that the server chooses
    ordered: bool = False               # its rows have an order of their own
    explains: bool = False
    parameters: bool = False            # it has $1
    forgets: tuple[str, ...] | None = None              # prepared statements that it drops; (): all
    transaction: tuple[str, ...] = ()                   # BEGINS, COMMITS, ROLLS_BACK, in order
    chained: bool = False                               # COMMIT AND CHAIN
    alone: str = ""                                     # what cannot run within a transaction block
    detaches: bool = False                              # PREPARE TRANSACTION and its kin
    unlocks: str = ""                                   # how it would get out of read-only


class Plan(msgspec.Struct, frozen=True):
    """`why` empty: run it. `adapt`: what of BEGINS, COMMITS, ROLLS_BACK stands for it in `in_transaction`."""

    why: str = ""
    kind: str = ""
    adapt: str = ""


RUN = Plan()


@functools.lru_cache(maxsize=FACTS_CACHED)
def facts_of(sql: str) -> Facts:
    try:
        statements = parse(sql)
        return _facts(statements)
    except Unparsable:
        return Facts(unreadable=True)


def plan(one: Recorded, *, read_only: bool, in_transaction: bool) -> Plan:
    """What becomes of a statement, whatever state the session is in."""
    kept = _unfit(one)
    if kept is not None:
        return kept
    if not (read_only or in_transaction):
        # The gateway has read it already; it is read again only where that says too little.
        if (not one.kinds or "copy_from" in one.kinds) and facts_of(one.sql).copies_in:
            return _NO_ROWS
        return RUN
    facts = facts_of(one.sql)
    if facts.copies_in:
        return _NO_ROWS
    if facts.unreadable and not (one.sqlstate and one.sqlstate[:2] == "42"):
        return Plan("it cannot be read here, so nobody knows what it would do to the transaction",
                    READ_ONLY if read_only else TRANSACTION)
    if read_only and facts.unlocks:
        return Plan(f"{facts.unlocks} could write in spite of --read-only", READ_ONLY)
    if in_transaction:
        return _within(facts)
    return RUN


_NO_ROWS = Plan("cannot be replayed: the rows that the client copied in are not in the trail", NO_ROWS)


def _unfit(one: Recorded) -> Plan | None:
    if one.outcome == "denied":
        return Plan(f"the gateway refused it ({one.rule or 'policy'})", REFUSED)
    if one.outcome == "skipped":
        return Plan("it never ran: a statement before it in its pipeline had failed", NEVER_RAN)
    if one.kind == "function":
        return Plan("a function call by number: the trail has no text of it", FASTPATH)
    if one.is_protected or any(isinstance(value, dict) and "hex" not in value for value in one.parameters or ()):
        return Plan("its parameters are protected", PROTECTED)
    if one.kind == "lost" or (not one.sql and one.tag):
        return Plan("its text is not in the trail", NO_TEXT)
    if one.kind == "extended" and one.parameters is None and facts_of(one.sql).parameters:
        return Plan("its parameters are not in the trail", NO_TEXT)
    return None


def _within(facts: Facts) -> Plan:
    if facts.detaches:
        return Plan("a prepared transaction would leave the one that is rolled back", TRANSACTION)
    if facts.alone:
        return Plan(f"{facts.alone} cannot run inside a transaction", TRANSACTION)
    if facts.transaction and facts.statements > 1:
        return Plan("several statements in one string, with a transaction of their own", TRANSACTION)
    if facts.transaction:
        return Plan(adapt=facts.transaction[0])
    return RUN


# ---------------------------------------------------------------- reading

def _facts(statements: Sequence[Statement]) -> Facts:
    ends = [
        _TRANSACTION.get(str(one.node.get("kind")), "") for one in statements if one.tag == "TransactionStmt"]
    forgets: tuple[str, ...] | None = None
    for one in statements:
        name = _forgotten(one)
        if name is not None:
            forgets = () if name == "" or forgets == () else (*(forgets or ()), name)
    nodes = [(tag, node) for one in statements for tag, node in walk(one.tag, one.node)]
    return Facts(
        statements=len(statements),
        copies_in=any(_copies_in(one) for one in statements),
        chosen=any(_is_chosen(tag, node) for tag, node in nodes),
        ordered=any(one.tag == "SelectStmt" and "sortClause" in one.node for one in statements),
        explains=any(one.tag == "ExplainStmt" for one in statements),
        parameters=any(tag == "ParamRef" for tag, _ in nodes),
        forgets=forgets,
        transaction=tuple(end for end in ends if end),
        chained=any(one.tag == "TransactionStmt" and one.node.get("chain") for one in statements),
        alone=next((said for one in statements if (said := _alone(one))), ""),
        detaches=any(one.tag == "TransactionStmt" and str(one.node.get("kind")) not in _TRANSACTION
                     for one in statements),
        unlocks=_unlocks(statements, nodes),
    )


def _copies_in(one: Statement) -> bool:
    return one.tag == "CopyStmt" and bool(one.node.get("is_from")) and "filename" not in one.node


def _forgotten(one: Statement) -> str | None:
    """The prepared statement that it drops; "" for all of them, None for none."""
    if one.tag == "DeallocateStmt":
        return str(one.node.get("name", ""))
    if one.tag == "DiscardStmt" and one.node.get("target") == "DISCARD_ALL":
        return ""
    return None


def _function(node: dict[str, Any]) -> str:
    names = node.get("funcname") or [{}]
    return str(names[-1].get("String", {}).get("sval", "")).lower()


def _is_chosen(tag: str, node: dict[str, Any]) -> bool:
    if tag == "SQLValueFunction":
        return True
    if tag == "FuncCall":
        return _function(node) in CHOSEN
    if tag == "ColumnRef":
        last = (node.get("fields") or [{}])[-1]
        return str(last.get("String", {}).get("sval", "")) in CHOSEN_COLUMNS
    if tag == "RangeVar":
        return str(node.get("schemaname", "")) in {"pg_catalog", "information_schema"} or str(
            node.get("relname", "")).startswith("pg_")
    return False


def _alone(one: Statement) -> str:
    if one.tag == "VacuumStmt" and not one.node.get("is_vacuumcmd"):
        return ""
    if one.tag in _ALONE:
        return _ALONE[one.tag]
    if one.tag == "DiscardStmt" and one.node.get("target") == "DISCARD_ALL":
        return "DISCARD ALL"
    if one.tag == "ClusterStmt" and "relation" not in one.node:
        return "CLUSTER of everything"
    if one.tag == "ReindexStmt" and one.node.get("kind") in {"REINDEX_OBJECT_SCHEMA", "REINDEX_OBJECT_SYSTEM",
                                                            "REINDEX_OBJECT_DATABASE"}:
        return "REINDEX of more than a table"
    for tag, node in walk(one.tag, one.node):
        if tag in {"IndexStmt", "DropStmt", "PartitionCmd"} and node.get("concurrent"):
            return "CONCURRENTLY"
        if one.tag == "ReindexStmt" and tag == "DefElem" and node.get("defname") == "concurrently":
            return "CONCURRENTLY"
    return ""


def _unlocks(statements: Sequence[Statement], nodes: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """What of a text could get a session out of read-only transactions, or write outside of them."""
    for tag, node in nodes:
        if tag == "DefElem" and node.get("defname") == "transaction_read_only":
            if not _is_true(node.get("arg")):
                return "READ WRITE"
        elif tag == "VariableSetStmt" and str(node.get("name", "")).lower() in READ_ONLY_SETTINGS:
            return f"SET {node['name']}"
        elif tag == "FuncCall" and _function(node) == "set_config":
            if _first_text(node) is None or str(_first_text(node)).lower() in READ_ONLY_SETTINGS:
                return "set_config"
        elif tag == "CopyStmt" and ("filename" in node or node.get("is_program")):
            return "COPY with a file or program of the server"
        elif tag in {"DoStmt", "CallStmt"}:
            return "DO" if tag == "DoStmt" else "CALL"
        elif tag in _ALONE or tag in {"ClusterStmt", "ReindexStmt", "CheckPointStmt", "LoadStmt"}:
            return _ALONE.get(tag, tag.removesuffix("Stmt").upper())
    if any(one.tag == "TransactionStmt" for one in statements[:-1]) and any(
        str(one.node.get("kind")) in {"TRANS_STMT_COMMIT", "TRANS_STMT_ROLLBACK"} for one in statements[:-1]
    ):
        return "a string that goes on after its own COMMIT"
    return ""


def _is_true(arg: Any) -> bool:
    constant = (arg or {}).get("A_Const", {})
    if "ival" in constant:
        return bool(constant["ival"].get("ival", 0))
    return str(constant.get("sval", {}).get("sval", "")).lower() in {"on", "true", "yes", "1"}


def _first_text(node: dict[str, Any]) -> str | None:
    args = node.get("args") or [{}]
    value = args[0].get("A_Const", {}).get("sval")
    return None if value is None else str(value.get("sval", ""))
