-- scalar subquery
SELECT (SELECT ssn FROM people WHERE id = 1);

-- scalar subquery in expression
SELECT 'x' || (SELECT ssn FROM people WHERE id = 1);

-- scalar subquery of subquery
SELECT (SELECT x FROM (SELECT ssn AS x FROM people WHERE id = 1) q);

-- correlated subquery
SELECT o.id, (SELECT p.ssn FROM people p WHERE p.id = o.person) FROM orders o;

-- subquery in values
VALUES ((SELECT ssn FROM people WHERE id = 1));

-- subquery in values table
SELECT v.x FROM (VALUES ((SELECT ssn FROM people WHERE id = 1)), ('x')) v (x);

-- array subquery
SELECT ARRAY(SELECT ssn FROM people);

-- array subquery unnested
SELECT unnest(ARRAY(SELECT ssn FROM people));

-- subquery in order
SELECT id FROM orders ORDER BY (SELECT ssn FROM people p WHERE p.id = orders.person), id;

-- subquery in limit
SELECT id FROM orders ORDER BY id LIMIT (SELECT (salary / 30000000)::int FROM people WHERE id = 1);

-- subquery in case
SELECT CASE WHEN true THEN (SELECT ssn FROM people WHERE id = 1) END;

-- subquery in coalesce
SELECT coalesce((SELECT ssn FROM people WHERE id = 1), '');

-- subquery in function table
SELECT * FROM string_to_table((SELECT ssn FROM people WHERE id = 1), NULL);

-- subquery as argument
SELECT upper((SELECT ssn FROM people WHERE id = 1));

-- subquery in json
SELECT json_build_object('x', (SELECT ssn FROM people WHERE id = 1));

-- subquery with two columns
SELECT (SELECT ROW(ssn, card) FROM people WHERE id = 1);

-- row subquery compared
SELECT (SELECT ssn FROM people WHERE id = 1) < 'M';

-- union
SELECT ssn FROM people UNION SELECT 'x';

-- union all
SELECT ssn FROM people UNION ALL SELECT name FROM people;

-- union all second
SELECT name FROM vendors UNION ALL SELECT ssn FROM people;

-- union through stars
SELECT * FROM staff UNION ALL SELECT * FROM staff;

-- union of numbers
SELECT salary FROM people UNION ALL SELECT 1;

-- union in subquery
SELECT x FROM (SELECT ssn AS x FROM people UNION ALL SELECT 'y') q;

-- union in cte
WITH w AS (SELECT ssn AS x FROM people UNION ALL SELECT 'y') SELECT x FROM w;

-- union of unions
SELECT 'a' UNION ALL (SELECT 'b' UNION ALL SELECT ssn FROM people);

-- intersect
SELECT ssn FROM people INTERSECT SELECT ssn FROM people;

-- except
SELECT ssn FROM people EXCEPT SELECT 'x';

-- except reversed
SELECT c FROM letters EXCEPT SELECT left(ssn, 1) FROM people;

-- intersect with letters
SELECT c FROM letters INTERSECT SELECT left(ssn, 1) FROM people;

-- except of tables
TABLE staff EXCEPT SELECT 1, 'x', 'y';

-- union with values
VALUES ('a') UNION ALL SELECT ssn FROM people;

-- union by position
SELECT id, ssn FROM people UNION ALL SELECT id, name FROM vendors ORDER BY 1;

-- recursive
WITH RECURSIVE r AS (SELECT id, ssn FROM people WHERE id = 1 UNION ALL SELECT r.id + 1, r.ssn FROM r WHERE r.id < 3) SELECT * FROM r;

-- recursive in second
WITH RECURSIVE r (n, x) AS (SELECT 1, ''::text UNION ALL SELECT n + 1, p.ssn FROM r JOIN people p ON p.id = n WHERE n < 5) SELECT x FROM r;

-- recursive search
WITH RECURSIVE r AS (SELECT id, ssn FROM people WHERE id = 1 UNION ALL SELECT p.id, p.ssn FROM people p JOIN r ON p.boss = r.id) SEARCH DEPTH FIRST BY ssn SET path SELECT path FROM r;

