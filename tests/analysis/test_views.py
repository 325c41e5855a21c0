"""Which views are clear, and what their columns show."""

from __future__ import annotations

import pytest

from hoopfast.analysis import views
from hoopfast.analysis.catalog import Catalog, Column, Relation
from tests.analysis.shop import relation

PEOPLE = Relation(oid=100, schema="public", name="people", kind="r", columns=(
    Column(name="id", attnum=1, type_oid=23),
    Column(name="ssn", attnum=2, type_oid=25, policy=(("public", "people", "ssn"),)),
    Column(name="loud", attnum=3, type_oid=25, policy=(("public", "people", "ssn"),), derived=True, generated=True),
))
VIEW = relation(200, "list", kind="v", reads=(100,))
SHOP = Catalog(epoch=1, relations=(PEOPLE, VIEW), known=frozenset({"orders"}), functions={"get_ssn": False})
NAMED = (Column(name="a", attnum=1, type_oid=23), Column(name="b", attnum=2, type_oid=25))


def without_origin(text: str) -> int | None:
    query = views.definition(text)
    assert query is not None
    return views.columns_without_origin(query, views.everything_masked(SHOP))


@pytest.mark.parametrize(("text", "columns"), [
    ("SELECT people.id, people.ssn FROM public.people;", 0),
    ("SELECT id, upper('x'), ssn FROM people WHERE ssn = 'x'", 1),
    ("SELECT count(*) FROM people", 1),
    ("SELECT o.id, o.id + 1 FROM orders o", 2),
    ("SELECT q.ssn FROM (SELECT ssn FROM people) q", 1),
])
def test_clear(text: str, columns: int) -> None:
    assert without_origin(text) == columns


@pytest.mark.parametrize("text", [
    "SELECT upper(ssn) FROM people",
    "SELECT id FROM people WHERE ssn > 'x'",
    "SELECT ssn FROM people UNION ALL SELECT 'x'",
    "SELECT id FROM people ORDER BY ssn",
    "SELECT people FROM people",
    "SELECT a FROM list",
    "SELECT get_ssn(1)",
    "SELECT query_to_xml('select 1', true, true, '')",
    "SELECT * FROM nobody_knows_me",
])
def test_not_clear(text: str) -> None:
    assert without_origin(text) is None


@pytest.mark.parametrize("text", ["", "SELECT 1; SELECT 2", "no query", "TABLE people; ", "DELETE FROM people"])
def test_only_one_query_is_a_definition(text: str) -> None:
    found = views.definition(text)
    assert found is None or found.tag == "SelectStmt"
    assert (found is None) == (text != "TABLE people; ")


def test_columns_follow_origins() -> None:
    found = views.cleared(SHOP, VIEW, NAMED, [(100, 2), (0, 0)])
    assert found is not None
    assert found.reads == ()
    assert [column.policy for column in found.columns] == [(("public", "people", "ssn"),), ()]
    derived = views.cleared(SHOP, VIEW, NAMED, [(100, 1), (100, 3)])
    assert derived is not None
    assert [column.derived for column in derived.columns] == [False, True]
    assert derived.columns[0].policy == ()


def test_what_the_catalog_does_not_expect_stays_closed() -> None:
    assert views.cleared(SHOP, VIEW, NAMED, [(100, 2)]) is None, "another number of columns"
    assert views.cleared(SHOP, VIEW, NAMED, [(100, 2), (100, 0)]) is None, "a whole row"
    assert views.cleared(SHOP, VIEW, NAMED, [(100, 2), (200, 1)]) is None, "a column of a closed view"


def test_the_policy_may_name_columns_of_views() -> None:
    named = (NAMED[0], Column(name="b", attnum=2, type_oid=25, policy=(("public", "list", "b"),)))
    found = views.cleared(SHOP, VIEW, named, [(100, 2), (100, 1)])
    assert found is not None
    assert [len(column.policy) for column in found.columns] == [1, 1]
