"""Seals the files of the jsonl sink: checkpoints in a file `checkpoints` beside them.

Only what the shipper will never send again is sealed (sinks.base.Sink.kept): a file is cut back to its mark after a
crash, and a checkpoint over lines that were cut would look like damage. Used by sinks.jsonl and audit.verify_files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import zstandard

from hoopfast._wire import leaf_hashes
from hoopfast.audit.chain import BadCheckpoint, Checkpoint, parse_checkpoint
from hoopfast.audit.keys import KeyRing
from hoopfast.audit.sealing import SEAL_MAX, Sealer, SecondPlace
from hoopfast.errors import AuditUnavailable

CHECKPOINTS = "checkpoints"               # no .jsonl: whoever collects the files of events does not want it
CHUNK = 1 << 20


class Spot(NamedTuple):
    """A place in the files: (day, part) of a file, and an offset in it, uncompressed."""

    day: str
    part: int
    offset: int

    def __str__(self) -> str:
        return f"{self.day}.{self.part}:{self.offset}"


START = Spot("", 0, 0)


def parse_spot(text: str) -> Spot:
    """Of Checkpoint.place; "" is the very start. Raises ValueError."""
    if not text:
        return START
    name, _, offset = text.partition(":")
    day, _, part = name.partition(".")
    return Spot(day, int(part), int(offset))


def file_place(path: Path) -> tuple[str, int]:
    """(day, part) of `events-<day>[.<part>].jsonl...`."""
    parts = path.name.removeprefix("events-").split(".")
    return parts[0], int(parts[1]) if parts[1].isdigit() else 0


def event_files(directory: Path) -> list[Path]:
    """In order; of a file that stands there twice, being compressed just now, the plain one."""
    found: dict[tuple[str, int], Path] = {}
    for path in directory.glob("events-*.jsonl*"):
        if path.suffix == ".jsonl" or (path.suffix == ".zst" and file_place(path) not in found):
            found[file_place(path)] = path
    return [found[place] for place in sorted(found)]


def open_events(path: Path) -> IO[bytes]:
    """Uncompressed, whatever it is."""
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        # The sink compresses its files when it leaves them, also while somebody reads.
        path = path.with_name(path.name + ".zst")
        raw = path.open("rb")
    if path.suffix != ".zst":
        return raw
    return zstandard.ZstdDecompressor().stream_reader(raw, closefd=True)


def read_lines(directory: Path, start: Spot, stop: Spot | None = None) -> Iterator[tuple[Spot, bytes]]:
    """Whole lines from a place on, many at a time, with the place behind them. Raises OSError, zstandard.ZstdError."""
    for path in event_files(directory):
        place = file_place(path)
        if place < start[:2] or (stop is not None and place > stop[:2]):
            continue
        at = start.offset if place == start[:2] else 0
        end = stop.offset if stop is not None and place == stop[:2] else 2**63
        with open_events(path) as file:
            _skip(file, at)
            rest = b""
            while at + len(rest) < end:
                data = file.read(min(CHUNK, end - at - len(rest)))
                if not data:
                    break
                whole, newline, rest = (rest + data).rpartition(b"\n")
                if newline:
                    at += len(whole) + 1
                    yield Spot(*place, at), whole + newline


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0:
        data = file.read(min(CHUNK, count))
        if not data:
            return
        count -= len(data)


class FileSealer:
    """`recover` once, when the files have been cut back; then `wrote` and `kept`. Raises AuditUnavailable as Sealer."""

    def __init__(self, directory: Path, ring: KeyRing, second: Path | None) -> None:
        self._directory = directory
        self._path = directory / CHECKPOINTS
        self._size = 0                                  # of that file
        self._known = (0, 0)                            # a number, and the offset behind its line
        self._written: list[tuple[Spot, bytes]] = []    # leaves, and the place behind them
        head = self._open()
        self._sealer = Sealer(ring, head, where=self._path)
        self._second = SecondPlace(second, head, self._lines) if second else None

    def recover(self) -> None:
        """Seal what a crash left between the last checkpoint and the mark. Raises OSError."""
        head = self._sealer.head
        for at, lines in read_lines(self._directory, parse_spot(head.place) if head else START):
            self._sealer.add(leaf_hashes(lines), place=str(at), recovered=True)
            if self._sealer.pending >= SEAL_MAX:
                self.seal()
        self.seal()

    def wrote(self, leaves: bytes, spot: Spot) -> None:
        self._written.append((spot, leaves))

    def kept(self, spot: Spot) -> None:
        """What is before this place never comes again. Raises OSError; then try again with a later one."""
        while self._written and self._written[0][0] <= spot:
            place, leaves = self._written.pop(0)
            self._sealer.add(leaves, place=str(place))
        if self._sealer.is_due:
            self.seal()

    def seal(self) -> None:
        """All that was kept, due or not. Raises OSError; then it waits for the next time."""
        made = self._sealer.make()
        if made:
            data = b"".join(checkpoint.line() + b"\n" for checkpoint, _ in made)
            with self._path.open("ab") as file:
                try:
                    os.fchmod(file.fileno(), 0o600)
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(self._size)
                    raise
            self._size += len(data)
            self._sealer.keep(made)
        head = self._sealer.head
        if self._second is not None and head is not None:
            self._second.follow(head)
            self._known = (head.number, self._size)

    def _open(self) -> Checkpoint | None:
        """The head; a line that a crash has torn is cut off, nobody has seen it whole."""
        if not self._path.exists():
            return None
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - CHUNK))
            whole, newline, torn = file.read().rpartition(b"\n")
            if torn:
                file.truncate(size - len(torn))
        self._size = size - len(torn)
        if not newline:
            return None
        try:
            return parse_checkpoint(whole.rpartition(b"\n")[2])
        except BadCheckpoint as failure:
            raise AuditUnavailable(f"the last checkpoint of {self._path} is damaged: {failure}") from failure

    def _lines(self, after: int, to: int) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            # Usually what was written last is wanted, and the file is long.
            file.seek(self._known[1] if after >= self._known[0] else 0)
            for line in file:
                number = parse_checkpoint(line.rstrip(b"\n")).number
                if number > to:
                    return
                if number > after:
                    yield line.rstrip(b"\n")
