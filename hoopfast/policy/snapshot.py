"""The policy as decisions: an immutable snapshot of one version, asked for each login and each new statement.

A statement keeps the snapshot it started with; a reload makes another. Made by `compile_policy` in the workers and the
supervisor, which must use the same `mask_key`, because equal values of a column have to hash equally everywhere.

How rules are read: a statement is the set of all pairs of what it does and what it names (`WITH d AS (DELETE FROM a)
SELECT FROM b` deletes and selects; it names a and b). For each pair the first matching rule counts; for the statement,
and for a string of statements, the strictest one (deny, approve, allow). So a rule that allows one part of a statement
never lets another part slip through. What no rule matches is allowed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from hoopfast import units
from hoopfast.config import Config
from hoopfast.errors import InternalFault
from hoopfast.model import MASK_HASH, Identity, MaskSpec, Ruling, StatementFacts
from hoopfast.policy import source
from hoopfast.policy.kinds import covers, distinct
from hoopfast.policy.patterns import Glob, Tables, Written, split_name

MASK_KEY_MIN_BYTES: Final = 32
_STRICTNESS: Final = ("deny", "approve", "allow")


class ColumnMask(NamedTuple):
    """One column that is hidden from a person on a connection; names as PostgreSQL stores them."""

    schema: str
    table: str
    column: str
    spec: MaskSpec


class _Who:
    """People as the policy names them."""

    __slots__ = ("_groups", "_users", "key")

    def __init__(self, groups: tuple[str, ...], users: tuple[str, ...]) -> None:
        self.key = (tuple(sorted(set(groups))), tuple(sorted(set(users))))
        self._groups = tuple(Glob(name) for name in self.key[0])
        self._users = tuple(Glob(name) for name in self.key[1])

    def matches(self, identity: Identity) -> bool:
        return any(glob.matches(identity.user) for glob in self._users) or any(
            glob.matches(group) for glob in self._groups for group in identity.groups)


class _Mask(NamedTuple):
    mask: ColumnMask
    unless: _Who | None


class _Rule(NamedTuple):
    rule: source.Rule
    who: _Who | None
    statements: frozenset[str]
    tables: Tables | None

    def speaks_of(self, facts: StatementFacts) -> bool:
        """The conditions that concern a statement as a whole."""
        when = self.rule.when
        if when.unfiltered is not None and when.unfiltered != facts.unfiltered:
            return False
        if when.opaque is not None:
            return when.opaque == bool(facts.opaque)
        # Code that cannot be read may touch any table: an exemption for some tables does not reach it.
        return not (facts.opaque and self.tables and self.rule.action == "allow")

    def names(self, written: Written) -> bool:
        if self.tables is None:
            return True
        return self.tables.must_mean(written) if self.rule.action == "allow" else self.tables.may_mean(written)


class _Place(NamedTuple):
    """What the policy says about one connection."""

    access: tuple[tuple[_Who, bool], ...]
    masks: tuple[_Mask, ...]
    rules: tuple[_Rule, ...]
    looks_at: tuple[_Who, ...]


class Snapshot:
    """One version of the policy. Every method is a pure function of it and its arguments.

    A connection that the configuration does not have admits nobody; asking anything else about it is an InternalFault.
    """

    __slots__ = ("_places", "version")

    def __init__(self, version: int, places: dict[str, _Place]) -> None:
        self.version = version
        self._places = places

    def may_enter(self, identity: Identity, connection: str) -> bool:
        """Whether the first access rule that matches lets this person in; without one, nobody enters."""
        place = self._places.get(connection)
        if place is None:
            return False
        return next((allowed for who, allowed in place.access if who.matches(identity)), False)

    def identity_class(self, identity: Identity, connection: str) -> str:
        """Equal strings mean: on this connection the policy treats both people alike, now and in every statement."""
        marks = [self.may_enter(identity, connection)]
        marks += [who.matches(identity) for who in self._place(connection).looks_at]
        return "".join("1" if mark else "0" for mark in marks)

    def masks_for(self, identity: Identity, connection: str) -> tuple[ColumnMask, ...]:
        """The columns hidden from this person, in the policy's order."""
        return tuple(
            entry.mask for entry in self._place(connection).masks
            if entry.unless is None or not entry.unless.matches(identity)
        )

    def decide(self, identity: Identity, connection: str, facts: tuple[StatementFacts, ...]) -> Ruling:
        """What becomes of a query string with these statements."""
        mine = [r for r in self._place(connection).rules if r.who is None or r.who.matches(identity)]
        found: dict[str, source.Rule] = {}
        for statement in facts:
            found.update((rule.name, rule) for rule in _matching(mine, statement))
        return _strictest(found.values())

    def _place(self, connection: str) -> _Place:
        place = self._places.get(connection)
        if place is None:
            raise InternalFault(f"version {self.version} of the policy does not know the connection {connection}")
        return place


