"""Tables, columns, functions and schemas that a statement names, wherever the names hide."""

from __future__ import annotations

import pytest

from hoopfast.analysis.classify import facts
from hoopfast.analysis.parse import parse
from hoopfast.model import StatementFacts


def one(sql: str) -> StatementFacts:
    (found,) = facts(parse(sql))
    return found


@pytest.mark.parametrize(("sql", "tables"), [
    ("WITH w AS (SELECT * FROM s.a) SELECT * FROM w JOIN b ON true", {"s.a", "b"}),
    # The target of a write is a table, whatever a CTE is called.
    ("WITH orders AS (SELECT 1) DELETE FROM orders", {"orders"}),
    ("WITH orders AS (SELECT 1) UPDATE orders SET a = 1", {"orders"}),
    # A CTE does not see itself without RECURSIVE, and is not seen outside of its query.
    ("WITH orders AS (SELECT * FROM orders) SELECT * FROM orders", {"orders"}),
    ("WITH RECURSIVE r AS (SELECT 1 UNION SELECT * FROM r) SELECT * FROM r", set()),
    ("WITH a AS (WITH orders AS (SELECT 1) SELECT 1) SELECT * FROM orders", {"orders"}),
    ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", {"b"}),
    ("WITH orders AS (SELECT 1) SELECT * FROM public.orders", {"public.orders"}),
    ("SELECT * FROM orders o FOR UPDATE OF o", {"orders"}),
    ("SELECT 1 INTO x FROM y", {"x", "y"}),
    ("DROP TABLE s.a, b", {"s.a", "b"}),
    ("EXPLAIN DELETE FROM t", {"t"}),
    ("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE", {"t", "s"}),
    ("COPY t TO STDOUT", {"t"}),
])
def test_tables(sql: str, tables: set[str]) -> None:
    assert set(one(sql).tables) == tables


@pytest.mark.parametrize(("sql", "columns"), [
    ("SELECT ssn FROM customers", {("", "ssn")}),
    ("SELECT c.ssn FROM customers c", {("customers", "ssn")}),
    ("SELECT public.customers.ssn FROM public.customers", {("public.customers", "ssn")}),
    ("SELECT * FROM customers JOIN s.o ON true", {("customers", "*"), ("s.o", "*")}),
    ("SELECT * FROM (SELECT id FROM customers) x", {("", "id")}),
    ("SELECT x.* FROM (SELECT id FROM customers) x", {("", "id")}),
    ("SELECT c.* FROM customers c, orders", {("customers", "*")}),
    ("SELECT count(*) FROM customers", set()),
    # Whole rows.
    ("SELECT customers FROM customers", {("customers", "*"), ("", "customers")}),
    ("SELECT (c).ssn FROM customers c", {("customers", "*"), ("", "c")}),
    ("SELECT to_jsonb(c.*) FROM customers c", {("customers", "*")}),
    ("SELECT c.to_jsonb FROM customers c", {("customers", "*"), ("customers", "to_jsonb")}),
    ("SELECT to_jsonb(j) FROM (a JOIN b ON true) AS j", {("a", "*"), ("b", "*"), ("", "j")}),
    ("SELECT x FROM (a JOIN b ON true) AS j (w, x)", {("a", "*"), ("b", "*"), ("", "x")}),
    ("UPDATE t SET a = 1 RETURNING old", {("t", "a"), ("t", "*"), ("", "old")}),
    ("UPDATE t SET a = 1 RETURNING WITH (NEW AS n) n", {("t", "a"), ("t", "*"), ("", "n")}),
    ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = to_json(excluded)",
     {("t", "a"), ("t", "*"), ("", "excluded")}),
    # Other names for columns.
    ("SELECT b FROM customers AS c(a, b)", {("customers", "*"), ("", "b")}),
    ("SELECT 1 FROM a JOIN b USING (ssn)", {("", "ssn")}),
    ("SELECT 1 FROM a NATURAL JOIN b", {("", "*")}),
    # Writes.
    ("INSERT INTO t (a) VALUES (1)", {("t", "a")}),
    ("INSERT INTO t VALUES (1)", {("t", "*")}),
    ("INSERT INTO t (a) VALUES (1) ON CONFLICT (k) DO UPDATE SET b = EXCLUDED.c",
     {("t", "a"), ("t", "k"), ("t", "b"), ("t", "c")}),
    ("UPDATE t SET a = 1 WHERE t.b = 2", {("t", "a"), ("t", "b")}),
    ("UPDATE t SET a = 1 FROM u RETURNING *", {("t", "a"), ("t", "*"), ("u", "*")}),
    ("UPDATE t SET (a, b) = (1, 2)", {("t", "a"), ("t", "b")}),
    ("DELETE FROM t WHERE id = 1", {("t", "*"), ("", "id")}),
    ("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET a = 1",
     {("t", "id"), ("s", "id"), ("t", "a")}),
    ("COPY t (a) TO STDOUT", {("t", "a")}),
    ("COPY t FROM STDIN", {("t", "*")}),
    ("COPY (SELECT a FROM t) TO STDOUT", {("", "a")}),
    # What is no query has no columns of its own to name: it touches all.
    ("DROP TABLE t", {("t", "*")}),
    ("ALTER TABLE t DROP COLUMN a", {("t", "*")}),
    ("CREATE INDEX ON t (a)", {("t", "*")}),
    ("CREATE VIEW v AS SELECT a FROM t", {("v", "*"), ("", "a")}),
])
def test_columns(sql: str, columns: set[tuple[str, str]]) -> None:
    assert set(one(sql).touches) == columns


def test_functions_by_every_way_to_call_one() -> None:
    found = one("SELECT count(*), app.f(1), c.g, (c).h FROM gen(2) c")
    assert set(found.functions) == {"count", "app.f", "gen"}
    assert {"g", "h"} <= set(found.attributes)
    assert one("CALL app.p(1)").functions == ("app.p",)
    assert one("CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION app.f()").functions == ("app.f",)
    assert one("DROP FUNCTION app.f(int)").functions == ("app.f",)


@pytest.mark.parametrize("sql", [
    "SELECT payroll.f(1)", "SELECT 1::payroll.money", "CREATE SCHEMA payroll", "DROP SCHEMA payroll",
    "ALTER SCHEMA payroll RENAME TO x", "ALTER TABLE t SET SCHEMA payroll", "GRANT USAGE ON SCHEMA payroll TO r",
    "GRANT SELECT ON ALL TABLES IN SCHEMA payroll TO r", "DROP FUNCTION payroll.f", "DROP TYPE payroll.t",
    "CREATE FUNCTION payroll.f() RETURNS int LANGUAGE sql AS 'select 1'", "REINDEX SCHEMA payroll",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA payroll GRANT SELECT ON TABLES TO r", "CREATE EXTENSION e SCHEMA payroll",
    "CREATE TYPE payroll.e AS ENUM ('a')", "COMMENT ON SCHEMA payroll IS 'x'",
])
def test_schemas(sql: str) -> None:
    assert "payroll" in one(sql).schemas


def test_the_grammars_own_schema_is_nobodys_choice() -> None:
    assert not one("SELECT extract(year FROM now())::int").schemas
