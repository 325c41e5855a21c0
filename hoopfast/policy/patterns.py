"""Names as policy.yaml writes them: `*` patterns; columns, tables, functions and schemas with SQL's quoting.

Each class asks twice: what a name in a statement *may* mean (for rules that restrict), and what it *must* mean (for
rules that allow). A name without a schema may stand for one in any schema: search_path decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

NAME_MAX_BYTES: Final = 63              # PostgreSQL cuts longer names, so such a pattern would never match


class Glob:
    """A text in which `*` stands for anything. Everything else, brackets too, stands for itself."""

    __slots__ = ("pieces",)

    def __init__(self, pattern: str) -> None:
        self.pieces = pattern.split("*")

    @property
    def anything(self) -> bool:
        return len(self.pieces) > 1 and not any(self.pieces)

    def matches(self, text: str) -> bool:
        first, *middle = self.pieces
        if not middle:
            return text == first
        last = middle.pop()
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for piece in middle:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True


def split_name(text: str) -> tuple[str, ...]:
    """`schema.table` as its parts, with double quotes as in SQL: `"a.b".c` has two. Raises ValueError with the reason.

    Upper case needs quotes: SQL would fold it, and a mask that silently means another column would leak.
    """
    parts: list[str] = []
    rest = text
    while True:
        if rest.startswith('"'):
            part, rest = _quoted(rest)
        else:
            end = rest.find(".")
            part, rest = (rest, "") if end < 0 else (rest[:end], rest[end:])
            if '"' in part or any(c.isspace() for c in part):
                raise ValueError('must have double quotes around a whole part, as in public."Order Items"')
            if part != part.lower():
                raise ValueError("must be lower case; a name that really has capitals stands in double quotes")
        if not part or len(part.encode()) > NAME_MAX_BYTES:
            raise ValueError(f"has a part that is empty or longer than PostgreSQL's {NAME_MAX_BYTES} bytes")
        parts.append(part)
        if not rest:
            return tuple(parts)
        if not rest.startswith("."):
            raise ValueError("must have a dot after a part in double quotes")
        rest = rest[1:]


def _quoted(text: str) -> tuple[str, str]:
    """The part that begins with a double quote, and what follows it."""
    at = 1
    while True:
        at = text.find('"', at)
        if at < 0:
            raise ValueError("has a double quote that is not closed")
        if text[at + 1:at + 2] != '"':
            return text[1:at].replace('""', '"'), text[at + 1:]
        at += 2


class Written:
    """A table's name as a statement writes it, with every way to read it as (schema, table).

    A part in double quotes may hold dots itself, and a database may stand in front.
    """

    __slots__ = ("bare", "readings")

    def __init__(self, text: str) -> None:
        parts = text.split(".")
        self.bare = text if len(parts) == 1 else ""
        self.readings = [(".".join(parts[:i]), ".".join(parts[i:])) for i in range(1, len(parts))]
        if len(parts) > 2:
            self.readings.append((parts[-2], parts[-1]))


class Tables:
    """The `tables` (or `functions`) of a rule, asked with names as a statement writes them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._patterns: list[tuple[Glob, Glob]] = []
        self._exact: set[tuple[str, str]] = set()
        self._anywhere: set[str] = set()
        for name in names:
            schema, table = (["*", *split_name(name)])[-2:]
            if "*" in table or ("*" in schema and not Glob(schema).anything):
                self._patterns.append((Glob(schema), Glob(table)))
            elif "*" in schema:
                self._anywhere.add(table)
            else:
                self._exact.add((schema, table))
        self._bare = self._anywhere | {table for _, table in self._exact}

    def may_mean(self, written: Written) -> bool:
        """Whether the name can be one of ours: without a schema it can stand for any. For rules that restrict."""
        if written.bare:
            return written.bare in self._bare or any(table.matches(written.bare) for _, table in self._patterns)
        return any(self._has(schema, table) for schema, table in written.readings)

    def must_mean(self, written: Written) -> bool:
        """Whether the name cannot be anything else than one of ours. For rules that allow.

        A name without schema only counts where the rule does not care about schemas: search_path decides what it is.
        """
        if written.bare:
            return written.bare in self._anywhere or any(
                schema.anything and table.matches(written.bare) for schema, table in self._patterns)
        return len(written.readings) == 1 and self._has(*written.readings[0])

    def _has(self, schema: str, table: str) -> bool:
        return (schema, table) in self._exact or table in self._anywhere or any(
            schemas.matches(schema) and tables.matches(table) for schemas, tables in self._patterns)

    def has_name(self, name: str) -> bool:
        """Whether a bare name is one of ours; patterns that stand for every name do not count."""
        return name in self._bare or any(
            table.matches(name) for _, table in self._patterns if not table.anything)


class Columns:
    """The `columns` of a rule: `schema.table.column` or `table.column`."""

    def __init__(self, names: tuple[str, ...]) -> None:
        parts = [split_name(name) for name in names]
        self._items = [(Tables((_quoted_name(name[:-1]),)), Glob(name[-1])) for name in parts]

    def meets(self, table: Written, columns: Iterable[str]) -> bool:
        """Whether one of these columns (`*`: all of them) of a table may be one of ours."""
        mine = [column for tables, column in self._items if tables.may_mean(table)]
        return bool(mine) and any(name == "*" or glob.matches(name) for name in columns for glob in mine)

    def covers(self, table: Written, columns: Iterable[str]) -> bool:
        """Whether all of these columns of a table must be ours."""
        mine = [column for tables, column in self._items if tables.must_mean(table)]
        return bool(mine) and all(
            any(glob.anything or (name != "*" and glob.matches(name)) for glob in mine) for name in columns)


class Schemas:
    """The `schemas` of a rule."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._globs = [Glob(split_name(name)[0]) for name in names]

    def has(self, schema: str) -> bool:
        return any(glob.matches(schema) for glob in self._globs)

    def may_hold(self, table: Written) -> bool:
        return bool(table.bare) or any(self.has(schema) for schema, _ in table.readings)

    def must_hold(self, table: Written) -> bool:
        if table.bare:
            return any(glob.anything for glob in self._globs)
        return len(table.readings) == 1 and self.has(table.readings[0][0])


def _quoted_name(parts: tuple[str, ...]) -> str:
    """The inverse of `split_name`."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
