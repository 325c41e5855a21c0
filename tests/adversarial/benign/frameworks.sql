-- activerecord load
SELECT "people".* FROM "people" WHERE "people"."id" = 1 LIMIT 1;

-- activerecord find
--! parameters: ["1", "1"]
SELECT "people".* FROM "people" WHERE "people"."id" = $1 LIMIT $2;

-- activerecord find_by
--! parameters: ["x", "1"]
SELECT "people".* FROM "people" WHERE "people"."email" = $1 LIMIT $2;

-- activerecord where
--! parameters: ["Paris"]
SELECT "people".* FROM "people" WHERE "people"."city" = $1 ORDER BY "people"."id" ASC;

-- activerecord first
--! parameters: ["1"]
SELECT "people".* FROM "people" ORDER BY "people"."id" ASC LIMIT $1;

-- activerecord exists
--! parameters: ["x", "1"]
SELECT 1 AS one FROM "people" WHERE "people"."email" = $1 LIMIT $2;

-- activerecord uniqueness
--! parameters: ["x", "3", "1"]
SELECT 1 AS one FROM "people" WHERE "people"."ssn" = $1 AND "people"."id" != $2 LIMIT $3;

-- activerecord count
SELECT COUNT(*) FROM "people";

-- activerecord count distinct
SELECT COUNT(DISTINCT "orders"."person") FROM "orders";

-- activerecord pluck
SELECT "people"."id", "people"."email" FROM "people";

-- activerecord joins
--! parameters: ["item 1"]
SELECT "people".* FROM "people" INNER JOIN "orders" ON "orders"."person" = "people"."id" WHERE "orders"."item" = $1 ORDER BY "orders"."id";

-- activerecord includes
SELECT "orders".* FROM "orders" WHERE "orders"."person" IN (1, 2, 3) ORDER BY "orders"."id";

-- activerecord eager_load
SELECT "people"."id" AS t0_r0, "people"."name" AS t0_r1, "people"."ssn" AS t0_r2, "people"."email" AS t0_r3, "orders"."id" AS t1_r0, "orders"."item" AS t1_r1 FROM "people" LEFT OUTER JOIN "orders" ON "orders"."person" = "people"."id" ORDER BY "people"."id", "orders"."id";

-- activerecord eager_load limit
--! parameters: ["2"]
SELECT DISTINCT "people"."id", "people"."name" AS alias_0 FROM "people" LEFT OUTER JOIN "orders" ON "orders"."person" = "people"."id" ORDER BY "people"."name" ASC LIMIT $1;

-- activerecord group
SELECT COUNT(*) AS "count_all", "people"."city" AS "people_city" FROM "people" GROUP BY "people"."city" ORDER BY 2;

-- activerecord sum
SELECT SUM("orders"."price") FROM "orders" WHERE "orders"."person" = 1;

-- activerecord batches
--! parameters: ["2", "1000"]
SELECT "people".* FROM "people" WHERE "people"."id" > $1 ORDER BY "people"."id" ASC LIMIT $2;

-- activerecord insert
--! parameters: ["1", "x", "2.5"]
INSERT INTO "orders" ("person", "item", "price") VALUES ($1, $2, $3) RETURNING "id";

-- activerecord insert person
--! parameters: ["100", "N", "e@x.y"]
INSERT INTO "people" ("id", "name", "email") VALUES ($1, $2, $3) RETURNING "id";

-- activerecord update
--! parameters: ["Bonn", "1"]
UPDATE "people" SET "city" = $1 WHERE "people"."id" = $2;

-- activerecord update hidden
--! parameters: ["e@x.y", "1"]
UPDATE "people" SET "email" = $1 WHERE "people"."id" = $2;

-- activerecord update_all
--! parameters: ["x"]
UPDATE "orders" SET "item" = $1 WHERE "orders"."person" IN (SELECT "people"."id" FROM "people" WHERE "people"."city" = 'Rome');

-- activerecord destroy
--! parameters: ["3"]
DELETE FROM "orders" WHERE "orders"."id" = $1;

