"""The tables of the audit store in PostgreSQL, as SQL: who owns them, who writes, who reads, what retention removes.

Used by sinks.postgres, which applies it where it may, and printed by `hoopfast audit postgres` for a DBA to apply. The
layout is that of the embedded store (sinks.sqlite); events and marks are partitioned by id, whose upper bits are the
day of arrival. So partitions are days or months, a question about a time reads those of that time, and retention drops
whole partitions: the beginning of every chain, and nothing else.
"""

from __future__ import annotations

from typing import Literal

from psycopg import sql

from hoopfast._wire import OUTCOME_TEXTS
from hoopfast.audit.database import DAY_BITS, SCHEMA
from hoopfast.audit.sinks.sqlite import EVENT_CODES, MANY_ROWS, SLOW_US, USUAL_KIND

VERSION = 1
AHEAD_DAYS = 7
FOREVER = 0

_TABLES = """
CREATE SCHEMA IF NOT EXISTS {schema};
SET LOCAL search_path = {schema}, pg_temp;
CREATE TABLE settings (
  version int NOT NULL, keep_days int NOT NULL, unit text NOT NULL CHECK (unit IN ('day', 'month')),
  one boolean PRIMARY KEY DEFAULT true CHECK (one));
CREATE TABLE logs (
  id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL UNIQUE,
  place bigint NOT NULL DEFAULT 0, last_id bigint NOT NULL DEFAULT 0);
CREATE TABLE clock (last_id bigint NOT NULL, one boolean PRIMARY KEY DEFAULT true CHECK (one));
CREATE TABLE sessions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, log smallint NOT NULL REFERENCES logs,
  session text COLLATE "C" NOT NULL, "user" text COLLATE "C" NOT NULL DEFAULT '',
  connection text COLLATE "C" NOT NULL DEFAULT '', started_at text COLLATE "C", ended_at text COLLATE "C",
  reason text, header text NOT NULL DEFAULT '{{}}', day int NOT NULL, UNIQUE (session, log));
CREATE INDEX sessions_user ON sessions ("user");
CREATE INDEX sessions_connection ON sessions (connection);
CREATE INDEX sessions_started ON sessions (started_at);
CREATE INDEX sessions_day ON sessions (day);
CREATE TABLE definitions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, digest bytea NOT NULL UNIQUE, day int NOT NULL,
  sql text NOT NULL, verdict text COLLATE "C" NOT NULL, rule text COLLATE "C" NOT NULL, masks text NOT NULL,
  tables text NOT NULL, kinds text NOT NULL, columns text NOT NULL, types text NOT NULL, words tsvector);
CREATE INDEX definitions_verdict ON definitions (verdict);
CREATE INDEX definitions_rule ON definitions (rule);
CREATE INDEX definitions_day ON definitions (day);
CREATE INDEX definitions_words ON definitions USING gin (words);
CREATE INDEX definitions_wordless ON definitions (id) WHERE words IS NULL;
CREATE TABLE definition_names (
  what text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, definition bigint NOT NULL,
  PRIMARY KEY (what, name, definition));
CREATE INDEX definition_names_definition ON definition_names (definition);
CREATE TABLE kinds (code smallint PRIMARY KEY, event text NOT NULL, outcome text);
CREATE TABLE events (
  id bigint NOT NULL, place bigint NOT NULL, session bigint NOT NULL, seq bigint NOT NULL, at bigint NOT NULL,
  definition bigint, rows bigint NOT NULL, duration_us bigint NOT NULL, log smallint NOT NULL, kind smallint NOT NULL,
  detail text NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE INDEX events_name ON events (session, seq);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_definition ON events (definition, session);
CREATE INDEX events_kind ON events (kind, session, definition) WHERE kind <> {usual};
CREATE INDEX events_rows ON events (rows) WHERE rows >= {many};
CREATE INDEX events_slow ON events (duration_us) WHERE duration_us >= {slow};
CREATE TABLE marks (
  name text COLLATE "C" NOT NULL, value text COLLATE "C" NOT NULL, event bigint NOT NULL,
  PRIMARY KEY (name, value, event)) PARTITION BY RANGE (event);
CREATE TABLE partitions (first_day int PRIMARY KEY, end_day int NOT NULL, suffix text NOT NULL UNIQUE);
CREATE TABLE removed (
  suffix text PRIMARY KEY, end_id bigint NOT NULL, events bigint NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE spans (block bigint PRIMARY KEY, earliest bigint NOT NULL, latest bigint NOT NULL);
CREATE TABLE running (
  log smallint NOT NULL, session text NOT NULL, seq bigint NOT NULL, event text NOT NULL,
  PRIMARY KEY (log, session, seq));
CREATE TABLE checkpoints (
  log smallint NOT NULL REFERENCES logs, number bigint NOT NULL, first bigint NOT NULL, last bigint NOT NULL,
  last_id bigint NOT NULL, line text NOT NULL, leaves bytea NOT NULL, PRIMARY KEY (log, number));
CREATE INDEX checkpoints_last ON checkpoints (log, last);
CREATE INDEX checkpoints_ids ON checkpoints (last_id);

CREATE VIEW trail AS
 SELECT e.id, to_timestamp(e.at / 1e9) AS at, s.session, e.seq, k.event, s."user", s.connection, d.sql, k.outcome,
  d.verdict, d.rule, e.rows, e.duration_us, d.tables, d.kinds, d.columns, d.masks, e.detail
 FROM events e JOIN sessions s ON s.id = e.session JOIN kinds k ON k.code = e.kind
 LEFT JOIN definitions d ON d.id = e.definition;

CREATE FUNCTION maintain() RETURNS TABLE (made int, dropped int) LANGUAGE plpgsql SECURITY DEFINER
 SET search_path = {schema}, pg_temp SET lock_timeout = '5s' AS $body$
DECLARE
  rules settings;
  today int := floor(extract(epoch FROM now()) / 86400);
  day int; until int; part partitions; count bigint; low bigint; high bigint;
BEGIN
  SELECT * INTO rules FROM settings FOR UPDATE;
  made := 0; dropped := 0; day := today;
  WHILE day <= today + {ahead} LOOP
    SELECT p.end_day INTO until FROM partitions p WHERE p.first_day <= day AND p.end_day > day;
    IF FOUND THEN day := until; CONTINUE; END IF;
    until := day + 1;
    IF rules.unit = 'month' THEN
      until := extract(epoch FROM date_trunc('month', timestamp '1970-01-01' + day * interval '1 day')
        + interval '1 month')::bigint / 86400;
    END IF;
    part := ROW(day, until, to_char(timestamp '1970-01-01' + day * interval '1 day', 'YYYYMMDD'));
    low := part.first_day::bigint << {bits}; high := part.end_day::bigint << {bits};
    -- Attached, not made in place: that would wait for everybody who reads, and everybody who writes for it.
    EXECUTE format('CREATE TABLE events_%s (LIKE events INCLUDING ALL, CHECK (id >= %s AND id < %s))',
      part.suffix, low, high);
    EXECUTE format('ALTER TABLE events ATTACH PARTITION events_%s FOR VALUES FROM (%s) TO (%s)',
      part.suffix, low, high);
    EXECUTE format('CREATE TABLE marks_%s (LIKE marks INCLUDING ALL, CHECK (event >= %s AND event < %s))',
      part.suffix, low, high);
    EXECUTE format('ALTER TABLE marks ATTACH PARTITION marks_%s FOR VALUES FROM (%s) TO (%s)',
      part.suffix, low, high);
    INSERT INTO partitions SELECT part.*;
    made := made + 1; day := until;
  END LOOP;
  IF rules.keep_days > 0 THEN
    FOR part IN SELECT * FROM partitions p WHERE p.end_day <= today - rules.keep_days ORDER BY p.first_day LOOP
      EXECUTE format('SELECT count(*) FROM events_%s', part.suffix) INTO count;
      EXECUTE format('DROP TABLE events_%s, marks_%s', part.suffix, part.suffix);
      high := part.end_day::bigint << {bits};
      INSERT INTO removed (suffix, end_id, events) VALUES (part.suffix, high, count);
      DELETE FROM partitions p WHERE p.first_day = part.first_day;
      DELETE FROM spans s WHERE s.block < high / {span};
      -- What proves the events goes with them; the signed line over them stays.
      UPDATE checkpoints c SET leaves = '' WHERE c.last_id < high AND c.leaves <> '';
      -- Writers say on each day what they use, so nothing that is left refers to these.
      DELETE FROM sessions s WHERE s.day < part.end_day - 1 AND s.day < today - 1;
      DELETE FROM definition_names n USING definitions d WHERE d.id = n.definition AND d.day < part.end_day - 1;
      DELETE FROM definitions d WHERE d.day < part.end_day - 1;
      dropped := dropped + 1;
    END LOOP;
  END IF;
  RETURN NEXT;
END $body$;
REVOKE ALL ON FUNCTION maintain() FROM PUBLIC;
INSERT INTO settings (version, keep_days, unit) VALUES ({version}, {keep}, {unit});
INSERT INTO clock (last_id) VALUES (0);
"""

