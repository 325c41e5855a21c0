"""Names and patterns of policy.yaml; a rule that restricts reads names widely, one that allows reads them narrowly."""

from __future__ import annotations

import pytest

from hoopfast.policy.kinds import FAMILIES, KINDS, covers, distinct, family_of
from hoopfast.policy.patterns import Glob, Tables, Written, split_name


@pytest.mark.parametrize(("pattern", "text", "matches"), [
    ("a", "a", True), ("a", "A", False), ("a", "ab", False), ("", "", True), ("", "a", False),
    ("*", "", True), ("*", "anything", True), ("a*", "a", True), ("a*", "ba", False), ("*a", "ba", True),
    ("a*a", "a", False), ("a*a", "aa", True), ("a*b*c", "a-b-c", True), ("a*b*c", "acb", False),
    ("a*bc*c", "abc", False),
    ("*x*", "axb", True), ("*x*", "ab", False), ("**", "q", True), ("a**b", "ab", True),
    ("[ab]", "a", False), ("[ab]*", "[ab]c", True), ("a?", "ab", False), ("a?", "a?", True), ("a.*", "a-b", False),
])
def test_globs(pattern: str, text: str, matches: bool) -> None:
    assert Glob(pattern).matches(text) is matches


def test_globs_do_not_backtrack() -> None:
    assert not Glob("*a" * 40 + "b").matches("a" * 20000)


@pytest.mark.parametrize(("text", "parts"), [
    ("a.b.c", ("a", "b", "c")), ("a", ("a",)), ('"A b"."c.d"', ("A b", "c.d")),
    ('a."say ""hi""".c', ("a", 'say "hi"', "c")),
    ("ünïcode.x", ("ünïcode", "x")), ("a.my-table", ("a", "my-table")),
])
def test_names(text: str, parts: tuple[str, ...]) -> None:
    assert split_name(text) == parts


@pytest.mark.parametrize("text", [
    "", ".", "a.", ".a", "a..b", "A.b", 'a"b"', '"a', '"a"b', '""', "a b", '"a".', "x" * 64, "ä" * 32, 'a."b"c',
])
def test_bad_names(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|has a"):
        split_name(text)


@pytest.mark.parametrize(("pattern", "written", "may", "must"), [
    ("public.customers", "public.customers", True, True),
    ("public.customers", "other.customers", False, False),
    ("public.customers", "customers", True, False),         # search_path decides
    ("public.*", "customers", True, False),
    ("public.*", "public.customers", True, True),
    ("customers", "customers", True, True),
    ("customers", "any.customers", True, True),
    ("*.customers", "customers", True, True),
    ("*.customers", "any.customers", True, True),
    ("staging_*", "staging_x", True, True),
    ("staging_*", "public.staging_x", True, True),
    ("*.staging_*", "staging_x", True, True),
    ("stag*.x", "staging.x", True, True),
    ("stag*.x", "x", True, False),
    ("a.b", "db.a.b", True, False),                         # a database in front
    ('"x.y".z', "x.y.z", True, False),                      # a dot inside a part cannot be told from one between
    ("public.*", "public.x.secret", True, False),
    ('"Orders"', "orders", False, False),
    ('"Orders"', "Orders", True, True),
])
def test_tables(pattern: str, written: str, may: bool, must: bool) -> None:
    tables = Tables((pattern,))
    assert tables.may_mean(Written(written)) is may
    assert tables.must_mean(Written(written)) is must


def test_what_must_mean_also_may_mean() -> None:
    patterns = ("a.b", "b", "*.b", "a.*", "*", "a*.b*", '"a.b".c')
    names = ("a.b", "b", "x.b", "a.x", "a.b.c", "q", "ab.bc")
    for tables in (Tables((p,)) for p in patterns):
        assert all(tables.may_mean(Written(name)) for name in names if tables.must_mean(Written(name)))


def test_families() -> None:
    assert covers(frozenset({"drop"}), "drop_table")
    assert covers(frozenset({"drop"}), "drop")
    assert covers(frozenset({"drop_table"}), "drop_table")
    assert not covers(frozenset({"drop_table"}), "drop_role")
    assert not covers(frozenset({"security"}), "security_label")
    assert family_of("import_foreign_schema") == ""
    assert all(any(kind.startswith(f"{family}_") for kind in KINDS) for family in FAMILIES)
    assert distinct(("drop_table", "drop", "select", "drop_table")) == ("drop_table", "select")
    assert distinct(("drop",)) == ("drop",)
