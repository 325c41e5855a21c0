"""What enforced mode has to know of a catalog beside what the analysis does. Used by `control.catalog`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import msgspec
import psycopg

from hoopfast.analysis.catalog import Catalog, Relation, ShieldView

Reader = psycopg.AsyncConnection[Any]

TYPES: LiteralString = """
select a.attrelid::int8, a.attnum::int,
pg_catalog.format_type(b.oid, case when t.typtype = 'd' then t.typtypmod else a.atttypmod end),
case when b.typtype = 'e' then 'enum' when b.typtype = 'c' then 'composite' when b.typtype = 'r' then 'range'
when b.typtype = 'm' then 'multirange' when b.typtype <> 'b' then ''
when b.typinput = 'pg_catalog.array_in'::pg_catalog.regproc then 'array'
when b.typnamespace = 'pg_catalog'::pg_catalog.regnamespace then b.typname::text else '' end
from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
join pg_catalog.pg_type b on b.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end
where a.attrelid = any(%s::oid[]) and a.attnum > 0 and not a.attisdropped"""
KEYS: LiteralString = """
select i.indrelid::int8, array_agg(a.attname::text) from pg_catalog.pg_index i
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
where i.indisprimary and i.indrelid = any(%s::oid[]) group by 1"""
PARENTS: LiteralString = "select distinct inhparent::int8 from pg_catalog.pg_inherits where inhparent = any(%s::oid[])"
VIEWS: LiteralString = """
select n.nspname::text, c.relname::text, c.oid::int8, a.attname::text, a.attnum::int
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0
where n.nspname = any(%s::text[]) and c.relkind = 'v' order by c.oid, a.attnum"""


async def complete(reader: Reader, catalog: Catalog, schemas: Sequence[str]) -> Catalog:
    """The catalog with the types and keys of its relations, and with the views in these schemas of masking views.

    Raises psycopg.Error and OSError when the upstream cannot be asked.
    """
    if not schemas:
        return catalog
    oids = [relation.oid for relation in catalog.relations]

    async def rows(query: LiteralString, argument: list[Any]) -> list[Any]:
        return await (await reader.execute(query, [argument])).fetchall()

    types = {(oid, attnum): (name, family) for oid, attnum, name, family in await rows(TYPES, oids)}
    keys = {oid: tuple(names) for oid, names in await rows(KEYS, oids)}
    parents = {oid for (oid,) in await rows(PARENTS, oids)}
    found: dict[tuple[str, str, int], list[tuple[str, int]]] = {}
    for schema, name, oid, column, attnum in await rows(VIEWS, list(schemas)):
        found.setdefault((schema, name, oid), []).append((column, attnum))
    views = (ShieldView(schema=schema, name=name, oid=oid, columns=tuple(columns))
             for (schema, name, oid), columns in found.items())
    relations = (_complete(relation, types, keys, parents) for relation in catalog.relations)
    return msgspec.structs.replace(catalog, relations=tuple(relations), shields=tuple(views))


def _complete(
    relation: Relation, types: dict[tuple[int, int], tuple[str, str]], keys: dict[int, tuple[str, ...]],
    parents: set[int],
) -> Relation:
    columns = []
    for column in relation.columns:
        name, family = types.get((relation.oid, column.attnum), ("", ""))
        columns.append(msgspec.structs.replace(column, sql_type=name, family=family))
    return msgspec.structs.replace(
        relation, columns=tuple(columns), key=keys.get(relation.oid, ()),
        parent=relation.kind == "r" and relation.oid in parents)
