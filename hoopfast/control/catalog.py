"""Reads an upstream's catalog for the analysis, and keeps it fresh. Used by the supervisor, the only reader.

The reader logs in with the gateway's own upstream credential and only looks at pg_catalog. What it makes is a value
(`analysis.catalog.Catalog`); the workers get it as `model.CatalogUpdate`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, LiteralString

import psycopg
from psycopg.rows import TupleRow

from hoopfast import config as configuration
from hoopfast.analysis.bodies import Function, clean_functions
from hoopfast.analysis.builtins import DATA_CATALOGS, builtin_allowed
from hoopfast.analysis.catalog import Catalog, Column, PolicyColumn, Relation, to_builtins
from hoopfast.control import views
from hoopfast.errors import GatewayError
from hoopfast.model import CatalogUpdate

log = logging.getLogger(__name__)

STATEMENT_TIMEOUT_MS = 30_000
FIRST_USER_OID = 16_384

Reader = psycopg.AsyncConnection[TupleRow]
Masked = frozenset[PolicyColumn]

SERVER: LiteralString = """
select current_setting('server_version_num')::int, rolsuper from pg_catalog.pg_roles where rolname = current_user"""
RELATIONS: LiteralString = """
select c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')"""
INHERITANCE: LiteralString = "select inhrelid::int8, inhparent::int8 from pg_catalog.pg_inherits"
COLUMNS: LiteralString = """
select attrelid::int8, attname::text, attnum::int, atttypid::int8, attgenerated <> '' from pg_catalog.pg_attribute
where attrelid = any(%s::oid[]) and attnum > 0 and not attisdropped order by attrelid, attnum"""
GENERATED: LiteralString = """
select a.adrelid::int8, a.adnum::int, d.refobjsubid::int from pg_catalog.pg_attrdef a
join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_attrdef'::regclass and d.objid = a.oid
where a.adrelid = any(%s::oid[]) and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = a.adrelid
union
select d.objid::int8, d.objsubid, d.refobjsubid from pg_catalog.pg_depend d
where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = any(%s::oid[]) and d.objsubid > 0
and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = d.objid"""
RULES: LiteralString = """
select distinct r.ev_class::int8, r.ev_type::text = '1', d.refclassid = 'pg_catalog.pg_proc'::regclass, d.refobjid::int8
from pg_catalog.pg_rewrite r
join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
where r.ev_class >= 16384 and d.refobjid <> r.ev_class
and d.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)"""
FUNCTIONS: LiteralString = """
select p.oid::int8, p.proname::text, l.lanname::text, p.prokind::text,
coalesce(nullif(p.prosrc, ''), {body}, ''), coalesce(e.extname::text, '')
from pg_catalog.pg_proc p
join pg_catalog.pg_language l on l.oid = p.prolang
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
left join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
left join pg_catalog.pg_extension e on e.oid = d.refobjid
where n.nspname not in ('pg_catalog', 'information_schema')"""
BUILTINS: LiteralString = """
select distinct p.proname::text, p.pronargs >= 1 and p.pronargs - p.pronargdefaults <= 1
and p.proargtypes[0]::regtype::text in
('record', '"any"', 'anyelement', 'anycompatible', 'anynonarray', 'anycompatiblenonarray')
from pg_catalog.pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace"""
OPERATORS: LiteralString = """
select oprname::text, oprcode::oid::int8 from pg_catalog.pg_operator where oprcode::oid >= 16384"""
TRIGGERS: LiteralString = """
select distinct c.oid::int8, c.relname::text from pg_catalog.pg_trigger t
join pg_catalog.pg_class c on c.oid = t.tgrelid where not t.tgisinternal"""
CASCADES: LiteralString = """
select confrelid::int8, conrelid::int8 from pg_catalog.pg_constraint
where contype = 'f' and (confupdtype in ('c', 'n', 'd') or confdeltype in ('c', 'n', 'd'))"""
DIGEST: LiteralString = """
select concat_ws(' ',
(select concat(count(*), '/', max(xmin::text::int8)) from pg_catalog.pg_class),
(select concat(count(*), '/', max(xmin::text::int8)) from pg_catalog.pg_attribute),
(select concat(count(*), '/', max(xmin::text::int8)) from pg_catalog.pg_proc),
(select concat(count(*), '/', max(xmin::text::int8)) from pg_catalog.pg_rewrite),
(select concat(count(*), '/', max(xmin::text::int8)) from pg_catalog.pg_inherits),
(select concat(count(*), '/', max(xmin::text::int8)) from pg_catalog.pg_trigger),
(select concat(count(*), '/', max(xmin::text::int8)) from pg_catalog.pg_constraint),
(select concat(count(*), '/', max(xmin::text::int8)) from pg_catalog.pg_operator))"""


