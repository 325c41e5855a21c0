-- greater than
SELECT id FROM people WHERE ssn > 'M';

-- less than number
SELECT id FROM people WHERE salary < 500000000;

-- between
SELECT id FROM people WHERE born BETWEEN '2600-01-01' AND '2800-01-01';

-- not equal
SELECT count(*) FROM people WHERE NOT (ssn < 'M');

-- like prefix
SELECT id FROM people WHERE ssn LIKE 'Q%' OR ssn LIKE 'Z%' OR ssn LIKE 'X%';

-- ilike
SELECT id FROM people WHERE ssn ILIKE '%q%';

-- similar
SELECT id FROM people WHERE ssn SIMILAR TO '(A|B|F|G|H)%';

-- regular expression
SELECT id FROM people WHERE ssn ~ '^[A-K]';

-- not regular expression
SELECT id FROM people WHERE ssn !~ '^[BFGH]';

-- starts with
SELECT id FROM people WHERE starts_with(ssn, 'Q') OR ssn ^@ 'Z' OR ssn ^@ 'V';

-- function
SELECT id FROM people WHERE ascii(ssn) % 2 = 0;

-- function in
SELECT id FROM people WHERE left(ssn, 1) IN ('A', 'B', 'F', 'G', 'H', 'J');

-- any comparison
SELECT id FROM people WHERE ssn > ANY (ARRAY['M']);

-- all comparison
SELECT id FROM people WHERE ssn < ALL (ARRAY['M', 'P']);

-- like any
SELECT id FROM people WHERE ssn LIKE ANY (ARRAY['Q%', 'Z%', 'K%', 'X%']);

-- array overlap
SELECT id FROM people WHERE tags && ARRAY(SELECT tags[1] FROM people WHERE tags[1] > 'M');

-- array length
SELECT id FROM people WHERE tags[1] > 'M';

-- json key
SELECT id FROM people WHERE profile ->> 'key' > 'M';

-- json path
SELECT id FROM people WHERE profile @? '$.key ? (@ like_regex "^[A-M]")';

-- inet containment
SELECT id FROM people WHERE home << '200.0.0.0/5';

-- text search
SELECT id FROM people, letters WHERE ssn_words @@ to_tsquery('simple', lower(c) || ':*') AND c ~ '[A-L]';

-- is null of expression
SELECT id FROM people WHERE nullif(ssn > 'M', true) IS NULL;

-- is true
SELECT id FROM people WHERE (salary > 500000000) IS TRUE;

-- case
SELECT id FROM people WHERE CASE WHEN salary > 500000000 THEN true ELSE false END;

-- coalesce
SELECT id FROM people WHERE coalesce(salary, 0) > 500000000;

-- row comparison
SELECT id FROM people WHERE (ssn, id) > ('M', 0);

-- row in
SELECT id FROM people WHERE (left(ssn, 1), 1) IN (('Q', 1), ('Z', 1), ('V', 1), ('X', 1));

-- column with column
SELECT id FROM people WHERE ssn > card;

-- column with clean column
SELECT id FROM people WHERE ssn > name;

-- column with expression
SELECT id FROM people WHERE ssn > 'M' || '';

-- column with volatile
SELECT id FROM people WHERE salary > 500000000 + 0 * random();

-- overlaps
SELECT id FROM people WHERE (born, born) OVERLAPS (date '2500-01-01', date '2700-01-01');

-- digit table join
SELECT string_agg(c, '' ORDER BY g) FROM people, letters, generate_series(1, 14) g WHERE id = 1 AND substr(ssn, g, 1) = c;

-- digit table on
SELECT c FROM people JOIN letters ON substr(ssn, 1, 1) = c ORDER BY people.id;

-- digit table in
SELECT c FROM letters WHERE c IN (SELECT substr(ssn, 1, 1) FROM people);

-- digit table exists
SELECT c FROM letters WHERE EXISTS (SELECT 1 FROM people WHERE ssn LIKE c || '%') ORDER BY c;

-- digit table equality
SELECT l.c FROM letters l, people p WHERE p.ssn LIKE l.c || '%' ORDER BY p.id;

-- count below
SELECT count(*) FROM generate_series(1, 1000) g WHERE g * 1000000 <= (SELECT salary FROM people WHERE id = 1);

-- series reaches
SELECT max(g) FROM generate_series(1, 1000) g, people WHERE id = 1 AND g * 1000000 <= salary;

-- bit filter
SELECT g FROM generate_series(0, 50) g, people WHERE id = 1 AND (account >> g) & 1 = 1 ORDER BY g;

-- equality with series
SELECT g FROM generate_series(200, 999) g, people WHERE (salary / 1000000)::int = g ORDER BY g;

-- equality with values
SELECT v.x FROM (VALUES ('Q'), ('Z'), ('X'), ('V'), ('J'), ('K'), ('W')) v (x), people WHERE left(ssn, 1) = v.x ORDER BY 1;

-- scalar subquery
SELECT 1 WHERE (SELECT ssn FROM people WHERE id = 1) > 'M';

