-- metabase preview
SELECT "public"."people"."id" AS "id", "public"."people"."name" AS "name", "public"."people"."ssn" AS "ssn", "public"."people"."email" AS "email", "public"."people"."salary" AS "salary" FROM "public"."people" LIMIT 2000;

-- metabase count by day
SELECT CAST("public"."orders"."placed" AS date) AS "placed", COUNT(*) AS "count" FROM "public"."orders" GROUP BY CAST("public"."orders"."placed" AS date) ORDER BY CAST("public"."orders"."placed" AS date) ASC;

-- metabase count by month
SELECT DATE_TRUNC('month', "public"."orders"."placed") AS "placed", SUM("public"."orders"."price") AS "sum" FROM "public"."orders" GROUP BY DATE_TRUNC('month', "public"."orders"."placed") ORDER BY DATE_TRUNC('month', "public"."orders"."placed") ASC;

-- metabase join
SELECT "People"."city" AS "People__city", COUNT(*) AS "count" FROM "public"."orders" LEFT JOIN "public"."people" AS "People" ON "public"."orders"."person" = "People"."id" GROUP BY "People"."city" ORDER BY "count" DESC, "People"."city" ASC;

-- metabase nested
SELECT AVG("source"."sum") AS "avg" FROM (SELECT "public"."orders"."person" AS "person", SUM("public"."orders"."price") AS "sum" FROM "public"."orders" GROUP BY "public"."orders"."person") AS "source";

-- metabase nested people
SELECT "source"."city" AS "city", COUNT(*) AS "count" FROM (SELECT "public"."people"."id" AS "id", "public"."people"."city" AS "city", "public"."people"."email" AS "email" FROM "public"."people") AS "source" GROUP BY "source"."city" ORDER BY "source"."city" ASC;

-- metabase fingerprint
SELECT "public"."people"."name" AS "name", SUBSTRING("public"."people"."note", 1, 1234) AS "substring1" FROM "public"."people" LIMIT 10000;

-- metabase distinct values
SELECT "public"."people"."city" AS "city" FROM "public"."people" GROUP BY "public"."people"."city" ORDER BY "public"."people"."city" ASC LIMIT 1001;

-- metabase distinct vendor emails
SELECT "public"."vendors"."email" AS "email" FROM "public"."vendors" GROUP BY "public"."vendors"."email" ORDER BY "public"."vendors"."email" ASC LIMIT 1001;

-- metabase bins
SELECT FLOOR(("public"."orders"."price" / 10.0)) * 10.0 AS "price", COUNT(*) AS "count" FROM "public"."orders" GROUP BY FLOOR(("public"."orders"."price" / 10.0)) * 10.0 ORDER BY 1 ASC;

-- metabase filter
SELECT COUNT(*) AS "count" FROM "public"."orders" WHERE ("public"."orders"."placed" >= CAST('2024-01-05' AS date)) AND (LOWER("public"."orders"."item") LIKE '%1%');

-- tableau connect
SELECT "orders"."item" AS "item", SUM("orders"."price") AS "sum:price:ok" FROM "public"."orders" "orders" GROUP BY 1;

-- tableau top
SELECT "people"."dept" AS "dept", COUNT("people"."id") AS "cnt:id:ok" FROM "public"."people" "people" INNER JOIN "public"."orders" "orders" ON ("people"."id" = "orders"."person") GROUP BY 1 HAVING (COUNT(1) > 0);

-- tableau date parts
SELECT CAST(EXTRACT(YEAR FROM "orders"."placed") AS INTEGER) AS "yr:placed:ok", SUM("orders"."qty") AS "q" FROM "public"."orders" "orders" GROUP BY 1 ORDER BY 1;

-- tableau empty probe
SELECT * FROM (SELECT * FROM "public"."people") "Custom SQL Query" LIMIT 0;

-- tableau temp
SELECT "Custom SQL Query"."id" AS "id", "Custom SQL Query"."ssn" AS "ssn" FROM (SELECT id, ssn, city FROM people) "Custom SQL Query" WHERE "Custom SQL Query"."city" = 'Rome';

-- looker
SELECT people.city AS "people.city", COUNT(DISTINCT people.id) AS "people.count", COALESCE(SUM(orders.price), 0) AS "orders.total" FROM orders AS orders LEFT JOIN people AS people ON orders.person = people.id GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 500;

-- looker symmetric
SELECT people.dept AS "people.dept", COUNT(orders.id) AS "orders.count" FROM people LEFT JOIN orders ON people.id = orders.person WHERE ((people.city = 'Paris')) GROUP BY 1 ORDER BY 1;

