-- get
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."id" = 1 LIMIT 21;

-- all
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people";

-- filter city
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."city" = 'Paris';

-- by email
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."email" = 'nobody@example.org';

-- in
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."id" IN (1, 2, 3);

-- exclude
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE NOT ("people"."city" = 'Rome' AND "people"."city" IS NOT NULL);

-- order
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" ORDER BY "people"."joined" DESC, "people"."name" ASC LIMIT 3;

-- slice
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" ORDER BY "people"."id" ASC LIMIT 2 OFFSET 2;

-- values
SELECT "people"."id" AS "id", "people"."name" AS "name", "people"."ssn" AS "ssn" FROM "people";

-- values_list
SELECT "people"."email" AS "email" FROM "people";

-- only
SELECT "people"."id", "people"."name" FROM "people";

-- defer
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people";

-- count
SELECT COUNT(*) AS "__count" FROM "people";

-- count filtered
SELECT COUNT(*) AS "__count" FROM "people" WHERE "people"."city" = 'Oslo';

-- exists
SELECT 1 AS "a" FROM "people" WHERE "people"."email" = 'x' LIMIT 1;

-- first
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" ORDER BY "people"."id" ASC LIMIT 1;

-- last
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" ORDER BY "people"."id" DESC LIMIT 1;

-- latest
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" ORDER BY "people"."joined" DESC LIMIT 1;

-- icontains
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE UPPER("people"."name"::text) LIKE UPPER('%d%');

-- startswith
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."name"::text LIKE 'A%';

-- iexact name
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE UPPER("people"."name"::text) = UPPER('ada');

-- regex
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."name"::text ~ '^A';

-- isnull
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."ssn" IS NULL;

-- or
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE ("people"."city" = 'Paris' OR "people"."dept" = 'HR');

-- and not
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE (NOT ("people"."city" = 'Paris' AND "people"."city" IS NOT NULL) AND "people"."dept" = 'RD');

-- year
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."joined" BETWEEN '2020-01-01'::date AND '2020-12-31'::date;

-- range
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."joined" BETWEEN '2020-01-01'::date AND '2020-03-01'::date;

-- select_related
SELECT "orders"."id", "orders"."person", "orders"."item", "orders"."price", "orders"."placed", "orders"."qty", "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "orders" INNER JOIN "people" ON ("orders"."person" = "people"."id") LIMIT 3;

-- select_related filter
SELECT "orders"."id", "orders"."person", "orders"."item", "orders"."price", "orders"."placed", "orders"."qty", "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "orders" INNER JOIN "people" ON ("orders"."person" = "people"."id") WHERE "people"."city" = 'Paris';

-- prefetch
SELECT "orders"."id", "orders"."person", "orders"."item", "orders"."price", "orders"."placed", "orders"."qty" FROM "orders" WHERE "orders"."person" IN (2, 3, 4, 5, 6, 1);

-- reverse
SELECT "orders"."id", "orders"."person", "orders"."item", "orders"."price", "orders"."placed", "orders"."qty" FROM "orders" WHERE "orders"."person" = 1;

-- distinct
SELECT DISTINCT "people"."city" AS "city" FROM "people";

-- values annotate
SELECT "orders"."item" AS "item", COUNT("orders"."id") AS "n", SUM("orders"."price") AS "s" FROM "orders" GROUP BY 1 ORDER BY 3 DESC;

-- city counts
SELECT "people"."city" AS "city", COUNT("people"."id") AS "n" FROM "people" GROUP BY 1 ORDER BY 1 ASC;

-- aggregate
SELECT SUM("orders"."price") AS "price__sum", AVG("orders"."price") AS "price__avg", MAX("orders"."price") AS "price__max", MIN("orders"."placed") AS "placed__min" FROM "orders";

-- having
SELECT "orders"."person" AS "person", COUNT("orders"."id") AS "n" FROM "orders" GROUP BY 1 HAVING COUNT("orders"."id") > 3;

-- F
SELECT "orders"."id", "orders"."person", "orders"."item", "orders"."price", "orders"."placed", "orders"."qty" FROM "orders" WHERE "orders"."price" > ("orders"."qty" * 2);

-- exists subquery
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE EXISTS(SELECT 1 AS "a" FROM "orders" U0 WHERE (U0."item" = 'item 2' AND U0."person" = ("people"."id")) LIMIT 1);

-- subquery
SELECT "people"."id" AS "id", "people"."name" AS "name", (SELECT U0."item" AS "item" FROM "orders" U0 WHERE U0."person" = ("people"."id") ORDER BY U0."placed" DESC LIMIT 1) AS "last" FROM "people";

-- in subquery
SELECT "orders"."id", "orders"."person", "orders"."item", "orders"."price", "orders"."placed", "orders"."qty" FROM "orders" WHERE "orders"."person" IN (SELECT U0."id" FROM "people" U0 WHERE U0."city" = 'Rome');

