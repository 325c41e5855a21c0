"""Enforced mode at run time: what a statement that reads hidden columns becomes, asked of the server before it runs.

Called by the verdict desk for sessions whose role may not read hidden columns. The statement that is sent has to have
the columns and parameter types of the one that came, which the server tells of both; otherwise nothing is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import orjson

from hoopfast.analysis import rewrite
from hoopfast.analysis.flow import Refused
from hoopfast.analysis.gate import StatementJudgement
from hoopfast.analysis.parse import Statement, first_parenthesis
from hoopfast.analysis.shields import quoted
from hoopfast.audit.protected import hide_literals
from hoopfast.model import PROTECT_ALL, Protect
from hoopfast.protocol import messages
from hoopfast.worker.contexts import Context

NAMES_MAX = 64                  # bare names of one statement that the server is asked for
NOTE_MAX = 16_384               # characters of each text
STALE = "Tell the operators of the gateway: `hoopfast provision --check` says what is missing in the database."

class Stale(Refused):
    """The masking views do not fit the tables: `provision` was not run, or the catalog is older than the database."""


# Parse and describe a text on the session's upstream: the frames of the answer.
Ask = Callable[[str, bytes], Awaitable[bytes]]


class Described(msgspec.Struct):
    """What the server said of a text: `types` are parameter types as in a Parse message, `error` an ErrorResponse."""

    fields: list[messages.Field] = []
    types: bytes = b""
    error: bytes = b""


class Sent(msgspec.Struct, frozen=True):
    """What goes upstream in place of a text. `zeros`: how many of its columns have no origin. `shared`: it is the same
    for every session of the context."""

    text: str
    types: bytes
    zeros: int
    shared: bool


def described(frames: bytes) -> Described:
    """The answer to a probe, taken apart."""
    found = Described()
    for kind, body in messages.iter_frames(frames):
        if kind == b"E":
            found.error = body
        elif kind == b"T":
            found.fields = messages.parse_row_description(body)
        elif kind == b"t":
            found.types = body[2:]
    return found


async def rewritten(
    context: Context, statements: Sequence[Statement], judged: Sequence[StatementJudgement],
    known: dict[str, Described], ask: Ask, *, prepared: bool,
) -> Sent | None:
    """What to send in place of a query string; None: what came. `known` is what the server said of texts already, by
    text; `prepared`: the text came in a Parse message.

    Raises Refused for what cannot be rewritten, and for answers of the server that do not fit.
    """
    assert context.shields is not None
    shields, shared, changed = context.shields, True, False
    texts: list[str] = []
    for statement in statements:
        for _ in range(NAMES_MAX):
            try:
                text = rewrite.rewrite(statement.text, shields)
                break
            except rewrite.Unresolved as unsure:
                shields, shared = shields.knowing(unsure.name, await _meant(unsure.name, ask)), False
        else:
            raise Refused("this statement names too many tables that may be several")
        changed = changed or text is not None
        texts.append(text or statement.text)
    if not changed:
        return None
    types = b""
    if prepared:
        original = known.get(statements[0].text) or described(await ask(statements[0].text, b""))
        if original.error:
            raise Refused(_message(original.error))
        known[statements[0].text] = original
        types = original.types
    zeros = 0
    for one, statement, text in zip(judged, statements, texts, strict=True):
        if text != statement.text:
            asked = _described_part(statement, one, text, shields)
            zeros = max(zeros, _compared(context, known.get(one.probe), described(await ask(asked, types))))
    return Sent(text="; ".join(texts), types=types, zeros=zeros, shared=shared)


def _described_part(statement: Statement, one: StatementJudgement, text: str, shields: rewrite.Shields) -> str:
    """What of a rewritten text has columns to describe: its query, where it only carries one."""
    if one.copy is not None:
        return first_parenthesis(text) or text
    if one.probe != statement.text:
        inner = rewrite.rewrite(one.probe, shields) if one.probe else None
        if inner is not None and text.endswith(inner):
            return inner
    return text


async def _meant(name: str, ask: Ask) -> int:
    """The OID of the relation that a bare name means in the session; 0 for one without columns."""
    found = described(await ask(f"SELECT * FROM ONLY {quoted(name)}", b""))
    if found.error:
        raise Refused(_message(found.error))
    return found.fields[0].table_oid if found.fields else 0


def _compared(context: Context, expected: Described | None, got: Described) -> int:
    """How many columns of the rewritten statement have no origin. Raises Refused unless it has the other's columns."""
    if got.error:
        raise Stale(f"rewritten to the masking views, this statement fails: {_message(got.error)}", STALE)
    zeros = sum(not field.table_oid for field in got.fields)
    if expected is None or not expected.fields:
        return zeros
    same = len(expected.fields) == len(got.fields) and all(
        (one.name, one.type_oid, one.modifier) == (other.name, other.type_oid, other.modifier)
        and _stands_for(context, (one.table_oid, one.attnum), (other.table_oid, other.attnum))
        for one, other in zip(expected.fields, got.fields, strict=True))
    if not same:
        raise Stale("rewritten to the masking views, this statement has other columns", STALE)
    return zeros


def _stands_for(context: Context, table: tuple[int, int], view: tuple[int, int]) -> bool:
    """Whether a column of the rewritten statement is the original's. Hidden ones of RETURNING have no origin."""
    return context.aliases.get(view, view) == table or (view[0] == 0 and table in context.names)


def note(text: str, sent: Sent, protect: Protect) -> bytes:
    """For the trail: what ran in place of a text, which stands there as it came, but for what is protected."""
    ran = sent.text
    if protect.literals:
        # What ran has its literals at other places.
        text, ran = hide_literals(text, protect.literals)[0], hide_literals(ran, PROTECT_ALL)[0]
    return orjson.dumps({"kind": "rewritten", "sql": text[:NOTE_MAX], "sent": ran[:NOTE_MAX]})


def _message(error: bytes) -> str:
    return messages.parse_fields(error).get("M", "no reason given")


__all__ = ["Described", "Sent", "Stale", "described", "note", "rewritten"]
