-- all columns
SELECT * FROM people;

-- table
TABLE people;

-- some columns
SELECT id, name, ssn, email FROM people WHERE id < 4 ORDER BY id;

-- renamed columns
SELECT id AS number, ssn AS social, salary AS pay FROM people ORDER BY name;

-- by key
SELECT * FROM people WHERE id = 1;

-- by clean column
SELECT * FROM people WHERE city = 'Paris' AND dept IN ('RD', 'HR');

-- equality of hidden column
SELECT id, name FROM people WHERE ssn = 'nobody has this';

-- list of hidden column
SELECT id FROM people WHERE email IN ('a@b.c', 'd@e.f');

-- hidden column is null
SELECT id, name FROM people WHERE ssn IS NULL;

-- hidden column is not null
SELECT count(*) FROM people WHERE email IS NOT NULL;

-- count of column
SELECT count(ssn), count(salary) FROM people;

-- count by city
SELECT city, count(*) FROM people GROUP BY city ORDER BY 2 DESC, 1;

-- clean expressions
SELECT upper(name), coalesce(city, '?'), length(note), joined + 1 FROM people ORDER BY id;

-- trim
SELECT trim(name), trim(BOTH 'B' FROM city), btrim(note, '-') FROM people ORDER BY id;

-- clean expressions beside hidden ones
SELECT id, upper(name), ssn, city || '/' || dept, salary FROM people ORDER BY id;

-- clean generated column
SELECT id, name_upper, ssn FROM people;

-- hidden generated column
SELECT id, ssn_upper, ssn_words FROM people;

-- join with orders
SELECT o.id, o.item, p.name, p.email FROM orders o JOIN people p ON p.id = o.person ORDER BY o.id;

-- left join
SELECT p.id, p.ssn, o.item FROM people p LEFT JOIN orders o ON o.person = p.id AND o.qty > 3 ORDER BY p.id, o.id;

-- self join
SELECT a.name, b.name AS boss FROM people a LEFT JOIN people b ON b.id = a.boss ORDER BY a.id;

-- join using
SELECT * FROM people JOIN hr.benefits USING (id) ORDER BY id;

-- three tables
SELECT p.name, count(o.id), sum(o.price) FROM people p JOIN orders o ON o.person = p.id LEFT JOIN hr.benefits b ON b.person = p.id GROUP BY p.id, p.name ORDER BY p.id;

-- totals by person
SELECT p.id, p.name, sum(o.price) AS total FROM people p JOIN orders o ON o.person = p.id GROUP BY p.id ORDER BY total DESC, p.id;

-- top orders
SELECT * FROM (SELECT o.*, row_number() OVER (PARTITION BY person ORDER BY price DESC) AS n FROM orders o) q WHERE n <= 2 ORDER BY id;

-- window over clean columns
SELECT id, name, rank() OVER (PARTITION BY city ORDER BY joined), ssn FROM people ORDER BY id;

-- subquery in from
SELECT q.id, q.ssn FROM (SELECT id, ssn, city FROM people WHERE dept = 'RD') q ORDER BY q.id;

-- subquery with star
SELECT * FROM (SELECT * FROM people) q WHERE q.city = 'Rome';

-- cte
WITH rd AS (SELECT id, name, email FROM people WHERE dept = 'RD') SELECT * FROM rd ORDER BY id;

-- cte with aggregate
WITH n AS (SELECT person, count(*) AS c FROM orders GROUP BY person) SELECT p.name, p.ssn, n.c FROM people p JOIN n ON n.person = p.id ORDER BY p.id;

-- exists
SELECT id, name FROM people p WHERE EXISTS (SELECT 1 FROM orders o WHERE o.person = p.id AND o.item = 'item 1') ORDER BY id;

-- not exists
SELECT name FROM people p WHERE NOT EXISTS (SELECT FROM orders o WHERE o.person = p.id);

-- in subquery
SELECT * FROM orders WHERE person IN (SELECT id FROM people WHERE city = 'Paris') ORDER BY id;

-- scalar subquery of clean column
SELECT o.id, (SELECT name FROM people p WHERE p.id = o.person) FROM orders o ORDER BY o.id;

