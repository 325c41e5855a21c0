SELECT abalance FROM pgbench_accounts WHERE aid = 4711
;;
UPDATE pgbench_accounts SET abalance = abalance + -123 WHERE aid = 5
;;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, -4, CURRENT_TIMESTAMP)
;;
SELECT c.id, c.name AS "Customer's ""name""", o.total FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.email = 'ann@example.com' AND o.placed >= '2026-01-01'::date AND o.total BETWEEN 10 AND 99.95 ORDER BY 3 DESC LIMIT 20 OFFSET 40
;;
SELECT * FROM t WHERE a IN (1, 2, -3) AND b NOT IN ('x', 'y''z') -- 5 'of' them
;;
/* report 7 'a' /* nested "x" */ */ SELECT count(*), sum(case when x > 5 then 1 else 0 end) FROM t WHERE d = date '2026-02-03' GROUP BY 1 HAVING count(*) > 1
;;
DELETE FROM sessions WHERE expires < now() - interval '2 days' AND id = ANY ('{1,2,3}') RETURNING id, 'gone'
;;
WITH recent AS (SELECT id FROM logs WHERE level = 'error' AND at > '2026-01-01 00:00:00' LIMIT 100), n AS (UPDATE seen SET k = k + 1 WHERE k < 10 RETURNING k) SELECT r.id, n.k FROM recent r, n WHERE r.id <> 17
;;
INSERT INTO t (a, b, c) VALUES (1, 'one', 1.5), (2, 'two', -2.25), (3, NULL, DEFAULT) ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE t.a > 0
;;
SELECT a.b.c, "x".1 FROM t
;;
SELECT x::int4, cast('5' as numeric(10, 2)), '{"a": 1}'::jsonb -> 'a', arr[1:2], t.* FROM t WHERE doc @> '{"k": "v"}' AND x % 2 = 0 AND y ~ '^a.*$'
;;
SELECT 'multi'
  'line' AS s, $1::int + 5 FROM t WHERE k = $2 AND name LIKE 'a%' AND z IS NOT DISTINCT FROM 'q'
;;
BEGIN; UPDATE accounts SET balance = balance - 100.00 WHERE name = 'Alice'; UPDATE accounts SET balance = balance + 100.00 WHERE name = 'Bob'; COMMIT
;;
SELECT e.ename FROM "Émile" e WHERE e."größe" = 180 AND e.ort = 'Zürich' AND e.n > 1234567890 AND e.m < 12345678901234567890
;;
SELECT id FROM t WHERE id = 1 UNION ALL SELECT id FROM u WHERE id = 2 OFFSET 3 ROWS FETCH FIRST 4 ROWS ONLY
;;
MERGE INTO t USING s ON t.id = s.id WHEN MATCHED AND t.a > 5 THEN UPDATE SET a = 6 WHEN NOT MATCHED THEN INSERT VALUES (s.id, 7)
;;
SELECT generate_series(1, 10), now() at time zone 'UTC', extract(year from at), overlay('abc' placing 'x' from 2 for 1) FROM t WHERE at = timestamp '2026-01-01' AND b = '1' FOR UPDATE
