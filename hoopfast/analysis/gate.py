"""May this statement run in a session that has masks, and what has to be checked first? Pure; called by the verdict
desk.

Masks are applied by origin: the relay looks up the (table OID, attribute number) that the server reports for every
output column. That alone leaks (a column without origin may be anything), so this gate lets a statement pass only
if every output column without origin is proven to be computed from columns that are not masked.

Why this is sound although names are resolved without the server, by over-approximation:

1. *Relations.* A table can only be read by naming it (in FROM, as a target, in COPY), through a view, a function,
   an operator, a rule or a trigger. A bare name that is masked in any schema counts as masked, whatever search_path
   says, unless a schema is written and the catalog has another relation of that name there; a name that the catalog
   snapshot does not have is not passed. Views over masked tables are refused, apart from clear ones (`views`), which
   are tables with masked columns of their own. Functions must be on the allow-list of built-ins, or user functions
   whose bodies name nothing of the closure and no function that could.
2. *Columns.* The value of a masked column enters an expression only by a ColumnRef with its name, by a renaming of
   it, or by a whole row. Names are collected for the whole statement, without scopes, and closed under renaming
   (aliases, alias lists, CTE column lists): the set contains every name that denotes the column anywhere. A
   reference whose last field is in the set counts, unless everything its qualifier can mean is a table that does not
   mask it, something no masked column passes through, or a subquery in which this name stands for something else. A
   single name that is also the name of a source with masked columns counts as its whole row, as does q.* outside of
   a select list. ORDER BY an output name counts as what stands behind that name, as PostgreSQL reads it.
3. *Places.* A sensitive reference may stand alone in a select list (then the server reports its origin, through
   subqueries and CTEs as well), as `= constant`, `IN (constants)`, `= ANY(constants)`, `IS [NOT] NULL` in WHERE or
   ON, as an equi-join of the same masked column, and in count(column). Everything else is refused. So an
   expression, which is what has no origin, never contains one. The constructs that lose an origin without an
   expression are refused when sensitive columns pass through: set operations (and with them recursion), FULL JOIN
   USING, whole rows.
4. *Sinks.* Sensitive columns are never a source of INSERT, UPDATE, MERGE, CREATE TABLE AS, SELECT INTO or a view,
   so there are no copies under another origin.
5. *Statement kinds and syntax nodes* are allow-lists. Code (DO, CREATE FUNCTION, triggers, rules, casts, operators)
   is refused.

What is left open on purpose: equality probing (auditable, not preventable here), timing, and code that a DBA put
into the database before: triggers that copy values elsewhere, RLS policies, casts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hoopfast.analysis import survey as s
from hoopfast.analysis.classify import explain_runs, option_on, own_kinds
from hoopfast.analysis.definitions import leaves_alone
from hoopfast.analysis.flow import Closure, Flow, Refused, check
from hoopfast.analysis.parse import Statement, Unparsable, first_parenthesis, parse, queries_inside
from hoopfast.analysis.settings import CopyFormat, check_set, check_setting, copy_format
from hoopfast.analysis.tree import Body, column, strings, unwrap, without_places

CLEAN = "clean"
TOUCHED = "touched"
REFUSED = "refused"
UNKNOWN = "unknown"         # names a relation the catalog does not have: the server may say it does not exist

# Statements without rows and names that could matter.
HARMLESS = frozenset({
    "TransactionStmt", "VariableShowStmt", "DiscardStmt", "DeallocateStmt", "ClosePortalStmt", "ListenStmt",
    "UnlistenStmt",
    "NotifyStmt", "ConstraintsSetStmt", "CheckPointStmt", "DropStmt", "CommentStmt", "GrantStmt", "TruncateStmt",
    "LockStmt",
    "VacuumStmt", "ReindexStmt", "RefreshMatViewStmt",
})
# Of those: what works through whole tables and says in its errors which row was in the way.
TELLING = frozenset({"ReindexStmt", "RefreshMatViewStmt", "TruncateStmt"})
# Definitions: their expressions are surveyed, and they must not name a table with hidden columns.
DEFINITION_STATEMENTS = frozenset({
    "CreateStmt", "IndexStmt", "CreateSchemaStmt", "CreateSeqStmt", "CreateDomainStmt", "CreateEnumStmt",
    "CompositeTypeStmt",
    "AlterTableStmt", "AlterSeqStmt", "AlterEnumStmt", "AlterDomainStmt", "RenameStmt", "AlterObjectSchemaStmt",
    "ClusterStmt", "CreateStatsStmt", "ViewStmt", "CreateTableAsStmt",
})
# Before the catalog shows its new name, a function that reads hidden columns would pass for the one that had it.
CODE = frozenset({"OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE", "OBJECT_AGGREGATE"})
CREATED = {"CreateStmt": "relation", "ViewStmt": "view", "CreateSeqStmt": "sequence", "CompositeTypeStmt": "typevar"}
TARGETS_MAX = 1664              # columns of a query, PostgreSQL's own limit
ASK = "Ask someone without masks to run it."


class StatementJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """Of one statement.

    `probe` is the text to describe before anything runs ("" for none); `zero_origin` how many of its output columns may
    have no origin (None: any number), `positions` which of them (from 1) may not be masked, because rows are sorted or
    grouped by them. `redact`: columns without origin have to be hidden. `steers`: hidden columns that decide which rows
    there are. `knob`: what a policy could turn so that a refused one may run. `creates` are names of tables it makes.
    """

    outcome: str
    reason: str = ""
    hint: str = ""
    probe: str = ""
    zero_origin: int | None = 0
    positions: tuple[int, ...] = ()
    redact: bool = False
    steers: tuple[str, ...] = ()
    knob: str = ""
    scrub: bool = False
    copy: CopyFormat | None = None
    columns: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    creates: tuple[str, ...] = ()
    used_local: bool = False


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Of a query string: the worst outcome of its statements, and each of them."""

    outcome: str
    reason: str = ""
    hint: str = ""
    knob: str = ""
    statements: tuple[StatementJudgement, ...] = ()


