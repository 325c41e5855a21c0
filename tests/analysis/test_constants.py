"""Which constants may differ: by examples, and by judging statements again with other values."""

from __future__ import annotations

import pytest

from hoopfast.analysis.constants import free_constants
from hoopfast.analysis.parse import parse


def marked(sql: str) -> str:
    """The text with a # before each free constant."""
    raw = sql.encode()
    for place in reversed(free_constants(sql, parse(sql))):
        raw = raw[:place] + b"#" + raw[place:]
    return raw.decode()


@pytest.mark.parametrize("text", [
    "SELECT a FROM t WHERE id = #5",
    "SELECT a FROM t WHERE t.id = #5 AND name <> #'x' OR #7 < age",
    "SELECT a FROM t WHERE id = -#5 AND b + #1 = c",
    "SELECT a FROM t WHERE id IN (#1, #2, -#3, f(4)) AND d BETWEEN #'a' AND #'b' AND e NOT BETWEEN #1.5 AND c",
    "SELECT a FROM t WHERE name LIKE #'x%' AND name ILIKE #'é%' AND n IS DISTINCT FROM #3",
    "SELECT a FROM t WHERE id = ANY (#'{1,2}') AND k = ANY (ARRAY[#1, #2]) AND l = ALL (ARRAY[1])",
    "SELECT a FROM t WHERE day = #'2026-01-01'::date AND day > date #'2026-01-01' AND z = #'1'::pg_catalog.int4",
    "SELECT a FROM t ORDER BY 1 LIMIT #10 OFFSET #20",
    "INSERT INTO t (a, b) VALUES (#1, #'x'), (#2, NULL), (f(3), DEFAULT) ON CONFLICT (a) DO UPDATE SET b = 'y'",
    "UPDATE t SET a = #1, b = b + #5, c = f(6), (d, e) = (7, 8) WHERE id = #9 RETURNING 10",
    "WITH x AS (DELETE FROM t WHERE id = #1 RETURNING *) SELECT 2, x.* FROM x WHERE id > #3",
    "BEGIN; UPDATE t SET a = #1 WHERE id = #2; COMMIT",
    "SELECT (SELECT max(a) FROM u WHERE u.id = #4) FROM t",
])
def test_values_that_columns_are_compared_with_or_set_to_are_free(text: str) -> None:
    assert marked(text.replace("#", "")) == text


@pytest.mark.parametrize("sql", [
    "SELECT 1, 'x', f(2) FROM t",
    "SELECT a FROM t WHERE 1 = 1",                              # restricts nothing, which rules ask
    "SELECT a FROM t WHERE set_config('x', 'y', false) = 'y'",
    "SELECT a FROM t WHERE doc -> 'a' = '1' AND doc @> '{}' AND id = abs(5)",
    "SELECT a FROM t WHERE what = 'secrets'::regclass AND v = '1'::hidden.int4",
    "SELECT a FROM t GROUP BY 1 ORDER BY 1",
    "SELECT a FROM t WHERE ok = true AND b IS NOT NULL AND c = B'101'",
    "SELECT * FROM t TABLESAMPLE system (10)",
    "VALUES (1, 'x')",
    "SET search_path = 'a'",
    "EXPLAIN SELECT a FROM t WHERE id = 5",
    "COPY (SELECT a FROM t WHERE id = 5) TO STDOUT",
    "PREPARE p AS SELECT a FROM t WHERE id = 5",
    "CREATE TABLE u AS SELECT a FROM t WHERE id = 5",
    "DECLARE c CURSOR FOR SELECT a FROM t WHERE id = 5",
    "SELECT a FROM t WHERE id = 5; SET search_path = 'a'",
    "",
])
def test_whatever_else_a_constant_says_is_part_of_the_statement(sql: str) -> None:
    assert marked(sql) == sql
