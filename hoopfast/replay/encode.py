"""A recorded statement to the messages that its client sent: Parse, Bind, Execute, or Query. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hoopfast.protocol import messages
from hoopfast.replay.recorded import Recorded

TEXT, BINARY = 0, 1


def parameters(one: Recorded) -> tuple[list[bytes | None], list[int]]:
    """Values and format codes of its Bind. Raises ValueError for a value that no gateway recorded."""
    values: list[bytes | None] = []
    codes: list[int] = []
    for i, value in enumerate(one.parameters or ()):
        binary = one.parameter_bytes[i] if i < len(one.parameter_bytes) else None
        values.append(_text(value) if binary is None else bytes.fromhex(binary))
        codes.append(TEXT if binary is None else BINARY)
    return values, codes if BINARY in codes else []


def bind(one: Recorded) -> bytes:
    values, codes = parameters(one)
    return messages.bind(one.portal, one.name, values, codes, one.result_formats)


def _text(value: Any) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        return str(value).encode()
    # What is no UTF-8 is kept in hex.
    text = str(value.get("hex", ""))
    if not text.startswith("\\x"):
        raise ValueError("a parameter is not in the trail as it was sent")
    return bytes.fromhex(text[2:])


class Prepared:
    """What is prepared on one connection, so that a statement is parsed when its client had to parse it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, tuple[int, ...]]] = {}

    def messages(self, one: Recorded) -> bytes:
        """What makes `one.name` stand for this text; b"" when it does already."""
        wanted = (one.sql, one.types)
        if not one.name:
            return messages.parse("", one.sql, one.types)
        if self._known.get(one.name) == wanted:
            return b""
        # A Close of what does not exist is no error; the client may have closed it by name or with DEALLOCATE.
        self._known[one.name] = wanted
        return messages.close_statement(one.name) + messages.parse(one.name, one.sql, one.types)

    def forget(self, names: Sequence[str] | None) -> None:
        """After DEALLOCATE: these, or with an empty sequence all; None is for no such statement."""
        if names is None:
            return
        for name in names or list(self._known):
            self._known.pop(name, None)
