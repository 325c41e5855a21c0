-- pgadmin version
SELECT version();

-- pgadmin connect
SELECT db.oid as did, db.datname, db.datallowconn, pg_encoding_to_char(db.encoding) AS serverencoding, has_database_privilege(db.oid, 'CREATE') as cancreate, datistemplate FROM pg_catalog.pg_database db WHERE db.datname = current_database();

-- pgadmin user
SELECT roles.oid as id, roles.rolname as name, roles.rolsuper as is_superuser, CASE WHEN roles.rolsuper THEN true ELSE roles.rolcreaterole END as can_create_role, CASE WHEN roles.rolsuper THEN true ELSE roles.rolcreatedb END as can_create_db, CASE WHEN 'pg_signal_backend'=ANY(ARRAY(WITH RECURSIVE cte AS (SELECT pg_roles.oid,pg_roles.rolname FROM pg_roles WHERE pg_roles.oid = roles.oid UNION ALL SELECT m.roleid,pgr.rolname FROM cte cte_1 JOIN pg_auth_members m ON m.member = cte_1.oid JOIN pg_roles pgr ON pgr.oid = m.roleid) SELECT rolname FROM cte)) THEN True ELSE False END as can_signal_backend FROM pg_catalog.pg_roles as roles WHERE rolname = current_user;

-- pgadmin databases
SELECT db.oid as did, db.datname as name, ta.spcname as spcname, db.datallowconn, db.datistemplate AS is_template, pg_catalog.has_database_privilege(db.oid, 'CREATE') as cancreate, datdba as owner, descr.description FROM pg_catalog.pg_database db LEFT OUTER JOIN pg_catalog.pg_tablespace ta ON db.dattablespace = ta.oid LEFT OUTER JOIN pg_catalog.pg_shdescription descr ON (db.oid=descr.objoid AND descr.classoid='pg_database'::regclass) WHERE db.oid > 1 OR db.datname IN ('postgres', 'edb') ORDER BY datname;

-- pgadmin schemas
SELECT nsp.oid, nsp.nspname as name, pg_catalog.has_schema_privilege(nsp.oid, 'CREATE') as can_create, pg_catalog.has_schema_privilege(nsp.oid, 'USAGE') as has_usage, des.description FROM pg_catalog.pg_namespace nsp LEFT OUTER JOIN pg_catalog.pg_description des ON (des.objoid=nsp.oid AND des.classoid='pg_namespace'::regclass) WHERE nspname NOT LIKE E'pg\\_%' AND NOT ((nsp.nspname = 'pg_catalog' AND EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'pg_class' AND relnamespace = nsp.oid LIMIT 1)) OR (nsp.nspname = 'information_schema' AND EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'tables' AND relnamespace = nsp.oid LIMIT 1))) ORDER BY nspname;

-- pgadmin tables
SELECT rel.oid, rel.relname AS name, (SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid=rel.oid AND tgisinternal = FALSE) AS triggercount, (SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid=rel.oid AND tgisinternal = FALSE AND tgenabled = 'O') AS has_enable_triggers, (CASE WHEN rel.relkind = 'p' THEN true ELSE false END) AS is_partitioned, nsp.nspname AS schema, nsp.oid AS schemaoid, rel.relname AS name, (SELECT count(*) FROM pg_catalog.pg_inherits WHERE inhrelid=rel.oid LIMIT 1) as is_inherits, des.description FROM pg_catalog.pg_class rel INNER JOIN pg_catalog.pg_namespace nsp ON rel.relnamespace= nsp.oid LEFT OUTER JOIN pg_catalog.pg_description des ON (des.objoid=rel.oid AND des.objsubid=0 AND des.classoid='pg_class'::regclass) WHERE rel.relkind IN ('r','s','t','p') AND NOT rel.relispartition AND nsp.nspname = 'public' ORDER BY rel.relname;

