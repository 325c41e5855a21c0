"""What the journal keeps with a statement: the verdict, what it touches, and what of its record is protected.

Called by `worker/verdicts.py` when it answers the relay. The shipper's reading of it is audit.events.Label.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import orjson

from hoopfast import model
from hoopfast.analysis.feeds import Sensitive
from hoopfast.analysis.parse import Statement
from hoopfast.analysis.private import EVERYTHING, protect, protect_unread
from hoopfast.audit.protected import hide_literals, hide_parameters
from hoopfast.model import PROTECT_ALL, Protect, StatementFacts

log = logging.getLogger(__name__)

NOTHING = Protect()


def protection(text: str, statements: Sequence[Statement], sensitive: Sensitive | None, *, utf8: bool) -> Protect:
    """What to protect of a statement. `utf8`: the text is the client's own, not read in its place."""
    if sensitive is None:
        return NOTHING
    try:
        found = protect(text, statements, sensitive)
    except Exception:
        # Whatever is wrong with the analysis, the values are not to stand in the record.
        log.exception("the values in a statement could not be told apart; all of them are protected")
        return EVERYTHING
    if found.literals and not utf8:
        return msgspec.structs.replace(found, literals=PROTECT_ALL)
    return found


def protection_unread(text: str, sensitive: Sensitive | None) -> Protect:
    """Of a text that cannot be parsed."""
    return NOTHING if sensitive is None else protect_unread(text, sensitive)


def recorded(found: Protect, *, echo: bool, sees: bool) -> Protect:
    """As it is kept. `echo`: the error may be the server's own words; `sees`: not every masked column is masked for
    this person, so rows may show one."""
    return msgspec.structs.replace(
        found, error=found.error and echo, results=found.echo or (found.results and sees), echo=False)


def placeholders(
    sql: str, parameters: tuple[str | None, ...], found: Protect
) -> tuple[str, tuple[str | None, ...]] | None:
    """A statement as it may be kept in clear; None: as it is."""
    if not found.literals and not found.parameters:
        return None
    shown, _ = hide_parameters(parameters, found.parameters)
    return hide_literals(sql, found.literals)[0], tuple(str(one) if one is not None else None for one in shown)


def label(
    facts: Sequence[StatementFacts], verdict: str, rule: str, masks: Sequence[str], reason: str, found: Protect,
    **extra: Any,
) -> bytes:
    """JSON for Relay.decide."""
    told: dict[str, Any] = {
        "verdict": verdict, "rule": rule, "kinds": _distinct(kind for one in facts for kind in one.kinds),
        "tables": _distinct(name for one in facts for name in one.tables),
        "columns": _distinct(name for one in facts for name in one.columns),
        "masks": list(masks), "reason": reason, **extra,
    }
    if found != NOTHING:
        told["protect"] = msgspec.structs.asdict(found)
    return orjson.dumps(told)


def flag(found: Protect) -> int:
    """For Relay.decide: its records hold values that must not stay in the journal."""
    return model.FLAG_PRIVATE if found != NOTHING else 0


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


# Of a statement that nobody could judge.
UNREAD = label((), "deny", "internal", (), "", EVERYTHING)