-- activerecord upsert_all
INSERT INTO "vendors" ("id","name","email") VALUES (1, 'a', 'b') ON CONFLICT ("id") DO UPDATE SET "name"=excluded."name","email"=excluded."email" RETURNING "id";

-- activerecord lock
--! parameters: ["1", "1"]
SELECT "people".* FROM "people" WHERE "people"."id" = $1 LIMIT $2 FOR UPDATE;

-- activerecord settings
SET LOCAL client_min_messages TO warning;
SET LOCAL standard_conforming_strings = on;
SELECT 1;

-- activerecord timezone
SET LOCAL timezone TO 'UTC';
SHOW timezone;

-- activerecord types
SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput::varchar, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4', 'int8', 'oid', 'float4', 'float8', 'numeric', 'bool', 'text', 'uuid', 'jsonb', 'inet') OR t.typtype IN ('r', 'e', 'd') OR t.typelem IN (SELECT oid FROM pg_type WHERE typname = 'text');

-- activerecord columns
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity AS identity, attgenerated as attgenerated FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '"people"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;

-- activerecord primary keys
SELECT a.attname FROM (SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx FROM pg_index WHERE indrelid = '"people"'::regclass AND indisprimary) i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[i.idx] ORDER BY i.idx;

-- activerecord tables
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relkind IN ('r','v','m','p','f') ORDER BY 1;

-- activerecord indexes
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), pg_catalog.obj_description(i.oid, 'pg_class') AS comment, d.indisvalid FROM pg_class t INNER JOIN pg_index d ON t.oid = d.indrelid INNER JOIN pg_class i ON d.indexrelid = i.oid LEFT JOIN pg_namespace n ON n.oid = t.relnamespace WHERE i.relkind IN ('i', 'I') AND d.indisprimary = 'f' AND t.relname = 'people' AND n.nspname = ANY (current_schemas(false)) ORDER BY i.relname;

-- activerecord foreign keys
SELECT t2.oid::regclass::text AS to_table, a1.attname AS column, a2.attname AS primary_key, c.conname AS name, c.confupdtype AS on_update, c.confdeltype AS on_delete, c.convalidated AS valid, c.condeferrable AS deferrable, c.condeferred AS deferred, c.conkey, c.confkey, c.conrelid, c.confrelid FROM pg_constraint c JOIN pg_class t1 ON c.conrelid = t1.oid JOIN pg_class t2 ON c.confrelid = t2.oid JOIN pg_attribute a1 ON a1.attnum = c.conkey[1] AND a1.attrelid = t1.oid JOIN pg_attribute a2 ON a2.attnum = c.confkey[1] AND a2.attrelid = t2.oid JOIN pg_namespace t3 ON c.connamespace = t3.oid WHERE c.contype = 'f' AND t1.relname = 'orders' AND t3.nspname = ANY (current_schemas(false)) ORDER BY c.conname;

-- activerecord advisory
SELECT pg_try_advisory_xact_lock(4242424242);

-- prisma find many
--! parameters: ["0"]
SELECT "public"."people"."id", "public"."people"."name", "public"."people"."city", "public"."people"."ssn", "public"."people"."email", "public"."people"."salary", "public"."people"."joined" FROM "public"."people" WHERE 1=1 OFFSET $1;

-- prisma find unique
--! parameters: ["1", "1", "0"]
SELECT "public"."people"."id", "public"."people"."name", "public"."people"."email" FROM "public"."people" WHERE ("public"."people"."id" = $1 AND 1=1) LIMIT $2 OFFSET $3;

-- prisma relation
--! parameters: ["1", "2", "0"]
SELECT "public"."orders"."id", "public"."orders"."person", "public"."orders"."item" FROM "public"."orders" WHERE "public"."orders"."person" IN ($1,$2) OFFSET $3;

