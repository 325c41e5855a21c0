"""The core's lexer beside PostgreSQL's own: texts with the same marks and the same fixed constants mean the same.

A verdict is shared by all texts that differ in free constants only, so a constant that begins or ends elsewhere than
for the server would run a statement under the verdict of another one.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from pglast.parser import ParseError, parse_sql_json, scan

from hoopfast._wire import lex_constants
from hoopfast.analysis.constants import free_constants
from hoopfast.analysis.parse import Unparsable, parse
from hoopfast.analysis.tree import without_places

CORPUS = (Path(__file__).parent / "statements.sql").read_text().split("\n;;\n")
PIECES = (
    "'", "''", '"', '""', "\\", "$", "$$", "$1", "$a$", "1", "12345678901", "1.5", ".5", "1.", "1..2", "1e5",
    "1_000", "0x1f", "-", "--", "--\n", "/*", "*/", "/", "*", "e'", "E'", "U&'", 'u&"', "B'1'", "x'f'", "N'a'", " ",
    "\n", "\t", "\r", "\x0c", "\x0b", "é", "a", "a1", "_", ".", ",", "(", ")", "::", ":", "=", "+", "@", "IN",
    " AND id = 5", " uescape '!'", "\x01", "'a'\n'b'", "'a' 'b'", "date'2020-01-01'", "interval '1' day", ";", "\xa0",
    "[1]", "{", "}", "'\\'", "x'",
)


@pytest.mark.parametrize(("text", "normal"), [
    ("SELECT a FROM t WHERE id = 5", "SELECT a FROM t WHERE id = \2"),
    ("a = -5 and b='x''y' and c=1.25", "a = -\2 and b=\1 and c=\4"),
    ("1234567890 999999999 1234567890123456789", "\3 \2 \4"),
    ("t1 $1 a$2 \"1 'x'\" -- 5 'a\n7 /* 1 /* 'x */ 2 */ 8", "t1 $1 a$2 \"1 'x'\" -- 5 'a\n\2 /* 1 /* 'x */ 2 */ \2"),
    ("date'2020-01-01'", "date\1"),
    ("é1 'é'", "é1 \1"),
    ("", ""),
])
def test_constants_are_marked(text: str, normal: str) -> None:
    found = lex_constants(text.encode())
    assert found is not None
    assert found[0].decode() == normal


@pytest.mark.parametrize("text", [
    "E'a'", "e'\\''", "U&'a'", 'u&"a"', "B'1'", "x'f'", "n'a'", "'a\\b'", "$$a$$", "$a$b$a$", ".5", "1.", "1e5", "1_0",
    "0x1f", "1a", "$1a", "$", "'", '"', "'a", '"a', "/*", "/* /* */", "a\1", "'\2'", '"\3"', "-- \4", "/*\1*/", "\0",
    "1..2", "a.5", "x" * 65537, "1," * 4097,
])
def test_what_is_not_understood_has_no_template(text: str) -> None:
    assert lex_constants(text.encode()) is None


def constants_of(sql: str) -> list[tuple[int, int]] | None:
    """(offset, length) in bytes of the plain constants that PostgreSQL's scanner sees; None for an error."""
    try:
        tokens = scan(sql)
    except ParseError:
        return None
    at = [0]
    for character in sql:
        at.append(at[-1] + len(character.encode()))
    return [(at[t.start], at[t.end + 1] - at[t.start]) for t in tokens if t.name in ("SCONST", "ICONST", "FCONST")]


def mutated(rng: random.Random) -> str:
    text = rng.choice(CORPUS)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(text) + 1)
        until = min(len(text), at + rng.choice([0, 0, 1, 2, 9]))
        text = text[:at] + rng.choice(PIECES) + text[until:]
    return text


@pytest.mark.parametrize("seed", range(8))
def test_constants_are_where_postgresql_sees_them(seed: int) -> None:
    rng = random.Random(seed)
    compared = 0
    for _ in range(1500):
        text = mutated(rng)
        found = lex_constants(text.encode())
        theirs = constants_of(text)
        if found is None or theirs is None:
            continue
        compared += 1
        assert found[1] == pieces_of(theirs, text.encode()), text
    assert compared > 300


def pieces_of(tokens: list[tuple[int, int]], raw: bytes) -> list[tuple[int, int]]:
    """A string in several pieces ('a' newline 'b') is one token of PostgreSQL's, and as many constants of ours."""
    found = []
    for at, length in tokens:
        piece = raw[at : at + length]
        inner = lex_constants(piece) if piece[:1] == b"'" else None
        found += [(at + i, n) for i, n in inner[1]] if inner else [(at, length)]
    return found


OTHERS = {1: (b"''", b"'z'", b"'it''s -- /* \"'", "'é$1'".encode()), 2: (b"0", b"7", b"999999999"),
          3: (b"1234567890", b"999999999999999999"), 4: (b"0.0", b"12345678901234567890", b"7.25")}


def with_others(
    raw: bytes, normal: bytes, constants: list[tuple[int, int]], free: set[int], rng: random.Random
) -> bytes:
    """The text with other values in its free constants, of the kinds they were."""
    marks = [mark for mark in normal if mark in OTHERS]
    for (at, n), mark in reversed(list(zip(constants, marks, strict=True))):
        if at in free:
            raw = raw[:at] + rng.choice(OTHERS[mark]) + raw[at + n :]
    return raw


def shape(sql: str) -> Any:
    """The trees of a text without places, and without the values of free constants."""
    free = set(free_constants(sql, parse(sql)))
    tree = orjson.loads(parse_sql_json(sql))["stmts"]
    signed = {place - 1 for place in free if sql.encode()[place - 1 : place] == b"-"}
    stack: list[Any] = [tree]
    while stack:
        here = stack.pop()
        if isinstance(here, dict):
            constant = here.get("A_Const")
            if constant is not None and constant.get("location", 0) in free | signed:
                # From ten digits on a number is an int4, an int8 or a numeric: its value's matter, not the text's.
                here["A_Const"] = {"free": "sval" in constant}
            for key in ("stmt_len", "stmt_location"):
                here.pop(key, None)
            stack.extend(here.values())
        elif isinstance(here, list):
            stack.extend(here)
    return without_places("", {"stmts": tree})


@pytest.mark.parametrize("seed", range(8))
def test_texts_of_one_template_have_one_meaning(seed: int) -> None:
    """What the core takes for the same statement is the same tree for PostgreSQL, and has the same free constants."""
    rng = random.Random(1000 + seed)
    compared = 0
    for _ in range(1000):
        text = mutated(rng) if rng.random() < 0.7 else rng.choice(CORPUS)
        raw = text.encode()
        found = lex_constants(raw)
        if found is None:
            continue
        try:
            free = set(free_constants(text, parse(text)))
        except Unparsable:
            continue
        other = with_others(raw, *found, free, rng)
        again = lex_constants(other)
        assert again is not None and again[0] == found[0], (text, other)
        if free & {at for at, _ in found[1]}:
            compared += 1
        assert shape(text) == shape(other.decode()), (text, other)
    assert compared > 100
