-- notify payload
--! autocommit
LISTEN spy;
SELECT pg_notify('spy', ssn) FROM people WHERE id = 1;
SELECT 1;

-- notify channel
--! dud: nobody listens
--! autocommit
SELECT pg_notify(lower(ssn), 'x') FROM people WHERE id = 1;

-- notify from trigger
--! autocommit
LISTEN spy;
SELECT pg_notify('spy', (SELECT ssn FROM people WHERE id = 1));
SELECT 1;

-- copy expression
COPY (SELECT ssn || '' FROM people) TO STDOUT;

-- copy csv
COPY (SELECT upper(ssn) FROM people) TO STDOUT (FORMAT csv);

-- copy binary
COPY (SELECT salary * 1 FROM people) TO STDOUT (FORMAT binary);

-- copy json row
COPY (SELECT row_to_json(p) FROM people p) TO STDOUT;

-- copy union
COPY (SELECT ssn FROM people UNION ALL SELECT 'x') TO STDOUT;

-- copy returning
COPY (UPDATE people SET note = 'x' RETURNING upper(ssn)) TO STDOUT;

-- copy view
COPY (SELECT upper(ssn) FROM people_view) TO STDOUT;

-- copy materialized view
COPY people_mat TO STDOUT;

-- copy partition
COPY payments_2024 TO STDOUT;

-- copy child
COPY managers TO STDOUT;

-- copy with force quote
COPY people TO STDOUT (FORMAT csv, FORCE_QUOTE *);

-- copy with null guess
COPY people (ssn) TO STDOUT (NULL 'x');

-- copy with quote in value
COPY people (ssn, email) TO STDOUT (FORMAT csv, DELIMITER 'Q');

-- copy with delimiter in value
COPY people (ssn, card) TO STDOUT (FORMAT csv, DELIMITER 'Z');

-- copy to file
--! dud: needs rights on files
COPY people TO '/tmp/spy';

-- copy to program
--! dud: needs rights on programs
COPY people TO PROGRAM 'cat';

-- copy encoding
--! dud: no such encoding
COPY people TO STDOUT (ENCODING 'UTF16');

-- copy encoding latin
COPY people TO STDOUT (ENCODING 'LATIN1');

-- copy columns reordered
COPY people (email, ssn, id) TO STDOUT;

-- copy generated
--! dud: generated columns cannot be copied
COPY people (ssn_upper) TO STDOUT;

-- copy audit
COPY people_audit (image) TO STDOUT;

-- explain analyze
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off) SELECT id FROM people WHERE ssn > 'M';

-- explain rows
EXPLAIN SELECT * FROM people WHERE salary > 500000000;

-- explain verbose constant
EXPLAIN (VERBOSE) SELECT * FROM people WHERE ssn = folded();

-- explain json
EXPLAIN (VERBOSE, FORMAT json) SELECT folded();

-- explain filter
EXPLAIN (COSTS off) SELECT * FROM orders WHERE item = folded();

-- explain estimate
EXPLAIN SELECT * FROM people WHERE account > 500000000000000;

-- explain execute
PREPARE spy AS SELECT id FROM people WHERE ssn > 'M';
EXPLAIN (ANALYZE, TIMING off, SUMMARY off, BUFFERS off) EXECUTE spy;

-- explain create table
EXPLAIN ANALYZE CREATE TEMP TABLE stolen AS SELECT ssn AS x FROM people;
SELECT x FROM stolen;

-- explain analyze delete
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off) DELETE FROM scratch WHERE id IN (SELECT id FROM people WHERE salary > 500000000);

-- debug plan
SET LOCAL client_min_messages = debug1;
SET LOCAL debug_print_plan = on;
SELECT folded();

-- debug log
SET LOCAL client_min_messages = log;
SET LOCAL debug_print_parse = on;
SELECT folded();

-- log duration
SET LOCAL client_min_messages = log;
SET LOCAL log_statement = 'all';
SELECT get_ssn(1);

