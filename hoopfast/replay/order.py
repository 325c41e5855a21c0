"""In which order recorded statements are run again: what has to be over before what may begin. Pure.

Two statements of different sessions keep their order when one had ended before the other arrived; those that overlapped
run at the same time again. So what waited for a lock waits again, and what read another's commit reads it again.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from hoopfast.replay.recorded import NEVER, Recorded, Session, Trail

OPEN, RUN, CLOSE = "open", "run", "close"
WRITES = frozenset({"insert", "update", "delete", "merge"})
TOGETHER_NS = 2_000_000                 # so close together, that either may get to the server first
RIVALS_MAX = 1000


class Unit(msgspec.Struct, gc=False):
    """What one session does in one go: log in, a query or pipeline up to its Sync, or leave.

    `begin` and `end` in ns as recorded. `after`: it may begin once that many units are over, counted in the order of
    their ends.
    """

    what: str
    session: str
    begin: int
    end: int
    statements: tuple[Recorded, ...] = ()
    after: int = 0
    place: int = 0                      # in the order of ends
    rivals: tuple[int, ...] = ()        # places of writes to the same tables that got there first


def units_of(trail: Trail, *, stop: Stop | None = None) -> list[Unit]:
    """All of them, in the order in which they begin."""
    found = [unit for session in trail.sessions.values() for unit in _of(session, stop)]
    found.sort(key=lambda unit: (unit.begin, unit.what != OPEN, unit.end))
    ends = sorted(unit.end for unit in found)
    for place, unit in enumerate(sorted(found, key=lambda unit: unit.end)):
        unit.place = place
    for unit in found:
        unit.after = bisect_left(ends, unit.begin)
    _find_rivals(found)
    return found


def _find_rivals(units: list[Unit]) -> None:
    """Of writes to one table that were under way together, the one that ended first had the lock: it goes first.

    That looks no further than what was under way when a unit began, or came with it: while it waits for a lock,
    thousands of others may pass.
    """
    written = [(unit, tables) for unit in units if (tables := _written(unit))]
    active: list[tuple[Unit, frozenset[str]]] = []
    for i, (unit, tables) in enumerate(written):
        active = [each for each in active if each[0].end > unit.begin]
        close = []
        for each in written[i + 1 : i + 1 + RIVALS_MAX]:
            if each[0].begin > unit.begin + TOGETHER_NS:
                break
            close.append(each)
        unit.rivals = tuple(
            other.place for other, theirs in (*active, *close)
            if other.session != unit.session and other.end < unit.end and theirs & tables)
        active.append((unit, tables))


def _written(unit: Unit) -> frozenset[str]:
    return frozenset(
        name.rpartition(".")[2] for one in unit.statements if WRITES.intersection(one.kinds) for name in one.tables)


class Stop(msgspec.Struct, frozen=True):
    """Where a replay ends: the last statement that is run (session, seq), or the time by which all have begun (ns)."""

    begin: int
    session: str = ""
    seq: int = 0

    def allows(self, one: Recorded) -> bool:
        if one.session == self.session:
            return one.seq <= self.seq
        return one.begin <= self.begin


def _of(session: Session, stop: Stop | None) -> list[Unit]:
    statements = [one for one in session.statements if stop is None or stop.allows(one)]
    if not statements:
        return []
    begin = min(session.begin or statements[0].begin, statements[0].begin)
    units = [Unit(what=OPEN, session=session.id, begin=begin, end=begin)]
    for batch in batches(statements):
        end = max(one.end for one in batch)
        # Nothing of a session begins before what it did before, whatever the clocks said.
        at = max(batch[0].begin, units[-1].begin)
        units.append(Unit(what=RUN, session=session.id, begin=at, end=max(end, at), statements=tuple(batch)))
    # A session that would go on is left when all is over: what it holds, it holds to the end. One whose end is not
    # known is left after its last statement, or sessions would pile up.
    goes_on = len(statements) < len(session.statements)
    last = NEVER if goes_on else max(session.end, units[-1].begin) if session.end else units[-1].end
    units.append(Unit(what=CLOSE, session=session.id, begin=last, end=last))
    return units


def batches(statements: list[Recorded]) -> list[list[Recorded]]:
    """Pipelines: extended statements that were sent before the one ahead of them was answered, as with one Sync.

    The trail does not record Syncs. A client that does not wait for answers sends one at the end, and what the server
    skipped after an error says where that was.
    """
    found: list[list[Recorded]] = []
    failed = False
    for one in statements:
        last = found[-1][-1] if found else None
        joins = (
            last is not None and one.kind == last.kind == "extended" and last.end != NEVER
            and (one.outcome == "skipped" if failed else one.outcome == "skipped" or one.begin < last.end)
        )
        if joins:
            found[-1].append(one)
        else:
            found.append([one])
            failed = False
        failed = failed or one.outcome in {"error", "denied"}
    return found
