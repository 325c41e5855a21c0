"""What statements become in enforced mode, without a server: which tables are swapped, and what is left alone."""

from __future__ import annotations

import pytest
from pglast import parse_sql

from hoopfast.analysis.catalog import Catalog, Column, Hidden, Relation
from hoopfast.analysis.flow import Refused
from hoopfast.analysis.rewrite import Shields, Unresolved, rewrite
from hoopfast.analysis.shields import NAME_MAX_BYTES, ONLY, definition, shields_of, view_name
from hoopfast.model import MASK_EMAIL, MASK_HASH, MASK_NULL, MASK_PARTIAL, MASK_REDACT, MaskedColumn, MaskSpec

TYPES = {"text": "text", "int4": "integer", "varchar": "character varying(30)", "composite": "public.place"}
SPECS = (MaskSpec(kind=MASK_REDACT), MaskSpec(kind=MASK_PARTIAL, keep=4), MaskSpec(kind=MASK_EMAIL),
         MaskSpec(kind=MASK_NULL), MaskSpec(kind=MASK_HASH))


def table(oid: int, schema: str, name: str, columns: str, **more: object) -> Relation:
    found = [one.split(":") for one in columns.split()]
    return Relation(oid=oid, schema=schema, name=name, kind="r", columns=tuple(
        Column(name=column, attnum=number, type_oid=1, sql_type=TYPES[family], family=family)
        for number, (column, family) in enumerate(found, 1)), **more)  # type: ignore[arg-type]


CATALOG = Catalog(epoch=1, relations=(
    table(10, "public", "people", "id:int4 name:text ssn:text card:varchar home:composite", key=("id",)),
    table(11, "public", "staff", "id:int4 pin:text", parent=True),
    table(12, "public", "twice", "id:int4 pin:text"),
), known=frozenset({"orders"}), apart=frozenset({("hr", "twice")}))
HIDDEN = Hidden(specs=SPECS, columns=(
    MaskedColumn(table_oid=10, attnum=3, mask=0), MaskedColumn(table_oid=10, attnum=4, mask=1),
    MaskedColumn(table_oid=10, attnum=5, mask=3), MaskedColumn(table_oid=11, attnum=2, mask=4),
    MaskedColumn(table_oid=12, attnum=2, mask=0)), names={})
SHIELDS = Shields(CATALOG, shields_of(CATALOG, HIDDEN, "hf_home"))
PEOPLE = 'FROM (SELECT v.id, v.name, v.ssn, v.card, v.home FROM hf_home."public.people" AS v) AS'


def same(one: str, other: str) -> bool:
    return [raw.stmt for raw in parse_sql(one)] == [raw.stmt for raw in parse_sql(other)]


@pytest.mark.parametrize("sql", [
    "SELECT id, name FROM people WHERE name = 'x'",
    "SELECT count(*) FROM people",
    "SELECT ssn FROM orders",
    "WITH people AS (SELECT 1 AS ssn) SELECT ssn FROM people",
    "INSERT INTO people (id, ssn) VALUES (1, 'x') RETURNING id",
    "UPDATE people SET ssn = 'x' WHERE id = 1",
    "DELETE FROM people WHERE name = 'x'",
    "SELECT o.* FROM people p JOIN orders o ON o.id = p.id",
    "COPY people FROM STDIN",
    "COPY people (id, name) TO STDOUT",
])
def test_left_alone(sql: str) -> None:
    assert rewrite(sql, SHIELDS) is None


@pytest.mark.parametrize(("sql", "expected"), [
    ("SELECT * FROM people", f"SELECT * {PEOPLE} people"),
    ("TABLE people", f"SELECT * {PEOPLE} people"),
    ("SELECT p.ssn FROM public.people p", f"SELECT p.ssn {PEOPLE} p"),
    ("SELECT public.people.ssn FROM public.people", f"SELECT people.ssn {PEOPLE} people"),
    ("SELECT id FROM people WHERE ssn IS NULL FOR UPDATE", f"SELECT id {PEOPLE} people WHERE ssn IS NULL FOR UPDATE"),
    ("SELECT pin FROM ONLY staff",
     'SELECT pin FROM (SELECT v.id, v.pin FROM hf_home."public.staff only" AS v) AS staff'),
    ("SELECT a.name, b.ssn FROM people a JOIN people b ON b.id = a.id",
     f"SELECT a.name, b.ssn FROM people a JOIN {PEOPLE.removeprefix('FROM ')} b ON b.id = a.id"),
    ("EXPLAIN SELECT ssn FROM people", f"EXPLAIN SELECT ssn {PEOPLE} people"),
    ("SELECT p.*, count(*) FROM people p GROUP BY p.id",
     f"SELECT p.*, count(*) {PEOPLE} p GROUP BY p.id, p.name, p.ssn, p.card, p.home"),
    ("SELECT ssn, count(*) FROM people GROUP BY name, ssn", f"SELECT ssn, count(*) {PEOPLE} people GROUP BY name, ssn"),
    ("COPY people (id, ssn) TO STDOUT (FORMAT csv)",
     'COPY (SELECT id, ssn FROM hf_home."public.people") TO STDOUT (FORMAT csv)'),
    ("UPDATE people SET name = 'x' WHERE id = 1 RETURNING id, ssn AS s",
     "UPDATE people SET name = 'x' WHERE id = 1 RETURNING id, CAST(NULL AS text) AS s"),
    ("INSERT INTO people (id, ssn) VALUES (1, 'n') ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn",
     "INSERT INTO people (id, ssn) VALUES (1, 'n') ON CONFLICT (id) DO UPDATE SET ssn = 'n'"),
    ("INSERT INTO orders SELECT id FROM people WHERE ssn IS NULL",
     f"INSERT INTO orders SELECT id {PEOPLE} people WHERE ssn IS NULL"),
])
def test_rewritten(sql: str, expected: str) -> None:
    found = rewrite(sql, SHIELDS)
    assert found is not None
    assert same(found, expected), found