-- prisma some
--! parameters: ["item 1", "0"]
SELECT "public"."people"."id", "public"."people"."ssn" FROM "public"."people" WHERE ("public"."people"."id") IN (SELECT "t1"."person" FROM "public"."orders" AS "t1" WHERE ("t1"."item" = $1 AND "t1"."person" IS NOT NULL)) OFFSET $2;

-- prisma exists
--! parameters: ["item 1", "0"]
SELECT "t0"."id", "t0"."email" FROM "public"."people" AS "t0" WHERE EXISTS(SELECT "t1"."person" FROM "public"."orders" AS "t1" WHERE ("t1"."item" = $1 AND ("t0"."id") = ("t1"."person") AND "t1"."person" IS NOT NULL)) OFFSET $2;

-- prisma count
--! parameters: ["0"]
SELECT COUNT(*) FROM (SELECT "public"."people"."id" FROM "public"."people" WHERE 1=1 OFFSET $1) AS "sub";

-- prisma aggregate
--! parameters: ["0"]
SELECT COUNT(*), SUM("price"), AVG("price") FROM (SELECT "public"."orders"."id", "public"."orders"."price" FROM "public"."orders" WHERE 1=1 OFFSET $1) AS "sub";

-- prisma group by
--! parameters: ["0"]
SELECT COUNT(*), "public"."people"."city" FROM "public"."people" WHERE 1=1 GROUP BY "public"."people"."city" ORDER BY "public"."people"."city" OFFSET $1;

-- prisma create
--! parameters: ["1", "x"]
INSERT INTO "public"."orders" ("person","item") VALUES ($1,$2) RETURNING "public"."orders"."id";

-- prisma create person
--! parameters: ["100", "N", "e@x.y"]
INSERT INTO "public"."people" ("id","name","email") VALUES ($1,$2,$3) RETURNING "public"."people"."id", "public"."people"."name", "public"."people"."email";

-- prisma update
--! parameters: ["Bonn", "1"]
UPDATE "public"."people" SET "city" = $1 WHERE ("public"."people"."id" = $2 AND 1=1) RETURNING "public"."people"."id", "public"."people"."city", "public"."people"."ssn";

-- prisma update many
--! parameters: ["x", "Paris"]
UPDATE "public"."people" SET "note" = $1 WHERE "public"."people"."city" = $2;

-- prisma delete
--! parameters: ["3"]
DELETE FROM "public"."orders" WHERE ("public"."orders"."id" = $1 AND 1=1) RETURNING "public"."orders"."id", "public"."orders"."item";

-- prisma upsert
--! parameters: ["1", "n", "m", "1"]
INSERT INTO "public"."vendors" ("id","name") VALUES ($1,$2) ON CONFLICT ("id") DO UPDATE SET "name" = $3 WHERE ("public"."vendors"."id" = $4 AND 1=1) RETURNING "public"."vendors"."id", "public"."vendors"."name";

-- prisma increment
--! parameters: ["1", "3"]
UPDATE "public"."orders" SET "qty" = ("public"."orders"."qty" + $1) WHERE ("public"."orders"."id" = $2 AND 1=1);

