"""One walk over a statement that writes down every name and the place it stands in. Used by `flow` and `gate`.

Nothing is judged here, apart from syntax nodes nobody has thought about: they are collected in `strange`, and refused.
The places are syntactic, so the survey is made once, before it is known which names are sensitive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from hoopfast import limits
from hoopfast.analysis.builtins import words
from hoopfast.analysis.ctes import NOWHERE, Scope
from hoopfast.analysis.parse import TOO_COMPLEX, Unparsable
from hoopfast.analysis.total import total
from hoopfast.analysis.tree import Body, children, column, constant_like, strings, text_constant, unwrap

# Places of a column reference.
OUT = "out"             # alone in a target list: its origin is reported by the server
EQUAL = "equal"         # compared with literals or parameters only, in WHERE or ON
PAIR = "pair"           # column = column, in WHERE or ON
COUNT = "count"         # count(column)
SUM = "sum"             # sum(column), avg(column)
COPIED = "copied"       # ON CONFLICT DO UPDATE SET x = EXCLUDED.x
CONTROL = "control"     # any other condition, sort or group
WRITTEN = "written"     # in a value that goes into a table
EXPRESSION = "expression"

KEPT = frozenset({CONTROL, WRITTEN})        # what is below such a place stands there too
AGGREGATES = {"count": COUNT, "sum": SUM, "avg": SUM}
DML = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
EXPRESSIONS = words("""
A_ArrayExpr A_Const A_Expr A_Indices A_Indirection A_Star Alias BitString BoolExpr Boolean BooleanTest CTECycleClause
CTESearchClause CaseExpr CaseWhen CoalesceExpr CollateClause ColumnDef ColumnRef CommonTableExpr CurrentOfExpr DefElem
DeleteStmt Float FuncCall GroupingFunc GroupingSet IndexElem InferClause InsertStmt Integer IntoClause JoinExpr
JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior JsonFormat
JsonFuncExpr JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning
JsonScalarExpr JsonSerializeExpr JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr List LockingClause
MergeStmt MergeSupportFunc MergeWhenClause MinMaxExpr MultiAssignRef NamedArgExpr NullIfExpr NullTest OnConflictClause
ParamRef RangeFunction RangeSubselect RangeTableFunc RangeTableFuncCol RangeTableSample RangeVar ResTarget
ReturningClause ReturningOption RowExpr SQLValueFunction SelectStmt SetToDefault SortBy String SubLink TypeCast
TypeName UpdateStmt WindowDef WithClause XmlExpr XmlSerialize RoleSpec
""")
# Inside statements that define tables and indexes.
DEFINITIONS = words("""
AccessPriv AlterTableCmd Constraint ObjectWithArgs PartitionBoundSpec PartitionCmd PartitionElem PartitionSpec
PartitionRangeDatum ReplicaIdentityStmt StatsElem TableLikeClause VacuumRelation FunctionParameter VariableSetStmt
""")


class Source:
    """Something a FROM clause (or a DML target) makes visible under a name."""

    def __init__(
        self, name: str, kind: str, relname: str = "", schema: str = "", renames: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.kind = kind                        # "table" | "cte" | "query" | "function" | "join"
        self.relname = relname
        self.schema = schema
        self.renames = renames                  # column names given by an alias list
        self.query: Query | None = None
        self.parts: list[Source] = []
        self.apart = False                      # of another schema than every relation of its name that matters
        self.carries = False


class Query:
    """A SELECT, or the RETURNING of a DML statement: targets, sources, and where its rows go."""

    def __init__(self, goes: str, label: str = "", renames: tuple[str, ...] = ()) -> None:
        self.goes = goes                        # "top" | "from" | "cte" | "exists" | "scalar" | "sink"
        self.label = label                      # name of the CTE
        self.renames = renames
        self.targets: list[Body] = []
        self.sources: list[Source] = []
        self.branches: list[Query] = []         # of a set operation
        self.distinct = False
        self.positions: list[int] = []          # ORDER BY 2, GROUP BY 2, DISTINCT ON (2)
        self.sorted: list[tuple[str, ...]] = []  # columns behind the output names in ORDER BY
        self.sorted_names: set[str] = set()
        self.carries = False
        self.hides: frozenset[str] | None = frozenset()     # its output columns that carry; None: any may


class Join:
    """A join by column name: USING (...) or NATURAL."""

    def __init__(
        self, columns: tuple[str, ...], natural: bool, full: bool, left: list[Source], right: list[Source]
    ) -> None:
        self.columns = columns
        self.natural = natural
        self.full = full
        self.left = left
        self.right = right


class Reference(NamedTuple):
    """A column reference. `total`: it is part of an output expression that cannot fail; `text`: as a text there."""

    fields: tuple[str, ...]
    place: str
    total: bool = False
    text: bool = False


class Survey:
    """Everything `flow` needs to know of one statement."""

    def __init__(self) -> None:
        self.queries: list[Query] = []
        self.sources: list[Source] = []
        self.joins: list[Join] = []
        self.references: list[Reference] = []
        self.pairs: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.functions: list[tuple[tuple[str, ...], bool]] = []         # name, all arguments constant
        self.settings: list[tuple[str | None, str | None]] = []         # set_config(name, value)
        self.operators: set[str] = set()
        self.fields: set[str] = set()                                   # (expression).field
        self.written: set[str] = set()                                  # bare names of DML targets
        self.strange: list[str] = []
        self.dynamic = False                                            # rows of EXECUTE: unknown here
        self.total_functions: set[str] = set()                          # what output expressions that cannot fail call


_Step = tuple[str, Body, str, Scope, Any]


class Surveyor:
    """The walk itself: an explicit stack of (tag, body, place, CTE names in scope, query the node belongs to)."""

    def __init__(self) -> None:
        self.survey = Survey()
        self._stack: list[_Step] = []
        self._root: Body = {}
        self._total: dict[int, bool] = {}       # id() of ColumnRefs in total expressions: whether as a text

    def statement(self, tag: str, body: Body, goes: str = "top") -> Survey:
        """Survey one tree. Raises Unparsable when it is too large."""
        self._root = body
        self._push(tag, body, goes, NOWHERE)
        budget = limits.ANALYSE_MAX_NODES
        while self._stack:
            budget -= 1
            if budget < 0:
                raise Unparsable("54001", TOO_COMPLEX)
            self._visit(*self._stack.pop())
        return self.survey

    # ------------------------------------------------------------ plumbing

    def _push(self, tag: str, body: Body, place: str, scope: Scope, extra: Any = None) -> None:
        self._stack.append((tag, body, place, scope, extra))

    def _push_all(self, values: Any, place: str, scope: Scope) -> None:
        for value in values if type(values) is list else (values,):
            tag, body = unwrap(value)
            if tag:
                self._push(tag, body, place, scope)
            elif value:
                self._push("", value, place, scope)

    def _visit(self, tag: str, body: Body, place: str, scope: Scope, extra: Any) -> None:
        if tag == "SelectStmt":
            self._select(body, place, scope, extra)
        elif tag in DML:
            self._dml(body, place, scope, extra)
        elif tag == "ColumnRef":
            place = place if place in (OUT, EQUAL, COUNT, SUM) else _below(place)
            self.survey.references.append(Reference(
                strings(body.get("fields")), place, id(body) in self._total, self._total.get(id(body), False)))
        elif tag == "FuncCall":
            self._function(body, _below(place), scope)
        elif tag == "SubLink":
            self._push_all(body.get("testexpr"), _below(place), scope)
            self._operator(body.get("operName"))
            goes = "exists" if body.get("subLinkType") == "EXISTS_SUBLINK" else "scalar"
            self._push(*unwrap(body.get("subselect")), goes, scope)
        elif place == "predicate":
            self._predicate(tag, body, scope)
        elif tag == "RangeVar":
            self._table(body, scope)
        else:
            self._generic(tag, body, _below(place), scope)

    def _generic(self, tag: str, body: Body, place: str, scope: Scope) -> None:
        if tag == "A_Expr":
            self._operator(body.get("name"))
        elif tag == "SortBy":
            self._operator(body.get("useOp"))
        elif tag == "A_Indirection":
            self.survey.fields.update(name for name in strings(body.get("indirection")) if name != "*")
        elif tag == "RangeTableSample":
            method = strings(body.get("method"))[-1:]
            if method not in (("bernoulli",), ("system",)):
                self.survey.strange.append("TABLESAMPLE with a method of its own")
        elif tag == "ExecuteStmt":
            self.survey.dynamic = True
        if tag and tag not in EXPRESSIONS and tag not in DEFINITIONS and body is not self._root:
            self.survey.strange.append(tag)
        for _, inner_tag, inner in children(tag, body):
            if inner_tag != "A_Const" and inner:
                self._push(inner_tag, inner, "scalar" if inner_tag == "SelectStmt" else place, scope)

    def _operator(self, name: Any) -> None:
        self.survey.operators.update(strings(name)[-1:])

    def _function(self, body: Body, place: str, scope: Scope) -> None:
        name = strings(body.get("funcname"))
        args = body.get("args", [])
        self.survey.functions.append((name, all(constant_like(arg) for arg in args)))
        if name[-1:] == ("set_config",):
            texts = [text_constant(arg) for arg in args[:2]] + [None, None]
            self.survey.settings.append((texts[0], texts[1]))
        plain = not body.get("agg_distinct") and not body.get("agg_order")
        if name[:-1] in ((), ("pg_catalog",)) and len(args) == 1 and plain and column(args[0]):
            counted = AGGREGATES.get(name[-1], place)
        else:
            counted = place
        # A count says the same in a condition; a sum there is compared, which finds it out exactly.
        self._push_all(args, counted if counted == COUNT or place not in KEPT else place, scope)
        for field in ("agg_order", "agg_filter"):
            self._push_all(body.get(field), CONTROL, scope)
        if "over" in body:
            self._push("WindowDef", body["over"], CONTROL, scope)

    # ------------------------------------------------------------ queries

    def _with(self, clause: Body | None, scope: Scope) -> Scope:
        if not clause:
            return scope
        ctes = [unwrap(item)[1] for item in clause.get("ctes", ())]
        names = [str(cte.get("ctename", "")) for cte in ctes]
        everything, each = scope.within(names, recursive=bool(clause.get("recursive")))
        for cte, name, inner in zip(ctes, names, each, strict=True):
            tag, body = unwrap(cte.get("ctequery"))
            query = Query("cte", name, strings(cte.get("aliascolnames")))
            if cte.get("cycle_clause") or cte.get("search_clause"):
                self.survey.strange.append("SEARCH or CYCLE")
            self._push(tag, body, "cte", inner, query)
        return everything

    def _select(self, body: Body, place: str, scope: Scope, query: Query | None) -> None:
        goes = place if place in ("top", "from", "cte", "exists", "scalar", "sink") else "scalar"
        if body.get("intoClause"):
            goes = "sink"
            self._push_all(body["intoClause"].get("options", []), EXPRESSION, scope)
        query = query or Query(goes)
        query.goes = goes
        self.survey.queries.append(query)
        scope = self._with(body.get("withClause"), scope)
        for field in ("larg", "rarg"):
            if field in body:
                branch = Query(goes)
                query.branches.append(branch)
                self._push("SelectStmt", body[field], goes, scope, branch)
        query.targets = [unwrap(item)[1] for item in body.get("targetList", ())]
        self._targets(query.targets, scope, shown=goes == "top")
        query.sources = self._from(body.get("fromClause", []), scope)
        self._push_all(body.get("whereClause"), "predicate", scope)
        query.distinct = body.get("distinctClause") == [{}] or bool(body.get("groupDistinct"))
        for field in ("distinctClause", "groupClause", "sortClause"):
            query.positions += _positions(body.get(field, []))
        for item in body.get("sortClause", ()):
            if not self._sorts_output(item, query):
                self._push_all(item, CONTROL, scope)
        self._push_all(body.get("valuesLists"), EXPRESSION, scope)
        for field in ("groupClause", "havingClause", "windowClause", "limitOffset", "limitCount"):
            self._push_all(body.get(field), CONTROL, scope)
        if body.get("distinctClause") != [{}]:
            self._push_all(body.get("distinctClause"), CONTROL, scope)

    def _sorts_output(self, item: Any, query: Query) -> bool:
        """ORDER BY a name of the select list: PostgreSQL prefers it to a column of the sources, so that is what counts.

        With a star in the list it might be a name out of it, and then it is looked for as any other reference.
        """
        _, sort = unwrap(item)
        name = column(sort.get("node"))
        named = [target for target in query.targets if len(name) == 1 and target.get("name") == name[0]]
        if not named or any(column(target.get("val"))[-1:] == ("*",) for target in query.targets):
            return False
        self._operator(sort.get("useOp"))
        query.sorted_names.add(name[0])
        query.sorted += [fields for target in named if (fields := column(target.get("val")))]
        return True

    def _targets(self, targets: list[Body], scope: Scope, *, shown: bool = False) -> None:
        """`shown`: these are columns that the client gets."""
        for target in targets:
            found = total(target.get("val")) if shown and not column(target.get("val")) else None
            if found is not None:
                texts = {id(body) for body in found.texts}
                self._total.update((id(body), id(body) in texts) for body in found.references)
                self.survey.total_functions.update(found.functions)
            self._push_all(target.get("val"), OUT if column(target.get("val")) else EXPRESSION, scope)
            self._push_all(target.get("indirection"), EXPRESSION, scope)

    def _dml(self, body: Body, place: str, scope: Scope, query: Query | None) -> None:
        goes = place if place in ("top", "cte") else "scalar"
        query = query or Query(goes)
        query.goes = goes
        self.survey.queries.append(query)
        scope = self._with(body.get("withClause"), scope)
        target = self._table(body["relation"], NOWHERE)
        self.survey.written.add(target.relname)
        query.sources = [target]
        names = ["old", "new", "excluded"]
        returning = body.get("returningClause", {})
        names += [str(unwrap(option)[1].get("value", "")) for option in returning.get("options", ())]
        self.survey.sources += [Source(name, "table", target.relname, target.schema) for name in names]
        query.sources += self._from(body.get("fromClause", []) + body.get("usingClause", []), scope)
        if "sourceRelation" in body:
            query.sources += self._from([body["sourceRelation"]], scope)
        query.targets = [unwrap(item)[1] for item in returning.get("exprs", ())]
        self._targets(query.targets, scope, shown=goes == "top")
        for field in ("whereClause", "joinCondition"):
            self._push_all(body.get(field), "predicate", scope)
        for item in body.get("targetList", []) + body.get("cols", []):
            self._push_all(unwrap(item)[1].get("val"), WRITTEN, scope)
            self._push_all(unwrap(item)[1].get("indirection"), EXPRESSION, scope)
        self._push_all(body.get("mergeWhenClauses"), WRITTEN, scope)
        if "selectStmt" in body:
            self._push(*unwrap(body["selectStmt"]), "sink", scope)
        self._conflict(body.get("onConflictClause", {}), scope)

    def _conflict(self, clause: Body, scope: Scope) -> None:
        for item in clause.get("targetList", ()):
            target = unwrap(item)[1]
            if column(target.get("val")) == ("excluded", target.get("name")):
                self.survey.references.append(Reference(column(target["val"]), COPIED))
            else:
                self._push_all(target.get("val"), WRITTEN, scope)
            self._push_all(target.get("indirection"), EXPRESSION, scope)
        self._push_all(clause.get("whereClause"), EXPRESSION, scope)
        if "infer" in clause:
            self._push("InferClause", clause["infer"], EXPRESSION, scope)

    # ------------------------------------------------------------ FROM

    def _from(self, items: list[Any], scope: Scope) -> list[Source]:
        return [self._source(item, scope) for item in items]

    def _source(self, item: Any, scope: Scope, depth: int = 0) -> Source:
        tag, body = unwrap(item)
        alias = body.get("alias", {})
        name = str(alias.get("aliasname", ""))
        renames = strings(alias.get("colnames"))
        if tag == "RangeVar":
            return self._table(body, scope)
        if tag == "JoinExpr":
            return self._join(body, scope, depth)
        if tag == "RangeTableSample":
            self._push(tag, {k: v for k, v in body.items() if k != "relation"}, EXPRESSION, scope)
            return self._source(body.get("relation"), scope, depth + 1)
        if tag == "RangeSubselect":
            source = Source(name, "query", renames=renames)
            source.query = Query("from", "", renames)
            self._push(*unwrap(body.get("subquery")), "from", scope, source.query)
        else:
            source = Source(name or _function_name(body), "function", renames=renames)
            self._push(tag, {k: v for k, v in body.items() if k != "alias"}, EXPRESSION, scope)
        self.survey.sources.append(source)
        return source

    def _join(self, body: Body, scope: Scope, depth: int) -> Source:
        if depth > limits.JOIN_MAX_DEPTH:
            raise Unparsable("54001", TOO_COMPLEX)
        left = self._source(body.get("larg"), scope, depth + 1)
        right = self._source(body.get("rarg"), scope, depth + 1)
        alias = body.get("alias", {})
        source = Source(str(alias.get("aliasname", "")), "join", renames=strings(alias.get("colnames")))
        source.parts = [left, right]
        if "join_using_alias" in body:
            named = Source(str(body["join_using_alias"].get("aliasname", "")), "join")
            named.parts = source.parts
            self.survey.sources.append(named)
        using = strings(body.get("usingClause"))
        if using or body.get("isNatural"):
            full = body.get("jointype") == "JOIN_FULL"
            self.survey.joins.append(Join(using, bool(body.get("isNatural")), full, [left], [right]))
        self._push_all(body.get("quals"), "predicate", scope)
        self.survey.sources.append(source)
        return source

    def _table(self, body: Body, scope: Scope) -> Source:
        relname, schema = str(body.get("relname", "")), str(body.get("schemaname", ""))
        alias = body.get("alias", {})
        kind = "cte" if not schema and relname in scope else "table"
        source = Source(str(alias.get("aliasname") or relname), kind, relname, schema, strings(alias.get("colnames")))
        self.survey.sources.append(source)
        return source

    # ------------------------------------------------------------ WHERE and ON

    def _predicate(self, tag: str, body: Body, scope: Scope) -> None:
        if tag == "BoolExpr":
            self._push_all(body.get("args"), "predicate", scope)
            return
        if tag == "NullTest" and column(body.get("arg")):
            self._push_all(body["arg"], EQUAL, scope)
            return
        equal = tag == "A_Expr" and strings(body.get("name")) in (("=",), ("pg_catalog", "="))
        if equal and body.get("kind") in ("AEXPR_OP", "AEXPR_IN", "AEXPR_OP_ANY"):
            left, right = body.get("lexpr"), body.get("rexpr")
            self._operator(body.get("name"))
            if column(left) and constant_like(right):
                self._push_all(left, EQUAL, scope)
                return
            if body["kind"] == "AEXPR_OP" and column(right) and constant_like(left):
                self._push_all(right, EQUAL, scope)
                return
            if body["kind"] == "AEXPR_OP" and column(left) and column(right):
                self.survey.pairs.append((column(left), column(right)))
                return
        self._generic(tag, body, CONTROL, scope)


def _below(place: str) -> str:
    return CONTROL if place == "predicate" else place if place in KEPT else EXPRESSION


def _function_name(body: Body) -> str:
    for item in _first_functions(body.get("functions", ())):
        tag, call = unwrap(item)
        if tag == "FuncCall":
            return strings(call.get("funcname"))[-1]
    return ""


def _first_functions(functions: Iterable[Any]) -> list[Any]:
    for entry in functions:
        tag, body = unwrap(entry)
        return list(body.get("items", ())) if tag == "List" else [entry]
    return []


def _positions(items: list[Any]) -> list[int]:
    found = []
    for item in items:
        tag, body = unwrap(item)
        if tag == "SortBy":
            tag, body = unwrap(body.get("node"))
        if tag == "A_Const" and "ival" in body:
            found.append(int(body["ival"].get("ival", 0)))
    return found


def survey(tag: str, body: Body, goes: str = "top") -> Survey:
    """Survey one statement's tree; `goes` says where its rows go ("top": to the client, "sink": into a relation)."""
    return Surveyor().statement(tag, body, goes)