-- pgadmin columns
SELECT DISTINCT att.attname as name, att.attnum as OID, pg_catalog.format_type(ty.oid,NULL) AS datatype, pg_catalog.format_type(ty.oid,att.atttypmod) AS displaytypname, att.attnotnull as not_null, CASE WHEN att.atthasdef OR att.attidentity != '' OR ty.typdefault IS NOT NULL THEN True ELSE False END as has_default_val, des.description, seq.seqtypid FROM pg_catalog.pg_attribute att JOIN pg_catalog.pg_type ty ON ty.oid=atttypid JOIN pg_catalog.pg_namespace tn ON tn.oid=ty.typnamespace JOIN pg_catalog.pg_class cl ON cl.oid=att.attrelid JOIN pg_catalog.pg_namespace na ON na.oid=cl.relnamespace LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=ty.typelem LEFT OUTER JOIN pg_catalog.pg_attrdef def ON adrelid=att.attrelid AND adnum=att.attnum LEFT OUTER JOIN (pg_catalog.pg_depend JOIN pg_catalog.pg_class cs ON classid='pg_class'::regclass AND objid=cs.oid AND cs.relkind='S') ON refobjid=att.attrelid AND refobjsubid=att.attnum LEFT OUTER JOIN pg_catalog.pg_namespace ns ON ns.oid=cs.relnamespace LEFT OUTER JOIN pg_catalog.pg_index pi ON pi.indrelid=att.attrelid AND indisprimary LEFT OUTER JOIN pg_catalog.pg_description des ON (des.objoid=att.attrelid AND des.objsubid=att.attnum AND des.classoid='pg_class'::regclass) LEFT OUTER JOIN pg_catalog.pg_sequence seq ON cs.oid=seq.seqrelid WHERE att.attrelid = 'people'::regclass AND att.attnum > 0 AND att.attisdropped IS FALSE ORDER BY att.attnum;

-- pgadmin view data
SELECT * FROM public.people ORDER BY id ASC;

-- pgadmin first rows
SELECT * FROM public.people ORDER BY id ASC LIMIT 100;

-- pgadmin filtered rows
SELECT * FROM public.people WHERE city = 'Paris' ORDER BY id ASC;

-- pgadmin count rows
SELECT COUNT(*) FROM public.people;

-- pgadmin primary key
SELECT at.attname, at.attnum, ty.typname FROM pg_catalog.pg_attribute at LEFT JOIN pg_catalog.pg_type ty ON (ty.oid = at.atttypid) WHERE attrelid='people'::regclass AND attnum = ANY ((SELECT con.conkey FROM pg_catalog.pg_class rel LEFT OUTER JOIN pg_catalog.pg_constraint con ON con.conrelid=rel.oid AND con.contype='p' WHERE rel.relkind IN ('r','s','t', 'p') AND rel.oid = 'people'::regclass)::oid[]);

-- pgadmin save row
UPDATE public.people SET city = 'Bonn'::text WHERE id = '1' RETURNING id;

-- pgadmin save hidden cell
UPDATE public.people SET email = 'new@x.y'::text WHERE id = '1';

