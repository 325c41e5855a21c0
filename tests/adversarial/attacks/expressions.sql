-- concatenation
SELECT ssn || '' FROM people;

-- concatenation from the left
SELECT '' || ssn FROM people;

-- concat function
SELECT concat(ssn) FROM people;

-- concat_ws
SELECT concat_ws('-', name, ssn) FROM people;

-- format
SELECT format('%s %L %I', ssn, ssn, ssn) FROM people;

-- upper
SELECT upper(ssn) FROM people;

-- lower
SELECT lower(ssn) FROM people;

-- initcap
SELECT initcap(ssn) FROM people;

-- reverse
SELECT reverse(ssn) FROM people;

-- substr
SELECT substr(ssn, 1, 6) FROM people;

-- substring from
SELECT substring(ssn FROM 2 FOR 8) FROM people;

-- substring by pattern
SELECT substring(ssn FROM '.{7}$') FROM people;

-- left
SELECT left(ssn, 7) FROM people;

-- right
SELECT right(ssn, 7) FROM people;

-- split into halves
SELECT left(ssn, 7), right(ssn, 7) FROM people;

-- one character a row
SELECT substr(ssn, g, 1) FROM people, generate_series(1, 14) g WHERE id = 1;

-- one code a row
SELECT ascii(substr(ssn, g, 1)) FROM people, generate_series(1, 14) g WHERE id = 1;

-- codes in columns
SELECT ascii(ssn), ascii(substr(ssn, 2)), ascii(substr(ssn, 3)), ascii(substr(ssn, 4)), ascii(substr(ssn, 5)) FROM people;

-- hexadecimal
SELECT encode(ssn::bytea, 'hex') FROM people;

-- base64
SELECT encode(convert_to(ssn, 'UTF8'), 'base64') FROM people;

-- escape
SELECT encode(secret, 'escape') FROM people;

-- bytea of text
SELECT ssn::bytea FROM people;

-- bytea to text
SELECT secret::text FROM people;

-- md5
SELECT md5(ssn) FROM people;

-- sha256
SELECT sha256(ssn::bytea) FROM people;

-- sha512 in base64
SELECT encode(sha512(ssn::bytea), 'base64') FROM people;

-- hashtext
SELECT hashtext(ssn) FROM people;

-- crc32
SELECT crc32(ssn::bytea) FROM people;

-- length
SELECT length(note || ssn), length(email) + salary::int FROM people;

-- translate
SELECT translate(ssn, '-', '') FROM people;

-- replace
SELECT replace(ssn, 'nothing', '') FROM people;

-- regexp_replace
SELECT regexp_replace(ssn, '(.)', '\1', 'g') FROM people;

-- regexp_match
SELECT regexp_match(ssn, '.*') FROM people;

-- regexp_matches
SELECT regexp_matches(ssn, '.', 'g') FROM people;

-- regexp_split
SELECT regexp_split_to_table(ssn, '') FROM people WHERE id = 1;

-- string_to_array
SELECT string_to_array(ssn, NULL) FROM people;

-- string_to_table
SELECT string_to_table(ssn, NULL) FROM people WHERE id = 1;

-- split_part
SELECT split_part(card, '-', 1) FROM people;

-- lpad
SELECT lpad(ssn, 20, '*') FROM people;

-- overlay
SELECT overlay(ssn PLACING 'x' FROM 1 FOR 1) FROM people;

-- repeat
SELECT repeat(ssn, 2) FROM people;

-- trim
SELECT trim(BOTH ' ' FROM ssn) FROM people;

-- normalize
SELECT normalize(ssn) FROM people;

-- to_ascii positions
SELECT position('Q' IN ssn), strpos(ssn, 'Z') FROM people;

-- quote_literal
SELECT quote_literal(ssn) FROM people;

-- collate
SELECT ssn COLLATE "C" FROM people;

-- cast to varchar
SELECT ssn::varchar FROM people;

-- cast to char
SELECT ssn::char(40) FROM people;

-- cast to name
SELECT ssn::name FROM people;

-- cast function style
SELECT text(card) FROM people;

-- cast to own domain
SELECT ssn::secret_text FROM people;

-- cast as expression
SELECT CAST(card AS text) FROM people;

-- case value
SELECT CASE WHEN id > 0 THEN ssn END FROM people;

-- case condition
SELECT CASE WHEN ssn < 'M' THEN 'low' ELSE 'high' END FROM people;

-- case operand
SELECT CASE ssn > 'M' WHEN true THEN 1 ELSE 0 END FROM people;

-- coalesce
SELECT coalesce(ssn, 'none') FROM people;

-- nullif
SELECT nullif(ssn, 'none') FROM people;

-- greatest
SELECT greatest(ssn, '') FROM people;

-- least
SELECT least(ssn, 'zzzzzz') FROM people;

-- array
SELECT ARRAY[ssn, card] FROM people;

-- array cast
SELECT ARRAY[ssn]::text FROM people;

-- array element
SELECT tags[1] FROM people;

-- array slice
SELECT tags[1:2] FROM people;

-- array_to_string
SELECT array_to_string(tags, ',') FROM people;

-- unnest
SELECT unnest(tags) FROM people;

-- row constructor
SELECT ROW(ssn, 1) FROM people;

-- row constructor cast
SELECT ROW(ssn, 1)::text FROM people;

-- composite field
SELECT (address).street FROM people;

-- composite star
SELECT (address).* FROM people;

-- composite text
SELECT address::text FROM people;

-- comparison
SELECT id, ssn > 'M' FROM people;

