"""Runs recorded sessions at the same time, in the order that they had, at the speed that was asked for.

One dispatcher goes through the units in the order of their beginnings and hands each to its session's task; a unit
waits until everything that had ended before it began is over. When that cannot be, because what it waits for is itself
held by a lock of a session that has yet to go on, the order is given up at this place, and the report says so.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from hoopfast.analysis.builtins import words
from hoopfast.errors import GatewayError
from hoopfast.replay import compare, treat
from hoopfast.replay.catalog import Catalog
from hoopfast.replay.compare import Answer, Hidden, Verdict
from hoopfast.replay.link import Link, Lost
from hoopfast.replay.order import CLOSE, OPEN, RUN, Unit
from hoopfast.replay.play import Escaped, Mode, Played, Player
from hoopfast.replay.recorded import Kept, Recorded, Session, Trail

BLOCKED_S = 1.0                         # so long a statement may run before somebody asks what it waits for
WATCH_S = 0.25
APART_S, LONG_NS, GAP_NS = 0.005, 5_000_000, 1_000_000
MAX_SPEED = 0.0
# Kinds of statements that write nothing; in read-only mode others are left out, so that they fail no transaction.
READS = words("""
select values show explain begin commit rollback savepoint set reset fetch move declare close deallocate prepare execute
discard copy_to listen unlisten lock
""")

Fetch = Callable[[Kept], bytes]
Connect = Callable[[Session], Awaitable[Link]]


class Options(msgspec.Struct, frozen=True):
    """`speed`: how much faster than recorded, MAX_SPEED for as fast as it goes. `timeout_s`: longest for a unit."""

    speed: float = MAX_SPEED
    mode: Mode = Mode()
    timeout_s: float = 300.0


class Step(msgspec.Struct):
    """One statement of the recording, and what became of it."""

    one: Recorded
    verdict: Verdict


class Stall(msgspec.Struct, frozen=True):
    """Where the recorded order could not be kept, or a statement was ended. `held_by`: sessions, or processes."""

    session: str
    seq: int
    seconds: float
    held_by: tuple[str, ...]
    what: str


class Pace(msgspec.Struct):
    """How well the replay kept up; seconds."""

    lag_s: float = 0.0
    lag_max_s: float = 0.0


class Running(msgspec.Struct):
    unit: Unit
    since: float
    told: bool = False
    cancelled: str = ""


class _Lane:
    """One session: its queue of units and the task that plays them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.queue: asyncio.Queue[Unit] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        self.player: Player | None = None
        self.running: Running | None = None
        self.queued: deque[Unit] = deque()
        self.lost = ""


