"""Looks at a database for enforced mode: what is to be granted there, and what is different. Used by the CLI.

Reads catalogs with the gateway's own role, and changes nothing.
"""

from __future__ import annotations

from typing import Any, LiteralString, NamedTuple

import psycopg

from hoopfast import config as configuration
from hoopfast.analysis.catalog import Catalog, hide
from hoopfast.analysis.shields import OWNER, Shield, shields_of
from hoopfast.control import grants
from hoopfast.control.catalog import connect
from hoopfast.control.grants import Goal, Table
from hoopfast.policy.enforced import masks_of
from hoopfast.policy.snapshot import Snapshot

Reader = psycopg.AsyncConnection[Any]

# Functions of PostgreSQL and its extensions that reach files and other databases, whatever a role may read here.
REACHING = (
    "lo_import", "lo_export", "pg_read_file", "pg_read_binary_file", "pg_ls_dir", "pg_stat_file", "pg_file_read",
    "pg_file_write", "pg_logdir_ls", "dblink", "dblink_connect", "dblink_connect_u", "dblink_exec", "dblink_open",
    "dblink_send_query",
)
IDENTITY: LiteralString = "select current_user::text, current_database()::text"
TABLES: LiteralString = """
select c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text,
array(select p from unnest(case when c.relkind = 'S' then '{SELECT,USAGE,UPDATE}'::text[]
  else '{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[] end) p
  where case when c.relkind = 'S' then pg_catalog.has_sequence_privilege(%(gateway)s, c.oid, p)
  else pg_catalog.has_table_privilege(%(gateway)s, c.oid, p) end),
array(select p from unnest(case when c.relkind = 'S' then '{SELECT,USAGE,UPDATE}'::text[]
  else '{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[] end) p
  where case when m.oid is null then false when c.relkind = 'S' then pg_catalog.has_sequence_privilege(m.oid, c.oid, p)
  else pg_catalog.has_table_privilege(m.oid, c.oid, p) end),
array(select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = c.oid and not a.attisdropped
  and c.relkind <> 'S' and m.oid is not null and pg_catalog.has_column_privilege(m.oid, c.oid, a.attnum, 'SELECT')),
array(select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = c.oid and not a.attisdropped
  and a.attnum > 0 and c.relkind <> 'S' order by a.attnum),
exists (select from pg_catalog.aclexplode(c.relacl) x where x.grantee = 0)
  or exists (select from pg_catalog.pg_attribute a, pg_catalog.aclexplode(a.attacl) x
             where a.attrelid = c.oid and x.grantee = 0)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_roles m on m.rolname = %(user)s
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.oid >= 16384 and n.nspname <> all(%(homes)s::text[])
and n.nspname !~ '^(pg_|information_schema$)' order by 2, 3"""
SCHEMAS: LiteralString = """
select nspname::text from pg_catalog.pg_namespace where nspname !~ '^(pg_|information_schema$)'
and nspname <> all(%(homes)s::text[]) and pg_catalog.has_schema_privilege(%(gateway)s, oid, 'USAGE') order by 1"""
FUNCTIONS: LiteralString = """
select p.oid::regprocedure::text, p.proname::text, p.prosecdef,
m.oid is not null and pg_catalog.has_function_privilege(m.oid, p.oid, 'EXECUTE'),
exists (select from pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) x
        where x.grantee = 0)
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
left join pg_catalog.pg_roles m on m.rolname = %(user)s
where n.nspname <> all(%(homes)s::text[]) and (p.prosecdef or p.proname = any(%(reaching)s::text[]))"""
DEFAULTS: LiteralString = """
select pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %%I%%s REVOKE ALL ON TABLES FROM %%s;',
pg_catalog.pg_get_userbyid(d.defaclrole), ' IN SCHEMA ' || pg_catalog.quote_ident(n.nspname),
case when x.grantee = 0 then 'PUBLIC' else pg_catalog.quote_ident(%(user)s) end)
from pg_catalog.pg_default_acl d left join pg_catalog.pg_namespace n on n.oid = d.defaclnamespace,
pg_catalog.aclexplode(d.defaclacl) x
where d.defaclobjtype = 'r'
and (x.grantee = 0 or x.grantee = (select oid from pg_catalog.pg_roles where rolname = %(user)s))
group by 1"""
ROLE: LiteralString = """
select r.rolname::text, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls,
(select count(*) from pg_catalog.pg_auth_members m where m.member = r.oid),
(select count(*) from pg_catalog.pg_shdepend d where d.refobjid = r.oid and d.deptype = 'o'
 and d.refclassid = 'pg_catalog.pg_authid'::regclass
 and d.dbid = (select oid from pg_catalog.pg_database where datname = current_database()))
from pg_catalog.pg_roles r where r.rolname = any(%(roles)s::text[])"""
VIEWS: LiteralString = """
select c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text, coalesce(d.description, ''),
pg_catalog.md5(pg_catalog.pg_get_viewdef(c.oid)),
array(select a.attname::text from pg_catalog.pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 order by a.attnum),
m.oid is not null and pg_catalog.has_table_privilege(m.oid, c.oid, 'SELECT')
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_description d
on d.objoid = c.oid and d.classoid = 'pg_catalog.pg_class'::regclass and d.objsubid = 0
left join pg_catalog.pg_roles m on m.rolname = %(user)s
where c.relkind = 'v' and n.nspname = %(schema)s"""
CREATES: LiteralString = """
select n.nspname::text from pg_catalog.pg_namespace n, pg_catalog.pg_roles m where m.rolname = %(user)s
and n.nspname !~ '^(pg_|information_schema$)' and pg_catalog.has_schema_privilege(m.oid, n.oid, 'CREATE')"""


