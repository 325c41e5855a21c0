"""docs/protocol-states.md, drawn from hoopfast/flow.py.

`python -m tests.quality.diagrams` writes it anew; tests/quality/test_flow.py notices when that was forgotten.
"""

from __future__ import annotations

from hoopfast import flow
from tests.quality.sources import ROOT

DOCUMENT = ROOT / "docs" / "protocol-states.md"
GROUPS = {
    "Simple queries": "query", "Execute": "execute", "Describe of a statement": "describe",
    "Function calls": "function", "Sync": "sync",
}
INTRODUCTION = """# Protocol states

Drawn from `hoopfast/flow.py` by `python -m tests.quality.diagrams`: the tables that the relay looks messages up in.
What has no arrow is refused: a client's message ends its session with 08P01, a server's ends it as a contradiction.
"""
SIDES = """
## The client's side

What becomes of the next message of a client. `open`: statements are judged, recorded and forwarded. `copy`: it sends
the data of a COPY. `skip`: an error has made the server ignore everything up to Sync, and nothing is forwarded before
that. `gone`: after Terminate. What stands in parentheses comes from the server.
"""
REPLIES = """
## Replies

Each message that is answered leaves an entry in the session's reply queue; the server's messages move the entry at its
head. `done`: the next entry's turn. `failed`: all entries up to the next Sync are dropped, as the server does.
NoticeResponse, NotificationResponse and ParameterStatus may come at any time.
"""
NAMES = """
## Names of statements and portals

What is known of a name decides what a Bind or an Execute of it is judged as. `doubtful`: SQL may have given the name to
something else, so what is known can only restrict. A portal's own life (suspended, complete) is the server's.
"""


def diagram(arrows: list[tuple[str, str, str]]) -> str:
    """Mermaid of (from, to, label); arrows between the same two states are one."""
    joined: dict[tuple[str, str], list[str]] = {}
    for source, target, label in arrows:
        joined.setdefault((source, target), []).append(label)
    states = dict.fromkeys(state for pair in joined for state in pair if state != "[*]")
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{state}" as {word(state)}' for state in states if word(state) != state]
    lines += [f"    {word(a)} --> {word(b)} : {', '.join(labels)}" for (a, b), labels in joined.items()]
    return "\n".join([*lines, "```", ""])


def word(state: str) -> str:
    return state.replace(",", "").replace(" ", "_")


def sides() -> str:
    arrows = [("[*]", flow.OPEN, "login")]
    for side, row in flow.CLIENT.items():
        if side == flow.GONE:
            continue
        for message, (reply, following) in row.items():
            if following != side:
                arrows.append((side, following, flow.CLIENT_MESSAGES[message]))
            elif reply == "copy sync":
                arrows.append((side, side, "Sync (ignored)"))
            elif side == flow.COPY and reply == flow.NOTHING:
                arrows.append((side, side, flow.CLIENT_MESSAGES[message]))
        if flow.DROPPED in {reply for reply, _ in row.values()}:
            arrows.append((side, side, "anything else is dropped"))
    for event, changes in flow.EVENTS.items():
        arrows += [(side, following, f"({event})") for side, following in changes.items()]
    return diagram(arrows)


def replies(first: str) -> str:
    """The states whose names begin with `first`."""
    arrows = []
    for reply, row in flow.SERVER.items():
        if reply.split()[0] == first and reply != "describe portal":
            arrows += [(reply, following, flow.SERVER_MESSAGES[message]) for message, following in row.items()]
    return diagram(arrows)


def table() -> str:
    """Replies that are one message or an error."""
    short = [reply for reply in flow.SERVER if reply.split()[0] not in GROUPS.values() or reply == "describe portal"]
    lines = ["| reply | done | failed |", "|---|---|---|"]
    for reply in short:
        if reply == "idle":
            continue
        ends = {end: [flow.SERVER_MESSAGES[m] for m, to in flow.SERVER[reply].items() if to == end]
                for end in (flow.DONE, flow.FAILED)}
        lines.append(f"| {reply} | {', '.join(ends[flow.DONE])} | {', '.join(ends[flow.FAILED])} |")
    return "\n".join([*lines, ""])


def names() -> str:
    arrows = [("[*]", flow.ENTERED, "Parse or Bind is forwarded")]
    arrows += [(state, following, event) for state, row in flow.NAMES.items() for event, following in row.items()]
    return diagram([*arrows, (flow.FORGOTTEN, "[*]", "what it hid stands again")])


def document() -> str:
    parts = [INTRODUCTION, SIDES, sides(), REPLIES, table()]
    for title, first in GROUPS.items():
        parts += [f"\n### {title}\n", replies(first)]
    return "\n".join([*parts, NAMES, names()])


if __name__ == "__main__":
    DOCUMENT.write_text(document())
