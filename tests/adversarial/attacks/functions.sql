-- sql function
SELECT get_ssn(1);

-- sql function over table
SELECT get_ssn(id) FROM people;

-- sql function in from
SELECT * FROM get_ssn(1);

-- sql function lateral
SELECT s FROM orders o, LATERAL get_ssn(o.person) s;

-- sql function qualified
SELECT public.get_ssn(1);

-- sql function in where
SELECT id FROM orders WHERE get_ssn(person) > 'M';

-- sql function in order
SELECT id FROM orders ORDER BY get_ssn(person), id;

-- sql function in values
VALUES (get_ssn(1));

-- sql function in default
INSERT INTO scratch (txt) VALUES (get_ssn(1)) RETURNING txt;

-- sql function in limit
SELECT id FROM orders ORDER BY id LIMIT ascii(get_ssn(1)) - 60;

-- sql function in case
SELECT CASE WHEN get_ssn(1) > 'M' THEN 1 ELSE 2 END;

-- atomic function
SELECT get_ssn_atomic(1);

-- plpgsql function
SELECT get_ssn_pl(1);

-- plpgsql upper
SELECT upper(get_ssn_pl(2));

-- function of row
SELECT ssn_of(p) FROM people p;

-- set returning function
SELECT * FROM everybody();

-- set returning function column
SELECT (everybody()).ssn;

-- set returning function star
SELECT (everybody()).*;

-- set returning function row
SELECT everybody();

-- set returning function attribute
SELECT e.ssn FROM everybody() e;

-- table function
SELECT * FROM pairs();

-- table function column
SELECT b FROM pairs();

-- table function renamed
SELECT y FROM pairs() AS t (x, y);

-- rows from functions
SELECT * FROM ROWS FROM (get_ssn(1), get_ssn(2));

-- dynamic text
SELECT run_text('SELECT ssn FROM people WHERE id = 1');

-- dynamic text built
SELECT run_text('SELECT s' || 'sn FROM pe' || 'ople WHERE id = 1');

-- dynamic text parameter
SELECT run_text(chr(83) || 'ELECT string_agg(ssn, '' '') FROM people');

-- immutable folded
SELECT folded();

-- immutable folded in explain
EXPLAIN SELECT * FROM orders WHERE item = folded();

-- immutable folded in explain verbose
EXPLAIN (VERBOSE) SELECT folded();

-- notice
SELECT tell_all();

-- notice in where
SELECT id FROM orders WHERE tell_all() = 1 LIMIT 1;

-- notice in default
CREATE TABLE d (x int DEFAULT tell_all());
INSERT INTO d DEFAULT VALUES;

-- notice in check
CREATE TABLE d (x int CHECK (tell_all() = 1));
INSERT INTO d VALUES (1);

-- notice in index
--! dud: the function is not immutable
CREATE INDEX ON scratch ((shout(txt) || tell_all()));

-- refcursor
SELECT open_cursor();
FETCH ALL FROM peek;

-- refcursor fetched twice
SELECT open_cursor();
FETCH 1 FROM peek;
FETCH BACKWARD 1 FROM peek;

-- refcursor moved
SELECT open_cursor();
MOVE 1 IN peek;
FETCH ALL FROM peek;

-- procedure
CALL hand_out(NULL);

-- procedure qualified
CALL public.hand_out('x');

-- operator
--! dud: the function reads, and tells nothing
SELECT 'a' ===> 'a';

-- operator qualified
--! dud: the function reads, and tells nothing
SELECT 'a' OPERATOR(public.===>) 'a' FROM people WHERE id = 1;

-- operator any
--! dud: the function reads, and tells nothing
SELECT 'a' ===> ANY (ARRAY['a']);

-- aggregate of function
SELECT string_agg(get_ssn(id), ' ') FROM people;

-- query_to_xml
--! dud: this server is built without XML
SELECT query_to_xml('SELECT ssn FROM people', true, true, '');

-- query_to_xml qualified
--! dud: this server is built without XML
SELECT pg_catalog.query_to_xml('TABLE people', true, true, '');

-- query_to_xml_and_xmlschema
--! dud: this server is built without XML
SELECT query_to_xml_and_xmlschema('SELECT ssn FROM people', true, true, '');

-- table_to_xml
--! dud: this server is built without XML
SELECT table_to_xml('people', true, true, '');

-- schema_to_xml
--! dud: this server is built without XML
SELECT schema_to_xml('public', true, true, '');

-- database_to_xml
--! dud: this server is built without XML
SELECT database_to_xml(true, true, '');

-- cursor_to_xml
--! dud: this server is built without XML
DECLARE spy CURSOR FOR SELECT ssn FROM people;
SELECT cursor_to_xml('spy', 10, true, true, '');

-- ts_stat
SELECT word FROM ts_stat('SELECT ssn_words FROM people');

-- ts_stat built
SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', email) FROM people');

-- ts_rewrite
SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, plainto_tsquery(''simple'', ssn) FROM people WHERE id = 1');

-- pg_read_file
--! dud: only a superuser may
SELECT pg_read_file('postgresql.conf');

-- pg_read_file attribute
--! dud: only a superuser may
SELECT ('postgresql.conf'::text).pg_read_file;

-- pg_read_binary_file
--! dud: only a superuser may
SELECT pg_read_binary_file(pg_relation_filepath('people'));

-- pg_ls_dir
--! dud: only a superuser may
SELECT pg_ls_dir('.');

-- lo_import
--! dud: only a superuser may
SELECT lo_import('postgresql.conf');