-- command tag insert
INSERT INTO scratch (id) SELECT g FROM generate_series(1, (SELECT (salary / 1000000)::int FROM people WHERE id = 1)) g;

-- command tag move
DECLARE spy SCROLL CURSOR FOR SELECT g FROM generate_series(1, (SELECT (salary / 1000000)::int FROM people WHERE id = 1)) g;
MOVE ALL IN spy;

-- command tag update
UPDATE scratch SET txt = 'x' WHERE id <= (SELECT (salary / 500000000)::int FROM people WHERE id = 1);

-- cursor
DECLARE spy CURSOR FOR SELECT ssn || '' FROM people;
FETCH ALL FROM spy;

-- cursor with hold
--! autocommit
DECLARE spy CURSOR WITH HOLD FOR SELECT upper(ssn) FROM people;
FETCH ALL FROM spy;

-- binary cursor
DECLARE spy BINARY CURSOR FOR SELECT upper(ssn), salary * 1 FROM people;
FETCH ALL FROM spy;

-- scroll cursor
DECLARE spy SCROLL CURSOR FOR SELECT id FROM people ORDER BY ssn;
FETCH LAST FROM spy;
FETCH PRIOR FROM spy;

-- cursor update
DECLARE spy CURSOR FOR SELECT id FROM people WHERE salary > 500000000;
FETCH 1 FROM spy;
UPDATE people SET note = 'x' WHERE CURRENT OF spy RETURNING id;

-- cursors list
DECLARE spy CURSOR FOR SELECT upper(ssn) FROM people;
SELECT name, statement FROM pg_cursors;
FETCH 1 FROM spy;

-- returning expression
UPDATE people SET note = 'x' WHERE id = 1 RETURNING ssn || '';

-- returning old expression
UPDATE people SET note = 'x' WHERE id = 1 RETURNING old.ssn || '', new.salary + 0;

-- returning from insert
INSERT INTO people (id, name, email) VALUES (100, 'x', 'y@z') RETURNING (SELECT ssn FROM people WHERE id = 1);

-- returning from delete
DELETE FROM staff RETURNING lower(pin);

-- returning from merge
MERGE INTO people p USING vendors v ON p.id = v.id WHEN MATCHED THEN UPDATE SET note = 'x' RETURNING p.ssn || '';

-- returning whole rows
DELETE FROM managers RETURNING managers;

-- returning generated
UPDATE people SET note = 'x' WHERE id = 1 RETURNING ssn_upper || '', ssn_words::text;

-- pg_stats
SELECT histogram_bounds FROM pg_stats WHERE tablename = 'people' AND attname = 'ssn';

-- pg_stats common
SELECT histogram_bounds FROM pg_catalog.pg_stats WHERE attname IN ('salary', 'email');

-- pg_statistic
--! dud: only a superuser reads it
SELECT stavalues1 FROM pg_statistic;

-- pg_stats through cast
SELECT histogram_bounds::text::text[] FROM pg_catalog.pg_stats WHERE tablename = 'payments';

-- pg_stats quoted
SELECT "histogram_bounds" FROM "pg_catalog"."pg_stats";

-- pg_stats_ext
--! dud: there are none
SELECT * FROM pg_stats_ext;

-- pg_mcv_list_items
--! dud: only a superuser reads it
SELECT m.* FROM pg_statistic_ext_data, pg_mcv_list_items(stxdmcv) m;

-- pg_authid
--! dud: only a superuser reads it
SELECT rolpassword FROM pg_authid;

-- pg_shadow
--! dud: only a superuser reads it
SELECT passwd FROM pg_shadow;

-- pg_user_mappings
--! dud: there are none
SELECT umoptions FROM pg_user_mappings;

-- toast table
--! dud: only a superuser reads it
SELECT * FROM pg_toast.pg_toast_2619;

