"""JSON as a security boundary needs it: one reading only.

Two parsers that disagree about a document are how tokens get forged, so whatever can be read in two ways is refused:
duplicate member names, NaN and Infinity, encodings other than UTF-8, lone surrogates. Pure. Used for tokens, key sets
and discovery documents.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises ValueError for everything that is not exactly one, unambiguously."""
    text = data.decode("utf-8")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a fault of the document, not of a caller
    # UTF-8 itself cannot carry a surrogate; only an escape can.
    if "\\u" in text and _has_surrogate(value):
        raise ValueError("a string holds half a character")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member name occurs twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _has_surrogate(root: object) -> bool:
    # A list instead of recursion: the depth was bounded by the parser, but not by us.
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if any("\ud800" <= character <= "\udfff" for character in value):
                return True
        elif isinstance(value, dict):
            waiting.extend(value.keys())
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False
