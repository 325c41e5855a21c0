"""The compiled policy: who enters, who is alike, which columns are hidden, what becomes of a statement."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hoopfast import config, model
from hoopfast.errors import InternalFault
from hoopfast.model import Identity, Ruling, StatementFacts
from hoopfast.policy import source
from hoopfast.policy.snapshot import ColumnMask, Snapshot, compile_policy

KEY = bytes(range(32))
UPSTREAM = config.Upstream(host="127.0.0.1", database="d", user="u")
SETTINGS = config.Config(connections={
    name: config.Connection(upstream=UPSTREAM) for name in ("orders-prod", "orders-staging", "billing")})


def compiled(text: str, key: bytes = KEY) -> Snapshot:
    return compile_policy(SETTINGS, source.parse_policy(text, "policy.yaml", SETTINGS.connections), 7, key)


def person(user: str = "ann@example.com", *groups: str) -> Identity:
    return Identity(user=user, subject=user, issuer="okta", groups=groups)


def does(*kinds: str, tables: tuple[str, ...] = (), **more: Any) -> StatementFacts:
    return StatementFacts(kinds=kinds, tables=tables, **more)


ANN = person()


def ruling(text: str, *facts: StatementFacts, who: Identity = ANN, where: str = "orders-prod") -> tuple[str, str]:
    result = compiled(f"rules:\n{text}").decide(who, where, facts)
    return result.action, result.rule


# ---------------------------------------------------------------- access

def test_the_first_matching_access_entry_decides() -> None:
    snapshot = compiled("""\
access:
  - {users: [eve@example.com], connections: ["*"], action: deny}
  - {groups: [engineering, "team-*"], connections: ["orders-*"]}
  - {users: ["*@example.com"], connections: [billing]}
""")
    eng, team = person("e@x", "engineering"), person("t@x", "a", "team-7")
    eve = person("eve@example.com", "engineering")
    assert snapshot.may_enter(eng, "orders-prod")
    assert snapshot.may_enter(eng, "orders-staging")
    assert not snapshot.may_enter(eng, "billing")
    assert snapshot.may_enter(team, "orders-prod")
    assert snapshot.may_enter(ANN, "billing")
    assert not snapshot.may_enter(ANN, "orders-prod")
    assert not any(snapshot.may_enter(eve, name) for name in SETTINGS.connections)
    assert not snapshot.may_enter(eng, "unknown")
    assert snapshot.version == 7


def test_without_a_rule_nobody_enters() -> None:
    assert not compiled("").may_enter(person("a", "engineering", "*"), "billing")
    assert not compiled("access: [{groups: ['*'], connections: ['*']}]").may_enter(ANN, "billing")
    assert compiled("access: [{users: ['*'], connections: ['*']}]").may_enter(ANN, "billing")


def test_a_group_is_not_a_user_and_capitals_count() -> None:
    snapshot = compiled("access: [{groups: [dba], connections: [billing]}]")
    assert not snapshot.may_enter(person("dba"), "billing")
    assert not snapshot.may_enter(person("a", "DBA"), "billing")
    # A star in what an issuer says is no pattern.
    assert not snapshot.may_enter(person("a", "*", "d*"), "billing")


# ---------------------------------------------------------------- classes

CLASSES = """\
access: [{groups: [engineering], connections: ["*"]}]
masks:
  - {columns: [a.b.c], with: redact, unless: {groups: [leads]}, connections: [orders-prod]}
rules:
  - {name: r, when: {statements: [drop], users: [bob@example.com]}, action: deny}