-- lateral
SELECT p.id, p.email, l.item FROM people p, LATERAL (SELECT item FROM orders o WHERE o.person = p.id ORDER BY o.id LIMIT 1) l ORDER BY p.id;

-- union of clean columns
SELECT name FROM people UNION SELECT name FROM vendors ORDER BY 1;

-- union all with constants
SELECT 'person' AS kind, id, name FROM people UNION ALL SELECT 'vendor', id, name FROM vendors ORDER BY 1, 2;

-- except of clean columns
SELECT city FROM people EXCEPT SELECT city FROM vendors;

-- distinct clean
SELECT DISTINCT city, dept FROM people ORDER BY 1, 2;

-- distinct on
SELECT DISTINCT ON (city) city, name, ssn FROM people ORDER BY city, joined;

-- recursive hierarchy
WITH RECURSIVE t AS (SELECT id, name, boss, 1 AS depth FROM people WHERE boss IS NULL UNION ALL SELECT p.id, p.name, p.boss, t.depth + 1 FROM people p JOIN t ON p.boss = t.id) SELECT * FROM t ORDER BY id;

-- recursive then hidden
WITH RECURSIVE t AS (SELECT id FROM people WHERE boss IS NULL UNION ALL SELECT p.id FROM people p JOIN t ON p.boss = t.id) SELECT p.id, p.ssn FROM t JOIN people p ON p.id = t.id ORDER BY p.id;

-- json of clean columns
SELECT json_build_object('id', id, 'name', name) FROM people ORDER BY id;

-- json of a subquery of clean columns
SELECT row_to_json(q) FROM (SELECT id, name, city FROM people) q ORDER BY (q.id);

-- json_agg of orders
SELECT p.id, json_agg(json_build_object('item', o.item, 'price', o.price) ORDER BY o.id) FROM people p JOIN orders o ON o.person = p.id GROUP BY p.id ORDER BY p.id;

-- array_agg of names
SELECT city, array_agg(name ORDER BY name) FROM people GROUP BY city ORDER BY city;

-- string_agg of names
SELECT string_agg(name, ', ' ORDER BY id) FROM people;

-- filter
SELECT count(*) FILTER (WHERE city = 'Paris'), count(*) FROM people;

-- grouping sets
SELECT city, dept, count(*) FROM people GROUP BY GROUPING SETS ((city), (dept), ()) ORDER BY 1, 2;

-- rollup
SELECT city, dept, count(*) FROM people GROUP BY ROLLUP (city, dept) ORDER BY 1, 2;

-- having
SELECT city, count(*) FROM people GROUP BY city HAVING count(*) > 1 ORDER BY 1;

-- case
SELECT id, CASE city WHEN 'Paris' THEN 'FR' WHEN 'Rome' THEN 'IT' ELSE '??' END AS country, email FROM people ORDER BY id;

-- like on clean column
SELECT id, email FROM people WHERE name LIKE 'A%' OR name ILIKE '%o';

-- regular expression on clean column
SELECT name FROM people WHERE name ~ '^[A-C]' ORDER BY 1;

-- between dates
SELECT id, ssn FROM people WHERE joined BETWEEN '2020-01-01' AND '2020-03-31' ORDER BY joined;

-- extract
SELECT extract(month FROM joined), count(*) FROM people GROUP BY 1 ORDER BY 1;

-- limit and offset
SELECT id, ssn FROM people ORDER BY id LIMIT 2 OFFSET 1;

-- fetch first
SELECT id, email FROM people ORDER BY joined DESC FETCH FIRST 2 ROWS ONLY;

-- for update
SELECT * FROM people WHERE id = 1 FOR UPDATE;

-- for share skip locked
SELECT id, ssn FROM people ORDER BY id FOR SHARE SKIP LOCKED;

-- tablesample
SELECT count(*) FROM people TABLESAMPLE bernoulli (100);

-- partitioned
SELECT * FROM payments ORDER BY id;

-- partition
SELECT id, iban, amount FROM payments_2024 ORDER BY id;

-- partition by year
SELECT year, count(*) FROM payments GROUP BY year ORDER BY year;

-- inheritance
SELECT * FROM staff ORDER BY id;

-- inheritance child
SELECT id, pin, bonus FROM managers;

