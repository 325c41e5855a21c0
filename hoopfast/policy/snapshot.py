"""The policy as decisions: an immutable snapshot of one version, asked for each login and each new statement.

A statement keeps the snapshot it started with; a reload makes another. Made by `compile_policy` in the workers and the
supervisor, which must use the same `mask_key`, because equal values of a column have to hash equally everywhere.

How rules are read: a statement is the set of all pairs of what it does and what it names (`WITH d AS (DELETE FROM a)
SELECT FROM b` deletes and selects; it names a and b). For each pair the first matching rule counts; for the statement,
and for a string of statements, the strictest one (deny, approve, warn, limit, allow). So a rule that allows one
part of a statement never lets another part slip through. What no rule matches is allowed. A rule that warns or limits
does so whatever else decides, and decides only the pairs it names for sure: a later rule may still deny the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from hoopfast import units
from hoopfast.config import Config
from hoopfast.errors import InternalFault
from hoopfast.knobs import APPROVABLE, SAFE, Handling, Knobs
from hoopfast.model import Client, Identity, MaskSpec, Ruling, StatementFacts, Warned
from hoopfast.policy import source
from hoopfast.policy.conditions import Conditions, Whence, Who, who
from hoopfast.policy.kinds import distinct
from hoopfast.policy.masks import with_key
from hoopfast.policy.patterns import Written, split_name

MASK_KEY_MIN_BYTES: Final = 32
MASKING: Final = "masking"              # the rule that events name where hidden columns decide
_STRICTNESS: Final = ("deny", "approve", "warn", "limit", "allow")
_MILD: Final = frozenset({"warn", "limit"})
NOBODY_KNOWS: Final = Client()


class ColumnMask(NamedTuple):
    """One column that is hidden from a person on a connection; names as PostgreSQL stores them."""

    schema: str
    table: str
    column: str
    spec: MaskSpec
    handling: Handling = SAFE


class _Mask(NamedTuple):
    """`own`: the knobs that stand beside the mask."""

    mask: ColumnMask
    unless: Who | None
    own: source.Mask


class _Allowance(NamedTuple):
    entry: source.Hidden
    whose: Who | None


class _Rule(NamedTuple):
    rule: source.Rule
    conditions: Conditions


class _Place(NamedTuple):
    """What the policy says about one connection."""

    access: tuple[tuple[Who, bool], ...]
    masks: tuple[_Mask, ...]
    hidden: tuple[_Allowance, ...]
    rules: tuple[_Rule, ...]
    looks_at: tuple[Who, ...]
    looks_from: tuple[Whence, ...]


class Snapshot:
    """One version of the policy. Every method is a pure function of it and its arguments.

    A connection that the configuration does not have admits nobody; asking anything else about it is an InternalFault.
    """

    __slots__ = ("_places", "limits", "version")

    def __init__(self, version: int, places: dict[str, _Place]) -> None:
        self.version = version
        self.limits = any(rule.rule.limit for place in places.values() for rule in place.rules)
        self._places = places

    def may_enter(self, identity: Identity, connection: str) -> bool:
        """Whether the first access rule that matches lets this person in; without one, nobody enters."""
        place = self._places.get(connection)
        if place is None:
            return False
        return next((allowed for who, allowed in place.access if who.matches(identity)), False)

    def identity_class(self, identity: Identity, connection: str, client: Client = NOBODY_KNOWS) -> str:
        """Equal strings mean: on this connection the policy treats both sessions alike, in all statements and times."""
        place = self._place(connection)
        marks = [self.may_enter(identity, connection)]
        marks += [people.matches(identity) for people in place.looks_at]
        marks += [whence.matches(client) for whence in place.looks_from]
        return "".join("1" if mark else "0" for mark in marks)

    def masks_for(self, identity: Identity, connection: str) -> tuple[ColumnMask, ...]:
        """The columns hidden from this person, in the policy's order, and what they may do with each."""
        place = self._place(connection)
        mine = _allowances(place, identity)
        return tuple(
            entry.mask._replace(handling=_handling([entry.own, *mine])) for entry in place.masks
            if entry.unless is None or not entry.unless.matches(identity)
        )

    def masked_columns(self, connection: str) -> tuple[ColumnMask, ...]:
        """Every column that is hidden from anybody here, whoever is exempt."""
        return tuple(entry.mask for entry in self._place(connection).masks)

    def knobs_for(self, identity: Identity, connection: str) -> Knobs:
        """What hidden columns allow this person, single columns aside: by the first entry that turns each knob."""
        mine = _allowances(self._place(connection), identity)
        return Knobs(
            errors=next((one.errors for one in mine if one.errors), "canonical"),
            explain=next((one.explain for one in mine if one.explain), "plain"),
            approvals={knob: ruling for knob in APPROVABLE if (ruling := _approvable(mine, knob)) is not None},
        )

    def decide(
        self, identity: Identity, connection: str, facts: tuple[StatementFacts, ...], client: Client = NOBODY_KNOWS,
        now: float | None = None,
    ) -> Ruling:
        """What becomes of a query string with these statements.

        `now` in unix seconds. None is not known: rules that restrict at some time restrict, rules that allow do not.
        """
        mine = [rule for rule in self._place(connection).rules if rule.conditions.of_session(identity, client)]
        found = _Found({}, False)
        for statement in facts:
            one = _matching(mine, statement, now)
            found = _Found(found.rules | one.rules, found.timed or one.timed)
        return _strictest(found)

    def trace(
        self, identity: Identity, connection: str, facts: StatementFacts, client: Client = NOBODY_KNOWS,
        now: float | None = None,
    ) -> tuple[Step, ...]:
        """What each rule of the connection, in order, has to do with one statement; for people who ask why."""
        rules = self._place(connection).rules
        mine = [rule for rule in rules if rule.conditions.of_session(identity, client)]
        asked = {one.rule.name: one for one in _asked(mine, facts, now)}
        known = {rule.rule.name for rule in mine}
        return tuple(
            _step(rule.rule, asked.get(rule.rule.name)) if rule.rule.name in known
            else Step(rule.rule.name, rule.rule.action, False, "is about other people or other clients")
            for rule in rules
        )

    def _place(self, connection: str) -> _Place:
        place = self._places.get(connection)
        if place is None:
            raise InternalFault(f"version {self.version} of the policy does not know the connection {connection}")
        return place