-- prepared statements list
PREPARE spy AS SELECT ssn || '' FROM people;
SELECT statement FROM pg_prepared_statements;
EXECUTE spy;

-- constraint definition
SELECT pg_get_expr(adbin, adrelid) || get_ssn(1) FROM pg_attrdef LIMIT 1;

-- reset role
RESET ROLE;
SELECT upper(ssn) FROM people;

-- set role
SET LOCAL ROLE postgres;
SELECT upper(ssn) FROM people;

-- set session authorization
SET LOCAL SESSION AUTHORIZATION DEFAULT;
SELECT upper(ssn) FROM people;

-- row security off
SET LOCAL row_security = off;
SELECT upper(ssn) FROM people;

-- standard conforming strings
SET LOCAL standard_conforming_strings = off;
SELECT '\' , '||ssn||' -- ' , ssn || '' FROM people;

-- backslash quote
SET LOCAL backslash_quote = on;
SELECT E'\'' || ssn FROM people;

-- client encoding
SET LOCAL client_encoding = 'SJIS';
SELECT upper(ssn) FROM people;

-- client encoding names
SET NAMES 'BIG5';
SELECT lower(ssn) FROM people;

-- two statements
SELECT 1; SELECT upper(ssn) FROM people;

-- statement after commit
SELECT 1; COMMIT; SELECT upper(ssn) FROM people;

-- nested comment
SELECT /* /* */ 1 -- */ ssn || '' FROM people;

-- comment to newline
--! dud: it is a comment
SELECT 1 --x';;SELECT ssn FROM people;

-- unicode identifier
SELECT U&"\0073\0073\006E" || '' FROM people;

-- unicode identifier escape
SELECT upper(U&"!0073sn" UESCAPE '!') FROM people;

-- unicode table
SELECT upper(ssn) FROM U&"\0070eople";

-- quoted identifier
SELECT upper("ssn") FROM "people";

-- upper case identifier
SELECT UPPER(SSN) FROM PEOPLE;

-- dollar quotes
SELECT run_text($x$SELECT ssn FROM people WHERE id = 1$x$);

-- escape string
SELECT run_text(E'SELECT \x73sn FROM people WHERE id = 1');

-- line continuation of string
--! dud: a syntax error
SELECT run_text('SELECT ssn ' 'FROM people');

-- operator with comment
SELECT ssn ||/**/'' FROM people;

-- keyword as column
SELECT p.ssn "select" FROM people p ORDER BY "select";

-- long chain
SELECT ssn || '' || '' || '' || '' || '' || '' || '' || '' || '' || '' || '' FROM people;

-- alias without as
SELECT ssn || '' ssn FROM people;

-- output name shadows
SELECT name AS ssn, ssn || '' AS name FROM people;

-- order by output name that is another column
SELECT id, name AS city FROM people ORDER BY salary;

-- limit with parameter
--! parameters: ["1"]
SELECT ssn || '' FROM people LIMIT $1;

-- parameter concatenation
--! parameters: ["-"]
SELECT $1 || ssn FROM people;

-- parameter comparison
--! parameters: ["M"]
SELECT id FROM people WHERE ssn > $1;

-- parameter like
--! parameters: ["%Q%"]
SELECT id FROM people WHERE ssn LIKE $1;

-- parameter array
--! parameters: ["{Q,Z,V,X,K}"]
SELECT id FROM people WHERE left(ssn, 1) = ANY ($1);

-- parameter set_config
--! parameters: ["my.x"]
SELECT set_config($1, ssn, true) FROM people WHERE id = 1;

-- parameter cast
--! parameters: ["1"]
SELECT id FROM people WHERE ssn::int = $1;

-- parameter function
--! parameters: ["SELECT ssn FROM people WHERE id = 1"]
SELECT run_text($1);

-- parameter xml
--! dud: this server is built without XML
--! parameters: ["SELECT ssn FROM people"]
SELECT query_to_xml($1, true, true, '');