def judge(statements: Sequence[Statement], closure: Closure, local: frozenset[str] = frozenset()) -> Judgement:
    """Judge every statement of a query string for a person with masks. Raises Unparsable when a tree is too large.

    `local` are tables the session created in its open transaction, which the catalog cannot show yet.
    """
    judged: list[StatementJudgement] = []
    defined = ""
    made = local
    for statement in statements:
        try:
            one = _judge(statement, closure, made)
        except Refused as refusal:
            one = StatementJudgement(outcome=REFUSED, reason=refusal.reason, hint=refusal.hint,
                                     knob=_knob(statement, refusal.knob))
        if one.outcome == TOUCHED and len(statements) > 1:
            one = _in_company(one, statement, defined)
        if one.outcome == REFUSED:
            return Judgement(
                outcome=REFUSED, reason=one.reason, hint=one.hint, knob=one.knob, statements=(*judged, one))
        judged.append(one)
        made = made | frozenset(one.creates)
        kinds = own_kinds(statement.tag, statement.node)
        if {"create", "alter", "set", "reset", "discard"}.intersection(kinds):
            defined = defined or kinds[0].replace("_", " ").upper()
    for outcome in (UNKNOWN, TOUCHED):
        if any(one.outcome == outcome for one in judged):
            return Judgement(outcome=outcome, statements=tuple(judged))
    return Judgement(outcome=CLEAN, statements=tuple(judged))


def _knob(statement: Statement, knob: str) -> str:
    """What could let a refused statement pass: one that shows no rows is a matter of where it puts the values."""
    if knob not in ("derived", "control", "aggregates", "sink"):
        return knob
    if statement.tag in DEFINITION_STATEMENTS and statement.tag != "CreateTableAsStmt":
        return "ddl"
    silent = statement.tag in ("InsertStmt", "UpdateStmt", "MergeStmt") and "returningClause" not in statement.node
    into = statement.tag == "CreateTableAsStmt" or "intoClause" in statement.node
    return "sink" if silent or into else knob


