-- The database of the adversarial suite: masked columns of many types, and everything that could carry them elsewhere.
-- The rows of tables with masked columns come from worlds.py: they are what two worlds differ in.

-- The first label is what masks show of all others.
CREATE TYPE mood AS ENUM ('shown', 'qzvmood', 'zvxmood', 'xjqmood', 'kwzmood');
CREATE TYPE place AS (street text, code text);
CREATE DOMAIN secret_text AS text CHECK (length(VALUE) < 100);
CREATE DOMAIN cents AS int CHECK (VALUE >= 0);

CREATE TABLE people (
    id int PRIMARY KEY, name text NOT NULL, city text, dept text, joined date, boss int REFERENCES people, note text,
    ssn text UNIQUE, card varchar(30), email text, salary numeric(14, 2), badge int, account bigint, born date,
    seen timestamptz, token uuid, secret bytea, profile jsonb, tags text[], home inet, address place,
    code secret_text, feeling mood, score float8,
    ssn_upper text GENERATED ALWAYS AS (upper(ssn)) STORED,
    ssn_words tsvector GENERATED ALWAYS AS (to_tsvector('simple', coalesce(ssn, ''))) STORED,
    name_upper text GENERATED ALWAYS AS (upper(name)) STORED
);
CREATE INDEX people_words ON people USING gin (ssn_words);
CREATE INDEX people_email ON people (lower(email));

-- The same column under other numbers in partitions and children.
CREATE TABLE payments (id int, year int NOT NULL, iban text, amount numeric(12, 2), memo text) PARTITION BY LIST (year);
CREATE TABLE payments_2023 PARTITION OF payments FOR VALUES IN (2023);
CREATE TABLE payments_2024 (memo text, gone int, amount numeric(12, 2), iban text, year int NOT NULL, id int);
ALTER TABLE payments_2024 DROP COLUMN gone;
ALTER TABLE payments ATTACH PARTITION payments_2024 FOR VALUES IN (2024);
CREATE TABLE staff (id int, pin text, room text);
CREATE TABLE managers (bonus int) INHERITS (staff);
-- The same values under the same name, of another type.
CREATE TABLE lockers (id int, pin varchar(40));

CREATE TABLE members (id int, pass text, visits int);

-- Clean tables, some with names of columns that are masked elsewhere.
CREATE TABLE regions (id int PRIMARY KEY, name text);
CREATE TABLE orders (
    id serial PRIMARY KEY, person int REFERENCES people, item text, price numeric(10, 2), placed date, qty cents,
    total numeric(12, 2) GENERATED ALWAYS AS (price * 2) STORED
);
CREATE TABLE vendors (id int PRIMARY KEY, name text, email text, city text, account bigint, ssn text);
CREATE TABLE letters (c text PRIMARY KEY);
CREATE TABLE scratch (id int, txt text, num numeric, js jsonb, arr text[]);
CREATE TABLE inbox (id int, txt text);
CREATE TABLE tagged (id int PRIMARY KEY, tags text[], body text, words tsvector);
CREATE SCHEMA hr;
CREATE TABLE hr.benefits (id int PRIMARY KEY, person int, plan text, code text);
CREATE TABLE hr.people (id int PRIMARY KEY, name text, ssn text);
CREATE SEQUENCE tickets;

INSERT INTO regions VALUES (1, 'North'), (2, 'South');
INSERT INTO vendors VALUES (1, 'Acme', 'sales@acme.test', 'Paris', 42, 'V-1'), (2, 'Bolt', 'hi@bolt.test', 'Rome', 43, 'V-2');
INSERT INTO letters SELECT chr(g) FROM generate_series(32, 126) g;
INSERT INTO scratch VALUES (1, 'one', 1.5, '{"a": 1}', '{x,y}'), (2, 'two', 2.5, '{"a": 2}', '{z}');
INSERT INTO tagged VALUES (1, '{red,blue}', 'a quick fox', to_tsvector('simple', 'a quick fox')), (2, '{green}', 'dogs', NULL);
INSERT INTO hr.benefits VALUES (1, 1, 'gold', 'B1'), (2, 2, 'basic', 'B2');
INSERT INTO hr.people VALUES (1, 'Contractor', 'C-1');

