"""Which values of a statement feed masked columns: every one that does, and few that do not."""

from __future__ import annotations

import pytest
from pglast.parser import scan

from hoopfast import limits
from hoopfast.analysis.feeds import Sensitive
from hoopfast.analysis.parse import parse
from hoopfast.analysis.private import EVERYTHING, LITERALS_MAX, protect
from hoopfast.model import PROTECT_ALL, Protect
from tests.analysis.shop import CATALOG

COLUMNS = (
    ("public", "customers", "ssn"), ("public", "customers", "email"), ("public", "employees", "salary"),
    ("public", "employees", "ssn"), ("public", "customers_2024", "ssn"),
)
SHOP = Sensitive(CATALOG, COLUMNS)
BLIND = Sensitive(None, COLUMNS)                # the catalog cannot be read


def plan(sql: str, sensitive: Sensitive = SHOP) -> Protect:
    return protect(sql, parse(sql), sensitive)


def shown(sql: str, found: Protect) -> list[str]:
    """The texts of the protected constants; a sign counts with its number."""
    tokens = scan(sql)
    if found.literals == PROTECT_ALL:
        return ["everything"]
    texts = []
    for ordinal in found.literals:
        assert isinstance(ordinal, int)
        last = ordinal + (tokens[ordinal].name == "ASCII_45")
        texts.append(sql[tokens[ordinal].start : tokens[last].end + 1])
    return texts


