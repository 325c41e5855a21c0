-- max
SELECT max(ssn) FROM people;

-- min
SELECT min(email) FROM people;

-- max number
SELECT max(salary), min(account) FROM people;

-- max date
SELECT max(born), min(seen) FROM people;

-- sum
SELECT sum(salary) FROM people;

-- sum of one
SELECT sum(salary) FROM people WHERE id = 1;

-- avg
SELECT avg(account) FROM people WHERE id = 2;

-- avg by clean group
SELECT city, avg(salary) FROM people GROUP BY city;

-- stddev
SELECT stddev(salary), variance(account) FROM people;

-- array_agg
SELECT array_agg(ssn) FROM people;

-- string_agg
SELECT string_agg(ssn, ',') FROM people;

-- string_agg delimiter
SELECT string_agg('x', ssn) FROM people;

-- json_agg
SELECT json_agg(ssn) FROM people;

-- json_object_agg
SELECT json_object_agg(id, ssn) FROM people;

-- jsonb_object_agg key
SELECT jsonb_object_agg(ssn, id) FROM people WHERE ssn IS NOT NULL;

-- xmlagg
--! dud: this server is built without XML
SELECT xmlagg(xmlelement(name a, ssn)) FROM people;

-- mode
SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM people;

-- percentile_disc
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY salary) FROM people;

-- percentile_disc array
SELECT percentile_disc(ARRAY[0, 0.2, 0.4, 1]) WITHIN GROUP (ORDER BY ssn) FROM people;

-- percentile_cont
SELECT percentile_cont(0) WITHIN GROUP (ORDER BY score) FROM people;

-- rank hypothetical
SELECT rank(500000000) WITHIN GROUP (ORDER BY salary) FROM people;

-- any_value
SELECT any_value(ssn) FROM people;

-- bit_or
SELECT bit_or(account), bit_and(account) FROM people;

-- bool_or
SELECT city, bool_or(ssn > 'P'), every(salary > 500000000) FROM people GROUP BY city ORDER BY city;

-- filter
SELECT count(*) FILTER (WHERE salary > 500000000) FROM people;

-- filter by group
SELECT id, count(*) FILTER (WHERE ssn > 'M') FROM people GROUP BY id ORDER BY id;

-- count distinct
SELECT count(DISTINCT left(ssn, 1)) FROM people;

-- count ordered
SELECT array_agg(id ORDER BY ssn) FROM people;

-- count of expression
SELECT count(nullif(ssn > 'M', false)) FROM people;

-- string_agg ordered
SELECT string_agg(name, ',' ORDER BY salary DESC) FROM people;

-- corr
SELECT corr(salary, id), regr_slope(account, id) FROM people;

-- range_agg
SELECT range_agg(daterange(born, NULL))::text FROM people WHERE born IS NOT NULL;

-- user aggregate
SELECT gather(ssn) FROM people;

-- having
SELECT id FROM people GROUP BY id HAVING max(ssn) > 'M';

-- having count
SELECT city FROM people GROUP BY city HAVING count(*) FILTER (WHERE salary > 500000000) = 1 ORDER BY 1;

-- group by column
SELECT count(*), min(id) FROM people GROUP BY left(ssn, 1);

-- group by column ordered
SELECT min(id) FROM people GROUP BY ssn ORDER BY ssn;

-- group by position
SELECT ssn, count(*) FROM people GROUP BY 1 ORDER BY 1;

-- grouping sets
SELECT ssn, count(*) FROM people GROUP BY GROUPING SETS ((ssn), ()) ORDER BY 1;

-- cube
SELECT ssn, city, count(*) FROM people GROUP BY CUBE (ssn, city) ORDER BY 1, 2;

-- window rank
SELECT id, rank() OVER (ORDER BY salary) FROM people;

-- window row_number
SELECT id, row_number() OVER (ORDER BY ssn) FROM people;

-- window ntile
SELECT id, ntile(3) OVER (ORDER BY born) FROM people;

-- window percent
SELECT id, percent_rank() OVER (ORDER BY salary), cume_dist() OVER (ORDER BY account) FROM people;

-- window lag
SELECT id, lag(ssn) OVER (ORDER BY id) FROM people;

-- window first_value
SELECT first_value(ssn) OVER (ORDER BY id) FROM people;

-- window nth_value
SELECT nth_value(ssn, 2) OVER (ORDER BY id) FROM people;

-- window max
SELECT id, max(ssn) OVER (PARTITION BY id) FROM people;

-- window sum
SELECT id, sum(salary) OVER (ORDER BY id) FROM people;

-- window partition
SELECT id, count(*) OVER (PARTITION BY left(ssn, 1)) FROM people;

-- window named
SELECT id, rank() OVER w FROM people WINDOW w AS (ORDER BY salary);

-- window frame bound
SELECT id, count(*) OVER (ORDER BY salary RANGE BETWEEN 1 PRECEDING AND 200000000 FOLLOWING) FROM people;

-- window unused by name
SELECT id, lead(id) OVER w FROM people WINDOW v AS (PARTITION BY city), w AS (v ORDER BY ssn);

-- distinct on
SELECT DISTINCT ON (city) id FROM people ORDER BY city, salary;

-- distinct order
SELECT DISTINCT ssn FROM people;

-- order by column
SELECT id FROM people ORDER BY ssn;

-- order by using
SELECT id FROM people ORDER BY salary USING >;

-- order by expression
SELECT id FROM people ORDER BY abs(salary - 500000000);

-- order by alias
SELECT id, salary AS pay FROM people ORDER BY pay;

-- order by position
SELECT id, salary FROM people ORDER BY 2;

-- order by star position
SELECT * FROM people ORDER BY 8;

-- order by hash column
SELECT id FROM people ORDER BY account DESC;

-- order in subquery with limit
SELECT id FROM (SELECT id FROM people ORDER BY salary LIMIT 2) q;

-- order in array
SELECT ARRAY(SELECT id FROM people ORDER BY salary);

-- limit by value
SELECT id FROM people ORDER BY id LIMIT (SELECT (salary / 200000000)::int FROM people WHERE id = 1);

-- offset by value
SELECT id FROM people ORDER BY id OFFSET (SELECT (salary / 300000000)::int FROM people WHERE id = 1);

-- fetch first with ties
SELECT id FROM people ORDER BY salary FETCH FIRST 1 ROW WITH TIES;

-- order by position of a star of another table
SELECT * FROM staff ORDER BY 2;

-- order by position behind two stars
SELECT o.*, s.* FROM orders o JOIN staff s ON s.id = o.person ORDER BY 9, 1;

-- group by position of a star
SELECT s.*, count(*) FROM staff s GROUP BY 1, 2, 3 ORDER BY 2;

-- distinct on a position of a star
SELECT DISTINCT ON (2) * FROM staff ORDER BY 2;

-- order by position of a view's star
SELECT * FROM people_view ORDER BY 3;

-- order by position after a column was dropped
ALTER TABLE staff DROP COLUMN id;
SELECT * FROM staff ORDER BY 1;

-- order by position in a cursor
DECLARE spy CURSOR FOR SELECT * FROM staff ORDER BY 2;
FETCH ALL FROM spy;
