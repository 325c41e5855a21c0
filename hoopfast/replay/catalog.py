"""What replay asks the sandbox on a connection of its own: whose columns results have, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping

from hoopfast.audit.typed import decode_results
from hoopfast.errors import GatewayError
from hoopfast.protocol.messages import frame, parse_row_description
from hoopfast.replay.compare import Answer, Origin
from hoopfast.replay.link import Link
from hoopfast.replay.treat import facts_of

ASKED_MAX = 3                           # times for one table: it may not be committed yet

_COLUMNS = """
SELECT a.attrelid, a.attnum, n.nspname, c.relname, a.attname, c.relkind, a.attidentity <> '' OR a.attgenerated <> '',
       pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid IN ({tables}) AND a.attnum > 0 AND NOT a.attisdropped
"""
_BLOCKERS = "SELECT pid, pg_catalog.pg_blocking_pids(pid) FROM unnest(ARRAY[{pids}]::int[]) AS pid"


class Catalog:
    """One connection, asked by one task at a time. What it cannot tell is not known: never an error."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = asyncio.Lock()
        self._asked: Counter[int] = Counter()
        self.origins: dict[tuple[int, int], Origin] = {}

    async def learn(self, answer: Answer) -> bool:
        """Get to know the tables that these results come from. True when something new was learned."""
        tables = {
            field.table_oid for found in answer.sets if found.description
            for field in parse_row_description(found.description)
            if field.table_oid and (field.table_oid, field.attnum) not in self.origins
        }
        tables = {table for table in tables if self._asked[table] < ASKED_MAX}
        if not tables:
            return False
        self._asked.update(tables)
        known = len(self.origins)
        for oid, attnum, schema, table, column, kind, generated, default in await self._rows(
            _COLUMNS.format(tables=", ".join(map(str, sorted(tables))))
        ):
            chosen = generated == "t" or (default is not None and facts_of(f"SELECT {default}").chosen)
            self.origins[int(oid or 0), int(attnum or 0)] = Origin(
                f"{schema}.{table}.{column}", kind in {"r", "p"}, chosen)
        return len(self.origins) > known

    async def blockers(self, pids: Iterable[int]) -> Mapping[int, tuple[int, ...]]:
        """For each server process that waits for a lock, who holds it."""
        found = {}
        for pid, blocking in await self._rows(_BLOCKERS.format(pids=", ".join(map(str, pids)))):
            names = str(blocking or "{}").strip("{}")
            if names:
                found[int(pid or 0)] = tuple(int(one) for one in names.split(","))
        return found

    async def close(self) -> None:
        await self._link.leave()

    async def _rows(self, sql: str) -> list[tuple[str | None, ...]]:
        async with self._lock:
            try:
                answer = await self._link.command(sql)
            except GatewayError:
                return []
        if answer.sqlstate or not answer.sets:
            return []
        found = decode_results(frame(b"T", answer.sets[0].description) + bytes(answer.sets[0].frames))
        return [tuple(value if isinstance(value, str) else None for value in row) for row in found[0].rows]