-- prisma lateral join
SELECT "t1"."id", "t1"."name", "t1"."email", "People_orders"."__prisma_data__" AS "orders" FROM "public"."people" AS "t1" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG("__prisma_data__"), '[]') AS "__prisma_data__" FROM (SELECT "t3"."__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT('id', "t2"."id", 'item', "t2"."item") AS "__prisma_data__" FROM (SELECT "t2".* FROM "public"."orders" AS "t2" WHERE "t1"."id" = "t2"."person") AS "t2") AS "t3") AS "t4") AS "People_orders" ON TRUE ORDER BY "t1"."id";

-- prisma schema tables
SELECT tbl.relname AS table_name, namespace.nspname as namespace, (tbl.relhassubclass and tbl.relkind = 'p') as is_partition, tbl.relrowsecurity as has_row_level_security, reloptions, obj_description(tbl.oid, 'pg_class') as description FROM pg_class AS tbl INNER JOIN pg_namespace AS namespace ON namespace.oid = tbl.relnamespace WHERE (tbl.relkind = 'r' OR tbl.relkind = 'p') AND namespace.nspname = ANY (ARRAY['public']) ORDER BY namespace, table_name;

-- prisma schema columns
SELECT oid.namespace, info.table_name, info.column_name, format_type(att.atttypid, att.atttypmod) as formatted_type, info.numeric_precision, info.numeric_scale, info.datetime_precision, info.data_type, info.udt_schema as type_schema_name, info.udt_name as full_data_type, pg_get_expr(attdef.adbin, attdef.adrelid) AS column_default, info.is_nullable, info.is_identity, info.character_maximum_length, col_description(att.attrelid, ordinal_position) AS description FROM information_schema.columns info JOIN pg_attribute att ON att.attname = info.column_name JOIN (SELECT pg_class.oid, relname, pg_namespace.nspname as namespace FROM pg_class JOIN pg_namespace on pg_namespace.oid = pg_class.relnamespace AND pg_namespace.nspname = ANY (ARRAY['public']) WHERE reltype > 0) as oid on oid.oid = att.attrelid AND relname = info.table_name AND namespace = info.table_schema LEFT JOIN pg_attrdef attdef ON attdef.adrelid = att.attrelid AND attdef.adnum = att.attnum AND table_schema = namespace WHERE table_schema = ANY (ARRAY['public']) ORDER BY namespace, table_name, ordinal_position;

-- prisma schema enums
SELECT t.typname as name, e.enumlabel as value, n.nspname as namespace, obj_description(t.oid, 'pg_type') as description FROM pg_type t JOIN pg_enum e ON t.oid = e.enumtypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = ANY (ARRAY['public']) ORDER BY e.enumsortorder;

-- prisma version
SELECT version(), current_setting('server_version_num')::integer as numeric_version;

-- prisma schema exists
SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'public'), version(), current_setting('server_version_num')::integer as numeric_version;

-- hibernate entity
select p1_0.id, p1_0.name, p1_0.city, p1_0.email, p1_0.ssn from people p1_0 where p1_0.id=1;

-- hibernate fetch join
select o1_0.id, o1_0.item, p1_0.id, p1_0.name, p1_0.email, o1_0.price from orders o1_0 left join people p1_0 on p1_0.id=o1_0.person where o1_0.id=5;

-- hibernate page
select p1_0.id, p1_0.name, p1_0.ssn from people p1_0 where p1_0.city='Paris' order by p1_0.joined desc offset 0 rows fetch first 10 rows only;

-- hibernate count
select count(p1_0.id) from people p1_0 where lower(p1_0.name) like '%a%' escape '';

-- hibernate sequence
select nextval('tickets');

-- hibernate batch insert
--! parameters: ["a", "1", "1", "900"]
insert into orders (item,person,price,id) values ($1,$2,$3,$4);

-- hibernate update
--! parameters: ["Bonn", "e", "Ada", "1"]
update people set city=$1, email=$2, name=$3 where id=$4;

-- ef core query
SELECT p."id", p."name", p."email", t."id", t."item" FROM "people" AS p LEFT JOIN (SELECT o."id", o."item", o."person" FROM "orders" AS o WHERE o."qty" > 2) AS t ON p."id" = t."person" ORDER BY p."id", t."id";

-- ef core any
SELECT EXISTS (SELECT 1 FROM "people" AS p WHERE p."email" = 'x');

-- ef core group
SELECT o."item" AS "Key", count(*)::int AS "Count", COALESCE(sum(o."price"), 0.0) AS "Total" FROM "orders" AS o GROUP BY o."item" ORDER BY 1;

-- ef core insert
--! parameters: ["1", "x"]
INSERT INTO orders (person, item) VALUES ($1, $2) RETURNING id;

-- ef core page
--! parameters: ["2", "1"]
SELECT p.id, p.name, p.ssn FROM people AS p ORDER BY p.name LIMIT $1 OFFSET $2;

