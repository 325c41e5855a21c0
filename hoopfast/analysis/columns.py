"""Which columns a statement may read, by their names, for the audit trail (`audit who-saw`). Used by `classify`.

No catalog: a column is looked for in the tables that the statement itself names, and where it could be of several, all
of them are named. So this may tell a column too much, never one too few among those the text names; what views,
functions and rules read inside is theirs. Nothing is decided by it.
"""

from __future__ import annotations

from hoopfast.analysis.tree import Body, strings, unwrap

COLUMNS_MAX = 100                       # in one statement; with more, whole tables are named
ALL = "*"


class Columns:
    """`see` every node of a statement, then ask for `names`."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, None]] = {}       # by how columns are qualified with them
        self._renamed: dict[str, None] = {}                 # tables whose columns have other names here
        self._found: dict[tuple[str, str], None] = {}       # (qualifier, column)
        self._whole: dict[str, None] = {}                   # tables that are read whole

    def see(self, tag: str, node: Body) -> None:
        if tag == "RangeVar":
            self._table(node)
        elif tag == "ColumnRef":
            self._column(node)
        elif tag == "JoinExpr":
            self._found.update(dict.fromkeys(("", name) for name in strings(node.get("usingClause"))))
        elif tag == "CopyStmt" and "relation" in node and not node.get("is_from"):
            name = table_name(node["relation"])
            columns = [f"{name}.{column}" for column in strings(node.get("attlist"))]
            self._whole.update(dict.fromkeys(columns or [f"{name}.{ALL}"]))

    def _table(self, node: Body) -> None:
        name, alias = table_name(node), node.get("alias") or {}
        known = [alias["aliasname"]] if alias.get("aliasname") else [str(node.get("relname", "")), name]
        for qualifier in known:
            self._tables.setdefault(qualifier, {})[name] = None
        if alias.get("colnames"):
            self._renamed[name] = None

    def _column(self, node: Body) -> None:
        parts = []
        for field in node.get("fields", ()):
            tag, body = unwrap(field)
            parts.append(ALL if tag == "A_Star" else str(body.get("sval", "")))
        if parts:
            # A database in front of the schema adds nothing: there is only one.
            self._found[".".join(parts[-3:-1]), parts[-1]] = None

    def names(self) -> tuple[str, ...]:
        """ "table.column" with the table as written, or "table.*".

        The names of CTEs count as tables: whether one hides a table depends on where it stands, and to be told of a
        column that was not read is better than to miss one that was.
        """
        tables = {name: None for known in self._tables.values() for name in known}
        found = {f"{name}.{ALL}": None for name in self._renamed} | self._whole
        for qualifier, column in self._found:
            if qualifier:
                of = self._tables.get(qualifier, {})
            else:
                # A table's own name as a value is its whole row.
                found.update(dict.fromkeys(f"{name}.{ALL}" for name in self._tables.get(column, ())))
                of = tables
            found.update(dict.fromkeys(f"{name}.{column}" for name in of))
            if len(found) > COLUMNS_MAX:
                break
        if len(found) > COLUMNS_MAX:
            return tuple(f"{name}.{ALL}" for name in tables)
        return tuple(found)


def table_name(node: Body) -> str:
    """Of a RangeVar, as written: "schema.table" or "table"."""
    name = str(node.get("relname", ""))
    return f"{node['schemaname']}.{name}" if node.get("schemaname") else name
