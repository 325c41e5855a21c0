"""Asks an upstream what columns a statement would have, without running it. Used by `hoopfast explain`.

The server parses and analyses the text (Parse, Describe) in a read-only transaction that is rolled back.
"""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg.pq import ExecStatus

from hoopfast import config as configuration
from hoopfast.control.catalog import connect
from hoopfast.control.closure import Reader
from hoopfast.model import Frozen

NAMES: LiteralString = """
select a.attrelid::int8, a.attnum::int, n.nspname::text, c.relname::text, a.attname::text
from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where (a.attrelid::int8, a.attnum::int) in (select * from unnest(%s::int8[], %s::int[]))"""
TYPES: LiteralString = """
select oid::int8, pg_catalog.format_type(oid, null) from pg_catalog.pg_type where oid = any(%s::oid[])"""


class Described(Frozen, frozen=True):
    """One output column. `table_oid` 0: it has no origin; otherwise `origin` is "schema.table.column"."""

    name: str
    type: str
    table_oid: int = 0
    attnum: int = 0
    origin: str = ""


class Refused(Exception):
    """The server does not accept the statement: `str()` is its message."""


async def describe(connection: configuration.Connection, password: str, sql: str) -> tuple[Described, ...]:
    """The output columns of one statement. Raises Refused, or psycopg.Error or OSError when the upstream fails."""
    reader = await connect(connection.upstream, password, search_path="")
    try:
        await reader.execute("begin read only")
        pgconn = reader.pgconn
        # Blocking calls of libpq: the command line has nothing else to do.
        made = pgconn.prepare(b"", sql.encode())
        if made.status != ExecStatus.COMMAND_OK:
            raise Refused(made.error_message.decode(errors="replace").strip())
        seen = pgconn.describe_prepared(b"")
        fields = [
            ((seen.fname(i) or b"").decode(), seen.ftype(i), seen.ftable(i), seen.ftablecol(i))
            for i in range(seen.nfields)
        ]
        tables, numbers = [table for _, _, table, _ in fields], [number for *_, number in fields]
        names = {(row[0], row[1]): ".".join(row[2:]) for row in await _rows(reader, NAMES, tables, numbers)}
        types = {row[0]: row[1] for row in await _rows(reader, TYPES, [kind for _, kind, _, _ in fields])}
        return tuple(
            Described(name=name, type=str(types.get(kind, kind)), table_oid=table, attnum=number,
                      origin=names.get((table, number), "") if table else "")
            for name, kind, table, number in fields
        )
    finally:
        await reader.close()


async def _rows(reader: Reader, query: LiteralString, *arguments: Any) -> list[tuple[Any, ...]]:
    cursor = await reader.execute(query, arguments)
    return await cursor.fetchall()