-- typeorm find
SELECT "Person"."id" AS "Person_id", "Person"."name" AS "Person_name", "Person"."email" AS "Person_email" FROM "people" "Person" WHERE (("Person"."city" = 'Paris')) ORDER BY "Person"."id" ASC;

-- typeorm relation skip take
SELECT DISTINCT "distinctAlias"."Person_id" AS "ids_Person_id" FROM (SELECT "Person"."id" AS "Person_id", "Person"."name" AS "Person_name", "Person"."email" AS "Person_email", "o"."id" AS "o_id" FROM "people" "Person" LEFT JOIN "orders" "o" ON "o"."person"="Person"."id") "distinctAlias" ORDER BY "Person_id" ASC LIMIT 2;

-- sequelize find
SELECT "id", "name", "email" FROM "people" AS "Person" WHERE "Person"."city" = 'Paris' ORDER BY "id";

-- sequelize include
SELECT "Person"."id", "Person"."name", "Person"."ssn", "orders"."id" AS "orders.id", "orders"."item" AS "orders.item" FROM "people" AS "Person" LEFT OUTER JOIN "orders" AS "orders" ON "Person"."id" = "orders"."person" ORDER BY "Person"."id", "orders"."id";

-- sequelize findAndCount
SELECT count(*) AS "count" FROM "people" AS "Person" WHERE "Person"."dept" = 'RD';

-- sequelize include limit
SELECT "Person".*, "orders"."id" AS "orders.id" FROM (SELECT "Person"."id", "Person"."name", "Person"."email" FROM "people" AS "Person" ORDER BY "Person"."id" ASC LIMIT 2) AS "Person" LEFT OUTER JOIN "orders" AS "orders" ON "Person"."id" = "orders"."person" ORDER BY "Person"."id" ASC, "orders"."id";

-- gorm first
SELECT * FROM "people" WHERE "people"."id" = 1 ORDER BY "people"."id" LIMIT 1;

-- gorm preload
SELECT * FROM "orders" WHERE "orders"."person" IN (1,2,3) ORDER BY id;

-- gorm create
INSERT INTO "orders" ("person","item","price") VALUES (1,'x',2) RETURNING "id";

-- ecto all
--! parameters: ["Paris"]
SELECT p0."id", p0."name", p0."email" FROM "people" AS p0 WHERE (p0."city" = $1) ORDER BY p0."id";

-- ecto preload
--! parameters: ["{1,2}"]
SELECT o0."id", o0."item", o0."person", o0."person" FROM "orders" AS o0 WHERE (o0."person" = ANY($1)) ORDER BY o0."person", o0."id";

-- ecto types
SELECT t.oid, t.typname, t.typsend, t.typreceive, t.typoutput, t.typinput, coalesce(d.typelem, t.typelem), coalesce(r.rngsubtype, 0), ARRAY (SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) FROM pg_type AS t LEFT JOIN pg_type AS d ON t.typbasetype = d.oid LEFT JOIN pg_range AS r ON r.rngtypid = t.oid OR r.rngmultitypid = t.oid OR (t.typbasetype <> 0 AND r.rngtypid = t.typbasetype) WHERE (t.typrelid = 0);

-- asyncpg introspection
WITH RECURSIVE typeinfo_tree(oid, ns, name, kind, basetype, elemtype, elemdelim, range_subtype, attrtypoids, attrnames, depth) AS (SELECT t.oid, ns.nspname, t.typname, t.typtype, t.typbasetype, t.typelem, t.typdelim, NULL::oid, NULL::oid[], NULL::text[], 0 FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace ns ON ns.oid = t.typnamespace WHERE t.oid = ANY (ARRAY[25, 1009]::oid[]) UNION ALL SELECT ti.oid, ns.nspname, ti.typname, ti.typtype, ti.typbasetype, ti.typelem, ti.typdelim, NULL::oid, NULL::oid[], NULL::text[], tt.depth + 1 FROM pg_catalog.pg_type ti JOIN pg_catalog.pg_namespace ns ON ns.oid = ti.typnamespace, typeinfo_tree tt WHERE tt.elemtype IS NOT NULL AND ti.oid = tt.elemtype AND tt.depth < 3) SELECT DISTINCT *, basetype::regtype::text AS basetype_name FROM typeinfo_tree ORDER BY depth DESC, oid;