def _allowances(place: _Place, identity: Identity) -> list[source.Hidden]:
    return [one.entry for one in place.hidden if one.whose is None or one.whose.matches(identity)]


def _handling(entries: list[source.Mask | source.Hidden]) -> Handling:
    return Handling(
        derived=next((one.derived for one in entries if one.derived), SAFE.derived),
        control=next((one.control for one in entries if one.control), SAFE.control),
        aggregates=next((one.aggregates for one in entries if one.aggregates), SAFE.aggregates),
    )


def _approvable(entries: list[source.Hidden], knob: str) -> Ruling | None:
    first = next((one for one in entries if getattr(one, knob)), None)
    if first is None or getattr(first, knob) != "approve" or first.approvers is None:
        return None
    return Ruling(
        action="approve", rule=MASKING, approver_groups=first.approvers.groups, approvals_needed=first.approvers.count,
        expires_s=units.duration_s(first.expires or source.EXPIRES_DEFAULT))


def also_held(ruling: Ruling, held: Ruling) -> Ruling:
    """What holds for a statement that needs approval because of hidden columns, besides what the rules say of it."""
    if ruling.action == "deny":
        return ruling
    if ruling.action != "approve":
        return msgspec.structs.replace(
            held, warnings=ruling.warnings, limit_s=ruling.limit_s, limit_rule=ruling.limit_rule, timed=ruling.timed)
    common = tuple(group for group in ruling.approver_groups if group in held.approver_groups)
    if not common:
        return Ruling(action="deny", rule=ruling.rule, reason=(
            f"rule {ruling.rule} and the hidden columns ask for the approval of different groups, which one request "
            "cannot carry"))
    return msgspec.structs.replace(
        ruling, approver_groups=common, approvals_needed=max(ruling.approvals_needed, held.approvals_needed),
        expires_s=min(ruling.expires_s, held.expires_s), reason="; ".join(filter(None, (ruling.reason, held.reason))))


class Step(NamedTuple):
    """`why`: a few words on why the rule counts, or does not."""

    rule: str
    action: str
    counts: bool
    why: str


class _Found(NamedTuple):
    """The rules that count, by name; `timed`: whether some rule was asked for the time."""

    rules: dict[str, source.Rule]
    timed: bool


class _Asked(NamedTuple):
    """One rule that was asked about a statement. `hit`: the pairs it names that were undecided, as tables by kind."""

    rule: source.Rule
    hit: dict[str, frozenset[str | None]]
    holds: bool
    timed: bool


