"""policy.yaml as frozen structs: who may enter, what is masked, which statements are held back.

`load_policy` reports every problem of the file at once. The structs say what was written, `snapshot` what it means.
Called by the supervisor on start and reload, by `hoopfast check`, and by workers through `from_builtins`.
"""

from __future__ import annotations

import difflib
import functools
import ipaddress
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from hoopfast import document, model, units
from hoopfast.config import Section
from hoopfast.errors import ConfigError
from hoopfast.policy import masks, windows
from hoopfast.policy.kinds import KINDS
from hoopfast.policy.patterns import Glob, split_name

Name = Annotated[str, msgspec.Meta(min_length=1)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]

EXPIRES_MAX_S: Final = 7 * 86400.0
LOCAL_ADDRESS: Final = "unix"           # of clients on a Unix socket


class People(Section, frozen=True, kw_only=True):
    """Anybody who is in one of the groups or is one of the users. `*` in a name stands for anything."""

    groups: Names = ()
    users: Names = ()


class Access(Section, frozen=True, kw_only=True):
    connections: Names
    groups: Names = ()
    users: Names = ()
    action: Literal["allow", "deny"] = "allow"


class Allowances(Section, frozen=True, kw_only=True):
    """What people may do with hidden columns; None: what stands elsewhere, or the safe default (the first word)."""

    derived: Literal["deny", "redact"] | None = None
    control: Literal["eq", "none", "any"] | None = None
    aggregates: Literal["count", "none", "sum"] | None = None


class Mask(Allowances, frozen=True, kw_only=True):
    columns: Names                                  # schema.table.column
    with_: masks.Short | masks.Form | None = msgspec.field(name="with")
    keep: masks.Keep | None = None                        # of partial
    value: str | int | None = None                  # of constant
    unless: People | None = None                    # these see the true value
    connections: Names = ()                         # empty: all


class Approvers(Section, frozen=True, kw_only=True):
    groups: Names
    count: Annotated[int, msgspec.Meta(ge=1, le=20)] = 1


class Hidden(Allowances, frozen=True, kw_only=True):
    """What hidden columns allow, to whom and where (nobody and nowhere named: everybody, everywhere)."""

    groups: Names = ()
    users: Names = ()
    connections: Names = ()
    opaque: Literal["deny", "approve"] | None = None
    sink: Literal["deny", "approve"] | None = None
    ddl: Literal["deny", "approve"] | None = None
    errors: Literal["canonical", "strict"] | None = None
    explain: Literal["plain", "deny"] | None = None
    approvers: Approvers | None = None
    expires: str = ""                               # how long a request waits; default 15m


class During(Section, frozen=True, kw_only=True):
    """A time of the week. One that ends before it begins goes on into the next day."""

    days: Names = ()                                # mon, mon-fri; empty: every day
    from_: Name = msgspec.field(name="from", default="00:00")
    to: Name = "24:00"
    zone: Name = "UTC"                              # of the IANA data base


class When(Section, frozen=True, kw_only=True):
    """All conditions that are written must hold; `{}` holds always."""

    statements: Names = ()                          # words of hoopfast.policy.kinds
    tables: Names = ()                              # schema.table or table, with *
    columns: Names = ()                             # schema.table.column or table.column, with *
    schemas: Names = ()                             # with *
    functions: Names = ()                           # schema.function or function, with *
    unfiltered: bool | None = None                  # an UPDATE, DELETE or MERGE that nothing restricts
    opaque: bool | None = None                      # code that cannot be read: DO, CALL, FunctionCall
    connections: Names = ()
    groups: Names = ()
    users: Names = ()
    addresses: Names = ()                           # networks of clients: 10.0.0.0/8, 2001:db8::/32, unix
    applications: Names = ()                        # what clients call themselves, with *
    during: Annotated[tuple[During, ...], msgspec.Meta(min_length=1)] = ()    # any of these times


class Limit(Section, frozen=True, kw_only=True):
    time: Name                                      # how long a statement may run: 30s, 5m


class Rule(Section, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    when: When
    action: Literal["allow", "limit", "warn", "deny", "approve"]
    limit: Limit | None = None
    approvers: Approvers | None = None
    expires: str = ""                               # how long a request waits; default 15m
    reason: str = ""                                # shown to the person


class Policy(Section, frozen=True, kw_only=True):
    access: tuple[Access, ...] = ()
    masks: tuple[Mask, ...] = ()
    hidden: tuple[Hidden, ...] = ()
    rules: tuple[Rule, ...] = ()


EXPIRES_DEFAULT: Final = "15m"
# Of `hidden`; those of columns may stand beside a mask as well.
COLUMN_KNOBS: Final = ("derived", "control", "aggregates")
KNOBS: Final = (*COLUMN_KNOBS, "opaque", "sink", "ddl", "errors", "explain")


def load_policy(path: Path, connections: Collection[str] | None = None) -> Policy:
    """Read and judge a policy file. Raises ConfigError with every problem.

    `connections` are the names in the configuration; None leaves out the check that the policy's names exist.
    """
    report = document.Report(str(path))
    return _judged(document.read(Path(path), report), report, connections)


def parse_policy(text: str, file: str, connections: Collection[str] | None = None) -> Policy:
    """Like `load_policy`, of a text; `file` is the name that problems show."""
    report = document.Report(file)
    return _judged(document.parse(text, report), report, connections)


def to_builtins(policy: Policy) -> dict[str, Any]:
    """Plain dicts and lists, for the link to the workers and the policy history."""
    result: dict[str, Any] = msgspec.to_builtins(policy)
    return result


def from_builtins(data: dict[str, Any]) -> Policy:
    """The inverse of `to_builtins`; types are checked, rules are not (the sender did)."""
    return msgspec.convert(data, Policy)


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Policy)}


