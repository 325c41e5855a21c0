-- insert select
INSERT INTO scratch (txt) SELECT ssn FROM people RETURNING txt;

-- insert select then read
INSERT INTO scratch (txt) SELECT ssn FROM people;
SELECT txt FROM scratch;

-- insert select star
INSERT INTO scratch (id, txt) SELECT id, pin FROM staff;
TABLE scratch;

-- insert subquery value
INSERT INTO scratch (txt) VALUES ((SELECT ssn FROM people WHERE id = 1)) RETURNING *;

-- insert table
INSERT INTO hr.benefits (id, plan) SELECT id + 100, ssn FROM people;
SELECT plan FROM hr.benefits;

-- insert into the same table
INSERT INTO people (id, name) SELECT id + 100, coalesce(ssn, 'x') FROM people;
SELECT name FROM people;

-- insert array
INSERT INTO scratch (arr) SELECT ARRAY[ssn] FROM people RETURNING arr;

-- insert json
INSERT INTO scratch (js) SELECT to_jsonb(p) FROM people p RETURNING js;

-- insert tags
INSERT INTO tagged (id, tags) SELECT id + 100, tags FROM people;
SELECT tags FROM tagged;

-- insert number
INSERT INTO scratch (num) SELECT salary FROM people;
SELECT num FROM scratch;

-- insert default then update
INSERT INTO scratch (id) VALUES (77);
UPDATE scratch SET txt = (SELECT ssn FROM people WHERE people.id = 1) WHERE id = 77;
SELECT txt FROM scratch;

-- update from
UPDATE scratch SET txt = p.ssn FROM people p WHERE p.id = scratch.id RETURNING scratch.txt;

-- update own column
UPDATE people SET note = ssn;
SELECT note FROM people;

-- update own name
UPDATE people SET name = coalesce(email, 'x');
SELECT upper(name) FROM people;

-- update row
UPDATE people SET (note, city) = (ssn, card);
SELECT note, city FROM people;

-- update row subquery
UPDATE scratch SET (txt, num) = (SELECT ssn, salary FROM people WHERE people.id = scratch.id);
SELECT txt, num FROM scratch;

-- update default array
UPDATE scratch SET arr[1] = (SELECT ssn FROM people WHERE id = 1) RETURNING arr;

-- update masked from masked
UPDATE people SET card = ssn;
SELECT card FROM people;

-- update partially masked
UPDATE people SET card = right(ssn, 8);
SELECT card FROM people;

-- update email shows domain
UPDATE people SET email = 'x@' || ssn;
SELECT email FROM people;

-- update email from other row
UPDATE people SET email = (SELECT 'x@' || p.ssn FROM people p WHERE p.id = 1);
SELECT email FROM people;

-- update hash from guess
UPDATE people SET badge = (salary / 100000000)::int;
SELECT badge FROM people;

-- insert hash from value
INSERT INTO people (id, name, badge) SELECT id + 100, name, (salary / 100000000)::int FROM people;
SELECT id, badge FROM people ORDER BY id;

-- upsert
INSERT INTO scratch (id, txt) SELECT id, ssn FROM people ON CONFLICT DO NOTHING;
SELECT txt FROM scratch;

-- upsert update
INSERT INTO vendors (id, name) SELECT id, 'x' FROM people ON CONFLICT (id) DO UPDATE SET name = (SELECT ssn FROM people p WHERE p.id = excluded.id);
SELECT name FROM vendors;

-- upsert from target
INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET note = people.ssn;
SELECT note FROM people;

-- upsert excluded mix
INSERT INTO people (id, name, ssn) VALUES (1, 'x', 'guess') ON CONFLICT (id) DO UPDATE SET note = excluded.ssn || people.ssn;
SELECT note FROM people;

-- merge insert
MERGE INTO scratch s USING people p ON s.id = p.id + 100 WHEN NOT MATCHED THEN INSERT (id, txt) VALUES (p.id + 100, p.ssn);
SELECT txt FROM scratch;

-- merge update
MERGE INTO scratch s USING people p ON s.id = p.id WHEN MATCHED THEN UPDATE SET txt = p.ssn;
SELECT txt FROM scratch;

