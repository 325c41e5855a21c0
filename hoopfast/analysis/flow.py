"""Where masked columns flow inside one statement, decided over names. Used by `gate`.

`Closure` is the catalog seen through one person's masks. `check` takes a `Survey` and raises `Refused` at the first
place where a masked column stands and could reach the client other than as a column the server reports the origin of.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from hoopfast import limits
from hoopfast.analysis import builtins
from hoopfast.analysis import survey as s
from hoopfast.analysis.builtins import CONSTANT_ONLY, DATA_CATALOGS, READERS, ROW_FUNCTIONS, builtin_allowed
from hoopfast.analysis.catalog import Catalog
from hoopfast.analysis.parse import SIMPLIFY, TOO_COMPLEX, Unparsable
from hoopfast.analysis.total import TEXT_OIDS
from hoopfast.analysis.tree import column
from hoopfast.knobs import SAFE, Handling, Knobs, strictest
from hoopfast.model import MaskedColumn

SAFE_KNOBS: Final = Knobs()
NOTHING: Final[Mapping[tuple[int, int], Handling]] = {}


class Refused(Exception):
    """The statement may not run. The message says why, `hint` what the person can do, `knob` what a policy could turn
    so that it may ("" for nothing)."""

    def __init__(self, reason: str, hint: str = "", knob: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.knob = knob


class Closure:
    """The relations that matter to one person, by bare name. Built once per context."""

    def __init__(
        self, catalog: Catalog, masks: Iterable[MaskedColumn], knobs: Knobs = SAFE_KNOBS,
        handling: Mapping[tuple[int, int], Handling] = NOTHING,
        unfit: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`handling` by (table OID, attribute number); what is not in it is handled by the safe defaults."""
        hidden = {(mask.table_oid, mask.attnum) for mask in masks}
        oids = {oid for oid, _ in hidden}
        self.catalog = catalog
        self.unfit = unfit                      # by the relation's bare name: why a mask of it cannot be made
        self.masked: dict[str, frozenset[str]] = {}
        self.columns: dict[str, frozenset[str]] = {}
        self.stored: dict[tuple[str, str], tuple[str, ...]] = {}    # (schema or "", name): see gate._copy_probe
        self.views: set[str] = set()
        self.view_oids: set[int] = set()
        self.knobs = knobs
        self._handling: dict[str, Handling] = {}    # by the names of masked columns
        self._types: dict[str, set[tuple[int, int]]] = {}          # of all masked columns of a name: type, typmod
        others = set()
        for relation in catalog.relations:
            names = frozenset(c.name for c in relation.columns)
            mine = frozenset(c.name for c in relation.columns if (relation.oid, c.attnum) in hidden)
            if relation.kind in "vm" and oids.intersection(relation.reads):
                self.views.add(relation.name)
                self.view_oids.add(relation.oid)
            elif mine:
                if any(c.generated for c in relation.columns):
                    stored = tuple(c.name for c in relation.columns if not c.generated)
                    self.stored[relation.schema, relation.name] = self.stored["", relation.name] = stored
                self.masked[relation.name] = self.masked.get(relation.name, frozenset()) | mine
                self.columns[relation.name] = self.columns.get(relation.name, names) & names
            else:
                others.add(relation.name)
            for c in relation.columns:
                if c.name in mine:
                    same = [self._handling[c.name]] if c.name in self._handling else []
                    self._handling[c.name] = strictest([handling.get((relation.oid, c.attnum), SAFE), *same])
                    self._types.setdefault(c.name, set()).add((c.type_oid, c.typmod))
        self._any_handling = strictest(self._handling.values())
        self.known = catalog.known | others
        self.row_functions = ROW_FUNCTIONS | catalog.row_functions

    def handling(self, name: str, renamed: Collection[str] = ()) -> Handling:
        """What is allowed with a sensitive name: with any of its columns, or with all where it may stand for others."""
        return self._any_handling if name in renamed else self._handling.get(name, self._any_handling)

    def is_text(self, name: str) -> bool:
        """Whether a masked column of this name is a text for sure."""
        return name in self._types and {oid for oid, _ in self._types[name]} <= TEXT_OIDS

    def is_one_type(self, name: str) -> bool:
        """Whether all masked columns of this name have the same type, to its length."""
        return len(self._types.get(name, ())) == 1

    def touches(self, name: str) -> bool:
        """Whether a relation of this bare name, in any schema, holds masked columns."""
        return name in self.masked or name in self.views