-- scalar subquery many
SELECT id FROM orders WHERE (SELECT salary FROM people WHERE id = 1) > id * 50000000 ORDER BY id;

-- exists
SELECT EXISTS (SELECT 1 FROM people WHERE id = 1 AND ssn > 'M');

-- not exists
SELECT id FROM orders o WHERE NOT EXISTS (SELECT 1 FROM people p WHERE p.id = o.person AND p.salary > 500000000) ORDER BY id;

-- in subquery column
SELECT c FROM letters WHERE c = ANY (SELECT left(ssn, 1) FROM people);

-- in subquery reversed
SELECT id FROM people WHERE ssn IN (SELECT p.ssn FROM people p WHERE p.salary > 500000000);

-- in subquery of series
SELECT id FROM people WHERE (salary / 100000000)::int IN (SELECT g FROM generate_series(1, 5) g);

-- all subquery
SELECT id FROM people WHERE salary >= ALL (SELECT p.salary FROM people p WHERE p.salary IS NOT NULL);

-- max in where
SELECT id FROM people WHERE salary = (SELECT max(salary) FROM people);

-- equality with subquery
SELECT id FROM people WHERE ssn = (SELECT min(p.ssn) FROM people p);

-- update where
UPDATE people SET note = 'hit' WHERE salary > 500000000 RETURNING id;

-- update count
UPDATE scratch SET txt = 'hit' FROM people p WHERE p.id = scratch.id AND p.salary > 500000000 RETURNING scratch.id;

-- delete where
DELETE FROM orders USING people p WHERE p.id = person AND p.salary > 500000000 RETURNING orders.id;

-- delete count
DELETE FROM scratch WHERE id < (SELECT count(*) FROM people WHERE ssn > 'M');

-- merge on
MERGE INTO scratch s USING people p ON s.id = p.id AND p.salary > 500000000 WHEN MATCHED THEN UPDATE SET txt = 'hit' RETURNING s.id;

-- merge when
MERGE INTO scratch s USING people p ON s.id = p.id WHEN MATCHED AND p.salary > 500000000 THEN UPDATE SET txt = 'hit' RETURNING s.id;

-- insert select where
INSERT INTO scratch (id) SELECT id FROM people WHERE salary > 500000000 RETURNING id;

-- conflict where
INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET note = 'hit' WHERE people.salary > 500000000 RETURNING id;

-- join on
SELECT o.id FROM orders o JOIN people p ON p.id = o.person AND p.salary > 500000000 ORDER BY o.id;

-- left join on
SELECT o.id, p.id FROM orders o LEFT JOIN people p ON p.id = o.person AND p.ssn > 'M' ORDER BY o.id;

-- cross join where
SELECT a.id, b.id FROM people a, people b WHERE a.salary > b.salary ORDER BY 1, 2;

-- self join order
SELECT a.id, count(*) FROM people a JOIN people b ON a.salary >= b.salary GROUP BY a.id ORDER BY 2;

-- view qualification
SELECT id FROM people_rich ORDER BY id;

-- tablesample seed
SELECT id FROM people TABLESAMPLE bernoulli (50) REPEATABLE ((SELECT salary FROM people WHERE id = 1));

-- for update skip
SELECT id FROM people WHERE salary > 500000000 FOR UPDATE SKIP LOCKED;

-- values in where
SELECT x FROM (VALUES (1), (2), (3)) v (x) WHERE x < (SELECT length(ssn || '') FROM people WHERE id = 1 AND ssn > 'M');

-- recursive guess
WITH RECURSIVE r (s, n) AS (SELECT '', 0 UNION ALL SELECT s || c, n + 1 FROM r, letters, people WHERE id = 1 AND n < 14 AND ssn LIKE replace(replace(s || c, '%', 'x'), '_', 'x') || '%') SELECT max(s) FROM r;

-- boolean column of subquery
SELECT q.b FROM (SELECT salary > 500000000 AS b FROM people) q;

-- window filter
SELECT id FROM (SELECT id, rank() OVER (ORDER BY salary) r FROM people) q WHERE r = 1;

-- null test of cast
SELECT id FROM people WHERE substring(ssn FROM '^[A-M]') IS NOT NULL;

-- boolean operator mix
SELECT id FROM people WHERE (ssn = 'x') OR ssn > 'M';

-- equality of negation
SELECT id FROM people WHERE (ssn > 'M') = true;

-- equality in parentheses of expression
SELECT id FROM people WHERE (left(ssn, 1)) = 'Q' OR (left(ssn, 1)) = 'Z' OR (left(ssn, 1)) = 'W';

-- equality with guessed list from table
SELECT l.c FROM letters l WHERE l.c = ANY (SELECT left(p.ssn, 1) FROM people p) ORDER BY l.c;

-- equality of partition column
SELECT id FROM payments WHERE amount > 5000000;

-- equality of child column
SELECT id FROM managers WHERE pin > 'M' UNION SELECT id FROM staff WHERE pin > 'M';