-- looker pivot
SELECT * FROM (SELECT *, DENSE_RANK() OVER (ORDER BY z___min_rank) AS z___pivot_row_rank FROM (SELECT *, MIN(z___rank) OVER (PARTITION BY "orders.item") AS z___min_rank FROM (SELECT *, RANK() OVER (ORDER BY "orders.total" DESC, "orders.item") AS z___rank FROM (SELECT orders.item AS "orders.item", SUM(orders.price) AS "orders.total" FROM orders GROUP BY 1) ww) bb) aa) xx WHERE z___pivot_row_rank <= 500 ORDER BY z___pivot_row_rank;

-- power bi
select "$Table"."id" as "id", "$Table"."name" as "name", "$Table"."email" as "email" from "public"."people" "$Table";

-- power bi folded
select "_"."item", "_"."a0" from (select "rows"."item" as "item", sum("rows"."price") as "a0" from "public"."orders" "rows" group by "item") "_" where not "_"."a0" is null;

-- power bi page
select "$Ordered"."id", "$Ordered"."name", "$Ordered"."ssn" from (select "_"."id", "_"."name", "_"."ssn" from "public"."people" "_" where "_"."city" = 'Paris') "$Ordered" order by "$Ordered"."id" limit 4096;

-- power bi join
select "$Outer"."item", "$Inner"."name", "$Inner"."email" from "public"."orders" as "$Outer" left outer join "public"."people" as "$Inner" on ("$Outer"."person" = "$Inner"."id") order by "$Outer"."id";

-- superset
SELECT city AS city, count(*) AS count FROM public.people GROUP BY city ORDER BY count DESC, city LIMIT 1000;

-- superset virtual
SELECT item AS item, sum(price) AS "SUM(price)" FROM (SELECT o.item, o.price, p.city FROM orders o JOIN people p ON p.id = o.person) AS virtual_table WHERE city IN ('Paris', 'Rome') GROUP BY item ORDER BY "SUM(price)" DESC LIMIT 10;

-- superset virtual with hidden columns
SELECT city AS city, count(*) AS count FROM (SELECT * FROM people) AS virtual_table GROUP BY city ORDER BY count DESC, city LIMIT 1000;

-- superset time
SELECT DATE_TRUNC('week', placed) AS __timestamp, AVG(price) AS avg FROM public.orders WHERE placed >= TO_DATE('2024-01-01', 'YYYY-MM-DD') AND placed < TO_DATE('2024-03-01', 'YYYY-MM-DD') GROUP BY DATE_TRUNC('week', placed) ORDER BY 1;

-- grafana
SELECT $$people$$ AS metric, extract(epoch FROM placed) AS time, price AS value FROM orders WHERE placed BETWEEN '2024-01-01T00:00:00Z' AND '2024-02-01T00:00:00Z' ORDER BY 2;

-- grafana buckets
SELECT floor(extract(epoch FROM placed)/86400)*86400 AS "time", count(*) FROM orders GROUP BY 1 ORDER BY 1;

-- redash count
SELECT COUNT(*) FROM (SELECT id, name, email FROM people) t;

-- cohort
SELECT date_trunc('month', p.joined) AS cohort, date_trunc('month', o.placed) AS month, count(DISTINCT o.person) FROM people p JOIN orders o ON o.person = p.id GROUP BY 1, 2 ORDER BY 1, 2;

-- percentiles of clean column
SELECT percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY price), stddev(price) FROM orders;

-- running total
SELECT placed, sum(sum(price)) OVER (ORDER BY placed) FROM orders GROUP BY placed ORDER BY placed;

-- moving average
SELECT id, avg(price) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM orders ORDER BY id;

-- year over year
SELECT a.item, a.total, lag(a.total) OVER (ORDER BY a.item) FROM (SELECT item, sum(total) AS total FROM orders GROUP BY item) a ORDER BY 1;

-- share of total
SELECT item, sum(price) / sum(sum(price)) OVER () AS share FROM orders GROUP BY item ORDER BY item;

-- crosstab by filter
SELECT p.city, count(*) FILTER (WHERE o.item = 'item 0') AS i0, count(*) FILTER (WHERE o.item = 'item 1') AS i1 FROM orders o JOIN people p ON p.id = o.person GROUP BY p.city ORDER BY 1;

-- first order
SELECT DISTINCT ON (p.id) p.id, p.name, p.email, o.placed FROM people p JOIN orders o ON o.person = p.id ORDER BY p.id, o.placed;

-- people without orders
SELECT p.id, p.name, p.email FROM people p LEFT JOIN orders o ON o.person = p.id WHERE o.id IS NULL ORDER BY p.id;

-- histogram
SELECT width_bucket(price, 0, 60, 6) AS b, count(*) FROM orders GROUP BY b ORDER BY b;

-- export
SELECT p.*, count(o.id) AS n FROM people p LEFT JOIN orders o ON o.person = p.id GROUP BY p.id ORDER BY p.id;