-- pgadmin dashboard sessions
--! unstable
SELECT pid, datname, usename, application_name, client_addr, pg_catalog.to_char(backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') AS backend_start, state, wait_event_type || ': ' || wait_event AS wait_event, array_to_string(pg_catalog.pg_blocking_pids(pid), ', ') AS blocking_pids, backend_type FROM pg_catalog.pg_stat_activity WHERE datname = (SELECT datname FROM pg_catalog.pg_database WHERE datname = current_database()) ORDER BY pid;

-- pgadmin dashboard graphs
--! unstable
SELECT 'session_stats' AS chart_name, pg_catalog.row_to_json(t) AS chart_data FROM (SELECT (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = current_database()) AS "Total", (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE state = 'active' AND datname = current_database()) AS "Active", (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE state = 'idle' AND datname = current_database()) AS "Idle") t UNION ALL SELECT 'tps_stats' AS chart_name, pg_catalog.row_to_json(t) AS chart_data FROM (SELECT (SELECT sum(xact_commit) + sum(xact_rollback) FROM pg_catalog.pg_stat_database WHERE datname = current_database()) AS "Transactions") t;

-- pgadmin locks
--! unstable
SELECT locktype, datname, relation::regclass, page, tuple, virtualxid, transactionid, classid::regclass, objid, virtualtransaction, mode, granted FROM pg_catalog.pg_locks l LEFT OUTER JOIN pg_catalog.pg_database d ON (l.database = d.oid) ORDER BY locktype;

-- pgadmin table sizes
--! unstable
SELECT st.relname, pg_catalog.pg_size_pretty(pg_catalog.pg_relation_size(st.relid) + CASE WHEN cl.reltoastrelid = 0 THEN 0 ELSE pg_catalog.pg_relation_size(cl.reltoastrelid) END), n_live_tup, seq_scan FROM pg_catalog.pg_stat_all_tables st JOIN pg_catalog.pg_class cl on cl.oid=st.relid WHERE schemaname = 'public' ORDER BY relname;

-- pgadmin functions
SELECT pr.oid, pr.proname || '(' || COALESCE(pg_catalog.pg_get_function_identity_arguments(pr.oid), '') || ')' as name, lanname, pg_catalog.pg_get_userbyid(proowner) as funcowner, description FROM pg_catalog.pg_proc pr JOIN pg_catalog.pg_type typ ON typ.oid=prorettype JOIN pg_catalog.pg_language lng ON lng.oid=prolang LEFT OUTER JOIN pg_catalog.pg_description des ON (des.objoid=pr.oid AND des.classoid='pg_proc'::regclass) WHERE pr.prokind IN ('f', 'w') AND pronamespace = 'public'::regnamespace AND typname NOT IN ('trigger', 'event_trigger') ORDER BY proname;

-- pgadmin function source
SELECT pg_catalog.pg_get_functiondef('get_ssn(int)'::regprocedure);

-- pgadmin view source
SELECT c.oid, c.relname, pg_catalog.pg_get_viewdef(c.oid, true) AS definition, pg_catalog.array_to_string(c.reloptions, ',') FROM pg_catalog.pg_class c WHERE c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace ORDER BY relname;

-- pgadmin triggers
SELECT t.oid, t.tgname as name, pg_catalog.pg_get_triggerdef(t.oid) FROM pg_catalog.pg_trigger t WHERE NOT tgisinternal AND tgrelid = 'people'::regclass ORDER BY tgname;

-- pgadmin indexes
SELECT DISTINCT ON(cls.relname) cls.oid, cls.relname as name, pg_catalog.pg_get_indexdef(cls.oid), indnatts FROM pg_catalog.pg_index idx JOIN pg_catalog.pg_class cls ON cls.oid=indexrelid JOIN pg_catalog.pg_class tab ON tab.oid=indrelid LEFT JOIN pg_catalog.pg_constraint con ON con.conindid = cls.oid WHERE indrelid = 'people'::regclass ORDER BY cls.relname;

-- pgadmin constraints
SELECT conname, contype, condeferrable, pg_catalog.pg_get_constraintdef(oid, true) FROM pg_catalog.pg_constraint WHERE conrelid = 'people'::regclass ORDER BY conname;

-- pgadmin autocomplete
SELECT nspname AS object_schema, relname AS object_name, relkind FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE nspname IN ('public', 'hr') AND relkind = ANY (ARRAY['r', 'v', 'm', 'f', 'p']::"char"[]) ORDER BY 1, 2;

-- pgadmin settings
SELECT name, setting, unit, category FROM pg_catalog.pg_settings WHERE name IN ('DateStyle', 'client_encoding', 'bytea_output', 'search_path') ORDER BY name;

-- pgadmin bytea output
SELECT set_config('bytea_output','hex',true) FROM pg_catalog.pg_show_all_settings() WHERE name = 'bytea_output';

-- pgadmin gss
SELECT gss_authenticated, encrypted FROM pg_catalog.pg_stat_gssapi WHERE pid = pg_backend_pid();

-- pgadmin replication role
SELECT CASE WHEN usesuper THEN pg_catalog.pg_is_in_recovery() ELSE FALSE END as inrecovery FROM pg_catalog.pg_user WHERE usename=current_user;

-- pgadmin sequences
SELECT cl.oid as oid, relname as name, nspname as schema, description as comment FROM pg_catalog.pg_class cl LEFT JOIN pg_catalog.pg_namespace nsp ON cl.relnamespace = nsp.oid LEFT OUTER JOIN pg_catalog.pg_description des ON (des.objoid=cl.oid AND des.classoid='pg_class'::regclass) WHERE relkind = 'S' ORDER BY relname;

-- pgadmin explain
EXPLAIN (FORMAT JSON, ANALYZE FALSE, VERBOSE FALSE, COSTS FALSE, BUFFERS FALSE, TIMING FALSE) SELECT * FROM orders;

-- dbeaver session
SELECT current_schema(),session_user;

-- dbeaver databases
SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate AND datname = current_database();

-- dbeaver schemas
SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname;

-- dbeaver types
SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid=d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C');

-- dbeaver tables
SELECT c.oid,c.*,d.description,pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr, pg_catalog.pg_get_partkeydef(c.oid) as partition_key FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_class'::regclass WHERE c.relnamespace='public'::regnamespace AND c.relkind not in ('i','I','c');

-- dbeaver columns
SELECT c.relname,a.*,pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) as def_value,dsc.description,dep.objid FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON (a.attrelid=c.oid) LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON (a.attrelid=ad.adrelid AND a.attnum = ad.adnum) LEFT OUTER JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) LEFT OUTER JOIN pg_depend dep on dep.refobjid = a.attrelid AND dep.deptype = 'i' and dep.refobjsubid = a.attnum and dep.classid = dep.refclassid WHERE NOT a.attisdropped AND c.oid='people'::regclass ORDER BY a.attnum;

