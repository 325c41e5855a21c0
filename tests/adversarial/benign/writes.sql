-- insert
INSERT INTO people (id, name, ssn, email) VALUES (100, 'New', 'X-1', 'new@x.org');

-- insert returning
INSERT INTO people (id, name, ssn) VALUES (100, 'New', 'X-1') RETURNING id, name;

-- insert returning hidden
INSERT INTO people (id, name, ssn) VALUES (100, 'New', 'X-1') RETURNING id, ssn;

-- insert returning star
INSERT INTO people (id, name) VALUES (100, 'New') RETURNING *;

-- insert many
INSERT INTO orders (person, item, price) VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3) RETURNING id;

-- insert default
INSERT INTO orders DEFAULT VALUES RETURNING id, item;

-- insert select of clean columns
INSERT INTO scratch (id, txt) SELECT id, name FROM people RETURNING id, txt;

-- insert select of clean tables
INSERT INTO scratch (id, txt) SELECT id, email FROM vendors RETURNING *;

-- insert with cte
WITH p AS (SELECT id FROM people WHERE city = 'Rome') INSERT INTO orders (person, item) SELECT id, 'gift' FROM p RETURNING person;

-- insert jsonb
INSERT INTO scratch (id, js, arr) VALUES (9, '{"a": [1, 2]}', ARRAY['p', 'q']) RETURNING js, arr;

-- update clean column
UPDATE people SET city = 'Bonn' WHERE id = 1;

-- update clean column by expression
UPDATE people SET city = upper(city), note = note || '!' WHERE dept = 'RD';

-- update hidden column
UPDATE people SET email = 'x@y.z', salary = 1 WHERE id = 2;

-- update by hidden column
UPDATE people SET note = 'x' WHERE email = 'nobody';

-- update returning
UPDATE people SET note = 'x' WHERE id = 1 RETURNING id, note, ssn;

-- update returning old and new
UPDATE people SET note = 'x' WHERE id = 1 RETURNING old.note, new.note, new.ssn;

-- update returning star
UPDATE people SET city = 'Bonn' WHERE id = 1 RETURNING *;

-- update from
UPDATE orders SET item = 'for ' || p.name FROM people p WHERE p.id = orders.person AND p.city = 'Rome' RETURNING orders.id, orders.item;

-- update clean table by name hidden elsewhere
UPDATE vendors SET email = lower(email), account = account + 1 WHERE id = 1 RETURNING email, account;

-- update clean table from people
UPDATE vendors v SET name = v.name || p.name FROM people p WHERE p.id = v.id RETURNING v.name;

-- update row
UPDATE scratch SET (txt, num) = ('x', 3) WHERE id = 1 RETURNING txt, num;

-- update row from subquery
UPDATE scratch SET (txt, num) = (SELECT name, id FROM people WHERE people.id = scratch.id) WHERE id = 1 RETURNING txt, num;

-- update hidden from null
UPDATE people SET ssn = NULL, born = DEFAULT WHERE id = 3 RETURNING ssn;

-- update array element
UPDATE tagged SET tags[1] = 'x' WHERE id = 1 RETURNING tags;

-- delete
DELETE FROM orders WHERE person = 1;

-- delete returning
DELETE FROM orders WHERE id < 3 RETURNING id, item;

-- delete using
DELETE FROM orders USING people p WHERE p.id = orders.person AND p.city = 'Oslo' RETURNING orders.id;

-- delete returning hidden
DELETE FROM managers RETURNING id, pin;

-- upsert
INSERT INTO vendors (id, name) VALUES (1, 'A') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING name;

-- upsert hidden column
INSERT INTO people (id, name, email) VALUES (1, 'A', 'e') ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name;

-- upsert do nothing
INSERT INTO people (id, name) VALUES (1, 'A') ON CONFLICT DO NOTHING;

-- upsert clean with expression
INSERT INTO vendors (id, name, account) VALUES (1, 'A', 1) ON CONFLICT (id) DO UPDATE SET account = vendors.account + excluded.account RETURNING account;