def mask_spec(mask: Mask) -> tuple[model.MaskSpec, masks.Key]:
    """What the relay does with the column, and which key the snapshot adds."""
    return masks.spec_of(mask.with_, mask.keep, mask.value)


def applies(connections: tuple[str, ...], name: str) -> bool:
    """Whether an entry's `connections` (empty: all) include this one."""
    return not connections or any(Glob(pattern).matches(name) for pattern in connections)


def masked_columns(policy: Policy) -> Callable[[str], tuple[tuple[str, str, str], ...]]:
    """By connection: (schema, table, column) of every column that is masked for anybody; catalogs resolve them."""
    def columns(connection: str) -> tuple[tuple[str, str, str], ...]:
        found: dict[tuple[str, str, str], None] = {}
        for entry in policy.masks:
            if applies(entry.connections, connection):
                for text in entry.columns:
                    schema, table, column = split_name(text)
                    found[schema, table, column] = None
        return tuple(found)

    return columns


# ---------------------------------------------------------------- rules beyond the types

def _judged(raw: Any, report: document.Report, connections: Collection[str] | None) -> Policy:
    policy = document.decode(Policy, raw, report, {
        People: _check_people,
        Access: functools.partial(_check_access, connections),
        Mask: functools.partial(_check_mask, connections),
        Hidden: functools.partial(_check_hidden, connections),
        During: _check_during,
        When: functools.partial(_check_when, connections),
        Rule: _check_rule,
        Policy: _check_policy,
    })
    if policy is None or report.problems:
        raise ConfigError(report.problems)
    return policy


def _check_people(people: People, path: str, report: document.Report) -> None:
    if not people.groups and not people.users and not report.touches(path):
        report.add(path, "names nobody: write `groups` or `users`")


def _check_access(known: Collection[str] | None, access: Access, path: str, report: document.Report) -> None:
    if not access.groups and not access.users and not report.touches(f"{path}.groups") \
            and not report.touches(f"{path}.users"):
        report.add(path, 'names nobody: write `groups` or `users` (groups: ["*"] means everybody in any group, '
                   'users: ["*"] everybody)')
    _check_connections(known, access.connections, path, report)


def _check_connections(
    known: Collection[str] | None, names: tuple[str, ...], path: str, report: document.Report,
) -> None:
    for i, name in enumerate(names if known is not None else ()):
        glob = Glob(name)
        if not any(glob.matches(other) for other in known or ()):
            listed = ", ".join(sorted(known or ())) or "none"
            report.add(f"{path}.connections[{i}]", f"the configuration has no connection {name} (it has: {listed})")


def _check_mask(known: Collection[str] | None, mask: Mask, path: str, report: document.Report) -> None:
    _check_connections(known, mask.connections, path, report)
    seen: set[tuple[str, ...]] = set()
    for i, column in enumerate(mask.columns):
        where = f"{path}.columns[{i}]"
        try:
            parts = split_name(column)
        except ValueError as e:
            report.add(where, str(e))
            continue
        if len(parts) != 3:
            report.add(where, "must be schema.table.column")
        elif "*" in column:
            report.add(where, "cannot be a pattern: name each column, so that none is masked by accident or forgotten")
        elif parts in seen:
            report.add(where, "stands twice in this list")
        seen.add(parts)
    if report.touches(f"{path}.with"):
        return
    if isinstance(mask.with_, masks.Form):
        _check_form(mask.with_, f"{path}.with", report)
    for key, kind in (("keep", "partial"), ("value", "constant")):
        if getattr(mask, key) is not None and mask.with_ != kind:
            report.add(f"{path}.{key}", f"belongs to `with: {kind}`")
    if mask.with_ == "constant" and mask.value is None and not report.touches(f"{path}.value"):
        report.add(path, "`with: constant` needs `value`")


