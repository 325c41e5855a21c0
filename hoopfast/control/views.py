"""Asks an upstream what its views show, and opens those that analysis proves clear. Used by `control.catalog`.

Definitions are parsed and described by the server, never run, so neither rights on their tables nor their cost matter.
"""

from __future__ import annotations

from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg.generators import execute
from psycopg.pq import ExecStatus

from hoopfast.analysis import views
from hoopfast.analysis.catalog import Catalog, Column, Relation
from hoopfast.analysis.parse import Statement, identifiers

DEFINITIONS: LiteralString = """
select c.oid::int8, coalesce(pg_catalog.pg_get_viewdef(c.oid), '') from pg_catalog.pg_class c
where c.relkind in ('v', 'm') and c.oid >= 16384"""
VIEWS: LiteralString = "select oid::int8 from pg_catalog.pg_class where relkind in ('v', 'm') and oid >= 16384"
DEFINITION: LiteralString = "select pg_catalog.pg_get_viewdef(%s::oid)"
COLUMNS: LiteralString = """
select attrelid::int8, attname::text, attnum::int, atttypid::int8, atttypmod::int from pg_catalog.pg_attribute
where attrelid = any(%s::oid[]) and attnum > 0 and not attisdropped order by attrelid, attnum"""

Reader = psycopg.AsyncConnection[Any]


async def definitions(reader: Reader) -> dict[int, str]:
    """The text of every view that is not the system's, by OID; "" for one that somebody has locked at the moment.

    The server locks what a view reads to print it. Whoever changes a table in an open transaction would hold up every
    login, so nobody waits for long: such a view stays closed, and is looked at again later.
    """
    await reader.execute("set local lock_timeout = '200ms'")
    try:
        async with reader.transaction():
            return dict(await (await reader.execute(DEFINITIONS)).fetchall())
    except psycopg.errors.LockNotAvailable:
        await reader.execute("set local lock_timeout = '20ms'")
    oids = [oid for (oid,) in await (await reader.execute(VIEWS)).fetchall()]
    return {oid: await _definition(reader, oid) for oid in oids}


async def _definition(reader: Reader, oid: int) -> str:
    try:
        async with reader.transaction():
            row = await (await reader.execute(DEFINITION, [oid])).fetchone()
    except psycopg.errors.LockNotAvailable:
        return ""
    return str(row[0] or "") if row else ""


def odd_views(texts: dict[int, str], unsafe: frozenset[str]) -> frozenset[int]:
    """Views that name a built-in function which may read anything, of which no dependency in the catalog tells, and
    those whose text is not to be had."""
    found = set()
    for oid, text in texts.items():
        names = identifiers(text) if text else None
        if names is None or names & unsafe:
            found.add(oid)
    return frozenset(found)


async def clear(reader: Reader, catalog: Catalog, texts: dict[int, str]) -> Catalog:
    """The catalog with its clear views opened. A view over views has its turn when those have had theirs.

    Raises psycopg.Error and OSError when the upstream cannot be asked at all.
    """
    closed = {relation.oid: query for relation in catalog.relations
              if relation.reads and relation.kind in "vm" and (query := views.definition(texts.get(relation.oid, "")))}
    cursor = await reader.execute(COLUMNS, [list(closed)])
    rows = await cursor.fetchall()
    while closed:
        closure = views.everything_masked(catalog)
        allowed = {oid: zero for oid, query in closed.items()
                   if (zero := views.columns_without_origin(query, closure)) is not None}
        if not allowed:
            break
        opened = {}
        for relation in catalog.relations:
            if relation.oid in allowed:
                query = closed.pop(relation.oid)
                columns = [Column(name=name, attnum=number, type_oid=type_oid, typmod=typmod)
                           for oid, name, number, type_oid, typmod in rows if oid == relation.oid]
                found = await _open(reader, catalog, relation, query, columns, allowed[relation.oid])
                opened[relation.oid] = found or relation
        catalog = msgspec.structs.replace(
            catalog, relations=tuple(opened.get(relation.oid, relation) for relation in catalog.relations))
    closure = views.everything_masked(catalog)
    relations = tuple(
        msgspec.structs.replace(
            relation, closed=views.why_closed(views.definition(texts.get(relation.oid, "")), closure))
        if relation.reads and relation.kind in "vm" else relation for relation in catalog.relations)
    return msgspec.structs.replace(catalog, relations=relations, partial=not all(texts.values()))


async def _open(
    reader: Reader, catalog: Catalog, view: Relation, query: Statement, columns: list[Column], zero_max: int
) -> Relation | None:
    policy = {column.attnum: column for column in view.columns}         # the policy may name a view's columns itself
    columns = [policy.get(column.attnum, column) for column in columns]
    origins = await _origins(reader, query.text)
    if origins is None or sum(not oid for oid, _ in origins) > zero_max:
        return None
    return views.cleared(catalog, view, columns, origins)


async def _origins(reader: Reader, text: str) -> list[views.Origin] | None:
    """Where the columns of a query come from, as the server says; None when it cannot parse the query."""
    pgconn = reader.pgconn
    await reader.execute("savepoint view")
    pgconn.send_prepare(b"", text.encode())
    (result,) = await reader.wait(execute(pgconn))
    if result.status == ExecStatus.COMMAND_OK:
        pgconn.send_describe_prepared(b"")
        (result,) = await reader.wait(execute(pgconn))
    await reader.execute("rollback to view")
    await reader.execute("release view")
    if result.status != ExecStatus.COMMAND_OK:
        return None                 # closed, as everything that is not understood
    return [(result.ftable(place), result.ftablecol(place)) for place in range(result.nfields)]
