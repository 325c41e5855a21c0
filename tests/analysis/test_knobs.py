"""What each knob lets pass and what it forbids, and what none of them touches."""

from __future__ import annotations

import pytest

from hoopfast.analysis.flow import Closure
from hoopfast.analysis.gate import REFUSED, Judgement, judge
from hoopfast.analysis.parse import parse
from hoopfast.knobs import SAFE, Handling, Knobs, strictest
from tests.analysis.shop import CATALOG, MASKS


def judged(sql: str, knobs: Knobs | None = None, **handling: str) -> Judgement:
    ways = {(mask.table_oid, mask.attnum): Handling(**handling) for mask in MASKS}  # type: ignore[arg-type]
    return judge(parse(sql), Closure(CATALOG, MASKS, knobs or Knobs(), ways))


ANY = (
    "SELECT id FROM customers WHERE ssn LIKE '0%'", "SELECT * FROM employees ORDER BY salary",
    "SELECT name, salary FROM employees ORDER BY 2 DESC",
    "SELECT ssn, count(*) FROM customers GROUP BY ssn HAVING min(email) > 'a'",
    "SELECT DISTINCT ssn FROM customers", "SELECT id FROM customers c WHERE c.ssn = c.note",
    "SELECT id, rank() OVER (ORDER BY salary) FROM employees",
    "SELECT count(*) FILTER (WHERE ssn > 'x') FROM customers",
    "SELECT name AS s, ssn FROM customers ORDER BY s, ssn", "DELETE FROM customers WHERE lower(email) = 'x'",
    "SELECT e.id FROM employees e JOIN orders o ON e.salary > o.price",
    "SELECT id FROM customers WHERE upper(ssn) IN ('A')",
)


@pytest.mark.parametrize("sql", ANY)
def test_control_any_lets_conditions_pass(sql: str) -> None:
    assert judged(sql, control="any").outcome != REFUSED
    assert (judged(sql).outcome, judged(sql).knob) == (REFUSED, "control")


@pytest.mark.parametrize("sql", [
    "SELECT upper(ssn) FROM customers WHERE ssn LIKE '0%'",
    "SELECT id FROM customers ORDER BY (SELECT ssn FROM customers)",
    "SELECT ssn FROM customers UNION SELECT ssn FROM employees", "INSERT INTO orders SELECT id, ssn FROM customers",
    "SELECT upper(ssn) FROM customers GROUP BY upper(ssn)", "SELECT * FROM customers NATURAL JOIN employees",
    "SELECT c FROM customers c ORDER BY c", "UPDATE orders SET note = c.ssn FROM customers c WHERE c.ssn > 'a'",
    "SELECT ssn FROM customers FULL JOIN employees USING (ssn)", "SELECT max(ssn) FROM customers",
])
def test_control_any_is_about_conditions_only(sql: str) -> None:
    assert judged(sql, control="any").outcome == REFUSED


@pytest.mark.parametrize("sql", [
    "SELECT id FROM customers WHERE ssn = '1'", "SELECT id FROM customers WHERE ssn IS NULL",
    "SELECT c.id FROM customers c JOIN employees e ON c.ssn = e.ssn", "SELECT id FROM customers WHERE ssn IN ('1', $1)",
    "SELECT c.id FROM customers c JOIN employees e USING (ssn)", "DELETE FROM customers WHERE email = ANY($1)",
])
def test_control_none_forbids_what_is_allowed_by_itself(sql: str) -> None:
    assert judged(sql).outcome != REFUSED
    assert judged(sql, control="none").outcome == REFUSED
    assert judged("SELECT ssn FROM customers WHERE id = 1", control="none").outcome != REFUSED


def test_aggregates() -> None:
    count = "SELECT count(ssn) FROM customers"
    total = "SELECT name, sum(salary), avg(e.salary) FROM employees e GROUP BY 1"
    assert judged(count).outcome != REFUSED
    assert (judged(count, aggregates="none").outcome, judged(count, aggregates="none").knob) == (REFUSED, "aggregates")
    assert (judged(total).outcome, judged(total).knob) == (REFUSED, "aggregates")
    assert judged(total, aggregates="sum").outcome != REFUSED
    for sql in ("SELECT max(salary) FROM employees", "SELECT sum(salary * 2) FROM employees",
                "SELECT id FROM employees GROUP BY id HAVING sum(salary) > 5",
                "SELECT sum(DISTINCT salary) FROM employees",
                "SELECT sum(salary) FILTER (WHERE salary > 5) FROM employees"):
        assert judged(sql, aggregates="sum").outcome == REFUSED, sql


@pytest.mark.parametrize("sql", [
    "SELECT id, upper(ssn) FROM customers", "SELECT ssn || '-' || name FROM customers",
    "SELECT max(ssn) FROM customers",
    "SELECT substr(c.ssn, 1, 3) AS head FROM customers c WHERE id = 1", "SELECT coalesce(email, 'none') FROM customers",
    "SELECT count(DISTINCT ssn) FROM customers", "UPDATE customers SET note = 'x' RETURNING lower(email)",
    "SELECT ssn = 'guess' FROM customers", "SELECT left(ssn::text, 2) FROM customers",
])
def test_derived_redact_hides_what_cannot_fail(sql: str) -> None:
    (one,) = judged(sql, derived="redact").statements
    assert one.redact, one.reason
    assert (judged(sql).outcome, judged(sql).knob) == (REFUSED, "derived")