class Drift(NamedTuple):
    """One difference. `grave`: the role may do what it should not; otherwise statements fail that should work."""

    what: str
    problem: str
    grave: bool


class Function(NamedTuple):
    signature: str
    name: str
    definer: bool
    callable: bool
    public: bool


async def goal_of(
    connection: configuration.Connection, role: configuration.Enforced, snapshot: Snapshot, name: str, catalog: Catalog,
    password: str,
) -> tuple[Goal, tuple[Drift, ...]]:
    """What a role is to have in the database of a connection, and what is different there now.

    Raises psycopg.Error and OSError when the database cannot be asked.
    """
    masks = {(mask.schema, mask.table, mask.column): mask.spec for mask in masks_of(role, snapshot, name)}
    reader = await connect(connection.upstream, password)
    try:
        await reader.execute("begin isolation level repeatable read read only")
        asked = _Asked(reader, role, tuple(one.schema for one in connection.enforced))
        goal = await asked.goal(catalog, shields_of(catalog, hide(catalog, masks), role.schema))
        return goal, tuple([drift async for drift in asked.drift(goal)])
    finally:
        await reader.close()


class _Asked:
    """One reader and the questions of one role."""

    def __init__(self, reader: Reader, role: configuration.Enforced, homes: tuple[str, ...]) -> None:
        self._reader = reader
        self._role = role
        self._arguments: dict[str, Any] = {
            "user": role.user, "schema": role.schema, "homes": list(homes), "gateway": "", "reaching": list(REACHING),
            "roles": [role.user, role.schema + OWNER],
        }
        self._functions: list[Function] = []

    async def _rows(self, query: LiteralString) -> list[Any]:
        return await (await self._reader.execute(query, self._arguments)).fetchall()

    async def goal(self, catalog: Catalog, shields: tuple[Shield, ...]) -> Goal:
        ((gateway, database),) = await self._rows(IDENTITY)
        self._arguments["gateway"] = gateway
        tables = tuple(
            Table(oid=oid, schema=schema, name=name, kind=kind, rights=frozenset(rights), mine=frozenset(mine),
                  readable=frozenset(readable), columns=tuple(columns), public=public)
            for oid, schema, name, kind, rights, mine, readable, columns, public in await self._rows(TABLES))
        closed = {one.oid for one in catalog.relations if one.reads and one.kind in "vm"}
        closed |= {table.oid for table in tables if table.kind == "f" and table.name in catalog.foreign}
        self._functions = [Function(*row) for row in await self._rows(FUNCTIONS)]
        there = {name: columns for name, _, _, _, columns, _ in await self._rows(VIEWS)}
        reshaped = frozenset(
            name for shield in shields for name in (shield.view(), shield.view(only=True))
            if name in there and tuple(there[name]) != shield.names()[: len(there[name])])
        return Goal(
            user=self._role.user, schema=self._role.schema, gateway=gateway, database=database, shields=shields,
            tables=tables, closed=frozenset(closed),
            ruled=frozenset(table.oid for table in tables if table.name in catalog.ruled),
            schemas=tuple(row[0] for row in await self._rows(SCHEMAS)),
            functions=tuple(one.signature for one in self._functions if _forbidden(one, catalog) and (
                one.public or one.callable)),
            defaults=tuple(row[0] for row in await self._rows(DEFAULTS)), reshaped=reshaped)

    async def drift(self, goal: Goal) -> Any:
        """Everything that differs from the goal."""
        known = {name: attributes for name, *attributes in await self._rows(ROLE)}
        for drift in _role_drift(goal, known):
            yield drift
        if goal.user in known:
            for table in goal.tables:
                for text in grants.excess(goal, table):
                    yield Drift(f"{table.schema}.{table.name}", f"{goal.user} {text}", True)
                for text in grants.lacking(goal, table):
                    yield Drift(f"{table.schema}.{table.name}", f"{goal.user} {text}", False)
            for function in self._functions:
                if function.callable and function.signature in goal.functions:
                    yield Drift(function.signature, f"{goal.user} may call it", True)
            for (schema,) in await self._rows(CREATES):
                yield Drift(f"schema {schema}", f"{goal.user} may create objects there", True)
        for statement in goal.defaults:
            yield Drift("default privileges", f"new tables could be read: {statement}", True)
        for drift in _view_drift(goal, await self._rows(VIEWS)):
            yield drift


