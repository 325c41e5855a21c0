"""Plays cases on raw connections and judges what came back. Used by the tests and by `python -m tests.adversarial`.

An attack leaks when a canary is in the bytes that arrived, or when the two worlds (worlds.py) answer differently. A
benign statement fails when its answer through the gateway is not the server's own, masked columns aside.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Self

import msgspec

from tests.adversarial.canaries import Canaries
from tests.adversarial.cases import Case
from tests.adversarial.forms import CROSSING, FAITHFUL, Units, hostile
from tests.adversarial.shapes import Difference, differences, origins_of, rows_of, without_tables
from tests.support import wire

Origin = tuple[int, int]
Connector = Callable[[], wire.WireClient]


class Line:
    """A connection that is made again when the other side ends it."""

    def __init__(self, connect: Connector) -> None:
        self._connect = connect
        self._client: wire.WireClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.send(wire.TERMINATE)
            self._client.close()
            self._client = None

    def client(self) -> wire.WireClient:
        if self._client is None:
            self._client = self._connect()
        return self._client


class Answer(msgspec.Struct):
    """What one case brought in one form: the frames of each step, all bytes, and whether the connection was cut."""

    frames: list[wire.Frame]
    raw: bytes
    ended: bool = False

    @property
    def errors(self) -> list[dict[str, str]]:
        return wire.errors(self.frames)


def play(line: Line, case: Case, units: Units) -> Answer:
    """All steps on one session; the last one as `units`. Undone afterwards, unless the case commits."""
    client = line.client()
    client.received.clear()
    answer = Answer([], b"")
    data = case.flags.get("data", "")
    keeps = "autocommit" in case.flags
    try:
        if not keeps:
            client.query("BEGIN")
        for step in [*([wire.query(text)] for text in case.steps[:-1]), units]:
            for unit in step:
                answer.frames += _unit(client, unit, data, guarded=not keeps)
        if not keeps:
            client.query("ROLLBACK")
    except (wire.ConnectionEnded, TimeoutError):
        answer.ended = True
    answer.raw = bytes(client.received)
    if answer.ended or keeps:
        line.drop()     # settings, temporary tables and cursors of the session go with it
    return answer


def _unit(client: wire.WireClient, unit: bytes, data: str, *, guarded: bool) -> list[wire.Frame]:
    """One request and its answer. In a transaction a failure is undone, so that what follows still runs."""
    if guarded:
        client.query("SAVEPOINT adv")
    client.send(unit)
    frames = client.frames_until("Z", "G")
    if frames[-1].kind == "G":
        client.send(wire.copy_data(data.encode().decode("unicode_escape").encode()), wire.COPY_DONE)
        if unit[:1] != b"Q":
            client.send(wire.SYNC)
        frames += client.frames_until("Z")
    if guarded and client.status == "E":
        client.query("ROLLBACK TO adv")
    return frames


# ---------------------------------------------------------------- attacks

DEPENDS = "the answer depends on hidden values"


class Leak(msgspec.Struct, frozen=True):
    case: Case
    form: str
    what: str


def attack(
    case: Case, lines: tuple[Line, Line], canaries: Canaries, *, thorough: bool = True
) -> Iterator[tuple[str, str]]:
    """(form, "" or what leaked) of every form that fits, on the connections to both worlds."""
    for form, units in hostile(case, thorough=thorough):
        yield form, compared(case, units, lines, canaries)


def compared(case: Case, units: Units, lines: tuple[Line, Line], canaries: Canaries) -> str:
    """What a case gives away, sent to both worlds.

    A difference counts when it is there twice: right after definitions one gateway session may have heard of the new
    catalog and the other not. What depends on values does so every time.
    """
    found = ""
    for _ in range(2):
        answers = [play(line, case, units) for line in lines]
        found = verdict(answers, canaries, worlds="hash" not in case.flags)
        if found != DEPENDS:
            break
    return found


def verdict(answers: list[Answer], canaries: Canaries, *, worlds: bool = True) -> str:
    """What the answers of the two worlds give away; "" for nothing. `worlds`: whether they have to be equal."""
    found: set[str] = set()
    for answer in answers:
        found |= canaries.find(answer.raw) | canaries.find_spread(rows_of(answer.frames))
    if found:
        return f"values of {', '.join(sorted(found))}"
    first, second = ([_lasting(frame) for frame in answer.frames] for answer in answers)
    if not worlds:
        return ""
    if first != second or answers[0].ended != answers[1].ended:
        return DEPENDS
    return ""


def _lasting(frame: wire.Frame) -> wire.Frame:
    """Without the process number that a notification begins with, and the OIDs that new tables happen to get."""
    if frame.kind == "A":
        return wire.Frame("A", frame.body[4:])
    return wire.Frame("T", without_tables(frame.body)) if frame.kind == "T" else frame


# ---------------------------------------------------------------- benign statements

class Trial(msgspec.Struct):
    """One benign case in one form. `problem` is "" when the answer is right."""

    form: str
    problem: str = ""
    over_masked: int = 0
    leak: str = ""


def trial(
    case: Case, direct: Line, gateway: Line, masked: frozenset[Origin], canaries: Canaries,
    before: Callable[[], Any] = lambda: None, reader: Line | None = None,
) -> Iterator[Trial]:
    """Every form that the server itself accepts. `before` puts sequences back, ahead of each run.

    `reader` is asked what a role without rights is refused, in enforced mode: somebody with the same rights who may
    read hidden columns. What neither may do (to alter tables that they do not own) is left out.

    Raises AssertionError for a case that the server does not accept in its plainest form.
    """
    origins = _described(case, reader or direct)
    plainest = True
    for form, make in (FAITHFUL | CROSSING if case.channel == "people" else FAITHFUL).items():
        units = make(case)
        if units is None:
            continue
        before()
        expected = play(direct, case, units)
        if reader is not None and _without_rights(expected):
            before()
            expected = play(reader, case, units)
            if _without_rights(expected):
                return
        if expected.errors or expected.ended:
            assert not plainest, f"{case.channel}/{case.name} does not work at all: {expected.errors}"
            continue
        before()
        got = play(gateway, case, units)
        loose = {"unstable", "costs"} if reader is not None else {"unstable"}
        found = differences(expected.frames, got.frames, masked, origins, stable=loose.isdisjoint(case.flags),
                            enforced=reader is not None)
        origins = origins or found.origins
        yield Trial(form, _problem(got, found), found.over_masked, _leaks(got, canaries))
        plainest = False


def _without_rights(answer: Answer) -> bool:
    return any(error.get("C") == "42501" for error in answer.errors)


def _described(case: Case, direct: Line) -> list[Origin]:
    """Where the columns of a COPY come from, by a query that has the same columns."""
    if "describe" not in case.flags:
        return []
    described = Case(case.channel, case.name, (case.flags["describe"],), {})
    return next(origins_of(frame.body) for frame in play(direct, described, [wire.query(described.last)]).frames
                if frame.kind == "T")


def _problem(got: Answer, found: Difference) -> str:
    if got.ended:
        return "the connection ended"
    if got.errors:
        return got.errors[0].get("M", "error")
    return found.problem


def _leaks(got: Answer, canaries: Canaries) -> str:
    found = canaries.find(got.raw) - {"people.feeling"}     # the names of an enum's values are in the catalog
    return f"values of {', '.join(sorted(found))}" if found else ""