class Flow:
    """What `check` found: relations touched, names that are sensitive, relations nobody knows, columns to look at."""

    def __init__(self) -> None:
        self.touched: set[str] = set()
        self.names: set[str] = set()
        self.unknown: set[str] = set()
        self.positions: set[int] = set()        # of output columns that are sorted or grouped by: not to be masked ones
        self.renamed: set[str] = set()          # names among `names` that a statement has given
        self.redacts = False                    # output columns without origin have to be hidden
        self._steps = limits.FLOW_STEPS_MAX
        self.steers: set[str] = set()           # names that decide which rows there are, or in what order

    def spend(self, steps: int) -> None:
        """Raises Unparsable when following hidden columns takes too long."""
        self._steps -= steps
        if self._steps < 0:
            raise Unparsable("54001", TOO_COMPLEX, hint=SIMPLIFY)

    def rename(self, names: Iterable[str]) -> None:
        """These names stand for sensitive columns here."""
        self.names.update(names)
        self.renamed.update(names)


def check(survey: s.Survey, closure: Closure, local: frozenset[str] = frozenset()) -> Flow:
    """Judge one statement. `local` are tables the session made in this transaction, which no catalog shows yet."""
    flow = Flow()
    _code(survey, closure)
    _relations(survey, closure, flow, local)
    if flow.touched:
        by_name: dict[str, list[s.Source]] = {}
        for source in survey.sources:
            by_name.setdefault(source.name, []).append(source)
        _spread(survey, closure, flow, by_name)
        _references(survey, closure, flow, by_name)
        _queries(survey, closure, flow, by_name)
        _joins(survey, closure, flow)
    return flow


# ---------------------------------------------------------------- functions, operators, relations

def _code(survey: s.Survey, closure: Closure) -> None:
    if survey.strange:
        raise Refused(f"{survey.strange[0]} cannot be analysed while columns are hidden from you", knob="opaque")
    for name, constant in survey.functions:
        _function(name, constant, closure)
    for operator in sorted(survey.operators & closure.catalog.operators):
        raise Refused(f"operator {operator} runs a function that cannot be analysed while columns are hidden from you",
                      knob="opaque")
    for field in sorted(survey.fields):
        if field in READERS or closure.catalog.functions.get(field) is False:
            raise Refused(f'"{field}" may be a function that cannot be analysed while columns are hidden from you',
                          knob="opaque")


def _function(name: tuple[str, ...], constant: bool, closure: Closure) -> None:
    bare = name[-1] if name else ""
    user = closure.catalog.functions.get(bare)
    shown = ".".join(name)
    builtin = bare not in closure.catalog.unlisted and (builtin_allowed(bare) or (bare in CONSTANT_ONLY and constant))
    if len(name) > 1 and name[-2] != "pg_catalog":
        builtin = False
    elif len(name) > 1:
        user = True if builtin else None
    if user is False:
        raise Refused(
            f"function {shown}() cannot be analysed while columns are hidden from you",
            f"{_why(bare, closure)}. Ask for an exemption from the masks, or query the tables directly.", "opaque",
        )
    if name in builtins.SCHEMA_HELPERS:
        return
    if user is None and not builtin:
        sends = bare in CONSTANT_ONLY
        why = "may be called with constants only" if sends else "is not among the functions known to be safe"
        raise Refused(f"function {shown}() {why} while columns are hidden from you", knob="opaque")


def _why(function: str, closure: Closure) -> str:
    reason = closure.catalog.reasons.get(function, "")
    return f"Its body may read hidden columns ({reason})" if reason else "Its body may read hidden columns"


def _relations(survey: s.Survey, closure: Closure, flow: Flow, local: frozenset[str]) -> None:
    for source in survey.sources:
        if source.kind != "table":
            continue
        name = source.relname
        if (source.schema, name) in closure.catalog.apart:
            source.apart = True
            continue
        if (name in DATA_CATALOGS or name.startswith("pg_toast")) and not _without_credentials(survey, source):
            raise Refused(f"{name} may hold values of hidden columns and cannot be read by you")
        if name in closure.catalog.foreign:
            raise Refused(f"foreign table {name} is not described by the masking policy and cannot be read by you",
                          "Ask whoever keeps the policy to list its columns under masks.", "opaque")
        if name in closure.views:
            raise Refused(f'view "{name}" shows a table with hidden columns and cannot be read by you',
                          "Query the tables themselves: hidden columns are then masked.", "opaque")
        if name in closure.unfit:
            raise Refused(f"{closure.unfit[name]}; so its table cannot be read by you",
                          "The policy is wrong: tell whoever keeps it.")
        if closure.touches(name):
            flow.touched.add(name)
        elif name not in closure.known and name not in local:
            flow.unknown.add(name)


