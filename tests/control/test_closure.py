"""The sensitive closure of real databases: what is found, why, and that it is found when it comes later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hoopfast.analysis import gate
from hoopfast.analysis.builtins import allowed_oids
from hoopfast.analysis.catalog import Catalog, hide
from hoopfast.analysis.flow import Closure
from hoopfast.analysis.parse import parse
from hoopfast.cli.closure import as_data
from hoopfast.config import Config, Connection, Upstream
from hoopfast.control.announcements import SQL
from hoopfast.control.catalog import DIGEST, CatalogKeeper, load_catalog
from hoopfast.model import MASK_REDACT, MaskSpec
from tests.support.builtin_oids import allowed
from tests.support.postgres import PASSWORD, PostgresServer
from tests.support.waiting import until

pytestmark = pytest.mark.server
MASKED = ("public", "people", "ssn")
SCHEMA = """
CREATE TABLE people (id int PRIMARY KEY, name text, ssn text, up text GENERATED ALWAYS AS (upper(ssn)) STORED);
CREATE TABLE parts (id int, ssn text) PARTITION BY LIST (id);
CREATE TABLE parts_1 (gone int, ssn text, id int);
ALTER TABLE parts_1 DROP COLUMN gone;
ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES IN (1);
CREATE TABLE log (image jsonb);
CREATE TABLE clean (id int, note text);
CREATE VIEW plain AS SELECT id, ssn AS number FROM people;
CREATE VIEW over AS SELECT number FROM plain;
CREATE VIEW loud AS SELECT upper(ssn) AS loud FROM people;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM people;
CREATE FUNCTION reads(i int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM people WHERE id = i';
CREATE FUNCTION calls(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN reads(i); END $$;
CREATE FUNCTION dynamic() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'select 1'; END $$;
CREATE FUNCTION harmless(i int) RETURNS int LANGUAGE sql AS 'SELECT i + 1';
CREATE VIEW through AS SELECT reads(id) FROM clean;
CREATE FUNCTION copy_it() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO log VALUES (to_jsonb(NEW)); RETURN NEW; END $$;
CREATE TRIGGER copier AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION copy_it();
CREATE FUNCTION peek() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.note := (SELECT ssn FROM people LIMIT 1); RETURN NEW; END $$;
CREATE TRIGGER peeker BEFORE INSERT ON clean FOR EACH ROW EXECUTE FUNCTION peek();
"""


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database("closure", SCHEMA) as name:
        yield name


def loaded(server: PostgresServer, database: str) -> Catalog:
    upstream = Upstream(host="127.0.0.1", port=server.port, database=database, user="app")
    masked = [MASKED, ("public", "parts", "ssn")]
    return asyncio.run(load_catalog(Connection(upstream=upstream), PASSWORD, masked, 1))


def refused(catalog: Catalog, sql: str) -> str:
    hidden = hide(catalog, {MASKED: MaskSpec(kind=MASK_REDACT)})
    return gate.judge(parse(sql), Closure(catalog, hidden.columns)).reason


def test_everything_that_shows_or_reaches_them(postgres: PostgresServer, database: str) -> None:
    catalog = loaded(postgres, database)
    shown = as_data(catalog, {MASKED: "redact", ("public", "parts", "ssn"): "null"})
    assert shown["tables that the policy names"] == [
        "public.people (table): ssn (redact), up (null: computed from public.people.ssn)",
        "public.parts (partitioned table): ssn (null)"]
    assert shown["their partitions, parents and children"] == ["public.parts_1 (table): ssn (null)"]
    assert shown["views read like tables"] == [
        "public.plain (view): number (redact)", "public.over (view): number (redact)",
        "public.kept (materialized view): ssn (redact), up (null: computed from public.people.ssn)"]
    closed = shown["views that stay closed to people with masks"]
    assert [text.split(":")[0] for text in closed] == ["public.loud", "public.through"]
    assert "cannot be used in an expression" in closed[0] and "function public.reads()" in closed[1]
    assert shown["functions that people with masks cannot call"] == [
        "calls: names function reads", "dynamic: runs text that it makes (EXECUTE)",
        "peek: names people", "reads: names people"]
    assert shown["triggers that hidden columns may pass through"] == [
        "copier of public.people, function copy_it: names log, where nothing is masked",
        "peeker of public.clean, function peek"]
    assert any("may copy hidden columns to log" in text for text in catalog.problems)
    assert "runs text that it makes" in gate.judge(
        parse("SELECT dynamic()"), Closure(catalog, hide(catalog, {MASKED: MaskSpec(kind=MASK_REDACT)}).columns)).hint


def test_a_stranger_in_pg_catalog_closes_its_name(postgres: PostgresServer, database: str) -> None:
    assert not refused(loaded(postgres, database), "SELECT lower(name), pg_catalog.length(name) FROM people")
    with postgres.connect(database) as db:
        db.execute("CREATE FUNCTION pg_catalog.lower(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.people'")
        db.execute("CREATE FUNCTION pg_catalog.odd(text) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.people'")
        try:
            catalog = loaded(postgres, database)
            for sql in ("SELECT lower(name) FROM people", "SELECT pg_catalog.lower(1)", "SELECT odd('x')",
                        "SELECT ('x'::text).odd", "SELECT pg_catalog.odd('x')"):
                assert refused(catalog, sql), sql
            assert not refused(catalog, "SELECT upper(name) FROM people")
            assert any("lower" in text for text in catalog.problems)
        finally:
            db.execute("DROP FUNCTION pg_catalog.lower(int)")
            db.execute("DROP FUNCTION pg_catalog.odd(text)")


def test_the_list_of_functions_is_that_of_the_server(postgres: PostgresServer) -> None:
    """`python -m tests.support.builtin_oids --check` does the same for all majors."""
    assert allowed(postgres) == allowed_oids(18)


def test_a_change_that_began_before_another_is_seen(postgres: PostgresServer, database: str) -> None:
    """Its rows have an older transaction's number than rows that are there already."""
    with postgres.connect(database) as late, postgres.connect(database) as db:
        late.autocommit = False
        late.execute("CREATE OR REPLACE VIEW plain AS SELECT id, ssn AS number FROM people WHERE id > 0")
        db.execute("CREATE TABLE newer (id int)")
        before = db.execute(DIGEST).fetchone()
        late.commit()
        assert db.execute(DIGEST).fetchone() != before
        db.execute("DROP TABLE newer")


def test_an_event_trigger_is_heard(postgres: PostgresServer, database: str) -> None:
    config = Config(connections={"shop": Connection(
        upstream=Upstream(host="127.0.0.1", port=postgres.port, database=database, user="app", password="env:X"))})

    async def run() -> None:
        told: list[int] = []
        keeper = CatalogKeeper(
            config, 1, lambda _: [MASKED], lambda _: PASSWORD, lambda update: told.append(update.epoch))
        await keeper.get("shop")
        with postgres.connect(database) as db:
            db.execute(SQL)
            try:
                await keeper.poll()             # the trigger itself is found as any other change
                # One load finds it, another is for what happened before anybody listened.
                await until(lambda: len(told) > 1)
                count = len(told)
                db.execute("CREATE VIEW announced AS SELECT ssn AS number FROM people")
                await until(lambda: len(told) > count)
                update = await keeper.get("shop")
                assert "announced" in [one["name"] for one in (update.catalog or {})["relations"]]
            finally:
                await keeper.close()
                db.execute("DROP EVENT TRIGGER hoopfast_catalog; DROP FUNCTION hoopfast_catalog; "
                           "DROP VIEW IF EXISTS announced")
    asyncio.run(run())
