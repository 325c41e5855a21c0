-- cast to integer
SELECT ssn::int FROM people;

-- cast to integer in where
SELECT id FROM people WHERE ssn::int = 1;

-- cast to integer equality
SELECT id FROM people WHERE CAST(ssn AS int) = 1;

-- cast to date
SELECT ssn::date FROM people;

-- cast to timestamp
SELECT id FROM people WHERE ssn::timestamptz > now();

-- cast to uuid
SELECT ssn::uuid FROM people;

-- cast to json
SELECT ssn::json FROM people;

-- cast to jsonb
SELECT ssn::jsonb FROM people;

-- cast to inet
SELECT ssn::inet FROM people;

-- cast to boolean
SELECT ssn::boolean FROM people;

-- cast to enum
SELECT ssn::mood FROM people;

-- cast to regclass
SELECT ssn::regclass FROM people;

-- cast to regtype
SELECT ssn::regtype FROM people;

-- cast to regproc
SELECT ssn::regproc FROM people;

-- cast to range
SELECT ssn::int4range FROM people;

-- cast to point
SELECT ssn::point FROM people;

-- cast to bit
SELECT ssn::bit(8) FROM people;

-- cast to bytea
--! dud: the message says nothing
SELECT ('\' || ssn)::bytea FROM people;

-- cast to xml
--! dud: this server is built without XML
SELECT ('<' || ssn)::xml FROM people;

-- cast to tsquery
SELECT (ssn || ' &')::tsquery FROM people;

-- cast to macaddr
SELECT ssn::macaddr FROM people;

-- cast to money
SELECT ssn::money FROM people;

-- cast to pg_lsn
SELECT ssn::pg_lsn FROM people;

-- cast to array
SELECT ssn::int[] FROM people;

-- numeric overflow
--! dud: the message is the same whatever the value
SELECT account::int FROM people;

-- numeric field overflow
--! dud: the message is the same whatever the value
SELECT salary::numeric(3, 0), account::smallint FROM people;

-- division by zero
SELECT 1 / (ascii(ssn) / 80) FROM people WHERE id = 1;

-- division by zero in where
SELECT id FROM people WHERE 1 / (CASE WHEN salary > 500000000 THEN 0 ELSE 1 END) = 1;

-- at time zone
SELECT now() AT TIME ZONE ssn FROM people;

-- date_trunc
SELECT date_trunc(ssn, now()) FROM people;

-- extract by to_date
SELECT to_date(ssn, 'YYYY-MM-DD') FROM people;

-- to_number
--! dud: the message is the same whatever the value
SELECT to_number(ssn, '999') FROM people;

-- to_timestamp
SELECT to_timestamp(ssn, 'YYYY') FROM people;

-- encode
SELECT encode('x', ssn) FROM people;

-- decode
SELECT decode(ssn, 'hex') FROM people;

-- convert_from
SELECT convert_from(secret, 'UTF8') FROM people;

-- nextval
SELECT nextval(ssn) FROM people;

-- set_config
SELECT set_config(ssn, 'x', true) FROM people;

-- current_setting
SELECT current_setting(ssn) FROM people;

-- has_table_privilege
SELECT has_table_privilege(ssn, 'select') FROM people;

-- to_tsvector configuration
SELECT to_tsvector(ssn::regconfig, 'x') FROM people;

-- regular expression
--! dud: the message is the same whatever the value
SELECT 'x' ~ ('[' || ssn) FROM people;

-- json path
--! dud: the message is the same whatever the value
SELECT jsonb_path_query('{}', ('$.' || ssn || ' ?')::jsonpath) FROM people;

-- xpath
--! dud: this server is built without XML
SELECT xpath('///' || ssn, '<a/>'::xml) FROM people;

-- pg_read_file
--! dud: only a superuser may
SELECT pg_read_file(ssn) FROM people;

-- generate_series step
--! dud: the message is the same for everyone
SELECT generate_series(1, 2, ascii(ssn) - ascii(ssn)) FROM people;

-- array subscripts
--! dud: the message is the same whatever the value
SELECT array_fill(1, ARRAY[account::int]) FROM people;

-- make_date
--! dud: the message is the same whatever the value
SELECT make_date(account::int, 1, 1) FROM people;

-- chr
--! dud: the message is the same whatever the value
SELECT chr(account::int) FROM people;

-- unique violation
UPDATE people SET ssn = (SELECT ssn FROM people WHERE id = 2) WHERE id = 1;

-- unique violation by insert
INSERT INTO people (id, name, ssn) SELECT 100, 'x', ssn FROM people WHERE id = 1;

-- primary key violation
--! dud: the message is the same whatever the value
INSERT INTO vendors (id) SELECT account FROM people;

-- not null of clean column
UPDATE people SET name = NULL WHERE id = 1;

-- not null by insert
INSERT INTO people (id, ssn) SELECT id + 100, ssn FROM people;

-- check violation
--! dud: the message is the same whatever the value
ALTER TABLE people ADD CONSTRAINT spy CHECK (salary < 0);

-- check violation of clean column
ALTER TABLE people ADD CONSTRAINT spy CHECK (id < 3) NOT VALID;
UPDATE people SET note = 'x' WHERE id = 4;

-- validate constraint
--! dud: the message is the same whatever the value
ALTER TABLE people ADD CONSTRAINT spy CHECK (length(ssn) < 5) NOT VALID;
ALTER TABLE people VALIDATE CONSTRAINT spy;

-- domain violation
--! dud: the message is the same whatever the value
SELECT repeat(ssn, 20)::secret_text FROM people;

-- foreign key violation
--! dud: the message is the same whatever the value
DELETE FROM people WHERE id = 1;

-- foreign key of masked value
ALTER TABLE orders ADD COLUMN k text; UPDATE orders SET k = p.ssn FROM people p WHERE p.id = person; ALTER TABLE orders ADD FOREIGN KEY (k) REFERENCES letters (c);

-- foreign key the other way
ALTER TABLE people ADD FOREIGN KEY (ssn) REFERENCES letters (c);

-- partition of row
--! dud: the message is the same whatever the value
UPDATE payments SET year = 1999 WHERE id = 1;

-- partition of insert
--! dud: the message is the same whatever the value
INSERT INTO payments SELECT id, 1999, iban, amount, memo FROM payments;

-- exclusion
--! dud: the message is the same whatever the value
ALTER TABLE people ADD EXCLUDE USING btree (dept WITH =);

-- unique index
--! dud: the message is the same whatever the value
CREATE UNIQUE INDEX ON people (substr(ssn, 1, 0));

-- unique index on clean column
--! dud: the message is the same whatever the value
ALTER TABLE people ADD UNIQUE (dept);

-- index on cast
CREATE INDEX ON people ((ssn::int));

-- set not null
--! dud: the message is the same whatever the value
ALTER TABLE people ALTER COLUMN ssn SET NOT NULL;

-- alter type
--! dud: too much depends on the column
ALTER TABLE people DROP COLUMN ssn_upper CASCADE;
ALTER TABLE people DROP COLUMN ssn_words CASCADE;
DROP VIEW people_view, people_union CASCADE;
ALTER TABLE people ALTER COLUMN ssn TYPE int USING ssn::int;

-- alter type implicit
--! dud: a view depends on the column
ALTER TABLE people ALTER COLUMN salary TYPE numeric(3, 0);

-- attach partition error
--! dud: the message says nothing
CREATE TABLE p3 AS SELECT * FROM payments_2024;
ALTER TABLE payments ATTACH PARTITION p3 FOR VALUES IN (2025);

-- trigger notice
UPDATE staff SET room = 'x' WHERE id = 1;

-- trigger error
UPDATE staff SET room = 'fail' WHERE id = 1;

-- trigger error by returning
UPDATE staff SET room = 'fail' WHERE id = 1 RETURNING id;

-- trigger error through cte
WITH w AS (UPDATE staff SET room = 'x' RETURNING id) SELECT * FROM w;

-- trigger error in function
DO $$ BEGIN UPDATE staff SET room = 'fail'; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END $$;

-- more than one row
--! dud: the message is the same whatever the value
SELECT (SELECT ssn FROM people);

-- cardinality error by value
SELECT (SELECT id FROM people WHERE ssn > 'M' AND id IN (1, 2, 4));

-- limit error
SELECT 1 LIMIT (SELECT -ascii(ssn) FROM people WHERE id = 1 AND ssn > 'M');

-- copy from error
--! data: 1\tx\\n
--! dud: the message is the same whatever the value
COPY people (id, salary) FROM STDIN;

-- copy from duplicate
--! data: 1\tx\n
--! dud: the message is the same whatever the value
COPY people (id, name) FROM STDIN;

-- copy where
--! dud: PostgreSQL allows no subquery there
COPY scratch (id) FROM STDIN WHERE id < (SELECT count(*) FROM people);

-- reindex
--! dud: the message is the same whatever the value
UPDATE people SET note = 'x' WHERE id = 2; REINDEX TABLE people;

-- cluster
--! dud: shows nothing
CLUSTER people USING people_pkey;

-- refresh
--! dud: shows nothing
REFRESH MATERIALIZED VIEW people_mat;

-- explain with error
EXPLAIN SELECT id FROM people WHERE id = folded()::int;

-- sql in the error position
--! dud: a syntax error
SELECT ssn, FROM people;

-- unknown column with hint
--! dud: names are not secret
SELECT ssnn FROM people;

-- raise through aggregate
SELECT string_agg(ssn, ',')::int FROM people;

-- lock timeout of row
SELECT ssn::int FROM people FOR UPDATE;

-- a trigger's SQLSTATE is a value
UPDATE staff SET room = 'code' WHERE id = 1;

-- a trigger's message under a harmless SQLSTATE
UPDATE staff SET room = 'rights' WHERE id = 1;