-- recursive cycle
WITH RECURSIVE r AS (SELECT id, ssn FROM people WHERE id = 1 UNION ALL SELECT p.id, p.ssn FROM people p JOIN r ON p.boss = r.id) CYCLE ssn SET seen_it USING trail SELECT trail FROM r;

-- recursive order
WITH RECURSIVE r AS (SELECT id, name FROM people WHERE id = 1 UNION ALL SELECT p.id, p.name FROM people p JOIN r ON p.boss = r.id) SELECT r.name FROM r JOIN people USING (id) ORDER BY people.salary;

-- cte expression
WITH w AS (SELECT ssn FROM people) SELECT w.ssn || '' FROM w;

-- cte column list
WITH w (a, b) AS (SELECT id, ssn FROM people) SELECT b || '' FROM w;

-- cte of cte
WITH a AS (SELECT ssn AS x FROM people), b AS (SELECT x AS y FROM a) SELECT upper(y) FROM b;

-- cte shadowing a clean table
WITH vendors AS (SELECT id, ssn AS name FROM people) SELECT upper(name) FROM vendors;

-- cte named as the table
WITH people AS (SELECT id, ssn AS x FROM people) SELECT x || '' FROM people;

-- cte nested with
WITH a AS (WITH b AS (SELECT ssn AS z FROM people) SELECT z AS y FROM b) SELECT lower(y) FROM a;

-- cte in subquery
SELECT upper(x) FROM (WITH w AS (SELECT ssn AS x FROM people) SELECT x FROM w) q;

-- cte that inserts
WITH w AS (INSERT INTO scratch (txt) SELECT ssn FROM people RETURNING txt) SELECT txt FROM w;

-- cte that updates
WITH w AS (UPDATE people SET note = ssn RETURNING note) SELECT note FROM w;

-- cte that deletes
WITH w AS (DELETE FROM staff RETURNING pin) SELECT pin || '' FROM w;

-- cte that merges
WITH w AS (MERGE INTO scratch s USING people p ON false WHEN NOT MATCHED THEN INSERT (id, txt) VALUES (p.id, p.ssn) RETURNING s.txt) SELECT * FROM w;

-- subquery alias
SELECT upper(x) FROM (SELECT ssn AS x FROM people) q;

-- subquery column list
SELECT upper(b) FROM (SELECT id, ssn FROM people) q (a, b);

-- subquery without alias
SELECT upper(x) FROM (SELECT ssn AS x FROM people);

-- subquery of subquery
SELECT upper(z) FROM (SELECT y AS z FROM (SELECT ssn AS y FROM people) a) b;

-- subquery star
SELECT ssn || '' FROM (SELECT * FROM people) q;

-- subquery star renamed
SELECT upper(h) FROM (SELECT * FROM people) q (a, b, c, d, e, f, g, h);

-- table renamed
SELECT upper(h) FROM people q (a, b, c, d, e, f, g, h);

-- table renamed masks another name
SELECT upper(name) FROM people q (ssn, b, c, d, e, f, g, name);

-- table command
SELECT upper(ssn) FROM (TABLE people) q;

-- join alias
SELECT upper(h) FROM (people JOIN orders ON people.id = person) AS j (a, b, c, d, e, f, g, h);

-- join using alias
SELECT j.person, upper(p.ssn) FROM people p JOIN (people_audit JOIN orders USING (person) AS j) ON p.id = j.person;

-- join with alias qualified
SELECT upper(q.ssn) FROM (people p JOIN orders o ON p.id = o.person) AS q;

-- lateral
SELECT upper(l.x) FROM people p, LATERAL (SELECT p.ssn AS x) l;

-- lateral values
SELECT l.x FROM people p, LATERAL (VALUES (p.ssn), ('x')) l (x);

-- lateral union
SELECT l.x FROM people p, LATERAL (SELECT p.ssn AS x UNION ALL SELECT 'y') l;

