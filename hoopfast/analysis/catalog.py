"""What the analysis knows of an upstream's catalog: a value, made by `control.catalog` and carried to the workers.

Only the *sensitive closure* is described by columns: masked tables, their partitions and inheritance relatives, the
views that read them. Of everything else names suffice, because the gate treats a name it does not know as
sensitive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from hoopfast.analysis.fit import Type, unfit
from hoopfast.knobs import SAFE, Handling, strictest
from hoopfast.model import MASK_NULL, Frozen, MaskedColumn, MaskSpec

PolicyColumn = tuple[str, str, str]     # schema, table, column as the policy writes it


class Column(Frozen, frozen=True):
    """`policy` names the masked columns of the policy that this one shows, itself or an inheritance relative.

    `derived` marks a generated column computed from them: it is hidden whole (NULL), whatever the policy's mask.
    `generated` marks every generated column: COPY leaves them out. `sql_type` is SQL for the type (of a domain: its
    base), `family` the name of a built-in type, or "enum", "composite", "array", "range", "multirange", or "".
    """

    name: str
    attnum: int
    type_oid: int
    typmod: int = -1
    policy: tuple[PolicyColumn, ...] = ()
    derived: bool = False
    generated: bool = False
    type_name: str = ""
    sql_type: str = ""
    family: str = ""


class Relation(Frozen, frozen=True):
    """One relation of the closure. `kind` is pg_class.relkind; `reads` are the OIDs of masked tables that a closed view
    shows, and `closed` says why it is one, for people.

    For enforced mode: `key` are the columns of the primary key; `parent`: a table with inheritance children (not a
    partitioned one).
    """

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...] = ()
    reads: tuple[int, ...] = ()
    closed: str = ""
    key: tuple[str, ...] = ()
    parent: bool = False


class Trigger(Frozen, frozen=True):
    """A trigger that hidden columns may pass through: of a table that has some, or with code that names one.

    `writes` are relations outside the closure that its code names: what it copies there is not masked.
    """

    table: str                                      # schema.table
    name: str
    function: str
    writes: tuple[str, ...] = ()


class ShieldView(Frozen, frozen=True):
    """A view that stands in a schema of masking views; (name, attribute number) of its columns."""

    schema: str
    name: str
    oid: int
    columns: tuple[tuple[str, int], ...] = ()


class Catalog(Frozen, frozen=True):
    """A snapshot; `epoch` rises with every change. Names in `known`, `foreign` and so on are bare, without schema."""

    epoch: int
    version: int = 0                                # server_version_num
    superuser: bool = False
    relations: tuple[Relation, ...] = ()            # the closure
    known: frozenset[str] = frozenset()             # every relation that is not in the closure
    # Of `known`, with schema: those that share their bare name with one of the closure, and are not it.
    apart: frozenset[tuple[str, str]] = frozenset()
    foreign: frozenset[str] = frozenset()           # foreign tables no mask describes: maybe a masked one itself
    # User functions by bare name: True when every overload is clean.
    functions: dict[str, bool] = msgspec.field(default_factory=dict)
    reasons: dict[str, str] = msgspec.field(default_factory=dict)      # of those that are not, for people
    operators: frozenset[str] = frozenset()         # user operators whose function is not clean
    row_functions: frozenset[str] = frozenset()     # one-argument built-ins that take a whole row
    unlisted: frozenset[str] = frozenset()          # names in pg_catalog that are not only what PostgreSQL has there
    # A write here may reach others, by user triggers or by foreign keys that cascade into the closure.
    triggered: frozenset[str] = frozenset()
    triggers: tuple[Trigger, ...] = ()
    ruled: frozenset[str] = frozenset()             # relations with rules (other than views') that read the closure
    types: tuple[Type, ...] = ()                    # of the database's own, that masked columns are made of
    shields: tuple[ShieldView, ...] = ()            # of enforced mode
    announced: bool = False                         # an event trigger tells of DDL
    partial: bool = False                           # some views were locked, and are closed until somebody looks again
    problems: tuple[str, ...] = ()                  # what an operator should know, in sentences


class ColumnMask(Protocol):
    """One column that the policy hides from somebody (policy.snapshot)."""

    @property
    def schema(self) -> str: ...
    @property
    def table(self) -> str: ...
    @property
    def column(self) -> str: ...
    @property
    def spec(self) -> MaskSpec: ...
    @property
    def handling(self) -> Handling: ...


class Hidden(Frozen, frozen=True):
    """A catalog's columns that are masked for somebody: `specs` by the index in `columns`. `names` are for people:
    "schema.table.column" by (table OID, attribute number), as `handling` is. `unfit`, by a relation's name: why a
    mask of it cannot be.
    """

    specs: tuple[MaskSpec, ...]
    columns: tuple[MaskedColumn, ...]
    names: dict[tuple[int, int], str]
    unfit: dict[str, str] = msgspec.field(default_factory=dict)
    handling: dict[tuple[int, int], Handling] = msgspec.field(default_factory=dict)


def hide(
    catalog: Catalog | None, masks: dict[PolicyColumn, MaskSpec], handling: dict[PolicyColumn, Handling] | None = None,
) -> Hidden:
    """Find masked columns, their inheritance relatives and what is computed from them. Without a catalog: none.

    `handling` is what people may do with columns of the policy, where it is not the safe default.
    """
    used: list[MaskSpec] = []
    columns: list[MaskedColumn] = []
    names: dict[tuple[int, int], str] = {}
    wrong: dict[str, str] = {}
    types = {one.oid: one for one in catalog.types} if catalog is not None else {}
    ways: dict[tuple[int, int], Handling] = {}
    for relation in catalog.relations if catalog is not None else ():
        for column in relation.columns:
            spec = _spec(column, masks)
            if spec is None:
                continue
            if spec not in used:
                used.append(spec)
            columns.append(MaskedColumn(table_oid=relation.oid, attnum=column.attnum, mask=used.index(spec)))
            names[relation.oid, column.attnum] = f"{relation.schema}.{relation.name}.{column.name}"
            ways[relation.oid, column.attnum] = strictest(
                (handling or {}).get(name, SAFE) for name in column.policy if name in masks)
            reason = unfit(spec, column.type_oid, types)
            if reason:
                shown = f"{names[relation.oid, column.attnum]} ({column.type_name or 'its type'})"
                wrong.setdefault(relation.name, f"masked column {shown}: {reason}")
    return Hidden(specs=tuple(used), columns=tuple(columns), names=names, unfit=wrong, handling=ways)


def _spec(column: Column, masks: dict[PolicyColumn, MaskSpec]) -> MaskSpec | None:
    found = [spec for name, spec in masks.items() if name in column.policy]
    if not found:
        return None
    return MaskSpec(kind=MASK_NULL) if column.derived else found[0]


def hide_for(catalog: Catalog | None, masks: Iterable[ColumnMask]) -> Hidden:
    """What `hide` finds for the masks of some people, as a policy's snapshot gives them."""
    masks = tuple(masks)
    return hide(
        catalog, {(one.schema, one.table, one.column): one.spec for one in masks},
        {(one.schema, one.table, one.column): one.handling for one in masks})


def to_builtins(catalog: Catalog) -> dict[str, Any]:
    """For `model.CatalogUpdate`."""
    value: dict[str, Any] = msgspec.to_builtins(catalog)
    return value


def from_builtins(value: dict[str, Any]) -> Catalog:
    """Inverse of `to_builtins`; raises msgspec.ValidationError when the shape is wrong."""
    return msgspec.convert(value, Catalog)