@pytest.mark.parametrize(("sql", "protected"), [
    ("INSERT INTO customers (id, ssn) VALUES (1, 'S'), (2, 'T')", ["'S'", "'T'"]),
    ("INSERT INTO customers VALUES (1, 'n', 'S', 'E', 'c')", ["'S'", "'E'"]),
    ("INSERT INTO customers VALUES (1, 'n', 'S', 'E', 'c', 'x', 'new column')", ["'S'", "'E'", "'new column'"]),
    ("INSERT INTO customers (id, ssn) SELECT 1, 'S'", ["'S'"]),
    ("INSERT INTO customers (id, ssn) SELECT 1, v.s FROM (SELECT 'S' AS s, 'n' AS n) v", ["'S'"]),
    ("INSERT INTO customers (id, ssn) SELECT * FROM (VALUES (1, 'S')) v", ["1", "'S'"]),
    ("INSERT INTO customers (id, ssn) SELECT 1, 'S' UNION ALL SELECT 2, 'T'", ["'S'", "'T'"]),
    ("INSERT INTO customers (id, ssn) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET ssn = 'S', name = 'n'", ["'S'"]),
    ("INSERT INTO orders (id, note) VALUES (1, 'plain')", []),
    ("UPDATE customers SET ssn = 'S', name = 'n' WHERE id = 5", ["'S'"]),
    ("UPDATE customers SET (name, ssn) = ('n', 'S') WHERE id = 5", ["'S'"]),
    ("UPDATE customers SET (name, ssn) = (SELECT 'n', 'S')", ["'n'", "'S'"]),
    ("UPDATE customers SET ssn = upper('S') || 'x' WHERE email LIKE 'E%'", ["'S'", "'x'", "'E%'"]),
    ("UPDATE employees SET salary = -5000.50 WHERE id = -1", ["-5000.50"]),
    ("UPDATE employees SET salary = salary * 1.1 WHERE name = 'n'", ["1.1"]),
    ("UPDATE customers SET email = N'E', ssn = E'S\\n', name = $$n$$", ["N'E'"[1:], "E'S\\n'"]),
    ("UPDATE customers SET ssn = NULL WHERE id = 1", []),
    ("WITH v(x) AS (VALUES ('S')) UPDATE customers SET ssn = v.x FROM v WHERE id = 4", ["'S'"]),
    ("WITH d AS (DELETE FROM customers WHERE ssn = 'S' RETURNING id) SELECT 'plain' FROM d", ["'S'"]),
    ("DELETE FROM customers WHERE ssn IN ('S', 'T') AND city = 'c'", ["'S'", "'T'"]),
    ("SELECT id FROM customers WHERE ssn BETWEEN 'S' AND 'T' OR id = 4", ["'S'", "'T'"]),
    ("SELECT id FROM customers WHERE 'S' = ssn AND city LIKE 'c%' LIMIT 5", ["'S'"]),
    ("SELECT id FROM customers WHERE (city, ssn) = ('c', 'S')", ["'c'", "'S'"]),
    ("SELECT id FROM customers c WHERE to_jsonb(c) ->> 'ssn' = 'S'", ["'ssn'", "'S'"]),
    ("SELECT id FROM customers c WHERE c.* IS DISTINCT FROM ROW(1, 'S')", ["1", "'S'"]),
    ("SELECT ssn = 'S', 'plain' FROM customers", ["'S'"]),
    ("SELECT count(*) FILTER (WHERE ssn = 'S') FROM customers GROUP BY date_trunc('day', city)", ["'S'"]),
    ("SELECT * FROM (SELECT ssn AS t FROM customers) x WHERE t = 'S' AND 1 = 1", ["'S'"]),
    ("SELECT * FROM (SELECT lower(ssn) FROM customers) x WHERE lower = 'S'", ["'S'"]),
    ("SELECT * FROM customers AS c(a, b, d) WHERE d = 'S'", ["'S'"]),
    ("SELECT * FROM customers c JOIN (VALUES ('S')) v(s) ON c.ssn = v.s", ["'S'"]),
    ("SELECT * FROM customers JOIN (SELECT 'S' AS ssn, 'n' AS n) v USING (ssn)", ["'S'"]),
    ("SELECT * FROM customers JOIN unnest(ARRAY['S', 'T']) u ON u = ssn", ["'S'", "'T'"]),
    ("SELECT * FROM customers JOIN generate_series(1, 5) g ON g = id", []),
    ("SELECT * FROM customers, json_each('{\"S\": 1}') WHERE ssn = key", ["'{\"S\": 1}'"]),
    ("SELECT ssn FROM customers INTERSECT SELECT 'S'", ["'S'"]),
    ("SELECT id FROM customers WHERE ssn = ANY ('{S,T}')", ["'{S,T}'"]),
    ("SELECT id FROM orders WHERE customer IN (SELECT id FROM customers WHERE ssn = 'S') AND n = 3", ["'S'"]),
    ("SELECT o.ssn FROM orders o, customers c WHERE o.ssn = 'plain' AND c.id = o.id", []),
    ("MERGE INTO customers c USING orders s ON c.id = s.id WHEN MATCHED AND s.x = 'n' THEN UPDATE SET ssn = 'S'",
     ["'S'"]),
    ("MERGE INTO customers c USING orders s ON c.id = s.id WHEN NOT MATCHED THEN INSERT (id, ssn) VALUES (1, 'T')",
     ["'T'"]),
    ("EXPLAIN SELECT id FROM customers WHERE ssn = 'S'", ["'S'"]),
    ("PREPARE p AS SELECT id FROM customers WHERE ssn = 'S' AND id = 4", ["'S'"]),
    ("COPY (SELECT id FROM customers WHERE ssn = 'S') TO STDOUT WITH (FORMAT csv)", ["'S'"]),
    ("COPY customers FROM STDIN WITH (DELIMITER ',')", []),
    ("COPY customers FROM STDIN WHERE ssn <> 'S'", ["'S'"]),
    ("CREATE TABLE t AS SELECT id FROM customers WHERE ssn = 'S'", ["'S'"]),
    ("SELECT get_ssn('S'), upper('plain')", ["'S'"]),
    ("SELECT id FROM orders WHERE x <<< 'S'", ["'S'"]),
    ("SELECT id FROM brand_new WHERE ssn = 'S' AND id = 4", ["'S'"]),
    ("SELECT id FROM remote_customers WHERE ssn = 'S'", ["'S'"]),
    ("SELECT 1; SELECT id FROM customers WHERE ssn = 'ü'; SELECT 'plain', ssn = 'S' FROM customers", ["'ü'", "'S'"]),
    ("SELECT id, note FROM orders WHERE id = 5 AND note = 'plain'", []),
    ("SELECT ssn::varchar(10) = 'S' FROM customers", ["'S'"]),
])
def test_literals(sql: str, protected: list[str]) -> None:
    assert shown(sql, plan(sql)) == protected