def _in_company(one: StatementJudgement, statement: Statement, defined: str) -> StatementJudgement:
    if defined:
        return StatementJudgement(
            outcome=REFUSED, reason=f"a query with hidden columns cannot follow {defined} in the same message",
            hint="Send the statements one by one.")
    if statement.tag == "CopyStmt":
        return StatementJudgement(outcome=REFUSED, reason="COPY of hidden columns has to be sent alone",
                                  hint="Send the statements one by one.")
    return one


def _judge(statement: Statement, closure: Closure, local: frozenset[str]) -> StatementJudgement:
    tag, node = statement.tag, statement.node
    if tag in ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"):
        return _query(tag, node, statement.text, closure, local)
    if tag == "ExplainStmt":
        return _explain(statement, closure, local)
    if tag in ("PrepareStmt", "DeclareCursorStmt"):
        inner_tag, inner = unwrap(node.get("query"))
        return _undescribed(statement, inner_tag, inner, _query(inner_tag, inner, "", closure, local))
    if tag in ("ExecuteStmt", "FetchStmt"):
        check(s.survey(tag, node), closure, local)
        return StatementJudgement(outcome=TOUCHED, zero_origin=None, scrub=True)
    if tag == "CopyStmt":
        return _copy(statement, closure, local)
    if tag == "CallStmt":
        return _call(node, closure, local)
    if tag == "VariableSetStmt":
        check_set(node)
        return StatementJudgement(outcome=CLEAN)
    if tag in HARMLESS:
        return StatementJudgement(outcome=CLEAN, scrub=tag in TELLING)
    if tag in DEFINITION_STATEMENTS:
        return _definition(tag, node, closure, local)
    kinds = own_kinds(tag, node)
    name = kinds[0].removesuffix("_other").replace("_", " ").upper() if kinds else tag
    raise Refused(f"{name} of this kind is not allowed while columns are hidden from you", ASK,
                  "opaque" if tag == "DoStmt" else "ddl" if {"create", "alter"}.intersection(kinds) else "")


def _query(tag: str, node: Body, text: str, closure: Closure, local: frozenset[str]) -> StatementJudgement:
    found = s.survey(tag, node)
    flow = _checked(found, closure, local)
    rows = (tag == "SelectStmt" and "intoClause" not in node) or "returningClause" in node
    scrub = bool(flow.touched) or bool(found.written & closure.catalog.triggered)
    ruled = sorted(found.written & closure.catalog.ruled)
    if ruled:
        raise Refused(f'"{ruled[0]}" has rules that read hidden columns and cannot be written by you', ASK,
                      "opaque")
    if flow.unknown:
        return StatementJudgement(outcome=UNKNOWN, unknown=tuple(sorted(flow.unknown)), probe=text, zero_origin=None)
    into = node.get("intoClause", {}).get("rel", {}) if tag == "SelectStmt" else {}
    creates = (str(into["relname"]),) if into else ()
    used = any(source.relname in local for source in found.sources if source.kind == "table")
    if not flow.touched:
        return StatementJudgement(outcome=CLEAN, scrub=scrub, creates=creates, used_local=used)
    return StatementJudgement(
        outcome=TOUCHED, probe=text if rows else "", zero_origin=_zero_origin(found) if rows else 0, scrub=True,
        columns=tuple(sorted(flow.names)), creates=creates, used_local=used, positions=tuple(sorted(flow.positions)),
        redact=flow.redacts, steers=tuple(sorted(flow.steers)),
    )


def _undescribed(statement: Statement, tag: str, inner: Body, one: StatementJudgement) -> StatementJudgement:
    """Of a statement that carries the judged query, which the server describes only by itself."""
    text = ""
    if one.positions:
        # With types of its own, parameters would be others in a query that stands alone.
        text = "" if "argtypes" in statement.node else _carried(statement, tag, inner)
    if one.positions and not text:
        raise Refused(f"sorting or grouping by position {one.positions[0]} may use a hidden column",
                      "Name the column to sort or group by.", "control")
    if one.redact:
        raise Refused("an expression of hidden columns cannot be part of a cursor, a prepared statement or EXPLAIN",
                      "Leave it out of the select list.", "derived")
    return msgspec.structs.replace(one, probe=text, zero_origin=None)