-- window
SELECT "orders"."id" AS "id", ROW_NUMBER() OVER (PARTITION BY "orders"."person" ORDER BY "orders"."price" DESC) AS "r" FROM "orders" LIMIT 5;

-- case
SELECT "people"."name" AS "name", CASE WHEN "people"."city" = 'Paris' THEN 1 ELSE 0 END AS "k" FROM "people";

-- lower
SELECT LOWER("people"."name") AS "l" FROM "people";

-- trunc
SELECT DATE_TRUNC('month', "orders"."placed") AS "m", COUNT("orders"."id") AS "n" FROM "orders" GROUP BY 1 ORDER BY 1 ASC;

-- union
(SELECT "people"."name" AS "name" FROM "people") UNION (SELECT "vendors"."name" AS "name" FROM "vendors");

-- vendor lower email
SELECT LOWER("vendors"."email") AS "e" FROM "vendors";

-- vendor iexact email
SELECT "vendors"."id", "vendors"."name", "vendors"."email", "vendors"."city", "vendors"."account", "vendors"."ssn" FROM "vendors" WHERE UPPER("vendors"."email"::text) = UPPER('HI@BOLT.TEST');

-- vendor order account
SELECT "vendors"."id", "vendors"."name", "vendors"."email", "vendors"."city", "vendors"."account", "vendors"."ssn" FROM "vendors" ORDER BY "vendors"."account" DESC;

-- explain
--! costs
EXPLAIN SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."id" = 1;

-- select for update
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."id" = 1 FOR UPDATE;

-- in_bulk
SELECT "people"."id", "people"."name", "people"."city", "people"."dept", "people"."joined", "people"."boss", "people"."note", "people"."ssn", "people"."email", "people"."salary", "people"."account", "people"."born", "people"."token" FROM "people" WHERE "people"."id" IN (1, 2);

-- dates
SELECT DISTINCT DATE_TRUNC('month', "orders"."placed") AS "datefield" FROM "orders" WHERE "orders"."placed" IS NOT NULL ORDER BY 1 ASC;

-- none raw
SELECT * FROM people WHERE id = 1;

-- create
INSERT INTO "people" ("id", "name", "city", "dept", "joined", "boss", "note", "ssn", "email", "salary", "account", "born", "token") VALUES (100, 'New', NULL, NULL, NULL, NULL, NULL, 'X-1', 'new@example.org', NULL, NULL, NULL, NULL);

-- create order
INSERT INTO "orders" ("person", "item", "price", "placed", "qty") VALUES (1, 'new', 3, '2024-01-01'::date, 1) RETURNING "orders"."id";

-- bulk_create
INSERT INTO "orders" ("person", "item", "price", "placed", "qty") SELECT * FROM UNNEST(('{1,2}'::int4[])::integer[], ('{b,c}')::text[], ('{1,2}'::numeric[])::numeric[], ('{2024-01-01,2024-01-02}'::date[])::date[], ('{1,2}'::int4[])::integer[]) RETURNING "orders"."id";

-- save
SELECT "people"."id", "people"."name", "people"."city" FROM "people" WHERE "people"."id" = 1 LIMIT 21;

-- save 2
UPDATE "people" SET "name" = 'Ada', "city" = 'Bonn' WHERE "people"."id" = 1;

-- save fields
UPDATE "people" SET "city" = 'Bonn' WHERE "people"."id" = 2;

-- update
UPDATE "people" SET "note" = 'x' WHERE "people"."city" = 'Paris';

-- update F
UPDATE "orders" SET "price" = ("orders"."price" + 1) WHERE "orders"."person" = 1;

-- update masked
UPDATE "people" SET "email" = 'a@b.c' WHERE "people"."id" = 1;

-- get_or_create
SELECT "vendors"."id", "vendors"."name", "vendors"."email", "vendors"."city", "vendors"."account", "vendors"."ssn" FROM "vendors" WHERE "vendors"."id" = 1 LIMIT 21;

-- update_or_create
SELECT "vendors"."id", "vendors"."name", "vendors"."email", "vendors"."city", "vendors"."account", "vendors"."ssn" FROM "vendors" WHERE "vendors"."id" = 2 LIMIT 21 FOR UPDATE;

-- update_or_create 2
UPDATE "vendors" SET "city" = 'Bari' WHERE "vendors"."id" = 2;

-- bulk_update
SELECT "orders"."id", "orders"."person", "orders"."item", "orders"."price", "orders"."placed", "orders"."qty" FROM "orders" ORDER BY "orders"."id" ASC LIMIT 2;

-- bulk_update 2
UPDATE "orders" SET "item" = (CASE WHEN ("orders"."id" = 1) THEN 'item 1' WHEN ("orders"."id" = 2) THEN 'item 2' ELSE NULL END)::text WHERE "orders"."id" IN (1, 2);

-- delete
DELETE FROM "orders" WHERE "orders"."item" = 'item 3';

-- bulk upsert
INSERT INTO "vendors" ("id", "name", "email", "city", "account", "ssn") VALUES (1, 'a', 'e', 'c', 1, 's') ON CONFLICT("id") DO UPDATE SET "email" = EXCLUDED."email";

