"""The conditions of rules on what a statement touches and on the session, from SQL to ruling."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from hoopfast.analysis.classify import facts
from hoopfast.analysis.parse import parse
from hoopfast.errors import ConfigError
from hoopfast.model import Client, Ruling, Warned
from hoopfast.policy import source
from tests.analysis.test_attacks import ATTACKS
from tests.policy.test_snapshot import ANN, SETTINGS, compiled

OFFICE = Client(peer="10.1.2.3:40000", application="psql")


def decide(rules: str, sql: str, client: Client = OFFICE, now: float | None = 0.0) -> Ruling:
    return compiled(f"rules:\n{rules}").decide(ANN, "orders-prod", facts(parse(sql)), client, now)


def says(rules: str, sql: str, client: Client = OFFICE, now: float | None = 0.0) -> str:
    return decide(rules, sql, client, now).action


# ---------------------------------------------------------------- columns

HANDS_OFF = "  - {name: r, when: {columns: [public.customers.ssn]}, action: deny}\n"


@pytest.mark.parametrize(("sql", "action"), [
    ("SELECT ssn FROM customers", "deny"),
    ("SELECT c.ssn FROM public.customers c", "deny"),
    ("SELECT * FROM customers", "deny"),
    ("SELECT name FROM customers WHERE ssn = '1'", "deny"),
    ("SELECT to_json(c) FROM customers c", "deny"),
    ("UPDATE customers SET ssn = NULL WHERE id = 1", "deny"),
    ("SELECT * FROM orders JOIN customers USING (ssn)", "deny"),
    ("COPY customers TO STDOUT", "deny"),
    ("DROP TABLE customers", "deny"),
    ("SELECT x FROM customers AS c(a, b, x)", "deny"),
    ("SELECT name FROM customers", "allow"),
    ("SELECT count(*) FROM customers", "allow"),
    ("SELECT ssn FROM orders", "allow"),
    ("SELECT o.ssn FROM orders o JOIN customers c ON o.id = c.id", "allow"),
    ("SELECT ssn FROM staging.customers", "allow"),
    ("COPY customers (id, name) TO STDOUT", "allow"),
])
def test_a_column_is_kept_away(sql: str, action: str) -> None:
    assert says(HANDS_OFF, sql) == action


ATTACKED = """\
  - name: r
    when: {columns: [public.customers.ssn, public.customers.email, public.employees.salary, public.employees.ssn]}
    action: deny
"""
# What names no hidden column: a user function in disguise, names without values, views made of other columns.
SPARED = (
    "SELECT c.tax_id ", "EXPLAIN ANALYZE SELECT id ", "EXPLAIN (VERBOSE) SELECT id ", "CREATE VIEW v AS SELECT id ")


@pytest.mark.parametrize("sql", [
    sql for sql in ATTACKS
    if re.search(r"\b(FROM|JOIN|INTO|UPDATE|COPY) (public\.)?\"?(customers|employees)\b", sql)
    and not sql.startswith(SPARED) and "'select " not in sql])
def test_every_known_way_to_a_hidden_column_touches_it(sql: str) -> None:
    assert says(ATTACKED, sql) == "deny"


ONLY_THESE = """\
  - {name: a, when: {statements: [select], columns: [public.orders.id, public.orders.item]}, action: allow}
  - {name: d, when: {tables: [public.orders]}, action: deny}
"""


@pytest.mark.parametrize(("sql", "action"), [
    ("SELECT id, item FROM public.orders", "allow"),
    ("SELECT id, price FROM public.orders", "deny"),
    ("SELECT * FROM public.orders", "deny"),
    ("SELECT o FROM public.orders o", "deny"),
    ("SELECT id FROM orders", "deny"),                  # may be another schema's
    ("DELETE FROM public.orders WHERE id = 1", "deny"),
    ("SELECT o.id FROM public.orders o JOIN x ON x.price = o.id", "allow"),
    ("SELECT o.id FROM public.orders o JOIN x ON price = o.id", "deny"),
])
def test_an_exemption_for_columns_covers_them_only(sql: str, action: str) -> None:
    assert says(ONLY_THESE, sql) == action


# ---------------------------------------------------------------- schemas and functions

@pytest.mark.parametrize(("sql", "action"), [
    ("SELECT * FROM payroll.x", "deny"),
    ("SELECT * FROM x", "deny"),                        # search_path decides
    ("SELECT * FROM public.x", "allow"),
    ("SELECT payroll.f()", "deny"),
    ("SELECT payroll.f() FROM public.x", "deny"),
    ("DROP SCHEMA payroll", "deny"),
    ("SELECT 1", "allow"),
    ("CREATE SCHEMA other", "allow"),
])
def test_a_schema_is_kept_away(sql: str, action: str) -> None:
    assert says("  - {name: r, when: {schemas: ['pay*']}, action: deny}\n", sql) == action


@pytest.mark.parametrize(("sql", "action"), [
    ("SELECT * FROM staging.x", "allow"),
    ("SELECT * FROM staging.x JOIN public.y ON true", "deny"),
    ("SELECT * FROM x", "deny"),
    ("SELECT prod.f() FROM staging.x", "deny"),
    ("CREATE SCHEMA staging", "allow"),
    ("SELECT 1", "deny"),
])
def test_an_exemption_for_a_schema(sql: str, action: str) -> None:
    rules = "  - {name: a, when: {schemas: [staging]}, action: allow}\n  - {name: d, when: {}, action: deny}\n"
    assert says(rules, sql) == action


@pytest.mark.parametrize(("sql", "action"), [
    ("SELECT pg_sleep(1)", "deny"), ("SELECT pg_catalog.pg_sleep(1)", "deny"),
    ("SELECT * FROM dblink('x', 'y')", "deny"),
    ("SELECT c.pg_sleep FROM customers c", "deny"), ("SELECT (c).dblink_exec FROM customers c", "deny"),
    ("SELECT pg_sleep FROM customers", "allow"), ("SELECT now()", "allow"), ("SELECT 'pg_sleep(1)'", "allow"),
])
def test_functions_are_kept_away(sql: str, action: str) -> None:
    assert says("  - {name: r, when: {functions: [pg_sleep, 'dblink*']}, action: deny}\n", sql) == action


@pytest.mark.parametrize(("sql", "action"), [
    ("SELECT count(*) FROM t", "allow"), ("SELECT t.a FROM t", "allow"), ("SELECT count(*), evil() FROM t", "deny"),
])
def test_a_list_of_functions_that_may_be_called(sql: str, action: str) -> None:
    rules = """\
  - {name: a, when: {functions: [count, now]}, action: allow}
  - {name: d, when: {functions: ['*']}, action: deny}
