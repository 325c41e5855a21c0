"""Values of masked columns in the record of a statement: taken out of what everybody sees, and put back. Pure.

The builder hides them when it makes an event and gives them to the vault (audit.vault), whose ciphertext is the event's
field `protected`: a text for each of "sql", "parameters", "error" and "results" that had some. `hoopfast audit reveal`
opens them and calls `revealed`. An empty ciphertext means that the values were not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from pglast.parser import scan

from hoopfast.audit.typed import Results, Value
from hoopfast.model import PROTECT_ALL, PROTECT_TEXT, Protect

PLACEHOLDER: Final = "'***'"            # an unknown literal, so that the text stays SQL
SHOWN: Final = "***"                    # in place of a parameter
SQL, PARAMETERS, ERROR, RESULTS = "sql", "parameters", "error", "results"
EVERYTHING: Final = Protect(literals=PROTECT_ALL, parameters=PROTECT_ALL, error=True, results=True)
CONSTANTS: Final = frozenset({"SCONST", "USCONST", "ICONST", "FCONST", "BCONST", "XCONST", "TRUE_P", "FALSE_P"})
# Of an error, what the server never takes from a value.
PLAIN_FIELDS: Final = frozenset({
    "severity", "severity_local", "sqlstate", "position", "internal_position", "file", "line", "routine", "schema",
    "table", "column", "data_type", "constraint",
})

TELLING: Final = 4                      # signs of a constant that tells something when it comes again

Hidden = tuple[int, str]                # where the placeholder begins in the text that is shown, and what stood there


class Parameters(NamedTuple):
    """What is hidden of parameters, by number: values, and the bytes of those that came in binary format."""

    values: dict[int, Value]
    raw: dict[int, str]


encode = msgspec.json.Encoder().encode
_values = msgspec.json.Decoder(Parameters)
_places = msgspec.json.Decoder(list[Hidden])
_fields = msgspec.json.Decoder(dict[str, str])
_results = msgspec.json.Decoder(tuple[Results, ...])


class Guard(NamedTuple):
    """How the events of one definition are protected. `sql` is the secret part of its text; b"": there is none."""

    protect: Protect
    sql: bytes = b""

    @property
    def parameters(self) -> bool:
        return bool(self.protect.parameters)


def hide_literals(text: str, literals: Sequence[int] | str) -> tuple[str, list[Hidden], bool]:
    """The text with placeholders, what they stand for, and whether a hidden value stood at another place too (it is
    hidden there as well, but rows may repeat it). What cannot be read is hidden whole."""
    if not literals:
        return text, [], False
    whole = PLACEHOLDER, [(0, text)], True
    if literals == PROTECT_TEXT:
        return whole
    try:
        tokens = scan(text)
    except Exception:  # noqa: BLE001 - whatever the scanner says: nothing of the text is known then
        return whole
    if isinstance(literals, str):
        spans = {t.start: t.end + 1 for t in tokens if t.name in CONSTANTS}
        return *_cut(text, spans), True
    spans = {}
    secrets = set()
    for ordinal in literals:
        first = tokens[ordinal] if ordinal < len(tokens) else None
        last = tokens[ordinal + 1] if first and first.name == "ASCII_45" and ordinal + 1 < len(tokens) else first
        if first is None or last is None or last.name not in CONSTANTS:
            return whole
        spans[first.start] = last.end + 1
        secrets.add(text[last.start : last.end + 1])
    ends = set(spans.values())
    again = {t.start: t.end + 1 for t in tokens if t.name in CONSTANTS and t.end + 1 not in ends
             and t.end - t.start >= TELLING - 1 and text[t.start : t.end + 1] in secrets}
    return *_cut(text, spans | again), bool(again)


def _cut(text: str, spans: Mapping[int, int]) -> tuple[str, list[Hidden]]:
    pieces, hidden = [], []
    done = length = 0
    for start, end in sorted(spans.items()):
        pieces += [text[done:start], PLACEHOLDER]
        length += start - done
        hidden.append((length, text[start:end]))
        length += len(PLACEHOLDER)
        done = end
    return "".join(pieces) + text[done:], hidden


def hide_parameters(
    values: Sequence[Value], which: Sequence[int] | str
) -> tuple[tuple[Value, ...], dict[int, Value]]:
    """Values as shown, and the hidden ones by number. A null stays: it is no value of anybody."""
    hidden: dict[int, Value] = {
        number: value for number, value in enumerate(values, 1)
        if value is not None and (which == PROTECT_ALL or number in which)
    }
    return tuple(SHOWN if number in hidden else value for number, value in enumerate(values, 1)), hidden


def hide_error(fields: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    hidden = {name: value for name, value in fields.items() if name not in PLAIN_FIELDS}
    return {name: SHOWN if name in hidden else value for name, value in fields.items()}, hidden


def hide_results(results: Sequence[Results]) -> tuple[Results, ...]:
    """Without their rows."""
    return tuple(msgspec.structs.replace(one, rows=(), copy=SHOWN if one.copy else "") for one in results)


def revealed(event: Mapping[str, Any], parts: Mapping[str, bytes]) -> dict[str, Any]:
    """The event (as builtins) as it would be without protection, given what the vault has opened.

    Raises ValueError (or a subclass) when the parts are not those of this event.
    """
    shown = {name: value for name, value in event.items() if name != "protected"}
    if SQL in parts:
        shown["sql"] = _filled(str(event["sql"]), _places.decode(parts[SQL]))
    if PARAMETERS in parts:
        hidden = _values.decode(parts[PARAMETERS])
        shown["parameters"] = _put_back(event.get("parameters"), hidden.values)
        if hidden.raw:
            shown["parameter_bytes"] = _put_back(event.get("parameter_bytes"), hidden.raw)
    if ERROR in parts:
        shown["error"] = {**(event.get("error") or {}), **_fields.decode(parts[ERROR])}
    if RESULTS in parts:
        shown["results"] = msgspec.to_builtins(_results.decode(parts[RESULTS]))
    return shown


def _put_back(shown: Sequence[Any] | None, hidden: Mapping[int, Value]) -> list[Any]:
    values = list(shown or ())
    for number, value in hidden.items():
        if not 0 < number <= len(values):
            raise ValueError(f"there is no parameter ${number}")
        values[number - 1] = msgspec.to_builtins(value)
    return values


def _filled(text: str, hidden: Sequence[Hidden]) -> str:
    pieces = []
    done = 0
    for place, original in hidden:
        if text[place : place + len(PLACEHOLDER)] != PLACEHOLDER or place < done:
            raise ValueError(f"there is no placeholder at {place}")
        pieces += [text[done:place], original]
        done = place + len(PLACEHOLDER)
    return "".join(pieces) + text[done:]
