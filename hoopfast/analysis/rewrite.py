"""Statements that read hidden columns, rewritten to masking views (`shields`). Pure; called by the verdict desk in
enforced mode, for statements that the gate has let pass.

Nothing here protects anything: the role behind the session may not read hidden columns, whatever its statements say.
The rewriting makes statements work that the database would refuse. Where it cannot, it says so.

* A table in FROM of which a hidden column is read becomes a query over its view, under the same name and with the same
  columns. All other tables stay what they are: targets of DML, and tables of which only other columns are read.
* Comparisons of a hidden column with constants, and equi-joins, compare keyed digests that the view computes.
* In a DML target's WHERE they become a look-up of the row's key in the view; in RETURNING a hidden column is NULL.

What comes out is SQL printed from the tree, and proven to have that tree by parsing it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pglast import ast, enums
from pglast.parser import parse_sql
from pglast.stream import RawStream

from hoopfast.analysis.compared import (
    ROW,
    digests,
    expression,
    joined,
    looked_up,
    names_in,
    renamed,
    target_of,
    template,
)
from hoopfast.analysis.flow import Refused
from hoopfast.analysis.parse import TOO_COMPLEX, Unparsable
from hoopfast.analysis.scopes import Hides, Level, Shields, Source, Unresolved, equality, fields, table_of
from hoopfast.analysis.shields import ShieldColumn, quoted

__all__ = ["Shields", "Unresolved", "rewrite"]

HOLDERS = (ast.ExplainStmt, ast.PrepareStmt, ast.DeclareCursorStmt, ast.CreateTableAsStmt)
SYSTEM = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"})


def rewrite(text: str, shields: Shields) -> str | None:
    """The statement to send in place of `text`, one statement that the parser has read before; None: `text` itself.

    Raises Refused for what enforced mode cannot do, `Unresolved` for a bare table name that may mean several tables,
    and Unparsable for trees that are too deep.
    """
    try:
        (raw,) = parse_sql(text)
        work = _Rewriter(shields)
        statement = work.statement(raw.stmt)
        if not work.changed:
            return None
        printed = str(RawStream()(statement))
        (again,) = parse_sql(printed)
        same = again.stmt == statement
    except RecursionError:
        raise Unparsable("54001", TOO_COMPLEX) from None
    if not same:
        raise Refused("this statement cannot be rewritten to the masking views",
                      "Write it more simply, or leave hidden columns out.")
    return printed


class _Rewriter:
    """One statement. Expressions are replaced while they are walked, sources and stars when everything is known."""

    def __init__(self, shields: Shields) -> None:
        self._shields = shields
        self._levels: list[Level] = []
        self._qualified: list[tuple[Any, Level]] = []       # schema.table.column, and the like
        self.changed = False

    def statement(self, node: Any) -> Any:
        if isinstance(node, ast.CopyStmt):
            self._copy(node)
        elif isinstance(node, HOLDERS):
            node.query = self.statement(node.query)
            return node
        elif isinstance(node, ast.SelectStmt | ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt | ast.MergeStmt):
            self._query(node, None, {})
        for reference, level in self._qualified:
            if any(one.read and one.kind == "table" for one in level.visible(fields(reference)[:-1])):
                reference.fields = reference.fields[-2:]        # the name of a query has no schema
        for level in self._levels:
            self._finish(level)
        return node

    def _copy(self, node: Any) -> None:
        if node.query is not None:
            self._query(node.query, None, {})
            return
        shield = self._shields.of(node.relation) if not node.is_from else None
        if shield is None:
            return
        names = [part.sval for part in node.attlist or ()] or list(self._shields.stored(shield))
        if not {column.name for column in shield.hidden}.intersection(names):
            return
        # As COPY reads it: without inheritance children.
        columns = ", ".join(map(quoted, names))
        node.query = parse_sql(f"SELECT {columns} FROM {shield.qualified(only=True)}")[0].stmt
        node.relation = node.attlist = None
        self.changed = True

    # ------------------------------------------------------------ queries

    def _query(self, node: Any, up: Level | None, ctes: Hides) -> Level:
        return self._select(node, up, ctes) if isinstance(node, ast.SelectStmt) else self._dml(node, up, ctes)

    def _with(self, node: Any, up: Level | None, ctes: Hides) -> Hides:
        clause = node.withClause
        if clause is None:
            return ctes
        inner = dict(ctes)
        if clause.recursive:
            inner |= {cte.ctename: frozenset() for cte in clause.ctes}
        for cte in clause.ctes:
            shown = self._query(cte.ctequery, up, dict(inner)).output
            inner[cte.ctename] = renamed(shown, cte.aliascolnames)
        return inner

    def _select(self, node: Any, up: Level | None, ctes: Hides) -> Level:
        ctes = self._with(node, up, ctes)
        level = Level(node, up, ctes)
        self._levels.append(level)
        for branch in (node.larg, node.rarg):
            if branch is not None:
                self._select(branch, up, ctes)
        self._sources(node, "fromClause", level)
        level.output = self._output(node.targetList, level)
        for slot in ("targetList", "whereClause", "distinctClause", "groupClause", "havingClause", "sortClause",
                     "windowClause", "valuesLists", "limitOffset", "limitCount"):
            setattr(node, slot, self._walk(getattr(node, slot), level))
        return level

    def _dml(self, node: Any, up: Level | None, ctes: Hides) -> Level:
        ctes = self._with(node, up, ctes)
        level = Level(node, up, ctes)
        self._levels.append(level)
        shield = self._shields.of(node.relation)
        names = [table_of(node.relation), "old", "new"]
        returning = node.returningClause
        names += [option.value for option in (returning.options or () if returning is not None else ())]
        level.sources = [Source(name, shield, "target" if n == 0 else "image") for n, name in enumerate(names)]
        for slot in ("fromClause", "usingClause"):
            if hasattr(node, slot):
                self._sources(node, slot, level)
        if isinstance(node, ast.MergeStmt):
            self._from(node.sourceRelation, level, lambda new: setattr(node, "sourceRelation", new))
        if getattr(node, "selectStmt", None) is not None:
            self._select(node.selectStmt, up, ctes)
        for slot in ("whereClause", "joinCondition", "targetList", "mergeWhenClauses"):
            if hasattr(node, slot):
                setattr(node, slot, self._walk(getattr(node, slot), level))
        if getattr(node, "onConflictClause", None) is not None:
            self._conflict(node, level, shield)
        if returning is not None:
            level.output = self._output(returning.exprs, level)
            returning.exprs = tuple(item for target in returning.exprs for item in self._returned(target, level))
        return level

    # ------------------------------------------------------------ FROM

    def _sources(self, node: Any, slot: str, level: Level) -> None:
        items = list(getattr(node, slot) or ())

        def put(place: int, new: Any) -> None:
            items[place] = new
            setattr(node, slot, tuple(items))

        for place, item in enumerate(items):
            self._from(item, level, lambda new, place=place: put(place, new))

    def _from(self, item: Any, level: Level, put: Any) -> Any:
        """Add what an item of FROM makes visible; `put` puts another one into its place."""
        alias = getattr(item, "alias", None)
        if isinstance(item, ast.RangeVar):
            self._table(item, level, put)
        elif isinstance(item, ast.JoinExpr):
            self._join(item, level)
        elif isinstance(item, ast.RangeSubselect):
            inner = self._select(item.subquery, level if item.lateral else level.up, level.ctes)
            source = Source(alias.aliasname if alias is not None else "", None, "query")
            source.hides = renamed(inner.output, alias.colnames if alias is not None else None)
            level.sources.append(source)
        elif isinstance(item, ast.RangeTableSample):
            shield = self._shields.of(item.relation)
            level.sources.append(Source(table_of(item.relation), shield, "sample", item.relation))
            item.args = self._walk(item.args, level)
        else:
            level.sources.append(Source(alias.aliasname if alias is not None else "", None, "function"))
            self._walk_slots(item, level)
        return item

    def _table(self, item: Any, level: Level, put: Any) -> None:
        if item.schemaname is None and item.relname in level.ctes:
            source = Source(table_of(item), None, "query")
            source.hides = renamed(level.ctes[item.relname], item.alias.colnames if item.alias is not None else None)
        else:
            source = Source(table_of(item), self._shields.of(item), "table", item, put)
        level.sources.append(source)

    def _join(self, item: Any, level: Level) -> None:
        before = len(level.sources)
        for slot in ("larg", "rarg"):
            self._from(getattr(item, slot), level, lambda new, slot=slot: setattr(item, slot, new))
        inside = level.sources[before:]
        using = {name.sval for name in item.usingClause or ()}
        for source in inside:
            source.merged = source.merged or bool(using) or bool(item.isNatural) or item.alias is not None
            if using & source.hidden.keys() or (item.isNatural and source.hidden):
                raise Refused("tables cannot be joined by the name of a hidden column in enforced mode",
                              "Write the condition with ON and the tables' names.")
        if item.alias is not None:
            # Its columns go by its own name from here on.
            named = Source(item.alias.aliasname, None, "query")
            hides = frozenset(name for one in inside for name in (*one.hidden, *one.hides))
            named.hides = renamed(hides, item.alias.colnames)
            level.sources.append(named)
            for source in inside:
                source.read = source.read or bool(source.hidden)
        item.quals = self._walk(item.quals, level)

    def _output(self, targets: Any, level: Level) -> frozenset[str]:
        """Names under which a subquery shows hidden columns."""
        found: set[str] = set()
        for target in targets or ():
            names = fields(target.val)
            if names[-1:] == ("*",):
                for one in level.visible(names[:-1]):
                    found.update(one.hidden, one.hides)
            elif names and (source := level.find(names)) is not None and (
                names[-1] in source.hidden or names[-1] in source.hides
            ):
                found.add(target.name or names[-1])
        return frozenset(found)

    # ------------------------------------------------------------ expressions

    def _walk(self, node: Any, level: Level) -> Any:
        if isinstance(node, tuple | list):
            return tuple(self._walk(item, level) for item in node)
        if not isinstance(node, ast.Node):
            return node
        if isinstance(node, ast.SelectStmt):
            self._select(node, level, level.ctes)
            return node
        if isinstance(node, ast.ColumnRef):
            self._reference(fields(node), level)
            if len(fields(node)) > 2:
                self._qualified.append((node, level))
            return node
        if (compared := equality(node)) is not None and (new := self._compared(*compared, level)) is not None:
            return new
        if isinstance(node, ast.NullTest) and (new := self._null(node, level)) is not None:
            return new
        self._walk_slots(node, level)
        return node

    def _walk_slots(self, node: Any, level: Level) -> None:
        for slot in node:
            value = getattr(node, slot)
            if isinstance(value, ast.Node | tuple | list) and not isinstance(value, ast.RangeVar):
                setattr(node, slot, self._walk(value, level))

    def _reference(self, names: tuple[str, ...], level: Level) -> None:
        if names[-1] == "*":
            for one in level.visible(names[:-1]):
                one.read = one.read or bool(one.hidden)
            return
        source = level.find(names)
        if source is None:
            return
        if names[-1] in SYSTEM and source.kind == "table":
            source.extras[names[-1]] = None
        elif (column := source.hidden.get(names[-1])) is not None:
            source.read = True
            if source.kind in ("target", "image"):
                raise Refused(f'column "{column.name}" of the table that is written is hidden from you',
                              "It can be compared with constants, and returned plainly.")

    def _null(self, node: Any, level: Level) -> Any:
        names = fields(node.arg)
        source = level.find(names) if names else None
        column = source.hidden.get(names[-1]) if source is not None else None
        if source is None or column is None:
            return None
        if not column.tells_null:
            raise Refused(f'column "{column.name}" is hidden from you and cannot be tested for NULL in enforced mode',
                          "Its type has no value that could stand in for hidden ones.")
        if source.kind != "target":
            return None
        word = "IS NULL" if node.nulltesttype == enums.NullTestType.IS_NULL else "IS NOT NULL"
        self.changed = True
        return looked_up(source, f"{ROW}.{quoted(column.name)} {word}", {})

    def _compared(self, left: Any, right: Any, kind: str, level: Level) -> Any:
        """A comparison of a hidden column, by digests; None when it is none."""
        mine, theirs = self._hidden(left, level), self._hidden(right, level)
        if mine is not None and theirs is not None:
            return joined(*mine, *theirs)
        if mine is None:
            mine, right = theirs, left
        if mine is None:
            return None
        source, column = mine
        if not column.same:
            raise Refused(f'column "{column.name}" is hidden from you, and values of its type cannot be compared in '
                          "enforced mode", "Leave the comparison out.")
        right = self._walk(right, level)
        place = f"{ROW if source.kind == 'target' else quoted(source.name)}.{quoted(column.digest)}"
        text, holes = digests(column, right, kind, source)
        condition = f"{place} {text}"
        if source.kind == "target":
            self.changed = True
            return looked_up(source, condition, holes)
        source.read = True
        source.extras[column.digest] = None
        return template(condition, holes)

    def _hidden(self, node: Any, level: Level) -> tuple[Source, ShieldColumn] | None:
        """The hidden column that an expression is, if it is one."""
        names = fields(node)
        source = level.find(names) if names else None
        if source is None:
            return None
        if names[-1] in source.hides:
            raise Refused(f'column "{names[-1]}" is hidden from you and cannot be compared outside of the query that '
                          "reads its table", "Put the condition where the table is named.")
        column = source.hidden.get(names[-1])
        return (source, column) if column is not None else None

    # ------------------------------------------------------------ DML

    def _returned(self, target: Any, level: Level) -> Iterable[Any]:
        """RETURNING shows hidden columns of the target as NULL: nothing else knows what the row has become."""
        names = fields(target.val)
        source = level.find(names) if names and names[-1] != "*" else None
        if source is not None and source.kind in ("target", "image") and (column := source.hidden.get(names[-1])):
            self.changed = True
            return (target_of(f"CAST(NULL AS {column.type}) AS {quoted(target.name or names[-1])}"),)
        if names[-1:] == ("*",):
            self._reference(names, level)
            if any(one.hidden and one.kind in ("target", "image") for one in level.visible(names[:-1])):
                self.changed = True
                return self._expanded(level.visible(names[:-1]))
        target.val = self._walk(target.val, level)
        return (target,)

    def _conflict(self, node: Any, level: Level, shield: Any) -> None:
        clause = node.onConflictClause
        level.sources.append(Source("excluded", shield, "image"))
        rows = node.selectStmt.valuesLists if node.selectStmt is not None else None
        columns = [target.name for target in node.cols or ()]
        hidden = {column.name for column in shield.hidden} if shield is not None else set()
        targets = list(clause.targetList or ())
        for target in targets:
            names = fields(target.val)
            if names[:1] == ("excluded",) and names[-1] in hidden:
                # To read EXCLUDED takes the right to read the column: with one row its value stands in the statement.
                if rows is None or len(rows) != 1 or names[-1] not in columns:
                    raise Refused(f'column "{names[-1]}" is hidden from you: in enforced mode EXCLUDED can set it only '
                                  "in an INSERT of one row that names it", "Insert the rows one by one.")
                target.val = rows[0][columns.index(names[-1])]
                self.changed = True
            else:
                target.val = self._walk(target.val, level)
        clause.whereClause = self._walk(clause.whereClause, level)

    # ------------------------------------------------------------ at the end

    def _finish(self, level: Level) -> None:
        read = [source for source in level.sources if source.kind in ("table", "sample") and source.read]
        if not read:
            return
        self.changed = True
        if any(source.kind == "sample" for source in read):
            raise Refused("TABLESAMPLE with hidden columns is not possible in enforced mode", "Leave it out.")
        for one in read:
            one.substitute()
        if isinstance(level.node, ast.SelectStmt):
            level.node.targetList = self._starless(level.node.targetList, level)
            self._group(level, read)

    def _starless(self, targets: Any, level: Level) -> Any:
        """No star may reach the columns that a view has beside those of its table."""
        found: list[Any] = []
        for target in targets or ():
            names = fields(target.val)
            sources = level.visible(names[:-1]) if names[-1:] == ("*",) else []
            if any(source.read and source.extras for source in sources):
                found += self._expanded(sources)
            else:
                found.append(target)
        return tuple(found) if targets is not None else None

    def _expanded(self, sources: list[Source]) -> list[Any]:
        found = []
        for source in sources:
            if source.shield is None:
                found.append(target_of(f"{quoted(source.name)}.*"))
                continue
            if source.merged and len(sources) > 1:
                raise Refused("* over a join by names together with a condition on a hidden column is not possible in "
                              "enforced mode", "Name the columns, or join with ON.")
            for name, column in source.columns.items():
                hidden = source.kind in ("target", "image") and column.hidden
                value = f"CAST(NULL AS {column.type})" if hidden else f"{quoted(source.name)}.{quoted(name)}"
                found.append(target_of(f"{value} AS {quoted(name)}" if hidden else value))
        return found

    def _group(self, level: Level, read: list[Source]) -> None:
        """A view has no primary key on which the other columns would depend: all that are used are grouped by.

        Only where the key is grouped by, so that the groups stay what they are.
        """
        node = level.node
        grouped = {fields(item) for item in node.groupClause or ()}
        for source in read:
            key = source.shield.key if source.shield is not None else ()
            if not key or not all({(name,), (source.name, name)} & grouped for name in key):
                continue
            used = names_in((node.targetList, node.havingClause, node.sortClause))
            for name in source.columns:
                wanted = {(source.name, name), (name,)} & used or {(source.name, "*"), ("*",)} & used
                if wanted and not {(name,), (source.name, name)} & grouped:
                    node.groupClause = (*node.groupClause, expression(f"{quoted(source.name)}.{quoted(name)}"))