"""
    assert says(rules, sql) == action


# ---------------------------------------------------------------- the session

@pytest.mark.parametrize(("peer", "action"), [
    ("10.1.2.3:40000", "deny"), ("[::ffff:10.1.2.3]:5", "deny"), ("[2001:db8::7]:5", "deny"), ("unix", "deny"),
    ("192.0.2.1:5", "allow"), ("[2001:db9::7]:5", "allow"), (None, "deny"), ("nonsense", "deny"),
])
def test_addresses(peer: str | None, action: str) -> None:
    rules = "  - {name: r, when: {addresses: [10.0.0.0/8, '2001:db8::/32', unix]}, action: deny}\n"
    assert says(rules, "SELECT 1", Client(peer=peer)) == action


@pytest.mark.parametrize(("peer", "application", "action"), [
    ("10.1.2.3:40000", "etl-7", "allow"), ("10.1.2.3:40000", "psql", "deny"), ("192.0.2.1:4", "etl-7", "deny"),
    (None, "etl-7", "deny"), ("10.1.2.3:40000", None, "deny"), ("nonsense", "etl-7", "deny"),
])
def test_an_exemption_for_clients_needs_to_know_them(peer: str | None, application: str | None, action: str) -> None:
    rules = """\
  - {name: a, when: {addresses: [10.0.0.0/8], applications: ['etl-*']}, action: allow}
  - {name: d, when: {}, action: deny}
"""
    assert says(rules, "SELECT 1", Client(peer=peer, application=application)) == action


def test_clients_whom_rules_tell_apart_are_of_different_classes() -> None:
    snapshot = compiled("rules: [{name: r, when: {addresses: [10.0.0.0/8]}, action: deny}]")
    inside, outside = Client(peer="10.0.0.1:1", application="a"), Client(peer="192.0.2.1:1", application="a")

    def mark(client: Client) -> str:
        return snapshot.identity_class(ANN, "billing", client)

    assert mark(inside) != mark(outside)
    assert mark(inside) == mark(Client(peer="10.9.9.9:7", application="b"))


# ---------------------------------------------------------------- time

NIGHTS = "  - {name: r, when: {statements: [delete], during: [{from: '18:00', to: '08:00'}]}, action: deny}\n"
NIGHT, DAY = (datetime(2026, 1, 5, hour, tzinfo=UTC).timestamp() for hour in (23, 12))


def test_a_ruling_that_another_hour_would_change_says_so() -> None:
    night, day = (decide(NIGHTS, "DELETE FROM t", now=now) for now in (NIGHT, DAY))
    assert (night.action, night.timed, day.action, day.timed) == ("deny", True, "allow", True)
    assert not decide(NIGHTS, "SELECT 1", now=NIGHT).timed, "nothing about it depends on the time"


def test_who_does_not_know_the_time_restricts() -> None:
    assert says(NIGHTS, "DELETE FROM t", now=None) == "deny"
    rules = "  - {name: a, when: {during: [{days: [mon-fri]}]}, action: allow}\n  - {name: d, when: {}, action: deny}\n"
    assert (says(rules, "SELECT 1", now=None), says(rules, "SELECT 1", now=DAY)) == ("deny", "allow")


# ---------------------------------------------------------------- warnings

def test_a_warning_lets_pass_and_stays_beside_what_is_stricter() -> None:
    rules = """\
  - {name: w, when: {tables: [public.orders]}, action: warn, reason: careful}
  - {name: d, when: {statements: [delete], tables: [public.customers]}, action: deny}
