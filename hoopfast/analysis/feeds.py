"""The walk over one statement that finds the values that feed masked columns. Used by `private`, whose docstring says
what that means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from hoopfast import limits
from hoopfast.analysis.builtins import CONSTANT_ONLY, DATA_CATALOGS, SCHEMA_HELPERS, builtin_allowed
from hoopfast.analysis.catalog import Catalog, PolicyColumn
from hoopfast.analysis.parse import TOO_COMPLEX, Unparsable
from hoopfast.analysis.tree import Body, children, column, strings, unwrap, walk

QUERIES: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
# Nodes that name something.
NAMING: Final = QUERIES | {
    "RangeVar", "CommonTableExpr", "RangeSubselect", "JoinExpr", "FuncCall", "A_Expr", "ReturningOption",
    "ReturningClause", "RangeFunction", "ColumnRef", "ParamRef",
}
# Relations that show what people send.
TEXTS: Final = frozenset({"pg_stat_activity", "pg_stat_statements", "pg_prepared_statements", "pg_cursors"})
# What an output column without a name may be called, besides its functions and types.
UNNAMED: Final = frozenset({
    "?column?", "case", "coalesce", "greatest", "least", "row", "array", "exists", "nullif", "bool", "xmlconcat",
})
# Functions in FROM whose only column is called like themselves, or like their alias.
SCALARS: Final = frozenset({
    "generate_series", "generate_subscripts", "unnest", "string_to_table", "regexp_split_to_table",
})


class Sensitive:
    """The columns that masks of the policy name on one connection, whoever is exempt, and what may hold them.

    Without a catalog only the policy's own names are known, and every other table counts as unknown.
    """

    def __init__(self, catalog: Catalog | None, columns: Iterable[PolicyColumn]) -> None:
        self._catalog = catalog
        self.masked: dict[str, frozenset[str]] = {}         # by the bare name of a relation
        self.order: dict[str, set[tuple[str, ...]]] = {}    # columns of all relations of that name
        opaque = set()
        for _, table, name in columns:
            self.masked[table] = self.masked.get(table, frozenset()) | {name}
        for relation in catalog.relations if catalog is not None else ():
            if relation.kind in "vm" and relation.reads:
                opaque.add(relation.name)
                continue
            mine = frozenset(c.name for c in relation.columns if c.policy or c.derived)
            self.masked[relation.name] = self.masked.get(relation.name, frozenset()) | mine
            self.order.setdefault(relation.name, set()).add(tuple(c.name for c in relation.columns))
        self.opaque = frozenset(opaque) | (catalog.ruled if catalog is not None else frozenset())
        self.names: frozenset[str] = frozenset().union(*self.masked.values())
        self.relations = frozenset(self.masked) | self.opaque

    def columns_of(self, schema: str, name: str) -> frozenset[str]:
        """The masked columns that a relation so written may have."""
        catalog = self._catalog
        if catalog is not None and (schema, name) in catalog.apart:
            return frozenset()
        if name in self.masked:
            return self.masked[name]
        known = catalog is not None and (name in catalog.known or name in DATA_CATALOGS)
        return frozenset() if known else self.names

    def may_reach(self, function: tuple[str, ...]) -> bool:
        """Whether a function may read or write masked columns, for all that is known."""
        bare = function[-1] if function else ""
        mine = self._catalog.functions.get(bare) if self._catalog is not None else None
        if mine is not None and function[:-1] != ("pg_catalog",):
            return not mine
        return not (builtin_allowed(bare) or bare in CONSTANT_ONLY or function in SCHEMA_HELPERS)

    def unclean(self, operator: str) -> bool:
        return self._catalog is not None and operator in self._catalog.operators

    def code_names(self) -> frozenset[str]:
        """Names that make a piece of code suspicious."""
        functions = self._catalog.functions if self._catalog is not None else {}
        dirty = frozenset(name for name, clean in functions.items() if not clean)
        return self.relations | self.names | dirty | {"execute"}


class _Named:
    """A query or function in WITH or FROM: its values are known by the names of its columns."""

    def __init__(self, renames: Iterable[str] = ()) -> None:
        self.renames = frozenset(renames)
        self.open = False                               # columns of names that nobody knows
        self.items: list[tuple[frozenset[str], Any]] = []


class Walk:
    """One statement. `places` are byte offsets of constants, `parameters` numbers of $n."""

    def __init__(self, sensitive: Sensitive) -> None:
        self.places: set[int] = set()
        self.parameters: set[int] = set()
        self.everything = False
        self.touched = False
        self.reads = False
        self.echoes = False
        self._places: dict[int, set[int]] = {}          # of parameters
        self._stands_in: dict[int, int] = {}            # node -> the one around it, by identity: the tree stays
        self._hot: set[int] = set()                     # nodes that hold a masked column
        self._sensitive = sensitive
        self._names: set[str] = set()                   # columns that may be masked ones, by bare name
        self._met: set[str] = set()                     # columns that a masked one met
        self._met_any = False
        self._sources: dict[str, list[frozenset[str] | None]] = {}      # None: may show anything
        self._rows: set[str] = set()                    # names of sources whose rows may hold masked columns
        self._named: list[_Named] = []
        self._todo: list[tuple[Any, ...]] = []

    def run(self, tag: str, node: Body, deep: bool) -> None:
        """`deep`: look for the values; otherwise everything is protected where a masked column may be."""
        nodes = self._find_names(tag, node)
        dirty = self._find_sources(nodes)
        self.touched = bool(self._names) or dirty or self.everything
        self.everything = self.everything or (self.touched and not deep)
        self.reads = self.everything or self.reads
        if not self.touched or self.everything:
            return
        self._close(nodes)
        for kind, body in nodes:
            if kind == "ParamRef":
                self._places.setdefault(int(body.get("number", 0)), set()).add(int(body.get("location", 0)))
        self.reads = self.reads or bool(self._hot)
        self._todo.append((self._query, tag, node, None))
        while self._todo:
            step, *rest = self._todo.pop()
            step(*rest)
        self._settle()
        # A parameter that stands somewhere else too may be an output column.
        self.echoes = self.echoes or any(self._places.get(number) for number in self.parameters)

    # ------------------------------------------------------------ names

    def _find_names(self, tag: str, node: Body) -> list[tuple[str, Body]]:
        """The nodes that name something; remembers what every node stands in. Raises Unparsable."""
        named = []
        stack = [(tag, node)]
        budget = limits.ANALYSE_MAX_NODES
        while stack:
            kind, body = stack.pop()
            budget -= 1
            if budget < 0:
                raise Unparsable("54001", TOO_COMPLEX)
            if kind in NAMING:
                named.append((kind, body))
            if kind in ("A_Const", "ColumnRef"):
                continue
            for _, inner_kind, inner in children(kind, body):
                self._stands_in[id(inner)] = id(body)
                stack.append((inner_kind, inner))
        return named

    def _find_sources(self, nodes: list[tuple[str, Body]]) -> bool:
        """Tables and other sources with the masked columns they may have; whether a function may reach one."""
        ctes = {str(body.get("ctename", "")) for tag, body in nodes if tag == "CommonTableExpr"}
        dirty = False
        for tag, body in nodes:
            if tag == "RangeVar":
                self._table(body, ctes)
            elif tag == "CommonTableExpr":
                self._source(str(body.get("ctename", "")), None)
            elif tag in ("RangeSubselect", "JoinExpr") and "alias" in body:
                self._source(str(body["alias"].get("aliasname", "")), None)
            elif tag == "FuncCall":
                dirty = dirty or self._sensitive.may_reach(strings(body.get("funcname")))
            elif tag == "A_Expr":
                dirty = dirty or self._sensitive.unclean((strings(body.get("name")) or ("",))[-1])
            elif tag in QUERIES and "relation" in body:
                shown = self._columns(body["relation"], frozenset())
                for name in ("old", "new", "excluded"):
                    self._sources.setdefault(name, []).append(shown)
            elif tag == "ReturningOption":
                self._source(str(body.get("value", "")), None)
        return dirty

    def _table(self, body: Body, ctes: set[str]) -> None:
        alias = body.get("alias", {})
        shown = self._columns(body, ctes)
        renamed = strings(alias.get("colnames"))
        name = str(alias.get("aliasname") or body.get("relname", ""))
        cte = not body.get("schemaname") and body.get("relname") in ctes
        self._source(name, None if renamed or cte else shown, carries=bool(shown) or cte)
        if shown:
            self._names |= shown
            self._names.update(renamed)

    def _columns(self, relation: Body, ctes: Iterable[str]) -> frozenset[str]:
        schema, name = str(relation.get("schemaname", "")), str(relation.get("relname", ""))
        if not schema and name in ctes:
            return frozenset()
        self.everything = self.everything or name in self._sensitive.opaque
        self.reads = self.reads or name in DATA_CATALOGS
        self.echoes = self.echoes or name in TEXTS
        return self._sensitive.columns_of(schema, name)

    def _source(self, name: str, shown: frozenset[str] | None, *, carries: bool = True) -> None:
        self._sources.setdefault(name, []).append(shown)
        if carries:
            self._rows.add(name)

    def _close(self, nodes: list[tuple[str, Body]]) -> None:
        """Grow the names until nothing changes: what a query calls a masked column, or what is made of one."""
        outputs: list[tuple[Callable[[Body], frozenset[str]], Body]] = []
        leaves = [node for node in nodes if node[0] in ("ColumnRef", "FuncCall", "A_Expr")]
        for tag, body in nodes:
            if tag in ("SelectStmt", "ReturningClause"):
                items = body.get("targetList" if tag == "SelectStmt" else "exprs", ())
                outputs += [(_called, unwrap(item)[1]) for item in items]
            elif tag == "RangeFunction":
                outputs.append((_function_names, body))
            elif tag in ("CommonTableExpr", "RangeSubselect", "JoinExpr"):
                renames = strings(body.get("aliascolnames")) + strings(body.get("alias", {}).get("colnames"))
                self._names.update(renames)
        while True:
            known = len(self._names)
            leaves = [leaf for leaf in leaves if not self._mark(*leaf)]
            for names, body in outputs:
                if id(body) in self._hot:
                    self._names |= names(body)
            outputs = [(names, body) for names, body in outputs if id(body) not in self._hot]
            if len(self._names) == known:
                return

    def _mark(self, tag: str, body: Body) -> bool:
        """Whether a node is a masked column for all that is known, or code that may reach one; then all that it stands
        in is remembered as holding one."""
        if tag == "ColumnRef":
            found = self._may_be(strings(body.get("fields")))
        elif tag == "FuncCall":
            found = self._sensitive.may_reach(strings(body.get("funcname")))
        else:
            found = self._sensitive.unclean((strings(body.get("name")) or ("",))[-1])
        place = id(body) if found else 0
        while place and place not in self._hot:
            self._hot.add(place)
            place = self._stands_in.get(place, 0)
        return found

    def _may_be(self, fields: tuple[str, ...]) -> bool:
        if not fields or not self._names:
            return False
        if fields[-1] == "*":
            return True
        if len(fields) == 1:
            return fields[0] in self._names or fields[0] in self._rows
        sources = self._sources.get(fields[-2])
        if sources is None:
            return fields[-1] in self._names
        return any(fields[-1] in (self._names if shown is None else shown) for shown in sources)

    def _mentions(self, value: Any) -> bool:
        """Whether an expression holds something that may be a masked column, or code that may reach one."""
        tag, body = unwrap(value)
        return id(body if tag else value) in self._hot

    # ------------------------------------------------------------ expressions

    def _expression(self, value: Any, hot: bool = False) -> None:
        """Parts between AND, OR and NOT stand for themselves."""
        stack = [value]
        while stack:
            part = stack.pop()
            tag, body = unwrap(part)
            if tag == "BoolExpr" and not hot:
                stack.extend(body.get("args", ()))
            elif type(part) is list:
                stack.extend(part)
            elif part and (hot or (not column(part) and self._mentions(part))):
                self._protect(part)

    def _protect(self, value: Any) -> None:
        stack = [("", {"value": value})]
        while stack:
            tag, body = stack.pop()
            if tag == "A_Const":
                place = int(body.get("location", 0))
                if not body.get("isnull") and place >= 0:
                    self.places.add(place)
            elif tag == "ParamRef":
                self.parameters.add(int(body.get("number", 0)))
                self._places.get(int(body.get("number", 0)), set()).discard(int(body.get("location", 0)))
            elif tag == "ColumnRef":
                name = (strings(body.get("fields")) or ("*",))[-1]
                self._met.add(name)
                self._met_any = self._met_any or name == "*"
            elif tag != "TypeName":
                stack.extend((inner_tag, inner) for _, inner_tag, inner in children(tag, body))

    # ------------------------------------------------------------ statements

    def _query(self, tag: str, body: Body, named: _Named | None) -> None:
        if tag == "SelectStmt":
            self._select(body, named, None)
        elif tag == "CopyStmt":
            self._expression(body.get("whereClause"))
        elif tag in QUERIES:
            self._with(body)
            self._write(tag, body)
            self._outputs(body.get("returningClause", {}).get("exprs", ()), named, None)

    def _with(self, body: Body) -> None:
        for item in body.get("withClause", {}).get("ctes", ()):
            cte = unwrap(item)[1]
            named = _Named(strings(cte.get("aliascolnames")))
            self._named.append(named)
            self._todo.append((self._query, *unwrap(cte.get("ctequery")), named))

    def _select(self, body: Body, named: _Named | None, hot: frozenset[int] | None) -> None:
        """`hot`: places of output columns that go into masked ones; -1: any of them."""
        self._with(body)
        if "larg" in body:
            # INTERSECT and EXCEPT compare, and rows of UNION go the same way.
            mixed = self._mentions({"SelectStmt": body})
            for field in ("larg", "rarg"):
                self._todo.append((self._select, body[field], named, frozenset({-1}) if mixed else hot))
        for row in body.get("valuesLists", ()):
            items = unwrap(row)[1].get("items", ())
            for place, item in enumerate(items):
                self._output({"name": f"column{place + 1}", "val": item}, named, _is_hot(place, hot))
        self._outputs(body.get("targetList", ()), named, hot)
        self._from(body.get("fromClause", []))
        for field in ("whereClause", "havingClause"):
            self._expression(body.get(field))
        for field in ("groupClause", "sortClause", "distinctClause", "windowClause", "limitCount", "limitOffset"):
            self._expression(body.get(field))

    def _outputs(self, items: Iterable[Any], named: _Named | None, hot: frozenset[int] | None) -> None:
        targets = [unwrap(item)[1] for item in items]
        if hot and any(column(target.get("val"))[-1:] == ("*",) for target in targets):
            hot = frozenset({-1})           # nobody knows which place is which
        for place, target in enumerate(targets):
            self._output(target, named, _is_hot(place, hot))

    def _output(self, target: Body, named: _Named | None, hot: bool) -> None:
        self._expression(target.get("val"), hot)
        if named is not None and not hot:
            named.items.append((_called(target), target.get("val")))

    def _from(self, items: list[Any]) -> None:
        stack = list(items)
        while stack:
            tag, body = unwrap(stack.pop())
            if tag == "JoinExpr":
                stack += [body.get("larg"), body.get("rarg")]
                self._expression(body.get("quals"))
                using = self._names if body.get("isNatural") else self._names.intersection(
                    strings(body.get("usingClause")))
                self._met.update(using)
            elif tag == "RangeSubselect":
                named = _Named(strings(body.get("alias", {}).get("colnames")))
                self._named.append(named)
                self._todo.append((self._query, *unwrap(body.get("subquery")), named))
            elif tag not in ("RangeVar", ""):
                named = _Named(_function_names(body) if tag == "RangeFunction" else ())
                named.open = tag != "RangeFunction" or not _scalars(body)
                named.items.append((named.renames, {tag: body}))
                self._named.append(named)
                self._expression({tag: body})

    def _write(self, tag: str, body: Body) -> None:
        relation = body.get("relation", {})
        masked = self._columns(relation, frozenset())
        if tag == "InsertStmt":
            hot = self._hot_places(relation, masked, [_name(item) for item in body.get("cols", ())])
            if "selectStmt" in body:
                self._select(unwrap(body["selectStmt"])[1], None, hot)
            conflict = body.get("onConflictClause", {})
            self._assign(conflict.get("targetList", ()), masked)
            self._expression(conflict.get("whereClause"))
            self._expression(conflict.get("infer", {}).get("whereClause"))
        elif tag == "UpdateStmt":
            self._assign(body.get("targetList", ()), masked)
        for clause in body.get("mergeWhenClauses", ()):
            when = unwrap(clause)[1]
            self._expression(when.get("condition"))
            if when.get("commandType") == "CMD_INSERT":
                hot = self._hot_places(relation, masked, [_name(item) for item in when.get("targetList", ())])
                for place, value in enumerate(when.get("values", ())):
                    self._expression(value, _is_hot(place, hot))
            else:
                self._assign(when.get("targetList", ()), masked)
        self._from(body.get("fromClause", []) + body.get("usingClause", []))
        self._from([body["sourceRelation"]] if "sourceRelation" in body else [])
        self._expression(body.get("whereClause"))
        self._expression(body.get("joinCondition"))

    def _assign(self, items: Iterable[Any], masked: frozenset[str]) -> None:
        for item in items:
            target = unwrap(item)[1]
            tag, value = unwrap(target.get("val"))
            part: Any = target.get("val")
            if tag == "MultiAssignRef":
                part = value.get("source")
                inner, row = unwrap(part)
                if inner == "RowExpr":
                    arguments = row.get("args", [])
                    part = arguments[int(value.get("colno", 0)) - 1] if arguments else None
            self._expression(part, target.get("name") in masked)
            self._expression(target.get("indirection"), target.get("name") in masked)

    def _hot_places(self, relation: Body, masked: frozenset[str], names: Sequence[str]) -> frozenset[int] | None:
        """Of a list of values for this relation's columns: those of masked ones. None: no column of it is masked."""
        if not masked:
            return None
        if names:
            return frozenset(place for place, name in enumerate(names) if name in masked)
        orders = self._sensitive.order.get(str(relation.get("relname", "")), set())
        if not orders:
            return frozenset({-1})
        hot = {place for order in orders for place, name in enumerate(order) if name in masked}
        # Columns of a later version of the table would follow.
        return frozenset(hot | {_AFTER + max(len(order) for order in orders)})

    # ------------------------------------------------------------ values with names

    def _settle(self) -> None:
        """Values in WITH and FROM, by what their names met. Each round protects an item, so it ends."""
        while True:
            changed = False
            for named in self._named:
                every = self._met_any or bool(named.renames & self._met) or (named.open and bool(self._met))
                for item in list(named.items):
                    if every or item[0] & self._met:
                        named.items.remove(item)
                        self._protect(item[1])
                        self.echoes = changed = True
            if not changed:
                return