-- inheritance only
SELECT id, room FROM ONLY staff ORDER BY id;

-- tableoid
SELECT tableoid::regclass, id, pin FROM staff ORDER BY id;

-- equi-join of the hidden column
SELECT a.id, b.id FROM people a JOIN people b ON a.ssn = b.ssn ORDER BY 1;

-- same name elsewhere
SELECT lower(email), account + 1 FROM vendors ORDER BY 1;

-- same name elsewhere beside the hidden one
SELECT lower(v.email), v.account + 1, p.email FROM vendors v JOIN people p ON p.city = v.city ORDER BY v.id, p.id;

-- order by a name that is hidden elsewhere
SELECT v.name FROM vendors v JOIN people p ON p.city = v.city ORDER BY v.email, p.id;

-- same bare table name in another schema
SELECT id, name, ssn FROM hr.people;

-- expression over the other schema's table
SELECT upper(ssn), name FROM hr.people ORDER BY ssn;

-- other schema in a subquery
SELECT max(x.ssn) FROM (SELECT ssn FROM hr.people) x;

-- both people tables
SELECT p.ssn, upper(h.ssn) FROM people p JOIN hr.people h ON h.id = p.id;

-- code elsewhere
SELECT upper(code), plan FROM hr.benefits ORDER BY 1;

-- code elsewhere joined
SELECT b.plan, upper(b.code), p.code FROM hr.benefits b JOIN people p ON p.id = b.person ORDER BY b.id;

-- tags elsewhere
SELECT unnest(tags), body FROM tagged ORDER BY 1;

-- tags elsewhere with people
SELECT t.tags[1], p.tags FROM tagged t JOIN people p ON p.id = t.id ORDER BY t.id;

-- text search elsewhere
SELECT id FROM tagged WHERE words @@ to_tsquery('simple', 'fox');

-- cte name that hides nothing
WITH ssn AS (SELECT 1 AS id) SELECT id FROM ssn;

-- alias that is the name of a hidden column
SELECT upper(name) AS ssn FROM people ORDER BY id;

-- alias that is the name of a hidden column in a subquery
SELECT upper(q.ssn) FROM (SELECT name AS ssn FROM people) q ORDER BY 1;

-- alias used in order by
SELECT name AS email FROM people ORDER BY email;

-- subquery of clean columns with expressions
SELECT q.n || '!' FROM (SELECT id, name AS n FROM people) q ORDER BY q.id;

-- subquery where only another column is hidden
SELECT upper(q.name), q.ssn FROM (SELECT name, ssn FROM people) q ORDER BY q.name;

-- cte where only another column is hidden
WITH q AS (SELECT id, name, ssn FROM people) SELECT id, lower(name), ssn FROM q ORDER BY id;

-- cte used twice
WITH q AS (SELECT id, name, boss FROM people) SELECT a.name, b.name FROM q a LEFT JOIN q b ON b.id = a.boss ORDER BY a.id;

-- union in subquery of clean columns
SELECT upper(x) FROM (SELECT name AS x FROM people UNION ALL SELECT name FROM vendors) q ORDER BY 1;

-- union beside a hidden column
SELECT p.ssn, q.c FROM people p JOIN (SELECT city AS c FROM people UNION SELECT city FROM vendors) q ON q.c = p.city ORDER BY p.id;

-- values beside a hidden column
SELECT p.ssn, v.label FROM people p JOIN (VALUES (1, 'one'), (2, 'two')) v (id, label) ON v.id = p.id ORDER BY p.id;

-- values with the name of a hidden column
SELECT v.ssn || '', p.email FROM people p JOIN (VALUES (1, 'one')) v (id, ssn) ON v.id = p.id;

-- generate_series
SELECT d::date, count(o.id) FROM generate_series(date '2024-01-01', date '2024-01-10', interval '1 day') d LEFT JOIN orders o ON o.placed = d GROUP BY 1 ORDER BY 1;

-- function of clean values
SELECT with_tax(price), shout(item) FROM orders ORDER BY id LIMIT 3;

-- function with people
SELECT id, count_orders(id), ssn FROM people ORDER BY id;

-- view over clean tables
SELECT * FROM order_totals ORDER BY person;

