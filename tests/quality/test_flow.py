"""The tables of hoopfast/flow.py are whole: every message has its place, every state can be reached and left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from hoopfast import flow
from tests.quality import diagrams

ENDS = {flow.DONE, flow.FAILED}
# Replies that a client message asks for.
ASKED = {reply for row in flow.CLIENT.values() for reply, _ in row.values()} - {flow.NOTHING, flow.DROPPED, "describe"}
ASKED |= {"describe statement", "describe portal"}


def reachable(start: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen, ahead = set(), list(start)
    while ahead:
        state = ahead.pop()
        if state not in seen:
            seen.add(state)
            ahead += edges.get(state, ())
    return seen


def test_every_client_message_has_a_place_on_every_side() -> None:
    for side, row in flow.CLIENT.items():
        assert row.keys() == flow.CLIENT_MESSAGES.keys(), side
        assert {following for _, following in row.values()} <= flow.CLIENT.keys()


def test_statements_do_not_change_the_side() -> None:
    """The relay may have to look at one more than once (a verdict is asked, the journal is full)."""
    for side, row in flow.CLIENT.items():
        assert {following for message, (_, following) in row.items() if message in "QPBDECF"} == {side}


def test_every_reply_that_is_asked_for_is_known() -> None:
    assert flow.SERVER.keys() | set(flow.SILENT) >= ASKED
    assert not flow.SERVER.keys() & set(flow.SILENT)


def test_every_server_message_is_used_and_known() -> None:
    used = {message for row in flow.SERVER.values() for message in row}
    assert used == flow.SERVER_MESSAGES.keys()
    assert not used & flow.ANY_TIME.keys()


def test_every_reply_can_be_reached_and_ends() -> None:
    edges = {reply: set(row.values()) for reply, row in flow.SERVER.items()}
    assert reachable(ASKED, edges) - ENDS - set(flow.SILENT) == flow.SERVER.keys() - {"idle"}
    for reply in flow.SERVER.keys() - {"idle"}:
        assert reachable([reply], edges) & ENDS, f"{reply} never ends"
        assert "E" in flow.SERVER[reply], "an error, be it FATAL, may come at every point"


def test_only_the_extended_protocol_skips_to_sync() -> None:
    failing = {reply.split()[0] for reply, row in flow.SERVER.items() if flow.FAILED in row.values()}
    assert failing == {"parse", "bind", "describe", "execute", "close"}
    ready = {reply.split()[0] for reply, row in flow.SERVER.items() if "Z" in row}
    assert ready == {"query", "function", "sync"}


def test_every_side_can_be_reached_and_left() -> None:
    edges = {side: {following for _, following in row.values()} for side, row in flow.CLIENT.items()}
    for changes in flow.EVENTS.values():
        assert changes.keys() | set(changes.values()) <= flow.CLIENT.keys()
        for side, following in changes.items():
            edges[side].add(following)
    assert reachable([flow.OPEN], edges) == flow.CLIENT.keys()
    for side in flow.CLIENT.keys() - {flow.GONE}:
        assert flow.OPEN in reachable([side], edges)


@pytest.mark.parametrize("state", flow.NAMES)
def test_names_are_forgotten_in_the_end_and_doubt_stays(state: str) -> None:
    edges = {name: set(row.values()) for name, row in flow.NAMES.items()}
    assert flow.FORGOTTEN in reachable([state], edges)
    if "doubtful" in state:
        assert flow.STANDING not in reachable([state], edges)


def test_the_diagrams_are_up_to_date() -> None:
    assert diagrams.DOCUMENT.read_text() == diagrams.document(), "run: python -m tests.quality.diagrams"
