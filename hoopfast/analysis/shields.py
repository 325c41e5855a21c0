"""Masking views of enforced mode: what stands in for a table whose columns somebody may not read. Pure; used by
`rewrite` (which refers to them) and `provision` (which defines them), so that both mean the same.

A shield is a view over one relation, owned by a role that may read it. It has the relation's columns under their own
names; those that are hidden show a value of their type that tells only whether there is one, or what the mask itself
shows of it. The relay masks once more what it gets, so that people see the same in both modes. Beside them it has
columns that no star of a client ever reaches: "=<number>" is a keyed digest by which hidden values can be compared, and
the row's system columns.
"""

from __future__ import annotations

import hashlib

from hoopfast.analysis.catalog import Catalog, Column, Hidden, Relation
from hoopfast.model import MASK_EMAIL, MASK_HASH, MASK_PARTIAL, MASK_TOKEN, Frozen, MaskSpec

SYSTEM_NUMBERS = {"tableoid": -6, "ctid": -1, "xmin": -2}      # attribute numbers, as PostgreSQL has them
SYSTEM_COLUMNS = tuple(SYSTEM_NUMBERS)
NAME_MAX_BYTES = 63
ONLY = " only"                          # ends the name of the view that leaves inheritance children out
DIGEST = "hoopfast_digest"              # the function; a column of a name like this could be a call of it
OWNER = "_owner"                        # ends the name of the role that owns the views of a schema
TEXT = frozenset({"text", "varchar", "bpchar", "name"})
INTEGERS = {"int2": 32767, "int4": 2147483647, "int8": 9223372036854775807}

# What a value of the type may be that says nothing. Types without one become NULL.
NEUTRAL = {
    **dict.fromkeys(TEXT, "***"), "char": "*", **dict.fromkeys((*INTEGERS, "oid", "float4", "float8", "numeric"), "0"),
    "money": "0", "bool": "false", "bytea": "\\x", "date": "1970-01-01", "timestamp": "1970-01-01 00:00:00",
    "timestamptz": "1970-01-01 00:00:00+00", "time": "00:00:00", "timetz": "00:00:00+00", "interval": "0",
    "uuid": "00000000-0000-0000-0000-000000000000", "json": "{}", "jsonb": "{}",
    "inet": "0.0.0.0/32", "cidr": "0.0.0.0/32", "macaddr": "00:00:00:00:00:00", "macaddr8": "00:00:00:00:00:00:00:00",
    "bit": "0", "varbit": "0", "tsvector": "", "array": "{}", "range": "empty", "multirange": "{}",
}
# Equal values have equal texts: by these hidden columns are compared. {0} is a column or a constant.
SAME = {
    **dict.fromkeys(TEXT - {"bpchar"}, "CAST({0} AS pg_catalog.text)"),
    "bpchar": "CAST(CAST({0} AS pg_catalog.bpchar) AS pg_catalog.text)",
    **dict.fromkeys((*INTEGERS, "numeric"),
                    "CAST(pg_catalog.trim_scale(CAST({0} AS pg_catalog.numeric)) AS pg_catalog.text)"),
    "uuid": "CAST(CAST({0} AS pg_catalog.uuid) AS pg_catalog.text)",
    "bool": "CAST(CAST({0} AS pg_catalog.bool) AS pg_catalog.text)",
    "bytea": "pg_catalog.encode(CAST({0} AS pg_catalog.bytea), 'hex')",
    **{name: f"CAST(pg_catalog.date_part('epoch', CAST({{0}} AS pg_catalog.{name})) AS pg_catalog.text)"
       for name in ("date", "timestamp", "timestamptz")},
}
SAME_AS = {**dict.fromkeys(TEXT, "text"), **dict.fromkeys((*INTEGERS, "numeric"), "numeric")}