def _carried(statement: Statement, tag: str, inner: Body) -> str:
    """The text of the query that a statement carries, proven to be the one that was judged; "" when it is not found."""
    wanted = without_places(tag, inner)
    return next((text for text in queries_inside(statement.text) if _is(text, wanted)), "")


def _is(text: str, wanted: tuple[Any, ...]) -> bool:
    try:
        parsed = parse(text)
    except Unparsable:
        return False
    return len(parsed) == 1 and without_places(parsed[0].tag, parsed[0].node) == wanted


def _checked(found: s.Survey, closure: Closure, local: frozenset[str]) -> Flow:
    for name, value in found.settings:
        check_setting(name or "", [value])
    return check(found, closure, local)


def _zero_origin(found: s.Survey) -> int | None:
    """How many columns of the top query are expressions; None when its sources may have such columns themselves."""
    top = found.queries[0]
    pending = list(top.sources)
    while pending:
        source = pending.pop()
        if source.kind not in ("table", "join"):
            return None
        pending += source.parts
    # The merged column of a FULL JOIN USING is COALESCE, without an origin, and stands for a plain reference.
    if top.branches or any(join.full for join in found.joins):
        return None
    return sum(not column(target.get("val")) for target in top.targets)


def _explain(statement: Statement, closure: Closure, local: frozenset[str]) -> StatementJudgement:
    tag, node = unwrap(statement.node.get("query"))
    if tag in ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "DeclareCursorStmt", "ExecuteStmt",
               "CreateTableAsStmt", "RefreshMatViewStmt"):
        inside = _judge(Statement(tag, node, statement.text), closure, local)
    else:
        raise Refused("this EXPLAIN cannot be analysed while columns are hidden from you")
    if inside.outcome == TOUCHED and closure.knobs.explain == "deny":
        raise Refused("EXPLAIN of statements with hidden columns is not allowed to you", ASK, "explain")
    if inside.outcome != TOUCHED:
        return msgspec.structs.replace(inside, creates=(), probe=statement.text if inside.outcome == UNKNOWN else "")
    verbose = any(unwrap(item)[1].get("defname") == "verbose" and option_on(unwrap(item)[1])
                  for item in statement.node.get("options", ()))
    if verbose or explain_runs(statement.node):
        raise Refused("EXPLAIN with ANALYZE or VERBOSE may show hidden columns", "Use plain EXPLAIN.")
    return msgspec.structs.replace(_undescribed(statement, tag, node, inside), creates=())


def _copy(statement: Statement, closure: Closure, local: frozenset[str]) -> StatementJudgement:
    node = statement.node
    if node.get("is_program") or node.get("filename"):
        raise Refused("COPY with a file or program of the server is not allowed while columns are hidden from you",
                      "Use COPY ... TO STDOUT or FROM STDIN (in psql: \\copy).")
    if "query" in node:
        tag, inner = unwrap(node["query"])
        inside = _query(tag, inner, "-", closure, local)
        if inside.outcome == CLEAN:
            return inside
        return msgspec.structs.replace(inside, probe=_inner_text(statement, tag, inner), copy=copy_format(node))
    found = s.survey("CopyStmt", node)
    flow = _checked(found, closure, local)
    name = str(node["relation"].get("relname", ""))
    if flow.unknown:
        return StatementJudgement(outcome=UNKNOWN, unknown=(name,), probe=_copy_probe(node, closure), zero_origin=None)
    if node.get("is_from"):
        if name in closure.catalog.ruled:
            raise Refused(f'"{name}" has rules that read hidden columns and cannot be written by you', ASK)
        return StatementJudgement(outcome=CLEAN, scrub=bool(flow.touched) or name in closure.catalog.triggered,
                                  used_local=name in local)
    if not flow.touched:
        return StatementJudgement(outcome=CLEAN, used_local=name in local)
    return StatementJudgement(
        outcome=TOUCHED, probe=_copy_probe(node, closure), zero_origin=0, scrub=True, copy=copy_format(node),
        columns=tuple(sorted(closure.masked.get(name, ()))))


