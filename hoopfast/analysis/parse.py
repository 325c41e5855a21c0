"""SQL text to syntax trees, by PostgreSQL's own grammar (libpg_query). Called by the worker's verdict desk.

Only pglast's JSON call is used: it releases the GIL and answers trees that are too deep with an error, where
`pglast.parse_sql` holds the GIL and crashes the process. Every failure is an `Unparsable`, so nothing passes unread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
from pglast.parser import ParseError, parse_sql_json, scan

from hoopfast import limits

_OPERATORS = bytes(1 if chr(code) in "~!@#^&|`?+-*/%<>=" else 0 for code in range(256))


class Unparsable(Exception):
    """The text cannot be read. `position` counts characters from 1, as in ErrorResponse; 0 when there is none."""

    def __init__(self, sqlstate: str, reason: str, position: int = 0, hint: str = "") -> None:
        super().__init__(reason)
        self.sqlstate = sqlstate
        self.reason = reason
        self.position = position
        self.hint = hint


class Statement(msgspec.Struct, frozen=True):
    """One statement: the tag of its tree ("SelectStmt"), the tree as builtins, and its own slice of the text."""

    tag: str
    node: dict[str, Any]
    text: str


# What a query begins with, "(" among it, and how many such places of a statement are tried.
QUERY_STARTS = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE_P", "MERGE", "ASCII_40"})
TAILS_MAX = 8
TOO_COMPLEX = "the statement is nested too deeply to be analysed"
SIMPLIFY = "Split the statement, or write long chains of operators as IN (...) or ANY (...)."


def decode(raw: bytes, *, any_encoding: bool = False) -> str:
    """The text of a client message. Raises Unparsable 54000 (too long) and 22021 (not UTF-8, or a NUL inside).

    `any_encoding`: text that is not UTF-8 is read byte by byte as Latin-1. That shows the same tokens as any encoding
    in which ASCII bytes stand for themselves (the others are refused at login), but not the same names.
    """
    if len(raw) > limits.STATEMENT_MAX_BYTES:
        raise Unparsable("54000", f"the statement is longer than {limits.STATEMENT_MAX_BYTES} bytes")
    try:
        sql = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if any_encoding:
            return decode(raw.decode("latin-1").encode())
        raise Unparsable("22021", f"the statement is not valid UTF-8 at byte {error.start}") from None
    if "\0" in sql:
        raise Unparsable("22021", "the statement holds a NUL byte", sql.index("\0") + 1)
    return sql


def parse(sql: str) -> tuple[Statement, ...]:
    """The statements of a query string, in order; none for an empty one. Raises Unparsable, and nothing else."""
    if len(sql) > limits.STATEMENT_MAX_BYTES:
        raise Unparsable("54000", f"the statement is longer than {limits.STATEMENT_MAX_BYTES} bytes")
    if "\0" in sql:
        raise Unparsable("22021", "the statement holds a NUL byte", sql.index("\0") + 1)
    try:
        if len(sql) > limits.PARSE_INLINE_MAX_BYTES and _lexes_slowly(sql):
            raise Unparsable("54001", "the statement has a very long run of operator characters", hint=SIMPLIFY)
        tree = orjson.loads(parse_sql_json(sql))
        return _statements(sql, tree["stmts"])
    except ParseError as error:
        message = str(error.args[0]) if error.args else "syntax error"
        if "stack depth" in message or "memory" in message:
            raise Unparsable("54001", TOO_COMPLEX, hint=SIMPLIFY) from None
        offset = error.args[1] if len(error.args) > 1 else None
        position = (len(sql) if offset is None else int(offset)) + 1
        raise Unparsable("42601", message, position) from None
    except Unparsable:
        raise
    except UnicodeError:
        raise Unparsable("22021", "the statement is not valid UTF-8") from None
    except Exception:  # noqa: BLE001 - depth errors of the decoder differ by version; each of them has to refuse
        raise Unparsable("54001", TOO_COMPLEX, hint=SIMPLIFY) from None


def _lexes_slowly(sql: str) -> bool:
    """Whether PostgreSQL's lexer would need minutes: it reads the rest of a run of operator characters again for each
    operator or comment that begins in it (`/*/*/*/*`), so a run costs the square of its length."""
    marks = sql.encode().translate(_OPERATORS)
    return limits.OPERATOR_RUN_MAX * b"\1" in marks or (
        marks.count(limits.OPERATOR_RUN_LONG * b"\1") > limits.OPERATOR_RUNS_LONG_MAX)


def _statements(sql: str, entries: list[dict[str, Any]]) -> tuple[Statement, ...]:
    raw = sql.encode("utf-8")
    found = []
    for entry in entries:
        ((tag, node),) = entry["stmt"].items()
        start = entry.get("stmt_location", 0)
        length = entry.get("stmt_len", 0) or len(raw) - start
        found.append(Statement(tag, node, raw[start : start + length].decode("utf-8").strip()))
    return tuple(found)


def first_parenthesis(sql: str) -> str | None:
    """What stands between the first "(" and the ")" that closes it, by PostgreSQL's own lexer; None without one."""
    try:
        tokens = scan(sql)
    except Exception:  # noqa: BLE001 - the caller refuses what cannot be cut out
        return None
    depth = 0
    start = 0
    for token in tokens:
        if token.name == "ASCII_40":
            depth += 1
            if depth == 1:
                start = token.end + 1
        elif token.name == "ASCII_41":
            depth -= 1
            if depth == 0:
                return sql[start : token.start]
    return None


def queries_inside(sql: str) -> Iterator[str]:
    """The tails of a statement that may be the query it carries (DECLARE, PREPARE, EXPLAIN), by PostgreSQL's lexer."""
    try:
        tokens = scan(sql)
    except Exception:  # noqa: BLE001 - the caller refuses what cannot be cut out
        return
    starts = [token.start for token in tokens[1:] if token.name in QUERY_STARTS]
    yield from (sql[start:] for start in starts[:TAILS_MAX])


def identifiers(sql: str) -> frozenset[str] | None:
    """The names and keywords in a piece of SQL or PL/pgSQL, folded as by the server; None if it cannot be read."""
    try:
        tokens = scan(sql)
    except Exception:  # noqa: BLE001 - the caller treats the piece as opaque
        return None
    names = set()
    for token in tokens:
        if token.name in ("UIDENT", "USCONST"):
            return None
        piece = sql[token.start : token.end + 1]
        if token.name == "IDENT" and piece.startswith('"'):
            names.add(piece[1:-1].replace('""', '"'))
        elif token.name == "IDENT" or token.kind != "NO_KEYWORD":
            names.add(piece.lower())
    return frozenset(names)