async def load_catalog(
    connection: configuration.Connection, password: str, masked: Iterable[PolicyColumn], epoch: int
) -> Catalog:
    """A snapshot of the upstream's catalog. `masked` are all columns the policy masks for anybody on this connection.

    Raises psycopg.Error or OSError when the upstream cannot be asked.
    """
    reader = await connect(connection.upstream, password)
    try:
        await reader.execute("begin isolation level repeatable read read only")
        return await _Loader(reader, frozenset(masked), epoch).load()
    finally:
        await reader.close()


async def connect(upstream: configuration.Upstream, password: str, *, search_path: str = "pg_catalog") -> Reader:
    """A connection for catalog queries, with the TLS settings of the configuration; `search_path` "": the role's."""
    options: dict[str, Any] = {
        "host": upstream.host, "port": upstream.port, "dbname": upstream.database, "user": upstream.user,
        "sslmode": upstream.tls, "channel_binding": upstream.channel_binding,
        "connect_timeout": max(2, int(upstream.connect_timeout)),
        "application_name": "hoopfast catalog", "client_encoding": "UTF8", "gssencmode": "disable",
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}" + (
            f" -c search_path={search_path}" if search_path else ""),
    }
    optional = {"password": password, "sslcert": upstream.cert, "sslkey": upstream.key,
                "sslrootcert": upstream.ca or ("system" if upstream.tls == "verify-full" else "")}
    options |= {name: value for name, value in optional.items() if value}
    return await psycopg.AsyncConnection.connect(autocommit=True, **options)


