"""What the relay must know of a statement apart from masks. Pure; used by the verdict desk."""

from __future__ import annotations

from collections.abc import Sequence

from hoopfast import model
from hoopfast.analysis.parse import Statement

# DDL, and code that may hold some.
CATALOG_KINDS = {"create", "alter", "drop", "do", "call", "import_foreign_schema", "function_call"}
# SQL that gives the names of prepared statements and cursors to something else than Parse and Bind did.
NAMES_KINDS = {"prepare", "deallocate", "discard", "declare", "close", "do", "call"}

# Where constraints and triggers of earlier statements run that were put off until then.
SETTLING_TAGS = {"TransactionStmt", "ConstraintsSetStmt"}


def standing_flags(facts: Sequence[model.StatementFacts], statements: Sequence[Statement]) -> int:
    """Flags of `model.FLAG_*` for a query string."""
    kinds = {kind for one in facts for kind in one.kinds}
    flags = model.FLAG_CATALOG if kinds & CATALOG_KINDS else 0
    if any(statement.tag in SETTLING_TAGS for statement in statements):
        flags |= model.FLAG_SETTLES
    return flags | (model.FLAG_NAMES if kinds & NAMES_KINDS else 0)
