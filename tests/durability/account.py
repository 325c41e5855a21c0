"""The account: what PostgreSQL's log says has run, against what the stores hold."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hoopfast.audit.sinks.jsonl_seal import event_files, open_events
from tests.durability.faults import Damage
from tests.durability.load import Load
from tests.support.gateway import Gateway

_MARKER = re.compile(r"hf-marker-[0-9a-z-]+")
# `statement:` and `execute NAME:` are things that run; DETAIL has the parameters of the latter. STATEMENT repeats what
# failed, and is not looked at.
_RAN = re.compile(r"(LOG:  (statement|execute)|DETAIL:  Parameters:)")
RAN = {"complete", "error", "suspended", "unknown"}


@dataclass
class Account:
    """Markers counted on both sides. `problems` is empty when the two agree."""

    ran: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    events: int = 0
    damaged: int = 0
    problems: list[str] = field(default_factory=list)
    seen: dict[str, list[Any]] = field(default_factory=dict)        # marker -> what the events that have it say

    def line(self) -> str:
        lost = (self.ran - self.stored).total()
        twice = sum(n - 1 for n in self.stored.values() if n > 1)
        return (f"{self.ran.total()} statements ran, {self.stored.total()} are stored in {self.events} events; "
                f"{lost} lost, {twice} twice; outcomes {dict(self.outcomes)}; {self.damaged} damaged records reported")


def ran_in(log: str, name: str) -> Counter[str]:
    """Markers of one load in PostgreSQL's log, once for each time that a statement began to run."""
    counts: Counter[str] = Counter()
    for line in log.splitlines():
        if _RAN.search(line):
            counts.update(marker for marker in _MARKER.findall(line) if marker.startswith(f"hf-marker-{name}-"))
    return counts


def account(gateway: Gateway, log: str, load: Load, damages: list[Damage]) -> Account:
    """Compare; the gateway has stopped, or has shipped everything."""
    result = Account(ran=ran_in(log, load.name))
    names: Counter[tuple[str, int]] = Counter()
    kinds: dict[str, Counter[str]] = {}
    for event in _events(gateway):
        names[event["session"], event["seq"]] += 1
        kinds.setdefault(event["session"], Counter())[event["event"]] += 1
        result.damaged += event.get("action") == "journal_damaged"
        if event["event"] == "statement":
            _take(result, event, load.name)
    result.events = names.total()
    _compare(result, names, kinds, load, damages)
    _stores_agree(gateway, result)
    return result


def _events(gateway: Gateway) -> Iterator[dict[str, Any]]:
    for path in event_files(gateway.state_dir / "audit"):
        with open_events(path) as file:
            for line in file.read().splitlines():
                yield json.loads(line)


def _take(result: Account, event: dict[str, Any], name: str) -> None:
    text = event["sql"] + json.dumps(event["parameters"])
    mine = [marker for marker in _MARKER.findall(text) if marker.startswith(f"hf-marker-{name}-")]
    result.stored.update(mine)
    for marker in mine:
        what = (event["session"], event["seq"], event["kind"], event["outcome"], event["sql"][:80], event["error"])
        result.seen.setdefault(marker, []).append(what)
    if mine:
        result.outcomes[event["outcome"]] += 1
    if event["outcome"] not in RAN:
        result.problems += [f"{marker} is {event['outcome']}, and PostgreSQL ran it" for marker in mine
                            if marker in result.ran]
    elif event["outcome"] != "unknown":
        result.problems += [f"{marker} is {event['outcome']}, and PostgreSQL never ran it" for marker in mine
                            if marker not in result.ran]


def _compare(
    result: Account, names: Counter[tuple[str, int]], kinds: dict[str, Counter[str]], load: Load, damages: list[Damage],
) -> None:
    lost = sorted((result.ran - result.stored).elements())
    if len(lost) > min(len(damages), result.damaged):
        result.problems.append(f"{len(lost)} lost, such as {lost[:5]}")
    twice = [marker for marker, count in result.stored.items() if count > max(1, result.ran[marker])]
    if twice:
        result.problems.append(f"{len(twice)} stored twice, such as {[(m, result.seen[m]) for m in twice[:3]]}")
    unseen = sorted(load.answered - set(result.ran))
    if unseen:
        result.problems.append(f"{len(unseen)} answered, but not in PostgreSQL's log, such as {unseen[:5]}")
    again = [name for name, count in names.items() if count > 1]
    if again:
        result.problems.append(f"{len(again)} events stand twice, such as {again[:5]}")
    for session, count in kinds.items():
        if session != "0" * 16 and (count["session_start"] != 1 or count["session_end"] != 1) and not damages:
            result.problems.append(f"session {session} has {dict(count)}")


def _stores_agree(gateway: Gateway, result: Account) -> None:
    """Both sinks hold as many events, and can prove it."""
    done = gateway.cli("audit", "verify", "--json", check=False, timeout=600)
    try:
        reports = json.loads(done.stdout)
    except json.JSONDecodeError:
        result.problems.append(f"the trail cannot be verified: {done.stdout}{done.stderr}")
        return
    for report in reports:
        if report["problems"]:
            result.problems.append(f"{report} does not verify")
    counts = {report["events"] + report.get("unsealed", 0) for report in reports}
    if counts != {result.events}:
        result.problems.append(f"the stores hold {sorted(counts)} events, the files {result.events}")
