-- view expression
SELECT upper(ssn) FROM people_view;

-- view column
SELECT ssn || '' FROM people_view WHERE id = 1;

-- view order
SELECT id FROM people_view ORDER BY salary;

-- view predicate
SELECT id FROM people_view WHERE salary > 500000000;

-- view with expression
SELECT loud FROM people_shout;

-- view with expression star
SELECT * FROM people_shout;

-- view over view
SELECT upper(number) FROM people_nested;

-- view over view row
SELECT to_json(n) FROM people_nested n;

-- view union
SELECT ssn FROM people_union;

-- view union star
TABLE people_union;

-- view aggregate over
SELECT max(ssn) FROM people_view;

-- view star row
SELECT people_star FROM people_star;

-- view star expression
SELECT ssn || card FROM people_star;

-- view join
SELECT lower(email) FROM people_joined;

-- view guarded
SELECT id FROM people_guarded WHERE substr(email, 2, 1) > 'm';

-- view guarded cast
SELECT id FROM people_guarded WHERE email::int = 1;

-- view that filters
TABLE people_rich;

-- view that filters counted
SELECT count(*) FROM people_rich;

-- view updated
UPDATE people_view SET city = ssn RETURNING city;

-- view insert
INSERT INTO people_view (id, name) SELECT id + 100, ssn FROM people_view WHERE ssn IS NOT NULL RETURNING name;

-- view delete
UPDATE people_view SET city = 'x' WHERE salary > 500000000 RETURNING id, name;

-- materialized view
SELECT ssn || '' FROM people_mat;

-- materialized view max
SELECT max(account), max(ssn) FROM people_mat;

-- materialized view order
SELECT id FROM people_mat ORDER BY account;

-- materialized view row
SELECT people_mat::text FROM people_mat;

-- materialized view copy
COPY (SELECT lower(ssn) FROM people_mat) TO STDOUT;

-- partition expression
SELECT upper(iban) FROM payments_2024;

-- partition other numbers
SELECT iban || '', amount + 0 FROM payments_2023;

-- partition parent
SELECT upper(iban) FROM payments;

-- partition order
SELECT id FROM payments ORDER BY amount;

-- partition union
SELECT iban FROM payments_2023 UNION ALL SELECT iban FROM payments_2024;

-- partition tableoid
SELECT tableoid::regclass, iban || '' FROM payments;

-- child expression
SELECT upper(pin) FROM managers;

-- child parent only
SELECT upper(pin) FROM ONLY staff;

-- child star
SELECT upper(pin) FROM staff*;

-- child max
SELECT max(pin) FROM managers;

-- quoted schema
SELECT upper("ssn") FROM "public"."people";

-- database qualified
SELECT encode(convert_to(ssn, 'UTF8'), 'hex') FROM estate_a.public.people;

-- search path
SET LOCAL search_path = hr, public;
SELECT upper(ssn) FROM public.people;

-- search path hides
SET LOCAL search_path = public, hr;
SELECT upper(ssn) FROM people;

-- search path in one message
SET LOCAL search_path = public; SELECT upper(ssn) FROM people;

-- temp table hides
CREATE TEMP TABLE letters2 AS SELECT 1 AS id, 'x'::text AS ssn;
SELECT upper(people.ssn) FROM people, letters2;

-- temp table of that name
CREATE TEMP TABLE people (ssn text);
SELECT upper(ssn) FROM public.people;

-- temp schema
CREATE TEMP TABLE zz AS SELECT 1 AS ssn;
SELECT upper(p.ssn) FROM zz, people p;

-- view copied to clean name
DROP VIEW order_totals;
CREATE VIEW order_totals AS SELECT ssn FROM people;
TABLE order_totals;

-- table swapped
ALTER TABLE scratch RENAME TO scratch_old;
ALTER TABLE people RENAME TO scratch;
SELECT upper(ssn) FROM scratch;

-- table swapped in one message
ALTER TABLE scratch RENAME TO scratch_old; ALTER TABLE people RENAME TO scratch; SELECT upper(ssn) FROM scratch;

-- view swapped in one message
CREATE OR REPLACE VIEW order_totals AS SELECT id AS person, salary::numeric AS spent FROM people; SELECT * FROM order_totals;

-- row security
CREATE POLICY spy ON notes AS RESTRICTIVE USING (id <= (SELECT count(*) - 1 FROM people WHERE salary > 500000000));
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
SELECT id FROM notes;

-- policy with notice
CREATE POLICY spy ON notes USING (tell_all() = 1);
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
SELECT id FROM notes;

-- rule select
INSERT INTO inbox VALUES (1, 'x');

-- rule select returning
INSERT INTO inbox SELECT 1, 'x';

-- rule through cte
--! dud: PostgreSQL refuses it
WITH w AS (INSERT INTO inbox VALUES (1, 'x') RETURNING txt) SELECT * FROM w;

-- create rule
CREATE RULE spy AS ON DELETE TO scratch DO INSTEAD SELECT ssn FROM people;
DELETE FROM scratch;

-- create trigger
--! dud: the trigger fails
CREATE TRIGGER spy AFTER INSERT ON scratch FOR EACH ROW EXECUTE FUNCTION audit_people();
INSERT INTO scratch VALUES (9);

