"""Which tables, columns, functions and schemas a statement names. Used by `classify`; judged by policy's rules.

Names are as written: nothing here knows a catalog or a search_path. What can be read in two ways counts as both, so a
rule that restricts is never slipped past; rules that allow ask for more (`policy/conditions.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hoopfast import limits
from hoopfast.analysis.builtins import ROW_FUNCTIONS
from hoopfast.analysis.ctes import NOWHERE, Scope
from hoopfast.analysis.parse import TOO_COMPLEX, Unparsable
from hoopfast.analysis.tree import Body, children, strings, unwrap

ANY = ""                # a column of whichever table of the statement has it
EVERY = "*"             # all columns of a table

# Statements that name the columns they touch; every other kind touches all columns of the tables it names.
QUERIES = frozenset({
    "SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CopyStmt", "ExplainStmt", "PrepareStmt",
    "DeclareCursorStmt", "CreateTableAsStmt", "ViewStmt",
})
WRITES = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
NAMED_OBJECTS = frozenset({
    "OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE", "OBJECT_INDEX", "OBJECT_SEQUENCE",
})
# Where the grammar puts the name of a schema, or what stands in one. It writes pg_catalog itself in many places.
SCHEMA_FIELDS = {
    "CreateSchemaStmt": ("schemaname",), "AlterObjectSchemaStmt": ("newschema",),
    "ImportForeignSchemaStmt": ("local_schema",),
}
FUNCTION_FIELDS = {
    "FuncCall": "funcname", "ObjectWithArgs": "objname", "CreateTrigStmt": "funcname", "CreateFunctionStmt": "funcname",
}
QUALIFIED_FIELDS = {
    **FUNCTION_FIELDS, "TypeName": "names", "DefineStmt": "defnames", "CreateEnumStmt": "typeName",
    "CreateRangeStmt": "typeName", "CreateDomainStmt": "domainname", "AlterEnumStmt": "typeName",
}
# Statements about schemas, and about all that is in one.
SCHEMA_STATEMENTS = frozenset({
    *SCHEMA_FIELDS, "DropStmt", "GrantStmt", "RenameStmt", "CommentStmt", "AlterOwnerStmt", "SecLabelStmt",
    "ReindexStmt",
})
NAMING = frozenset({
    *QUALIFIED_FIELDS, *SCHEMA_STATEMENTS, "JoinExpr", "RangeSubselect", "RangeFunction", "RangeTableFunc", "JsonTable",
    "A_Indirection", "CopyStmt", "IntoClause", "ViewStmt", "DefElem",
})
# Nodes that name nothing; FOR UPDATE OF names what stands in FROM already.
LEAVES = frozenset({"A_Const", "A_Star", "String", "Integer", "Float", "Boolean", "ParamRef", "LockingClause"})
IMPLICIT_SCHEMA = "pg_catalog"
ON_SCHEMAS = frozenset({"OBJECT_SCHEMA"})


class Touched(NamedTuple):
    """`columns` are (table as written or ANY, column or EVERY); `attributes` are words after a dot, which PostgreSQL
    takes for a function of the row where there is no such column; `schemas` are those named for anything but tables."""

    tables: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    functions: tuple[str, ...]
    attributes: tuple[str, ...]
    schemas: tuple[str, ...]


class Touches:
    """One pass over one statement, with an explicit stack of (tag, body, names of CTEs in scope)."""

    def __init__(self) -> None:
        self._stack: list[tuple[str, Body, Scope]] = []
        self._tables: dict[str, None] = {}
        self._aliases: dict[str, set[str]] = {}         # by name in the statement: tables as written
        self._others: set[str] = set()                  # names of subqueries, CTEs, functions
        self._columns: dict[tuple[str, str], None] = {}
        self._references: list[tuple[str, ...]] = []
        self._functions: dict[str, None] = {}
        self._attributes: dict[str, None] = {}
        self._schemas: dict[str, None] = {}
        # id() of nodes: WITH clauses, whose queries are walked in other scopes, and names that are known already.
        # The tree outlives the walk.
        self._clauses: set[int] = set()
        self._done: set[int] = set()
        self._everything = False

    def nodes(self, tag: str, node: Body) -> Iterator[tuple[str, Body]]:
        """Every node that is or may hold a statement or a name, the root first; the caller looks for its own things.

        Raises Unparsable when there are more than ANALYSE_MAX_NODES.
        """
        self._stack.append((tag, node, NOWHERE))
        self._everything = tag not in QUERIES
        budget = limits.ANALYSE_MAX_NODES
        while self._stack:
            budget -= 1
            if budget < 0:
                raise Unparsable("54001", TOO_COMPLEX)
            here, body, scope = self._stack.pop()
            yield here, body
            self._visit(here, body, scope)

    def found(self) -> Touched:
        """What all the nodes name; for when `nodes` has ended."""
        for fields in self._references:
            self._resolve(fields)
        if self._everything:
            self._all_of(self._tables)
        return Touched(tuple(self._tables), tuple(self._columns), tuple(self._functions), tuple(self._attributes),
                       tuple(self._schemas))

    # ------------------------------------------------------------ the walk

    def _visit(self, tag: str, body: Body, scope: Scope) -> None:
        if tag == "ColumnRef":
            if id(body) not in self._done:
                self._references.append(strings(body.get("fields")))
            return
        if tag == "RangeVar":
            if id(body) not in self._done:
                self._source(body, scope)
        elif tag == "SelectStmt":
            scope = self._with(body, scope)
            self._stars(body.get("targetList"), body.get("fromClause"), scope)
        elif tag in WRITES:
            scope = self._with(body, scope)
            self._write(tag, body, scope)
        elif tag in NAMING:
            self._named(tag, body, scope)
        for _, inner_tag, inner in children(tag, body):
            if inner_tag not in LEAVES and id(inner) not in self._clauses:
                self._stack.append((inner_tag, inner, scope))

    def _with(self, body: Body, scope: Scope) -> Scope:
        """The scope after WITH."""
        clause = body.get("withClause")
        if clause is None:
            return scope
        self._clauses.add(id(clause))
        ctes = [unwrap(item)[1] for item in clause.get("ctes", ())]
        names = [str(cte.get("ctename", "")) for cte in ctes]
        everything, each = scope.within(names, recursive=bool(clause.get("recursive")))
        self._others.update(names)
        self._stack += [(*unwrap(cte.get("ctequery")), inner) for cte, inner in zip(ctes, each, strict=True)]
        return everything

    def _source(self, body: Body, scope: Scope) -> None:
        name, alias = written(body), body.get("alias", {})
        shown = str(alias.get("aliasname") or body.get("relname", ""))
        if name in scope and "schemaname" not in body:
            self._others.add(shown)
            return
        self._tables[name] = None
        self._aliases.setdefault(shown, set()).add(name)
        if "colnames" in alias:
            self._all_of([name])                        # columns under other names

    def _join_alias(self, body: Body, scope: Scope) -> None:
        """A join with a name: that stands for the row, and may rename its columns."""
        tables = _own_tables([body.get("larg"), body.get("rarg")], scope)
        self._aliases.setdefault(str(body["alias"].get("aliasname", "")), set()).update(tables)
        if "colnames" in body["alias"]:
            self._all_of(tables)

    def _named(self, tag: str, body: Body, scope: Scope) -> None:
        """What other nodes name besides what is below them."""
        if tag == "JoinExpr":
            for name in strings(body.get("usingClause")):
                self._columns[ANY, name] = None
            if body.get("isNatural"):
                self._columns[ANY, EVERY] = None
            if "alias" in body:
                self._join_alias(body, scope)
        elif tag in ("RangeSubselect", "RangeFunction", "RangeTableFunc", "JsonTable"):
            self._others.add(str(body.get("alias", {}).get("aliasname", "")))
        elif tag == "A_Indirection":
            self._attributes.update(dict.fromkeys(n for n in strings(body.get("indirection")) if n != EVERY))
        elif tag == "CopyStmt" and "relation" in body:
            self._listed(written(body["relation"]), strings(body.get("attlist")))
        elif tag in ("IntoClause", "ViewStmt"):
            target = written(body.get("rel") or body.get("view") or {})
            self._tables[target] = None
            self._all_of([target])
        elif tag == "DropStmt":
            self._dropped(body)
        if tag in QUALIFIED_FIELDS:
            qualified = strings(body.get(QUALIFIED_FIELDS[tag]))
            if tag in FUNCTION_FIELDS and qualified:
                self._functions[".".join(qualified)] = None
            self._qualified(qualified)
        elif tag in SCHEMA_STATEMENTS or tag == "DefElem":
            self._schemas_of(tag, body)

    def _listed(self, table: str, names: Iterable[str]) -> None:
        """Columns in a list behind a table's name; without a list it is all of them."""
        found = list(names) or [EVERY]
        self._columns.update(dict.fromkeys((table, name) for name in found))

    def _all_of(self, tables: Iterable[str]) -> None:
        self._columns.update(dict.fromkeys((table, EVERY) for table in tables))

    # ------------------------------------------------------------ queries and writes

    def _stars(self, targets: Any, sources: Any, scope: Scope, *more: str) -> None:
        """A lone * stands for all columns of this query's own tables; subqueries have theirs."""
        for target in targets or ():
            _, item = unwrap(target)
            tag, reference = unwrap(item.get("val"))
            if tag == "ColumnRef" and strings(reference.get("fields")) == (EVERY,):
                self._all_of([*more, *_own_tables(sources or (), scope)])
                self._done.add(id(reference))

    def _write(self, tag: str, body: Body, scope: Scope) -> None:
        relation = body["relation"]
        # The target is a table always, also where a CTE has its name.
        self._source(relation, NOWHERE)
        self._done.add(id(relation))
        target = written(relation)
        returning = body.get("returningClause", {})
        # Names of the target's row, before and after.
        renamed = [str(unwrap(one)[1].get("value", "")) for one in returning.get("options", ())]
        for name in ("old", "new", "excluded", *renamed):
            self._aliases.setdefault(name, set()).add(target)
        if tag == "InsertStmt":
            self._listed(target, _names(body.get("cols")))
        elif tag == "UpdateStmt":
            self._listed(target, _names(body.get("targetList")))
        elif tag == "DeleteStmt":
            self._all_of([target])
        for item in body.get("mergeWhenClauses", ()):
            _, when = unwrap(item)
            if when.get("commandType") != "CMD_NOTHING":
                self._listed(target, _names(when.get("targetList")))
        conflict = body.get("onConflictClause", {})
        if "targetList" in conflict:
            self._listed(target, _names(conflict["targetList"]))
        for item in conflict.get("infer", {}).get("indexElems", ()):
            self._columns[target, str(unwrap(item)[1].get("name", EVERY))] = None
        sources = [*body.get("fromClause", ()), *body.get("usingClause", ()), body.get("sourceRelation")]
        self._stars(returning.get("exprs"), sources, scope, target)

    # ------------------------------------------------------------ functions, schemas, objects

    def _schemas_of(self, tag: str, body: Body) -> None:
        for field in SCHEMA_FIELDS.get(tag, ()):
            if field in body:
                self._schemas[str(body[field])] = None
        kind = body.get("removeType") or body.get("objtype") or body.get("renameType") or body.get("objectType")
        if kind in ON_SCHEMAS or body.get("targtype") == "ACL_TARGET_ALL_IN_SCHEMA" or (
                tag == "ReindexStmt" and body.get("kind") == "REINDEX_OBJECT_SCHEMA"):
            names = [*strings(body.get("objects")), *strings([body.get("object")])]
            names += [str(body[field]) for field in ("subname", "newname", "name") if field in body]
            self._schemas.update(dict.fromkeys(names))
        elif tag == "DefElem" and body.get("defname") in ("schema", "schemas"):
            inner_tag, inner = unwrap(body.get("arg"))
            names = [*strings(inner.get("items"))] if inner_tag == "List" else [*strings([body.get("arg")])]
            self._schemas.update(dict.fromkeys(names))

    def _qualified(self, name: tuple[str, ...]) -> None:
        if len(name) > 1 and name[-2] != IMPLICIT_SCHEMA:
            self._schemas[name[-2]] = None

    def _dropped(self, body: Body) -> None:
        for item in body.get("objects", ()):
            _, inner = unwrap(item)
            name = strings(inner.get("items"))
            if body.get("removeType") in NAMED_OBJECTS:
                self._tables[".".join(name[-2:])] = None
            else:
                self._qualified(name)

    # ------------------------------------------------------------ references

    def _resolve(self, fields: tuple[str, ...]) -> None:
        name = fields[-1] if fields else EVERY
        if len(fields) < 2:
            # A table's own name stands for its row.
            self._all_of(self._aliases.get(name, ()))
            self._columns[ANY, name] = None
            return
        qualifier = fields[-2]
        if name != EVERY:
            self._attributes[name] = None
        for table in self._aliases.get(qualifier, ()):
            self._columns[table, name] = None
            if name in ROW_FUNCTIONS and name != "count":
                self._columns[table, EVERY] = None      # row.to_json is to_json(row); count says nothing of values
        if qualifier not in self._aliases and qualifier not in self._others:
            self._columns[ANY, name] = None             # what only the server can explain


def written(relation: Body) -> str:
    """A RangeVar as "schema.table" or "table"."""
    name = str(relation.get("relname", ""))
    return f"{relation['schemaname']}.{name}" if relation.get("schemaname") else name


def _names(targets: Any) -> list[str]:
    return [str(unwrap(target)[1].get("name", EVERY)) for target in targets or ()]


def _own_tables(sources: Iterable[Any], scope: Scope) -> list[str]:
    """The tables of one FROM clause, without what is inside its subqueries."""
    found: list[str] = []
    pending = list(sources)
    while pending:
        tag, body = unwrap(pending.pop())
        if tag == "RangeVar":
            name = written(body)
            if "schemaname" in body or name not in scope:
                found.append(name)
        elif tag == "JoinExpr":
            pending += [body.get("larg"), body.get("rarg")]
        elif tag == "RangeTableSample":
            pending.append(body.get("relation"))
    return found
