"""A sink that lives elsewhere, in a thread of its own: what it waits for, nobody else waits for.

The shipper hands batches to `write` and goes on; a few of them queue up, then the sink is Busy and gets a lane of its
own (audit.shipper). The thread delivers, and tries again with growing pauses until it can. So that a checkpoint never
says more than was delivered, the shipper asks for one (`ask`) and takes it when everything before it is out (`answer`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from hoopfast.audit.builder import Batch, Item, as_batch
from hoopfast.audit.events import Statement, utc

QUEUE_MAX = 4                           # batches; with what the shipper holds, some 30,000 events
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.25, 60.0
TICK_S = 1.0
CLOSE_S = 4.0
DEAD_NAME = "dead.jsonl"
DEAD_FILE_BYTES = 64 << 20

log = logging.getLogger(__name__)


class Busy(Exception):
    """Not a failure: everything that fits is under way."""


class Patient(Protocol):
    """What the thread asks of the sink: sinks.base.Sink without the waiting."""

    name: str

    def restore(self, mark: dict[str, Any]) -> None: ...
    def write(self, events: Sequence[Item]) -> None: ...
    def sync(self) -> dict[str, Any]: ...
    def kept(self, mark: dict[str, Any]) -> None: ...
    def running(self, events: Sequence[Statement]) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class Collecting(Protocol):
    """A Patient that marks when it has enough: what it holds until then comes again after a crash."""

    def asked(self) -> None:
        """The next `sync` is asked for here: its mark may not say that anything written later is there."""

    def is_due(self) -> bool: ...

    def finish(self) -> None:
        """Everything is due from now on."""


class Letter(msgspec.Struct):
    """An event that its destination refuses for good. `event` is its JSON."""

    at: str
    sink: str
    reason: str
    event: msgspec.Raw


class DeadLetters:
    """Keeps them in files beside the sink's checkpoint; they are never removed by the gateway. One writer."""

    def __init__(self, directory: Path, sink: str) -> None:
        self._path = directory / DEAD_NAME
        self._sink = sink
        self.count = sum(1 for path in letter_files(directory) for _ in read_letters(path))

    def add(self, events: Sequence[bytes], reason: str) -> None:
        """`events`: JSON of each. On disk when this returns. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size > DEAD_FILE_BYTES:
            self._path.rename(self._path.with_name(f"dead-{time.time_ns()}.jsonl"))
        now = utc(time.time_ns())
        letters = [msgspec.json.encode(Letter(now, self._sink, reason[:500], msgspec.Raw(event))) for event in events]
        with self._path.open("ab") as file:
            self._path.chmod(0o600)
            file.write(b"".join(letter + b"\n" for letter in letters))
            file.flush()
        self.count += len(events)
        log.error("events were refused for good; they are kept as dead letters", extra={"fields": {
            "sink": self._sink, "count": len(events), "reason": reason[:500], "file": str(self._path)}})


def letter_files(directory: Path) -> list[Path]:
    """The oldest first."""
    return sorted(directory.glob("dead-*.jsonl")) + [path for path in [directory / DEAD_NAME] if path.exists()]


def read_letters(path: Path) -> list[Letter]:
    """What can be read of a file."""
    found = []
    with path.open("rb") as file:
        for line in file:
            try:
                found.append(msgspec.json.decode(line, type=Letter))
            except msgspec.MsgspecError:
                continue
    return found


class Asked(NamedTuple):
    """A place in the queue; `state` is the shipper's affair. `turn`: it is void when that is over."""

    state: Any
    turn: int


class Kept(NamedTuple):
    """A mark is on disk."""

    mark: dict[str, Any]


