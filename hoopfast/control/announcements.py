"""Hears of DDL past the gateway at once, where the database has an event trigger that tells. Used by `catalog`.

Without it, the catalog is compared from time to time. Making an event trigger takes a superuser, so it is for a DBA to
do: `hoopfast policy closure CONNECTION --event-trigger` prints the SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, LiteralString

EXISTS: LiteralString = """
select exists (
select from pg_catalog.pg_event_trigger where evtname = 'hoopfast_catalog' and evtenabled in ('O', 'A'))"""
SQL: Final = """\
CREATE FUNCTION hoopfast_catalog() RETURNS event_trigger LANGUAGE plpgsql AS
$$ BEGIN NOTIFY hoopfast_catalog; END $$;
CREATE EVENT TRIGGER hoopfast_catalog ON ddl_command_end EXECUTE FUNCTION hoopfast_catalog();
"""


async def listen(reader: Any, told: Callable[[], None]) -> None:
    """Call `told` whenever the trigger tells, until the connection ends (psycopg.Error). `reader` is closed then."""
    try:
        await reader.execute("listen hoopfast_catalog")
        told()                              # what happened before anybody listened
        async for _ in reader.notifies():
            told()
    finally:
        await reader.close()
