"""What a statement is: kinds wherever they hide, tables, filters that are none."""

from __future__ import annotations

import pytest

from hoopfast.analysis.classify import facts
from hoopfast.analysis.parse import parse
from hoopfast.model import StatementFacts
from hoopfast.policy.kinds import KINDS


def one(sql: str) -> StatementFacts:
    (found,) = facts(parse(sql))
    return found


@pytest.mark.parametrize(("sql", "kinds"), [
    ("SELECT 1", ("select",)),
    ("VALUES (1)", ("values",)),
    ("TABLE t", ("select",)),
    ("DROP TABLE a", ("drop_table", "drop")),
    ("DROP SCHEMA a CASCADE", ("drop_schema", "drop")),
    ("DROP MATERIALIZED VIEW a", ("drop_view", "drop")),
    ("DROP OWNED BY a", ("drop_owned", "drop")),
    ("DROP DATABASE a", ("drop_database", "drop")),
    ("DROP INDEX a", ("drop_other", "drop")),
    ("TRUNCATE a", ("truncate",)),
    ("WITH d AS (DELETE FROM t WHERE id = 1 RETURNING *) SELECT * FROM d", ("select", "delete")),
    ("EXPLAIN ANALYZE DELETE FROM t", ("explain", "delete")),
    ("EXPLAIN DELETE FROM t", ("explain",)),
    ("EXPLAIN (ANALYZE off) DELETE FROM t", ("explain",)),
    ("PREPARE p AS UPDATE t SET a = 1", ("prepare", "update")),
    ("COPY (DELETE FROM t RETURNING *) TO STDOUT", ("copy_to", "delete")),
    ("COPY t FROM STDIN", ("copy_from",)),
    ("CREATE TABLE a AS SELECT 1", ("create_table", "create", "select")),
    ("SELECT 1 INTO a", ("select", "create_table", "create")),
    ("CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM u", ("create_other", "create", "delete")),
    ("CREATE SCHEMA s CREATE TABLE t (a int)", ("create_schema", "create", "create_table")),
    ("ALTER TABLE t RENAME TO u", ("alter_table", "alter")),
    ("ALTER ROLE r SUPERUSER", ("alter_role", "alter")),
    ("ALTER ROLE r RENAME TO s", ("alter_role", "alter")),
    ("GRANT a TO b", ("grant",)),
    ("REVOKE SELECT ON t FROM b", ("revoke",)),
    ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1", ("insert", "update")),
    ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", ("merge", "delete")),
    ("DO 'x'", ("do",)),
    ("CALL p()", ("call",)),
    ("MOVE 1 FROM c", ("move",)),
    ("FETCH 1 FROM c", ("fetch",)),
    ("DECLARE c CURSOR FOR SELECT 1", ("declare", "select")),
    ("ANALYZE t", ("analyze",)),
    ("BEGIN", ("begin",)),
    ("ROLLBACK TO a", ("rollback",)),
    ("RESET ALL", ("reset",)),
    ("CREATE USER u", ("create_role", "create")),
    ("IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c", ("import_foreign_schema",)),
])
def test_kinds(sql: str, kinds: tuple[str, ...]) -> None:
    assert one(sql).kinds == kinds
    assert KINDS.issuperset(kinds)


@pytest.mark.parametrize("sql", [
    "DELETE FROM t",
    "DELETE FROM t WHERE true",
    "DELETE FROM t WHERE 1 = 1",
    "DELETE FROM t WHERE id = id",
    "DELETE FROM t WHERE NOT (1 > 2)",
    "DELETE FROM t WHERE $1 = 1",
    "DELETE FROM t WHERE id = 1 OR true",
    "DELETE FROM t WHERE id IS NOT NULL",
    "DELETE FROM t WHERE id IN (SELECT id FROM t)",
    "DELETE FROM t WHERE EXISTS (SELECT 1 FROM u)",
    "DELETE FROM t WHERE random() < 2",
    "DELETE FROM t USING u",
    "DELETE FROM t USING u WHERE u.a = 1",
    "DELETE FROM t USING t t2 WHERE t.id = t2.id",
    "UPDATE t SET a = 1 FROM u",
    "UPDATE t SET a = 1 FROM (SELECT id FROM t) q WHERE q.id = t.id",
    "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE",
    "MERGE INTO t USING s ON t.id = s.id WHEN NOT MATCHED BY SOURCE THEN DELETE",
    "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
    "EXPLAIN ANALYZE UPDATE t SET a = 1",
    "PREPARE p AS DELETE FROM t",
    "COPY (DELETE FROM t RETURNING *) TO STDOUT",
    "INSERT INTO t SELECT * FROM t ON CONFLICT (id) DO UPDATE SET a = 1",
])
def test_unfiltered(sql: str) -> None:
    assert one(sql).unfiltered