"""
    assert decide(rules, "SELECT * FROM public.orders") == Ruling(
        action="warn", rule="w", reason="careful", warnings=(Warned(rule="w", reason="careful"),))
    both = decide(rules, "DELETE FROM public.customers USING public.orders o WHERE o.id = customers.id")
    assert (both.action, both.rule, [one.rule for one in both.warnings]) == ("deny", "d", ["w"])


@pytest.mark.parametrize(("sql", "action"), [
    ("DELETE FROM staging.orders", "warn"), ("DELETE FROM prod.orders", "deny"), ("DELETE FROM orders", "deny"),
])
def test_a_warning_about_what_a_name_may_mean_decides_nothing(sql: str, action: str) -> None:
    rules = """\
  - {name: w, when: {tables: [staging.orders]}, action: warn}
  - {name: d, when: {tables: [prod.orders]}, action: deny}
"""
    assert says(rules, sql) == action


def test_the_shortest_limit_holds_beside_whatever_decides() -> None:
    rules = """\
  - {name: long, when: {tables: [public.a]}, action: limit, limit: {time: 5m}}
  - {name: short, when: {tables: [public.b]}, action: limit, limit: {time: 30s}}
  - {name: held, when: {statements: [delete]}, action: approve, approvers: {groups: [dba]}}
"""
    both = decide(rules, "SELECT 1 FROM public.a, public.b")
    assert (both.action, both.rule, both.limit_s, both.limit_rule) == ("limit", "long", 30, "short")
    held = decide(rules, "DELETE FROM public.c USING public.a WHERE a.id = c.id")
    assert (held.action, held.limit_s) == ("approve", 300)
    assert decide(rules, "SELECT 1 FROM public.c").limit_s == 0
    assert compiled(f"rules:\n{rules}").limits and not compiled("rules: []").limits


# ---------------------------------------------------------------- why

def test_each_rule_says_why_it_counts_or_not() -> None:
    snapshot = compiled("""\
rules:
  - {name: etl, when: {applications: [etl]}, action: allow}
  - {name: nights, when: {statements: [delete], during: [{to: "06:00"}]}, action: deny}
  - {name: reads, when: {statements: [select]}, action: warn}
  - {name: writes, when: {statements: [delete], tables: [public.a]}, action: deny}
  - {name: rest, when: {}, action: allow}
  - {name: late, when: {}, action: deny}
""")
    (found,) = facts(parse("WITH d AS (DELETE FROM public.a RETURNING *) SELECT * FROM public.b"))
    steps = snapshot.trace(ANN, "orders-prod", found, OFFICE, DAY)
    assert [(step.rule, step.counts, step.why) for step in steps] == [
        ("etl", False, "is about other people or other clients"),
        ("nights", False, "would match at another time"),
        ("reads", True, "matches select of public.a, public.b"),
        ("writes", True, "matches delete of public.a"),
        ("rest", True, "matches delete of public.b"),
        ("late", False, "comes too late: rules before it have decided everything"),
    ]
    ruling = snapshot.decide(ANN, "orders-prod", (found,), OFFICE, DAY)
    assert (ruling.action, ruling.rule) == ("deny", "writes")
    assert {step.rule for step in steps if step.counts} >= {ruling.rule, *(one.rule for one in ruling.warnings)}


# ---------------------------------------------------------------- the file

def test_faults_of_the_new_conditions() -> None:
    with pytest.raises(ConfigError) as caught:
        source.parse_policy("""\
rules:
  - {name: a, when: {columns: [ssn, a.b.c.d, Customers.ssn], schemas: [a.b], functions: [a.b.c]}, action: deny}
  - {name: b, when: {addresses: [10.0.0.1/8, localhost, 10.0.0.0/33], applications: []}, action: deny}
  - {name: c, when: {during: [{days: [monday], from: '9', to: '25:00', zone: Mars}, {from: '24:00'}]}, action: deny}
  - {name: d, when: {during: []}, action: warn, expires: 15m, limit: {time: 10s}}
  - {name: e, when: {}, action: limit}
  - {name: f, when: {}, action: limit, limit: {time: soon}}
  - {name: g, when: {}, action: limit, limit: {time: 0s, rows: 5}}
""", "policy.yaml", SETTINGS.connections)
    assert {problem.path for problem in caught.value.problems} == {
        "$.rules[0].when.columns[0]", "$.rules[0].when.columns[1]", "$.rules[0].when.columns[2]",
        "$.rules[0].when.schemas[0]", "$.rules[0].when.functions[0]", "$.rules[1].when.addresses[0]",
        "$.rules[1].when.addresses[1]", "$.rules[1].when.addresses[2]", "$.rules[1].when.applications",
        "$.rules[2].when.during[0].days", "$.rules[2].when.during[0].from", "$.rules[2].when.during[0].to",
        "$.rules[2].when.during[0].zone", "$.rules[2].when.during[1]", "$.rules[3].when.during", "$.rules[3].expires",
        "$.rules[3].limit", "$.rules[4]", "$.rules[5].limit.time", "$.rules[6].limit.time", "$.rules[6].limit.rows",
    }