_WRITER = """
GRANT USAGE ON SCHEMA {schema} TO {writer};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {writer};
GRANT INSERT ON {schema}.events, {schema}.marks, {schema}.definitions, {schema}.definition_names, {schema}.sessions,
 {schema}.checkpoints, {schema}.spans, {schema}.running, {schema}.logs TO {writer};
GRANT UPDATE ({session}) ON {schema}.sessions TO {writer};
GRANT UPDATE (day) ON {schema}.definitions TO {writer};
GRANT UPDATE ON {schema}.spans, {schema}.clock TO {writer};
GRANT UPDATE (place, last_id) ON {schema}.logs TO {writer};
GRANT DELETE ON {schema}.running TO {writer};
GRANT EXECUTE ON FUNCTION {schema}.maintain() TO {writer};
"""
_READER = """
GRANT USAGE ON SCHEMA {schema} TO {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader};
"""


def tables(keep_days: int = FOREVER, unit: Literal["day", "month"] = "day") -> str:
    """Everything but the grants; for one transaction. `keep_days`: what retention leaves; 0 for all."""
    body = sql.SQL(_TABLES).format(
        schema=sql.Identifier(SCHEMA), usual=sql.Literal(USUAL_KIND), many=sql.Literal(MANY_ROWS),
        slow=sql.Literal(SLOW_US), ahead=sql.Literal(AHEAD_DAYS), bits=sql.Literal(DAY_BITS), span=sql.Literal(4096),
        version=sql.Literal(VERSION), keep=sql.Literal(keep_days), unit=sql.Literal(unit),
    ).as_string()
    kinds = [f"({code}, 'statement', '{outcome}')" for code, outcome in enumerate(OUTCOME_TEXTS)]
    kinds += [f"({code}, '{event}', NULL)" for event, code in EVENT_CODES.items()]
    return f"{body}INSERT INTO kinds VALUES {', '.join(kinds)};\nSELECT made FROM maintain();\n"


def grants(writer: str = "", reader: str = "") -> str:
    """What a gateway needs (no DELETE, no UPDATE of events: it cannot take back what it wrote), and what people do."""
    schema = sql.Identifier(SCHEMA)
    parts = []
    if writer:
        session = sql.SQL(", ").join(map(sql.Identifier, (
            "user", "connection", "started_at", "ended_at", "reason", "header", "day")))
        parts.append(sql.SQL(_WRITER).format(schema=schema, writer=sql.Identifier(writer), session=session))
    if reader:
        parts.append(sql.SQL(_READER).format(schema=schema, reader=sql.Identifier(reader)))
    return "".join(part.as_string() for part in parts)


def script(keep_days: int, unit: Literal["day", "month"], writer: str, reader: str) -> str:
    """For psql, to be run by whoever shall own the trail."""
    return f"BEGIN;\n{tables(keep_days, unit)}{grants(writer, reader)}COMMIT;\n"