class Runner:
    """One replay. `on_step` is called with each step as it is known; not always in the order of the recording."""

    def __init__(
        self, trail: Trail, units: list[Unit], connect: Connect, fetch: Fetch, options: Options,
        on_step: Callable[[Step], None],
    ) -> None:
        self._units, self._connect, self._fetch, self._options, self._on_step = units, connect, fetch, options, on_step
        self._lanes = {session.id: _Lane(session) for session in trail.sessions.values()}
        self._hidden = Hidden(trail.masked_columns())
        self._gaps: set[str] = set()
        self._over = bytearray(len(units))              # by place in the order of ends
        self._first_open = 0                            # all before it are over
        self._awaited: dict[int, asyncio.Event] = {}    # by place, of those that a rival waits for
        self._moved = asyncio.Event()
        self._failure: BaseException | None = None
        self._catalog: Catalog | None = None
        self.stalls: list[Stall] = []
        self.pace = Pace()

    async def run(self) -> None:
        """Raises GatewayError when the first session cannot connect, Escaped when a rollback is in danger."""
        self._catalog = Catalog(await self._connect(Session(id="")))
        watch = asyncio.create_task(self._watch())
        try:
            await self._dispatch()
            tasks = {lane.task for lane in self._lanes.values() if lane.task is not None}
            while tasks and self._failure is None:
                _, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise self._failure
        finally:
            watch.cancel()
            left = [lane.task for lane in self._lanes.values() if lane.task is not None]
            for task in left:
                task.cancel()
            await asyncio.gather(watch, *left, return_exceptions=True)
            for lane in self._lanes.values():
                if lane.player is not None:
                    lane.player.link.close()
            await self._catalog.close()

    # ------------------------------------------------------------ order and pace

    async def _dispatch(self) -> None:
        begun, first = time.monotonic(), self._units[0].begin if self._units else 0
        for unit in self._units:
            while self._first_open < unit.after and self._failure is None:
                self._moved.clear()
                await self._moved.wait()
            if self._failure is not None:
                return
            if self._options.speed and unit.what != CLOSE:
                due = begun + (unit.begin - first) / 1e9 / self._options.speed
                self.pace.lag_s = max(time.monotonic() - due, 0.0)
                self.pace.lag_max_s = max(self.pace.lag_max_s, self.pace.lag_s)
                await asyncio.sleep(max(due - time.monotonic(), 0))
            await self._apart(unit)
            lane = self._lanes[unit.session]
            if lane.task is None:
                lane.task = asyncio.create_task(self._lane(lane))
            lane.queued.append(unit)
            lane.queue.put_nowait(unit)
            if lane.running is not None and lane.running.told:
                self._done(unit)        # it stands behind one that nobody may wait for

    async def _apart(self, unit: Unit) -> None:
        """What took long and was plainly sent before this one gets to the server before it: it may have got a lock."""
        waits = [
            APART_S - (time.monotonic() - lane.running.since) for lane in self._lanes.values()
            if lane.running is not None and lane.running.unit.what == RUN
            and lane.running.unit.end - lane.running.unit.begin >= LONG_NS
            and unit.begin - lane.running.unit.begin >= GAP_NS
        ] if unit.what != OPEN else []
        if waits and max(waits) > 0:
            await asyncio.sleep(max(waits))

    def _done(self, unit: Unit) -> None:
        self._over[unit.place] = 1
        if unit.place in self._awaited:
            self._awaited.pop(unit.place).set()
        while self._first_open < len(self._over) and self._over[self._first_open]:
            self._first_open += 1
        self._moved.set()

    # ------------------------------------------------------------ sessions

    async def _lane(self, lane: _Lane) -> None:
        while True:
            unit = await lane.queue.get()
            lane.queued.popleft()
            try:
                if unit.what == RUN:
                    await self._play(lane, unit)
                elif unit.what == OPEN:
                    await self._open(lane)
                else:
                    if lane.player is not None:
                        await lane.player.leave()
                    return
            except asyncio.CancelledError:
                raise
            except BaseException as failure:  # noqa: BLE001 - raised again by `run`, which would wait for ever without it
                self._failure = self._failure or failure
                self._moved.set()
                return
            finally:
                self._done(unit)

    async def _open(self, lane: _Lane) -> None:
        try:
            lane.player = Player(await self._connect(lane.session), self._options.mode)
            await lane.player.begin()
        except Escaped:
            raise
        except GatewayError as failure:
            lane.lost = f"the sandbox did not let this session in: {failure}"

    async def _play(self, lane: _Lane, unit: Unit) -> None:
        if lane.player is None or lane.lost:
            self._lost(unit, lane.lost)
            self._done(unit)
            return
        for place in unit.rivals:
            if not self._over[place]:
                await self._awaited.setdefault(place, asyncio.Event()).wait()
        running = lane.running = Running(unit, time.monotonic())
        statements = unit.statements
        if self._options.mode.read_only:
            statements = tuple(one for one in statements if not self._writes(one))
        try:
            played = await lane.player.play(msgspec.structs.replace(unit, statements=statements)) if statements else []
        except Lost as failure:
            lane.lost = str(failure)
            self._lost(msgspec.structs.replace(unit, statements=statements), lane.lost)
            return
        finally:
            lane.running = None
            self._done(unit)            # before the comparison: nobody waits for that
        for each in played:
            self._on_step(await self._judged(each, running))

    def _lost(self, unit: Unit, why: str) -> None:
        for one in unit.statements:
            self._skip(one, "no-connection", why)

    def _skip(self, one: Recorded, kind: str, why: str) -> None:
        if kind not in {treat.REFUSED, treat.NEVER_RAN}:
            self._gaps.update(name.rpartition(".")[2] for name in one.tables)
        self._on_step(Step(one, Verdict(
            compare.SKIPPED, kind, why, recorded=compare.recorded_outcome(one))))

    def _writes(self, one: Recorded) -> bool:
        """Whether it was left out, because it writes."""
        writing = sorted(set(one.kinds) - READS)
        if not writing or one.outcome in {"denied", "skipped"}:
            return False
        self._skip(one, treat.READ_ONLY, f"it writes ({writing[0]}), and this replay is --read-only")
        return True

    async def _judged(self, played: Played, running: Running) -> Step:
        one, answer = played.one, played.answer
        if answer is None:
            verdict = Verdict(
                compare.SKIPPED, played.plan.kind, played.plan.why, recorded=compare.recorded_outcome(one))
            if played.plan.kind not in {treat.REFUSED, treat.NEVER_RAN}:
                self._gaps.update(name.rpartition(".")[2] for name in one.tables)
            return Step(one, verdict)
        if played.plan.adapt and answer.sqlstate == one.sqlstate:
            why = "its own transaction is a savepoint of the one that is rolled back"
            return Step(one, Verdict(compare.ADAPTED, "transaction", why, recorded=compare.recorded_outcome(one)))
        verdict = await self._verdict(one, answer)
        if running.cancelled and answer.sqlstate == "57014":
            verdict = msgspec.structs.replace(
                verdict, status=compare.DIFFERS, kind=compare.STALLED, why=running.cancelled, diff=())
        elif verdict.status == compare.DIFFERS and self._follows_gap(one, answer):
            verdict = msgspec.structs.replace(
                verdict, kind=compare.AFTER_GAP,
                why=f"{verdict.why}; something before it that concerns these tables was left out")
        return Step(one, verdict)

    def _follows_gap(self, one: Recorded, answer: Answer) -> bool:
        return answer.sqlstate != "25P02" and bool(
            self._gaps.intersection(name.rpartition(".")[2] for name in one.tables))

    async def _verdict(self, one: Recorded, answer: Answer) -> Verdict:
        assert self._catalog is not None
        kept = self._fetch(one.results) if one.results is not None else b""
        if kept and (one.masks or self._hidden.columns):
            await self._catalog.learn(answer)
        verdict = compare.compare(one, answer, kept, self._catalog.origins, self._hidden)
        if verdict.kind == compare.VALUES and await self._catalog.learn(answer):
            # Perhaps these are columns whose values the server chooses.
            verdict = compare.compare(one, answer, kept, self._catalog.origins, self._hidden)
        return verdict

    # ------------------------------------------------------------ stalls

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            slow = {
                lane.player.link.pid: lane for lane in self._lanes.values()
                if lane.running is not None and lane.player is not None and now - lane.running.since > BLOCKED_S
            }
            if not slow or self._catalog is None:
                continue
            found = await self._catalog.blockers(slow)
            for pid, lane in slow.items():
                if lane.running is not None:
                    await self._look(lane, lane.running, found.get(pid, ()))

    async def _look(self, lane: _Lane, running: Running, held_by: tuple[int, ...]) -> None:
        seconds = time.monotonic() - running.since
        ours = {each.player.link.pid: each for each in self._lanes.values() if each.player is not None}
        idle = [ours[pid].session.id for pid in held_by if pid in ours and ours[pid].running is None]
        names = tuple(ours[pid].session.id if pid in ours else f"process {pid}" for pid in held_by)
        if idle and self._options.mode.in_transaction:
            why = f"it waits for a lock of session {idle[0]}, which --in-transaction never lets go"
        elif idle and not running.told:
            running.told = True
            self._tell(running, seconds, names, "the recorded order was given up here: it waits for a lock that a "
                                                "session holds whose next statement comes after it")
            for unit in (running.unit, *lane.queued):
                self._done(unit)
            return
        elif seconds > self._options.timeout_s:
            why = f"it ran for more than {self._options.timeout_s:g} s"
        else:
            return
        if not running.cancelled and lane.player is not None:
            running.cancelled = f"{why}; it was cancelled"
            self._tell(running, seconds, names, running.cancelled)
            await lane.player.link.cancel()

    def _tell(self, running: Running, seconds: float, held_by: tuple[str, ...], what: str) -> None:
        one = running.unit.statements[0]
        self.stalls.append(Stall(one.session, one.seq, round(seconds, 2), held_by, what))