def _without_credentials(survey: s.Survey, source: s.Source) -> bool:
    """Whether a query names single columns of such a catalog, and nowhere the one with credentials."""
    secret = builtins.CREDENTIALS.get(source.relname)
    if secret is None or source.renames or not survey.queries or source.relname in survey.written:
        return False
    names = {one.fields[-1] for one in survey.references} | {fields[-1] for pair in survey.pairs for fields in pair}
    names |= survey.fields | {name for join in survey.joins for name in join.columns}
    whole = any(one.fields == (source.name,) for one in survey.references)
    return names.isdisjoint({secret, "*"}) and not whole and not any(join.natural for join in survey.joins)


# ---------------------------------------------------------------- the fixpoint

def _spread(survey: s.Survey, closure: Closure, flow: Flow, by_name: dict[str, list[s.Source]]) -> None:
    """Grow the sensitive names and the carrying sources until nothing changes.

    Every round adds a name or marks a source or query, so it ends; sets only grow, so order does not matter.
    """
    for name in flow.touched:
        flow.names |= closure.masked.get(name, frozenset())
    by_label: dict[str, list[s.Source]] = {}
    for source in survey.sources:
        by_label.setdefault(source.relname, []).append(source)
    carrying: set[str] = set()
    # Chains of queries are followed in one turn whether they stand in this order or in the other.
    turns = itertools.cycle(((survey.sources, survey.queries), (survey.sources[::-1], survey.queries[::-1])))
    for sources, queries in turns:
        before = _progress(survey, flow)
        flow.spend(len(sources) + len(queries))
        for source in sources:
            _spread_source(source, carrying, flow)
        for query in queries:
            flow.spend(len(query.targets))
            _spread_query(query, closure, flow, by_name)
            if query.carries and query.goes == "cte" and query.label not in carrying:
                carrying.add(query.label)
                for source in by_label.get(query.label, ()):
                    _spread_source(source, carrying, flow)
        if before == _progress(survey, flow):
            return


def _progress(survey: s.Survey, flow: Flow) -> tuple[int, ...]:
    hidden = [query.hides for query in survey.queries]
    return (len(flow.names), sum(x.carries for x in survey.sources), sum(q.carries for q in survey.queries),
            sum(names is None for names in hidden), sum(len(names) for names in hidden if names is not None))


def _spread_source(source: s.Source, carrying: set[str], flow: Flow) -> None:
    if source.kind in ("table", "cte"):
        # A CTE may hide a table of its name somewhere else in the statement: both readings count.
        source.carries = not source.apart and (source.relname in flow.touched or source.relname in carrying)
    elif source.kind == "query":
        source.carries = source.query is not None and source.query.carries
    elif source.kind == "join":
        source.carries = any(part.carries for part in source.parts)
    if source.carries:
        flow.rename(source.renames)


def _spread_query(query: s.Query, closure: Closure, flow: Flow, by_name: dict[str, list[s.Source]]) -> None:
    query.carries = query.carries or any(branch.carries for branch in query.branches)
    for target in query.targets:
        fields = column(target.get("val"))
        if not fields or not _target_carries(fields, query, closure, flow, by_name):
            continue
        query.carries = True
        if "name" in target:
            flow.rename([str(target["name"])])
        if query.hides is not None:
            query.hides = None if fields[-1] == "*" else query.hides | {str(target.get("name", fields[-1]))}
    if query.branches:
        query.hides = None
    if query.carries:
        flow.rename(query.renames)


def _target_carries(
    fields: tuple[str, ...], query: s.Query, closure: Closure, flow: Flow, by_name: dict[str, list[s.Source]]
) -> bool:
    if fields == ("*",):
        return any(source.carries for source in query.sources)
    if fields[-1] == "*":
        return any(source.carries for source in by_name.get(fields[-2], ()))
    return _sensitive(fields, closure, flow, by_name)


def _sensitive(fields: tuple[str, ...], closure: Closure, flow: Flow, by_name: dict[str, list[s.Source]]) -> bool:
    """Whether a column reference may name a masked column. A qualifier clears it only if every source of that name is a
    plain table that does not mask it."""
    if fields[-1] not in flow.names:
        return False
    if len(fields) == 1:
        return True
    sources = by_name.get(fields[-2], [])
    flow.spend(len(sources))
    return not sources or any(_may_show(x, fields[-1], closure, flow) for x in sources)