class Outlet:
    """See sinks.base.Sink for what the methods mean; these return at once, and `write` may raise Busy.

    The shipper calls from one thread. `required`: whether the journal waits for it. `letters`: None for sinks that have
    none.
    """

    def __init__(self, sink: Patient, *, required: bool, letters: DeadLetters | None = None) -> None:
        self.name = sink.name
        self.required = required
        self.letters = letters
        self.error = ""
        self.errors = 0
        self.delivered = 0
        self._sink = sink
        self._queue: deque[Batch | Asked | Kept] = deque()
        self._batches: deque[float] = deque()       # when each of the batches in the queue came
        self._answer: tuple[Any, dict[str, Any]] | None = None
        self._asked = False
        self._turn = 0
        self._later: Asked | None = None            # the sink wants to collect more before it makes a mark
        self._shown: list[Statement] | None = None
        self._last: dict[str, Any] = {}
        self._until = 0.0                           # monotonic, once it closes
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ for the shipper

    def restore(self, mark: dict[str, Any]) -> None:
        self._sink.restore(mark)
        self._last = mark
        self._thread = threading.Thread(target=self._run, name=f"sink {self.name}", daemon=True)
        self._thread.start()

    def write(self, events: Sequence[Item]) -> None:
        with self._changed:
            if len(self._batches) >= QUEUE_MAX:
                raise Busy
            self._queue.append(as_batch(events))
            self._batches.append(time.monotonic())
            self._changed.notify()

    def ask(self, state: Any) -> None:
        """For a mark of everything written so far; one at a time (see `is_asked`)."""
        with self._changed:
            self._asked = True
            self._queue.append(Asked(state, self._turn))
            self._changed.notify()

    @property
    def is_asked(self) -> bool:
        return self._asked

    def answer(self) -> tuple[Any, dict[str, Any]] | None:
        """(state, mark) of what was asked, once it is known; then ask again."""
        with self._changed:
            found, self._answer = self._answer, None
            if found is not None:
                self._asked = False
            return found

    def kept(self, mark: dict[str, Any]) -> None:
        with self._changed:
            self._last = mark
            self._queue.append(Kept(mark))
            self._changed.notify()

    def sync(self) -> dict[str, Any]:
        """What was kept last; for what came since, `ask`."""
        return self._last

    def drop(self) -> None:
        """Forget what waits, but for what is under way: the sink was moved on."""
        with self._changed:
            while len(self._queue) > 1:
                self._queue.pop()
            while len(self._batches) > (bool(self._queue) and isinstance(self._queue[0], Batch)):
                self._batches.pop()
            self._turn += 1
            self._asked, self._answer = False, None

    def running(self, events: Sequence[Statement]) -> None:
        with self._changed:
            self._shown = list(events)
            self._changed.notify()

    def waits_s(self) -> float:
        """Since when the oldest batch waits here."""
        with self._changed:
            return time.monotonic() - self._batches[0] if self._batches else 0.0

    def finish(self, deadline: float) -> None:
        """Wait until all is out, or it is this late (monotonic), or nothing works at the moment."""
        if isinstance(self._sink, Collecting):
            self._sink.finish()
        with self._changed:
            self._changed.notify()
        while time.monotonic() < deadline:
            with self._changed:
                if self.error or not (self._queue or (self._asked and self._answer is None)):
                    return
            time.sleep(0.02)

    def close(self) -> None:
        with self._changed:
            self._until = time.monotonic() + CLOSE_S
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_S + 1.0)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        pause_s = BACKOFF_FIRST_S
        while True:
            with self._changed:
                if not self._queue and self._shown is None and not self._until:
                    self._changed.wait(TICK_S)
                job = self._queue[0] if self._queue else None
                closing = bool(self._until)
            try:
                self._work(job)
            except Exception as failure:  # noqa: BLE001  (whatever a sink does must not stop the others)
                self._failed(failure)
                if closing:
                    break
                # Many gateways that lost the same destination should not all come back at once.
                self._rest(max(pause_s, getattr(failure, "after_s", 0.0)) * (0.5 + random.random()))
                pause_s = min(pause_s * 2, BACKOFF_MAX_S)
                continue
            self.error, pause_s = "", BACKOFF_FIRST_S
            with self._changed:
                if closing and (job is None or time.monotonic() > self._until):
                    break
        try:
            self._sink.close()
        except Exception as failure:  # noqa: BLE001
            self._failed(failure)

    def _rest(self, pause_s: float) -> None:
        """New batches do not end it; closing does."""
        until = time.monotonic() + pause_s
        with self._changed:
            while not self._until and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def _work(self, job: Batch | Asked | Kept | None) -> None:
        """One thing at a time, and off the queue as soon as it is done: what fails behind it does not repeat it."""
        if self._later is not None and self._is_due():
            mark = self._sink.sync()
            with self._changed:
                if self._later.turn == self._turn:
                    self._answer = (self._later.state, mark)
            self._later = None
        if isinstance(job, Batch):
            self._sink.write(job)
            self.delivered += len(job)
        elif isinstance(job, Asked):
            self._later = job
            if isinstance(self._sink, Collecting):
                self._sink.asked()
        else:
            # The clock of what a sink does now and then.
            self._sink.kept(job.mark if job is not None else self._last)
        with self._changed:
            if job is not None:
                self._queue.popleft()
            if isinstance(job, Batch):
                self._batches.popleft()
            shown, self._shown = self._shown, None
        if shown is not None:
            self._sink.running(shown)

    def _is_due(self) -> bool:
        return not isinstance(self._sink, Collecting) or self._sink.is_due()

    def _failed(self, failure: Exception) -> None:
        said = f"{type(failure).__name__}: {failure}"
        if said != self.error:
            log.error("audit sink failed", extra={"fields": {"sink": self.name, "error": said}})
        self.error = said
        self.errors += 1