-- jdbc connect
SET LOCAL extra_float_digits = 3;
SET LOCAL application_name = 'PostgreSQL JDBC Driver';
SHOW TRANSACTION ISOLATION LEVEL;

-- jdbc tables
SELECT current_database() AS "TABLE_CAT", n.nspname AS "TABLE_SCHEM", c.relname AS "TABLE_NAME", CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema' WHEN true THEN CASE WHEN n.nspname = 'pg_catalog' OR n.nspname = 'information_schema' THEN CASE c.relkind WHEN 'r' THEN 'SYSTEM TABLE' WHEN 'v' THEN 'SYSTEM VIEW' WHEN 'i' THEN 'SYSTEM INDEX' ELSE NULL END ELSE NULL END WHEN false THEN CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED TABLE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE NULL END ELSE NULL END AS "TABLE_TYPE", d.description AS "REMARKS", '' as "TYPE_CAT" FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 and d.classoid = 'pg_class'::regclass) WHERE c.relnamespace = n.oid AND n.nspname LIKE 'public' ORDER BY 4, 2, 3;

-- jdbc columns
SELECT * FROM (SELECT current_database() AS current_database, n.nspname,c.relname,a.attname,a.atttypid,a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS attnotnull,a.atttypmod,a.attlen,t.typtypmod,row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS attnum, nullif(a.attidentity, '') as attidentity,nullif(a.attgenerated, '') as attgenerated,pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS adsrc,dsc.description,t.typbasetype,t.typtype FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON (c.relnamespace = n.oid) JOIN pg_catalog.pg_attribute a ON (a.attrelid=c.oid) JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid) LEFT JOIN pg_catalog.pg_attrdef def ON (a.attrelid=def.adrelid AND a.attnum = def.adnum) LEFT JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) LEFT JOIN pg_catalog.pg_class dc ON (dc.oid=dsc.classoid AND dc.relname='pg_class') LEFT JOIN pg_catalog.pg_namespace dn ON (dc.relnamespace=dn.oid AND dn.nspname='pg_catalog') WHERE c.relkind in ('r','p','v','f','m') and a.attnum > 0 AND NOT a.attisdropped AND n.nspname LIKE 'public' AND c.relname LIKE 'people') c WHERE true ORDER BY nspname,c.relname,attnum;

-- jdbc primary keys
SELECT result.TABLE_CAT, result.TABLE_SCHEM, result.TABLE_NAME, result.COLUMN_NAME, result.KEY_SEQ, result.PK_NAME FROM (SELECT current_database() AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME, information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON ( a.attrelid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE true AND ct.relname = 'people' AND i.indisprimary ) result where result.A_ATTNUM = (result.KEYS).x ORDER BY result.table_name, result.pk_name, result.key_seq;

-- node-postgres types
--! parameters: ["people"]
SELECT column_name, data_type, udt_name FROM information_schema.columns WHERE table_name = $1 ORDER BY table_schema, ordinal_position;

-- npgsql types
SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid, elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind, CASE WHEN elemproc.proname='array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype FROM (SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid, CASE WHEN proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS typtype, CASE WHEN proc.proname='array_recv' THEN typ.typelem WHEN typ.typtype='r' THEN rngsubtype WHEN typ.typtype='d' THEN typ.typbasetype END AS elemtypoid FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)) AS typ LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid) LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) WHERE typtype IN ('b', 'r', 'm', 'e', 'd') ORDER BY CASE WHEN typtype IN ('b', 'e', 'p') THEN 0 ELSE 1 END, t.oid;

-- rails structure
SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_.*' AND nspname NOT IN ('information_schema') ORDER by nspname;