class ShieldColumn(Frozen, frozen=True):
    """`type` is the SQL name of the type (of a domain: its base), `family` what kind of type it is. `spec` is None for
    columns that are not hidden."""

    name: str
    attnum: int
    type: str
    family: str
    spec: MaskSpec | None = None

    @property
    def hidden(self) -> bool:
        return self.spec is not None

    @property
    def same(self) -> str:
        """The template by which values are compared, "" when they cannot be."""
        return SAME.get(self.family, "")

    @property
    def same_as(self) -> str:
        """Types of which equal values have equal digests."""
        return SAME_AS.get(self.family, self.family)

    @property
    def plain(self) -> str:
        """The type in which its values are compared: no declared length cuts them."""
        return f"pg_catalog.{self.same_as}"

    @property
    def digest(self) -> str:
        """The name of the view's column with the digest."""
        return f"={self.attnum}"

    @property
    def tells_null(self) -> bool:
        """Whether the view shows which values are NULL."""
        return self.family in NEUTRAL or self.family == "enum"


class Shield(Frozen, frozen=True):
    """One masking view. `oid`, `table` and `kind` (pg_class.relkind) are the relation's; `key` its primary key, if no
    column of it is hidden; `parent`: it has inheritance children, so that ONLY makes a difference."""

    oid: int
    home: str
    schema: str
    table: str
    kind: str
    columns: tuple[ShieldColumn, ...]
    key: tuple[str, ...] = ()
    parent: bool = False

    @property
    def hidden(self) -> tuple[ShieldColumn, ...]:
        return tuple(column for column in self.columns if column.hidden)

    @property
    def system(self) -> tuple[str, ...]:
        return () if self.kind == "v" else SYSTEM_COLUMNS

    def view(self, *, only: bool = False) -> str:
        """Its name in the schema of the masking views."""
        return view_name(self.schema, self.table) + (ONLY if only and self.parent else "")

    def qualified(self, *, only: bool = False) -> str:
        return f"{quoted(self.home)}.{quoted(self.view(only=only))}"

    @property
    def extras(self) -> tuple[str, ...]:
        """The view's columns beside those of the relation."""
        return tuple(column.digest for column in self.hidden if column.same) + self.system

    def names(self) -> tuple[str, ...]:
        """All columns of the view, in their order."""
        return (*(column.name for column in self.columns), *self.extras)


def quoted(name: str) -> str:
    """An identifier as SQL text."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL text, whatever standard_conforming_strings says."""
    escaped = text.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in escaped else f"'{escaped}'"


def view_name(schema: str, table: str) -> str:
    """ "schema.table", cut and made unique where that is too long for a name."""
    name = f"{schema}.{table}"
    room = NAME_MAX_BYTES - len(ONLY)
    if len(name.encode()) <= room:
        return name
    digest = hashlib.sha256(f"{schema}\0{table}".encode()).hexdigest()[:12]
    return name.encode()[: room - 13].decode(errors="ignore") + "." + digest


def shields_of(catalog: Catalog, hidden: Hidden, home: str) -> tuple[Shield, ...]:
    """The masking views, in the schema `home`, of everything that has hidden columns."""
    specs = {(column.table_oid, column.attnum): hidden.specs[column.mask] for column in hidden.columns}
    found = (_shield(relation, specs, home) for relation in catalog.relations)
    return tuple(shield for shield in found if shield is not None)


def _shield(relation: Relation, specs: dict[tuple[int, int], MaskSpec], home: str) -> Shield | None:
    columns = tuple(_column(column, specs.get((relation.oid, column.attnum))) for column in relation.columns)
    secret = {column.name for column in columns if column.hidden}
    if not secret or relation.schema == home:
        return None
    key = relation.key if secret.isdisjoint(relation.key) else ()
    return Shield(oid=relation.oid, home=home, schema=relation.schema, table=relation.name, kind=relation.kind,
                  columns=columns, key=key, parent=relation.parent)


def _column(column: Column, spec: MaskSpec | None) -> ShieldColumn:
    return ShieldColumn(name=column.name, attnum=column.attnum, type=column.sql_type, family=column.family, spec=spec)