-- Where a trigger copies whole rows: the policy lists the copy as well.
CREATE TABLE people_audit (n int GENERATED ALWAYS AS IDENTITY, person int, image jsonb);
CREATE FUNCTION audit_people() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO people_audit (person, image) VALUES (NEW.id, to_jsonb(NEW)); RETURN NEW; END $$;
CREATE TRIGGER audit AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION audit_people();
CREATE FUNCTION tell_pin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE 'pin is %', OLD.pin; IF NEW.room = 'code' THEN RAISE EXCEPTION 'no' USING ERRCODE = left(OLD.pin, 5);
END IF; IF NEW.room = 'rights' THEN RAISE insufficient_privilege USING MESSAGE = 'no rights on ' || OLD.pin; END IF; IF NEW.room = 'fail' THEN RAISE EXCEPTION 'pin is %', OLD.pin USING
ERRCODE = 'P0002', DETAIL = OLD.pin, HINT = OLD.pin, TABLE = OLD.pin, COLUMN = OLD.pin; END IF; RETURN NEW; END $$;
CREATE TRIGGER tell BEFORE UPDATE ON staff FOR EACH ROW EXECUTE FUNCTION tell_pin();

-- Views: some show masked columns, some are over such tables and show none, some are clean.
CREATE VIEW people_view AS SELECT id, name, ssn, city, salary FROM people;
CREATE VIEW people_names AS SELECT id, name, city FROM people;
CREATE VIEW people_star AS SELECT * FROM people;
CREATE VIEW people_shout AS SELECT id, upper(ssn) AS loud, name FROM people;
CREATE VIEW people_rich AS SELECT id, name FROM people WHERE salary > 600000000;
CREATE VIEW people_nested AS SELECT id, ssn AS number FROM people_view;
CREATE VIEW people_union AS SELECT id, ssn FROM people UNION ALL SELECT id, pin FROM staff;
CREATE VIEW people_joined AS SELECT o.id AS order_id, o.item, p.name, p.email FROM orders o JOIN people p ON p.id = o.person;
CREATE VIEW people_guarded WITH (security_barrier) AS SELECT id, name, email FROM people WHERE city IS NOT NULL;
CREATE VIEW city_counts AS SELECT city, count(*) AS n FROM people GROUP BY city;
CREATE VIEW order_totals AS SELECT person, sum(price) AS spent FROM orders GROUP BY person;
CREATE MATERIALIZED VIEW people_mat AS SELECT id, name, ssn, account FROM people;
CREATE MATERIALIZED VIEW order_mat AS SELECT item, count(*) AS n FROM orders GROUP BY item;

-- Code that reads masked columns, and code that does not.
CREATE FUNCTION get_ssn(who int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM people WHERE id = who';
CREATE FUNCTION get_ssn_atomic(who int) RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT ssn FROM people WHERE id = who; END;
CREATE FUNCTION get_ssn_pl(who int) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
BEGIN RETURN (SELECT p.ssn FROM people p WHERE p.id = who); END $$;
CREATE FUNCTION ssn_of(p people) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT p.ssn';
CREATE FUNCTION everybody() RETURNS SETOF people LANGUAGE sql STABLE AS 'SELECT * FROM people';
CREATE FUNCTION pairs() RETURNS TABLE (a int, b text) LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN QUERY SELECT id, people.email FROM people; END $$;
CREATE FUNCTION run_text(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; BEGIN EXECUTE sql INTO r; RETURN r; END $$;
CREATE FUNCTION folded() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ssn FROM people WHERE id = 1';
CREATE FUNCTION tell_all() RETURNS int LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE '%', (SELECT string_agg(ssn, ' ') FROM people); RETURN 1; END $$;
CREATE FUNCTION open_cursor() RETURNS refcursor LANGUAGE plpgsql AS $$
DECLARE c refcursor := 'peek'; BEGIN OPEN c FOR SELECT ssn FROM people; RETURN c; END $$;
CREATE PROCEDURE hand_out(INOUT x text) LANGUAGE plpgsql AS $$ BEGIN SELECT ssn INTO x FROM people WHERE id = 1; END $$;
CREATE FUNCTION same_as_ssn(a text, b text) RETURNS boolean LANGUAGE sql AS 'SELECT a = b AND EXISTS (SELECT ssn FROM people)';
CREATE OPERATOR ===> (LEFTARG = text, RIGHTARG = text, FUNCTION = same_as_ssn);
CREATE AGGREGATE gather (text) (SFUNC = textcat, STYPE = text, INITCOND = '');
CREATE FUNCTION with_tax(p numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT p * 1.2';
CREATE FUNCTION count_orders(who int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM orders WHERE person = who';
CREATE FUNCTION shout(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN upper(t) || '!'; END $$;
CREATE PROCEDURE tidy_up() LANGUAGE sql AS 'DELETE FROM scratch WHERE id > 1000';
CREATE RULE peek AS ON INSERT TO inbox DO INSTEAD SELECT id, ssn FROM people;

-- Row security that looks at clean columns.
CREATE TABLE notes (id int PRIMARY KEY, owner text, body text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY everyone ON notes USING (owner IS NOT NULL);
INSERT INTO notes VALUES (1, 'a', 'hello'), (2, 'b', 'world');