-- index expression error
--! dud: the message is the same whatever the value
CREATE INDEX ON people ((1 / (ascii(ssn) / 80)));

-- index unique error
CREATE UNIQUE INDEX ON people ((ssn > 'M'));

-- statistics object
--! dud: shows nothing before ANALYZE
CREATE STATISTICS spy ON (ssn || ''), city FROM people;
SELECT most_common_vals FROM pg_stats_ext;

-- clear view replaced
CREATE OR REPLACE VIEW people_names AS SELECT id, ssn AS name, city FROM people;
SELECT upper(name) FROM people_names;

-- clear view replaced in one message
CREATE OR REPLACE VIEW people_names AS SELECT id, ssn AS name, city FROM people; SELECT upper(name) FROM people_names;

-- clear view dropped and another put in its place
DROP VIEW people_names;
ALTER VIEW people_view RENAME TO people_names;
SELECT upper(ssn) FROM people_names;

-- clear view dropped and a closed one put in its place
DROP VIEW people_names;
ALTER VIEW people_shout RENAME TO people_names;
SELECT loud FROM people_names;

-- view column renamed onto a clean one
ALTER VIEW people_view RENAME COLUMN city TO town;
ALTER VIEW people_view RENAME COLUMN ssn TO city;
SELECT upper(city) FROM people_view;

-- view column default
ALTER VIEW people_names ALTER COLUMN city SET DEFAULT get_ssn(1);
INSERT INTO people_names (id, name) VALUES (100, 'x') RETURNING city;

-- view moved behind a clean name of another schema
ALTER VIEW people_view SET SCHEMA hr;
SELECT upper(ssn) FROM hr.people_view;

-- view through two levels with other names
SELECT q.n || '' FROM (SELECT number AS n FROM people_nested) q;

-- view expression in where
SELECT id FROM people_nested WHERE number LIKE 'Q%' OR number LIKE 'Z%' OR number LIKE 'X%';

-- view equi-join of other names
SELECT l.c FROM people_nested n JOIN letters l ON left(n.number, 1) = l.c ORDER BY n.id;

-- view returning
UPDATE people_view SET city = 'x' WHERE id = 1 RETURNING ssn || '';

-- view returning old row
UPDATE people_view SET city = 'x' WHERE id = 1 RETURNING old;

-- view merged
MERGE INTO scratch s USING people_view v ON s.id = v.id WHEN MATCHED THEN UPDATE SET txt = v.ssn RETURNING s.txt;

-- view into table
INSERT INTO scratch (txt) SELECT number FROM people_nested RETURNING txt;

-- view copied with an expression
COPY (SELECT order_id, email || '' FROM people_joined) TO STDOUT;

-- view whole row
SELECT v FROM people_view v;

-- view row as json
SELECT to_jsonb(v) FROM people_joined v;

-- view distinct
SELECT DISTINCT ssn FROM people_view ORDER BY 1;

-- view group
SELECT ssn > 'M', min(id) FROM people_mat GROUP BY ssn > 'M' ORDER BY 1;

-- materialized view rank
SELECT id, rank() OVER (ORDER BY account) FROM people_mat ORDER BY id;

-- materialized view statistics
SELECT histogram_bounds FROM pg_stats WHERE tablename = 'people_mat';

-- output name sorted
SELECT id, ssn AS x FROM people ORDER BY x;

-- output name sorted beside a star
SELECT *, ssn AS x FROM staff JOIN people USING (id) ORDER BY x;

-- output name grouped
SELECT min(id), ssn AS x FROM people GROUP BY x ORDER BY x;

-- output name of two
SELECT id, name AS x, ssn AS y FROM people ORDER BY y, x;

-- distinct on an output name
SELECT DISTINCT ON (x) left(name, 0) AS x, id FROM people ORDER BY x, ssn;

-- clean schema qualified beside the hidden one
SELECT upper(people.ssn) FROM hr.people h, people;

-- clean schema joined to the hidden column
SELECT p.id FROM hr.people h JOIN people p ON 'M' || h.ssn < p.ssn ORDER BY p.id;

-- clean schema renamed into the hidden one
ALTER TABLE hr.people RENAME TO gone;
SELECT upper(ssn) FROM public.people;

-- hides nothing but does
SELECT upper(q.y) FROM (SELECT x.z AS y FROM (SELECT ssn AS z, name FROM people) x) q;

-- subquery columns swapped
SELECT upper(q.ssn), upper(q.name) FROM (SELECT name AS ssn, ssn AS name FROM people) q;

-- subquery columns swapped twice
SELECT upper(r.ssn) FROM (SELECT q.name AS ssn FROM (SELECT name AS ssn, ssn AS name FROM people) q) r;

-- subquery star and alias
SELECT upper(q.pin) FROM (SELECT *, room AS other FROM staff) q;

-- lateral column of an outer subquery
SELECT l.v FROM (SELECT name AS ssn, ssn AS name FROM people) q, LATERAL (SELECT q.name || '' AS v) l;

-- table renamed onto clean columns
SELECT upper(q.b) FROM staff q (a, b, c);

-- values beside, unqualified
SELECT upper(pin) FROM staff, (VALUES (1)) v (x);
