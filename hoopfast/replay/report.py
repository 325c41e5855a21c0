"""What a replay found, as data: JSON with a schema of its own (docs/replay.md), and what the HTML page shows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from hoopfast.audit.events import utc
from hoopfast.replay.compare import ADAPTED, DIFFERS, SAME, SKIPPED, UNRECORDED, Outcome
from hoopfast.replay.order import Unit
from hoopfast.replay.recorded import NEVER, Trail
from hoopfast.replay.run import Options, Pace, Stall, Step

SCHEMA = 1
LOST = "no-connection"


class ReportedStep(msgspec.Struct, frozen=True):
    """One statement. `class` says what kind of difference, or why it was not run."""

    number: int
    session: str
    seq: int
    event: int
    at: str
    user: str
    kind: str
    sql: str
    status: str
    class_: str = msgspec.field(name="class")
    why: str = ""
    note: str = ""
    diff: tuple[str, ...] = ()
    recorded: Outcome = Outcome()
    replayed: Outcome | None = None


class ReportedSession(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    user: str
    connection: str
    application: str
    begin: str
    statements: int
    same: int
    differs: int
    skipped: int
    adapted: int
    unrecorded: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`classes` counts differences and what was left out, by class. Times in seconds."""

    schema: int = SCHEMA
    target: str
    server: str
    speed: str
    stop_at: str
    read_only: bool
    in_transaction: bool
    interrupted: bool                   # by whoever ran it: the rest is missing
    started_at: str
    seconds: float
    recorded_seconds: float
    statements_per_second: float
    lag_s: float
    lag_max_s: float
    statements: int
    same: int
    differs: int
    skipped: int
    adapted: int
    unrecorded: int
    classes: dict[str, int]
    sessions: tuple[ReportedSession, ...]
    stalls: tuple[Stall, ...]
    steps: tuple[ReportedStep, ...]

    def is_good(self, allowed: Collection[str] = ()) -> bool:
        """Whether all of it ran, and differs in nothing but `allowed` classes."""
        differs = any(step.status == DIFFERS and step.class_ not in allowed for step in self.steps)
        return not differs and not self.interrupted and LOST not in self.classes


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """When and where; `started` in ns since the epoch."""

    target: str
    server: str
    stop_at: str
    interrupted: bool
    started: int
    seconds: float


def report(trail: Trail, units: Sequence[Unit], steps: Iterable[Step], stalls: Sequence[Stall], pace: Pace,
           options: Options, ran: Ran) -> Report:
    ordered = sorted(steps, key=lambda step: (step.one.begin, step.one.session, step.one.seq))
    times = [unit.begin for unit in units if unit.begin != NEVER] + [unit.end for unit in units if unit.end != NEVER]
    counts = Counter(step.verdict.status for step in ordered)
    classes = Counter(step.verdict.kind for step in ordered if step.verdict.status in {DIFFERS, SKIPPED})
    shown = tuple(_step(trail, number, step) for number, step in enumerate(ordered, 1))
    return Report(
        target=ran.target, server=ran.server, speed=f"{options.speed:g}" if options.speed else "max",
        stop_at=ran.stop_at, read_only=options.mode.read_only, in_transaction=options.mode.in_transaction,
        interrupted=ran.interrupted, started_at=utc(ran.started), seconds=round(ran.seconds, 3),
        recorded_seconds=round((max(times) - min(times)) / 1e9, 3) if times else 0.0,
        statements_per_second=round(len(ordered) / ran.seconds, 1) if ran.seconds else 0.0,
        lag_s=round(pace.lag_s, 3), lag_max_s=round(pace.lag_max_s, 3), statements=len(ordered),
        same=counts[SAME], differs=counts[DIFFERS], skipped=counts[SKIPPED], adapted=counts[ADAPTED],
        unrecorded=counts[UNRECORDED], classes=dict(classes.most_common()), sessions=_sessions(trail, ordered),
        stalls=tuple(stalls), steps=shown,
    )


def encode(made: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(made)) + b"\n"


def _step(trail: Trail, number: int, step: Step) -> ReportedStep:
    one, verdict = step.one, step.verdict
    return ReportedStep(
        number, one.session, one.seq, one.event, utc(one.begin), trail.sessions[one.session].user, one.kind, one.sql,
        verdict.status, verdict.kind, verdict.why, verdict.note, verdict.diff, verdict.recorded, verdict.replayed,
    )


def _sessions(trail: Trail, steps: Sequence[Step]) -> tuple[ReportedSession, ...]:
    counted: dict[str, Counter[str]] = {}
    for step in steps:
        counted.setdefault(step.one.session, Counter())[step.verdict.status] += 1
    found = []
    for session in sorted(trail.sessions.values(), key=lambda session: session.begin or _first(session.statements)):
        counts = counted.get(session.id)
        if counts is None:
            continue
        found.append(ReportedSession(
            session=session.id, user=session.user, connection=session.connection, application=session.application,
            begin=utc(session.begin or _first(session.statements)), statements=counts.total(), same=counts[SAME],
            differs=counts[DIFFERS], skipped=counts[SKIPPED], adapted=counts[ADAPTED], unrecorded=counts[UNRECORDED],
        ))
    return tuple(found)


def _first(statements: Sequence[Any]) -> int:
    return int(statements[0].begin) if statements else 0
