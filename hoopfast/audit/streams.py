"""What the shipper reads: one stream of events per worker process (its journal segments) and per spool file.

A stream knows its place, can be cut at a given place, and can be cloned with all state, so that a sink that has fallen
behind goes on by itself. Places are (segment, offset); a stream that will never grow again ends up `done`.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Protocol, Self

import msgspec

from hoopfast.audit import events
from hoopfast.audit.builder import READ_DAMAGED, READ_SEALED, READ_SHORT, EventBuilder, Item, Progress, Seals
from hoopfast.audit.events import Gateway, Statement
from hoopfast.audit.keys import write_private
from hoopfast.audit.segments import KIND_DAMAGED, Record, parse_name, read_header, read_segment
from hoopfast.errors import AuditUnavailable
from hoopfast.limits import JOURNAL_SEGMENT_BYTES
from hoopfast.model import JOURNAL_HEADER_BYTES

CHUNK_BYTES = 256 << 10
SPOOL_ROTATE_BYTES = 4 << 20

Place = tuple[int, int]


class Stream(Protocol):
    """What a lane of the shipper moves along."""

    key: str
    done: bool
    current: bool                       # nothing more was there at the last read

    @property
    def place(self) -> Place: ...

    def read(self, into: list[Item], budget: int, *, live: bool, until: Place | None = None) -> None:
        """Up to about `budget` records further, not beyond `until`, which must be a place this stream passes.

        Events are added to `into` as they are built: they are in there even if an OSError ends the reading.
        """

    def clone(self) -> Stream: ...

    def state(self) -> tuple[int, bytes]:
        """(segment, what `place` needs besides the segment's own bytes)."""

    def unread_bytes(self) -> int: ...

    def running(self, older_than: int) -> list[Statement]: ...

    def close(self) -> None: ...


def workers_of(directory: Path) -> set[tuple[int, int]]:
    """(worker, boot) of every worker process that has segments here."""
    places = [parse_name(name) for name in os.listdir(directory)]
    return {(place.worker, place.boot) for place in places if place is not None}


def segment_paths(directory: Path, worker: int, boot: int) -> dict[int, Path]:
    """Number -> path; names are not guessed, as padding is the writer's business."""
    found: dict[int, Path] = {}
    for name in os.listdir(directory):
        place = parse_name(name)
        if place is not None and (place.worker, place.boot) == (worker, boot):
            found[place.sequence] = directory / name
    return found


class WorkerStream:
    """The journal of one worker process."""

    def __init__(self, directory: Path, worker: int, boot: int, vault: Seals | None = None) -> None:
        self.key = f"w{worker}-{boot}"
        self._vault = vault
        self.worker, self.boot = worker, boot
        self.done = False
        self.current = False
        self._directory = directory
        self._builder = EventBuilder(worker, boot, vault)
        self._segment, self._offset = 0, JOURNAL_HEADER_BYTES
        self._fd = -1
        self._size = 0
        self._snapshot = self._builder.snapshot()
        self._later = 0                 # segments after this one that are there already

    @classmethod
    def resume(
        cls, directory: Path, worker: int, boot: int, place: Place, snapshot: bytes | None, vault: Seals | None = None,
    ) -> Self:
        """Go on at `place`, with the state from the start of that segment. Raises msgspec.ValidationError."""
        stream = cls(directory, worker, boot, vault)
        stream._segment = place[0]
        if snapshot is not None:
            stream._builder.restore(snapshot)
            stream._snapshot = snapshot
        # What was shipped before is read again for the state it leaves, and its events are dropped.
        while stream.place < place:
            before = stream.place
            stream.read([], 1 << 20, live=True, until=place)
            if stream.place == before:
                break
        return stream

    @property
    def place(self) -> Place:
        return (self._segment, self._offset)

    def clone(self) -> WorkerStream:
        other = WorkerStream(self._directory, self.worker, self.boot, self._vault)
        other._builder = self._builder.clone()
        other._segment, other._offset, other._snapshot = self._segment, self._offset, self._snapshot
        other.done, other.current = self.done, self.current
        return other

    def state(self) -> tuple[int, bytes]:
        return self._segment, self._snapshot

    def running(self, older_than: int) -> list[Statement]:
        return self._builder.running(older_than)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def unread_bytes(self) -> int:
        """An upper bound while there is more to read: nobody knows how far the last segment is filled."""
        if self.current or self.done:
            return 0
        return max(self._size - self._offset, 0) + self._later * JOURNAL_SEGMENT_BYTES

    def read(self, into: list[Item], budget: int, *, live: bool, until: Place | None = None) -> None:
        self.current = False
        while budget > 0 and not self.done and (until is None or self.place < until):
            if self._fd < 0 and not self._enter(live, into):
                break
            stop = until[1] if until is not None and until[0] == self._segment else 0
            page = self._page(into, budget, live, stop)
            budget -= page.taken
            self._offset = page.next_offset
            if stop and self._offset >= stop:
                break
            if page.state == READ_SEALED:
                self._leave()
            elif not page.taken:
                if live:
                    self.current = True
                    break
                self._leave()           # the writer died within this segment

    # ------------------------------------------------------------ files

    def _enter(self, live: bool, into: list[Item]) -> bool:
        """Open the next segment; False: there is none now (then a dead worker's stream is done)."""
        paths = segment_paths(self._directory, self.worker, self.boot)
        later = sorted(number for number in paths if number >= self._segment)
        self._later = max(len(later) - 1, 0)
        for number in later:
            fd = os.open(paths[number], os.O_RDONLY | os.O_CLOEXEC)
            try:
                header = read_header(os.pread(fd, JOURNAL_HEADER_BYTES, 0))
            except ValueError as failure:
                text = f"segment {paths[number].name}: {failure}; none of it was read"
                self._builder.segment(number)
                into += self._builder.feed([Record(KIND_DAMAGED, 0, 0, 0, 0, 0, text.encode(), 0)])
                os.close(fd)
                self._segment, self._offset = number + 1, JOURNAL_HEADER_BYTES
                continue
            if header is None:
                os.close(fd)
                if live:
                    self.current = True
                    return False
                continue
            if number != self._segment:
                self._segment, self._offset = number, JOURNAL_HEADER_BYTES
            self._fd, self._size = fd, min(header.size, os.fstat(fd).st_size)
            if self._offset == JOURNAL_HEADER_BYTES:
                self._builder.segment(number)
                self._snapshot = self._builder.snapshot()
            return True
        self.current = True
        if not live:
            # Not now: whoever reads this again after a crash has to come to the same events.
            into += self._builder.flush(self._builder.wall)
            self.done = True
        return False

    def _leave(self) -> None:
        self.close()
        self._segment, self._offset = self._segment + 1, JOURNAL_HEADER_BYTES

    def _page(self, into: list[Item], budget: int, live: bool, stop: int) -> Progress:
        want = CHUNK_BYTES
        while True:
            room = (stop or self._size) - self._offset
            data = os.pread(self._fd, min(want, room), self._offset)
            page = self._builder.read(into, data, self._offset, base=self._offset, size=self._size, limit=budget)
            if page.taken or page.state != READ_SHORT or len(data) >= room:
                break
            want = max(page.wanted, CHUNK_BYTES)
        if page.taken or page.state != READ_DAMAGED:
            return page
        return self._damaged_page(into, budget, live, stop)

    def _damaged_page(self, into: list[Item], budget: int, live: bool, stop: int) -> Progress:
        """Read all there is: a page cut short hides the next good record."""
        data = os.pread(self._fd, (stop or self._size) - self._offset, self._offset)
        page = read_segment(data, self._offset, base=self._offset, size=self._size, limit=budget)
        records, after = page.records, page.next_offset
        if live and records and records[-1].kind == KIND_DAMAGED and after >= self._size:
            # Nothing good follows yet. What is damaged is known once the writer has left this segment.
            after = records.pop().offset
            page = page._replace(sealed=False)
        into += self._builder.feed(records)
        return Progress(len(records), after, READ_SEALED if page.sealed else READ_SHORT, 0)


class SpoolStream:
    """A file of events that the supervisor itself wrote, one JSON line each."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.key = path.stem
        self.path = path
        self.done = False
        self.current = False
        self._offset = offset

    @property
    def place(self) -> Place:
        return (0, self._offset)

    def clone(self) -> SpoolStream:
        other = SpoolStream(self.path, self._offset)
        other.done, other.current = self.done, self.current
        return other

    def state(self) -> tuple[int, bytes]:
        return 0, b""

    def running(self, older_than: int) -> list[Statement]:  # noqa: ARG002
        return []

    def close(self) -> None:
        """No file stays open."""

    def unread_bytes(self) -> int:
        return 0 if self.done or not self.path.exists() else max(self.path.stat().st_size - self._offset, 0)

    def read(self, into: list[Item], budget: int, *, live: bool, until: Place | None = None) -> None:
        self.current = True
        if self.done:
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(min(CHUNK_BYTES, until[1] - self._offset) if until else CHUNK_BYTES)
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].splitlines(keepends=True)
        for line in lines[:budget]:
            try:
                into.append(events.decode(line))
            except msgspec.MsgspecError as failure:
                into.append(events.gateway_event(
                    "spool_damaged", time.time_ns(), 2**61 + self._offset, what=str(failure), file=self.path.name,
                ))
            self._offset += len(line)
        self.current = not lines
        # A line without an end was being written when the supervisor died: nobody was told that it is kept.
        if not lines and not live:
            self.done = True


class Spool:
    """Where the supervisor's own events wait for the shipper; `add` may be called by any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._last = 0
        self._size = 0
        self._fd = -1
        self.path = Path()
        self._open()

    def _open(self) -> None:
        self.path = self._directory / f"gateway-{time.time_ns()}.spool"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0

    def add(self, event: Gateway) -> None:
        """Numbers the event and keeps it. Raises AuditUnavailable: then what it speaks of must not happen."""
        with self._lock:
            self._last = max(time.time_ns(), self._last + 1)
            event.seq = self._last
            line = events.encode(event) + b"\n"
            try:
                if self._size > SPOOL_ROTATE_BYTES:
                    os.close(self._fd)
                    self._open()
                if os.write(self._fd, line) != len(line):
                    os.ftruncate(self._fd, self._size)
                    raise OSError("only a part of it could be written")
            except OSError as failure:
                raise AuditUnavailable(
                    f"an event of the gateway cannot be recorded: {failure}; free space under {self._directory}"
                ) from failure
            self._size += len(line)

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def leave_event(directory: Path, event: Gateway) -> None:
    """An event of somebody else than the supervisor, who may not run: a spool of its own. Raises OSError."""
    write_private(directory / f"gateway-{event.seq}.spool", events.encode(event) + b"\n")


def spool_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("gateway-*.spool"))