def _forbidden(function: Function, catalog: Catalog) -> bool:
    """Whether a function may show what its caller may not read. Code of the catalog's closure is known by name."""
    return function.name in REACHING or (function.definer and catalog.functions.get(function.name) is False)


def _role_drift(goal: Goal, known: dict[str, list[Any]]) -> list[Drift]:
    found = []
    for name, login in ((goal.user, True), (goal.owner, False)):
        if name not in known:
            found.append(Drift(f"role {name}", "does not exist", False))
            continue
        logs_in, *powers, members, owned = known[name]
        if bool(logs_in) is not login:
            found.append(Drift(f"role {name}", "cannot log in" if login else "can log in", not login))
        words = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")
        found += [Drift(f"role {name}", f"has {word}", True) for word, has in zip(words, powers, strict=True) if has]
        if login and members:
            found.append(Drift(f"role {name}", "belongs to another role and has its rights", True))
        if login and owned:
            found.append(Drift(f"role {name}", f"owns {owned} objects of this database", True))
    return found


def _view_drift(goal: Goal, rows: list[Any]) -> list[Drift]:
    there = {name: rest for name, *rest in rows}
    wanted = dict(grants.views(goal))
    found = []
    for name, query in wanted.items():
        what = f"view {goal.schema}.{name}"
        if name not in there:
            found.append(Drift(what, "does not exist", False))
            continue
        owner, comment, digest, _, readable = there[name]
        if comment != f"{grants.mark(query)} {digest}":
            found.append(Drift(what, "is not what the policy and its table ask for", True))
        if owner != goal.owner:
            found.append(Drift(what, f"belongs to {owner}, not to {goal.owner}", True))
        if not readable:
            found.append(Drift(what, f"{goal.user} cannot read it", False))
    found += [Drift(f"view {goal.schema}.{name}", "is of no use any more: DROP VIEW", False)
              for name in there if name not in wanted]
    return found