-- dbeaver constraints
SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description, case when c.contype='c' then "substring"(pg_get_constraintdef(c.oid), 7) else null end consrc_copy FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid=c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_constraint'::regclass WHERE c.conrelid='orders'::regclass ORDER BY c.oid;

-- dbeaver indexes
SELECT i.*,i.indkey as keys,c.relname,c.relnamespace,c.relam,c.reltablespace,tc.relname as tabrelname,dsc.description, pg_catalog.pg_get_expr(i.indpred, i.indrelid) as pred_expr, pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr, pg_catalog.pg_relation_size(i.indexrelid) as index_rel_size FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid=i.indexrelid INNER JOIN pg_catalog.pg_class tc ON tc.oid=i.indrelid LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid=dsc.objoid WHERE i.indrelid='people'::regclass ORDER BY tabrelname, c.relname;

-- dbeaver data
SELECT * FROM public.people LIMIT 200;

-- dbeaver data filtered
SELECT * FROM public.people WHERE city = 'Paris' ORDER BY "name" DESC LIMIT 200;

-- dbeaver data alias
SELECT p.* FROM public.people p LIMIT 200;

-- dbeaver row count
SELECT count(*) FROM public.people;

-- dbeaver row id
SELECT ctid, * FROM public.vendors LIMIT 200;

-- dbeaver view data
SELECT * FROM public.people_view LIMIT 200;

-- dbeaver update row
--! parameters: ["Bonn", "1"]
UPDATE public.people SET city=$1 WHERE id=$2;

-- dbeaver functions
SELECT p.oid as poid,p.*, pg_catalog.pg_get_expr(p.proargdefaults, 0) as arg_defaults,d.description FROM pg_catalog.pg_proc p LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=p.oid WHERE p.pronamespace='public'::regnamespace ORDER BY p.proname;

