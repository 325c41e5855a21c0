"""Which table a column reference means, as far as rewriting has to know. Used by `rewrite` only.

Of tables without hidden columns nothing is known but their names. The gate has judged the statement before, and the
server has parsed it: a reference that could mean two columns of one level does not get here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pglast import ast, enums
from pglast.parser import parse_sql

from hoopfast.analysis.catalog import Catalog
from hoopfast.analysis.flow import Refused
from hoopfast.analysis.shields import Shield, ShieldColumn, quoted


class Unresolved(Exception):
    """A bare table name that may mean a table with hidden columns, or another: the search_path decides."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Shields:
    """The masking views of a context, by the tables they stand for. `resolved`: what bare names mean in a session, by
    the OID of the relation."""

    def __init__(self, catalog: Catalog, shields: Iterable[Shield], resolved: dict[str, int] | None = None) -> None:
        self._catalog = catalog
        self._by_name = {(shield.schema, shield.table): shield for shield in shields}
        self._by_oid = {shield.oid: shield for shield in self._by_name.values()}
        self._bare: dict[str, list[Shield]] = {}
        for shield in self._by_name.values():
            self._bare.setdefault(shield.table, []).append(shield)
        self._apart = {name for _, name in catalog.apart}
        self._stored = {relation.oid: tuple(column.name for column in relation.columns if not column.generated)
                        for relation in catalog.relations}
        self._resolved = resolved or {}

    def knowing(self, name: str, oid: int) -> Shields:
        """The same, for a session in which this bare name means the relation with that OID."""
        return Shields(self._catalog, self._by_name.values(), {**self._resolved, name: oid})

    def of(self, relation: Any) -> Shield | None:
        """The shield of a RangeVar's relation; None when it has no hidden columns. Raises Unresolved."""
        name = relation.relname
        if relation.schemaname is not None:
            return self._by_name.get((relation.schemaname, name))
        if name in self._resolved:
            return self._by_oid.get(self._resolved[name])
        found = self._bare.get(name, ())
        if not found:
            return None
        others = [one for one in self._catalog.relations if one.name == name and one.oid not in self._by_oid]
        if len(found) > 1 or others or name in self._apart:
            raise Unresolved(name)
        return found[0]

    def stored(self, shield: Shield) -> tuple[str, ...]:
        """The relation's columns that COPY sends: all but generated ones."""
        return self._stored[shield.oid]


class Source:
    """Something that a level makes visible. `kind`: "table", "sample", "query", "function", "target" of DML, or "image"
    of it (OLD, NEW, EXCLUDED). `columns` and `hidden` go by the names they have here."""

    def __init__(
        self, name: str, shield: Shield | None, kind: str, node: Any = None, put: Callable[[Any], None] | None = None
    ) -> None:
        self.name = name
        self.shield = shield
        self.kind = kind
        self.columns: dict[str, ShieldColumn] = {}
        self.hides: frozenset[str] = frozenset()    # columns of a query that are hidden ones
        self.extras: dict[str, None] = {}           # columns of the view, beside the table's, that are used
        self.read = False                           # whether a hidden column is
        self.merged = False                         # joined by names, or under another name
        self._node = node
        self._put = put
        if shield is not None:
            alias = node.alias if node is not None else None
            given = [part.sval for part in alias.colnames or ()] if alias is not None else []
            names = given + [column.name for column in shield.columns[len(given):]]
            self.columns = dict(zip(names, shield.columns, strict=True))
        self.hidden = {name: column for name, column in self.columns.items() if column.hidden}

    @property
    def home(self) -> str:
        return self.shield.home if self.shield is not None else ""

    def substitute(self) -> None:
        """Put the masking view in the table's place."""
        shield, node = self.shield, self._node
        assert shield is not None
        assert self._put is not None
        if unknown := [name for name in self.extras if name not in shield.extras]:
            raise Refused(f'"{unknown[0]}" of a table with hidden columns cannot be read in enforced mode',
                          "Leave it out.")
        names = ", ".join(f"v.{quoted(name)}" for name in (*(c.name for c in shield.columns), *self.extras))
        query = f"SELECT {names} FROM {shield.qualified(only=not node.inh)} AS v"
        holder: Any = parse_sql(f"SELECT FROM ({query}) AS {quoted(self.name)}")[0].stmt
        (new,) = holder.fromClause
        if node.alias is not None:
            new.alias = node.alias
        self._put(new)


Hides = dict[str, frozenset[str]]       # by the name of a CTE: its columns that are hidden ones


class Level:
    """One query's sources, and those around it. `output`: names under which it shows hidden columns."""

    def __init__(self, node: Any, up: Level | None, ctes: Hides) -> None:
        self.node = node
        self.up = up
        self.ctes = ctes
        self.sources: list[Source] = []
        self.output: frozenset[str] = frozenset()

    def visible(self, qualifier: tuple[str, ...]) -> list[Source]:
        """The sources of a star: all of this level (not the images of a target), or the one it is qualified with."""
        if not qualifier:
            return [source for source in self.sources if source.kind != "image"]
        here: Level | None = self
        while here is not None:
            if found := [source for source in here.sources if source.name == qualifier[-1]]:
                return found
            here = here.up
        return []

    def find(self, names: tuple[str, ...]) -> Source | None:
        """The source of a column, if it is one with hidden columns or a query. Raises Refused when it is uncertain."""
        if len(names) > 1:
            return next(iter(self.visible(names[:-1])), None)
        name = names[0]
        here: Level | None = self
        unknown = False
        while here is not None:
            plain = [source for source in here.sources if source.kind != "image"]
            found = [one for one in plain if name in one.columns or name in one.hides or (
                one.shield is not None and name in one.shield.system and name not in one.columns)]
            if found:
                column = found[0].columns.get(name)
                if unknown and (name in found[0].hides or (column is not None and column.hidden)):
                    raise Refused(f'column "{name}" may be a hidden one of a query around',
                                  "Write it with its table's name.")
                return found[0]
            unknown = unknown or any(one.shield is None for one in plain)
            here = here.up
        return None


def fields(node: Any) -> tuple[str, ...]:
    """The parts of a column reference, "*" for a star; () for anything else."""
    if not isinstance(node, ast.ColumnRef):
        return ()
    return tuple("*" if isinstance(part, ast.A_Star) else part.sval for part in node.fields or ())


def table_of(relation: Any) -> str:
    """The name under which a RangeVar is known."""
    return str(relation.alias.aliasname if relation.alias is not None else relation.relname)


def equality(node: Any) -> tuple[Any, Any, str] | None:
    """(left, right, "one" | "list" | "any") of a comparison by =; None for anything else."""
    if not isinstance(node, ast.A_Expr) or not node.name or node.name[-1].sval != "=" or node.kind is None:
        return None
    kinds = {enums.A_Expr_Kind.AEXPR_OP: "one", enums.A_Expr_Kind.AEXPR_IN: "list",
             enums.A_Expr_Kind.AEXPR_OP_ANY: "any"}
    kind = kinds.get(node.kind)
    return (node.lexpr, node.rexpr, kind) if kind is not None and node.lexpr is not None else None
