"""Reads the sensitive closure out of a server's catalogs: what shows hidden columns, and what could. Used by `catalog`.

It only looks, at one moment of the database; what it makes is a value (`analysis.catalog.Catalog`).
"""

from __future__ import annotations

from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg.rows import TupleRow

from hoopfast.analysis.bodies import Function, mentions, verdicts
from hoopfast.analysis.builtins import DATA_CATALOGS, builtin_allowed, unlisted
from hoopfast.analysis.catalog import Catalog, Column, PolicyColumn, Relation, Trigger
from hoopfast.control import views
from hoopfast.control.announcements import EXISTS
from hoopfast.control.types import load_types

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
select attrelid::int8, attname::text, attnum::int, atttypid::int8, atttypmod::int, attgenerated <> '',
pg_catalog.format_type(atttypid, atttypmod) from pg_catalog.pg_attribute
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
where n.nspname not in ('pg_catalog', 'information_schema') or p.oid >= 16384"""
BUILTINS: LiteralString = """
select p.oid::int8, p.proname::text, p.pronargs >= 1 and p.pronargs - p.pronargdefaults <= 1
and p.proargtypes[0]::regtype::text in
('record', '"any"', 'anyelement', 'anycompatible', 'anynonarray', 'anycompatiblenonarray')
from pg_catalog.pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace"""
OPERATORS: LiteralString = """
select oprname::text, oprcode::oid::int8 from pg_catalog.pg_operator where oprcode::oid >= 16384"""
TRIGGERS: LiteralString = """
select tgrelid::int8, tgname::text, tgfoid::int8 from pg_catalog.pg_trigger
where not tgisinternal order by tgrelid, tgname"""
CASCADES: LiteralString = """
select confrelid::int8, conrelid::int8 from pg_catalog.pg_constraint
where contype = 'f' and (confupdtype in ('c', 'n', 'd') or confdeltype in ('c', 'n', 'd'))"""


class Loader:
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
        odd = unlisted([(oid, name) for oid, name, _ in builtins], version // 10_000)
        unsafe = odd | {name for _, name, _ in builtins if not builtin_allowed(name)}
        if odd:
            self._problems.append("pg_catalog has functions that PostgreSQL does not have there, so people with masks "
                                  f"cannot call {', '.join(sorted(odd))}")
        texts = await views.definitions(self._reader)
        self._odd = views.odd_views(texts, unsafe)
        reasons = self._settle(rules, functions, unsafe | DATA_CATALOGS)
        clean = frozenset(oid for oid, reason in reasons.items() if not reason)
        triggers = await self._rows(TRIGGERS)
        reaching = await self._reaching(rules, {oid for oid, *_ in triggers})
        found = self._triggers(triggers, functions, reasons)
        self._problems += [_copied(trigger) for trigger in found if trigger.writes]
        operators = await self._rows(OPERATORS)
        catalog = self._catalog(version, superuser, functions, clean, builtins, operators, reaching)
        masked = {column.type_oid for columns in self._columns.values() for column in columns if column.policy}
        types = await load_types(self._rows, masked, self._problems)
        catalog = msgspec.structs.replace(
            catalog, types=types, problems=tuple(self._problems), unlisted=odd, triggers=found,
            announced=bool((await self._rows(EXISTS))[0][0]),
            reasons={function.name: reason for function in functions if (reason := reasons[function.oid])})
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

    def _settle(self, rules: list[TupleRow], functions: list[Function], unsafe: frozenset[str]) -> dict[int, str]:
        """Why each function may not run, by OID; "" for the clean. Views run functions and functions read views: both
        are judged again until the closure stops growing."""
        reasons = {function.oid: "" for function in functions}
        while True:
            self._views(rules, frozenset(oid for oid, reason in reasons.items() if reason))
            again = verdicts(functions, self._closure_names(), unsafe)
            grown = {oid: reason or again[oid] for oid, reason in reasons.items()}
            if grown == reasons:
                return reasons
            reasons = grown

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

    def _triggers(
        self, rows: list[TupleRow], functions: list[Function], reasons: dict[int, str]
    ) -> tuple[Trigger, ...]:
        """Those that hidden columns may pass through, and where their code may take them."""
        code = {function.oid: function for function in functions}
        closure = self._closure_names()
        outside = frozenset(name for oid, (_, name, kind) in self._names.items()
                            if oid >= FIRST_USER_OID and kind in "rpf" and name not in closure)
        found = []
        for table, name, oid in rows:
            schema, relation, _ = self._names.get(table, ("", "", ""))
            function = code.get(oid)
            if relation and self._columns and (table in self._columns or reasons.get(oid)):
                writes = sorted((mentions(function) & outside) - {relation}) if function else ()
                shown = function.name if function else "a built-in function"
                found.append(Trigger(table=f"{schema}.{relation}", name=name, function=shown, writes=tuple(writes)))
        return tuple(found)

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
            row_functions=frozenset(name for _, name, takes_row in builtins if takes_row),
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
    for name, number, type_oid, typmod, generated, type_name in rows:
        inherited: set[PolicyColumn] = set()
        if generated and number not in policy:
            for target, source in sources:
                if target == number:
                    inherited |= policy.get(source, set())
        columns = tuple(sorted(policy.get(number, inherited)))
        found.append(Column(name=name, attnum=number, type_oid=type_oid, typmod=typmod, policy=columns,
                            derived=bool(inherited), generated=generated, type_name=type_name))
    return tuple(found)


def _copied(trigger: Trigger) -> str:
    return (f"trigger {trigger.name} of {trigger.table} may copy hidden columns to {', '.join(trigger.writes)}, where "
            "nothing masks them: if it does, name the copies in the policy too")