def _asked(rules: Iterable[_Rule], facts: StatementFacts, now: float | None) -> Iterator[_Asked]:
    """Ask the rules in order, until the first that names it has decided each pair (kind, table) of the statement."""
    tables = {name: Written(name) for name in facts.tables}
    everywhere: frozenset[str | None] = frozenset(tables or {None})
    undecided = dict.fromkeys(distinct(facts.kinds), everywhere)
    for rule, conditions in rules:
        if not undecided:
            return
        hit: dict[str, frozenset[str | None]] = {}
        # Most rules are about other kinds of statements: that is asked first, as it costs least.
        kinds = [kind for kind in undecided if conditions.covers(kind)]
        if kinds and conditions.speaks_of(facts):
            named = conditions.places(facts, tables, sure=rule.action == "allow")
            hit = {kind: undecided[kind] & named for kind in kinds if undecided[kind] & named}
        if not hit:
            yield _Asked(rule, hit, False, False)
            continue
        holds = conditions.holds_at(now)
        yield _Asked(rule, hit, holds, conditions.timed)
        if not holds:
            continue
        sure = conditions.places(facts, tables, sure=True) if rule.action in _MILD else everywhere
        for kind, decided in hit.items():
            undecided[kind] = undecided[kind] - (decided & sure)
            if not undecided[kind]:
                del undecided[kind]


def _matching(rules: Iterable[_Rule], facts: StatementFacts, now: float | None) -> _Found:
    asked = tuple(_asked(rules, facts, now))
    return _Found({one.rule.name: one.rule for one in asked if one.holds}, any(one.timed for one in asked))


def _step(rule: source.Rule, asked: _Asked | None) -> Step:
    if asked is None:
        return Step(rule.name, rule.action, False, "comes too late: rules before it have decided everything")
    if asked.holds:
        tables = sorted({table for found in asked.hit.values() for table in found if table})
        what = ", ".join(asked.hit) + (f" of {', '.join(tables)}" if tables else "")
        return Step(rule.name, rule.action, True, f"matches {what}")
    why = "would match at another time" if asked.hit else "does not match this statement"
    return Step(rule.name, rule.action, False, why)


def _strictest(found: _Found) -> Ruling:
    by_action: dict[str, list[source.Rule]] = {action: [] for action in _STRICTNESS}
    for rule in found.rules.values():
        by_action[rule.action].append(rule)
    warnings = tuple(Warned(rule=rule.name, reason=rule.reason) for rule in by_action["warn"])
    if by_action["approve"] and not by_action["deny"]:
        ruling = _approval(by_action["approve"])
    else:
        first = next((rules[0] for rules in by_action.values() if rules), None)
        ruling = Ruling(action=first.action, rule=first.name, reason=first.reason) if first else Ruling(action="allow")
    limits = [(units.duration_s(rule.limit.time), rule.name) for rule in by_action["limit"] if rule.limit]
    seconds, name = min(limits, default=(0.0, ""))
    return msgspec.structs.replace(ruling, warnings=warnings, limit_s=seconds, limit_rule=name, timed=found.timed)


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
        raise ValueError(f"the key of masks must have at least {MASK_KEY_MIN_BYTES} bytes")
    return compile_for(config.connections, policy, version, mask_key)


def compile_for(connections: Iterable[str], policy: source.Policy, version: int, mask_key: bytes) -> Snapshot:
    """Like `compile_policy`, for these names: what the policy says can be asked without a configuration."""
    return Snapshot(version, {name: _compile_place(policy, name, mask_key) for name in connections})


def _compile_place(policy: source.Policy, name: str, mask_key: bytes) -> _Place:
    access = tuple(
        (Who(a.groups, a.users), a.action == "allow") for a in policy.access if source.applies(a.connections, name))
    masks: dict[tuple[str, ...], _Mask] = {}
    for entry in policy.masks:
        if not source.applies(entry.connections, name):
            continue
        unless = who(entry.unless.groups, entry.unless.users) if entry.unless else None
        for column in map(split_name, entry.columns):
            # The first entry that names the column decides alone, even if it shows the column to some.
            if column not in masks:
                spec = with_key(*source.mask_spec(entry), mask_key, (*column, name))
                masks[column] = _Mask(ColumnMask(column[0], column[1], column[2], spec), unless, entry)
    rules = tuple(
        _Rule(rule, Conditions(rule.when, rule.action))
        for rule in policy.rules if source.applies(rule.when.connections, name)
    )
    hidden = tuple(_Allowance(entry, who(entry.groups, entry.users) if entry.groups or entry.users else None)
                   for entry in policy.hidden if source.applies(entry.connections, name))
    people = [mask.unless for mask in masks.values()] + [one.whose for one in hidden]
    people += [rule.conditions.whose for rule in rules]
    looks_at = {one.key: one for one in people if one is not None}
    looks_from = {one.key: one for one in (rule.conditions.whence for rule in rules) if one is not None}
    return _Place(access, tuple(masks.values()), hidden, rules, tuple(looks_at[key] for key in sorted(looks_at)),
                  tuple(looks_from[key] for key in sorted(looks_from)))