-- lo_export
--! dud: only a superuser may
SELECT lo_export(1, 'x');

-- logical slot
--! dud: wal_level is not logical
SELECT pg_create_logical_replication_slot('spy', 'test_decoding');

-- logical message
SELECT pg_logical_emit_message(true, 'x', ssn) FROM people;

-- statement list
SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND query < (SELECT ssn FROM people WHERE id = 1);

-- do block
DO $$ BEGIN RAISE NOTICE '%', (SELECT string_agg(ssn, ' ') FROM people); END $$;

-- do block error
DO $$ BEGIN RAISE EXCEPTION '%', (SELECT ssn FROM people WHERE id = 1); END $$;

-- do block sqlstate
DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = left((SELECT ssn FROM people WHERE id = 1), 5); END $$;

-- do block hint
DO $$ BEGIN RAISE EXCEPTION 'x' USING HINT = (SELECT ssn FROM people WHERE id = 1); END $$;

-- do block table
DO $$ BEGIN EXECUTE 'CREATE TEMP TABLE spy AS SELECT ssn AS x FROM people'; END $$;
SELECT x FROM spy;

-- do block column name
DO $$ BEGIN EXECUTE format('CREATE TEMP TABLE spy (%I int)', (SELECT ssn FROM people WHERE id = 1)); END $$;
TABLE spy;

-- do block setting
DO $$ BEGIN PERFORM set_config('my.x', (SELECT ssn FROM people WHERE id = 1), true); END $$;
SHOW my.x;

-- do block notify
--! autocommit
LISTEN spy;
DO $$ BEGIN PERFORM pg_notify('spy', (SELECT ssn FROM people WHERE id = 1)); END $$;
SELECT 1;

-- create function
CREATE FUNCTION spy() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM people WHERE id = 1';
SELECT spy();

-- create function atomic
CREATE FUNCTION spy() RETURNS text BEGIN ATOMIC SELECT ssn FROM people WHERE id = 1; END;
SELECT spy();

-- create function in pg_temp
CREATE FUNCTION pg_temp.spy() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM people WHERE id = 1';
SELECT pg_temp.spy();

-- replace clean function
CREATE OR REPLACE FUNCTION with_tax(p numeric) RETURNS numeric LANGUAGE sql AS 'SELECT max(salary) FROM people';
SELECT with_tax(1);

-- alter function setting
ALTER FUNCTION with_tax(numeric) SET search_path = hr;
SELECT get_ssn(1);

-- rename function
ALTER FUNCTION get_ssn(int) RENAME TO harmless;
SELECT harmless(1);

-- rename over clean function
ALTER FUNCTION count_orders(int) RENAME TO count_orders_old;
ALTER FUNCTION get_ssn(int) RENAME TO count_orders;
SELECT count_orders(1);

-- create procedure
CREATE PROCEDURE spy(INOUT x text) LANGUAGE sql AS 'SELECT ssn FROM people WHERE id = 1';
CALL spy('');

-- create operator
--! dud: postfix operators are gone
CREATE OPERATOR @@@@ (LEFTARG = int, FUNCTION = get_ssn);
SELECT 1 @@@@;

-- create prefix operator
CREATE OPERATOR @@@@ (RIGHTARG = int, FUNCTION = get_ssn);
SELECT @@@@ 1;

-- create cast
CREATE TYPE holder AS (n int);
CREATE FUNCTION spy(holder) RETURNS text LANGUAGE sql AS 'SELECT get_ssn(($1).n)';
CREATE CAST (holder AS text) WITH FUNCTION spy(holder);
SELECT ROW(1)::holder::text;

-- create aggregate
CREATE AGGREGATE spy (int) (SFUNC = int4pl, STYPE = int, FINALFUNC = get_ssn, INITCOND = '0');
SELECT spy(1);

-- create aggregate over column
CREATE AGGREGATE glue (text) (SFUNC = textcat, STYPE = text, INITCOND = '');
SELECT glue(ssn) FROM people;

-- create domain check
CREATE DOMAIN spy AS text CHECK (VALUE <> get_ssn(1));
SELECT 'x'::spy, tell_all();

-- create type then cast
CREATE TYPE spy AS (x text);
SELECT ROW(ssn)::spy FROM people;

-- overload builtin
CREATE FUNCTION public.lower(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM people WHERE id = $1';
SELECT lower(1);

-- extension
--! dud: not installed
CREATE EXTENSION dblink;

-- foreign server
--! dud: not installed
CREATE EXTENSION postgres_fdw;

-- prepared dynamic
PREPARE spy AS SELECT get_ssn(1);
EXECUTE spy;

-- prepared expression
PREPARE spy AS SELECT upper(ssn) FROM people;
EXECUTE spy;

-- prepared parameter
PREPARE spy (text) AS SELECT $1 || ssn FROM people;
EXECUTE spy ('');

-- execute argument
PREPARE spy (text) AS SELECT $1;
EXECUTE spy ((SELECT ssn FROM people WHERE id = 1));

-- execute argument function
PREPARE spy (text) AS SELECT $1;
EXECUTE spy (get_ssn(1));

-- current_query
SELECT current_query(), upper(ssn) FROM people;

-- grouping alias
SELECT pg_get_viewdef('people_view'::regclass), get_ssn(1);

-- xpath over rows
--! dud: this server is built without XML
SELECT xpath('//ssn/text()', query_to_xml('TABLE people', false, false, ''));

-- json of query
SELECT JSON_ARRAY(SELECT ssn FROM people);

-- generate subscripts
SELECT tags[i] FROM people, generate_subscripts(tags, 1) i;