"""


def test_people_whom_the_policy_treats_alike_share_a_class() -> None:
    snapshot = compiled(CLASSES)

    def same(a: Identity, b: Identity, where: str) -> bool:
        return snapshot.identity_class(a, where) == snapshot.identity_class(b, where)

    ann, cid = person("ann@x", "engineering"), person("cid@y", "cooks", "engineering", "more")
    lead, bob = person("l@x", "engineering", "leads"), person("bob@example.com", "engineering")
    assert same(ann, cid, "orders-prod")
    assert not same(ann, lead, "orders-prod")
    assert same(ann, lead, "billing")
    assert not same(ann, bob, "billing")
    assert not same(lead, bob, "orders-prod")
    assert not same(ann, person("z@x"), "billing")


def test_equal_classes_mean_equal_treatment() -> None:
    cooks = "  - {name: s, when: {groups: [cooks]}, action: approve, approvers: {groups: [dba]}}\n"
    snapshot = compiled(CLASSES + cooks)
    groups = ("engineering", "leads", "cooks", "other")
    people = [
        person(user, *chosen)
        for user in ("bob@example.com", "x@y") for n in range(5) for chosen in itertools.combinations(groups, n)
    ]
    statements = [(does("drop_table", "drop"),), (does("select"),)]
    for where in SETTINGS.connections:
        seen: dict[str, Any] = {}
        for who in people:
            treatment = (
                snapshot.may_enter(who, where), snapshot.masks_for(who, where),
                [snapshot.decide(who, where, facts) for facts in statements],
            )
            assert seen.setdefault(snapshot.identity_class(who, where), treatment) == treatment
        assert len(seen) > 3


# ---------------------------------------------------------------- masks

def hidden(snapshot: Snapshot, who: Identity, where: str = "orders-prod") -> dict[str, int]:
    return {f"{m.schema}.{m.table}.{m.column}": m.spec.kind for m in snapshot.masks_for(who, where)}


def test_the_first_entry_that_names_a_column_decides_alone() -> None:
    snapshot = compiled("""\
masks:
  - {columns: [p.c.email, p.c.ssn], with: email, unless: {groups: [leads], users: [root@x]}, connections: ["orders-*"]}
  - {columns: [p.c.email], with: redact}
  - {columns: [p.c.email, p.c.card], with: "null", unless: {groups: [leads]}}