def _matching(rules: list[_Rule], facts: StatementFacts) -> list[source.Rule]:
    """For each pair (kind, table) of the statement the first rule that matches it."""
    tables = {name: Written(name) for name in facts.tables}
    all_tables: frozenset[str | None] = frozenset(tables or {None})
    undecided = dict.fromkeys(distinct(facts.kinds), all_tables)
    found: list[source.Rule] = []
    for rule in rules:
        if not rule.speaks_of(facts):
            continue
        named = all_tables
        if rule.tables is not None:
            named = frozenset(name for name, written in tables.items() if rule.names(written))
        hit = False
        for kind, open_tables in list(undecided.items()):
            if (rule.statements and not covers(rule.statements, kind)) or not (open_tables & named):
                continue
            hit = True
            undecided[kind] = open_tables - named
            if not undecided[kind]:
                del undecided[kind]
        if hit:
            found.append(rule.rule)
        if not undecided:
            break
    return found


def _strictest(rules: Iterable[source.Rule]) -> Ruling:
    by_action: dict[str, list[source.Rule]] = {action: [] for action in _STRICTNESS}
    for rule in rules:
        by_action[rule.action].append(rule)
    if by_action["deny"]:
        first = by_action["deny"][0]
        return Ruling(action="deny", rule=first.name, reason=first.reason)
    if by_action["approve"]:
        return _approval(by_action["approve"])
    if by_action["allow"]:
        first = by_action["allow"][0]
        return Ruling(action="allow", rule=first.name, reason=first.reason)
    return Ruling(action="allow")


def _approval(rules: list[source.Rule]) -> Ruling:
    """One request that satisfies every rule: people of all their groups, the most of them, the shortest wait."""
    first = rules[0]
    approvers = [rule.approvers or source.Approvers(groups=()) for rule in rules]
    common = set(approvers[0].groups).intersection(*(a.groups for a in approvers))
    if not common:
        names = ", ".join(rule.name for rule in rules)
        return Ruling(action="deny", rule=first.name, reason=(
            f"rules {names} ask for the approval of different groups, which one request cannot carry; "
            "send the statements one by one"))
    return Ruling(
        action="approve",
        rule=first.name,
        reason="; ".join(dict.fromkeys(rule.reason for rule in rules if rule.reason)),
        approver_groups=tuple(group for group in approvers[0].groups if group in common),
        approvals_needed=max(a.count for a in approvers),
        expires_s=min(units.duration_s(rule.expires or source.EXPIRES_DEFAULT) for rule in rules),
    )


# ---------------------------------------------------------------- compiling

def compile_policy(config: Config, policy: source.Policy, version: int, mask_key: bytes) -> Snapshot:
    """The snapshot of a policy that `source.load_policy` accepted. ValueError if `mask_key` has under 32 bytes."""
    if len(mask_key) < MASK_KEY_MIN_BYTES:
        raise ValueError(f"the key of hashed columns must have at least {MASK_KEY_MIN_BYTES} bytes")
    return Snapshot(version, {name: _compile_place(policy, name, mask_key) for name in config.connections})


def _who(groups: tuple[str, ...], users: tuple[str, ...]) -> _Who | None:
    return _Who(groups, users) if groups or users else None


def _compile_place(policy: source.Policy, name: str, mask_key: bytes) -> _Place:
    access = tuple(
        (_Who(a.groups, a.users), a.action == "allow") for a in policy.access if source.applies(a.connections, name))
    masks: dict[tuple[str, ...], _Mask] = {}
    for entry in policy.masks:
        if not source.applies(entry.connections, name):
            continue
        unless = _who(entry.unless.groups, entry.unless.users) if entry.unless else None
        for column in map(split_name, entry.columns):
            # The first entry that names the column decides alone, even if it shows the column to some.
            if column not in masks:
                spec = _with_key(source.mask_spec(entry), mask_key, (*column, name))
                masks[column] = _Mask(ColumnMask(column[0], column[1], column[2], spec), unless)
    rules = tuple(
        _Rule(
            rule=rule,
            who=_who(rule.when.groups, rule.when.users),
            statements=frozenset(rule.when.statements),
            tables=Tables(rule.when.tables) if rule.when.tables else None,
        )
        for rule in policy.rules if source.applies(rule.when.connections, name)
    )
    people = [mask.unless for mask in masks.values()] + [rule.who for rule in rules]
    looks_at = {who.key: who for who in people if who is not None}
    return _Place(access, tuple(masks.values()), rules, tuple(looks_at[key] for key in sorted(looks_at)))


def _with_key(spec: MaskSpec, mask_key: bytes, names: tuple[str, ...]) -> MaskSpec:
    """Hashes get a key of their own column and connection, so that equal values in two columns cannot be linked."""
    if spec.kind != MASK_HASH:
        return spec
    # NUL cannot be part of a name: no two lists of names give the same bytes.
    message = b"\0".join(name.encode() for name in ("hoopfast mask 1", *names))
    return msgspec.structs.replace(spec, key=hmac.new(mask_key, message, hashlib.sha256).digest())