# ---------------------------------------------------------------- definitions

def definition(shield: Shield, *, only: bool = False) -> str:
    """The query of the masking view."""
    # No alias: plans of EXPLAIN then look as they do without the view.
    row = quoted(shield.table)
    shown = [f"{_shown(column, row, shield.home)} AS {quoted(column.name)}" if column.hidden
             else f"{row}.{quoted(column.name)}" for column in shield.columns]
    shown += [f"{digest(column.same.format(f'{row}.{quoted(column.name)}'), shield.home)} AS {quoted(column.digest)}"
              for column in shield.hidden if column.same]
    shown += [f"{row}.{name}" for name in shield.system]
    table = f"{quoted(shield.schema)}.{quoted(shield.table)}"
    return f"SELECT {', '.join(shown)} FROM {'ONLY ' if only else ''}{table}"


def digest(text: str, home: str) -> str:
    """The keyed digest of an expression of type text."""
    return f"{quoted(home)}.{DIGEST}({text})"


def _shown(column: ShieldColumn, row: str, home: str) -> str:
    """What the view shows of a hidden column."""
    value = f"{row}.{quoted(column.name)}"
    spec = column.spec
    assert spec is not None
    shown = _partly(column, value, spec, home)
    if shown is None and column.family == "enum":
        shown = f"pg_catalog.enum_first(CAST(NULL AS {column.type}))"
    elif shown is None and column.family in NEUTRAL:
        shown = literal(NEUTRAL[column.family])
    if shown is None:
        return f"CAST(NULL AS {column.type})"
    # CASE forgets a declared length, which clients are told of: the cast around it remembers.
    return f"CAST(CASE WHEN {value} IS NOT NULL THEN CAST({shown} AS {column.type}) END AS {column.type})"


def _partly(column: ShieldColumn, value: str, spec: MaskSpec, home: str) -> str | None:
    """For masks that need the value: what is left of it. The relay's mask of that is its mask of the value itself."""
    text = f"CAST({value} AS pg_catalog.text)"
    if spec.kind == MASK_PARTIAL and column.family in TEXT:
        kept = f"LEAST({int(spec.keep)}, pg_catalog.length({text}) / 2)"
        stars = f"pg_catalog.repeat('*', pg_catalog.length({text}) - {kept})"
        return f"{stars} OPERATOR(pg_catalog.||) pg_catalog.right({text}, {kept})"
    if spec.kind == MASK_EMAIL and column.family in TEXT:
        domain = f"pg_catalog.split_part({text}, '@', 2)"
        form = f"pg_catalog.left({text}, 1) OPERATOR(pg_catalog.||) '***@' OPERATOR(pg_catalog.||) {domain}"
        return f"CASE WHEN {text} OPERATOR(pg_catalog.~) '^[^@]+@[^@]+$' THEN {form} ELSE '***' END"
    if spec.kind in (MASK_HASH, MASK_TOKEN) and column.same:
        return _hashed(column, digest(column.same.format(value), home))
    return None


def _hashed(column: ShieldColumn, token: str) -> str | None:
    if column.family in TEXT:
        return f"pg_catalog.encode({token}, 'hex')"
    if column.family == "bytea":
        return token
    if column.family == "uuid":
        return f"pg_catalog.left(pg_catalog.encode({token}, 'hex'), 32)"
    if column.family in INTEGERS or column.family == "numeric":
        most = min(INTEGERS.get(column.family, 10 ** 15), 10 ** 15)
        digits = f"'x' OPERATOR(pg_catalog.||) pg_catalog.left(pg_catalog.encode({token}, 'hex'), 13)"
        bits = f"CAST(CAST({digits} AS pg_catalog.bit(52)) AS pg_catalog.int8)"
        return f"{bits} OPERATOR(pg_catalog.%) {most} OPERATOR(pg_catalog.+) 1"
    return None