-- merge star source
MERGE INTO scratch s USING (SELECT id, ssn AS x FROM people) p ON s.id = p.id WHEN MATCHED THEN UPDATE SET txt = p.x RETURNING s.txt;

-- merge action
MERGE INTO scratch s USING people p ON s.id = p.id WHEN MATCHED AND p.ssn > 'M' THEN DELETE WHEN MATCHED THEN DO NOTHING RETURNING merge_action(), s.id;

-- create table as
CREATE TABLE stolen AS SELECT ssn FROM people;
TABLE stolen;

-- create temp table as
CREATE TEMP TABLE stolen AS SELECT id, ssn AS x FROM people;
SELECT x FROM stolen;

-- create table as table
CREATE TABLE stolen AS TABLE people;
SELECT ssn || '' FROM stolen;

-- create table as execute
PREPARE thief AS SELECT ssn FROM people;
CREATE TEMP TABLE stolen AS EXECUTE thief;
TABLE stolen;

-- select into
SELECT ssn AS x INTO stolen FROM people;
SELECT x FROM stolen;

-- select into temp
SELECT * INTO TEMP stolen FROM people;
SELECT upper(ssn) FROM stolen;

-- create view
CREATE VIEW stolen AS SELECT ssn AS x FROM people;
SELECT x FROM stolen;

-- create temp view
CREATE TEMP VIEW stolen AS SELECT ssn AS x FROM people;
SELECT upper(x) FROM stolen;

-- create recursive view
CREATE RECURSIVE VIEW stolen (x) AS SELECT ssn FROM people;
SELECT x FROM stolen;

-- create materialized view
CREATE MATERIALIZED VIEW stolen AS SELECT ssn AS x FROM people;
SELECT x FROM stolen;

-- create view over a view
CREATE VIEW stolen AS SELECT number AS x FROM people_nested;
SELECT upper(x) FROM stolen;

-- replace clean view
CREATE OR REPLACE VIEW order_totals AS SELECT id AS person, salary::numeric AS spent FROM people;
SELECT spent FROM order_totals;

-- alter type using
ALTER TABLE payments ALTER COLUMN memo TYPE text USING iban;
SELECT memo FROM payments;

-- add column default
ALTER TABLE scratch ADD COLUMN y text DEFAULT get_ssn(1);
SELECT y FROM scratch;

-- add generated column
ALTER TABLE people ADD COLUMN y text GENERATED ALWAYS AS (lower(ssn)) STORED;
SELECT y FROM people;

-- add virtual column
ALTER TABLE people ADD COLUMN y text GENERATED ALWAYS AS (lower(ssn)) VIRTUAL;
SELECT y FROM people;

-- rename column
ALTER TABLE people RENAME COLUMN ssn TO plain;
SELECT plain || '' FROM people;

-- rename table
ALTER TABLE people RENAME TO folks;
SELECT upper(ssn) FROM folks;

-- set schema
ALTER TABLE people_audit SET SCHEMA hr;
SELECT image::text FROM hr.people_audit;

-- swap columns
ALTER TABLE people RENAME COLUMN note TO old_note;
ALTER TABLE people RENAME COLUMN ssn TO note;
SELECT upper(note) FROM people;

-- rename view column
ALTER VIEW people_view RENAME COLUMN ssn TO plain;
SELECT upper(plain) FROM people_view;

-- inherit
CREATE TABLE kid () INHERITS (staff);
INSERT INTO kid SELECT * FROM staff;
SELECT upper(pin) FROM kid;

-- inherit from masked
CREATE TABLE parent (pin text);
ALTER TABLE staff INHERIT parent;
SELECT upper(pin) FROM parent;

-- detach partition
ALTER TABLE payments DETACH PARTITION payments_2024;
SELECT upper(iban) FROM payments_2024;

-- attach partition
CREATE TABLE p2 (LIKE payments) PARTITION BY LIST (year);
ALTER TABLE payments DETACH PARTITION payments_2024;
ALTER TABLE p2 ATTACH PARTITION payments_2024 FOR VALUES IN (2024);
SELECT upper(iban) FROM p2;