def _may_show(source: s.Source, name: str, closure: Closure, flow: Flow) -> bool:
    """Whether a column of this name, of this source, may be a masked one."""
    if source.kind == "table":
        if source.relname in flow.unknown:
            return True
        return source.carries and (bool(source.renames) or name in closure.masked.get(source.relname, ()))
    if source.kind == "query" and source.query is not None and source.carries and not source.renames:
        return source.query.hides is None or name in source.query.hides
    return source.carries


# ---------------------------------------------------------------- the rules

def _references(survey: s.Survey, closure: Closure, flow: Flow, by_name: dict[str, list[s.Source]]) -> None:
    for reference in survey.references:
        _not_a_row(reference.fields, reference.place, closure, by_name)
        if reference.fields[-1] != "*" and _sensitive(reference.fields, closure, flow, by_name):
            _reference(reference, survey, closure, flow)
    for left, right in survey.pairs:
        _not_a_row(left, s.EQUAL, closure, by_name)
        _not_a_row(right, s.EQUAL, closure, by_name)
        found = [one[-1] for one in (left, right) if _sensitive(one, closure, flow, by_name)]
        if not found:
            continue
        control = strictest(_handling(name, closure, flow) for name in found).control
        flow.steers.update(found)
        if control == "none":
            raise _no_condition(found[0])
        masked = _masked_table(left, closure, by_name) and _masked_table(right, closure, by_name)
        if control == "eq" and (left[-1] != right[-1] or not masked):
            raise Refused(
                f'column "{found[0]}" is hidden from you and cannot be compared with another column',
                "It can be joined with the same hidden column of another table; write both with the table's name.",
                "control",
            )


def _reference(reference: s.Reference, survey: s.Survey, closure: Closure, flow: Flow) -> None:
    """Judge one reference that may name a masked column."""
    name, place = reference.fields[-1], reference.place
    how = _handling(name, closure, flow)
    if place in (s.CONTROL, s.EQUAL):
        flow.steers.add(name)
    if place == s.CONTROL and how.control != "any":
        raise Refused(
            f'column "{name}" is hidden from you and cannot be used in a condition, a group or a sort',
            "Compare it with = or IN to constants, or leave it out.", "control")
    if place == s.EQUAL and how.control == "none":
        raise _no_condition(name)
    if place == s.COUNT and how.aggregates == "none":
        raise Refused(f'column "{name}" is hidden from you and cannot be counted', "Use count(*).", "aggregates")
    if place == s.WRITTEN:
        raise Refused(f'column "{name}" is hidden from you and cannot be written elsewhere', "Leave it out.", "sink")
    if place == s.EXPRESSION or (place == s.SUM and how.aggregates != "sum"):
        if how.derived == "redact" and _redactable(reference, survey, closure, flow):
            flow.redacts = True
            return
        raise Refused(
            f'column "{name}" is hidden from you and cannot be used in an expression, a condition or a sort',
            "Select it plainly (it will be masked), compare it with = or IN to constants, or leave it out.",
            "aggregates" if place == s.SUM else "derived",
        )


def _handling(name: str, closure: Closure, flow: Flow) -> Handling:
    return closure.handling(name, flow.renamed)


def _redactable(reference: s.Reference, survey: s.Survey, closure: Closure, flow: Flow) -> bool:
    """Whether it stands in an output expression that cannot fail, by the server's own functions."""
    name = reference.fields[-1]
    text = not reference.text or (name not in flow.renamed and closure.is_text(name))
    return reference.total and text and survey.total_functions.isdisjoint(closure.catalog.functions)


def _no_condition(name: str) -> Refused:
    return Refused(f'column "{name}" is hidden from you and cannot be used in a condition', "Leave it out.", "control")


def _masked_table(fields: tuple[str, ...], closure: Closure, by_name: dict[str, list[s.Source]]) -> bool:
    sources = by_name.get(fields[-2], []) if len(fields) > 1 else []
    return bool(sources) and all(_masks(x, fields[-1], closure) for x in sources)


def _masks(source: s.Source, name: str, closure: Closure) -> bool:
    """Whether this name can be nothing but a masked column of a table."""
    plain = source.kind == "table" and not source.renames and not source.apart
    return plain and name in closure.masked.get(source.relname, ())


