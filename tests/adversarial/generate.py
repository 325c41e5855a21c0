"""Random queries over the estate, in the manner of sqlsmith: they know types, so that the server accepts most of them,
and nothing of masks, so that they try what nobody thought of. A seed gives one query, always the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable

TEXT, INT, NUMBER, DATE = "text", "int", "numeric", "date"
Columns = dict[str, str]
Scope = list[tuple[str, Columns]]
Shape = Callable[[], str]

TABLES: dict[str, Columns] = {
    "people": {"id": INT, "name": TEXT, "city": TEXT, "ssn": TEXT, "email": TEXT, "salary": NUMBER, "account": INT,
               "born": DATE, "joined": DATE, "ssn_upper": TEXT},
    "staff": {"id": INT, "pin": TEXT, "room": TEXT},
    "managers": {"id": INT, "pin": TEXT, "room": TEXT, "bonus": INT},
    "payments": {"id": INT, "iban": TEXT, "amount": NUMBER, "memo": TEXT},
    "payments_2024": {"id": INT, "iban": TEXT, "amount": NUMBER, "memo": TEXT},
    "orders": {"id": INT, "person": INT, "item": TEXT, "price": NUMBER, "placed": DATE},
    "vendors": {"id": INT, "name": TEXT, "email": TEXT, "city": TEXT, "account": INT, "ssn": TEXT},
    "hr.people": {"id": INT, "name": TEXT, "ssn": TEXT},
    "people_view": {"id": INT, "name": TEXT, "ssn": TEXT, "city": TEXT, "salary": NUMBER},
    "people_nested": {"id": INT, "number": TEXT},
    "people_names": {"id": INT, "name": TEXT, "city": TEXT},
    "people_joined": {"order_id": INT, "item": TEXT, "name": TEXT, "email": TEXT},
    "people_mat": {"id": INT, "name": TEXT, "ssn": TEXT, "account": INT},
}
# Of these all columns are known, in their order, so they can have others' names.
RENAMABLE = (
    "staff", "vendors", "hr.people", "people_view", "people_nested", "people_names", "people_joined", "people_mat",
)
# Some are names of columns, masked and not: who confuses an alias with a column will do it here.
NAMES = ("a", "b", "x", "name", "ssn", "email", "id", "salary", "pin", "iban", "item", "city", "people", "number")
ALIASES = ("p", "q", "o", "people", "vendors", "ssn", "t", "w")
CONSTANTS = {TEXT: ("'M'", "'Paris'", "''", "'x'"), INT: ("1", "3", "500000000000000"), NUMBER: ("10.5", "500000000.0"),
             DATE: ("date '2020-03-01'", "date '2750-01-01'")}


class Writer:
    """Writes one query."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ctes: dict[str, Columns] = {}

    def pick(self, *options: str) -> str:
        return self._rng.choice(options)

    def chance(self, percent: int) -> bool:
        return self._rng.randrange(100) < percent

    # ------------------------------------------------------------ expressions

    def column(self, scope: Scope, kind: str) -> str | None:
        """A reference of this type, qualified mostly."""
        found = [(alias, name) for alias, columns in scope for name, of in columns.items() if of == kind]
        if not found:
            return None
        alias, name = self._rng.choice(found)
        return f"{alias}.{name}" if self.chance(75) else name

    def value(self, scope: Scope, kind: str, depth: int) -> str:
        """A column most of the time."""
        column = self.column(scope, kind)
        if column is not None and self.chance(60):
            return column
        if depth <= 0 or self.chance(20):
            return column if column is not None and self.chance(50) else self.pick(*CONSTANTS[kind])
        def inner(of: str = kind) -> str:
            return self.value(scope, of, depth - 1)

        def other() -> str:
            return inner(self.pick(TEXT, INT, NUMBER, DATE))

        constant = self.pick(*CONSTANTS[kind])
        shapes: list[Shape] = [
            lambda: f"coalesce({inner()}, {constant})",
            lambda: f"CASE WHEN {self.condition(scope, depth - 1)} THEN {inner()} ELSE {constant} END",
        ]
        if kind == TEXT:
            shapes += [lambda: f"upper({inner()})", lambda: f"({inner()} || {inner()})",
                       lambda: f"substr({inner()}, 1, 6)", lambda: f"({other()})::text", lambda: f"md5({inner()})",
                       lambda: f"max({inner()}) OVER ()", lambda: f"{self.pick(*(a for a, _ in scope))}::text"]
        elif kind == INT:
            shapes += [lambda: f"length({inner(TEXT)})", lambda: f"({inner()} + 1)",
                       lambda: f"count({other()}) OVER ()", lambda: f"rank() OVER (ORDER BY {other()})"]
        elif kind == NUMBER:
            shapes += [lambda: f"({inner()} * 2)", lambda: f"round({inner()})"]
        else:
            shapes.append(lambda: f"({inner()} + 1)")
        if depth > 1:
            shapes.append(lambda: f"({self.select(depth - 2, [kind], scope)[0]} LIMIT 1)")
            shapes.append(lambda: f"({self.select(depth - 2, [kind], scope, 'max')[0]})" if kind != TEXT else inner())
        return self._rng.choice(shapes)()

    def condition(self, scope: Scope, depth: int) -> str:
        kind = self.pick(TEXT, INT, NUMBER, DATE)
        left = self.value(scope, kind, min(depth, 1) if self.chance(20) else 0)
        constant = self.pick(*CONSTANTS[kind])
        right = self.value(scope, kind, 0) if self.chance(30) else constant
        shapes: list[Shape] = [
            lambda: f"{left} = {right}", lambda: f"{left} = {constant}", lambda: f"{left} IN ({constant}, {constant})",
            lambda: f"{left} IS NOT NULL", lambda: f"{left} > {right}", lambda: f"NOT ({left} = {right})",
        ]
        if kind == TEXT:
            shapes.append(lambda: f"{left} LIKE 'P%'")
        if depth > 0:
            shapes += [
                lambda: f"EXISTS ({self.select(depth - 1, [INT], scope)[0]})",
                lambda: f"{left} IN ({self.select(depth - 1, [kind], scope)[0]})",
                lambda: f"({self.condition(scope, depth - 1)} OR {self.condition(scope, depth - 1)})",
                lambda: f"({self.condition(scope, depth - 1)} AND {self.condition(scope, depth - 1)})",
            ]
        return self._rng.choice(shapes)()

    # ------------------------------------------------------------ queries

    def source(self, depth: int, outer: Scope, used: list[str]) -> tuple[str, str, Columns]:
        """(SQL, alias, columns) of one item of FROM."""
        free = [alias for alias in ALIASES if alias not in used]
        alias = self.pick(*free)
        if self._ctes and self.chance(40):
            name = self.pick(*self._ctes)
            sql, columns = name, self._ctes[name]
        elif depth > 0 and self.chance(30):
            lateral = self.chance(30) and bool(outer)
            inner, columns = self.united(depth - 1, outer if lateral else [])
            sql = f"{'LATERAL ' if lateral else ''}({inner})"
        elif self.chance(6):
            name = self.pick(*NAMES)
            return f"(VALUES (1, 'x'), (2, 'M')) AS {alias} (c, {name})", alias, {"c": INT, name: TEXT}
        elif self.chance(4):
            name = self.pick(*NAMES)
            return f"generate_series(1, 3) AS {alias} ({name})", alias, {name: INT}
        else:
            table = self.pick(*TABLES)
            sql, columns = table, dict(TABLES[table])
        if self.chance(15) and ("(" in sql or sql in RENAMABLE or sql in self._ctes):
            names = [f"c{n}" if self.chance(40) else self.pick(*NAMES) for n in range(min(2, len(columns)))]
            kept = list(columns)[len(names):]
            if len({*names, *kept}) == len(columns):
                columns = dict(zip([*names, *kept], columns.values(), strict=True))
                return f"{sql} AS {alias} ({', '.join(names)})", alias, columns
        return f"{sql} AS {alias}", alias, columns

    def united(self, depth: int, outer: Scope) -> tuple[str, Columns]:
        """A SELECT, or two of them."""
        if not self.chance(15):
            return self.select(depth, None, outer)
        kinds = [self.pick(TEXT, INT), self.pick(TEXT, DATE)]
        first, columns = self.select(depth, kinds, outer)
        second, _ = self.select(depth, kinds, outer)
        return f"({first}) {self.pick('UNION ALL', 'UNION', 'EXCEPT')} ({second})", columns

    def sources(self, depth: int, outer: Scope) -> tuple[str, Scope]:
        first, alias, columns = self.source(depth, outer, [name for name, _ in outer])
        scope: Scope = [(alias, columns)]
        if not self.chance(45):
            return first, scope
        second, alias, more = self.source(depth, [*outer, *scope], [name for name, _ in (*outer, *scope)])
        common = [name for name in columns if name in more and columns[name] == more[name]]
        both: Scope = [*scope, (alias, more)]
        how = self.pick("JOIN", "LEFT JOIN", "FULL JOIN", "RIGHT JOIN", "JOIN")
        if common and self.chance(40):
            return f"{first} {how} {second} USING ({self.pick(*common)})", both
        if self.chance(10):
            return f"{first} NATURAL JOIN {second}", both
        if self.chance(15):
            return f"{first}, {second}", both
        return f"{first} {how.replace('FULL ', '')} {second} ON {self.condition(both, 0)}", both

    def select(self, depth: int, kinds: list[str] | None, outer: Scope, around: str = "") -> tuple[str, Columns]:
        """A SELECT and its columns. `kinds` fixes how many there are, and of what type; `around` is an aggregate."""
        text, scope = self.sources(depth, outer)
        here = [*scope, *outer]
        columns: Columns = {}
        targets = []
        if kinds is None and self.chance(25):
            alias, columns = scope[-1]
            if len(scope) == 1 and self.chance(50):
                targets.append("*")
            else:
                targets.append(f"{alias}.*")
            columns = dict(columns)
        for kind in kinds or [self.pick(TEXT, INT, NUMBER, DATE, TEXT) for _ in range(self._rng.randint(1, 3))]:
            name = self.pick(*(name for name in NAMES if name not in columns))
            plain = self.column(scope, kind) if self.chance(70) else None
            value = plain or self.value(here, kind, depth)
            targets.append(f"{around}({value}) AS {name}" if around else f"{value} AS {name}")
            columns[name] = kind
        distinct = "DISTINCT " if self.chance(8) else ""
        sql = f"SELECT {distinct}{', '.join(targets)} FROM {text}"
        if self.chance(40):
            sql += f" WHERE {self.condition(here, depth)}"
        if self.chance(8) and "*" not in targets[0]:
            sql += f" GROUP BY {', '.join(self.pick(name, str(n)) for n, name in enumerate(columns, 1))}"
        if self.chance(12) and not outer:
            sql += f" ORDER BY {self.pick(*columns)} LIMIT 2"
        return sql, columns

    def statement(self) -> str:
        """With CTEs, set operations, an order and a limit at times."""
        parts = []
        for name in ("w", "people", "vendors")[: self._rng.randint(0, 2)]:
            if self.chance(60):
                inner, columns = self.united(1, [])
                if self.chance(15):
                    condition = self.condition([("staff", TABLES["staff"])], 0)
                    inner = f"UPDATE staff SET room = 'x' WHERE {condition} RETURNING id AS a, pin AS name, room"
                    columns = {"a": INT, "name": TEXT, "room": TEXT}
                parts.append(f"{name} AS ({inner})")
                self._ctes[name] = columns
        kinds = [TEXT, INT] if self.chance(15) else None
        sql, columns = self.select(2, kinds, [])
        if kinds is not None:
            sql = f"({sql}) {self.pick('UNION ALL', 'UNION', 'EXCEPT', 'INTERSECT')} ({self.select(1, kinds, [])[0]})"
        if self.chance(30) and " LIMIT " not in sql[-9:]:
            keys = [*columns, "1", "2"] if kinds is None else list(columns)
            sql += f" ORDER BY {self.pick(*keys)}"
        if self.chance(15) and " LIMIT " not in sql[-9:]:
            sql += " LIMIT 3"
        return f"WITH {', '.join(parts)} {sql}" if parts else sql


def statement(seed: int) -> str:
    """One query as text."""
    return Writer(random.Random(f"query {seed}")).statement()