""")
    ann, lead, root = person("a"), person("b", "leads"), person("root@x")
    assert hidden(snapshot, ann) == {
        "p.c.email": model.MASK_EMAIL, "p.c.ssn": model.MASK_EMAIL, "p.c.card": model.MASK_NULL}
    assert hidden(snapshot, lead) == {}
    assert hidden(snapshot, root) == {"p.c.card": model.MASK_NULL}
    # Where the first entry does not apply, the second is the first.
    assert hidden(snapshot, lead, "billing") == {"p.c.email": model.MASK_REDACT}


def test_names_come_as_the_server_stores_them() -> None:
    snapshot = compiled("""masks: [{columns: ['public."User"."e.mail"'], with: {partial: {keep: 2}}}]""")
    (mask,) = snapshot.masks_for(ANN, "billing")
    assert mask == ColumnMask("public", "User", "e.mail", model.MaskSpec(kind=model.MASK_PARTIAL, keep=2))


def test_hash_keys_belong_to_column_connection_and_gateway() -> None:
    text = "masks: [{columns: [a.b.c, a.b.d, a.bb.c], with: hash}, {columns: [a.b.e], with: redact}]"
    snapshot = compiled(text)
    keys = [m.spec.key for where in ("billing", "orders-prod") for m in snapshot.masks_for(ANN, where)]
    hashes = [key for key in keys if key]
    assert len(set(hashes)) == len(hashes) == 6
    assert all(len(key) == 32 for key in hashes)
    again = compiled(text).masks_for(person("bob"), "billing")
    assert [m.spec.key for m in again] == keys[:4]
    assert compiled(text, bytes(32)).masks_for(ANN, "billing")[0].spec.key != keys[0]
    with pytest.raises(ValueError, match="32 bytes"):
        compiled(text, b"short")


# ---------------------------------------------------------------- rules

DROP_DENY = "  - {name: drops, when: {statements: [drop]}, action: deny, reason: no}\n"
TEAM = "approvers: {groups: [dba, lead], count: 1}"


def test_no_rule_no_objection() -> None:
    assert compiled("").decide(ANN, "billing", (does("drop_table", "drop"),)) == Ruling(action="allow")
    assert compiled("").decide(ANN, "billing", ()) == Ruling(action="allow")
    assert ruling(DROP_DENY, does("select")) == ("allow", "")


@pytest.mark.parametrize(("words", "facts", "hit"), [
    ("drop", does("drop_table", "drop"), True),
    ("drop", does("drop_role", "drop"), True),
    ("drop", does("drop"), True),
    ("drop_table", does("drop_table", "drop"), True),
    ("drop_table", does("drop_role", "drop"), False),
    ("drop, truncate", does("truncate"), True),
    ("delete", does("select", "delete"), True),
    ("delete", does("explain", "delete"), True),
    ("copy", does("copy_to", "select"), True),
    ("other", does("other", opaque="unknown"), True),
    ("do, call", does("do", opaque="code"), True),
    ("select", does("do", opaque="code"), False),
])
def test_kinds(words: str, facts: StatementFacts, hit: bool) -> None:
    rule = f"  - {{name: r, when: {{statements: [{words}]}}, action: deny}}"
    assert ruling(rule, facts) == (("deny", "r") if hit else ("allow", ""))


def test_conditions_are_joined_by_and() -> None:
    rule = ("  - {name: r, when: {statements: [delete, update], unfiltered: true, tables: [public.customers], "
            "connections: ['orders-*'], groups: [temp]}, action: deny}")
    temp = person("t", "temp")
    facts = does("delete", tables=("public.customers",), unfiltered=True)
    assert ruling(rule, facts, who=temp) == ("deny", "r")
    assert ruling(rule, facts, who=ANN) == ("allow", "")
    assert ruling(rule, facts, who=temp, where="billing") == ("allow", "")
    assert ruling(rule, does("delete", tables=("public.customers",)), who=temp) == ("allow", "")
    assert ruling(rule, does("delete", tables=("public.orders",), unfiltered=True), who=temp) == ("allow", "")
    assert ruling(rule, does("merge", tables=("public.customers",), unfiltered=True), who=temp) == ("allow", "")
    assert ruling(rule, does("update", tables=("customers", "x"), unfiltered=True), who=temp) == ("deny", "r")


def test_opaque() -> None:
    rule = "  - {name: r, when: {opaque: true}, action: deny}"
    assert ruling(rule, does("do", opaque="DO runs code")) == ("deny", "r")
    assert ruling(rule, does("select")) == ("allow", "")
    readable = "  - {name: r, when: {opaque: false}, action: allow}\n  - {name: rest, when: {}, action: deny}"
    assert ruling(readable, does("select")) == ("allow", "r")
    assert ruling(readable, does("call", opaque="code")) == ("deny", "rest")


def test_the_strictest_statement_of_a_string_counts() -> None:
    rules = (
        "  - {name: fine, when: {statements: [select]}, action: allow}\n"
        f"  - {{name: ask, when: {{statements: [truncate]}}, action: approve, {TEAM}, expires: 1h, reason: why}}\n"
    ) + DROP_DENY
    select, truncate, drop = does("select"), does("truncate"), does("drop_table", "drop")
    for order in itertools.permutations((select, truncate, drop)):
        assert ruling(rules, *order) == ("deny", "drops")
    for order2 in itertools.permutations((select, truncate, does("show"))):
        assert ruling(rules, *order2) == ("approve", "ask")
    assert ruling(rules, select, does("show")) == ("allow", "fine")
    snapshot = compiled(f"rules:\n{rules}")
    assert snapshot.decide(ANN, "billing", (truncate,)) == Ruling(
        action="approve", rule="ask", reason="why", approver_groups=("dba", "lead"), expires_s=3600.0)
    assert snapshot.decide(ANN, "billing", (drop,)) == Ruling(action="deny", rule="drops", reason="no")


def test_first_match_wins_within_a_statement() -> None:
    allow = "  - {name: exempt, when: {statements: [drop_table], tables: ['staging.*']}, action: allow}\n"
    staging = does("drop_table", "drop", tables=("staging.x",))
    assert ruling(allow + DROP_DENY, staging) == ("allow", "exempt")
    assert ruling(DROP_DENY + allow, staging) == ("deny", "drops")


@pytest.mark.parametrize("facts", [
    does("drop_table", "drop", tables=("staging.x", "public.customers")),   # the other table is not exempt
    does("drop_table", "drop", tables=("x",)),                              # search_path could make it any schema
    does("drop_table", "drop", tables=("staging.x.y",)),
    does("drop_table", "drop"),
    does("drop_schema", "drop", tables=("staging.x",)),
    does("drop_table", "drop", "drop_role", tables=("staging.x",)),
    does("drop_table", "drop", tables=("staging.x",), opaque="code"),
])
def test_an_exemption_covers_nothing_else(facts: StatementFacts) -> None:
    allow = "  - {name: exempt, when: {statements: [drop_table], tables: ['staging.*']}, action: allow}\n"
    assert ruling(allow + DROP_DENY, facts) == ("deny", "drops")


def test_an_allowed_select_does_not_carry_a_delete_along() -> None:
    rules = ("  - {name: reads, when: {statements: [select]}, action: allow}\n"
             "  - {name: writes, when: {statements: [delete]}, action: deny}\n")
    assert ruling(rules, does("select", "delete", tables=("a",))) == ("deny", "writes")
    ask = f"  - {{name: ask, when: {{statements: [select]}}, action: approve, {TEAM}}}\n"
    assert ruling(ask + rules, does("select", "delete", tables=("a",))) == ("deny", "writes")


def test_a_last_rule_denies_the_rest() -> None:
    rules = ("  - {name: ok, when: {statements: [select, show]}, action: allow}\n"
             "  - {name: rest, when: {}, action: deny}\n")
    assert ruling(rules, does("select", tables=("a", "b"))) == ("allow", "ok")
    assert ruling(rules, does("insert", "select", tables=("a",))) == ("deny", "rest")
    assert ruling(rules, does("select"), does("set")) == ("deny", "rest")


def both(first: str, second: str) -> Ruling:
    return compiled(
        f"rules:\n  - {{name: a, when: {{statements: [drop]}}, action: approve, {first}}}\n"
        f"  - {{name: b, when: {{statements: [grant]}}, action: approve, {second}}}\n"
    ).decide(ANN, "billing", (does("grant"), does("drop_role", "drop")))


def test_one_request_must_satisfy_every_rule() -> None:
    result = both("approvers: {groups: [dba, lead], count: 1}, expires: 1h, reason: x",
                  "approvers: {groups: [sec, dba], count: 2}, expires: 5m, reason: y")
    assert result == Ruling(action="approve", rule="b", reason="y; x", approver_groups=("dba",), approvals_needed=2,
                            expires_s=300.0)
    apart = both("approvers: {groups: [dba]}", "approvers: {groups: [sec]}")
    assert (apart.action, apart.approver_groups) == ("deny", ())
    assert "one by one" in apart.reason


def test_unknown_connections_are_a_fault_of_ours() -> None:
    snapshot = compiled("")
    for call in (snapshot.masks_for, snapshot.identity_class):
        with pytest.raises(InternalFault):
            call(ANN, "unknown")
    with pytest.raises(InternalFault):
        snapshot.decide(ANN, "unknown", ())


def test_thousands_of_tables_are_quick() -> None:
    """pg_dump locks every table of a database in one statement."""
    rules = "".join(f"  - {{name: r{i}, when: {{tables: ['s{i}.*', t{i}]}}, action: deny}}\n" for i in range(40))
    tables = tuple(f"public.table_{i}" for i in range(5000))
    assert ruling(rules, does("lock", tables=tables)) == ("allow", "")
    assert ruling(rules, does("lock", tables=(*tables, "s39.x"))) == ("deny", "r39")