def _not_a_row(fields: tuple[str, ...], place: str, closure: Closure, by_name: dict[str, list[s.Source]]) -> None:
    """Refuse whole rows of carrying sources, and attributes of them that may be functions."""
    if len(fields) == 1 and fields[0] != "*":
        if any(source.carries for source in by_name.get(fields[0], ())):
            raise Refused(f'"{fields[0]}" may be a whole row with hidden columns, which cannot be used as a value',
                          "Name the columns you need, or use a plain * in the select list.")
        return
    if fields[-1] == "*":
        sources = [x for entry in by_name.values() for x in entry] if len(fields) == 1 else by_name.get(fields[-2], [])
        if place != s.OUT and any(source.carries for source in sources):
            raise Refused("a row with hidden columns cannot be used as a value",
                          "Use * only as an item of the select list.")
        return
    name = fields[-1]
    user = closure.catalog.functions.get(name)
    if user is None and name not in closure.row_functions and name not in READERS:
        return
    for source in by_name.get(fields[-2], ()):
        plain = source.kind == "table" and not source.renames and name in closure.columns.get(source.relname, ())
        if not plain and (source.carries or user is False):
            raise Refused(f'"{".".join(fields)}" may be a call of function {name}() with a whole row',
                          "If it is a column, write it without the table's name.")


def _queries(survey: s.Survey, closure: Closure, flow: Flow, by_name: dict[str, list[s.Source]]) -> None:
    for query in survey.queries:
        if query.goes == "top" and flow.redacts:
            _redacted(query)
        if query.carries:
            _carrying(query, closure, flow, by_name)


def _redacted(query: s.Query) -> None:
    """Expressions of hidden columns are among the targets: they must not decide about rows."""
    names = {str(target.get("name")) for target in query.targets if not column(target.get("val"))}
    if query.branches or query.distinct or query.positions or not names.isdisjoint(query.sorted_names):
        raise Refused("an expression of hidden columns cannot be sorted, grouped or made distinct by, nor be part of a "
                      "UNION", "Leave it out of the select list.", "derived")


def _carrying(query: s.Query, closure: Closure, flow: Flow, by_name: dict[str, list[s.Source]]) -> None:
    """Judge a query whose output columns may be masked ones."""
    free = all(_handling(name, closure, flow).control == "any" for name in flow.names)
    if query.branches:
        raise Refused("hidden columns cannot pass through UNION, INTERSECT or EXCEPT (nor a recursive query)",
                      "Leave them out of the select lists, or run the parts as separate statements.", "derived")
    if query.goes == "sink":
        raise Refused("hidden columns cannot be copied into another table",
                      "Leave them out of the select list (with *, name the columns you need).", "sink")
    if query.goes == "scalar":
        raise Refused("a hidden column cannot be the value of a subquery", knob="derived")
    if query.distinct and not free:
        raise Refused("DISTINCT over a hidden column would show which values are equal",
                      "Leave it out of the select list.", "control")
    for fields in query.sorted:
        if _sensitive(fields, closure, flow, by_name) and _handling(fields[-1], closure, flow).control != "any":
            raise Refused(f'column "{fields[-1]}" is hidden from you and cannot be sorted by',
                          "Leave it out of ORDER BY.", "control")
    for position in query.positions if not free else ():
        ahead = query.targets[: max(position, 0)]
        last = column(ahead[-1].get("val")) if ahead else ()
        if any(column(target.get("val"))[-1:] == ("*",) for target in ahead):
            if query.goes == "top":
                flow.positions.add(position)        # the server knows which column that is
                continue
        elif not last or not _sensitive(last, closure, flow, by_name):
            continue
        raise Refused(f"sorting or grouping by position {position} may use a hidden column",
                      "Name the column to sort or group by.", "control")


def _joins(survey: s.Survey, closure: Closure, flow: Flow) -> None:
    for join in survey.joins:
        sides = join.left + join.right
        if not any(source.carries for source in sides):
            continue
        if join.natural:
            raise Refused("NATURAL JOIN may join by a hidden column", "Write the join condition with ON or USING.")
        for name in join.columns:
            if name not in flow.names:
                continue
            pair = all(_masks(side, name, closure) for side in sides)
            # Of two types, or lengths, the merged column is a cast: a value without origin.
            same = pair and closure.is_one_type(name)
            if join.full or not same or _handling(name, closure, flow).control == "none":
                raise Refused(f'column "{name}" is hidden from you and cannot join these tables by USING',
                              "It can be joined with the same hidden column of another table by ON or, where both have "
                              "one type, by USING; not by FULL JOIN.")