class _Loader:
    """One pass over the catalogs; every method adds to the picture."""

    def __init__(self, reader: Reader, masked: Masked, epoch: int) -> None:
        self._reader = reader
        self._masked = masked
        self._epoch = epoch
        self._problems: list[str] = []
        self._names: dict[int, tuple[str, str, str]] = {}           # oid: schema, name, relkind
        self._columns: dict[int, tuple[Column, ...]] = {}           # of tables with masked columns
        self._reads: dict[int, frozenset[int]] = {}                 # view: masked tables it shows
        self._ruled: set[str] = set()
        self._odd: frozenset[int] = frozenset()                     # views that may read anything

    async def _rows(self, query: LiteralString, *arguments: Any) -> list[TupleRow]:
        cursor = await self._reader.execute(query, arguments or None)
        return await cursor.fetchall()

    async def load(self) -> Catalog:
        ((version, superuser),) = await self._rows(SERVER)
        if superuser:
            self._problems.append("the gateway's upstream role is a superuser: it can read files and all settings; "
                                  "give it a role of its own")
        self._names = {oid: (schema, name, kind) for oid, schema, name, kind in await self._rows(RELATIONS)}
        await self._tables()
        rules = await self._rows(RULES)
        functions = await self._functions(version)
        builtins = await self._rows(BUILTINS)
        unsafe = frozenset(name for name, _ in builtins if not builtin_allowed(name))
        texts = await views.definitions(self._reader)
        self._odd = views.odd_views(texts, unsafe)
        clean = self._settle(rules, functions, unsafe | DATA_CATALOGS)
        triggers = await self._rows(TRIGGERS)
        for oid, name in triggers:
            if oid in self._columns:
                self._problems.append(f"table {name} has triggers: what they copy elsewhere is not masked there")
        reaching = await self._reaching(rules, {oid for oid, _ in triggers})
        operators = await self._rows(OPERATORS)
        catalog = self._catalog(version, superuser, functions, clean, builtins, operators, reaching)
        return await views.clear(self._reader, catalog, texts)

    # ------------------------------------------------------------ tables

    async def _tables(self) -> None:
        """Masked tables and their inheritance relatives; columns correspond by name, because numbers differ."""
        by_name = {(schema, name): oid for oid, (schema, name, _) in self._names.items()}
        wanted: dict[int, dict[str, set[PolicyColumn]]] = {}
        for schema, table, column in sorted(self._masked):
            oid = by_name.get((schema, table))
            if oid is None:
                self._problems.append(f"masked column {schema}.{table}.{column}: there is no such table")
            else:
                wanted.setdefault(oid, {}).setdefault(column, set()).add((schema, table, column))
        family = await self._families(wanted)
        rows = await self._rows(COLUMNS, sorted(family))
        derived = await self._rows(GENERATED, sorted(family), sorted(family))
        for oid, masks in family.items():
            mine = [row[1:] for row in rows if row[0] == oid]
            sources = {(number, source) for table, number, source in derived if table == oid}
            columns = _table_columns(mine, masks, sources)
            if any(column.policy for column in columns):
                self._columns[oid] = columns
        for oid, masks in wanted.items():
            present = {row[1] for row in rows if row[0] == oid}
            schema, table, _ = self._names[oid]
            self._problems += [f"masked column {schema}.{table}.{name}: the table has no such column"
                               for name in sorted(set(masks) - present)]

    async def _families(
        self, wanted: dict[int, dict[str, set[PolicyColumn]]]
    ) -> dict[int, dict[str, set[PolicyColumn]]]:
        relatives: dict[int, set[int]] = {}
        for child, parent in await self._rows(INHERITANCE):
            relatives.setdefault(child, set()).add(parent)
            relatives.setdefault(parent, set()).add(child)
        family: dict[int, dict[str, set[PolicyColumn]]] = {}
        for start, masks in wanted.items():
            pending, seen = [start], {start}
            while pending:
                here = pending.pop()
                for name, columns in masks.items():
                    family.setdefault(here, {}).setdefault(name, set()).update(columns)
                fresh = {oid for oid in relatives.get(here, ()) if oid not in seen and oid in self._names}
                seen |= fresh
                pending += fresh
        return family

    async def _reaching(self, rules: list[TupleRow], triggered: set[int]) -> frozenset[str]:
        """Relations of which a write may run triggers or reach the closure: its errors may show what is there."""
        # (here, there): a write to `here` may be one to `there`.
        steps = [(parent, child) for parent, child in await self._rows(CASCADES)]
        steps += [(parent, child) for child, parent in await self._rows(INHERITANCE)]
        steps += [(relation, source) for relation, _, is_function, source in rules if not is_function]
        reaching = triggered | set(self._columns)
        while fresh := {here for here, there in steps if there in reaching} - reaching:
            reaching |= fresh
        return frozenset(self._names[oid][1] for oid in reaching if oid in self._names)

    # ------------------------------------------------------------ views, rules, functions

    def _settle(self, rules: list[TupleRow], functions: list[Function], forbidden: frozenset[str]) -> frozenset[int]:
        """Views run functions and functions read views: both are judged again until the closure stops growing."""
        everyone = frozenset(function.oid for function in functions)
        clean = everyone
        while True:
            self._views(rules, everyone - clean)
            again = clean & clean_functions(functions, forbidden | self._closure_names())
            if again == clean:
                return clean
            clean = again

    def _views(self, rules: list[TupleRow], dirty: frozenset[int]) -> None:
        """Views over masked tables, transitively; code that cannot be read counts as reading all of them."""
        everything = frozenset(self._columns)
        reads: dict[int, frozenset[int]] = {oid: frozenset({oid}) for oid in self._columns}
        for oid, (_, name, kind) in self._names.items():
            if (kind == "f" and oid not in self._columns) or (oid < FIRST_USER_OID and name in DATA_CATALOGS):
                reads[oid] = everything
        found = {view: everything for view in self._odd if everything and view in self._names}
        changed = bool(everything)
        while changed:
            changed = False
            for view, is_view, is_function, source in rules:
                if is_function:
                    seen = everything if source in dirty else frozenset()
                else:
                    seen = reads.get(source, frozenset()) | found.get(source, frozenset())
                if seen and not is_view and view in self._names:
                    self._ruled.add(self._names[view][1])
                elif seen and not seen <= found.get(view, frozenset()):
                    found[view] = found.get(view, frozenset()) | seen
                    changed = True
        self._reads = found

    def _closure_names(self) -> frozenset[str]:
        foreign = {name for oid, (_, name, kind) in self._names.items() if kind == "f" and oid not in self._columns}
        return frozenset(self._names[oid][1] for oid in (*self._columns, *self._reads) if oid in self._names) | foreign

    async def _functions(self, version: int) -> list[Function]:
        body: LiteralString = "pg_catalog.pg_get_function_sqlbody(p.oid)" if version >= 140000 else "null"
        return [Function(*row) for row in await self._rows(FUNCTIONS.replace("{body}", body))]

    def _catalog(
        self, version: int, superuser: bool, functions: list[Function], clean: frozenset[int],
        builtins: list[TupleRow], operators: list[TupleRow], reaching: frozenset[str],
    ) -> Catalog:
        verdicts: dict[str, bool] = {}
        for function in functions:
            verdicts[function.name] = verdicts.get(function.name, True) and function.oid in clean
        # Extensions overload = and < with C functions that only compute; readable languages are judged by body.
        readable = {function.oid for function in functions if function.language not in ("c", "internal")}
        closure = {*self._columns, *self._reads}
        foreign = {name for oid, (_, name, kind) in self._names.items() if kind == "f" and oid not in self._columns}
        return Catalog(
            epoch=self._epoch, version=version, superuser=superuser,
            relations=tuple(self._relation(oid) for oid in sorted(closure) if oid in self._names),
            known=frozenset(name for oid, (_, name, kind) in self._names.items() if oid not in closure and kind != "f"),
            apart=self._apart(closure | {oid for oid, (_, name, _) in self._names.items() if name in foreign}),
            foreign=frozenset(foreign),
            functions=verdicts,
            operators=frozenset(name for name, code in operators if code in readable and code not in clean),
            row_functions=frozenset(name for name, takes_row in builtins if takes_row),
            triggered=reaching,
            ruled=frozenset(self._ruled),
            problems=tuple(self._problems),
        )

    def _apart(self, closure: set[int]) -> frozenset[tuple[str, str]]:
        """Temporary tables come and go under schemas of one name, so they are never told apart."""
        shared = {self._names[oid][1] for oid in closure if oid in self._names} - DATA_CATALOGS
        return frozenset((schema, name) for oid, (schema, name, _) in self._names.items()
                         if oid not in closure and oid >= FIRST_USER_OID and name in shared
                         and not schema.startswith(("pg_temp", "pg_toast")))

    def _relation(self, oid: int) -> Relation:
        schema, name, kind = self._names[oid]
        return Relation(oid=oid, schema=schema, name=name, kind=kind, columns=self._columns.get(oid, ()),
                        reads=tuple(sorted(self._reads.get(oid, ()))))