@pytest.mark.parametrize("sql", [
    "EXECUTE p('S')",
    "DO $$ BEGIN UPDATE customers SET ssn = 'S'; END $$",
    "DO $$ BEGIN EXECUTE 'UPDATE cust' || 'omers SET x = 1'; END $$",
    "DO 'BEGIN PERFORM get_ssn(1); END'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ DELETE FROM employees WHERE id = 1; SELECT 1 $$",
    "ALTER TABLE customers ALTER ssn SET DEFAULT 'S'",
    "SELECT * FROM customer_list WHERE number = 'S'",
    "CALL evil_proc('S')",
])
def test_in_doubt_everything(sql: str) -> None:
    found = plan(sql)
    assert found.literals == found.parameters == PROTECT_ALL
    assert found.error
    assert found.results


@pytest.mark.parametrize("sql", [
    "BEGIN", "SET search_path = 'public'", "SHOW server_version", "DO $$ BEGIN PERFORM 1; END $$", "LISTEN x",
    "SELECT set_config('app.user', 'ana', false)", "CREATE TABLE plain (id int DEFAULT 5)", "VALUES ('plain')",
    "COMMENT ON TABLE orders IS 'what people don''t want'",
])
def test_nothing_to_protect(sql: str) -> None:
    found = plan(sql)
    assert found.literals == found.parameters == ()
    assert not found.results


def test_parameters() -> None:
    sql = "UPDATE customers SET ssn = $1, name = $2, email = lower($3) WHERE id = $4 AND email = ANY ($5)"
    assert plan(sql).parameters == (1, 3, 5)


def test_results_that_may_show_masked_columns() -> None:
    assert plan("SELECT * FROM customers").results
    assert plan("SELECT c FROM customers c").results
    assert plan("UPDATE customers SET name = 'n' RETURNING ssn").results
    assert plan("FETCH 5 FROM c").results
    assert plan("SELECT * FROM pg_stats").results
    assert not plan("SELECT id, city FROM customers").results
    assert not plan("SELECT count(*) FROM customers").results


def test_errors_that_may_show_values() -> None:
    assert plan("INSERT INTO customers SELECT * FROM staging").error
    assert plan("COMMIT").error
    assert not plan("SELECT 1 / 0").error


def test_without_a_catalog_names_suffice() -> None:
    written = "INSERT INTO customers VALUES (1, 'S')"
    assert shown(written, plan(written, BLIND)) == ["1", "'S'"]
    through_a_view = "SELECT id FROM customer_list WHERE ssn = 'S' AND id = 4"
    assert shown(through_a_view, plan(through_a_view, BLIND)) == ["'S'"]


def test_too_many_literals_are_all_protected() -> None:
    rows = ",".join(f"('{n}')" for n in range(LITERALS_MAX + 1))
    assert plan(f"INSERT INTO customers (ssn) VALUES {rows}").literals == PROTECT_ALL


def test_what_cannot_be_walked_is_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    sql = "INSERT INTO customers (id) VALUES (1), (2), (3), (4)"
    assert plan(sql).literals == ()
    monkeypatch.setattr(limits, "ANALYSE_MAX_NODES", 10)
    assert plan(sql) == EVERYTHING


def test_long_texts_are_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANALYSE_MAX_BYTES", 30)
    assert plan("INSERT INTO customers (id) VALUES (1)").literals == PROTECT_ALL
    assert plan("INSERT INTO orders (id) VALUES (1)").literals == ()
