"""The types of an upstream's own that masked columns are made of: domains, arrays, composites, enums, ranges."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, LiteralString

from hoopfast.analysis.fit import FIRST_USER_OID, Type

TYPES_MAX: Final = 2_000
ITEMS_MAX: Final = 20_000       # labels and fields of all types
ROUNDS_MAX: Final = 16          # types within types

# citext is a text on the wire, in both formats.
TYPES: LiteralString = """
select t.oid::int8, pg_catalog.format_type(t.oid, null),
case when t.typcategory = 'A' and t.typelem <> 0 then 'a' when x.extname = 'citext' then 'd' else t.typtype::text end,
coalesce(case when t.typcategory = 'A' then t.typelem when x.extname = 'citext' then 25
when t.typtype = 'd' then t.typbasetype when t.typtype = 'r' then r.rngsubtype
when t.typtype = 'm' then m.rngtypid end, 0)::int8,
t.typtypmod, coalesce(e.typdelim::text, ','),
array(select a.atttypid::int8 from pg_catalog.pg_attribute a
where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped order by a.attnum),
array(select a.atttypmod from pg_catalog.pg_attribute a
where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped order by a.attnum),
array(select l.enumlabel::text from pg_catalog.pg_enum l where l.enumtypid = t.oid order by l.enumsortorder)
from pg_catalog.pg_type t
left join pg_catalog.pg_type e on e.oid = t.typelem and t.typelem <> 0
left join pg_catalog.pg_range r on r.rngtypid = t.oid
left join pg_catalog.pg_range m on m.rngmultitypid = t.oid
left join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
left join pg_catalog.pg_extension x on x.oid = d.refobjid
where t.oid = any(%s::oid[])
and (t.typtype in ('d', 'c', 'e', 'r', 'm') or t.typcategory = 'A' or x.extname = 'citext')"""


async def load_types(
    rows: Callable[..., Awaitable[list[Any]]], wanted: Iterable[int], problems: list[str]
) -> tuple[Type, ...]:
    """The types behind these OIDs, and those they are made of. What is not found here is masked as NULL."""
    found: dict[int, Type] = {}
    pending = {oid for oid in wanted if oid >= FIRST_USER_OID}
    items = 0
    for _ in range(ROUNDS_MAX):
        if not pending:
            break
        fresh = [_type(row) for row in await rows(TYPES, sorted(pending))]
        items += sum(len(one.fields) + len(one.labels) for one in fresh)
        if len(found) + len(fresh) > TYPES_MAX or items > ITEMS_MAX:
            problems.append("masked columns have more types than the gateway keeps: values of the others are NULL")
            break
        found |= {one.oid: one for one in fresh}
        parts = {part for one in fresh for part in (one.part, *(oid for oid, _ in one.fields))}
        pending = {oid for oid in parts if oid >= FIRST_USER_OID and oid not in found}
    return tuple(found[oid] for oid in sorted(found))


def _type(row: tuple[Any, ...]) -> Type:
    oid, name, kind, part, typmod, delimiter, fields, typmods, labels = row
    return Type(
        oid=oid, name=name, kind=kind, part=part, typmod=typmod, delimiter=delimiter,
        fields=tuple(zip(fields, typmods, strict=True)), labels=tuple(labels))