def _table_columns(
    rows: list[Any], masks: dict[str, set[PolicyColumn]], sources: set[tuple[int, int]]
) -> tuple[Column, ...]:
    """The columns of one table: masked by name, and generated columns by what they are computed from."""
    policy: dict[int, set[PolicyColumn]] = {number: set(masks[name]) for name, number, *_ in rows if name in masks}
    found = []
    for name, number, type_oid, generated in rows:
        inherited: set[PolicyColumn] = set()
        if generated and number not in policy:
            for target, source in sources:
                if target == number:
                    inherited |= policy.get(source, set())
        columns = tuple(sorted(policy.get(number, inherited)))
        found.append(Column(name=name, attnum=number, type_oid=type_oid, policy=columns, derived=bool(inherited),
                            generated=generated))
    return tuple(found)


class CatalogKeeper:
    """The supervisor's catalogs: loaded on first use, one load at a time for each connection, reloaded on changes.

    Each belongs to the policy `version` whose masked columns it describes; `get` never answers with another's.
    `on_change` is called with the new CatalogUpdate after every reload that `get` did not ask for.
    """

    def __init__(
        self,
        config: configuration.Config,
        version: int,
        masked_columns: Callable[[str], Iterable[PolicyColumn]],
        resolve_secret: Callable[[str], str],
        on_change: Callable[[CatalogUpdate], None],
    ) -> None:
        self._config = config
        self._version = version
        self._masked_columns = masked_columns
        self._resolve = resolve_secret
        self._on_change = on_change
        self._epochs: dict[str, int] = {}
        self._current: dict[str, CatalogUpdate] = {}
        self._digests: dict[str, str] = {}
        self._told: dict[str, set[str]] = {}            # problems that are in the log already
        self._loading: dict[str, asyncio.Task[CatalogUpdate]] = {}
        self._reloading: set[str] = set()
        self._again: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, connection_name: str) -> CatalogUpdate:
        """The catalog of a connection; an update with `error` when it cannot be had (tried again at the next call)."""
        current = self._current.get(connection_name)
        if current is not None and current.catalog is not None and connection_name not in self._loading and (
            current.policy == self._version
        ):
            return current
        while True:
            update = await self._load(connection_name)
            # A load that began under an older policy describes other tables; policies do not change without end.
            if update.policy == self._version:
                return update

    def changed(self, connection_name: str) -> None:
        """Something altered the schema: load anew and tell everybody. Many calls in a row make two loads, not many."""
        if not tuple(self._masked_columns(connection_name)):
            self._current.pop(connection_name, None)    # nobody needs it: DDL of such connections costs nothing
            return
        if connection_name in self._reloading or connection_name in self._loading:
            self._again.add(connection_name)
            if connection_name in self._reloading:
                return
        self._reloading.add(connection_name)
        self._spawn(self._reload(connection_name))

    async def poll(self) -> None:
        """Compare a cheap digest of every loaded catalog with the upstream's; reload those that differ."""
        for name in list(self._current):
            connection = self._config.connections.get(name)
            if connection is None:
                self._current.pop(name, None)       # removed while a load of it was under way
                continue
            try:
                digest = await self._digest(connection)
            except (psycopg.Error, OSError, GatewayError) as failure:
                log.warning("catalog of %s cannot be checked: %s", name, type(failure).__name__)
                continue
            if digest != self._digests.get(name):
                self.changed(name)

    def reload(
        self, config: configuration.Config, version: int, masked_columns: Callable[[str], Iterable[PolicyColumn]]
    ) -> None:
        """A new configuration or policy is in force: the closures may differ."""
        self._config = config
        self._version = version
        self._masked_columns = masked_columns
        for name in list(self._current):
            if name in config.connections:
                self.changed(name)
            else:
                del self._current[name]

    def problems(self) -> dict[str, tuple[str, ...]]:
        """Per connection, what an operator should know."""
        found = {}
        for name, update in self._current.items():
            texts = (update.error,) if update.error else tuple((update.catalog or {}).get("problems", ()))
            if texts:
                found[name] = texts
        return found

    async def close(self) -> None:
        """Stop what is running."""
        tasks = [*self._tasks, *self._loading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ loading

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self, name: str) -> None:
        try:
            update = await self._load(name)
            while name in self._again or update.policy != self._version:
                self._again.discard(name)
                update = await self._load(name)
        finally:
            self._reloading.discard(name)
        self._on_change(update)

    async def _load(self, name: str) -> CatalogUpdate:
        task = self._loading.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(name))
            self._loading[name] = task
            task.add_done_callback(lambda _: self._loading.pop(name, None))
        return await asyncio.shield(task)

    async def _read(self, name: str) -> CatalogUpdate:
        epoch = self._epochs[name] = self._epochs.get(name, 0) + 1
        # All of one version, and before the first wait: what it is read for must not change on the way.
        version, connection, masked = self._version, self._config.connections.get(name), self._masked_columns(name)
        if connection is None:
            return CatalogUpdate(
                connection=name, policy=version, epoch=epoch, catalog=None, error=f"there is no connection {name}")
        try:
            # The digest comes first: a change in between then shows at the next poll.
            self._digests[name] = await self._digest(connection)
            catalog = await load_catalog(connection, await self._password(connection), masked, epoch)
        except (psycopg.Error, OSError, GatewayError) as failure:
            log.error("catalog of %s cannot be read: %s", name, (str(failure).splitlines() or [""])[0])
            update = CatalogUpdate(connection=name, policy=version, epoch=epoch, catalog=None,
                                   error=f"the catalog cannot be read ({type(failure).__name__})")
        else:
            if catalog.partial:
                self._digests[name] = ""        # equal to none: the next poll loads again
            for problem in set(catalog.problems) - self._told.get(name, set()):
                log.warning("connection %s: %s", name, problem)
            self._told[name] = set(catalog.problems)
            update = CatalogUpdate(connection=name, policy=version, epoch=epoch, catalog=to_builtins(catalog))
        self._current[name] = update
        return update

    async def _digest(self, connection: configuration.Connection) -> str:
        reader = await connect(connection.upstream, await self._password(connection))
        try:
            cursor = await reader.execute(DIGEST)
            row = await cursor.fetchone()
            return str(row[0]) if row else ""
        finally:
            await reader.close()

    async def _password(self, connection: configuration.Connection) -> str:
        reference = connection.upstream.password
        # Resolving may run a command or ask a vault.
        return await asyncio.to_thread(self._resolve, reference) if reference else ""