-- dbeaver function source
SELECT p.prosrc, pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.proname = 'get_ssn';

-- dbeaver view source
SELECT pg_get_viewdef('people_view'::regclass, true);

-- dbeaver sequences
SELECT * FROM pg_catalog.pg_sequences WHERE schemaname='public' ORDER BY sequencename;

-- dbeaver enums
SELECT e.enumlabel FROM pg_catalog.pg_enum e WHERE e.enumtypid='mood'::regtype ORDER BY e.enumsortorder;

-- dbeaver foreign keys of others
SELECT c.conname, pt.relname, rt.relname FROM pg_catalog.pg_constraint c JOIN pg_class pt ON pt.oid = c.conrelid JOIN pg_class rt ON rt.oid = c.confrelid WHERE c.confrelid = 'people'::regclass ORDER BY 1;

-- dbeaver sessions
--! unstable
SELECT sa.* FROM pg_catalog.pg_stat_activity sa WHERE sa.pid = pg_backend_pid();

-- dbeaver settings
SELECT name, setting FROM pg_catalog.pg_settings WHERE context = 'internal' ORDER BY name;

-- dbeaver roles
SELECT a.oid, a.rolname, a.rolsuper, a.rolcanlogin, pd.description FROM pg_catalog.pg_roles a LEFT JOIN pg_catalog.pg_shdescription pd ON a.oid = pd.objoid ORDER BY a.rolname;

-- dbeaver privileges
SELECT n.nspname, c.relname, c.relacl, c.relkind FROM pg_catalog.pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'people' AND n.nspname = 'public';

-- dbeaver acl
SELECT a.attname, a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = 'people'::regclass AND a.attacl IS NOT NULL;

-- dbeaver grants
SELECT * FROM information_schema.table_privileges WHERE table_schema = 'public' AND table_name = 'people' ORDER BY grantee, privilege_type;

-- datagrip schemas
select N.oid::bigint as id, N.xmin as state_number, nspname as name, D.description, pg_catalog.pg_get_userbyid(N.nspowner) as "owner" from pg_catalog.pg_namespace N left join pg_catalog.pg_description D on N.oid = D.objoid order by case when nspname = pg_catalog.current_schema() then -1::bigint else N.oid::bigint end;

-- datagrip tables
select T.relkind as table_kind, T.relname as table_name, T.oid as table_id, T.xmin as table_state_number from pg_catalog.pg_class T where T.relnamespace = 'public'::regnamespace and T.relkind in ('r', 'm', 'v', 'p', 'f') order by table_kind, table_id;

-- datagrip age
select extract(epoch from now())::bigint > 0, pg_catalog.age(T.xmin) is not null from pg_catalog.pg_class T where T.relname = 'people' and T.relnamespace = 'public'::regnamespace;

-- datagrip page
SELECT t.* FROM public.people t LIMIT 501;

-- datagrip count
SELECT COUNT(*) FROM (SELECT t.* FROM public.people t) AS dt;

-- datagrip column statistics
select count(*) from (select 1 from orders where item is not null) q;

-- adminer tables
SELECT c.relname AS "Name", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'm' THEN 'materialized view' ELSE 'view' END AS "Engine", pg_relation_size(c.oid) AS "Data_length", obj_description(c.oid, 'pg_class') AS "Comment" FROM pg_class c JOIN pg_namespace n ON(n.nspname = current_schema() AND n.oid = c.relnamespace) WHERE relkind IN ('r', 'm', 'v', 'f', 'p') ORDER BY relname;

-- adminer fields
SELECT a.attname AS field, format_type(a.atttypid, a.atttypmod) AS full_type, pg_get_expr(d.adbin, d.adrelid) AS default, a.attnotnull::int, col_description(c.oid, a.attnum) AS comment FROM pg_class c JOIN pg_namespace n ON c.relnamespace = n.oid JOIN pg_attribute a ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON c.oid = d.adrelid AND a.attnum = d.adnum WHERE c.relname = 'people' AND n.nspname = current_schema() AND NOT a.attisdropped AND a.attnum > 0 ORDER BY a.attnum;

