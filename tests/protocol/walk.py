"""Walks a conversation along the tables of hoopfast/flow.py: what the client sent, and what the server answered to it.

The server takes one message after the other, so its answers stand in the order of the questions. Only where an error
ends a COPY the place is not to be seen; every place is tried then.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from hoopfast import flow
from tests.support.dual import End, Step
from tests.support.wire import Frame, error_fields

SMALL_MAX_BYTES = 10_000
Used = frozenset[tuple[str, str]]


class Walk(NamedTuple):
    """Where a walk stands: the client's side, how many messages were heard, and the transitions on the way."""

    side: str
    heard: int
    sides: Used
    replies: Used
    waits: str = ""             # the reply that goes on when the client has ended its COPY
    over: bool = False


class Astray(Exception):
    """The tables have no way for this conversation."""


def messages_of(steps: Iterable[Step]) -> list[str]:
    """The types of the client's messages ("DS" and "DP" for Describe), and Terminate where the runner adds it."""
    data = b"".join(step for step in steps if isinstance(step, bytes))
    kinds, at = [], 0
    while len(data) - at >= 5:
        size = struct.unpack_from("!I", data, at + 1)[0]
        kind = chr(data[at])
        if kind not in flow.CLIENT_MESSAGES or size < 4 or len(data) - at < size + 1:
            return kinds
        kinds.append(kind + chr(data[at + 5]) if kind == "D" and size > 4 else kind)
        at += size + 1
    if not any(isinstance(step, End) for step in steps):
        kinds.append("X")
    return kinds


def walk(steps: Iterable[Step], frames: Iterable[Frame]) -> tuple[Used, Used]:
    """The transitions that a conversation takes, of the client's side and of replies. Raises Astray."""
    kinds = messages_of(steps)
    said = [item for item in frames if item.kind not in flow.ANY_TIME]
    fates = [Walk(flow.OPEN, 0, frozenset(), frozenset())]
    for kind in kinds:
        fates = [after for before in fates for after in ([before] if before.over else one_message(before, kind, said))]
        if not fates:
            raise Astray(f"{kind} of {''.join(kinds)}, with {''.join(item.kind for item in said)}")
    for fate in fates:
        if fate.over or fate.heard == len(said) or fatal(said[fate.heard]) or at_end(fate, said):
            return fate.sides, fate.replies
    raise Astray(f"more was said than asked for: {''.join(item.kind for item in said)}")


def fatal(item: Frame) -> bool:
    return item.kind == "E" and error_fields(item.body)["V"] in {"FATAL", "PANIC"}


def at_end(fate: Walk, said: list[Frame]) -> bool:
    """Within COPY the end of the client is an error, and the last thing that is said."""
    return fate.side == flow.COPY and fate.heard == len(said) - 1 and said[-1].kind == "E"


def one_message(fate: Walk, kind: str, said: list[Frame]) -> list[Walk]:
    """What may have become of one message of the client."""
    expected, side = flow.CLIENT[fate.side][kind[0]]
    fate = fate._replace(sides=fate.sides | {(fate.side, kind[0])})
    if expected == "describe":
        expected = "describe portal" if kind == "DP" else "describe statement"
    if fate.side == flow.COPY:
        return in_copy(fate, kind, side, said)
    if side == flow.GONE:
        return [fate._replace(side=side, over=True)] if fate.heard == len(said) else []
    if expected in {flow.NOTHING, flow.DROPPED, "copy end"}:
        # Flush answers nothing, but with a body it is an error.
        found = [fate._replace(side=side)]
        if kind == "H" and fate.heard < len(said) and said[fate.heard].kind == "E" and not fatal(said[fate.heard]):
            found.append(fate._replace(side=flow.SKIP, heard=fate.heard + 1))
        return found
    return answer(fate._replace(side=side), expected, said)


def in_copy(fate: Walk, kind: str, side: str, said: list[Frame]) -> list[Walk]:
    """A message within COPY FROM STDIN: it may be the one that makes it fail."""
    if kind in {"c", "f"}:
        return answer(fate._replace(side=side), fate.waits, said)
    if side == flow.GONE or kind not in {"d", "H", "S"}:
        return [fate._replace(over=True)]           # an error, and the end of the session
    found = [fate]
    if fate.heard < len(said) and said[fate.heard].kind == "E":
        found += answer(fate._replace(side=flow.OPEN), fate.waits, said)
    return found


def answer(fate: Walk, reply: str, said: list[Frame]) -> list[Walk]:
    """Follow the answers to one message up to its end, or to the client's turn in a COPY."""
    heard, used = fate.heard, set(fate.replies)
    while heard < len(said):
        kind = said[heard].kind
        if fatal(said[heard]):
            break
        following = flow.SERVER[reply].get(kind)
        if following is None:
            return []
        used.add((reply, kind))
        heard += 1
        if following in {flow.DONE, flow.FAILED}:
            side = flow.SKIP if following == flow.FAILED else fate.side
            return [fate._replace(side=side, heard=heard, replies=frozenset(used))]
        reply = following
        if reply.endswith("copy in"):
            return [fate._replace(side=flow.COPY, heard=heard, replies=frozenset(used), waits=reply)]
    # The session has ended, or nobody asked the server to send what it has (no Sync, no Flush).
    return [fate._replace(heard=heard, replies=frozenset(used), over=True)]