-- upsert with clean columns of people
INSERT INTO people (id, name, note) VALUES (1, 'A', 'n') ON CONFLICT (id) DO UPDATE SET note = people.note || excluded.note RETURNING note;

-- merge
MERGE INTO scratch s USING vendors v ON s.id = v.id WHEN MATCHED THEN UPDATE SET txt = v.email WHEN NOT MATCHED THEN INSERT (id, txt) VALUES (v.id, v.name);

-- merge with people
MERGE INTO scratch s USING people p ON s.id = p.id WHEN MATCHED THEN UPDATE SET txt = p.name WHEN NOT MATCHED THEN INSERT (id, txt) VALUES (p.id, p.city) RETURNING merge_action(), s.id, s.txt;

-- merge into people
MERGE INTO people p USING vendors v ON p.id = v.id WHEN MATCHED THEN UPDATE SET city = v.city RETURNING p.id, p.city, p.ssn;

-- cte that writes
WITH gone AS (DELETE FROM orders WHERE id < 3 RETURNING id, item) SELECT count(*), min(item) FROM gone;

-- cte that writes people
WITH u AS (UPDATE people SET note = 'x' WHERE id = 1 RETURNING id, ssn) SELECT * FROM u;

-- partitioned insert
INSERT INTO payments VALUES (100, 2023, 'I', 5, 'm') RETURNING id, memo;

-- partitioned update moves
UPDATE payments SET year = 2024 WHERE id = 2 RETURNING id, year, iban;

-- view insert
INSERT INTO people_names (id, name, city) VALUES (100, 'New', 'Bonn') RETURNING id, name;

-- view update
UPDATE people_names SET city = 'Bonn' WHERE id = 1 RETURNING id, city;

-- sequence
SELECT nextval('tickets'), currval('tickets'), lastval();

-- setval
SELECT setval('tickets', 50);
SELECT last_value FROM tickets;

-- temp table of clean columns
CREATE TEMP TABLE mine AS SELECT id, name FROM people;
SELECT upper(name) FROM mine ORDER BY id;

-- temp table by hand
CREATE TEMP TABLE mine (id int, ssn text);
INSERT INTO mine VALUES (1, 'x');
SELECT upper(ssn) FROM mine;

-- temp table on commit
CREATE TEMP TABLE mine (id int) ON COMMIT DROP;
INSERT INTO mine SELECT generate_series(1, 3);
SELECT sum(id) FROM mine;

-- select into
SELECT id, item INTO TEMP mine FROM orders WHERE id < 4;
SELECT * FROM mine ORDER BY id;

-- create table
CREATE TABLE fresh (id int PRIMARY KEY, txt text NOT NULL DEFAULT 'x', at timestamptz DEFAULT now(), CHECK (id > 0));
INSERT INTO fresh (id) VALUES (1) RETURNING id, txt;

-- create table with reference
CREATE TABLE fresh (id serial PRIMARY KEY, person int REFERENCES people (id));
INSERT INTO fresh (person) VALUES (1) RETURNING id, person;

-- create index
CREATE INDEX fresh_index ON orders (person, lower(item)) WHERE qty > 0;

-- create index on people
CREATE INDEX fresh_index ON people (city, joined);

-- alter table
ALTER TABLE scratch ADD COLUMN extra int DEFAULT 3;
SELECT id, extra FROM scratch ORDER BY id;

-- alter people
ALTER TABLE people ADD COLUMN extra int DEFAULT 3;
SELECT id, extra, ssn FROM people ORDER BY id;

-- create view
CREATE VIEW fresh AS SELECT item, sum(price) AS s FROM orders GROUP BY item;
SELECT * FROM fresh ORDER BY item;

-- drop table
DROP TABLE inbox;

-- truncate
TRUNCATE scratch, tagged;

-- comment
COMMENT ON TABLE orders IS 'what was sold';
SELECT obj_description('orders'::regclass);

-- lock table
LOCK TABLE orders IN SHARE MODE;

-- analyze
ANALYZE orders;

