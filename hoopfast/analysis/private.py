"""Which literals and parameters of a statement feed masked columns, so that their record can be protected. Pure.

Called by the verdict desk for every new statement on a connection whose policy masks anything, whoever sends it:
people without masks write the values that others may not see. Nothing may run or is refused because of this module.

A value *feeds* a masked column when it is stored in it or stands in one expression (a condition between AND and OR, a
SET, an item of a list) with something that may be one. Names are resolved as in `gate`, by over-approximation over the
whole statement: columns by bare name, closed under renaming; tables nobody knows count as having all masked columns.
A value that first gets a name of its own (in WITH, or in FROM) feeds what that name meets. In doubt (code that cannot
be read, EXECUTE, trees too large to walk) everything is protected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from pglast.parser import scan

from hoopfast import limits
from hoopfast.analysis.feeds import QUERIES, Sensitive, Walk
from hoopfast.analysis.parse import Statement, Unparsable
from hoopfast.analysis.tree import unwrap
from hoopfast.model import PROTECT_ALL, PROTECT_TEXT, Protect

LITERALS_MAX: Final = 2048              # more of them, and all are protected: the list is kept with the statement
NESTED_MAX: Final = 4                   # code in strings in code in strings
WRAPPERS: Final = frozenset({
    "ExplainStmt", "PrepareStmt", "DeclareCursorStmt", "CopyStmt", "CreateTableAsStmt", "ViewStmt",
})
# Statements with nothing in them that could be a value of somebody.
EMPTY: Final = frozenset({
    "TransactionStmt", "VariableShowStmt", "DiscardStmt", "DeallocateStmt", "ClosePortalStmt", "CheckPointStmt",
    "ConstraintsSetStmt", "FetchStmt", "LockStmt", "TruncateStmt", "VacuumStmt", "ListenStmt", "UnlistenStmt",
})
# Their errors may be those of earlier statements, or show rows of them.
SETTLING: Final = frozenset({"TransactionStmt", "ConstraintsSetStmt"})
CONSTANTS: Final = frozenset({"SCONST", "USCONST", "ICONST", "FCONST", "BCONST", "XCONST", "TRUE_P", "FALSE_P"})
EVERYTHING: Final = Protect(literals=PROTECT_ALL, parameters=PROTECT_ALL, error=True, results=True, echo=True)


def protect(sql: str, statements: Sequence[Statement], sensitive: Sensitive) -> Protect:
    """What to protect of a query string. Never raises for a statement: what cannot be walked is protected whole."""
    places: set[int] = set()
    parameters: set[int] = set()
    everything = error = results = echo = False
    deep = len(sql) <= limits.ANALYSE_MAX_BYTES
    for statement in statements:
        try:
            one = _statement(statement, sensitive, deep)
        except Unparsable:
            return EVERYTHING
        everything = everything or one.everything
        places |= one.places
        parameters |= one.parameters
        error = error or one.touched
        results = results or one.reads
        echo = echo or one.echoes or (statement.tag == "ExplainStmt" and one.touched)
    literals = PROTECT_ALL if everything else _ordinals(sql, places)
    numbers = PROTECT_ALL if everything else tuple(sorted(parameters))
    return Protect(literals=literals, parameters=numbers, error=error, results=results, echo=echo or everything)


def protect_unread(sql: str, sensitive: Sensitive) -> Protect:
    """Of a text that is no SQL here. A quote too many, and values stand outside of literals: where it names anything of
    masks, all of it is hidden."""
    suspicious = not sql or _suspicious(sql, sensitive.code_names())
    return msgspec.structs.replace(EVERYTHING, literals=PROTECT_TEXT if suspicious else PROTECT_ALL)


def _statement(statement: Statement, sensitive: Sensitive, deep: bool) -> Walk:
    tag, node = statement.tag, statement.node
    found = Walk(sensitive)
    if tag in WRAPPERS and "query" in node:
        tag, node = unwrap(node["query"])
    if tag in QUERIES or (tag == "CopyStmt" and "relation" in node):
        found.run(tag, node, deep)
    elif tag in EMPTY:
        found.touched = tag in SETTLING
        found.reads = tag == "FetchStmt"
    elif tag == "ExecuteStmt" or _suspicious(statement.text, sensitive.code_names()):
        # What was prepared is not known here: another session of these people may have prepared something else.
        found.everything = found.touched = found.reads = True
    return found


def _suspicious(text: str, names: frozenset[str], depth: int = 0) -> bool:
    """Whether code names something of these, in its strings too; what cannot be read is."""
    try:
        tokens = scan(text)
    except Exception:  # noqa: BLE001 - whatever the scanner says, the piece is not understood
        # Inside of a string most likely prose; as a statement, something new.
        return depth == 0 or any(name in text.lower() for name in names)
    for token in tokens:
        piece = text[token.start : token.end + 1]
        if token.name in ("UIDENT", "USCONST"):
            return True
        if token.name == "SCONST":
            if depth == NESTED_MAX or _suspicious(_inside(piece), names, depth + 1):
                return True
        elif (piece[1:-1].replace('""', '"') if piece.startswith('"') else piece.lower()) in names:
            return True
    return False


def _inside(constant: str) -> str:
    if constant.startswith("$"):
        quote = constant[: constant.index("$", 1) + 1]
        return constant[len(quote) : -len(quote)]
    return constant[constant.index("'") + 1 : -1].replace("''", "'")


def _ordinals(sql: str, places: set[int]) -> tuple[int, ...] | str:
    """Byte offsets to places in the sequence of tokens, which stay when other constants stand there."""
    if not places:
        return ()
    if len(places) > LITERALS_MAX:
        return PROTECT_ALL
    try:
        tokens = scan(sql)
    except Exception:  # noqa: BLE001 - as above
        return PROTECT_ALL
    starts = {token.start: ordinal for ordinal, token in enumerate(tokens)}
    raw = None if sql.isascii() else sql.encode()
    found = set()
    for place in places:
        ordinal = starts.get(place if raw is None else len(raw[:place].decode("utf-8", "replace")), -1)
        if ordinal >= 0 and tokens[ordinal].name == "NCHAR":
            ordinal += 1
        signed = ordinal >= 0 and tokens[ordinal].name == "ASCII_45"
        constant = ordinal + signed
        if ordinal < 0 or constant >= len(tokens) or tokens[constant].name not in CONSTANTS:
            return PROTECT_ALL
        found.add(ordinal)
    return tuple(sorted(found))