_AFTER: Final = 1 << 20                 # added to a place: it and all that follow


def _is_hot(place: int, hot: frozenset[int] | None) -> bool:
    if not hot:
        return False
    return -1 in hot or place in hot or any(_AFTER <= mark <= _AFTER + place for mark in hot)


def _name(item: Any) -> str:
    return str(unwrap(item)[1].get("name", ""))


def _called(target: Body) -> frozenset[str]:
    """What an output column may be called."""
    if "name" in target:
        return frozenset({str(target["name"])})
    fields = column(target.get("val"))
    return frozenset(fields[-1:]) if fields else frozenset(_parts(target.get("val"))) | UNNAMED


def _parts(value: Any) -> Iterator[str]:
    for tag, body in walk("", {"value": value}):
        if tag == "FuncCall":
            yield from strings(body.get("funcname"))[-1:]
        elif tag == "TypeName":
            yield from strings(body.get("names"))[-1:]
        elif tag in ("ColumnRef", "A_Indirection"):
            yield from strings(body.get("fields") or body.get("indirection"))[-1:]


def _function_names(body: Body) -> frozenset[str]:
    alias = body.get("alias", {})
    names = {str(alias.get("aliasname", "")), *strings(alias.get("colnames")), *_parts(body.get("functions"))}
    names |= {str(unwrap(item)[1].get("colname", "")) for item in body.get("coldeflist", ())}
    return frozenset(names - {""})


def _scalars(body: Body) -> bool:
    calls = [strings(inner.get("funcname")) for tag, inner in walk("", {"value": body.get("functions")})
             if tag == "FuncCall"]
    return all(call[-1:] and call[-1] in SCALARS for call in calls)
