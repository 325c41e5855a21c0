"""Texts that cannot be read are refused with the right SQLSTATE and place, whatever they are."""

from __future__ import annotations

import pytest

from hoopfast import limits
from hoopfast.analysis.parse import Unparsable, decode, first_parenthesis, identifiers, parse


@pytest.mark.parametrize(("sql", "state", "position"), [
    ("selct 1", "42601", 1),
    ("select 'é', frm x y z", "42601", 19),
    ("select 'a'||", "42601", 13),
    ("select 'abc", "42601", 8),
    ("select 'a\0b'", "22021", 10),
    ("\0function 12", "22021", 1),
    ("select '\ud800'", "22021", 0),
    ("select " + "||".join(["'a'"] * 30_000), "54001", 0),
    ("select " + "||".join(["'a'"] * 3_000), "54001", 0),
    ("select " + "(select " * 500 + "1" + ")" * 500, "54001", 0),
])
def test_refusals(sql: str, state: str, position: int) -> None:
    with pytest.raises(Unparsable) as caught:
        parse(sql)
    assert caught.value.sqlstate == state
    if position:
        assert caught.value.position == position


def test_bytes() -> None:
    with pytest.raises(Unparsable) as caught:
        decode(b"select '\xff'")
    assert caught.value.sqlstate == "22021"
    with pytest.raises(Unparsable) as caught:
        decode(b" " * (limits.STATEMENT_MAX_BYTES + 1))
    assert caught.value.sqlstate == "54000"


def test_slices_follow_bytes_not_characters() -> None:
    found = parse("select 'é'; select 'ü' ; select 3")
    assert [statement.text for statement in found] == ["select 'é'", "select 'ü'", "select 3"]


def test_nothing_in_an_empty_text() -> None:
    assert parse("") == parse(" ; ; ") == parse("-- x") == ()


@pytest.mark.parametrize(("sql", "inside"), [
    ("COPY (SELECT ')' , (1) /* ) */ FROM t) TO STDOUT (FORMAT csv)", "SELECT ')' , (1) /* ) */ FROM t"),
    ("COPY /* ( */ (SELECT $a$ ) $a$, 'é') TO STDOUT", "SELECT $a$ ) $a$, 'é'"),
    ("COPY t TO STDOUT", None),
])
def test_parentheses_are_found_by_the_lexer(sql: str, inside: str | None) -> None:
    assert first_parenthesis(sql) == inside


def test_identifiers() -> None:
    assert identifiers('SELECT Foo, "Bar" FROM x -- secret') >= {"foo", "Bar", "x"}
    assert "secret" not in (identifiers("select 'secret' -- secret") or ())
    assert identifiers('select U&"s" from x') is None
    assert identifiers("select 'x") is None