@pytest.mark.parametrize("sql", [
    "DELETE FROM t WHERE id = 1",
    "DELETE FROM t AS x WHERE x.id = $1",
    "DELETE FROM t WHERE id = 1 AND true",
    "DELETE FROM t WHERE id = 1 OR id = 2",
    "DELETE FROM t WHERE id > 5 AND note LIKE 'x%'",
    "DELETE FROM t WHERE deleted_at IS NULL",
    "DELETE FROM t WHERE id IN (1, 2)",
    "DELETE FROM t WHERE id = ANY($1)",
    "DELETE FROM t WHERE id IN (SELECT t_id FROM u)",
    "DELETE FROM t WHERE id IN (SELECT id FROM t WHERE old < 5)",
    "DELETE FROM t USING u WHERE u.id = t.id",
    "DELETE FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.t = t.id)",
    "DELETE FROM t WHERE active",
    "UPDATE t SET a = 1 WHERE CURRENT OF c",
    "UPDATE t SET a = u.a FROM u WHERE t.id = u.id",
    "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET a = 1",
    "EXPLAIN DELETE FROM t",
    "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1",
    "SELECT * FROM t",
])
def test_filtered(sql: str) -> None:
    assert not one(sql).unfiltered


def test_tables_leave_out_ctes_and_keep_schemas() -> None:
    assert set(one("WITH w AS (SELECT * FROM s.a) SELECT * FROM w JOIN b ON true").tables) == {"s.a", "b"}
    assert one("DROP TABLE s.a, b").tables == ("s.a", "b")
    assert set(one("TRUNCATE a, s.b").tables) == {"a", "s.b"}
    assert one('INSERT INTO "Weird Name" VALUES (1)').tables == ("Weird Name",)


def test_every_statement_of_a_string() -> None:
    assert [f.kinds[0] for f in facts(parse("SELECT 1; ; DROP TABLE x; COMMIT"))] == ["select", "drop_table", "commit"]


def test_code_is_opaque() -> None:
    assert one("DO 'x'").opaque
    assert one("CALL p()").opaque
    assert not one("SELECT f()").opaque


@pytest.mark.parametrize(("sql", "columns"), [
    ("SELECT ssn FROM public.customers WHERE id = $1", {"public.customers.ssn", "public.customers.id"}),
    ("SELECT * FROM customers", {"customers.*"}),
    ("TABLE customers", {"customers.*"}),
    ("SELECT c.ssn FROM customers c JOIN orders o ON o.customer = c.id", {
        "customers.ssn", "customers.id", "orders.customer"}),
    ("SELECT ssn FROM customers, orders", {"customers.ssn", "orders.ssn"}),
    ("SELECT o.* FROM customers c, orders o", {"orders.*"}),
    ("SELECT public.customers.ssn FROM public.customers", {"public.customers.ssn"}),
    ("SELECT c FROM customers c", {"customers.*", "customers.c"}),
    ("SELECT row_to_json(customers) FROM customers", {"customers.*", "customers.customers"}),
    ("SELECT (c).ssn FROM customers c", {"customers.*", "customers.c"}),
    ("SELECT c.a FROM customers AS c (a, b)", {"customers.*", "customers.a"}),
    ("SELECT 1 FROM a JOIN b USING (ssn)", {"a.ssn", "b.ssn"}),
    ("WITH customers AS (SELECT * FROM customers) SELECT ssn FROM customers", {"customers.*", "customers.ssn"}),
    ("SELECT (SELECT ssn FROM customers)", {"customers.ssn"}),
    ("UPDATE customers SET name = 'x' WHERE ssn = 'y' RETURNING card", {"customers.ssn", "customers.card"}),
    ("INSERT INTO customers (ssn) VALUES ('x')", set()),
    ("INSERT INTO copies SELECT ssn FROM customers", {"copies.ssn", "customers.ssn"}),
    ("COPY customers (ssn, id) TO STDOUT", {"customers.ssn", "customers.id"}),
    ("COPY customers TO STDOUT", {"customers.*"}),
    ("COPY customers FROM STDIN", set()),
    ("COPY (SELECT ssn FROM customers) TO STDOUT", {"customers.ssn"}),
    ("SELECT 1", set()),
    ("SELECT " + ", ".join(f"c{n}" for n in range(300)) + " FROM t", {"t.*"}),
])
def test_columns(sql: str, columns: set[str]) -> None:
    assert set(one(sql).columns) == columns