def _check_form(form: masks.Form, path: str, report: document.Report) -> None:
    if len(masks.chosen(form)) != 1:
        report.add(path, "must be one of the short words, or one of the long forms, such as {partial: {keep: 4}}, "
                   "{constant: {value: ...}} or {bucket: {size: 1000}}")
    elif form.bucket is not None:
        try:
            masks.bucket_size(form.bucket.size)
        except ValueError as e:
            report.add(f"{path}.bucket.size", str(e))
    for name in ("hash", "token", "ff1"):
        keyed = getattr(form, name)
        if keyed is not None and "\0" in keyed.key:
            report.add(f"{path}.{name}.key", "cannot hold a NUL")


def _check_hidden(known: Collection[str] | None, hidden: Hidden, path: str, report: document.Report) -> None:
    _check_connections(known, hidden.connections, path, report)
    if not any(getattr(hidden, knob) for knob in KNOBS) and not report.touches(path):
        report.add(path, f"allows and forbids nothing: write one of {', '.join(KNOBS)}")
    asks = "approve" in (hidden.opaque, hidden.sink, hidden.ddl)
    if asks and hidden.approvers is None and not report.touches(f"{path}.approvers"):
        report.add(path, "`approve` needs `approvers: {groups: [...]}`")
    for name in () if asks else ("approvers", "expires"):
        if getattr(hidden, name):
            report.add(f"{path}.{name}", "belongs to `opaque`, `sink` or `ddl: approve`")
    if hidden.expires:
        _check_seconds(hidden.expires, f"{path}.expires", report)


def _check_when(known: Collection[str] | None, when: When, path: str, report: document.Report) -> None:
    for i, word in enumerate(when.statements):
        if word not in KINDS:
            likely = difflib.get_close_matches(word.lower().replace(" ", "_"), sorted(KINDS), n=1)
            hint = f"; did you mean {likely[0]}?" if likely else " (docs/policy.md lists them)"
            report.add(f"{path}.statements[{i}]", f"{word} is not a kind of statement{hint}")
    for key, least, most, form in _NAME_PARTS:
        for i, name in enumerate(getattr(when, key)):
            try:
                if not least <= len(split_name(name)) <= most:
                    report.add(f"{path}.{key}[{i}]", f"must be {form}")
            except ValueError as e:
                report.add(f"{path}.{key}[{i}]", str(e))
    for i, text in enumerate(when.addresses):
        try:
            if text != LOCAL_ADDRESS:
                ipaddress.ip_network(text)
        except ValueError:
            report.add(f"{path}.addresses[{i}]", "must be an address, unix, or a network such as 10.0.0.0/8 or "
                       "2001:db8::/32 (without bits behind the prefix)")
    _check_connections(known, when.connections, path, report)


_NAME_PARTS: Final = (
    ("tables", 1, 2, "schema.table or table"), ("columns", 2, 3, "schema.table.column or table.column"),
    ("schemas", 1, 1, "the name of a schema"), ("functions", 1, 2, "schema.function or function"),
)


def _check_during(during: During, path: str, report: document.Report) -> None:
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("days", lambda: windows.parse_days(during.days)), ("from", lambda: windows.parse_time(during.from_)),
        ("to", lambda: windows.parse_time(during.to)), ("zone", lambda: windows.parse_zone(during.zone)),
    )
    for key, check in checks:
        try:
            if not report.touches(f"{path}.{key}"):
                check()
        except ValueError as e:
            report.add(f"{path}.{key}", str(e), parent=path)
    if during.from_ == during.to:
        report.add(path, "begins when it ends, so it never holds")


def _check_rule(rule: Rule, path: str, report: document.Report) -> None:
    if report.touches(f"{path}.action"):
        return
    if rule.action == "approve":
        if rule.approvers is None and not report.touches(f"{path}.approvers"):
            report.add(path, "`action: approve` needs `approvers: {groups: [...]}`")
    elif rule.action:
        for name in ("approvers", "expires"):
            if getattr(rule, name):
                report.add(f"{path}.{name}", f"belongs to `action: approve`, not to `{rule.action}`")
    if rule.action == "limit":
        if rule.limit is None and not report.touches(f"{path}.limit"):
            report.add(path, "`action: limit` needs `limit: {time: 30s}`")
    elif rule.limit is not None and rule.action:
        report.add(f"{path}.limit", f"belongs to `action: limit`, not to `{rule.action}`")
    if rule.expires:
        _check_seconds(rule.expires, f"{path}.expires", report)
    if rule.limit is not None:
        _check_seconds(rule.limit.time, f"{path}.limit.time", report)


def _check_seconds(text: str, path: str, report: document.Report) -> None:
    try:
        seconds = units.duration_s(text)
    except ValueError as e:
        report.add(path, str(e))
    else:
        if not 1 <= seconds <= EXPIRES_MAX_S:
            report.add(path, "must be from 1s to 7d")


def _check_policy(policy: Policy, path: str, report: document.Report) -> None:
    seen: set[str] = set()
    for rule in policy.rules:
        if rule.name in seen:
            report.add(f"{path}.rules", f"two rules have the same name: {rule.name}")
        seen.add(rule.name)