-- introspect tables
SELECT
                c.relname,
                CASE
                    WHEN c.relispartition THEN 'p'
                    WHEN c.relkind IN ('m', 'v') THEN 'v'
                    ELSE 't'
                END,
                obj_description(c.oid, 'pg_class')
            FROM pg_catalog.pg_class c
            LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v')
                AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
                AND pg_catalog.pg_table_is_visible(c.oid);

-- introspect sequences
SELECT
                s.relname AS sequence_name,
                a.attname AS colname
            FROM
                pg_class s
                JOIN pg_depend d ON d.objid = s.oid
                    AND d.classid = 'pg_class'::regclass
                    AND d.refclassid = 'pg_class'::regclass
                JOIN pg_attribute a ON d.refobjid = a.attrelid
                    AND d.refobjsubid = a.attnum
                JOIN pg_class tbl ON tbl.oid = d.refobjid
                    AND tbl.relname = 'orders'
                    AND pg_catalog.pg_table_is_visible(tbl.oid)
            WHERE
                s.relkind = 'S';;

-- introspect relations
SELECT a1.attname, c2.relname, a2.attname
            FROM pg_constraint con
            LEFT JOIN pg_class c1 ON con.conrelid = c1.oid
            LEFT JOIN pg_class c2 ON con.confrelid = c2.oid
            LEFT JOIN
                pg_attribute a1 ON c1.oid = a1.attrelid AND a1.attnum = con.conkey[1]
            LEFT JOIN
                pg_attribute a2 ON c2.oid = a2.attrelid AND a2.attnum = con.confkey[1]
            WHERE
                c1.relname = 'orders' AND
                con.contype = 'f' AND
                c1.relnamespace = c2.relnamespace AND
                pg_catalog.pg_table_is_visible(c1.oid);

-- introspect constraints
SELECT
                c.conname,
                array(
                    SELECT attname
                    FROM unnest(c.conkey) WITH ORDINALITY cols(colid, arridx)
                    JOIN pg_attribute AS ca ON cols.colid = ca.attnum
                    WHERE ca.attrelid = c.conrelid
                    ORDER BY cols.arridx
                ),
                c.contype,
                (SELECT fkc.relname || '.' || fka.attname
                FROM pg_attribute AS fka
                JOIN pg_class AS fkc ON fka.attrelid = fkc.oid
                WHERE fka.attrelid = c.confrelid AND fka.attnum = c.confkey[1]),
                cl.reloptions
            FROM pg_constraint AS c
            JOIN pg_class AS cl ON c.conrelid = cl.oid
            WHERE cl.relname = 'people' AND pg_catalog.pg_table_is_visible(cl.oid);

-- introspect constraints 2
SELECT
                indexname,
                array_agg(attname ORDER BY arridx),
                indisunique,
                indisprimary,
                array_agg(ordering ORDER BY arridx),
                amname,
                exprdef,
                s2.attoptions
            FROM (
                SELECT
                    c2.relname as indexname, idx.*, attr.attname, am.amname,
                    CASE
                        WHEN idx.indexprs IS NOT NULL THEN
                            pg_get_indexdef(idx.indexrelid)
                    END AS exprdef,
                    CASE am.amname
                        WHEN 'btree' THEN
                            CASE (option & 1)
                                WHEN 1 THEN 'DESC' ELSE 'ASC'
                            END
                    END as ordering,
                    c2.reloptions as attoptions
                FROM (
                    SELECT *
                    FROM
                        pg_index i,
                        unnest(i.indkey, i.indoption)
                            WITH ORDINALITY koi(key, option, arridx)
                ) idx
                LEFT JOIN pg_class c ON idx.indrelid = c.oid
                LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid
                LEFT JOIN pg_am am ON c2.relam = am.oid
                LEFT JOIN
                    pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = idx.key
                WHERE c.relname = 'people' AND pg_catalog.pg_table_is_visible(c.oid)
            ) s2
            GROUP BY indexname, indisunique, indisprimary, amname, exprdef, attoptions;;

-- introspect description
SELECT
                a.attname AS column_name,
                NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)) AS is_nullable,
                pg_get_expr(ad.adbin, ad.adrelid) AS column_default,
                CASE WHEN collname = 'default' THEN NULL ELSE collname END AS collation,
                a.attidentity != '' AS is_autofield,
                col_description(a.attrelid, a.attnum) AS column_comment
            FROM pg_attribute a
            LEFT JOIN pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum
            LEFT JOIN pg_collation co ON a.attcollation = co.oid
            JOIN pg_type t ON a.atttypid = t.oid
            JOIN pg_class c ON a.attrelid = c.oid
            JOIN pg_namespace n ON c.relnamespace = n.oid
            WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v')
                AND c.relname = 'people'
                AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
                AND pg_catalog.pg_table_is_visible(c.oid);

-- introspect description 2
SELECT * FROM "people" LIMIT 1;