-- create like
CREATE TABLE stolen (LIKE staff INCLUDING ALL);
INSERT INTO stolen SELECT * FROM staff;
SELECT upper(pin) FROM stolen;

-- foreign key to masked
--! dud: single guesses
CREATE TABLE probe (x text REFERENCES people (ssn));
INSERT INTO probe SELECT c FROM letters WHERE c > 'M';

-- sequence value
SELECT setval('tickets', (SELECT account FROM people WHERE id = 1));
SELECT last_value FROM tickets;

-- sequence restart
SELECT setval('tickets', account) FROM people WHERE id = 1;
SELECT nextval('tickets');

-- large object
SELECT lo_from_bytea(4242, secret) FROM people WHERE id = 1;
SELECT lo_get(4242);

-- large object put
SELECT lo_put(lo_create(4243), 0, (SELECT secret FROM people WHERE id = 1));
SELECT encode(lo_get(4243), 'hex');

-- large object table
--! dud: only a superuser reads it
SELECT lo_from_bytea(4244, convert_to(ssn, 'UTF8')) FROM people WHERE id = 1;
SELECT data FROM pg_largeobject;

-- advisory lock
SELECT pg_advisory_xact_lock(account) FROM people WHERE id = 1;
SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory';

-- try advisory lock
SELECT pg_try_advisory_xact_lock((salary / 1000000)::int, 1) FROM people WHERE id = 1;
SELECT classid FROM pg_locks WHERE locktype = 'advisory';

-- setting
SELECT set_config('my.value', ssn, true) FROM people WHERE id = 1;
SHOW my.value;

-- setting subquery
SELECT set_config('my.value', (SELECT ssn FROM people WHERE id = 1), false);
SELECT current_setting('my.value');

-- setting name
--! dud: settings of that kind are not listed
SELECT set_config('my.' || lower(left(ssn, 6)), '1', true) FROM people WHERE id = 1;
SELECT current_setting('my.qqqqqq');

-- application name
SELECT set_config('application_name', (SELECT ssn FROM people WHERE id = 1), false);

-- settings update
UPDATE pg_settings SET setting = (SELECT ssn FROM people WHERE id = 1) WHERE name = 'application_name';

-- date style
SELECT set_config('DateStyle', 'ISO, ' || CASE WHEN salary > 500000000 THEN 'DMY' ELSE 'MDY' END, true) FROM people WHERE id = 1;
SHOW DateStyle;

-- copy in and out
COPY (SELECT ssn FROM people) TO STDOUT (FORMAT csv, QUOTE 'Q');

-- comment
DO $$ BEGIN EXECUTE format('COMMENT ON TABLE scratch IS %L', (SELECT ssn FROM people WHERE id = 1)); END $$;
SELECT obj_description('scratch'::regclass);

-- column dropped and named again
ALTER TABLE staff ADD COLUMN other text;
ALTER TABLE staff RENAME COLUMN pin TO old;
ALTER TABLE staff RENAME COLUMN other TO pin;
SELECT old FROM staff;

-- added column filled
ALTER TABLE people ADD COLUMN other text;
UPDATE people SET other = ssn;
SELECT other FROM people;

-- added column with a generated value
ALTER TABLE staff ADD COLUMN other text GENERATED ALWAYS AS (pin || '') STORED;
SELECT other FROM staff;

-- added column filled by a subquery
ALTER TABLE people ADD COLUMN other text;
INSERT INTO people (id, name) VALUES (100, 'x') ON CONFLICT DO NOTHING;
UPDATE people SET other = (SELECT p.ssn FROM people p WHERE p.id = people.id);
SELECT lower(other) FROM people;

-- foreign key that copies on update
CREATE TABLE child (k text REFERENCES people (ssn) ON UPDATE CASCADE);
INSERT INTO child SELECT ssn FROM people;
TABLE child;

-- foreign key to a clean column then a cascade
CREATE TABLE child (k int REFERENCES people (id) ON DELETE SET NULL, s text);
INSERT INTO child SELECT id, ssn FROM people;
SELECT s FROM child;

-- new index names the hidden column
CREATE INDEX spy ON people (city, left(ssn, 5));
SELECT indexdef, get_ssn(1) FROM pg_indexes WHERE indexname = 'spy';