-- lateral function
SELECT f FROM people p, LATERAL upper(p.ssn) f;

-- lateral function implicit
SELECT f FROM people p, lower(p.ssn) f;

-- lateral unnest
SELECT u FROM people p, unnest(ARRAY[p.ssn, p.card]) u;

-- lateral with ordinality
SELECT u.* FROM people p, unnest(p.tags) WITH ORDINALITY u (t, n);

-- rows from
SELECT * FROM people p, ROWS FROM (unnest(p.tags), generate_series(1, 2)) u;

-- lateral json
SELECT e.value FROM people p, jsonb_each_text(p.profile) e;

-- lateral elements
SELECT e FROM people p, jsonb_array_elements_text(p.profile -> 'deep') e;

-- json_table
SELECT t.k FROM people p, JSON_TABLE(p.profile, '$' COLUMNS (k text PATH '$.key')) t;

-- xmltable
--! dud: this server is built without XML
SELECT x.v FROM people p, XMLTABLE('/a' PASSING xmlelement(name a, p.ssn) COLUMNS v text PATH '.') x;

-- full join using
SELECT ssn FROM people a FULL JOIN people b USING (ssn);

-- full join using values
SELECT ssn FROM people FULL JOIN (VALUES ('x')) v (ssn) USING (ssn);

-- natural full join
SELECT ssn FROM (SELECT ssn FROM people) a NATURAL FULL JOIN (SELECT ssn FROM people) b;

-- natural join with guesses
SELECT * FROM (SELECT left(ssn, 1) AS c FROM people) p NATURAL JOIN letters;

-- using with other table
SELECT v.c FROM (SELECT left(ssn, 1) AS c FROM people) p JOIN letters v USING (c);

-- using with renamed
SELECT l.h FROM (SELECT left(ssn, 1) FROM people) q (h) JOIN letters l (h) USING (h);

-- join equality with letters
SELECT l.c FROM (SELECT left(ssn, 1) AS x FROM people) q JOIN letters l ON q.x = l.c;

-- join equality with renamed letters
SELECT l.ssn FROM (SELECT left(ssn, 1) AS ssn FROM people) q JOIN letters l (ssn) ON q.ssn = l.ssn;

-- join equality of different masks
SELECT p.id, s.id FROM people p JOIN staff s ON p.ssn > s.pin;

-- parenthesised select
(SELECT ssn || '' FROM people);

-- select in parentheses with order
(SELECT o.id FROM orders o) ORDER BY (SELECT ssn FROM people p WHERE p.id = 1 + o.id % 5), id;

-- select without from in lateral
SELECT (SELECT p.ssn || '') FROM people p;

-- exists star with side
SELECT id FROM people p WHERE EXISTS (SELECT p.ssn WHERE p.ssn > 'M');

-- name of column hidden in outer query
SELECT (SELECT ssn FROM letters LIMIT 1) FROM people;

-- name of column hidden in outer aggregate
SELECT (SELECT max(people.ssn) FROM letters LIMIT 1) FROM people;

-- group by in lateral
SELECT x FROM people p, LATERAL (SELECT p.ssn AS x GROUP BY 1) l ORDER BY x;

-- distinct in subquery
SELECT count(*) FROM (SELECT DISTINCT left(ssn, 1) FROM people) q;

-- join by a column of two types in a subquery
SELECT pin FROM (SELECT pin FROM lockers LEFT JOIN staff USING (pin)) q;

-- join by a column of two types in a CTE
WITH q AS (SELECT * FROM lockers l JOIN staff s USING (pin)) SELECT pin FROM q;

-- join by a column of two types, right side
SELECT q.pin FROM (SELECT pin FROM staff RIGHT JOIN lockers USING (pin)) q ORDER BY 1;

-- join by a column of two types in a cursor
DECLARE c CURSOR FOR SELECT pin FROM lockers LEFT JOIN staff USING (pin);
FETCH ALL c;

-- join by a column of two types, prepared
PREPARE typed AS SELECT pin FROM lockers LEFT JOIN staff USING (pin);
EXECUTE typed;