-- materialized view over clean tables
SELECT * FROM order_mat ORDER BY item;

-- view that shows no hidden column
SELECT * FROM people_names ORDER BY id;

-- view that shows no hidden column in expressions
SELECT upper(name), city FROM people_names ORDER BY id;

-- view of counts
SELECT * FROM city_counts ORDER BY city;

-- view with hidden columns
SELECT * FROM people_view ORDER BY id;

-- view with hidden columns and clean ones chosen
SELECT id, name FROM people_view ORDER BY id;

-- view with hidden columns in expressions of clean ones
SELECT id, upper(name), ssn FROM people_view WHERE city = 'Paris' ORDER BY id;

-- view over a view
SELECT id, number FROM people_nested ORDER BY id;

-- view of a join
SELECT * FROM people_joined ORDER BY order_id;

-- view with a barrier
SELECT id, name, email FROM people_guarded ORDER BY id;

-- view joined with a table
SELECT v.name, v.ssn, o.item FROM people_view v JOIN orders o ON o.person = v.id ORDER BY o.id;

-- materialized view with hidden columns
SELECT * FROM people_mat ORDER BY id;

-- materialized view's clean columns
SELECT lower(name) FROM people_mat ORDER BY id;

-- row security
SELECT * FROM notes ORDER BY id;

-- whole row of a clean table
SELECT o FROM orders o ORDER BY o.id LIMIT 2;

-- whole row as json of a clean table
SELECT to_jsonb(v) FROM vendors v ORDER BY v.id;

-- whole row of a clean table beside a hidden column
SELECT to_jsonb(o), p.ssn FROM orders o JOIN people p ON p.id = o.person ORDER BY o.id LIMIT 3;

-- count of rows of a join
SELECT count(*) FROM people p CROSS JOIN orders o;

-- parameters
--! parameters: ["1"]
SELECT * FROM people WHERE id = $1;

-- parameter for a hidden column
--! parameters: ["nobody"]
SELECT id FROM people WHERE ssn = $1;

-- parameter list
--! parameters: ["{1,2}"]
SELECT id, email FROM people WHERE id = ANY ($1) ORDER BY id;

-- parameter list for a hidden column
--! parameters: ["{a,b}"]
SELECT id FROM people WHERE email = ANY ($1);

-- parameter limit
--! parameters: ["2", "1"]
SELECT id, ssn FROM people ORDER BY id LIMIT $1 OFFSET $2;

-- parameters in expressions
--! parameters: ["x", "Paris"]
SELECT id, $1 || name, email FROM people WHERE city = $2 ORDER BY id;

-- hidden column or clean condition
SELECT id FROM people WHERE (email = 'x' OR city = 'Paris') AND NOT ssn = 'y' ORDER BY id;

-- hidden uuid
SELECT id FROM people WHERE token = '00000000-0000-0000-0000-000000000001';

-- hidden number
SELECT id FROM people WHERE account = 12 OR salary IS NULL;

-- hidden date cast
SELECT id FROM people WHERE born = date '1999-01-01';

-- hidden column in a list of casts
SELECT id FROM people WHERE ssn = ANY ('{a,b}'::text[]);

-- hidden types all
SELECT salary, badge, account, born, seen, token, secret, profile, tags, home, address, code, feeling, score FROM people ORDER BY id;

-- audit table
SELECT n, person, image FROM people_audit ORDER BY n;

-- members with hash
SELECT id, visits, pass FROM members ORDER BY id;

-- random row
--! unstable
SELECT id, ssn FROM people ORDER BY random() LIMIT 1;

-- now and friends
--! unstable
SELECT now(), current_date, clock_timestamp(), id FROM people WHERE id = 1;

-- settings and identity
SELECT current_user, session_user, current_schema, current_setting('TimeZone');

-- order by position of a star
SELECT * FROM staff ORDER BY 1;

-- order by position behind a star
SELECT p.*, o.item, o.id AS n FROM people p JOIN orders o ON o.person = p.id ORDER BY 29;

-- order by position of a view's star
SELECT * FROM people_view ORDER BY 2 DESC LIMIT 3;

-- star of a lateral
SELECT q.* FROM staff s, LATERAL (SELECT s.*) q ORDER BY s.id;