def _copy_probe(node: Body, closure: Closure) -> str:
    """A query with the columns of COPY, which leaves generated ones out."""
    relation = node["relation"]
    stored = closure.stored.get((str(relation.get("schemaname", "")), str(relation["relname"])), ("*",))
    columns = ", ".join(name if name == "*" else quoted(name) for name in strings(node.get("attlist")) or stored)
    parts = [relation.get(part) for part in ("catalogname", "schemaname", "relname")]
    return f"SELECT {columns} FROM ONLY {'.'.join(quoted(str(part)) for part in parts if part)}"


def quoted(name: str) -> str:
    """An identifier as SQL text."""
    return '"' + name.replace('"', '""') + '"'


def _inner_text(statement: Statement, tag: str, inner: Body) -> str:
    """The text between COPY's parentheses, proven to be the query that was judged."""
    text = first_parenthesis(statement.text)
    if text is not None and _is(text, without_places(tag, inner)):
        return text
    raise Refused("this COPY cannot be analysed while columns are hidden from you",
                  "Write it as COPY (query) TO STDOUT.")


def _call(node: Body, closure: Closure, local: frozenset[str]) -> StatementJudgement:
    call = node.get("funccall", {})
    name = strings(call.get("funcname"))
    if not name or closure.catalog.functions.get(name[-1]) is not True:
        raise Refused(f"procedure {'.'.join(name)} cannot be analysed while columns are hidden from you", ASK, "opaque")
    _checked(s.survey("CallStmt", node), closure, local)
    return StatementJudgement(outcome=CLEAN, scrub=True)


def _definition(tag: str, node: Body, closure: Closure, local: frozenset[str]) -> StatementJudgement:
    if "OBJECT_SCHEMA" in (node.get("renameType"), node.get("objectType")):
        raise Refused("a schema cannot be renamed while columns are hidden from you", ASK, "ddl")
    if CODE.intersection((node.get("renameType"), node.get("objectType"))):
        raise Refused("functions cannot be renamed or moved while columns are hidden from you", ASK, "ddl")
    created = _created(tag, node)
    if tag in ("ViewStmt", "CreateTableAsStmt"):
        inner_tag, inner = unwrap(node.get("query"))
        if inner_tag != "SelectStmt":
            raise Refused("CREATE TABLE AS EXECUTE cannot be analysed while columns are hidden from you", ASK, "ddl")
        found = s.survey(inner_tag, inner, "sink")
    else:
        found = s.survey(tag, node)
    flow = _checked(found, closure, local | created)
    view = tag == "ViewStmt" or node.get("objtype") == "OBJECT_MATVIEW"
    clash = sorted(name for name in created if closure.touches(name))
    defines = bool(flow.touched) and (view or tag != "CreateTableAsStmt")
    if clash or (defines and not leaves_alone(tag, node, flow.touched, flow.names)):
        name = (clash or sorted(flow.touched))[0]
        raise Refused(f'"{name}" has columns that are hidden from you, so you cannot define this on it', ASK, "ddl")
    if flow.unknown:
        return StatementJudgement(outcome=UNKNOWN, unknown=tuple(sorted(flow.unknown)))
    creates = () if node.get("if_not_exists") or view else tuple(created)
    return StatementJudgement(outcome=CLEAN, creates=creates, scrub=bool(flow.touched))


def _created(tag: str, node: Body) -> frozenset[str]:
    """Bare names that a definition brings into being."""
    if tag == "CreateTableAsStmt":
        relation = node.get("into", {}).get("rel", {})
    else:
        relation = node.get(CREATED.get(tag, ""), {})
    return frozenset({str(relation["relname"])}) if relation.get("relname") else frozenset()