@pytest.mark.parametrize("sql", [
    "SELECT ssn::int FROM customers", "SELECT 1 / length(ssn) FROM customers",
    "SELECT replace(ssn, '1', 'x') FROM customers",
    "SELECT DISTINCT upper(ssn) FROM customers", "SELECT upper(ssn) FROM customers GROUP BY 1",
    "SELECT upper(ssn) AS u FROM customers ORDER BY u", "SELECT upper(ssn) FROM customers UNION SELECT 'a'",
    "SELECT u FROM (SELECT upper(ssn) AS u FROM customers) q", "DECLARE c CURSOR FOR SELECT upper(ssn) FROM customers",
    "PREPARE p AS SELECT upper(ssn) FROM customers", "EXPLAIN SELECT upper(ssn) FROM customers",
    "SELECT repeat(ssn, 3) FROM customers", "SELECT string_agg(ssn, '') FROM customers",
    "SELECT add_vat(ssn) FROM customers",
    "SELECT left(ssn, length(ssn)) FROM customers",
    "SELECT salary || 'x' FROM (SELECT salary FROM employees) e WHERE upper(e.salary) = ''",
    "SELECT CASE WHEN ssn > 'a' THEN 1 / 0 END FROM customers",
    "SELECT upper(x) FROM (SELECT ssn AS x FROM customers) q",
    "SELECT to_json(c) FROM customers c", "INSERT INTO orders SELECT upper(ssn) FROM customers",
    "SELECT upper(ssn) FILTER (WHERE true) FROM customers", "SELECT date_trunc(ssn, now()) FROM customers, orders",
])
def test_derived_redact_leaves_the_rest_refused(sql: str) -> None:
    found = judged(sql, derived="redact")
    assert found.outcome == REFUSED or not any(one.redact for one in found.statements), found
    assert found.outcome == REFUSED


def test_the_strictest_of_what_a_name_may_mean() -> None:
    assert strictest([]) == Handling(derived="deny", control="none", aggregates="none")
    assert strictest([SAFE, Handling(derived="redact", control="any", aggregates="sum")]) == SAFE
    # Salaries may be summed, and only they; under a name of the statement's own nobody can tell.
    ways = {(101, 3): Handling(aggregates="sum", control="any")}
    closure = Closure(CATALOG, MASKS, Knobs(), ways)
    assert judge(parse("SELECT sum(salary) FROM employees WHERE salary > 1"), closure).outcome != REFUSED
    for sql in ("SELECT sum(ssn) FROM employees", "SELECT sum(s) FROM (SELECT salary AS s FROM employees) q",
                "SELECT name FROM (SELECT name, ssn AS salary FROM employees) q WHERE salary LIKE '0%'",
                "SELECT DISTINCT salary, ssn FROM employees"):
        assert judge(parse(sql), closure).outcome == REFUSED, sql


def test_explain() -> None:
    sql = "EXPLAIN SELECT ssn FROM customers"
    assert judged(sql).outcome != REFUSED
    found = judged(sql, Knobs(explain="deny"))
    assert (found.outcome, found.knob) == (REFUSED, "explain")
    assert judged("EXPLAIN SELECT * FROM orders", Knobs(explain="deny")).outcome != REFUSED


@pytest.mark.parametrize(("sql", "knob"), [
    ("DO $$ BEGIN END $$", "opaque"), ("SELECT get_ssn(1)", "opaque"), ("CALL evil_proc()", "opaque"),
    ("SELECT * FROM customer_list", "opaque"), ("SELECT * FROM remote_customers", "opaque"),
    ("SELECT query_to_xml('x', true, true, '')", "opaque"), ("SELECT 'a' <<< 'b'", "opaque"),
    ("INSERT INTO inbox VALUES (1)", "opaque"), ("INSERT INTO orders SELECT id, ssn FROM customers", "sink"),
    ("CREATE TABLE t AS SELECT ssn FROM customers", "sink"), ("UPDATE customers SET note = ssn", "sink"),
    ("CREATE VIEW v AS SELECT ssn FROM customers", "ddl"),
    ("CREATE VIEW v AS SELECT upper(ssn) FROM customers", "ddl"),
    ("INSERT INTO orders SELECT 1, upper(ssn) FROM customers", "sink"),
    ("INSERT INTO orders SELECT 1, upper(ssn) FROM customers RETURNING id", "derived"),
    ("SELECT upper(ssn) AS x INTO t FROM customers", "sink"), ("ALTER TABLE customers ALTER ssn TYPE int", "ddl"),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ddl"),
    ("CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION f()", "ddl"), ("ALTER FUNCTION f() RENAME TO g", "ddl"),
    ("SELECT * FROM pg_stats", ""), ("SET client_encoding = 'SJIS'", ""), ("COPY customers TO '/tmp/x'", ""),
    ("SELECT upper(ssn) FROM customers", "derived"), ("LOAD 'x'", ""),
])
def test_refusals_name_their_knob(sql: str, knob: str) -> None:
    found = judged(sql)
    assert (found.outcome, found.knob) == (REFUSED, knob)