-- comparison bits
SELECT id, salary > 400000000, salary > 600000000, salary > 800000000 FROM people;

-- between
SELECT id, salary BETWEEN 300000000 AND 600000000 FROM people;

-- like
SELECT id, ssn LIKE 'Q%' FROM people;

-- similar to
SELECT id, ssn SIMILAR TO '[A-M]%' FROM people;

-- regular expression
SELECT id, ssn ~ '^[A-M]' FROM people;

-- is distinct
SELECT id, (ssn IS DISTINCT FROM name) AND ssn > 'M' FROM people;

-- arithmetic
SELECT salary + 0 FROM people;

-- negation
SELECT -salary FROM people;

-- multiplication
SELECT salary * 2 FROM people;

-- division
SELECT account / 10 FROM people;

-- modulo
SELECT account % 1000, account / 1000 FROM people;

-- round
SELECT round(salary) FROM people;

-- to_char number
SELECT to_char(salary, 'FM999999999.00') FROM people;

-- to_hex
SELECT to_hex(account) FROM people;

-- bit string
SELECT account::bit(64) FROM people;

-- bits one by one
SELECT (account >> g) & 1 FROM people, generate_series(0, 50) g WHERE id = 1 ORDER BY g;

-- width_bucket
SELECT width_bucket(salary, 0, 1000000000, 100000) FROM people;

-- numeric to text
SELECT salary::text FROM people;

-- bigint to text
SELECT account::text FROM people;

-- float digits
SELECT score::numeric FROM people;

-- sqrt
SELECT sqrt(salary) FROM people;

-- date parts
SELECT extract(year FROM born), extract(month FROM born), extract(day FROM born) FROM people;

-- epoch
SELECT extract(epoch FROM seen) FROM people;

-- to_char date
SELECT to_char(born, 'DD/MM/YYYY') FROM people;

-- age
SELECT age(born, '2000-01-01') FROM people;

-- date difference
SELECT born - date '2000-01-01' FROM people;

-- date_trunc
SELECT date_trunc('day', seen) FROM people;

-- at time zone
SELECT seen AT TIME ZONE 'UTC' FROM people;

-- julian day
SELECT to_char(born, 'J') FROM people;

-- uuid to text
SELECT token::text FROM people;

-- bytes one by one
SELECT get_byte(secret, g) FROM people, generate_series(0, 11) g WHERE id = 1;

-- bytea substr
SELECT substr(secret, 1, 6) FROM people;

-- inet host
SELECT host(home) FROM people;

-- inet text
SELECT home::text, home + 0 FROM people;

-- inet difference
SELECT home - inet '0.0.0.0' FROM people;

-- enum to text
SELECT feeling::text FROM people;

-- enum range
SELECT enum_range(feeling, NULL) FROM people;

-- domain to text
SELECT code || '' FROM people;

-- generated column
SELECT ssn_upper || '' FROM people;

-- text search words
SELECT ssn_words::text FROM people;

-- text search lexemes
SELECT (unnest(ssn_words)).lexeme FROM people;

-- tsvector_to_array
SELECT tsvector_to_array(ssn_words) FROM people;

-- to_tsvector
SELECT to_tsvector('simple', ssn) FROM people;

-- ts_headline
SELECT ts_headline('simple', ssn, to_tsquery('simple', 'x')) FROM people;

-- ts_debug
SELECT * FROM people, LATERAL ts_debug('simple', ssn) d;

-- ts_parse
SELECT t.token FROM people, ts_parse('default', ssn) t;

-- implicit cast operator
SELECT ssn || 1 FROM people;

-- operator syntax
SELECT ssn OPERATOR(pg_catalog.||) '' FROM people;

-- named argument
SELECT make_interval(days => born - date '2000-01-01') FROM people;

-- variadic
SELECT concat(VARIADIC ARRAY[ssn]) FROM people;

-- generate_series bound
SELECT count(*) FROM people p, generate_series(1, (p.salary / 1000000)::int) WHERE id = 1;

-- repeat count
SELECT repeat('x', (salary / 10000000)::int) FROM people;

-- row comparison
SELECT (ssn, id) < ('M', 0) FROM people;

-- overlaps
SELECT (born, interval '1 day') OVERLAPS (date '2500-01-01', date '2750-01-01') FROM people;

-- range constructor
SELECT daterange(born, NULL) FROM people;

-- isfinite chain
SELECT isfinite(born) AND born > '2700-01-01' FROM people;

-- pg_typeof hides nothing
SELECT pg_typeof(ssn), pg_column_size(ssn || note || ssn), left(ssn, 1) FROM people;

-- pg_input_is_valid
SELECT pg_input_is_valid(ssn, 'text'), pg_input_error_info(ssn, 'integer') FROM people;

-- xmlelement
--! dud: this server is built without XML
SELECT xmlelement(name a, ssn) FROM people;

-- xmlforest
--! dud: this server is built without XML
SELECT xmlforest(ssn, card) FROM people;

-- merged domain cast
SELECT (ssn::secret_text)::varchar(20) FROM people;

-- hash upper
SELECT upper(pass) FROM members;

-- hash order
SELECT id FROM members ORDER BY pass;

-- hash union
SELECT pass FROM members UNION ALL SELECT 'x';

-- hash of hash
SELECT md5(pass) FROM members;

-- hash predicate
SELECT id FROM members WHERE pass > 'M';

-- hash row
SELECT to_json(m) FROM members m;

-- hash and value
--! hash:
SELECT pass, substr(pass, 1, 5) FROM members;