-- savepoints
SAVEPOINT a;
UPDATE scratch SET txt = 'x';
ROLLBACK TO a;
SELECT txt FROM scratch ORDER BY id;

-- set local
SET LOCAL statement_timeout = '5s';
SHOW statement_timeout;

-- set search_path
SET LOCAL search_path = hr, public;
SELECT plan FROM benefits ORDER BY id;

-- prepare with parameters
PREPARE q (int) AS SELECT id, name, ssn FROM people WHERE id = $1;
EXECUTE q (2);

-- declare and move
DECLARE c SCROLL CURSOR FOR SELECT id, ssn FROM people ORDER BY id;
MOVE 2 IN c;
FETCH 2 FROM c;

-- where current of
DECLARE c CURSOR FOR SELECT id, name FROM people WHERE id = 1 FOR UPDATE;
FETCH c;
UPDATE people SET note = 'x' WHERE CURRENT OF c;

-- copy out table
COPY vendors TO STDOUT;

-- copy out people
--! describe: SELECT id, name, ssn, city FROM people
COPY people (id, name, ssn, city) TO STDOUT;

-- copy out all of people
--! describe: SELECT id, name, city, dept, joined, boss, note, ssn, card, email, salary, badge, account, born, seen, token, secret, profile, tags, home, address, code, feeling, score FROM people
COPY people TO STDOUT;

-- copy out all of people as csv
--! describe: SELECT id, name, city, dept, joined, boss, note, ssn, card, email, salary, badge, account, born, seen, token, secret, profile, tags, home, address, code, feeling, score FROM people
COPY people TO STDOUT (FORMAT csv);

-- copy out query
--! describe: SELECT id, name, email FROM people
COPY (SELECT id, name, email FROM people ORDER BY id) TO STDOUT;

-- copy out materialized view
COPY order_mat TO STDOUT;

-- copy in
--! data: 9\tnine\n
COPY scratch (id, txt) FROM STDIN;

-- copy in people
--! data: 100\tNew\tX-1\n
COPY people (id, name, ssn) FROM STDIN;

-- copy in csv
--! data: 9,"ni,ne"\n
COPY scratch (id, txt) FROM STDIN (FORMAT csv);

-- explain
EXPLAIN (COSTS off) SELECT * FROM orders WHERE person = 1;

-- explain people
EXPLAIN (COSTS off) SELECT id, ssn FROM people WHERE id = 1;

-- explain people join
EXPLAIN (COSTS off) SELECT p.name, o.item FROM people p JOIN orders o ON o.person = p.id;

-- explain analyze clean
--! unstable
EXPLAIN (ANALYZE, BUFFERS) SELECT count(*) FROM orders;

-- explain json
EXPLAIN (FORMAT json, COSTS off) SELECT item FROM orders;

-- call
CALL tidy_up();

-- listen and notify
LISTEN news;
NOTIFY news, 'x';
UNLISTEN news;

-- pg_notify
SELECT pg_notify('news', 'payload');

-- advisory lock
SELECT pg_try_advisory_xact_lock(42);

-- several statements
SELECT 1; SELECT id, ssn FROM people WHERE id = 1; SELECT 2;

-- deferred constraint
SET CONSTRAINTS ALL DEFERRED;

-- grant
GRANT SELECT ON orders TO app_trust;

-- copy out of people with every value quoted
--! describe: SELECT id, name, city, dept, joined, boss, note, ssn, card, email, salary, badge, account, born, seen, token, secret, profile, tags, home, address, code, feeling, score FROM people
COPY people TO STDOUT (FORMAT csv, FORCE_QUOTE *);

-- copy out of people in binary
--! describe: SELECT id, name, city, dept, joined, boss, note, ssn, card, email, salary, badge, account, born, seen, token, secret, profile, tags, home, address, code, feeling, score FROM people
COPY people TO STDOUT (FORMAT binary);

-- copy out of a partition
--! describe: SELECT memo, amount, iban, year, id FROM payments_2024
COPY payments_2024 TO STDOUT;