def test_comparisons_go_by_digests_and_stars_do_not_show_them() -> None:
    found = rewrite("SELECT * FROM people p WHERE p.ssn = $1", SHIELDS)
    assert found is not None
    assert '"=3" = hf_home.hoopfast_digest' in found
    assert "SELECT p.id, p.name, p.ssn, p.card, p.home FROM (SELECT v.id" in found
    listed = rewrite("SELECT 1 FROM people WHERE ssn IN ('a', 'b') OR ssn = ANY ($1)", SHIELDS)
    assert listed is not None
    assert listed.count("hoopfast_digest") == 3
    joined = rewrite("SELECT 1 FROM people a JOIN people b ON a.ssn = b.ssn", SHIELDS)
    assert joined is not None
    assert 'a."=3" = b."=3"' in joined


def test_targets_are_looked_up_by_key() -> None:
    found = rewrite("DELETE FROM people WHERE ssn = 'x' AND name = 'y'", SHIELDS)
    assert found is not None
    assert "DELETE FROM people WHERE (people.id) IN (SELECT hf.id" in found.replace("people.id IN", "(people.id) IN")
    assert "ctid" in str(rewrite("DELETE FROM staff WHERE pin = 'x'", SHIELDS))


@pytest.mark.parametrize("sql", [
    "SELECT * FROM people JOIN orders USING (ssn)",
    "SELECT q.id FROM (SELECT id, ssn FROM people) q WHERE q.ssn = 'x'",
    "WITH q AS (SELECT * FROM people) SELECT id FROM q WHERE ssn = 'x'",
    "SELECT id FROM people WHERE home IS NULL",
    "SELECT id FROM people WHERE home = 'x'",
    "SELECT ssn FROM people TABLESAMPLE system (10)",
    "SELECT * FROM people JOIN orders USING (id) WHERE people.ssn = 'x'",
    "INSERT INTO people (id, ssn) VALUES (1, 'a'), (2, 'b') ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn",
])
def test_refused(sql: str) -> None:
    with pytest.raises(Refused) as refused:
        rewrite(sql, SHIELDS)
    assert refused.value.reason


def test_a_bare_name_of_several_tables_is_the_servers_to_tell() -> None:
    sql = "SELECT pin FROM twice"
    with pytest.raises(Unresolved) as unsure:
        rewrite(sql, SHIELDS)
    assert unsure.value.name == "twice"
    assert rewrite(sql, SHIELDS.knowing("twice", 99)) is None
    assert 'hf_home."public.twice"' in str(rewrite(sql, SHIELDS.knowing("twice", 12)))
    assert rewrite("SELECT pin FROM hr.twice", SHIELDS) is None


def test_definitions_are_sql_and_show_no_column_bare() -> None:
    for shield in shields_of(CATALOG, HIDDEN, "hf_home"):
        (raw,) = parse_sql(definition(shield))
        query = raw.stmt
        shown = {target.name for target in query.targetList if target.name}  # type: ignore[union-attr]
        assert {column.name for column in shield.hidden} <= shown
        assert [target.name or target.val.fields[-1].sval for target in query.targetList] == list(shield.names())  # type: ignore[union-attr]


def test_long_names_stay_apart() -> None:
    one, other = view_name("s" * 40, "t" * 60), view_name("s" * 40, "t" * 59 + "u")
    assert one != other
    assert len((one + ONLY).encode()) <= NAME_MAX_BYTES
    assert len((view_name("ü" * 60, "t") + ONLY).encode()) <= NAME_MAX_BYTES
