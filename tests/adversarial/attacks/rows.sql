-- whole row
SELECT people FROM people;

-- alias as row
SELECT p FROM people p;

-- row to text
SELECT people::text FROM people;

-- row in parentheses
SELECT (p) FROM people p;

-- row star constructor
SELECT ROW(p.*) FROM people p;

-- row_to_json
SELECT row_to_json(p) FROM people p;

-- row_to_json star
SELECT row_to_json(p.*) FROM people p;

-- to_json
SELECT to_json(people) FROM people;

-- to_jsonb minus
SELECT to_jsonb(p) - 'name' FROM people p;

-- to_jsonb path
SELECT to_jsonb(p) -> 'ssn' FROM people p;

-- jsonb_each of row
SELECT e.* FROM people p, jsonb_each_text(to_jsonb(p)) e;

-- attribute notation
SELECT p.to_json FROM people p;

-- attribute notation user function
SELECT p.ssn_of FROM people p;

-- function notation of column
SELECT ssn(p) FROM people p;

-- function notation plain
SELECT ssn(people) FROM people;

-- function notation upper
SELECT upper(ssn(p)) FROM people p;

-- field of row
SELECT (p).ssn || '' FROM people p;

-- field of row plain
SELECT (p).ssn FROM people p;

-- star of row
SELECT (p).* FROM people p;

-- star of row concatenated
SELECT (p.*)::text FROM people p;

-- field of subquery row
SELECT (q.r).ssn FROM (SELECT p AS r FROM people p) q;

-- star of subquery row
SELECT (q.r).* FROM (SELECT p AS r FROM people p) q;

-- row of subquery
SELECT q FROM (SELECT * FROM people) q;

-- row of subquery as json
SELECT row_to_json(q) FROM (SELECT id, ssn FROM people) q;

-- row of cte
WITH w AS (SELECT * FROM people) SELECT w FROM w;

-- row of cte as json
WITH w AS (TABLE people) SELECT to_json(w) FROM w;

-- row of renamed table
SELECT x FROM people AS x (a, b, c, d);

-- row of join alias
SELECT j FROM (people p JOIN orders o ON o.person = p.id) AS j (a, b, c);

-- row of join alias json
SELECT to_json(j) FROM (people JOIN orders ON people.id = person) AS j;

-- array of rows
SELECT array_agg(p) FROM people p;

-- array subquery of rows
SELECT ARRAY(SELECT p FROM people p);

-- json_agg of rows
SELECT json_agg(p) FROM people p;

-- jsonb_agg of rows
SELECT jsonb_agg(people) FROM people;

-- string_agg of rows
SELECT string_agg(p::text, '') FROM people p;

-- row is compared
SELECT p > q FROM people p, people q WHERE p.id = q.id AND p.ssn > 'M';

-- rows are compared
SELECT a.id FROM people a, (SELECT p.*::people AS r FROM people p) b WHERE (a.ssn, a) > ('M', b.r);

-- row equality
SELECT p.id FROM people p WHERE p = p AND p::text ~ '[^-]{4}-[A-K]';

-- hash of row
--! dud: rows with a tsvector have no hash
SELECT hash_record(p) FROM people p;

-- concat of row
SELECT concat(p) FROM people p;

-- format of row
SELECT format('%s', p) FROM people p;

-- quote_literal of row
SELECT quote_literal(p) FROM people p;

-- num_nulls of row
SELECT num_nulls(VARIADIC ARRAY[p::text]), p::text FROM people p;

-- coalesce of rows
SELECT coalesce(p, p) FROM people p;

-- case of rows
SELECT CASE WHEN true THEN p END FROM people p;

-- nullif of rows
SELECT nullif(p, NULL) FROM people p;

-- row through values
SELECT v.* FROM people p, LATERAL (VALUES (p)) v (r);

-- row through lateral
SELECT l.r FROM people p, LATERAL (SELECT p AS r) l;

-- row through function
SELECT * FROM people p, LATERAL json_to_record(to_json(p)) AS r (ssn text);

-- jsonb_populate_record
SELECT (jsonb_populate_record(NULL::people, to_jsonb(p))).ssn FROM people p;

-- row through xml
--! dud: the server wants a column there
SELECT xmlforest(p::text) FROM people p;

-- order by row
SELECT id FROM people p ORDER BY p.ssn, p;

-- group by row
SELECT min(id) FROM payments p GROUP BY p.iban > 'M', p.* HAVING p.iban > 'M';

-- distinct rows
SELECT DISTINCT p FROM people p;

-- partition as parent row
SELECT payments_2024::payments FROM payments_2024;

-- child as parent row
SELECT managers::staff FROM managers;

-- returning row
UPDATE people SET note = 'x' WHERE id = 1 RETURNING people;

-- returning old row
UPDATE people SET note = 'x' WHERE id = 1 RETURNING old;

-- returning new text
UPDATE people SET note = 'x' WHERE id = 1 RETURNING new::text;

-- returning renamed row
UPDATE people SET note = 'x' WHERE id = 1 RETURNING WITH (OLD AS o) o;

-- count of rows by value
SELECT count(*) FILTER (WHERE ssn > 'M'), max(p::text) FROM people p;

-- schema qualified row
--! dud: the server knows no such name
SELECT public.people FROM public.people;

-- schema qualified star
SELECT row_to_json(public.people.*) FROM public.people;

-- audit image
SELECT image ->> 'ssn' FROM people_audit;

-- audit image text
SELECT image::text FROM people_audit;

-- audit image path
SELECT jsonb_path_query(image, '$.*') FROM people_audit;