-- adminer select
SELECT * FROM "people" LIMIT 50;

-- hasura
SELECT coalesce(json_agg("root"), '[]') AS "root" FROM (SELECT row_to_json((SELECT "_e" FROM (SELECT "_root.base"."id" AS "id", "_root.base"."name" AS "name") AS "_e")) AS "root" FROM (SELECT * FROM "public"."people" WHERE ('true') LIMIT 5) AS "_root.base") AS "_root";

-- postgrest
WITH pgrst_source AS (SELECT "public"."vendors".* FROM "public"."vendors" WHERE "public"."vendors"."city" = 'Rome') SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]')::character varying AS body FROM (SELECT * FROM pgrst_source) _postgrest_t;

-- postgrest people
WITH pgrst_source AS (SELECT "public"."people"."id", "public"."people"."name" FROM "public"."people") SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]')::character varying AS body FROM (SELECT * FROM pgrst_source) _postgrest_t;

-- flyway
SELECT COUNT(*) FROM pg_namespace WHERE nspname='public';

-- flyway lock
SELECT pg_try_advisory_xact_lock(77431708279161);

-- liquibase
SELECT NULL AS table_cat, table_schema, table_name FROM information_schema.tables WHERE lower(table_name) = 'databasechangelog';

-- alembic
SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = 'alembic_version' AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid);

-- information schema tables
SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema IN ('public', 'hr') ORDER BY 1, 2;

-- information schema columns
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position;

-- information schema keys
SELECT tc.constraint_name, tc.table_name, kcu.column_name, ccu.table_name AS foreign_table FROM information_schema.table_constraints AS tc JOIN information_schema.key_column_usage AS kcu ON tc.constraint_name = kcu.constraint_name AND tc.table_schema = kcu.table_schema JOIN information_schema.constraint_column_usage AS ccu ON ccu.constraint_name = tc.constraint_name AND ccu.table_schema = tc.table_schema WHERE tc.constraint_type = 'FOREIGN KEY' AND tc.table_name = 'orders' ORDER BY 1;

-- information schema views
SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = 'public' ORDER BY 1;

-- information schema routines
SELECT routine_name, routine_type, data_type FROM information_schema.routines WHERE specific_schema = 'public' ORDER BY 1, 2, 3;

-- sizes
--! unstable
SELECT relname, pg_size_pretty(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname;

-- activity
--! unstable
SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();

-- blocking
--! unstable
SELECT blocked.pid, blocking.pid FROM pg_locks blocked JOIN pg_locks blocking ON blocking.locktype = blocked.locktype AND blocking.relation IS NOT DISTINCT FROM blocked.relation AND blocking.pid <> blocked.pid WHERE NOT blocked.granted;

-- index usage
--! unstable
SELECT relname, indexrelname, idx_scan, idx_tup_read FROM pg_stat_user_indexes ORDER BY relname, indexrelname;

-- table statistics
--! unstable
SELECT relname, n_live_tup, n_dead_tup, last_vacuum FROM pg_stat_user_tables ORDER BY relname;

-- bloat
--! unstable
SELECT schemaname, relname, n_dead_tup * 100 / greatest(n_live_tup, 1) AS pct FROM pg_stat_all_tables WHERE schemaname = 'public' ORDER BY 2;

-- replication
--! unstable
SELECT application_name, state, sync_state FROM pg_stat_replication;

-- database statistics
--! unstable
SELECT datname, numbackends, xact_commit, blks_hit FROM pg_stat_database WHERE datname = current_database();

-- show all
--! unstable
SHOW ALL;

-- show one
SHOW server_version;

-- show search_path
SHOW search_path;
